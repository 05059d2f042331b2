//! The JSON API: its description, and who may ask it what.

use std::collections::BTreeMap;

use commands::{Confirmation, NewToken, Rules};
use domain::TokenScope;
use http::request::Builder;
use serde_json::{Value, json};

use super::*;
use crate::api::description;

mod bodies;
mod follow;

/// How an answer was made.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: http::HeaderMap,
    text: String,
    json: Value,
}

impl Answer {
    /// `error.…` of what was refused.
    fn error(&self, what: &str) -> &str {
        self.json["error"][what].as_str().unwrap_or_default()
    }
}

/// Whoever asks comes from an address of their own, so that none waits for the guesses of another.
fn from_somewhere(method: Method, path: &str) -> Builder {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let address = format!("10.{}.{}.{}", n >> 16 & 255, n >> 8 & 255, n & 255);
    Request::builder().method(method).uri(path).header("host", HOST).header("x-forwarded-for", address)
}

impl Site {
    async fn ask(&self, method: &str, path: &str, token: &str, body: &str) -> Result<Answer> {
        let request = from_somewhere(method.parse()?, path).header(header::AUTHORIZATION, format!("Bearer {token}"));
        self.answer(request.body(Body::from(body.to_owned()))?).await
    }

    async fn answer(&self, request: Request<Body>) -> Result<Answer> {
        let asked = format!("{} {}", request.method(), request.uri());
        let page = self.read(request).await?;
        let json =
            if page.text.is_empty() { Value::Null } else { serde_json::from_str(&page.text).unwrap_or_default() };
        assert!(page.status != StatusCode::INTERNAL_SERVER_ERROR, "{asked}: {}", page.text);
        assert!(!page.headers.contains_key(header::SET_COOKIE), "{asked} sets a cookie");
        assert!(!page.headers.contains_key("access-control-allow-origin"), "{asked} lets other sites in");
        assert_eq!(page.headers[header::CACHE_CONTROL], "no-store", "{asked}");
        Ok(Answer { status: page.status.as_u16(), headers: page.headers, text: page.text, json })
    }

    async fn token(&self, actor: &Actor, name: &str, scope: TokenScope) -> Result<String> {
        let new = NewToken { name: name.to_owned(), scope, lasts_days: Some(1) };
        Ok(self.state.commands.token_create(actor, &new).await?.token.expose().clone())
    }
}

fn openapi() -> Value {
    serde_json::from_str(description()).unwrap_or_default()
}

/// Every operation of the description: method, path, and what it says.
fn operations() -> Vec<(String, String, Value)> {
    let mut all = Vec::new();
    for (path, item) in openapi()["paths"].as_object().into_iter().flatten() {
        for (method, operation) in item.as_object().into_iter().flatten() {
            all.push((method.to_uppercase(), path.clone(), operation.clone()));
        }
    }
    all
}

#[tokio::test]
async fn the_description_is_the_one_that_is_checked_in() -> Result<()> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
    if std::env::var_os("BERTH_OPENAPI_WRITE").is_some() {
        std::fs::write(file, description())?;
    }
    let kept = std::fs::read_to_string(file).unwrap_or_default();
    assert!(
        kept == description(),
        "the API is not what server/web/openapi.json says. If that is meant, run\n  \
         BERTH_OPENAPI_WRITE=1 cargo test -p web the_description_is\nand commit the file"
    );
    let site = site().await?;
    let served = site.answer(from_somewhere(Method::GET, "/api/openapi.json").body(Body::empty())?).await?;
    assert_eq!((served.status, served.text.as_str()), (200, description()));
    // What programs are made from: names that are there once, and nothing that is not described.
    let mut names = BTreeMap::new();
    for (method, path, operation) in operations() {
        let name = operation["operationId"].as_str().unwrap_or_default().to_owned();
        assert!(!name.is_empty() && operation["summary"].is_string(), "{method} {path}");
        assert_eq!(names.insert(name.clone(), path.clone()), None, "{name} is there twice");
    }
    Ok(())
}

