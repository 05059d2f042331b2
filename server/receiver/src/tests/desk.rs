//! The desk, played by the test.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use commands::{
    Actor, BranchMove, DeployRow, DeployView, DiskView, Door, Kind, Naming, NewPush, PushTarget, Repository, StepView,
    Untidy,
};
use domain::wire::LogLine;
use domain::{AppId, AppName, Cause, CustomerId, DeployId, DeployState, Outcome, Reason, Step, Time, UserId};
use futures_util::StreamExt;
use futures_util::stream::{BoxStream, unfold};
use tokio::sync::watch;

use crate::desk::{Desk, DeskError};

pub(super) const SHOP: AppId = AppId(1);

pub(super) fn reason(message: &str, hint: &str) -> Reason {
    Reason::new(message).hint(hint)
}

#[derive(Clone)]
pub(super) struct TestDesk {
    state: Arc<Mutex<State>>,
    ticks: Arc<watch::Sender<u64>>,
}

struct State {
    fingerprint: String,
    away: bool,
    decided: bool,
    branches: Vec<(domain::wire::GitBranch, Option<domain::BundleHash>)>,
    deploys: Vec<Deploy>,
}

#[derive(Clone)]
pub(super) struct Deploy {
    pub commit: String,
    pub subject: String,
    pub before: Option<domain::CommitId>,
    pub source: domain::SourceHash,
    pub bundle: Option<domain::BundleHash>,
    pub branch: String,
    state: DeployState,
    moved: Option<Result<(), String>>,
    reason: Option<Reason>,
    lines: Vec<String>,
}

impl TestDesk {
    pub(super) fn new(fingerprint: String) -> Self {
        let state = State { fingerprint, away: false, decided: false, branches: Vec::new(), deploys: Vec::new() };
        Self { state: Arc::new(Mutex::new(state)), ticks: Arc::new(watch::Sender::new(0)) }
    }

    /// Deploy `number`, once it was asked for.
    pub(super) async fn deploy(&self, number: usize) -> Deploy {
        let mut changes = self.ticks.subscribe();
        let wait = async {
            loop {
                if let Some(deploy) = self.state.lock().unwrap().deploys.get(number - 1) {
                    return deploy.clone();
                }
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(30), wait).await.expect("the deploy is asked for")
    }

    pub(super) fn go_away(&self) {
        self.state.lock().unwrap().away = true;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.state.lock().unwrap().deploys.is_empty()
    }

    pub(super) fn state_of(&self, number: usize) -> DeployState {
        self.state.lock().unwrap().deploys[number - 1].state
    }

    fn change(&self, number: usize, what: impl FnOnce(&mut Deploy)) {
        what(&mut self.state.lock().unwrap().deploys[number - 1]);
        self.ticks.send_modify(|n| *n += 1);
    }

    pub(super) fn line(&self, number: usize, text: &str) {
        self.change(number, |deploy| deploy.lines.push(text.to_owned()));
    }

    pub(super) fn state(&self, number: usize, state: DeployState) {
        self.change(number, |deploy| deploy.state = state);
    }

    pub(super) fn live(&self, number: usize) {
        self.state(number, DeployState::Live);
    }

    pub(super) fn fail(&self, number: usize, reason: Reason) {
        self.change(number, |deploy| {
            deploy.state = DeployState::Failed;
            deploy.reason = Some(reason);
        });
    }
}

fn not_there() -> DeskError {
    DeskError { kind: Kind::NotFound, message: "There is no such app.".to_owned(), hint: None }
}

impl Desk for TestDesk {
    async fn key_is_known(&self, fingerprint: &str) -> Result<bool, DeskError> {
        let state = self.state.lock().unwrap();
        if state.away {
            return Err(DeskError { kind: Kind::Away, message: "The database is away.".to_owned(), hint: None });
        }
        Ok(state.fingerprint == fingerprint)
    }

