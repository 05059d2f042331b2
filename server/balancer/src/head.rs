//! Heads of requests and answers: parsed strictly, and what becomes of them on the other side.
//! Pure: bytes in, bytes out.
//!
//! A head that two programs could read in two ways is refused: request smuggling lives on such
//! differences (RFC 9112 §11.2). `httparse` does the splitting; what it lets through (a bare LF,
//! repeated lengths) is checked here.

use std::mem::MaybeUninit;
use std::ops::Range;

use crate::frame::Body;

pub const HEAD_MAX: usize = 32 * 1024;
pub const HEADERS_MAX: usize = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    Http10,
    Http11,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    /// OPTIONS, TRACE, PUT, DELETE: may be sent again (RFC 9110 §9.2.2).
    Idempotent,
    Other,
}

impl Method {
    pub fn is_idempotent(self) -> bool {
        self != Method::Other
    }
}

/// Why a request's head was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    Malformed(&'static str),
    TooLarge,
    Method,
    Version,
}

const fn bad(why: &'static str) -> Refusal {
    Refusal::Malformed(why)
}

/// Finds the end of a head as its bytes arrive, looking at each byte once.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scan {
    seen: usize,
    line: usize,
}

impl Scan {
    /// Where the head at the beginning of `bytes` ends, once it is whole.
    pub fn end(&mut self, bytes: &[u8]) -> Result<Option<usize>, Refusal> {
        for lf in memchr::memchr_iter(b'\n', &bytes[self.seen..]) {
            let lf = self.seen + lf;
            if lf == 0 || bytes[lf - 1] != b'\r' {
                return Err(bad("a line ends without CR"));
            }
            if lf == self.line + 1 {
                return if lf < HEAD_MAX { Ok(Some(lf + 1)) } else { Err(Refusal::TooLarge) };
            }
            self.line = lf + 1;
        }
        self.seen = bytes.len();
        if bytes.len() >= HEAD_MAX { Err(Refusal::TooLarge) } else { Ok(None) }
    }
}

/// What was understood of a request's head. Ranges lie in the bytes it was parsed from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub method: Method,
    pub version: Version,
    pub body: Body,
    /// The client wants to send another request on the connection.
    pub persistent: bool,
    /// Of `Host`, without the port and a last dot; checked characters, any case.
    pub host: Range<usize>,
    /// `Host` as it was sent.
    pub authority: Range<usize>,
    /// The value of `Upgrade`, if it is asked for and may be.
    pub upgrade: Option<Range<usize>>,
    /// Whether HTML is among what is accepted.
    pub html: bool,
    /// The client's own, if it is sound.
    pub request_id: Option<Range<usize>>,
    method_text: Range<usize>,
    target: Range<usize>,
    headers: usize,
    cuts: Vec<Range<usize>>,
}

/// What the upstream is told about the client.
#[derive(Debug, Clone, Copy)]
pub struct Forwarded<'a> {
    pub address: &'a str,
    pub proto: &'a str,
    pub request_id: &'a [u8],
}

/// What was understood of an answer's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub body: Body,
    /// The connection may carry another request.
    pub persistent: bool,
    version: Version,
    framing: Option<Range<usize>>,
    headers: usize,
    cuts: Vec<Range<usize>>,
}

/// One header line, by the place of its parts.
struct Line<'a> {
    name: &'a str,
    value: &'a [u8],
    at: Range<usize>,
    value_at: Range<usize>,
}

/// The header lines of a whole head; `at` includes the CR LF.
fn lines<'a>(head: &'a [u8], headers: &'a [httparse::Header<'a>]) -> impl Iterator<Item = Line<'a>> {
    let base = head.as_ptr() as usize;
    let place = move |part: &[u8]| part.as_ptr() as usize - base;
    headers.iter().enumerate().map(move |(i, header)| {
        let start = place(header.name.as_bytes());
        let end = headers.get(i + 1).map_or(head.len() - 2, |next| place(next.name.as_bytes()));
        // An empty value may point anywhere.
        let value_start = if header.value.is_empty() { start } else { place(header.value) };
        let value_at = value_start..value_start + header.value.len();
        Line { name: header.name, value: header.value, at: start..end, value_at }
    })
}

