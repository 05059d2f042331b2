//! A live page's event stream: what changed, as HTML, and the lines as they come.
//!
//! Nothing is kept for a viewer but its place: states are read again when anything changed, lines
//! wait at the logs process. A slow viewer reads later, and costs no memory.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use app::AppsAsked;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use commands::{Actor, CommandError, Commands, Kind, LogLines, LogWhat, Range, Spark, UsageView};
use domain::wire::LogLine;
use domain::{AppName, LogFilter, UserId};
use futures_util::StreamExt;
use futures_util::stream::{self, ReadyChunks};
use http::StatusCode;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};
use tower_sessions::session::Id;

use crate::pages::apps::{look, printed};
use crate::problem::{Failed, Problem};
use crate::rate::{BEAT, Rate};
use crate::session::{self, SignedIn};
use crate::state::{Shared, now};

/// Between two looks at the database, however often it changes; the first change is looked at at once.
const LOOK_AGAIN: Duration = Duration::from_millis(300);
/// Says that the stream lives, and whether its viewer still may see it.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// After a log was lost, and after a deploy ended, for its last lines.
const LOG_AGAIN: Duration = Duration::from_secs(2);
const LINES_AT_ONCE: usize = 100;
/// Open streams of this process, and of one user: each holds a connection of the balancer's and
/// one or two of logs'.
const STREAMS_MAX: usize = 1_000;
const STREAMS_OF_USER_MAX: usize = 30;
/// A viewer whose place is unknown begins this far back.
const LINES_BEFORE: usize = 200;

/// Where a viewer stands: `LINES.DEPLOY.BUILD`, cursors of the app's log and of one deploy's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cursor {
    pub lines: u64,
    pub deploy: i64,
    pub build: u64,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.lines, self.deploy, self.build)
    }
}

impl FromStr for Cursor {
    type Err = ();
    fn from_str(s: &str) -> Result<Self, ()> {
        let mut parts = s.split('.');
        let mut part = || parts.next().ok_or(());
        let cursor = Self {
            lines: part()?.parse().map_err(|_| ())?,
            deploy: part()?.parse().map_err(|_| ())?,
            build: part()?.parse().map_err(|_| ())?,
        };
        if parts.next().is_some() { Err(()) } else { Ok(cursor) }
    }
}

/// Whose stream.
#[derive(Debug, Clone)]
pub enum Of {
    App(AppName),
    Deploy(AppName, i64),
    Deploys(AppName),
    Config(AppName),
    Logs(AppName, LogFilter),
    Usage(AppName),
    /// With the customer's name.
    Apps(AppsAsked, String),
}

impl Of {
    /// Whose log is followed.
    fn app(&self) -> Option<&AppName> {
        match self {
            Self::App(name)
            | Self::Deploy(name, _)
            | Self::Deploys(name)
            | Self::Config(name)
            | Self::Logs(name, _)
            | Self::Usage(name) => Some(name),
            Self::Apps(..) => None,
        }
    }
}

pub async fn stream(state: Shared, who: SignedIn, of: Of, after: Option<String>) -> Result<Response, Failed> {
    let Some(session) = who.session.id() else { return Ok(StatusCode::UNAUTHORIZED.into_response()) };
    let place = state.streams.take(who.actor.user).ok_or_else(|| Failed::Page(Problem::streams()))?;
    let mut viewer = Viewer {
        // Subscribe, then look: else what happens between the two is lost.
        changes: state.commands.changes(),
        signed_out: state.signed_out.subscribe(),
        state,
        actor: who.actor,
        session,
        of,
        cursor: after.and_then(|after| after.parse().ok()),
        sent: HashMap::new(),
        waiting: VecDeque::new(),
        lines: Log::none(),
        build: Log::none(),
        rate: Rate::default(),
        build_at: None,
        unsaid: false,
        looked: Instant::now(),
        usage: None,
        sparks: None,
        look_at: None,
        ends_at: None,
        over: false,
        heartbeat: heartbeat(),
        _place: place,
    };
    // Not yours and not there are the same, here too.
    viewer.look().await?;
    let events = stream::unfold(viewer, |mut viewer| async move {
        let event = viewer.next().await?;
        Some((Ok::<_, Infallible>(event), viewer))
    });
    Ok(Sse::new(events).into_response())
}

/// Its first tick is one of them away.
pub fn heartbeat() -> Interval {
    let mut heartbeat = interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    heartbeat.reset();
    heartbeat
}

/// What moves slower than anybody looks, and when it was read.
type Kept<T> = Option<(Instant, Arc<T>)>;

