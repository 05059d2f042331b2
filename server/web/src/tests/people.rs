//! Who sees what: every route × {signed out, not confirmed, not approved, another customer, the owner, the operator};
//! and the forms of people, as a browser sends them.

use commands::{ApprovalRule, Confirmation, Rules};
use domain::LinkKind;
use sha2::{Digest, Sha256};
use store::Db;

use super::*;

/// A person's cookie, by what they are.
struct People {
    site: Site,
    unconfirmed: String,
    unapproved: String,
    stranger: String,
    owner: String,
    operator: String,
    owner_is: Actor,
}

async fn people() -> Result<People> {
    let site = site_with(SignUp::Open).await?;
    let (owner, owner_is) = site.user().await?;
    let (stranger, _) = site.user().await?;
    let asks = async |email: &str, rules: Rules| {
        let password = Secret::new(PASSWORD.to_owned());
        let new = commands::SignUp { name: "Ada".to_owned(), email: email.to_owned(), password };
        site.state.commands.clone().with_rules(rules).sign_up(new, None).await?;
        site.sign_in(email).await
    };
    let by_mail = Rules { confirmation: Confirmation::ByMail, ..Rules::default() };
    let by_operator = Rules { approval: ApprovalRule::ByOperator, ..Rules::default() };
    let unconfirmed = asks("unconfirmed@fernway.example", by_mail).await?;
    let unapproved = asks("unapproved@fernway.example", by_operator).await?;
    let shell = site.commands(site.postgres.url().to_owned()).await?;
    let link = shell.user_create(&"olga@fernway.example".parse()?, "Olga", true).await?;
    let path = link.strip_prefix("http://localhost:8080").context("a link to the site")?;
    let operator = site.post(path, "", &[]).await?.cookie().context("a cookie")?;
    Ok(People { site, unconfirmed, unapproved, stranger, owner, operator, owner_is })
}

