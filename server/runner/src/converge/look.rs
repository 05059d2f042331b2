//! Looks at the counters of what runs: for the meters, and for the samples that graphs are drawn from.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use domain::{AppId, InstanceId, Life, Meter, Sample, Time, Work};
use plan::{Look, Outbox, Stretches};

use crate::instance::Server;
use crate::last::counter_of;
use crate::seat::{Seat, unit_of};

/// Every so many looks, and at the end of a stretch, memory and the network's counters too.
const WIDE_EVERY: u32 = 5;

pub struct Looks {
    source: Option<Life>,
    began: Instant,
    looks: u32,
    stretches: Stretches,
    outbox: Outbox,
    /// The most that each app was seen to use in this stretch, and what it may use.
    memory: BTreeMap<AppId, (u64, u64)>,
}

type Seats = HashMap<InstanceId, Arc<Seat>>;

fn now() -> Time {
    Time::from(SystemTime::now())
}

impl Looks {
    pub fn new(boot_id: &str) -> Self {
        Self {
            source: format!("{boot_id}/{}", now().unix_micros() / 1_000_000).parse().ok(),
            began: Instant::now(),
            looks: 0,
            stretches: Stretches::default(),
            outbox: Outbox::default(),
            memory: BTreeMap::new(),
        }
    }

    pub async fn look(&mut self, server: &Server, seats: &Seats) {
        let look = self.stretches.look(now(), self.began.elapsed());
        let running = || seats.values().filter(|seat| seat.has_begun() && !seat.report().state.is_gone());
        for seat in running() {
            // Not yet made, or just gone: its last value is read by whoever removes it.
            let Ok(value) = server.slice.cpu_micros(&unit_of(seat.spec.id)) else { continue };
            note(server, seat, Meter::Cpu, value);
        }
        self.looks = (self.looks + 1) % WIDE_EVERY;
        if self.looks == 0 || look != Look::Within {
            read_sent(server, running()).await;
            self.see_memory(server, running());
        }
        self.cut(server, look);
    }

    /// The stretch ends before its time, since everything does.
    pub fn last(&mut self, server: &Server, seats: &Seats) {
        self.see_memory(server, seats.values().filter(|seat| seat.has_begun()));
        let look = self.stretches.last(self.began.elapsed());
        if look != Look::Nowhere {
            self.cut(server, look);
        }
    }

    fn see_memory<'a>(&mut self, server: &Server, running: impl Iterator<Item = &'a Arc<Seat>>) {
        let mut all: BTreeMap<AppId, (u64, u64)> = BTreeMap::new();
        for seat in running {
            let (used, reserved) = all.entry(seat.spec.app).or_default();
            *used += server.slice.unit_memory_bytes(&unit_of(seat.spec.id));
            *reserved += seat.spec.limits.memory_bytes;
        }
        for (app, (used, reserved)) in all {
            let most = self.memory.entry(app).or_default();
            *most = (used.max(most.0), reserved.max(most.1));
        }
    }

    fn cut(&mut self, server: &Server, look: Look) {
        if look == Look::Within {
            return;
        }
        let (mut used, mut memory) = (server.meters.take_used(), std::mem::take(&mut self.memory));
        let (Look::Over(at), Some(source)) = (look, &self.source) else { return };
        // Also of what only ended, or only waits.
        let apps: BTreeSet<AppId> = used.keys().chain(memory.keys()).copied().collect();
        for app in apps {
            let counted = used.remove(&app).unwrap_or_default();
            let (memory_bytes, memory_reserved_bytes) = memory.remove(&app).unwrap_or_default();
            let work = Work {
                cpu_micros: counted.cpu_micros,
                memory_bytes,
                memory_reserved_bytes,
                bytes_out: counted.bytes_out,
            };
            self.outbox.put(Sample { source: source.clone(), app, at, work: Some(work), traffic: None });
        }
    }

    pub fn samples(&self) -> (Vec<Sample>, u64) {
        self.outbox.next()
    }

    pub fn taken(&mut self, until: u64) {
        self.outbox.taken(until);
    }
}

fn note(server: &Server, seat: &Seat, meter: Meter, value: u64) {
    if let Err(e) = server.meters.read(&seat.life, seat.spec.app, meter, value, now()) {
        tracing::error!(instance.id = %seat.spec.id, "could not keep a reading: {e}");
    }
}

async fn read_sent<'a>(server: &Server, running: impl Iterator<Item = &'a Arc<Seat>>) {
    let sent = match server.slice.sent() {
        Ok(sent) => sent,
        Err(e) => {
            tracing::error!("what is sent to the internet could not be read: {e}");
            return;
        }
    };
    for seat in running {
        match sent.get(&counter_of(&seat.life)) {
            Some(bytes) => note(server, seat, Meter::BytesOut, *bytes),
            // It is being started, or somebody removed what they did not know.
            None => {
                let (unit, counted) = (unit_of(seat.spec.id), server.counted(&seat.life));
                if let Err(e) = server.slice.count_again(&unit, seat.spec.address, &counted).await {
                    tracing::error!(instance.id = %seat.spec.id, "what it sends is not counted: {e}");
                }
            }
        }
    }
}
