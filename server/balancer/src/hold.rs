//! A request that finds no instance waits for one that is on its way (CONTROL "Cold start"): not for
//! long, and not many of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use domain::AppId;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until};

use crate::table::{App, Outlook};
use crate::{Shared, ms};

/// An instance that refused a connection is tried again after a while, which nobody announces.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A place among those that wait, and until when.
pub struct Held {
    shared: Arc<Shared>,
    of_app: Arc<AtomicU32>,
    until: Instant,
}

impl Held {
    /// `None`: enough of them wait already.
    fn begin(shared: &Arc<Shared>, app: &App) -> Option<Self> {
        let limits = &shared.config.limits;
        let enter =
            |count: &AtomicU32, max: u32| count.fetch_update(Relaxed, Relaxed, |n| (n < max).then_some(n + 1)).is_ok();
        if !enter(&app.waiting, limits.held_each_max) {
            return None;
        }
        if !enter(&shared.waiting, limits.held_max) {
            app.waiting.fetch_sub(1, Relaxed);
            return None;
        }
        let until = Instant::now() + ms(shared.config.timeouts.hold_ms);
        Some(Self { shared: Arc::clone(shared), of_app: Arc::clone(&app.waiting), until })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.of_app.fetch_sub(1, Relaxed);
        self.shared.waiting.fetch_sub(1, Relaxed);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// There is an instance to try.
    Again,
    InVain,
    /// The client left.
    Alone,
}

/// Waits for an instance of `app`; a request that waits once more keeps its place and its time in `held`.
pub async fn wait(shared: &Arc<Shared>, app: AppId, held: &mut Option<Held>, client: &TcpStream) -> Waited {
    // Subscribed, then looked: no table falls between.
    let mut tables = shared.tables.subscribe();
    let gone = left(client);
    tokio::pin!(gone);
    loop {
        tables.borrow_and_update();
        let until = {
            let table = shared.table.load();
            let Some(app) = table.app(app) else { return Waited::InVain };
            match app.outlook(shared.now_ms()) {
                Outlook::Now => return Waited::Again,
                Outlook::Never => return Waited::InVain,
                Outlook::Later => {}
            }
            if held.is_none() {
                *held = Held::begin(shared, app);
            }
            match held {
                Some(held) => held.until,
                None => return Waited::InVain,
            }
        };
        tokio::select! {
            changed = tables.changed() => if changed.is_err() { return Waited::InVain },
            () = sleep(LOOK_EVERY) => {}
            () = sleep_until(until) => return Waited::InVain,
            () = &mut gone => return Waited::Alone,
        }
    }
}

/// The client's end. What it sends meanwhile stays where it is, and then its end is not seen.
async fn left(client: &TcpStream) {
    if let Ok(1..) = client.peek(&mut [0]).await {
        std::future::pending::<()>().await;
    }
}