/// Who asks, by the token that they have.
struct Callers {
    site: Site,
    owner: Actor,
    all: Vec<(&'static str, Asks)>,
}

enum Asks {
    Token(String),
    Nothing,
    Cookie(String),
}

async fn callers() -> Result<Callers> {
    // The logs process does not run.
    let site = site_of(&format!("http://{HOST}"), SignUp::Open, Some("/run/berth-nowhere/logs".into())).await?;
    let (cookie, owner) = site.user().await?;
    let (_, stranger) = site.user().await?;
    let by_mail = Rules { confirmation: Confirmation::ByMail, ..Rules::default() };
    let password = Secret::new(PASSWORD.to_owned());
    let email = "unconfirmed@fernway.example";
    let new = commands::SignUp { name: "Una".to_owned(), email: email.to_owned(), password: password.clone() };
    site.state.commands.clone().with_rules(by_mail).sign_up(new, None).await?;
    let una = site.state.commands.sign_in(email, &password).await?;
    let una = Actor { user: una, customer: site.state.commands.user(una).await?.customer, ..owner.clone() };
    let shell = site.commands(site.postgres.url().to_owned()).await?;
    let link = shell.user_create(&"olga@fernway.example".parse()?, "Olga", true).await?;
    let olga = site.state.commands.redeem_link(link.rsplit('/').next().unwrap_or_default()).await?;
    let olga = Actor { user: olga, customer: site.state.commands.user(olga).await?.customer, ..owner.clone() };

    // A token that somebody made before their address was in doubt.
    site.postgres.execute(&format!("update users set confirmed = now() where id = {}", una.user)).await?;
    let unconfirmed = site.token(&una, "una", TokenScope::Write).await?;
    site.postgres.execute(&format!("update users set confirmed = null where id = {}", una.user)).await?;
    let revoked = site.token(&owner, "revoked", TokenScope::Write).await?;
    let id = site.state.commands.tokens(&owner).await?[0].id;
    site.state.commands.token_revoke(&owner, id).await?;
    let expired = site.token(&owner, "expired", TokenScope::Write).await?;
    site.postgres.execute("update api_token set expires = now() where name = 'expired'").await?;
    let all = vec![
        ("owner", Asks::Token(site.token(&owner, "owner", TokenScope::Write).await?)),
        ("read", Asks::Token(site.token(&owner, "read", TokenScope::Read).await?)),
        ("stranger", Asks::Token(site.token(&stranger, "stranger", TokenScope::Write).await?)),
        ("operator", Asks::Token(site.token(&olga, "operator", TokenScope::Write).await?)),
        ("unconfirmed", Asks::Token(unconfirmed)),
        ("revoked", Asks::Token(revoked)),
        ("expired", Asks::Token(expired)),
        ("out", Asks::Nothing),
        ("cookie", Asks::Cookie(cookie)),
    ];
    Ok(Callers { site, owner, all })
}

impl Callers {
    async fn ask(&self, as_: &Asks, method: &str, path: &str, body: &str) -> Result<Answer> {
        let request = from_somewhere(method.parse()?, path);
        let request = match as_ {
            Asks::Token(token) => request.header(header::AUTHORIZATION, format!("Bearer {token}")),
            Asks::Nothing => request,
            Asks::Cookie(cookie) => request.header(header::COOKIE, cookie).header("sec-fetch-site", "same-origin"),
        };
        self.site.answer(request.body(Body::from(body.to_owned()))?).await
    }
}

/// What an operation is asked with where that matters to who may: something that would be done.
fn good_body(path: &str) -> &'static str {
    match path.rsplit('/').next().unwrap_or_default() {
        "apps" => r#"{"name": "quince-WHO"}"#,
        "config" => r#"{"vars": [{"name": "A", "value": "1", "secret": false}]}"#,
        "processes" => r#"{"processes": {"web": {"count": 1}}}"#,
        "rollback" => r#"{"release": 1}"#,
        "keys" => r#"{"public": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKwvxHwVdGIpMRRmFPBzrmjnP8JhZEdGZ+nHQ4mTJJW6 x"}"#,
        _ => "",
    }
}

