//! As much HTTP as a visitor needs here: one request a connection, a Host header of one's own (the system's
//! resolver does not know `*.localhost`), and the cookies that the site gave.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};

const TIMEOUT: Duration = Duration::from_secs(30);
const FORM: &str = "application/x-www-form-urlencoded";

pub struct Answer {
    pub status: u16,
    head: String,
    pub body: String,
    /// As they came, those of its head included.
    pub bytes: u64,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).next()
    }

    fn headers<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        let name = name.to_owned();
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields.filter(move |(key, _)| key.eq_ignore_ascii_case(&name)).map(|(_, value)| value.trim())
    }
}

/// Someone with a browser: keeps cookies, tells where a form was.
pub struct Visitor {
    to: SocketAddr,
    /// `localhost:8080`
    host: String,
    cookies: BTreeMap<String, String>,
    /// Of the JSON API.
    token: Option<String>,
}

/// What goes on coming, heard since it began.
pub struct Heard {
    io: TcpStream,
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl Heard {
    /// The text so far.
    pub fn text(&self) -> Result<String> {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").context("no answer yet")?;
        let head = String::from_utf8_lossy(&bytes[..end]);
        if !head.starts_with("HTTP/1.1 200 ") {
            bail!("it was answered by {}", head.lines().next().unwrap_or_default());
        }
        Ok(String::from_utf8_lossy(&unchunk(&bytes[end + 4..], Cut::SoFar)?).into_owned())
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        let _ = self.io.shutdown(Shutdown::Both);
    }
}

impl Visitor {
    /// `url` is `http://HOST:PORT`, reached at `to` whatever HOST is.
    pub fn new(url: &str, to: SocketAddr) -> Self {
        let host = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
        Self { to, host, cookies: BTreeMap::new(), token: None }
    }

    /// A program that has this token of the JSON API.
    pub fn program(url: &str, to: SocketAddr, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..Self::new(url, to) }
    }

    pub fn get(&mut self, path: &str) -> Result<Answer> {
        self.ask("GET", path, FORM, "")
    }

    /// Sends JSON.
    pub fn send(&mut self, verb: &str, path: &str, json: &str) -> Result<Answer> {
        self.ask(verb, path, "application/json", json)
    }

    /// Hears what comes, until this is dropped.
    pub fn follow(&self, path: &str) -> Result<Heard> {
        let mut io = self.connect()?;
        io.set_read_timeout(None)?;
        io.write_all(format!("{}\r\n", self.head("GET", path)).as_bytes())?;
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let (mut from, to) = (io.try_clone()?, Arc::clone(&bytes));
        std::thread::spawn(move || {
            let mut part = [0; 16 << 10];
            while let Ok(n @ 1..) = from.read(&mut part) {
                to.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&part[..n]);
            }
        });
        Ok(Heard { io, bytes })
    }

    fn connect(&self) -> Result<TcpStream> {
        let io = TcpStream::connect_timeout(&self.to, TIMEOUT)
            .with_context(|| format!("could not connect to {}", self.to))?;
        io.set_read_timeout(Some(TIMEOUT))?;
        io.set_write_timeout(Some(TIMEOUT))?;
        Ok(io)
    }

    /// Sends a form.
    pub fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Result<Answer> {
        let form: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        self.ask("POST", path, FORM, &form.join("&"))
    }

    /// The lines that it asks with, up to those of a body.
    pub fn head(&self, verb: &str, path: &str) -> String {
        let mut head = format!("{verb} {path} HTTP/1.1\r\nHost: {}\r\nAccept: text/html\r\n", self.host);
        if !self.cookies.is_empty() {
            let pairs: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            head.push_str(&format!("Cookie: {}\r\n", pairs.join("; ")));
        }
        if let Some(token) = &self.token {
            head.push_str(&format!("Authorization: Bearer {token}\r\n"));
        }
        head
    }

    fn ask(&mut self, verb: &str, path: &str, kind: &str, body: &str) -> Result<Answer> {
        let mut head = self.head(verb, path);
        head.push_str("Connection: close\r\n");
        if verb != "GET" {
            head.push_str(&format!(
                "Origin: http://{}\r\nSec-Fetch-Site: same-origin\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n",
                self.host,
                body.len()
            ));
        }
        head.push_str("\r\n");
        let mut stream = self.connect()?;
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).with_context(|| format!("{verb} {path} at {} was not answered", self.host))?;
        let answer = parse(&bytes).with_context(|| format!("{verb} {path} at {} was answered oddly", self.host))?;
        for cookie in answer.headers("set-cookie") {
            if let Some((name, value)) = cookie.split(';').next().and_then(|pair| pair.split_once('=')) {
                self.cookies.insert(name.trim().to_owned(), value.trim().to_owned());
            }
        }
        Ok(answer)
    }
}

fn parse(bytes: &[u8]) -> Result<Answer> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { bail!("no end of the head") };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status")?;
    let mut answer = Answer { status, head, body: String::new(), bytes: bytes.len() as u64 };
    let rest = &bytes[end + 4..];
    let is_chunked = answer.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
    let body = if is_chunked { unchunk(rest, Cut::Refused)? } else { rest.to_vec() };
    answer.body = String::from_utf8_lossy(&body).into_owned();
    Ok(answer)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    Refused,
    /// What came is taken.
    SoFar,
}

fn unchunk(mut rest: &[u8], cut: Cut) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        if cut == Cut::SoFar && !rest.windows(2).any(|two| two == b"\r\n") {
            return Ok(body);
        }
        let Some(end) = rest.windows(2).position(|two| two == b"\r\n") else { bail!("a chunk without its size") };
        let size = std::str::from_utf8(&rest[..end])?.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16)?;
        if size == 0 {
            return Ok(body);
        }
        let from = end + 2;
        let Some(chunk) = rest.get(from..from + size) else {
            if cut == Cut::SoFar {
                body.extend_from_slice(rest.get(from..).unwrap_or_default());
                return Ok(body);
            }
            bail!("a chunk was cut off")
        };
        body.extend_from_slice(chunk);
        rest = rest.get(from + size + 2..).unwrap_or_default();
    }
}

fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunked_body_is_put_together() {
        let answer =
            parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n").unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (200, "abcde"));
        assert!(parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab").is_err());
    }

    #[test]
    fn a_forms_value_is_encoded() {
        assert_eq!(encode("ssh-ed25519 A+b/c= x@y"), "ssh-ed25519%20A%2Bb%2Fc%3D%20x%40y");
    }
}
