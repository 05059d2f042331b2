//! What one server is asked to run.

use std::collections::BTreeSet;

use domain::wire::{BuildSpec, Health, InstanceSpec, Limits, Once, Uids};
use domain::{AppId, DeployState, ImageHash, ServerId, Step};

use crate::deploy::{BUILD_CPU_MILLIS, BUILD_DISK_BYTES, BUILD_MEMORY_BYTES, start_timeout};
use crate::place::DRAIN_MAX;
use crate::release::release_timeout;
use crate::{Deploy, Fleet, Instance, WEB_PORT};

const PIDS: u32 = 256;
const BUILD_PIDS: u32 = 1024;
const DISK_BYTES: u64 = 256 << 20;
const STOP_TIMEOUT_MS: u64 = 10_000;

#[derive(Debug, Clone, PartialEq)]
pub struct Assigned {
    pub instances: Vec<InstanceSpec>,
    pub builds: Vec<BuildSpec>,
    pub images_kept: Vec<ImageHash>,
    pub apps_gone: Vec<AppId>,
}

pub fn assign(fleet: &Fleet, server: ServerId) -> Assigned {
    let mut instances: Vec<InstanceSpec> =
        fleet.living().filter(|i| i.server == server).filter_map(|i| instance(fleet, i)).collect();
    instances.sort_by_key(|i| i.id);
    let here = |d: &&Deploy| d.state == DeployState::Building;
    let mut builds: Vec<BuildSpec> =
        fleet.deploys.iter().filter(here).filter_map(|d| build(fleet, d, server)).collect();
    builds.sort_by_key(|b| b.deploy);
    let images: BTreeSet<ImageHash> = fleet.releases.values().map(|r| r.image.clone()).collect();
    let apps_gone = fleet.server(server).map(|s| s.apps_gone.clone()).unwrap_or_default();
    Assigned { instances, builds, images_kept: images.into_iter().collect(), apps_gone }
}

fn instance(fleet: &Fleet, instance: &Instance) -> Option<InstanceSpec> {
    let app = fleet.app(instance.slot.app)?;
    let release = fleet.releases.get(&(app.id, instance.slot.release))?;
    let slot = &instance.slot;
    let mut env = release.manifest.env.clone();
    env.insert("BERTH_APP".to_owned(), app.name.to_string());
    env.insert("BERTH_RELEASE".to_owned(), slot.release.to_string());
    let size = release.formation.get(&slot.process);
    let settings = release.manifest.settings.of(slot.process.as_str());
    let stop_timeout_ms = settings.and_then(|s| s.stop_timeout_ms).unwrap_or(STOP_TIMEOUT_MS);
    Some(InstanceSpec {
        id: instance.id,
        app: app.id,
        app_name: app.name.clone(),
        release: slot.release,
        process: slot.process.clone(),
        index: slot.index,
        wanted: instance.wanted,
        image: release.image.clone(),
        command: release.manifest.processes.get(&slot.process)?.clone(),
        env,
        config: release.config.as_ref().map(|vars| (**vars).clone()).unwrap_or_default(),
        locked: release.config.as_ref().err().cloned(),
        uids: Uids::of(fleet.uids_base, app.id)?,
        address: instance.address,
        port: slot.process.is_web().then_some(WEB_PORT),
        limits: Limits {
            memory_bytes: instance.memory_bytes,
            cpu_millis: size.map_or(1000, |s| s.cpu_millis),
            pids: PIDS,
            disk_bytes: DISK_BYTES,
        },
        health: Health {
            path: settings.and_then(|s| s.health.clone()).filter(|_| slot.process.is_web()),
            start_timeout_ms: start_timeout(&release.manifest).as_millis() as u64,
        },
        stop_timeout_ms: stop_timeout_ms.min(DRAIN_MAX.as_millis() as u64),
        once: slot
            .process
            .is_release()
            .then(|| Once { time_ms: release_timeout(&release.manifest).as_millis() as u64 }),
    })
}

fn build(fleet: &Fleet, deploy: &Deploy, server: ServerId) -> Option<BuildSpec> {
    let (builder, address) = deploy.builder?;
    let step = deploy.open_step(Step::Build)?;
    let app = fleet.app(deploy.app)?;
    (builder == server).then_some(())?;
    Some(BuildSpec {
        deploy: deploy.id,
        attempt: step.attempt,
        app: app.id,
        app_name: app.name.clone(),
        number: deploy.number,
        source: deploy.source.clone(),
        commit: deploy.commit.clone(),
        branch: deploy.branch.clone(),
        uids: Uids::of(fleet.uids_base, app.id)?,
        address,
        limits: Limits {
            memory_bytes: BUILD_MEMORY_BYTES,
            cpu_millis: BUILD_CPU_MILLIS,
            pids: BUILD_PIDS,
            disk_bytes: BUILD_DISK_BYTES,
        },
        time_ms: app.build_time.as_millis() as u64,
    })
}
