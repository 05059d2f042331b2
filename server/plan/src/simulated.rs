//! Small fleets in memory: what a plan does to them, step by step, and what must hold whatever happens.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use domain::wire::{Manifest, RouteState, Space};
use domain::{
    AppId, AppState, Cause, CommitId, CustomerId, DeployId, DeployState, InstanceId, InstanceState, ProcessName,
    Reason, ReleaseNumber, ServerId, Step, Time, Wanted,
};

use crate::*;

mod decisions;

const MIB: u64 = 1 << 20;

/// A fleet with a clock, and runners and balancers that do as they are asked.
#[derive(Clone)]
struct World {
    fleet: Fleet,
    now: Time,
    next_instance: i64,
    /// Instances of these releases fail to start.
    broken: Vec<ReleaseNumber>,
}

fn commit(n: i64) -> CommitId {
    format!("{n:040x}").parse().unwrap()
}

fn process(name: &str) -> ProcessName {
    name.parse().unwrap()
}

fn manifest() -> Manifest {
    Manifest {
        processes: BTreeMap::from([(process("web"), "serve".to_owned())]),
        env: BTreeMap::new(),
        buildpack: "static".to_owned(),
        stack: "host".to_owned(),
        bytes: 1,
        settings: Default::default(),
    }
}

/// Servers `s1`… with so many MiB, each heard of just now.
fn world(servers_mib: &[u64]) -> World {
    let server = |(n, mib): (usize, &u64)| Server {
        id: ServerId(n as i64 + 1),
        name: format!("s{}", n + 1),
        presence: Presence::Heard(Duration::ZERO),
        memory_bytes: mib * MIB,
        space: None,
        apps_gone: vec![],
    };
    let fleet = Fleet {
        servers: servers_mib.iter().enumerate().map(server).collect(),
        apps: vec![],
        releases: BTreeMap::new(),
        deploys: vec![],
        tips: vec![],
        instances: vec![],
        failures: vec![],
        strangers: vec![],
        subnet: Subnet { network: Ipv4Addr::new(10, 100, 0, 0), prefix: 16 },
        uids_base: 1 << 20,
    };
    World { fleet, now: Time::from_unix_micros(1_000_000_000_000), next_instance: 1, broken: vec![] }
}

impl World {
    fn app(mut self, id: i64, name: &str, customer: i64) -> Self {
        self.fleet.apps.push(App {
            id: AppId(id),
            customer: CustomerId(customer),
            name: name.parse().unwrap(),
            state: AppState::Running,
            serving: None,
            hostnames: vec![format!("{name}.localhost").parse().unwrap()],
            builds_max: 1,
            build_time: BUILD_TIME,
        });
        self
    }

    fn release(mut self, app: i64, number: i64, web: u16) -> Self {
        self.add_release(AppId(app), ReleaseNumber(number), web);
        self
    }

    fn add_release(&mut self, app: AppId, number: ReleaseNumber, web: u16) {
        let size = Size { count: web, memory_bytes: 512 * MIB, cpu_millis: 1000 };
        let image = format!("{:064x}", number.0).parse().unwrap();
        let formation = BTreeMap::from([(process("web"), size)]);
        self.fleet
            .releases
            .insert((app, number), Release { image, formation, manifest: manifest(), config: Ok(Arc::default()) });
    }

    fn serving(mut self, app: i64, number: i64) -> Self {
        self.fleet.apps.iter_mut().find(|a| a.id == AppId(app)).unwrap().serving = Some(ReleaseNumber(number));
        self
    }

    fn instance(mut self, app: i64, release: i64, index: u16, server: i64, state: InstanceState) -> Self {
        let slot = Slot { app: AppId(app), release: ReleaseNumber(release), process: process("web"), index };
        self.put(slot, ServerId(server), 512 * MIB, state);
        self
    }

    fn put(&mut self, slot: Slot, server: ServerId, memory_bytes: u64, state: InstanceState) {
        let address = addresses(&self.fleet).next().unwrap();
        self.fleet.instances.push(Instance {
            id: InstanceId(self.next_instance),
            slot,
            server,
            address,
            wanted: Wanted::Run,
            state,
            reason: None,
            memory_bytes,
            drain_since: None,
            ended: false,
            back_off: Duration::ZERO,
            held: Held { routed_by_all: state == InstanceState::Healthy, idle: false, forgotten: false },
        });
        self.next_instance += 1;
    }

