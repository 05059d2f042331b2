//! What a plan says should be done, and why.

use std::fmt;

use domain::{AppId, DeployId, InstanceId, Reason, ServerId, Wanted};

use crate::Slot;

#[derive(Debug, Clone, PartialEq)]
pub struct Action {
    pub act: Act,
    pub app: Option<AppId>,
    /// In plain words: "start shop.web.2 on s2". Empty for what nobody needs to read.
    pub what: String,
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    /// A new instance; whoever applies it gives it a free address.
    Start {
        slot: Slot,
        server: ServerId,
        memory_bytes: u64,
    },
    /// It is out of the routes: finish what is open, take no new.
    Drain {
        instance: InstanceId,
    },
    Stop {
        instance: InstanceId,
        from: Wanted,
    },
    /// No balancer can still have its address.
    FreeAddress {
        instance: InstanceId,
    },
    /// Queued → building.
    Build {
        deploy: DeployId,
        server: ServerId,
    },
    /// Its image is there already. Queued → releasing or starting.
    Begin {
        deploy: DeployId,
    },
    /// The step `release` is claimed and its process placed: once, whatever becomes of it.
    Release {
        deploy: DeployId,
        slot: Slot,
        server: ServerId,
        memory_bytes: u64,
    },
    /// A new attempt at the build, on this server.
    BuildAgain {
        deploy: DeployId,
        attempt: i32,
        server: ServerId,
    },
    /// All its instances are healthy: from now on it serves. Starting → switching.
    Switch {
        deploy: DeployId,
    },
    /// The balancers know. Switching → live.
    Live {
        deploy: DeployId,
        detail: Option<String>,
    },
    Fail {
        deploy: DeployId,
        reason: Reason,
    },
    /// Its predecessors' instances are gone.
    EndDrain {
        deploy: DeployId,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}
