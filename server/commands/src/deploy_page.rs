//! One deploy as its own page tells of it: what each step found, who pushed it by which key, how long such deploys take,
//! and which line to change.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::wire::Manifest;
use domain::{AppName, Cause, CommitId, DeployState, InstanceState, ProcessName, Reason, Step};
use store::deploy::page::{self, Before, Started};

use crate::billing::known;
use crate::{Actor, CommandError, Commands, DeployView, size, timely};

/// Of these the page says how long they took.
const LATELY: i64 = 10;
const INSTANCES_MAX: i64 = 200;
/// More are counted instead of named.
const NAMED: usize = 4;

#[derive(Debug, Clone, PartialEq, Default)]
pub struct DeployFacts {
    /// The name of the key that it was pushed with.
    pub key: Option<String>,
    /// Where the branch was.
    pub before: Option<CommitId>,
    /// From push to switch: the last ten before it that went live, asked for as this one was.
    pub lately: Vec<Duration>,
    /// Of steps that began, in words.
    pub found: BTreeMap<Step, Vec<Piece>>,
    pub change: Option<Change>,
}

/// Part of a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    Text(String),
    /// As somebody wrote it for a machine.
    Code(String),
}

/// A line of the app's `Procfile` that would have to be another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub before: String,
    pub after: String,
}

impl Commands {
    /// A deploy with all that its page says.
    pub async fn deploy_page(&self, actor: &Actor, name: &AppName, number: i64) -> Result<DeployView, CommandError> {
        let deploy = self.deploy(actor, name, number).await?;
        let (cost, facts) = tokio::join!(
            timely(self.deploy_cost(actor, name, &deploy.row)),
            timely(self.deploy_facts(actor, name, &deploy))
        );
        Ok(DeployView { cost: known(cost), facts: Some(facts?), ..deploy })
    }

    async fn deploy_facts(
        &self,
        actor: &Actor,
        name: &AppName,
        deploy: &DeployView,
    ) -> Result<DeployFacts, CommandError> {
        let row = &deploy.row;
        let mut tx = self.db.snapshot().await?;
        let app = store::app::get(&mut **tx, actor.customer, name).await?;
        let app = app.ok_or_else(|| CommandError::NoApp { name: name.clone() })?;
        let facts = page::facts(&mut **tx, deploy.id).await?;
        let facts = facts.ok_or(CommandError::NotFound { what: "deploy" })?;
        let lately = page::lately(&mut **tx, app.id, row.number, row.cause, LATELY).await?;
        let step = |step: Step| row.steps.iter().find(|s| s.step == step);
        let started = match step(Step::Start) {
            Some(start) => page::started(&mut **tx, app.id, row.number, start.ended, INSTANCES_MAX).await?,
            None => Vec::new(),
        };
        let before = match step(Step::Drain) {
            Some(drain) => page::before(&mut **tx, app.id, row.number, drain.started, drain.ended).await?,
            None => Before::default(),
        };
        tx.commit().await?;
        let manifest = facts.manifest.as_ref().map(|manifest| &manifest.0);
        let mut found = BTreeMap::new();
        for step in &row.steps {
            let over = step.ended.is_some();
            let words = match step.step {
                Step::Build => build(manifest, facts.image_bytes, facts.builder.as_deref(), step.attempt),
                Step::Release => release(manifest),
                Step::Start => start(manifest, &started, over.then_some(row.state)),
                Step::Switch if over => vec![text(format!("All requests go to v{}", row.number))],
                Step::Branch if over && step.detail.is_none() => {
                    vec![text(format!("{} is at ", row.branch)), code(row.commit.short())]
                }
                Step::Drain => drain(&before, over),
                Step::Switch | Step::Branch => Vec::new(),
            };
            if !words.is_empty() {
                found.insert(step.step, words);
            }
        }
        let failed = row.state == DeployState::Failed && step(Step::Start).is_some();
        Ok(DeployFacts {
            key: facts.key.filter(|_| row.cause == Cause::Push),
            before: facts.before.filter(|before| row.cause == Cause::Push && *before != row.commit),
            lately: lately.into_iter().map(|(created, ended)| ended.since(created)).collect(),
            found,
            change: row.reason.as_ref().filter(|_| failed).and_then(|reason| change(reason, manifest?)),
        })
    }
}

fn text(words: impl Into<String>) -> Piece {
    Piece::Text(words.into())
}

fn code(words: impl Into<String>) -> Piece {
    Piece::Code(words.into())
}

fn kind_of_app(buildpack: &str) -> &str {
    match buildpack {
        "python" => "Python",
        "node" => "Node.js",
        "static" => "Static files",
        other => other,
    }
}

/// "web, worker and release"
fn listed(words: Vec<String>) -> String {
    match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
        None => String::new(),
    }
}

