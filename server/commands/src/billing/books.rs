//! What all figures of a customer's month are made from, kept for a second.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use domain::{AppId, Currency, CustomerId, Meter, Money, Month, PricePlanId, Prices, Time};
use plan::cost::{Cuts, Days};
use plan::{Bill, PricePlan, Segment, Use, Used};
use store::bill::Named;

use crate::{CommandError, Commands};

/// A page asks several times (its head, its figures), and what is live asks again at each change; whoever waits for
/// their first cost does not notice.
const KEPT_FOR: Duration = Duration::from_secs(1);
/// The largest, of a customer with 500 apps, is half a megabyte.
const KEPT_MAX: usize = 128;
/// What a forecast looks back at.
const WEEK: Duration = Duration::from_secs(7 * 86_400);

#[derive(Debug)]
pub(crate) struct Books {
    pub currency: Currency,
    pub month: Month,
    /// What was used until then is in it.
    pub until: Time,
    pub versions: Vec<PricePlan>,
    pub segments: Vec<Segment>,
    /// Not posted yet.
    pub fresh: BTreeMap<Use, u64>,
    /// Of it, what is derived from rows, without a reading.
    pub derived: Time,
    /// The first hour whose use costs anything.
    pub begun: Time,
    pub bill: Bill,
    pub cuts: Cuts,
    pub names: BTreeMap<AppId, Named>,
    /// What each day cost, by when it began; those of the week before the month too.
    pub past: BTreeMap<Time, Money>,
    /// The first hour that was used at all.
    pub first: Option<Time>,
}

/// By customer and month, each until it is too old.
pub(crate) type Kept = Arc<Mutex<HashMap<(CustomerId, Month), (Instant, Arc<Books>)>>>;

/// More than amounts hold: nobody uses so much at a sane price.
pub(crate) fn too_much() -> CommandError {
    CommandError::internal("a bill is more than an amount holds")
}

impl Commands {
    pub(crate) async fn books(
        &self,
        customer: CustomerId,
        month: Month,
        now: Time,
    ) -> Result<Arc<Books>, CommandError> {
        let key = (customer, month);
        {
            let kept = self.books.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((at, books)) = kept.get(&key)
                && at.elapsed() < KEPT_FOR
            {
                return Ok(books.clone());
            }
        }
        self.books_anew(customer, month, now).await
    }

    pub(crate) async fn books_anew(
        &self,
        customer: CustomerId,
        month: Month,
        now: Time,
    ) -> Result<Arc<Books>, CommandError> {
        let key = (customer, month);
        let books = Arc::new(self.open_books(customer, month, now).await?);
        let mut kept = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, (at, _)| at.elapsed() < KEPT_FOR);
        if kept.len() >= KEPT_MAX {
            let oldest = kept.iter().min_by_key(|(_, (at, _))| *at).map(|(key, _)| *key);
            oldest.map(|oldest| kept.remove(&oldest));
        }
        kept.insert(key, (Instant::now(), books.clone()));
        Ok(books)
    }

    /// Always as many queries, however many apps.
    async fn open_books(&self, customer: CustomerId, month: Month, now: Time) -> Result<Books, CommandError> {
        let mut tx = self.db.snapshot().await?;
        let currency = store::bill::currency(&mut **tx, customer).await?;
        let currency = currency.ok_or(CommandError::NotFound { what: "customer" })?;
        let versions = price_plans(store::bill::prices(&mut **tx, &currency).await?);
        let standing = store::ledger::progress(&mut **tx).await?;
        let posted = store::bill::posted(&mut **tx, customer, month).await?;
        let days = store::bill::posted_days(&mut **tx, customer, month.from().minus(WEEK), month.to()).await?;
        let first = store::bill::first_hour(&mut **tx, customer).await?;
        let until = now.min(month.to());
        let from = standing.posted.max(month.from());
        let readings = match from < until {
            // The hour that the last moment is in.
            true => {
                let hour = until.minus(Duration::from_micros(1)).hour();
                let derived = standing.derived.max(month.from());
                store::bill::fresh(&mut **tx, customer, from, derived, until, hour).await?
            }
            false => Vec::new(),
        };
        // Of an hour that is on the way to be posted, some is in `posted` already.
        let on_the_way = store::bill::posted_hours(&mut **tx, customer, None, None, from, until).await?;
        let named = store::bill::named(&mut **tx, customer).await?;
        tx.commit().await?;

        let segments = plan::segments(month, &versions);
        let mut used = Used::new();
        for row in posted {
            *used.entry((row.plan_id, row.meter, row.app_id)).or_default() += row.units;
        }
        let mut of_days = Days::new();
        let mut past: BTreeMap<Time, Money> = BTreeMap::new();
        for row in days {
            let sum = past.entry(row.day).or_default();
            *sum = sum.plus(row.amount).ok_or_else(too_much)?;
            if month.holds(row.day) {
                of_days.insert((month.day_of(row.day), row.meter), (u64::try_from(row.units).unwrap_or(0), row.amount));
            }
        }
        let mut fresh = plan::usage(&readings);
        for row in on_the_way {
            let units = u64::try_from(row.units).unwrap_or(0);
            if let Some(fresh) = fresh.get_mut(&Use { hour: row.hour, app: row.app_id, meter: row.meter }) {
                *fresh = fresh.saturating_sub(units);
            }
        }
        fresh.retain(|of, units| from <= of.hour && of.hour < until && *units > 0);
        plan::cost::add_fresh(&mut of_days, month, &segments, &used, &fresh).ok_or_else(too_much)?;
        let units = |(of, units): (&Use, &u64)| (*of, i64::try_from(*units).unwrap_or(i64::MAX));
        plan::add_units(&mut used, &segments, fresh.iter().map(units));
        let bill = plan::bill(&segments, &used).ok_or_else(too_much)?;
        let cuts = plan::cost::cuts(&bill, &of_days).ok_or_else(too_much)?;
        for (day, cost) in &cuts.days {
            past.insert(month.day(*day), cost.exact);
        }
        let first = first.into_iter().chain(fresh.keys().map(|of| of.hour)).min();
        Ok(Books {
            currency: currency.parse().map_err(CommandError::internal)?,
            month,
            until,
            versions,
            segments,
            fresh,
            derived: standing.derived,
            begun: standing.begun.hour(),
            bill,
            cuts,
            names: named.into_iter().map(|named| (named.id, named)).collect(),
            past,
            first,
        })
    }
}

pub(crate) fn price_plans(rows: Vec<(PricePlanId, Time, Prices)>) -> Vec<PricePlan> {
    rows.into_iter().map(|(id, since, prices)| PricePlan { id, since, prices }).collect()
}

impl Books {
    /// What was used and is not posted: of one app or all, of one meter or all, in the hours `from..to`.
    pub(crate) fn fresh(
        &self,
        app: Option<AppId>,
        meter: Option<Meter>,
        from: Time,
        to: Time,
    ) -> impl Iterator<Item = (Use, u64)> {
        self.fresh.iter().map(|(of, units)| (*of, *units)).filter(move |(of, _)| {
            (from..to).contains(&of.hour) && app.is_none_or(|app| app == of.app) && meter.is_none_or(|m| m == of.meter)
        })
    }
}
