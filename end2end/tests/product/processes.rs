//! What an app runs besides its `web`, and how Berth knows that it is well.

use anyhow::{Result, ensure};
use harness::{kill_hard, wait};

use crate::given::{Given, SOON, given};

const SERVER: &str = r#"
import http.server, os, pathlib
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        sick = self.path == "/healthz" and pathlib.Path("sick").exists()
        text = pathlib.Path("page").read_text()
        self.send_response(500 if sick else 200)
        self.end_headers()
        self.wfile.write(text.encode())
http.server.ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
"#;
const WORKER: &str = r#"
import time, itertools
for n in itertools.count():
    print("the worker counts", n, flush=True)
    time.sleep(0.2)
"#;
const PROCFILE: &str = "web: exec python3 server.py\nworker: exec python3 worker.py\n";

fn shop(g: &mut Given, name: &str, more: &[(&str, &str)]) -> Result<()> {
    let files = [("requirements.txt", ""), ("server.py", SERVER), ("worker.py", WORKER), ("page", "open for trade")];
    g.app_of(name, &[&files, more].concat())
}

fn workers(g: &Given) -> Result<usize> {
    Ok(g.berth.app_processes("worker.py")?.len())
}

#[test]
fn workers_run_and_are_scaled_and_sized_on_the_page() {
    given("worker", |g| {
        shop(g, "shop", &[("Procfile", PROCFILE), ("berth.toml", "[worker]\nmemory = \"256MiB\"\n")])?;
        g.push_well("shop")?;
        g.answers("shop", "open for trade")?;
        g.page_says("/apps/shop", "the worker counts")?;
        g.page_says("/apps/shop", "memory.worker")?;
        let first = g.berth.app_processes("worker.py")?;
        ensure!(first.len() == 1, "one worker should run: {first:?}");
        // It restarts when it ends.
        kill_hard(first[0]);
        wait(SOON, || {
            let now = g.berth.app_processes("worker.py")?;
            ensure!(now.len() == 1 && now != first, "the worker was not started again: {now:?}");
            Ok(())
        })?;
        for (count, runs) in [("2", 2), ("0", 0), ("1", 1)] {
            g.post("/apps/shop/scale", &[("web", "1"), ("worker", count)])?;
            wait(SOON, || {
                let now = workers(g)?;
                ensure!(now == runs, "{now} workers run, {runs} are wanted");
                Ok(())
            })?;
        }
        // More memory is a deploy; more than the customer may use, or nonsense, is said beside the field.
        g.post("/apps/shop/scale", &[("memory.worker", "512MiB")])?;
        g.page_says("/apps/shop/deploys/2", "Other sizes for v1")?;
        g.page_says("/apps/shop/deploys/2", "Serving")?;
        for (field, value, says) in [
            ("memory.worker", "4GiB", "It would use 4608 MiB of memory"),
            ("worker", "many", "is no number of instances"),
            ("memory.worker", "3GiB", "is no size of memory"),
        ] {
            let answer = g.site.post("/apps/shop/scale", &[("web", "1"), (field, value)])?;
            ensure!(answer.status == 422 && answer.body.contains(says), "{value}: {} {}", answer.status, answer.body);
            let beside = answer.body.find("count-worker-err").zip(answer.body.find(says));
            ensure!(beside.is_some_and(|(field, text)| field < text), "it does not stand beside the field");
        }
        Ok(())
    });
}

#[test]
fn a_web_is_healthy_when_its_path_answers_and_berth_toml_is_checked() {
    given("healthz", |g| {
        let toml = |timeout: u32| format!("[web]\nhealth = \"/healthz\"\nstart_timeout = {timeout}\n");
        shop(g, "shop", &[("Procfile", PROCFILE), ("berth.toml", &toml(20))])?;
        g.push_well("shop")?;
        g.answers("shop", "open for trade")?;
        g.change("shop", "sick", "")?;
        g.change("shop", "berth.toml", &toml(2))?;
        let (taken, said) = g.push("shop")?;
        ensure!(!taken && said.contains("GET /healthz answered 500"), "it was not told why:\n{said}");
        ensure!(said.contains("web.health"), "it was not told what to do:\n{said}");
        g.answers("shop", "open for trade")?;
        g.change("shop", "berth.toml", "[web]\nhealth = \"/healthz\"\nheath = 1\n")?;
        let (taken, said) = g.push("shop")?;
        ensure!(!taken && said.contains("berth.toml line 3: [web] has no setting 'heath'"), "{said}");
        ensure!(said.contains("It may hold: health, start_timeout"), "{said}");
        g.answers("shop", "open for trade")
    });
}

#[test]
fn the_release_process_runs_before_the_switch_and_when_it_fails_nothing_is_switched() {
    given("release", |g| {
        let with = |release: &str| format!("{PROCFILE}release: {release}\n");
        let first = with("echo the tables are made for $BERTH_APP");
        shop(g, "shop", &[("Procfile", &first), ("berth.toml", "[release]\ntimeout = 2\n")])?;
        let said = g.push_well("shop")?;
        ensure!(said.contains("Running release:") && said.contains("the tables are made for shop"), "{said}");
        g.page_says("/apps/shop/deploys/1", "the tables are made for shop")?;
        g.page_says("/apps/shop/deploys/1", "Release")?;
        g.answers("shop", "open for trade")?;
        g.change("shop", "page", "closed")?;
        for (deploy, release, why) in [
            (2, "echo no such column; exit 3", "`release` ended with code 3: no such column"),
            (3, "echo waits; exec sleep 60", "`release` did not end within 2 s"),
        ] {
            g.change("shop", "Procfile", &with(release))?;
            let (taken, said) = g.push("shop")?;
            ensure!(!taken && said.contains(why), "it was not told why:\n{said}");
            ensure!(said.contains("release 1 still serves"), "{said}");
            g.page_says(&format!("/apps/shop/deploys/{deploy}"), "failed")?;
            g.answers("shop", "open for trade")?;
        }
        // A restart runs none: it would fail.
        g.post("/apps/shop/restart", &[])?;
        g.page_says("/apps/shop/deploys/4", "Serving")
    });
}
