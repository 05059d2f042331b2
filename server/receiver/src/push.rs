//! One push: what its refs become, the source into the object store, a deploy, its lines and its end.
//!
//! Once the deploy is asked for, it is carried by the coordinator: the hook may go away at any time.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use commands::{Actor, NewPush, PushTarget};
use domain::{BundleHash, CommitId, SourceHash};
use futures_util::stream::try_unfold;
use objects::ObjectsError;

use crate::Door;
use crate::desk::{Desk, DeskError};
use crate::follow::{Ended, Follow, Told};
use crate::hook::{FromHook, Hook, ToHook};
use crate::words::{one_line, terminal};

/// A push that names more is no honest one.
const REFS_MAX: usize = 1_000;
/// What the hook may be silent for while git packs a tree.
const HOOK_TIMEOUT: Duration = Duration::from_secs(120);

#[derive(Debug, thiserror::Error)]
enum PushError {
    #[error("the pusher or its sandbox went away")]
    Hook(#[from] io::Error),
    #[error("the hook spoke out of turn")]
    OutOfTurn,
}

/// A pushed ref: what becomes of it is said to git at the end.
struct Pushed {
    name: String,
    old: Option<CommitId>,
    new: Option<CommitId>,
}

impl Pushed {
    fn branch(&self) -> Option<&str> {
        self.name.strip_prefix("refs/heads/")
    }
}

/// Which branch of the app is deployed. Until one has been, the push decides: `main`, or `master` where there is
/// no `main` in it.
fn deploy_branch<'a>(target: &'a PushTarget, refs: &[Pushed]) -> &'a str {
    let brings = |name: &str| refs.iter().any(|r| r.new.is_some() && r.branch() == Some(name));
    match () {
        () if target.decided => &target.deploy_branch,
        () if brings("main") => "main",
        () if brings("master") => "master",
        () => &target.deploy_branch,
    }
}

/// The end of one push, as the pusher hears of it.
enum End {
    Taken,
    /// The reason of git's `ng`.
    Refused(String),
}

pub(crate) async fn serve<D: Desk>(door: Arc<Door<D>>, actor: Actor, target: PushTarget, mut hook: Hook) {
    let push = Push { door: &door, actor: &actor, target: &target, began: Instant::now() };
    let ended = tokio::select! {
        ended = push.run(&mut hook) => ended,
        () = door.stop.cancelled() => return,
    };
    if let Err(error) = ended {
        // Also a client that was closed while it waited: the deploy goes on.
        tracing::info!(app.name = %target.name, %error, "a push ended before its answer");
    }
}

struct Push<'a, D> {
    door: &'a Door<D>,
    actor: &'a Actor,
    target: &'a PushTarget,
    began: Instant,
}