    fn deploy(mut self, app: i64, number: i64, state: DeployState) -> Self {
        self.push(AppId(app), number, state);
        self
    }

    fn push(&mut self, app: AppId, number: i64, state: DeployState) {
        let open = |step| OpenStep { step, attempt: 1, started: self.now, claimed: false };
        let builder = (state == DeployState::Building).then(|| (ServerId(1), Ipv4Addr::new(10, 100, 9, 9)));
        self.fleet.deploys.push(Deploy {
            id: DeployId(app.0 * 1000 + number),
            app,
            number,
            cause: Cause::Push,
            state,
            state_since: self.now,
            commit: commit(number),
            branch: "main".to_owned(),
            before: None,
            source: "a".repeat(64).parse().unwrap(),
            image: None,
            builder,
            open: builder.map(|_| open(Step::Build)).into_iter().collect(),
        });
    }

    /// The last deploy has an image, and moves no branch.
    fn restart(&mut self) {
        let last = self.fleet.deploys.last_mut().unwrap();
        (last.cause, last.image) = (Cause::Restart, Some("b".repeat(64).parse().unwrap()));
    }

    fn silent(mut self, server: &str, silence: Duration) -> Self {
        self.fleet.servers.iter_mut().find(|s| s.name == server).unwrap().presence = Presence::Heard(silence);
        self
    }

    fn later(mut self, by: Duration) -> Self {
        self.now = self.now.plus(by);
        self
    }

    fn plan(&self) -> Vec<Action> {
        plan(&self.fleet, self.now)
    }

    fn deploy_mut(&mut self, id: DeployId) -> &mut Deploy {
        self.fleet.deploys.iter_mut().find(|d| d.id == id).unwrap()
    }

    fn instance_mut(&mut self, id: InstanceId) -> &mut Instance {
        self.fleet.instances.iter_mut().find(|i| i.id == id).unwrap()
    }

    fn enter(&mut self, id: DeployId, state: DeployState, open: &[Step]) {
        let now = self.now;
        let deploy = self.deploy_mut(id);
        deploy.state = state;
        deploy.state_since = now;
        deploy.open =
            open.iter().map(|step| OpenStep { step: *step, attempt: 1, started: now, claimed: false }).collect();
    }

    fn apply(&mut self, actions: &[Action]) {
        for action in actions {
            match action.act.clone() {
                Act::Start { slot, server, memory_bytes } => {
                    self.put(slot, server, memory_bytes, InstanceState::Placed);
                }
                Act::Drain { instance } => {
                    let now = self.now;
                    let instance = self.instance_mut(instance);
                    assert_eq!(instance.wanted, Wanted::Run);
                    instance.wanted = Wanted::Drain;
                    instance.drain_since = Some(now);
                }
                Act::Stop { instance, from } => {
                    let instance = self.instance_mut(instance);
                    assert_eq!(instance.wanted, from);
                    instance.wanted = Wanted::Stop;
                }
                Act::FreeAddress { instance } => self.fleet.instances.retain(|i| i.id != instance),
                Act::Build { deploy, server } => {
                    let address = addresses(&self.fleet).next().unwrap();
                    self.enter(deploy, DeployState::Building, &[Step::Build]);
                    self.deploy_mut(deploy).builder = Some((server, address));
                }
                Act::Begin { deploy } => {
                    let (app, release) = (self.deploy_mut(deploy).app, self.deploy_mut(deploy).release());
                    self.add_release(app, release, 2);
                    self.enter(deploy, DeployState::Starting, &[Step::Start]);
                }
                Act::Release { deploy, slot, server, memory_bytes } => {
                    self.put(slot, server, memory_bytes, InstanceState::Placed);
                    let open = self.deploy_mut(deploy).open.iter_mut().find(|open| open.step == Step::Release);
                    assert!(!std::mem::replace(&mut open.unwrap().claimed, true), "it is claimed once");
                }
                Act::BuildAgain { deploy, attempt, server } => {
                    let now = self.now;
                    let deploy = self.deploy_mut(deploy);
                    let address = deploy.builder.unwrap().1;
                    deploy.builder = Some((server, address));
                    deploy.open =
                        vec![OpenStep { step: Step::Build, attempt: attempt + 1, started: now, claimed: false }];
                }
                Act::Switch { deploy } => {
                    self.enter(deploy, DeployState::Switching, &[Step::Switch]);
                    let (app, release) = (self.deploy_mut(deploy).app, self.deploy_mut(deploy).release());
                    self.fleet.apps.iter_mut().find(|a| a.id == app).unwrap().serving = Some(release);
                }
                Act::Live { deploy, .. } => self.enter(deploy, DeployState::Live, &[Step::Drain]),
                Act::Fail { deploy, .. } => {
                    self.enter(deploy, DeployState::Failed, &[]);
                    self.fleet.deploys.retain(|d| d.id != deploy);
                }
                Act::EndDrain { deploy } => self.fleet.deploys.retain(|d| d.id != deploy),
            }
        }
    }

