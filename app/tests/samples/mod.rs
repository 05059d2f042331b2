//! One account at one moment, as commands would return it: for the tests of the pages, and for
//! looking at them (`cargo run -p app --example pages -- FOLDER`).
#![allow(dead_code, clippy::unwrap_used, reason = "each user takes some; what is made up parses")]

use std::time::Duration;

use app::Site;
use commands::*;
use domain::wire::LogLine;
use domain::*;

/// 17 November 2026, 14:32:07 UTC.
pub const NOW: Time = Time::from_unix_micros(1_794_925_927_000_000);

pub fn ago(seconds: u64) -> Time {
    NOW.minus(Duration::from_secs(seconds))
}

pub fn ms(at: Time, ms: u64) -> Time {
    at.plus(Duration::from_millis(ms))
}

pub fn site() -> Site {
    Site {
        assets: "assets".to_owned(),
        islands: true,
        sign_up: true,
        approval: true,
        confirmation: true,
        letters: None,
        urls: Urls {
            site: "https://berth.example".to_owned(),
            apps_domain: "quay.example".to_owned(),
            apps_scheme: "https".to_owned(),
            apps_port: None,
            ssh: "berth@berth.example:2222".to_owned(),
        },
    }
}

pub fn ines() -> UserView {
    UserView {
        id: UserId(1),
        customer: CustomerId(1),
        customer_name: "Fernway Studio".to_owned(),
        email: "ines@fernway.example".parse().unwrap(),
        name: "Ines Falk".to_owned(),
        operator: false,
        sessions_since: ago(1_000_000),
        has_password: true,
        confirmed: true,
        approval: Approval::Approved,
        truth_is_older: false,
        spent: Some(money::spent()),
    }
}

/// The samples of money.
pub mod money;
/// The samples of people: what an account, a customer, an operator sees.
pub mod people;

pub mod usage;

pub fn key(id: i64, name: &str, used: Option<Time>) -> KeyView {
    KeyView {
        id: KeyId(id),
        name: name.to_owned(),
        kind: "ssh-ed25519".to_owned(),
        fingerprint: "SHA256:u5Jq0c1nVtZq2m7kT9xYbW4eRsLpA6dHfGjK8oN8mRk".to_owned(),
        created: ago(1_000_000),
        last_used: used,
    }
}

pub fn row(number: i64, state: DeployState, subject: &str, before: u64, took: u64) -> DeployRow {
    DeployRow {
        number,
        cause: Cause::Push,
        origin: None,
        offer: None,
        state,
        serves: false,
        commit: "9c41e7b0d2f4a6b8c0d2e4f6a8b0c2d4e6f8a0b2".parse().unwrap(),
        subject: subject.to_owned(),
        branch: "main".to_owned(),
        by: Some("Ines Falk".to_owned()),
        reason: None,
        created: ago(before),
        ended: state.is_final().then(|| ms(ago(before), took)),
        steps: vec![],
        traffic: None,
    }
}

pub fn instance(index: i32, release: i64, state: InstanceState) -> InstanceView {
    InstanceView {
        id: InstanceId(40 + i64::from(index)),
        process: ProcessName::web(),
        index,
        release: ReleaseNumber(release),
        state,
        draining: false,
        reason: None,
        restarts: 0,
        memory_bytes: 512 << 20,
        since: ago(7200),
        server: "s1".to_owned(),
    }
}

fn back(row: DeployRow) -> DeployRow {
    DeployRow { offer: Some(Offer::RollBack), ..row }
}

pub fn orchard() -> AppView {
    let mut serving = row(141, DeployState::Live, "Faster search for authors", 14_400, 21_400);
    serving.serves = true;
    let mut failed = row(138, DeployState::Failed, "Move to gunicorn", 262_000, 79_000);
    failed.reason = Some(reason());
    failed.steps = failed_steps(failed.created);
    AppView {
        name: "orchard".parse().unwrap(),
        url: "https://orchard.quay.example".to_owned(),
        git_url: "ssh://berth@berth.example:2222/orchard.git".to_owned(),
        deploy_branch: "main".to_owned(),
        state: AppState::Running,
        health: AppHealth::Deploying,
        summary: "v141 serves".to_owned(),
        release: Some(ReleaseNumber(141)),
        processes: vec![ProcessView {
            process: ProcessName::web(),
            count: 1,
            memory_bytes: 512 << 20,
            command: Some("gunicorn orchard.wsgi".to_owned()),
        }],
        instances: vec![instance(1, 141, InstanceState::Healthy)],
        deploys: vec![
            row(142, DeployState::Starting, "Show stock per branch", 18, 0),
            serving,
            back(row(140, DeployState::Live, "Resize covers on upload", 75_000, 24_000)),
            back(row(139, DeployState::Live, "Larger covers", 98_000, 23_100)),
            failed,
        ],
        disk: AppDisk {
            bytes: 21 << 20,
            kinds: vec![(DiskKind::Image, 18 << 20), (DiskKind::Repository, 2 << 20), (DiskKind::Log, 1 << 20)],
            all_bytes: 120 << 20,
            bytes_max: 5 << 30,
        },
        created: ago(10_000_000),
        cost: Some(money::orchard()),
    }
}

pub fn empty_app() -> AppView {
    AppView {
        name: "kiln".parse().unwrap(),
        git_url: "ssh://berth@berth.example:2222/kiln.git".to_owned(),
        url: "https://kiln.quay.example".to_owned(),
        health: AppHealth::Empty,
        summary: "waits for its first push".to_owned(),
        release: None,
        processes: vec![],
        instances: vec![],
        deploys: vec![],
        ..orchard()
    }
}

