//! The commands of the platform: the verbs of the pages, by SSH.
//!
//! Start reading at `table` (what can be asked), then `run` (one command from its words to its exit code).

mod account;
mod apps;
mod args;
mod channel;
mod config;
mod deploys;
mod help;
mod logs;
mod show;
mod table;

#[cfg(test)]
mod tests;

use std::time::Duration;

use commands::{Actor, CommandError, Commands, Kind, api};
use domain::AppName;
use tokio_util::sync::CancellationToken;

use self::args::Args;
pub(crate) use self::channel::{Hangup, Input, Out, Typed};
use self::table::{Found, Verb};
use crate::words;

pub(crate) const QUOTING: &str =
    "Words are cut at blanks; quote as for any remote command, once for your own shell and once more: \"'a b'\"";
/// As a shell says it of Ctrl-C.
pub(crate) const INTERRUPTED: u32 = 130;
const DONE: u32 = 0;
/// Also of a deploy that was followed, and failed.
const REFUSED: u32 = 1;

/// The one table of exit codes; `help` says it in words.
pub(crate) fn code(kind: Kind) -> u32 {
    match kind {
        Kind::Conflict | Kind::Unauthenticated | Kind::Forbidden | Kind::Limit | Kind::TooMany => REFUSED,
        Kind::Invalid => 2,
        Kind::Away | Kind::Internal => 3,
        Kind::NotFound => 4,
    }
}

/// One command that is being carried out.
pub(crate) struct Run<'o> {
    commands: Commands,
    actor: Actor,
    out: &'o Out,
    typed: Typed,
    args: Args,
    until: Until,
}

/// For how long something is followed.
#[derive(Debug, Clone)]
pub(crate) struct Until {
    /// A successor serves: what never ends by itself ends now.
    pub finish: CancellationToken,
    /// Of a deploy.
    pub wait: Duration,
}

/// Why a command ends early.
#[derive(Debug)]
enum Stop {
    Command(CommandError),
    /// Not yours, not there, or no name at all.
    NoApp(String),
    /// What was typed makes no command; its usage is shown.
    Usage(String),
    Told {
        kind: Kind,
        message: String,
        hint: Option<String>,
    },
    /// Nobody listens any more.
    Gone,
}

impl From<CommandError> for Stop {
    fn from(cause: CommandError) -> Self {
        match cause {
            CommandError::NoApp { name } => Self::NoApp(name.to_string()),
            cause => Self::Command(cause),
        }
    }
}

impl Stop {
    fn told(kind: Kind, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Told { kind, message: message.into(), hint: Some(hint.into()) }
    }
}

type Ended = Result<u32, Stop>;

impl Run<'_> {
    /// The app that the first word names. What can be no name is nobody's app.
    fn app(&self) -> Result<AppName, Stop> {
        let word = self.args.word(0);
        word.parse().map_err(|_| Stop::NoApp(word.chars().take(60).collect()))
    }

    fn json(&self) -> bool {
        self.args.has("json")
    }

    /// For programs: one line.
    async fn json_line(&self, shown: &(impl serde::Serialize + Sync)) -> Result<(), Stop> {
        self.out.say(&format!("{}\n", show::json(shown))).await
    }
}

/// Carries one command out and says what there is to say; its exit code.
pub(crate) async fn run(
    commands: Commands,
    actor: Actor,
    out: &Out,
    typed: Typed,
    until: Until,
    words: Vec<String>,
) -> u32 {
    let found = match table::find(&words) {
        Found::Verb(verb, rest) => (verb, rest),
        Found::Nothing => return say(out, help::greeting(&commands, &actor, out).await).await,
        Found::Unknown(word) => {
            let _ = out.note(&help::unknown(word, commands.urls())).await;
            return code(Kind::Invalid);
        }
    };
    let (verb, rest) = found;
    let json = rest.iter().any(|word| word == "--json");
    let args = match args::parse(verb, rest) {
        Ok(args) if args.has("help") => return say(out, Ok(help::of(verb, commands.urls()))).await,
        Ok(args) => args,
        Err(message) => return told(out, json, verb, &commands, &actor, Stop::Usage(message)).await,
    };
    let typed = if verb.reads { typed } else { Typed::none() };
    let mut run = Run { commands: commands.clone(), actor: actor.clone(), out, typed, args, until };
    match (verb.call)(&mut run).await {
        Ok(code) => code,
        Err(stop) => told(out, json, verb, &commands, &actor, stop).await,
    }
}

async fn say(out: &Out, text: Result<String, Stop>) -> u32 {
    match text {
        Ok(text) => out.say(&text).await.map_or(REFUSED, |()| DONE),
        Err(_) => REFUSED,
    }
}

/// Says why a command ended early, and returns its code.
async fn told(out: &Out, json: bool, verb: &'static Verb, commands: &Commands, actor: &Actor, stop: Stop) -> u32 {
    let urls = commands.urls();
    let mut field = None;
    let (kind, message, hint, usage) = match stop {
        Stop::Gone => return REFUSED,
        Stop::Usage(message) => (Kind::Invalid, message, None, true),
        Stop::NoApp(name) => {
            let hint = nearest(commands, actor, &name).await;
            (Kind::NotFound, format!("There is no app '{name}'."), Some(hint), false)
        }
        Stop::Told { kind, message, hint } => (kind, message, hint, false),
        Stop::Command(cause) => {
            if cause.kind() == Kind::Internal {
                tracing::error!("`{}` failed: {}", verb.name, crate::desk::chain(&cause));
            }
            field = cause.field().map(str::to_owned);
            (cause.kind(), cause.message(), cause.hint(), false)
        }
    };
    let text = if json {
        let error = api::ErrorDetail { kind: kind.as_str(), message, hint, field };
        format!("{}\n", show::json(&api::Error { error }))
    } else if usage {
        format!("{}{}", words::error(&message, None), help::usage(verb, urls))
    } else {
        words::error(&message, hint.as_deref())
    };
    let _ = out.note(&text).await;
    code(kind)
}

/// Only of who asks: another's app is as if it was not there.
async fn nearest(commands: &Commands, actor: &Actor, typed: &str) -> String {
    let mine = commands.apps(actor).await.unwrap_or_default();
    match table::nearest(typed, mine.iter().map(|app| app.name.as_str())) {
        Some(name) => format!("Did you mean `{name}`?"),
        None if mine.is_empty() => "You have no apps yet. Make one by: create NAME".to_owned(),
        None => "See your apps by: apps".to_owned(),
    }
}
