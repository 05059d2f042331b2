//! Who may begin, how they are written to, what the operator does, and that every verb leaves an event.

use commands::{ApprovalRule, Confirmation, CustomersAsked, DecisionsAsked, NewLimits, NewToken, Operator, Rules};
use domain::{Approval, LinkKind, MailState, TokenScope};
use sha2::{Digest, Sha256};
use store::Db;

use super::*;

const CAREFUL: Rules = Rules { approval: ApprovalRule::ByOperator, confirmation: Confirmation::ByMail };

/// Two doors of a site that asks for confirmation and approval; the database as its sender sees it.
async fn careful() -> (Doors, Commands, Db) {
    let doors = doors().await;
    let web = doors.web.clone().with_rules(CAREFUL);
    let sender = Db::open(&Secret::new(doors._postgres.url_as("berth_control")), 2).unwrap();
    (doors, web, sender)
}

/// What the sender would send now, oldest first: to whom, what, and its link's token.
async fn letters(sender: &Db) -> Vec<(String, String, Option<String>)> {
    let mut found = Vec::new();
    while let Some(due) = store::mail::all::claim(sender.pool(), "test", Duration::from_secs(60)).await.unwrap() {
        let mut token = None;
        if let Some((kind, user)) = due.link.zip(due.user_id) {
            let made = format!("token-{}-{}", due.id, due.tries);
            let hash = Sha256::digest(&made);
            store::mail::all::create_link(sender.pool(), &hash, user, kind, Duration::from_secs(60)).await.unwrap();
            token = Some(made);
        }
        assert_eq!(due.text.contains("{link}"), due.link.is_some(), "{}", due.text);
        store::mail::all::sent(sender.pool(), due.id, due.tries).await.unwrap();
        found.push((due.address, due.kind, token));
    }
    found
}

async fn kinds(sender: &Db) -> Vec<String> {
    letters(sender).await.into_iter().map(|(_, kind, _)| kind).collect()
}

async fn sign_up(web: &Commands, email: &str) {
    let new = SignUp { name: "Ada".into(), email: email.into(), password: password(GOOD) };
    web.sign_up(new, None).await.unwrap();
}

pub async fn operator(doors: &Doors) -> Operator {
    let link = doors.shell.user_create(&"olga@example.com".parse().unwrap(), "Olga", true).await.unwrap();
    let user = doors.web.redeem_link(link.rsplit('/').next().unwrap()).await.unwrap();
    Operator::User(actor(doors, user).await)
}

#[tokio::test]
async fn who_signs_up_looks_around_and_begins_when_confirmed_and_approved() {
    let (doors, web, sender) = careful().await;
    let olga = operator(&doors).await;
    sign_up(&web, "ada@example.com").await;
    let user = web.sign_in("ada@example.com", &password(GOOD)).await.unwrap();
    let ada = actor(&doors, user).await;
    assert!(web.apps(&ada).await.unwrap().is_empty());
    for refusal in [
        refused(web.app_create(&ada, "shop").await, Kind::Forbidden),
        refused(web.key_add(&ada, "", ED25519).await, Kind::Forbidden),
    ] {
        assert_eq!(refusal.message(), "Confirm your e-mail address first.");
    }
    let written = letters(&sender).await;
    let kinds: Vec<_> = written.iter().map(|(to, kind, _)| (to.as_str(), kind.as_str())).collect();
    assert_eq!(kinds, [("ada@example.com", "confirm"), ("olga@example.com", "approval asked")]);
    let token = written[0].2.clone().unwrap();
    refused(web.confirm("guess", None).await, Kind::Unauthenticated);
    assert_eq!(web.confirm(&token, None).await.unwrap(), user);
    refused(web.confirm(&token, None).await, Kind::Unauthenticated);
    refused(web.confirm_again(&ada).await, Kind::Conflict);

    web.key_add(&ada, "", ED25519).await.unwrap();
    let refusal = refused(web.app_create(&ada, "shop").await, Kind::Forbidden);
    assert_eq!(refusal.message(), "Your account waits for the operator's approval.");
    let asked = CustomersAsked { approval: Some(Approval::Waiting), ..CustomersAsked::default() };
    let waiting = web.customers(&olga, &asked).await.unwrap();
    assert_eq!(
        (waiting.waiting, waiting.customers.len(), waiting.customers[0].email.as_str()),
        (1, 1, "ada@example.com")
    );
    refused(web.customer_approve(&Operator::User(ada.clone()), ada.customer, Approval::Approved).await, Kind::NotFound);
    web.customer_approve(&olga, ada.customer, Approval::Refused).await.unwrap();
    refused(web.app_create(&ada, "shop").await, Kind::Forbidden);
    doors.shell.user_approve(&"ada@example.com".parse().unwrap(), Approval::Approved).await.unwrap();
    web.app_create(&ada, "shop").await.unwrap();
    assert_eq!(self::kinds(&sender).await, ["refused", "approved"]);
    let events = web.events(&ada, None, None).await.unwrap();
    let said: Vec<_> = events.iter().map(|e| (e.verb.as_str(), e.by.as_deref(), e.after.as_deref())).collect();
    assert_eq!(said[0], ("app create", Some("Ada"), None));
    assert_eq!(said[1], ("customer approval", None, Some("approved")));
    assert_eq!(said[2], ("customer approval", Some("Olga"), Some("refused")));
}

