//! The router, asked as the balancer asks it, against real PostgreSQL and Redis.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Body;
use commands::{Actor, Commands, Door, NewPush};
use domain::{AppName, Secret};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use tokio::time::{Duration, timeout};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::state::{Shared, State};
use crate::{Asset, Config, SignUp, guard};

mod api;
mod forms;
mod people;
mod sign;
mod tokens;
mod usage;

const HOST: &str = "localhost:8080";
const PASSWORD: &str = "four unrelated words here";

/// A site of its own. The databases go when this is dropped.
struct Site {
    router: Router,
    state: Shared,
    stop: CancellationToken,
    postgres: harness::Postgres,
    redis: Option<harness::Redis>,
}

async fn site() -> Result<Site> {
    site_with(SignUp::Open).await
}

async fn site_with(sign_up: SignUp) -> Result<Site> {
    site_at(&format!("http://{HOST}"), sign_up).await
}

async fn site_at(url: &str, sign_up: SignUp) -> Result<Site> {
    site_of(url, sign_up, None).await
}

/// `logs`: the socket of the logs process.
async fn site_of(url: &str, sign_up: SignUp, logs: Option<std::path::PathBuf>) -> Result<Site> {
    let (postgres, redis) = tokio::try_join!(harness::postgres(), harness::redis())?;
    let config = Config {
        commands: commands::Config {
            database_url: Secret::new(postgres.url_as("berth_web")),
            logs: logs.map(|socket| (socket, Secret::new("token".to_owned()))),
            urls: commands::Urls {
                site: url.to_owned(),
                apps_domain: "localhost".to_owned(),
                apps_scheme: "http".to_owned(),
                apps_port: Some(8080),
                ssh: "berth@localhost:2222".to_owned(),
            },
            seal: Some(seal::PrivateKey::new().public()),
        },
        redis_url: Secret::new(redis.url().to_owned()),
        hosts: vec!["localhost".parse()?],
        peers: vec![],
        sign_up,
        confirmation: commands::Confirmation::NotNeeded,
        letters: None,
    };
    let css =
        Asset { path: "berth.css".to_owned(), content_type: "text/css".to_owned(), bytes: b"body { color: red }" };
    let stop = CancellationToken::new();
    let state = State::new(config, vec![css], stop.clone()).await?;
    let router = crate::router::router(state.clone());
    Ok(Site { router, state, stop, postgres, redis: Some(redis) })
}

/// An answer, read whole.
struct Page {
    status: StatusCode,
    headers: http::HeaderMap,
    text: String,
}

impl Page {
    fn leads_to(&self) -> &str {
        self.headers.get(header::LOCATION).and_then(|to| to.to_str().ok()).unwrap_or_default()
    }

    fn cookie(&self) -> Option<String> {
        let set = self.headers.get(header::SET_COOKIE)?.to_str().ok()?;
        Some(set.split(';').next()?.to_owned())
    }

    fn says(&self, text: &str) -> bool {
        self.text.contains(text)
    }
}

impl Site {
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>> {
        let response = self.router.clone().oneshot(request).await?;
        // Whoever asked too often is told when to ask again, wherever that was.
        let wait = response.headers().get(header::RETRY_AFTER);
        let wait = wait.map(|wait| wait.to_str().unwrap_or_default().parse::<u64>());
        match response.status() {
            StatusCode::TOO_MANY_REQUESTS => assert!(matches!(wait, Some(Ok(1..=3600))), "{wait:?}"),
            StatusCode::SERVICE_UNAVAILABLE => {}
            status => assert!(wait.is_none(), "{status} says when to ask again: {wait:?}"),
        }
        Ok(response)
    }

    async fn read(&self, request: Request<Body>) -> Result<Page> {
        let response = self.send(request).await?;
        let (head, body) = response.into_parts();
        let bytes = timeout(Duration::from_secs(10), body.collect()).await??.to_bytes();
        Ok(Page { status: head.status, headers: head.headers, text: String::from_utf8(bytes.to_vec())? })
    }

    async fn get(&self, path: &str, cookie: &str) -> Result<Page> {
        self.read(request(Method::GET, path, cookie).body(Body::empty())?).await
    }

    /// A form of the site itself.
    async fn post(&self, path: &str, cookie: &str, fields: &[(&str, &str)]) -> Result<Page> {
        let request = request(Method::POST, path, cookie).header("sec-fetch-site", "same-origin");
        self.read(request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(form(fields))?).await
    }

