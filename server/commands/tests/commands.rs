//! Every command against a real PostgreSQL, under the database role of its door.

// A test that cannot be set up has failed; clippy's exception for tests does not see helpers.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use commands::{Actor, AppHealth, CommandError, Commands, Config, Door, Kind, LogWhat, NewPush, SignUp, Urls};
use domain::{AppName, DeployState, Email, KeyId, Secret, UserId};

#[path = "billing/mod.rs"]
mod billing;
#[path = "config/mod.rs"]
mod config;
#[path = "people/mod.rs"]
mod people;
#[path = "tokens/mod.rs"]
mod tokens;
#[path = "usage/mod.rs"]
mod usage;

const ED25519: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti ada@laptop";

struct Doors {
    _postgres: harness::Postgres,
    web: Commands,
    receiver: Commands,
    shell: Commands,
}

fn doors_urls() -> Urls {
    Urls {
        site: "http://localhost:8080".into(),
        apps_domain: "localhost".into(),
        apps_scheme: "http".into(),
        apps_port: Some(8080),
        ssh: "berth@localhost:2222".into(),
    }
}

async fn doors() -> Doors {
    let postgres = harness::postgres().await.unwrap();
    let open = |url: String| async move {
        let urls = doors_urls();
        Commands::connect(Config { database_url: Secret::new(url), logs: None, urls, seal: None }).await.unwrap()
    };
    Doors {
        web: open(postgres.url_as("berth_web")).await,
        receiver: open(postgres.url_as("berth_receiver")).await,
        shell: open(postgres.url().to_owned()).await,
        _postgres: postgres,
    }
}

impl Doors {
    /// The door of pages, in another process.
    async fn web_again(&self) -> Commands {
        let url = Secret::new(self._postgres.url_as("berth_web"));
        Commands::connect(Config { database_url: url, logs: None, urls: doors_urls(), seal: None }).await.unwrap()
    }
}

fn password(text: &str) -> Secret<String> {
    Secret::new(text.to_owned())
}

const GOOD: &str = "correct horse battery";

async fn signed_up(doors: &Doors, email: &str) -> Actor {
    let new = SignUp { name: "Ada".into(), email: email.into(), password: password(GOOD) };
    doors.web.sign_up(new, None).await.unwrap();
    let user = doors.web.sign_in(email, &password(GOOD)).await.unwrap();
    actor(doors, user).await
}

async fn actor(doors: &Doors, user: UserId) -> Actor {
    let customer = doors.web.user(user).await.unwrap().customer;
    Actor { user, customer, door: Door::Page, origin: Some("127.0.0.1".parse().unwrap()), key: None }
}

fn name(text: &str) -> AppName {
    text.parse().unwrap()
}

fn push(n: u8) -> NewPush {
    NewPush {
        commit: format!("{n:040x}").parse().unwrap(),
        subject: "Say \x1b[31mhello\nworld".into(),
        branch: "main".into(),
        before: None,
        source: format!("{n:064x}").parse().unwrap(),
        bundle: Some(format!("{n:064x}").parse().unwrap()),
    }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, CommandError>, kind: Kind) -> CommandError {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    error
}

#[tokio::test]
async fn a_new_user_signs_up_and_in_and_owns_a_customer() {
    let doors = doors().await;
    let ada = signed_up(&doors, "Ada@Example.com").await;
    let view = doors.web.user(ada.user).await.unwrap();
    assert_eq!(
        (view.name.as_str(), view.customer_name.as_str(), view.email.as_str()),
        ("Ada", "Ada", "Ada@example.com")
    );
    assert!(view.has_password && !view.operator);
    // The address's case is no other user.
    doors.web.sign_in("ADA@example.com", &password(GOOD)).await.unwrap();
    refused(doors.web.sign_in("ada@example.com", &password("wrong horse battery")).await, Kind::Unauthenticated);
    refused(doors.web.sign_in("eve@example.com", &password(GOOD)).await, Kind::Unauthenticated);
    refused(doors.web.sign_in("not an address", &password(GOOD)).await, Kind::Unauthenticated);
}