fn is(name: &str, lower: &str) -> bool {
    name.eq_ignore_ascii_case(lower)
}

/// The elements of a comma-separated value, without the spaces around.
fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|e| !e.is_empty())
}

fn has(value: &[u8], element: &str) -> bool {
    elements(value).any(|e| e.eq_ignore_ascii_case(element.as_bytes()))
}

fn length(value: &[u8]) -> Option<u64> {
    // Eighteen digits are below 2^60.
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// What this balancer itself says to an upstream, or that only concerned the hop before it
/// (RFC 9110 §7.6.1). CGI and its heirs see `_` and `-` as one: so do we.
fn is_ours(name: &str) -> bool {
    let same = |lower: &str| {
        name.len() == lower.len()
            && name.bytes().zip(lower.bytes()).all(|(a, b)| a.eq_ignore_ascii_case(&b) || (a == b'_' && b == b'-'))
    };
    let known = match name.len() {
        2 => same("te"),
        5 => same("proxy"), // CGI would make it HTTP_PROXY.
        7 => same("upgrade"),
        9 => same("forwarded") || same("x-real-ip"),
        10 => same("connection") || same("keep-alive"),
        12 => same("x-request-id"),
        16 => same("proxy-connection") || same("x-forwarded-host"),
        19 => same("proxy-authorization"),
        _ => false,
    };
    known
        || name.get(..12).is_some_and(|start| {
            start
                .bytes()
                .zip("x-forwarded-".bytes())
                .all(|(a, b)| a.eq_ignore_ascii_case(&b) || (a == b'_' && b == b'-'))
        })
}

/// Three words, the last of them a version of HTTP: nothing else is wrong with the first line.
fn speaks_another_version(head: &[u8]) -> bool {
    let line = head.split(|b| *b == b'\r').next().unwrap_or(head);
    let words: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
    words.len() == 3 && words[2].starts_with(b"HTTP/")
}

/// Framing under a name that CGI cannot tell from the real one.
fn is_framing_in_disguise(name: &str) -> bool {
    name.contains('_')
        && ["content-length", "transfer-encoding", "host"].iter().any(|real| is(&name.replace('_', "-"), real))
}

impl Request {
    /// Parses a whole head, as found by [`Scan`].
    pub fn parse(head: &[u8]) -> Result<Self, Refusal> {
        let mut headers = [MaybeUninit::uninit(); HEADERS_MAX];
        let mut parsed = httparse::Request::new(&mut []);
        let config = httparse::ParserConfig::default();
        match config.parse_request_with_uninit_headers(&mut parsed, head, &mut headers) {
            Ok(httparse::Status::Complete(n)) if n == head.len() => {}
            Ok(_) => return Err(bad("the head is not whole")),
            Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TooLarge),
            Err(httparse::Error::Version) if speaks_another_version(head) => return Err(Refusal::Version),
            Err(_) => return Err(bad("a line cannot be understood")),
        }
        let (Some(method_text), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
            return Err(bad("the head is not whole"));
        };
        let version = if version == 0 { Version::Http10 } else { Version::Http11 };
        let method = match method_text {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "PUT" | "DELETE" | "OPTIONS" | "TRACE" => Method::Idempotent,
            "CONNECT" => return Err(Refusal::Method),
            _ => Method::Other,
        };
        let place = |part: &str| {
            let start = part.as_ptr() as usize - head.as_ptr() as usize;
            start..start + part.len()
        };
        let after_line = memchr::memchr(b'\n', head).map_or(head.len(), |lf| lf + 1);
        let mut request = Request {
            method,
            version,
            body: Body::None,
            persistent: version == Version::Http11,
            host: 0..0,
            authority: 0..0,
            upgrade: None,
            html: false,
            request_id: None,
            method_text: place(method_text),
            target: place(target),
            headers: after_line,
            cuts: Vec::new(),
        };

        let (mut hosts, mut host) = (0, None);
        let (mut upgrade, mut connection_upgrade, mut named) = (None, false, false);
        let (mut content_length, mut chunked) = (None, false);
        for line in lines(head, parsed.headers) {
            match line.name.len() {
                4 if is(line.name, "host") => {
                    hosts += 1;
                    host = Some(line.value_at.clone());
                }
                6 if is(line.name, "accept") => {
                    request.html |= line.value.windows(9).any(|w| w.eq_ignore_ascii_case(b"text/html"));
                }
                7 if is(line.name, "upgrade") => {
                    // One protocol, so that what the answer switches to was understood here. Never
                    // another HTTP: its requests would pass by unseen.
                    let fits = upgrade.is_none()
                        && line.value.iter().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(b))
                        && !line.value.is_empty()
                        && !line.value.get(..2).is_some_and(|start| start.eq_ignore_ascii_case(b"h2"));
                    upgrade = Some(fits.then(|| line.value_at.clone()));
                }
                10 if is(line.name, "connection") => {
                    for element in elements(line.value) {
                        if element.eq_ignore_ascii_case(b"close") {
                            request.persistent = false;
                        } else if element.eq_ignore_ascii_case(b"upgrade") {
                            connection_upgrade = true;
                        } else if !element.eq_ignore_ascii_case(b"keep-alive") {
                            named = true;
                        }
                    }
                }
                12 if is(line.name, "x-request-id") => {
                    let sound = (16..=128).contains(&line.value.len())
                        && line.value.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-');
                    request.request_id = sound.then(|| line.value_at.clone());
                }
                14 if is(line.name, "content-length") => {
                    let Some(n) = length(line.value) else { return Err(bad("Content-Length is not a number")) };
                    if content_length.replace(n).is_some() {
                        return Err(bad("there is more than one Content-Length"));
                    }
                }
                17 if is(line.name, "transfer-encoding") => {
                    if chunked || !line.value.eq_ignore_ascii_case(b"chunked") {
                        return Err(bad("Transfer-Encoding is not exactly chunked"));
                    }
                    chunked = true;
                }
                _ => {}
            }
            if is_ours(line.name) {
                request.cuts.push(line.at);
            } else if is_framing_in_disguise(line.name) {
                return Err(bad("a header is named almost like one that frames the request"));
            }
        }
        if named {
            cut_named(head, parsed.headers, &mut request.cuts).map_err(bad)?;
        }

        request.body = match (content_length, chunked) {
            (Some(_), true) => return Err(bad("both Content-Length and Transfer-Encoding are given")),
            (None, true) if version == Version::Http10 => return Err(bad("Transfer-Encoding in HTTP/1.0")),
            (None, true) => Body::Chunked,
            (Some(n), false) => Body::Length(n),
            (None, false) => Body::None,
        };
        // RFC 9110 §7.8: an upgrade may be ignored; one with a body is.
        if connection_upgrade && version == Version::Http11 && matches!(request.body, Body::None | Body::Length(0)) {
            request.upgrade = upgrade.flatten();
        }

        if hosts > 1 {
            return Err(bad("there is more than one Host"));
        }
        request.authority = host.ok_or(bad("there is no Host"))?;
        request.host = host_of(head, request.authority.clone())?;
        request.origin_form(head)?;
        Ok(request)
    }

    /// Of an absolute target (RFC 9112 §3.2.2) only the path goes on. It has to name the same host.
    fn origin_form(&mut self, head: &[u8]) -> Result<(), Refusal> {
        let target = &head[self.target.clone()];
        if target.first() == Some(&b'/') || target == b"*" {
            return Ok(());
        }
        let scheme = [&b"http://"[..], b"https://"]
            .into_iter()
            .find(|scheme| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))
            .ok_or(bad("the target is not a path"))?;
        let rest = &target[scheme.len()..];
        let end = rest.iter().position(|b| b"/?#".contains(b)).unwrap_or(rest.len());
        if !rest[..end].eq_ignore_ascii_case(&head[self.authority.clone()]) {
            return Err(bad("the target and Host differ"));
        }
        self.target.start += scheme.len() + end;
        Ok(())
    }

    /// The head as the upstream gets it.
    pub fn upstream(&self, head: &[u8], forwarded: &Forwarded<'_>, out: &mut Vec<u8>) {
        out.reserve(head.len() + 256);
        out.extend_from_slice(&head[self.method_text.clone()]);
        out.push(b' ');
        let target = &head[self.target.clone()];
        if !target.starts_with(b"/") && target != b"*" {
            out.push(b'/');
        }
        out.extend_from_slice(target);
        out.extend_from_slice(b" HTTP/1.1\r\n");
        copy_without(head, self.headers..head.len() - 2, &self.cuts, out);
        let mut line = |name: &str, value: &[u8]| {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        };
        line("X-Forwarded-For: ", forwarded.address.as_bytes());
        line("X-Forwarded-Proto: ", forwarded.proto.as_bytes());
        line("X-Forwarded-Host: ", &head[self.authority.clone()]);
        line("X-Request-Id: ", forwarded.request_id);
        if let Some(upgrade) = &self.upgrade {
            line("Connection: ", b"Upgrade");
            line("Upgrade: ", &head[upgrade.clone()]);
        }
        out.extend_from_slice(b"\r\n");
    }
}

