//! The balancer's own answers: a page of one file for browsers, plain text for everything else.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::head::{After, Method};

/// What a visitor is told when no app could answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page<'a> {
    NoSuchApp {
        host: &'a str,
    },
    Empty {
        app: &'a str,
    },
    Stopped {
        app: &'a str,
    },
    /// No instance takes a connection.
    NoInstance {
        app: &'a str,
    },
    /// It took the request and gave no answer, or none that can be passed on.
    NoAnswer {
        app: &'a str,
    },
    TooLate {
        app: &'a str,
    },
    SiteAway,
}

/// How an answer of our own is sent.
#[derive(Debug, Clone, Copy)]
pub struct Way<'a> {
    pub method: Method,
    pub html: bool,
    pub after: After,
    pub request_id: &'a [u8],
}

pub struct Pages {
    /// `Content-Security-Policy` with the hash of the one style.
    policy: String,
    site_url: Option<String>,
    ssh: Option<String>,
}

struct Content {
    status: &'static str,
    title: &'static str,
    heading: &'static str,
    /// Sentences; strangers' words in them are given with the first.
    text: String,
    /// HTML, for whom it concerns.
    owner: Option<String>,
    hull: Hull,
    retry_after: Option<u32>,
}

/// What lies at the quay.
#[derive(Clone, Copy)]
enum Hull {
    None,
    Asleep,
    Paused,
}

