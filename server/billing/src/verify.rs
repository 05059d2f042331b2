//! Holds the ledger against what it was made from, three ways: what the kernel's and the balancers' counters say, what
//! the readings and the price plan come to when all is counted again, and what is posted.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::{Duration, Instant};

use domain::{AppId, CustomerId, Life, Meter, Money, Month, PricePlanId, Time};
use plan::{PricePlan, Segment, Use};
use serde::{Deserialize, Serialize};
use store::ledger::{self, Progress, audit};
use store::{Db, StoreError, Tx};

/// A counter, read where it counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    pub life: Life,
    /// `None`: whoever's the readings say.
    pub app: Option<AppId>,
    pub meter: Meter,
    pub value: u64,
}

/// One comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    pub name: String,
    pub compared: u64,
    /// Not there yet, and no difference until it is.
    pub in_flight: u64,
    pub differences: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub month: Month,
    /// Hours before are posted; what is used since is computed.
    pub posted_until: Time,
    pub checks: Vec<Check>,
    /// What the readings say of the counters that were given: later those can only say more.
    pub read: Vec<Counter>,
}

impl Report {
    pub fn is_clean(&self) -> bool {
        self.checks.iter().all(|check| check.differences.is_empty())
    }
}

impl Check {
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), compared: 0, in_flight: 0, differences: Vec::new() }
    }

    fn compare<T: PartialEq + Display>(&mut self, what: impl Display, this: (&str, T), that: (&str, T)) {
        self.compared += 1;
        if this.1 != that.1 {
            self.differences.push(format!("{what}: {} {}, {} {}", this.0, this.1, that.0, that.1));
        }
    }
}

const ASK_AGAIN: Duration = Duration::from_millis(500);

/// `counters` were read before; readings of them may take until `wait` to arrive. `month`: `None` is the one that is
/// under way.
pub async fn verify(db: &Db, counters: &[Counter], month: Option<Month>, wait: Duration) -> Result<Report, StoreError> {
    let deadline = Instant::now() + wait;
    let now = ledger::progress(db.pool()).await?.now;
    let month = month.unwrap_or_else(|| Month::of(now));
    let (running, ended, read) = loop {
        let (running, read) = of_running(db, counters).await?;
        let ended = of_ended(db, month).await?;
        let arrived = running.differences.is_empty() && ended.differences.is_empty();
        if arrived && audit::is_settled(db.pool()).await? || Instant::now() >= deadline {
            break (running, ended, read);
        }
        tokio::time::sleep(ASK_AGAIN).await;
    };
    let mut tx = db.snapshot().await?;
    audit::be_patient(&mut tx).await?;
    let at = ledger::progress(&mut **tx).await?;
    let derived = of_derived(&mut tx, month, at).await?;
    let mut checks = vec![running, ended, derived];
    checks.extend(of_postings(&mut tx, month, at).await?);
    Ok(Report { month, posted_until: at.posted, checks, read })
}

/// What is told in numbers too long for a line.
fn number(value: Option<i64>) -> String {
    value.map_or_else(|| "nothing".to_owned(), |value| value.to_string())
}

/// A reading can only be behind its counter, and only for as long as it is on its way.
async fn of_running(db: &Db, counters: &[Counter]) -> Result<(Check, Vec<Counter>), StoreError> {
    let mut check = Check::new("readings have what the counters of what runs said");
    let asked: Vec<_> = counters.iter().map(|c| (c.life.clone(), c.app, c.meter)).collect();
    let held = audit::highest(db.pool(), &asked).await?;
    let mut read = Vec::new();
    for (counter, held) in counters.iter().zip(held) {
        check.compared += 1;
        let value = held.and_then(|held| u64::try_from(held).ok()).unwrap_or(0);
        if value < counter.value {
            let Counter { life, meter, value, .. } = counter;
            check.differences.push(format!("{meter} of {life}: the counter {value}, readings {}", number(held)));
        }
        read.push(Counter { value, ..counter.clone() });
    }
    Ok((check, read))
}

async fn of_ended(db: &Db, month: Month) -> Result<Check, StoreError> {
    let mut check = Check::new("readings have what counters said at the end of their lives");
    for end in audit::ends(db.pool(), month.from(), month.to()).await? {
        // A counter that never counted has no reading.
        let read = end.read.or((end.value == 0).then_some(0));
        check.compare(
            format!("{} of {}", end.meter, end.life),
            ("at its end", number(Some(end.value))),
            ("readings", number(read)),
        );
    }
    Ok(check)
}

async fn of_derived(tx: &mut Tx, month: Month, at: Progress) -> Result<Check, StoreError> {
    let mut check = Check::new("derived readings are what the rows come to again");
    let until = at.derived.min(month.to());
    let after = month.from().max(at.begun);
    if after < until {
        for told in audit::derived_again(tx, after, until).await? {
            let what = format!("{} of {}", told.meter, told.life);
            check.compare(what, ("rows", number(Some(told.value))), ("readings", number(told.read)));
        }
    }
    Ok(check)
}