    /// Runners on servers that are heard of do what they are asked; balancers take the newest routes.
    fn run(&mut self) {
        let here: Vec<ServerId> = self
            .fleet
            .servers
            .iter()
            .filter(|s| matches!(s.presence, Presence::Heard(ago) if ago < SERVER_LEASE))
            .map(|s| s.id)
            .collect();
        let (now, broken) = (self.now, self.broken.clone());
        let mut failures = vec![];
        for instance in self.fleet.instances.iter_mut().filter(|i| !i.ended && here.contains(&i.server)) {
            instance.state = match (instance.wanted, instance.state) {
                (Wanted::Stop, _) => InstanceState::Stopped,
                (_, InstanceState::Placed) => InstanceState::Starting,
                (_, InstanceState::Starting) if broken.contains(&instance.slot.release) => InstanceState::Failed,
                (_, InstanceState::Starting | InstanceState::Crashed) => InstanceState::Healthy,
                (_, other) => other,
            };
            instance.ended = instance.state.is_gone();
            if instance.state == InstanceState::Failed {
                let reason = Some(Reason::new("web did not listen on $PORT"));
                failures.push(Failure { slot: instance.slot.clone(), times: 1, last: now, reason });
            }
        }
        self.fleet.failures.extend(failures);
        let built: Vec<Deploy> = self
            .fleet
            .deploys
            .iter()
            .filter(|d| d.state == DeployState::Building && d.builder.is_some_and(|(s, _)| here.contains(&s)))
            .cloned()
            .collect();
        for deploy in built {
            self.add_release(deploy.app, deploy.release(), 2);
            self.enter(deploy.id, DeployState::Starting, &[Step::Start]);
            self.deploy_mut(deploy.id).builder = None;
        }
        let routed: Vec<InstanceId> =
            route(&self.fleet).iter().flat_map(|app| app.instances.iter().map(|i| i.id)).collect();
        for instance in &mut self.fleet.instances {
            let on = routed.contains(&instance.id);
            instance.held = Held { routed_by_all: on, idle: !on, forgotten: !on };
        }
    }

    fn tick(&mut self) {
        let actions = self.plan();
        self.apply(&actions);
        self.run();
        self.now = self.now.plus(Duration::from_secs(1));
    }

    /// What must hold at any moment.
    fn check_always(&self) {
        let mut addresses: Vec<_> = self.fleet.instances.iter().map(|i| i.address).collect();
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), self.fleet.instances.len(), "no address is given twice");
        for server in &self.fleet.servers {
            let used: u64 = self.fleet.living().filter(|i| i.server == server.id).map(|i| i.memory_bytes).sum();
            assert!(used <= server.memory_bytes, "{} is overbooked", server.name);
        }
        for app in &self.fleet.apps {
            let under_way = self
                .fleet
                .deploys
                .iter()
                .filter(|d| d.app == app.id && !d.state.is_final() && d.state != DeployState::Queued);
            assert!(under_way.count() <= 1, "one open deploy an app");
            let building = self.fleet.deploys.iter().filter(|d| {
                d.state == DeployState::Building && self.fleet.app(d.app).unwrap().customer == app.customer
            });
            assert!(building.count() <= 1, "one build at a time a customer");
        }
    }
}

fn scaled_to(release: &mut Release, web: u16) {
    scaled(&mut release.formation, &BTreeMap::from([(process("web"), web)]));
}

#[track_caller]
fn check(world: World, expected: &[&str]) {
    let plan: Vec<String> = world.plan().iter().map(ToString::to_string).filter(|what| !what.is_empty()).collect();
    assert_eq!(plan, expected);
}
