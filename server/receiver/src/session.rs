//! One command on one channel: a verb of the platform, or git in a sandbox with the channel's bytes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use commands::{Actor, Kind};
use domain::AppName;
use domain::wire::{GitAsk, GitVerb, Uids};
use objects::Objects;
use russh::server::Msg;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio_util::sync::CancellationToken;

use crate::Door;
use crate::desk::Desk;
use crate::hook::HookSocket;
use crate::request::Request;
use crate::runner::{Ends, GitRun, RunnerError};
use crate::verbs::{self, Hangup, Input, Out};
use crate::{push, repository, words};

/// SSH's "extended data" of standard error (RFC 4254 §5.2).
pub(crate) const STDERR: u32 = 1;
const FAILED: u32 = 1;
/// For a client to take what was said, then the channel is closed.
const WORDS_TIMEOUT: Duration = Duration::from_secs(30);
/// For a git whose input was cut off to clean up.
const CUT_TIMEOUT: Duration = Duration::from_secs(20);
/// While a push comes in, the disk is looked at again after so much.
const LOOK_AFTER_BYTES: u64 = 8 << 20;
/// Left for what git wrote last, once it has ended.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) enum Ask {
    Shell,
    Exec(Request),
}

/// In raw mode: it needs carriage returns, and sends Ctrl-C as a byte.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terminal {
    /// 0: not known.
    pub columns: usize,
}

pub(crate) struct Session<D> {
    pub door: Arc<Door<D>>,
    /// `None`: nobody could be looked up, and nothing is done.
    pub actor: Option<Actor>,
    pub channel: Channel<Msg>,
    pub terminal: Option<Terminal>,
    /// A checked `GIT_PROTOCOL`.
    pub protocol: Option<String>,
    pub cut: CancellationToken,
}

/// What is said, and how it ends.
struct Words {
    text: String,
    code: u32,
}

impl Words {
    fn failed(text: String) -> Self {
        Self { text, code: FAILED }
    }
}

pub(crate) async fn run<D: Desk>(session: Session<D>, ask: Ask) {
    let cut = session.cut.clone();
    tokio::select! {
        () = cut.cancelled() => {}
        () = session.run(ask) => {}
    }
}

impl<D: Desk> Session<D> {
    async fn run(self, ask: Ask) {
        let Some(actor) = self.actor.clone() else {
            let hint = "try again in a minute; running apps are not affected";
            let text = words::error("the database does not answer just now", Some(hint));
            return self.say(Words { text, code: verbs::code(Kind::Away) }).await;
        };
        let refused = match ask {
            Ask::Shell => return self.verb(actor, Vec::new()).await,
            Ask::Exec(Request::Words(words)) => return self.verb(actor, words).await,
            Ask::Exec(Request::ReceivePack(app)) => return self.git(&actor, app, GitVerb::ReceivePack).await,
            Ask::Exec(Request::UploadPack(app)) => return self.git(&actor, app, GitVerb::UploadPack).await,
            Ask::Exec(Request::NoSuchApp(name)) => {
                Words::failed(words::no_such_app(&name, &self.door.config.commands.urls))
            }
            Ask::Exec(Request::Unreadable(why)) => {
                Words { text: words::error(&why, Some(verbs::QUOTING)), code: verbs::code(Kind::Invalid) }
            }
        };
        self.say(refused).await;
    }

    /// A command of the platform.
    async fn verb(self, actor: Actor, words: Vec<String>) {
        let (mut read, write) = self.channel.split();
        let (commands, limits) = (self.door.commands.clone(), &self.door.config.limits);
        let out = Out::new(write, self.terminal);
        let until =
            verbs::Until { finish: self.door.finish.clone(), wait: Duration::from_millis(limits.deploy_wait_ms) };
        let (mut input, typed) = Input::new(self.terminal.is_some());
        let code = tokio::select! {
            code = verbs::run(commands, actor, &out, typed, until, words) => code,
            why = input.carry(&mut read) => match why {
                Hangup::Gone => return,
                Hangup::Interrupted => verbs::INTERRUPTED,
            },
        };
        let ended = async {
            tokio::select! {
                _ = end(out.channel(), code) => {}
                () = gone(&mut read) => return,
            }
            gone(&mut read).await;
        };
        let _ = tokio::time::timeout(WORDS_TIMEOUT, ended).await;
    }

    async fn say(self, words: Words) {
        let (mut read, write) = self.channel.split();
        let text = if self.terminal.is_some() { words.text.replace('\n', "\r\n") } else { words.text };
        let say = async {
            write.extended_data_bytes(STDERR, Bytes::from(text)).await.is_ok() && end(&write, words.code).await
        };
        let heard = async {
            tokio::select! {
                _ = say => {}
                () = gone(&mut read) => return,
            }
            // What the client still sends has nobody to read it; its close is waited for.
            gone(&mut read).await;
        };
        let _ = tokio::time::timeout(WORDS_TIMEOUT, heard).await;
    }