impl Response {
    /// Parses a whole head of an answer to a request of `method`.
    pub fn parse(head: &[u8], method: Method) -> Result<Self, &'static str> {
        let mut headers = [MaybeUninit::uninit(); HEADERS_MAX];
        let mut parsed = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        match config.parse_response_with_uninit_headers(&mut parsed, head, &mut headers) {
            Ok(httparse::Status::Complete(n)) if n == head.len() => {}
            Ok(_) => return Err("its head is not whole"),
            Err(httparse::Error::TooManyHeaders) => return Err("its head has too many lines"),
            Err(_) => return Err("its head cannot be understood"),
        }
        let (Some(status @ 100..=999), Some(version)) = (parsed.code, parsed.version) else {
            return Err("its status is not one");
        };
        let version = if version == 0 { Version::Http10 } else { Version::Http11 };
        let mut response = Response {
            status,
            body: Body::None,
            persistent: version == Version::Http11,
            version,
            framing: None,
            headers: memchr::memchr(b'\n', head).map_or(head.len(), |lf| lf + 1),
            cuts: Vec::new(),
        };
        // No body and no framing (RFC 9110 §8.6, RFC 9112 §6.1), whatever is claimed.
        let bare = status < 200 || status == 204;
        let (mut content_length, mut chunked, mut named) = (None, false, false);
        for line in lines(head, parsed.headers) {
            let cut = match line.name.len() {
                7 => is(line.name, "upgrade") && status != 101,
                10 if is(line.name, "connection") => {
                    if has(line.value, "close") {
                        response.persistent = false;
                    } else if version == Version::Http10 && has(line.value, "keep-alive") {
                        response.persistent = true;
                    }
                    named |= elements(line.value).any(|e| {
                        !["close", "keep-alive", "upgrade"].iter().any(|k| e.eq_ignore_ascii_case(k.as_bytes()))
                    });
                    status != 101
                }
                10 => is(line.name, "keep-alive"),
                14 if is(line.name, "content-length") => {
                    let n = length(line.value).ok_or("its Content-Length is not a number")?;
                    if content_length.replace(n).is_some() {
                        return Err("it has more than one Content-Length");
                    }
                    bare
                }
                16 => is(line.name, "proxy-connection"),
                17 if is(line.name, "transfer-encoding") => {
                    if chunked || !line.value.eq_ignore_ascii_case(b"chunked") {
                        return Err("its Transfer-Encoding is not exactly chunked");
                    }
                    chunked = true;
                    response.framing = Some(line.at.clone());
                    bare
                }
                _ => false,
            };
            if cut {
                response.cuts.push(line.at);
            }
        }
        if named {
            cut_named(head, parsed.headers, &mut response.cuts)?;
        }
        response.body = match (content_length, chunked) {
            (Some(_), true) => return Err("it has both Content-Length and Transfer-Encoding"),
            (_, true) if version == Version::Http10 => return Err("it has Transfer-Encoding in HTTP/1.0"),
            _ if bare || status == 304 || method == Method::Head => Body::None,
            (None, true) => Body::Chunked,
            (Some(n), false) => Body::Length(n),
            (None, false) => Body::UntilClose,
        };
        Ok(response)
    }

    /// The head as the client gets it, or `None` if the very same bytes may go out.
    /// `unframed`: the client cannot read chunks (HTTP/1.0), it gets the data until the end.
    pub fn client(&self, head: &[u8], after: After, unframed: bool) -> Option<Vec<u8>> {
        let unframed = unframed && self.framing.is_some();
        if self.cuts.is_empty() && self.version == Version::Http11 && after == After::Keep && !unframed {
            return None;
        }
        let mut out = Vec::with_capacity(head.len() + 32);
        out.extend_from_slice(b"HTTP/1.1");
        out.extend_from_slice(&head[8..self.headers]);
        let mut cuts = self.cuts.clone();
        if unframed {
            cuts.extend(self.framing.clone());
            cuts.sort_by_key(|cut| cut.start);
        }
        copy_without(head, self.headers..head.len() - 2, &cuts, &mut out);
        if after == After::Close {
            out.extend_from_slice(b"Connection: close\r\n");
        }
        out.extend_from_slice(b"\r\n");
        Some(out)
    }
}

