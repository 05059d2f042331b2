//! More than anybody looks at: a customer of 500 apps, and an app that prints more than can be read.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::counters::memory_of_platform;
use harness::{Crowd, Json, Visitor, fill, wait};

use crate::commands::{Going, ask, refused, well};
use crate::given::{Given, SOON, given};

/// A token of the signed-in user's, made as a person makes one.
pub fn token(g: &mut Given, name: &str) -> Result<Visitor> {
    let typed = [("token-name", name), ("scope", "write"), ("lasts", "1")];
    let page = g.site.post("/account/tokens", &typed)?;
    ensure!(page.status == 200, "a token was not made: {}: {}", page.status, page.body);
    let word = |rest: &str| rest.chars().take_while(char::is_ascii_alphanumeric).collect::<String>();
    let token = page.body.split("berth_").map(word).find(|word| word.len() == 40).context("no token is shown")?;
    Ok(Visitor::program(&g.berth.site, g.berth.http, &format!("berth_{token}")))
}

/// An answer of the API that is well.
fn json(program: &mut Visitor, path: &str) -> Result<Json> {
    let answer = program.get(&format!("/api/v1{path}"))?;
    ensure!(answer.status == 200, "{path} answered {}: {}", answer.status, answer.body);
    Json::parse(&answer.body)
}

fn number(json: &Json) -> i64 {
    match json {
        Json::Number(number) => *number as i64,
        _ => 0,
    }
}

/// All of a list of the API, part by part.
fn whole(program: &mut Visitor, path: &str) -> Result<Vec<Json>> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let part = json(program, &format!("{path}{after}"))?;
        all.extend(part.at("items").list().iter().cloned());
        match part.at("next") {
            Json::Null => return Ok(all),
            next => after = format!("{}after={}", if path.contains('?') { '&' } else { '?' }, next.text()),
        }
        ensure!(all.len() < 100_000, "{path} has no end");
    }
}

const APPS: usize = 500;
/// Of any page of theirs.
const PAGE_BYTES_MAX: usize = 1 << 20;

/// A page, whole and of a bounded size.
fn page(site: &mut Visitor, path: &str) -> Result<String> {
    let began = Instant::now();
    let page = site.get(path)?;
    println!("{path}: {} bytes in {:?}", page.body.len(), began.elapsed());
    ensure!(page.status == 200 && page.body.trim_end().ends_with("</html>"), "{path} answered {}", page.status);
    ensure!(page.body.len() < PAGE_BYTES_MAX, "{path} has {} bytes", page.body.len());
    Ok(page.body)
}

/// The apps that a page of them lists, in its order.
fn listed(page: &str) -> Vec<String> {
    let links = page.split("<h2><a href=\"/apps/").skip(1);
    links.filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect()
}

/// The cents of each amount that stands in a section of a page.
fn cents(page: &str, section: &str) -> Result<Vec<i64>> {
    let from = page.split(&format!("<section id=\"{section}\" ")).nth(1);
    let text = from.and_then(|rest| rest.split("</section>").next()).with_context(|| format!("no {section}"))?;
    let amount = |after: &str| {
        let digits: String = after.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
        let (whole, part) = digits.split_once('.')?;
        Some(whole.parse::<i64>().ok()? * 100 + part.get(..2)?.parse::<i64>().ok()?)
    };
    // What is shown, not what stands in a link's label, nor what one costs.
    let text = text.replace("<td class=\"n gone\">€", "");
    Ok(text.split(">€").skip(1).filter_map(amount).collect())
}

