//! Tokens of the JSON API: who is let in by one, and until when.

use commands::NewToken;
use domain::TokenScope;

use super::*;

fn new(name: &str, lasts_days: Option<i32>) -> NewToken {
    NewToken { name: name.into(), scope: TokenScope::Write, lasts_days }
}

#[tokio::test]
async fn a_token_acts_as_its_user_until_it_is_revoked() {
    let doors = doors().await;
    let ada = signed_up(&doors, "ada@example.com").await;
    let made = doors.web.token_create(&ada, &new(" ci ", Some(30))).await.unwrap();
    let token = made.token.expose();
    assert!(token.starts_with("berth_") && token.len() == 46, "it is known for what it is");
    assert_eq!((made.view.name.as_str(), made.view.last_used), ("ci", None));
    let days = made.view.expires.unwrap().since(made.view.created).as_secs() / 86400;
    assert_eq!(days, 30);

    let origin = Some("192.0.2.9".parse().unwrap());
    let asks = doors.web.actor_by_token(token, origin).await.unwrap().unwrap();
    assert_eq!((asks.actor.user, asks.actor.customer), (ada.user, ada.customer));
    assert_eq!((asks.actor.door, asks.actor.origin, asks.token.scope), (Door::Api, origin, TokenScope::Write));
    assert!(doors.web.tokens(&ada).await.unwrap()[0].last_used.is_some());
    doors.web.app_create(&asks.actor, "shop").await.unwrap();

    for wrong in ["", "berth_", &token[..45], &format!("{token}x"), &token.to_uppercase(), &token.replace('_', "-")] {
        assert!(doors.web.actor_by_token(wrong, None).await.unwrap().is_none(), "{wrong}");
    }
    let other = signed_up(&doors, "eve@example.com").await;
    assert!(doors.web.tokens(&other).await.unwrap().is_empty());
    refused(doors.web.token_revoke(&other, made.view.id).await, Kind::NotFound);
    doors.web.token_revoke(&ada, made.view.id).await.unwrap();
    refused(doors.web.token_revoke(&ada, made.view.id).await, Kind::NotFound);
    assert!(doors.web.actor_by_token(token, None).await.unwrap().is_none());

    let events = doors.web.events(&ada, None, None).await.unwrap();
    let said: Vec<_> = events.iter().map(|e| (e.verb.as_str(), e.door.as_str(), e.after.as_deref())).collect();
    assert_eq!(said[0], ("token revoke", "page", None));
    assert_eq!(said[1], ("app create", "api", None));
    assert_eq!(said[2], ("token create", "page", Some("days 30, name ci, scope write")));
    assert!(!format!("{made:?}").contains(token), "a token is never printed");
}

#[tokio::test]
async fn a_token_ends_with_its_time_its_membership_and_its_user_but_not_with_a_password() {
    let doors = doors().await;
    let ada = signed_up(&doors, "ada@example.com").await;
    let database = &doors._postgres;
    let holds = async |token: &Secret<String>| doors.web.actor_by_token(token.expose(), None).await.unwrap().is_some();
    let make = async |name: &str| doors.web.token_create(&ada, &new(name, Some(1))).await.unwrap().token;

    let (kept, old) = (make("kept").await, make("old").await);
    doors.web.password_change(&ada, &password(GOOD), &password("another horse battery")).await.unwrap();
    doors.web.sign_out_everywhere(&ada).await.unwrap();
    assert!(holds(&kept).await && holds(&old).await);
    database.execute("update api_token set expires = now() where name = 'old'").await.unwrap();
    assert!(holds(&kept).await && !holds(&old).await);
    assert_eq!(doors.web.tokens(&ada).await.unwrap().len(), 2, "what has ended is shown until it is revoked");

    database.execute(&format!("delete from membership where user_id = {}", ada.user)).await.unwrap();
    assert!(!holds(&kept).await);
    let eve = signed_up(&doors, "eve@example.com").await;
    let hers = doors.web.token_create(&eve, &new("hers", None)).await.unwrap().token;
    assert!(holds(&hers).await);
    database.execute("update event set user_id = null").await.unwrap();
    database.execute(&format!("delete from users where id = {}", eve.user)).await.unwrap();
    assert!(!holds(&hers).await);
}

#[tokio::test]
async fn a_wrong_token_form_says_what_is_wrong_and_makes_nothing() {
    let doors = doors().await;
    let ada = signed_up(&doors, "ada@example.com").await;
    let long = "x".repeat(101);
    for (name, days, field) in [
        (" ", None, "name"),
        ("a\nb", None, "name"),
        (&long, None, "name"),
        ("a", Some(0), "lasts"),
        ("a", Some(3651), "lasts"),
    ] {
        assert_eq!(refused(doors.web.token_create(&ada, &new(name, days)).await, Kind::Invalid).field(), Some(field));
    }
    assert!(doors.web.tokens(&ada).await.unwrap().is_empty());
    doors.web.token_create(&ada, &new("ci", None)).await.unwrap();
    let again = refused(doors.web.token_create(&ada, &new("ci", None)).await, Kind::Conflict);
    assert_eq!(again.message(), "You have a token of that name.");
    for n in 1..50 {
        doors.web.token_create(&ada, &new(&format!("ci {n}"), None)).await.unwrap();
    }
    refused(doors.web.token_create(&ada, &new("one more", None)).await, Kind::Limit);
    // No other door finds out who holds one.
    refused(doors.receiver.tokens(&ada).await, Kind::Internal);
}
