//! Apps: listed, made, looked at.

use std::collections::HashMap;

use domain::{
    AppId, AppName, AppState, DeployState, Hostname, InstanceState, ProcessName, Reason, ReleaseNumber, Wanted,
};
use store::app::Reserved;
use store::deploy::{Deploy, DeployStep};
use store::instance::Instance;

use crate::billing::known;
use crate::verbs::processes;
use crate::{
    Actor, AppDisk, AppHealth, AppRow, AppView, CommandError, Commands, DeployRow, DiskView, InstanceView, Offer,
    ProcessView, StepView, TrafficView, timely,
};

const DEPLOYS_SHOWN: i64 = 20;

impl Commands {
    /// What needs somebody first.
    pub async fn apps(&self, actor: &Actor) -> Result<Vec<AppRow>, CommandError> {
        timely(async {
            let mut tx = self.db.snapshot().await?;
            let apps = store::app::list(&mut **tx, actor.customer).await?;
            let deploys = store::deploy::latest(&mut **tx, actor.customer).await?;
            let instances = store::instance::list(&mut **tx, actor.customer).await?;
            let reserved = store::app::reserved(&mut **tx, actor.customer).await?;
            tx.commit().await?;
            let deploys: HashMap<AppId, &Deploy> = deploys.iter().map(|deploy| (deploy.app_id, deploy)).collect();
            let reserved: HashMap<AppId, &Reserved> = reserved.iter().map(|app| (app.app_id, app)).collect();
            let mut of_apps: HashMap<AppId, Vec<&Instance>> = HashMap::new();
            instances.iter().for_each(|instance| of_apps.entry(instance.app_id).or_default().push(instance));
            let row = |app: store::app::App| {
                let last = deploys.get(&app.id).copied();
                let mine = of_apps.remove(&app.id).unwrap_or_default();
                let none = reserved.get(&app.id).is_some_and(|r| runs_none(&processes(r)));
                let (health, summary) = scaled(health(app.state, app.release_number, last, &mine), none);
                AppRow {
                    url: self.urls.app(&app.name),
                    name: app.name,
                    health,
                    summary,
                    release: app.release_number,
                    last_deploy: last.map(|d| deploy_row(d.clone(), app.release_number, Vec::new())),
                    created: app.created,
                    cost: None,
                }
            };
            let mut rows: Vec<AppRow> = apps.into_iter().map(row).collect();
            rows.sort_by(|a, b| a.health.cmp(&b.health).then_with(|| a.name.cmp(&b.name)));
            Ok(rows)
        })
        .await
    }

    pub async fn app(&self, actor: &Actor, name: &AppName) -> Result<AppView, CommandError> {
        timely(async {
            let mut tx = self.db.snapshot().await?;
            let app = store::app::get(&mut **tx, actor.customer, name).await?;
            let app = app.ok_or_else(|| CommandError::NoApp { name: name.clone() })?;
            let deploys = store::deploy::list(&mut **tx, app.id, DEPLOYS_SHOWN).await?;
            let mut steps = store::deploy::steps_of_latest(&mut **tx, app.id, DEPLOYS_SHOWN).await?;
            let instances = store::instance::of_app(&mut **tx, app.id).await?;
            let reserved = store::app::reserved(&mut **tx, actor.customer).await?;
            let mut started_by = store::app::processes(&mut **tx, app.id).await?;
            let usage = store::disk::usage(&mut **tx, actor.customer).await?;
            let bytes_max = store::disk::bytes_max(&mut **tx, actor.customer).await?;
            tx.commit().await?;
            let all = DiskView::new(usage.iter().cloned(), bytes_max);
            let mine = DiskView::new(usage.into_iter().filter(|u| u.app_id == app.id), bytes_max);
            let disk = AppDisk { bytes: mine.bytes, kinds: mine.kinds, all_bytes: all.bytes, bytes_max };
            let mut row = |deploy: Deploy| {
                let steps = steps.remove(&deploy.id).unwrap_or_default();
                deploy_row(deploy, app.release_number, steps)
            };
            let mine: Vec<&Instance> = instances.iter().collect();
            let mut processes = reserved.iter().find(|r| r.app_id == app.id).map(processes).unwrap_or_default();
            processes.iter_mut().for_each(|view| view.command = started_by.remove(&view.process));
            let none = !processes.is_empty() && runs_none(&processes);
            let (health, summary) = scaled(health(app.state, app.release_number, deploys.first(), &mine), none);
            Ok(AppView {
                url: self.urls.app(&app.name),
                git_url: self.urls.git(&app.name),
                name: app.name,
                deploy_branch: app.deploy_branch,
                state: app.state,
                health,
                summary,
                release: app.release_number,
                processes,
                instances: instances.into_iter().map(instance_view).collect(),
                deploys: deploys.into_iter().map(&mut row).collect(),
                disk,
                created: app.created,
                cost: None,
            })
        })
        .await
    }

