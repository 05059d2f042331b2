//! The arithmetic behind one figure: its prices, its days or hours, and the readings that it is made from.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use domain::{AppId, Currency, Life, Meter, Money, Month, PricePlanId, Time};
use futures_util::Stream;
use plan::cost::{Cost, TierLine};
use plan::{Line, Use, share_out};
use store::bill::Place;

use super::books::{Books, too_much};
use super::since::{add, line_of, share, to_the_cent};
use super::{AppCost, AppRef, DayCost, now};
use crate::{Actor, CommandError, Commands, timely};

/// Readings a page shows.
const READINGS: i64 = 100;
/// Before its month, hours may begin.
const SINCE_MAX: Duration = Duration::from_secs(31 * 86_400);
/// More are shown as days.
const HOURS: Duration = Duration::from_secs(48 * 3600);
/// Of a file, at once.
const READINGS_AT_ONCE: i64 = 2_000;

/// Of which figure: of a month, a day of it or the hours up to its end, of an app or all, of a meter or all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WhyAsked {
    pub month: Option<Month>,
    /// By its key ([`AppRef`]).
    pub app: Option<String>,
    pub meter: Option<Meter>,
    /// From 1.
    pub day: Option<u8>,
    /// Of an app only, and not of a day: the hours from this one to the end of the month; it may lie in one before.
    pub since: Option<Time>,
    /// Where the readings go on.
    pub after: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct WhyView {
    pub month: Month,
    pub running: bool,
    pub currency: Currency,
    pub until: Time,
    pub app: Option<AppRef>,
    pub meter: Option<Meter>,
    pub day: Option<u8>,
    pub since: Option<Time>,
    /// `amount` is in cents: where it is a share of cents, they are that share.
    pub cost: Cost,
    /// Of the meter: each price that it had in the month, with its arithmetic.
    pub segments: Vec<WhySegment>,
    pub meters: Vec<(Meter, Cost)>,
    pub apps: Vec<AppCost>,
    pub days: Vec<DayCost>,
    /// Whole days, where there would be too many of them: see [`WhyView::by_days`].
    pub hours: Vec<HourCost>,
    /// The oldest first; of a meter only.
    pub readings: Vec<ReadingView>,
    /// Derived of what runs now: its reading comes at the full hour.
    pub computed: u64,
    pub next: Option<String>,
}