/// The month's parts in each currency, by what was decided on until a moment.
fn parts(versions: &[ledger::Plan], month: Month, until: Time) -> BTreeMap<String, Vec<Segment>> {
    let mut plans: BTreeMap<String, Vec<PricePlan>> = BTreeMap::new();
    for version in versions.iter().filter(|version| version.created <= until).cloned() {
        let plan = PricePlan { id: version.id, since: version.since, prices: version.prices.0 };
        plans.entry(version.currency).or_default().push(plan);
    }
    plans.into_iter().map(|(currency, versions)| (currency, plan::segments(month, &versions))).collect()
}

type Total = (CustomerId, PricePlanId, Meter);

/// All counted again from readings and prices, and held against what is posted.
async fn of_postings(tx: &mut Tx, month: Month, at: Progress) -> Result<Vec<Check>, StoreError> {
    let versions = ledger::plans(&mut ***tx).await?;
    let (known, parts) = (parts(&versions, month, at.posted), parts(&versions, month, at.now));
    let (from, to) = (month.from().max(at.begun.hour()), month.to().min(at.posted));
    let mut units = Check::new("postings have the units that readings come to, hour by hour");
    let mut totals: BTreeMap<Total, u64> = BTreeMap::new();
    let mut names: BTreeMap<CustomerId, (String, String)> = BTreeMap::new();
    // What came late and is not looked at yet.
    units.in_flight = u64::from(!audit::is_settled(&mut ***tx).await?);
    for app in audit::owned(&mut ***tx).await? {
        names.insert(app.customer, (app.customer_name, app.currency.clone()));
        if from >= to {
            continue;
        }
        let readings = audit::readings(tx, app.id, from, to).await?;
        let mut usage = plan::usage(&readings);
        usage.retain(|of, _| of.hour >= from);
        let mut posted: BTreeMap<Use, i64> = BTreeMap::new();
        for row in audit::posted(tx, app.id, from, to).await? {
            posted.insert(Use { hour: row.hour, app: app.id, meter: row.meter }, row.units);
        }
        let segments = parts.get(&app.currency).map_or(&[][..], Vec::as_slice);
        for of in usage.keys().chain(posted.keys().filter(|of| !usage.contains_key(of))) {
            // Before the first price nothing is posted.
            let Some(part) = segments.iter().find(|part| part.holds(of.hour)) else { continue };
            let used = usage.get(of).copied().unwrap_or(0);
            *totals.entry((app.customer, part.plan, of.meter)).or_default() += used;
            let said = posted.get(of).copied().unwrap_or(0).to_string();
            let what = format!("{}, {}, {}", app.name, of.meter, of.hour);
            units.compare(what, ("readings", used.to_string()), ("posted", said));
        }
    }
    let mut amounts = Check::new("postings and entries have the amounts that the price plan comes to");
    let mut posted: BTreeMap<Total, audit::Posted> = BTreeMap::new();
    for row in audit::chains(tx, month).await? {
        posted.insert((row.customer, row.plan, row.meter), row);
    }
    let all: Vec<Total> = totals.keys().chain(posted.keys().filter(|of| !totals.contains_key(of))).copied().collect();
    for of in all {
        let (customer, plan, meter) = of;
        let (name, currency) = names.get(&customer).cloned().unwrap_or_default();
        let used = totals.get(&of).copied().unwrap_or(0);
        let owed_by = |parts: &BTreeMap<String, Vec<Segment>>| {
            let part = parts.get(&currency)?.iter().find(|part| part.plan == plan)?;
            plan::owed(part, meter, used)
        };
        let owed = owed_by(&parts);
        let said = posted.get(&of).map_or(Money::ZERO, |row| row.amount);
        let entries = posted.get(&of).map_or(Money::ZERO, |row| row.entries);
        let what = format!("customer {customer} ({name}), {meter}, price plan {plan}");
        if owed != Some(said) && owed_by(&known) == Some(said) {
            // A version that was decided on since is taken into account when the next hour is posted.
            amounts.compared += 1;
            amounts.in_flight += 1;
            continue;
        }
        let owed = owed.map_or_else(|| "no amount".to_owned(), |owed| owed.micros().to_string());
        amounts.compare(&what, ("readings × price", owed), ("posted", said.micros().to_string()));
        amounts.compare(&what, ("posted", said.micros()), ("entries", entries.micros()));
    }
    let mut order = Check::new("each posting follows from the one before, without a gap");
    order.compared = posted.values().map(|row| u64::try_from(row.postings).unwrap_or(0)).sum();
    order.differences.extend(audit::broken(tx, month).await?.iter().map(|id| format!("posting {id}")));
    let mut balance = Check::new("debits are credits, in each posting and in all");
    let (lines, sum) = audit::balance(tx).await?;
    balance.compared = u64::try_from(lines).unwrap_or(0);
    if sum != "0" {
        balance.differences.push(format!("all lines of the ledger add up to {sum} micro-units"));
    }
    balance.differences.extend(audit::unbalanced(tx, month).await?.iter().map(|id| format!("posting {id}")));
    let mut sums = Check::new("the sums that pages show are those of the postings");
    let (compared, wrong) = audit::sums(tx, month).await?;
    sums.compared = u64::try_from(compared).unwrap_or(0);
    sums.differences.extend(wrong);
    Ok(vec![units, amounts, order, balance, sums])
}
