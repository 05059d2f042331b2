//! The only public HTTP listener: hostname → app → instance, and the site behind it.
//!
//! Knows: the routes it was given, its own counters, the site's socket.
//! Never: opens a database, holds a key but its own token, sends a request to an instance that is
//! not in its table, or forgets a request that it took.
//!
//! `head` and `frame` are pure: what a message says, where it ends, what becomes of it on the other
//! side. `client` drives them for one client's connection, `carry` for one request on its way.
//! `hold` is where a request waits for an instance, `choose` says which one it gets.
//! `routes` and `report` talk to the coordinator. Start reading at `client::Client::serve`.

mod head;

mod frame;

mod choose;
mod table;

mod buffer;
mod carry;
mod client;
mod hold;
mod pages;
mod pool;
mod socket;
mod timer;
mod tunnel;

mod counters;
mod meters;
mod report;
mod routes;
mod sample;
mod worker;

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use domain::{Hostname, Secret};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tracing::info;

pub use self::counters::counters;
pub use self::meters::MeterError;
pub use self::routes::RoutesError;

/// What one balancer needs to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Its own: holds `routes` (the last good table) and `meters` (the counters).
    pub dir: PathBuf,
    pub coordinator_socket: PathBuf,
    /// Its own at the coordinator's door.
    pub token: Secret<String>,
    /// The site answers on these names and on no others.
    pub site_hosts: Vec<Hostname>,
    pub web_socket: PathBuf,
    /// Where the site is for a browser (`https://berth.example`), for links on the balancer's own pages.
    pub site_url: Option<String>,
    /// How the receiver is reached (`ssh -p 2222 berth@berth.example`), for the same pages.
    pub ssh: Option<String>,
    /// 0: as many as there are cores.
    pub threads: usize,
    pub timeouts: Timeouts,
    pub limits: Limits,
}

/// All in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Timeouts {
    /// From a head's first byte to its last.
    pub head_ms: u64,
    /// A client's connection between two requests.
    pub idle_ms: u64,
    pub connect_ms: u64,
    /// From a request's last byte to its answer's first.
    pub answer_ms: u64,
    /// A body of which nothing moves.
    pub stall_ms: u64,
    /// A tunnel (WebSocket) in which nothing moves.
    pub tunnel_ms: u64,
    /// A pooled connection to an instance: below what apps' servers grant (2 s and more).
    pub pooled_ms: u64,
    /// How long a new instance takes to get its full share.
    pub slow_start_ms: u64,
    /// How long a request may wait for an instance that starts.
    pub hold_ms: u64,
    /// How long open requests may go on after `stop`.
    pub drain_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Clients' connections at once; each may need a second descriptor towards an instance.
    pub connections_max: usize,
    /// Idle connections kept to one instance by one thread.
    pub pooled_max: usize,
    /// A table with more is refused.
    pub hostnames_max: usize,
    /// Requests of one app that wait for an instance.
    pub held_each_max: u32,
    /// And of all apps.
    pub held_max: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("balancer"),
            coordinator_socket: PathBuf::from("coordinator.sock"),
            token: Secret::new(String::new()),
            site_hosts: Vec::new(),
            web_socket: PathBuf::from("web.sock"),
            site_url: None,
            ssh: None,
            threads: 0,
            timeouts: Timeouts::default(),
            limits: Limits::default(),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            head_ms: 10_000,
            idle_ms: 75_000,
            connect_ms: 3_000,
            answer_ms: 60_000,
            stall_ms: 120_000,
            tunnel_ms: 3_600_000,
            pooled_ms: 1_500,
            slow_start_ms: 10_000,
            hold_ms: 20_000,
            drain_ms: 20_000,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections_max: 9_000, pooled_max: 128, hostnames_max: 1_000_000, held_each_max: 100, held_max: 1_000 }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum BalancerError {
    #[error("could not use the listening socket {address}")]
    Listen {
        address: String,
        #[source]
        cause: std::io::Error,
    },
    #[error("the counters cannot be kept")]
    Meters(#[from] MeterError),
    #[error("could not start a thread for connections")]
    Thread {
        #[source]
        cause: std::io::Error,
    },
    #[error("a thread for connections ended unasked")]
    Ended,
}

/// What every part of the balancer sees.
struct Shared {
    config: Config,
    table: arc_swap::ArcSwap<table::Table>,
    pages: pages::Pages,
    /// Numbers the tables, so that threads can say which they have passed.
    tables: tokio::sync::watch::Sender<u64>,
    /// One a thread: it holds no instance of an older table that it has not counted as open.
    passed: Vec<std::sync::atomic::AtomicU64>,
    passing: tokio::sync::Notify,
    /// There is something new to report.
    report: tokio::sync::Notify,
    connections: std::sync::atomic::AtomicUsize,
    /// Requests that wait for an instance.
    waiting: std::sync::atomic::AtomicU32,
    started: Instant,
}

impl Shared {
    /// Milliseconds since the start, never 0.
    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX) + 1
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Serves on `listeners` until `stop`, then finishes what is open (`drain_ms`) and returns; calls `ready` when it
/// accepts with its routes loaded. Another balancer may accept from the same listeners meanwhile.
pub async fn run(
    config: Config,
    listeners: Vec<TcpListener>,
    ready: impl FnOnce(),
    stop: CancellationToken,
) -> Result<(), BalancerError> {
    let mut meters = meters::Meters::open(&config.dir)?;
    let threads = match config.threads {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        n => n,
    };
    let started = Instant::now();
    let (table, last) = routes::load(&config, &mut meters);
    let shared = Arc::new(Shared {
        pages: pages::Pages::new(config.site_url.as_deref(), config.ssh.as_deref()),
        config,
        table: arc_swap::ArcSwap::from_pointee(table),
        tables: tokio::sync::watch::Sender::new(0),
        passed: (0..threads).map(|_| 0.into()).collect(),
        passing: tokio::sync::Notify::new(),
        report: tokio::sync::Notify::new(),
        connections: 0.into(),
        waiting: 0.into(),
        started,
    });
    let life = meters.life().clone();
    let meters = Arc::new(Mutex::new(meters));
    let samples = sample::Samples::default();
    let mut formers = meters::Formers::new(&shared.config.dir);
    let client = link::Client::new(&shared.config.coordinator_socket, shared.config.token.clone());

    let workers = worker::start(&shared, &listeners, &stop)?;
    drop(listeners);
    ready();
    info!(threads, hostnames = shared.table.load().hostnames(), "the balancer takes connections");

    // Following ends at `stop`, reporting after the last request: its count belongs to the money.
    let done = CancellationToken::new();
    let state = Arc::new(routes::State::new(last));
    let serving = async {
        let ended = workers.finished().await;
        done.cancel();
        if stop.is_cancelled() { ended } else { Err(BalancerError::Ended) }
    };
    let following = routes::follow(&shared, &client, &state, &meters, &stop, &done);
    let sampling = samples.make(&shared, &life, &done);
    let reporting = report::report(&shared, &client, &state, &meters, &mut formers, &samples, &done);
    // In this order, so that the last report has the last samples.
    let (served, (), (), ()) = tokio::join!(biased; serving, following, sampling, reporting);
    served
}
