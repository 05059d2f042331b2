//! Where is it, why did it fail, what now? One deploy.

use commands::{AppView, DeployView};
use domain::wire::LogLine;
use leptos::prelude::*;

use crate::frame::{Alive, Events, Frame, Page, Place};
use crate::head::{Tab, head};
use crate::live::{moves, of_deploy};
use crate::{log, state};

pub struct DeployPage {
    pub app: AppView,
    pub deploy: DeployView,
    /// `None` when the log is away.
    pub lines: Option<Vec<LogLine>>,
    /// Where the event stream goes on.
    pub after: String,
}

pub fn deploy(page: Page<'_>, shown: DeployPage) -> String {
    let DeployPage { app: owner, deploy, lines, after } = shown;
    let moving = moves(&deploy);
    let mut regions = of_deploy(&owner, &deploy, page.now);
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
        let log = log::tail("build", number, format!("Build log of {app} v{number}"), lines.as_deref());
        let close = moving.then(|| {
            view! { <p class="hint">"You may close this page: the deploy goes on, and the log is kept."</p> }
        });
        view! {
            {head(&owner, Tab::Deploys)}
            <div class="cols">
                <div>
                    {region("deploy")}
                    <section class="sheet">
                        <header>
                            <h2>"Build log"</h2>
                            <span>{moving.then(log::mark)}</span>
                        </header>
                        {log}
                        {close}
                    </section>
                </div>
                <aside>{region("cost")} {region("meaning")}</aside>
            </div>
        }
    })
}