#[tokio::test]
async fn signing_up_with_a_known_address_answers_the_same_and_changes_nothing() {
    let doors = doors().await;
    let ada = signed_up(&doors, "ada@example.com").await;
    let new = SignUp { name: "Eve".into(), email: "ada@example.com".into(), password: password("an evil password") };
    doors.web.sign_up(new, None).await.unwrap();
    refused(doors.web.sign_in("ada@example.com", &password("an evil password")).await, Kind::Unauthenticated);
    assert_eq!(doors.web.user(ada.user).await.unwrap().name, "Ada");
}

#[tokio::test]
async fn what_was_typed_wrong_is_said_beside_its_field() {
    let doors = doors().await;
    let check = async |name: &str, email: &str, pass: &str, field| {
        let new = SignUp { name: name.into(), email: email.into(), password: password(pass) };
        assert_eq!(refused(doors.web.sign_up(new, None).await, Kind::Invalid).field(), Some(field));
    };
    check("", "a@b.example", GOOD, "name").await;
    check("A\u{7}", "a@b.example", GOOD, "name").await;
    check("Ada", "a.example", GOOD, "email").await;
    check("Ada", "a@b.example", "elevenchars", "password").await;
    check("Ada", "a@b.example", &"x".repeat(1025), "password").await;
}

#[tokio::test]
async fn a_link_of_the_shell_signs_in_once() {
    let doors = doors().await;
    let email: Email = "op@example.com".parse().unwrap();
    let link = doors.shell.user_create(&email, "Olga", true).await.unwrap();
    let token = link.strip_prefix("http://localhost:8080/signin/link/").unwrap();
    let user = doors.web.redeem_link(token).await.unwrap();
    let view = doors.web.user(user).await.unwrap();
    assert!(view.operator && !view.has_password);
    refused(doors.web.redeem_link(token).await, Kind::Unauthenticated);
    refused(doors.web.redeem_link("guess").await, Kind::Unauthenticated);
    refused(doors.shell.user_create(&email, "Olga", true).await, Kind::Conflict);
    // Another link does; without a password nobody signs in by one.
    let again = doors.shell.user_link(&email).await.unwrap();
    assert_eq!(doors.web.redeem_link(again.rsplit('/').next().unwrap()).await.unwrap(), user);
    refused(doors.web.sign_in("op@example.com", &password("")).await, Kind::Unauthenticated);
    refused(doors.shell.user_link(&"no@example.com".parse().unwrap()).await, Kind::NotFound);
}

#[tokio::test]
async fn signing_out_everywhere_voids_older_sessions() {
    let doors = doors().await;
    let ada = signed_up(&doors, "ada@example.com").await;
    let before = doors.web.user(ada.user).await.unwrap().sessions_since;
    doors.web.sign_out_everywhere(&ada).await.unwrap();
    assert!(doors.web.user(ada.user).await.unwrap().sessions_since > before);
}

#[tokio::test]
async fn a_key_is_known_by_its_fingerprint_and_belongs_to_one_user() {
    let doors = doors().await;
    let (ada, eve) = (signed_up(&doors, "ada@example.com").await, signed_up(&doors, "eve@example.com").await);
    let key = doors.web.key_add(&ada, "", &format!("  {ED25519}\n")).await.unwrap();
    assert_eq!((key.name.as_str(), key.kind.as_str(), key.last_used), ("ada@laptop", "ssh-ed25519", None));
    assert_eq!(key.fingerprint, "SHA256:UCUiLr7Pjs9wFFJMDByLgc3NrtdU344OgUM45wZPcIQ");
    refused(doors.web.key_add(&ada, "again", ED25519).await, Kind::Conflict);
    refused(doors.web.key_add(&eve, "mine", ED25519).await, Kind::Conflict);

    let by_key = doors.receiver.actor_by_key(&key.fingerprint, None).await.unwrap().unwrap();
    assert_eq!((by_key.user, by_key.customer, by_key.door), (ada.user, ada.customer, Door::Ssh));
    assert_eq!(doors.receiver.actor_by_key("SHA256:no", None).await.unwrap(), None);
    assert!(doors.web.keys(&ada).await.unwrap()[0].last_used.is_some());

    refused(doors.web.key_remove(&eve, key.id).await, Kind::NotFound);
    refused(doors.web.key_remove(&ada, KeyId(key.id.0 + 1000)).await, Kind::NotFound);
    doors.web.key_remove(&ada, key.id).await.unwrap();
    assert!(doors.web.keys(&ada).await.unwrap().is_empty());
    assert_eq!(doors.receiver.actor_by_key(&key.fingerprint, None).await.unwrap(), None);
}

