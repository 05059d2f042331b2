//! Deploys: asked for by a push, looked at, and the step that the receiver carries.

use domain::wire::GitBranch;
use domain::{AppId, AppName, BundleHash, CommitId, DeployId, Outcome, SourceHash};
use store::Tx;
pub use store::deploy::Which;

use crate::apps::deploy_row;
use crate::{Actor, CommandError, Commands, DeployRow, DeployView, timely};

/// Of [`Commands::deploys`].
pub const DEPLOYS_A_PAGE: i64 = 20;

/// Where a push goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushTarget {
    pub app: AppId,
    pub name: AppName,
    pub deploy_branch: String,
    /// It was deployed, or is about to be. Until then a push decides between main and master.
    pub decided: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPush {
    pub commit: CommitId,
    pub subject: String,
    pub branch: String,
    pub before: Option<CommitId>,
    pub source: SourceHash,
    /// What it brought that the object store did not have; `None`: it had all.
    pub bundle: Option<BundleHash>,
}

/// What an app's repository is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// In this order, each with what was before it is whole.
    pub bundles: Vec<BundleHash>,
    /// The deploy branch.
    pub branch: Option<GitBranch>,
    /// Those that are kept and not deployed.
    pub branches: Vec<GitBranch>,
}

/// Of one app.
const BRANCHES_MAX: i64 = 200;

/// An open step `branch`: the deploy serves, its branch still has to move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchMove {
    pub deploy: DeployId,
    /// To be given back with the outcome: that of an older attempt is refused.
    pub attempt: i32,
    pub app: AppId,
    /// The deploy's number within the app.
    pub number: i64,
    pub branch: String,
    pub commit: CommitId,
    /// Where the branch must be now; `None`: it must not exist.
    pub before: Option<CommitId>,
}

impl Commands {
    pub async fn deploy(&self, actor: &Actor, app: &AppName, number: i64) -> Result<DeployView, CommandError> {
        timely(async {
            let mut tx = self.db.snapshot().await?;
            let owned = store::app::get(&mut **tx, actor.customer, app).await?;
            let owned = owned.ok_or_else(|| CommandError::NoApp { name: app.clone() })?;
            let deploy = store::deploy::get(&mut **tx, actor.customer, app, number).await?;
            let deploy = deploy.ok_or(CommandError::NotFound { what: "deploy" })?;
            let steps = store::deploy::steps(&mut **tx, deploy.id).await?;
            tx.commit().await?;
            Ok(DeployView {
                id: deploy.id,
                app_url: self.urls.app(&owned.name),
                app: owned.name,
                row: deploy_row(deploy, owned.release_number, steps),
                serving: owned.release_number,
                cost: None,
                facts: None,
            })
        })
        .await
    }

    /// A page of an app's deploys, the latest first: those before number `before`, or the newest.
    pub async fn deploys(
        &self,
        actor: &Actor,
        app: &AppName,
        before: Option<i64>,
    ) -> Result<Vec<DeployRow>, CommandError> {
        timely(async {
            let mut tx = self.db.snapshot().await?;
            let owned = store::app::get(&mut **tx, actor.customer, app).await?;
            let owned = owned.ok_or_else(|| CommandError::NoApp { name: app.clone() })?;
            let before = before.unwrap_or(i64::MAX);
            let deploys = store::deploy::list_before(&mut **tx, owned.id, Which::All, before, DEPLOYS_A_PAGE).await?;
            let mut steps = store::deploy::steps_before(&mut **tx, owned.id, before, DEPLOYS_A_PAGE).await?;
            tx.commit().await?;
            let row = |deploy: store::deploy::Deploy| {
                let steps = steps.remove(&deploy.id).unwrap_or_default();
                deploy_row(deploy, owned.release_number, steps)
            };
            Ok(deploys.into_iter().map(row).collect())
        })
        .await
    }