/// The part of a month that one version of the prices holds in.
#[derive(Debug, Clone, PartialEq)]
pub struct WhySegment {
    /// Counts from 1 in the history of prices.
    pub list: usize,
    pub since: Time,
    pub from: Time,
    pub to: Time,
    /// It is not the whole month: bounds and what is included are as much less.
    pub cut: bool,
    /// What all apps used, and what that costs.
    pub all: Cost,
    pub tiers: Vec<TierLine>,
    /// The asked app's share.
    pub mine: Cost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HourCost {
    pub hour: Time,
    pub cost: Cost,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ReadingView {
    pub app: AppRef,
    pub hour: Time,
    pub at: Time,
    pub life: Life,
    pub before: i64,
    pub value: i64,
    /// The difference.
    pub used: u64,
}

/// Of an asked figure, found.
struct Of {
    books: Arc<Books>,
    app: Option<AppId>,
    from: Time,
    to: Time,
}

impl Commands {
    pub async fn why(&self, actor: &Actor, asked: &WhyAsked) -> Result<WhyView, CommandError> {
        timely(async {
            let now = now();
            let of = self.figure(actor, asked, now).await?;
            let books = &of.books;
            let mut view = WhyView {
                month: books.month,
                running: books.month.holds(now),
                currency: books.currency,
                until: books.until,
                app: of.app.and_then(|app| books.app_ref(app)),
                meter: asked.meter,
                day: asked.day,
                since: asked.since,
                cost: Cost::default(),
                segments: Vec::new(),
                meters: Vec::new(),
                apps: Vec::new(),
                days: Vec::new(),
                hours: Vec::new(),
                readings: Vec::new(),
                computed: 0,
                next: None,
            };
            match (of.app, asked.day) {
                (Some(app), None) if asked.since.is_some() => {
                    self.since(actor, &of, app, asked.meter, now, &mut view).await?;
                }
                (Some(app), day) => {
                    let month = books.month;
                    let uses = self.uses(actor, &of, asked.meter, month.from(), month.to()).await?;
                    let priced = books.app_uses(app, &uses);
                    view.of_app(books, app, asked.meter, day, &priced);
                }
                (None, None) => view.of_month(books, asked.meter),
                (None, Some(day)) => {
                    let uses = self.uses(actor, &of, asked.meter, of.from, of.to).await?;
                    view.of_day(books, asked.meter, day, &books.day_uses(day, &uses));
                }
            }
            if let Some(meter) = asked.meter {
                if asked.since.is_none() {
                    view.segments = books.why_segments(of.app, meter)?;
                }
                self.add_readings(actor, &of, meter, asked.after.as_deref(), &mut view).await?;
            }
            Ok(view)
        })
        .await
    }

    /// All readings behind a figure, as lines of a file; `None` of what has no meter.
    pub async fn why_file(
        &self,
        actor: &Actor,
        asked: &WhyAsked,
    ) -> Result<Option<impl Stream<Item = Result<String, CommandError>> + Send + 'static + use<>>, CommandError> {
        let Some(meter) = asked.meter else { return Ok(None) };
        let of = timely(self.figure(actor, asked, now())).await?;
        let (commands, actor) = (self.clone(), actor.clone());
        let head = "app,hour,life,read,value_before,value,used,price,for_each\n".to_owned();
        enum Next {
            Head,
            After(Option<Place>),
            End,
        }
        let lines = futures_util::stream::try_unfold((Next::Head, of), move |(next, of)| {
            let (commands, actor, head) = (commands.clone(), actor.clone(), head.clone());
            async move {
                let after = match next {
                    Next::Head => return Ok(Some((head, (Next::After(None), of)))),
                    Next::End => return Ok(None),
                    Next::After(after) => after,
                };
                let read = commands.readings(&actor, &of, meter, after.as_ref(), READINGS_AT_ONCE);
                let (rows, place) = timely(read).await?;
                let mut text: String = rows.iter().map(|row| of.books.line(meter, row)).collect();
                let next = match place {
                    Some(place) => Next::After(Some(place)),
                    None => {
                        text.push_str(&of.books.computed_lines(meter, of.app, of.from, of.to));
                        Next::End
                    }
                };
                Ok(Some((text, (next, of))))
            }
        });
        Ok(Some(lines))
    }

    async fn figure(&self, actor: &Actor, asked: &WhyAsked, now: Time) -> Result<Of, CommandError> {
        let missing = || CommandError::NotFound { what: "figure" };
        let month = asked.month.unwrap_or(Month::of(now));
        let mut books = self.books(actor.customer, month, now).await?;
        let app = match &asked.app {
            Some(key) => {
                if books.app(key).is_none() {
                    // It may be younger than what is kept.
                    books = self.books_anew(actor.customer, month, now).await?;
                }
                Some(books.app(key).ok_or(CommandError::NotFound { what: "app" })?)
            }
            None => None,
        };
        let (from, to) = match (asked.day, asked.since) {
            (Some(day), None) if (1..=month.days()).contains(&day) => (month.day(day), month.day(day + 1)),
            (None, Some(since)) => {
                let range = month.from().minus(SINCE_MAX)..now.min(month.to());
                let is_one = app.is_some() && since == since.hour() && range.contains(&since);
                (is_one.then_some(since).ok_or_else(missing)?, month.to())
            }
            (None, None) => (month.from(), month.to()),
            _ => return Err(missing()),
        };
        Ok(Of { books, app, from, to })
    }

    /// By hours: what was posted and what is fresh.
    async fn uses(
        &self,
        actor: &Actor,
        of: &Of,
        meter: Option<Meter>,
        from: Time,
        to: Time,
    ) -> Result<BTreeMap<Use, u64>, CommandError> {
        let rows = store::bill::posted_hours(self.db.pool(), actor.customer, of.app, meter, from, to).await?;
        let mut uses: BTreeMap<Use, u64> = BTreeMap::new();
        for row in rows {
            let key = Use { hour: row.hour, app: row.app_id, meter: row.meter };
            uses.insert(key, u64::try_from(row.units).unwrap_or(0));
        }
        for (key, units) in of.books.fresh(of.app, meter, from, to) {
            let sum = uses.entry(key).or_default();
            *sum = sum.saturating_add(units);
        }
        Ok(uses)
    }

    /// An app's hours, month by month: each month's own arithmetic, of what was used in these hours.
    async fn since(
        &self,
        actor: &Actor,
        of: &Of,
        app: AppId,
        meter: Option<Meter>,
        now: Time,
        view: &mut WhyView,
    ) -> Result<(), CommandError> {
        let (mut meters, mut hours) = (BTreeMap::new(), BTreeMap::<Time, Cost>::new());
        for part in self.parts(actor.customer, of.from, now.min(of.to), now).await? {
            let (from, to, books) = (part.from, part.to, part.books);
            let month = Of { books: books.clone(), app: Some(app), from, to };
            let uses = self.uses(actor, &month, meter, from, to).await?;
            for (line, mine) in books.bill.lines.iter().filter_map(|line| Some((line, line_of(line, app)?))) {
                let theirs = uses.iter().filter(|(of, _)| of.meter == line.meter && line.segment.holds(of.hour));
                let theirs: Vec<(Use, u64)> = theirs.map(|(of, units)| (*of, *units)).collect();
                let mine = share(mine, theirs.iter().map(|(_, units)| units).fold(0, |sum, n| sum.saturating_add(*n)));
                if mine.units == 0 {
                    continue;
                }
                add(&mut meters, line.meter, mine);
                for (of, cost) in spread(mine.exact, &theirs) {
                    let at = if view.by_days() { of.hour.midnight() } else { of.hour };
                    let sum = hours.entry(at).or_default();
                    sum.units = sum.units.saturating_add(cost.units);
                    sum.exact = sum.exact.plus(cost.exact).unwrap_or(sum.exact);
                    sum.amount = sum.exact;
                }
                if meter.is_some() {
                    view.segments.push(books.why_segment(line, mine)?);
                }
            }
        }
        view.cost = of_several(to_the_cent(&mut meters), meter);
        if let Some(only) = meter.and_then(|meter| meters.get(&meter)) {
            view.cost = *only;
        } else if meter.is_none() {
            view.meters = meters.into_iter().collect();
        }
        let hour = |(hour, cost): (Time, Cost)| HourCost { hour, cost: of_several(cost, meter) };
        view.hours = hours.into_iter().map(hour).collect();
        Ok(())
    }

    async fn readings(
        &self,
        actor: &Actor,
        of: &Of,
        meter: Meter,
        after: Option<&Place>,
        limit: i64,
    ) -> Result<(Vec<ReadingView>, Option<Place>), CommandError> {
        let from = of.from.max(of.books.begun);
        let (customer, db) = (actor.customer, self.db.pool());
        let rows = store::bill::readings(db, customer, of.app, meter, from, of.to, after, limit + 1).await?;
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = rows.len() > most;
        let place = rows.get(most.saturating_sub(1)).filter(|_| more);
        let place = place.map(|row| Place { hour: row.hour, app: row.app_id, life: row.life.as_str().to_owned() });
        let view = |row: store::bill::Behind| {
            Some(ReadingView {
                app: of.books.app_ref(row.app_id)?,
                hour: row.hour,
                at: row.at,
                life: row.life,
                before: row.before,
                value: row.value,
                used: u64::try_from(row.value - row.before).unwrap_or(0),
            })
        };
        Ok((rows.into_iter().take(most).filter_map(view).collect(), place))
    }

    async fn add_readings(
        &self,
        actor: &Actor,
        of: &Of,
        meter: Meter,
        after: Option<&str>,
        view: &mut WhyView,
    ) -> Result<(), CommandError> {
        let place = match after {
            Some(text) => Some(place(text).ok_or(CommandError::NotFound { what: "reading" })?),
            None => None,
        };
        let (readings, next) = self.readings(actor, of, meter, place.as_ref(), READINGS).await?;
        view.readings = readings;
        view.next = next.map(|place| format!("{}.{}.{}", place.hour.unix_micros(), place.app, place.life));
        let computed = of.books.computed(meter, of.app, of.from, of.to);
        view.computed = computed.map(|(_, units)| units).fold(0, u64::saturating_add);
        Ok(())
    }
}

/// "1793…000.17.b1/7"
fn place(text: &str) -> Option<Place> {
    let (hour, rest) = text.split_once('.')?;
    let (app, life) = rest.split_once('.')?;
    let life: Life = life.parse().ok()?;
    let hour = Time::from_unix_micros(hour.parse().ok()?);
    Some(Place { hour, app: app.parse().ok()?, life: life.as_str().to_owned() })
}

/// Costs of hours: an exact amount shared out by what was used.
type Priced = BTreeMap<Use, Cost>;

fn spread(exact: Money, uses: &[(Use, u64)]) -> Vec<(Use, Cost)> {
    let weights: Vec<u64> = uses.iter().map(|(_, units)| *units).collect();
    let parts = share_out(exact.micros(), &weights);
    let cost = |((of, units), micros): (&(Use, u64), i64)| {
        let exact = Money::from_micros(micros);
        (*of, Cost { units: *units, exact, amount: exact })
    };
    uses.iter().zip(parts).map(cost).collect()
}

fn sum<'a, K: Ord + Copy>(priced: impl Iterator<Item = (K, &'a Cost)>) -> BTreeMap<K, Cost> {
    let mut sums: BTreeMap<K, Cost> = BTreeMap::new();
    for (key, cost) in priced {
        let sum = sums.entry(key).or_default();
        sum.units = sum.units.saturating_add(cost.units);
        sum.exact = sum.exact.plus(cost.exact).unwrap_or(sum.exact);
        sum.amount = sum.exact;
    }
    sums
}

