//! What the receiver asks of `commands`, and nothing more. The tests answer in its place.

use std::net::IpAddr;

use commands::{
    Actor, BranchMove, CommandError, Commands, DeployView, DiskView, Kind, LogWhat, Naming, NewPush, PushTarget,
    Repository, Untidy,
};
use domain::wire::LogLine;
use domain::{AppId, AppName, BundleHash, CommitId, SourceHash};
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use tokio::sync::watch;

/// Why a command was not carried out, in words for a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct DeskError {
    pub kind: Kind,
    pub message: String,
    pub hint: Option<String>,
}

impl From<CommandError> for DeskError {
    fn from(error: CommandError) -> Self {
        if error.kind() == Kind::Internal {
            tracing::error!("a command failed: {}", chain(&error));
        }
        Self { kind: error.kind(), message: error.message(), hint: error.hint() }
    }
}

pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

pub(crate) trait Desk: Clone + Send + Sync + 'static {
    /// Whether somebody has this key: before its signature was checked.
    fn key_is_known(&self, fingerprint: &str) -> impl Future<Output = Result<bool, DeskError>> + Send;

    /// Whose key it is; `None` for a stranger's.
    fn actor_by_key(
        &self,
        fingerprint: &str,
        origin: IpAddr,
    ) -> impl Future<Output = Result<Option<Actor>, DeskError>> + Send;

    fn push_target(&self, actor: &Actor, app: &AppName) -> impl Future<Output = Result<PushTarget, DeskError>> + Send;

    /// Its number within the app.
    fn deploy_create(
        &self,
        actor: &Actor,
        app: AppId,
        push: NewPush,
    ) -> impl Future<Output = Result<i64, DeskError>> + Send;

    fn deploy(
        &self,
        actor: &Actor,
        app: &AppName,
        number: i64,
    ) -> impl Future<Output = Result<DeployView, DeskError>> + Send;

    /// What a day costs with the release that a deploy made, in words; `None`: it made none.
    fn release_cost(
        &self,
        actor: &Actor,
        app: &AppName,
        number: i64,
    ) -> impl Future<Output = Result<Option<String>, DeskError>> + Send;

    /// Lines of a deploy after a cursor; with `follow` the stream does not end by itself.
    fn deploy_log(
        &self,
        actor: &Actor,
        app: &AppName,
        number: i64,
        after: u64,
        follow: bool,
    ) -> impl Future<Output = Result<BoxStream<'static, Result<LogLine, DeskError>>, DeskError>> + Send;

    /// Ticks when something changed: look again.
    fn changes(&self) -> watch::Receiver<u64>;

    /// The last commits that the object store has.
    fn commits_kept(&self, app: AppId) -> impl Future<Output = Result<Vec<CommitId>, DeskError>> + Send;

    /// Notes where a branch is that is not deployed, and what it has that the deploys have not.
    fn branch_keep(
        &self,
        actor: &Actor,
        app: AppId,
        name: &str,
        commit: &CommitId,
        bundle: Option<&BundleHash>,
    ) -> impl Future<Output = Result<(), DeskError>> + Send;

    fn branch_forget(
        &self,
        actor: &Actor,
        app: AppId,
        name: &str,
    ) -> impl Future<Output = Result<(), DeskError>> + Send;

    /// What an app's repository is made of.
    fn repository(&self, app: AppId) -> impl Future<Output = Result<Repository, DeskError>> + Send;

    fn sources_named(&self, hashes: &[String]) -> impl Future<Output = Result<Naming<SourceHash>, DeskError>> + Send;

    fn bundles_named(&self, hashes: &[String]) -> impl Future<Output = Result<Naming<BundleHash>, DeskError>> + Send;

    /// What the actor's customer has on disk.
    fn disk(&self, actor: &Actor) -> impl Future<Output = Result<DiskView, DeskError>> + Send;

    fn sources_measured(&self, sizes: &[(String, u64)]) -> impl Future<Output = Result<(), DeskError>> + Send;

    fn bundles_measured(&self, sizes: &[(String, u64)]) -> impl Future<Output = Result<(), DeskError>> + Send;

    fn untidy(&self, limit: i64) -> impl Future<Output = Result<Vec<Untidy>, DeskError>> + Send;

    fn tidied(&self, app: AppId, bytes: u64) -> impl Future<Output = Result<(), DeskError>> + Send;

    fn bundled(&self, of: &Untidy, bundle: &BundleHash) -> impl Future<Output = Result<bool, DeskError>> + Send;

    fn branch_moves(&self) -> impl Future<Output = Result<Vec<BranchMove>, DeskError>> + Send;

    /// Ends the step: done, or failed with the reason. False: another attempt took over.
    fn branch_moved(
        &self,
        which: &BranchMove,
        outcome: Result<(), String>,
    ) -> impl Future<Output = Result<bool, DeskError>> + Send;
}