#[tokio::test]
async fn every_route_shows_to_each_kind_of_person_what_is_theirs() -> Result<()> {
    let people = people().await?;
    let site = &people.site;
    let app = site.app(&people.owner_is, "orchard").await?;
    site.push(&people.owner_is, &app, "x").await?;
    let customer = people.owner_is.customer;
    let month = domain::Month::of(crate::state::now());
    // One word a person: signed out, not confirmed, not approved, another customer, owner, operator.
    // `in`: sent to sign in. `--`: there is nothing. `on`: sent on.
    let (own, any, only) = ("in -- -- -- ok --", "in ok ok ok ok ok", "-- -- -- -- -- ok");
    let looks = [
        ("/account", any),
        ("/account/activity", any),
        ("/account/delete", any),
        ("/apps/new", any),
        ("/apps/orchard", own),
        ("/apps/orchard/activity", own),
        ("/apps/orchard/config", own),
        ("/apps/orchard/delete", own),
        ("/apps/orchard/deploys", own),
        ("/apps/orchard/deploys?before=x", "in -- -- -- -- --"),
        ("/apps/orchard/logs", own),
        ("/apps/orchard/usage", own),
        ("/apps/orchard/usage?range=30d", own),
        ("/apps/orchard/usage?range=2h", "in -- -- -- -- --"),
        // These tests have no logs process.
        ("/apps/orchard/logs/download", "in -- -- -- 500 --"),
        ("/apps/orchard/logs?text=a&text=b", "in -- -- -- -- --"),
        ("/apps/orchard/deploys/1", own),
        ("/apps/orchard/deploys/1/log", "in -- -- -- 500 --"),
        ("/billing", any),
        (&format!("/billing?month={month}"), any),
        ("/billing?month=2020-02", any),
        ("/billing?month=9999-01", "in -- -- -- -- --"),
        ("/billing?month=x", "in -- -- -- -- --"),
        (&format!("/billing/why/{month}"), any),
        (&format!("/billing/why/{month}?meter=cpu"), any),
        (&format!("/billing/why/{month}?app=orchard"), own),
        (&format!("/billing/why/{month}?app=orchard&meter=memory&day=1"), own),
        (&format!("/billing/why/{month}?app=orchard&day=32"), "in -- -- -- -- --"),
        (&format!("/billing/why/{month}?meter=x"), "in -- -- -- -- --"),
        ("/billing/why/x", "in -- -- -- -- --"),
        (&format!("/billing/why/{month}/readings.csv?app=orchard&meter=cpu"), own),
        (&format!("/billing/why/{month}/readings.csv"), "in -- -- -- -- --"),
        ("/operator/prices", only),
        ("/reset", "ok ok ok ok ok ok"),
        ("/confirm/x", "ok ok ok ok ok ok"),
        ("/reset/x", "401 401 401 401 401 401"),
        ("/operator", "-- -- -- -- -- on"),
        ("/operator/servers", only),
        ("/operator/customers", only),
        ("/operator/customers?state=waiting&q=a", only),
        (&format!("/operator/customers/{customer}"), only),
        ("/operator/decisions?app=orchard&customer=1", only),
        ("/operator/mail", only),
        ("/operator/mail?state=failed", only),
        ("/operator/customers/999999", "-- -- -- -- -- --"),
        ("/operator/customers/x", "-- -- -- -- -- --"),
        ("/operator/mail?before=x", "-- -- -- -- -- --"),
    ];
    let changes = [
        ("/apps/orchard/stop", "in -- -- -- on --"),
        ("/apps/orchard/start", "in -- -- -- on --"),
        ("/apps/orchard/restart", "in -- -- -- 422 --"),
        ("/apps/orchard/scale", "in -- -- -- 422 --"),
        ("/apps/orchard/config", "in -- -- -- on --"),
        ("/apps/orchard/config/many", "in -- -- -- 422 --"),
        ("/apps/orchard/config/unset", "in -- -- -- on --"),
        ("/apps/orchard/deploys/1/roll-back", "in -- -- -- 422 --"),
        ("/apps/orchard/deploys/1/again", "in -- -- -- 422 --"),
        ("/apps/orchard/deploys/1/cancel", "in -- -- -- on --"),
        // Nobody begins anything who is not confirmed, or not approved.
        ("/apps/new", "in 403 403 422 422 422"),
        ("/account/delete", "in 422 422 422 422 422"),
        ("/account/keys", "in 422 422 422 422 422"),
        ("/account/tokens", "in 422 422 422 422 422"),
        ("/account/confirm", "in on 422 422 422 422"),
        (&format!("/operator/customers/{customer}/refuse"), "-- -- -- -- -- on"),
        (&format!("/operator/customers/{customer}/approve"), "-- -- -- -- -- on"),
        (&format!("/operator/customers/{customer}/limits"), "-- -- -- -- -- 422"),
        ("/operator/mail/999999/again", "-- -- -- -- -- --"),
        ("/operator/prices", "-- -- -- -- -- 422"),
        ("/operator/prices/999999/take-back", "-- -- -- -- -- --"),
    ];
    every_route_is_in(&looks.map(|(path, _)| path), &changes.map(|(path, _)| path));
    let cookies = ["", &people.unconfirmed, &people.unapproved, &people.stranger, &people.owner, &people.operator];
    let told = |page: &Page| match (page.status.as_u16(), page.leads_to()) {
        (200, _) => "ok".to_owned(),
        (303, to) if to.starts_with("/signin") => "in".to_owned(),
        (303, _) => "on".to_owned(),
        (404, _) => "--".to_owned(),
        (other, _) => other.to_string(),
    };
    for (path, expected) in looks {
        let mut got = Vec::new();
        for cookie in cookies {
            got.push(told(&site.get(path, cookie).await?));
        }
        assert_eq!(got.join(" "), expected, "GET {path}");
    }
    for (path, expected) in changes {
        let mut got = Vec::new();
        for cookie in cookies {
            // A name that is one, a key that is none, a count that is none.
            let name = if path == "/apps/new" && cookie != people.unconfirmed && cookie != people.unapproved {
                "-"
            } else {
                "shop"
            };
            got.push(told(&site.post(path, cookie, &[("name", name), ("key", "x"), ("web", "x")]).await?));
        }
        assert_eq!(got.join(" "), expected, "POST {path}");
    }
    // What is not theirs looks like what is not there.
    let timeless = |page: &Page| page.text.split("<footer").next().unwrap_or_default().to_owned();
    let (hidden, nothing) =
        (site.get("/operator/servers", &people.owner).await?, site.get("/operator/nothing", &people.owner).await?);
    assert_eq!(hidden.status, nothing.status);
    let page = timeless(&hidden);
    assert!(page.contains("There is nothing here") && !page.contains("perator"), "{page}");
    Ok(())
}