pub fn reason() -> Reason {
    Reason::new("web listens on 127.0.0.1:8000; it has to listen on 0.0.0.0 and the port in $PORT")
        .hint("In Procfile: web: gunicorn notes:app --bind 0.0.0.0:$PORT")
}

pub fn step(step: Step, from: Time, took: Option<u64>, detail: &str) -> StepView {
    StepView {
        step,
        attempt: 1,
        started: from,
        ended: took.map(|took| ms(from, took)),
        outcome: took.map(|_| Outcome::Done),
        detail: (!detail.is_empty()).then(|| detail.to_owned()),
    }
}

pub fn deploying() -> DeployView {
    let mut row = row(142, DeployState::Starting, "Show stock per branch", 18, 0);
    let from = row.created;
    row.steps = vec![step(Step::Build, ms(from, 300), Some(13_400), ""), step(Step::Start, ms(from, 13_900), None, "")];
    DeployView {
        id: DeployId(9),
        app: "orchard".parse().unwrap(),
        app_url: "https://orchard.quay.example".to_owned(),
        row,
        serving: Some(ReleaseNumber(141)),
        cost: Some(money::deploy_cost()),
        facts: Some(DeployFacts {
            key: Some("harbour-laptop".to_owned()),
            before: Some("3fd20aab7c8d9e0f1a2b3c4d5e6f708192a3b4c5".parse().unwrap()),
            lately: [19, 24, 21].map(Duration::from_secs).to_vec(),
            found: [
                (Step::Build, vec![Piece::Text("Python: web and worker; an image of 84 MiB".to_owned())]),
                (Step::Start, vec![Piece::Text("1 of 2 answers ".to_owned()), Piece::Code("/healthz".to_owned())]),
            ]
            .into(),
            change: None,
        }),
    }
}

fn failed_steps(from: Time) -> Vec<StepView> {
    let mut start = step(Step::Start, ms(from, 17_000), Some(61_700), "");
    start.outcome = Some(Outcome::Failed);
    vec![step(Step::Build, ms(from, 500), Some(16_200), ""), start]
}

pub fn failed() -> DeployView {
    let mut row = row(138, DeployState::Failed, "Move to gunicorn", 262_000, 79_000);
    row.reason = Some(reason());
    let from = row.created;
    row.steps = failed_steps(from);
    let view = deploying();
    let facts = DeployFacts {
        change: Some(Change {
            before: "web: gunicorn notes.wsgi --bind 127.0.0.1:8000".to_owned(),
            after: "web: gunicorn notes.wsgi --bind 0.0.0.0:$PORT".to_owned(),
        }),
        found: [(Step::Start, vec![Piece::Text("0 of 1 answered; 60 s allowed".to_owned())])].into(),
        ..view.facts.clone().unwrap()
    };
    DeployView { row, serving: Some(ReleaseNumber(137)), facts: Some(facts), ..view }
}

pub fn lines(texts: &[(&str, &str)]) -> Vec<LogLine> {
    let from = ago(9);
    let line = |(at, (source, text)): (usize, &(&str, &str))| LogLine {
        cursor: at as u64 + 1,
        at: ms(from, 640 * at as u64),
        source: (*source).to_owned(),
        text: (*text).to_owned(),
    };
    texts.iter().enumerate().map(line).collect()
}

pub fn app_lines() -> Vec<LogLine> {
    lines(&[
        ("web.1", "GET /authors/ngozi-adeleke 200 in 41 ms"),
        ("web.1", "GET /covers/9781-s.webp 304 in 3 ms"),
        ("web.1", "POST /basket/items 303 in 66 ms"),
        ("berth", "v142: web.1 started, waiting for $PORT"),
        ("web.1", "GET /branches/9/stock 500 in 12 ms"),
        ("web.1", "KeyError: 'branch_name' in stock/views.py line 118"),
        ("web.1", "GET /basket 200 in 35 ms"),
    ])
}

pub fn build_lines() -> Vec<LogLine> {
    lines(&[
        ("build", "Python app with requirements.txt"),
        ("build", "Collecting flask==3.1.0"),
        ("build", "Installing collected packages: blinker, click, itsdangerous, jinja2, werkzeug, flask"),
        ("build", "image of 84.1 MiB"),
    ])
}

pub fn app_rows() -> Vec<AppRow> {
    let app = |name: &str, health, summary: &str, release: Option<i64>| AppRow {
        name: name.parse().unwrap(),
        url: format!("https://{name}.quay.example"),
        health,
        summary: summary.to_owned(),
        release: release.map(ReleaseNumber),
        last_deploy: release.map(|n| row(n, DeployState::Live, "New ferry lines", 90_000, 8000)),
        created: ago(9_000_000),
        cost: Some(money::cost(0, 1_770_000)),
    };
    vec![
        app("fieldnotes", AppHealth::Warned, "v32 serves; v33 was not switched on", Some(32)),
        app("orchard", AppHealth::Deploying, "v141 serves; v142 starts", Some(141)),
        app("pressroom", AppHealth::Running, "v58 serves", Some(58)),
        app("atlas", AppHealth::Running, "v12 serves", Some(12)),
        app("kiln", AppHealth::Empty, "waits for its first push", None),
    ]
}
