//! Where is it, why did it fail, what now? One deploy.

use commands::{AppView, Change, DeployRow, DeployView};
use domain::wire::LogLine;
use domain::{DeployState, Step, Time};
use islands::words::took;
use leptos::prelude::*;

use crate::frame::{Alive, Events, Frame, Page, Place};
use crate::head::{Tab, head, of_head};
use crate::live::{RELEASES_SHOWN, deploy_href};
use crate::region::Region;
use crate::state::{by, release, sentence};
use crate::steps::{millis, shown, steps, ticking, whole};
use crate::traffic::{failed_of, traffic};
use crate::verbs::{cause, offer};
use crate::when::{Moment, minute_field};
use crate::{cost, log, state};

pub struct DeployPage {
    pub app: AppView,
    pub deploy: DeployView,
    /// `None` when the log is away.
    pub lines: Option<Vec<LogLine>>,
    pub printed: Option<Printed>,
    /// Where the event stream goes on.
    pub after: String,
}

/// What the app's instances said while one that failed was started.
#[derive(Debug, Clone, PartialEq)]
pub struct Printed {
    pub lines: Vec<LogLine>,
    pub from: Time,
    pub to: Time,
}

/// A deploy moves until it has its verdict and every step that began has ended.
pub fn moves(deploy: &DeployView) -> bool {
    !deploy.row.state.is_final() || deploy.row.steps.iter().any(|step| step.ended.is_none())
}

/// The parts that change; `app` for what stands above, and for the releases beside it.
pub fn of_deploy(app: &AppView, deploy: &DeployView, printed: Option<&Printed>, now: Time) -> Vec<Region> {
    let failed = deploy.row.state == DeployState::Failed;
    let cost = deploy.cost.as_ref().filter(|_| !failed);
    let rest = [
        Region::new("deploy", if failed { why(deploy, now) } else { goes(deploy, now) }),
        Region::new("printed", printed.map(|printed| last_words(deploy, printed))),
        Region::new("steps", failed.then(|| beside(deploy, now))),
        Region::new("meaning", meaning(deploy)),
        Region::new("cost", cost.and_then(|cost| cost::of_deploy(cost, deploy.row.number))),
        Region::new("rail", releases(app)),
    ];
    of_head(app).into_iter().chain(rest).collect()
}

pub fn deploy(page: Page<'_>, shown: DeployPage) -> String {
    let DeployPage { app: owner, deploy, lines, printed, after } = shown;
    let moving = moves(&deploy);
    let mut regions = of_deploy(&owner, &deploy, printed.as_ref(), page.now);
    let mut region = move |name: &str| {
        let at = regions.iter().position(|region| region.name == name)?;
        Some(regions.swap_remove(at).view())
    };
    let (app, number) = (deploy.app.to_string(), deploy.row.number);
    let word = state::deploy(&deploy.row).word.to_lowercase();
    let mut frame = Frame::new(page, format!("{app} v{number}, {word} · Berth")).place(Place::Apps);
    // A finished log is shown from its end, where the reason is.
    frame = frame.alive(Alive::Buttons);
    if moving {
        let path = format!("/apps/{app}/deploys/{number}/events");
        frame = frame.alive(Alive::Moves).events(Events { path, after });
    }
    frame.html(move || {
        let log = log::tail("build", number, format!("Deploy log of {app} v{number}"), lines.as_deref());
        let text = format!("/apps/{app}/deploys/{number}/log");
        let all = format!("/apps/{app}/deploys");
        let close = moving.then(|| {
            view! { <p class="hint">"You may close this page: the deploy goes on, and the log is kept."</p> }
        });
        view! {
            {head(&owner, Tab::Deploys)}
            <div class="cols">
                <div>
                    {region("deploy")} {region("printed")} <section class="sheet" id="log">
                        <header>
                            <h2>"Build and release log"</h2>
                            <span>
                                {moving.then(log::mark)} " " <a href=text>"As text"</a>
                            </span>
                        </header>
                        {log}
                        {close}
                    </section>
                </div>
                <aside>
                    {region("steps")} {region("meaning")} {region("cost")} <section class="sheet">
                        <header>
                            <h2>"Releases"</h2>
                            <a href=all>"All deploys"</a>
                        </header>
                        {region("rail")}
                    </section>
                </aside>
            </div>
        }
    })
}