#[tokio::test]
async fn where_no_mail_goes_out_the_operators_approval_confirms_as_well() {
    let (doors, web, sender) = careful().await;
    let olga = operator(&doors).await;
    let rules = Rules { confirmation: Confirmation::ByMailOrOperator, ..CAREFUL };
    let web = web.with_rules(rules);
    sign_up(&web, "ada@example.com").await;
    let ada = actor(&doors, web.sign_in("ada@example.com", &password(GOOD)).await.unwrap()).await;
    refused(web.app_create(&ada, "shop").await, Kind::Forbidden);
    web.customer_approve(&olga, ada.customer, Approval::Approved).await.unwrap();
    web.app_create(&ada, "shop").await.unwrap();
    assert_eq!(kinds(&sender).await, ["confirm", "approval asked", "approved"]);
    // Once more changes nothing, and writes to nobody.
    web.customer_approve(&olga, ada.customer, Approval::Approved).await.unwrap();
    assert!(kinds(&sender).await.is_empty());
}

#[tokio::test]
async fn a_known_address_is_told_and_a_stranger_cannot_fill_a_letter_box() {
    let (doors, web, sender) = careful().await;
    signed_up(&doors, "ada@example.com").await;
    for _ in 0..5 {
        sign_up(&web, "ada@example.com").await;
        web.reset_ask("ADA@example.com", None).await.unwrap();
    }
    let (known, reset): (Vec<_>, Vec<_>) = kinds(&sender).await.into_iter().partition(|kind| kind == "known address");
    assert_eq!((known.len(), reset.len()), (3, 3), "three of a kind within an hour");
    web.reset_ask("nobody@example.com", None).await.unwrap();
    assert!(kinds(&sender).await.is_empty());
    // Both take as long.
    let time = async |email: &str| {
        let begun = std::time::Instant::now();
        web.reset_ask(email, None).await.unwrap();
        begun.elapsed()
    };
    let (known, unknown) = (time("ada@example.com").await, time("nobody@example.com").await);
    assert!(known.abs_diff(unknown) < Duration::from_millis(100) && known >= Duration::from_millis(250));
}

#[tokio::test]
async fn a_reset_link_sets_a_password_once_and_signs_out_everybody() {
    let (doors, web, sender) = careful().await;
    let ada = signed_up(&doors, "ada@example.com").await;
    let before = web.user(ada.user).await.unwrap().sessions_since;
    web.reset_ask("ada@example.com", None).await.unwrap();
    web.reset_ask("ada@example.com", None).await.unwrap();
    let tokens: Vec<_> = letters(&sender).await.into_iter().filter_map(|(_, _, token)| token).collect();
    assert!(web.reset_holds(&tokens[0]).await.unwrap());
    let short = refused(web.reset(&tokens[0], &password("short"), None).await, Kind::Invalid);
    assert_eq!(short.field(), Some("password"));
    // A link for one thing is none for another.
    refused(web.confirm(&tokens[0], None).await, Kind::Unauthenticated);
    web.reset(&tokens[0], &password("another horse battery"), None).await.unwrap();
    for spent in &tokens {
        refused(web.reset(spent, &password("a third horse battery"), None).await, Kind::Unauthenticated);
        assert!(!web.reset_holds(spent).await.unwrap(), "the other one is spent with it");
    }
    assert!(web.user(ada.user).await.unwrap().sessions_since > before);
    refused(web.sign_in("ada@example.com", &password(GOOD)).await, Kind::Unauthenticated);
    web.sign_in("ada@example.com", &password("another horse battery")).await.unwrap();
    let wrong = refused(web.password_change(&ada, &password(GOOD), &password(GOOD)).await, Kind::Invalid);
    assert_eq!(wrong.field(), Some("old"));
    web.password_change(&ada, &password("another horse battery"), &password(GOOD)).await.unwrap();
    web.sign_in("ada@example.com", &password(GOOD)).await.unwrap();
    assert_eq!(kinds(&sender).await, ["password changed", "password changed"]);
    // Old links are nobody's.
    let old = Sha256::digest("old");
    store::mail::all::create_link(sender.pool(), &old, ada.user, LinkKind::Reset, Duration::ZERO).await.unwrap();
    refused(web.reset("old", &password(GOOD), None).await, Kind::Unauthenticated);
}

