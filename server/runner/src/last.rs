//! The last readings of what has ended: on disk before its counters go, whoever it is that ends it.

use std::io;
use std::time::SystemTime;

use domain::wire::LastRead;
use domain::{AppId, InstanceId, Life, Meter, Time};

use crate::instance::Server;
use crate::net::Counted;
use crate::seat::{Seat, id_of, unit_of};

/// The counter of what a life sends to the internet.
pub fn counter_of(life: &Life) -> String {
    let mut parts = life.as_str().split('/').skip(1);
    let unit = format!("i{}", parts.next().unwrap_or_default());
    parts.next().map_or_else(|| unit.clone(), |generation| format!("{unit}g{generation}"))
}

impl Server {
    pub fn counted(&self, life: &Life) -> Counted {
        Counted { name: counter_of(life), bytes: self.meters.last(life, Meter::BytesOut) }
    }

    /// Reads what the counters of an instance say when its last process is gone, and removes the network's (its group
    /// is whoever's who ends it). `None`: nothing ever ran. An error: the disk did not take it, and the counters stay.
    pub async fn read_last(&self, seat: &Seat) -> io::Result<Option<LastRead>> {
        let spec = &seat.spec;
        if seat.has_begun() {
            return self.read_life(spec.id, &seat.life, spec.app).await;
        }
        self.salvage(&unit_of(spec.id)).await
    }

    async fn read_life(&self, id: InstanceId, life: &Life, app: AppId) -> io::Result<Option<LastRead>> {
        let Ok(cpu_micros) = self.slice.cpu_micros(&unit_of(id)) else { return Ok(None) };
        let counter = counter_of(life);
        let read = self.slice.sent_by(&counter).unwrap_or_else(|e| {
            tracing::error!(instance.id = %id, "what it sent last could not be read: {e}");
            None
        });
        let bytes_out = read.unwrap_or(0).max(self.meters.last(life, Meter::BytesOut));
        let values = [(Meter::Cpu, cpu_micros), (Meter::BytesOut, bytes_out)];
        self.meters.read_last(life, app, &values, Time::from(SystemTime::now()))?;
        self.forget_counter(&counter).await;
        Ok(Some(LastRead { cpu_micros, bytes_out, life: life.clone() }))
    }

    async fn forget_counter(&self, counter: &str) {
        if let Err(e) = self.slice.remove_counter(counter).await {
            tracing::warn!(counter, "a counter of what has ended is still there: {e}");
        }
    }

    /// The same of a unit that nobody has: its runner was killed between its end and its last reading.
    pub async fn salvage(&self, unit: &str) -> io::Result<Option<LastRead>> {
        let life = id_of(unit).and_then(|id| self.meters.life_of(id).map(|(life, app)| (id, life, app)));
        let Some((id, life, app)) = life else { return Ok(None) };
        self.read_life(id, &life, app).await
    }

    /// And of counters that nobody has.
    pub async fn salvage_counters(&self, has_owner: impl Fn(&str) -> bool) -> io::Result<()> {
        for (counter, bytes) in self.slice.sent()?.into_iter().filter(|(name, _)| !has_owner(name)) {
            let id = counter.split('g').next().and_then(id_of);
            if let Some((life, app)) = id.and_then(|id| self.meters.life_of(id))
                && counter_of(&life) == counter
            {
                self.meters.read_last(&life, app, &[(Meter::BytesOut, bytes)], Time::from(SystemTime::now()))?;
            }
            self.forget_counter(&counter).await;
        }
        Ok(())
    }
}