/// Tested on their own, or the same for everybody.
const APART: &[&str] = &[
    "/",
    "/signup",
    "/signin",
    "/signin/link/{token}",
    "/signout",
    "/account/keys/{id}/remove",
    "/account/tokens/{id}/revoke",
    "/account/signout-everywhere",
    "/account/password",
    "/apps",
    "/events",
    "/apps/{app}/events",
    "/apps/{app}/deploys/events",
    "/apps/{app}/logs/events",
    "/apps/{app}/usage/events",
    "/apps/{app}/config/events",
    "/apps/{app}/deploys/{number}/events",
    "/assets/{hash}/{name}",
    "/favicon.ico",
];

/// A new route is in the matrix, or named above.
fn every_route_is_in(looks: &[&str], changes: &[&str]) {
    let is = |route: &str, path: &str| {
        let path = path.split('?').next().unwrap_or_default();
        let (route, path): (Vec<_>, Vec<_>) = (route.split('/').collect(), path.split('/').collect());
        route.len() == path.len() && route.iter().zip(path).all(|(r, p)| r.starts_with('{') || *r == p)
    };
    for line in include_str!("../router.rs").lines().filter(|line| line.trim().starts_with(".route(")) {
        let route = line.split('"').nth(1).unwrap_or_default();
        let in_all = |paths: &[&str]| paths.iter().any(|path| is(route, path));
        let found = in_all(looks) || in_all(changes);
        assert!(found || APART.contains(&route), "{route} is not in the matrix of who sees what");
    }
}

