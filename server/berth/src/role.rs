//! A role's own process, from its first instruction to its end.

use std::error::Error;
use std::fs::File;
use std::io::Read;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::time::Duration;

use commands::{CommandError, Commands};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::error;
use tracing_subscriber::EnvFilter;

use crate::child::{ALIVE, FIRST, Handed, Log, SETTINGS, TALK, Word};
use crate::wiring::{Control, Migrate};
use crate::{embedded, outside};

/// After the supervisor's end a role may finish what it has, but not for long.
const ORPHAN_TIMEOUT: Duration = Duration::from_secs(5);

/// Made at the first start, without a password: signs in by the link that is printed once, or by a later
/// `berth user link`.
const FIRST_OPERATOR: &str = "operator@localhost";

type Boxed = Box<dyn Error + Send + Sync>;

/// What a role hears of its supervisor, and tells it.
#[derive(Clone)]
struct Life {
    /// End now, in order.
    stop: CancellationToken,
    /// Another serves: take nothing new, finish what is open, end.
    finish: CancellationToken,
    /// End the server's apps, and then end.
    end_apps: CancellationToken,
    /// `stop` or `finish`, for whoever has nothing of its own to do before its end.
    ending: CancellationToken,
    said: watch::Sender<Option<Word>>,
}

impl Life {
    fn new(stop: CancellationToken) -> Self {
        let [finish, end_apps] = [(); 2].map(|()| CancellationToken::new());
        let ending = stop.child_token();
        Self { stop, finish, end_apps, ending, said: watch::Sender::new(None) }
    }

    /// What it serves is served.
    fn ready(&self) {
        self.said.send_replace(Some(Word::Ready));
    }
}

/// Carries words both ways, until the supervisor is gone.
async fn talk(mut with: UnixStream, life: Life, go: CancellationToken) {
    let mut saying = life.said.subscribe();
    // What was said before this began is said too.
    saying.mark_changed();
    let mut byte = [0];
    loop {
        tokio::select! {
            read = with.read(&mut byte) => match (read, Word::of(byte[0])) {
                // It may have been replaced by itself, or killed: that is seen by another pipe.
                (Ok(0) | Err(_), _) => return,
                (Ok(_), Some(Word::Go)) => go.cancel(),
                (Ok(_), Some(Word::Finish)) => {
                    life.finish.cancel();
                    life.ending.cancel();
                }
                (Ok(_), Some(Word::EndApps)) => life.end_apps.cancel(),
                (Ok(_), _) => {}
            },
            said = saying.changed() => {
                let word = *saying.borrow_and_update();
                if let (Ok(()), Some(word)) = (said, word) {
                    let _ = with.write_all(&[word as u8]).await;
                }
            }
        }
    }
}

pub fn role(name: &str) -> Result<(), Boxed> {
    // Before anything secret is read: nobody of the same user may look into this process.
    // SAFETY: a system call on this process only.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
    let mut text = Vec::new();
    File::from(inherited(SETTINGS)?).read_to_end(&mut text)?;
    let handed: Handed = serde_json::from_slice(&text)?;
    if handed.role != name {
        return Err(format!("settings of {} were handed to {name}", handed.role).into());
    }
    log(&handed.log);

    let stop = CancellationToken::new();
    watch_supervisor(inherited(ALIVE)?, stop.clone());
    let with = std::os::unix::net::UnixStream::from(inherited(TALK)?);
    let mut descriptors = Vec::new();
    for at in 0..handed.descriptors {
        descriptors.push(inherited(FIRST + at as RawFd)?);
    }

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        with.set_nonblocking(true)?;
        let (life, go) = (Life::new(stop.clone()), CancellationToken::new());
        let talking = talk(UnixStream::from_std(with)?, life.clone(), go.clone());
        let watching = async move {
            let ended = async {
                terminate.recv().await;
                stop.cancel();
                std::future::pending::<()>().await;
            };
            tokio::join!(talking, ended);
        };
        let running = async {
            if handed.stands_by {
                life.said.send_replace(Some(Word::StandsBy));
                tokio::select! { () = go.cancelled() => {}, () = life.stop.cancelled() => return Ok(()) }
            }
            run(name, handed.config, descriptors, life).await
        };
        tokio::select! {
            done = running => done,
            () = watching => Ok(()),
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(2));
    if let Err(cause) = &done {
        error!(role = name, "{name} ended: {}", crate::chain(&**cause));
        std::process::exit(1);
    }
    Ok(())
}

