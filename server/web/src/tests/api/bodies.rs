//! Every body with each field missing, of another type, too long, hostile and repeated: it is refused by name, or
//! done, and never breaks anything.

use super::*;

/// Instead of what belongs there.
fn odd_values() -> Vec<Value> {
    let hostile = [
        "",
        " ",
        "\u{0}",
        "a\u{0}b",
        "\u{1b}[31m",
        "<script>alert(1)</script>",
        "'; drop table app; --",
        "../../etc/passwd",
        "%00%ff",
        "\u{202e}\u{fffd}\u{10ffff}",
        "{{7*7}}${7*7}",
        "new",
        "api",
        "PORT",
        "BERTH_APP",
    ];
    let mut all: Vec<Value> = hostile.iter().map(|text| json!(text)).collect();
    all.push(json!("x".repeat(100)));
    all.push(json!("x".repeat(40_000)));
    all.extend([
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1.5),
        json!(65_536),
        json!(u64::MAX),
        json!(1e300),
    ]);
    all.extend([json!([]), json!({}), json!([[]]), json!([null]), json!({ "": {} }), json!({ "web": { "web": 1 } })]);
    all
}

/// The place of each value within another, as keys and positions.
fn places(value: &Value, at: &[String], all: &mut Vec<Vec<String>>) {
    let mut each = |key: String, value: &Value| {
        let at = [at, &[key]].concat();
        all.push(at.clone());
        places(value, &at, all);
    };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| each(key.clone(), value)),
        Value::Array(items) => items.iter().enumerate().for_each(|(n, value)| each(n.to_string(), value)),
        _ => {}
    }
}

/// The object or list that a place is in, and its key there.
fn within<'a>(value: &'a mut Value, place: &'a [String]) -> Option<(&'a mut Value, &'a str)> {
    let (last, way) = place.split_last()?;
    let parent = way.iter().try_fold(value, |value, key| match value {
        Value::Object(fields) => fields.get_mut(key),
        Value::Array(items) => items.get_mut(key.parse::<usize>().ok()?),
        _ => None,
    })?;
    Some((parent, last))
}

#[tokio::test]
async fn every_body_is_taken_or_refused_by_the_name_of_its_field() -> Result<()> {
    let site = site().await?;
    let (_, owner) = site.user().await?;
    let app = site.app(&owner, "orchard").await?;
    site.push(&owner, &app, "x").await?;
    let mut asked = 0;
    for (method, path, operation) in operations() {
        if operation["requestBody"].is_null() {
            continue;
        }
        // One for each operation: this asks often.
        let token = site.token(&owner, &format!("{method} {path}"), TokenScope::Write).await?;
        let path = path.replace("{app}", "orchard");
        let good: Value = serde_json::from_str(good_body(&path))?;
        let mut places_all = Vec::new();
        places(&good, &[], &mut places_all);
        let ask = async |body: String| {
            let answer = site.ask(&method, &path, &token, &body).await?;
            let shown: String = body.chars().take(200).collect();
            let said = format!("{method} {path} with {shown}: {}", answer.text);
            assert!(matches!(answer.status, 200 | 201 | 202 | 404 | 422 | 429), "{said}");
            assert!(answer.status < 300 || answer.text.len() < 2_000, "{said}");
            anyhow::Ok((answer, said))
        };
        // Not this at all.
        for text in ["", " ", "x", "{", "[", "null", "[]", "1", "\"name\"", "{}{}", "\u{feff}{}", "{\"a\": NaN}"] {
            let (answer, said) = ask(text.to_owned()).await?;
            assert_eq!((answer.status, answer.error("kind")), (422, "invalid"), "{said}");
        }
        let deep = ask("[".repeat(10_000)).await?;
        assert_eq!(deep.0.status, 422, "{}", deep.1);
        // One that nobody knows.
        let mut more = good.clone();
        more["planted"] = json!("x");
        let (answer, said) = ask(more.to_string()).await?;
        assert_eq!((answer.status, answer.error("field")), (422, "planted"), "{said}");
        for place in &places_all {
            let key = place.last().cloned().unwrap_or_default();
            // Missing.
            let mut body = good.clone();
            let was_there = match within(&mut body, place) {
                Some((Value::Object(fields), key)) => fields.remove(key).is_some(),
                _ => false,
            };
            if was_there {
                let (answer, said) = ask(body.to_string()).await?;
                if answer.status == 422 && answer.error("message").starts_with("Missing") {
                    assert!(answer.error("field").ends_with(&key), "{said}");
                }
            }
            // Of another type, too long, hostile.
            for odd in odd_values() {
                let mut body = good.clone();
                if let Some((parent, key)) = within(&mut body, place) {
                    match parent {
                        Value::Object(fields) => drop(fields.insert(key.to_owned(), odd)),
                        Value::Array(items) => items[0] = odd,
                        _ => {}
                    }
                }
                let (answer, said) = ask(body.to_string()).await?;
                asked += 1;
                if answer.status == 422 && answer.error("message").starts_with("Invalid type") {
                    assert!(!answer.error("field").is_empty(), "{said}");
                }
            }
            // Repeated.
            let text = good.to_string();
            let name = format!("\"{key}\":");
            if let Some(at) = text.find(&name) {
                let twice = format!("{}{name}null,{}", &text[..at], &text[at..]);
                let (answer, said) = ask(twice).await?;
                assert_eq!(answer.status, 422, "{said}");
            }
        }
        let large = format!("{{\"name\": \"{}\"}}", "x".repeat(300 << 10));
        let answer = site.ask(&method, &path, &token, &large).await?;
        assert_eq!((answer.status, answer.error("kind")), (413, "too_large"));
    }
    assert!(asked > 200, "only {asked} bodies");
    Ok(())
}

