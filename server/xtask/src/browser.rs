//! The site in a real browser, on a Berth with an app.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result};
use harness::{Berth, Person, Visitor, nothing_left};

use crate::install::uv_program;
use crate::test::Counts;
use crate::work::{program, root};

const APP: &str = "guestbook";

pub fn browser(binary: &Path) -> Result<Counts> {
    let berth = Berth::start(binary, Some(&uv_program()), "browser")?;
    let counts = looked_at(&berth)?;
    let (slice, data) = (berth.slice, berth.data.clone());
    berth.stop()?;
    nothing_left(slice, &data)?;
    Ok(counts)
}

fn looked_at(berth: &Berth) -> Result<Counts> {
    let mut site = Visitor::new(&berth.site, berth.http);
    let person = Person::new(berth, "ada")?;
    person.sign_in(&mut site)?;
    person.add_key(&mut site)?;
    person.create(&mut site, APP)?;
    person.prepare(APP, &root().join("end2end/apps/flask"))?;
    person.push(APP)?;
    Visitor::new(&berth.app(APP), berth.http).get("/")?;

    let mut node = program("node");
    node.arg("site.mjs").current_dir(root().join("end2end/browser"));
    node.env("BERTH_SITE", &berth.site).env("BERTH_APP", APP).env("BERTH_LINK", berth.sign_in_link(&person.email())?);
    node.env("BERTH_OPERATOR", berth.sign_in_link("operator@localhost")?);
    let output = node.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("could not start node")?;
    let said = String::from_utf8_lossy(&output.stdout);
    eprint!("{said}");
    let counts = said.lines().last().and_then(counted).context("the browser's tests ended without their counts")?;
    Ok(counts)
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
