//! What a person may ask of Berth, one function a verb: the SSH, JSON and page doors offer the
//! same, and cannot differ.
//!
//! A command decides who may, checks, and writes in one transaction with its event. It reads log
//! lines through the logs process, after the owner was checked in the store. Not yours and not
//! there are the same error.

pub mod api;
mod apps;
mod billing;
mod config;
mod deploy_page;
mod deploys;
mod disk;
mod error;
mod keys;
mod letters;
mod limits;
mod log;
mod operator;
mod password;
mod people;
mod restore;
mod tokens;
mod usage;
mod users;
mod verbs;
mod view;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use domain::{AppName, CustomerId, KeyId, Secret, UserId};
use store::event::NewEvent;
use store::{Db, Tx};
use tokio::sync::watch;

use self::password::Passwords;

pub use self::billing::{
    AppCost, AppCostView, AppRef, BillView, DayCost, DayRate, DeployCost, Example, ForecastView, HourCost, MeterCost,
    MeterTyped, NewPrices, PriceList, PricesView, RangeCost, ReadingView, Spent, VersionView, WhyAsked, WhySegment,
    WhyView, Wrong,
};
pub use self::config::{ConfigView, Shown, VarSet, VarView, parse_env};
pub use self::deploy_page::{Change, DeployFacts, Piece};
pub use self::deploys::{BranchMove, DEPLOYS_A_PAGE, NewPush, PushTarget, Repository, Which};
pub use self::disk::{DiskView, Naming, Untidy, kind_name, size};
pub use self::error::{CommandError, Kind};
pub use self::limits::EVENTS_A_PAGE;
pub use self::log::{LogLines, LogTurn, LogWhat};
pub use self::operator::{CustomersAsked, DecisionsAsked, NewLimits, Operator};
pub use self::people::{ApprovalRule, Confirmation, Rules};
pub use self::tokens::{ApiActor, MadeToken, NewToken, TokenView};
pub use self::usage::{
    Classes, LatencyView, MemoryUse, Range, Spark, UsageMark, UsageNow, UsagePoint, UsageTotal, UsageView,
};
pub use self::users::SignUp;
pub use self::verbs::Scale;
pub use self::view::*;

/// Who asks; made only from a checked session, key, token or (on the server itself) root's shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    pub user: UserId,
    pub customer: CustomerId,
    pub door: Door,
    pub origin: Option<IpAddr>,
    /// The key that they proved it by, if it was one.
    pub key: Option<KeyId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    Page,
    Ssh,
    /// A token of the JSON API.
    Api,
    /// The operator, as root on the server.
    Shell,
}

impl Door {
    fn as_str(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Ssh => "ssh",
            Self::Api => "api",
            Self::Shell => "shell",
        }
    }
}

/// How the outside is named; every URL that is shown is made from it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Urls {
    /// `http://localhost:8080`
    pub site: String,
    /// `localhost` or the operator's domain; an app is `<app>.<apps domain>`.
    pub apps_domain: String,
    pub apps_scheme: String,
    /// `None`: the scheme's own.
    pub apps_port: Option<u16>,
    /// `berth@host:2222`
    pub ssh: String,
}

impl Urls {
    /// `http://shop.localhost:8080`
    pub fn app(&self, name: &AppName) -> String {
        let port = self.apps_port.map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}://{name}.{}{port}", self.apps_scheme, self.apps_domain)
    }

    /// `ssh://berth@host:2222/shop.git`
    pub fn git(&self, name: &AppName) -> String {
        format!("ssh://{}/{name}.git", self.ssh)
    }
}

#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Config {
    pub database_url: Secret<String>,
    /// Of the asking role, at the logs process; absent in `berth user`.
    pub logs: Option<(std::path::PathBuf, Secret<String>)>,
    pub urls: Urls,
    /// Seals secret config vars, where any are set.
    #[serde(default)]
    pub seal: Option<seal::PublicKey>,
}

const CONNECTIONS_MAX: u32 = 8;
/// Of a whole command: a PostgreSQL that hangs is one that is away.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
const LISTEN_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The door itself: cheap to clone.
#[derive(Debug, Clone)]
pub struct Commands {
    db: Db,
    logs: Option<link::Client>,
    urls: Arc<Urls>,
    seal: Option<seal::PublicKey>,
    passwords: Passwords,
    rules: Rules,
    changes: watch::Receiver<u64>,
    books: billing::Kept,
    prices: billing::KeptPrices,
    /// Who claims steps: this process.
    holder: Arc<str>,
    /// Listens as long as anybody holds a `Commands`.
    _listening: Arc<Listening>,
}

#[derive(Debug)]
struct Listening(tokio::task::AbortHandle);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Commands {
    /// PostgreSQL may be away: it is connected to when it is needed.
    pub async fn connect(config: Config) -> Result<Self, CommandError> {
        let db = Db::open(&config.database_url, CONNECTIONS_MAX)?;
        let (tick, changes) = watch::channel(0);
        let listening = tokio::spawn(listen(db.clone(), tick)).abort_handle();
        Ok(Self {
            db,
            logs: config.logs.map(|(socket, token)| link::Client::new(socket, token)),
            urls: Arc::new(config.urls),
            seal: config.seal,
            passwords: Passwords::new(),
            rules: Rules::default(),
            changes,
            books: billing::Kept::default(),
            prices: billing::KeptPrices::default(),
            holder: format!("{:016x}", rand::random::<u64>()).into(),
            _listening: Arc::new(Listening(listening)),
        })
    }

    /// Ticks when something of control changed, in any app: look again.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    pub fn urls(&self) -> &Urls {
        &self.urls
    }

    fn event<'a>(&self, door: Door, verb: &'a str, subject: &'a str) -> NewEvent<'a> {
        let door = door.as_str();
        NewEvent { user: None, customer: None, door, origin: None, verb, subject, before: None, after: None }
    }

    async fn record(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        verb: &str,
        subject: &str,
        before: Option<serde_json::Value>,
        after: Option<serde_json::Value>,
    ) -> Result<(), CommandError> {
        let event = NewEvent {
            user: Some(actor.user),
            customer: Some(actor.customer),
            origin: actor.origin,
            before,
            after,
            ..self.event(actor.door, verb, subject)
        };
        Ok(store::event::record(tx, event).await?)
    }
}

/// What does not end in time was not done, as far as anybody knows: a transaction that was not committed is
/// rolled back when its connection goes.
async fn timely<T>(work: impl Future<Output = Result<T, CommandError>>) -> Result<T, CommandError> {
    match tokio::time::timeout(COMMAND_TIMEOUT, work).await {
        Ok(done) => done,
        Err(late) => Err(CommandError::Away { what: "The database", cause: late.into() }),
    }
}

/// Ticks at every wake-up, and after every gap in hearing them.
async fn listen(db: Db, tick: watch::Sender<u64>) {
    loop {
        match db.listen().await {
            Ok(mut listener) => {
                tick.send_modify(|n| *n += 1);
                while listener.changed().await.is_ok() {
                    tick.send_modify(|n| *n += 1);
                }
            }
            Err(cause) => tracing::debug!(error = %cause, "not hearing of changes; trying again"),
        }
        tokio::time::sleep(LISTEN_AGAIN_AFTER).await;
    }
}
