//! What to start, stop and move so that the fleet runs what it should.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use domain::wire::Uids;
use domain::{AppState, DeployState, InstanceId, InstanceState, ServerId, Time, Wanted};

use crate::deploy::BUILD_MEMORY_BYTES;
use crate::{Act, Action, App, Fleet, Instance, Presence, Room, Server, Slot, refuses, room};

/// A server that is silent for so long is lost.
pub const SERVER_LEASE: Duration = Duration::from_secs(30);
/// How long an instance may finish what it has.
pub const DRAIN_MAX: Duration = Duration::from_secs(30);
/// What could not run is tried again after this, and twice that each time.
const AGAIN_AFTER: Duration = Duration::from_secs(10);
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(600);

/// What should run and has no place.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    pub slot: Slot,
    pub reason: String,
}

/// Same input, same plan. A replacement starts before what it replaces is stopped.
pub fn place(fleet: &Fleet, now: Time) -> (Vec<Action>, Vec<Refused>) {
    let mut plan = Plan { fleet, now, free: free_memory(fleet), actions: Vec::new(), refused: Vec::new() };
    let slots: Vec<(Slot, u64)> = fleet.apps.iter().flat_map(|app| slots(fleet, app)).collect();
    let mut kept: BTreeSet<InstanceId> = BTreeSet::new();
    let calm = !mass_loss(fleet);
    for (slot, memory_bytes) in &slots {
        let running: Vec<&Instance> =
            fleet.living().filter(|i| i.slot == *slot && i.wanted == Wanted::Run && !i.state.is_gone()).collect();
        // What a lost server runs is neither counted on nor stopped: it may serve still.
        kept.extend(running.iter().filter(|i| is_lost(fleet, i.server)).map(|i| i.id));
        match running
            .iter()
            .filter(|i| !is_lost(fleet, i.server))
            .min_by_key(|i| (i.state != InstanceState::Healthy, i.id))
        {
            Some(best) => {
                kept.insert(best.id);
            }
            None if running.is_empty() || calm => plan.start(slot, *memory_bytes, &running),
            None => {}
        }
    }
    kept.extend(fleet.living().filter(|i| releases(fleet, i)).map(|i| i.id));
    for instance in fleet.living() {
        if !kept.contains(&instance.id) {
            plan.end(instance);
        }
    }
    for instance in fleet.instances.iter().filter(|i| i.ended && i.held.forgotten) {
        plan.act(Act::FreeAddress { instance: instance.id }, None, String::new(), String::new());
    }
    (plan.actions, plan.refused)
}

/// What an app should run: the release that serves, and the one that is to follow it.
fn slots(fleet: &Fleet, app: &App) -> Vec<(Slot, u64)> {
    if app.state != AppState::Running {
        return Vec::new();
    }
    let starts = |d: &&crate::Deploy| matches!(d.state, DeployState::Starting | DeployState::Switching);
    let next = fleet.under_way(app.id).filter(starts).map(|d| d.release());
    let mut slots = BTreeMap::new();
    for release in app.serving.into_iter().chain(next) {
        let Some(made) = fleet.releases.get(&(app.id, release)) else { continue };
        for (process, size) in &made.formation {
            for index in 1..=size.count {
                let slot = Slot { app: app.id, release, process: process.clone(), index };
                slots.insert(slot, size.memory_bytes);
            }
        }
    }
    slots.into_iter().collect()
}

/// It is the process `release` of a deploy that waits for it.
fn releases(fleet: &Fleet, instance: &Instance) -> bool {
    let slot = &instance.slot;
    let waits = |d: &crate::Deploy| d.state == DeployState::Releasing && d.release() == slot.release;
    let runs = fleet.app(slot.app).is_some_and(|app| app.state == AppState::Running);
    slot.process.is_release() && runs && fleet.under_way(slot.app).is_some_and(waits)
}

/// A server that was silent for a lease. One that was not heard yet since the coordinator began gets as long.
pub(crate) fn is_lost(fleet: &Fleet, server: ServerId) -> bool {
    match fleet.server(server).map(|s| s.presence) {
        Some(Presence::Heard(ago) | Presence::NotYet(ago)) => ago >= SERVER_LEASE,
        None => true,
    }
}