    /// As many of them as are asked for, or of releases alone; without their steps.
    pub async fn deploy_list(
        &self,
        actor: &Actor,
        app: &AppName,
        which: Which,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<DeployRow>, CommandError> {
        timely(async {
            let mut tx = self.db.snapshot().await?;
            let owned = store::app::get(&mut **tx, actor.customer, app).await?;
            let owned = owned.ok_or_else(|| CommandError::NoApp { name: app.clone() })?;
            let (before, limit) = (before.unwrap_or(i64::MAX), i64::try_from(limit).unwrap_or(i64::MAX));
            let deploys = store::deploy::list_before(&mut **tx, owned.id, which, before, limit).await?;
            tx.commit().await?;
            Ok(deploys.into_iter().map(|deploy| deploy_row(deploy, owned.release_number, Vec::new())).collect())
        })
        .await
    }

    pub async fn push_target(&self, actor: &Actor, app: &AppName) -> Result<PushTarget, CommandError> {
        timely(async {
            let owned = store::app::get(self.db.pool(), actor.customer, app).await?;
            let owned = owned.ok_or_else(|| CommandError::NoApp { name: app.clone() })?;
            let decided = store::branch::is_decided(self.db.pool(), owned.id).await?;
            Ok(PushTarget { app: owned.id, name: owned.name, deploy_branch: owned.deploy_branch, decided })
        })
        .await
    }

    /// Asks for a deploy of what was pushed; the coordinator carries it. Its number within the app.
    pub async fn deploy_create(&self, actor: &Actor, app: AppId, push: NewPush) -> Result<i64, CommandError> {
        timely(async {
            // Strangers' bytes: a subject is one line, and no longer than it is read.
            let subject: String = push.subject.chars().filter(|c| !c.is_control()).take(200).collect();
            let mut tx = self.db.begin().await?;
            self.may_begin(&mut tx, actor).await?;
            let new = store::deploy::NewDeploy {
                commit: &push.commit,
                subject: &subject,
                branch: &push.branch,
                before: push.before.as_ref(),
                source: &push.source,
                bundle: push.bundle.as_ref(),
                user: actor.user,
                key: actor.key,
            };
            if !store::branch::decide(&mut tx, actor.customer, app, &push.branch).await? {
                let theirs = store::app::list(&mut **tx, actor.customer).await?;
                if !theirs.iter().any(|a| a.id == app) {
                    return Err(CommandError::NotFound { what: "app" });
                }
                let hint = "Push once more: it is kept, and you are told how to deploy it.";
                return Err(CommandError::not_now("Another branch became the one that is deployed.", hint));
            }
            let number = store::deploy::create(&mut tx, actor.customer, app, new).await?;
            let number = number.ok_or(CommandError::NotFound { what: "app" })?;
            let after = serde_json::json!({ "deploy": number, "commit": push.commit, "branch": push.branch });
            self.record_of(&mut tx, actor, "push", app, None, Some(after)).await?;
            tx.commit().await?;
            Ok(number)
        })
        .await
    }

    /// A branch that is not deployed was pushed. `bundle` has what is in it and in no deploy.
    pub async fn branch_keep(
        &self,
        actor: &Actor,
        app: AppId,
        name: &str,
        commit: &CommitId,
        bundle: Option<&BundleHash>,
    ) -> Result<(), CommandError> {
        timely(async {
            let mut tx = self.db.begin().await?;
            if !store::branch::keep(&mut tx, actor.customer, app, name, commit, bundle, BRANCHES_MAX).await? {
                let message = format!("The app has {BRANCHES_MAX} branches, as many as are kept.");
                return Err(CommandError::not_now(message, "Delete one: git push <remote> :<branch>"));
            }
            let after = serde_json::json!({ "branch": name, "commit": commit });
            self.record_of(&mut tx, actor, "branch push", app, None, Some(after)).await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    pub async fn branch_forget(&self, actor: &Actor, app: AppId, name: &str) -> Result<(), CommandError> {
        timely(async {
            let mut tx = self.db.begin().await?;
            store::branch::forget(&mut tx, actor.customer, app, name).await?;
            let before = serde_json::json!({ "branch": name });
            self.record_of(&mut tx, actor, "branch delete", app, Some(before), None).await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    /// The last `limit` commits of an app that the object store has, with all that is before them.
    pub async fn commits_kept(&self, app: AppId, limit: i64) -> Result<Vec<CommitId>, CommandError> {
        timely(async { Ok(store::deploy::commits_kept(self.db.pool(), app, limit).await?) }).await
    }

    /// For the receiver, to make an app's repository that is not on its server.
    pub async fn repository(&self, app: AppId) -> Result<Repository, CommandError> {
        timely(async {
            let mut tx = self.db.snapshot().await?;
            let mut bundles = store::deploy::bundles(&mut **tx, app).await?;
            let kept = store::branch::list(&mut **tx, app).await?;
            // Each needs those of deploys only.
            bundles.extend(kept.iter().filter_map(|branch| branch.bundle.clone()));
            let branch = store::deploy::branch(&mut **tx, app).await?;
            tx.commit().await?;
            Ok(Repository {
                bundles,
                branch: branch.map(|branch| GitBranch { name: branch.name, commit: branch.commit }),
                branches: kept.into_iter().map(|kept| GitBranch { name: kept.name, commit: kept.commit_id }).collect(),
            })
        })
        .await
    }

    /// For the receiver's loop: the branches that wait to be moved. They stay with this `Commands` for
    /// 30 s, then whoever asks next gets them, as a new attempt.
    pub async fn branch_moves(&self) -> Result<Vec<BranchMove>, CommandError> {
        timely(async {
            let mut tx = self.db.begin().await?;
            let steps = store::deploy::branch_steps(&mut tx, &self.holder).await?;
            tx.commit().await?;
            let moves = steps.into_iter().map(|s| BranchMove {
                deploy: s.deploy,
                attempt: s.attempt,
                app: s.app,
                number: s.number,
                branch: s.branch,
                commit: s.commit,
                before: s.before,
            });
            Ok(moves.collect())
        })
        .await
    }

    /// How it went; `Err` has the reason in words for who pushed. False: another attempt took over.
    pub async fn branch_moved(
        &self,
        deploy: DeployId,
        attempt: i32,
        outcome: Result<(), String>,
    ) -> Result<bool, CommandError> {
        timely(async {
            let (word, detail) = match &outcome {
                Ok(()) => (Outcome::Done, None),
                Err(reason) => (Outcome::Failed, Some(reason.as_str())),
            };
            Ok(store::deploy::end_branch_step(self.db.pool(), deploy, attempt, word, detail).await?)
        })
        .await
    }

    /// An event is about an app by its name.
    async fn record_of(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        verb: &str,
        app: AppId,
        before: Option<serde_json::Value>,
        after: Option<serde_json::Value>,
    ) -> Result<(), CommandError> {
        let name = store::app::name(&mut ***tx, app).await?.ok_or(CommandError::NotFound { what: "app" })?;
        self.record(tx, actor, verb, name.as_str(), before, after).await
    }
}