fn build(manifest: Option<&Manifest>, bytes: Option<i64>, builder: Option<&str>, attempt: i32) -> Vec<Piece> {
    let again = if attempt > 1 { format!(", try {attempt}: its builder was lost") } else { String::new() };
    match (manifest, bytes, builder) {
        (Some(manifest), Some(bytes), _) => {
            let kind = kind_of_app(&manifest.buildpack);
            let processes = listed(manifest.processes.keys().map(ToString::to_string).collect());
            vec![text(format!("{kind}: {processes}; an image of {}{again}", size(bytes)))]
        }
        (_, _, Some(builder)) => vec![text(format!("On {builder}{again}"))],
        _ => Vec::new(),
    }
}

fn release(manifest: Option<&Manifest>) -> Vec<Piece> {
    let command = manifest.and_then(|manifest| manifest.processes.iter().find(|(name, _)| name.is_release()));
    command.map(|(_, command)| vec![code(command)]).unwrap_or_default()
}

/// `ended`: the deploy's state, when the step has ended.
fn start(manifest: Option<&Manifest>, started: &[Started], ended: Option<DeployState>) -> Vec<Piece> {
    let answered: Vec<&Started> = started.iter().filter(|i| i.healthy.is_some()).collect();
    let path = manifest.and_then(|manifest| manifest.settings.of(ProcessName::WEB)?.health.clone());
    let named = |i: &Started| {
        let took = i.healthy.map(|healthy| format!(" after {}", took(healthy.since(i.created)))).unwrap_or_default();
        format!("{}.{} on {}{took}", i.process, i.index, i.server)
    };
    let answers = |n: usize| {
        let verb = if n == 1 { "answers" } else { "answer" };
        match &path {
            Some(path) => vec![text(format!(" {verb} ")), code(path.clone())],
            None => vec![text(format!(" {verb}"))],
        }
    };
    match ended {
        Some(DeployState::Failed) if started.is_empty() => Vec::new(),
        Some(DeployState::Failed) => {
            let limit = manifest.map(|manifest| format!("; {} s allowed", plan::start_timeout(manifest).as_secs()));
            let limit = limit.unwrap_or_default();
            vec![text(format!("{} of {} answered{limit}", answered.len(), started.len()))]
        }
        Some(_) if answered.is_empty() => Vec::new(),
        Some(_) if answered.len() <= NAMED => vec![text(listed(answered.into_iter().map(named).collect()))],
        Some(_) => vec![text(format!("{} instances on {}", answered.len(), listed(servers(&answered))))],
        None if started.is_empty() => Vec::new(),
        None => {
            let mut words = vec![text(format!("{} of {}", answered.len(), started.len()))];
            words.extend(answers(answered.len()));
            let late = started.iter().find(|i| i.healthy.is_none());
            words.extend(late.map(|i| text(format!("; {}.{} on {} {}", i.process, i.index, i.server, doing(i.state)))));
            words
        }
    }
}

fn servers(of: &[&Started]) -> Vec<String> {
    let mut names: Vec<String> = of.iter().map(|i| i.server.clone()).collect();
    names.sort();
    names.dedup();
    names
}

fn doing(state: InstanceState) -> &'static str {
    match state {
        InstanceState::Placed => "waits for its server",
        InstanceState::Starting | InstanceState::Unhealthy | InstanceState::Healthy => "starts",
        InstanceState::Crashed | InstanceState::Failed => "crashed",
        InstanceState::Stopped | InstanceState::Done => "ended",
    }
}

fn drain(before: &Before, over: bool) -> Vec<Piece> {
    let Some(release) = before.release else { return Vec::new() };
    let noun = |n: i64| if n == 1 { "instance" } else { "instances" };
    let words = match over {
        true => format!("{} {} of v{release} ended", before.instances, noun(before.instances)),
        false => format!(
            "{} of {} {} of v{release} ended; {} s at most",
            before.ended,
            before.instances,
            noun(before.instances),
            plan::DRAIN_MAX.as_secs()
        ),
    };
    vec![text(words)]
}

fn took(long: Duration) -> String {
    format!("{:.1} s", long.as_secs_f64())
}

/// Reasons are kept as words; whoever asked in vain for an answer on its port names it.
fn change(reason: &Reason, manifest: &Manifest) -> Option<Change> {
    let says = |words: &str| words.contains("PORT");
    if !says(&reason.message) && !reason.hint.as_deref().is_some_and(says) {
        return None;
    }
    let (_, command) = manifest.processes.iter().find(|(name, _)| name.is_web())?;
    let after = plan::listening(command)?;
    Some(Change { before: format!("web: {command}"), after: format!("web: {after}") })
}

impl DeployFacts {
    /// What the last ones took: "The last ten took 19 to 24 s."
    pub fn lately_words(&self, cause: Cause) -> Option<String> {
        let (least, most) = (self.lately.iter().min()?, self.lately.iter().max()?);
        let like = if cause == Cause::Push { "" } else { " of its kind" };
        let who = match self.lately.len() {
            1 => format!("The one{like} before took"),
            10 => format!("The last ten{like} took"),
            n => format!("The last {n}{like} took"),
        };
        let seconds = |long: &Duration| match long.as_secs_f64() {
            s if s < 9.95 => format!("{s:.1}"),
            s => format!("{s:.0}"),
        };
        let (least, most) = (seconds(least), seconds(most));
        Some(if least == most { format!("{who} {most} s.") } else { format!("{who} {least} to {most} s.") })
    }
}