#[tokio::test]
async fn what_was_wrong_is_said_with_its_place() -> Result<()> {
    let site = site().await?;
    let (_, owner) = site.user().await?;
    site.app(&owner, "orchard").await?;
    let token = site.token(&owner, "t", TokenScope::Write).await?;
    let check = async |method: &str, path: &str, body: &str, field: &str, message: &str| {
        let answer = site.ask(method, &format!("/api/v1{path}"), &token, body).await?;
        assert_eq!((answer.status, answer.error("field")), (422, field), "{path} {body}: {}", answer.text);
        assert!(answer.error("message").starts_with(message), "{path} {body}: {}", answer.text);
        anyhow::Ok(())
    };
    check("POST", "/apps", "{}", "name", "Missing field `name`").await?;
    check("POST", "/apps", r#"{"name": 1}"#, "name", "Invalid type: integer `1`, expected a string").await?;
    check("POST", "/apps", r#"{"name": "a", "name": "b"}"#, "name", "Duplicate field `name`").await?;
    check("POST", "/apps", r#"{"nam": "a"}"#, "nam", "Unknown field `nam`, expected `name`").await?;
    check("POST", "/apps", r#"{"name": "Shop"}"#, "name", "Use lower-case letters").await?;
    check("POST", "/apps", r#"{"name": "orchard"}"#, "name", "The name 'orchard' is taken").await?;
    check("PATCH", "/apps/orchard/config", r#"{"vars": [{"name": "A"}]}"#, "vars[0].value", "Missing field").await?;
    check("PATCH", "/apps/orchard/config", r#"{"vars": []}"#, "name", "There is no variable").await?;
    check("PATCH", "/apps/orchard/config", r#"{"vars": [{"name": "PORT", "value": "1"}]}"#, "name", "PORT is set")
        .await?;
    let sized = r#"{"processes": {"web": {"count": 70000}}}"#;
    check("PATCH", "/apps/orchard/processes", sized, "processes.web.count", "Invalid value").await?;
    let typed = r#"{"processes": {"web": {"counts": 1}}}"#;
    check("PATCH", "/apps/orchard/processes", typed, "processes.web.counts", "Unknown field").await?;
    check("POST", "/keys", r#"{"public": "x"}"#, "public", "That is not an SSH public key").await?;
    Ok(())
}

#[tokio::test]
async fn a_secret_is_set_and_never_told_again() -> Result<()> {
    let site = site().await?;
    let (_, owner) = site.user().await?;
    site.app(&owner, "orchard").await?;
    let token = site.token(&owner, "t", TokenScope::Write).await?;
    let vars = r#"{"vars": [{"name": "KEY", "value": "tell nobody"}, {"name": "MODE", "value": "plain one", "secret": false}]}"#;
    let set = site.ask("PATCH", "/api/v1/apps/orchard/config", &token, vars).await?;
    assert_eq!((set.status, &set.json), (200, &json!({ "deploy": null })));
    let config = site.ask("GET", "/api/v1/apps/orchard/config", &token, "").await?;
    let shown: Vec<_> =
        config.json["vars"].as_array().context("vars")?.iter().map(|v| (&v["name"], &v["value"])).collect();
    assert_eq!(shown, [(&json!("KEY"), &json!(null)), (&json!("MODE"), &json!("plain one"))]);
    let activity = site.ask("GET", "/api/v1/activity", &token, "").await?;
    let all = [&set.text, &config.text, &activity.text].map(String::as_str).concat();
    assert!(!all.contains("tell nobody") && !activity.text.contains("plain one"), "{all}");
    let first = &activity.json["items"][0];
    assert_eq!((first["door"].as_str(), first["verb"].as_str()), (Some("api"), Some("config set")));
    let unset = site.ask("DELETE", "/api/v1/apps/orchard/config/KEY", &token, "").await?;
    assert_eq!((unset.status, &unset.json), (200, &json!({ "deploy": null })));
    assert_eq!(site.ask("DELETE", "/api/v1/apps/orchard/config/KEY", &token, "").await?.status, 404);
    Ok(())
}

#[tokio::test]
async fn an_app_and_a_key_are_made_looked_at_and_taken_away() -> Result<()> {
    let site = site().await?;
    let (_, owner) = site.user().await?;
    let token = site.token(&owner, "t", TokenScope::Write).await?;
    let ask =
        async |method: &str, path: &str, body: &str| site.ask(method, &format!("/api/v1{path}"), &token, body).await;
    let made = ask("POST", "/apps", r#"{"name": "orchard"}"#).await?;
    assert_eq!((made.status, made.json["url"].as_str()), (201, Some("http://orchard.localhost:8080")));
    assert_eq!(made.json["git_url"], json!("ssh://berth@localhost:2222/orchard.git"));
    let created = made.json["created"].as_str().context("created")?;
    assert!(created.ends_with('Z') && created.contains('T'), "{created}");
    for _ in 0..2 {
        assert_eq!(ask("POST", "/apps/orchard/stop", "").await?.status, 204);
    }
    assert_eq!(ask("GET", "/apps/orchard", "").await?.json["state"], json!("stopped"));
    assert_eq!(ask("POST", "/apps/orchard/start", "").await?.status, 204);
    let restart = ask("POST", "/apps/orchard/restart", "").await?;
    assert_eq!(
        (restart.status, restart.error("kind"), restart.error("hint")),
        (422, "conflict", "Push your code first.")
    );
    let app: AppName = "orchard".parse()?;
    site.push(&owner, &app, "Larger covers").await?;
    let deploy = ask("GET", "/apps/orchard/deploys/1", "").await?;
    assert_eq!((&deploy.json["state"], &deploy.json["subject"]), (&json!("queued"), &json!("Larger covers")));
    assert_eq!(ask("POST", "/apps/orchard/deploys/1/cancel", "").await?.status, 204);
    let again = ask("POST", "/apps/orchard/deploys/1/again", "").await?;
    assert_eq!((again.status, &again.json), (202, &json!({ "deploy": 2 })));

    let account = ask("GET", "/account", "").await?;
    assert_eq!((&account.json["token"]["name"], &account.json["token"]["scope"]), (&json!("t"), &json!("write")));
    let added = ask("POST", "/keys", good_body("/keys")).await?;
    assert_eq!(added.status, 201, "{added:?}");
    let fingerprint = added.json["fingerprint"].as_str().context("a fingerprint")?.to_owned();
    assert_eq!(ask("GET", "/keys", "").await?.json[0]["fingerprint"], json!(fingerprint));
    let path = format!("/keys/{}", fingerprint.replace('+', "-").replace('/', "_"));
    assert_eq!(ask("DELETE", &path, "").await?.status, 204);
    assert_eq!(ask("DELETE", &path, "").await?.status, 404);

    assert_eq!(ask("DELETE", "/apps/orchard", "").await?.status, 204);
    assert_eq!(ask("DELETE", "/apps/orchard", "").await?.status, 404);
    assert_eq!(ask("GET", "/apps", "").await?.json, json!({ "items": [], "next": null }));
    Ok(())
}
