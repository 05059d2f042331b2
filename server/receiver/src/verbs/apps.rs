//! Apps: listed, made, looked at, scaled, stopped and started, deleted.

use commands::{Kind, Range, Scale, api};
use domain::ProcessName;

use super::{DONE, Ended, Run, Stop, deploys, show};

pub(super) async fn list(run: &mut Run<'_>) -> Ended {
    let apps = run.commands.apps(&run.actor).await?;
    if run.json() {
        let all: Vec<_> = apps.iter().map(api::App::from).collect();
        run.json_line(&all).await?;
    } else if run.args.has("quiet") {
        let names: String = apps.iter().map(|app| format!("{}\n", app.name)).collect();
        run.out.say(&names).await?;
    } else if apps.is_empty() {
        run.out.note("You have no apps yet. Make one by: create NAME\n").await?;
    } else {
        run.out.say(&show::apps(&apps, run.out.columns())).await?;
    }
    Ok(DONE)
}

pub(super) async fn create(run: &mut Run<'_>) -> Ended {
    let name = run.commands.app_create(&run.actor, run.args.word(0)).await?;
    if run.json() {
        let view = run.commands.app(&run.actor, &name).await?;
        run.json_line(&api::AppDetail::from(&view)).await?;
    } else {
        let urls = run.commands.urls();
        let (url, git) = (urls.app(&name), urls.git(&name));
        let text = format!(
            "{name} is made, and will answer at {url}\n\nPush your code to it:\n\n  git remote add berth {git}\n  git push berth main\n"
        );
        run.out.say(&text).await?;
    }
    Ok(DONE)
}

pub(super) async fn info(run: &mut Run<'_>) -> Ended {
    let view = run.commands.app(&run.actor, &run.app()?).await?;
    if run.json() {
        run.json_line(&api::AppDetail::from(&view)).await?;
    } else {
        run.out.say(&show::app(&view)).await?;
    }
    Ok(DONE)
}

pub(super) async fn open(run: &mut Run<'_>) -> Ended {
    let target = run.commands.push_target(&run.actor, &run.app()?).await?;
    run.out.say(&format!("{}\n", run.commands.urls().app(&target.name))).await?;
    Ok(DONE)
}

pub(super) async fn ps(run: &mut Run<'_>) -> Ended {
    let view = run.commands.app(&run.actor, &run.app()?).await?;
    if run.json() {
        let all: Vec<_> = view.instances.iter().map(api::Instance::from).collect();
        run.json_line(&all).await?;
    } else if view.instances.is_empty() {
        run.out.note(&format!("Nothing of {} runs: {}.\n", view.name, run.out.line(&view.summary))).await?;
    } else {
        run.out.say(&show::instances(&view.instances, run.out.columns())).await?;
    }
    Ok(DONE)
}

pub(super) async fn usage(run: &mut Run<'_>) -> Ended {
    let app = run.app()?;
    let range = match run.args.value("range").map(str::parse) {
        None => Range::default(),
        Some(Ok(range)) => range,
        Some(Err(())) => return Err(Stop::Usage("--range is 1h, 1d or 30d.".to_owned())),
    };
    let view = run.commands.usage(&run.actor, &app, range).await?;
    if run.json() {
        run.json_line(&api::Usage::from(&view)).await?;
    } else if view.total.is_none() {
        run.out.note(&format!("Nothing of {app} was seen in the last {}.\n", show::range(range))).await?;
    } else {
        run.out.say(&show::usage(&view)).await?;
    }
    Ok(DONE)
}

pub(super) async fn stop(run: &mut Run<'_>) -> Ended {
    let app = run.app()?;
    run.commands.app_stop(&run.actor, &app).await?;
    run.out.say(&format!("{app} is stopped, and its address says so. To start it: start {app}\n")).await?;
    Ok(DONE)
}

pub(super) async fn start(run: &mut Run<'_>) -> Ended {
    let app = run.app()?;
    run.commands.app_start(&run.actor, &app).await?;
    run.out.say(&format!("{app} is started: {}\n", run.commands.urls().app(&app))).await?;
    Ok(DONE)
}

pub(super) async fn delete(run: &mut Run<'_>) -> Ended {
    let app = run.app()?;
    let Some(typed) = run.args.value("confirm") else {
        // Nobody learns by this whether it is there.
        run.commands.push_target(&run.actor, &app).await?;
        let message = format!("Deleting {app} takes its releases, config and logs; nothing brings them back.");
        return Err(Stop::told(Kind::Invalid, message, format!("If you mean it: delete {app} --confirm {app}")));
    };
    run.commands.app_delete(&run.actor, &app, typed).await?;
    run.out.say(&format!("{app} is deleted. Its name stays yours for 90 days.\n")).await?;
    Ok(DONE)
}

pub(super) async fn scale(run: &mut Run<'_>) -> Ended {
    let app = run.app()?;
    let to = read(run.args.words_from(1)).map_err(Stop::Usage)?;
    if to == Scale::default() {
        return shown(run, &app).await;
    }
    match run.commands.app_scale(&run.actor, &app, &to).await? {
        Some(number) => deploys::follow(run, &app, number).await,
        None => shown(run, &app).await,
    }
}

async fn shown(run: &Run<'_>, app: &domain::AppName) -> Ended {
    let view = run.commands.app(&run.actor, app).await?;
    if run.json() {
        let all: Vec<_> = view.processes.iter().map(api::Process::from).collect();
        run.json_line(&all).await?;
    } else if view.processes.is_empty() {
        run.out.note(&format!("{app} has no processes yet: {}.\n", run.out.line(&view.summary))).await?;
    } else {
        run.out.say(&show::processes(&view.processes)).await?;
    }
    Ok(DONE)
}

/// `web=2`, `web:512MiB`, `web=2:512MiB`.
pub(super) fn read(words: &[String]) -> Result<Scale, String> {
    let mut to = Scale::default();
    for word in words {
        let shown: String = word.chars().take(40).collect();
        let wrong = |what: &str| format!("`{shown}` {what}. Write web=2, web:512MiB, or web=2:512MiB.");
        let (left, memory) = word.split_once(':').map_or((word.as_str(), None), |(left, size)| (left, Some(size)));
        let (name, count) = left.split_once('=').map_or((left, None), |(name, count)| (name, Some(count)));
        let process: ProcessName = name.parse().map_err(|_| wrong("names no process type"))?;
        if count.is_none() && memory.is_none() {
            return Err(wrong("has no count and no memory"));
        }
        if let Some(count) = count {
            let count = count.parse().map_err(|_| wrong("has no count"))?;
            if to.counts.insert(process.clone(), count).is_some() {
                return Err(wrong("counts a process type twice"));
            }
        }
        if let Some(size) = memory {
            let bytes = bytes(size).ok_or_else(|| wrong("has no size of memory"))?;
            if to.memory.insert(process, bytes).is_some() {
                return Err(wrong("sizes a process type twice"));
            }
        }
    }
    Ok(to)
}

/// `512MiB`, `512M`, `512`, `1GiB`, `1g`.
fn bytes(size: &str) -> Option<u64> {
    let size = size.to_ascii_lowercase();
    let digits = size.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &size[digits.len()..] {
        "" | "m" | "mib" | "mb" => 20,
        "g" | "gib" | "gb" => 30,
        _ => return None,
    };
    digits.parse::<u64>().ok().filter(|n| *n <= 1 << 20).map(|n| n << shift)
}
