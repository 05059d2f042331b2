//! What was heard of servers and balancers. Nothing of it must survive: it is told again within seconds.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::time::Duration;

use domain::wire::{AppDisk, BalancerReport, DiskReport, Revision, RunnerReport, Seen, Space};
use domain::{AppId, InstanceId, SAMPLE_EVERY, Sample, ServerId, Time};
use plan::{Held, Presence};

/// A balancer that is silent for so long is not waited for.
const BALANCER_LEASE: Duration = Duration::from_secs(30);
/// After so long a balancer itself drops what it cannot confirm.
const BALANCER_GONE: Duration = Duration::from_secs(24 * 3600);
/// Tables remembered: a balancer that is further behind is taken to hold anything.
const TABLES_MAX: usize = 256;
/// What was counted longer ago than this says nothing of the present.
const LATELY: Duration = Duration::from_secs(60);
/// A server's row is written at least this often.
const SAW_EVERY: Duration = Duration::from_secs(10);

pub struct Known {
    /// When this coordinator began to lead.
    began: Duration,
    servers: HashMap<ServerId, Heard>,
    balancers: HashMap<String, Balancer>,
    tables: VecDeque<Table>,
    /// Of all that was ever reported here, until nobody can hold it any more.
    addresses: BTreeMap<InstanceId, Ipv4Addr>,
}

struct Heard {
    at: Duration,
    /// What its row says, and since when.
    row: Option<(ServerFacts, Duration)>,
    /// What the rows of its instances say, so that the same report is not written again.
    instances: HashMap<InstanceId, domain::wire::InstanceReport>,
    disk: Option<DiskReport>,
    apps_gone: Vec<AppId>,
    lately: Option<Lately>,
}

/// What the samples of a source add up to, of the newest stretch that it saw whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lately {
    at: Option<Time>,
    pub cpu_micros: u64,
    pub requests: u64,
    pub unanswered: u64,
}

impl Lately {
    fn of(samples: &[Sample], now: Time) -> Option<Self> {
        let whole = |sample: &&Sample| sample.at.plus(SAMPLE_EVERY) <= now;
        let at = samples.iter().filter(whole).map(|sample| sample.at).max()?;
        let mut sum = Self { at: Some(at), ..Self::default() };
        for sample in samples.iter().filter(|sample| sample.at == at) {
            sum.cpu_micros = sum.cpu_micros.saturating_add(sample.work.as_ref().map_or(0, |work| work.cpu_micros));
            let answers = sample.traffic.as_ref().map(|traffic| traffic.answers).unwrap_or_default();
            sum.requests = sum.requests.saturating_add(answers.all());
            sum.unanswered = sum.unanswered.saturating_add(answers.unanswered);
        }
        Some(sum)
    }

