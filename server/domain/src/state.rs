//! The states that things pass through, each a word in SQL, in JSON and on pages.

use serde::{Deserialize, Serialize};

use crate::text::words;

words! {
    /// What its customer wants of an app.
    pub enum AppState {
        Running => "running",
        Stopped => "stopped",
        Deleted => "deleted",
    }
}

words! {
    /// Whether a new customer may use Berth: where sign-up is by approval the operator says so.
    pub enum Approval {
        Waiting => "waiting",
        Approved => "approved",
        Refused => "refused",
    }
}

words! {
    /// Where a letter is.
    pub enum MailState {
        /// To be sent, or to be tried again.
        Waiting => "waiting",
        Sent => "sent",
        /// Given up: somebody should look.
        Failed => "failed",
    }
}

words! {
    /// What a mailed one-time link is for.
    pub enum LinkKind {
        /// Shows that the address is theirs.
        Confirm => "confirm",
        /// Sets a new password.
        Reset => "reset",
    }
}

words! {
    /// What a token of the API may do.
    pub enum TokenScope {
        /// It only looks.
        Read => "read",
        /// It may do whatever its user may.
        Write => "write",
    }
}

words! {
    /// Where a deploy is. `live`, `failed` and `canceled` are final.
    pub enum DeployState {
        /// Waits for an earlier deploy of the app, or for a free builder.
        Queued => "queued",
        Building => "building",
        /// Its process `release` runs, once.
        Releasing => "releasing",
        /// Its instances start and are not healthy yet.
        Starting => "starting",
        /// Its instances are healthy; the balancers are being told.
        Switching => "switching",
        /// Its release serves.
        Live => "live",
        Failed => "failed",
        Canceled => "canceled",
    }
}

impl DeployState {
    pub fn is_final(self) -> bool {
        matches!(self, Self::Live | Self::Failed | Self::Canceled)
    }
}

words! {
    /// A step of a deploy, in this order.
    pub enum Step {
        Build => "build",
        /// The process `release` runs once, before anything of the new release is started.
        Release => "release",
        Start => "start",
        Switch => "switch",
        /// The deploy branch is moved to the pushed commit (only a push has one).
        Branch => "branch",
        /// Old instances finish what they have, then stop.
        Drain => "drain",
    }
}

words! {
    /// What an app has on disk, besides what runs.
    pub enum DiskKind {
        Image => "image",
        /// The tar of a commit's tree.
        Source => "source",
        /// The object store's copy of its repository.
        Bundle => "bundle",
        Repository => "repository",
        /// Of its builds.
        Cache => "cache",
        Log => "log",
    }
}

words! {
    pub enum Outcome {
        Done => "done",
        Failed => "failed",
    }
}

words! {
    /// Why a deploy was asked for.
    pub enum Cause {
        Push => "push",
        /// New instances of what serves.
        Restart => "restart",
        /// What served earlier is to serve again.
        Rollback => "rollback",
        /// What failed or was canceled is tried once more.
        Again => "again",
        /// Config vars were changed.
        Config => "config",
        /// What serves, with more or less memory.
        Resize => "resize",
    }
}

words! {
    /// What should become of an instance.
    pub enum Wanted {
        Run => "run",
        /// Still runs, is no longer routed to.
        Drain => "drain",
        Stop => "stop",
    }
}

words! {
    /// What a runner says of an instance.
    pub enum InstanceState {
        /// Not taken up by its runner yet.
        Placed => "placed",
        Starting => "starting",
        Healthy => "healthy",
        /// Runs, but fails its health check.
        Unhealthy => "unhealthy",
        /// Ended by itself; its runner starts it again after a while.
        Crashed => "crashed",
        /// Could not be started, or kept crashing within its start timeout: not tried again.
        Failed => "failed",
        /// Gone, its last readings spooled.
        Stopped => "stopped",
        /// Was to run once, and ended with code 0.
        Done => "done",
    }
}

impl InstanceState {
    pub fn is_gone(self) -> bool {
        matches!(self, Self::Failed | Self::Stopped | Self::Done)
    }
}

/// Why, in plain words: what happened, and what to do about it.
/// Strangers' bytes in it are data; whoever shows it escapes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// One sentence or a few lines, without a full stop at the end.
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Reason {
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// A release's number is that of the deploy that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "sqlx", derive(sqlx::Type), sqlx(transparent))]
#[serde(transparent)]
pub struct ReleaseNumber(pub i64);

impl std::fmt::Display for ReleaseNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
