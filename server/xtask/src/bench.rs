//! How quick the site is, on an installation with a thousand apps and a month of use behind it. Anyone can run it; it
//! prints figures and judges none, since machines differ: only what Lighthouse finds of accessibility fails it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{Berth, Crowd, Person, Visitor, nothing_left};

use crate::browser;
use crate::build::{self, build_release};
use crate::install::{For, uv_program};
use crate::work::{Work, cargo, program, read, root, run};

const CROWD: Crowd = Crowd { apps: 1_000, own: 100, days: 30 };
const APP: &str = "guestbook";
/// Of each page.
const LOOKS: usize = 300;
const TIMEOUT: Duration = Duration::from_secs(30);

pub fn site() -> Result<()> {
    let mut work = Work::new(build::STEPS + 7);
    let binary = build_release(&mut work, For::Testing)?;
    let berth = Berth::start(&binary, Some(&uv_program()), "bench")?;
    let done = measured(&mut work, &berth);
    let (slice, data) = (berth.slice, berth.data.clone());
    if done.is_err() {
        eprintln!("--- berth's last words\n{}", berth.last_words());
    }
    berth.stop()?;
    done?;
    nothing_left(slice, &data)?;
    work.step("readings from end to end, beside the raw stream");
    run(cargo().args(["bench", "--quiet", "-p", "berth", "--bench", "readings"]))
}

fn measured(work: &mut Work, berth: &Berth) -> Result<()> {
    work.step("an app, and a user who looks");
    let mut site = Visitor::new(&berth.site, berth.http);
    let person = Person::new(berth, "ada")?;
    person.sign_in(&mut site)?;
    person.add_key(&mut site)?;
    person.create(&mut site, APP)?;
    person.prepare(APP, &root().join("end2end/apps/flask"))?;
    person.push(APP)?;
    work.step(&format!("{} other apps and {} days of use", CROWD.apps, CROWD.days));
    harness::fill(berth, &person.email(), &CROWD)?;

    work.step("pages");
    let mut operator = Visitor::new(&berth.site, berth.http);
    follow(&mut operator, &berth.sign_in_link("operator@localhost")?)?;
    let web = berth.process("web")?;
    println!("{:<34} {:>9} {:>9} {:>9} {:>11}", "page, its first byte", "median", "p99", "bytes", "CPU a page");
    for (path, who) in pages() {
        let who = if who == Who::Operator { &operator } else { &site };
        let mut looks = Looks::open(berth.http, &who.head("GET", path))?;
        // What is made once is made before.
        (0..10).try_for_each(|_| looks.look().map(drop))?;
        let before = cpu(web)?;
        let mut times = (0..LOOKS).map(|_| looks.look()).collect::<Result<Vec<Duration>>>()?;
        let each = (cpu(web)? - before) / LOOKS as u32;
        times.sort_unstable();
        let (median, p99) = (times[LOOKS / 2], times[LOOKS * 99 / 100]);
        println!("{path:<34} {:>9} {:>9} {:>9} {:>11}", ms(median), ms(p99), looks.bytes, ms(each));
    }

    work.step("pages a second");
    let head = site.head("GET", "/apps");
    let fields: Vec<&str> = head.lines().skip(1).filter(|line| !line.is_empty()).collect();
    for path in ["/", "/apps/guestbook"] {
        let before = (cpu(web)?, Instant::now());
        let mut wrk = program("wrk");
        wrk.args(["-t1", "-c16", "-d10s"]);
        for field in &fields {
            wrk.args(["-H", field]);
        }
        let said = read(wrk.arg(format!("http://{}{path}", berth.http)))?;
        let (cores, seconds) = ((cpu(web)? - before.0).as_secs_f64(), before.1.elapsed().as_secs_f64());
        let asked = said.lines().find_map(|line| line.trim().split_once(" requests in ")).context("wrk did not say")?;
        let asked: f64 = asked.0.parse().context("wrk's count is no number")?;
        ensure!(!said.contains("Non-2xx"), "not all were answered:\n{said}");
        println!("{path:<34} {:>7.0} a second, {:>6.0} a second and core of web", asked / seconds, asked / cores);
    }

    work.step("in a browser");
    let page = site.get("/apps/guestbook")?.body;
    let base =
        page.split("/assets/").nth(1).and_then(|rest| rest.split('/').next()).context("the page has no files")?;
    let mut bytes = 0;
    for file in ["berth.js", "berth_bg.wasm"] {
        let mut curl = program("curl");
        curl.args(["-sf", "-o", "/dev/null", "-w", "%{size_download}", "-H", "Accept-Encoding: br"]);
        let host = format!("Host: {}", berth.site.trim_start_matches("http://"));
        let url = format!("http://{}/assets/{base}/{file}", berth.http);
        bytes += read(curl.args(["-H", &host, &url]))?.trim().parse::<u64>().context("curl's count is no number")?;
    }
    println!("the browser half, by brotli          {:.1} KB", bytes as f64 / 1000.0);
    in_browser(berth, &person)?;
    work.step("what Lighthouse says, as on a phone");
    lighthouse(berth, &person)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Customer,
    Operator,
}