    /// Apps with what each costs.
    pub async fn apps_with_cost(&self, actor: &Actor) -> Result<Vec<AppRow>, CommandError> {
        let (apps, costs) = tokio::join!(self.apps(actor), self.costs(actor));
        let (mut apps, costs) = (apps?, known(costs));
        for app in &mut apps {
            app.cost = costs.as_ref().map(|costs| costs.get(&app.name).copied().unwrap_or_default());
        }
        Ok(apps)
    }

    /// An app with what it costs.
    pub async fn app_with_cost(&self, actor: &Actor, name: &AppName) -> Result<AppView, CommandError> {
        let (app, cost) = tokio::join!(self.app(actor, name), self.app_cost(actor, name));
        Ok(AppView { cost: known(cost), ..app? })
    }

    /// Makes an app, with its hostname.
    pub async fn app_create(&self, actor: &Actor, name: &str) -> Result<AppName, CommandError> {
        timely(async {
            let name: AppName = name.trim().parse().map_err(|cause| CommandError::name("name", cause))?;
            let hostname: Hostname = format!("{name}.{}", self.urls.apps_domain)
                .parse()
                .map_err(|cause| CommandError::name("name", cause))?;
            let mut tx = self.db.begin().await?;
            self.may_begin(&mut tx, actor).await?;
            let (apps, apps_max) = store::app::room(&mut tx, actor.customer).await?;
            if apps >= apps_max {
                return Err(CommandError::AppsLimit { apps });
            }
            if store::app::is_kept(&mut tx, actor.customer, &name).await? {
                return Err(CommandError::NameTaken { name });
            }
            let app = match store::app::create(&mut tx, actor.customer, &name).await {
                Ok(app) => app,
                Err(cause) if cause.forbidden_by() == Some(store::Constraint::AppNameOnce) => {
                    return Err(CommandError::NameTaken { name });
                }
                Err(cause) => return Err(cause.into()),
            };
            if !store::app::create_hostname(&mut tx, app, &hostname).await? {
                return Err(CommandError::NameTaken { name });
            }
            self.record(&mut tx, actor, "app create", name.as_str(), None, None).await?;
            tx.commit().await?;
            Ok(name)
        })
        .await
    }
}

pub(crate) fn deploy_row(deploy: Deploy, serving: Option<ReleaseNumber>, steps: Vec<DeployStep>) -> DeployRow {
    let step = |s: DeployStep| StepView {
        step: s.step,
        attempt: s.attempt,
        started: s.started,
        ended: s.ended,
        outcome: s.outcome,
        detail: s.detail,
    };
    let serves = serving == Some(ReleaseNumber(deploy.number));
    let offer = match deploy.state {
        DeployState::Queued | DeployState::Building | DeployState::Releasing | DeployState::Starting => {
            Some(Offer::Cancel)
        }
        _ if deploy.forgotten.is_some() => None,
        DeployState::Live if !serves && deploy.image.is_some() => Some(Offer::RollBack),
        DeployState::Failed | DeployState::Canceled => Some(Offer::Again),
        DeployState::Switching | DeployState::Live => None,
    };
    DeployRow {
        number: deploy.number,
        cause: deploy.cause,
        origin: deploy.origin,
        offer,
        state: deploy.state,
        serves,
        commit: deploy.commit_id,
        subject: deploy.commit_subject,
        branch: deploy.branch,
        by: deploy.by,
        reason: reason(deploy.reason, deploy.hint),
        created: deploy.created,
        ended: deploy.ended,
        steps: steps.into_iter().map(step).collect(),
        traffic: deploy.requests.map(|requests| TrafficView {
            requests,
            unanswered: deploy.unanswered.unwrap_or(0),
            errors: deploy.errors.unwrap_or(0),
        }),
    }
}