/// More than one server, and more than a fifth of them, fell silent together: that is our own fault
/// until shown otherwise, and nothing is moved.
fn mass_loss(fleet: &Fleet) -> bool {
    let lost = fleet.servers.iter().filter(|s| is_lost(fleet, s.id)).count();
    lost > 1 && lost * 5 > fleet.servers.len()
}

/// What each server has left of its memory, by what is reserved: an instance's size until it has ended.
pub(crate) fn free_memory(fleet: &Fleet) -> BTreeMap<ServerId, u64> {
    let mut free: BTreeMap<ServerId, u64> = fleet.servers.iter().map(|s| (s.id, s.memory_bytes)).collect();
    let instances = fleet.living().map(|i| (i.server, i.memory_bytes));
    let builds = fleet.deploys.iter().filter(|d| d.state == DeployState::Building).filter_map(|d| d.builder);
    for (server, bytes) in instances.chain(builds.map(|(server, _)| (server, BUILD_MEMORY_BYTES))) {
        if let Some(left) = free.get_mut(&server) {
            *left = left.saturating_sub(bytes);
        }
    }
    free
}

/// Servers that may get something new: they were heard lately, and said how big they are.
pub(crate) fn takes_new(server: &Server) -> bool {
    server.memory_bytes > 0 && matches!(server.presence, Presence::Heard(ago) if ago < SERVER_LEASE)
}

/// There is room on its disk for what it does not have yet.
pub(crate) fn has_room(server: &Server) -> bool {
    server.space.as_ref().is_none_or(|space| room(space) != Room::Short)
}

/// Where the disks of all servers that answer are full: in whose words.
pub(crate) fn full(fleet: &Fleet) -> Option<String> {
    let mut here = fleet.servers.iter().filter(|s| takes_new(s));
    let first = here.next()?;
    if has_room(first) || here.any(has_room) {
        return None;
    }
    let why = first.space.as_ref().and_then(refuses)?;
    Some(why.replacen("the server", &format!("server {}", first.name), 1))
}

struct Plan<'a> {
    fleet: &'a Fleet,
    now: Time,
    free: BTreeMap<ServerId, u64>,
    actions: Vec<Action>,
    refused: Vec<Refused>,
}

