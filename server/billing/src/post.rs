//! Hour by hour: what derived meters said, then what was used.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use domain::{CustomerId, Month, Time};
use plan::{Chain, PostError, PricePlan, Tail, Usage, Use};
use store::ledger::{self, Key, New};
use store::{Db, StoreError, leader};

use crate::{BillingError, doing};

const HOUR: Duration = Duration::from_secs(3600);
/// After an hour's end its last readings are on their way.
const GRACE: Duration = Duration::from_secs(120);
/// What one transaction posts, but for a customer who has more: then theirs alone.
const KEYS_MAX: usize = 2_000;
const CUSTOMERS_MAX: usize = 500;
const LATE_MAX: i64 = 500;
/// Sizes on disk are kept for a while longer than they are needed.
const SIZES_KEPT: Duration = Duration::from_secs(48 * 3600);

/// What a look did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    pub hours: u32,
    pub postings: u32,
    /// Readings that came after their hour was posted.
    pub late: u32,
    /// Who could not be posted, and first of what: each look tries again.
    pub unposted: BTreeMap<CustomerId, PostError>,
}

/// Posts as the leader of an epoch: what it writes in another's is refused.
pub struct Poster<'a> {
    db: &'a Db,
    epoch: i64,
}

/// Versions of the price plan, by currency.
type Plans = BTreeMap<String, Vec<PricePlan>>;

impl<'a> Poster<'a> {
    pub fn new(db: &'a Db, epoch: i64) -> Self {
        Self { db, epoch }
    }

    /// All hours that are complete, and what came late of those before. May end anywhere and be begun again.
    pub async fn look(&self) -> Result<Progress, BillingError> {
        let at = ledger::progress(self.db.pool()).await.map_err(doing("could not ask how far the ledger is"))?;
        let complete = at.now.minus(GRACE).hour();
        let mut hour = at.derived;
        while hour < complete {
            self.derive(hour).await?;
            hour = hour.plus(HOUR);
        }
        let plans = self.plans().await?;
        let mut done = Progress::default();
        // What is noted again meanwhile is the next look's.
        let newest = ledger::newest_late(self.db.pool()).await.map_err(doing("could not ask what came late"))?;
        while self.late(&plans, newest, &mut done).await? {}
        let mut hour = at.posted;
        while hour < complete {
            self.hour(&plans, hour, &mut done).await?;
            done.hours += 1;
            hour = hour.plus(HOUR);
        }
        Ok(done)
    }

    async fn derive(&self, hour: Time) -> Result<(), BillingError> {
        let derive = async {
            let mut tx = self.db.begin().await?;
            if ledger::derive(&mut tx, hour, hour.plus(HOUR)).await? {
                ledger::forget_sizes(&mut **tx, hour.minus(SIZES_KEPT)).await?;
                leader::check(&mut tx, self.epoch).await?;
                tx.commit().await?;
            }
            Ok::<(), StoreError>(())
        };
        derive.await.map_err(doing("could not write what derived meters said"))
    }

    async fn plans(&self) -> Result<Plans, BillingError> {
        let versions = ledger::plans(self.db.pool()).await.map_err(doing("could not read the price plan"))?;
        let mut plans = Plans::new();
        for version in versions {
            let plan = PricePlan { id: version.id, since: version.since, prices: version.prices.0 };
            plans.entry(version.currency).or_default().push(plan);
        }
        Ok(plans)
    }

    /// False: nothing that came late is left.
    async fn late(&self, plans: &Plans, newest: i64, done: &mut Progress) -> Result<bool, BillingError> {
        let late = ledger::late(self.db.pool(), newest, LATE_MAX).await;
        let (notes, keys) = late.map_err(doing("could not ask what came late"))?;
        if notes.is_empty() {
            return Ok(false);
        }
        let customers = keys.iter().map(|key| key.customer).collect();
        let months = keys.iter().map(|key| Month::of(key.hour)).collect();
        if self.post(plans, &customers, &months, &keys, &notes, done).await? {
            done.late += u32::try_from(notes.len()).unwrap_or(u32::MAX);
        }
        Ok(true)
    }

    async fn hour(&self, plans: &Plans, hour: Time, done: &mut Progress) -> Result<(), BillingError> {
        let mut keys = ledger::keys(self.db.pool(), hour).await.map_err(doing("could not ask what was used"))?;
        keys.sort_unstable();
        let month = Month::of(hour);
        let months = BTreeSet::from([month]);
        let mut customers: BTreeSet<CustomerId> = keys.iter().map(|key| key.customer).collect();
        // Who decided on a new version has cut the month, and who took one back has mended it: what is posted of it may
        // cost something else now.
        let posted = ledger::posted_to(self.db.pool(), month).await;
        customers.extend(posted.map_err(doing("could not ask of whom something is posted"))?);
        let (mut batch, mut some): (BTreeSet<CustomerId>, Vec<Key>) = Default::default();
        for customer in customers {
            let theirs = keys.partition_point(|key| key.customer <= customer);
            let theirs: Vec<Key> = keys.drain(..theirs).collect();
            if !batch.is_empty() && (some.len() + theirs.len() > KEYS_MAX || batch.len() >= CUSTOMERS_MAX) {
                self.post(plans, &batch, &months, &some, &[], done).await?;
                batch.clear();
                some.clear();
            }
            batch.insert(customer);
            some.extend(theirs);
        }
        if !batch.is_empty() {
            self.post(plans, &batch, &months, &some, &[], done).await?;
        }
        let passed = async {
            let mut tx = self.db.begin().await?;
            ledger::passed(&mut tx, hour, hour.plus(HOUR)).await?;
            leader::check(&mut tx, self.epoch).await?;
            tx.commit().await
        };
        passed.await.map_err(doing("could not note how far the ledger is"))
    }

