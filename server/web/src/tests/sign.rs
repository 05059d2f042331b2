//! Signing in and out: sessions, their cookie, links, guesses, and what is left while Redis is away.

use super::*;

#[tokio::test]
async fn guesses_wait_also_while_redis_is_away() -> Result<()> {
    let mut site = site().await?;
    for away in [false, true] {
        if away {
            drop(site.redis.take());
        }
        let email = format!("victim-{away}@fernway.example");
        let wrong = [("email", email.as_str()), ("password", "a wrong guess")];
        for guess in 1..=5 {
            assert_eq!(
                site.post("/signin", "", &wrong).await?.status,
                StatusCode::UNPROCESSABLE_ENTITY,
                "guess {guess}"
            );
        }
        let page = site.post("/signin", "", &wrong).await?;
        assert_eq!(page.status, StatusCode::TOO_MANY_REQUESTS);
        assert!(page.headers.contains_key(header::RETRY_AFTER) && page.says(&email), "{}", page.text);
    }
    Ok(())
}

#[tokio::test]
async fn without_redis_the_site_says_so_and_public_pages_are_there() -> Result<()> {
    let mut site = site().await?;
    let (cookie, _) = site.user().await?;
    let email = "later@fernway.example";
    site.post("/signup", "", &[("name", "Late"), ("email", email), ("password", PASSWORD)]).await?;
    drop(site.redis.take());
    assert_eq!(site.get("/", &cookie).await?.status, StatusCode::OK);
    for page in [
        site.get("/apps", &cookie).await?,
        site.post("/signin", "", &[("email", email), ("password", PASSWORD)]).await?,
    ] {
        assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE, "{}", page.text);
        assert!(page.says("Try again in a minute"), "{}", page.text);
        assert!(page.cookie().is_none());
    }
    Ok(())
}

#[tokio::test]
async fn signing_in_takes_a_new_session_and_signing_out_everywhere_ends_all() -> Result<()> {
    let site = site().await?;
    let email = "two@fernway.example";
    site.post("/signup", "", &[("name", "Two"), ("email", email), ("password", PASSWORD)]).await?;
    let planted = "berth-8080=AAAAAAAAAAAAAAAAAAAAAA";
    let page = site.post("/signin", planted, &[("email", email), ("password", PASSWORD)]).await?;
    let first = page.cookie().context("a cookie")?;
    assert_ne!(first, planted);
    let set = page.headers.get(header::SET_COOKIE).and_then(|set| set.to_str().ok()).unwrap_or_default();
    assert!(set.contains("HttpOnly") && set.contains("SameSite=Lax") && set.contains("Path=/"), "{set}");

    let second = site.sign_in(email).await?;
    assert_eq!(site.post("/account/signout-everywhere", &second, &[]).await?.leads_to(), "/signin");
    for old in [first, second] {
        assert_eq!(site.get("/account", &old).await?.leads_to(), "/signin?next=/account");
    }
    assert_eq!(site.get("/account", &site.sign_in(email).await?).await?.status, StatusCode::OK);
    Ok(())
}

#[tokio::test]
async fn on_tls_the_cookie_belongs_to_this_host_alone_and_can_be_taken_back() -> Result<()> {
    let site = site_at("https://localhost", SignUp::Open).await?;
    let email = "tls@fernway.example";
    site.post("/signup", "", &[("name", "Tls"), ("email", email), ("password", PASSWORD)]).await?;
    let cookie = site.sign_in(email).await?;
    assert!(cookie.starts_with("__Host-berth="), "{cookie}");
    let out = site.post("/signout", &cookie, &[]).await?;
    let set = out.headers.get(header::SET_COOKIE).and_then(|set| set.to_str().ok()).unwrap_or_default();
    for part in ["__Host-berth=", "Max-Age=0", "Path=/", "Secure"] {
        assert!(set.contains(part), "{set}");
    }
    assert!(out.headers.contains_key(header::STRICT_TRANSPORT_SECURITY));
    Ok(())
}

#[tokio::test]
async fn who_is_signed_out_sees_public_pages_and_is_sent_to_sign_in_from_the_others() -> Result<()> {
    let site = site().await?;
    let (_, owner) = site.user().await?;
    site.app(&owner, "orchard").await?;
    for path in ["/account", "/apps", "/apps/new", "/apps/orchard", "/apps/nobodys", "/apps/orchard/deploys/1"] {
        let page = site.get(path, "").await?;
        assert_eq!((page.status, page.leads_to()), (StatusCode::SEE_OTHER, format!("/signin?next={path}").as_str()));
    }
    for path in ["/account/keys", "/account/keys/1/remove", "/account/signout-everywhere", "/apps/new"] {
        let page = site.post(path, "", &[("name", "planted"), ("key", "x")]).await?;
        assert_eq!((page.status, page.leads_to()), (StatusCode::SEE_OTHER, "/signin"), "{path}");
    }
    let page = site.get("/signin?next=//evil.example", "").await?;
    assert!(!page.says("evil.example"), "{}", page.text);
    assert!(site.get("/signin?next=/apps/orchard", "").await?.says("value=\"/apps/orchard\""));
    Ok(())
}

#[tokio::test]
async fn a_link_signs_in_once_and_only_by_its_button() -> Result<()> {
    let site = site().await?;
    // The link is made by root's shell, as the owner of the database.
    let owner = site.commands(site.postgres.url().to_owned()).await?;
    let link = owner.user_create(&"op@fernway.example".parse()?, "Op", true).await?;
    let path = link.strip_prefix("http://localhost:8080").context("a link to the site")?;
    for _ in 0..2 {
        let page = site.get(path, "").await?;
        assert!(page.status == StatusCode::OK && page.cookie().is_none() && page.says("<button"), "{}", page.text);
    }
    let page = site.post(path, "", &[]).await?;
    assert_eq!((page.status, page.leads_to()), (StatusCode::SEE_OTHER, "/apps"), "{}", page.text);
    let cookie = page.cookie().context("a cookie")?;
    assert_eq!(site.get("/account", &cookie).await?.status, StatusCode::OK);
    let page = site.post(path, "", &[]).await?;
    assert_eq!(page.status, StatusCode::UNAUTHORIZED);
    assert!(page.says("used before"), "{}", page.text);
    Ok(())
}

#[tokio::test]
async fn where_the_operator_makes_accounts_nobody_else_does() -> Result<()> {
    let site = site_with(SignUp::Closed).await?;
    let page = site.get("/signup", "").await?;
    assert!(page.says("made by the operator") && !page.says("<form"), "{}", page.text);
    let typed = [("name", "Ines"), ("email", "ines@fernway.example"), ("password", PASSWORD)];
    assert_eq!(site.post("/signup", "", &typed).await?.status, StatusCode::NOT_FOUND);
    Ok(())
}
