//! The table of routes: hostname → app → instances.

use std::net::SocketAddr;

use domain::wire::{RouteApp, RouteInstance, RouteState, Target};
use domain::{AppState, InstanceState, Wanted};

use crate::place::is_lost;
use crate::{App, Fleet, Instance};

/// What `$PORT` says to a `web`.
pub const WEB_PORT: u16 = 8000;

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
    let mut instances = Vec::new();
    if state == RouteState::Live {
        let serving = |wanted: InstanceState| {
            let is = move |i: &&Instance| {
                i.slot.app == app.id
                    && Some(i.slot.release) == app.serving
                    && i.slot.process.is_web()
                    && i.wanted == Wanted::Run
                    && i.state == wanted
                    && !is_lost(fleet, i.server)
            };
            fleet.living().filter(is).map(target).collect::<Vec<_>>()
        };
        instances = serving(InstanceState::Healthy);
        if instances.is_empty() {
            // One that runs may answer; a page that says that nothing runs surely does not help.
            instances = serving(InstanceState::Unhealthy);
        }
        instances.sort_by_key(|i| i.id);
    }
    Some(RouteApp { app: app.id, name: app.name.clone(), hostnames: app.hostnames.clone(), state, instances })
}

fn target(instance: &Instance) -> RouteInstance {
    let address = SocketAddr::from((instance.address, WEB_PORT));
    RouteInstance { id: instance.id, target: Target::Direct { address } }
}
