//! What a person may ask of Berth, one function a verb: the SSH, JSON and page doors offer the
//! same, and cannot differ.
//!
//! A command decides who may, checks, and writes in one transaction with its event. It reads log
//! lines through the logs process, after the owner was checked in the store. Not yours and not
//! there are the same error.

mod view;

use std::net::IpAddr;

pub use self::view::*;

use domain::{AppId, AppName, CommitId, CustomerId, Secret, SourceHash, UserId};

/// Who asks; made only from a checked session, key or (on the server itself) root's shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    pub user: UserId,
    pub customer: CustomerId,
    pub door: Door,
    pub origin: Option<IpAddr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    Page,
    Ssh,
    /// The operator, as root on the server.
    Shell,
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

#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Config {
    pub database_url: Secret<String>,
    /// Of the asking role, at the logs process; absent in `berth user`.
    pub logs: Option<(std::path::PathBuf, Secret<String>)>,
    pub urls: Urls,
}

/// The door itself: cheap to clone.
#[derive(Debug, Clone)]
pub struct Commands {}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Something typed was wrong; `field()` says which.
    Invalid,
    /// Not there, or not yours.
    NotFound,
    /// Clashes with what is (a taken name, a known key).
    Conflict,
    /// Who asks must sign in first, or gave a wrong password.
    Unauthenticated,
    /// A limit of the customer, or too many tries.
    Limit,
    /// PostgreSQL, Redis or logs is away: try again.
    Away,
    /// A defect of ours; the log has the rest.
    Internal,
}

/// What a new user typed; each is checked here.
pub struct SignUp {
    pub name: String,
    pub email: String,
    pub password: Secret<String>,
}

pub struct NewPush {
    pub commit: CommitId,
    pub subject: String,
    pub branch: String,
    pub before: Option<CommitId>,
    pub source: SourceHash,
}

/// Where a push goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushTarget {
    pub app: AppId,
    pub name: AppName,
    pub deploy_branch: String,
}

// The functions, by their signatures (see the helper's brief):
//
// impl Commands {
//   pub async fn connect(config: Config) -> Result<Commands, CommandError>   // pool, PgListener; PostgreSQL may be away
//   pub fn changes(&self) -> watch::Receiver<u64>                            // ticks at each NOTIFY: look again
//
//   users:   sign_up(&self, SignUp, origin) -> Result<UserId>;  sign_in(&self, email: &str, password: &Secret<String>) -> Result<UserId>
//            redeem_link(&self, token: &str) -> Result<UserId>;  user(&self, UserId) -> Result<UserView>;
//            sign_out_everywhere(&self, &Actor) -> Result<()>
//            actor_by_key(&self, fingerprint: &str, origin) -> Result<Option<Actor>>   // receiver; marks last_used
//            keys(&self, &Actor) -> Result<Vec<KeyView>>; key_add(&self, &Actor, name: &str, public: &str) -> Result<KeyView>; key_remove(&self, &Actor, KeyId) -> Result<()>
//   shell:   user_create(&self, email: &Email, name: &str, operator: bool) -> Result<String /* one-time link URL */>; user_link(&self, &Email) -> Result<String>
//   apps:    apps(&self, &Actor) -> Result<Vec<AppRow>>; app_create(&self, &Actor, name: &str) -> Result<AppName>; app(&self, &Actor, &AppName) -> Result<AppView>
//   deploys: deploy(&self, &Actor, &AppName, number: i64) -> Result<DeployView>
//            push_target(&self, &Actor, &AppName) -> Result<PushTarget>; deploy_create(&self, &Actor, AppId, NewPush) -> Result<i64 /* number */>
//            branch_moves(&self, server?) -> Vec<BranchMove>; branch_moved(..)  // receiver's loop, step `branch`
//   logs:    log(&self, &Actor, &AppName, LogWhat::App | LogWhat::Deploy(n), after: Option<u64>, limit: usize, follow: bool) -> Result<impl Stream<Item = Result<LogLine, CommandError>>>
// }