#[tokio::test]
async fn every_operation_answers_each_caller_with_what_is_theirs() -> Result<()> {
    let callers = callers().await?;
    let site = &callers.site;
    let app = site.app(&callers.owner, "orchard").await?;
    site.push(&callers.owner, &app, "x").await?;
    let operations = operations();
    assert!(operations.len() >= 25, "the description lost its operations");
    // The owner comes last: what they do stays done.
    let order = callers.all.iter().rev();
    for (who, asks) in order {
        // What ends things is asked for last.
        let mut sorted: Vec<_> = operations.iter().collect();
        sorted.sort_by_key(|(method, path, _)| (method == "DELETE", path.matches('/').count() < 5, path.clone()));
        for (method, path, operation) in sorted {
            let about = path.contains("{app}");
            let path = path.replace("{app}", "orchard").replace("{number}", "1").replace("{name}", "A");
            let said = format!("{who}: {method} {path}");
            let answer = callers.ask(asks, method, &path, &good_body(&path).replace("WHO", who)).await?;
            let described = operation["responses"].get(answer.status.to_string()).is_some();
            assert!(described, "{said} answers {}, which it does not describe: {}", answer.status, answer.text);
            let looks = method == "GET";
            let expected: &[u16] = match *who {
                "revoked" | "expired" | "out" | "cookie" => &[401],
                "read" if !looks => &[403],
                // Logs are not running here.
                "owner" | "read" if path.ends_with("/logs") => &[503],
                "owner" | "read" => &[200, 201, 202, 204, 422, 404],
                "stranger" | "operator" | "unconfirmed" if about => &[404],
                // Nobody begins anything who is not confirmed.
                "unconfirmed" if method == "POST" => &[403],
                // Whoever came first has the key.
                _ if path.ends_with("/keys") => &[200, 201, 422],
                _ => &[200, 201, 404],
            };
            assert!(expected.contains(&answer.status), "{said} answers {}: {}", answer.status, answer.text);
            match answer.status {
                200..300 => {}
                status => {
                    assert!(
                        !answer.error("message").is_empty() && !answer.error("kind").is_empty(),
                        "{said}: {answer:?}"
                    );
                    let asks_for_a_token = answer.headers.contains_key(header::WWW_AUTHENTICATE);
                    assert_eq!(asks_for_a_token, status == 401, "{said}");
                }
            }
            if *who == "owner" && answer.status == 404 {
                assert!(["/keys/A", "/config/A"].iter().any(|end| path.ends_with(end)), "{said}");
            }
        }
    }
    // What was asked for by the owner was done, and by nobody else before.
    let apps = site.state.commands.apps(&callers.owner).await?;
    assert_eq!(apps.iter().map(|app| app.name.as_str()).collect::<Vec<_>>(), ["quince-owner"]);
    Ok(())
}

#[tokio::test]
async fn what_is_not_theirs_looks_like_what_is_not_there() -> Result<()> {
    let callers = callers().await?;
    let site = &callers.site;
    let app = site.app(&callers.owner, "orchard").await?;
    site.push(&callers.owner, &app, "x").await?;
    let stranger = &callers.all[2].1;
    for (method, path, _) in operations().into_iter().filter(|(_, path, _)| path.contains("{app}")) {
        let path = path.replace("{number}", "1").replace("{name}", "A");
        let ask = async |app: &str| {
            let path = path.replace("{app}", app);
            callers.ask(stranger, &method, &path, good_body(&path)).await
        };
        let (theirs, nobodys) = (ask("orchard").await?, ask("nobodys").await?);
        assert_eq!((theirs.status, nobodys.status), (404, 404), "{method} {path}");
        assert_eq!(theirs.text.replace("orchard", "nobodys"), nobodys.text, "{method} {path}");
    }
    Ok(())
}