#[test]
fn a_customer_of_500_apps_has_whole_pages_lists_and_sums() {
    given("crowd", |g| {
        fill(&g.berth, "ada@localhost", &Crowd { apps: APPS as u32 + 10, own: APPS as u32, days: 1 })?;
        g.berth.sql(&format!("update customer set apps_max = {APPS} where apps_max = 1000"))?;
        let ada = g.person.clone();
        let mut program = token(g, "crowd")?;

        // Every door has each of them once.
        let mut seen = BTreeSet::new();
        for from in (0..APPS).step_by(50) {
            let page = page(&mut g.site, &format!("/apps?from={from}"))?;
            let said = format!("{} to {} of {APPS}", from + 1, from + 50);
            ensure!(page.contains(&said) && page.contains("500 apps of"), "the page does not say {said}");
            let apps = listed(&page);
            ensure!(apps.len() == 50, "a page lists {} apps", apps.len());
            seen.extend(apps);
        }
        ensure!(seen.len() == APPS, "the pages list {} apps", seen.len());
        let found: BTreeSet<_> = listed(&page(&mut g.site, "/apps?q=crowd-49")?).into_iter().collect();
        let wanted: BTreeSet<_> = seen.iter().filter(|name| name.contains("crowd-49")).cloned().collect();
        ensure!(wanted.len() == 11 && found == wanted, "the search found {found:?}");
        for query in ["", "?limit=200", "?limit=7"] {
            let apps = whole(&mut program, &format!("/apps{query}"))?;
            let names: Vec<_> = apps.iter().map(|app| app.at("name").text().to_owned()).collect();
            ensure!(
                names.len() == APPS && names.iter().cloned().collect::<BTreeSet<_>>() == seen,
                "{query}: {names:?}"
            );
        }
        let told = well(&ada, &["apps", "-q"])?;
        ensure!(told.lines().map(str::to_owned).collect::<BTreeSet<_>>() == seen, "by SSH: {told}");
        ensure!(told.lines().count() == APPS, "by SSH one is told twice");
        ensure!(Json::parse(&well(&ada, &["apps", "--json"])?)?.list().len() == APPS, "as JSON by SSH");
        ensure!(well(&ada, &["apps"])?.lines().count() > APPS, "as text by SSH");

        // Every cut of the bill has the same sum, wherever it is shown.
        let bill = json(&mut program, "/bill")?;
        let total = bill.at("total");
        for (cut, least) in [("apps", APPS), ("meters", 5)] {
            let amounts = bill.at(cut).list();
            let sum = |what: &str| amounts.iter().map(|one| number(one.at("cost").at(what))).sum::<i64>();
            ensure!(amounts.len() >= least, "{} {cut} are in the bill", amounts.len());
            ensure!(sum("cents") == number(total.at("cents")), "by {cut}: {} cents", sum("cents"));
            // What is shared out of a meter's sum is exact to the millionth an app.
            let off = (sum("micros") - number(total.at("micros"))).abs();
            ensure!(off <= (APPS * 6) as i64, "by {cut}: {off} millionths are missing");
        }
        ensure!(number(total.at("cents")) > 0, "it costs nothing");
        for path in ["/billing".to_owned(), format!("/billing/why/{}", bill.at("month").text())] {
            page(&mut g.site, &path)?;
        }
        let billing = page(&mut g.site, "/billing")?;
        for (section, least) in [("lines", APPS), ("meters", 5)] {
            let mut amounts = cents(&billing, section)?;
            let sum = amounts.pop().unwrap_or(-1);
            ensure!(amounts.len() >= least, "{section} has {} amounts", amounts.len());
            ensure!(
                amounts.iter().sum::<i64>() == sum,
                "{section}: the sum is {sum}, not {}",
                amounts.iter().sum::<i64>()
            );
        }

        // One more is refused at each door, by what to do.
        let more = program.send("POST", "/api/v1/apps", r#"{"name": "one-more"}"#)?;
        ensure!(more.status == 422 && more.body.contains("Delete one, or ask"), "{}: {}", more.status, more.body);
        let more = g.site.post("/apps/new", &[("name", "one-more")])?;
        ensure!(more.status == 422 && more.body.contains("Delete one, or ask"), "{}: {}", more.status, more.body);
        refused(&ada, &["create", "one-more"], 1, "Delete one, or ask the operator for more.")?;
        // So is a name that is a route of ours.
        for name in ["new", "operator", "api"] {
            let api = program.send("POST", "/api/v1/apps", &format!(r#"{{"name": "{name}"}}"#))?;
            let form = g.site.post("/apps/new", &[("name", name)])?;
            ensure!((api.status, form.status) == (422, 422), "{name} is answered {} and {}", api.status, form.status);
            let ssh = ask(&ada, &["create", name])?;
            ensure!(ssh.code == 2 && ssh.err.contains(name), "{name} by SSH: {}{}", ssh.out, ssh.err);
        }
        Ok(())
    });
}

const LINES: u64 = 30_000;

/// On `/flood` it prints 10,000 lines a second, and then what a log must not let through.
const NOISY: &str = r#"
import http.server, os, sys, threading, time
out = sys.stdout.buffer
def flood():
    began, n = time.monotonic(), 0
    while n < 30000:
        out.write(b"".join(b"flood %d.\n" % i for i in range(n, n + 500)))
        out.flush()
        n += 500
        time.sleep(max(0, began + n / 10000 - time.monotonic()))
    time.sleep(5)
    out.write(b"x" * (1 << 20) + b"\nafter the long one\n")
    out.write(b"bell \x07 title \x1b]0;owned\x07 clear \x1b[2J c1 \xc2\x9b back \x08 nul \x00 end\n")
    out.write(b"\x1b[31mred\x1b[0m <script>alert('html')</script> & \"quoted\"\n")
    out.write(b"broken \xff\xfe utf-8\n")
    out.write(b"all is said\n")
    out.flush()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/flood":
            threading.Thread(target=flood).start()
        else:
            print("asked for", self.path, flush=True)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"noisy")
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
"#;

const CALM: &str = r#"
import http.server, os, threading, time
def count():
    n = 0
    while True:
        print("calm %d." % n, flush=True)
        n += 1
        time.sleep(0.02)
threading.Thread(target=count, daemon=True).start()
http.server.test(http.server.SimpleHTTPRequestHandler, port=int(os.environ["PORT"]))
"#;

/// The numbers that follow a word, in their order.
fn numbers(text: &str, word: &str) -> Vec<u64> {
    let after = text.split(word).skip(1).filter_map(|rest| rest.split_once('.'));
    after.filter_map(|(number, _)| number.parse().ok()).collect()
}

fn all(lines: &[Json], at: &str) -> String {
    lines.iter().map(|line| format!("{}\n", line.at(at).text())).collect()
}

/// The numbers before these words.
fn said(text: &str, words: &str) -> u64 {
    let before = text.split(words).filter_map(|before| before.rsplit(|c: char| !c.is_ascii_digit()).next());
    before.filter_map(|number| number.parse::<u64>().ok()).sum()
}

/// All lines of an app, as the API has them: each after the one before.
fn lines(program: &mut Visitor, app: &str) -> Result<Vec<Json>> {
    let (mut all, mut after) = (Vec::<Json>::new(), 0);
    loop {
        let part = json(program, &format!("/apps/{app}/logs?limit=10000&after={after}"))?;
        if part.at("items").list().is_empty() {
            return Ok(all);
        }
        for line in part.at("items").list() {
            ensure!(number(line.at("cursor")) == after + 1, "after line {after} comes {}", number(line.at("cursor")));
            after += 1;
            all.push(line.clone());
        }
    }
}

#[test]
fn a_flood_of_lines_is_told_in_order_at_every_door_and_costs_no_other_app_a_line() {
    given("flood", |g| {
        for (app, text) in [("noisy", NOISY), ("calm", CALM)] {
            g.app_of(app, &[("app.py", text), ("requirements.txt", ""), ("Procfile", "web: exec python3 app.py\n")])?;
            g.push_well(app)?;
        }
        let ada = g.person.clone();
        let mut program = token(g, "flood")?;
        let before = memory_of_platform(g.berth.slice)?;
        let ssh = Going::begin(ada.ssh(&[], &["logs", "noisy", "-t", "-n", "0"]))?;
        let api = program.follow("/api/v1/apps/noisy/logs?follow=true&after=0")?;
        let live = g.site.follow("/apps/noisy/logs/events?after=0.0.0")?;
        wait(SOON, || {
            g.visitor("noisy").get("/")?;
            let heard = [ssh.heard(), api.text()?, live.text()?];
            ensure!(heard.iter().all(|heard| heard.contains("asked for /")), "not everybody listens: {heard:?}");
            Ok(())
        })?;

        g.visitor("noisy").get("/flood")?;
        let mut most = 0;
        let until = Instant::now() + SOON * 2;
        while !(ssh.heard().contains("all is said")
            && api.text()?.contains("all is said")
            && live.text()?.contains("all is said"))
        {
            most = most.max(memory_of_platform(g.berth.slice)?);
            let heard = [ssh.heard().len(), api.text()?.len(), live.text()?.len()];
            ensure!(Instant::now() < until, "not everybody heard the end, but {heard:?} bytes");
            std::thread::sleep(Duration::from_millis(50));
        }
        println!("the platform held {} MiB, at most {} MiB", before >> 20, most >> 20);
        ensure!(most < before + (160 << 20), "the platform grew from {before} to {most} bytes");

        // What was printed is there in its order, once, or counted among what was dropped by the rule.
        let all_lines = lines(&mut program, "noisy")?;
        let text = all(&all_lines, "text");
        let kept = numbers(&text, "flood ");
        ensure!(kept.is_sorted_by(|a, b| a < b), "not in order, or not once");
        let dropped: u64 =
            text.lines().filter(|line| line.starts_with("dropped ")).map(|line| said(line, " lines: ")).sum();
        println!("{} lines of {LINES} were kept, {dropped} dropped by rule", kept.len());
        ensure!(kept.len() as u64 + dropped == LINES && dropped > 0, "{} kept, {dropped} dropped", kept.len());
        ensure!(text.contains(" lines: more than 1000 lines or 1024 KiB a second\n"), "the rule is not said");
        let long: Vec<_> = text.lines().filter(|line| line.contains("xxx")).collect();
        ensure!(
            long.len() == 1 && long[0].len() <= 16 << 10 && long[0].contains("[cut: "),
            "{} long lines",
            long.len()
        );
        for line in
            ["after the long one", "\u{1b}[31mred\u{1b}[0m <script>alert('html')</script> & \"quoted\"", "all is said"]
        {
            ensure!(text.lines().filter(|has| *has == line).count() == 1, "not once: {line}");
        }
        let control = "bell \\x07 title \\x1b]0;owned\\x07 clear \\x1b[2J c1 \\x9b back \\x08 nul \u{fffd} end";
        let bell = text.lines().find(|line| line.starts_with("bell ")).unwrap_or_default();
        ensure!(bell == control, "control characters are not named: {bell:?}");
        ensure!(text.contains("broken \u{fffd}"), "what is no UTF-8 is not told");

        // Every reader has the same.
        let followed: Vec<Json> =
            api.text()?.lines().filter(|line| !line.is_empty()).map(Json::parse).collect::<Result<_>>()?;
        ensure!(followed[..] == all_lines[..followed.len()], "who follows by the API has something else");
        ensure!(followed.len() == all_lines.len(), "{} of {} followed", followed.len(), all_lines.len());
        let told = ssh.heard();
        ensure!(numbers(&told, "flood ") == kept, "who follows by SSH has {} lines", numbers(&told, "flood ").len());
        ensure!(told.contains(control) && !told.contains(['\x1b', '\x07']), "what moves a terminal passes");
        // A page is told at most as many a second as can be drawn, and how many are left out.
        let told = live.text()?;
        let (drawn, left_out) = (numbers(&told, "flood "), said(&told, " lines are not shown here"));
        println!("{} lines were drawn live, {left_out} left out", drawn.len());
        ensure!(
            drawn.is_sorted_by(|a, b| a < b) && drawn.iter().all(|n| kept.contains(n)),
            "not in order, or not once"
        );
        let missing = kept.len() - drawn.len();
        ensure!(
            left_out as usize >= missing && left_out as usize <= missing + 20,
            "{left_out} said, {missing} missing"
        );
        let shown = page(&mut g.site, "/apps/noisy/logs")?;
        for (what, of) in [("the live tail", &told), ("the page", &shown)] {
            ensure!(of.contains("&lt;script&gt;alert(") && !of.contains("<script>alert"), "{what} has an app's HTML");
            ensure!(of.contains("bell \\x07 title \\x1b]0;owned\\x07"), "{what} lacks what was named");
        }
        let file = g.site.get("/apps/noisy/logs/download")?;
        ensure!(file.status == 200, "the download answered {}", file.status);
        ensure!(file.body.lines().count() == all_lines.len(), "the file has {} lines", file.body.lines().count());
        ensure!(numbers(&file.body, "flood ") == kept, "the file has other lines");
        ensure!(!file.body.contains(|c: char| c.is_control() && c != '\n'), "a control character is in the file");

        // Nobody else missed a line.
        let calm = numbers(&all(&lines(&mut program, "calm")?, "text"), "calm ");
        let wrong = calm.iter().zip(0..).find(|(is, should)| **is != *should);
        ensure!(wrong.is_none() && calm.len() > 200, "of {} calm lines the first wrong one is {wrong:?}", calm.len());
        let last = calm.len();
        wait(SOON, || {
            let now = lines(&mut program, "calm")?.len();
            ensure!(now > last + 20, "{now} calm lines, {last} before");
            Ok(())
        })
    });
}
