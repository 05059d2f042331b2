//! The builds that assignments list: each run once for each attempt, told until the list forgets it.
//!
//! A build ends with its runner; the coordinator gives its step out again under a new attempt.

use std::collections::{HashMap, HashSet};

use domain::DeployId;
use domain::wire::{BuildReport, BuildSpec, BuildState};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::build::Builder;

pub struct Orders {
    pub wanted: watch::Receiver<Vec<BuildSpec>>,
    pub reports: watch::Sender<Vec<BuildReport>>,
}

impl Orders {
    /// Until `stop`; what is being built then is called off.
    pub async fn run(mut self, builder: Builder, stop: CancellationToken) {
        let mut tasks: JoinSet<BuildReport> = JoinSet::new();
        let mut known: HashMap<DeployId, (BuildReport, CancellationToken)> = HashMap::new();
        // An older attempt that is being called off: the next one waits for its place.
        let mut busy: HashSet<DeployId> = HashSet::new();
        loop {
            let wanted = self.wanted.borrow_and_update().clone();
            known.retain(|deploy, (report, cancel)| {
                let is_wanted = wanted.iter().any(|w| w.deploy == *deploy && w.attempt == report.attempt);
                if !is_wanted {
                    cancel.cancel();
                }
                is_wanted
            });
            for spec in wanted {
                if known.contains_key(&spec.deploy) || !busy.insert(spec.deploy) {
                    continue;
                }
                let report = BuildReport { deploy: spec.deploy, attempt: spec.attempt, state: BuildState::Running };
                let cancel = stop.child_token();
                known.insert(spec.deploy, (report, cancel.clone()));
                let builder = builder.clone();
                tasks.spawn(async move {
                    let state = builder.build(&spec, &cancel).await;
                    BuildReport { deploy: spec.deploy, attempt: spec.attempt, state }
                });
            }
            self.tell(&known);
            tokio::select! {
                () = stop.cancelled() => break,
                changed = self.wanted.changed() => if changed.is_err() { break },
                Some(done) = tasks.join_next(), if !tasks.is_empty() => {
                    let Ok(done) = done else { continue };
                    busy.remove(&done.deploy);
                    if let Some((report, _)) = known.get_mut(&done.deploy)
                        && report.attempt == done.attempt
                    {
                        *report = done;
                    }
                }
            }
        }
        while tasks.join_next().await.is_some() {}
    }

    fn tell(&self, known: &HashMap<DeployId, (BuildReport, CancellationToken)>) {
        let mut all: Vec<BuildReport> = known.values().map(|(report, _)| report.clone()).collect();
        all.sort_by_key(|report| report.deploy);
        self.reports.send_if_modified(|was| std::mem::replace(was, all.clone()) != all);
    }
}