/// The newest, in a line each.
fn releases(app: &AppView) -> AnyView {
    let entry = |row: &DeployRow| {
        let (class, word) = release(row);
        let long = row.ended.map(|ended| took(millis(ended.since(row.created))));
        let (how, cost) = match row.state {
            DeployState::Failed => (Some(state::deploy(row).word.to_lowercase()), None),
            _ => (
                long.map(|long| failed_of(row).map_or(long.clone(), |failed| format!("{long} · {failed}"))),
                app.cost.as_ref().and_then(|costs| cost::change(costs, row.number)),
            ),
        };
        let (href, number) = (deploy_href(app.name.as_str(), row.number), format!("v{}", row.number));
        view! {
            <li class=class>
                <b>
                    <a href=href>{number}</a>
                </b>
                " "
                {word}
                <p>{how} {cost.map(|cost| view! { " · " {cost} })}</p>
                {offer(app.name.as_str(), row)}
            </li>
        }
    };
    let entries: Vec<_> = app.deploys.iter().take(RELEASES_SHOWN).map(entry).collect();
    view! { <ol class="rail">{entries}</ol> }.into_any()
}

fn title(deploy: &DeployView, now: Time) -> AnyView {
    let number = format!("v{}", deploy.row.number);
    view! {
        <header>
            <h2>
                {number}
                " "
                {ticking(deploy, now)}
            </h2>
            {offer(deploy.app.as_str(), &deploy.row)}
        </header>
    }
    .into_any()
}

/// One that is under way, or went well.
fn goes(deploy: &DeployView, now: Time) -> AnyView {
    let row = &deploy.row;
    let subject = (!row.subject.is_empty()).then(|| view! { <p>{row.subject.clone()}</p> });
    let facts = deploy.facts.as_ref();
    let key = facts.and_then(|facts| facts.key.clone()).map(|key| view! { " from " <i>{key}</i> });
    let before = facts.and_then(|facts| facts.before.as_ref()).map(|before| {
        let before = before.short().to_owned();
        view! { <code>{before}</code> " → " }
    });
    let pushed = match cause(row) {
        Some(cause) => format!("{cause}, asked for by {}", by(row)),
        None => format!("Pushed with git by {}", by(row)),
    };
    let commit = row.commit.short().to_owned();
    let branch = format!(" on {}, ", row.branch);
    let took = row.ended.map(|ended| format!("It took {}. ", took(millis(ended.since(row.created)))));
    let lately = facts.and_then(|facts| facts.lately_words(row.cause));
    view! {
        <section class="sheet">
            {title(deploy, now)}
            {subject}
            <p class="hint">
                {pushed}
                {key}
                ": "
                {before}
                <code>{commit}</code>
                {branch}
                {Moment::exactly(now, row.created)}
                ". "
                {took}
                {lately}
            </p>
            {steps(deploy, now)}
            {traffic(row)}
        </section>
    }
    .into_any()
}

/// Why it failed, what that means for visitors, what to do.
fn why(deploy: &DeployView, now: Time) -> AnyView {
    let reason = deploy.row.reason.as_ref();
    let message = reason.map_or("No reason was recorded.".to_owned(), |reason| sentence(&reason.message));
    let hint = reason.and_then(|reason| reason.hint.clone());
    let kept = match deploy.serving {
        Some(release) => format!("Your visitors noticed nothing: v{release} kept serving."),
        None => "Nothing serves yet.".to_owned(),
    };
    let change = deploy.facts.as_ref().and_then(|facts| facts.change.as_ref());
    let hint = hint.filter(|_| change.is_none());
    let todo = (hint.is_some() || change.is_some()).then(|| {
        view! {
            <div class="stack">
                <h3>"What to do"</h3>
                {hint.map(|hint| view! { <p class="said">{crate::capital(&hint)}</p> })}
                {change.map(|change| changed(deploy, change))}
            </div>
        }
    });
    view! {
        <section class="sheet">
            {title(deploy, now)}
            <div class="notice bad" role="alert">
                <div class="stack">
                    <p>
                        <strong>{message}</strong>
                    </p>
                    <p>{kept}</p>
                </div>
            </div>
            {todo}
        </section>
    }
    .into_any()
}

/// The line as it is and as it should be, and how it gets here.
fn changed(deploy: &DeployView, change: &Change) -> AnyView {
    let (before, after) = (format!("- {}\n", change.before), format!("+ {}", change.after));
    let push = format!("git push berth {}", deploy.row.branch);
    view! {
        <p>
            "In " <code>"Procfile"</code> ", change the line " <code>"web"</code>
            " to this, commit and push again:"
        </p>
        <pre class="log" tabindex="0" role="group" aria-label="Suggested change to Procfile">
            <b>{before}</b>
            <u>{after}</u>
        </pre>
        // A part that changes has no island: it is copied by a click that marks it.
        <pre class="cmd" role="group" aria-label="The commands to push it">
            <code>"git commit -am \"Listen on $PORT\""</code>
            <code>{push}</code>
        </pre>
    }
    .into_any()
}

