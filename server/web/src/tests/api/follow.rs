//! Logs by the API: so many lines from a place on, or as they come, beside a logs process that only counts.

use axum::extract::Query;
use axum::routing::get;
use futures_util::stream;
use tokio::net::UnixListener;
use tokio::sync::watch;

use super::*;

/// A logs process whose lines are the numbers up to what is sent. It breaks off every stream after each sending.
struct Counting {
    site: Site,
    owner: Actor,
    token: String,
    lines: watch::Sender<u64>,
    _folder: tempfile::TempDir,
    _serving: tokio_util::task::AbortOnDropHandle<()>,
}

async fn counting(lines: u64) -> Result<Counting> {
    counting_with(lines, "").await
}

/// `more`: what stands behind each number.
async fn counting_with(lines: u64, more: &str) -> Result<Counting> {
    let more: std::sync::Arc<str> = more.into();
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("logs");
    let (sender, there) = watch::channel(lines);
    let answer = move |Query(asked): Query<BTreeMap<String, String>>| async move {
        let more = more.clone();
        let number = |name: &str| asked.get(name).and_then(|text| text.parse::<u64>().ok());
        let mut there = there.clone();
        let now = *there.borrow_and_update();
        let after = number("after").unwrap_or(now.saturating_sub(number("limit").unwrap_or(1_000)));
        let line = move |n: u64| {
            format!("{{\"cursor\":{n},\"at\":{n}000000,\"source\":\"web.1\",\"text\":\"<line> {n}{more}\"}}\n")
        };
        let first: String = (after + 1..=now).map(&line).collect();
        let follow = asked.contains_key("follow");
        let rest = stream::unfold((there, now, follow, line), |(mut there, seen, goes_on, line)| async move {
            if !goes_on {
                return None;
            }
            there.changed().await.ok()?;
            let now = *there.borrow_and_update();
            let text: String = (seen + 1..=now).map(&line).collect();
            // It is lost: whoever follows comes again.
            Some((Ok(text), (there, now, false, line)))
        });
        Body::from_stream(futures_util::StreamExt::chain(stream::iter([Ok::<_, std::io::Error>(first)]), rest))
    };
    let router = Router::new().route("/v1/stream", get(answer));
    let listener = UnixListener::bind(&socket)?;
    let serving = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
        let _ = axum::serve(listener, router).await;
    }));
    let site = site_of(&format!("http://{HOST}"), SignUp::Open, Some(socket)).await?;
    let (_, owner) = site.user().await?;
    let app = site.app(&owner, "orchard").await?;
    site.push(&owner, &app, "x").await?;
    let token = site.token(&owner, "t", TokenScope::Read).await?;
    Ok(Counting { site, owner, token, lines: sender, _folder: folder, _serving: serving })
}

impl Counting {
    async fn follow(&self, path: &str, headers: &[(&str, &str)]) -> Result<Response<Body>> {
        let mut request =
            from_somewhere(Method::GET, path).header(header::AUTHORIZATION, format!("Bearer {}", self.token));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.site.send(request.body(Body::empty())?).await
    }
}

