//! How deploys go on: one at a time an app, in order; build → release → start → switch → branch → drain.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::wire::Manifest;
use domain::{AppId, AppState, Cause, DeployState, InstanceState, ProcessName, Reason, ServerId, Step, Time};

use crate::place::{free_memory, full, has_room, is_lost, takes_new};
use crate::{Act, Action, App, DRAIN_MAX, Deploy, Fleet, Instance, Refused};

/// How long a build may take when its customer's limit says nothing else.
pub const BUILD_TIME: Duration = Duration::from_secs(600);
/// A builder that says nothing this long after its time was up has lost the build.
const BUILD_GRACE: Duration = Duration::from_secs(60);
pub const BUILD_ATTEMPTS_MAX: i32 = 3;
pub(crate) const BUILD_MEMORY_BYTES: u64 = 1 << 30;
pub(crate) const BUILD_CPU_MILLIS: u32 = 2000;
pub(crate) const BUILD_DISK_BYTES: u64 = 2 << 30;
const BUILDS_PER_SERVER: usize = 2;

pub const START_TIMEOUT: Duration = Duration::from_secs(60);
/// A runner needs this to fetch an image and to say that a start took too long.
const START_GRACE: Duration = Duration::from_secs(60);
/// How long the next deploy waits for a branch to be moved by the one before.
const BRANCH_WAIT: Duration = Duration::from_secs(60);

/// One step for each deploy that can take one. `refused` is what [`crate::place`] found no place for.
pub fn deploy(fleet: &Fleet, refused: &[Refused], now: Time) -> Vec<Action> {
    let mut plan = Plan { fleet, refused, now, free: free_memory(fleet), actions: Vec::new() };
    for deploy in &fleet.deploys {
        match deploy.state {
            DeployState::Building => plan.building(deploy),
            DeployState::Releasing => plan.releasing(deploy),
            DeployState::Starting => plan.starting(deploy),
            DeployState::Switching => plan.switching(deploy),
            DeployState::Live => plan.draining(deploy),
            DeployState::Queued | DeployState::Failed | DeployState::Canceled => {}
        }
    }
    // By id: who came first is built first.
    let mut queued: Vec<&Deploy> = fleet.deploys.iter().filter(|d| d.state == DeployState::Queued).collect();
    queued.sort_by_key(|d| d.id);
    for deploy in queued {
        plan.queued(deploy);
    }
    plan.actions
}

/// How long a `web` may take until it answers.
pub fn start_timeout(manifest: &Manifest) -> Duration {
    let says = manifest.settings.of(ProcessName::WEB).and_then(|web| web.start_timeout_ms);
    says.map_or(START_TIMEOUT, Duration::from_millis)
}

pub(crate) struct Plan<'a> {
    pub(crate) fleet: &'a Fleet,
    refused: &'a [Refused],
    pub(crate) now: Time,
    pub(crate) free: BTreeMap<ServerId, u64>,
    actions: Vec<Action>,
}

