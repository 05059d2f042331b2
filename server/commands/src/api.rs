//! What is shown to programs: the JSON of the API and of `--json` over SSH, so that the two cannot differ.
//!
//! Names outside, no ids of rows; moments in RFC 3339 (UTC); sizes in bytes; states as the words of `domain`.
//! What is absent is null, not left out.

use domain::Time;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    AppCostView, AppHealth, AppRow, AppView, BillView, Classes, ConfigView, DeployRow, DeployView, EventView,
    InstanceView, KeyView, LatencyView, LimitsView, ProcessView, UsageView, Used, VarView, WhoView,
};

/// In a list of apps.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct App {
    pub name: String,
    pub url: String,
    /// `running`, `deploying`, `warned`, `failed`, `stopped`, `empty`
    pub health: &'static str,
    /// `v14 serves`
    pub summary: String,
    /// The release that serves.
    pub release: Option<i64>,
    pub last_deploy: Option<Deploy>,
    #[schema(format = DateTime)]
    pub created: String,
}

/// One app, with what it runs.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct AppDetail {
    pub name: String,
    pub url: String,
    pub git_url: String,
    pub deploy_branch: String,
    /// What its customer wants of it: `running`, `stopped`
    pub state: &'static str,
    pub health: &'static str,
    pub summary: String,
    pub release: Option<i64>,
    pub processes: Vec<Process>,
    pub instances: Vec<Instance>,
    /// The latest first.
    pub deploys: Vec<Deploy>,
    pub disk_bytes: i64,
    #[schema(format = DateTime)]
    pub created: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Process {
    pub process: String,
    pub count: u16,
    /// Of each.
    pub memory_bytes: i64,
}

#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Instance {
    pub process: String,
    pub index: i32,
    /// `placed`, `starting`, `healthy`, `unhealthy`, `crashed`, `failed`, `stopped`, `done`
    pub state: &'static str,
    pub release: i64,
    /// Takes no new requests and finishes those it has.
    pub draining: bool,
    pub memory_bytes: i64,
    pub restarts: i32,
    #[schema(format = DateTime)]
    pub since: String,
    pub server: String,
    pub reason: Option<Reason>,
}

#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Reason {
    pub message: String,
    pub hint: Option<String>,
}

/// A deploy; once it is live its number is the release's.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Deploy {
    pub number: i64,
    /// `queued`, `building`, `releasing`, `starting`, `switching`; then `live`, `failed` or `canceled`
    pub state: &'static str,
    /// Its release is the one that serves.
    pub serves: bool,
    /// `push`, `restart`, `rollback`, `again`, `config`, `resize`
    pub cause: &'static str,
    /// The deploy that this one runs again.
    pub of: Option<i64>,
    pub commit: String,
    pub subject: String,
    pub branch: String,
    pub by: Option<String>,
    pub reason: Option<Reason>,
    #[schema(format = DateTime)]
    pub created: String,
    #[schema(format = DateTime)]
    pub ended: Option<String>,
    /// In order; those not begun are absent. Empty in lists of apps.
    pub steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Step {
    /// `build`, `release`, `start`, `switch`, `branch`, `drain`
    pub step: &'static str,
    #[schema(format = DateTime)]
    pub started: String,
    #[schema(format = DateTime)]
    pub ended: Option<String>,
    /// `done`, `failed`
    pub outcome: Option<&'static str>,
    pub detail: Option<String>,
}

/// Of one app.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Config {
    pub app: String,
    pub vars: Vec<Var>,
    /// What serves was started with others, and no deploy is on its way to change that.
    pub stale: bool,
    /// The deploy that rolls them out.
    pub deploy: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Var {
    pub name: String,
    pub secret: bool,
    /// Null of a secret.
    pub value: Option<String>,
    pub bytes: i32,
    pub by: Option<String>,
    #[schema(format = DateTime)]
    pub since: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Key {
    pub name: String,
    pub kind: String,
    pub fingerprint: String,
    #[schema(format = DateTime)]
    pub created: String,
    #[schema(format = DateTime)]
    pub last_used: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Event {
    #[schema(format = DateTime)]
    pub at: String,
    pub by: Option<String>,
    /// `page`, `ssh`, `api`, `shell`
    pub door: String,
    pub from: Option<String>,
    pub verb: String,
    pub subject: String,
    pub before: Option<String>,
    pub after: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct LogLine {
    /// Where a reader goes on.
    pub cursor: u64,
    #[schema(format = DateTime)]
    pub at: String,
    /// `web.1`, `build`
    pub source: String,
    pub text: String,
}

/// Who asks, and what their customer may use.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Who {
    pub name: String,
    pub email: String,
    pub customer: String,
    pub confirmed: bool,
    /// `approved`, `waiting`, `refused`
    pub approval: &'static str,
    pub limits: Limits,
}

#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Limits {
    pub apps: Of,
    pub memory_bytes: Of,
    pub builds: Of,
    pub disk_bytes: Of,
    pub build_seconds_max: i32,
}

/// What is used of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Of {
    pub used: i64,
    pub max: i64,
}

