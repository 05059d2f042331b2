//! What a customer owes so far, for an operator's terminal.

use std::collections::BTreeMap;
use std::fmt::Write;

use domain::{CustomerId, Meter, Money, Month, Time};
use plan::{PricePlan, Use, Used};
use serde::Serialize;
use store::ledger::{self, audit};
use store::{Db, StoreError};

/// By meter and by app: two cuts of one sum, in hundredths and in micro-units of the currency.
#[derive(Debug, Clone, Serialize)]
pub struct Account {
    pub customer: CustomerId,
    pub name: String,
    pub month: Month,
    pub currency: String,
    pub posted_until: Time,
    /// What was used since is computed until then.
    pub now: Time,
    pub meters: Vec<Line>,
    pub apps: Vec<Line>,
    pub cents: i64,
    pub micros: i64,
    /// Of these, what is posted.
    pub posted_micros: i64,
}

#[derive(Debug, Clone, Serialize)]
pub struct Line {
    pub name: String,
    /// Of a meter.
    pub used: Option<u64>,
    pub cents: i64,
    pub micros: i64,
}

#[derive(Debug, thiserror::Error)]
pub enum ShowError {
    #[error("no customer is called '{called}': say an id, a name, or the address of a member")]
    Nobody { called: String },
    #[error("several customers are called '{called}': {ids}; say an id")]
    Several { called: String, ids: String },
    #[error("it is more than an amount holds")]
    TooMuch,
    #[error("could not read the ledger")]
    Store {
        #[from]
        cause: StoreError,
    },
}

pub async fn show(db: &Db, called: &str, month: Option<Month>) -> Result<Account, ShowError> {
    let customers = audit::customers(db.pool(), called).await?;
    let (customer, name) = match customers.as_slice() {
        [] => return Err(ShowError::Nobody { called: called.to_owned() }),
        [one] => one.clone(),
        several => {
            let ids: Vec<String> = several.iter().map(|(id, name)| format!("{id} ({name})")).collect();
            return Err(ShowError::Several { called: called.to_owned(), ids: ids.join(", ") });
        }
    };
    let mut tx = db.snapshot().await?;
    audit::be_patient(&mut tx).await?;
    let at = ledger::progress(&mut **tx).await?;
    let month = month.unwrap_or_else(|| Month::of(at.now));
    let apps: Vec<_> = audit::owned(&mut **tx).await?.into_iter().filter(|app| app.customer == customer).collect();
    let currencies = ledger::currencies(&mut **tx, &[customer.0]).await?;
    let currency = currencies.into_iter().next().map(|(_, currency)| currency).unwrap_or_default();
    let versions = ledger::plans(&mut **tx).await?.into_iter().filter(|version| version.currency == currency);
    let versions = versions.map(|v| PricePlan { id: v.id, since: v.since, prices: v.prices.0 });
    let parts = plan::segments(month, &versions.collect::<Vec<_>>());

    let mut used = Used::new();
    for row in audit::posted_apps(&mut tx, customer, month).await? {
        used.insert((row.plan, row.meter, row.app), row.units);
    }
    let mut posted_micros = 0_i64;
    for row in audit::chains(&mut tx, month).await?.iter().filter(|row| row.customer == customer) {
        posted_micros = posted_micros.saturating_add(row.amount.micros());
    }
    // What runs now: the hours that are not posted, less what is on the way to be.
    let readings = store::bill::fresh(&mut **tx, customer, at.posted, at.derived, at.now, at.now.hour()).await?;
    let mut usage = plan::usage(&readings);
    usage.retain(|of, _| of.hour >= at.posted);
    let mut units: BTreeMap<Use, i64> =
        usage.into_iter().map(|(of, units)| (of, i64::try_from(units).unwrap_or(i64::MAX))).collect();
    for row in store::bill::posted_hours(&mut **tx, customer, None, None, at.posted, at.now).await? {
        *units.entry(Use { hour: row.hour, app: row.app_id, meter: row.meter }).or_default() -= row.units;
    }
    plan::add_units(&mut used, &parts, units);
    let bill = plan::bill(&parts, &used).ok_or(ShowError::TooMuch)?;
    let mut meters: BTreeMap<Meter, u64> = BTreeMap::new();
    for line in &bill.lines {
        let sum = meters.entry(line.meter).or_default();
        *sum = sum.saturating_add(line.used);
    }
    let line = |name: String, used, (owed, cents): (Money, i64)| Line { name, used, cents, micros: owed.micros() };
    let by_meter = bill.by_meter();
    let by_meter = by_meter.into_iter().map(|(meter, sum)| line(meter.to_string(), meters.get(&meter).copied(), sum));
    let by_app = bill.by_app();
    let by_app = apps.iter().filter_map(|app| Some(line(app.name.to_string(), None, *by_app.get(&app.id)?)));
    Ok(Account {
        customer,
        name,
        month,
        currency,
        posted_until: at.posted,
        now: at.now,
        meters: by_meter.collect(),
        apps: by_app.collect(),
        cents: bill.cents,
        micros: bill.owed.micros(),
        posted_micros,
    })
}

impl Account {
    /// For a terminal.
    pub fn text(&self) -> String {
        let Self { customer, name, month, currency, posted_until, .. } = self;
        let mut text = format!("customer {customer} ({name}), {month}, {currency}\n");
        for (head, lines) in [("by meter", &self.meters), ("by app", &self.apps)] {
            let _ = writeln!(text, "{head}");
            for Line { name, used, cents, micros } in lines {
                let used = used.map(|used| format!("{used} units")).unwrap_or_default();
                let _ =
                    writeln!(text, "  {name:<20} {used:>24} {:>14} {:>10}", decimal(*micros, 6), decimal(*cents, 2));
            }
        }
        let (all, posted) = (decimal(self.micros, 6), decimal(self.posted_micros, 6));
        let _ = writeln!(text, "{:<47} {all:>14} {:>10}", "so far", decimal(self.cents, 2));
        let _ = writeln!(text, "posted of it: {posted}, of the hours up to {posted_until}");
        text
    }
}

/// An integer of so many decimals.
fn decimal(value: i64, places: usize) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = places + 1);
    let (whole, part) = digits.split_at(digits.len() - places);
    format!("{sign}{whole}.{part}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_written_with_all_its_decimals() {
        for (value, places, text) in
            [(0, 2, "0.00"), (-5, 2, "-0.05"), (123_456_789, 6, "123.456789"), (7, 6, "0.000007")]
        {
            assert_eq!(decimal(value, places), text);
        }
    }
}
