//! What roles say to each other: HTTP/1.1 with JSON on unix sockets (between servers: TLS).
//!
//! The version stands in the path (`/v1/...`); a role speaks its own version and the one before.
//! Unknown fields are ignored, so a field may be added; a changed meaning is a new version.
//!
//! | path | caller | body → answer |
//! | --- | --- | --- |
//! | coordinator `POST /v1/assignments` | runner | [`Ask`] → [`Assignments`], or 204 when nothing changed within `wait_ms` |
//! | coordinator `POST /v1/report` | runner | [`RunnerReport`] → [`Committed`] |
//! | coordinator `GET /v1/objects/KIND/HASH` | runner | → bytes (`sources`, `images`) |
//! | coordinator `PUT /v1/objects/images/HASH` | runner | bytes → 204; the hash is checked while it is stored |
//! | coordinator `POST /v1/routes` | balancer | [`Ask`] → [`Routes`], or 204 |
//! | coordinator `POST /v1/counts` | balancer | [`BalancerReport`] → [`Committed`] |
//! | logs `POST /v1/lines` | runner | [`Lines`] → 204 |
//! | logs `GET /v1/stream?stream=S&after=C&limit=N[&follow=1]` | web, receiver, control | → a JSON [`LogLine`] a line; with `follow` it stays open (an empty line every 10 s) and N counts only where it begins; without `after`, the last N (1,000; at most 10,000), or with `since=µs` the first N of that time or later; `berth` lines say what is not there any more. With `text=`, `source=`, `until=µs` ([`LogFilter`](crate::LogFilter)) only what matches, and with `all=1` up to the present end, however much that is |
//! | logs `GET /v1/page?stream=S&lines=N[&before=C|&after=C]` | web, receiver, control | → [`LogPage`]: the last N lines before C (or of all), or the first N after C; filters as above |
//! | logs `POST /v1/sizes` | control | → [`LogSizes`] |
//! | logs `DELETE /v1/app/ID` | control | → 204: all logs of an app, for good |
//! | runner (a socket of its own: [`GitCall`]) | receiver | descriptors by SCM_RIGHTS |

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::{
    AppId, AppName, CommitId, DeployId, Hostname, ImageHash, InstanceId, InstanceState, Life, Meter, ProcessName,
    Reading, Reason, ReleaseNumber, Sample, Secret, ServerId, SourceHash, Time, Wanted,
};

/// Given by the leader, never by a database sequence; compared as (epoch, counter).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Revision {
    pub epoch: i64,
    pub counter: i64,
}

/// Which truth: `incarnation` is new at every restore of the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Grows by one at each restore; a lower one than seen is refused.
    pub incarnation: i64,
    pub revision: Revision,
}

/// "What should be true on me now?" Answered at once if it differs from `seen`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Ask {
    #[serde(default)]
    pub seen: Option<Seen>,
    /// The highest that was ever taken in; on disk. `seen` is less while the whole is wanted.
    #[serde(default)]
    pub held: Option<Seen>,
    /// How long the coordinator may hold the question; at most 30,000.
    pub wait_ms: u64,
}

// ---- runner ---------------------------------------------------------------------------------

/// All that a server should run. Absent means: should not run (and its last reading is owed).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assignments {
    pub server: ServerId,
    pub seen: Seen,
    pub instances: Vec<InstanceSpec>,
    pub builds: Vec<BuildSpec>,
    /// Images that must not be collected on this server: running ones and rollback targets.
    pub images_kept: Vec<ImageHash>,
    /// Apps of which this server has something, and of which nothing is wanted any more.
    #[serde(default)]
    pub apps_gone: Vec<AppId>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstanceSpec {
    pub id: InstanceId,
    pub app: AppId,
    pub app_name: AppName,
    pub release: ReleaseNumber,
    pub process: ProcessName,
    /// Counts from 1: `web.1`.
    pub index: u16,
    /// `Run` and `Drain` run; `Stop` is ended (SIGTERM, `stop_timeout_ms`, SIGKILL).
    pub wanted: Wanted,
    pub image: ImageHash,
    /// A line for the app's own shell in the sandbox.
    pub command: String,
    /// Without PORT, which the runner adds for `web`.
    pub env: BTreeMap<String, String>,
    /// Config vars; they win over `env`.
    #[serde(default)]
    pub config: BTreeMap<String, Secret<String>>,
    /// Why it must not be started: its config cannot be read. What runs already goes on.
    #[serde(default)]
    pub locked: Option<Reason>,
    pub uids: Uids,
    pub address: Ipv4Addr,
    /// What `$PORT` says to a `web`; others get none and are healthy when they run.
    pub port: Option<u16>,
    pub limits: Limits,
    pub health: Health,
    pub stop_timeout_ms: u64,
    /// It is to end by itself, and is never started a second time.
    #[serde(default)]
    pub once: Option<Once>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Once {
    /// It may run so long.
    pub time_ms: u64,
}

/// An app's two UIDs (and GIDs), for life and the same on every server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uids {
    /// Container 0: an empty root.
    pub root: u32,
    /// Container 1000: the app.
    pub app: u32,
}

