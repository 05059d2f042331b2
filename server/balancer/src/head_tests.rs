use proptest::prelude::*;

use super::*;

const FORWARDED: Forwarded<'static> =
    Forwarded { address: "192.0.2.7", proto: "http", request_id: b"0123456789abcdef0123456789abcdef" };

fn parse(head: &str) -> Result<Request, Refusal> {
    match Scan::default().end(head.as_bytes())? {
        Some(end) => Request::parse(&head.as_bytes()[..end]),
        None => Err(bad("not whole")),
    }
}

fn upstream(head: &str) -> String {
    let mut out = Vec::new();
    parse(head).unwrap().upstream(head.as_bytes(), &FORWARDED, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn what_two_readers_could_read_in_two_ways_is_refused() {
    for (why, head) in [
        (
            "a length and chunks",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        ("two lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n"),
        ("a list of lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\n"),
        ("a signed length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n"),
        ("a negative length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n"),
        ("a hexadecimal length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\n"),
        ("an empty length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n"),
        ("an enormous length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n"),
        ("another encoding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"),
        ("a misspelt encoding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n"),
        ("a quoted encoding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n"),
        ("identity", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n"),
        (
            "two encodings",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        ("an empty encoding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n"),
        ("chunks in HTTP/1.0", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("no host", "GET / HTTP/1.1\r\nAccept: */*\r\n\r\n"),
        ("two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
        ("an empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n"),
        ("a host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
        ("a host with a user", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"),
        ("a host with a space", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
        ("two hosts in one", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"),
        ("a port that is none", "GET / HTTP/1.1\r\nHost: a:80x\r\n\r\n"),
        ("a bare LF after the request line", "GET / HTTP/1.1\nHost: a\r\n\r\n"),
        ("a bare LF after a header", "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n"),
        ("a bare LF at the end", "GET / HTTP/1.1\r\nHost: a\r\n\n"),
        ("a bare CR in a value", "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n"),
        ("a NUL", "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n"),
        ("a folded line", "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n"),
        ("a folded first line", "GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
        ("a space before the colon", "GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
        ("a line without a colon", "GET / HTTP/1.1\r\nHost: a\r\nnothing\r\n\r\n"),
        ("two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a space in the target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("HTTP/0.9", "GET /\r\nHost: a\r\n\r\n"),
        ("another host in the target", "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a target that is no path", "GET a HTTP/1.1\r\nHost: a\r\n\r\n"),
        (
            "framing named as one hop's",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: content-length\r\n\r\n",
        ),
        ("the host named as one hop's", "GET / HTTP/1.1\r\nHost: a\r\nConnection: Host\r\n\r\n"),
        ("a length in disguise", "POST / HTTP/1.1\r\nHost: a\r\nContent_Length: 5\r\n\r\n"),
    ] {
        assert!(matches!(parse(head), Err(Refusal::Malformed(_))), "{why}: {:?}", parse(head));
    }
    assert_eq!(parse("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n"), Err(Refusal::Method));
    assert_eq!(parse("GET / HTTP/2.0\r\nHost: a\r\n\r\n"), Err(Refusal::Version));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(100));
    assert_eq!(parse(&many), Err(Refusal::TooLarge));
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(HEAD_MAX));
    assert_eq!(parse(&long), Err(Refusal::TooLarge));
}

#[test]
fn the_upstream_hears_who_asks_and_nothing_that_concerned_one_hop() {
    let head = "GET /a?b HTTP/1.1\r\nHost: Shop.example:8080\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n\
        Keep-Alive: 5\r\nAccept: text/html\r\nX-Forwarded-For: 6.6.6.6\r\nx_forwarded_proto: https\r\n\
        Forwarded: for=6.6.6.6\r\nProxy: evil\r\nTE: trailers\r\nUpgrade: h2c\r\nCookie: a=b\r\n\r\n";
    assert_eq!(
        upstream(head),
        "GET /a?b HTTP/1.1\r\nHost: Shop.example:8080\r\nAccept: text/html\r\nCookie: a=b\r\n\
        X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: Shop.example:8080\r\n\
        X-Request-Id: 0123456789abcdef0123456789abcdef\r\n\r\n"
    );
}

#[test]
fn an_upgrade_goes_on_when_it_is_no_other_http_and_has_no_body() {
    let ask = |protocol: &str, rest: &str| {
        format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: {protocol}\r\n{rest}\r\n")
    };
    assert!(upstream(&ask("websocket", "")).ends_with("Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"));
    for head in
        [ask("h2c", ""), ask("websocket, h2c", ""), ask("HTTP/2.0", ""), ask("websocket", "Content-Length: 3\r\n")]
    {
        assert!(!upstream(&head).to_ascii_lowercase().contains("upgrade"), "{head}");
    }
}

#[test]
fn a_host_loses_its_port_and_its_last_dot() {
    for (host, name) in
        [("a.b:80", "a.b"), ("a.b.", "a.b"), ("a.b.:8080", "a.b"), ("[::1]:80", "[::1]"), ("1.2.3.4", "1.2.3.4")]
    {
        let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(&head[parse(&head).unwrap().host], name);
    }
}

#[test]
fn an_absolute_target_becomes_a_path() {
    for (target, path) in [("http://a/b?c", "/b?c"), ("HTTP://A", "/"), ("http://a?x", "/?x"), ("/x", "/x"), ("*", "*")]
    {
        let out = upstream(&format!("OPTIONS {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(out.starts_with(&format!("OPTIONS {path} HTTP/1.1\r\n")), "{target}: {out}");
    }
}

fn answer(head: &str, method: Method) -> Result<Response, &'static str> {
    Response::parse(head.as_bytes(), method)
}

#[test]
fn an_answers_body_ends_where_the_rules_say() {
    let framed = |head: &str, method| answer(head, method).unwrap().body;
    assert_eq!(framed("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Method::Get), Body::Length(5));
    assert_eq!(framed("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Method::Head), Body::None);
    assert_eq!(framed("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", Method::Get), Body::None);
    assert_eq!(framed("HTTP/1.1 204 No Content\r\n\r\n", Method::Get), Body::None);
    assert_eq!(framed("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Method::Get), Body::Chunked);
    assert_eq!(framed("HTTP/1.0 200 OK\r\n\r\n", Method::Get), Body::UntilClose);
    for bad in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 99 Low\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
    ] {
        assert!(answer(bad, Method::Get).is_err(), "{bad}");
    }
}

#[test]
fn an_answer_goes_out_untouched_unless_it_must_change() {
    let client = |head: &str, after, unframed| {
        answer(head, Method::Get)
            .unwrap()
            .client(head.as_bytes(), after, unframed)
            .map(|out| String::from_utf8(out).unwrap())
    };
    let plain = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(client(plain, After::Keep, false), None);
    assert_eq!(
        client(plain, After::Close, false).unwrap(),
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n"
    );
    let hop = "HTTP/1.0 200 OK\r\nConnection: Keep-Alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(client(hop, After::Keep, false).unwrap(), "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n";
    assert_eq!(client(chunked, After::Close, true).unwrap(), "HTTP/1.1 200 OK\r\nX: y\r\nConnection: close\r\n\r\n");
    let bare = "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(client(bare, After::Keep, false).unwrap(), "HTTP/1.1 204 No Content\r\n\r\n");
}

proptest! {
    #[test]
    fn a_head_ends_at_the_same_place_however_it_arrives(noise in "([a-zA-Z:/ ]{0,20}(\r\n)?){0,10}\r\n\r\n[a-z]{0,9}", cut in 1usize..30) {
        let bytes = noise.as_bytes();
        let at_once = Scan::default().end(bytes);
        let mut scan = Scan::default();
        let mut end = Ok(None);
        for to in (cut..bytes.len() + cut).step_by(cut) {
            end = scan.end(&bytes[..to.min(bytes.len())]);
            if end != Ok(None) { break }
        }
        prop_assert_eq!(end, at_once);
    }

    #[test]
    fn no_bytes_make_the_parser_fall(noise in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut head = b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec();
        head.extend(noise);
        head.extend(b"\r\n\r\n");
        if let Ok(Some(end)) = Scan::default().end(&head)
            && let Ok(request) = Request::parse(&head[..end])
        {
            let mut out = Vec::new();
            request.upstream(&head[..end], &FORWARDED, &mut out);
            // What goes on is itself a head that is understood, and in the same way.
            prop_assert_eq!(Scan::default().end(&out), Ok(Some(out.len())));
            let again = Request::parse(&out).unwrap();
            prop_assert_eq!(again.body, request.body);
            prop_assert_eq!(&out[again.host], &head[request.host]);
        }
        let _ = Response::parse(&head, Method::Get);
    }

    #[test]
    fn a_forged_address_never_arrives(
        names in proptest::collection::vec("[Xx][-_][Ff]orwarded[-_](For|Proto|Host|Port|By)|Forwarded|X[-_]Real[-_]IP", 1..5),
    ) {
        let forged: String = names.iter().map(|name| format!("{name}: 6.6.6.6\r\n")).collect();
        let out = upstream(&format!("GET / HTTP/1.1\r\nHost: a\r\n{forged}\r\n"));
        prop_assert!(!out.contains("6.6.6.6"), "{}", out);
    }
}
