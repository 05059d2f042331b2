//! One moment of the truth, as `plan` wants it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use domain::{AppId, CustomerId, Reason, Time};
use ipnet::Ipv4Net;
use plan::{App, Deploy, Failure, Fleet, Instance, OpenStep, Release, Server, Slot, Subnet, Tip};
use store::truth::{self, Which};
use store::{Db, StoreError, deploy, instance};

use crate::config::Configs;
use crate::known::Known;

pub struct Snapshot {
    pub incarnation: i64,
    /// On the database's clock, as are the times in it.
    pub now: Time,
    pub fleet: Fleet,
}

/// The rows of one moment, before anything that was heard is added.
pub struct Rows {
    pub truth: Which,
    now: Time,
    servers: Vec<store::server::Server>,
    apps: Vec<store::app::all::App>,
    hostnames: Vec<store::app::all::Host>,
    releases: Vec<deploy::all::Release>,
    deploys: Vec<deploy::all::Open>,
    steps: Vec<deploy::all::OpenStep>,
    tips: Vec<deploy::all::Tip>,
    instances: Vec<instance::all::Instance>,
    failures: Vec<instance::all::Failed>,
}

pub async fn read(db: &Db) -> Result<Rows, StoreError> {
    let mut whole = db.snapshot().await?;
    let tx = &mut whole;
    let rows = Rows {
        truth: truth::which(&mut ***tx).await?,
        now: store::leader::now(tx).await?,
        servers: store::server::all(tx).await?,
        apps: store::app::all::apps(tx).await?,
        hostnames: store::app::all::hostnames(tx).await?,
        releases: deploy::all::releases(tx).await?,
        deploys: deploy::all::open(tx).await?,
        steps: deploy::all::open_steps(tx).await?,
        tips: deploy::all::tips(tx).await?,
        instances: instance::all::instances(tx).await?,
        failures: instance::all::failed(tx).await?,
    };
    whole.commit().await?;
    Ok(rows)
}

impl Rows {
    /// The configs of the releases that run or are to, and whose they are; not of what was rolled back from.
    pub fn configs(&self) -> HashMap<(AppId, i64), CustomerId> {
        let apps: HashMap<_, _> = self.apps.iter().map(|app| (app.id, app)).collect();
        let running: HashSet<_> =
            self.instances.iter().filter(|i| i.ended.is_none()).map(|i| (i.app_id, i.release_number)).collect();
        let of = |r: &deploy::all::Release| {
            let app = apps.get(&r.app_id).filter(|_| r.config_version > 0)?;
            let runs = Some(r.number) >= app.release_number || running.contains(&(r.app_id, r.number));
            runs.then_some(((r.app_id, r.config_version), app.customer_id))
        };
        self.releases.iter().filter_map(of).collect()
    }
}

/// The fleet, with what was heard of servers and balancers by `clock`.
pub fn fleet(
    rows: Rows,
    known: &Known,
    configs: &Configs,
    clock: Duration,
    subnet: Ipv4Net,
    uids_base: u32,
) -> Snapshot {
    let counts: BTreeMap<_, _> = rows.apps.iter().map(|app| (app.id, app.counts.0.clone())).collect();
    let release = |row: deploy::all::Release| {
        let ((app, number), mut made) = release(row, configs);
        plan::scaled(&mut made.formation, counts.get(&app).unwrap_or(&BTreeMap::new()));
        ((app, number), made)
    };
    let rows_of = rows.instances.iter().map(|row| row.id).collect();
    let fleet = Fleet {
        strangers: known.strangers(&rows_of, clock),
        servers: rows.servers.into_iter().map(|s| server(s, known, clock)).collect(),
        apps: apps(rows.apps, rows.hostnames),
        releases: rows.releases.into_iter().map(release).collect(),
        deploys: deploys(rows.deploys, &rows.steps),
        tips: rows.tips.into_iter().map(tip).collect(),
        instances: rows.instances.into_iter().filter_map(|i| living(i, known, clock)).collect(),
        failures: rows.failures.into_iter().filter_map(failure).collect(),
        subnet: Subnet { network: subnet.network(), prefix: subnet.prefix_len() },
        uids_base,
    };
    Snapshot { incarnation: rows.truth.incarnation, now: rows.now, fleet }
}

