//! kill -9 of anything, at random, in the middle of everything; then calm, and all must be as if nothing had been.
//!
//! A run prints its seed. By hand, longer or the same again:
//! `BERTH_KILL_SECONDS=300 BERTH_KILL_SEED=7 cargo nextest run -p harness kills --no-capture`

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use harness::counters::{answered, sent, total};
use harness::{Answer, Json, Operator, Person, Visitor, go_on, kill_hard, no_orphans, pause, wait};

use crate::given::{DEPLOY, Given, SOON, given};

const SECONDS: u64 = 25;
/// A leader that stands still for so long has lost its lease.
const LEASE_AND_MORE: Duration = Duration::from_secs(12);
/// For all that is under way to come to its end. A builder or a balancer that fell silent is missed after 30 s.
const CALM: Duration = Duration::from_secs(180);

const APPS: [&str; 2] = ["tides", "guests"];

const PYTHON: &str = r#"
import http.server, os
note = open("note.txt").read()
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = note.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
"#;

/// splitmix64: the same seed, the same choices.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        let at = usize::try_from(self.below(all.len() as u64)).ok()?;
        all.get(at).copied()
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }
}

/// What the people who use it remember.
#[derive(Default)]
struct Seen {
    /// What each commit of an app says.
    says: BTreeMap<String, String>,
    /// App and commit of each push that git called a success.
    pushed: Vec<(String, String)>,
    deleted: BTreeSet<String>,
    /// What no visitor may ever see.
    wrong: Vec<String>,
    visits: BTreeMap<&'static str, Visits>,
}

/// What one visitor, who asks one thing after the other, had of an app.
#[derive(Debug, Default)]
struct Visits {
    /// Answers of the app itself, whole, and their bytes.
    whole: u64,
    bytes: u64,
    /// Of these the largest.
    most: u64,
    /// Nobody took the connection: then nobody counted it.
    refused: u64,
    /// Answered otherwise, broken off, or not at all; and what came of it.
    other: u64,
    other_bytes: u64,
}

impl Visits {
    fn saw(&mut self, answer: Option<&Answer>, is_whole: bool) {
        match answer {
            Some(answer) if is_whole && answer.status == 200 => {
                self.whole += 1;
                self.bytes += answer.bytes;
                self.most = self.most.max(answer.bytes);
            }
            answer => {
                self.other += 1;
                self.other_bytes += answer.map_or(0, |answer| answer.bytes);
            }
        }
    }
}

struct World {
    person: Person,
    operator: Operator,
    site: String,
    http: std::net::SocketAddr,
    over: AtomicBool,
    seen: Mutex<Seen>,
    /// git clients that are pushing.
    clients: Mutex<BTreeSet<u32>>,
}

impl World {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    fn app(&self, app: &str) -> Visitor {
        Visitor::new(&format!("http://{app}.localhost:{}", self.http.port()), self.http)
    }

    fn see(&self, of: impl FnOnce(&mut Seen)) {
        of(&mut self.seen.lock().unwrap());
    }

    /// A commit that says something new.
    fn change(&self, app: &str, n: u64) -> Result<String> {
        let says = format!("app {app} note {n}.");
        let file = if app == "guests" { "note.txt" } else { "index.html" };
        fs::write(self.person.repository(app).join(file), &says)?;
        self.person.commit(app, "A change")?;
        let commit = harness::read(self.person.git(app).args(["rev-parse", "HEAD"]))?.trim().to_owned();
        self.see(|seen| drop(seen.says.insert(commit.clone(), says)));
        Ok(commit)
    }