#[tokio::test]
async fn a_token_and_a_cookie_mean_nothing_on_each_others_routes() -> Result<()> {
    let callers = callers().await?;
    let site = &callers.site;
    site.app(&callers.owner, "orchard").await?;
    let (Asks::Token(token), Asks::Cookie(cookie)) = (&callers.all[0].1, &callers.all[8].1) else {
        anyhow::bail!("the order of callers changed")
    };
    for path in ["/account", "/apps", "/apps/orchard", "/apps/new"] {
        let request = from_somewhere(Method::GET, path).header(header::AUTHORIZATION, format!("Bearer {token}"));
        let page = site.read(request.body(Body::empty())?).await?;
        assert_eq!(page.leads_to(), format!("/signin?next={path}"));
        assert_eq!(site.get(path, cookie).await?.status, StatusCode::OK, "{path}");
    }
    // A page of another site sends what it likes: without the token's header it is nobody.
    let foreign = from_somewhere(Method::POST, "/api/v1/apps").header("origin", "http://evil.example");
    let answer =
        site.answer(foreign.header(header::COOKIE, cookie).body(Body::from(r#"{"name": "planted"}"#))?).await?;
    assert_eq!(answer.status, 401);
    // A program has no origin, and needs none.
    let bearer = format!("Bearer {token}");
    let odd = from_somewhere(Method::POST, "/api/v1/apps/orchard/stop").header("origin", "http://evil.example");
    assert_eq!(site.answer(odd.header(header::AUTHORIZATION, &bearer).body(Body::empty())?).await?.status, 204);
    let preflight = from_somewhere(Method::OPTIONS, "/api/v1/apps").header("origin", "http://evil.example");
    let preflight = site.answer(preflight.header("access-control-request-method", "POST").body(Body::empty())?).await?;
    assert!(preflight.status >= 400, "{preflight:?}");
    let elsewhere = Request::builder().uri("/api/v1/apps").header("host", "evil.example");
    let elsewhere = site.send(elsewhere.header(header::AUTHORIZATION, &bearer).body(Body::empty())?).await?;
    assert_eq!(elsewhere.status(), StatusCode::MISDIRECTED_REQUEST);
    Ok(())
}

#[tokio::test]
async fn what_is_no_address_or_no_way_to_ask_is_said_in_json() -> Result<()> {
    let site = site().await?;
    let (_, owner) = site.user().await?;
    let app = site.app(&owner, "orchard").await?;
    site.push(&owner, &app, "x").await?;
    let token = site.token(&owner, "t", TokenScope::Write).await?;
    for path in [
        "/api",
        "/api/",
        "/api/v1",
        "/api/v1/",
        "/api/v2/apps",
        "/api/v1/nothing",
        "/api/v1/apps/",
        "/api/v1/apps/orchard/",
        "/api/v1/apps/orchard/nothing",
        "/api/v1/apps/a%20b",
        "/api/v1/apps/%ff",
        "/api/v1/apps/orchard%2Fstop",
        "/api/v1/apps/..%2Forchard",
        "/api/v1/apps/orchard/deploys/x",
        "/api/v1/apps/orchard/deploys/-1",
        "/api/v1/apps/orchard/deploys/99999999999999999999",
        "/api/v1/apps/orchard/deploys/2",
        "/api/v1/apps/orchard/deploys/2/logs",
    ] {
        let answer = site.ask("GET", path, &token, "").await?;
        assert_eq!((answer.status, answer.error("kind")), (404, "not_found"), "{path}: {answer:?}");
    }
    for (method, path) in [
        ("PUT", "/api/v1/apps"),
        ("DELETE", "/api/v1/apps"),
        ("GET", "/api/v1/apps/orchard/stop"),
        ("POST", "/api/openapi.json"),
    ] {
        let answer = site.ask(method, path, &token, "").await?;
        assert_eq!((answer.status, answer.error("kind")), (405, "method_not_allowed"), "{method} {path}");
        assert!(answer.headers.contains_key(header::ALLOW), "{method} {path}");
    }
    let queries = [
        ("?limit=0", "limit"),
        ("?limit=201", "limit"),
        ("?limit=-1", "limit"),
        ("?limit=many", "limit"),
        ("?limit=1&limit=2", "limit"),
        ("?after=-", "after"),
        ("?after=", "after"),
        ("?afer=x", "afer"),
    ];
    for (query, field) in queries {
        let answer = site.ask("GET", &format!("/api/v1/apps{query}"), &token, "").await?;
        assert_eq!((answer.status, answer.error("kind"), answer.error("field")), (422, "invalid", field), "{answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn guesses_wait_by_address_and_a_token_waits_by_itself() -> Result<()> {
    let mut site = site().await?;
    let (_, owner) = site.user().await?;
    let good = site.token(&owner, "good", TokenScope::Read).await?;
    for away in [false, true] {
        if away {
            drop(site.redis.take());
        }
        let guess = async |address: &str, token: &str| {
            let request =
                Request::builder().uri("/api/v1/limits").header("host", HOST).header("x-forwarded-for", address);
            let request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
            site.answer(request.body(Body::empty())?).await
        };
        let from = format!("192.0.2.{}", 20 + i32::from(away));
        for n in 0..20 {
            assert_eq!(guess(&from, &format!("berth_{n:040}")).await?.status, 401);
        }
        let late = guess(&from, "berth_").await?;
        assert_eq!((late.status, late.error("kind")), (429, "too_many"));
        let wait: u64 = late.headers[header::RETRY_AFTER].to_str()?.parse()?;
        assert!((1..=60).contains(&wait), "{wait}");
        // Nobody is looked up from there meanwhile; elsewhere nothing changed.
        assert_eq!(guess(&from, &good).await?.status, 429);
        assert_eq!(guess("192.0.2.9", &good).await?.status, 200);
    }
    let mut statuses = BTreeMap::new();
    let mut last = None;
    for _ in 0..610 {
        let answer = site.ask("GET", "/api/v1/limits", &good, "").await?;
        *statuses.entry(answer.status).or_insert(0) += 1;
        last = Some(answer);
    }
    assert!(statuses[&429] >= 10 && statuses.len() == 2, "{statuses:?}");
    let last = last.context("it was asked")?;
    assert!(last.headers.contains_key(header::RETRY_AFTER) && last.error("message").contains("This token"), "{last:?}");
    let other = site.token(&owner, "other", TokenScope::Read).await?;
    assert_eq!(site.ask("GET", "/api/v1/limits", &other, "").await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn lists_come_in_parts_and_each_row_once() -> Result<()> {
    let site = site().await?;
    let (_, owner) = site.user().await?;
    let token = site.token(&owner, "t", TokenScope::Write).await?;
    let mut names = Vec::new();
    for n in 0..7 {
        names.push(format!("app{n}"));
        site.app(&owner, &format!("app{n}")).await?;
    }
    let app: AppName = "app0".parse()?;
    for n in 0..5 {
        site.push(&owner, &app, &format!("change {n}")).await?;
    }
    let all = async |path: &str, field: &str| -> Result<Vec<String>> {
        let (mut seen, mut after) = (Vec::new(), String::new());
        for _ in 0..20 {
            let part = site.ask("GET", &format!("{path}?limit=2{after}"), &token, "").await?;
            assert_eq!(part.status, 200, "{part:?}");
            let items = part.json["items"].as_array().context("items")?;
            assert!(items.len() <= 2);
            seen.extend(items.iter().map(|item| item[field].to_string().trim_matches('"').to_owned()));
            match part.json["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => return Ok(seen),
            }
        }
        anyhow::bail!("the list has no end")
    };
    assert_eq!(all("/api/v1/apps", "name").await?, names);
    assert_eq!(all("/api/v1/apps/app0/deploys", "number").await?, ["5", "4", "3", "2", "1"]);
    assert!(all("/api/v1/apps/app0/releases", "number").await?.is_empty());
    assert_eq!(
        all("/api/v1/apps/app0/activity", "verb").await?,
        ["push", "push", "push", "push", "push", "app create"]
    );
    let verbs = all("/api/v1/activity", "verb").await?;
    assert_eq!((verbs.len(), verbs.last().map(String::as_str)), (14, Some("user create")));
    Ok(())
}

#[tokio::test]
async fn use_and_cost_are_told_as_the_pages_tell_them() -> Result<()> {
    let site = site().await?;
    let (_, owner) = site.user().await?;
    site.app(&owner, "orchard").await?;
    let token = site.token(&owner, "t", TokenScope::Read).await?;
    let ask = async |path: &str| site.ask("GET", &format!("/api/v1{path}"), &token, "").await;
    for (range, points) in [("", 61), ("?range=1h", 61), ("?range=1d", 97), ("?range=30d", 91)] {
        let usage = ask(&format!("/apps/orchard/usage{range}")).await?;
        assert_eq!(usage.status, 200, "{usage:?}");
        assert_eq!(usage.json["points"].as_array().map(Vec::len), Some(points), "{range}");
        // Nobody looked: that is no zero.
        assert_eq!((&usage.json["total"], &usage.json["points"][0]["cores"]), (&Value::Null, &Value::Null));
    }
    let cost = ask("/apps/orchard/cost").await?;
    assert_eq!((cost.status, &cost.json["total"]), (200, &json!({ "cents": 0, "micros": 0 })), "{cost:?}");
    let (now, march) = (ask("/bill").await?, ask("/bill?month=2026-03").await?);
    assert_eq!((&now.json["running"], &march.json["month"]), (&json!(true), &json!("2026-03")), "{now:?} {march:?}");
    for (path, field) in [
        ("/apps/orchard/usage?range=2h", "range"),
        ("/apps/orchard/usage?rang=1h", "rang"),
        ("/bill?month=2026-13", "month"),
        ("/bill?month=", "month"),
        ("/bill?month=99999-01", "month"),
    ] {
        let wrong = ask(path).await?;
        assert_eq!((wrong.status, wrong.error("field")), (422, field), "{path}: {wrong:?}");
    }
    Ok(())
}

/// An app called like a route of ours would be unreachable, or look like a part of Berth.
#[test]
fn no_app_is_called_like_a_route_of_the_site() {
    for line in include_str!("../router.rs").lines().filter(|line| line.trim().starts_with(".route(")) {
        let route = line.split('"').nth(1).unwrap_or_default();
        let mut parts = route.split('/').skip(1);
        let first = parts.next().unwrap_or_default();
        let beside_an_app = parts.next().filter(|second| first == "apps" && !second.starts_with('{'));
        for word in [Some(first), beside_an_app].into_iter().flatten().filter(|word| !word.is_empty()) {
            assert!(word.parse::<AppName>().is_err(), "{route}: an app may be called {word}; see APPS_RESERVED");
        }
    }
    assert!("api".parse::<AppName>().is_err());
}

#[test]
fn the_description_says_who_may_ask() {
    let api = openapi();
    assert_eq!(api["openapi"].as_str().map(|version| &version[..4]), Some("3.1."));
    assert_eq!(api["security"], json!([{ "token": [] }]));
    assert_eq!(api["components"]["securitySchemes"]["token"], json!({ "type": "http", "scheme": "bearer" }));
}

#[tokio::test]
async fn as_many_apps_as_there_may_be_are_refused_by_what_to_do_at_each_door() -> Result<()> {
    let site = site().await?;
    let (cookie, owner) = site.user().await?;
    let token = site.token(&owner, "t", TokenScope::Write).await?;
    site.postgres.execute("update customer set apps_max = 1").await?;
    site.app(&owner, "orchard").await?;
    let refused = site.ask("POST", "/api/v1/apps", &token, r#"{"name": "meadow"}"#).await?;
    assert_eq!((refused.status, refused.error("kind"), refused.error("field")), (422, "limit", "name"), "{refused:?}");
    assert_eq!(refused.error("hint"), "Delete one, or ask the operator for more.");
    let page = site.post("/apps/new", &cookie, &[("name", "meadow")]).await?;
    assert_eq!(page.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(page.says("You have 1 app, as many as your limit allows. Delete one, or ask"), "{}", page.text);

    // None is called like a route of ours: its first word, or where an app's own name stands.
    site.postgres.execute("update customer set apps_max = 100").await?;
    let mut names = vec!["api", "set", "unset", "www"];
    for line in include_str!("../router.rs").lines().filter(|line| line.trim().starts_with(".route(")) {
        let mut words = line.split('"').nth(1).unwrap_or_default().split('/').skip(1);
        match (words.next(), words.next()) {
            (Some("apps"), Some(second)) => names.push(second),
            (Some(first), _) => names.push(first),
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase()));
    assert!(names.len() > 20 && names.contains(&"new") && names.contains(&"operator"), "{names:?}");
    for name in names {
        let said = site.ask("POST", "/api/v1/apps", &token, &format!(r#"{{"name": "{name}"}}"#)).await?;
        assert_eq!((said.status, said.error("field")), (422, "name"), "{name}: {said:?}");
        let page = site.post("/apps/new", &cookie, &[("name", name)]).await?;
        assert_eq!(page.status, StatusCode::UNPROCESSABLE_ENTITY, "{name}");
    }
    Ok(())
}
