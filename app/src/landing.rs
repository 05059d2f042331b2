//! What is it, for whom, and what can you hold us to.

use commands::{Example, PriceList};
use domain::{Meter, Money};
use leptos::prelude::*;

use crate::frame::{Frame, Page};
use crate::log::command;
use crate::money::price_table;
use crate::price::since_ever;
use crate::table::heads;
use crate::when::date_minute;

pub fn landing(page: Page<'_>, prices: Option<&PriceList>) -> String {
    let mut frame = Frame::new(page, "Berth: push your code, get a URL").alive(crate::frame::Alive::Buttons);
    frame.description = Some(
        "A platform for your apps, on servers of your own. Push with git, get a URL, see the build and the log as they happen.",
    );
    let harbour = format!("{}/harbour.svg", page.site.assets);
    let (start, start_word) = match (page.user.is_some(), page.site.sign_up) {
        (true, _) => ("/apps", "Your apps"),
        (false, true) => ("/signup", "Create an account"),
        (false, false) => ("/signin", "Sign in"),
    };
    let product = prices.and_then(product);
    let price = prices.map(price);
    let has_prices = price.is_some();
    frame.html(move || {
        view! {
            <section class="hero">
                <div>
                    <h1>
                        <span>"Push your code."</span>
                        " "
                        <span>"Get a URL."</span>
                        " "
                        <span>"It stays up."</span>
                    </h1>
                    <p class="lead">
                        "Berth builds what you push, gives it a URL and keeps it up. You pay for the CPU, memory and traffic that it used, and see why to the last reading."
                    </p>
                    <p class="actions">
                        <a class="btn main big" href=start>
                            {start_word}
                        </a>
                        {if has_prices {
                            view! { <a class="btn big" href="#price">"See the prices"</a> }
                        } else {
                            view! { <a class="btn big" href="#tool">"See how it works"</a> }
                        }}
                    </p>
                    {has_prices.then(|| view! { <p class="hint">"No plan fee, no seat price: an app that does not run costs what lies on disk."</p> })}
                </div>
                <img
                    class="harbour"
                    src=harbour
                    width="560"
                    height="470"
                    alt="A harbour chart: four apps tied up at the quay, and a fifth coming in by git push."
                />
            </section>
            {tool()}
            {promises(product)}
            {price}
            {breaks()}
            {own()}
        }
    })
}

fn tool() -> impl IntoView {
    view! {
        <section class="band" id="tool">
            <h2>"This is the whole tool"</h2>
            <div class="cols">
                <pre class="log" tabindex="0" role="group" aria-label="What git push prints">
                    <i>"~/orchard $"</i>
                    " git push berth main\n"
                    <i>"remote:"</i>
                    " -----> Python app: requirements.txt\n"
                    <i>"remote:"</i>
                    " -----> Installing requirements.txt\n"
                    <i>"remote:"</i>
                    " -----> Making the image\n"
                    <i>"remote:"</i>
                    " -----> Healthy, switching over\n"
                    <i>"remote:"</i>
                    " "
                    <u>"Deploy 14 live in 2.6 s: https://orchard.example"</u>
                    "\n"
                    <i>"remote:"</i>
                    " "
                    <em>"cost: €1.07 a day, 2 cents more than v13"</em>
                </pre>
                <div class="stack">
                    <p>
                        <b>"git, from any machine."</b>
                        " No client to install: add your SSH key and push. The build scrolls by while it happens, and a failed one says why."
                    </p>
                    <p>
                        <b>"Recognised by their own files."</b>
                        " Static sites by "
                        <code>"index.html"</code>
                        ", Python by "
                        <code>"requirements.txt"</code>
                        " or "
                        <code>"pyproject.toml"</code>
                        ", Node by "
                        <code>"package.json"</code>
                        "; a "
                        <code>"Procfile"</code>
                        " says anything else."
                    </p>
                    <p>
                        <b>"You see what runs."</b>
                        " State, steps with their times, and the log as it is written, in the browser."
                    </p>
                </div>
            </div>
        </section>
    }
}

fn promises(product: Option<(String, String)>) -> impl IntoView {
    view! {
        <section class="band">
            <h2>"What you can hold us to"</h2>
            <div class="three">
                <div class="sheet stack">
                    {product.map(|(amount, words)| view! {
                        <p class="claim">
                            <b class="money">{amount}</b>
                            " "
                            <small>{words}</small>
                        </p>
                    })}
                    <h3>"The bill is exact"</h3>
                    <p>
                        "Every amount opens into the days, the hours and the readings behind it. Download them and you get the same cents."
                    </p>
                </div>
                <div class="sheet stack">
                    <p class="claim">
                        <b>"v13 serves"</b>
                        " "
                        <small>"until v14 is healthy, and if it never is"</small>
                    </p>
                    <h3>"A bad version never serves"</h3>
                    <p>
                        "The old one serves until the new one answers. If it does not, you get the reason and the line to change, and the push fails."
                    </p>
                </div>
                <div class="sheet stack">
                    <p class="claim">
                        <b>"0 of 812"</b>
                        " "
                        <small>"requests failed during the switch"</small>
                    </p>
                    <h3>"Deploys drop nothing"</h3>
                    <p>
                        "New instances are healthy before the switch; old ones finish what they have before they stop."
                    </p>
                </div>
            </div>
        </section>
    }
}