/// Quantities of several meters do not add up.
fn of_several(cost: Cost, meter: Option<Meter>) -> Cost {
    if meter.is_some() { cost } else { Cost { units: 0, ..cost } }
}

impl Books {
    /// An app's lines, shared out to its hours.
    fn app_uses(&self, app: AppId, uses: &BTreeMap<Use, u64>) -> Priced {
        let mut priced = Priced::new();
        for line in &self.bill.lines {
            let Some(mine) = line.apps.iter().find(|mine| mine.app == app) else { continue };
            let theirs = uses.iter().filter(|(of, _)| of.meter == line.meter && line.segment.holds(of.hour));
            let theirs: Vec<(Use, u64)> = theirs.map(|(of, units)| (*of, *units)).collect();
            if !theirs.is_empty() {
                priced.extend(spread(mine.owed, &theirs));
            }
        }
        priced
    }

    /// What a day cost, shared out to its hours and apps.
    fn day_uses(&self, day: u8, uses: &BTreeMap<Use, u64>) -> Priced {
        let mut priced = Priced::new();
        for ((_, meter), cost) in self.cuts.day_meters.iter().filter(|((of, _), _)| *of == day) {
            let theirs = uses.iter().filter(|(of, _)| of.meter == *meter);
            let theirs: Vec<(Use, u64)> = theirs.map(|(of, units)| (*of, *units)).collect();
            if !theirs.is_empty() {
                priced.extend(spread(cost.exact, &theirs));
            }
        }
        priced
    }