/// What an app used, over a range.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Usage {
    pub app: String,
    /// `1h`, `1d`, `30d`
    pub range: &'static str,
    pub step_seconds: u64,
    /// Of the whole range; null: nothing was seen in it.
    pub total: Option<UsageTotal>,
    /// In order, a step apart. What nobody saw is null; what was not used is 0.
    pub points: Vec<UsagePoint>,
    /// Releases that went live, the newest first.
    pub releases: Vec<WentLive>,
}

#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct UsageTotal {
    pub cpu_seconds: f64,
    pub requests: u64,
    pub by_class: Answers<u64>,
    pub latency_ms: Option<Latency>,
    /// The most at one time.
    pub memory_bytes: Option<u64>,
    pub memory_reserved_bytes: Option<u64>,
    pub bytes_out: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct UsagePoint {
    #[schema(format = DateTime)]
    pub at: String,
    /// Busy on average.
    pub cores: Option<f64>,
    pub memory_bytes: Option<u64>,
    pub memory_reserved_bytes: Option<u64>,
    pub requests_per_second: Option<Answers<f64>>,
    pub latency_ms: Option<Latency>,
    pub bytes_out_per_second: Option<f64>,
}

/// By status; those that the app did not answer are among 5xx too.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct Answers<N> {
    #[serde(rename = "2xx")]
    pub ok: N,
    #[serde(rename = "3xx")]
    pub redirect: N,
    #[serde(rename = "4xx")]
    pub client_error: N,
    #[serde(rename = "5xx")]
    pub server_error: N,
    pub unanswered: N,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct Latency {
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct WentLive {
    pub release: i64,
    #[schema(format = DateTime)]
    pub at: String,
}

/// A month, before tax. Amounts are in cents as they are billed, and exactly in millionths of the currency's unit.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Bill {
    /// `2026-03`
    pub month: String,
    /// It is not over.
    pub running: bool,
    /// What was used until then is in it.
    #[schema(format = DateTime)]
    pub until: String,
    pub currency: String,
    pub total: Amount,
    /// Of the whole month, at the pace of lately.
    pub forecast_cents: Option<i64>,
    /// The most first; of a deleted app its name and number: `shop~1`.
    pub apps: Vec<AppAmount>,
    pub meters: Vec<MeterAmount>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Amount {
    pub cents: i64,
    pub micros: i64,
}

#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct AppAmount {
    pub app: String,
    pub cost: Amount,
}

#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct MeterAmount {
    pub meter: &'static str,
    /// Of `cpu` and `builds` microseconds, of `memory` and `storage` KiB × seconds, of `bytes_out` bytes, of `requests`
    /// how many.
    pub used: u64,
    pub cost: Amount,
}

/// What one app costs this month, and a day of it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct AppCost {
    pub app: String,
    pub month: String,
    #[schema(format = DateTime)]
    pub until: String,
    pub currency: String,
    pub total: Amount,
    pub forecast_cents: Option<i64>,
    /// Of what serves.
    pub day: Option<DayAmount>,
    pub meters: Vec<MeterAmount>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct DayAmount {
    pub release: i64,
    pub micros: i64,
    /// What was asked of it is in it; else only what it reserves.
    pub busy: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Error {
    pub error: ErrorDetail,
}

#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ErrorDetail {
    /// For programs: `invalid`, `not_found`, `conflict`, `unauthenticated`, `forbidden`, `limit`, `too_many`, `away`,
    /// `internal`, or of the request itself `method_not_allowed`, `too_large`.
    pub kind: &'static str,
    /// What happened, as a sentence.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Which field of the body, or parameter of the address, was wrong.
    pub field: Option<String>,
}

fn at(time: Time) -> String {
    time.to_string()
}