#[tokio::test]
async fn what_is_no_good_key_is_refused_with_what_to_do() {
    let doors = doors().await;
    let ada = signed_up(&doors, "ada@example.com").await;
    let check = async |given: &str, says: &str| {
        let error = refused(doors.web.key_add(&ada, "laptop", given).await, Kind::Invalid);
        assert_eq!(error.field(), Some("public"));
        assert!(error.message().contains(says), "{}", error.message());
        assert!(error.hint().is_some());
        assert!(!error.message().contains("AAAA"), "nothing of it is repeated");
    };
    check("", "Paste").await;
    check("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----", "private half").await;
    check("ssh-ed25519 AAAA", "not an SSH public key").await;
    check("hello", "not an SSH public key").await;
    check("ssh-dss AAAAB3NzaC1kc3MAAACBA", "DSA").await;
    check(&format!("{ED25519}\n{ED25519}"), "not an SSH public key").await;
    // ssh-keygen -t rsa -b 1024
    check(
        "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQDEZxlCB9ZJNvy3dWrQaHfJ5H9qP1HuiKMi7AVEkjlxUuonKPYdA7OQCgZdjHcT3MBcBjUYj5rZldvJzDx+hYIfcQH3+5yTB2a/g2toIe9xF17QRE6hkLprK2aejzcgLttNbxMYjZuE195QAxHvN+5uH91UkvYHUz1OqO6t6yZ2xQ==",
        "1024 bits",
    )
    .await;
    assert!(doors.web.keys(&ada).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_app_has_a_name_of_its_own_and_a_hostname() {
    let doors = doors().await;
    let (ada, eve) = (signed_up(&doors, "ada@example.com").await, signed_up(&doors, "eve@example.com").await);
    assert_eq!(doors.web.app_create(&ada, " shop ").await.unwrap(), name("shop"));
    for bad in ["", "Shop", "www", "a.b", "-x"] {
        assert_eq!(refused(doors.web.app_create(&ada, bad).await, Kind::Invalid).field(), Some("name"));
    }
    refused(doors.web.app_create(&ada, "shop").await, Kind::Conflict);
    let error = refused(doors.web.app_create(&eve, "shop").await, Kind::Conflict);
    assert_eq!(error.message(), "The name 'shop' is taken.");

    let view = doors.web.app(&ada, &name("shop")).await.unwrap();
    assert_eq!(view.url, "http://shop.localhost:8080");
    assert_eq!(view.git_url, "ssh://berth@localhost:2222/shop.git");
    assert_eq!((view.health, view.summary.as_str()), (AppHealth::Empty, "nothing was deployed yet"));
}

#[tokio::test]
async fn a_customer_has_as_many_apps_as_their_limit_also_when_they_ask_at_once() {
    let doors = doors().await;
    let ada = signed_up(&doors, "ada@example.com").await;
    let mut asking = tokio::task::JoinSet::new();
    for n in 0..15 {
        let (web, ada) = (doors.web.clone(), ada.clone());
        asking.spawn(async move { web.app_create(&ada, &format!("app-{n}")).await });
    }
    let results = asking.join_all().await;
    let made = results.iter().filter(|r| r.is_ok()).count();
    assert_eq!(made, 10);
    for error in results.into_iter().filter_map(Result::err) {
        assert_eq!(error.kind(), Kind::Limit, "{error:?}");
    }
    assert_eq!(doors.web.apps(&ada).await.unwrap().len(), 10);
}

#[tokio::test]
async fn what_is_anothers_is_not_there() {
    let doors = doors().await;
    let (ada, eve) = (signed_up(&doors, "ada@example.com").await, signed_up(&doors, "eve@example.com").await);
    doors.web.app_create(&ada, "shop").await.unwrap();
    let target = doors.receiver.push_target(&ada, &name("shop")).await.unwrap();
    let number = doors.receiver.deploy_create(&ada, target.app, push(1)).await.unwrap();
    assert_eq!(doors.receiver.commits_kept(target.app, 64).await.unwrap(), [push(1).commit]);
    let repository = doors.receiver.repository(target.app).await.unwrap();
    assert_eq!((repository.bundles, repository.branch), (vec![push(1).bundle.unwrap()], None));

    assert!(doors.web.apps(&eve).await.unwrap().is_empty());
    let (shop, none) = (name("shop"), name("none"));
    let same = |theirs: CommandError, nobodys: CommandError| {
        let unnamed = |e: &CommandError| (e.kind(), e.message().replace("shop", "X").replace("none", "X"), e.hint());
        assert_eq!(unnamed(&theirs), unnamed(&nobodys));
        assert_eq!(theirs.kind(), Kind::NotFound);
    };
    let (w, r) = (&doors.web, &doors.receiver);
    same(w.app(&eve, &shop).await.unwrap_err(), w.app(&eve, &none).await.unwrap_err());
    same(w.deploy(&eve, &shop, number).await.unwrap_err(), w.deploy(&eve, &none, number).await.unwrap_err());
    same(r.push_target(&eve, &shop).await.unwrap_err(), r.push_target(&eve, &none).await.unwrap_err());
    refused(r.deploy_create(&eve, target.app, push(2)).await, Kind::NotFound);
    let log = |app| w.log(&eve, app, LogWhat::App, None, 10, false);
    same(log(&shop).await.err().unwrap(), log(&none).await.err().unwrap());
    // And a deploy that is not there.
    refused(w.deploy(&ada, &shop, number + 1).await, Kind::NotFound);
}

#[tokio::test]
async fn a_push_asks_for_a_deploy_that_others_hear_of() {
    let doors = doors().await;
    let ada = signed_up(&doors, "ada@example.com").await;
    doors.web.app_create(&ada, "shop").await.unwrap();
    let target = doors.receiver.push_target(&ada, &name("shop")).await.unwrap();
    assert_eq!(target.deploy_branch, "main");

    let mut changes = doors.web.changes();
    tokio::time::timeout(Duration::from_secs(10), changes.wait_for(|n| *n > 0)).await.unwrap().unwrap();
    changes.mark_unchanged();
    let key = doors.web.key_add(&ada, "laptop", ED25519).await.unwrap();
    let by_key = doors.receiver.actor_by_key(&key.fingerprint, None).await.unwrap().unwrap();
    assert_eq!(doors.receiver.deploy_create(&by_key, target.app, push(1)).await.unwrap(), 1);
    tokio::time::timeout(Duration::from_secs(10), changes.changed()).await.unwrap().unwrap();
    assert_eq!(doors.receiver.deploy_create(&ada, target.app, push(2)).await.unwrap(), 2);

    let view = doors.web.deploy(&ada, &name("shop"), 1).await.unwrap();
    assert_eq!((view.row.state, view.row.by.as_deref()), (DeployState::Queued, Some("Ada")));
    assert_eq!(view.row.subject, "Say [31mhelloworld", "a control character is never passed on");
    // The receiver sees the same.
    assert_eq!(doors.receiver.deploy(&ada, &name("shop"), 1).await.unwrap(), view);
    let app = doors.web.app(&ada, &name("shop")).await.unwrap();
    assert_eq!(app.deploys.iter().map(|d| d.number).collect::<Vec<_>>(), [2, 1]);
    assert_eq!((app.health, app.summary.as_str()), (AppHealth::Deploying, "deploy 2 is waiting for its turn"));
    assert_eq!(doors.web.apps(&ada).await.unwrap()[0].health, AppHealth::Deploying);
    assert!(doors.receiver.branch_moves().await.unwrap().is_empty());

    // Its page names the key, while it is there.
    let facts = async || doors.web.deploy_page(&ada, &name("shop"), 1).await.unwrap().facts.unwrap();
    let told = facts().await;
    assert_eq!((told.key.as_deref(), told.before, told.lately.len(), told.found.len()), (Some("laptop"), None, 0, 0));
    doors.web.key_remove(&ada, key.id).await.unwrap();
    assert_eq!(facts().await.key, None);
    assert_eq!(doors.receiver.deploy_create(&by_key, target.app, push(3)).await.unwrap(), 3, "its key is gone by now");
}

#[tokio::test]
async fn what_was_done_to_the_branches_of_an_app_is_among_what_was_done_to_it() {
    let doors = doors().await;
    let ada = signed_up(&doors, "ada@example.com").await;
    doors.web.app_create(&ada, "shop").await.unwrap();
    let app = doors.receiver.push_target(&ada, &name("shop")).await.unwrap().app;
    doors.receiver.branch_keep(&ada, app, "try", &push(1).commit, None).await.unwrap();
    doors.receiver.branch_forget(&ada, app, "try").await.unwrap();
    let events = doors.web.events(&ada, Some(&name("shop")), None).await.unwrap();
    let said: Vec<_> = events.iter().map(|event| (event.verb.as_str(), event.subject.as_str())).collect();
    assert_eq!(said, [("branch delete", "shop"), ("branch push", "shop"), ("app create", "shop")]);
}

#[tokio::test]
async fn what_is_asked_of_an_app_is_allowed_to_its_owner_and_told_why_not() {
    let doors = doors().await;
    let (ada, eve) = (signed_up(&doors, "ada@example.com").await, signed_up(&doors, "eve@example.com").await);
    doors.web.app_create(&ada, "shop").await.unwrap();
    let (shop, w) = (name("shop"), &doors.web);
    let none = commands::Scale::default();
    refused(w.app_stop(&eve, &shop).await, Kind::NotFound);
    refused(w.app_start(&eve, &shop).await, Kind::NotFound);
    refused(w.app_restart(&eve, &shop).await, Kind::NotFound);
    refused(w.app_scale(&eve, &shop, &none).await, Kind::NotFound);
    refused(w.app_delete(&eve, &shop, "shop").await, Kind::NotFound);
    refused(w.deploy_roll_back(&eve, &shop, 1).await, Kind::NotFound);
    refused(w.deploy_again(&eve, &shop, 1).await, Kind::NotFound);
    refused(w.deploy_cancel(&eve, &shop, 1).await, Kind::NotFound);
    assert_eq!(refused(w.app_restart(&ada, &shop).await, Kind::Conflict).message(), "Nothing serves yet.");
    refused(w.app_scale(&ada, &shop, &none).await, Kind::Conflict);

    let target = doors.receiver.push_target(&ada, &shop).await.unwrap();
    doors.receiver.deploy_create(&ada, target.app, push(1)).await.unwrap();
    refused(w.deploy_again(&ada, &shop, 1).await, Kind::Conflict);
    refused(w.deploy_roll_back(&ada, &shop, 1).await, Kind::Conflict);
    refused(w.deploy_cancel(&ada, &shop, 2).await, Kind::NotFound);
    w.deploy_cancel(&ada, &shop, 1).await.unwrap();
    refused(w.deploy_cancel(&ada, &shop, 1).await, Kind::Conflict);
    let row = w.deploy(&ada, &shop, 1).await.unwrap().row;
    assert_eq!((row.state, row.offer), (DeployState::Canceled, Some(commands::Offer::Again)));
    assert_eq!(w.deploy_again(&ada, &shop, 1).await.unwrap(), 2);
    assert_eq!(w.deploy(&ada, &shop, 2).await.unwrap().row.origin, Some(1));

    w.app_stop(&ada, &shop).await.unwrap();
    w.app_stop(&ada, &shop).await.unwrap();
    assert_eq!(w.app(&ada, &shop).await.unwrap().health, AppHealth::Stopped);
    assert_eq!(refused(w.app_restart(&ada, &shop).await, Kind::Conflict).message(), "The app is stopped.");
    w.app_start(&ada, &shop).await.unwrap();

    assert_eq!(refused(w.app_delete(&ada, &shop, "shopp").await, Kind::Invalid).field(), Some("name"));
    w.app_delete(&ada, &shop, " shop ").await.unwrap();
    refused(w.app(&ada, &shop).await, Kind::NotFound);
    refused(doors.receiver.deploy_create(&ada, target.app, push(2)).await, Kind::NotFound);
    // Its name waits for its customer.
    refused(w.app_create(&eve, "shop").await, Kind::Conflict);
    w.app_create(&ada, "shop").await.unwrap();
    assert!(w.app(&ada, &shop).await.unwrap().deploys.is_empty());
}

#[tokio::test]
async fn when_postgresql_is_away_it_is_said_so() {
    let urls = Urls {
        site: String::new(),
        apps_domain: "localhost".into(),
        apps_scheme: "http".into(),
        apps_port: None,
        ssh: String::new(),
    };
    let database_url = Secret::new("postgres://nobody@localhost/none?host=/nowhere".to_owned());
    let commands = Commands::connect(Config { database_url, logs: None, urls, seal: None }).await.unwrap();
    let error = refused(commands.sign_in("a@b.example", &password(GOOD)).await, Kind::Away);
    assert_eq!(error.message(), "The database does not answer just now.");
    assert!(!format!("{error:?}").contains(GOOD));
}

/// Carries bytes to PostgreSQL until it is told to hang.
async fn between(postgres: &harness::Postgres, dir: &std::path::Path) -> (String, tokio::sync::watch::Sender<bool>) {
    let url = postgres.url();
    let (base, real) = url.split_once("?host=").unwrap();
    let listener = tokio::net::UnixListener::bind(dir.join(".s.PGSQL.5432")).unwrap();
    let (hang, hanging) = tokio::sync::watch::channel(false);
    let real = std::path::Path::new(real).join(".s.PGSQL.5432");
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let (real, mut hanging) = (real.clone(), hanging.clone());
            tokio::spawn(async move {
                if *hanging.borrow() {
                    // Not even begun: a server waits for who signs in, and holds up what others do.
                    return std::future::pending::<()>().await;
                }
                let mut far = tokio::net::UnixStream::connect(real).await.unwrap();
                let hung = async { hanging.wait_for(|hang| *hang).await.is_ok() };
                let over = tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => true,
                    hung = hung => !hung,
                };
                if !over {
                    std::future::pending::<()>().await;
                }
            });
        }
    });
    (format!("{base}?host={}", dir.display()), hang)
}

#[tokio::test]
async fn a_postgresql_that_hangs_is_one_that_is_away() {
    let postgres = harness::postgres().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (url, hang) = between(&postgres, dir.path()).await;
    let urls = Urls {
        site: String::new(),
        apps_domain: "localhost".into(),
        apps_scheme: "http".into(),
        apps_port: None,
        ssh: String::new(),
    };
    let config = Config { database_url: Secret::new(url), logs: None, urls, seal: None };
    let commands = Commands::connect(config).await.unwrap();
    refused(commands.user(UserId(1)).await, Kind::NotFound);
    hang.send(true).unwrap();
    refused(commands.user(UserId(1)).await, Kind::Away);
}
