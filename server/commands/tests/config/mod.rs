//! Config vars, under the role of the site.

use commands::{CommandError, Kind, Shown, VarSet};
use domain::Secret;
use seal::PrivateKey;

use super::*;

fn var(name: &str, value: &str, shown: Shown) -> VarSet {
    VarSet { name: name.into(), value: Secret::new(value.into()), shown }
}

async fn site(postgres: &harness::Postgres, key: &PrivateKey) -> Commands {
    let urls = doors_urls();
    let database_url = Secret::new(postgres.url_as("berth_web"));
    Commands::connect(Config { database_url, logs: None, urls, seal: Some(key.public()) }).await.unwrap()
}

#[tokio::test]
async fn a_secret_is_kept_sealed_and_shown_to_nobody() {
    let (doors, key) = (doors().await, PrivateKey::new());
    let ada = signed_up(&doors, "ada@example.com").await;
    let bob = signed_up(&doors, "bob@example.com").await;
    let web = site(&doors._postgres, &key).await;
    let shop = web.app_create(&ada, "shop").await.unwrap();
    let both = [var("API_KEY", "hunter2!", Shown::Secret), var("WORKERS", "4", Shown::Plain)];
    assert_eq!(web.config_set(&ada, &shop, &both).await.unwrap(), None, "nothing serves: nothing is rolled out");
    web.config_set(&ada, &shop, &[var("WORKERS", "8", Shown::Plain)]).await.unwrap();

    let seen = web.config(&ada, &shop).await.unwrap();
    let shown: Vec<_> = seen.vars.iter().map(|v| (v.name.as_str(), v.value.as_deref(), v.bytes)).collect();
    assert_eq!(shown, [("API_KEY", None, 8), ("WORKERS", Some("8"), 1)]);
    assert!(!seen.stale && seen.deploy.is_none());

    // Under the site's own role the box itself cannot be read; control's opens it, for this app and name only.
    let id = domain::AppId(1);
    let as_role = |role: &str| store::Db::open(&Secret::new(doors._postgres.url_as(role)), 1).unwrap();
    assert!(
        store::config::all::vars(as_role("berth_web").pool(), &[(id, 2)]).await.is_err(),
        "web reads a sealed value"
    );
    assert!(store::config::all::vars(as_role("berth_receiver").pool(), &[(id, 2)]).await.is_err());
    let vars = store::config::all::vars(as_role("berth_control").pool(), &[(id, 2)]).await.unwrap();
    let sealed = vars[0].sealed.clone().unwrap();
    let bound = |name| seal::Bound { customer: ada.customer, app: id, name };
    assert_eq!(key.open(&sealed, bound("API_KEY")).unwrap().expose(), "hunter2!");
    assert!(key.open(&sealed, bound("WORKERS")).is_err());

    let events = format!("{:?}", web.events(&ada, None, None).await.unwrap());
    assert!(events.contains("API_KEY") && !events.contains("hunter2!"), "{events}");

    web.config_unset(&ada, &shop, "API_KEY").await.unwrap();
    refused(web.config_unset(&ada, &shop, "API_KEY").await, Kind::NotFound);
    assert_eq!(web.config(&ada, &shop).await.unwrap().vars.len(), 1);
    refused(web.config(&bob, &shop).await, Kind::NotFound);
    refused(web.config_set(&bob, &shop, &both).await, Kind::NotFound);
    refused(web.config_unset(&bob, &shop, "WORKERS").await, Kind::NotFound);
}

#[tokio::test]
async fn what_no_environment_can_hold_is_refused_with_the_reason() {
    let (doors, key) = (doors().await, PrivateKey::new());
    let ada = signed_up(&doors, "ada@example.com").await;
    let web = site(&doors._postgres, &key).await;
    let shop = web.app_create(&ada, "shop").await.unwrap();
    let long = "x".repeat(32 << 10);
    let cases: &[(&[VarSet], &str, &str)] = &[
        (&[], "name", "There is no variable"),
        (&[var("", "1", Shown::Plain)], "name", "has a name"),
        (&[var("2ND", "1", Shown::Plain)], "name", "_2ND would do"),
        (&[var("A B", "1", Shown::Plain)], "name", "cannot have ` `"),
        (&[var("PORT", "1", Shown::Plain)], "name", "set by Berth"),
        (&[var("BERTH_APP", "1", Shown::Plain)], "name", "set by Berth"),
        (&[var("A", "1", Shown::Plain), var("A", "2", Shown::Plain)], "name", "twice"),
        (&[var("A", "a\0b", Shown::Secret)], "value", "NUL"),
        (&[var("A", &format!("{long}y"), Shown::Secret)], "value", "are the most"),
        (&[var("A", &long, Shown::Secret), var("B", &long, Shown::Plain)], "value", "at most 256 of 64 KiB"),
    ];
    for (vars, field, says) in cases {
        let said: CommandError = refused(web.config_set(&ada, &shop, vars).await, Kind::Invalid);
        assert!(said.field() == Some(field) && said.message().contains(says), "{said}");
    }
    assert!(web.config(&ada, &shop).await.unwrap().vars.is_empty(), "nothing was half-done");
}