    async fn git(self, actor: &Actor, app: AppName, verb: GitVerb) {
        match self.start(actor, &app, verb).await {
            Err(words) => self.say(words).await,
            Ok(started) => self.carry(started).await,
        }
    }

    async fn start(&self, actor: &Actor, app: &AppName, verb: GitVerb) -> Result<Started, Words> {
        let door = &self.door;
        let urls = &door.config.commands.urls;
        let target = door.desk.push_target(actor, app).await.map_err(|error| match error.kind {
            Kind::NotFound => Words::failed(words::no_such_app(app.as_str(), urls)),
            _ => Words::failed(words::error(&error.message, error.hint.as_deref())),
        })?;
        if verb == GitVerb::ReceivePack {
            let space = door.objects.space().await;
            if let Some(why) = space.ok().and_then(|space| plan::refuses(&space)) {
                tracing::warn!(app.name = %app, "a push was refused: {why}");
                let text = format!("pushes are refused for now: {why}");
                return Err(Words::failed(words::error(&text, Some(plan::SPACE_HINT))));
            }
        }
        let bytes = door.config.limits.push_bytes;
        let mut limit = Limit {
            bytes,
            message: format!("a push may send {} MiB at most", bytes >> 20),
            hint: "remove large files from the history".to_owned(),
        };
        if verb == GitVerb::ReceivePack {
            let disk = door.desk.disk(actor).await;
            let disk = disk.map_err(|e| Words::failed(words::error(&e.message, e.hint.as_deref())))?;
            let (used, max) = (commands::size(disk.bytes), commands::size(disk.bytes_max));
            let message = format!("your apps have {used} on disk, and your limit is {max} ({})", disk.words());
            let hint =
                "Delete an app that you do not need, or ask the operator for more. Running apps are not affected";
            if disk.left() == 0 {
                return Err(Words::failed(words::error(&message, Some(hint))));
            }
            if disk.left() < limit.bytes {
                let left = commands::size(disk.left().cast_signed());
                let message = format!("the push is larger than the {left} that are left: {message}");
                limit = Limit { bytes: disk.left(), message, hint: hint.to_owned() };
            }
        }
        let permit = Arc::clone(&door.git_sessions).try_acquire_owned().map_err(|_| {
            Words::failed(words::error("too many pushes and fetches are under way", Some("try again in a minute")))
        })?;
        let defect = |what: String| {
            tracing::error!(app.name = %app, "{what}");
            Words::failed(words::error("git could not be started", Some("try again; if it stays so, ask the operator")))
        };
        let uids =
            Uids::of(door.config.apps_uid_base, target.app).ok_or_else(|| defect("no UIDs are left".to_owned()))?;
        let hook = match verb {
            GitVerb::ReceivePack => {
                let socket = HookSocket::bind(&door.config.hooks_dir);
                Some(socket.map_err(|cause| defect(format!("could not bind a hook's socket: {cause}")))?)
            }
            _ => None,
        };
        let ask = GitAsk {
            app: target.app,
            uids,
            verb,
            protocol: self.protocol.clone(),
            hook_socket: hook.as_ref().map(|hook| hook.path().display().to_string()),
            time_ms: door.config.limits.connection_ms,
            make: false,
        };
        let (run, ends) = repository::start(door, ask).await.map_err(|error| match error {
            RunnerError::Refused { reason } => Words::failed(words::error(&reason.message, reason.hint.as_deref())),
            other => defect(format!("{other}: {:?}", std::error::Error::source(&other).map(ToString::to_string))),
        })?;
        let hook = hook.map(|socket| {
            let (door, actor, uid) = (Arc::clone(door), actor.clone(), uids.app);
            let ended = CancellationToken::new();
            let over = ended.clone();
            // On its own: a push that was taken in goes on to its deploy without its connection.
            door.pushes.clone().spawn(async move {
                let hook = tokio::select! {
                    hook = socket.accept(uid) => hook,
                    () = over.cancelled() => return,
                };
                match hook {
                    // Once connected the path is not needed any more.
                    Ok(hook) => {
                        drop(socket);
                        push::serve(door, actor, target, hook).await;
                    }
                    Err(cause) => tracing::warn!(error = %cause, "no hook could connect"),
                }
            });
            ended.drop_guard()
        });
        let Ends { stdin, stdout, stderr } = ends;
        Ok(Started { run, stdin, stdout, stderr, limit, _hook: hook, _permit: permit })
    }