fn reason(message: Option<String>, hint: Option<String>) -> Option<Reason> {
    message.map(|message| Reason { message, hint })
}

fn instance_view(instance: Instance) -> InstanceView {
    InstanceView {
        id: instance.id,
        process: instance.process,
        index: instance.index,
        release: instance.release_number,
        state: instance.state,
        draining: instance.wanted != Wanted::Run,
        reason: reason(instance.reason, instance.hint),
        restarts: instance.restarts,
        memory_bytes: instance.memory_bytes,
        since: instance.healthy.unwrap_or(instance.created),
        server: instance.server,
    }
}

fn runs_none(processes: &[ProcessView]) -> bool {
    processes.iter().all(|p| p.count == 0)
}

/// Where nothing is wanted to run, nothing is missing.
fn scaled(said: (AppHealth, String), to_none: bool) -> (AppHealth, String) {
    match said {
        (AppHealth::Failed | AppHealth::Warned, _) if to_none => (AppHealth::Stopped, "scaled to 0".to_owned()),
        said => said,
    }
}

/// How an app does, and the sentence that says so.
fn health(
    state: AppState,
    release: Option<ReleaseNumber>,
    last: Option<&Deploy>,
    instances: &[&Instance],
) -> (AppHealth, String) {
    if state != AppState::Running {
        return (AppHealth::Stopped, "stopped".to_owned());
    }
    let failed = last.filter(|d| d.state == DeployState::Failed);
    let failed_because = |d: &Deploy| match &d.reason {
        Some(reason) => format!("deploy {} failed: {}", d.number, first_line(reason)),
        None => format!("deploy {} failed", d.number),
    };
    let under_way = last.filter(|d| !d.state.is_final());
    let Some(release) = release else {
        return match (under_way, failed) {
            (Some(d), _) => (AppHealth::Deploying, format!("deploy {} is {}", d.number, doing(d.state))),
            (None, Some(d)) => (AppHealth::Failed, failed_because(d)),
            (None, None) => (AppHealth::Empty, "nothing was deployed yet".to_owned()),
        };
    };
    let serving: Vec<&&Instance> =
        instances.iter().filter(|i| i.release_number == release && i.wanted == Wanted::Run).collect();
    let has = |state: InstanceState| serving.iter().find(|i| i.state == state);
    let answers = serving.iter().any(|i| i.state == InstanceState::Healthy && i.process.is_web())
        || (serving.iter().all(|i| !i.process.is_web()) && has(InstanceState::Healthy).is_some());
    let crashed = has(InstanceState::Crashed).or(has(InstanceState::Unhealthy));
    let words = |i: &Instance| match &i.reason {
        Some(reason) => format!("{} {}: {}", named(&i.process, i.index), i.state, first_line(reason)),
        None => format!("{} {}", named(&i.process, i.index), i.state),
    };
    match (answers, under_way, crashed, failed) {
        (false, None, Some(i), _) => (AppHealth::Failed, format!("v{release} does not answer; {}", words(i))),
        (false, None, None, _) if serving.iter().any(|i| !i.state.is_gone()) => {
            (AppHealth::Warned, format!("v{release} is starting"))
        }
        (false, None, None, _) => (AppHealth::Failed, format!("no instance of v{release} runs")),
        (_, Some(d), ..) => {
            (AppHealth::Deploying, format!("deploy {} is {}, v{release} serves meanwhile", d.number, doing(d.state)))
        }
        (true, None, Some(i), _) => (AppHealth::Warned, format!("v{release} serves; {}", words(i))),
        (true, None, None, Some(d)) => (AppHealth::Warned, format!("v{release} serves; {}", failed_because(d))),
        (true, None, None, None) => (AppHealth::Running, format!("v{release} serves")),
    }
}