fn pages() -> Vec<(&'static str, Who)> {
    let mine = [
        "/",
        "/apps",
        "/apps/guestbook",
        "/apps/guestbook/deploys/1",
        "/apps/guestbook/logs",
        "/apps/guestbook/config",
        "/apps/guestbook/usage?range=1h",
        "/apps/crowd-7/usage?range=1d",
        "/apps/crowd-7/usage?range=30d",
        "/apps/crowd-7",
        "/billing",
        "/account",
    ];
    let theirs = ["/operator/servers", "/operator/customers", "/operator/decisions", "/operator/prices"];
    let mine = mine.into_iter().map(|path| (path, Who::Customer));
    mine.chain(theirs.into_iter().map(|path| (path, Who::Operator))).collect()
}

fn follow(visitor: &mut Visitor, link: &str) -> Result<()> {
    let path = link.splitn(4, '/').nth(3).context("the link has no path")?;
    let answer = visitor.post(&format!("/{path}"), &[])?;
    ensure!(answer.status == 303, "signing in answered {}", answer.status);
    Ok(())
}

/// One page again and again, on one connection.
struct Looks {
    stream: TcpStream,
    head: Vec<u8>,
    bytes: usize,
}

impl Looks {
    fn open(to: SocketAddr, head: &str) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&to, TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        Ok(Self { stream, head: format!("{head}\r\n").into_bytes(), bytes: 0 })
    }

    /// The time to the first byte; the rest is read, too.
    fn look(&mut self) -> Result<Duration> {
        let asked = Instant::now();
        self.stream.write_all(&self.head)?;
        let (mut answer, mut piece, mut first) = (Vec::new(), [0_u8; 16 << 10], None);
        loop {
            let n = self.stream.read(&mut piece)?;
            ensure!(n > 0, "the connection was closed in the middle of an answer");
            first.get_or_insert_with(|| asked.elapsed());
            answer.extend(piece.get(..n).unwrap_or_default());
            if is_whole(&answer)? {
                self.bytes = answer.len();
                return first.context("nothing came");
            }
        }
    }
}

fn is_whole(answer: &[u8]) -> Result<bool> {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(false) };
    let head = String::from_utf8_lossy(answer.get(..end).unwrap_or_default()).to_ascii_lowercase();
    ensure!(head.starts_with("http/1.1 200"), "the page was not there: {}", head.lines().next().unwrap_or_default());
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    match length {
        Some(length) => Ok(answer.len() >= end + 4 + length.trim().parse::<usize>()?),
        None => Ok(answer.ends_with(b"\r\n0\r\n\r\n")),
    }
}

/// CPU time of a process so far, by the kernel's count in hundredths.
fn cpu(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after = stat.rsplit_once(')').context("/proc says something else")?.1;
    let fields: Vec<&str> = after.split_whitespace().collect();
    let [user, system] = [11, 12].map(|at| fields.get(at).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0));
    Ok(Duration::from_millis((user + system) * 10))
}

fn ms(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}

fn in_browser(berth: &Berth, person: &Person) -> Result<()> {
    let mut node = program("node");
    node.arg("bench.mjs")
        .current_dir(root().join("end2end/browser"))
        .env("BERTH_SITE", &berth.site)
        .env("BERTH_APP", APP);
    node.env("BERTH_URL", berth.app(APP)).env("BERTH_LINK", berth.sign_in_link(&person.email())?);
    let mut pushes = 0;
    browser::talk(node, |line| {
        if line != "push" {
            println!("{line}");
            return Ok(None);
        }
        pushes += 1;
        std::fs::write(person.repository(APP).join("motd.txt"), format!("ahoy {pushes}"))?;
        person.commit(APP, "Say ahoy")?;
        person.push(APP)?;
        let ended = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis();
        Ok(Some(ended.to_string()))
    })
}

/// A page that not everybody can use fails it.
fn lighthouse(berth: &Berth, person: &Person) -> Result<()> {
    let mut node = program("node");
    node.arg("lighthouse.mjs").current_dir(root().join("end2end/browser"));
    node.env("BERTH_SITE", &berth.site).env("BERTH_APP", APP);
    node.env("BERTH_LINK", berth.sign_in_link(&person.email())?);
    node.env("BERTH_OPERATOR", berth.sign_in_link("operator@localhost")?);
    run(&mut node)
}
