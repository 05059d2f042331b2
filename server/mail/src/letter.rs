//! One letter as a message: plain text, its headers made here only.

use domain::{MailId, Secret};
use lettre::Message;
use lettre::message::Mailbox;
use lettre::message::header::{ContentTransferEncoding, ContentType, Header, HeaderName, HeaderValue};
use store::mail::LINK_HERE;
use store::mail::all::Due;

/// No answering machine answers it (RFC 3834).
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

/// `Err`: why it can never be sent.
pub fn message(due: &Due, from: &Mailbox, site: &str, link: Option<&Secret<String>>) -> Result<Message, String> {
    let to = due.address.parse().map_err(|_| "the address is none that mail can be sent to".to_owned())?;
    let mut text = due.text.clone();
    if let Some(link) = link {
        text = text.replacen(LINK_HERE, link.expose(), 1);
    }
    Message::builder()
        .from(from.clone())
        .to(Mailbox::new(None, to))
        .subject(one_line(&due.subject))
        .message_id(Some(message_id(due.id, site)))
        .header(AutoSubmitted)
        .header(ContentType::TEXT_PLAIN)
        .header(ContentTransferEncoding::QuotedPrintable)
        .body(text)
        .map_err(|cause| format!("it is no letter that can be sent: {cause}"))
}

/// The same at each try: a letter that arrives twice is known to be one.
fn message_id(id: MailId, site: &str) -> String {
    let host = site.rsplit("//").next().unwrap_or(site).split(':').next().unwrap_or(site);
    format!("<letter-{id}@{host}>")
}

/// A header is one line, whoever wrote it.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(address: &str, subject: &str) -> Due {
        Due {
            id: MailId(7),
            user_id: None,
            address: address.to_owned(),
            kind: "reset".to_owned(),
            subject: subject.to_owned(),
            text: "Grüß dich. Open {link}\nBcc: not@header.example\n".to_owned(),
            link: None,
            tries: 1,
            tried_for_seconds: 0.0,
        }
    }

    #[test]
    fn what_was_typed_never_becomes_a_header() {
        let from: Mailbox = "Berth <berth@example.com>".parse().unwrap();
        let link = Secret::new("http://localhost:8080/reset/abc".to_owned());
        let hostile = due("ada@example.com", "Hello\r\nBcc: victim@example.com");
        let message = message(&hostile, &from, "http://localhost:8080", Some(&link)).unwrap();
        let text = String::from_utf8(message.formatted()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(!head.lines().any(|line| line.to_ascii_lowercase().starts_with("bcc")), "{head}");
        assert!(head.contains("Message-ID: <letter-7@localhost>") && head.contains("Auto-Submitted: auto-generated"));
        assert!(head.contains("charset=utf-8"), "{head}");
        assert!(body.contains("http://localhost:8080/reset/abc") && body.contains("Gr=C3=BC"), "{body}");
        for bad in ["ada@example.com\r\nBcc: x@example.com", "a b@example.com", ""] {
            assert!(super::message(&due(bad, "x"), &from, "http://localhost", None).is_err(), "{bad}");
        }
    }
}