/// Runs a role's own code with what it was handed.
async fn run(role: &str, config: serde_json::Value, descriptors: Vec<OwnedFd>, life: Life) -> Result<(), Boxed> {
    let (ending, ready) = (life.ending.clone(), || life.ready());
    let mut sockets = descriptors.into_iter();
    let mut socket = || sockets.next().ok_or("the supervisor handed over too few sockets");
    match role {
        "migrate" => migrate_now(read(config)?).await?,
        "logs" => {
            let (config, socket) = (read(config)?, socket()?.into());
            ready();
            logs::run(config, socket, ending).await?;
        }
        "balancer" => balancer::run(read(config)?, vec![socket()?.into()], ready, ending).await?,
        "control" => {
            let config: Control = read(config)?;
            let coordinator = coordinator::run(config.coordinator, socket()?.into(), ending.clone());
            ready();
            let stats = stats::run(config.stats, ending.clone());
            let mail = mail::run(config.mail, ending.clone());
            let billing = billing::run(config.billing, ending.clone());
            let (coordinator, stats, mail, billing) = tokio::join!(
                ended(coordinator, &ending),
                ended(stats, &ending),
                ended(mail, &ending),
                ended(billing, &ending)
            );
            coordinator?;
            stats?;
            mail?;
            billing?;
        }
        "receiver" => {
            receiver::run_until(read(config)?, vec![socket()?.into()], ready, life.finish.clone(), life.stop.clone())
                .await?;
        }
        "web" => web::run_until(read(config)?, socket()?.into(), assets(), ready, ending).await?,
        "runner" => {
            let (config, socket) = (read(config)?, socket()?.into());
            ready();
            let ends =
                runner::Ends { leave: life.stop.clone(), finish: life.finish.clone(), apps: life.end_apps.clone() };
            runner::run(config, socket, ends).await?;
        }
        _ => return Err(format!("there is no role {role}").into()),
    }
    Ok(())
}

/// When one engine ends, the others are told to: its process starts all again.
async fn ended<T>(engine: impl Future<Output = T>, both: &CancellationToken) -> T {
    let done = engine.await;
    both.cancel();
    done
}

fn assets() -> Vec<web::Asset> {
    let kind = |name: &str| match name.rsplit('.').next() {
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("wasm") => "application/wasm",
        _ => "application/octet-stream",
    };
    let asset = |(name, bytes): &(&str, &'static [u8])| web::Asset {
        path: (*name).to_owned(),
        content_type: kind(name).to_owned(),
        bytes,
    };
    embedded::SITE.iter().map(asset).collect()
}

/// Prints the link by which the operator signs in for the first time.
async fn migrate_now(config: Migrate) -> Result<(), Boxed> {
    match &config.given.database {
        Some(url) => store::outside::migrate(url, &config.roles, &config.home)
            .await
            .map_err(|cause| format!("the database of DATABASE_URL: {cause}"))?,
        None => store::migrate(&config.commands.database_url, &config.roles).await?,
    }
    if let Some(url) = &config.given.redis {
        let prepared = outside::prepare(url, &config.redis_users, &config.home).await;
        prepared.map_err(|cause| format!("the Redis of REDIS_URL: {cause}"))?;
    }
    let commands = Commands::connect(config.commands).await?;
    match commands.user_create(&FIRST_OPERATOR.parse()?, "Operator", true).await {
        Ok(link) => println!("{link}"),
        Err(CommandError::EmailKnown) => {}
        Err(cause) => return Err(cause.into()),
    }
    Ok(())
}

fn read<T: DeserializeOwned>(config: serde_json::Value) -> Result<T, Boxed> {
    Ok(serde_json::from_value(config)?)
}

/// A descriptor that the supervisor gave.
fn inherited(fd: RawFd) -> Result<OwnedFd, Boxed> {
    // SAFETY: asks whether the descriptor is open; the supervisor gave it to this process alone.
    unsafe {
        if libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) < 0 {
            return Err("a role is started by `berth up` only".into());
        }
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// A thread of its own: it must see the end also when the runtime hangs.
fn watch_supervisor(alive: OwnedFd, stop: CancellationToken) {
    std::thread::spawn(move || {
        let _ = File::from(alive).read(&mut [0]);
        stop.cancel();
        std::thread::sleep(ORPHAN_TIMEOUT);
        std::process::exit(70);
    });
}

pub fn log(log: &Log) {
    // Before what was asked for, which so may say otherwise: PostgreSQL's notices are no news.
    let asked = format!("sqlx::postgres::notice=warn,{}", log.filter);
    let filter = EnvFilter::try_new(asked).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match log.json {
        true => builder.json().flatten_event(true).init(),
        false => builder.with_target(false).init(),
    }
}

/// In a static app's sandbox.
pub fn files(root: PathBuf, port: u16) -> Result<(), Boxed> {
    let release = std::env::var("BERTH_RELEASE").unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(files::run(files::Config { root, port, release }))?)
}
