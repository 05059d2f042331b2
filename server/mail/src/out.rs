//! The ways out: an SMTP server, or a folder.

use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::Secret;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use tokio::io::AsyncWriteExt;

use crate::MailError;

/// What became of one try.
#[derive(Debug, PartialEq, Eq)]
pub enum Sent {
    Done,
    /// It may go another time.
    NotNow(String),
    /// It will never go as it is.
    Never(String),
}

/// The operator's mail server.
#[derive(Debug)]
pub struct Smtp {
    transport: AsyncSmtpTransport<Tokio1Executor>,
}

impl Smtp {
    /// `smtps://` is TLS from the first byte. `smtp://` goes over to TLS before anything is said, and sends
    /// nothing to a server that cannot; to this server itself, or with `?tls=none`, it stays plain.
    pub fn new(url: &Secret<String>, timeout: Duration) -> Result<Self, MailError> {
        let wrong = |why: String| MailError::Smtp { why };
        let url = with_tls(url.expose()).ok_or_else(|| wrong("it begins with smtp:// or smtps://".to_owned()))?;
        let builder = AsyncSmtpTransport::<Tokio1Executor>::from_url(&url).map_err(|cause| wrong(cause.to_string()))?;
        Ok(Self { transport: builder.timeout(Some(timeout)).build() })
    }

    async fn send(&self, message: Message) -> Sent {
        match self.transport.send(message).await {
            Ok(_) => Sent::Done,
            Err(cause) if cause.is_permanent() => Sent::Never(words(&cause)),
            Err(cause) => Sent::NotNow(words(&cause)),
        }
    }
}

/// The URL as the library reads it.
fn with_tls(url: &str) -> Option<String> {
    if url.starts_with("smtps://") {
        return Some(url.to_owned());
    }
    let rest = url.strip_prefix("smtp://")?;
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    if query == "tls=none" {
        return Some(format!("smtp://{place}"));
    }
    if !query.is_empty() {
        return Some(url.to_owned());
    }
    let server = place.rsplit('@').next().unwrap_or(place).split('/').next().unwrap_or_default();
    let here = ["localhost", "127.0.0.1", "[::1]"];
    let is_here = here.iter().any(|name| server.strip_prefix(name).is_some_and(|r| r.is_empty() || r.starts_with(':')));
    Some(if is_here { url.to_owned() } else { format!("smtp://{place}?tls=required") })
}

/// What went wrong, with its causes, on one line of bounded length.
fn words(cause: &dyn std::error::Error) -> String {
    let mut text = cause.to_string();
    let mut next = cause.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = cause.source();
    }
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(400).collect()
}

#[derive(Debug)]
pub enum Way {
    Smtp(Smtp),
    Folder(PathBuf),
}

impl Way {
    /// `name`: of its file, where letters are files.
    pub async fn send(&self, name: &str, message: Message, timeout: Duration) -> Sent {
        let sending = async {
            match self {
                Self::Smtp(smtp) => smtp.send(message).await,
                Self::Folder(dir) => match keep(dir, name, &message.formatted()).await {
                    Ok(()) => Sent::Done,
                    Err(cause) => Sent::NotNow(format!("could not write {name} to {}: {cause}", dir.display())),
                },
            }
        };
        match tokio::time::timeout(timeout, sending).await {
            Ok(sent) => sent,
            Err(_) => Sent::NotNow(format!("the mail server took longer than {} s", timeout.as_secs_f32())),
        }
    }
}

/// Whole or not at all.
async fn keep(dir: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let new = dir.join(format!("{name}.new"));
    let mut file = tokio::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new).await?;
    file.write_all(bytes).await?;
    file.sync_all().await?;
    tokio::fs::rename(&new, dir.join(name)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_in_the_clear_to_another_server() {
        let check = |url: &str, read: Option<&str>| assert_eq!(with_tls(url).as_deref(), read, "{url}");
        check("smtp://a:b@mail.example:587", Some("smtp://a:b@mail.example:587?tls=required"));
        check("smtp://localhost.evil.example", Some("smtp://localhost.evil.example?tls=required"));
        check("smtp://127.0.0.1:1025", Some("smtp://127.0.0.1:1025"));
        check("smtp://localhost", Some("smtp://localhost"));
        check("smtps://a:b@mail.example:465", Some("smtps://a:b@mail.example:465"));
        check("smtp://mail.example?tls=none", Some("smtp://mail.example"));
        check("smtp://mail.example?tls=opportunistic", Some("smtp://mail.example?tls=opportunistic"));
        check("http://mail.example", None);
        for bad in ["smtp://", "mail.example:25", "smtp://mail.example:port"] {
            assert!(Smtp::new(&Secret::new(bad.to_owned()), Duration::from_secs(1)).is_err(), "{bad}");
        }
    }
}
