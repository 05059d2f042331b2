//! Every form with each field missing, too long, hostile and repeated: it is done, or the form comes back.

use super::*;

const ODD: &[&str] = &[
    "",
    " ",
    "\u{0}",
    "\u{1b}[31m",
    "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>",
    "'; drop table app; --",
    "../../etc/passwd",
    "%00%ff",
    "\u{202e}\u{fffd}\u{10ffff}",
    "-1",
    "99999999999999999999",
];

/// Where it goes, and what is in it; nothing of it ends what the next one needs.
const FORMS: &[(&str, &[(&str, &str)])] = &[
    ("/signup", &[("name", "Ada"), ("email", "ada"), ("password", "short")]),
    ("/signin", &[("email", "ada@fernway.example"), ("password", "a wrong guess"), ("next", "/apps")]),
    ("/reset", &[("email", "ada")]),
    ("/reset/x", &[("password", "short")]),
    ("/account/password", &[("old", "a wrong one"), ("password", "short")]),
    ("/account/keys", &[("key", "x"), ("key-name", "laptop"), ("to", "new")]),
    ("/account/tokens", &[("token-name", ""), ("scope", "write"), ("lasts", "x")]),
    ("/account/delete", &[("email", "x")]),
    ("/apps/new", &[("name", "-")]),
    ("/apps/orchard/scale", &[("web", "x"), ("memory.web", "x")]),
    ("/apps/orchard/config", &[("name", "1"), ("value", "x"), ("secret", "on")]),
    ("/apps/orchard/config/many", &[("text", "x")]),
    ("/apps/orchard/config/unset", &[("name", "x")]),
    ("/apps/orchard/delete", &[("name", "x")]),
    ("/operator/customers/1/limits", &[("apps", "x"), ("memory", "1"), ("builds", "1"), ("build-minutes", "1")]),
    ("/operator/prices", &[("since", "x"), ("cpu-price", "x"), ("cpu-included", "x")]),
];

#[tokio::test]
async fn every_form_is_done_or_comes_back_whatever_is_in_it() -> Result<()> {
    let site = site().await?;
    let shell = site.commands(site.postgres.url().to_owned()).await?;
    let link = shell.user_create(&"olga@fernway.example".parse()?, "Olga", true).await?;
    let path = link.strip_prefix("http://localhost:8080").context("a link to the site")?;
    let cookie = site.post(path, "", &[]).await?.cookie().context("a cookie")?;
    assert_eq!(site.post("/apps/new", &cookie, &[("name", "orchard")]).await?.leads_to(), "/apps/orchard");
    let mut from = 0_u32;
    for (path, good) in FORMS {
        let mut check = async |fields: &[(&str, &str)]| {
            from += 1;
            let signed = if path.starts_with("/sign") || path.starts_with("/reset") { "" } else { &cookie };
            let mut request = request(Method::POST, path, signed).header("sec-fetch-site", "same-origin");
            // Each from elsewhere, so that none waits for another.
            let address = format!("10.0.{}.{}", from >> 8, from & 255);
            request.headers_mut().context("headers")?.insert("x-forwarded-for", address.parse()?);
            let request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
            let page = site.read(request.body(form(fields))?).await?;
            let shown: String = format!("{fields:?}").chars().take(300).collect();
            let said = format!("{path} with {shown}: {} {}", page.status, page.text);
            assert!(matches!(page.status.as_u16(), 200 | 303 | 401 | 404 | 422 | 429), "{said}");
            assert!(!page.says("That was not understood"), "{said}");
            assert!(!page.says("<script>alert") && !page.says("<img src=x"), "{said}");
            anyhow::Ok(page)
        };
        let whole = check(good).await?;
        let long = "x".repeat(12_000);
        for (n, (name, value)) in good.iter().enumerate() {
            let mut fields = good.to_vec();
            fields.remove(n);
            check(&fields).await?;
            for odd in ODD.iter().chain([&long.as_str()]) {
                let mut fields = good.to_vec();
                fields[n].1 = odd;
                check(&fields).await?;
            }
            let mut fields = good.to_vec();
            fields.insert(n, (*name, "said before"));
            let twice = check(&fields).await?;
            if whole.status != StatusCode::TOO_MANY_REQUESTS && twice.status != StatusCode::TOO_MANY_REQUESTS {
                assert_eq!(twice.status, whole.status, "{path}: {name} twice");
            }
            assert!(!twice.says("said before"), "{path}: {name} twice: {}", twice.text);
            let kept = whole.says(&format!("value=\"{value}\""));
            assert!(!kept || twice.says(&format!("value=\"{value}\"")), "{path}: {name} twice: {}", twice.text);
        }
    }
    Ok(())
}
