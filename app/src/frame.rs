//! The frame around every page: head, top bar, footer.

use std::sync::Arc;

use commands::{Spent, Urls, UserView};
use domain::{Approval, Time};
use hydration_context::SsrSharedContext;
use leptos::prelude::*;

use crate::region::Region;
use crate::when::Moment;

/// What is the same for every page of an installation.
#[derive(Debug, Clone)]
pub struct Site {
    /// Where the files are: `/assets/5f0c…`, without a slash at the end.
    pub assets: String,
    /// The browser half is there.
    pub islands: bool,
    /// Anybody may make an account.
    pub sign_up: bool,
    /// Who makes one begins when the operator has approved.
    pub approval: bool,
    /// Who makes one shows by a mailed link that the address is theirs.
    pub confirmation: bool,
    /// Where letters lie that no mail server takes.
    pub letters: Option<String>,
    pub urls: Urls,
}

/// What a page is drawn for.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a> {
    pub site: &'a Site,
    /// The signed-in user.
    pub user: Option<&'a UserView>,
    pub now: Time,
}

/// Which entry of the top bar is current.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Elsewhere,
    Apps,
    Billing,
    Account,
    /// The operator's.
    Servers,
    Customers,
    Decisions,
    Letters,
    Prices,
}

impl Place {
    fn is_operators(self) -> bool {
        matches!(self, Self::Servers | Self::Customers | Self::Decisions | Self::Letters | Self::Prices)
    }
}

/// Of pages that do not say more about themselves.
const DESCRIPTION: &str = "Berth runs apps that you push with git, shows how they do, and says what they cost and why.";

/// Which islands a page has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alive {
    /// None: neither script nor WASM is loaded.
    No,
    /// Nothing moves; copy buttons, a log that is shown from its end.
    Buttons,
    /// Something may move; without scripting the page stands still, so that nobody loses what they type.
    Live,
    /// Something moves: without scripting the page comes again every 5 s.
    Moves,
}

/// Where a page's event stream is, and where its log stands.
#[derive(Debug, Clone)]
pub struct Events {
    pub path: String,
    pub after: String,
}

pub struct Frame<'a> {
    pub page: Page<'a>,
    pub title: String,
    pub description: Option<&'static str>,
    pub place: Place,
    pub alive: Alive,
    pub events: Option<Events>,
}

impl<'a> Frame<'a> {
    pub fn new(page: Page<'a>, title: impl Into<String>) -> Self {
        Self { page, title: title.into(), description: None, place: Place::Elsewhere, alive: Alive::No, events: None }
    }

    pub fn place(self, place: Place) -> Self {
        Self { place, ..self }
    }

    pub fn alive(self, alive: Alive) -> Self {
        Self { alive, ..self }
    }

    pub fn events(self, events: Events) -> Self {
        Self { events: Some(events), ..self }
    }

    /// The whole page around `main`.
    pub fn html<V: IntoView + 'static>(self, main: impl FnOnce() -> V) -> String {
        let owner = Owner::new_root(Some(Arc::new(SsrSharedContext::new_islands())));
        let html = owner.with(|| self.view(main()).to_html());
        owner.unset_with_forced_cleanup();
        html
    }

    fn view(self, main: impl IntoView + 'static) -> impl IntoView {
        let Frame { page, title, description, place, alive, events } = self;
        let file = |name: &str| format!("{}/{name}", page.site.assets);
        let script = (matches!(alive, Alive::Buttons | Alive::Live | Alive::Moves) && page.site.islands).then(|| {
            view! {
                <link rel="preload" href={file("berth_bg.wasm")} r#as="fetch" type="application/wasm" crossorigin="anonymous"/>
                <script type="module" src={file("berth.js")}></script>
            }
        });
        let again = (alive == Alive::Moves).then(|| {
            view! {
                <noscript>
                    <meta http-equiv="refresh" content="5"/>
                </noscript>
            }
        });
        let (path, after) = events.map(|events| (events.path, events.after)).unzip();
        view! {
            <!DOCTYPE html>
            <html lang="en">
                <head>
                    <meta charset="utf-8"/>
                    <meta name="viewport" content="width=device-width, initial-scale=1"/>
                    <title>{title}</title>
                    <meta name="description" content=description.unwrap_or(DESCRIPTION)/>
                    <link rel="icon" href=file("favicon.svg") type="image/svg+xml"/>
                    <link rel="stylesheet" href=file("berth.css")/>
                    {again}
                    {script}
                </head>
                <body>
                    <a class="skip" href="#main">
                        "Skip to content"
                    </a>
                    {top(page, place, path.is_some())}
                    <main id="main" data-events=path data-after=after>
                        {standing(page)}
                        {main}
                    </main>
                    {foot(page)}
                </body>
            </html>
        }
    }
}

/// What a new user still waits for, on every page.
fn standing(page: Page<'_>) -> Option<AnyView> {
    let user = page.user?;
    if user.truth_is_older {
        let what = if user.operator {
            "Apps run as they are, and nothing is decided. When you have looked, say on the server: berth restore accept"
        } else {
            "Your apps run as they are. Nothing can be changed until the operator has looked."
        };
        return Some(notice("notice warn", "Berth's database is older than what runs.", what, ()));
    }
    if !user.confirmed {
        let email = user.email.to_string();
        let words = match page.site.letters {
            None => format!("A link is on its way to {email}. Open it, and you can add keys and make apps."),
            Some(_) => format!("This installation sends no mail: ask whoever runs it for the link to {email}."),
        };
        let again = view! {
            <form method="post" action="/account/confirm">
                <button type="submit" class="btn small">
                    "Send it again"
                </button>
            </form>
        };
        return Some(notice("notice warn", "Confirm your e-mail address.", words, again));
    }
    let (strong, words) = match user.approval {
        Approval::Approved => return None,
        Approval::Waiting => (
            "Your account waits for the operator.",
            "Once it is approved you can make apps. We write to you then; look around meanwhile, and add your SSH key.",
        ),
        Approval::Refused => (
            "The operator did not approve your account.",
            "You cannot make apps. To ask why, write to whoever runs this installation.",
        ),
    };
    Some(notice("notice", strong, words, ()))
}