impl<'a> Plan<'a> {
    /// Its app; a deploy of a deleted one fails.
    fn app(&mut self, deploy: &Deploy) -> Option<&'a App> {
        let app = self.fleet.app(deploy.app).filter(|a| a.state != AppState::Deleted);
        if app.is_none() {
            self.fail(deploy, Reason::new("the app was deleted"));
        }
        app
    }

    /// Its app, which runs; else it fails.
    pub(crate) fn running(&mut self, deploy: &Deploy) -> Option<&'a App> {
        let app = self.app(deploy)?;
        if app.state != AppState::Running {
            self.fail(deploy, Reason::new("the app was stopped meanwhile"));
            return None;
        }
        Some(app)
    }

    pub(crate) fn act(&mut self, act: Act, deploy: &Deploy, verb: &str, reason: impl Into<String>) {
        let what = match self.fleet.app(deploy.app) {
            Some(app) => format!("{verb} deploy {} of {}", deploy.number, app.name),
            None => format!("{verb} deploy {} of app {}", deploy.number, deploy.app),
        };
        self.actions.push(Action { act, app: Some(deploy.app), what, reason: reason.into() });
    }

    pub(crate) fn fail(&mut self, deploy: &Deploy, reason: Reason) {
        let serving = self.fleet.app(deploy.app).and_then(|a| a.serving);
        let words = match serving {
            Some(s) => format!("release {} was not switched on, release {s} still serves: {reason}", deploy.number),
            None => format!("release {} was not switched on: {reason}", deploy.number),
        };
        self.act(Act::Fail { deploy: deploy.id, reason }, deploy, "fail", words);
    }

    fn queued(&mut self, deploy: &Deploy) {
        let fleet = self.fleet;
        let Some(app) = self.app(deploy) else { return };
        let before = |d: &&Deploy| d.app == app.id && d.number < deploy.number;
        if fleet.under_way(app.id).is_some()
            || fleet.deploys.iter().filter(before).any(|d| d.state == DeployState::Queued || self.moves_branch(d))
            || self.acts_on(app.id)
        {
            return;
        }
        // Only a push moves a branch.
        if deploy.cause == Cause::Push
            && let Some(tip) = fleet.tips.iter().find(|t| t.app == app.id && t.branch == deploy.branch)
            && deploy.before.as_ref() != Some(&tip.commit)
            && deploy.commit != tip.commit
        {
            let why = format!("deploy {} moved {} to {} meanwhile", tip.number, tip.branch, tip.commit.short());
            return self.fail(deploy, Reason::new(why).hint("fetch, bring your commit on top of it, and push again"));
        }
        if app.state != AppState::Running {
            return self.fail(deploy, Reason::new("the app is stopped").hint("start it, then try again"));
        }
        if deploy.image.is_some() {
            return self.act(
                Act::Begin { deploy: deploy.id },
                deploy,
                "start",
                "it is its turn, and its image is there",
            );
        }
        let theirs = |of: &(AppId, ServerId)| fleet.app(of.0).is_some_and(|a| a.customer == app.customer);
        if self.builds().filter(theirs).count() >= app.builds_max {
            return;
        }
        let Some(server) = self.builder() else {
            if let Some(full) = full(fleet) {
                return self.fail(deploy, Reason::new(full).hint(crate::SPACE_HINT));
            }
            let fits = |s: &&crate::Server| s.memory_bytes >= BUILD_MEMORY_BYTES;
            let here: Vec<_> = fleet.servers.iter().filter(|s| takes_new(s)).collect();
            if !here.is_empty() && !here.iter().any(fits) {
                let mib = BUILD_MEMORY_BYTES >> 20;
                self.fail(deploy, Reason::new(format!("no server has the {mib} MiB of memory that a build needs")));
            }
            return;
        };
        if let Some(left) = self.free.get_mut(&server) {
            *left = left.saturating_sub(BUILD_MEMORY_BYTES);
        }
        let reason = format!("it is its turn, and {} has a builder free", fleet.server_name(server));
        self.act(Act::Build { deploy: deploy.id, server }, deploy, "build", reason);
    }

    /// Its branch is about to be moved: where it stands is not known yet.
    fn moves_branch(&self, deploy: &Deploy) -> bool {
        deploy.open_step(Step::Branch).is_some_and(|open| self.now.since(open.started) < BRANCH_WAIT)
    }

    fn acts_on(&self, app: AppId) -> bool {
        self.actions.iter().any(|a| a.app == Some(app) && matches!(a.act, Act::Build { .. } | Act::Begin { .. }))
    }

    /// Builds that are under way or planned: whose, and where.
    fn builds(&self) -> impl Iterator<Item = (AppId, ServerId)> {
        let running = self.fleet.deploys.iter().filter(|d| d.state == DeployState::Building);
        let running = running.filter_map(|d| d.builder.map(|(server, _)| (d.app, server)));
        running.chain(self.actions.iter().filter_map(|a| match a.act {
            Act::Build { server, .. } => a.app.map(|app| (app, server)),
            _ => None,
        }))
    }

    fn builder(&self) -> Option<ServerId> {
        let busy = |server: ServerId| self.builds().filter(|(_, on)| *on == server).count();
        let free = |server: ServerId| self.free.get(&server).copied().unwrap_or(0);
        self.fleet
            .servers
            .iter()
            .filter(|s| {
                takes_new(s) && has_room(s) && busy(s.id) < BUILDS_PER_SERVER && free(s.id) >= BUILD_MEMORY_BYTES
            })
            .min_by_key(|s| (busy(s.id), std::cmp::Reverse(free(s.id)), s.id))
            .map(|s| s.id)
    }

    fn building(&mut self, deploy: &Deploy) {
        let Some(step) = deploy.open_step(Step::Build).copied() else { return };
        let Some(app) = self.app(deploy) else { return };
        let lost = deploy.builder.is_none_or(|(server, _)| is_lost(self.fleet, server));
        let late = self.now.since(step.started) >= app.build_time + BUILD_GRACE;
        if !lost && !late {
            return;
        }
        if late && !lost {
            let minutes = app.build_time.as_secs() / 60;
            let why = Reason::new(format!("the build did not end within {minutes} minutes, which is your limit"));
            return self.fail(deploy, why.hint("make it shorter, or ask the operator for more time"));
        }
        if step.attempt >= BUILD_ATTEMPTS_MAX {
            let why = format!("its builder was lost {BUILD_ATTEMPTS_MAX} times");
            return self.fail(deploy, Reason::new(why).hint("push again; tell the operator if it goes on"));
        }
        if let Some(server) = self.builder() {
            let act = Act::BuildAgain { deploy: deploy.id, attempt: step.attempt, server };
            self.act(act, deploy, "build again", "its builder is silent");
        }
    }

    fn starting(&mut self, deploy: &Deploy) {
        let fleet = self.fleet;
        let Some(app) = self.running(deploy) else { return };
        let release = deploy.release();
        let made = fleet.releases.get(&(app.id, release));
        if let Some(reason) = made.and_then(|made| made.config.as_ref().err()) {
            return self.fail(deploy, reason.clone());
        }
        let mine = |s: &crate::Slot| s.app == app.id && s.release == release;
        if let Some(failure) = fleet.failures.iter().find(|f| mine(&f.slot)) {
            let name = &failure.slot.process;
            return self.fail(
                deploy,
                failure.reason.clone().unwrap_or_else(|| Reason::new(format!("{name} could not be started"))),
            );
        }
        if let Some(refused) = self.refused.iter().find(|r| mine(&r.slot)) {
            let hint = full(fleet).map_or("stop something, or ask the operator", |_| crate::SPACE_HINT);
            return self.fail(deploy, Reason::new(refused.reason.clone()).hint(hint));
        }
        let Some(made) = made else { return };
        let wanted: usize = made.formation.values().map(|size| usize::from(size.count)).sum();
        let is = |state: InstanceState| move |i: &&Instance| mine(&i.slot) && i.state == state;
        let healthy = fleet.living().filter(is(InstanceState::Healthy)).count();
        if healthy >= wanted {
            return self.act(Act::Switch { deploy: deploy.id }, deploy, "switch on", "all its instances are healthy");
        }
        let limit = start_timeout(&made.manifest);
        if self.now.since(deploy.state_since) >= limit + START_GRACE {
            let late = fleet.living().find(|i| mine(&i.slot) && i.state != InstanceState::Healthy);
            let seconds = limit.as_secs();
            let reason = late.and_then(|i| i.reason.clone()).unwrap_or_else(|| match late {
                Some(i) => Reason::new(format!("{}.{} did not start within {seconds} s", i.slot.process, i.slot.index)),
                None => Reason::new(format!("its instances did not start within {seconds} s")),
            });
            self.fail(deploy, reason);
        }
    }

    fn switching(&mut self, deploy: &Deploy) {
        let release = deploy.release();
        let web: Vec<&Instance> = self
            .fleet
            .living()
            .filter(|i| i.slot.app == deploy.app && i.slot.release == release && i.slot.process.is_web())
            .filter(|i| i.state == InstanceState::Healthy)
            .collect();
        let made = self.fleet.releases.get(&(deploy.app, release));
        let wanted = made.and_then(|m| m.formation.iter().find(|(p, _)| p.is_web())).map_or(0, |(_, size)| size.count);
        let all_here = web.len() >= usize::from(wanted);
        let known = web.iter().all(|i| i.held.routed_by_all);
        let late = self.now.since(deploy.state_since) >= DRAIN_MAX;
        if all_here && known {
            let act = Act::Live { deploy: deploy.id, detail: None };
            self.act(act, deploy, "finish", "the balancers route to it");
        } else if late {
            let seconds = DRAIN_MAX.as_secs();
            let words = match all_here {
                true => format!("a balancer did not confirm within {seconds} s"),
                false => format!("not all of its instances were healthy for {seconds} s"),
            };
            let act = Act::Live { deploy: deploy.id, detail: Some(words.clone()) };
            self.act(act, deploy, "finish", words);
        }
    }

    fn draining(&mut self, deploy: &Deploy) {
        if deploy.open_step(Step::Drain).is_none() {
            return;
        }
        let older = |i: &&Instance| i.slot.app == deploy.app && i.slot.release < deploy.release();
        // What was still open at its end failed with it: the balancers have counted that when nothing is open.
        let open = |i: &Instance| !i.ended || i.slot.process.is_web() && !i.held.idle;
        if !self.fleet.instances.iter().filter(older).any(open) {
            self.act(Act::EndDrain { deploy: deploy.id }, deploy, "drained before", "no older instance is left");
        }
    }
}