    /// Whether git says that it was taken.
    fn push(&self, app: &str) -> Result<bool> {
        let mut git = self.person.git(app);
        git.args(["push", "-q", "berth", "main"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = git.process_group(0).spawn().context("could not start git")?;
        self.clients.lock().unwrap().insert(child.id());
        let until = Instant::now() + DEPLOY * 2;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            if Instant::now() > until {
                child.kill()?;
                child.wait()?;
                break None;
            }
            sleep(Duration::from_millis(20));
        };
        self.clients.lock().unwrap().remove(&child.id());
        Ok(status.context("a push did not come to an end")?.success())
    }

    fn pushes(&self, app: &str, mut dice: Dice) -> Result<()> {
        let mut n = 1;
        while self.goes_on() {
            n += 1;
            let commit = self.change(app, n)?;
            if self.push(app)? {
                self.see(|seen| seen.pushed.push((app.to_owned(), commit)));
            }
            sleep(dice.millis(100, 2000));
        }
        Ok(())
    }

    /// A form, sent; a session that Redis lost is begun anew. `None`: it did not come through.
    fn post(&self, site: &mut Visitor, path: &str, fields: &[(&str, &str)]) -> Option<u16> {
        let answer = site.post(path, fields).ok()?;
        if answer.status == 303 && answer.header("location").is_some_and(|to| to.contains("/signin")) {
            let _ = self.person.sign_in_again(&self.operator, site);
            return None;
        }
        Some(answer.status)
    }

    fn clicks(&self, mut dice: Dice) -> Result<()> {
        let mut site = Visitor::new(&self.site, self.http);
        while self.goes_on() {
            let app = dice.of(&APPS).unwrap_or_default();
            let (path, field) = match dice.below(4) {
                0 => (format!("/apps/{app}/restart"), None),
                1 => (format!("/apps/{app}/deploys/{}/roll-back", 1 + dice.below(12)), None),
                2 => (format!("/apps/{app}/deploys/{}/cancel", 1 + dice.below(30)), None),
                _ => ("/apps/guests/scale".to_owned(), Some((1 + dice.below(3)).to_string())),
            };
            let fields: Vec<(&str, &str)> = field.iter().map(|count| ("web", count.as_str())).collect();
            self.post(&mut site, &path, &fields);
            sleep(dice.millis(500, 3000));
        }
        Ok(())
    }

    /// Apps that are made, pushed to, and deleted in the middle of it.
    fn comes_and_goes(&self, mut dice: Dice) -> Result<()> {
        let mut site = Visitor::new(&self.site, self.http);
        let mut n = 0;
        while self.goes_on() {
            let name = format!("brief-{n}");
            if self.post(&mut site, "/apps/new", &[("name", &name)]) != Some(303) {
                // It may be there all the same.
                n += 1;
                sleep(dice.millis(200, 1000));
                continue;
            }
            let folder = crate::given::samples().join("static");
            self.person.prepare(&name, &folder)?;
            self.change(&name, 1)?;
            let pause = dice.millis(0, 8000);
            std::thread::scope(|scope| -> Result<()> {
                let pushing = scope.spawn(|| self.push(&name));
                sleep(pause);
                let path = format!("/apps/{name}/delete");
                let mut tries = 0;
                while !matches!(self.post(&mut site, &path, &[("name", &name)]), Some(303 | 404)) && tries < 300 {
                    tries += 1;
                    sleep(Duration::from_millis(200));
                }
                ensure!(tries < 300, "{name} could not be deleted");
                self.see(|seen| {
                    seen.deleted.insert(name.clone());
                });
                pushing.join().unwrap().map(drop)
            })?;
            n += 1;
        }
        Ok(())
    }

    fn visits(&self) -> Result<()> {
        let mut apps: Vec<(&'static str, Visitor)> = APPS.iter().map(|app| (*app, self.app(app))).collect();
        while self.goes_on() {
            for (app, visitor) in &mut apps {
                let answer = match visitor.get("/") {
                    Ok(answer) => answer,
                    Err(cause) => {
                        let is_refused = cause.to_string().contains("could not connect");
                        self.see(|seen| match (is_refused, seen.visits.entry(app).or_default()) {
                            (true, visits) => visits.refused += 1,
                            (false, visits) => visits.saw(None, false),
                        });
                        continue;
                    }
                };
                // Who is killed in the middle of an answer breaks it off, and that is seen by its length.
                let length = answer.header("content-length").and_then(|length| length.parse::<usize>().ok());
                let is_whole = length.is_none_or(|length| answer.body.len() == length);
                let right = answer.status != 200 || !is_whole || answer.body.contains(&format!("app {app} note"));
                self.see(|seen| {
                    seen.visits.entry(app).or_default().saw(Some(&answer), is_whole);
                    if !right {
                        seen.wrong.push(format!("{app} answered {}", answer.body));
                    }
                });
            }
            sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

const VICTIMS: [&str; 16] = [
    "web",
    "receiver",
    "control",
    "control",
    "logs",
    "runner",
    "runner",
    "balancer",
    "postgres",
    "backend",
    "redis",
    "shim",
    "app",
    "git",
    "everything",
    "stand still",
];

/// Each once in any order, then any of them until the time is up. How often a balancer went with an answer open.
fn kills(g: &mut Given, world: &World, dice: &mut Dice, until: Instant) -> Result<u64> {
    let (began, mut balancers) = (Instant::now(), 0);
    let mut deck = VICTIMS.to_vec();
    deck.sort_by_cached_key(|_| dice.next());
    while Instant::now() < until || !deck.is_empty() {
        ensure!(Instant::now() < until + CALM, "never there to be killed: {deck:?}");
        sleep(dice.millis(200, 2500));
        let victim = deck.pop().or_else(|| dice.of(&VICTIMS)).unwrap_or_default();
        let choice = dice.next();
        let of = |all: Vec<u32>| all.get(usize::try_from(choice).unwrap_or(0) % all.len().max(1)).copied();
        let process = match victim {
            "shim" => of(g.berth.shims()?),
            "app" => of(g.berth.app_processes("")?),
            "git" => of(world.clients.lock().unwrap().iter().copied().collect()),
            "backend" => g.berth.backend().ok(),
            "everything" => Some(g.berth.pid()),
            "stand still" => g.berth.process("control").ok(),
            role => g.berth.process(role).ok(),
        };
        let Some(process) = process else {
            // Not now, then later.
            deck.insert(0, victim);
            continue;
        };
        balancers += u64::from(matches!(victim, "balancer" | "everything"));
        println!("{:6.1} s: {victim} ({process})", began.elapsed().as_secs_f32());
        match victim {
            "everything" => {
                kill_hard(process);
                sleep(dice.millis(0, 2000));
                g.berth.start_again().context("berth up did not start again")?;
            }
            "stand still" => {
                pause(process);
                sleep(LEASE_AND_MORE);
                go_on(process);
            }
            _ => kill_hard(process),
        }
    }
    Ok(balancers)
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn whatever_is_killed_everything_is_found_again() {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(1, |d| d.as_nanos() as u64 % 1_000_000);
    let seed = number("BERTH_KILL_SEED", now);
    println!("BERTH_KILL_SEED={seed}");
    given("kills", |g| run(g, seed).with_context(|| format!("with BERTH_KILL_SEED={seed}")));
}

fn run(g: &mut Given, seed: u64) -> Result<()> {
    g.berth.sql("update customer set memory_bytes_max = 16::bigint << 30, apps_max = 1000, builds_max = 2")?;
    g.app("tides", "static")?;
    g.app_of("guests", &[("app.py", PYTHON), ("requirements.txt", ""), ("Procfile", "web: exec python3 app.py\n")])?;
    let world = World {
        person: g.person.clone(),
        operator: g.berth.operator(),
        site: g.berth.site.clone(),
        http: g.berth.http,
        over: AtomicBool::new(false),
        seen: Mutex::default(),
        clients: Mutex::default(),
    };
    for app in APPS {
        world.change(app, 1)?;
        g.push_well(app)?;
        g.answers(app, &format!("app {app} note 1."))?;
    }
    g.post("/apps/guests/scale", &[("web", "2")])?;
    began_an_hour_ago(g)?;
    let counted = |g: &Given| {
        APPS.iter().map(|app| Ok((answered(&g.berth, app)?, sent(&g.berth, app)?))).collect::<Result<Vec<_>>>()
    };
    let before = counted(g)?;

    let until = Instant::now() + Duration::from_secs(number("BERTH_KILL_SECONDS", SECONDS));
    let world = &world;
    let balancers = std::thread::scope(|scope| -> Result<u64> {
        let dice = |n: u64| Dice(seed.wrapping_mul(31).wrapping_add(n));
        let mut threads = Vec::new();
        for (n, app) in APPS.iter().enumerate() {
            threads.push(scope.spawn(move || world.pushes(app, dice(n as u64))));
        }
        threads.push(scope.spawn(move || world.clicks(dice(11))));
        threads.push(scope.spawn(move || world.comes_and_goes(dice(12))));
        threads.push(scope.spawn(move || world.visits()));
        let killed = kills(g, world, &mut dice(13), until);
        world.over.store(true, Ordering::Relaxed);
        let ends: Vec<Result<()>> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        ends.into_iter().collect::<Result<()>>()?;
        killed
    })?;
    let seen = world.seen.lock().unwrap();
    println!("{} pushes taken, {} apps deleted, {:#?}", seen.pushed.len(), seen.deleted.len(), seen.visits);
    ensure!(seen.wrong.is_empty(), "visitors saw {:#?}", seen.wrong);
    let began = Instant::now();
    calm(g)?;
    println!("calm after {:.1} s", began.elapsed().as_secs_f32());
    for ((app, before), now) in APPS.iter().zip(before).zip(counted(g)?) {
        let visits = seen.visits.get(app).with_context(|| format!("nobody visited {app}"))?;
        counted_as_seen(visits, now.0 - before.0, now.1 - before.1, balancers).with_context(|| app.to_owned())?;
    }
    found(g, &seen)?;
    ledger_is_clean(g)?;
    drop(world.person.sign_in_again(&world.operator, &mut g.site));
    // And everything still works together.
    let tides = seen.pushed.len() as u64 + 1_000_000;
    drop(seen);
    for app in APPS {
        world.change(app, tides)?;
        g.push_well(app)?;
        g.answers(app, &format!("app {app} note {tides}."))?;
    }
    Ok(())
}

/// As if all had begun an hour earlier: then there is an hour to be posted while everything is killed.
fn began_an_hour_ago(g: &Given) -> Result<()> {
    let moved = "begin;
        insert into reading (life, app_id, meter, hour, value, at)
            select life, app_id, meter, hour - interval '1 hour', value, at - interval '1 hour' from reading
            on conflict do nothing;
        update instance set created = created - interval '1 hour', healthy = healthy - interval '1 hour';
        update deploy_step set started = started - interval '1 hour' where step = 'switch';
        update disk_size set since = since - interval '1 hour';
        update billing set begun = begun - interval '1 hour', derived = derived - interval '1 hour',
            posted = posted - interval '1 hour';
        commit";
    g.berth.sql(moved).map(drop)
}

/// A request counts when it has come, so each that was answered did, once; of one that was not, nobody knows. The
/// bytes of an answer count when they are written: a kill between the two loses one write a connection.
fn counted_as_seen(seen: &Visits, requests: u64, bytes: u64, balancers: u64) -> Result<()> {
    ensure!(seen.whole > 200, "too few visits came through to say anything: {seen:?}");
    let right = seen.whole..=seen.whole + seen.other;
    ensure!(right.contains(&requests), "{requests} requests are counted of {seen:?}");
    let lost = balancers * seen.most;
    let right = seen.bytes - lost..=seen.bytes + seen.other_bytes + seen.other * seen.most;
    ensure!(right.contains(&bytes), "{bytes} bytes are counted of {seen:?}, {balancers} balancers killed");
    Ok(())
}

/// Nothing that was counted is missing in the ledger, and nothing is there twice.
fn ledger_is_clean(g: &Given) -> Result<()> {
    let (well, said) = g.berth.command(&["ledger", "verify"])?;
    println!("{said}");
    ensure!(well, "{said}");
    let meters = g.berth.sql("select count(distinct meter) from posting where units > 0")?;
    ensure!(meters.parse::<u32>()? >= 4, "only {meters} meters are posted of");
    let customer = g.berth.sql("select customer_id from app where name = 'tides'")?;
    let (well, said) = g.berth.command(&["ledger", "show", &customer])?;
    ensure!(well && said.contains("tides") && said.contains("requests"), "{said}");
    if g.berth.sql("select now() - date_trunc('month', now(), 'UTC') < interval '2 hours'")? == "t" {
        println!("what was moved an hour back is in the bill of the month before");
        return Ok(());
    }
    // Nobody visits any more: the counters, the readings and what is owed for them are the same.
    let (well, said) = g.berth.command(&["ledger", "show", &customer, "--json"])?;
    ensure!(well, "{said}");
    let account = Json::parse(&said)?;
    let owed = |meter: &str| {
        let line = account.at("meters").list().iter().find(|line| line.at("name").text() == meter)?;
        if let Json::Number(used) = line.at("used") { Some(*used as u64) } else { None }
    };
    let requests = APPS.iter().map(|app| answered(&g.berth, app)).sum::<Result<u64>>()?;
    ensure!(owed("requests") == Some(requests), "{requests} requests are counted, {:?} owed", owed("requests"));
    let bytes = total(&g.berth, "bytes_out", "")?;
    ensure!(owed("bytes_out") == Some(bytes), "{bytes} bytes were read, {:?} are owed", owed("bytes_out"));
    Ok(())
}

/// Until nothing is under way.
fn calm(g: &Given) -> Result<()> {
    let busy = "select 'deploy ' || a.name || ' v' || d.number || ' is ' || d.state from deploy d join app a on a.id = d.app_id
                where d.state not in ('live', 'failed', 'canceled')
                union all select 'step ' || s.step || ' of ' || a.name || ' v' || d.number || ' is open'
                from deploy_step s join deploy d on d.id = s.deploy_id join app a on a.id = d.app_id where s.ended is null
                union all select 'instance ' || i.id || ' of ' || a.name || ' ' || i.process || '.' || i.index || ' v'
                    || i.release_number || ' is ' || i.state || ', wanted ' || i.wanted
                from instance i join app a on a.id = i.app_id
                where i.ended is null and (i.state <> 'healthy' or i.wanted <> 'run')
                union all select a.name || ' has ' || count(i.id) || ' of its instances' from app a
                join release r on r.app_id = a.id and r.number = a.release_number
                left join instance i on i.app_id = a.id and i.ended is null and i.release_number = a.release_number
                where a.state = 'running' group by a.id, r.formation
                having count(i.id) <> (select sum(coalesce((a.formation->>p.key)::int, (p.value->>'count')::int))
                                       from jsonb_each(r.formation) p)";
    wait(CALM, || {
        let busy = g.berth.sql(busy)?;
        ensure!(busy.is_empty(), "{busy}");
        no_orphans(&g.berth)
    })
}

/// All is as those who used it believe.
fn found(g: &mut Given, seen: &Seen) -> Result<()> {
    let silent = "select a.name || ' v' || d.number || ' ' || d.state from deploy d join app a on a.id = d.app_id
                  where d.state in ('failed', 'canceled') and coalesce(d.reason, '') = ''";
    let silent = g.berth.sql(silent)?;
    ensure!(silent.is_empty(), "ended without a reason:\n{silent}");
    for app in APPS {
        let query = format!(
            "select a.release_number || ' ' || (select max(number) from deploy where app_id = a.id and state = 'live')
                    || ' ' || d.commit_id
             from app a join deploy d on d.app_id = a.id and d.number = a.release_number where name = '{app}'"
        );
        let row = g.berth.sql(&query)?;
        let words: Vec<&str> = row.split(' ').collect();
        ensure!(words.len() == 3 && words[0] == words[1], "{app} serves, last went live, of commit: {row}");
        let says = seen.says.get(words[2]).with_context(|| format!("{app} serves a commit that nobody made: {row}"))?;
        g.answers(app, says)?;
        branch(g, app)?;
    }
    for (app, commit) in &seen.pushed {
        let query = format!(
            "select d.state || ' ' || coalesce(s.outcome, 'open') from deploy d join app a on a.id = d.app_id
             join deploy_step s on s.deploy_id = d.id and s.step = 'branch'
             where a.name = '{app}' and d.commit_id = '{commit}' and d.cause = 'push'"
        );
        let is = g.berth.sql(&query)?;
        ensure!(is.lines().any(|is| is == "live done"), "{app} was told that {commit} is live; it is `{is}`");
    }
    for app in &seen.deleted {
        let left = g.berth.sql(&format!(
            "select count(*) from app a left join instance i on i.app_id = a.id and i.ended is null
             where a.name = '{app}' and (a.state <> 'deleted' or i.id is not null)"
        ))?;
        ensure!(left == "0", "{app} was deleted and is there");
        let status = g.visitor(app).get("/")?.status;
        ensure!(status == 404, "{app} was deleted and answers {status}");
    }
    for app in APPS {
        let and = format!("and app_id = (select id from app where name = '{app}')");
        wait(Duration::from_secs(90), || {
            let (counted, have) = (answered(&g.berth, app)?, total(&g.berth, "requests", &and)?);
            ensure!(have == counted, "the balancer counted {counted} requests of {app}, PostgreSQL has {have}");
            // The bytes that an instance sent by itself have lives of their own.
            let of_balancer = format!("{and} and position('/' in life) = 0");
            let (counted, have) = (sent(&g.berth, app)?, total(&g.berth, "bytes_out", &of_balancer)?);
            ensure!(have == counted, "the balancer counted {counted} bytes of {app}, PostgreSQL has {have}");
            Ok(())
        })?;
    }
    Ok(())
}

/// In a fresh clone the branch is where the last push brought it that went live.
fn branch(g: &Given, app: &str) -> Result<()> {
    let query = format!(
        "select d.commit_id from deploy d join app a on a.id = d.app_id
         join deploy_step s on s.deploy_id = d.id and s.step = 'branch' and s.outcome = 'done'
         where a.name = '{app}' order by d.number desc limit 1"
    );
    let should = g.berth.sql(&query)?;
    let at = |line: &str| line.split_whitespace().next().unwrap_or_default().to_owned();
    wait(SOON, || {
        let listed = harness::read(g.person.git(app).args(["ls-remote", "berth", "refs/heads/main"]))?;
        ensure!(at(&listed) == should, "{app}'s branch is at {}, not {should}", at(&listed));
        Ok(())
    })?;
    let clone = format!("{app}.clone");
    let url = harness::read(g.person.git(app).args(["remote", "get-url", "berth"]))?;
    let to = g.person.repository(&clone);
    harness::read(g.person.git(app).args(["clone", "-q", url.trim()]).arg(&to))?;
    let head = harness::read(g.person.git(&clone).args(["rev-parse", "HEAD"]))?;
    ensure!(head.trim() == should, "a fresh clone of {app} is at {head}, not {should}");
    fs::remove_dir_all(to)?;
    Ok(())
}