    fn why_segments(&self, app: Option<AppId>, meter: Meter) -> Result<Vec<WhySegment>, CommandError> {
        let mut segments = Vec::new();
        for line in self.bill.lines.iter().filter(|line| line.meter == meter) {
            let mine = match app {
                None => Cost { units: line.used, exact: line.owed, amount: cents(line.cents)? },
                Some(app) => match line_of(line, app) {
                    Some(mine) => Cost { units: mine.used, exact: mine.owed, amount: cents(mine.cents)? },
                    None => continue,
                },
            };
            segments.push(self.why_segment(line, mine)?);
        }
        Ok(segments)
    }

    fn why_segment(&self, line: &Line, mine: Cost) -> Result<WhySegment, CommandError> {
        let (segment, meter) = (&line.segment, line.meter);
        let all = Cost { units: line.used, exact: line.owed, amount: cents(line.cents)? };
        let price = segment.prices.get(&meter).cloned().unwrap_or_default();
        let tiers = plan::cost::tiers(meter, &price, segment.share, line.used).ok_or_else(too_much)?;
        let (list, since) = self.list(segment.plan);
        let cut = segment.from > self.month.from() || segment.to < self.month.to();
        Ok(WhySegment { list, since, from: segment.from, to: segment.to, cut, all, tiers, mine })
    }

