//! What is known at one moment.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use domain::wire::{Manifest, Space};
use domain::{
    AppId, AppName, AppState, Cause, CommitId, CustomerId, DeployId, DeployState, Hostname, ImageHash, InstanceId,
    InstanceState, ProcessName, Reason, ReleaseNumber, Secret, ServerId, SourceHash, Step, Time, Wanted,
};

use crate::Subnet;

#[derive(Debug, Clone, PartialEq)]
pub struct Fleet {
    pub servers: Vec<Server>,
    /// All that are not deleted, and deleted ones while one of their instances lives.
    pub apps: Vec<App>,
    pub releases: BTreeMap<(AppId, ReleaseNumber), Release>,
    /// Those that are not final, and final ones with an open step.
    pub deploys: Vec<Deploy>,
    pub tips: Vec<Tip>,
    /// The living, and the dead whose address rests.
    pub instances: Vec<Instance>,
    /// Of the last hour.
    pub failures: Vec<Failure>,
    /// Addresses of what runs and no row names: the truth came back older.
    pub strangers: Vec<Ipv4Addr>,
    /// Where instances' addresses come from.
    pub subnet: Subnet,
    /// The first UID of apps.
    pub uids_base: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    pub id: ServerId,
    pub name: String,
    pub presence: Presence,
    /// What apps may use.
    pub memory_bytes: u64,
    /// Of its data's disk; `None`: it has not said.
    pub space: Option<Space>,
    /// It has something of these apps, and nothing of them is wanted any more.
    pub apps_gone: Vec<AppId>,
}

/// How long ago a server reported, by the coordinator's own monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It reported this long ago.
    Heard(Duration),
    /// Nothing yet since the coordinator began, this long ago: it is called lost only after a full lease.
    NotYet(Duration),
}

#[derive(Debug, Clone, PartialEq)]
pub struct App {
    pub id: AppId,
    pub customer: CustomerId,
    pub name: AppName,
    pub state: AppState,
    pub serving: Option<ReleaseNumber>,
    pub hostnames: Vec<Hostname>,
    /// Of its customer, in all their apps together.
    pub builds_max: usize,
    /// How long one of its builds may take.
    pub build_time: Duration,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Release {
    pub image: ImageHash,
    pub formation: BTreeMap<ProcessName, Size>,
    pub manifest: Manifest,
    /// Its config vars; `Err`: why they cannot be read, and then nothing of it is started.
    pub config: Result<Arc<BTreeMap<String, Secret<String>>>, Reason>,
}

/// How many of a process type, and how big.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub count: u16,
    pub memory_bytes: u64,
    pub cpu_millis: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Deploy {
    pub id: DeployId,
    pub app: AppId,
    /// Within the app; a release takes it.
    pub number: i64,
    pub cause: Cause,
    pub state: DeployState,
    pub state_since: Time,
    pub commit: CommitId,
    pub branch: String,
    pub before: Option<CommitId>,
    pub source: SourceHash,
    /// Known from the beginning when an earlier deploy built it; then nothing is built.
    pub image: Option<ImageHash>,
    /// The builder and its sandbox's address, while building.
    pub builder: Option<(ServerId, Ipv4Addr)>,
    pub open: Vec<OpenStep>,
}

impl Deploy {
    pub fn release(&self) -> ReleaseNumber {
        ReleaseNumber(self.number)
    }

    pub fn open_step(&self, step: Step) -> Option<&OpenStep> {
        self.open.iter().find(|open| open.step == step)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenStep {
    pub step: Step,
    pub attempt: i32,
    pub started: Time,
    /// Somebody took it on.
    pub claimed: bool,
}

/// Where a deploy last moved a branch to.
#[derive(Debug, Clone, PartialEq)]
pub struct Tip {
    pub app: AppId,
    pub branch: String,
    /// The deploy that moved it.
    pub number: i64,
    pub commit: CommitId,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    pub id: InstanceId,
    pub slot: Slot,
    pub server: ServerId,
    pub address: Ipv4Addr,
    pub wanted: Wanted,
    pub state: InstanceState,
    pub reason: Option<Reason>,
    pub memory_bytes: u64,
    pub drain_since: Option<Time>,
    pub ended: bool,
    /// It crashed: how long its runner waits before it starts it again.
    pub back_off: Duration,
    pub held: Held,
}

/// A place in a formation: `web.2` of a release.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    pub app: AppId,
    pub release: ReleaseNumber,
    pub process: ProcessName,
    /// Counts from 1.
    pub index: u16,
}

/// What the balancers say of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Every balancer that is here uses a table that has it.
    pub routed_by_all: bool,
    /// No balancer that is here uses a table that has it, or has one of its requests open.
    pub idle: bool,
    /// No balancer that may come back can still have it.
    pub forgotten: bool,
}

/// Instances of a slot that could not be started within the last hour.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    pub slot: Slot,
    pub times: u32,
    pub last: Time,
    /// Of the latest.
    pub reason: Option<Reason>,
}

impl Fleet {
    pub fn app(&self, app: AppId) -> Option<&App> {
        self.apps.iter().find(|a| a.id == app)
    }

    pub fn server(&self, server: ServerId) -> Option<&Server> {
        self.servers.iter().find(|s| s.id == server)
    }

    pub(crate) fn living(&self) -> impl Iterator<Item = &Instance> {
        self.instances.iter().filter(|i| !i.ended)
    }

    /// The deploy of `app` that is under way: at most one.
    pub(crate) fn under_way(&self, app: AppId) -> Option<&Deploy> {
        self.deploys.iter().find(|d| {
            d.app == app
                && matches!(
                    d.state,
                    DeployState::Building | DeployState::Releasing | DeployState::Starting | DeployState::Switching
                )
        })
    }

    /// `shop.web.2`
    pub(crate) fn slot_name(&self, slot: &Slot) -> String {
        match self.app(slot.app) {
            Some(app) => format!("{}.{}.{}", app.name, slot.process, slot.index),
            None => format!("app {}.{}.{}", slot.app, slot.process, slot.index),
        }
    }

    pub(crate) fn server_name(&self, server: ServerId) -> String {
        self.server(server).map_or_else(|| format!("server {server}"), |s| s.name.clone())
    }
}