fn server(row: store::server::Server, known: &Known, clock: Duration) -> Server {
    Server {
        presence: known.presence(row.id, clock),
        id: row.id,
        name: row.name,
        memory_bytes: u64::try_from(row.memory_bytes).unwrap_or(0),
        space: known.space(row.id),
        apps_gone: known.apps_gone(row.id),
    }
}

fn apps(rows: Vec<store::app::all::App>, hostnames: Vec<store::app::all::Host>) -> Vec<App> {
    let mut names: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for host in hostnames {
        names.entry(host.app_id).or_default().push(host.name);
    }
    rows.into_iter()
        .map(|row| App {
            hostnames: names.remove(&row.id).unwrap_or_default(),
            id: row.id,
            customer: row.customer_id,
            name: row.name,
            state: row.state,
            serving: row.release_number,
            builds_max: usize::try_from(row.builds_max).unwrap_or(1),
            build_time: u64::try_from(row.build_seconds_max).map_or(plan::BUILD_TIME, Duration::from_secs),
        })
        .collect()
}

fn release(row: deploy::all::Release, configs: &Configs) -> ((domain::AppId, domain::ReleaseNumber), Release) {
    let formation = row.formation.0.iter().map(|(process, s)| (process.clone(), crate::report::size(s))).collect();
    let config = configs.get(row.app_id, row.config_version);
    ((row.app_id, row.number), Release { image: row.image, formation, manifest: row.manifest.0, config })
}

fn deploys(rows: Vec<deploy::all::Open>, steps: &[deploy::all::OpenStep]) -> Vec<Deploy> {
    let open = |id| {
        let mine = steps.iter().filter(move |s| s.deploy_id == id);
        mine.map(|s| OpenStep { step: s.step, attempt: s.attempt, started: s.started, claimed: s.claimed }).collect()
    };
    rows.into_iter()
        .map(|row| Deploy {
            open: open(row.id),
            id: row.id,
            app: row.app_id,
            number: row.number,
            cause: row.cause,
            state: row.state,
            state_since: row.state_since,
            commit: row.commit_id,
            branch: row.branch,
            before: row.commit_before,
            source: row.source,
            image: row.image,
            builder: row.server_id.zip(row.build_address.and_then(v4)),
        })
        .collect()
}

fn tip(row: deploy::all::Tip) -> Tip {
    Tip { app: row.app_id, branch: row.branch, number: row.number, commit: row.commit_id }
}

fn living(row: instance::all::Instance, known: &Known, clock: Duration) -> Option<Instance> {
    Some(Instance {
        id: row.id,
        slot: Slot {
            app: row.app_id,
            release: row.release_number,
            process: row.process,
            index: u16::try_from(row.index).ok()?,
        },
        server: row.server_id,
        address: v4(row.address)?,
        wanted: row.wanted,
        state: row.state,
        reason: reason(row.reason, row.hint),
        memory_bytes: u64::try_from(row.memory_bytes).unwrap_or(0),
        drain_since: row.drain_since,
        ended: row.ended.is_some(),
        back_off: known.back_off(row.server_id, row.id),
        held: known.held(row.id, clock),
    })
}

fn failure(row: instance::all::Failed) -> Option<Failure> {
    Some(Failure {
        slot: Slot {
            app: row.app_id,
            release: row.release_number,
            process: row.process,
            index: u16::try_from(row.index).ok()?,
        },
        times: u32::try_from(row.times).unwrap_or(u32::MAX),
        last: row.last,
        reason: reason(row.reason, row.hint),
    })
}

fn reason(message: Option<String>, hint: Option<String>) -> Option<Reason> {
    message.map(|message| Reason { message, hint })
}

fn v4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}