    async fn actor_by_key(&self, fingerprint: &str, origin: IpAddr) -> Result<Option<Actor>, DeskError> {
        let known = self.key_is_known(fingerprint).await?;
        let actor =
            Actor { user: UserId(1), customer: CustomerId(1), door: Door::Ssh, origin: Some(origin), key: None };
        Ok(known.then_some(actor))
    }

    async fn push_target(&self, _actor: &Actor, app: &AppName) -> Result<PushTarget, DeskError> {
        if app.as_str() != "shop" {
            return Err(not_there());
        }
        Ok(PushTarget {
            app: SHOP,
            name: app.clone(),
            deploy_branch: "main".to_owned(),
            decided: self.state.lock().unwrap().decided,
        })
    }

    async fn deploy_create(&self, _actor: &Actor, _app: AppId, push: NewPush) -> Result<i64, DeskError> {
        let mut state = self.state.lock().unwrap();
        state.decided = true;
        state.deploys.push(Deploy {
            commit: push.commit.to_string(),
            subject: push.subject,
            before: push.before,
            source: push.source,
            bundle: push.bundle,
            branch: push.branch,
            state: DeployState::Queued,
            moved: None,
            reason: None,
            lines: Vec::new(),
        });
        let number = state.deploys.len() as i64;
        drop(state);
        self.ticks.send_modify(|n| *n += 1);
        Ok(number)
    }

    async fn deploy(&self, _actor: &Actor, app: &AppName, number: i64) -> Result<DeployView, DeskError> {
        let state = self.state.lock().unwrap();
        let deploy = state.deploys.get(number as usize - 1).ok_or_else(not_there)?;
        let now = Time::from_unix_micros(1);
        let branch = StepView {
            step: Step::Branch,
            attempt: 1,
            started: now,
            ended: deploy.moved.as_ref().map(|_| now),
            outcome: deploy.moved.as_ref().map(|moved| if moved.is_ok() { Outcome::Done } else { Outcome::Failed }),
            detail: deploy.moved.clone().and_then(Result::err),
        };
        Ok(DeployView {
            id: DeployId(number),
            app: app.clone(),
            app_url: format!("http://{app}.localhost:8080"),
            row: DeployRow {
                number,
                cause: Cause::Push,
                origin: None,
                offer: None,
                state: deploy.state,
                serves: deploy.state == DeployState::Live,
                commit: deploy.commit.parse().unwrap(),
                subject: deploy.subject.clone(),
                branch: deploy.branch.clone(),
                by: None,
                reason: deploy.reason.clone(),
                created: now,
                ended: deploy.state.is_final().then_some(now),
                steps: if deploy.state == DeployState::Live { vec![branch] } else { Vec::new() },
                traffic: None,
            },
            serving: None,
            cost: None,
            facts: None,
        })
    }

    async fn release_cost(&self, _: &Actor, _: &AppName, number: i64) -> Result<Option<String>, DeskError> {
        Ok((number == 1).then(|| "€1.07 a day, 2 cents more than v0".to_owned()))
    }