    /// One transaction: whole or not at all, and once. False: somebody could not be posted, which is noted.
    async fn post(
        &self,
        plans: &Plans,
        customers: &BTreeSet<CustomerId>,
        months: &BTreeSet<Month>,
        keys: &[Key],
        notes: &[i64],
        done: &mut Progress,
    ) -> Result<bool, BillingError> {
        let post = async {
            let mut tx = self.db.begin().await?;
            let (new, unposted) = propose(&mut tx, plans, customers, months, keys).await?;
            if !new.is_empty() {
                ledger::insert(&mut tx, &new).await?;
            }
            if !notes.is_empty() {
                ledger::forget_late(&mut tx, notes).await?;
            }
            if !unposted.is_empty() {
                let again = keys.iter().filter(|key| unposted.contains_key(&key.customer)).copied();
                ledger::note_late(&mut tx, &again.collect::<Vec<_>>()).await?;
            }
            // Last, since nobody can renew the lease until the end.
            leader::check(&mut tx, self.epoch).await?;
            tx.commit().await?;
            Ok::<_, StoreError>((new.len(), unposted))
        };
        let (made, unposted) = post.await.map_err(doing("could not post"))?;
        done.postings += u32::try_from(made).unwrap_or(u32::MAX);
        let all = unposted.is_empty();
        unposted.into_iter().for_each(|(customer, cause)| _ = done.unposted.entry(customer).or_insert(cause));
        Ok(all)
    }
}

/// What is to be posted, and who cannot be: the others are all the same.
async fn propose(
    tx: &mut store::Tx,
    plans: &Plans,
    customers: &BTreeSet<CustomerId>,
    months: &BTreeSet<Month>,
    keys: &[Key],
) -> Result<(Vec<New>, BTreeMap<CustomerId, PostError>), StoreError> {
    let ids: Vec<i64> = customers.iter().map(|customer| customer.0).collect();
    let every_month: Vec<Month> = months.iter().copied().collect();
    let versions = plans.values().flat_map(|versions| months.iter().flat_map(|month| plan::segments(*month, versions)));
    let versions: BTreeSet<i64> = versions.map(|segment| segment.plan.0).collect();
    let versions: Vec<i64> = versions.into_iter().collect();
    // Before what is posted: see `ledger::tails`.
    let mut tails: BTreeMap<CustomerId, BTreeMap<Chain, Tail>> = BTreeMap::new();
    for tail in ledger::tails(tx, &ids, &every_month, &versions).await? {
        let chain = Chain { month: tail.month, plan: tail.plan, meter: tail.meter };
        let count = |n: i64| u64::try_from(n).unwrap_or(0);
        let (place, used) = (count(tail.place), count(tail.used));
        let at = Tail { place, app: tail.app, hour: tail.hour, used, owed: tail.owed };
        tails.entry(tail.customer).or_default().insert(chain, at);
    }
    let whose: BTreeMap<_, _> = keys.iter().map(|key| (key.app, key.customer)).collect();
    let mut used: BTreeMap<CustomerId, (Usage, BTreeMap<Use, i64>)> = BTreeMap::new();
    for row in ledger::used(tx, keys).await? {
        let Some(customer) = whose.get(&row.app) else { continue };
        let of = Use { hour: row.hour, app: row.app, meter: row.meter };
        let (usage, posted) = used.entry(*customer).or_default();
        usage.insert(of, u64::try_from(row.units).unwrap_or(0));
        posted.insert(of, row.posted);
    }
    let currencies: BTreeMap<CustomerId, String> = ledger::currencies(&mut ***tx, &ids).await?.into_iter().collect();
    let (mut new, mut unposted) = (Vec::new(), BTreeMap::new());
    for customer in customers {
        let versions = currencies.get(customer).and_then(|currency| plans.get(currency));
        let (usage, posted) = used.remove(customer).unwrap_or_default();
        let tails = tails.remove(customer).unwrap_or_default();
        match plan::post(versions.map_or(&[], Vec::as_slice), &usage, &posted, &tails) {
            Ok(postings) => new.extend(postings.into_iter().map(|posting| row(*customer, posting))),
            Err(cause) => drop(unposted.insert(*customer, cause)),
        }
    }
    Ok((new, unposted))
}

fn row(customer: CustomerId, posting: plan::Posting) -> New {
    let plan::Posting { chain, place, app, hour, units, used_after, amount, owed_after } = posting;
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let (place, used_after) = (count(place), count(used_after));
    let Chain { month, plan, meter } = chain;
    New { customer, app, meter, plan, month, hour, place, units, used_after, amount, owed_after }
}