#[tokio::test]
async fn limits_are_shown_with_what_is_used_and_the_operator_changes_them() {
    let doors = doors().await;
    let olga = operator(&doors).await;
    let ada = signed_up(&doors, "ada@example.com").await;
    doors.web.app_create(&ada, "shop").await.unwrap();
    let limits = doors.web.limits(&ada).await.unwrap();
    assert_eq!((limits.apps.used, limits.apps.max, limits.builds.max, limits.build_seconds_max), (1, 10, 1, 600));
    let new = |apps: &str, minutes: &str| NewLimits {
        apps: apps.into(),
        memory_mib: "4096".into(),
        builds: "2".into(),
        build_minutes: minutes.into(),
        disk_mib: "1024".into(),
    };
    let set = async |new: NewLimits| doors.web.customer_limits(&olga, ada.customer, &new).await;
    assert_eq!(refused(set(new("many", "10")).await, Kind::Invalid).field(), Some("apps"));
    assert_eq!(refused(set(new("1", "0")).await, Kind::Invalid).field(), Some("build-minutes"));
    set(new("1", "20")).await.unwrap();
    let limits = doors.web.limits(&ada).await.unwrap();
    assert_eq!((limits.apps.max, limits.memory_bytes.max, limits.build_seconds_max), (1, 4 << 30, 1200));
    let refusal = refused(doors.web.app_create(&ada, "blog2").await, Kind::Limit);
    assert_eq!(refusal.message(), "You have 1 app, as many as your limit allows.");
    let events = doors.web.events(&ada, None, None).await.unwrap();
    assert_eq!((events[0].verb.as_str(), events[0].by.as_deref()), ("customer limits", Some("Olga")));
    let (before, after) = (events[0].before.clone().unwrap(), events[0].after.clone().unwrap());
    assert!(before.contains("apps 10") && after.contains("apps 1,"), "{before} → {after}");
    refused(
        doors.web.customer_limits(&Operator::User(ada.clone()), ada.customer, &new("9", "9")).await,
        Kind::NotFound,
    );
}

#[tokio::test]
async fn nobody_but_the_operator_finds_the_operators_pages() {
    let doors = doors().await;
    let olga = operator(&doors).await;
    let ada = signed_up(&doors, "ada@example.com").await;
    let check = async |by: &Operator| {
        let web = &doors.web;
        vec![
            web.servers(by).await.map(drop),
            web.customers(by, &CustomersAsked::default()).await.map(drop),
            web.customer(by, ada.customer).await.map(drop),
            web.decisions(by, &DecisionsAsked::default()).await.map(drop),
            web.letters(by, Some(MailState::Failed), None).await.map(drop),
        ]
    };
    assert!(check(&olga).await.into_iter().all(|found| found.is_ok()));
    for found in check(&Operator::User(ada.clone())).await {
        refused(found, Kind::NotFound);
    }
    let app = doors.web.app_create(&ada, "shop").await.unwrap();
    let theirs = Actor {
        customer: match &olga {
            Operator::User(olga) => olga.customer,
            Operator::Shell => unreachable!(),
        },
        ..ada.clone()
    };
    refused(doors.web.events(&theirs, Some(&app), None).await, Kind::NotFound);
}