impl Plan<'_> {
    fn act(&mut self, act: Act, slot: Option<&Slot>, what: String, reason: String) {
        self.actions.push(Action { act, app: slot.map(|s| s.app), what, reason });
    }

    fn start(&mut self, slot: &Slot, memory_bytes: u64, lost: &[&Instance]) {
        let fleet = self.fleet;
        if let Some(failure) = fleet.failures.iter().find(|f| f.slot == *slot) {
            let wait =
                (AGAIN_AFTER * 2_u32.saturating_pow(failure.times.saturating_sub(1).min(10))).min(AGAIN_AFTER_MAX);
            if self.now < failure.last.plus(wait) {
                return;
            }
        }
        if Uids::of(fleet.uids_base, slot.app).is_none() {
            self.refused.push(Refused { slot: slot.clone(), reason: "the range of users is used up".to_owned() });
            return;
        }
        let made = fleet.releases.get(&(slot.app, slot.release));
        if let Some(reason) = made.and_then(|made| made.config.as_ref().err()) {
            self.refused.push(Refused { slot: slot.clone(), reason: reason.message.clone() });
            return;
        }
        // What serves has its image here, and takes no room to start again.
        let serving = fleet.app(slot.app).is_some_and(|a| a.serving == Some(slot.release));
        let chosen = self.choose(slot, memory_bytes, has_room);
        let chosen = chosen.or_else(|| if serving { self.choose(slot, memory_bytes, |_| true) } else { None });
        let Some(server) = chosen else {
            let mib = memory_bytes >> 20;
            let reason = if let Some(full) = full(fleet) {
                full
            } else if fleet.servers.iter().any(takes_new) {
                format!("no server has {mib} MiB of memory left for {}", fleet.slot_name(slot))
            } else {
                "no server answers".to_owned()
            };
            self.refused.push(Refused { slot: slot.clone(), reason });
            return;
        };
        if let Some(left) = self.free.get_mut(&server) {
            *left = left.saturating_sub(memory_bytes);
        }
        let reason = match lost.first() {
            Some(lost) => format!("{} is silent", fleet.server_name(lost.server)),
            None if serving => format!("release {} should run it and nothing does", slot.release),
            None => format!("release {} is to follow", slot.release),
        };
        let what = format!("start {} on {}", fleet.slot_name(slot), fleet.server_name(server));
        self.act(Act::Start { slot: slot.clone(), server, memory_bytes }, Some(slot), what, reason);
    }

    /// Where the fewest of the same process type run, then where most memory is left.
    fn choose(&self, slot: &Slot, memory_bytes: u64, may: impl Fn(&Server) -> bool) -> Option<ServerId> {
        let alike = |server: ServerId| {
            let same = |s: &Slot| s.app == slot.app && s.process == slot.process && s.release == slot.release;
            let there = self.fleet.living().filter(|i| i.server == server && same(&i.slot)).count();
            let planned = self
                .actions
                .iter()
                .filter(|a| matches!(&a.act, Act::Start { slot, server: on, .. } if *on == server && same(slot)));
            there + planned.count()
        };
        let free = |server: ServerId| self.free.get(&server).copied().unwrap_or(0);
        self.fleet
            .servers
            .iter()
            .filter(|s| takes_new(s) && may(s) && free(s.id) >= memory_bytes)
            .min_by_key(|s| (alike(s.id), std::cmp::Reverse(free(s.id)), s.id))
            .map(|s| s.id)
    }

    /// Takes what should not run one step nearer to its end.
    fn end(&mut self, instance: &Instance) {
        let fleet = self.fleet;
        let slot = &instance.slot;
        let name = fleet.slot_name(slot);
        let app = fleet.app(slot.app);
        match instance.wanted {
            Wanted::Stop => {}
            Wanted::Run => {
                let serving = app.and_then(|a| a.serving);
                // Until the balancers know its successor, the one before stays as it is.
                let switching = fleet.under_way(slot.app).is_some_and(|d| d.state == DeployState::Switching);
                if switching && serving.is_some_and(|s| slot.release < s) {
                    return;
                }
                let reason = match (app.map(|a| a.state), serving) {
                    (Some(AppState::Running), Some(s)) if s == slot.release => {
                        let made =
                            fleet.releases.get(&(slot.app, s)).and_then(|made| made.formation.get(&slot.process));
                        match made {
                            Some(size) if slot.index > size.count => {
                                format!("{} of {} are wanted", size.count, slot.process)
                            }
                            _ => "another one runs in its place".to_owned(),
                        }
                    }
                    (Some(AppState::Running), Some(s)) if s > slot.release => format!("release {s} serves"),
                    (Some(AppState::Running), _) => format!("release {} was not switched on", slot.release),
                    (Some(AppState::Stopped), _) => "its app is stopped".to_owned(),
                    (Some(AppState::Deleted) | None, _) => "its app was deleted".to_owned(),
                };
                // Only what was routed to has something to finish.
                let was_routed = slot.process.is_web() && !instance.held.forgotten;
                if was_routed {
                    let what = format!("drain {name} of release {}", slot.release);
                    self.act(Act::Drain { instance: instance.id }, Some(slot), what, reason);
                } else {
                    self.stop(instance, reason);
                }
            }
            Wanted::Drain => {
                let since = instance.drain_since.unwrap_or(self.now);
                if instance.held.idle {
                    self.stop(instance, "it has drained".to_owned());
                } else if self.now.since(since) >= DRAIN_MAX {
                    self.stop(instance, format!("it had {} s to drain", DRAIN_MAX.as_secs()));
                }
            }
        }
    }

    fn stop(&mut self, instance: &Instance, reason: String) {
        let name = self.fleet.slot_name(&instance.slot);
        let what = format!("stop {name} of release {}", instance.slot.release);
        let act = Act::Stop { instance: instance.id, from: instance.wanted };
        self.act(act, Some(&instance.slot), what, reason);
    }
}
