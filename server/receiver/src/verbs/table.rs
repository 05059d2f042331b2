//! Everything that can be asked, in one place: name, arguments, options, one line of help, what it calls.

use futures_util::future::BoxFuture;

use super::{Ended, Run, account, apps, config, deploys, help, logs};

pub(super) struct Verb {
    /// One word, or two.
    pub name: &'static str,
    pub args: &'static [Arg],
    pub options: &'static [Opt],
    pub about: &'static str,
    /// After the verb, as one would type it.
    pub example: &'static str,
    /// What else people call it.
    pub also: &'static [&'static str],
    /// It reads standard input.
    pub reads: bool,
    pub call: Call,
}

pub(super) type Call = for<'a> fn(&'a mut Run<'_>) -> BoxFuture<'a, Ended>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arg {
    One(&'static str),
    Maybe(&'static str),
    /// One or more, the last.
    Many(&'static str),
    /// None or more, the last.
    Any(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Opt {
    pub long: &'static str,
    pub short: Option<char>,
    /// What its value is; `None`: it has none.
    pub value: Option<&'static str>,
    pub about: &'static str,
}

const APP: Arg = Arg::One("APP");
const JSON: Opt = Opt { long: "json", short: None, value: None, about: "for programs: one line of JSON" };
const DETACH: Opt = Opt { long: "detach", short: None, value: None, about: "do not wait for the deploy" };

const fn flag(long: &'static str, short: char, about: &'static str) -> Opt {
    Opt { long, short: Some(short), value: None, about }
}

const fn valued(long: &'static str, value: &'static str, about: &'static str) -> Opt {
    Opt { long, short: None, value: Some(value), about }
}

/// What most have.
const PLAIN: Verb = Verb {
    name: "",
    args: &[],
    options: &[],
    about: "",
    example: "",
    also: &[],
    reads: false,
    call: |run| Box::pin(help::show(run)),
};

pub(super) static TABLE: &[Verb] = &[
    Verb {
        name: "apps",
        options: &[flag("quiet", 'q', "names only"), JSON],
        about: "your apps, and how they do",
        also: &["ls", "list", "app"],
        call: |run| Box::pin(apps::list(run)),
        ..PLAIN
    },
    Verb {
        name: "create",
        args: &[Arg::One("NAME")],
        options: &[JSON],
        about: "make an app, to be pushed to",
        example: "shop",
        also: &["new", "init", "launch"],
        call: |run| Box::pin(apps::create(run)),
        ..PLAIN
    },
    Verb {
        name: "info",
        args: &[APP],
        options: &[JSON],
        about: "one app: state, addresses, release, processes",
        example: "shop",
        also: &["status", "show"],
        call: |run| Box::pin(apps::info(run)),
        ..PLAIN
    },
    Verb {
        name: "open",
        args: &[APP],
        about: "the app's URL, and nothing else",
        example: "shop",
        also: &["url"],
        call: |run| Box::pin(apps::open(run)),
        ..PLAIN
    },
    Verb {
        name: "ps",
        args: &[APP],
        options: &[JSON],
        about: "the app's instances",
        example: "shop",
        also: &["instances", "processes"],
        call: |run| Box::pin(apps::ps(run)),
        ..PLAIN
    },
    Verb {
        name: "logs",
        args: &[APP],
        options: &[
            flag("tail", 't', "go on with what comes, until Ctrl-C"),
            Opt { long: "lines", short: Some('n'), value: Some("a number"), about: "the last so many (100)" },
            valued("source", "an instance such as web.1", "of one instance or process type only"),
            valued("text", "a word", "those that have it in them"),
            valued("deploy", "a number", "of that deploy instead"),
            JSON,
        ],
        about: "what the app wrote, or one of its deploys",
        example: "shop -t",
        also: &["log", "tail"],
        call: |run| Box::pin(logs::logs(run)),
        ..PLAIN
    },
    Verb {
        name: "scale",
        args: &[APP, Arg::Any("PROCESS=COUNT|PROCESS:MEMORY")],
        options: &[DETACH, JSON],
        about: "how many of each process type run, and how big",
        example: "shop web=2 worker=1 web:512MiB",
        also: &["resize", "formation"],
        call: |run| Box::pin(apps::scale(run)),
        ..PLAIN
    },
    Verb {
        name: "config",
        args: &[APP],
        options: &[JSON],
        about: "the app's config vars; secrets are never shown again",
        example: "shop",
        also: &["env", "vars", "secrets"],
        call: |run| Box::pin(config::list(run)),
        ..PLAIN
    },
    Verb {
        name: "config set",
        args: &[APP, Arg::Many("KEY=VALUE")],
        options: &[
            Opt { long: "plain", short: None, value: None, about: "no secret: it can be read again" },
            DETACH,
            JSON,
        ],
        about: "set config vars, and roll them out; `KEY=-` reads the value from standard input",
        example: "shop API_KEY=- < key.txt",
        also: &["set"],
        reads: true,
        call: |run| Box::pin(config::set(run)),
    },
    Verb {
        name: "config unset",
        args: &[APP, Arg::One("KEY")],
        options: &[DETACH, JSON],
        about: "remove a config var, and roll that out",
        example: "shop API_KEY",
        also: &["unset"],
        call: |run| Box::pin(config::unset(run)),
        ..PLAIN
    },
    Verb {
        name: "releases",
        args: &[APP],
        options: &[JSON],
        about: "the app's last 20 deploys; one that was live is a release",
        example: "shop",
        also: &["deploys", "release", "history"],
        call: |run| Box::pin(deploys::releases(run)),
        ..PLAIN
    },
    Verb {
        name: "rollback",
        args: &[APP, Arg::Maybe("RELEASE")],
        options: &[DETACH, JSON],
        about: "serve an earlier release again, image and config; without one, the one before",
        example: "shop v12",
        also: &["revert", "undo"],
        call: |run| Box::pin(deploys::roll_back(run)),
        ..PLAIN
    },
    Verb {
        name: "restart",
        args: &[APP],
        options: &[DETACH, JSON],
        about: "new instances of what serves, like a deploy",
        example: "shop",
        also: &["reboot"],
        call: |run| Box::pin(deploys::restart(run)),
        ..PLAIN
    },
    Verb {
        name: "cancel",
        args: &[APP, Arg::One("DEPLOY")],
        about: "end a deploy that is under way; what serves goes on",
        example: "shop v15",
        also: &["abort"],
        call: |run| Box::pin(deploys::cancel(run)),
        ..PLAIN
    },
    Verb {
        name: "retry",
        args: &[APP, Arg::One("DEPLOY")],
        options: &[DETACH, JSON],
        about: "try a deploy once more that failed or was canceled",
        example: "shop v15",
        also: &["again", "redeploy", "deploy"],
        call: |run| Box::pin(deploys::again(run)),
        ..PLAIN
    },
    Verb {
        name: "stop",
        args: &[APP],
        about: "end its instances; its address says that it is stopped",
        example: "shop",
        also: &["pause"],
        call: |run| Box::pin(apps::stop(run)),
        ..PLAIN
    },
    Verb {
        name: "start",
        args: &[APP],
        about: "serve again what was stopped",
        example: "shop",
        call: |run| Box::pin(apps::start(run)),
        ..PLAIN
    },
    Verb {
        name: "delete",
        args: &[APP],
        options: &[valued("confirm", "the app's name once more", "its name once more: nothing brings it back")],
        about: "delete an app, its releases, config and logs",
        example: "shop --confirm shop",
        also: &["destroy", "remove", "rm"],
        call: |run| Box::pin(apps::delete(run)),
        ..PLAIN
    },
    Verb {
        name: "usage",
        args: &[APP],
        options: &[valued("range", "1h, 1d or 30d", "of the last day or month, and not of the hour"), JSON],
        about: "what the app used, and how it answered",
        example: "shop --range 1d",
        also: &["metrics", "stats", "top"],
        call: |run| Box::pin(apps::usage(run)),
        ..PLAIN
    },
    Verb {
        name: "cost",
        args: &[Arg::Maybe("APP")],
        options: &[valued("month", "a month such as 2026-03", "of that month, of all apps"), JSON],
        about: "what this month comes to so far: of all apps, or of one and what a day of it costs",
        example: "shop",
        also: &["bill", "billing", "price", "money"],
        call: |run| Box::pin(account::cost(run)),
        ..PLAIN
    },
    Verb {
        name: "keys",
        options: &[JSON],
        about: "the SSH keys that you come in with",
        also: &["key"],
        call: |run| Box::pin(account::keys(run)),
        ..PLAIN
    },
    Verb {
        name: "keys add",
        args: &[Arg::Maybe("NAME")],
        options: &[JSON],
        about: "add a public key, read from standard input",
        example: "laptop < ~/.ssh/id_ed25519.pub",
        reads: true,
        call: |run| Box::pin(account::key_add(run)),
        ..PLAIN
    },
    Verb {
        name: "keys remove",
        args: &[Arg::One("FINGERPRINT|NAME")],
        about: "a key that does not come in any more",
        example: "laptop",
        call: |run| Box::pin(account::key_remove(run)),
        ..PLAIN
    },
    Verb {
        name: "activity",
        args: &[Arg::Maybe("APP")],
        options: &[JSON],
        about: "who did what: the last 50 commands, of one app or all",
        example: "shop",
        also: &["events", "audit"],
        call: |run| Box::pin(account::activity(run)),
        ..PLAIN
    },
    Verb {
        name: "whoami",
        options: &[JSON],
        about: "who you are here, and what you may use",
        also: &["me", "account", "limits"],
        call: |run| Box::pin(account::whoami(run)),
        ..PLAIN
    },
    Verb {
        name: "help",
        args: &[Arg::Any("COMMAND")],
        about: "this, or one command; `help completion bash` (or zsh) for your own shell",
        example: "logs",
        also: &["man"],
        call: |run| Box::pin(help::show(run)),
        ..PLAIN
    },
];

pub(super) enum Found<'w> {
    Verb(&'static Verb, &'w [String]),
    /// No word at all.
    Nothing,
    Unknown(&'w str),
}

/// The longest name that the words begin with.
pub(super) fn find(words: &[String]) -> Found<'_> {
    let [first, rest @ ..] = words else { return Found::Nothing };
    if let [second, after @ ..] = rest
        && let Some(verb) = TABLE.iter().find(|verb| verb.name.split_once(' ') == Some((first, second)))
    {
        return Found::Verb(verb, after);
    }
    let name = if matches!(first.as_str(), "--help" | "-h") { "help" } else { first };
    match TABLE.iter().find(|verb| verb.name == name) {
        Some(verb) => Found::Verb(verb, rest),
        None => Found::Unknown(first),
    }
}

/// What was meant by `typed`: the one that begins with it, or is a slip or two away.
pub(super) fn nearest<'a>(typed: &str, known: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    // A name is never longer; what is compared stays small.
    if typed.is_empty() || typed.len() > 64 {
        return None;
    }
    let mut begins = known.clone().filter(|name| typed.len() >= 2 && name.starts_with(typed));
    if let (Some(only), None) = (begins.next(), begins.next()) {
        return Some(only);
    }
    let slips_max = match typed.chars().count() {
        0..=3 => 1,
        4..=7 => 2,
        _ => 3,
    };
    known
        .map(|name| (strsim::damerau_levenshtein(typed, name), name))
        .filter(|(slips, name)| *slips <= slips_max && *slips < name.chars().count())
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, name)| name)
}