#[tokio::test]
async fn an_apps_activity_says_who_did_what_and_what_changed() {
    let doors = doors().await;
    let ada = signed_up(&doors, "ada@example.com").await;
    let shop = doors.web.app_create(&ada, "shop").await.unwrap();
    doors.web.app_create(&ada, "other").await.unwrap();
    let target = doors.receiver.push_target(&ada, &shop).await.unwrap();
    let by_ssh = Actor { door: Door::Ssh, ..ada.clone() };
    doors.receiver.deploy_create(&by_ssh, target.app, push(1)).await.unwrap();
    doors.web.app_stop(&ada, &shop).await.unwrap();
    let events = doors.web.events(&ada, Some(&shop), None).await.unwrap();
    let said: Vec<_> = events.iter().map(|e| (e.verb.as_str(), e.subject.as_str(), e.door.as_str())).collect();
    assert_eq!(said, [("app stop", "shop", "page"), ("push", "shop", "ssh"), ("app create", "shop", "page")]);
    assert_eq!((events[0].before.as_deref(), events[0].after.as_deref()), (Some("running"), Some("stopped")));
    assert_eq!(events[0].origin.map(|ip| ip.to_string()).as_deref(), Some("127.0.0.1"));
    // The next page begins after the last of this one.
    let older = doors.web.events(&ada, Some(&shop), Some(events[0].id)).await.unwrap();
    assert_eq!(older.len(), 2);
    doors.web.app_delete(&ada, &shop, "shop").await.unwrap();
    refused(doors.web.events(&ada, Some(&shop), None).await, Kind::NotFound);
    // A later app of that name begins with nothing.
    doors.web.app_create(&ada, "shop").await.unwrap();
    assert_eq!(doors.web.events(&ada, Some(&shop), None).await.unwrap().len(), 1);
}

#[tokio::test]
async fn who_leaves_is_erased_and_what_they_did_stays_by_their_number() {
    let doors = doors().await;
    let (web, database) = (&doors.web, &doors._postgres);
    let holds = async |what: String| database.execute(&format!("do $$ begin assert ({what}); end $$")).await.unwrap();
    let ada = signed_up(&doors, "ada@example.com").await;
    let shop = billing::app_of(&doors, &ada, "shop").await;
    doors.receiver.deploy_create(&ada, shop, push(1)).await.unwrap();
    billing::post(&doors, ada.customer, &billing::usage(&[shop], 3..5, &[7])).await;
    let bill = web.bill(&ada, Some(billing::month())).await.unwrap();
    let key = web.key_add(&ada, "", ED25519).await.unwrap();
    let new = NewToken { name: "ci".into(), scope: TokenScope::Write, lasts_days: None };
    let token = web.token_create(&ada, &new).await.unwrap().token;

    for typed in ["", "ada", "eve@example.com"] {
        let wrong = refused(web.user_delete(&ada, typed).await, Kind::Invalid);
        assert_eq!(wrong.field(), Some("email"));
    }
    let apps = refused(web.user_delete(&ada, "ada@example.com").await, Kind::Conflict);
    assert_eq!(apps.message(), "Your apps have to go first: shop.");
    assert!(web.user(ada.user).await.is_ok() && web.actor_by_token(token.expose(), None).await.unwrap().is_some());

    // Somebody else is there for them: their customer and its apps stay as they are.
    let eve = signed_up(&doors, "eve@example.com").await;
    database
        .execute(&format!("insert into membership (user_id, customer_id) values ({}, {})", eve.user, ada.customer))
        .await
        .unwrap();
    web.user_delete(&ada, " ADA@example.com ").await.unwrap();
    let of_ada = |table: &str, column: &str| format!("(select count(*) from {table} where {column} = {})", ada.user);
    for table in ["membership", "ssh_key", "api_token", "mail_link", "sign_in_link", "mail"] {
        holds(format!("{} = 0", of_ada(table, "user_id"))).await;
    }
    holds(format!("{} = 0", of_ada("users", "id"))).await;
    // A session is looked up by its user, and ends with them.
    refused(web.user(ada.user).await, Kind::NotFound);
    refused(web.sign_in("ada@example.com", &password(GOOD)).await, Kind::Unauthenticated);
    assert!(web.actor_by_token(token.expose(), None).await.unwrap().is_none());
    assert!(!doors.receiver.key_is_known(&key.fingerprint).await.unwrap());
    assert_eq!(doors.receiver.actor_by_key(&key.fingerprint, None).await.unwrap(), None);
    let stays = Actor { customer: ada.customer, ..eve.clone() };
    assert_eq!(web.apps(&stays).await.unwrap()[0].name, name("shop"));
    assert_eq!(web.deploy(&stays, &name("shop"), 1).await.unwrap().row.by, None);
    let events = web.events(&stays, None, None).await.unwrap();
    assert_eq!((events[0].verb.as_str(), events[0].by.as_deref()), ("user delete", None));
    holds(format!("{} >= 5", of_ada("event", "user_id"))).await;
    holds(format!("(select name from customer where id = {}) = 'Ada'", ada.customer)).await;

    // The last one closes the door: the customer has no name any more, and its books are whole.
    database.execute(&format!("delete from membership where customer_id = {}", eve.customer)).await.unwrap();
    refused(web.user_delete(&stays, "eve@example.com").await, Kind::Conflict);
    web.app_delete(&stays, &name("shop"), "shop").await.unwrap();
    web.user_delete(&stays, "eve@example.com").await.unwrap();
    holds(format!("(select name from customer where id = {}) = 'deleted'", ada.customer)).await;
    let books = doors.web_again().await.bill(&ada, Some(billing::month())).await.unwrap();
    assert_eq!((books.total, books.days), (bill.total, bill.days));
    // The address is anybody's again, and whoever has it has nothing of theirs.
    let again = signed_up(&doors, "ada@example.com").await;
    assert!(again.user != ada.user && again.customer != ada.customer);

    let Operator::User(olga) = operator(&doors).await else { panic!("a user") };
    let last = refused(web.user_delete(&olga, "olga@example.com").await, Kind::Conflict);
    assert_eq!(last.message(), "Nobody else runs this Berth.");
    doors.shell.user_create(&"otto@example.com".parse().unwrap(), "Otto", true).await.unwrap();
    web.user_delete(&olga, "olga@example.com").await.unwrap();
}