    async fn deploy_log(
        &self,
        _actor: &Actor,
        _app: &AppName,
        number: i64,
        after: u64,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<LogLine, DeskError>>, DeskError> {
        let (state, changes) = (Arc::clone(&self.state), self.ticks.subscribe());
        let lines = unfold((after, changes), move |(cursor, mut changes)| {
            let state = Arc::clone(&state);
            async move {
                loop {
                    let line = state.lock().unwrap().deploys[number as usize - 1].lines.get(cursor as usize).cloned();
                    if let Some(text) = line {
                        let line = LogLine {
                            cursor: cursor + 1,
                            at: Time::from_unix_micros(1),
                            source: "build".to_owned(),
                            text,
                        };
                        return Some((Ok(line), (cursor + 1, changes)));
                    }
                    if !follow || changes.changed().await.is_err() {
                        return None;
                    }
                }
            }
        });
        Ok(lines.boxed())
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.ticks.subscribe()
    }

    async fn commits_kept(&self, _app: AppId) -> Result<Vec<domain::CommitId>, DeskError> {
        let state = self.state.lock().unwrap();
        Ok(state.deploys.iter().filter(|d| d.bundle.is_some()).map(|d| d.commit.parse().unwrap()).collect())
    }

    async fn branch_keep(
        &self,
        actor: &Actor,
        app: AppId,
        name: &str,
        commit: &domain::CommitId,
        bundle: Option<&domain::BundleHash>,
    ) -> Result<(), DeskError> {
        self.branch_forget(actor, app, name).await?;
        let branch = domain::wire::GitBranch { name: name.to_owned(), commit: commit.clone() };
        self.state.lock().unwrap().branches.push((branch, bundle.cloned()));
        Ok(())
    }

    async fn branch_forget(&self, _actor: &Actor, _app: AppId, name: &str) -> Result<(), DeskError> {
        let mut state = self.state.lock().unwrap();
        if state.away {
            return Err(DeskError { kind: Kind::Away, message: "The database is away.".to_owned(), hint: None });
        }
        state.branches.retain(|(branch, _)| branch.name != name);
        Ok(())
    }

    async fn repository(&self, _app: AppId) -> Result<Repository, DeskError> {
        let state = self.state.lock().unwrap();
        let last = state.deploys.iter().rfind(|d| d.moved == Some(Ok(())));
        Ok(Repository {
            bundles: state
                .deploys
                .iter()
                .map(|d| &d.bundle)
                .chain(state.branches.iter().map(|(_, bundle)| bundle))
                .filter_map(Clone::clone)
                .collect(),
            branches: state.branches.iter().map(|(branch, _)| branch.clone()).collect(),
            branch: last.map(|d| domain::wire::GitBranch { name: d.branch.clone(), commit: d.commit.parse().unwrap() }),
        })
    }

    async fn sources_named(&self, _hashes: &[String]) -> Result<Naming<domain::SourceHash>, DeskError> {
        Ok(Naming { named: Default::default(), truth_age: Duration::ZERO })
    }

    async fn bundles_named(&self, _hashes: &[String]) -> Result<Naming<domain::BundleHash>, DeskError> {
        Ok(Naming { named: Default::default(), truth_age: Duration::ZERO })
    }

    async fn disk(&self, _actor: &Actor) -> Result<DiskView, DeskError> {
        Ok(DiskView { bytes: 0, bytes_max: 5 << 30, kinds: Vec::new() })
    }

    async fn sources_measured(&self, _sizes: &[(String, u64)]) -> Result<(), DeskError> {
        Ok(())
    }

    async fn bundles_measured(&self, _sizes: &[(String, u64)]) -> Result<(), DeskError> {
        Ok(())
    }

    async fn untidy(&self, _limit: i64) -> Result<Vec<Untidy>, DeskError> {
        Ok(Vec::new())
    }

    async fn tidied(&self, _app: AppId, _bytes: u64) -> Result<(), DeskError> {
        Ok(())
    }

    async fn bundled(&self, _of: &Untidy, _bundle: &domain::BundleHash) -> Result<bool, DeskError> {
        Ok(false)
    }

    async fn branch_moves(&self) -> Result<Vec<BranchMove>, DeskError> {
        let state = self.state.lock().unwrap();
        let open = state.deploys.iter().enumerate().filter(|(_, d)| d.state == DeployState::Live && d.moved.is_none());
        Ok(open
            .map(|(i, d)| BranchMove {
                deploy: DeployId(i as i64 + 1),
                attempt: 1,
                app: SHOP,
                branch: d.branch.clone(),
                number: i as i64 + 1,
                commit: d.commit.parse().unwrap(),
                before: d.before.clone(),
            })
            .collect())
    }

    async fn branch_moved(&self, which: &BranchMove, outcome: Result<(), String>) -> Result<bool, DeskError> {
        self.change(which.deploy.0 as usize, |deploy| deploy.moved = Some(outcome));
        Ok(true)
    }
}