#[cfg(test)]
mod tests {
    use domain::Time;

    use super::*;

    fn said(pieces: &[Piece]) -> String {
        let word = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Code(code) => format!("`{code}`"),
        };
        pieces.iter().map(word).collect()
    }

    fn manifest(web: &str) -> Manifest {
        let process = |name: &str, command: &str| (name.parse().unwrap(), command.to_owned());
        Manifest {
            processes: [process("web", web), process("release", "python manage.py migrate")].into(),
            env: BTreeMap::new(),
            buildpack: "python".to_owned(),
            stack: "host".to_owned(),
            bytes: 1,
            settings: Default::default(),
        }
    }

    fn web(index: i32, answered_ms: Option<u64>) -> Started {
        let created = Time::from_unix_micros(0);
        Started {
            process: ProcessName::web(),
            index,
            server: format!("s{}", index % 2 + 1),
            state: InstanceState::Starting,
            created,
            healthy: answered_ms.map(|ms| created.plus(Duration::from_millis(ms))),
        }
    }

    #[test]
    fn a_step_says_what_it_found_and_nothing_that_nobody_knows() {
        let of = manifest("gunicorn app:app");
        let check = |pieces: Vec<Piece>, expected: &str| assert_eq!(said(&pieces), expected);
        check(build(None, None, None, 1), "");
        check(build(None, None, Some("s1"), 1), "On s1");
        check(build(None, None, Some("s2"), 2), "On s2, try 2: its builder was lost");
        check(build(Some(&of), Some(84 << 20), Some("s1"), 1), "Python: release and web; an image of 84 MiB");
        check(release(None), "");
        check(release(Some(&of)), "`python manage.py migrate`");
        check(start(Some(&of), &[], None), "");
        check(start(Some(&of), &[web(1, Some(900)), web(2, None)], None), "1 of 2 answers; web.2 on s1 starts");
        let live = Some(DeployState::Live);
        let both = "web.1 on s2 after 0.9 s and web.2 on s1 after 1.0 s";
        check(start(Some(&of), &[web(1, Some(900)), web(2, Some(1000))], live), both);
        let many: Vec<Started> = (1..=5).map(|n| web(n, Some(900))).collect();
        check(start(Some(&of), &many, live), "5 instances on s1 and s2");
        check(start(Some(&of), &[web(1, None)], Some(DeployState::Failed)), "0 of 1 answered; 60 s allowed");
        check(start(None, &[], Some(DeployState::Failed)), "");
        let before = |instances, ended| Before { release: Some(141), instances, ended };
        check(drain(&before(2, 1), false), "1 of 2 instances of v141 ended; 30 s at most");
        check(drain(&before(1, 1), true), "1 instance of v141 ended");
        check(drain(&Before::default(), true), "");
        let mut settings = manifest("gunicorn app:app");
        let health = domain::wire::ProcessSettings { health: Some("/healthz".to_owned()), ..Default::default() };
        settings.settings.processes = [(ProcessName::web(), health)].into();
        check(start(Some(&settings), &[web(1, Some(900))], None), "1 of 1 answers `/healthz`");
    }

    #[test]
    fn a_line_is_changed_only_where_nobody_answered_on_the_port() {
        let of = |command| manifest(command);
        let deaf = Reason::new("web listens only on 127.0.0.1").hint("bind to 0.0.0.0:$PORT");
        let wrong = "gunicorn app:app -b 127.0.0.1:8000";
        let right = "gunicorn app:app -b 0.0.0.0:$PORT";
        let expected = Change { before: format!("web: {wrong}"), after: format!("web: {right}") };
        assert_eq!(change(&deaf, &of(wrong)), Some(expected));
        assert_eq!(change(&deaf, &of(right)), None);
        assert_eq!(change(&deaf, &of("python server.py")), None);
        assert_eq!(change(&Reason::new("web exited with code 1"), &of(wrong)), None);
    }

    #[test]
    fn how_long_the_last_ones_took_is_one_sentence() {
        let words = |seconds: &[f64]| {
            let lately = seconds.iter().map(|s| Duration::from_secs_f64(*s)).collect();
            DeployFacts { lately, ..Default::default() }.lately_words(Cause::Push)
        };
        assert_eq!(words(&[]), None);
        assert_eq!(words(&[2.04]).unwrap(), "The one before took 2.0 s.");
        assert_eq!(words(&[24.4, 19.2, 20.0]).unwrap(), "The last 3 took 19 to 24 s.");
        assert_eq!(words(&[20.1; 10]).unwrap(), "The last ten took 20 s.");
    }
}
