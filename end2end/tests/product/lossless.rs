//! No request lost: through deploys, scalings, restarts and a crash, every visitor is answered well.

use anyhow::{Context, Result, ensure};
use harness::{Ask, Load, kill_hard, wait};

use crate::given::{DEPLOY, Given, SOON, given};

/// Three kinds of servers in one program: `keeps` connections, `closes` each after its answer, is `slow`.
const APP: &str = r#"
import http.server, os, sys, time
kind = sys.argv[1]
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0" if kind == "closes" else "HTTP/1.1"
    def answer(self, body):
        if kind == "slow":
            time.sleep(0.3)
        self.wfile.write(b"%s 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (self.protocol_version.encode(), len(body), body))
    def do_GET(self):
        self.answer(("here is " + os.environ["BERTH_RELEASE"]).encode())
    def do_POST(self):
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))
    def log_message(self, *_):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
Server(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
"#;

const KINDS: [&str; 3] = ["keeps", "closes", "slow"];
const ASKS: [Ask; 4] = [Ask::Get, Ask::Get, Ask::Post, Ask::Get];

fn app(g: &mut Given, kind: &str) -> Result<()> {
    let procfile = format!("web: exec python3 app.py {kind}\n");
    g.app_of(kind, &[("app.py", APP), ("requirements.txt", ""), ("Procfile", &procfile)])?;
    g.push_well(kind)?;
    g.answers(kind, "here is 1")
}

/// Until `app` has `deploys`, the last of them serves alone, and `web` of its instances are healthy.
fn settled(g: &Given, app: &str, deploys: u32, web: u32) -> Result<()> {
    let query = format!(
        "select (select count(*) from deploy where app_id = a.id and state = 'live')
             || ' ' || (select count(*) from deploy_step s join deploy d on d.id = s.deploy_id
                        where d.app_id = a.id and s.ended is null)
             || ' ' || (select count(*) from instance where app_id = a.id and ended is null)
             || ' ' || (select count(*) from instance where app_id = a.id and ended is null and wanted = 'run'
                        and state = 'healthy' and release_number = a.release_number)
         from app a where name = '{app}'"
    );
    wait(DEPLOY, || {
        let is = g.berth.sql(&query)?;
        let should = format!("{deploys} 0 {web} {web}");
        ensure!(is == should, "{app} has `{is}` deploys, open steps, instances, healthy ones; not `{should}`");
        Ok(())
    })
}

struct Told {
    requests: u64,
    failed: u64,
}

/// What the deploys of `app` after the first say of themselves.
fn told(g: &Given, app: &str) -> Result<Vec<Told>> {
    let rows = g.berth.sql(&format!(
        "select coalesce(d.requests, -1) || ' ' || coalesce(d.unanswered + d.errors, -1)
         from deploy d join app a on a.id = d.app_id where a.name = '{app}' and d.number > 1 order by d.number"
    ))?;
    let row = |row: &str| -> Result<Told> {
        let (requests, failed) = row.split_once(' ').context("no two numbers")?;
        Ok(Told { requests: requests.parse()?, failed: failed.parse()? })
    };
    rows.lines().map(row).collect::<Result<_>>().with_context(|| format!("{app}'s deploys did not count: {rows}"))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Restart,
    /// A push of the first, a restart of the others.
    Push,
    RollBack,
    Scale(u32),
}

/// Ten deploys, with one instance and with two.
const STEPS: [Step; 12] = [
    Step::Restart,
    Step::Restart,
    Step::Scale(2),
    Step::Restart,
    Step::Restart,
    Step::Push,
    Step::Restart,
    Step::RollBack,
    Step::Scale(1),
    Step::Restart,
    Step::Restart,
    Step::Restart,
];

fn load(g: &Given, app: &str, asks: &[Ask]) -> Load {
    let host = g.berth.app(app).trim_start_matches("http://").to_owned();
    Load::begin(g.berth.http, &host, asks)
}

fn given_all_kinds(g: &mut Given) -> Result<()> {
    g.berth.sql("update customer set memory_bytes_max = 8::bigint << 30")?;
    KINDS.iter().try_for_each(|kind| app(g, kind))
}

/// All kinds of servers under load, as often as `times` through the steps.
fn through(g: &mut Given, times: u32) -> Result<()> {
    let loads = KINDS.map(|kind| load(g, kind, &ASKS));
    let (mut deploys, mut web) = (1, 1);
    for step in (0..times).flat_map(|_| STEPS) {
        let before: Vec<u64> = loads.iter().map(Load::answered).collect();
        for kind in KINDS {
            match step {
                Step::Scale(count) => g.post(&format!("/apps/{kind}/scale"), &[("web", &count.to_string())])?,
                Step::RollBack => g.post(&format!("/apps/{kind}/deploys/{}/roll-back", deploys - 1), &[])?,
                Step::Push if kind == KINDS[0] => {
                    g.change(kind, "note.txt", &deploys.to_string())?;
                    g.push_well(kind)?;
                }
                Step::Restart | Step::Push => g.post(&format!("/apps/{kind}/restart"), &[])?,
            }
        }
        match step {
            Step::Scale(count) => web = count,
            _ => deploys += 1,
        }
        for (kind, (load, before)) in KINDS.iter().zip(loads.iter().zip(before)) {
            settled(g, kind, deploys, web)?;
            ensure!(load.answered() > before, "{kind} answered nobody during {step:?}");
        }
    }
    for (kind, load) in KINDS.iter().zip(loads) {
        let tally = load.end()?;
        println!("{kind}: {} requests, {} failed, through {} deploys", tally.all(), tally.failed, deploys - 1);
        ensure!(tally.failed == 0, "{kind}: {} of {} failed: {:#?}", tally.failed, tally.all(), tally.why);
        let told = told(g, kind)?;
        ensure!(told.len() == (deploys - 1) as usize, "{kind} tells of {} deploys", told.len());
        let counted: u64 = told.iter().map(|t| t.requests).sum();
        // Each counts what was open at its beginning, too.
        let open = ASKS.len() as u64 * u64::from(deploys);
        println!("{kind}: the deploys counted {counted} of them");
        ensure!(
            told.iter().all(|t| t.failed == 0 && t.requests > 0),
            "{kind}: a deploy tells of failures, or of nothing"
        );
        ensure!(counted <= tally.all() + open, "{kind}: {counted} were counted of {}", tally.all());
        g.page_says(&format!("/apps/{kind}"), "· 0 failed requests")?;
        g.page_says(&format!("/apps/{kind}/deploys/{deploys}"), "0 failed requests")?;
    }
    Ok(())
}

/// Kills one of `web` instances of the first app under `asks`, until it is there again: how many failed.
fn killed(g: &mut Given, web: u32, deploys: u32, asks: &[Ask]) -> Result<u64> {
    let kind = KINDS[0];
    let restarts = "select sum(restarts) from instance where ended is null and process = 'web'";
    let before: u32 = g.berth.sql(restarts)?.parse()?;
    let load = load(g, kind, asks);
    let answered = |n: u64| {
        wait(SOON, || {
            ensure!(load.answered() > n, "{} were answered, not {n}", load.answered());
            Ok(())
        })
    };
    answered(200)?;
    let process = *g.berth.app_processes(&format!("app.py {kind}"))?.first().context("it does not run")?;
    kill_hard(process);
    wait(SOON, || {
        let now: u32 = g.berth.sql(restarts)?.parse()?;
        ensure!(now > before, "its end was not seen");
        Ok(())
    })?;
    settled(g, kind, deploys, web)?;
    answered(load.answered() + 200)?;
    let tally = load.end()?;
    println!("one of {web} killed: {} requests, {} failed {:?}", tally.all(), tally.failed, tally.why);
    Ok(tally.failed)
}

#[test]
fn deploys_scalings_restarts_and_a_crash_lose_no_request() {
    given("lossless", |g| {
        given_all_kinds(g)?;
        through(g, 1)?;
        let deploys = STEPS.len() as u32 - 1;
        g.post("/apps/keeps/scale", &[("web", "2")])?;
        settled(g, "keeps", deploys, 2)?;
        ensure!(killed(g, 2, deploys, &[Ask::Get; 6])? == 0, "what may be asked twice was lost");
        // What it had read must not be sent again: one a visitor at most.
        ensure!(killed(g, 2, deploys, &[Ask::Post; 6])? <= 6, "more was lost than was under way");
        g.post("/apps/keeps/scale", &[("web", "1")])?;
        settled(g, "keeps", deploys, 1)?;
        ensure!(killed(g, 1, deploys, &[Ask::Get; 6])? == 0, "what could wait for the restart was lost");
        Ok(())
    });
}

/// The same for longer, by hand: `BERTH_TIMES=10 cargo nextest run -p harness --run-ignored all long`.
#[test]
#[ignore = "takes minutes"]
fn a_long_time_of_deploys_loses_no_request() {
    let times = std::env::var("BERTH_TIMES").ok().and_then(|times| times.parse().ok()).unwrap_or(5);
    given("lossless-long", |g| {
        given_all_kinds(g)?;
        through(g, times)
    });
}