    fn list(&self, plan: PricePlanId) -> (usize, Time) {
        let at = self.versions.iter().position(|version| version.id == plan).unwrap_or(0);
        (at + 1, self.versions.get(at).map_or(self.month.from(), |version| version.since))
    }

    /// By app: what is derived of the hour that is not over, for which there is no reading yet.
    fn computed(&self, meter: Meter, app: Option<AppId>, from: Time, to: Time) -> impl Iterator<Item = (Use, u64)> {
        let from = from.max(self.derived);
        self.fresh(app, Some(meter), from, to).filter(move |_| !meter.is_read())
    }

    /// A reading as a line of a file.
    fn line(&self, meter: Meter, row: &ReadingView) -> String {
        let (price, unit) = (self.price_at(meter, row.hour), meter.unit());
        let ReadingView { app, hour, at, life, before, value, used } = row;
        format!("{},{hour},{life},{at},{before},{value},{used},{price},{unit}\n", app.key)
    }

    fn computed_lines(&self, meter: Meter, app: Option<AppId>, from: Time, to: Time) -> String {
        let (unit, until) = (meter.unit(), self.until);
        let line = |(of, units): (Use, u64)| {
            let key = self.app_ref(of.app).map(|app| app.key).unwrap_or_default();
            format!("{key},{},computed,{until},,,{units},{},{unit}\n", of.hour, self.price_at(meter, of.hour))
        };
        self.computed(meter, app, from, to).map(line).collect()
    }

    /// Of one unit in an hour, as a decimal; "tiers" where it depends on the month's use.
    fn price_at(&self, meter: Meter, hour: Time) -> String {
        let before;
        let segments = if self.month.holds(hour) {
            &self.segments
        } else {
            before = plan::segments(Month::of(hour), &self.versions);
            &before
        };
        let segment = segments.iter().find(|segment| segment.holds(hour));
        let price = segment.and_then(|segment| segment.prices.get(&meter));
        match price.map(|price| (price.included, price.tiers.as_slice())) {
            None | Some((_, [])) => "0".to_owned(),
            Some((0, [only])) => domain::plain(&domain::decimal(u128::from(only.micros), 6, 1)),
            Some(_) => "tiers".to_owned(),
        }
    }
}

fn cents(cents: i64) -> Result<Money, CommandError> {
    Money::from_cents(cents).ok_or_else(too_much)
}

/// A total whose cents are its own.
fn rounded(cost: Cost) -> Cost {
    Cost { amount: Money::from_cents(cost.exact.cents()).unwrap_or(cost.exact), ..cost }
}

impl WhyView {
    /// Its hours are too many to be shown as such.
    pub fn by_days(&self) -> bool {
        self.since.is_some_and(|since| self.until.since(since) > HOURS)
    }