impl Uids {
    /// The pair of `app` in the range that begins at `base`: nothing is stored, and since an app's
    /// id is never given twice, neither is a UID. `None` when the range is used up.
    pub fn of(base: u32, app: AppId) -> Option<Self> {
        let root = i64::from(base).checked_add(app.0.checked_mul(2)?)?;
        let root = u32::try_from(root).ok().filter(|root| *root >= base && *root < u32::MAX - 2)?;
        Some(Self { root, app: root + 1 })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    pub memory_bytes: u64,
    /// Thousandths of a core.
    pub cpu_millis: u32,
    pub pids: u32,
    /// What the app may write into its own file system, which vanishes with the instance.
    pub disk_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// A path that must answer below 400; `None`: a connect to the port is enough.
    pub path: Option<String>,
    pub start_timeout_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BuildSpec {
    pub deploy: DeployId,
    /// Of the deploy's build step: reports carry it, those of an older attempt are refused.
    pub attempt: i32,
    pub app: AppId,
    pub app_name: AppName,
    /// The deploy's number within its app.
    pub number: i64,
    pub source: SourceHash,
    pub commit: CommitId,
    /// A cache belongs to one app and one branch.
    pub branch: String,
    pub uids: Uids,
    /// Of the build's own sandbox, apart from any instance's.
    pub address: Ipv4Addr,
    pub limits: Limits,
    pub time_ms: u64,
}

/// What a build found out about an app; travels with the image's hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Process type → command line.
    pub processes: BTreeMap<ProcessName, String>,
    /// Default environment (PATH and the like); config vars win.
    pub env: BTreeMap<String, String>,
    pub buildpack: String,
    pub stack: String,
    /// Size of the squashfs file.
    pub bytes: u64,
    /// What `berth.toml` says.
    #[serde(default)]
    pub settings: Settings,
}

/// Of an app, by its `berth.toml`; what is absent is Berth's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    pub processes: BTreeMap<ProcessName, ProcessSettings>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessSettings {
    /// How many run when the app's customer says nothing else.
    pub count: Option<u16>,
    pub memory_bytes: Option<u64>,
    pub stop_timeout_ms: Option<u64>,
    /// Of `web`: a path that must answer below 400.
    pub health: Option<String>,
    /// Of `web`.
    pub start_timeout_ms: Option<u64>,
    /// Of `release`: how long it may run.
    pub timeout_ms: Option<u64>,
}

