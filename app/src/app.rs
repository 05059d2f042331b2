//! Is it well? One app: its state, its address, what is being deployed, its log, its releases.

use commands::{AppView, DeployView, UsageView};
use domain::wire::LogLine;
use leptos::prelude::*;

use crate::disk::on_disk;
use crate::frame::{Alive, Events, Frame, Page, Place};
use crate::head::{Tab, head};
use crate::live::of_app;
use crate::log;
use crate::new_app::looks_for;
use crate::verbs::{self, Scaled};

pub struct AppPage {
    pub app: AppView,
    /// The newest deploy with its steps.
    pub newest: Option<DeployView>,
    /// The last lines of the app, and of the open deploy; `None` when the log is away.
    pub lines: Option<Vec<LogLine>>,
    pub build: Option<Vec<LogLine>>,
    /// Where the event stream goes on.
    pub after: String,
    /// Of the last hour.
    pub usage: Option<UsageView>,
    /// What could not be scaled.
    pub scaled: Scaled,
}

pub fn app(page: Page<'_>, shown: AppPage) -> String {
    let AppPage { app, newest, lines, build, after, usage, scaled } = shown;
    let mut regions = of_app(&app, newest.as_ref(), usage.as_ref(), page.now);
    let mut region = move |name: &str| {
        let at = regions.iter().position(|region| region.name == name)?;
        Some(regions.swap_remove(at).view())
    };
    let events = Events { path: format!("/apps/{}/events", app.name), after };
    let frame = Frame::new(page, format!("{} · Berth", app.name)).place(Place::Apps).alive(Alive::Moves).events(events);
    let open = newest.filter(|deploy| !deploy.row.state.is_final()).map(|deploy| deploy.row.number);
    frame.html(move || {
        let graphs = region("graphs");
        let name = app.name.to_string();
        let disk = on_disk(&app);
        // What was typed and is wrong stands still.
        let table = match scaled.wrong {
            Some(_) => verbs::processes(&app, &scaled),
            None => region("processes").map(IntoAny::into_any),
        };
        let activity = format!("/apps/{}/activity", app.name);
        let (search, all) = (format!("/apps/{}/logs", app.name), format!("/apps/{}/deploys", app.name));
        let all_words = app.deploys.first().map(|newest| format!("All {}", newest.number));
        let first = app.deploys.is_empty().then(|| first_push(&app));
        let build_log = log::tail("build", open.unwrap_or(0), format!("Build log of {name}"), build.as_deref());
        let app_log = log::tail("lines", 0, format!("Last log lines of {name}"), lines.as_deref());
        view! {
            {head(&app, Tab::Overview)}
            {region("notice")}
            {region("vitals")}
            <div class="cols">
                <div>
                    {first}
                    {region("deploy")}
                    <islands::Graphs>{graphs}</islands::Graphs>
                    // Shown by its first line when the page was opened before the deploy.
                    <section class="sheet" id="build" hidden=open.is_none()>
                        <h2>"Build log"</h2>
                        {build_log}
                    </section>
                    {table}
                    <section class="sheet" id="log">
                        <header>
                            <h2>"Log"</h2>
                            <span>{log::mark()} " " <a href=search>"Search and history"</a></span>
                        </header>
                        {app_log}
                    </section>
                </div>
                <aside>
                    {region("cost")}
                    <section class="sheet">
                        <header>
                            <h2>"Releases"</h2>
                            <a href=all>{all_words}</a>
                        </header>
                        {region("rail")}
                    </section>
                    <section class="sheet stack">
                        <h2>"Push to it"</h2>
                        <dl class="facts">
                            <dt>"Address"</dt>
                            <dd>
                                <code>{app.git_url}</code>
                            </dd>
                            <dt>"Branch"</dt>
                            <dd>
                                <code>{app.deploy_branch}</code>
                            </dd>
                        </dl>
                        <p>
                            <a href=activity>"Who changed what"</a>
                        </p>
                    </section>
                    {disk}
                </aside>
            </div>
        }
    })
}

/// Nothing was pushed yet: the one thing to do next.
fn first_push(app: &AppView) -> impl IntoView + use<> {
    view! {
        // Gone as soon as there is something to say (`components.css`).
        <div class="first">
            <section class="sheet stack">
                <h2>"Push your code"</h2>
                <p class="hint">"In the folder with your code. The build shows up here while it runs."</p>
                {log::command(push_commands(app), "The commands to push")}
            </section>
            {looks_for()}
        </div>
    }
}

/// The lines to type, in the folder with one's code.
pub fn push_commands(app: &AppView) -> String {
    format!("git remote add berth {}\ngit push berth {}", app.git_url, app.deploy_branch)
}