/// Reads it again once in a heartbeat, however often the rest changes.
async fn once<T>(
    kept: &mut Kept<T>,
    read: impl Future<Output = Result<T, CommandError>>,
) -> Result<Arc<T>, CommandError> {
    if let Some((at, held)) = kept
        && at.elapsed() < HEARTBEAT - Duration::from_secs(1)
    {
        return Ok(held.clone());
    }
    let held = Arc::new(read.await?);
    *kept = Some((Instant::now(), held.clone()));
    Ok(held)
}

/// How many streams are open, by user.
#[derive(Clone, Default)]
pub struct Streams {
    open: Arc<Mutex<HashMap<UserId, usize>>>,
}

/// A stream's place among them; free again when this is dropped.
pub struct Place {
    streams: Streams,
    user: UserId,
}

impl Streams {
    pub fn take(&self, user: UserId) -> Option<Place> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let theirs = open.get(&user).copied().unwrap_or(0);
        if theirs >= STREAMS_OF_USER_MAX || open.values().sum::<usize>() >= STREAMS_MAX {
            return None;
        }
        open.insert(user, theirs + 1);
        Some(Place { streams: self.clone(), user })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.streams.open.lock().unwrap_or_else(PoisonError::into_inner);
        match open.get_mut(&self.user) {
            Some(theirs) if *theirs > 1 => *theirs -= 1,
            _ => drop(open.remove(&self.user)),
        }
    }
}

/// One log being followed.
pub struct Log {
    what: Option<LogWhat>,
    open: Option<ReadyChunks<LogLines>>,
    /// It was lost: when to try again.
    again: Option<Instant>,
}

impl Log {
    fn none() -> Self {
        Self { what: None, open: None, again: None }
    }

    pub fn of(what: LogWhat) -> Self {
        Self { what: Some(what), open: None, again: Some(Instant::now()) }
    }

    /// From after the cursor `after`, or without it from `limit` lines back; one that is away is to be opened again.
    pub async fn open(
        &mut self,
        commands: &Commands,
        actor: &Actor,
        app: &AppName,
        after: Option<u64>,
        limit: usize,
    ) -> Result<(), CommandError> {
        let Some(what) = self.what else { return Ok(()) };
        let opened = commands.log(actor, app, what, after, limit, true).await;
        let opened = opened.inspect_err(|cause| {
            tracing::debug!(error = %cause, "a stream goes without its log for now");
            self.again = Some(Instant::now() + LOG_AGAIN);
        })?;
        (self.open, self.again) = (Some(opened.ready_chunks(LINES_AT_ONCE)), None);
        Ok(())
    }

    /// Cancel-safe: a chunk is taken whole or not at all. `None`: the log is to be opened.
    pub async fn next(&mut self) -> Option<Vec<LogLine>> {
        let Some(open) = &mut self.open else {
            match self.again {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
            return None;
        };
        let chunk = open.next().await.unwrap_or_default();
        let whole = chunk.len();
        let lines: Vec<LogLine> = chunk.into_iter().map_while(Result::ok).collect();
        if lines.is_empty() || lines.len() < whole {
            self.open = None;
            self.again = Some(Instant::now() + LOG_AGAIN);
        }
        Some(lines)
    }
}

struct Viewer {
    state: Shared,
    actor: Actor,
    session: Id,
    of: Of,
    cursor: Option<Cursor>,
    changes: watch::Receiver<u64>,
    signed_out: watch::Receiver<u64>,
    /// What each region was last sent as.
    sent: HashMap<&'static str, String>,
    waiting: VecDeque<Event>,
    lines: Log,
    build: Log,
    rate: Rate,
    /// Its next lines are taken then.
    build_at: Option<Instant>,
    /// The viewer's place moved on, and they were not told.
    unsaid: bool,
    looked: Instant,
    /// Of the last hour.
    usage: Kept<UsageView>,
    sparks: Kept<HashMap<AppName, Spark>>,
    look_at: Option<Instant>,
    /// The deploy is over: when its stream ends.
    ends_at: Option<Instant>,
    over: bool,
    heartbeat: Interval,
    _place: Place,
}

enum Woken {
    Beat,
    BuildGoesOn,
    Stop,
    Changed,
    Look,
    Ends,
    Heartbeat,
    SignedOut,
    Lines(Option<Vec<LogLine>>),
    Build(Option<Vec<LogLine>>),
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl Viewer {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            if self.over {
                return None;
            }
            let woken = tokio::select! {
                () = self.state.stop.cancelled() => Woken::Stop,
                Ok(()) = self.changes.changed(), if self.look_at.is_none() => Woken::Changed,
                () = at(self.look_at) => Woken::Look,
                () = at(self.rate.due()) => Woken::Beat,
                () = at(self.ends_at) => Woken::Ends,
                Ok(()) = self.signed_out.changed() => Woken::SignedOut,
                _ = self.heartbeat.tick() => Woken::Heartbeat,
                lines = self.lines.next() => Woken::Lines(lines),
                lines = self.build.next(), if self.build_at.is_none() => Woken::Build(lines),
                () = at(self.build_at) => Woken::BuildGoesOn,
            };
            match woken {
                Woken::Stop => return None,
                Woken::Changed => self.look_at = Some(Instant::now().max(self.looked + LOOK_AGAIN)),
                Woken::Beat => {
                    let (left_out, lines) = self.rate.flush(Instant::now());
                    self.send_lines(left_out, &lines);
                }
                Woken::Look => {
                    (self.look_at, self.looked) = (None, Instant::now());
                    match self.look().await {
                        Ok(()) => {}
                        // Deleted, or no longer theirs.
                        Err(cause) if cause.kind() == Kind::NotFound => return None,
                        Err(cause) => tracing::debug!(error = %cause, "a stream could not look"),
                    }
                }
                Woken::Ends => {
                    self.waiting.push_back(Event::default().event("end").data("over"));
                    self.over = true;
                }
                Woken::SignedOut | Woken::Heartbeat => {
                    if !session::still(&self.state, self.session, self.actor.user).await {
                        return None;
                    }
                    if std::mem::take(&mut self.unsaid) {
                        self.send("lines 0\n".to_owned());
                    }
                    if matches!(woken, Woken::Heartbeat) {
                        // A sample is of as long as a heartbeat.
                        if matches!(self.of, Of::App(_) | Of::Usage(_)) {
                            self.look_at = Some(Instant::now());
                        }
                        return Some(Event::default().comment(""));
                    }
                }
                Woken::Lines(None) => self.open_lines().await,
                Woken::BuildGoesOn => self.build_at = None,
                Woken::Build(None) => self.open_build().await,
                Woken::Lines(Some(lines)) => self.take_lines(lines),
                Woken::Build(Some(lines)) => self.send_build(lines),
            }
        }
    }