/// What only looks, or is asked by a role of Berth itself and not by a person.
const NO_EVENT: &[&str] = &[
    "actor_by_key",
    "actor_by_token",
    "app",
    "app_cost",
    "cost_in",
    "app_with_cost",
    "apps",
    "apps_with_cost",
    "bill",
    "branch_moved",
    "branch_moves",
    "bundled",
    "bundles_measured",
    "bundles_named",
    "changes",
    "commits_kept",
    "config",
    "connect",
    "customer",
    "customers",
    "decisions",
    "deploy",
    "deploy_list",
    "deploy_page",
    "deploys",
    "disk",
    "events",
    "hash",
    "key_is_known",
    "keys",
    "left",
    "letters",
    "limits",
    "log",
    "log_page",
    "log_whole",
    "matches",
    "price_list",
    "prices",
    "push_target",
    "release_cost",
    "repository",
    "reset_holds",
    "servers",
    "sign_in",
    "sources_measured",
    "sources_named",
    "sparks",
    "spent",
    "tidied",
    "tokens",
    "untidy",
    "urls",
    "usage",
    "user",
    "who",
    "why",
    "why_file",
    "with_rules",
    "words",
];

/// Those that record through another function, and which.
const THROUGH: &[(&str, &str)] = &[
    ("app_stop", "app_state("),
    ("app_start", "app_state("),
    ("app_restart", "self.again("),
    ("deploy_roll_back", "self.again("),
    ("deploy_again", "self.again("),
    ("customer_approve", "self.approve("),
    ("user_approve", "self.approve("),
    ("user_link", "self.link("),
    ("user_create", "user_with_customer("),
    ("sign_up", "user_with_customer("),
    ("prices_set", "self.record_prices("),
    ("prices_take_back", "self.record_prices("),
];

#[test]
fn every_command_of_a_person_leaves_an_event() {
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut seen = Vec::new();
    let files = |folder: &std::path::Path| -> Vec<_> {
        std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect()
    };
    let (folders, mut all): (Vec<_>, Vec<_>) = files(&source).into_iter().partition(|path| path.is_dir());
    all.extend(folders.iter().flat_map(|folder| files(folder)));
    for file in all {
        let text = std::fs::read_to_string(file).unwrap();
        // Only what a door can call: methods of `Commands`.
        let parts: Vec<&str> = text.split("\n    pub async fn ").skip(1).collect();
        for part in parts {
            let name = part.split(['(', '<']).next().unwrap();
            let end = ["\n    pub", "\n    async fn", "\n    fn", "\n    ///", "\n}"]
                .iter()
                .filter_map(|end| part.find(end))
                .min();
            let body = &part[..end.unwrap_or(part.len())];
            seen.push(name.to_owned());
            let through = THROUGH.iter().find(|(verb, _)| *verb == name).map(|(_, how)| *how);
            let records = ["self.record(", "self.record_as(", "self.record_of(", "self.record_own(", "event::record("];
            let leaves = match through {
                Some(how) => body.contains(how),
                None => records.iter().any(|how| body.contains(how)),
            };
            assert!(
                leaves || NO_EVENT.contains(&name),
                "`{name}` records no event: a command of a person does; what only looks is named in NO_EVENT"
            );
        }
    }
    for (name, _) in THROUGH {
        assert!(seen.iter().any(|seen| seen == name), "{name} is no command any more");
    }
}
