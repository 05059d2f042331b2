//! What an app costs in some hours up to now, which may lie in several months: what stands beside its graphs.

use std::collections::BTreeMap;
use std::sync::Arc;

use domain::{AppId, AppName, Currency, CustomerId, Meter, Money, Month, PricePlanId, Time};
use plan::cost::Cost;
use plan::{AppLine, Line, share_out};

use super::books::Books;
use super::{AppRef, known, now};
use crate::{Actor, CommandError, Commands, Range, timely};

/// Of one app, in whole hours: what a range of its graphs begins in the middle of is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeCost {
    pub app: AppRef,
    pub currency: Currency,
    /// The month that runs.
    pub month: Month,
    pub since: Time,
    pub until: Time,
    /// The sum of the meters.
    pub total: Cost,
    /// Each rounded once.
    pub meters: BTreeMap<Meter, Cost>,
}

/// A month, and the part of some hours that lies in it.
pub(super) struct Part {
    pub books: Arc<Books>,
    pub from: Time,
    pub to: Time,
}

/// By price and meter.
type Units = BTreeMap<(PricePlanId, Meter), u64>;

impl Commands {
    /// What a range of an app's graphs costs; `None` when it is not known just now, or there is no such app.
    pub async fn cost_in(&self, actor: &Actor, name: &AppName, range: Range) -> Option<RangeCost> {
        let cost = async {
            let now = now();
            let app = store::app::get(self.db.pool(), actor.customer, name).await?;
            let app = app.ok_or_else(|| CommandError::NoApp { name: name.clone() })?;
            let since = range.since(now).hour();
            let parts = self.parts(actor.customer, since, now, now).await?;
            let last = parts.last().ok_or_else(|| CommandError::internal("no month is running"))?.books.clone();
            let mut meters = BTreeMap::new();
            for part in &parts {
                let units = self.units(actor.customer, app.id, part).await?;
                for line in &part.books.bill.lines {
                    let Some(mine) = line_of(line, app.id) else { continue };
                    let units = units.get(&(line.segment.plan, line.meter)).copied().unwrap_or(0);
                    if units > 0 {
                        add(&mut meters, line.meter, share(mine, units));
                    }
                }
            }
            let total = to_the_cent(&mut meters);
            Ok(RangeCost {
                app: AppRef { name: app.name.clone(), deleted: None, key: app.name.to_string() },
                currency: last.currency,
                month: last.month,
                since,
                until: last.until,
                total,
                meters,
            })
        };
        match timely(cost).await {
            Err(CommandError::NoApp { .. }) => None,
            asked => known(asked),
        }
    }

    /// The months of the hours `since..to`, the first one first.
    pub(super) async fn parts(
        &self,
        customer: CustomerId,
        since: Time,
        to: Time,
        now: Time,
    ) -> Result<Vec<Part>, CommandError> {
        let mut parts = Vec::new();
        let mut month = Month::of(since);
        while month.from() < to {
            let books = self.books(customer, month, now).await?;
            parts.push(Part { books, from: since.max(month.from()), to: to.min(month.to()) });
            month = month.next();
        }
        Ok(parts)
    }

    /// What an app used in a part of a month. Of a whole one the books know it; else the shorter side is added up.
    async fn units(&self, customer: CustomerId, app: AppId, part: &Part) -> Result<Units, CommandError> {
        let Part { books, from, to } = part;
        let month = books.month;
        let mut whole = Units::new();
        for line in &books.bill.lines {
            if let Some(mine) = line_of(line, app) {
                whole.insert((line.segment.plan, line.meter), mine.used);
            }
        }
        let before = from.since(month.from()) < to.since(*from);
        let (from, to) = if before { (month.from(), *from) } else { (*from, *to) };
        let mut units = Units::new();
        if from < to {
            for row in store::bill::posted_between(self.db.pool(), customer, app, from, to).await? {
                *units.entry((row.plan_id, row.meter)).or_default() += u64::try_from(row.units).unwrap_or(0);
            }
            for (of, fresh) in books.fresh(Some(app), None, from, to) {
                if let Some(segment) = books.segments.iter().find(|segment| segment.holds(of.hour)) {
                    *units.entry((segment.plan, of.meter)).or_default() += fresh;
                }
            }
        }
        if before {
            for (key, used) in &mut whole {
                *used = used.saturating_sub(units.get(key).copied().unwrap_or(0));
            }
            return Ok(whole);
        }
        Ok(units)
    }
}

/// Of so many of an app's units, its share of what they all cost.
pub(super) fn share(mine: &AppLine, units: u64) -> Cost {
    let units = units.min(mine.used);
    let parts = share_out(mine.owed.micros(), &[units, mine.used - units]);
    let exact = Money::from_micros(parts.first().copied().filter(|_| units > 0).unwrap_or(0));
    Cost { units, exact, amount: exact }
}

pub(super) fn line_of(line: &Line, app: AppId) -> Option<&AppLine> {
    line.apps.iter().find(|mine| mine.app == app)
}

pub(super) fn add(meters: &mut BTreeMap<Meter, Cost>, meter: Meter, of: Cost) {
    let sum = meters.entry(meter).or_default();
    sum.units = sum.units.saturating_add(of.units);
    sum.exact = sum.exact.plus(of.exact).unwrap_or(sum.exact);
    sum.amount = sum.exact;
}

/// Rounds each meter once, and adds them up: as a bill does.
pub(super) fn to_the_cent(meters: &mut BTreeMap<Meter, Cost>) -> Cost {
    let mut total = Cost::default();
    for cost in meters.values_mut() {
        cost.amount = Money::from_cents(cost.exact.cents()).unwrap_or(cost.exact);
        total.exact = total.exact.plus(cost.exact).unwrap_or(total.exact);
        total.amount = total.amount.plus(cost.amount).unwrap_or(total.amount);
    }
    total
}
