//! The site in a real browser, on a Berth with an app.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use harness::{Berth, Person, Visitor, nothing_left};

use crate::build;
use crate::install::{For, uv_program};
use crate::test::Counts;
use crate::work::{Work, program, root};

const APP: &str = "guestbook";
/// Its second deploy does not start.
const BROKEN: &str = "fieldnotes";

pub fn verb() -> Result<()> {
    let mut work = Work::new(build::STEPS + 1);
    let berth = build::build(&mut work, For::Testing)?;
    work.step("the site in a browser");
    let Counts { passed, failed, skipped } = browser(&berth)?;
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    ensure!(failed == 0, "not all tests passed");
    Ok(())
}

pub fn browser(binary: &Path) -> Result<Counts> {
    let berth = Berth::start(binary, Some(&uv_program()), "browser")?;
    let counts = looked_at(&berth)?;
    let (slice, data) = (berth.slice, berth.data.clone());
    berth.stop()?;
    nothing_left(slice, &data)?;
    Ok(counts)
}

fn looked_at(berth: &Berth) -> Result<Counts> {
    let newcomer = newcomer(berth)?;
    let mut site = Visitor::new(&berth.site, berth.http);
    let person = Person::new(berth, "ada")?;
    person.sign_in(&mut site)?;
    person.add_key(&mut site)?;
    person.create(&mut site, APP)?;
    person.prepare(APP, &root().join("end2end/apps/flask"))?;
    person.push(APP)?;
    Visitor::new(&berth.app(APP), berth.http).get("/")?;
    person.create(&mut site, BROKEN)?;
    person.prepare(BROKEN, &root().join("end2end/apps/static"))?;
    person.push(BROKEN)?;
    let line = "web: exec python3 -m http.server 8000 --bind 127.0.0.1\n";
    fs::write(person.repository(BROKEN).join("Procfile"), line)?;
    fs::write(person.repository(BROKEN).join("berth.toml"), "[web]\nstart_timeout = 3\n")?;
    person.commit(BROKEN, "Serve it by ourselves")?;
    ensure!(person.push(BROKEN).is_err(), "a deploy that does not start was taken");

    let mut node = program("node");
    node.arg("site.mjs").current_dir(root().join("end2end/browser"));
    node.env("BERTH_SITE", &berth.site)
        .env("BERTH_APP", APP)
        .env("BERTH_BROKEN", BROKEN)
        .env("BERTH_LINK", berth.sign_in_link(&person.email())?);
    node.env("BERTH_OPERATOR", berth.sign_in_link("operator@localhost")?);
    let output = node.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("could not start node")?;
    let said = String::from_utf8_lossy(&output.stdout);
    eprint!("{said}");
    let mut counts = said.lines().last().and_then(counted).context("the browser's tests ended without their counts")?;
    counts.passed += newcomer.passed;
    counts.failed += newcomer.failed;
    Ok(counts)
}

/// Somebody who knows nothing signs up, pushes, and looks at what it costs: what the pages say to do is done.
fn newcomer(berth: &Berth) -> Result<Counts> {
    let noor = Person::unknown(berth, "noor")?;
    noor.begin("code", &root().join("end2end/apps/flask"))?;
    let url = berth.app("harbour-book");
    let mut node = program("node");
    node.arg("newcomer.mjs").current_dir(root().join("end2end/browser"));
    node.env("BERTH_SITE", &berth.site).env("BERTH_KEY", noor.public_key()?).env("BERTH_URL", &url);
    let mut counts = None;
    talk(node, |line| match line.split_once(' ') {
        None if line == "visit" => {
            let status = Visitor::new(&url, berth.http).get("/")?.status;
            Ok(Some(status.to_string()))
        }
        Some(("run", words)) => {
            let words: Vec<&str> = words.split_whitespace().skip(1).collect();
            let done = harness::run(noor.git("code").args(words));
            Ok(Some(done.map_or_else(|cause| format!("{cause:#}"), |()| "done".to_owned())))
        }
        _ => {
            eprintln!("{line}");
            counts = counts.take().or_else(|| counted(line));
            Ok(None)
        }
    })?;
    counts.context("the newcomer's walk ended without its count")
}

/// Answers what a script says, line by line, until it ends.
pub fn talk(mut script: Command, mut answer: impl FnMut(&str) -> Result<Option<String>>) -> Result<()> {
    let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("could not start node")?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let (mut stdin, stdout) = stdin.zip(stdout).context("node has no input or output")?;
    let told: Result<()> = BufReader::new(stdout).lines().try_for_each(|line| {
        if let Some(said) = answer(&line?)? {
            writeln!(stdin, "{said}")?;
        }
        Ok(())
    });
    if told.is_err() {
        let _ = child.kill();
    }
    drop(stdin);
    let ended = child.wait()?;
    told?;
    ensure!(ended.success(), "node ended with {ended}");
    Ok(())
}

/// Of `12 passed, 1 failed, 0 skipped`.
fn counted(line: &str) -> Option<Counts> {
    let mut parts = line.split(", ").map(|part| part.split_once(' ').and_then(|(n, _)| n.parse::<u64>().ok()));
    let (passed, failed, skipped) = (parts.next()??, parts.next()??, parts.next()??);
    Some(Counts { passed, failed, skipped })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_counts() {
        assert_eq!(counted("12 passed, 1 failed, 0 skipped"), Some(Counts { passed: 12, failed: 1, skipped: 0 }));
        assert_eq!(counted("not ok - a page"), None);
    }
}
