//! Idle connections of one thread, by who is at the other end: an instance (one life of an
//! address, never the address itself, which is given again) or the site.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::InstanceId;

use crate::socket::Socket;
use crate::table::{Habit, Instance};

#[derive(Clone)]
pub enum Peer {
    Site,
    Instance(Arc<Instance>),
}

impl Peer {
    fn key(&self) -> Option<InstanceId> {
        match self {
            Peer::Site => None,
            Peer::Instance(instance) => Some(instance.id),
        }
    }

    pub fn habit(&self) -> Habit {
        match self {
            Peer::Site => Habit::Keeps,
            Peer::Instance(instance) => instance.habit(),
        }
    }

    pub fn seen(&self, habit: Habit) {
        if let Peer::Instance(instance) = self {
            instance.seen(habit);
        }
    }

    fn has_left(&self) -> bool {
        matches!(self, Peer::Instance(instance) if instance.has_left())
    }
}

/// Who has not closed a connection by then does not close each of them.
const KEPT: Duration = Duration::from_millis(250);
/// And whoever has closed one by then does.
const AT_ONCE: Duration = Duration::from_millis(100);

struct Idle {
    socket: Socket,
    since: Instant,
}

pub struct Pool {
    idle: HashMap<Option<InstanceId>, (Peer, Vec<Idle>)>,
    each_max: usize,
    keep: Duration,
}

impl Pool {
    pub fn new(each_max: usize, keep: Duration) -> Self {
        Self { idle: HashMap::new(), each_max, keep }
    }

    /// The connection used last (LIFO: the others may grow old and go), if it is still good.
    pub fn take(&mut self, peer: &Peer) -> Option<Socket> {
        if peer.has_left() {
            return None;
        }
        let (of, idle) = self.idle.get_mut(&peer.key())?;
        if !same(of, peer) {
            self.idle.remove(&peer.key());
            return None;
        }
        while let Some(Idle { socket, since }) = idle.pop() {
            let (age, quiet) = (since.elapsed(), socket.is_quiet());
            if age < self.keep && quiet {
                return Some(socket);
            }
            if !quiet && age < AT_ONCE {
                peer.seen(Habit::Closes);
            }
        }
        None
    }

    /// Takes a connection back after an exchange that ended cleanly on both sides.
    pub fn give(&mut self, peer: Peer, socket: Socket) {
        if peer.has_left() {
            return;
        }
        let (of, idle) = self.idle.entry(peer.key()).or_insert_with(|| (peer.clone(), Vec::new()));
        if !same(of, &peer) {
            (*of, *idle) = (peer, Vec::new());
        }
        if idle.len() < self.each_max {
            idle.push(Idle { socket, since: Instant::now() });
        }
    }

    /// One of its connections was dead: the others are likely to be.
    pub fn forget(&mut self, peer: &Peer) {
        self.idle.remove(&peer.key());
        peer.seen(Habit::Closes);
    }

    /// Closes what grew old, what was closed by the other side, and what belongs to instances that left.
    pub fn sweep(&mut self) {
        let keep = self.keep;
        self.idle.retain(|_, (peer, idle)| {
            idle.retain(|one| {
                let (age, quiet) = (one.since.elapsed(), one.socket.is_quiet());
                if quiet && age > KEPT {
                    peer.seen(Habit::Keeps);
                }
                age < keep && quiet
            });
            !idle.is_empty() && !peer.has_left()
        });
    }
}

fn same(a: &Peer, b: &Peer) -> bool {
    match (a, b) {
        (Peer::Site, Peer::Site) => true,
        (Peer::Instance(a), Peer::Instance(b)) => Arc::ptr_eq(a, b),
        _ => false,
    }
}