#[tokio::test]
async fn who_waits_is_told_kindly_on_every_page_and_the_operator_lets_them_begin() -> Result<()> {
    let people = people().await?;
    let site = &people.site;
    let waits = site.get("/apps/new", &people.unapproved).await?;
    assert!(
        waits.says("Your account waits for the operator.") && waits.says("look around meanwhile"),
        "{}",
        waits.text
    );
    let unconfirmed = site.get("/account", &people.unconfirmed).await?;
    assert!(
        unconfirmed.says("Confirm your e-mail address.") && unconfirmed.says("Send it again"),
        "{}",
        unconfirmed.text
    );
    for _ in 0..3 {
        site.post("/account/confirm", &people.unconfirmed, &[]).await?;
    }
    let too_many = site.post("/account/confirm", &people.unconfirmed, &[]).await?;
    assert_eq!(too_many.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(too_many.says("In an hour you can ask for another one."), "{}", too_many.text);

    let list = site.get("/operator/customers?state=waiting", &people.operator).await?;
    assert!(list.says("One waits for your approval."), "{}", list.text);
    let path = list.text.split("href=\"/operator/customers/").nth(1).and_then(|rest| rest.split('"').next());
    let path = format!("/operator/customers/{}", path.context("a customer waits")?);
    assert_eq!(site.post(&format!("{path}/approve"), &people.operator, &[]).await?.leads_to(), path);
    assert!(!site.get("/apps/new", &people.unapproved).await?.says("waits for the operator"));
    assert_eq!(site.post("/apps/new", &people.unapproved, &[("name", "quince")]).await?.leads_to(), "/apps/quince");

    let wrong = [("apps", "twelve"), ("memory", "512"), ("builds", "1"), ("build-minutes", "10"), ("disk", "100")];
    let page = site.post(&format!("{path}/limits"), &people.operator, &wrong).await?;
    assert_eq!(page.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        page.says("value=\"twelve\"") && page.says("id=\"apps-err\"") && page.says("value=\"512\""),
        "{}",
        page.text
    );
    let right = [("apps", "12"), ("memory", "512"), ("builds", "1"), ("build-minutes", "10"), ("disk", "100")];
    assert_eq!(site.post(&format!("{path}/limits"), &people.operator, &right).await?.leads_to(), path);
    let account = site.get("/account", &people.unapproved).await?;
    assert!(account.says("1 of 12") && account.says("of 512 MiB") && account.says("of 100 MiB"), "{}", account.text);
    assert!(account.says("Changed the limits") && account.says("Olga"), "{}", account.text);
    let mail = site.get("/operator/mail", &people.operator).await?;
    assert!(mail.says("Your account is approved") && mail.says("Try again"), "{}", mail.text);
    Ok(())
}

#[tokio::test]
async fn a_forgotten_password_is_set_anew_by_a_link_and_nothing_tells_who_is_known() -> Result<()> {
    let people = people().await?;
    let site = &people.site;
    let email = site.state.commands.user(people.owner_is.user).await?.email.to_string();
    let ask = async |email: &str| site.post("/reset", "", &[("email", email)]).await;
    let (known, unknown) = (ask(&email).await?, ask("nobody@fernway.example").await?);
    let timeless = |page: &Page| page.text.split("<footer").next().unwrap_or_default().to_owned();
    assert_eq!((known.status, timeless(&known)), (unknown.status, timeless(&unknown)));
    assert!(known.says("If that address has an account"), "{}", known.text);
    let wrong = ask("not an address").await?;
    assert!(
        wrong.status == StatusCode::UNPROCESSABLE_ENTITY && wrong.says("value=\"not an address\""),
        "{}",
        wrong.text
    );

    // As the sender does it.
    let sender = Db::open(&Secret::new(site.postgres.url_as("berth_control")), 1)?;
    let hash = Sha256::digest("token");
    store::mail::all::create_link(sender.pool(), &hash, people.owner_is.user, LinkKind::Reset, Duration::from_secs(60))
        .await?;
    assert!(site.get("/reset/token", "").await?.says("Set a new password"));
    let short = site.post("/reset/token", "", &[("password", "too-short")]).await?;
    assert!(
        short.status == StatusCode::UNPROCESSABLE_ENTITY
            && short.says("id=\"password-err\"")
            && !short.says("too-short")
    );
    let done = site.post("/reset/token", "", &[("password", "another four words here")]).await?;
    assert_eq!(done.leads_to(), "/signin?new=password");
    assert_eq!(site.get("/account", &people.owner).await?.leads_to(), "/signin?next=/account", "signed out everywhere");
    assert_eq!(site.post("/reset/token", "", &[("password", PASSWORD)]).await?.status, StatusCode::UNAUTHORIZED);

    let page = site.post("/signin", "", &[("email", &email), ("password", "another four words here")]).await?;
    let cookie = page.cookie().context("a cookie")?;
    let wrong = site.post("/account/password", &cookie, &[("old", "a wrong old one"), ("password", PASSWORD)]).await?;
    assert!(
        wrong.status == StatusCode::UNPROCESSABLE_ENTITY
            && wrong.says("id=\"old-err\"")
            && !wrong.says("a wrong old one")
    );
    let both = [("old", "another four words here"), ("password", PASSWORD)];
    assert_eq!(site.post("/account/password", &cookie, &both).await?.leads_to(), "/signin?new=password");
    assert_eq!(site.get("/account", &cookie).await?.leads_to(), "/signin?next=/account");
    site.sign_in(&email).await?;
    Ok(())
}
