//! One small app of each kind that Berth builds, pushed and asked.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, ensure};

use crate::given::{Given, SOON, given};

/// Pushes a sample and returns what git printed.
fn pushed(g: &mut Given, name: &str, sample: &str, says: &str) -> Result<String> {
    g.app(name, sample)?;
    let said = g.push_well(name)?;
    g.answers(name, says).with_context(|| format!("after its push:\n{said}"))?;
    Ok(said)
}

#[test]
fn a_node_app_is_built_answers_and_speaks_over_websockets() {
    given("node", |g| {
        let said = pushed(g, "poll", "node", "Tabs or spaces?")?;
        ensure!(said.contains("Running the build script"), "the build script did not run:\n{said}");
        g.page_says("/apps/poll", "the poll is open (production)")?;
        votes(g)?;
        g.page_says("/apps/poll", "a vote for tabs, 1 now")
    });
}

/// Votes once, as a browser does, and hears of it.
fn votes(g: &Given) -> Result<()> {
    let host = g.berth.app("poll");
    let host = host.trim_start_matches("http://");
    let mut line = TcpStream::connect_timeout(&g.berth.http, SOON)?;
    line.set_read_timeout(Some(SOON))?;
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    write!(
        line,
        "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: {key}\r\n\r\n"
    )?;
    let mut heard = until(&mut line, String::new(), "\"spaces\":0}")?;
    ensure!(heard.starts_with("HTTP/1.1 101 "), "no WebSocket: {heard}");
    // RFC 6455 §5.2: a text frame of four bytes, masked with zeros.
    line.write_all(b"\x81\x84\0\0\0\0tabs")?;
    heard = until(&mut line, heard, "{\"tabs\":1,")?;
    ensure!(heard.contains("{\"tabs\":1,"), "the vote was not told: {heard}");
    Ok(())
}

fn until(line: &mut TcpStream, mut heard: String, says: &str) -> Result<String> {
    let mut buffer = [0; 1024];
    while !heard.contains(says) {
        let n = line.read(&mut buffer).with_context(|| format!("no `{says}` after {heard}"))?;
        ensure!(n > 0, "the connection ended after {heard}");
        heard.push_str(&String::from_utf8_lossy(&buffer[..n]));
    }
    Ok(heard)
}

#[test]
fn a_site_that_a_build_script_makes_is_served() {
    given("pages", |g| {
        pushed(g, "notes", "pages", "Seen along the river")?;
        let page = g.visitor("notes").get("/heron.html")?;
        ensure!(page.status == 200 && page.body.contains("forty minutes"), "{}: {}", page.status, page.body);
        let source = g.visitor("notes").get("/package.json")?;
        ensure!(source.status == 404, "what the site was made from is served");
        Ok(())
    });
}

#[test]
fn django_and_fastapi_apps_are_served_without_a_procfile() {
    given("frameworks", |g| {
        let said = pushed(g, "units", "django", "Units")?;
        ensure!(said.contains("Collecting static files"), "static files were not collected:\n{said}");
        let home = g.visitor("units").get("/?length=2&unit=mile")?;
        ensure!(home.body.contains("3.21869"), "two miles are not told: {}", home.body);
        let (_, rest) = home.body.split_once("/static/").context("no style sheet")?;
        let style = rest.split('"').next().unwrap_or_default();
        let style = g.visitor("units").get(&format!("/static/{style}"))?;
        ensure!(style.status == 200 && style.body.contains("text-align"), "the style sheet is not served");
        g.page_says("/apps/units", "2 mile was asked for")?;

        pushed(g, "dice", "fastapi", "\"total\":")?;
        let refused = g.visitor("dice").get("/?sides=1")?;
        ensure!(refused.status == 422, "a die with one side was rolled");
        g.page_says("/apps/dice", "2 dice of 6 sides were rolled")
    });
}