    /// A new user's cookie and actor.
    async fn user(&self) -> Result<(String, Actor)> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let email = format!("user{}@fernway.example", NEXT.fetch_add(1, Ordering::Relaxed));
        let typed = [("name", "Ines Falk"), ("email", email.as_str()), ("password", PASSWORD)];
        let made = self.post("/signup", "", &typed).await?;
        assert_eq!((made.status, made.leads_to()), (StatusCode::SEE_OTHER, "/signin?new=yes"));
        let cookie = self.sign_in(&email).await?;
        let user = self.state.commands.sign_in(&email, &Secret::new(PASSWORD.to_owned())).await?;
        let customer = self.state.commands.user(user).await?.customer;
        Ok((cookie, Actor { user, customer, door: Door::Page, origin: None, key: None }))
    }

    async fn sign_in(&self, email: &str) -> Result<String> {
        let page = self.post("/signin", "", &[("email", email), ("password", PASSWORD)]).await?;
        assert_eq!((page.status, page.leads_to()), (StatusCode::SEE_OTHER, "/apps"), "{}", page.text);
        page.cookie().context("signing in sets a cookie")
    }

    async fn app(&self, actor: &Actor, name: &str) -> Result<AppName> {
        Ok(self.state.commands.app_create(actor, name).await?)
    }

    /// The same commands by another role of the database.
    async fn commands(&self, database_url: String) -> Result<Commands> {
        let urls = self.state.site.urls.clone();
        let config = commands::Config { database_url: Secret::new(database_url), logs: None, urls, seal: None };
        Ok(Commands::connect(config).await?)
    }

    async fn push(&self, actor: &Actor, app: &AppName, subject: &str) -> Result<i64> {
        let receiver = self.commands(self.postgres.url_as("berth_receiver")).await?;
        let target = receiver.push_target(actor, app).await?;
        let push = NewPush {
            commit: "9c41e7b0d2f4a6b8c0d2e4f6a8b0c2d4e6f8a0b2".parse()?,
            subject: subject.to_owned(),
            branch: "main".to_owned(),
            before: None,
            source: "ab".repeat(32).parse()?,
            bundle: None,
        };
        Ok(receiver.deploy_create(actor, target.app, push).await?)
    }
}

fn request(method: Method, path: &str, cookie: &str) -> http::request::Builder {
    let builder = Request::builder().method(method).uri(path);
    let builder =
        builder.header("host", HOST).header("x-forwarded-for", "192.0.2.7").header("x-forwarded-proto", "http");
    if cookie.is_empty() { builder } else { builder.header(header::COOKIE, cookie) }
}

fn form(fields: &[(&str, &str)]) -> Body {
    let escape = |text: &str| -> String {
        text.bytes()
            .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
            .collect()
    };
    let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
    Body::from(fields.join("&"))
}

