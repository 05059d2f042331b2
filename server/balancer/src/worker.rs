//! One thread for connections: it accepts, owns what it accepted, and shares nothing that moves
//! with the others but counters.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{Shutdown, shutdown};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::client::Client;
use crate::pool::Pool;
use crate::{BalancerError, Shared, ms};

const SWEEP: Duration = Duration::from_millis(500);
/// When no descriptor is left, until one may be free again.
const SHORT: Duration = Duration::from_millis(100);
/// After `stop`: how long an idle client may still send a request on its connection. It is answered,
/// and told that the connection ends; without this, the two would cross.
pub const LAST_REQUESTS: Duration = Duration::from_secs(1);
/// Messages that many requests could cause come at most once in this time.
const QUIET_MS: u64 = 1_000;

pub struct Worker {
    pub shared: Arc<Shared>,
    pub pool: RefCell<Pool>,
    /// Every answer that begins from now on ends its connection.
    pub stopping: Cell<bool>,
    present: RefCell<HashMap<RawFd, Rc<Cell<bool>>>>,
    said_ms: Cell<u64>,
}

/// A client's connection is here, idle or busy, until this is dropped.
pub struct Presence {
    fd: RawFd,
    idle: Rc<Cell<bool>>,
    worker: Rc<Worker>,
}

impl Presence {
    fn new(worker: &Rc<Worker>, fd: RawFd) -> Self {
        let idle = Rc::new(Cell::new(true));
        worker.present.borrow_mut().insert(fd, Rc::clone(&idle));
        worker.shared.connections.fetch_add(1, Relaxed);
        Self { fd, idle, worker: Rc::clone(worker) }
    }

    pub fn idle(&self) {
        self.idle.set(true);
    }

    pub fn busy(&self) {
        self.idle.set(false);
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.worker.shared.connections.fetch_sub(1, Relaxed);
        // The descriptor's number may already be another connection's.
        let mut present = self.worker.present.borrow_mut();
        if present.get(&self.fd).is_some_and(|idle| Rc::ptr_eq(idle, &self.idle)) {
            present.remove(&self.fd);
        }
    }
}

impl Worker {
    pub fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Three quarters of the connections are in use.
    pub fn is_scarce(&self) -> bool {
        let max = self.shared.config.limits.connections_max;
        self.shared.connections.load(Relaxed) > max - max / 4
    }

    /// Logs, unless this thread just did.
    pub fn say(&self, log: impl FnOnce()) {
        let now = self.shared.now_ms();
        if self.said_ms.get() == 0 || now - self.said_ms.get() >= QUIET_MS {
            self.said_ms.set(now);
            log();
        }
    }

    fn close_idle(&self) {
        for (fd, idle) in self.present.borrow().iter() {
            if idle.get() {
                // Its task reads the end, and drops it.
                let _ = shutdown(*fd, Shutdown::Read);
            }
        }
    }
}

pub struct Workers(Vec<(JoinHandle<()>, oneshot::Receiver<()>)>);

impl Workers {
    /// Until all have ended; an error if one did not end well.
    pub async fn finished(self) -> Result<(), BalancerError> {
        let mut ended = Ok(());
        for (thread, done) in self.0 {
            if done.await.is_err() || thread.join().is_err() {
                ended = Err(BalancerError::Ended);
                break;
            }
        }
        ended
    }
}

/// Starts the threads. They share the listeners: whoever is free accepts.
pub fn start(
    shared: &Arc<Shared>,
    listeners: &[StdListener],
    stop: &CancellationToken,
) -> Result<Workers, BalancerError> {
    let mut workers = Vec::new();
    for number in 0..shared.passed.len() {
        let clones = listeners.iter().map(|listener| {
            let failed = |cause| BalancerError::Listen {
                address: listener.local_addr().map_or_else(|_| "?".to_owned(), |a| a.to_string()),
                cause,
            };
            listener.set_nonblocking(true).map_err(failed)?;
            listener.try_clone().map_err(failed)
        });
        let clones = clones.collect::<Result<Vec<_>, _>>()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|cause| BalancerError::Thread { cause })?;
        let (shared, stop) = (Arc::clone(shared), stop.clone());
        let (done, finished) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name(format!("balancer-{number}"))
            .spawn(move || {
                LocalSet::new().block_on(&runtime, work(number, shared, clones, stop));
                let _ = done.send(());
            })
            .map_err(|cause| BalancerError::Thread { cause })?;
        workers.push((thread, finished));
    }
    Ok(Workers(workers))
}

