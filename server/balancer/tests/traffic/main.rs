//! The balancer as a whole, on real sockets: clients that are bytes, apps that are small threads,
//! a coordinator that says what the test wants.

// The lint spares test functions only; a rig that cannot be built is a failed test as well.
#![allow(clippy::unwrap_used)]

mod counted;
mod lossless;
mod peers;
mod rig;

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use domain::wire::RouteState;

use crate::peers::{App, Client, eventually, hello, read_head};
use crate::rig::Rig;

const GET: &str = "GET / HTTP/1.1\r\nHost: shop.localhost\r\n\r\n";

#[test]
fn a_connection_carries_many_requests_and_the_app_hears_who_asks() {
    let app = App::start(|head| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{head}", head.len()));
    let rig = Rig::with("shop", &[&app]);
    let mut client = rig.client();
    for _ in 0..3 {
        let answer = client.ask("GET /a?b HTTP/1.1\r\nHost: SHOP.localhost:8080\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n");
        assert_eq!(answer.status, 200);
        for part in [
            "GET /a?b HTTP/1.1\r\nHost: SHOP.localhost:8080\r\n",
            "X-Forwarded-For: 127.0.0.1\r\n",
            "X-Forwarded-Proto: http\r\n",
            "X-Forwarded-Host: SHOP.localhost:8080\r\n",
            "X-Request-Id: ",
        ] {
            assert!(answer.text().contains(part), "{part} is not in {}", answer.text());
        }
        assert!(!answer.text().contains("6.6.6.6"));
    }
    // Pipelined: both answered, in order, on the one connection to the app.
    client.send("GET /1 HTTP/1.1\r\nHost: shop.localhost\r\n\r\nGET /2 HTTP/1.1\r\nHost: shop.localhost\r\n\r\n");
    assert!(client.answer().text().starts_with("GET /1 "));
    assert!(client.answer().text().starts_with("GET /2 "));
    assert_eq!(app.connections(), 1);
    rig.counted("shop", 5);
}

#[test]
fn bodies_stream_both_ways_at_once() {
    // Answers at once, then says back each chunk as it comes.
    let app = App::raw(|mut io| {
        while let Some((_, mut rest)) = read_head(&mut io) {
            io.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            loop {
                if !rest.is_empty() {
                    io.write_all(&rest)?;
                    if rest.ends_with(b"0\r\nSum: 6\r\n\r\n") {
                        break;
                    }
                }
                rest = vec![0; 4096];
                let n = io.read(&mut rest)?;
                if n == 0 {
                    return Ok(());
                }
                rest.truncate(n);
            }
        }
        Ok(())
    });
    let rig = Rig::with("shop", &[&app]);
    let mut client = rig.client();
    client.send("POST / HTTP/1.1\r\nHost: shop.localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    let head = client.head();
    assert!(head.contains("Transfer-Encoding: chunked"), "{head}");
    // What the client still sends could not be told from its next request.
    assert!(head.contains("Connection: close"), "{head}");
    for chunk in ["3\r\nabc\r\n", "3;x=y\r\ndef\r\n", "0\r\nSum: 6\r\n\r\n"] {
        client.send(chunk);
        assert_eq!(client.exactly(chunk.len()), chunk);
    }
    assert!(client.is_closed());
}

#[test]
fn large_bodies_arrive_whole_in_both_directions() {
    let app = App::raw(|mut io| {
        while let Some((head, rest)) = read_head(&mut io) {
            let length = head.split("Content-Length: ").nth(1).and_then(|l| l.lines().next()).unwrap_or("0");
            let length: usize = length.parse().unwrap();
            let (mut seen, mut sum) = (rest.len(), rest.iter().map(|b| u64::from(*b)).sum::<u64>());
            let mut part = vec![0; 65536];
            while seen < length {
                let n = io.read(&mut part)?;
                assert!(n > 0);
                seen += n;
                sum += part[..n].iter().map(|b| u64::from(*b)).sum::<u64>();
            }
            let body = vec![b'x'; 3_000_000];
            write!(io, "HTTP/1.1 200 OK\r\nX-Sum: {sum}\r\nContent-Length: {}\r\n\r\n", body.len())?;
            io.write_all(&body)?;
        }
        Ok(())
    });
    let rig = Rig::with("shop", &[&app]);
    let mut client = rig.client();
    let body = "abcdefgh".repeat(500_000);
    let sum: u64 = body.bytes().map(u64::from).sum();
    for _ in 0..2 {
        client.send(&format!("POST / HTTP/1.1\r\nHost: shop.localhost\r\nContent-Length: {}\r\n\r\n", body.len()));
        client.send(&body);
        let answer = client.answer();
        assert!(answer.head.contains(&format!("X-Sum: {sum}\r\n")), "{}", answer.head);
        assert_eq!(answer.body.len(), 3_000_000);
    }
    // The second came before the app was seen to keep a connection.
    assert_eq!(app.connections(), 2);
}

#[test]
fn an_early_answer_reaches_a_client_that_still_sends() {
    let app = App::raw(|mut io| {
        read_head(&mut io);
        io.write_all(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nno\n")
    });
    let rig = Rig::with("shop", &[&app]);
    let mut client = rig.client();
    client.send("POST / HTTP/1.1\r\nHost: shop.localhost\r\nContent-Length: 100000000\r\n\r\n");
    client.send(&"x".repeat(200_000));
    let answer = client.answer();
    assert_eq!((answer.status, answer.text()), (413, "no\n"));
    assert!(answer.head.contains("Connection: close"));
    assert!(client.is_closed());
}

#[test]
fn an_upgrade_becomes_a_tunnel_once_the_app_agrees() {
    let app = App::raw(|mut io| {
        let Some((head, rest)) = read_head(&mut io) else { return Ok(()) };
        assert!(head.contains("Connection: Upgrade\r\nUpgrade: websocket\r\n"), "{head}");
        assert!(rest.is_empty(), "bytes before the answer to the upgrade");
        io.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhi")?;
        let mut bytes = [0; 100];
        loop {
            let n = io.read(&mut bytes)?;
            if n == 0 {
                return io.write_all(b"bye");
            }
            io.write_all(&bytes[..n].to_ascii_uppercase())?;
        }
    });
    let rig = Rig::with("shop", &[&app]);
    let mut client = rig.client();
    client.send("GET / HTTP/1.1\r\nHost: shop.localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly");
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("Upgrade: websocket"), "{head}");
    assert_eq!(client.exactly(7), "hiEARLY");
    client.send("more");
    assert_eq!(client.exactly(4), "MORE");
    client.end();
    assert_eq!(client.rest(), "bye");
    rig.counted("shop", 1);
    rig.sent("shop", client.got);
}

#[test]
fn interim_answers_pass_and_a_client_may_wait_for_100() {
    let app = App::raw(|mut io| {
        while let Some((head, rest)) = read_head(&mut io) {
            assert!(head.contains("Expect: 100-continue") && rest.is_empty());
            io.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")?;
            let mut body = [0; 4];
            io.read_exact(&mut body)?;
            io.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")?;
            io.write_all(&body)?;
        }
        Ok(())
    });
    let rig = Rig::with("shop", &[&app]);
    let mut client = rig.client();
    for _ in 0..2 {
        client.send("PUT / HTTP/1.1\r\nHost: shop.localhost\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
        assert_eq!(client.head(), "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
        assert_eq!(client.head(), "HTTP/1.1 100 Continue\r\n\r\n");
        client.send("body");
        assert_eq!(client.answer().text(), "body");
    }
}

#[test]
fn answers_without_a_body_and_old_versions_are_framed_as_they_must_be() {
    let app = App::raw(|mut io| {
        while let Some((head, _)) = read_head(&mut io) {
            let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let answer = match path.as_str() {
                "/204" => "HTTP/1.1 204 No Content\r\n\r\n",
                "/304" => "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
                "/head" => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
                "/chunked" => {
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\nA: b\r\n\r\n"
                }
                "/old" => "HTTP/1.0 200 OK\r\n\r\nhello",
                _ => panic!("{path}"),
            };
            io.write_all(answer.as_bytes())?;
            if path == "/old" {
                return Ok(());
            }
        }
        Ok(())
    });
    let rig = Rig::with("shop", &[&app]);
    let ask = |method: &str, path: &str, version: &str| {
        format!("{method} {path} HTTP/{version}\r\nHost: shop.localhost\r\n\r\n")
    };
    let mut client = rig.client();
    for _ in 0..2 {
        client.send(&ask("GET", "/204", "1.1"));
        assert_eq!(client.head(), "HTTP/1.1 204 No Content\r\n\r\n");
        client.send(&ask("GET", "/304", "1.1"));
        assert!(client.head().starts_with("HTTP/1.1 304 "));
        client.send(&ask("HEAD", "/head", "1.1"));
        assert!(client.head().contains("Content-Length: 5"));
        client.send(&ask("GET", "/chunked", "1.1"));
        assert_eq!(client.answer().text(), "2\r\nhe\r\n3\r\nllo\r\n0\r\nA: b\r\n\r\n");
    }
    assert_eq!(app.connections(), 1);
    client.send(&ask("GET", "/old", "1.1"));
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("Connection: close"), "{head}");
    assert_eq!(client.rest(), "hello");
    // A client of HTTP/1.0 gets no chunks.
    let mut client = rig.client();
    client.send(&ask("GET", "/chunked", "1.0"));
    let whole = client.rest();
    assert!(!whole.contains("Transfer-Encoding") && whole.ends_with("\r\n\r\nhello"), "{whole}");
    rig.counted("shop", 10);
}

#[test]
fn what_is_ambiguous_is_refused_and_no_app_ever_sees_it() {
    let app = App::start(|_| hello());
    let rig = Rig::with("shop", &[&app]);
    let host = "Host: shop.localhost\r\n";
    for request in [
        format!("POST / HTTP/1.1\r\n{host}Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG"),
        format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nG"),
        format!("POST / HTTP/1.1\r\n{host}Content-Length: 0\r\nContent-Length: 44\r\n\r\n"),
        format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: xchunked\r\n\r\n"),
        format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: chunked, identity\r\n\r\n"),
        format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding:\u{b}chunked\r\n\r\n"),
        format!("POST / HTTP/1.0\r\n{host}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("POST / HTTP/1.1\r\n{host}Content-Length : 5\r\n\r\nhello"),
        format!("GET / HTTP/1.1\r\n{host}{host}\r\n"),
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\nHost: shop.localhost\n\n".to_owned(),
        format!("GET / HTTP/1.1\r\n{host}X: y\r\n folded\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{host}Connection: content-length\r\nContent-Length: 3\r\n\r\nabc"),
        format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n"),
        format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n5;\n\r\nhello\r\n0\r\n\r\n"),
        "\r\n\r\n\r\n\r\n\r\n\r\n\r\n".to_owned(),
    ] {
        let mut client = rig.client();
        client.send(&request);
        let answer = client.rest();
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("Connection: close"), "{request:?}: {answer}");
    }
    let mut client = rig.client();
    client.send(&format!("GET / HTTP/1.1\r\n{host}X: {}\r\n\r\n", "x".repeat(40_000)));
    assert!(client.rest().starts_with("HTTP/1.1 431 "));
    let mut client = rig.client();
    client.send("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.rest().starts_with("HTTP/1.1 405 "));
    // Malformed only after it went on: both connections end, neither is used again.
    let mut client = rig.client();
    client.send(&format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"));
    eventually("the first chunk to arrive", || app.connections() == 1);
    client.send("oops\r\n");
    client.rest();
    let mut client = rig.client();
    assert_eq!(client.ask(GET).status, 200);
    assert_eq!(app.connections(), 2);
}

#[test]
fn a_dead_instance_costs_no_request() {
    let app = App::start(|_| hello());
    let gone = App::start(|_| hello());
    let rig = Rig::with("shop", &[&app, &gone]);
    gone.kill();
    for _ in 0..50 {
        // POST: it was not sent, so it may go to another.
        let request = "POST / HTTP/1.1\r\nHost: shop.localhost\r\nContent-Length: 2\r\n\r\nhi";
        assert_eq!(rig.client().ask(request).status, 200);
    }
    rig.counted("shop", 50);
    assert_eq!(app.requests(), 50);
    assert_eq!(rig.failed("shop"), 0);
}

#[test]
fn a_kept_connection_that_died_is_replaced_only_for_what_may_be_sent_twice() {
    // Answers two requests of a connection and closes at the third, which it took.
    let app = || {
        App::raw(|mut io| {
            for _ in 0..2 {
                read_head(&mut io);
                io.write_all(hello().as_bytes())?;
            }
            read_head(&mut io);
            Ok(())
        })
    };
    let post = "POST / HTTP/1.1\r\nHost: shop.localhost\r\nContent-Length: 2\r\n\r\nhi";
    for (third, status, connections) in [(GET, 200, 2), (post, 502, 1)] {
        let app = app();
        let rig = Rig::with("shop", &[&app]);
        let mut client = rig.client();
        assert_eq!([client.ask(GET).status, client.ask(GET).status], [200, 200]);
        assert_eq!((client.ask(third).status, app.connections()), (status, connections));
        rig.counted("shop", 3);
    }
}

#[test]
fn what_an_app_does_wrong_is_said_and_nothing_is_made_up() {
    let app = App::raw(|mut io| {
        let Some((head, _)) = read_head(&mut io) else { return Ok(()) };
        if head.starts_with("GET /old ") {
            io.write_all(b"HTTP/1.0 200 OK\r\n\r\nabc")?;
            return peers::reset(&io);
        }
        io.write_all(match head.split(' ').nth(1) {
            Some("/noise") => b"hello\r\n\r\n".as_slice(),
            Some("/both") => b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            Some("/short") => b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
            Some("/switch") => b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
            _ => b"",
        })
    });
    let rig = Rig::with("shop", &[&app]);
    for path in ["/noise", "/both", "/switch", "/nothing"] {
        let answer = rig.client().ask(&format!("GET {path} HTTP/1.1\r\nHost: shop.localhost\r\n\r\n"));
        assert_eq!(answer.status, 502, "{path}");
    }
    assert_eq!(rig.failed("shop"), 4);
    // A part is never made to look like the whole: not even of a body that ends with its connection.
    for path in ["/short", "/old"] {
        let mut client = rig.client();
        client.send(&format!("GET {path} HTTP/1.1\r\nHost: shop.localhost\r\n\r\n"));
        assert!(client.until_it_breaks().ends_with("\r\n\r\nabc"), "{path}");
    }
    rig.counted("shop", 6);
}

#[test]
fn nobody_waits_for_ever() {
    let app = App::raw(|mut io| {
        read_head(&mut io);
        let _ = io.read(&mut [0]);
        Ok(())
    });
    let rig = Rig::with_config("shop", &[&app], |config| {
        config.timeouts.head_ms = 300;
        config.timeouts.idle_ms = 500;
        config.timeouts.answer_ms = 400;
        config.timeouts.stall_ms = 350;
    });
    let mut client = rig.client();
    client.send("GET / HTTP/1.1\r\nHost: sh");
    assert!(client.rest().starts_with("HTTP/1.1 408 "));
    let begun = Instant::now();
    assert_eq!(rig.client().rest(), "");
    assert!(begun.elapsed() >= Duration::from_millis(500));
    assert_eq!(rig.client().ask(GET).status, 504);
    let mut client = rig.client();
    client.send("POST / HTTP/1.1\r\nHost: shop.localhost\r\nContent-Length: 9\r\n\r\nhal");
    assert!(client.rest().starts_with("HTTP/1.1 408 "));
}

#[test]
fn a_client_that_leaves_frees_the_app_at_once() {
    let app = App::raw(|mut io| {
        read_head(&mut io);
        let _ = io.read(&mut [0]);
        Ok(())
    });
    let rig = Rig::with("shop", &[&app]);
    let mut client = rig.client();
    client.send(GET);
    eventually("the request to arrive", || app.connections() == 1);
    drop(client);
    eventually("its connection to end", || app.open() == 0);
}

#[test]
fn what_no_app_answers_is_answered_here() {
    let mut rig = Rig::with("shop", &[]);
    rig.add("fresh", RouteState::Empty, &[]);
    rig.add("resting", RouteState::Stopped, &[]);
    rig.publish();
    let mut client = rig.client();
    let mut ask =
        |host: &str, accept: &str| client.ask(&format!("GET / HTTP/1.1\r\nHost: {host}\r\nAccept: {accept}\r\n\r\n"));
    for (host, status, says) in [
        ("nobody.localhost", 404, "Nothing is tied up here"),
        ("fresh.localhost", 404, "Nothing is deployed at this address yet"),
        ("resting.localhost", 503, "This site is paused"),
        ("shop.localhost", 503, "not running at the moment"),
    ] {
        let page = ask(host, "text/html,*/*");
        assert_eq!(page.status, status, "{host}");
        assert!(page.text().contains(says) && page.text().contains("<style>"), "{host}: {}", page.text());
        assert!(page.head.contains("Content-Security-Policy: default-src 'none'; style-src 'sha256-"), "{}", page.head);
        assert!(page.head.contains("X-Request-Id: "), "{}", page.head);
        let text = ask(host, "*/*");
        assert!(text.status == status && !text.text().contains('<'), "{}", text.text());
    }
    let mut head = rig.client();
    head.send("HEAD / HTTP/1.1\r\nHost: nobody.localhost\r\nConnection: close\r\n\r\n");
    assert!(head.rest().ends_with("\r\n\r\n"));
    // A request that named an app is the app's, whatever the answer; one that named none is nobody's.
    for app in ["fresh", "resting", "shop"] {
        rig.counted(app, 2);
    }
}

#[test]
fn the_site_answers_on_its_own_names_behind_the_same_engine() {
    let rig = Rig::with("shop", &[]);
    let request = "GET /apps HTTP/1.1\r\nHost: localhost:8080\r\n\r\n";
    let away = rig.client().ask(request);
    assert_eq!(away.status, 503);
    assert!(away.text().contains("site is away"), "{}", away.text());
    let site = rig.site(|head| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{head}", head.len()));
    let mut client = rig.client();
    for host in ["localhost", "127.0.0.1", "LOCALHOST.:80"] {
        let answer = client.ask(&format!("GET /apps HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert!(answer.text().contains("X-Forwarded-For: 127.0.0.1\r\n"), "{}", answer.text());
    }
    assert_eq!(site.load(SeqCst), 1);
}

#[test]
fn older_and_empty_routes_are_refused_and_a_restart_needs_nobody() {
    let app = App::start(|_| hello());
    let mut rig = Rig::with("shop", &[&app]);
    rig.add("other", RouteState::Empty, &[]);
    rig.publish();
    let good = rig.routes();
    let mut empty = good.clone();
    empty.seen.revision.counter += 1;
    empty.apps.clear();
    let mut older = good.clone();
    older.seen.revision.counter -= 1;
    older.apps.truncate(1);
    for bad in [empty, older] {
        let asked = rig.asked();
        rig.say(bad);
        eventually("the routes to be refused and asked for again", || rig.asked() >= asked + 2);
        assert_eq!(rig.acknowledged(), Some(good.seen.clone()));
        assert_eq!(rig.client().ask(GET).status, 200);
    }
    rig.stop();
    let rig = rig.restart_alone();
    assert_eq!(rig.client().ask(GET).status, 200);
    assert!(rig.client().ask("GET / HTTP/1.1\r\nHost: other.localhost\r\n\r\n").text().contains("Nothing is deployed"));
}

#[test]
fn an_instance_that_leaves_finishes_what_it_has_and_gets_nothing_new() {
    let slow = App::raw(|mut io| {
        read_head(&mut io);
        io.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nol")?;
        // Until the test lets go.
        io.read_exact(&mut [0; 2])?;
        io.write_all(b"d\n")
    });
    let new = App::start(|_| hello());
    let mut rig = Rig::with("shop", &[&slow]);
    let mut client = rig.client();
    client.send("POST / HTTP/1.1\r\nHost: shop.localhost\r\nContent-Length: 2\r\n\r\n");
    assert!(client.head().contains("200 OK"));
    assert_eq!(client.exactly(2), "ol");
    let left = rig.instances("shop")[0];
    rig.set("shop", &[&new]);
    rig.publish();
    eventually("the open request to be reported", || rig.open() == [(left, 1)]);
    for _ in 0..20 {
        assert_eq!(rig.client().ask(GET).text(), "hello\n");
    }
    client.send("go");
    assert_eq!(client.exactly(2), "d\n");
    eventually("nothing to be open there", || rig.open().is_empty());
    assert_eq!((slow.connections(), new.requests()), (1, 20));
}

#[test]
fn at_the_end_open_requests_finish_and_busy_connections_lose_none() {
    let app = App::start(|_| hello());
    let mut rig = Rig::with("shop", &[&app]);
    let address = rig.address;
    let busy = std::thread::spawn(move || {
        let (mut client, mut answered) = (Client::to(address), 0u64);
        loop {
            let answer = client.ask(GET);
            assert_eq!(answer.status, 200);
            answered += 1;
            if answer.head.contains("Connection: close") {
                return answered;
            }
        }
    });
    eventually("some traffic", || app.requests() > 50);
    rig.stop();
    assert_eq!(busy.join().unwrap(), app.requests());
    rig.counted("shop", app.requests());
}

#[test]
fn no_request_is_lost_while_instances_are_replaced_under_load() {
    let mut rig = Rig::with("shop", &[]);
    // One in eight takes longer than it takes to be told of new routes.
    let asked = Arc::new(AtomicU64::new(0));
    let app = || {
        let asked = Arc::clone(&asked);
        App::start(move |_| {
            if asked.fetch_add(1, SeqCst).is_multiple_of(8) {
                std::thread::sleep(Duration::from_millis(80));
            }
            hello()
        })
    };
    let mut current = app();
    rig.set("shop", &[&current]);
    rig.publish();
    let url = format!("http://{}/", rig.address);
    let wrk = Command::new("wrk")
        .args(["-t2", "-c32", "-d5s", "--timeout", "10s", "-H", "Host: shop.localhost", &url])
        .stdout(Stdio::piped())
        .spawn()
        .expect("wrk is installed");
    let begun = Instant::now();
    let (mut replaced, mut served) = (0, 0);
    while begun.elapsed() < Duration::from_millis(4500) {
        let next = app();
        let left = rig.instances("shop")[0];
        rig.set("shop", &[&next]);
        rig.publish();
        eventually("the old instance to be free", || rig.open().iter().all(|(id, _)| *id != left));
        // What the coordinator does then: it ends the process, and its connections with it.
        current.kill();
        served += current.requests();
        current = next;
        replaced += 1;
    }
    let output = wrk.wait_with_output().unwrap();
    let summary = String::from_utf8_lossy(&output.stdout);
    println!("{replaced} instances replaced\n{summary}");
    assert!(replaced >= 10, "{replaced}");
    assert!(!summary.contains("Non-2xx") && !summary.contains("Socket errors"), "{summary}");
    let words: Vec<&str> = summary.split_whitespace().collect();
    let done = words.windows(2).find(|w| w[1] == "requests").map(|w| w[0].parse::<u64>().unwrap()).unwrap();
    rig.stop();
    served += current.requests();
    // wrk does not count what was open when its time was over: one a connection.
    let counted = rig.last_count("shop");
    assert!((done..=done + 32).contains(&counted), "{counted} counted, {done} answered");
    assert!(counted.abs_diff(served) <= 32, "{counted} counted, {served} served");
    assert_eq!(rig.failed("shop"), 0);
}

/// The balancer that a test kills; nothing when it is run as a test.
#[test]
fn the_process_that_another_test_kills() {
    rig::child();
}

#[test]
fn curl_agrees() {
    let app = App::start(|_| hello());
    let rig = Rig::with("shop", &[&app]);
    let url = format!("http://shop.localhost:{}/", rig.address.port());
    let resolve = format!("shop.localhost:{}:127.0.0.1", rig.address.port());
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--fail", "--max-time", "10", "--resolve", &resolve])
        .args(["--http1.1", &url, &url, "--data", "x=y", "--header", "Expect: 100-continue"])
        .output()
        .expect("curl is installed");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello\nhello\n", "{output:?}");
}
