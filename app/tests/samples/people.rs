use app::{AccountPage, CustomersPage, DecisionsPage, KeyForm, PasswordForm, TokenForm, Typed};
use commands::*;
use domain::*;

use super::ago;

pub fn limits() -> LimitsView {
    LimitsView {
        apps: Used { used: 4, max: 10 },
        memory_bytes: Used { used: 1536 << 20, max: 2 << 30 },
        builds: Used { used: 0, max: 1 },
        build_seconds_max: 600,
        disk_bytes: Used { used: 812 << 20, max: 5 << 30 },
    }
}

pub fn event(words: &str) -> EventView {
    EventView {
        id: 1,
        at: ago(300),
        by: Some(words.to_owned()),
        door: "ssh".to_owned(),
        origin: Some("192.0.2.7".parse().unwrap()),
        verb: "app scale".to_owned(),
        subject: words.to_owned(),
        before: Some(words.to_owned()),
        after: Some(words.to_owned()),
    }
}

pub fn account_page(keys: Vec<KeyView>, key: KeyForm, words: &str) -> AccountPage {
    let password = PasswordForm { old: Some(words.to_owned()), ..PasswordForm::default() };
    let token = |name: &str, expires| TokenView {
        id: TokenId(1),
        name: name.to_owned(),
        scope: TokenScope::Write,
        created: ago(9000),
        last_used: Some(ago(60)),
        expires,
    };
    let tokens = vec![token(words, Some(ago(3600))), token("CI", None)];
    let made = Some((words.to_owned(), Secret::new(format!("berth_{}", "a1B2".repeat(10)))));
    let token = TokenForm { name: Typed::wrong(words, words), made, ..TokenForm::default() };
    AccountPage { keys, key, password, tokens, token, limits: limits(), events: vec![event(words)] }
}

pub fn overview(words: &str) -> OverviewView {
    let server = |name: &str, silent: Option<f64>| ServerView {
        name: name.to_owned(),
        region: words.to_owned(),
        cores: 16,
        memory_bytes: 32 << 30,
        memory_used_bytes: 21 << 30,
        memory_reserved_bytes: 26 << 30,
        cores_used: silent.map(|_| 6.1),
        instances: 1,
        builds: 1,
        disk_bytes: 400 << 30,
        disk_free_bytes: 260 << 30,
        disk_is_short: false,
        silent_seconds: silent,
        runs: vec![ServerInstance {
            app: "orchard".parse().unwrap(),
            process: ProcessName::web(),
            index: 1,
            state: InstanceState::Healthy,
            memory_bytes: 512 << 20,
        }],
    };
    OverviewView {
        servers: vec![server("s1", Some(0.6)), server(words, Some(400.0)), server("s3", None)],
        customers: 214,
        customers_waiting: 2,
        letters_failed: 1,
        decisions: vec![decision(words)],
        stranded: vec![],
        requests: Some(1284.2),
        unanswered: 0.0001,
        deploys: 61,
        deploys_failed: 2,
        requests_failed: 0,
    }
}

/// As the mock has it: six servers, and nothing to do.
pub fn calm_overview() -> OverviewView {
    let view = overview("Hamburg");
    let server = |n: usize, used: f64, promised: f64, cpu: f64, instances: i64| {
        let gib = |n: f64| (n * f64::from(1 << 30)) as i64;
        ServerView {
            name: format!("s{n}"),
            memory_used_bytes: gib(used),
            memory_reserved_bytes: gib(promised),
            cores_used: Some(cpu * 0.16),
            instances,
            builds: 0,
            ..view.servers[0].clone()
        }
    };
    let servers = vec![
        server(1, 21.4, 26.0, 38.0, 47),
        server(2, 23.1, 27.5, 44.0, 52),
        server(3, 18.8, 24.0, 31.0, 41),
        server(4, 6.2, 8.5, 9.0, 13),
        server(5, 20.6, 25.5, 36.0, 45),
        server(6, 14.9, 19.0, 27.0, 33),
    ];
    OverviewView { servers, customers_waiting: 0, letters_failed: 0, ..view }
}

fn row(words: &str, approval: Approval) -> CustomerRow {
    CustomerRow {
        id: CustomerId(7),
        name: words.to_owned(),
        email: words.to_owned(),
        confirmed: approval == Approval::Approved,
        operator: false,
        approval,
        created: ago(90_000),
        apps: 4,
        apps_max: 10,
        memory_bytes_max: 2 << 30,
        currency: Currency::EUR,
        spent: Money::from_micros(25_900_000),
    }
}

pub fn customers_page(words: &str) -> CustomersPage {
    let customers = vec![row(words, Approval::Waiting), row(words, Approval::Approved)];
    let view = CustomersView { customers, all: 214, waiting: 1, next: Some(CustomerId(7)) };
    CustomersPage { view, state: None, words: words.to_owned() }
}

pub fn customer_page(words: &str) -> CustomerPage {
    CustomerPage {
        row: row(words, Approval::Waiting),
        limits: limits(),
        apps: vec![("orchard".parse().unwrap(), AppState::Running)],
        members: vec![(words.to_owned(), false)],
        events: vec![event(words)],
    }
}

fn decision(words: &str) -> Decision {
    Decision {
        at: ago(40),
        app: Some("orchard".parse().unwrap()),
        customer: Some((CustomerId(7), words.to_owned())),
        what: words.to_owned(),
        reason: words.to_owned(),
    }
}

pub fn decisions_page(words: &str) -> DecisionsPage {
    let view = DecisionView { decisions: vec![decision(words)], next: Some(1) };
    DecisionsPage { view, app: words.to_owned(), customer: words.to_owned() }
}

pub fn letters_view(words: &str) -> LettersView {
    let letter = |state, error: Option<&str>| LetterView {
        id: MailId(3),
        address: words.to_owned(),
        subject: words.to_owned(),
        state,
        tries: 3,
        error: error.map(str::to_owned),
        created: ago(500),
    };
    let letters = vec![letter(MailState::Failed, Some(words)), letter(MailState::Sent, None)];
    LettersView { letters, waiting: 0, failed: 1, next: Some(MailId(3)) }
}

pub fn config_view(words: &str) -> ConfigView {
    let var = |name: &str, value: Option<&str>| VarView {
        name: name.to_owned(),
        value: value.map(str::to_owned),
        bytes: 12,
        by: Some(words.to_owned()),
        since: ago(500),
    };
    ConfigView {
        app: "orchard".parse().unwrap(),
        url: "https://orchard.quay.example".to_owned(),
        vars: vec![var("API_KEY", None), var("GREETING", Some(words))],
        stale: true,
        deploy: None,
    }
}
