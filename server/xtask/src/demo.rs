//! Starts Berth with four sample apps, as a person would: a user, a key, `git push`; then shows where they are.
//! With `--check` each step is held against what it should be, and against the kernel's own counters.

use std::time::{Duration, Instant};

use anyhow::Result;
use harness::{Berth, Person, Visitor, asked_to_stop, listen_for_stop, nothing_left, wait};

use crate::build::{self, build};
use crate::check;
use crate::install::{For, uv_program};
use crate::work::{Work, clock, root};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Check {
    No,
    Yes,
}

/// A sample of `end2end/apps`, and what its first page says.
pub struct Sample {
    pub folder: &'static str,
    pub name: &'static str,
    pub says: &'static str,
}

pub const SAMPLES: [Sample; 4] = [
    Sample { folder: "static", name: "tides", says: "Tide table" },
    Sample { folder: "flask", name: "guestbook", says: "Guest book" },
    Sample { folder: "node", name: "poll", says: "<title>Poll</title>" },
    Sample { folder: "worker", name: "mailroom", says: "Mail room" },
];

/// The pages, and what each answers.
pub const WALK: [(&str, &str); 10] = [
    ("/", "what it is, and what it costs"),
    ("/apps", "what needs me"),
    ("/apps/guestbook", "is it well"),
    ("/apps/guestbook/deploys/1", "what the deploy did"),
    ("/apps/guestbook/logs", "what it says"),
    ("/apps/guestbook/usage?range=1h", "what it uses"),
    ("/apps/guestbook/config", "what it is told"),
    ("/billing", "what it costs; every figure opens into why"),
    ("/account", "keys and tokens"),
    ("/operator/servers", "the operator: servers, customers, prices, decisions, mail"),
];

/// Sent to each app.
const REQUESTS: u64 = 50;

pub fn demo(check: Check) -> Result<()> {
    let mut work = Work::new(build::STEPS + if check == Check::Yes { 14 } else { 7 });
    let program = build(&mut work, For::Running)?;
    listen_for_stop();

    work.step("starting berth");
    let started = Instant::now();
    let berth = Berth::start(&program, Some(&uv_program()), "demo")?;
    let start_up = started.elapsed();
    let done = shown(&mut work, &berth, check, start_up);
    if done.is_err() {
        eprintln!("--- berth's last words\n{}", berth.last_words());
    }
    let (slice, data) = (berth.slice, berth.data.clone());
    let stopped = berth.stop();
    let figures = done?;
    stopped?;
    if check == Check::Yes {
        work.step("looking for what was left behind");
        nothing_left(slice, &data)?;
        println!("{figures}");
    }
    Ok(())
}

/// All that happens while Berth runs; the figures of a check.
fn shown(work: &mut Work, berth: &Berth, check: Check, start_up: Duration) -> Result<String> {
    work.step("making a user with an SSH key");
    let mut site = Visitor::new(&berth.site, berth.http);
    let person = Person::new(berth, "demo")?;
    person.sign_in(&mut site)?;
    person.add_key(&mut site)?;

    let mut firsts = Vec::new();
    for sample in &SAMPLES {
        work.step(&format!("pushing the sample app {} ({})", sample.name, sample.folder));
        person.create(&mut site, sample.name)?;
        person.prepare(sample.name, &root().join("end2end/apps").join(sample.folder))?;
        let pushed = Instant::now();
        person.push(sample.name)?;
        let mut visitor = Visitor::new(&berth.app(sample.name), berth.http);
        wait(Duration::from_secs(20), || {
            let answer = visitor.get("/")?;
            anyhow::ensure!(answer.status == 200, "{} answered {}", sample.name, answer.status);
            anyhow::ensure!(answer.body.contains(sample.says), "{} does not say `{}`", sample.name, sample.says);
            Ok(())
        })?;
        firsts.push((sample.name, pushed.elapsed()));
    }
    work.step("sending them some traffic");
    check::traffic(berth, REQUESTS)?;

    let ready = work.elapsed();
    if check == Check::No {
        show(berth, &person, ready)?;
        while !asked_to_stop() && berth.runs()? {
            std::thread::sleep(Duration::from_millis(100));
        }
        eprintln!("stopping");
        return Ok(String::new());
    }
    let memory = harness::counters::memory_of_platform(berth.slice)?;
    check::check(work, berth, &person, &mut site, REQUESTS)?;
    let mut figures =
        format!("clone to ready    {}\nstart-up          {:.2} s\n", clock(ready), start_up.as_secs_f64());
    for (name, first) in firsts {
        figures.push_str(&format!("push to first 200 {:.2} s ({name})\n", first.as_secs_f64()));
    }
    figures.push_str(&format!("platform memory   {} MiB", memory >> 20));
    Ok(figures)
}

fn show(berth: &Berth, person: &Person, ready: Duration) -> Result<()> {
    println!("\nBerth runs; this took {}.\n", clock(ready));
    for sample in &SAMPLES {
        println!("  {:<10} {}", sample.name, berth.app(sample.name));
    }
    println!("  {:<10} {}", "site", berth.site);
    println!("  {:<10} {}  (works once)", "sign in", berth.sign_in_link(&person.email())?);
    println!("  {:<10} {}  (works once)", "operator", berth.sign_in_link("operator@localhost")?);
    println!("\nSigned in, in this order:");
    for (path, answers) in WALK {
        println!("  {:<34} {answers}", format!("{}{path}", berth.site));
    }
    println!("\nCtrl-C ends it, and leaves nothing behind.");
    Ok(())
}