impl<D: Desk> Push<'_, D> {
    async fn run(&self, hook: &mut Hook) -> Result<(), PushError> {
        let refs = self.read_refs(hook).await?;
        let main = deploy_branch(self.target, &refs);
        let deployed = |pushed: &&Pushed| pushed.branch() == Some(main);
        let mut answers = Vec::new();
        self.tell_of_tags(hook, &refs, main).await?;
        // These first: a deploy takes its time.
        for pushed in refs.iter().filter(|pushed| !deployed(pushed)) {
            let end = match pushed.branch() {
                Some(branch) => self.keep(hook, pushed, branch, main, refs.iter().any(|r| deployed(&r))).await?,
                // Ignored, and that was told: the rest of the push is not to fail for it.
                None if pushed.name.starts_with("refs/tags/") => End::Taken,
                None => End::Refused(format!("such refs are not kept here; push {main} to deploy")),
            };
            answers.push((pushed.name.as_str(), end));
        }
        for pushed in refs.iter().filter(deployed) {
            let end = match &pushed.new {
                Some(commit) => self.deploy(hook, pushed, commit, main).await?,
                None => End::Refused(format!("{main} is what is deployed, it cannot be deleted")),
            };
            answers.push((pushed.name.as_str(), end));
        }
        for (name, end) in answers {
            match end {
                End::Taken => hook.write(ToHook::Taken(name)).await?,
                End::Refused(reason) => hook.write(ToHook::Refused(name, &one_line(&reason))).await?,
            }
        }
        hook.write(ToHook::End).await?;
        Ok(())
    }

    async fn read_refs(&self, hook: &mut Hook) -> Result<Vec<Pushed>, PushError> {
        let mut refs = Vec::new();
        loop {
            match read(hook).await? {
                FromHook::Ref(line) if refs.len() < REFS_MAX => refs.push(parse(&line).ok_or(PushError::OutOfTurn)?),
                FromHook::RefsEnd => return Ok(refs),
                _ => return Err(PushError::OutOfTurn),
            }
        }
    }

    /// Tags name what is in the history anyway: nothing here reads them.
    async fn tell_of_tags(&self, hook: &mut Hook, refs: &[Pushed], main: &str) -> Result<(), PushError> {
        let tags: Vec<&str> =
            refs.iter().filter(|r| r.new.is_some()).filter_map(|r| r.name.strip_prefix("refs/tags/")).collect();
        let deploys = refs.iter().any(|r| r.branch() == Some(main));
        match tags.as_slice() {
            [] => {}
            [tag] if deploys => say(hook, &format!("tag {tag} is ignored: only branches are kept here")).await?,
            [tag] => {
                let how = format!("to deploy what it names: git push <remote> {tag}^{{}}:{main}");
                say(hook, &format!("tag {tag} is ignored: only branches are kept here; {how}")).await?;
            }
            tags => say(hook, &format!("{} tags are ignored: only branches are kept here", tags.len())).await?,
        }
        Ok(())
    }

    /// A branch that is not deployed: stored, or deleted.
    async fn keep(
        &self,
        hook: &mut Hook,
        pushed: &Pushed,
        branch: &str,
        main: &str,
        deploys_too: bool,
    ) -> Result<End, PushError> {
        let (desk, app) = (&self.door.desk, self.target.app);
        let bundle = match &pushed.new {
            None => None,
            Some(commit) => match self.take_history(hook, commit).await? {
                Ok(taken) => taken,
                Err(reason) => return Ok(End::Refused(reason)),
            },
        };
        let (new, old) = (pushed.new.as_ref(), pushed.old.as_ref());
        if let Err(reason) = put(hook, &pushed.name, new, old).await? {
            return Ok(End::Refused(reason));
        }
        let stored = match &pushed.new {
            Some(commit) => desk.branch_keep(self.actor, app, branch, commit, bundle.as_ref()).await,
            None => desk.branch_forget(self.actor, app, branch).await,
        };
        if let Err(error) = stored {
            // What is not written down would be lost with the repository: as if it was never pushed.
            if let Err(reason) = put(hook, &pushed.name, old, new).await? {
                tracing::warn!(app.id = %app, branch, reason, "a branch that was not stored stays in the repository");
            }
            say_error(hook, &error.message, error.hint.as_deref()).await?;
            return Ok(End::Refused(error.message));
        }
        if new.is_some() {
            let how =
                if deploys_too { String::new() } else { format!("; to deploy it: git push <remote> {branch}:{main}") };
            say(hook, &format!("{branch} is kept and not deployed, only {main} is{how}")).await?;
        }
        Ok(End::Taken)
    }

    async fn deploy(&self, hook: &mut Hook, pushed: &Pushed, commit: &CommitId, main: &str) -> Result<End, PushError> {
        let app = &self.target.name;
        hook.write(ToHook::Deploy(commit.as_str())).await?;
        let (subject, source) = match self.take_source(hook).await? {
            Ok(taken) => taken,
            Err(reason) => return Ok(End::Refused(reason)),
        };
        let bundle = match self.take_history(hook, commit).await? {
            Ok(taken) => taken,
            Err(reason) => return Ok(End::Refused(reason)),
        };
        let push = NewPush {
            commit: commit.clone(),
            subject,
            branch: main.to_owned(),
            before: pushed.old.clone(),
            source,
            bundle,
        };
        let number = match self.door.desk.deploy_create(self.actor, self.target.app, push).await {
            Ok(number) => number,
            Err(error) => {
                say(hook, &format!("{app}: no deploy was made")).await?;
                say_error(hook, &error.message, error.hint.as_deref()).await?;
                return Ok(End::Refused(error.message));
            }
        };
        tracing::info!(app.name = %app, deploy.number = number, "deploy {number} of {app} was pushed");
        say(hook, &format!("Deploy {number} of {app}: commit {}", commit.short())).await?;
        let wait = Duration::from_millis(self.door.config.limits.deploy_wait_ms);
        let follow = Follow { desk: &self.door.desk, actor: self.actor, app, number, began: self.began };
        match tokio::time::timeout(wait, follow.run(hook)).await {
            Ok(Ok(Ended { refused: None, .. })) => Ok(End::Taken),
            Ok(Ok(Ended { refused: Some(reason), .. })) => Ok(End::Refused(reason)),
            Ok(Err(cause)) => Err(cause.into()),
            Err(_) => {
                let site = &self.door.config.commands.urls.site;
                say(hook, &format!("Deploy {number} goes on without you: {site}/apps/{app}")).await?;
                Ok(End::Refused(format!("deploy {number} is not finished yet")))
            }
        }
    }

    /// The commit's subject and the tar of its tree, by hash; or why it was not taken.
    async fn take_source(&self, hook: &mut Hook) -> Result<Result<(String, SourceHash), String>, PushError> {
        let subject = match read(hook).await? {
            FromHook::Subject(subject) => subject,
            FromHook::Failed(reason) => return Ok(Err(reason)),
            _ => return Err(PushError::OutOfTurn),
        };
        let bytes_max = self.door.config.limits.source_bytes;
        let tar = try_unfold(&mut *hook, |hook| async move {
            match read(hook).await.map_err(|e| io::Error::other(e.to_string()))? {
                FromHook::Tar(piece) => Ok(Some((piece, hook))),
                FromHook::TarEnd => Ok(None),
                FromHook::Failed(reason) => Err(io::Error::other(reason)),
                _ => Err(io::Error::other("the hook spoke out of turn")),
            }
        });
        match self.door.objects.put::<SourceHash, io::Error>(guard_type(tar), None, bytes_max).await {
            Ok(stored) => Ok(Ok((subject, stored.hash))),
            Err(error) => self.not_stored(hook, "tree", bytes_max, &error).await.map(Err),
        }
    }

    /// What the commit has that the object store has not, by hash; or why it was not taken.
    async fn take_history(
        &self,
        hook: &mut Hook,
        commit: &CommitId,
    ) -> Result<Result<Option<BundleHash>, String>, PushError> {
        let kept = match self.door.desk.commits_kept(self.target.app).await {
            Ok(kept) => kept,
            Err(error) => {
                say_error(hook, &error.message, error.hint.as_deref()).await?;
                return Ok(Err(error.message));
            }
        };
        hook.write(ToHook::History(commit.as_str(), &kept)).await?;
        let first = match read(hook).await? {
            FromHook::Bundle(piece) => piece,
            FromHook::BundleEnd => return Ok(Ok(None)),
            FromHook::Failed(reason) => return Ok(Err(reason)),
            _ => return Err(PushError::OutOfTurn),
        };
        let bytes_max = self.door.config.limits.push_bytes;
        let bundle = try_unfold((Some(first), &mut *hook), |(first, hook)| async move {
            if let Some(first) = first {
                return Ok(Some((first, (None, hook))));
            }
            match read(hook).await.map_err(|e| io::Error::other(e.to_string()))? {
                FromHook::Bundle(piece) => Ok(Some((piece, (None, hook)))),
                FromHook::BundleEnd => Ok(None),
                FromHook::Failed(reason) => Err(io::Error::other(reason)),
                _ => Err(io::Error::other("the hook spoke out of turn")),
            }
        });
        match self.door.objects.put::<BundleHash, io::Error>(guard_type(bundle), None, bytes_max).await {
            Ok(stored) => Ok(Ok(Some(stored.hash))),
            Err(error) => self.not_stored(hook, "history", bytes_max, &error).await.map(Err),
        }
    }

    /// Says why, and returns it.
    async fn not_stored(
        &self,
        hook: &mut Hook,
        what: &str,
        bytes_max: u64,
        error: &ObjectsError,
    ) -> Result<String, PushError> {
        hook.stop_reading();
        let (message, hint) = match error {
            ObjectsError::TooBig { .. } => (
                format!("the commit's {what} is larger than {} MiB", bytes_max >> 20),
                Some("leave out what the app does not need to run"),
            ),
            ObjectsError::Source { cause, .. } => (format!("the commit's {what} did not arrive: {cause}"), None),
            other => (other.to_string(), other.hint()),
        };
        tracing::warn!(app.name = %self.target.name, %error, "a pushed {what} was not stored");
        say_error(hook, &message, hint).await?;
        Ok(message)
    }
}