fn named(process: &ProcessName, index: i32) -> String {
    format!("{process}.{index}")
}

fn doing(state: DeployState) -> &'static str {
    match state {
        DeployState::Queued => "waiting for its turn",
        DeployState::Building => "building",
        DeployState::Releasing => "running its release process",
        DeployState::Starting => "starting",
        DeployState::Switching => "being switched on",
        DeployState::Live | DeployState::Failed | DeployState::Canceled => "done",
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use domain::{DeployId, InstanceId, Time};

    use super::*;

    fn deploy(number: i64, state: DeployState, reason: Option<&str>) -> Deploy {
        Deploy {
            id: DeployId(number),
            app_id: AppId(1),
            number,
            state,
            commit_id: "a".repeat(40).parse().unwrap(),
            commit_subject: String::new(),
            branch: "main".into(),
            by: None,
            reason: reason.map(str::to_owned),
            hint: None,
            created: Time::from_unix_micros(0),
            ended: None,
            cause: domain::Cause::Push,
            origin: None,
            image: None,
            forgotten: None,
            requests: None,
            unanswered: None,
            errors: None,
        }
    }

    fn web(release: i64, state: InstanceState, reason: Option<&str>) -> Instance {
        Instance {
            id: InstanceId(1),
            app_id: AppId(1),
            process: ProcessName::web(),
            index: 1,
            release_number: ReleaseNumber(release),
            wanted: Wanted::Run,
            state,
            reason: reason.map(str::to_owned),
            hint: None,
            restarts: 0,
            memory_bytes: 0,
            created: Time::from_unix_micros(0),
            healthy: None,
            server: "s1".into(),
        }
    }

    #[test]
    fn an_app_says_how_it_does_in_a_sentence() {
        use DeployState as D;
        use InstanceState as I;
        let check = |release: Option<i64>, last: Option<Deploy>, instances: &[Instance], health_is, summary: &str| {
            let all: Vec<&Instance> = instances.iter().collect();
            let got = health(AppState::Running, release.map(ReleaseNumber), last.as_ref(), &all);
            assert_eq!(got, (health_is, summary.to_owned()));
        };
        let fails = Some("no requirements.txt\nand no index.html");
        check(None, None, &[], AppHealth::Empty, "nothing was deployed yet");
        check(None, Some(deploy(1, D::Building, None)), &[], AppHealth::Deploying, "deploy 1 is building");
        check(None, Some(deploy(1, D::Failed, fails)), &[], AppHealth::Failed, "deploy 1 failed: no requirements.txt");
        let good = web(14, I::Healthy, None);
        let live = || Some(deploy(14, D::Live, None));
        check(Some(14), live(), std::slice::from_ref(&good), AppHealth::Running, "v14 serves");
        check(
            Some(14),
            Some(deploy(15, D::Failed, fails)),
            std::slice::from_ref(&good),
            AppHealth::Warned,
            "v14 serves; deploy 15 failed: no requirements.txt",
        );
        check(
            Some(14),
            Some(deploy(15, D::Starting, None)),
            std::slice::from_ref(&good),
            AppHealth::Deploying,
            "deploy 15 is starting, v14 serves meanwhile",
        );
        let crashed = web(14, I::Crashed, Some("it used more than 512 MiB"));
        check(
            Some(14),
            live(),
            &[crashed],
            AppHealth::Failed,
            "v14 does not answer; web.1 crashed: it used more than 512 MiB",
        );
        check(Some(14), live(), &[web(14, I::Starting, None)], AppHealth::Warned, "v14 is starting");
        check(Some(14), live(), &[], AppHealth::Failed, "no instance of v14 runs");
    }
}
