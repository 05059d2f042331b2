//! What is typed and what is read. What is done is seen with a real Berth, in `end2end`.

use commands::{AppHealth, AppRow, EventView, InstanceView, KeyView, Urls, VarView, api};
use domain::{InstanceId, InstanceState, KeyId, ReleaseNumber, Time};
use insta::assert_snapshot;

use super::table::{Arg, Found, TABLE, find, nearest};
use super::{apps, args, help, show};

fn urls() -> Urls {
    Urls {
        site: "http://localhost:8080".into(),
        apps_domain: "localhost".into(),
        apps_scheme: "http".into(),
        apps_port: Some(8080),
        ssh: "berth@localhost:2222".into(),
    }
}

fn at(seconds: i64) -> Time {
    Time::from_unix_micros((1_763_386_327 + seconds) * 1_000_000 + 4_567)
}

fn line(words: &str) -> Vec<String> {
    words.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn row(name: &str, release: Option<i64>, health: AppHealth, summary: &str) -> AppRow {
    let name = name.parse().unwrap();
    AppRow {
        url: urls().app(&name),
        name,
        health,
        summary: summary.into(),
        release: release.map(ReleaseNumber),
        last_deploy: None,
        created: at(0),
        cost: None,
    }
}

#[test]
fn every_verb_is_found_by_its_name_and_says_how_it_is_used() {
    for verb in TABLE {
        let words = line(verb.name);
        let Found::Verb(found, []) = find(&words) else { panic!("{} is not found", verb.name) };
        assert_eq!(found.name, verb.name);
        assert!(!verb.about.is_empty() && !verb.about.ends_with('.'), "{}", verb.name);
        let needs = verb.args.iter().any(|arg| matches!(arg, Arg::One(_) | Arg::Many(_)));
        assert!(!needs || !verb.example.is_empty(), "{} has no example", verb.name);
        let after = line(verb.example.split(" <").next().unwrap());
        assert!(args::parse(verb, &after).is_ok(), "the example of {} is none", verb.name);
        // What it is called besides is no verb itself, and no other's.
        for also in verb.also {
            assert!(!TABLE.iter().any(|other| other.name == *also), "{also}");
            assert_eq!(TABLE.iter().filter(|other| other.also.contains(also)).count(), 1, "{also}");
        }
    }
    let words = line("config -- set");
    assert!(matches!(find(&words), Found::Verb(verb, _) if verb.name == "config"), "an app may be called so");
}

#[test]
fn options_stand_anywhere_and_what_is_wrong_is_said() {
    let parse = |words: &str| {
        let words = line(words);
        let Found::Verb(verb, rest) = find(&words) else { panic!("{words:?}") };
        args::parse(verb, rest)
    };
    for words in ["logs shop -t -n 5", "logs -tn5 shop", "logs --tail --lines=5 shop", "logs -n 9 -n 5 shop -t"] {
        let args = parse(words).unwrap();
        assert_eq!((args.word(0), args.has("tail"), args.value("lines")), ("shop", true, Some("5")), "{words}");
    }
    assert_eq!(parse("info -- --json").unwrap().word(0), "--json");
    assert_eq!(parse("config set shop K=- -- -x=y").unwrap().words_from(1), ["K=-", "-x=y"]);
    assert!(parse("logs --help").unwrap().has("help"), "without the app");
    for (words, says) in [
        ("info", "`info` needs APP."),
        ("config set shop", "`config set` needs KEY=VALUE."),
        ("info shop blog", "`blog` is one word too many."),
        ("logs shop --tial", "`logs` has no option `--tial`. Did you mean `--tail`?"),
        ("logs shop -x", "`logs` has no option `-x`."),
        ("logs shop -n", "-n needs a number."),
        ("logs shop --source", "--source needs an instance such as web.1."),
        ("apps --json=yes", "--json takes no value."),
    ] {
        assert_eq!(parse(words).unwrap_err(), says);
    }
}

#[test]
fn what_is_mistyped_is_guessed_and_what_is_far_off_is_not() {
    let meant = |word: &str| nearest(word, TABLE.iter().map(|verb| verb.name));
    for (word, verb) in [("lgos", "logs"), ("rel", "releases"), ("rollbak", "rollback"), ("hlep", "help")] {
        assert_eq!(meant(word), Some(verb), "{word}");
    }
    for word in ["", "x", "kubernetes", "cat", &"l".repeat(1 << 20)] {
        assert_eq!(meant(word), None);
    }
    assert_eq!(nearest("shpo", ["shop", "blog"].into_iter()), Some("shop"));
    let said = |word| help::unknown(word, &urls());
    assert_snapshot!(said("lgos"), @"
    berth: There is no `lgos`. Did you mean `logs`?
      hint: There is no shell here. All commands: ssh -p 2222 berth@localhost help
    ");
    assert_snapshot!(said("env"), @"
    berth: There is no `env`. Did you mean `config`?
      hint: There is no shell here. All commands: ssh -p 2222 berth@localhost help
    ");
    assert_snapshot!(said("bash\x1b[2J"), @r"
    berth: There is no `bash\x1b[2J`.
      hint: There is no shell here. All commands: ssh -p 2222 berth@localhost help
    ");
}

#[test]
fn a_scale_is_counts_and_sizes() {
    let read = |words: &str| apps::read(&line(words));
    let to = read("web=2 worker:512MiB cron=1:1g").unwrap();
    let counts: Vec<_> = to.counts.iter().map(|(name, count)| (name.as_str(), *count)).collect();
    let memory: Vec<_> = to.memory.iter().map(|(name, bytes)| (name.as_str(), *bytes >> 20)).collect();
    assert_eq!((counts, memory), (vec![("cron", 1), ("web", 2)], vec![("cron", 1024), ("worker", 512)]));
    for (words, says) in [
        ("web", "`web` has no count and no memory."),
        ("web=", "`web=` has no count."),
        ("web=-1", "`web=-1` has no count."),
        ("web=99999", "`web=99999` has no count."),
        ("web:much", "`web:much` has no size of memory."),
        ("web:99999999999999999999g", "has no size of memory."),
        ("=2", "`=2` names no process type."),
        ("web=1 web=2", "`web=2` counts a process type twice."),
    ] {
        let said = read(words).unwrap_err();
        assert!(said.contains(says), "{said}");
    }
}

#[test]
fn tables_are_aligned_and_cut_only_for_a_terminal() {
    let all = [
        row("shop", Some(14), AppHealth::Running, "v14 serves"),
        row(
            "a-long-name-of-an-app",
            None,
            AppHealth::Failed,
            "deploy 1 failed: no requirements.txt and\x1b[2J\tno index",
        ),
    ];
    assert_snapshot!(show::apps(&all, None), @r"
    NAME                   RELEASE  URL                                          STATE
    shop                   v14      http://shop.localhost:8080                   v14 serves
    a-long-name-of-an-app  -        http://a-long-name-of-an-app.localhost:8080  deploy 1 failed: no requirements.txt and\x1b[2J no index
    ");
    assert_snapshot!(show::apps(&all, Some(90)), @"
    NAME                   RELEASE  URL                                          STATE
    shop                   v14      http://shop.localhost:8080                   v14 serves
    a-long-name-of-an-app  -        http://a-long-name-of-an-app.localhost:8080  deploy 1 fai…
    ");
    let one = InstanceView {
        id: InstanceId(7),
        process: "web".parse().unwrap(),
        index: 1,
        release: ReleaseNumber(14),
        state: InstanceState::Healthy,
        draining: false,
        reason: None,
        restarts: 0,
        memory_bytes: 512 << 20,
        since: at(0),
        server: "s1".into(),
    };
    let two = InstanceView {
        index: 2,
        state: InstanceState::Crashed,
        restarts: 3,
        draining: false,
        reason: Some(domain::Reason::new("it used more than 512 MiB\nsee its log")),
        ..one.clone()
    };
    assert_snapshot!(show::instances(&[one.clone(), two], None), @"
    INSTANCE  STATE    RELEASE  MEMORY  SINCE                 RESTARTS  REASON
    web.1     healthy  v14      512MiB  2025-11-17T13:32:07Z  0         -
    web.2     crashed  v14      512MiB  2025-11-17T13:32:07Z  3         it used more than 512 MiB
    ");
    let json = show::json(&api::Instance::from(&one));
    assert_snapshot!(json, @r#"{"process":"web","index":1,"state":"healthy","release":14,"draining":false,"memory_bytes":536870912,"restarts":0,"since":"2025-11-17T13:32:07.004567Z","server":"s1","reason":null}"#);
}

#[test]
fn config_keys_activity_and_log_lines_read_well() {
    let var = |name: &str, value: Option<&str>| VarView {
        name: name.into(),
        value: value.map(str::to_owned),
        bytes: value.map_or(8, |value| value.len() as i32),
        by: Some("Ada Lovelace".into()),
        since: at(0),
    };
    let vars = [var("API_KEY", None), var("CERT", Some("one\ntwo")), var("EMPTY", Some("")), var("WORKERS", Some("4"))];
    assert_snapshot!(show::vars(&vars, None), @r"
    NAME     BYTES  SINCE                 BY            VALUE
    API_KEY  8      2025-11-17T13:32:07Z  Ada Lovelace  (secret)
    CERT     7      2025-11-17T13:32:07Z  Ada Lovelace  one\x0atwo
    EMPTY    0      2025-11-17T13:32:07Z  Ada Lovelace  (empty)
    WORKERS  1      2025-11-17T13:32:07Z  Ada Lovelace  4
    ");
    let key = KeyView {
        id: KeyId(1),
        name: "ada@laptop".into(),
        kind: "ssh-ed25519".into(),
        fingerprint: "SHA256:UCUiLr7Pjs9wFFJMDByLgc3NrtdU344OgUM45wZPcIQ".into(),
        created: at(0),
        last_used: None,
    };
    assert_snapshot!(show::keys(&[key], None), @"
    FINGERPRINT                                         KIND         ADDED                 LAST-USED  NAME
    SHA256:UCUiLr7Pjs9wFFJMDByLgc3NrtdU344OgUM45wZPcIQ  ssh-ed25519  2025-11-17T13:32:07Z  -          ada@laptop
    ");
    let event = EventView {
        id: 1,
        at: at(0),
        by: Some("Ada".into()),
        door: "ssh".into(),
        origin: Some("127.0.0.1".parse().unwrap()),
        verb: "app stop".into(),
        subject: "shop".into(),
        before: Some("running".into()),
        after: Some("stopped".into()),
    };
    assert_snapshot!(show::events(&[event], None), @"
    WHEN                  DOOR  FROM       BY   WHAT
    2025-11-17T13:32:07Z  ssh   127.0.0.1  Ada  app stop shop: running → stopped
    ");
    assert_snapshot!(show::log_line(at(0), "web.1", "GET / 200"), @"2025-11-17T13:32:07.004Z web.1    GET / 200");
}

#[test]
fn json_holds_no_character_that_a_terminal_would_obey() {
    let line =
        domain::wire::LogLine { cursor: 1, at: at(0), source: "web.1".into(), text: "a\x1b[2J\u{9b}31m\x7f\"".into() };
    let json = show::json(&api::LogLine::from(&line));
    assert!(!json.contains(char::is_control), "{json}");
    let read: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(read["text"], line.text);
}

#[test]
fn help_says_all_there_is() {
    assert_snapshot!(help::all(&urls()), @r#"
    Usage: ssh -p 2222 berth@localhost COMMAND

      apps                          your apps, and how they do
      create NAME                   make an app, to be pushed to
      info APP                      one app: state, addresses, release, processes
      open APP                      the app's URL, and nothing else
      ps APP                        the app's instances
      logs APP                      what the app wrote, or one of its deploys
      scale APP [PROCESS=COUNT|PROCESS:MEMORY...]
                                    how many of each process type run, and how big
      config APP                    the app's config vars; secrets are never shown again
      config set APP KEY=VALUE...   set config vars, and roll them out; `KEY=-` reads the value from standard input
      config unset APP KEY          remove a config var, and roll that out
      releases APP                  the app's last 20 deploys; one that was live is a release
      rollback APP [RELEASE]        serve an earlier release again, image and config; without one, the one before
      restart APP                   new instances of what serves, like a deploy
      cancel APP DEPLOY             end a deploy that is under way; what serves goes on
      retry APP DEPLOY              try a deploy once more that failed or was canceled
      stop APP                      end its instances; its address says that it is stopped
      start APP                     serve again what was stopped
      delete APP                    delete an app, its releases, config and logs
      usage APP                     what the app used, and how it answered
      cost [APP]                    what this month comes to so far: of all apps, or of one and what a day of it costs
      keys                          the SSH keys that you come in with
      keys add [NAME]               add a public key, read from standard input
      keys remove FINGERPRINT|NAME  a key that does not come in any more
      activity [APP]                who did what: the last 50 commands, of one app or all
      whoami                        who you are here, and what you may use
      help [COMMAND...]             this, or one command; `help completion bash` (or zsh) for your own shell

    Deploy by a push: git remote add berth ssh://berth@localhost:2222/APP.git && git push berth main
    One command in full: help COMMAND. Completion for your own shell: help completion bash
    Words are cut at blanks; quote as for any remote command, once for your own shell and once more: "'a b'".
    Results go to standard output, all else to standard error. Exit codes: 0 done; 1 refused, or the deploy
    failed; 2 not understood; 3 Berth is not able to just now, try again; 4 not there, or not yours.
    The same on pages: http://localhost:8080
    "#);
    let logs = TABLE.iter().find(|verb| verb.name == "logs").unwrap();
    assert_snapshot!(help::of(logs, &urls()), @"
    logs: what the app wrote, or one of its deploys

    usage: logs APP [-t] [-n LINES] [--source SOURCE] [--text TEXT] [--deploy DEPLOY] [--json]
    example: ssh -p 2222 berth@localhost logs shop -t

      -t, --tail         go on with what comes, until Ctrl-C
      -n, --lines LINES  the last so many (100) (a number)
      --source SOURCE    of one instance or process type only (an instance such as web.1)
      --text TEXT        those that have it in them (a word)
      --deploy DEPLOY    of that deploy instead (a number)
      --json             for programs: one line of JSON
    ");
}