/// What is so, what it means, and what may be done about it.
pub fn notice(
    class: &'static str,
    strong: impl IntoView + 'static,
    words: impl IntoView + 'static,
    act: impl IntoView + 'static,
) -> AnyView {
    view! {
        <div class=class role="status">
            <div>
                <strong>{strong}</strong>
                <p>{words}</p>
            </div>
            {act}
        </div>
    }
    .into_any()
}

/// The way up from a page: where each part leads, and what it is called.
pub fn crumbs(parts: &[(&str, &str)]) -> AnyView {
    let link = |(at, (href, name)): (usize, &(&str, &str))| {
        view! { {(at > 0).then_some(" / ")} <a href=href.to_string()>{name.to_string()}</a> }
    };
    let links: Vec<_> = parts.iter().enumerate().map(link).collect();
    view! {
        <nav class="crumbs" aria-label="Breadcrumb">
            {links}
        </nav>
    }
    .into_any()
}

/// Of a page about an app.
pub fn crumbs_of(app: &str) -> AnyView {
    crumbs(&[("/apps", "Apps"), (&format!("/apps/{app}"), app)])
}

/// `live`: the page has a stream.
fn top(page: Page<'_>, place: Place, live: bool) -> AnyView {
    let brand = |href: &'static str, whose: Option<&'static str>| {
        let logo = format!("{}/logo.svg", page.site.assets);
        view! {
            <a class="brand" href=href>
                <img src=logo alt="" width="26" height="26"/>
                " Berth"
                {whose.map(|whose| view! { " " <small>{whose}</small> })}
            </a>
        }
    };
    let current = |here: Place| (place == here).then_some("page");
    let operator = page.user.is_some_and(|user| user.operator);
    if place.is_operators() {
        view! {
            <header class="top">
                <div>
                    {brand("/operator/servers", Some("operator"))}
                    <nav class="nav" aria-label="Operator">
                        <a href="/operator/servers" aria-current=current(Place::Servers)>
                            "Servers"
                        </a>
                        <a href="/operator/customers" aria-current=current(Place::Customers)>
                            "Customers"
                        </a>
                        <a href="/operator/decisions" aria-current=current(Place::Decisions)>
                            "Decisions"
                        </a>
                        <a href="/operator/mail" aria-current=current(Place::Letters)>
                            "Mail"
                        </a>
                        <a href="/operator/prices" aria-current=current(Place::Prices)>
                            "Prices"
                        </a>
                        <a class="push" href="/apps">
                            "Apps"
                        </a>
                    </nav>
                </div>
            </header>
        }
        .into_any()
    } else if page.user.is_some() {
        view! {
            <header class="top">
                <div>
                    {brand("/apps", None)}
                    <nav class="nav" aria-label="Main">
                        <a href="/apps" aria-current=current(Place::Apps)>
                            "Apps"
                        </a>
                        <a href="/billing" aria-current=current(Place::Billing)>
                            "Billing"
                        </a>
                        <a href="/account" aria-current=current(Place::Account)>
                            "Account"
                        </a>
                        {operator.then(|| view! { <a href="/operator/servers">"Operator"</a> })}
                    </nav>
                    {page
                        .user
                        .and_then(|user| user.spent)
                        .map(|spent| if live { spend(spent).view().into_any() } else { spend_link(spent).into_any() })}
                </div>
            </header>
        }
        .into_any()
    } else {
        view! {
            <header class="top">
                <div>
                    {brand("/", None)}
                    <nav class="nav" aria-label="Main">
                        <a class="push" href="/#price">
                            "Price"
                        </a>
                        <a href="/#own">
                            "Run your own"
                        </a>
                        <a href="/signin">"Sign in"</a>
                    </nav>
                    {page
                        .site
                        .sign_up
                        .then(|| {
                            view! {
                                <div class="actions">
                                    <a class="btn main" href="/signup">
                                        "Sign up"
                                    </a>
                                </div>
                            }
                        })}
                </div>
            </header>
        }
        .into_any()
    }
}

/// What the month comes to, on every page.
pub fn spend(spent: Spent) -> Region {
    Region::new("spend", spend_link(spent))
}

fn spend_link(spent: Spent) -> impl IntoView {
    let (amount, month) = (spent.currency.cents(spent.amount), spent.month.name());
    let label = format!("{amount} used in {month} so far");
    view! {
        <a class="spend" href="/billing" aria-label=label>
            <span>
                <b class="money">{amount}</b>
                " in "
                {month}
            </span>
        </a>
    }
}

fn foot(page: Page<'_>) -> AnyView {
    let version = env!("CARGO_PKG_VERSION");
    match page.user {
        Some(user) => {
            let who = user.email.to_string();
            let now = page.now;
            view! {
                <footer class="foot">
                    <div>
                        <span>
                            "Times are in UTC. As of " {Moment::second(now)} ". Signed in as " {who} "."
                        </span>
                        <a href="/#price">"Price list"</a>
                        <form method="post" action="/signout">
                            <button type="submit" class="btn small">
                                "Sign out"
                            </button>
                        </form>
                    </div>
                </footer>
            }
            .into_any()
        }
        None => view! {
            <footer class="foot">
                <div>
                    <span>{format!("Berth {version}, free software under the Apache License.")}</span>
                </div>
            </footer>
        }
        .into_any(),
    }
}