/// An amount and its arithmetic, at the price of now.
fn product(list: &PriceList) -> Option<(String, String)> {
    let price = list.prices.get(&Meter::Cpu)?;
    let [only] = price.tiers.as_slice() else { return None };
    let hundredths = 16_842;
    let micros = i64::try_from(only.micros.checked_mul(hundredths)? / 100).ok()?;
    let currency = list.currency;
    let words = format!(
        "= {} CPU-hours × {}",
        Meter::Cpu.exactly(hundredths * Meter::Cpu.unit() / 100),
        currency.price(only.micros)
    );
    Some((currency.cents(Money::from_micros(micros)), words))
}

/// What things cost, from the list that is in force, and what that comes to by the function that makes the bill.
fn price(list: &PriceList) -> AnyView {
    let currency = list.currency;
    let since = match since_ever(list.since) {
        true => String::new(),
        false => format!(", since {}", date_minute(list.since)),
    };
    let caption =
        format!("Price list {}{since}, before tax. A new list never applies to what you have already used.", list.list);
    let coming: Vec<_> = list
        .coming
        .iter()
        .map(|version| {
            let caption = format!("Price list {}, from {} on, before tax.", version.list, date_minute(version.since));
            view! {
                <section class="scroll" tabindex="0" aria-label=format!("Price list {}", version.list)>
                    {price_table(currency, &version.prices, caption)}
                </section>
            }
        })
        .collect();
    let row = |of: &Example| {
        let lines: Vec<_> = of
            .lines
            .iter()
            .filter(|(_, used, _)| *used > 0)
            .map(|(meter, used, amount)| {
                let words = format!("{} {} {}", meter.title(), meter.shortly(*used), meter.units());
                view! { <dt>{words}</dt> <dd>{currency.cents(*amount)}</dd> }
            })
            .collect();
        view! {
            <details class="example">
                <summary>
                    <span>{of.name} <small>{of.what}</small></span>
                    <b class="money">{currency.cents(of.amount)}</b>
                </summary>
                <dl class="facts sums">{lines}</dl>
            </details>
        }
    };
    let rows: Vec<_> = list.examples.iter().map(row).collect();
    view! {
        <section class="band" id="price">
            <h2>"Prices"</h2>
            <div class="cols">
                <div class="stack">
                    <section class="scroll" tabindex="0" aria-label="Price list">
                        {price_table(currency, &list.prices, caption)}
                    </section>
                    {coming}
                </div>
                <div class="sheet cost">
                    <header>
                        <h3>"What that comes to"</h3>
                        <span>"30 days"</span>
                    </header>
                    {rows}
                    <p class="hint">"Each opens into what it is made of."</p>
                </div>
            </div>
        </section>
    }
    .into_any()
}

fn breaks() -> impl IntoView {
    let rows = [
        ("Your new version does not start", "Nothing. The old one keeps serving; you get the reason and the log."),
        (
            "One of your processes crashes",
            "It is started again, a little later each time. Requests that can safely be repeated go to another instance.",
        ),
        (
            "Our control plane is down",
            "Nothing. Apps run and are routed without it. You cannot deploy until it is back.",
        ),
        ("You lose your connection in the middle of a push", "Nothing. The deploy goes on and ends by itself."),
    ];
    let rows: Vec<_> = rows
        .into_iter()
        .map(|(what, seen)| {
            view! {
                <tr>
                    <th scope="row" class="wide">
                        {what}
                    </th>
                    <td class="wide">{seen}</td>
                </tr>
            }
        })
        .collect();
    view! {
        <section class="band">
            <h2>"When something breaks"</h2>
            <table class="fold">
                {heads(&[("What fails", ""), ("What your visitors see", "")])}
                <tbody>{rows}</tbody>
            </table>
        </section>
    }
}

fn own() -> impl IntoView {
    view! {
        <section class="band" id="own">
            <div class="half">
                <div class="stack">
                    <h2>"Or run your own"</h2>
                    <p>
                        "Berth is free software, one binary, made to be operated by somebody who likes to sleep. One command shows all of it on a Linux server:"
                    </p>
                </div>
                {command("cargo xtask demo".to_owned(), "The command of the demo")}
            </div>
        </section>
    }
}
