//! What is it, for whom, and what can you hold us to.

use leptos::prelude::*;

use crate::frame::{Frame, Page};
use crate::log::command;

pub fn landing(page: Page<'_>) -> String {
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
                        "Berth builds what you push, starts it in a sandbox of its own, gives it a URL and keeps it running. A version that does not start never replaces one that does."
                    </p>
                    <p class="actions">
                        <a class="btn main big" href=start>
                            {start_word}
                        </a>
                        <a class="btn big" href="#tool">
                            "See how it works"
                        </a>
                    </p>
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
            {promises()}
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

fn promises() -> impl IntoView {
    view! {
        <section class="band">
            <h2>"What you can hold us to"</h2>
            <div class="three">
                <div class="sheet stack">
                    <h3>"A bad version never serves"</h3>
                    <p>
                        "The old one serves until the new one answers. If it does not, you get the reason and the line to change, and the push fails."
                    </p>
                </div>
                <div class="sheet stack">
                    <h3>"Deploys drop nothing"</h3>
                    <p>
                        "New instances are healthy before the switch; old ones finish what they have before they stop."
                    </p>
                </div>
                <div class="sheet stack">
                    <h3>"Apps stay apart"</h3>
                    <p>
                        "Each runs in a sandbox with its own user, network, files and limits. It cannot see another app, and neither can your neighbour’s."
                    </p>
                </div>
            </div>
        </section>
    }
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
                <thead>
                    <tr>
                        <th scope="col">"What fails"</th>
                        <th scope="col">"What your visitors see"</th>
                    </tr>
                </thead>
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
