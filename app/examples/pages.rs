//! Writes every page with made-up views into a folder, to look at them in a browser:
//! `cargo run -p app --example pages -- FOLDER`, with the site's files in `FOLDER/assets`.

use std::{env, fs, io};

use app::*;
use commands::NewPrices;
use domain::{Currency, Money, Secret};

#[path = "../tests/samples/mod.rs"]
mod samples;
use commands::Range;
use samples::people::*;
use samples::usage::*;
use samples::*;

fn main() -> io::Result<()> {
    let folder = env::args().nth(1).unwrap_or_else(|| "target/pages".to_owned());
    fs::create_dir_all(&folder)?;
    let (site, ines) = (site(), ines());
    let out = Page { site: &site, user: None, now: NOW };
    let page = Page { user: Some(&ines), ..out };
    let none = Typed::default;
    let too_short = Some("That was 8 characters. Use at least 12.".to_owned());
    let wrong_key = KeyForm {
        key: Typed::wrong(
            "",
            "That is a private key. We did not keep it. Paste the file that ends in .pub; it is one line and begins with ssh-ed25519 or ssh-rsa.",
        ),
        ..KeyForm::default()
    };
    let pages = [
        ("landing", landing(out, Some(&money::price_list()))),
        (
            "signup",
            sign_up(
                out,
                Typed::new("Ines Falk"),
                Typed::new("ines@fernway.example"),
                too_short,
                None,
                Some((Currency::EUR, Money::from_micros(2_600_000))),
            ),
        ),
        ("signin", sign_in(out, none(), None, None, Some(Welcome::New))),
        ("link", link(out, &Secret::new("0123456789abcdef".to_owned()))),
        (
            "account",
            account(
                page,
                account_page(
                    vec![key(1, "harbour-laptop", Some(NOW)), key(2, "studio-desktop", None)],
                    wrong_key,
                    "Ines Falk",
                ),
            ),
        ),
        ("billing", billing(page, money::bill())),
        ("billing-empty", billing(page, money::empty_bill())),
        ("explain", why(page, money::why())),
        ("explain-since", why(page, money::why_since())),
        ("explain-day", why(page, money::why_day())),
        (
            "operator-prices",
            prices(
                page,
                money::prices(),
                PriceForm {
                    typed: NewPrices::of(&money::prices_now(), NOW),
                    wrong: vec![(
                        "cpu-price".to_owned(),
                        "Give a price such as 0.036, with a point and at most six decimals.".to_owned(),
                    )],
                },
            ),
        ),
        ("usage-1h", usage(page, orchard(), usage_view(Range::Hour), Some(money::range_cost(Range::Hour)))),
        ("usage-1d", usage(page, orchard(), usage_view(Range::Day), Some(money::range_cost(Range::Day)))),
        ("usage-30d", usage(page, orchard(), usage_view(Range::Month), Some(money::range_cost(Range::Month)))),
        ("usage-empty", usage(page, orchard(), no_usage(Range::Month), None)),
        (
            "apps",
            apps(page, AppsPage { apps: app_rows(), sparks: sparks(), asked: AppsAsked::default(), events: vec![] }),
        ),
        ("apps-empty", new_app(page, NewApp { first: true, ..NewApp::default() })),
        (
            "new",
            new_app(
                page,
                NewApp {
                    keys: vec![key(1, "harbour-laptop", None)],
                    name: Typed::wrong(
                        "Shop",
                        "Use lower-case letters, digits and hyphens; begin with a letter, end with a letter or a digit.",
                    ),
                    ..NewApp::default()
                },
            ),
        ),
        (
            "app",
            app::app(
                page,
                AppPage {
                    app: orchard(),
                    newest: Some(deploying()),
                    lines: Some(app_lines()),
                    build: Some(build_lines()),
                    after: "7.142.4".to_owned(),
                    usage: Some(usage_view(Range::Hour)),
                    scaled: Default::default(),
                },
            ),
        ),
        (
            "app-empty",
            app::app(
                page,
                AppPage {
                    app: empty_app(),
                    newest: None,
                    lines: Some(vec![]),
                    build: None,
                    after: "0.0.0".to_owned(),
                    usage: Some(no_usage(Range::Hour)),
                    scaled: Default::default(),
                },
            ),
        ),
        (
            "deploy",
            deploy(
                page,
                DeployPage {
                    app: orchard(),
                    deploy: deploying(),
                    lines: Some(build_lines()),
                    printed: None,
                    after: "0.142.4".to_owned(),
                },
            ),
        ),
        (
            "deploy-failed",
            deploy(
                page,
                DeployPage {
                    app: orchard(),
                    deploy: failed(),
                    lines: Some(build_lines()),
                    printed: Some(Printed { lines: app_lines(), from: ago(200), to: ago(140) }),
                    after: String::new(),
                },
            ),
        ),
        ("operator-servers", servers(page, calm_overview())),
        (
            "error",
            error(
                out,
                Problem {
                    title: "There is nothing here".to_owned(),
                    message: "No page has this address, or it is not yours.".to_owned(),
                    hint: None,
                },
            ),
        ),
    ];
    for (name, html) in pages {
        // Opened from a folder: an absolute path would leave it.
        fs::write(format!("{folder}/{name}.html"), html.replace("/assets/", "assets/"))?;
    }
    Ok(())
}