    fn place(&mut self) -> &mut Cursor {
        self.cursor.get_or_insert_default()
    }

    /// Reads the states again, and sends what looks otherwise than before.
    async fn look(&mut self) -> Result<(), CommandError> {
        let hour = |name| self.state.commands.usage(&self.actor, name, Range::Hour);
        let mut regions = match &self.of {
            Of::App(name) => {
                let usage = once(&mut self.usage, hour(name)).await?;
                let (app, newest) = look(&self.state, &self.actor, name).await?;
                if self.lines.what.is_none() {
                    self.lines = Log::of(LogWhat::App);
                }
                let open = newest.as_ref().filter(|deploy| !deploy.row.state.is_final());
                if let Some(number) = open.map(|deploy| deploy.row.number) {
                    self.follow(number);
                }
                app::of_app(&app, newest.as_ref(), Some(&usage), now())
            }
            Of::Apps(asked, customer) => {
                let commands = &self.state.commands;
                let sparks = once(&mut self.sparks, commands.sparks(&self.actor)).await?;
                let apps = commands.apps_with_cost(&self.actor).await?;
                // As the page has it, which is drawn with what its head shows.
                let spent = commands.spent(&self.actor).await.ok();
                app::of_apps(&apps, &sparks, customer, spent, asked, now()).into()
            }
            Of::Deploys(name) => {
                let commands = &self.state.commands;
                let (app, rows) = tokio::try_join!(
                    commands.app_with_cost(&self.actor, name),
                    commands.deploys(&self.actor, name, None)
                )?;
                let mut regions = app::of_head(&app);
                regions.push(app::all_deploys(&app, &rows, now()));
                regions
            }
            Of::Config(name) => {
                let commands = &self.state.commands;
                let (app, config) =
                    tokio::try_join!(commands.app(&self.actor, name), commands.config(&self.actor, name))?;
                let mut regions = app::of_head(&app);
                regions.push(app::config_notice(&config));
                regions
            }
            Of::Logs(name, _) => {
                let app = self.state.commands.app(&self.actor, name).await?;
                if self.lines.what.is_none() {
                    self.lines = Log::of(LogWhat::App);
                }
                app::of_head(&app)
            }
            Of::Usage(name) => {
                let usage = once(&mut self.usage, hour(name)).await?;
                let app = self.state.commands.app(&self.actor, name).await?;
                let cost = self.state.commands.cost_in(&self.actor, name, Range::Hour).await;
                let mut regions = app::of_head(&app);
                regions.push(app::usage_region(&app, &usage, cost.as_ref()));
                regions
            }
            Of::Deploy(name, number) => {
                let commands = &self.state.commands;
                let (app, deploy) = tokio::try_join!(
                    commands.app_with_cost(&self.actor, name),
                    commands.deploy_page(&self.actor, name, *number)
                )?;
                let number = *number;
                let printed = printed(&self.state, &self.actor, name, &deploy).await;
                self.follow(number);
                // Other apps go on changing: that does not put its end off.
                let ends_at = self.ends_at.unwrap_or_else(|| Instant::now() + LOG_AGAIN);
                self.ends_at = (!app::moves(&deploy)).then_some(ends_at);
                app::of_deploy(&app, &deploy, printed.as_ref(), now())
            }
        };
        // What the month comes to, in the head of pages that read what it is made from.
        if !matches!(self.of, Of::Config(_) | Of::Logs(..)) {
            regions.extend(self.state.commands.spent(&self.actor).await.ok().map(app::spend));
        }
        for region in regions {
            let hash = region.hash();
            if self.sent.get(region.name) != Some(&hash) {
                let data = format!("{} {hash}\n{}", region.name, region.html);
                self.waiting.push_back(Event::default().event("region").data(data));
                self.sent.insert(region.name, hash);
            }
        }
        Ok(())
    }