impl Settings {
    pub fn of(&self, process: &str) -> Option<&ProcessSettings> {
        self.processes.iter().find(|(name, _)| name.as_str() == process).map(|(_, settings)| settings)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BuildReport {
    pub deploy: DeployId,
    pub attempt: i32,
    pub state: BuildState,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum BuildState {
    Running,
    /// The image is in the object store.
    Done {
        image: ImageHash,
        manifest: Manifest,
    },
    Failed {
        reason: Reason,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstanceReport {
    pub id: InstanceId,
    pub state: InstanceState,
    #[serde(default)]
    pub reason: Option<Reason>,
    /// How often it ended by itself.
    pub restarts: u32,
    /// Crashed: how long its runner waits, from then on, before it starts it again.
    #[serde(default)]
    pub again_ms: u64,
    /// What its counters said when its last process was gone: what `berth ledger verify` holds against the readings.
    #[serde(default)]
    pub last: Option<LastRead>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRead {
    pub cpu_micros: u64,
    pub bytes_out: u64,
    pub life: Life,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunnerReport {
    /// Of the kernel: a new one means that all instances ended.
    pub boot_id: String,
    pub cores: u32,
    /// What apps may use: the server's less the platform's reserve.
    pub memory_bytes: u64,
    /// What they use now.
    #[serde(default)]
    pub memory_used_bytes: u64,
    /// What was last taken in; reports on an older truth are still true of instances.
    pub seen: Option<Seen>,
    /// Every instance that exists here, and those that ended until the coordinator has heard so.
    pub instances: Vec<InstanceReport>,
    pub builds: Vec<BuildReport>,
    /// All that is spooled and not acknowledged, at most 5,000 at a time.
    pub readings: Vec<Reading>,
    /// For graphs; sent again until an answer says that they were taken.
    #[serde(default)]
    pub samples: Vec<Sample>,
    #[serde(default)]
    pub disk: Option<DiskReport>,
    /// Of those that exist here: whoever does not know one must not give its address away.
    #[serde(default)]
    pub addresses: BTreeMap<InstanceId, Ipv4Addr>,
}

/// The disk of a server's data, and what is kept on it for apps besides what runs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DiskReport {
    pub space: Space,
    pub apps: Vec<AppDisk>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppDisk {
    pub app: AppId,
    /// Of its build caches.
    pub cache_bytes: u64,
    pub has_repository: bool,
}

/// Room on the disk that a server's data lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Space {
    pub bytes: u64,
    /// What its users may still write.
    pub free_bytes: u64,
    /// What must stay free: below it, nothing new is taken in.
    pub reserve_bytes: u64,
}

/// What PostgreSQL holds of the readings of this report: each may be forgotten up to its value.
/// A reading that PostgreSQL does not hold yet is absent, and is sent again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Committed {
    pub readings: Vec<CommittedReading>,
    /// The samples of this report are on their way: its source may forget them.
    #[serde(default)]
    pub samples_taken: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommittedReading {
    pub life: Life,
    pub app: AppId,
    pub meter: Meter,
    pub hour: Time,
    pub value: u64,
}

/// The Redis stream of readings and samples on their way to PostgreSQL; an entry has one field: [`READING_FIELD`], a
/// [`Reading`] as JSON, or [`SAMPLE_FIELD`], a [`Sample`].
pub const READINGS_STREAM: &str = "readings:incoming";
pub const READING_FIELD: &str = "reading";
pub const SAMPLE_FIELD: &str = "sample";

// ---- balancer -------------------------------------------------------------------------------

/// The whole table. An empty one from a coordinator that knew more before is refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Routes {
    pub seen: Seen,
    pub apps: Vec<RouteApp>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RouteApp {
    pub app: AppId,
    pub name: AppName,
    pub hostnames: Vec<Hostname>,
    pub state: RouteState,
    pub instances: Vec<RouteInstance>,
    /// One of its instances has its turn to come, starts, or starts again: a request may wait for it.
    #[serde(default)]
    pub starting: bool,
    /// Deploys that start, switch or drain: what is asked of the app meanwhile is counted for each.
    #[serde(default)]
    pub deploys: Vec<DeployId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteState {
    Live,
    /// Created, nothing was deployed yet.
    Empty,
    /// Its customer stopped it.
    Stopped,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteInstance {
    pub id: InstanceId,
    pub target: Target,
}

/// How an instance is reached. (A fleet adds the server's gate.)
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Target {
    Direct { address: SocketAddr },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BalancerReport {
    /// The routes now in use; `None` until the first table.
    pub seen: Option<Seen>,
    /// Instances that left the table and still have requests open.
    pub open: Vec<OpenRequests>,
    pub readings: Vec<Reading>,
    /// For graphs; sent again until an answer says that they were taken.
    #[serde(default)]
    pub samples: Vec<Sample>,
    /// Of all `deploys` in the table.
    #[serde(default)]
    pub switches: Vec<SwitchCount>,
    /// Which of the server's balancers: while one gives way to its successor there are two.
    #[serde(default)]
    pub life: Option<Life>,
    /// Balancers that are no more, and hold nothing: this one has their counters.
    #[serde(default)]
    pub gone: Vec<Life>,
}

/// What a balancer counted of an app when it first heard of a deploy, and now. Both grow only within a
/// life, so the least `from` and the greatest `to` of a life are exact, whatever came twice or late.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchCount {
    pub deploy: DeployId,
    pub app: AppId,
    pub life: Life,
    pub from: Counts,
    pub to: Counts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    pub requests: u64,
    /// Of these, answered by the balancer (502, 503, 504) because no instance did.
    pub unanswered: u64,
    /// Answered by an instance with 5xx, or broken off by it.
    pub errors: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenRequests {
    pub id: InstanceId,
    pub requests: u32,
}

// ---- logs -----------------------------------------------------------------------------------

/// Lines of one origin, in order. Sent again after a lost answer: lines at or below the highest
/// position known of the origin are dropped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lines {
    pub stream: LogStream,
    /// Who counts the positions, for instance `instance/17`; unique for its whole life.
    pub origin: String,
    pub lines: Vec<NewLine>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewLine {
    pub position: u64,
    pub at: Time,
    /// `web.1`, `build`, `berth`.
    pub source: String,
    /// At most 16 KiB of UTF-8, without its line end.
    pub text: String,
}

/// A stream of lines: all instances of an app, or one deploy's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum LogStream {
    /// `app/17`
    App(AppId),
    /// `app/17/deploy/3`, by the deploy's number within its app.
    Deploy(AppId, i64),
}

impl std::fmt::Display for LogStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::App(app) => write!(f, "app/{app}"),
            Self::Deploy(app, number) => write!(f, "app/{app}/deploy/{number}"),
        }
    }
}

impl From<LogStream> for String {
    fn from(stream: LogStream) -> String {
        stream.to_string()
    }
}

impl TryFrom<String> for LogStream {
    type Error = crate::NameError;
    fn try_from(s: String) -> Result<Self, Self::Error> {
        let number = |n: &str| n.parse::<i64>().ok().filter(|n| *n > 0);
        let parts: Vec<&str> = s.split('/').collect();
        let stream = match parts.as_slice() {
            ["app", app] => number(app).map(|app| Self::App(AppId(app))),
            ["app", app, "deploy", n] => number(app).zip(number(n)).map(|(app, n)| Self::Deploy(AppId(app), n)),
            _ => None,
        };
        stream.ok_or_else(|| crate::NameError::Unknown { what: "log stream", given: s.chars().take(80).collect() })
    }
}

/// How many bytes the log of each app takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSizes {
    pub apps: BTreeMap<AppId, u64>,
}

/// A piece of a log that is turned over like a page, in either direction.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPage {
    /// Oldest first.
    pub lines: Vec<LogLine>,
    /// Ask with this for what is older; `None`: nothing is.
    pub before: Option<u64>,
    /// Ask with this for what is newer; `None`: this is the newest.
    pub after: Option<u64>,
    /// The page is not full, as one look reads only so much: it came to lines of about this time.
    pub stopped: Option<Time>,
    /// The newest line's cursor at that moment: what comes is after it.
    pub end: u64,
}

/// A line as logs keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Grows by one within a stream; where a reader goes on.
    pub cursor: u64,
    pub at: Time,
    pub source: String,
    pub text: String,
}

// ---- git sandboxes --------------------------------------------------------------------------

/// One JSON line on a connection of its own to the runner of the same server, with the descriptors
/// standard input, output and error, in this order, by SCM_RIGHTS.
/// The runner answers with lines of [`GitAnswer`]. A closed connection ends the sandbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GitCall {
    /// The receiver's; its UID is known from the connection.
    pub token: Secret<String>,
    pub ask: GitAsk,
}

/// What is to be run on an app's bare repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitAsk {
    pub app: AppId,
    pub uids: Uids,
    pub verb: GitVerb,
    /// A checked `GIT_PROTOCOL` (`version=2`).
    pub protocol: Option<String>,
    /// A listening unix socket's path that is bound into the sandbox for the hook.
    pub hook_socket: Option<String>,
    pub time_ms: u64,
    /// The object store has nothing of this app: a repository that is not there is made, empty.
    #[serde(default)]
    pub make: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case")]
pub enum GitVerb {
    ReceivePack,
    UploadPack,
    /// Moves a branch from `old` to `new`; an `old` of `None` means that it must not exist.
    /// Exits with 0 when it is there now (also when it was before), [`GIT_REF_MOVED`] when it is
    /// somewhere else.
    UpdateRef {
        name: String,
        new: CommitId,
        old: Option<CommitId>,
    },
    /// Drops the hidden refs of all pushed commits but these, and what nothing holds then; says on standard output
    /// how many bytes the repository takes. Alone on it: refused while git is at work, and ended when somebody else
    /// wants it.
    Maintain {
        keep: Vec<CommitId>,
    },
    /// Writes one bundle to standard output: these pushed commits and all that is before them. Alone on it, too.
    Bundle {
        commits: Vec<CommitId>,
    },
    /// Makes a repository that is not there from bundles, which come on standard input as frames
    /// (the shim's `hook` has their table). It is there when this exits with 0, and else not.
    Restore {
        /// The deploy branch.
        branch: Option<GitBranch>,
        /// All others. What the bundles have besides is left out.
        #[serde(default)]
        branches: Vec<GitBranch>,
    },
}

/// Where a branch is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitBranch {
    pub name: String,
    pub commit: CommitId,
}

/// The exit code of [`GitVerb::UpdateRef`] for a branch that somebody else moved.
pub const GIT_REF_MOVED: i32 = 10;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum GitAnswer {
    Started,
    Exited {
        code: i32,
    },
    /// It could not be started.
    Refused {
        reason: Reason,
    },
    /// The app has no repository here: it is to be restored, or made.
    Missing,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_stream_is_its_path_and_nothing_else() {
        for good in [LogStream::App(AppId(7)), LogStream::Deploy(AppId(7), 3)] {
            assert_eq!(LogStream::try_from(good.to_string()).unwrap(), good);
        }
        for bad in ["", "app", "app/0", "app/-1", "app/../7", "app/7/deploy", "app/7/deploy/x", "app/7/deploy/1/2"] {
            assert!(LogStream::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