/// More than one look asks for; the rest comes with the next.
const LINES_MAX: usize = 10_000;

/// A push builds on one of the last; from an older one on, it is stored once more.
const COMMITS_KEPT: i64 = 64;

impl Desk for Commands {
    async fn key_is_known(&self, fingerprint: &str) -> Result<bool, DeskError> {
        Ok(Commands::key_is_known(self, fingerprint).await?)
    }

    async fn actor_by_key(&self, fingerprint: &str, origin: IpAddr) -> Result<Option<Actor>, DeskError> {
        Ok(Commands::actor_by_key(self, fingerprint, Some(origin)).await?)
    }

    async fn push_target(&self, actor: &Actor, app: &AppName) -> Result<PushTarget, DeskError> {
        Ok(Commands::push_target(self, actor, app).await?)
    }

    async fn deploy_create(&self, actor: &Actor, app: AppId, push: NewPush) -> Result<i64, DeskError> {
        Ok(Commands::deploy_create(self, actor, app, push).await?)
    }

    async fn deploy(&self, actor: &Actor, app: &AppName, number: i64) -> Result<DeployView, DeskError> {
        Ok(Commands::deploy(self, actor, app, number).await?)
    }

    async fn release_cost(&self, actor: &Actor, app: &AppName, number: i64) -> Result<Option<String>, DeskError> {
        let cost = Commands::release_cost(self, actor, app, number).await?;
        Ok(cost.map(|(currency, rate)| rate.words(currency)))
    }

    async fn deploy_log(
        &self,
        actor: &Actor,
        app: &AppName,
        number: i64,
        after: u64,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<LogLine, DeskError>>, DeskError> {
        let lines = self.log(actor, app, LogWhat::Deploy(number), Some(after), LINES_MAX, follow).await?;
        Ok(lines.map_err(DeskError::from).boxed())
    }

    fn changes(&self) -> watch::Receiver<u64> {
        Commands::changes(self)
    }

    async fn commits_kept(&self, app: AppId) -> Result<Vec<CommitId>, DeskError> {
        Ok(Commands::commits_kept(self, app, COMMITS_KEPT).await?)
    }

    async fn branch_keep(
        &self,
        actor: &Actor,
        app: AppId,
        name: &str,
        commit: &CommitId,
        bundle: Option<&BundleHash>,
    ) -> Result<(), DeskError> {
        Ok(Commands::branch_keep(self, actor, app, name, commit, bundle).await?)
    }

    async fn branch_forget(&self, actor: &Actor, app: AppId, name: &str) -> Result<(), DeskError> {
        Ok(Commands::branch_forget(self, actor, app, name).await?)
    }

    async fn repository(&self, app: AppId) -> Result<Repository, DeskError> {
        Ok(Commands::repository(self, app).await?)
    }

    async fn sources_named(&self, hashes: &[String]) -> Result<Naming<SourceHash>, DeskError> {
        Ok(Commands::sources_named(self, hashes).await?)
    }

    async fn bundles_named(&self, hashes: &[String]) -> Result<Naming<BundleHash>, DeskError> {
        Ok(Commands::bundles_named(self, hashes).await?)
    }

    async fn disk(&self, actor: &Actor) -> Result<DiskView, DeskError> {
        Ok(Commands::disk(self, actor).await?)
    }

    async fn sources_measured(&self, sizes: &[(String, u64)]) -> Result<(), DeskError> {
        Ok(Commands::sources_measured(self, sizes).await?)
    }

    async fn bundles_measured(&self, sizes: &[(String, u64)]) -> Result<(), DeskError> {
        Ok(Commands::bundles_measured(self, sizes).await?)
    }

    async fn untidy(&self, limit: i64) -> Result<Vec<Untidy>, DeskError> {
        Ok(Commands::untidy(self, limit).await?)
    }

    async fn tidied(&self, app: AppId, bytes: u64) -> Result<(), DeskError> {
        Ok(Commands::tidied(self, app, bytes).await?)
    }

    async fn bundled(&self, of: &Untidy, bundle: &BundleHash) -> Result<bool, DeskError> {
        Ok(Commands::bundled(self, of, bundle).await?)
    }

    async fn branch_moves(&self) -> Result<Vec<BranchMove>, DeskError> {
        Ok(Commands::branch_moves(self).await?)
    }

    async fn branch_moved(&self, which: &BranchMove, outcome: Result<(), String>) -> Result<bool, DeskError> {
        Ok(Commands::branch_moved(self, which.deploy, which.attempt, outcome).await?)
    }
}