    /// Follows the log of deploy `number`, from the viewer's place in it or from its beginning.
    fn follow(&mut self, number: i64) {
        if self.build.what == Some(LogWhat::Deploy(number)) {
            return;
        }
        self.build = Log::of(LogWhat::Deploy(number));
        let place = self.place();
        if place.deploy != number {
            (place.deploy, place.build) = (number, 0);
        }
    }

    async fn open_lines(&mut self) {
        let Some(app) = self.of.app() else { return };
        let after = self.cursor.map(|cursor| cursor.lines);
        // It is tried again.
        let _ = self.lines.open(&self.state.commands, &self.actor, app, after, LINES_BEFORE).await;
    }

    async fn open_build(&mut self) {
        let after = Some(self.place().build);
        let Some(app) = self.of.app() else { return };
        let _ = self.build.open(&self.state.commands, &self.actor, app, after, LINES_BEFORE).await;
    }

    /// Those that are wanted, as many as may go.
    fn take_lines(&mut self, mut lines: Vec<LogLine>) {
        let Some(last) = lines.last().map(|line| line.cursor) else { return };
        if let Of::Logs(_, filter) = &self.of {
            lines.retain(|line| filter.matches(line.at, &line.source, &line.text));
        }
        if lines.is_empty() && self.rate.due().is_none() {
            self.place().lines = last;
            self.unsaid = true;
            return;
        }
        let lines = self.rate.take(lines, Instant::now());
        self.send_lines(0, &lines);
    }

    fn send_lines(&mut self, left_out: usize, lines: &[LogLine]) {
        let Some(last) = lines.last() else { return };
        self.place().lines = last.cursor;
        self.unsaid = false;
        let mut data = "lines 0\n".to_owned();
        if left_out > 0 {
            let text =
                format!("{left_out} lines are not shown here, since more came than can be read; the log has them");
            let (cursor, at) = lines.first().map_or((0, last.at), |first| (first.cursor, first.at));
            data.push_str(&app::rows(&[LogLine { cursor, at, source: "berth".to_owned(), text }]));
        }
        data.push_str(&app::rows(lines));
        self.send(data);
    }

    fn send_build(&mut self, lines: Vec<LogLine>) {
        let Some(last) = lines.last() else { return };
        self.place().build = last.cursor;
        // A full chunk: more is there already.
        if lines.len() >= LINES_AT_ONCE {
            self.build_at = Some(Instant::now() + BEAT / 4);
        }
        let data = format!("build {}\n{}", self.place().deploy, app::rows(&lines));
        // More may come: the end waits for a quiet moment.
        if self.ends_at.is_some() {
            self.ends_at = Some(Instant::now() + LOG_AGAIN);
        }
        self.send(data);
    }

    fn send(&mut self, data: String) {
        let id = self.place().to_string();
        self.waiting.push_back(Event::default().event("lines").id(id).data(data));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_does_not_take_all_streams() {
        let streams = Streams::default();
        let mut held: Vec<_> = (0..STREAMS_OF_USER_MAX).map(|_| streams.take(UserId(1))).collect();
        assert!(held.iter().all(Option::is_some));
        assert!(streams.take(UserId(1)).is_none() && streams.take(UserId(2)).is_some());
        held.pop();
        assert!(streams.take(UserId(1)).is_some());
        drop(held);
        assert!(streams.open.lock().unwrap().is_empty());
    }

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_nothing_else() {
        let cursor = Cursor { lines: 118, deploy: 3, build: 40 };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for bad in ["", "1", "1.2", "1.2.3.4", "a.b.c", "-1.0.0", "1..2"] {
            assert_eq!(bad.parse::<Cursor>(), Err(()), "{bad}");
        }
    }
}