/// Puts a branch from `old` to `new`, or says why not.
async fn put(
    hook: &mut Hook,
    name: &str,
    new: Option<&CommitId>,
    old: Option<&CommitId>,
) -> Result<Result<(), String>, PushError> {
    hook.write(ToHook::Keep(name, new, old)).await?;
    match read(hook).await? {
        FromHook::Kept => Ok(Ok(())),
        FromHook::Failed(reason) => Ok(Err(reason)),
        _ => Err(PushError::OutOfTurn),
    }
}

/// Pins down the stream's item, which type inference cannot see through `try_unfold`.
fn guard_type<S: futures_util::Stream<Item = io::Result<Bytes>>>(stream: S) -> S {
    stream
}

async fn read(hook: &mut Hook) -> io::Result<FromHook> {
    tokio::time::timeout(HOOK_TIMEOUT, hook.read()).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

impl Told for Hook {
    async fn line(&mut self, line: &str) -> io::Result<()> {
        say(self, line).await
    }
}

async fn say(hook: &mut Hook, line: &str) -> io::Result<()> {
    hook.write(ToHook::Line(&terminal(line))).await
}

async fn say_error(hook: &mut Hook, message: &str, hint: Option<&str>) -> io::Result<()> {
    say(hook, &format!("  {message}")).await?;
    match hint {
        Some(hint) => say(hook, &format!("  hint: {hint}")).await,
        None => Ok(()),
    }
}

/// `OLD NEW REF`; a hash of zeros is none.
fn parse(line: &str) -> Option<Pushed> {
    let mut words = line.splitn(3, ' ');
    let mut commit = || {
        let word = words.next()?;
        let zeros = word.bytes().all(|b| b == b'0');
        word.parse::<CommitId>().ok().map(|commit| (!zeros).then_some(commit))
    };
    let (old, new) = (commit()?, commit()?);
    let name = words.next().filter(|name| name.starts_with("refs/"))?.to_owned();
    Some(Pushed { name, old, new })
}

impl From<DeskError> for PushError {
    fn from(error: DeskError) -> Self {
        Self::Hook(io::Error::other(error))
    }
}