/// The end of what the app said, where a deploy failed to start.
fn last_words(deploy: &DeployView, printed: &Printed) -> AnyView {
    let app = deploy.app.to_string();
    let (from, to) = (minute_field(printed.from), minute_field(printed.to));
    let href = format!("/apps/{app}/logs?since={from}&until={to}");
    let label = format!("Log of {app} while v{} was started", deploy.row.number);
    let also = deploy.serving.map(|release| format!(" v{release} served meanwhile, and its lines are here too."));
    let lines = (!printed.lines.is_empty()).then(|| {
        let html = log::rows(&printed.lines);
        view! { <pre class="log" tabindex="0" role="group" aria-label=label inner_html=html></pre> }
    });
    let none = printed.lines.is_empty().then_some("Nothing was printed while it was started.");
    view! {
        <section class="sheet">
            <header>
                <h2>"What it printed last"</h2>
                <a href=href>"All of it"</a>
            </header>
            {lines}
            <p class="hint">{none} {also}</p>
        </section>
    }
    .into_any()
}

/// Of one that failed: how far it came, and who asked for what.
fn beside(deploy: &DeployView, now: Time) -> AnyView {
    let row = &deploy.row;
    let whole = took(whole(deploy, now));
    let fact = |name: &'static str, value: AnyView| {
        view! {
            <dt>{name}</dt>
            <dd>{value}</dd>
        }
    };
    let asked = match cause(row) {
        Some(cause) => fact("Asked for by", format!("{} ({cause})", by(&deploy.row)).into_any()),
        None => fact("Pushed by", format!("{}, git", by(&deploy.row)).into_any()),
    };
    let facts = deploy.facts.as_ref();
    let key = facts.and_then(|facts| facts.key.clone()).map(|key| fact("Key", key.into_any()));
    let subject = (!row.subject.is_empty()).then(|| fact("Message", shown(&row.subject).into_any()));
    let (commit, branch) = (row.commit.short().to_owned(), row.branch.clone());
    let commit = fact("Commit", view! { <code>{commit}</code> " on " {branch} }.into_any());
    let cost = deploy.cost.as_ref().and_then(|cost| Some((cost.currency, cost.build?)));
    let cost = cost.map(|(currency, (_, amount))| {
        view! {
            <dt>"Cost, before tax"</dt>
            <dd class="money">{currency.exact(amount)}</dd>
        }
    });
    view! {
        <section class="sheet">
            <header>
                <h2>"Steps"</h2>
                <span>{whole}</span>
            </header>
            {steps(deploy, now)}
        </section>
        <section class="sheet">
            <h2>"Who and what"</h2>
            <dl class="facts">
                {asked} {key} {subject} {commit} {fact("When", Moment::exactly(now, row.created))} {cost}
            </dl>
        </section>
    }
    .into_any()
}

fn meaning(deploy: &DeployView) -> AnyView {
    let (title, text) = match (deploy.row.state, deploy.serving) {
        (DeployState::Failed, _) => (
            "Push again",
            "The branch moves only when a release serves, so the same commit can be pushed again.".to_owned(),
        ),
        (DeployState::Live, _) if deploy.row.serves => {
            ("It serves", "Visitors get it until a later push serves. The log is kept.".to_owned())
        }
        (DeployState::Live, _) => ("It was replaced", "A later release serves. The log is kept.".to_owned()),
        (DeployState::Canceled, _) => ("It was canceled", "It changed nothing. The log is kept.".to_owned()),
        (_, Some(release)) => ("If it fails", format!("Nothing changes for your visitors: v{release} keeps serving.")),
        (_, None) => ("If it fails", "You get the reason, here and in the terminal, and the push fails.".to_owned()),
    };
    let released = deploy.row.steps.iter().any(|step| step.step == Step::Release);
    let kept = (released && !matches!(deploy.row.state, DeployState::Live)).then_some(
        " What the release phase changed is not undone: what serves runs with it, as long as it only added things.",
    );
    view! {
        <section class="sheet stack">
            <h2>{title}</h2>
            <p class="hint">{text} {kept}</p>
        </section>
    }
    .into_any()
}