async fn work(number: usize, shared: Arc<Shared>, listeners: Vec<StdListener>, stop: CancellationToken) {
    let config = &shared.config;
    let pool = Pool::new(config.limits.pooled_max, ms(config.timeouts.pooled_ms));
    let (drain, connections_max) = (ms(config.timeouts.drain_ms), config.limits.connections_max);
    let worker = Rc::new(Worker {
        shared: Arc::clone(&shared),
        pool: RefCell::new(pool),
        stopping: Cell::new(false),
        present: RefCell::default(),
        said_ms: Cell::new(0),
    });
    let mut tasks = JoinSet::new();
    tasks.spawn_local(tend(number, Rc::clone(&worker)));
    let mut clients = JoinSet::new();
    let listeners: Vec<TcpListener> = match listeners.into_iter().map(TcpListener::from_std).collect() {
        Ok(listeners) => listeners,
        Err(cause) => {
            warn!(%cause, "a listening socket cannot be used");
            return;
        }
    };
    loop {
        let full = shared.connections.load(Relaxed) >= connections_max;
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(ended) = clients.join_next() => if let Err(cause) = ended {
                error!(%cause, "a connection's task failed");
            },
            () = sleep(SHORT), if full => {}
            accepted = accept(&listeners), if !full => match accepted {
                Ok((io, address)) => {
                    if io.set_nodelay(true).is_ok() {
                        let presence = Presence::new(&worker, io.as_raw_fd());
                        let address = address.ip().to_canonical().to_string();
                        clients.spawn_local(Client::new(io, address, Rc::clone(&worker), presence).serve());
                    }
                }
                Err(cause) if is_short(&cause) => {
                    worker.say(|| warn!(%cause, "no connection can be taken"));
                    sleep(SHORT).await;
                }
                // The client left before it was taken.
                Err(_) => {}
            },
        }
    }
    drop(listeners);
    worker.stopping.set(true);
    let all = async {
        let _ = timeout(LAST_REQUESTS, drained(&mut clients)).await;
        worker.close_idle();
        drained(&mut clients).await;
    };
    if timeout(drain, all).await.is_err() {
        info!(open = clients.len(), "connections that were still open at the end of their time were closed");
    }
}

async fn drained(clients: &mut JoinSet<()>) {
    while clients.join_next().await.is_some() {}
}

fn is_short(cause: &io::Error) -> bool {
    let short = [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM];
    cause.raw_os_error().is_some_and(|code| short.contains(&Errno::from_raw(code)))
}

async fn accept(listeners: &[TcpListener]) -> io::Result<(TcpStream, SocketAddr)> {
    poll_fn(|cx| {
        for listener in listeners {
            if let Poll::Ready(accepted) = listener.poll_accept(cx) {
                return Poll::Ready(accepted);
            }
        }
        Poll::Pending
    })
    .await
}

/// Keeps the pool clean, and tells when this thread has passed a new table. Every choice of an
/// instance is made and counted without a pause, so when this runs, none is half made.
async fn tend(number: usize, worker: Rc<Worker>) {
    let shared = Arc::clone(&worker.shared);
    let mut tables = shared.tables.subscribe();
    loop {
        let table = *tables.borrow_and_update();
        worker.pool.borrow_mut().sweep();
        shared.passed[number].store(table, SeqCst);
        shared.passing.notify_waiters();
        tokio::select! {
            changed = tables.changed() => if changed.is_err() { return },
            () = sleep(SWEEP) => {}
        }
    }
}