    /// Bytes both ways until git has ended and all it wrote was sent, or the client is gone.
    async fn carry(self, started: Started) {
        let Started { mut run, stdin, stdout, stderr, limit, _hook, _permit } = started;
        let objects = &self.door.objects;
        let (read, write) = self.channel.split();
        let out = async {
            let mut to_client = write.make_writer();
            copy(stdout, &mut to_client).await
        };
        let err = async {
            let mut to_client = write.make_writer_ext(Some(STDERR));
            copy(stderr, &mut to_client).await
        };
        let git = async {
            // git's end closes its pipes; what is in them is still sent, as fast as the client takes it.
            let both = async { tokio::join!(out, err) };
            tokio::pin!(both);
            tokio::select! {
                code = run.exited() => {
                    let _ = tokio::time::timeout(DRAIN_TIMEOUT, both).await;
                    code
                }
                _ = &mut both => run.exited().await,
            }
        };
        tokio::pin!(git);
        let cut = tokio::select! {
            ended = &mut git => Err(ended),
            why = carry_in(read, stdin, limit, objects) => Ok(why),
        };
        let ended = match cut {
            Err(ended) => ended,
            Ok(Gone::Client) => {
                tracing::debug!("a client went away during git");
                return;
            }
            Ok(Gone::Refused { message, hint }) => {
                // Its input has ended: it throws away what it has so far, which is what fills the disk.
                let _ = tokio::time::timeout(CUT_TIMEOUT, &mut git).await;
                let text = Bytes::from(words::error(&message, Some(&hint)));
                let _ = tokio::time::timeout(WORDS_TIMEOUT, async {
                    let _ = write.extended_data_bytes(STDERR, text).await;
                    end(&write, FAILED).await
                })
                .await;
                return;
            }
        };
        let code = match ended {
            Ok(code) => u32::try_from(code).unwrap_or(FAILED),
            Err(error) => {
                tracing::warn!(%error, "a git sandbox ended without an answer");
                let text = words::error("git was ended by the server", Some("try again"));
                let _ = tokio::time::timeout(WORDS_TIMEOUT, write.extended_data_bytes(STDERR, Bytes::from(text))).await;
                FAILED
            }
        };
        let _ = tokio::time::timeout(WORDS_TIMEOUT, end(&write, code)).await;
    }
}

struct Started {
    run: GitRun,
    stdin: pipe::Sender,
    stdout: pipe::Receiver,
    stderr: pipe::Receiver,
    limit: Limit,
    /// Without its sandbox no hook will come.
    _hook: Option<tokio_util::sync::DropGuard>,
    _permit: tokio::sync::OwnedSemaphorePermit,
}

/// What a client may send, and why it is not more.
struct Limit {
    bytes: u64,
    message: String,
    hint: String,
}

enum Gone {
    Client,
    Refused { message: String, hint: String },
}

/// The client's bytes into git. Goes on after the client's end of input, until it is gone.
async fn carry_in(mut read: ChannelReadHalf, stdin: pipe::Sender, limit: Limit, objects: &Objects) -> Gone {
    let mut stdin = Some(stdin);
    let (mut carried, mut look_at) = (0u64, LOOK_AFTER_BYTES);
    loop {
        match read.wait().await {
            Some(ChannelMsg::Data { data }) => {
                carried += data.len() as u64;
                if carried > limit.bytes {
                    return Gone::Refused { message: limit.message, hint: limit.hint };
                }
                if carried >= look_at {
                    look_at = carried + LOOK_AFTER_BYTES;
                    if let Some(why) = objects.space().await.ok().and_then(|space| plan::refuses(&space)) {
                        let message = format!("the push is cut off: {why}");
                        return Gone::Refused { message, hint: plan::SPACE_HINT.to_owned() };
                    }
                }
                // git may end before it has read all; its own words say why.
                let closed = match &mut stdin {
                    Some(to) => to.write_all(&data).await.is_err(),
                    None => false,
                };
                if closed {
                    stdin = None;
                }
            }
            Some(ChannelMsg::Eof) => stdin = None,
            Some(ChannelMsg::Close) | None => return Gone::Client,
            Some(_) => {}
        }
    }
}

/// Until the client has closed the channel or is gone.
async fn gone(read: &mut ChannelReadHalf) {
    loop {
        if let Some(ChannelMsg::Close) | None = read.wait().await {
            return;
        }
    }
}

async fn copy(mut from: pipe::Receiver, to: &mut (impl AsyncWriteExt + Unpin)) -> std::io::Result<()> {
    let mut piece = vec![0; 32 << 10];
    loop {
        let n = from.read(&mut piece).await?;
        if n == 0 {
            return Ok(());
        }
        to.write_all(piece.get(..n).unwrap_or_default()).await?;
    }
}

/// The order that OpenSSH uses: end of output, exit status, close.
async fn end(write: &ChannelWriteHalf<Msg>, code: u32) -> bool {
    write.eof().await.is_ok() && write.exit_status(code).await.is_ok() && write.close().await.is_ok()
}