    fn of_month(&mut self, books: &Books, meter: Option<Meter>) {
        let cuts = &books.cuts;
        match meter {
            Some(meter) => {
                self.cost = cuts.meters.get(&meter).copied().unwrap_or_default();
                let of = |((app, of), cost): (&(AppId, Meter), &Cost)| (*of == meter).then_some((*app, *cost));
                self.apps = books.app_costs(cuts.lines.iter().filter_map(of));
                let of = |((day, of), cost): (&(u8, Meter), &Cost)| (*of == meter).then_some((*day, *cost));
                self.add_days(cuts.day_meters.iter().filter_map(of).map(|(day, c)| (day, exactly(c))).collect());
            }
            None => {
                self.cost = cuts.total;
                self.meters = cuts.meters.iter().map(|(meter, cost)| (*meter, *cost)).collect();
                self.apps = books.app_costs(cuts.apps.iter().map(|(app, cost)| (*app, *cost)));
                self.add_days(cuts.days.clone());
            }
        }
    }

    fn of_app(&mut self, books: &Books, app: AppId, meter: Option<Meter>, day: Option<u8>, priced: &Priced) {
        let month = books.month;
        let of_day = |of: &Use| day.is_none_or(|day| month.day_of(of.hour) == day);
        let mine: Vec<(&Use, &Cost)> = priced.iter().filter(|(of, _)| of_day(of)).collect();
        self.cost = match (day, meter) {
            (None, Some(meter)) => books.cuts.lines.get(&(app, meter)).copied().unwrap_or_default(),
            (None, None) => books.cuts.apps.get(&app).copied().unwrap_or_default(),
            (Some(_), _) => {
                let all = sum(mine.iter().map(|(_, cost)| ((), *cost))).remove(&()).unwrap_or_default();
                rounded(of_several(all, meter))
            }
        };
        if meter.is_none() {
            self.meters = match day {
                None => {
                    let of = |((of, meter), cost): (&(AppId, Meter), &Cost)| (*of == app).then_some((*meter, *cost));
                    books.cuts.lines.iter().filter_map(of).collect()
                }
                Some(_) => sum(mine.iter().map(|(of, cost)| (of.meter, *cost))).into_iter().collect(),
            };
        }
        let several = |cost: &Cost| of_several(*cost, meter);
        match day {
            None => {
                let days = sum(mine.iter().map(|(of, cost)| (month.day_of(of.hour), *cost)));
                self.add_days(days.iter().map(|(day, cost)| (*day, several(cost))).collect());
            }
            Some(_) => self.add_hours(&mine, meter),
        }
    }

    fn of_day(&mut self, books: &Books, meter: Option<Meter>, day: u8, priced: &Priced) {
        let all: Vec<(&Use, &Cost)> = priced.iter().collect();
        match meter {
            Some(meter) => {
                let cost = books.cuts.day_meters.get(&(day, meter)).copied().unwrap_or_default();
                self.cost = rounded(cost);
            }
            None => {
                self.cost = books.cuts.days.get(&day).copied().unwrap_or_default();
                self.meters = sum(all.iter().map(|(of, cost)| (of.meter, *cost))).into_iter().collect();
            }
        }
        let apps = sum(all.iter().map(|(of, cost)| (of.app, *cost)));
        self.apps = books.app_costs(apps.into_iter().map(|(app, cost)| (app, of_several(cost, meter))));
        self.add_hours(&all, meter);
    }

    fn add_hours(&mut self, uses: &[(&Use, &Cost)], meter: Option<Meter>) {
        let hours = sum(uses.iter().map(|(of, cost)| (of.hour, *cost)));
        self.hours = hours.into_iter().map(|(hour, cost)| HourCost { hour, cost: of_several(cost, meter) }).collect();
    }

    fn add_days(&mut self, days: BTreeMap<u8, Cost>) {
        let mut so_far = Money::ZERO;
        for (day, cost) in days {
            so_far = so_far.plus(cost.amount).unwrap_or(so_far);
            self.days.push(DayCost { day, cost, so_far });
        }
    }
}

fn exactly(cost: Cost) -> Cost {
    Cost { amount: cost.exact, ..cost }
}