#[tokio::test]
async fn lines_are_read_on_from_where_one_stood() -> Result<()> {
    let logs = counting(30).await?;
    let (site, token) = (&logs.site, &logs.token);
    for path in ["/api/v1/apps/orchard/logs", "/api/v1/apps/orchard/deploys/1/logs"] {
        let cursors = async |query: &str| {
            let part = site.ask("GET", &format!("{path}{query}"), token, "").await?;
            assert_eq!(part.status, 200, "{part:?}");
            let all: Vec<_> =
                part.json["items"].as_array().into_iter().flatten().map(|line| line["cursor"].as_u64()).collect();
            anyhow::Ok((all, part.json["next"].as_str().unwrap_or_default().to_owned()))
        };
        assert_eq!(cursors("?limit=2").await?, (vec![Some(29), Some(30)], "30".to_owned()));
        assert_eq!(cursors("?after=3&limit=2").await?, (vec![Some(4), Some(5)], "5".to_owned()));
        assert_eq!(cursors("?after=30").await?, (vec![], "30".to_owned()), "there is always a place to go on from");
        let one = site.ask("GET", &format!("{path}?after=0&limit=1"), token, "").await?;
        let line = json!({ "cursor": 1, "at": "1970-01-01T00:00:01Z", "source": "web.1", "text": "<line> 1" });
        assert_eq!(one.json["items"][0], line);
        for (query, field) in [
            ("?limit=0", "limit"),
            ("?limit=10001", "limit"),
            ("?after=x", "after"),
            ("?after=9223372036854775808", "after"),
            ("?follow=maybe", "follow"),
        ] {
            let wrong = site.ask("GET", &format!("{path}{query}"), token, "").await?;
            assert_eq!((wrong.status, wrong.error("field")), (422, field), "{wrong:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn lines_that_are_long_come_in_several_answers_and_each_once() -> Result<()> {
    let logs = counting_with(400, &"x".repeat(16_000)).await?;
    let (mut seen, mut after) = (Vec::new(), 0);
    for most in [270, 270, 0] {
        let path = format!("/api/v1/apps/orchard/logs?limit=10000&after={after}");
        let part = logs.site.ask("GET", &path, &logs.token, "").await?;
        let lines = part.json["items"].as_array().context("items")?;
        assert!(part.status == 200 && lines.len() <= most, "{} lines at once", lines.len());
        seen.extend(lines.iter().filter_map(|line| line["cursor"].as_u64()));
        after = part.json["next"].as_str().context("where to go on")?.parse()?;
    }
    assert_eq!(seen, (1..=400).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test]
async fn a_followed_log_goes_on_by_itself_and_ends_with_the_site() -> Result<()> {
    let logs = counting(2).await?;
    let path = "/api/v1/apps/orchard/logs?follow=true";
    let events = logs.follow(path, &[("accept", "text/event-stream")]).await?;
    assert_eq!(events.headers()[header::CONTENT_TYPE], "text/event-stream");
    let lines = logs.follow(path, &[("accept-encoding", "gzip, br")]).await?;
    assert_eq!(lines.headers()[header::CONTENT_TYPE], "application/x-ndjson");
    assert!(!lines.headers().contains_key(header::CONTENT_ENCODING), "what is packed waits");
    let (mut events, mut lines) = (events.into_body(), lines.into_body());
    hears(&mut events, "id: 2\n").await?;
    hears(&mut lines, "<line> 2\"}\n").await?;
    // The stream of the logs process is lost after each of these: none is missing, none is there twice.
    logs.lines.send(4)?;
    let heard = hears(&mut lines, "<line> 4\"}\n").await?;
    assert_eq!(heard.matches("<line>").count(), 2, "{heard}");
    hears(&mut events, "id: 4\n").await?;
    logs.lines.send(5)?;
    let heard = hears(&mut lines, "<line> 5\"}\n").await?;
    assert_eq!(heard.trim().lines().count(), 1, "{heard}");

    let mut resumed = logs.follow(path, &[("accept", "text/event-stream"), ("last-event-id", "3")]).await?.into_body();
    let heard = hears(&mut resumed, "id: 5\n").await?;
    assert!(heard.starts_with("id: 4\n"), "{heard}");

    logs.site.stop.cancel();
    for mut body in [events, lines, resumed] {
        let end = async { while body.frame().await.is_some() {} };
        timeout(Duration::from_secs(10), end).await.context("a stream goes on")?;
    }
    Ok(())
}

#[tokio::test]
async fn a_followed_log_ends_with_its_token() -> Result<()> {
    let logs = counting(1).await?;
    let (other, cookie) = (logs.site.token(&logs.owner, "other", TokenScope::Read).await?, logs.site.user().await?.0);
    let path = "/api/v1/apps/orchard/logs?follow=true";
    let mut body = logs.follow(path, &[]).await?.into_body();
    hears(&mut body, "<line> 1\"}\n").await?;
    // Somebody else signs out: it goes on.
    logs.site.post("/signout", &cookie, &[]).await?;
    logs.lines.send(2)?;
    hears(&mut body, "<line> 2\"}\n").await?;
    let email = logs.site.state.commands.user(logs.owner.user).await?.email.to_string();
    let cookie = logs.site.sign_in(&email).await?;
    let id = logs.site.state.commands.tokens(&logs.owner).await?[0].id;
    logs.site.post(&format!("/account/tokens/{id}/revoke"), &cookie, &[]).await?;
    let end = async { while body.frame().await.is_some() {} };
    timeout(Duration::from_secs(10), end).await.context("the stream goes on without its token")?;
    assert_eq!(logs.site.ask("GET", "/api/v1/limits", &other, "").await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn one_user_follows_so_many_logs_and_no_more() -> Result<()> {
    let logs = counting(1).await?;
    let path = "/api/v1/apps/orchard/logs?follow=true";
    let mut open = Vec::new();
    let refused = loop {
        let response = logs.follow(path, &[]).await?;
        match response.status() {
            StatusCode::OK => open.push(response),
            status => break status,
        }
        assert!(open.len() < 100, "there is no limit");
    };
    assert_eq!(refused, StatusCode::TOO_MANY_REQUESTS);
    open.pop();
    assert_eq!(logs.follow(path, &[]).await?.status(), StatusCode::OK);
    // Not theirs is not there, followed or not.
    let (_, other) = logs.site.user().await?;
    let theirs = logs.site.token(&other, "t", TokenScope::Read).await?;
    assert_eq!(logs.site.ask("GET", path, &theirs, "").await?.status, 404);
    assert_ne!(other.customer, logs.owner.customer);
    Ok(())
}