fn health(health: AppHealth) -> &'static str {
    match health {
        AppHealth::Failed => "failed",
        AppHealth::Warned => "warned",
        AppHealth::Deploying => "deploying",
        AppHealth::Running => "running",
        AppHealth::Empty => "empty",
        AppHealth::Stopped => "stopped",
    }
}

fn reason(reason: &domain::Reason) -> Reason {
    Reason { message: reason.message.clone(), hint: reason.hint.clone() }
}

impl From<&AppRow> for App {
    fn from(row: &AppRow) -> Self {
        Self {
            name: row.name.to_string(),
            url: row.url.clone(),
            health: health(row.health),
            summary: row.summary.clone(),
            release: row.release.map(|release| release.0),
            last_deploy: row.last_deploy.as_ref().map(Deploy::from),
            created: at(row.created),
        }
    }
}

impl From<&AppView> for AppDetail {
    fn from(view: &AppView) -> Self {
        Self {
            name: view.name.to_string(),
            url: view.url.clone(),
            git_url: view.git_url.clone(),
            deploy_branch: view.deploy_branch.clone(),
            state: view.state.as_str(),
            health: health(view.health),
            summary: view.summary.clone(),
            release: view.release.map(|release| release.0),
            processes: view.processes.iter().map(Process::from).collect(),
            instances: view.instances.iter().map(Instance::from).collect(),
            deploys: view.deploys.iter().map(Deploy::from).collect(),
            disk_bytes: view.disk.bytes,
            created: at(view.created),
        }
    }
}

impl From<&ProcessView> for Process {
    fn from(view: &ProcessView) -> Self {
        Self { process: view.process.to_string(), count: view.count, memory_bytes: view.memory_bytes }
    }
}

impl From<&InstanceView> for Instance {
    fn from(view: &InstanceView) -> Self {
        Self {
            process: view.process.to_string(),
            index: view.index,
            state: view.state.as_str(),
            release: view.release.0,
            draining: view.draining,
            memory_bytes: view.memory_bytes,
            restarts: view.restarts,
            since: at(view.since),
            server: view.server.clone(),
            reason: view.reason.as_ref().map(reason),
        }
    }
}

impl From<&DeployRow> for Deploy {
    fn from(row: &DeployRow) -> Self {
        let step = |step: &crate::StepView| Step {
            step: step.step.as_str(),
            started: at(step.started),
            ended: step.ended.map(at),
            outcome: step.outcome.map(|outcome| outcome.as_str()),
            detail: step.detail.clone(),
        };
        Self {
            number: row.number,
            state: row.state.as_str(),
            serves: row.serves,
            cause: row.cause.as_str(),
            of: row.origin,
            commit: row.commit.to_string(),
            subject: row.subject.clone(),
            branch: row.branch.clone(),
            by: row.by.clone(),
            reason: row.reason.as_ref().map(reason),
            created: at(row.created),
            ended: row.ended.map(at),
            steps: row.steps.iter().map(step).collect(),
        }
    }
}

impl From<&DeployView> for Deploy {
    fn from(view: &DeployView) -> Self {
        Self::from(&view.row)
    }
}

impl From<&ConfigView> for Config {
    fn from(view: &ConfigView) -> Self {
        let vars = view.vars.iter().map(Var::from).collect();
        Self { app: view.app.to_string(), vars, stale: view.stale, deploy: view.deploy }
    }
}

impl From<&VarView> for Var {
    fn from(view: &VarView) -> Self {
        Self {
            name: view.name.clone(),
            secret: view.value.is_none(),
            value: view.value.clone(),
            bytes: view.bytes,
            by: view.by.clone(),
            since: at(view.since),
        }
    }
}

impl From<&KeyView> for Key {
    fn from(view: &KeyView) -> Self {
        Self {
            name: view.name.clone(),
            kind: view.kind.clone(),
            fingerprint: view.fingerprint.clone(),
            created: at(view.created),
            last_used: view.last_used.map(at),
        }
    }
}

impl From<&EventView> for Event {
    fn from(view: &EventView) -> Self {
        Self {
            at: at(view.at),
            by: view.by.clone(),
            door: view.door.clone(),
            from: view.origin.map(|origin| origin.to_string()),
            verb: view.verb.clone(),
            subject: view.subject.clone(),
            before: view.before.clone(),
            after: view.after.clone(),
        }
    }
}

