//! What commands return: structs of their own, since a column is not an API. Sums, states and
//! permissions come finished; a page only draws them.

use std::net::IpAddr;

use domain::{
    AppName, AppState, Approval, Cause, CommitId, Currency, CustomerId, DeployId, DeployState, DiskKind, Email,
    InstanceId, InstanceState, KeyId, MailId, MailState, Money, Outcome, ProcessName, Reason, ReleaseNumber, Step,
    Time, UserId,
};

use plan::cost::Cost;

use crate::{AppCostView, DeployCost, DeployFacts, Spent};

/// The signed-in user, for the header and the account page.
#[derive(Debug, Clone, PartialEq)]
pub struct UserView {
    pub id: UserId,
    pub customer: CustomerId,
    pub customer_name: String,
    pub email: Email,
    pub name: String,
    pub operator: bool,
    /// Sessions that began before are void.
    pub sessions_since: Time,
    pub has_password: bool,
    /// The address was shown to be theirs; without it nothing is begun.
    pub confirmed: bool,
    /// Of their customer.
    pub approval: Approval,
    /// The database came back older than what runs: nothing is changed until the operator has looked.
    pub truth_is_older: bool,
    /// What their customer used this month, where whoever draws a page asked for it.
    pub spent: Option<Spent>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct KeyView {
    pub id: KeyId,
    pub name: String,
    /// `ssh-ed25519`
    pub kind: String,
    /// `SHA256:…`
    pub fingerprint: String,
    pub created: Time,
    pub last_used: Option<Time>,
}

/// How an app does, worst first (needing attention sorts first).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AppHealth {
    /// Its last deploy failed and nothing serves, or no instance is healthy.
    Failed,
    /// Serves, but its last deploy failed or an instance crashed lately.
    Warned,
    /// A deploy is under way.
    Deploying,
    Running,
    /// Nothing was deployed yet.
    Empty,
    Stopped,
}

#[derive(Debug, Clone, PartialEq)]
pub struct AppRow {
    pub name: AppName,
    pub url: String,
    pub health: AppHealth,
    /// One sentence: "v14 serves", "deploy 15 failed: …".
    pub summary: String,
    pub release: Option<ReleaseNumber>,
    pub last_deploy: Option<DeployRow>,
    pub created: Time,
    /// This month so far; `None`: it was not asked for, or cannot be known just now.
    pub cost: Option<Cost>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct AppView {
    pub name: AppName,
    pub url: String,
    /// `ssh://berth@host:2222/shop.git`
    pub git_url: String,
    pub deploy_branch: String,
    pub state: AppState,
    pub health: AppHealth,
    pub summary: String,
    pub release: Option<ReleaseNumber>,
    pub instances: Vec<InstanceView>,
    /// What its serving release runs, and how many of each; empty when nothing serves.
    pub processes: Vec<ProcessView>,
    /// The latest first, at most 20.
    pub deploys: Vec<DeployRow>,
    pub disk: AppDisk,
    pub created: Time,
    /// `None`: it was not asked for, or cannot be known just now.
    pub cost: Option<AppCostView>,
}

/// As it was last measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppDisk {
    pub bytes: i64,
    /// The most first; nothing that takes no room.
    pub kinds: Vec<(DiskKind, i64)>,
    /// Of all apps of the customer, and what those may have.
    pub all_bytes: i64,
    pub bytes_max: i64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ProcessView {
    pub process: ProcessName,
    pub count: u16,
    /// Of each.
    pub memory_bytes: i64,
    /// What starts it; `None`: not asked for.
    pub command: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct InstanceView {
    pub id: InstanceId,
    pub process: ProcessName,
    pub index: i32,
    pub release: ReleaseNumber,
    pub state: InstanceState,
    pub draining: bool,
    pub reason: Option<Reason>,
    pub restarts: i32,
    pub memory_bytes: i64,
    pub since: Time,
    pub server: String,
}

/// What may be asked of a deploy now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    RollBack,
    Again,
    Cancel,
}

#[derive(Debug, Clone, PartialEq)]
pub struct DeployRow {
    pub number: i64,
    pub cause: Cause,
    /// The deploy whose commit this one runs again; a push has none.
    pub origin: Option<i64>,
    pub offer: Option<Offer>,
    pub state: DeployState,
    /// This deploy's release is the one that serves.
    pub serves: bool,
    pub commit: CommitId,
    pub subject: String,
    pub branch: String,
    /// Who asked, by name; `None` when the user is gone.
    pub by: Option<String>,
    pub reason: Option<Reason>,
    pub created: Time,
    pub ended: Option<Time>,
    /// In order; those not begun are absent. Empty in a list of apps.
    pub steps: Vec<StepView>,
    /// `None`: it was not switched on, or nobody counted.
    pub traffic: Option<TrafficView>,
}

/// What was asked of the app from the moment the deploy's instances were started until those before had ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrafficView {
    pub requests: i64,
    /// Answered by a balancer (502, 503, 504), since no instance did.
    pub unanswered: i64,
    /// Answered by the app with 5xx, or broken off by it.
    pub errors: i64,
}

