//! What commands return: structs of their own, since a column is not an API. Sums, states and
//! permissions come finished; a page only draws them.

use domain::{
    AppName, AppState, Cause, CommitId, CustomerId, DeployId, DeployState, Email, InstanceId, InstanceState, KeyId,
    Outcome, ProcessName, Reason, ReleaseNumber, Step, Time, UserId,
};

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
    pub created: Time,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ProcessView {
    pub process: ProcessName,
    pub count: u16,
    /// Of each.
    pub memory_bytes: i64,
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