/// What becomes of a client's connection after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    Keep,
    Close,
}

/// Cuts the lines that `Connection` names. What frames or addresses a message is not to be named.
fn cut_named(head: &[u8], headers: &[httparse::Header<'_>], cuts: &mut Vec<Range<usize>>) -> Result<(), &'static str> {
    let names = || headers.iter().filter(|h| is(h.name, "connection")).flat_map(|h| elements(h.value));
    for held in ["host", "content-length", "transfer-encoding"] {
        if names().any(|name| name.eq_ignore_ascii_case(held.as_bytes())) {
            return Err("Connection names a header that frames the message");
        }
    }
    for line in lines(head, headers) {
        if names().any(|name| name.eq_ignore_ascii_case(line.name.as_bytes())) && !cuts.contains(&line.at) {
            cuts.push(line.at);
        }
    }
    cuts.sort_by_key(|cut| cut.start);
    Ok(())
}

/// The bytes of `range` without `cuts`, which are sorted and do not overlap.
fn copy_without(head: &[u8], range: Range<usize>, cuts: &[Range<usize>], out: &mut Vec<u8>) {
    let mut at = range.start;
    for cut in cuts {
        out.extend_from_slice(&head[at..cut.start]);
        at = cut.end;
    }
    out.extend_from_slice(&head[at..range.end]);
}

/// The host's part of `authority`: without the port and a last dot, of characters that a host has.
fn host_of(head: &[u8], authority: Range<usize>) -> Result<Range<usize>, Refusal> {
    let text = &head[authority.clone()];
    let end = if text.first() == Some(&b'[') {
        text.iter().position(|b| *b == b']').ok_or(bad("Host is malformed"))? + 1
    } else {
        text.iter().position(|b| *b == b':').unwrap_or(text.len())
    };
    let (host, port) = text.split_at(end);
    let port_fits = match port {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    let literal = host.first() == Some(&b'[');
    let host_fits = (1..=255).contains(&host.len())
        && host.iter().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(b) || (literal && b"[]:".contains(b)));
    if !port_fits || !host_fits {
        return Err(bad("Host is malformed"));
    }
    let dot = usize::from(host.len() > 1 && host.ends_with(b"."));
    Ok(authority.start..authority.start + host.len() - dot)
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
