//! The table of routes: hostname → app → instances.

use std::net::SocketAddr;
use std::time::Duration;

use domain::wire::{RouteApp, RouteInstance, RouteState, Target};
use domain::{AppId, AppState, DeployState, InstanceState, ReleaseNumber, Step, Wanted};

use crate::place::is_lost;
use crate::{App, Deploy, Fleet, Instance, Slot};

/// What `$PORT` says to a `web`.
pub const WEB_PORT: u16 = 8000;

const BACK_OFF_WAITED_FOR: Duration = Duration::from_secs(8);

/// Every app that is not deleted, by id, so that the same fleet gives the same table.
pub fn route(fleet: &Fleet) -> Vec<RouteApp> {
    let mut table: Vec<RouteApp> = fleet.apps.iter().filter_map(|app| row(fleet, app)).collect();
    table.sort_by_key(|row| row.app);
    table
}

fn row(fleet: &Fleet, app: &App) -> Option<RouteApp> {
    let state = match (app.state, app.serving) {
        (AppState::Deleted, _) => return None,
        (AppState::Stopped, _) => RouteState::Stopped,
        (AppState::Running, None) => RouteState::Empty,
        (AppState::Running, Some(_)) => RouteState::Live,
    };
    let mut row = RouteApp {
        app: app.id,
        name: app.name.clone(),
        hostnames: app.hostnames.clone(),
        state,
        instances: Vec::new(),
        starting: false,
        deploys: fleet.deploys.iter().filter(|d| d.app == app.id && is_counted(d)).map(|d| d.id).collect(),
    };
    row.deploys.sort();
    if let (RouteState::Live, Some(serving)) = (state, app.serving) {
        let of = |release: ReleaseNumber| {
            move |i: &&Instance| {
                i.slot.app == app.id
                    && i.slot.release == release
                    && i.slot.process.is_web()
                    && i.wanted == Wanted::Run
                    && !is_lost(fleet, i.server)
            }
        };
        let in_state = |release: ReleaseNumber, state: InstanceState| {
            fleet.living().filter(of(release)).filter(move |i| i.state == state).map(target).collect::<Vec<_>>()
        };
        let switching = fleet.under_way(app.id).is_some_and(|d| d.state == DeployState::Switching);
        let before = || fleet.living().map(|i| i.slot.release).filter(|r| *r < serving).max();
        row.instances = in_state(serving, InstanceState::Healthy);
        if row.instances.is_empty() && switching {
            // What is being switched on has just failed: the one before is still here.
            row.instances = before().map(|r| in_state(r, InstanceState::Healthy)).unwrap_or_default();
        }
        if row.instances.is_empty() {
            // One that runs may answer; a page that says that nothing runs surely does not help.
            row.instances = in_state(serving, InstanceState::Unhealthy);
        }
        row.instances.sort_by_key(|i| i.id);
        row.starting = fleet.living().filter(of(serving)).any(comes) || is_placed_next(fleet, app.id, serving);
    }
    Some(row)
}

fn is_counted(deploy: &Deploy) -> bool {
    match deploy.state {
        DeployState::Starting | DeployState::Switching => true,
        _ => deploy.open_step(Step::Drain).is_some(),
    }
}

/// Its runner has it in the queue, starts it, or starts it again soon: nobody waits for what crashed again
/// and again.
fn comes(instance: &Instance) -> bool {
    match instance.state {
        InstanceState::Placed | InstanceState::Starting => true,
        InstanceState::Crashed => instance.back_off <= BACK_OFF_WAITED_FOR,
        _ => false,
    }
}

/// A `web` should run, nothing runs in its place, and nothing stood in its way yet.
fn is_placed_next(fleet: &Fleet, app: AppId, release: ReleaseNumber) -> bool {
    let web = |slot: &Slot| slot.app == app && slot.release == release && slot.process.is_web();
    let made = fleet.releases.get(&(app, release));
    let wanted = made.and_then(|m| m.formation.iter().find(|(p, _)| p.is_web())).map_or(0, |(_, size)| size.count);
    wanted > 0
        && !fleet.living().any(|i| web(&i.slot) && i.wanted == Wanted::Run && !i.state.is_gone())
        && !fleet.failures.iter().any(|f| web(&f.slot))
}

fn target(instance: &Instance) -> RouteInstance {
    let address = SocketAddr::from((instance.address, WEB_PORT));
    RouteInstance { id: instance.id, target: Target::Direct { address } }
}