#[tokio::test]
async fn a_person_signs_up_adds_a_key_makes_an_app_and_signs_out() -> Result<()> {
    let site = site().await?;
    let (cookie, actor) = site.user().await?;
    assert_eq!(site.get("/apps", &cookie).await?.leads_to(), "/apps/new", "nobody sees an empty list");

    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKwvxHwVdGIpMRRmFPBzrmjnP8JhZEdGZ+nHQ4mTJJW6 ines@laptop";
    let added = site.post("/account/keys", &cookie, &[("key", key), ("key-name", ""), ("to", "new")]).await?;
    assert_eq!((added.status, added.leads_to()), (StatusCode::SEE_OTHER, "/apps/new"), "{}", added.text);
    let account = site.get("/account", &cookie).await?;
    assert!(account.says("SHA256:") && account.says("ines@laptop"), "{}", account.text);

    let again = site.post("/account/keys", &cookie, &[("key", key), ("key-name", "")]).await?;
    assert_eq!(again.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(again.says("known to Berth already"), "{}", again.text);

    let made = site.post("/apps/new", &cookie, &[("name", "orchard")]).await?;
    assert_eq!((made.status, made.leads_to()), (StatusCode::SEE_OTHER, "/apps/orchard"));
    let app = site.get("/apps/orchard", &cookie).await?;
    assert_eq!(app.status, StatusCode::OK);
    assert!(app.says("git remote add berth ssh://berth@localhost:2222/orchard.git"), "{}", app.text);
    assert!(site.get("/apps", &cookie).await?.says("http://orchard.localhost:8080"));

    let id = site.state.commands.keys(&actor).await?[0].id;
    let removed = site.post(&format!("/account/keys/{id}/remove"), &cookie, &[]).await?;
    assert_eq!(removed.leads_to(), "/account#keys");
    assert!(site.state.commands.keys(&actor).await?.is_empty());

    assert_eq!(site.post("/signout", &cookie, &[]).await?.leads_to(), "/");
    assert_eq!(site.get("/apps", &cookie).await?.leads_to(), "/signin?next=/apps");
    Ok(())
}

#[tokio::test]
async fn every_answer_forbids_scripts_and_styles_of_others() -> Result<()> {
    let site = site().await?;
    let (cookie, actor) = site.user().await?;
    let app = site.app(&actor, "orchard").await?;
    let number = site.push(&actor, &app, "Show stock per branch").await?;
    let deploy = format!("/apps/orchard/deploys/{number}");
    let pages = [
        "/",
        "/signup",
        "/signin",
        "/signin/link/x",
        "/account",
        "/apps",
        "/apps/new",
        "/apps/orchard",
        "/account/activity",
        "/reset",
        "/reset/x",
        "/confirm/x",
        "/operator/servers",
        &deploy,
        "/apps/nobodys",
        "/nothing",
        "/favicon.ico",
        "/assets/x/berth.css",
        "/assets/x/y",
        "/apps/orchard/deploys/99",
        "/apps/a%20b",
        "/apps/orchard/deploys/x",
    ];
    for path in pages {
        for cookie in ["", cookie.as_str()] {
            let page = site.get(path, cookie).await?;
            let header = |name: &str| page.headers.get(name).and_then(|value| value.to_str().ok());
            assert_eq!(header("content-security-policy"), Some(guard::CSP), "{path}");
            assert_eq!(header("x-content-type-options"), Some("nosniff"), "{path}");
            assert!(header("cache-control").is_some(), "{path}");
            if header("content-type").is_some_and(|kind| kind.starts_with("text/html")) {
                assert_eq!(page.text.matches("<h1").count(), 1, "{path} has one heading");
                assert!(page.says("href=\"#main\""), "{path} has a skip link");
                for never in [" style=", "<style", "javascript:", " onclick="] {
                    assert!(!page.says(never), "{path}: {never}");
                }
                for script in page.text.split("<script").skip(1) {
                    assert!(script.contains("src=\"/assets/"), "{path}: {script}");
                }
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_change_that_another_site_sends_is_refused() -> Result<()> {
    let site = site().await?;
    let (cookie, actor) = site.user().await?;
    let changes = [
        "/signup",
        "/signin",
        "/signin/link/x",
        "/signout",
        "/account/keys",
        "/account/keys/1/remove",
        "/account/tokens",
        "/account/tokens/1/revoke",
        "/account/signout-everywhere",
        "/account/password",
        "/account/confirm",
        "/reset",
        "/reset/x",
        "/confirm/x",
        "/operator/customers/1/approve",
        "/operator/customers/1/limits",
        "/operator/mail/1/again",
        "/apps/new",
    ];
    let foreign: [&[(&str, &str)]; 4] = [
        &[],
        &[("origin", "http://evil.example")],
        &[("sec-fetch-site", "cross-site"), ("origin", "http://localhost:8080")],
        // An app beside the site.
        &[("sec-fetch-site", "same-site"), ("origin", "http://hello.localhost:8080")],
    ];
    for path in changes {
        for headers in foreign {
            let mut request =
                request(Method::POST, path, &cookie).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let page = site.read(request.body(form(&[("name", "planted")]))?).await?;
            assert_eq!(page.status, StatusCode::FORBIDDEN, "{path} {headers:?}");
            assert!(page.says("That was not sent from here"));
        }
    }
    assert!(site.state.commands.apps(&actor).await?.is_empty());
    assert_eq!(site.get("/apps/new", &cookie).await?.status, StatusCode::OK, "still signed in");
    Ok(())
}

#[tokio::test]
async fn another_customers_app_is_as_absent_as_one_that_is_not_there() -> Result<()> {
    let site = site().await?;
    let (_, owner) = site.user().await?;
    let (stranger, _) = site.user().await?;
    let app = site.app(&owner, "orchard").await?;
    let number = site.push(&owner, &app, "x").await?;
    let one = format!("/deploys/{number}");
    let all = [
        "",
        "/events",
        &one,
        &format!("{one}/events"),
        "/deploys/events",
        "/logs/events",
        "/config/events",
        "/usage",
        "/usage/events",
    ];
    for rest in all {
        let theirs = site.get(&format!("/apps/orchard{rest}"), &stranger).await?;
        let nobodys = site.get(&format!("/apps/nobodys{rest}"), &stranger).await?;
        assert_eq!((theirs.status, nobodys.status), (StatusCode::NOT_FOUND, StatusCode::NOT_FOUND), "{rest}");
        let timeless = |page: &Page| page.text.split("<footer").next().unwrap_or_default().to_owned();
        assert_eq!(timeless(&theirs), timeless(&nobodys), "{rest}");
    }
    Ok(())
}

#[tokio::test]
async fn buttons_of_an_app_do_what_they_say_or_say_why_not() -> Result<()> {
    let site = site().await?;
    let (cookie, owner) = site.user().await?;
    let app = site.app(&owner, "orchard").await?;
    let number = site.push(&owner, &app, "Larger covers").await?;
    assert!(site.get("/apps/orchard", &cookie).await?.says("/apps/orchard/deploys/1/cancel"));
    let cancel = format!("/apps/orchard/deploys/{number}/cancel");
    assert_eq!(site.post(&cancel, &cookie, &[]).await?.leads_to(), "/apps/orchard");
    let late = site.post(&cancel, &cookie, &[]).await?;
    assert_eq!(late.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(late.says("v1 cannot be canceled any more."), "{}", late.text);

    assert_eq!(site.post("/apps/orchard/stop", &cookie, &[]).await?.leads_to(), "/apps/orchard");
    let page = site.get("/apps/orchard", &cookie).await?;
    assert!(page.says("It is stopped.") && page.says("/apps/orchard/start"), "{}", page.text);
    let refused = site.post("/apps/orchard/deploys/1/again", &cookie, &[]).await?;
    assert!(refused.says("The app is stopped."), "{}", refused.text);
    site.post("/apps/orchard/start", &cookie, &[]).await?;
    site.post("/apps/orchard/deploys/1/again", &cookie, &[]).await?;
    assert!(site.get("/apps/orchard", &cookie).await?.says("v1 once more"));
    assert!(site.post("/apps/orchard/scale", &cookie, &[("web", "many")]).await?.says("no number of instances"));

    let (other, _) = site.user().await?;
    assert_eq!(site.post("/apps/orchard/stop", &other, &[]).await?.status, StatusCode::NOT_FOUND);
    let wrong = site.post("/apps/orchard/delete", &cookie, &[("name", "apple")]).await?;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(wrong.says("That is not its name."), "{}", wrong.text);
    assert_eq!(site.post("/apps/orchard/delete", &cookie, &[("name", "orchard")]).await?.leads_to(), "/apps");
    assert_eq!(site.get("/apps/orchard", &cookie).await?.status, StatusCode::NOT_FOUND);
    Ok(())
}

#[tokio::test]
async fn what_was_typed_is_kept_but_never_a_secret() -> Result<()> {
    let site = site().await?;
    let typed = [("name", "Ines \"<b>\" Falk"), ("email", "not an address"), ("password", "short-secret")];
    let page = site.post("/signup", "", &typed).await?;
    assert_eq!(page.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        page.says("not an address") && page.says("aria-invalid=\"true\"") && page.says("email-err"),
        "{}",
        page.text
    );
    assert!(!page.says("<b>\"") && !page.says("short-secret"), "{}", page.text);

    let page = site.post("/signin", "", &[("email", "ines@fernway.example"), ("password", "wrong-secret")]).await?;
    assert_eq!(page.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(page.says("value=\"ines@fernway.example\"") && !page.says("wrong-secret"), "{}", page.text);

    let (cookie, _) = site.user().await?;
    let page = site.post("/apps/new", &cookie, &[("name", "-<i>Shop")]).await?;
    assert_eq!(page.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(page.says("value=\"-&lt;i&gt;Shop\"") || page.says("value=\"-<i>Shop\""), "{}", page.text);
    assert!(page.says("id=\"name-err\""), "{}", page.text);

    let private =
        "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmU\n-----END OPENSSH PRIVATE KEY-----";
    let page = site.post("/account/keys", &cookie, &[("key", private), ("key-name", "laptop")]).await?;
    assert_eq!(page.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(page.says("private key") && page.says("value=\"laptop\"") && !page.says("b3BlbnNzaC1"), "{}", page.text);
    Ok(())
}

#[tokio::test]
async fn hostile_words_stay_words() -> Result<()> {
    let site = site().await?;
    let (cookie, actor) = site.user().await?;
    let app = site.app(&actor, "orchard").await?;
    let number = site.push(&actor, &app, "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>").await?;
    for path in ["/apps/orchard".to_owned(), format!("/apps/orchard/deploys/{number}")] {
        let page = site.get(&path, &cookie).await?;
        assert!(page.says("&lt;script&gt;alert(1)"), "{}", page.text);
        assert!(!page.says("<script>alert") && !page.says("<img src=x"), "{}", page.text);
    }
    Ok(())
}

#[tokio::test]
async fn the_site_has_its_names_and_no_other() -> Result<()> {
    let site = site().await?;
    for host in ["evil.example", "localhost.evil.example", "", "127.0.0.1:8080"] {
        let request = Request::builder().uri("/").header("host", host).body(Body::empty())?;
        assert_eq!(site.send(request).await?.status(), StatusCode::MISDIRECTED_REQUEST, "{host}");
    }
    Ok(())
}

/// Reads a stream until it has said `text`.
async fn hears(body: &mut Body, text: &str) -> Result<String> {
    let mut heard = String::new();
    let listening = async {
        while !heard.contains(text) {
            let frame = body.frame().await.context("the stream ended")??;
            if let Some(data) = frame.data_ref() {
                heard.push_str(std::str::from_utf8(data)?);
            }
        }
        anyhow::Ok(())
    };
    timeout(Duration::from_secs(20), listening).await.with_context(|| format!("waiting for {text:?}"))??;
    Ok(heard)
}

#[tokio::test]
async fn a_stream_says_what_changed_and_ends_with_its_session() -> Result<()> {
    let site = site().await?;
    let (cookie, actor) = site.user().await?;
    let app = site.app(&actor, "orchard").await?;
    let response =
        site.send(request(Method::GET, "/apps/orchard/events?after=0.0.0", &cookie).body(Body::empty())?).await?;
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    let mut body = response.into_body();
    hears(&mut body, "Not deployed").await?;

    site.push(&actor, &app, "Show stock per branch").await?;
    let heard = hears(&mut body, "Show stock per branch").await?;
    assert!(heard.contains("event: region\ndata: state "), "{heard}");
    assert!(heard.contains("v1 is being deployed"), "{heard}");

    site.post("/signout", &cookie, &[]).await?;
    let rest =
        timeout(Duration::from_secs(10), body.collect()).await.context("the stream goes on after signing out")?;
    rest?;

    let signed_out = site.get("/apps/orchard/events", &cookie).await?;
    assert_eq!(signed_out.status, StatusCode::UNAUTHORIZED);
    Ok(())
}

#[tokio::test]
async fn open_streams_end_when_the_site_stops() -> Result<()> {
    let site = site().await?;
    let (cookie, actor) = site.user().await?;
    site.app(&actor, "orchard").await?;
    let mut body =
        site.send(request(Method::GET, "/apps/orchard/events", &cookie).body(Body::empty())?).await?.into_body();
    hears(&mut body, "Not deployed").await?;
    site.stop.cancel();
    timeout(Duration::from_secs(10), body.collect()).await.context("the stream goes on")??;
    Ok(())
}

#[tokio::test]
async fn a_file_is_kept_for_ever_under_its_builds_address_only() -> Result<()> {
    let site = site().await?;
    let now = site.get(&format!("{}/berth.css", site.state.assets.base()), "").await?;
    assert_eq!((now.status, now.text.as_str()), (StatusCode::OK, "body { color: red }"));
    assert!(now.headers[header::CACHE_CONTROL].to_str()?.contains("immutable"));
    let old = site.get("/assets/0123456789ab/berth.css", "").await?;
    assert_eq!(old.headers[header::CACHE_CONTROL], "no-cache");
    assert_eq!(site.get("/assets/0123456789ab/secret.css", "").await?.status, StatusCode::NOT_FOUND);
    Ok(())
}
