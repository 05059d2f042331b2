//! The process `release`: it runs once, in the new image and with its environment, before anything of the new
//! release is started; what serves goes on meanwhile, and stays when it fails.
//!
//! It runs when new code or new configuration is about to be tried: after a push, `again` and a change of
//! configuration. Not for a restart or other sizes, since what serves has released already. Not for a rollback
//! either: the older code's `release` cannot undo what the newer one did to a database, and one that tried would
//! be the last thing wanted in an emergency.
//!
//! It is placed once. When its server is lost nobody knows how far it came, so the deploy fails and says so:
//! a migration never runs twice unless a person asks for it.

use std::time::Duration;

use domain::wire::Manifest;
use domain::{Cause, ProcessName, Reason, Step};

use crate::deploy::Plan;
use crate::place::{full, has_room, is_lost, takes_new};
use crate::size::size;
use crate::{Act, Deploy, Slot};

const RELEASE_TIMEOUT: Duration = Duration::from_secs(600);
/// A runner needs this to fetch an image, and to say how it ended.
const GRACE: Duration = Duration::from_secs(60);

/// Whether a deploy with this image runs `release` first.
pub fn runs_release(cause: Cause, manifest: &Manifest) -> bool {
    let is_wanted = match cause {
        Cause::Push | Cause::Again | Cause::Config => true,
        Cause::Restart | Cause::Rollback | Cause::Resize => false,
    };
    is_wanted && manifest.processes.keys().any(ProcessName::is_release)
}

pub(crate) fn release_timeout(manifest: &Manifest) -> Duration {
    let says = manifest.settings.of(ProcessName::RELEASE).and_then(|release| release.timeout_ms);
    says.map_or(RELEASE_TIMEOUT, Duration::from_millis)
}

impl Plan<'_> {
    /// How its process ends is reported, and taken in with that report.
    pub(crate) fn releasing(&mut self, deploy: &Deploy) {
        let fleet = self.fleet;
        let Some(app) = self.running(deploy) else { return };
        let Some(step) = deploy.open_step(Step::Release).copied() else { return };
        let Some(made) = fleet.releases.get(&(app.id, deploy.release())) else { return };
        let limit = release_timeout(&made.manifest);
        let waited = self.now.since(step.started);
        if step.claimed {
            let is_it = |i: &&crate::Instance| {
                i.slot.app == app.id && i.slot.release == deploy.release() && i.slot.process.is_release()
            };
            let lost = fleet.living().find(is_it).is_none_or(|i| is_lost(fleet, i.server));
            if lost {
                let why = "the server was lost while `release` ran: nobody knows how far it came";
                let hint = "look at what it has changed, then deploy again; it is not run twice by itself";
                return self.fail(deploy, Reason::new(why).hint(hint));
            }
            if waited >= limit + GRACE {
                let why = format!("`release` did not end within {} s", limit.as_secs());
                self.fail(deploy, Reason::new(why).hint("make it shorter, or raise `release.timeout` in berth.toml"));
            }
            return;
        }
        let Some(process) = made.manifest.processes.keys().find(|p| p.is_release()) else { return };
        let memory_bytes = size(&made.manifest, &Default::default(), process).memory_bytes;
        let free = |server: &crate::Server| self.free.get(&server.id).copied().unwrap_or(0);
        let here = fleet.servers.iter().filter(|s| takes_new(s));
        let chosen = here
            .filter(|s| has_room(s) && free(s) >= memory_bytes)
            .max_by_key(|s| (free(s), std::cmp::Reverse(s.id)))
            .map(|s| s.id);
        if let Some(server) = chosen {
            if let Some(left) = self.free.get_mut(&server) {
                *left = left.saturating_sub(memory_bytes);
            }
            let slot = Slot { app: app.id, release: deploy.release(), process: process.clone(), index: 1 };
            let reason = format!("it comes before release {} is started", deploy.release());
            return self.act(
                Act::Release { deploy: deploy.id, slot, server, memory_bytes },
                deploy,
                "run `release` of",
                reason,
            );
        }
        if let Some(full) = full(fleet) {
            return self.fail(deploy, Reason::new(full).hint(crate::SPACE_HINT));
        }
        if fleet.servers.iter().any(takes_new) {
            let mib = memory_bytes >> 20;
            let why = format!("no server has {mib} MiB of memory left for `release`");
            self.fail(deploy, Reason::new(why).hint("stop something, or ask the operator"));
        } else if waited >= GRACE {
            self.fail(deploy, Reason::new("no server answers").hint("try again; tell the operator if it goes on"));
        }
    }
}
