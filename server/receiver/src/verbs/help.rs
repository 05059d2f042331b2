//! What there is to ask, and how; the greeting; completion for the person's own shell.

use commands::{Actor, Commands, Kind, Urls};

use super::table::{Arg, Opt, TABLE, Verb, find, nearest};
use super::{DONE, Ended, Out, Run, Stop, args, show};
use crate::words;

/// Shown by the greeting; `apps` shows all.
const APPS_GREETED: usize = 10;

pub(super) async fn show(run: &mut Run<'_>) -> Ended {
    let words: Vec<String> = run.args.words_from(0).to_vec();
    let urls = run.commands.urls();
    let text = match words.first().map(String::as_str) {
        None => all(urls),
        Some("completion") => match words.get(1).map(String::as_str) {
            Some("bash") => completion_bash(urls),
            Some("zsh") => completion_zsh(urls),
            _ => return Err(Stop::Usage("For which shell? Write: help completion bash, or zsh.".to_owned())),
        },
        Some(_) => match find(&words) {
            super::Found::Verb(verb, _) => of(verb, urls),
            super::Found::Unknown(word) => {
                run.out.note(&unknown(word, urls)).await?;
                return Ok(super::code(Kind::Invalid));
            }
            super::Found::Nothing => all(urls),
        },
    };
    run.out.say(&text).await?;
    Ok(DONE)
}

/// `ssh -p 2222 berth@host`
fn ssh(urls: &Urls) -> String {
    match urls.ssh.rsplit_once(':') {
        Some((host, "22")) => format!("ssh {host}"),
        Some((host, port)) => format!("ssh -p {port} {host}"),
        None => format!("ssh {}", urls.ssh),
    }
}

pub(super) async fn greeting(commands: &Commands, actor: &Actor, out: &Out) -> Result<String, Stop> {
    let Ok(who) = commands.who(actor).await else { return Ok(all(commands.urls())) };
    let mut text =
        format!("Hello {}! Berth knows you by your key. There is no shell here.\n\n", words::plain(&who.name));
    match commands.apps(actor).await {
        Ok(apps) if apps.is_empty() => text.push_str("You have no apps yet. Make one by: create NAME\n"),
        Ok(apps) => {
            let (shown, more) = apps.split_at(apps.len().min(APPS_GREETED));
            text.push_str(&show::apps(shown, out.columns()));
            if !more.is_empty() {
                text.push_str(&format!("and {} more: apps\n", more.len()));
            }
        }
        Err(_) => {}
    }
    text.push('\n');
    text.push_str(&all(commands.urls()));
    Ok(text)
}

pub(super) fn all(urls: &Urls) -> String {
    let ssh = ssh(urls);
    let mut text = format!("Usage: {ssh} COMMAND\n\n");
    let line = |verb: &Verb| verb.args.iter().fold(verb.name.to_owned(), |line, arg| format!("{line} {}", named(arg)));
    let lines: Vec<(String, &str)> = TABLE.iter().map(|verb| (line(verb), verb.about)).collect();
    // A long one has its words below it.
    let width = lines.iter().map(|(line, _)| line.len()).filter(|len| *len <= 28).max().unwrap_or(0);
    for (line, about) in lines {
        match line.len() <= width {
            true => text.push_str(&format!("  {line:width$}  {about}\n")),
            false => text.push_str(&format!("  {line}\n  {:width$}  {about}\n", "")),
        }
    }
    text.push_str(&format!(
        "\n\
         Deploy by a push: git remote add berth ssh://{}/APP.git && git push berth main\n\
         One command in full: help COMMAND. Completion for your own shell: help completion bash\n\
         {}.\n\
         Results go to standard output, all else to standard error. Exit codes: 0 done; 1 refused, or the deploy\n\
         failed; 2 not understood; 3 Berth is not able to just now, try again; 4 not there, or not yours.\n\
         The same on pages: {}\n",
        urls.ssh,
        super::QUOTING,
        urls.site
    ));
    text
}

fn named(arg: &Arg) -> String {
    match arg {
        Arg::One(name) => (*name).to_owned(),
        Arg::Maybe(name) => format!("[{name}]"),
        Arg::Many(name) => format!("{name}..."),
        Arg::Any(name) => format!("[{name}...]"),
    }
}