impl TrafficView {
    pub fn failed(&self) -> i64 {
        self.unanswered + self.errors
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct DeployView {
    pub id: DeployId,
    pub app: AppName,
    pub app_url: String,
    pub row: DeployRow,
    /// What serves meanwhile.
    pub serving: Option<ReleaseNumber>,
    /// Where they were asked for.
    pub cost: Option<DeployCost>,
    pub facts: Option<DeployFacts>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct StepView {
    pub step: Step,
    pub attempt: i32,
    pub started: Time,
    pub ended: Option<Time>,
    pub outcome: Option<Outcome>,
    pub detail: Option<String>,
}

/// What is used of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    pub used: i64,
    pub max: i64,
}

/// What a customer may use, and what is used of it now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitsView {
    pub apps: Used,
    /// Reserved by the instances of apps that run.
    pub memory_bytes: Used,
    /// At once.
    pub builds: Used,
    /// Of one build.
    pub build_seconds_max: i32,
    pub disk_bytes: Used,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq)]
pub struct WhoView {
    pub name: String,
    pub email: String,
    pub customer: String,
    pub confirmed: bool,
    pub approval: Approval,
    pub limits: LimitsView,
}

/// Who did what when from where.
#[derive(Debug, Clone, PartialEq)]
pub struct EventView {
    pub id: i64,
    pub at: Time,
    /// By name; `None`: root's shell, or a user who is gone.
    pub by: Option<String>,
    /// `page`, `ssh`, `api`, `shell`
    pub door: String,
    pub origin: Option<IpAddr>,
    /// `app create`
    pub verb: String,
    pub subject: String,
    /// In words.
    pub before: Option<String>,
    pub after: Option<String>,
}

/// For the operator.
#[derive(Debug, Clone, PartialEq)]
pub struct OverviewView {
    pub servers: Vec<ServerView>,
    pub customers: i64,
    pub customers_waiting: i64,
    pub letters_failed: i64,
    /// The newest.
    pub decisions: Vec<Decision>,
    /// Servers that the fleet could not lose now.
    pub stranded: Vec<StrandedView>,
    /// Requests a second lately; `None`: nobody counted.
    pub requests: Option<f64>,
    /// Of them, those that no app answered, from 0 to 1.
    pub unanswered: f64,
    /// Since midnight (UTC).
    pub deploys: i64,
    pub deploys_failed: i64,
    pub requests_failed: i64,
}

/// A server, how many instances it runs, and for how many of them there would be no place on the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StrandedView {
    pub server: String,
    pub runs: usize,
    pub without_place: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ServerView {
    pub name: String,
    pub region: String,
    pub cores: i32,
    /// What apps may use.
    pub memory_bytes: i64,
    pub memory_used_bytes: i64,
    pub memory_reserved_bytes: i64,
    /// Of its cores, those that apps kept busy lately; `None`: not known.
    pub cores_used: Option<f64>,
    pub instances: i64,
    pub builds: i64,
    /// Of the disk that its data is on; 0: not known yet.
    pub disk_bytes: i64,
    pub disk_free_bytes: i64,
    /// Less than must stay free: it takes nothing new.
    pub disk_is_short: bool,
    /// Since it was written down that it was heard; that happens every ten seconds. `None`: never.
    pub silent_seconds: Option<f64>,
    pub runs: Vec<ServerInstance>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ServerInstance {
    pub app: AppName,
    pub process: ProcessName,
    pub index: i32,
    pub state: InstanceState,
    pub memory_bytes: i64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct CustomersView {
    pub customers: Vec<CustomerRow>,
    pub all: i64,
    pub waiting: i64,
    /// Where the next page begins.
    pub next: Option<CustomerId>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct CustomerRow {
    pub id: CustomerId,
    pub name: String,
    /// Of the first who joined.
    pub email: String,
    pub confirmed: bool,
    pub operator: bool,
    pub approval: Approval,
    pub created: Time,
    pub apps: i64,
    pub apps_max: i32,
    pub memory_bytes_max: i64,
    pub currency: Currency,
    /// This month, until the last full hour.
    pub spent: Money,
}

#[derive(Debug, Clone, PartialEq)]
pub struct CustomerPage {
    pub row: CustomerRow,
    pub limits: LimitsView,
    pub apps: Vec<(AppName, AppState)>,
    /// Their addresses, and whether each is confirmed.
    pub members: Vec<(String, bool)>,
    pub events: Vec<EventView>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct DecisionView {
    pub decisions: Vec<Decision>,
    pub next: Option<i64>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    pub at: Time,
    pub app: Option<AppName>,
    pub customer: Option<(CustomerId, String)>,
    pub what: String,
    pub reason: String,
}

impl From<store::decision::Decision> for Decision {
    fn from(row: store::decision::Decision) -> Self {
        let customer = row.customer.zip(row.customer_name);
        Self { at: row.at, app: row.app, customer, what: row.what, reason: row.reason }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct LettersView {
    pub letters: Vec<LetterView>,
    pub waiting: i64,
    pub failed: i64,
    pub next: Option<MailId>,
}

/// What it says is nobody's but its reader's.
#[derive(Debug, Clone, PartialEq)]
pub struct LetterView {
    pub id: MailId,
    pub address: String,
    pub subject: String,
    pub state: MailState,
    pub tries: i32,
    pub error: Option<String>,
    pub created: Time,
}
