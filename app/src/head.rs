//! What stands above every page of an app: its name, its state, its address, and the way to its other pages.

use commands::AppView;
use leptos::prelude::*;

use crate::frame::crumbs;
use crate::live::place;
use crate::region::Region;
use crate::state::{health, pill};
use crate::verbs::acts;

/// The pages of an app, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tab {
    Overview,
    Deploys,
    Logs,
    Usage,
    Config,
}

impl Tab {
    /// The word, and what follows the app's address.
    const ALL: [(Tab, &'static str, &'static str); 5] = [
        (Tab::Overview, "Overview", ""),
        (Tab::Deploys, "Deploys", "/deploys"),
        (Tab::Logs, "Logs", "/logs"),
        (Tab::Usage, "Usage", "/usage"),
        (Tab::Config, "Config", "/config"),
    ];
}

pub fn tabs(app: &str, current: Tab) -> AnyView {
    let links: Vec<_> = Tab::ALL
        .iter()
        .map(|&(tab, word, path)| {
            let href = format!("/apps/{app}{path}");
            view! { <a href=href aria-current=(tab == current).then_some("page")>{word}</a> }
        })
        .collect();
    let label = app.to_owned();
    view! { <nav class="tabs" aria-label=label>{links}</nav> }.into_any()
}

/// The parts of it that change.
pub fn of_head(app: &AppView) -> Vec<Region> {
    vec![
        Region::new("state", pill(health(app.health, app.release.is_some()))),
        Region::new("where", place(&app.url, app.release.map(|n| n.0))),
        Region::new("acts", acts(app)),
    ]
}

pub fn head(app: &AppView, current: Tab) -> AnyView {
    let name = app.name.to_string();
    let regions: Vec<_> = of_head(app).into_iter().map(Region::view).collect();
    let up: &[(&str, &str)] = match current {
        Tab::Overview => &[("/apps", "Apps")],
        _ => &[("/apps", "Apps"), (&format!("/apps/{name}"), &name)],
    };
    view! {
        <header class="head">
            {crumbs(up)}
            <div class="title">
                <h1>{name.clone()}</h1>
                {regions}
            </div>
            {tabs(&name, current)}
        </header>
    }
    .into_any()
}