impl From<&domain::wire::LogLine> for LogLine {
    fn from(line: &domain::wire::LogLine) -> Self {
        Self { cursor: line.cursor, at: at(line.at), source: line.source.clone(), text: line.text.clone() }
    }
}

impl From<&WhoView> for Who {
    fn from(view: &WhoView) -> Self {
        Self {
            name: view.name.clone(),
            email: view.email.clone(),
            customer: view.customer.clone(),
            confirmed: view.confirmed,
            approval: view.approval.as_str(),
            limits: Limits::from(&view.limits),
        }
    }
}

impl From<&LimitsView> for Limits {
    fn from(view: &LimitsView) -> Self {
        let of = |Used { used, max }| Of { used, max };
        Self {
            apps: of(view.apps),
            memory_bytes: of(view.memory_bytes),
            builds: of(view.builds),
            disk_bytes: of(view.disk_bytes),
            build_seconds_max: view.build_seconds_max,
        }
    }
}

impl From<&UsageView> for Usage {
    fn from(view: &UsageView) -> Self {
        let total = |total: &crate::UsageTotal| UsageTotal {
            cpu_seconds: total.cpu.as_secs_f64(),
            requests: total.requests,
            by_class: total.by_class.into(),
            latency_ms: total.latency.map(Latency::from),
            memory_bytes: total.memory.map(|memory| memory.bytes),
            memory_reserved_bytes: total.memory.map(|memory| memory.reserved_bytes),
            bytes_out: total.bytes_out,
        };
        let point = |point: &crate::UsagePoint| UsagePoint {
            at: at(point.at),
            cores: point.cores,
            memory_bytes: point.memory.map(|memory| memory.bytes),
            memory_reserved_bytes: point.memory.map(|memory| memory.reserved_bytes),
            requests_per_second: point.requests.map(Answers::from),
            latency_ms: point.latency.map(Latency::from),
            bytes_out_per_second: point.bytes_out,
        };
        Self {
            app: view.app.to_string(),
            range: view.range.as_str(),
            step_seconds: view.step.as_secs(),
            total: view.total.as_ref().map(total),
            points: view.points.iter().map(point).collect(),
            releases: view.marks.iter().map(|mark| WentLive { release: mark.release, at: at(mark.at) }).collect(),
        }
    }
}

impl<N> From<Classes<N>> for Answers<N> {
    fn from(classes: Classes<N>) -> Self {
        let Classes { ok, redirect, client_error, server_error, unanswered } = classes;
        Self { ok, redirect, client_error, server_error, unanswered }
    }
}

impl From<LatencyView> for Latency {
    fn from(view: LatencyView) -> Self {
        let millis = |time: std::time::Duration| time.as_secs_f64() * 1_000.0;
        Self { p50: millis(view.p50), p95: millis(view.p95), p99: millis(view.p99) }
    }
}

impl From<plan::cost::Cost> for Amount {
    fn from(cost: plan::cost::Cost) -> Self {
        Self { cents: cost.amount.cents(), micros: cost.exact.micros() }
    }
}

fn of_meter(meter: domain::Meter, cost: plan::cost::Cost) -> MeterAmount {
    MeterAmount { meter: meter.as_str(), used: cost.units, cost: cost.into() }
}

impl From<&BillView> for Bill {
    fn from(view: &BillView) -> Self {
        Self {
            month: view.month.to_string(),
            running: view.running,
            until: at(view.until),
            currency: view.currency.to_string(),
            total: view.total.into(),
            forecast_cents: view.forecast.map(|forecast| forecast.total.cents()),
            apps: view.apps.iter().map(|of| AppAmount { app: of.app.key.clone(), cost: of.cost.into() }).collect(),
            meters: view.meters.iter().map(|of| of_meter(of.meter, of.cost)).collect(),
        }
    }
}

impl From<&AppCostView> for AppCost {
    fn from(view: &AppCostView) -> Self {
        let day = |day: crate::DayRate| DayAmount { release: day.number, micros: day.amount.micros(), busy: day.busy };
        Self {
            app: view.app.key.clone(),
            month: view.month.to_string(),
            until: at(view.until),
            currency: view.currency.to_string(),
            total: view.total.into(),
            forecast_cents: view.forecast.map(|forecast| forecast.cents()),
            day: view.day.map(day),
            meters: view.meters.iter().map(|(meter, cost)| of_meter(*meter, *cost)).collect(),
        }
    }
}