fn option(opt: &Opt) -> String {
    let long = format!("--{}", opt.long);
    let value = opt.value.map(|_| format!(" {}", opt.long.to_uppercase())).unwrap_or_default();
    match opt.short {
        Some(short) => format!("-{short}, {long}{value}"),
        None => format!("{long}{value}"),
    }
}

/// The line, and an example.
pub(super) fn usage(verb: &Verb, urls: &Urls) -> String {
    let args: String = verb.args.iter().map(|arg| format!(" {}", named(arg))).collect();
    let options: String = verb
        .options
        .iter()
        .map(|opt| match (opt.short, opt.value) {
            (Some(short), None) => format!(" [-{short}]"),
            (Some(short), Some(_)) => format!(" [-{short} {}]", opt.long.to_uppercase()),
            (None, None) => format!(" [--{}]", opt.long),
            (None, Some(_)) => format!(" [--{} {}]", opt.long, opt.long.to_uppercase()),
        })
        .collect();
    let mut text = format!("usage: {}{args}{options}\n", verb.name);
    if !verb.example.is_empty() {
        text.push_str(&format!("example: {} {} {}\n", ssh(urls), verb.name, verb.example));
    }
    text
}

pub(super) fn of(verb: &Verb, urls: &Urls) -> String {
    let mut text = format!("{}: {}\n\n{}", verb.name, verb.about, usage(verb, urls));
    let width = verb.options.iter().map(|opt| option(opt).len()).max().unwrap_or(0);
    if width > 0 {
        text.push('\n');
    }
    for opt in verb.options {
        let value = opt.value.map(|value| format!(" ({value})")).unwrap_or_default();
        text.push_str(&format!("  {:width$}  {}{value}\n", option(opt), opt.about));
    }
    text
}

pub(super) fn unknown(word: &str, urls: &Urls) -> String {
    let names = || TABLE.iter().map(|verb| verb.name);
    let also = TABLE.iter().find(|verb| verb.also.contains(&word)).map(|verb| verb.name);
    let meant = also.or_else(|| nearest(word, names()));
    let shown: String = word.chars().take(60).collect();
    let mut message = format!("There is no `{shown}`.");
    if let Some(meant) = meant {
        message.push_str(&format!(" Did you mean `{meant}`?"));
    }
    words::error(&message, Some(&format!("There is no shell here. All commands: {} help", ssh(urls))))
}

/// What may stand first after a verb; `APP` is any of the person's apps.
fn first(verb: &Verb) -> String {
    let first = match verb.args.first() {
        Some(Arg::One("APP") | Arg::Maybe("APP")) => "APP".to_owned(),
        _ if verb.name == "help" => format!("{} completion", names(false).join(" ")),
        _ => String::new(),
    };
    let second =
        TABLE.iter().filter_map(|other| other.name.strip_prefix(&format!("{} ", verb.name)).map(str::to_owned));
    [first].into_iter().chain(second).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

fn options(verb: &Verb) -> String {
    let options = verb.options.iter().chain([&args::HELP]).map(|opt| format!("--{}", opt.long));
    options.collect::<Vec<_>>().join(" ")
}

/// Of one word, or of two.
fn names(two: bool) -> Vec<&'static str> {
    TABLE.iter().map(|verb| verb.name).filter(|name| name.contains(' ') == two).collect()
}

fn completion_bash(urls: &Urls) -> String {
    let cases = |follows: fn(&Verb) -> String| -> String {
        TABLE.iter().map(|verb| format!("      '{}') next='{}' ;;\n", verb.name, follows(verb))).collect()
    };
    let two: Vec<String> = names(true).iter().map(|name| format!("'{name}'")).collect();
    include_str!("completion.bash")
        .replace("@SSH@", &ssh(urls))
        .replace("@VERBS@", &names(false).join(" "))
        .replace("@TWO@", &two.join(" | "))
        .replace("@OPTIONS@\n", &cases(options))
        .replace("@FIRST@\n", &cases(first))
}

/// By zsh's own emulation of bash's completion.
fn completion_zsh(urls: &Urls) -> String {
    let bash = completion_bash(urls).replacen("~/.bashrc", "~/.zshrc", 1);
    format!("autoload -U +X bashcompinit && bashcompinit\n{bash}")
}