const STYLE: &str = "\
:root { color-scheme: light dark }
body { margin: 0; min-height: 100vh; display: grid; place-content: center; padding: 2rem; box-sizing: border-box; background: light-dark(#f2f5f4, #0a1417); color: light-dark(#0e2127, #e6efef); font: 1.0625rem/1.55 system-ui, sans-serif }
main { max-width: 34rem }
svg { width: 9rem; height: 4.5rem }
h1 { font-size: clamp(1.6rem, 5vw, 2.2rem); line-height: 1.15; letter-spacing: -.02em; margin: 1rem 0 .6rem; overflow-wrap: anywhere }
p { margin: 0 0 .8rem; overflow-wrap: anywhere } .q { color: light-dark(#48595e, #a5b7ba); font-size: .9rem }
a { color: light-dark(#0b5f6e, #63c5d0) }
.k { fill: none; stroke: currentColor; stroke-width: 5 } .paused { fill: light-dark(#788c8e, #6a8287) }
.asleep { fill: none; stroke: light-dark(#46549f, #aab5f6); stroke-width: 2.5; stroke-dasharray: 6 4 }
";

impl Pages {
    pub fn new(site_url: Option<&str>, ssh: Option<&str>) -> Self {
        let hash = STANDARD.encode(Sha256::digest(STYLE));
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        );
        let site_url = site_url.map(|url| url.trim_end_matches('/').to_owned());
        Self { policy, site_url, ssh: ssh.map(str::to_owned) }
    }

    fn content(&self, page: Page<'_>) -> Content {
        let ssh = |rest: &str, then: &str| {
            self.ssh.as_ref().map(|ssh| format!("Is it yours? <code>{} {rest}</code> {then}", escape(ssh)))
        };
        match page {
            Page::NoSuchApp { host } => Content {
                status: "404 Not Found",
                title: "Nothing here",
                heading: "Nothing is tied up here",
                text: format!("There is no site at {host}. Is the address spelled right?"),
                owner: ssh("apps", "lists your apps and their addresses."),
                hull: Hull::None,
                retry_after: None,
            },
            Page::Empty { app } => Content {
                status: "404 Not Found",
                title: "Nothing deployed yet",
                heading: "A berth is reserved here",
                text: "Nothing is deployed at this address yet.".to_owned(),
                owner: self.link(app, "See how to push it on Berth"),
                hull: Hull::None,
                retry_after: None,
            },
            Page::Stopped { app } => Content {
                status: "503 Service Unavailable",
                title: "Paused",
                heading: "This site is paused",
                text: "Nothing is lost. Its owner can bring it back at any time.".to_owned(),
                owner: self.link(app, "See why on Berth"),
                hull: Hull::Paused,
                retry_after: Some(3600),
            },
            Page::NoInstance { app } => Content {
                status: "503 Service Unavailable",
                title: "Not running",
                heading: "This site is not running at the moment",
                text: "It is being started, or it stopped by itself and is started again.".to_owned(),
                owner: ssh(&format!("logs {app}"), "shows what it said last."),
                hull: Hull::Asleep,
                retry_after: Some(5),
            },
            Page::NoAnswer { app } => Content {
                status: "502 Bad Gateway",
                title: "No answer",
                heading: "This site gave no answer",
                text: "It took the request, then broke off. Other requests may well be answered.".to_owned(),
                owner: ssh(&format!("logs {app}"), "shows what it said last."),
                hull: Hull::Paused,
                retry_after: None,
            },
            Page::TooLate { app } => Content {
                status: "504 Gateway Timeout",
                title: "No answer in time",
                heading: "This site took too long",
                text: "It took the request and did not answer in time.".to_owned(),
                owner: ssh(&format!("logs {app}"), "shows what it said last."),
                hull: Hull::Paused,
                retry_after: None,
            },
            Page::SiteAway => Content {
                status: "503 Service Unavailable",
                title: "Back in a moment",
                heading: "Berth's own site is away",
                text: "It is back in a moment. The apps that run here are not affected.".to_owned(),
                owner: None,
                hull: Hull::Asleep,
                retry_after: Some(5),
            },
        }
    }

    fn link(&self, app: &str, text: &str) -> Option<String> {
        let url = self.site_url.as_ref()?;
        Some(format!("Is it yours? <a href=\"{}/apps/{}\">{text}</a>.", escape(url), escape(app)))
    }

    /// A whole answer.
    pub fn answer(&self, page: Page<'_>, way: &Way<'_>) -> Vec<u8> {
        let content = self.content(page);
        let (kind, body) = if way.html {
            ("text/html; charset=utf-8", html(&content))
        } else {
            ("text/plain; charset=utf-8", format!("{}\n{}\n", content.heading, content.text))
        };
        let mut more = format!("Content-Type: {kind}\r\nCache-Control: no-store\r\nVary: Accept\r\n");
        if way.html {
            more += &format!("Content-Security-Policy: {}\r\n", self.policy);
        }
        if let Some(seconds) = content.retry_after {
            more += &format!("Retry-After: {seconds}\r\n");
        }
        more += &format!("X-Request-Id: {}\r\n", String::from_utf8_lossy(way.request_id));
        respond(content.status, &more, &body, way.method, way.after)
    }
}

/// A refusal of what is no request: one line of text, and the connection ends.
pub fn refuse(status: &str, why: &str) -> Vec<u8> {
    let more = "Content-Type: text/plain; charset=utf-8\r\n";
    respond(status, more, &format!("{why}\n"), Method::Other, After::Close)
}

fn respond(status: &str, more: &str, body: &str, method: Method, after: After) -> Vec<u8> {
    let close = if after == After::Close { "Connection: close\r\n" } else { "" };
    let mut answer = format!(
        "HTTP/1.1 {status}\r\n{more}X-Content-Type-Options: nosniff\r\nContent-Length: {}\r\n{close}\r\n",
        body.len()
    );
    if method != Method::Head {
        answer += body;
    }
    answer.into_bytes()
}

fn html(content: &Content) -> String {
    let hull = match content.hull {
        Hull::None => "",
        Hull::Asleep => r#"<path class="asleep" d="M16 20h62c24 0 38 8 46 16-8 8-22 16-46 16H16z" />"#,
        Hull::Paused => r#"<path class="paused" d="M16 20h62c24 0 38 8 46 16-8 8-22 16-46 16H16z" />"#,
    };
    let owner = content.owner.as_ref().map(|owner| format!("\n      <p class=\"q\">{owner}</p>")).unwrap_or_default();
    format!(
        r#"<!DOCTYPE html>
<html lang="en">
  <head>
    <meta charset="utf-8" />
    <meta name="viewport" content="width=device-width, initial-scale=1" />
    <meta name="robots" content="noindex" />
    <title>{title}</title>
    <style>{STYLE}</style>
  </head>
  <body>
    <main>
      <svg viewBox="0 0 144 72" aria-hidden="true"><path class="k" d="M4 0v72M4 6h56M4 66h56" />{hull}</svg>
      <h1>{heading}</h1>
      <p>{text}</p>{owner}
    </main>
  </body>
</html>
"#,
        title = content.title,
        heading = content.heading,
        text = escape(&content.text),
    )
}

fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            c => out.push(c),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAY: Way<'static> = Way { method: Method::Get, html: true, after: After::Keep, request_id: b"id" };

    #[test]
    fn each_page_is_whole_and_its_policy_names_its_style() {
        let pages = Pages::new(Some("https://berth.example/"), Some("ssh -p 2222 berth@berth.example"));
        for page in [
            Page::NoSuchApp { host: "shop.quay.example" },
            Page::Empty { app: "shop" },
            Page::Stopped { app: "shop" },
            Page::NoInstance { app: "shop" },
            Page::NoAnswer { app: "shop" },
            Page::TooLate { app: "shop" },
            Page::SiteAway,
        ] {
            let answer = String::from_utf8(pages.answer(page, &WAY)).unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
            let style = body.split_once("<style>").unwrap().1.split_once("</style>").unwrap().0;
            assert!(head.contains(&format!("'sha256-{}'", STANDARD.encode(Sha256::digest(style)))), "{head}");
            let text = String::from_utf8(pages.answer(page, &Way { html: false, ..WAY })).unwrap();
            assert!(text.contains("text/plain") && !text.contains('<'), "{text}");
            let none = pages.answer(page, &Way { method: Method::Head, ..WAY });
            assert!(none.ends_with(b"\r\n\r\n") && answer.len() > none.len());
        }
        let stopped = pages.answer(Page::Stopped { app: "shop" }, &WAY);
        assert!(String::from_utf8(stopped).unwrap().contains("href=\"https://berth.example/apps/shop\""));
    }

    #[test]
    fn a_strangers_words_stay_words() {
        let answer = Pages::new(None, None).answer(Page::NoSuchApp { host: "<script>" }, &WAY);
        assert!(String::from_utf8(answer).unwrap().contains("no site at &lt;script&gt;."));
    }
}
