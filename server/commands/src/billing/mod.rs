//! Money, as a person sees it: a month by app, by meter and by day, what goes on at this rate, and why.
//!
//! What was posted is read added up; what is used since the last full hour that was posted is computed on top of it, by
//! the same pure functions as the ledger's. All of it is before tax.

mod books;
mod prices;
mod rates;
mod since;
mod why;

use std::collections::HashMap;
use std::time::Duration;

use domain::{AppId, AppName, Currency, Meter, Money, Month, Time};
use plan::cost::Cost;

use self::books::Books;
pub(crate) use self::books::Kept;
pub(crate) use self::prices::KeptPrices;
pub use self::prices::{Example, MeterTyped, NewPrices, PriceList, PricesView, VersionView, Wrong};
pub use self::rates::DayRate;
pub use self::since::RangeCost;
pub use self::why::{HourCost, ReadingView, WhyAsked, WhySegment, WhyView};
use crate::{Actor, CommandError, Commands, DeployRow, timely};

/// What this month comes to, for the header of every page, as it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent {
    pub currency: Currency,
    pub month: Month,
    pub amount: Money,
}

/// An app as a bill names it; a deleted one keeps its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppRef {
    pub name: AppName,
    pub deleted: Option<Time>,
    /// What it is asked for by: its name, of a deleted one with its number among those of that name: `shop~1`.
    pub key: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppCost {
    pub app: AppRef,
    pub cost: Cost,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeterCost {
    pub meter: Meter,
    pub cost: Cost,
    /// Micro-units for a unit, each that was paid.
    pub prices: Vec<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayCost {
    /// From 1.
    pub day: u8,
    pub cost: Cost,
    /// With all days before.
    pub so_far: Money,
}

/// How the month goes on at the pace of lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForecastView {
    /// Of the whole month, in cents.
    pub total: Money,
    /// What the pace is taken from: 168 hours, or what there is.
    pub hours: u64,
    pub past: Money,
    pub left: Duration,
    pub more: Money,
}

#[derive(Debug, Clone, PartialEq)]
pub struct BillView {
    pub month: Month,
    /// It is not over.
    pub running: bool,
    pub currency: Currency,
    /// What was used until then is in it.
    pub until: Time,
    pub total: Cost,
    /// The most first.
    pub apps: Vec<AppCost>,
    pub meters: Vec<MeterCost>,
    /// Each until now, also those that cost nothing; none when nothing was used.
    pub days: Vec<DayCost>,
    pub forecast: Option<ForecastView>,
    /// Those with a bill, the newest first.
    pub months: Vec<Month>,
}

/// What one app costs.
#[derive(Debug, Clone, PartialEq)]
pub struct AppCostView {
    pub month: Month,
    pub currency: Currency,
    pub until: Time,
    pub app: AppRef,
    pub total: Cost,
    pub meters: Vec<(Meter, Cost)>,
    /// Of the whole month at the present rate.
    pub forecast: Option<Money>,
    /// Of what serves.
    pub day: Option<DayRate>,
    /// Of the latest releases.
    pub releases: Vec<DayRate>,
}

/// What a deploy's build cost, and what a day costs with its release.
#[derive(Debug, Clone, PartialEq)]
pub struct DeployCost {
    pub currency: Currency,
    /// Its time and, at the price of now, without what is included.
    pub build: Option<(Duration, Money)>,
    pub day: Option<DayRate>,
    /// Of what serves, where that is another.
    pub serving: Option<DayRate>,
}

impl Commands {
    /// What the actor's customer used this month; a second old at most.
    pub async fn spent(&self, actor: &Actor) -> Result<Spent, CommandError> {
        timely(async {
            let books = self.books(actor.customer, Month::of(now()), now()).await?;
            Ok(Spent { currency: books.currency, month: books.month, amount: books.cuts.total.shown() })
        })
        .await
    }

    /// What each app of the actor's customer comes to this month; those that cost nothing are absent.
    pub(crate) async fn costs(&self, actor: &Actor) -> Result<HashMap<AppName, Cost>, CommandError> {
        timely(async {
            let books = self.books(actor.customer, Month::of(now()), now()).await?;
            let mine = |(app, cost): (&AppId, &Cost)| {
                let named = books.names.get(app).filter(|named| named.deleted.is_none())?;
                Some((named.name.clone(), *cost))
            };
            Ok(books.cuts.apps.iter().filter_map(mine).collect())
        })
        .await
    }

    /// A month of the actor's customer; this one, if none is asked for.
    pub async fn bill(&self, actor: &Actor, month: Option<Month>) -> Result<BillView, CommandError> {
        timely(async {
            let now = now();
            let month = month.unwrap_or(Month::of(now));
            let books = self.books(actor.customer, month, now).await?;
            let mut months = store::bill::months(self.db.pool(), actor.customer).await?;
            if !months.contains(&Month::of(now)) {
                months.insert(0, Month::of(now));
            }
            Ok(books.view(months, now))
        })
        .await
    }

    /// What an app of the actor's customer costs: this month, a day, and with each of its latest releases.
    pub async fn app_cost(&self, actor: &Actor, name: &AppName) -> Result<AppCostView, CommandError> {
        timely(async {
            let app = store::app::get(self.db.pool(), actor.customer, name).await?;
            self.cost_of(actor, &app.ok_or_else(|| CommandError::NoApp { name: name.clone() })?).await
        })
        .await
    }

    /// Of an app whose owner was checked.
    pub(crate) async fn cost_of(&self, actor: &Actor, app: &store::app::App) -> Result<AppCostView, CommandError> {
        timely(async {
            let now = now();
            let books = self.books(actor.customer, Month::of(now), now).await?;
            let releases = self.rates(actor.customer, app, now).await?;
            let day = releases.iter().find(|rate| Some(rate.number) == app.release_number.map(|n| n.0)).copied();
            let cost = |meter: &Meter| Some((*meter, *books.cuts.lines.get(&(app.id, *meter))?));
            let total = books.cuts.apps.get(&app.id).copied().unwrap_or_default();
            let running = app.state == domain::AppState::Running;
            let forecast = day.filter(|_| running).and_then(|day| {
                let left = i128::from(books.month.to().since(now).as_secs());
                let more = i64::try_from(i128::from(day.amount.micros()) * left / 86_400).ok()?;
                Money::from_cents(total.exact.plus(Money::from_micros(more))?.cents())
            });
            Ok(AppCostView {
                month: books.month,
                currency: books.currency,
                until: books.until,
                app: AppRef { name: app.name.clone(), deleted: None, key: app.name.to_string() },
                total,
                meters: Meter::ALL.iter().filter_map(cost).collect(),
                forecast,
                day,
                releases,
            })
        })
        .await
    }

    /// What a deploy's build cost and what its release costs.
    pub(crate) async fn deploy_cost(
        &self,
        actor: &Actor,
        name: &AppName,
        deploy: &DeployRow,
    ) -> Result<DeployCost, CommandError> {
        let now = now();
        let app = store::app::get(self.db.pool(), actor.customer, name).await?;
        let app = app.ok_or_else(|| CommandError::NoApp { name: name.clone() })?;
        let books = self.books(actor.customer, Month::of(now), now).await?;
        let rates = self.rates(actor.customer, &app, now).await?;
        let rate = |number: i64| rates.iter().find(|rate| rate.number == number).copied();
        let build = deploy.steps.iter().find(|step| step.step == domain::Step::Build);
        let took = build.and_then(|step| Some(step.ended?.since(step.started)));
        let segment = books.segments.iter().find(|segment| segment.holds(now));
        let build = took.zip(segment).and_then(|(took, segment)| {
            let units = u64::try_from(took.as_micros()).ok()?;
            Some((took, plan::owed(segment, Meter::Builds, units)?))
        });
        let serving = app.release_number.filter(|serving| serving.0 != deploy.number);
        Ok(DeployCost {
            currency: books.currency,
            build,
            day: rate(deploy.number),
            serving: serving.and_then(|serving| rate(serving.0)),
        })
    }

    /// What a day of an app costs with the release that a deploy made; `None` before it is there.
    pub async fn release_cost(
        &self,
        actor: &Actor,
        name: &AppName,
        number: i64,
    ) -> Result<Option<(Currency, DayRate)>, CommandError> {
        timely(async {
            let app = store::app::get(self.db.pool(), actor.customer, name).await?;
            let app = app.ok_or_else(|| CommandError::NoApp { name: name.clone() })?;
            let rates = self.rates(actor.customer, &app, now()).await?;
            let currency = store::bill::currency(self.db.pool(), actor.customer).await?.unwrap_or_default();
            let currency = currency.parse().map_err(CommandError::internal)?;
            Ok(rates.into_iter().find(|rate| rate.number == number).map(|rate| (currency, rate)))
        })
        .await
    }
}

pub(crate) fn now() -> Time {
    std::time::SystemTime::now().into()
}

/// What a page goes without rather than not being there.
pub(crate) fn known<T>(asked: Result<T, CommandError>) -> Option<T> {
    asked.inspect_err(|cause| tracing::warn!(error = %cause, "costs are not known just now")).ok()
}

impl Books {
    fn app_ref(&self, app: AppId) -> Option<AppRef> {
        let named = self.names.get(&app)?;
        let key = match named.deleted {
            Some(_) => format!("{}~{}", named.name, named.nth),
            None => named.name.to_string(),
        };
        Some(AppRef { name: named.name.clone(), deleted: named.deleted, key })
    }

    /// An app by its key.
    fn app(&self, key: &str) -> Option<AppId> {
        self.names.keys().copied().find(|id| self.app_ref(*id).is_some_and(|app| app.key == key))
    }

    /// The most first.
    fn app_costs(&self, costs: impl IntoIterator<Item = (AppId, Cost)>) -> Vec<AppCost> {
        let cost = |(app, cost)| Some(AppCost { app: self.app_ref(app)?, cost });
        let mut costs: Vec<AppCost> = costs.into_iter().filter_map(cost).collect();
        costs.sort_by(|a, b| (b.cost.exact, &a.app.key).cmp(&(a.cost.exact, &b.app.key)));
        costs
    }

    fn view(&self, months: Vec<Month>, now: Time) -> BillView {
        let running = self.month.holds(now);
        let last = match running {
            true => self.month.day_of(now),
            false => self.month.days(),
        };
        let mut so_far = Money::ZERO;
        let days = (1..=last).filter(|_| !self.cuts.days.is_empty()).map(|day| {
            let cost = self.cuts.days.get(&day).copied().unwrap_or_default();
            so_far = so_far.plus(cost.amount).unwrap_or(so_far);
            DayCost { day, cost, so_far }
        });
        let forecast = plan::cost::forecast(self.month, &self.past, self.first, now).and_then(|of| {
            let total = Money::from_cents(self.cuts.total.exact.plus(of.more)?.cents())?;
            let total = total.max(self.cuts.total.amount);
            Some(ForecastView { total, hours: of.hours, past: of.past, left: of.left, more: of.more })
        });
        let prices = |meter: Meter| {
            let lines = self.bill.lines.iter().filter(|line| line.meter == meter);
            let mut prices: Vec<u64> = Vec::new();
            for line in lines {
                let price = line.segment.prices.get(&meter).cloned().unwrap_or_default();
                let tiers = plan::cost::tiers(meter, &price, line.segment.share, line.used).unwrap_or_default();
                for tier in tiers.iter().filter(|tier| !tier.included) {
                    if !prices.contains(&tier.micros) {
                        prices.push(tier.micros);
                    }
                }
            }
            prices
        };
        let meters = self.cuts.meters.iter().map(|(m, cost)| MeterCost { meter: *m, cost: *cost, prices: prices(*m) });
        let mut meters: Vec<MeterCost> = meters.collect();
        meters.sort_by_key(|of| (std::cmp::Reverse(of.cost.exact), of.meter));
        BillView {
            month: self.month,
            running,
            currency: self.currency,
            until: self.until,
            total: self.cuts.total,
            apps: self.app_costs(self.cuts.apps.iter().map(|(app, cost)| (*app, *cost))),
            meters,
            days: days.collect(),
            forecast,
            months,
        }
    }
}