    /// Samples are sent until they are taken: what comes again is not more.
    fn newer(known: Option<Self>, samples: &[Sample], now: Time) -> Option<Self> {
        let kept = |known: &Self| known.at.is_some_and(|at| now.since(at) < LATELY);
        match (known.filter(kept), Self::of(samples, now)) {
            (Some(known), Some(new)) if new.at > known.at => Some(new),
            (None, new) => new.filter(kept),
            (known, _) => known,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct ServerFacts {
    pub boot_id: String,
    pub cores: u32,
    pub memory_bytes: u64,
}

impl ServerFacts {
    pub fn of(report: &RunnerReport) -> Self {
        Self { boot_id: report.boot_id.clone(), cores: report.cores, memory_bytes: report.memory_bytes }
    }
}

struct Balancer {
    at: Duration,
    seen: Option<Seen>,
    open: HashMap<InstanceId, u32>,
    lately: Option<Lately>,
}

/// Which instances a published table has.
struct Table {
    seen: Seen,
    instances: BTreeSet<InstanceId>,
}

impl Known {
    pub fn new(now: Duration) -> Self {
        Self {
            began: now,
            servers: HashMap::new(),
            balancers: HashMap::new(),
            tables: VecDeque::new(),
            addresses: BTreeMap::new(),
        }
    }

    /// A new epoch: nobody is called silent for what was not heard before.
    pub fn begin(&mut self, now: Duration) {
        *self = Self::new(now);
    }

    pub fn heard_server(&mut self, server: ServerId, now: Duration) {
        self.heard(server, now);
    }

    fn heard(&mut self, server: ServerId, now: Duration) -> &mut Heard {
        let heard = self.servers.entry(server).or_insert_with(|| Heard {
            at: now,
            row: None,
            instances: HashMap::new(),
            disk: None,
            apps_gone: Vec::new(),
            lately: None,
        });
        heard.at = now;
        heard
    }

    /// What apps did on a server lately; `None`: nobody saw it. `wall` is now.
    pub fn work(&mut self, server: ServerId, samples: &[Sample], now: Duration, wall: Time) -> Option<Lately> {
        let heard = self.heard(server, now);
        heard.lately = Lately::newer(heard.lately, samples, wall);
        heard.lately
    }

    /// What was asked of the balancers of a server lately.
    pub fn asked(&self, server: &str, wall: Time) -> Option<Lately> {
        let theirs = self
            .balancers
            .iter()
            .filter(|(name, _)| name.strip_prefix(server).is_some_and(|rest| rest.starts_with('/')));
        let lately = theirs.filter_map(|(_, balancer)| Lately::newer(balancer.lately, &[], wall));
        lately.reduce(|sum, one| Lately {
            requests: sum.requests.saturating_add(one.requests),
            unanswered: sum.unanswered.saturating_add(one.unanswered),
            ..sum
        })
    }

    /// Whether the server's row should be written.
    pub fn server_is_news(&mut self, server: ServerId, facts: &ServerFacts, now: Duration) -> bool {
        match &self.heard(server, now).row {
            Some((known, since)) => known != facts || now.saturating_sub(*since) >= SAW_EVERY,
            None => true,
        }
    }

    /// The reports of instances that say something that was not written yet.
    pub fn news(
        &mut self,
        server: ServerId,
        report: &RunnerReport,
        now: Duration,
    ) -> Vec<domain::wire::InstanceReport> {
        let heard = self.heard(server, now);
        report.instances.iter().filter(|i| heard.instances.get(&i.id) != Some(i)).cloned().collect()
    }

    pub fn written(&mut self, server: ServerId, report: &RunnerReport, now: Duration) {
        let heard = self.heard(server, now);
        heard.row = match heard.row.take() {
            Some((facts, since)) if facts == ServerFacts::of(report) && now.saturating_sub(since) < SAW_EVERY => {
                Some((facts, since))
            }
            _ => Some((ServerFacts::of(report), now)),
        };
        heard.instances = report.instances.iter().map(|i| (i.id, i.clone())).collect();
        let here: BTreeSet<InstanceId> = report.instances.iter().map(|i| i.id).collect();
        let mut addresses = std::mem::take(&mut self.addresses);
        addresses.retain(|id, _| here.contains(id) || !self.held(*id, now).forgotten);
        self.addresses = addresses;
    }

    pub fn heard_addresses(&mut self, report: &RunnerReport) {
        self.addresses.extend(report.addresses.iter().map(|(id, address)| (*id, *address)));
    }

    /// Addresses of what runs, or may still be routed to, and is not among `rows`. What ended long ago is in no
    /// row either, and in no balancer.
    pub fn strangers(&self, rows: &BTreeSet<InstanceId>, now: Duration) -> Vec<Ipv4Addr> {
        let runs = |id: &InstanceId| self.servers.values().any(|heard| heard.instances.contains_key(id));
        let all = self.addresses.iter().filter(|(id, _)| !rows.contains(id));
        all.filter(|(id, _)| runs(id) || !self.held(**id, now).forgotten).map(|(_, address)| *address).collect()
    }

    pub fn heard_disk(&mut self, server: ServerId, disk: Option<&DiskReport>, now: Duration) {
        self.heard(server, now).disk = disk.cloned();
    }

    pub fn space(&self, server: ServerId) -> Option<Space> {
        self.servers.get(&server)?.disk.as_ref().map(|disk| disk.space)
    }

    pub fn apps_gone(&self, server: ServerId) -> Vec<AppId> {
        self.servers.get(&server).map(|heard| heard.apps_gone.clone()).unwrap_or_default()
    }

    /// What each server has of apps.
    pub fn disks(&self) -> Vec<(ServerId, Vec<AppDisk>)> {
        let apps = |heard: &Heard| heard.disk.as_ref().map(|disk| disk.apps.clone()).unwrap_or_default();
        self.servers.iter().map(|(server, heard)| (*server, apps(heard))).collect()
    }

    /// Of these, nothing is wanted on the server any more. True if that is news.
    pub fn set_apps_gone(&mut self, server: ServerId, apps: Vec<AppId>) -> bool {
        let Some(heard) = self.servers.get_mut(&server) else { return false };
        std::mem::replace(&mut heard.apps_gone, apps) != heard.apps_gone
    }

    pub fn back_off(&self, server: ServerId, instance: InstanceId) -> Duration {
        let report = self.servers.get(&server).and_then(|heard| heard.instances.get(&instance));
        Duration::from_millis(report.map_or(0, |report| report.again_ms))
    }

    pub fn cores(&self, server: ServerId) -> Option<u32> {
        self.servers.get(&server)?.row.as_ref().map(|(facts, _)| facts.cores)
    }

    pub fn presence(&self, server: ServerId, now: Duration) -> Presence {
        match self.servers.get(&server) {
            Some(heard) => Presence::Heard(now.saturating_sub(heard.at)),
            None => Presence::NotYet(now.saturating_sub(self.began)),
        }
    }

    /// A balancer asks, the only one there is: it lives. What it uses is taken from its reports only, which
    /// say at the same moment what is still open.
    pub fn balancer_asks(&mut self, now: Duration) {
        if self.balancers.len() == 1 {
            self.balancers.values_mut().for_each(|balancer| balancer.at = now);
        }
    }

    /// True if it says something new.
    pub fn balancer_reports(&mut self, name: &str, report: &BalancerReport, now: Duration, wall: Time) -> bool {
        let open = report.open.iter().filter(|o| o.requests > 0).map(|o| (o.id, o.requests)).collect();
        let known = self.balancers.get(name).and_then(|known| known.lately);
        let lately = Lately::newer(known, &report.samples, wall);
        let new = Balancer { at: now, seen: report.seen.clone(), open, lately };
        let news = |old: &Balancer| old.seen != new.seen || old.open != new.open;
        let is_news = self.balancers.get(name).is_none_or(news);
        self.balancers.insert(name.to_owned(), new);
        is_news
    }

    /// It ended, and another one says so: it holds nothing. True if that is news.
    pub fn balancer_is_gone(&mut self, name: &str) -> bool {
        self.balancers.remove(name).is_some()
    }

    pub fn published(&mut self, seen: Seen, instances: BTreeSet<InstanceId>) {
        self.tables.push_back(Table { seen, instances });
        if self.tables.len() > TABLES_MAX {
            self.tables.pop_front();
        }
    }

    pub fn held(&self, instance: InstanceId, now: Duration) -> Held {
        let silent = |b: &&Balancer| now.saturating_sub(b.at);
        let here: Vec<&Balancer> = self.balancers.values().filter(|b| silent(b) < BALANCER_LEASE).collect();
        // One that was there before this coordinator began may not have spoken yet.
        let may_come = self.balancers.is_empty() && now.saturating_sub(self.began) < BALANCER_LEASE;
        let busy = here.iter().any(|b| self.may_hold(b, instance) || b.open.contains_key(&instance));
        let may_return = match self.balancers.is_empty() {
            true => now.saturating_sub(self.began) < BALANCER_GONE,
            false => self
                .balancers
                .values()
                .filter(|b| silent(b) < BALANCER_GONE)
                .any(|b| self.may_hold(b, instance) || b.open.contains_key(&instance)),
        };
        Held {
            routed_by_all: !may_come && here.iter().all(|b| self.holds(b, instance)),
            idle: !may_come && !busy,
            forgotten: !may_return,
        }
    }

    /// It uses a table that has the instance.
    fn holds(&self, balancer: &Balancer, instance: InstanceId) -> bool {
        self.table(balancer).is_some_and(|table| table.instances.contains(&instance))
    }

    /// It uses a table that has the instance, or one is on its way to it, or nobody knows.
    fn may_hold(&self, balancer: &Balancer, instance: InstanceId) -> bool {
        let from = match self.table(balancer) {
            Some(table) => table.seen.revision,
            // Of another epoch, or too old.
            None if balancer.seen.is_some() => return true,
            None => Revision::default(),
        };
        self.tables.iter().filter(|t| t.seen.revision >= from).any(|t| t.instances.contains(&instance))
    }

    fn table(&self, balancer: &Balancer) -> Option<&Table> {
        self.tables.iter().find(|t| Some(&t.seen) == balancer.seen.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(counter: i64) -> Seen {
        Seen { incarnation: 1, revision: Revision { epoch: 7, counter } }
    }

    fn report(counter: i64, open: &[(i64, u32)]) -> BalancerReport {
        let open =
            open.iter().map(|(id, requests)| domain::wire::OpenRequests { id: InstanceId(*id), requests: *requests });
        BalancerReport {
            seen: Some(seen(counter)),
            open: open.collect(),
            readings: vec![],
            samples: vec![],
            switches: vec![],
            life: None,
            gone: vec![],
        }
    }

    const ONE: InstanceId = InstanceId(1);
    const WALL: Time = Time::from_unix_micros(1_800_000_000_000_000);

    #[test]
    fn what_was_seen_lately_is_of_one_whole_stretch_however_often_it_is_told() {
        let sample = |seconds: u64, cpu_micros: u64, ok: u64| Sample {
            source: "boot/1".parse().unwrap(),
            app: AppId(1),
            at: WALL.plus(Duration::from_secs(seconds)),
            work: Some(domain::Work { cpu_micros, ..Default::default() }),
            traffic: Some(domain::Traffic {
                answers: domain::Answers { ok, unanswered: 1, ..Default::default() },
                ..Default::default()
            }),
        };
        let (mut known, zero) = (Known::new(Duration::ZERO), Duration::ZERO);
        let mut work = |samples: &[Sample], seconds: u64| {
            let lately = known.work(ServerId(1), samples, zero, WALL.plus(Duration::from_secs(seconds)));
            lately.map(|lately| lately.cpu_micros)
        };
        assert_eq!(work(&[sample(0, 5, 0), sample(0, 6, 0)], 14), None, "the stretch is not over");
        assert_eq!(work(&[sample(0, 5, 0), sample(0, 6, 0), sample(15, 7, 0)], 15), Some(11));
        assert_eq!(work(&[sample(0, 5, 0), sample(0, 6, 0)], 20), Some(11), "it comes again");
        assert_eq!(work(&[sample(0, 5, 0), sample(15, 9, 0)], 30), Some(9));
        assert_eq!(work(&[], 74), Some(9));
        assert_eq!(work(&[], 75), None, "that was long ago");

        let told = |ok| BalancerReport { samples: vec![sample(0, 0, ok)], ..report(1, &[]) };
        let later = WALL.plus(Duration::from_secs(16));
        known.balancer_reports("s1/a", &told(3), zero, later);
        known.balancer_reports("s1/a", &told(3), zero, later);
        known.balancer_reports("s1/b", &told(4), zero, later);
        known.balancer_reports("s10/c", &told(90), zero, later);
        let asked = known.asked("s1", later).unwrap();
        assert_eq!((asked.requests, asked.unanswered), (9, 2));
        assert_eq!(known.asked("s2", later), None);
    }

    #[test]
    fn an_instance_is_idle_when_the_balancer_confirmed_a_table_without_it_and_has_nothing_open() {
        let mut known = Known::new(Duration::ZERO);
        let now = Duration::from_secs(1);
        assert!(!known.held(ONE, now).idle, "a balancer may be about to speak");
        known.published(seen(1), BTreeSet::from([ONE]));
        known.balancer_reports("b", &report(1, &[]), now, WALL);
        assert!(known.held(ONE, now).routed_by_all);
        known.published(seen(2), BTreeSet::new());
        assert!(!known.held(ONE, now).idle, "the table is not confirmed");
        known.balancer_reports("b", &report(2, &[(1, 3)]), now, WALL);
        let held = known.held(ONE, now);
        assert!(!held.idle && !held.forgotten, "three requests are open");
        known.balancer_reports("b", &report(2, &[]), now, WALL);
        let held = known.held(ONE, now);
        assert!(held.idle && held.forgotten && !held.routed_by_all);
    }

    #[test]
    fn of_two_balancers_both_are_waited_for_until_one_is_gone() {
        let mut known = Known::new(Duration::ZERO);
        let now = Duration::from_secs(1);
        known.published(seen(1), BTreeSet::from([ONE]));
        known.balancer_reports("old", &report(1, &[(1, 2)]), now, WALL);
        known.published(seen(2), BTreeSet::new());
        known.balancer_reports("new", &report(2, &[]), now, WALL);
        let held = known.held(ONE, now);
        assert!(!held.idle && !held.forgotten, "the old one has two requests open");
        assert!(known.balancer_is_gone("old") && !known.balancer_is_gone("old"));
        let held = known.held(ONE, now);
        assert!(held.idle && held.forgotten);
    }

    #[test]
    fn a_table_on_its_way_to_a_balancer_counts_as_held() {
        let mut known = Known::new(Duration::ZERO);
        let now = Duration::from_secs(1);
        known.published(seen(1), BTreeSet::new());
        known.balancer_reports("b", &report(1, &[]), now, WALL);
        known.published(seen(2), BTreeSet::from([ONE]));
        known.published(seen(3), BTreeSet::new());
        assert!(!known.held(ONE, now).forgotten);
    }

    #[test]
    fn a_balancer_of_a_former_epoch_may_hold_anything_until_it_took_a_new_table() {
        let mut known = Known::new(Duration::ZERO);
        let now = Duration::from_secs(1);
        known.balancer_reports("b", &report(1, &[]), now, WALL);
        assert!(!known.held(ONE, now).forgotten);
        known.published(seen(2), BTreeSet::new());
        known.balancer_reports("b", &report(2, &[]), now, WALL);
        assert!(known.held(ONE, now).forgotten);
    }

    #[test]
    fn a_silent_balancer_is_not_waited_for_but_keeps_addresses_for_a_day() {
        let mut known = Known::new(Duration::ZERO);
        known.published(seen(1), BTreeSet::from([ONE]));
        known.balancer_reports("b", &report(1, &[]), Duration::from_secs(1), WALL);
        let later = known.held(ONE, Duration::from_secs(60));
        assert!(later.idle && !later.forgotten);
        assert!(known.held(ONE, Duration::from_secs(25 * 3600)).forgotten);
    }
}
