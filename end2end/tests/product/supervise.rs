//! What the operator does to a Berth that runs, and what nobody may see of it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use harness::counters::{answered, kernel_cpu, sent, total};
use harness::{Berth, kill_hard, said, sql_of_stopped, terminate, wait};

use crate::given::{Given, SOON, given, given_with};

/// Visitors that never stop asking; `Connection: close` makes each request a connection of its own.
fn visitors(berth: &Berth, host: &str, headers: &[&str], seconds: u32) -> Result<Child> {
    let mut wrk = Command::new("wrk");
    wrk.args(["-t1", "-c8", &format!("-d{seconds}s"), "--timeout", "10s", "-H", &format!("Host: {host}")]);
    for header in headers {
        wrk.args(["-H", header]);
    }
    wrk.arg(format!("http://{}/", berth.http)).stdout(Stdio::piped()).stderr(Stdio::piped());
    wrk.spawn().context("could not start wrk")
}

/// Every request had its answer: how many there were.
fn all_were_answered(what: &str, wrk: Child) -> Result<u64> {
    let output = wrk.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{what}: {said}");
    ensure!(!said.contains("Socket errors") && !said.contains("Non-2xx"), "{what} lost requests:\n{said}");
    let line = said.lines().find(|line| line.contains("requests in")).context("wrk did not run")?;
    Ok(line.split_whitespace().next().unwrap_or_default().parse()?)
}

fn pushed(g: &mut Given) -> Result<()> {
    g.app("tides", "static")?;
    g.push_well("tides")?;
    g.answers("tides", "Tide table")
}

/// How many bytes an app's answer has, head and body; asked again while no balancer is there.
fn whole_answer(g: &Given, app: &str) -> Result<u64> {
    let ask = || -> Result<u64> {
        let mut stream = TcpStream::connect(g.berth.http)?;
        let host = format!("{app}.localhost:{}", g.berth.http.port());
        write!(stream, "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        ensure!(answer.starts_with(b"HTTP/1.1 200 "), "it was answered {}", String::from_utf8_lossy(&answer));
        Ok(answer.len() as u64)
    };
    let mut bytes = 0;
    wait(SOON, || {
        bytes = ask()?;
        Ok(())
    })?;
    Ok(bytes)
}

/// The balancer's own count, and PostgreSQL's.
fn counts_agree(g: &Given) -> Result<u64> {
    let counted = answered(&g.berth, "tides")?;
    wait(SOON, || {
        let have = total(&g.berth, "requests", "")?;
        ensure!(have == counted, "the balancer counted {counted} requests, PostgreSQL has {have}");
        Ok(())
    })?;
    Ok(counted)
}

#[test]
fn roles_are_restarted_and_no_request_is_lost() {
    given("restart", |g| {
        pushed(g)?;
        let site = g.berth.site.trim_start_matches("http://").to_owned();
        let app = format!("tides.localhost:{}", g.berth.http.port());
        let load = [
            ("kept connections", visitors(&g.berth, &app, &[], 40)?),
            ("new connections", visitors(&g.berth, &app, &["Connection: close"], 40)?),
            ("the site", visitors(&g.berth, &site, &[], 40)?),
            ("the site, new connections", visitors(&g.berth, &site, &["Connection: close"], 40)?),
        ];
        let restart = |g: &Given, roles: &[&str]| -> Result<()> {
            let before: Vec<u32> = roles.iter().map(|role| g.berth.process(role)).collect::<Result<_>>()?;
            let (well, said) = g.berth.command(&[&["restart"], roles].concat())?;
            ensure!(well, "restart {roles:?}:\n{said}");
            for (role, before) in roles.iter().zip(before) {
                wait(SOON, || {
                    ensure!(g.berth.process(role)? != before, "{role} runs as the same process");
                    Ok(())
                })?;
            }
            Ok(())
        };
        for _ in 0..3 {
            restart(g, &["balancer"])?;
            restart(g, &["web"])?;
        }
        restart(g, &["logs", "control", "runner", "web", "receiver", "balancer"])?;
        let mut asked = 0;
        for (what, wrk) in load {
            let answered = all_were_answered(what, wrk)?;
            ensure!(answered > 0, "{what}: nobody asked");
            asked += if what.contains("site") { 0 } else { answered };
        }
        // The balancers that gave way have all ended, and what they counted is in PostgreSQL.
        let counted = counts_agree(g)?;
        ensure!(counted >= asked, "the visitors had {asked} answers, the balancer counted {counted}");
        g.change("tides", "index.html", "Tide table, after the restarts")?;
        g.push_well("tides")?;
        g.answers("tides", "after the restarts")?;
        let (well, said) = g.berth.command(&["restart", "weather"])?;
        ensure!(!well && said.contains("there is no role weather"), "{said}");
        Ok(())
    });
}

#[test]
fn what_was_used_is_in_the_database_when_berth_has_stopped() {
    given("laststop", |g| {
        g.app("guestbook", "flask")?;
        g.push_well("guestbook")?;
        g.answers("guestbook", "entries")?;
        let before = sent(&g.berth, "guestbook")?;
        let mut got = 0;
        for n in 0..200 {
            got += whole_answer(g, "guestbook")?;
            match n {
                50 => kill_hard(g.berth.process("balancer")?),
                // It gives way to a successor, which counts in a file of its own.
                100 => ensure!(g.berth.command(&["restart", "balancer"])?.0, "the balancer is not restarted"),
                _ => {}
            }
        }
        let cpu_ns: u64 = kernel_cpu(g.berth.slice)?.values().sum();
        let counted = answered(&g.berth, "guestbook")?;
        terminate(g.berth.pid());
        g.berth.wait()?;
        let of = |meter: &str| -> Result<u64> {
            let query = format!(
                "select coalesce(sum(v), 0) from (select max(value) v from reading where meter = '{meter}' group by life, app_id) l"
            );
            Ok(sql_of_stopped(&g.berth, &query)?.parse()?)
        };
        ensure!(of("requests")? == counted, "{} of {counted} requests are in PostgreSQL", of("requests")?);
        ensure!(of("cpu")? >= cpu_ns / 1000, "{} of {} µs are in PostgreSQL", of("cpu")?, cpu_ns / 1000);
        let bytes = of("bytes_out")?;
        ensure!(bytes == before + got, "its visitors got {got} bytes after {before}, PostgreSQL has {bytes}");
        // What the counters said at the end is there beside the readings, and the same.
        let read = "select max(value) from reading r where (r.life, r.app_id, r.meter) = (l.life, l.app_id, l.meter)";
        let ends = format!("select concat(count(*), ' ', count(*) filter (where value = ({read}))) from life_end l");
        ensure!(sql_of_stopped(&g.berth, &ends)? == "2 2", "at the end: {}", sql_of_stopped(&g.berth, &ends)?);
        g.berth.start_again()?;
        g.answers("guestbook", "entries")
    });
}

#[test]
fn apps_run_on_through_a_stop_that_keeps_them() {
    given_with("keeps", &["--keep-apps"], None, |g| {
        pushed(g)?;
        let kept = g.berth.app_processes("berth files")?;
        ensure!(!kept.is_empty(), "no process of the app was found");
        for _ in 0..2 {
            terminate(g.berth.pid());
            g.berth.wait()?;
            ensure!(g.berth.app_processes("berth files")? == kept, "the stop ended the app");
            ensure!(g.berth.process("web").is_err() && g.berth.process("postgres").is_err(), "a part still runs");
            g.berth.start_again()?;
            g.answers("tides", "Tide table")?;
            ensure!(g.berth.app_processes("berth files")? == kept, "the instance was started again");
        }
        counts_agree(g)?;
        let cpu_ns: u64 = kernel_cpu(g.berth.slice)?.values().sum();
        wait(SOON, || {
            let have = total(&g.berth, "cpu", "")?;
            ensure!(have >= cpu_ns / 1000, "the kernel counted {} µs, PostgreSQL has {have}", cpu_ns / 1000);
            Ok(())
        })?;
        // The last stop takes the apps along.
        terminate(g.berth.pid());
        g.berth.wait()?;
        g.berth.start_with_flags(vec![])?;
        g.answers("tides", "Tide table")?;
        ensure!(g.berth.app_processes("berth files")? == kept, "the instance was started again");
        Ok(())
    });
}

#[test]
fn berth_goes_on_as_another_program_and_no_request_is_lost() {
    given("upgrade", |g| {
        pushed(g)?;
        let app = format!("tides.localhost:{}", g.berth.http.port());
        let kept = g.berth.app_processes("berth files")?;
        let load = [
            ("kept connections", visitors(&g.berth, &app, &[], 25)?),
            ("new connections", visitors(&g.berth, &app, &["Connection: close"], 25)?),
        ];
        let before: Vec<u32> =
            ["web", "runner", "balancer"].iter().map(|r| g.berth.process(r)).collect::<Result<_>>()?;
        let postgres = g.berth.process("postgres")?;
        // Programs that are none, or of which the first word is not right.
        for (program, why) in
            [("/bin/false", "exit status: 1"), ("/bin/true", "nothing that Berth"), ("/nonexistent", "No such file")]
        {
            let (well, said) = g.berth.command(&["upgrade", "--binary", program])?;
            ensure!(!well && said.contains(why) && said.contains("goes on as it is"), "{program}: {said}");
        }
        ensure!(g.berth.process("web")? == before[0], "a refused program changed something");
        for round in 0..2 {
            let (well, said) = g.berth.command(&["upgrade"])?;
            println!("{said}");
            ensure!(well, "round {round}: {said}");
        }
        for (role, before) in ["web", "runner", "balancer"].iter().zip(before) {
            wait(SOON, || {
                ensure!(g.berth.process(role)? != before, "{role} runs as the old program");
                Ok(())
            })?;
        }
        ensure!(g.berth.process("postgres")? == postgres, "PostgreSQL was started again");
        ensure!(g.berth.runs()?, "the supervisor ended");
        ensure!(g.berth.app_processes("berth files")? == kept, "the instance was started again");
        for (what, wrk) in load {
            all_were_answered(what, wrk)?;
        }
        counts_agree(g)?;
        // And it still watches everybody.
        let web = g.berth.process("web")?;
        harness::kill_hard(web);
        wait(SOON, || {
            ensure!(g.berth.process("web")? != web, "web was not started again");
            Ok(())
        })?;
        g.change("tides", "index.html", "Tide table, upgraded")?;
        g.push_well("tides")?;
        g.answers("tides", "upgraded")
    });
}

/// As if the server had no OCI runtime that runs: seen by `command` only.
fn without_runtime(command: &mut Command) -> &mut Command {
    use nix::mount::{MsFlags, mount};
    use std::os::unix::process::CommandExt;
    // SAFETY: between fork and exec only system calls are made.
    unsafe {
        command.pre_exec(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
            for runtime in ["/usr/bin/crun", "/usr/bin/runc", "/usr/sbin/runc"] {
                // One that is not there needs no hiding.
                let _ = mount(Some("/etc/hostname"), runtime, none, MsFlags::MS_BIND, none);
            }
            Ok(())
        })
    }
}

#[test]
fn doctor_names_what_is_missing_and_up_says_the_same() {
    let run = || -> Result<()> {
        let data = std::env::temp_dir().join(format!("berth-doctor-{}", std::process::id()));
        let berth = || {
            let mut berth = Command::new(crate::given::binary().unwrap_or_default());
            berth.env("BERTH_HTTP", "127.0.0.1:0").env("BERTH_SSH", "127.0.0.1:0").env("BERTH_DATA", &data);
            berth
        };
        let (well, healthy) = said(berth().arg("doctor"))?;
        ensure!(well && !healthy.contains("fail "), "{healthy}");
        for name in
            ["cgroups", "OCI runtime", "nftables", "loop devices", "git", "PostgreSQL", "disk", "subnet", "clock"]
        {
            ensure!(
                healthy.lines().any(|line| line.get(5..).is_some_and(|rest| rest.starts_with(name))),
                "no {name}:\n{healthy}"
            );
        }
        let (well, ill) = said(without_runtime(berth().arg("doctor")))?;
        let line =
            ill.lines().find(|line| line.starts_with("fail OCI runtime")).context("the runtime is not missed")?;
        ensure!(!well && line.contains("apt-get install"), "{ill}");
        let (well, up) = said(without_runtime(berth().arg("up")))?;
        ensure!(!well && up.contains(line), "`up` does not say {line:?}:\n{up}");
        ensure!(!data.exists(), "what could not start left something behind");
        let (_, json) = said(berth().args(["doctor", "--json"]))?;
        ensure!(harness::Json::parse(&json).is_ok() && json.contains("\"state\": \"ok\""), "{json}");
        // A port of another program has a name.
        let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
        let (well, held) = said(berth().arg("doctor").env("BERTH_HTTP", taken.local_addr()?.to_string()))?;
        ensure!(!well && held.contains(&format!("(process {})", std::process::id())), "{held}");
        Ok(())
    };
    run().unwrap();
    // Beside one that runs, its ports are no trouble.
    given("doctor", |g| {
        let (http, ssh) = (g.berth.http.to_string(), g.berth.ssh.to_string());
        let (well, said) = g.berth.command(&["doctor", "--http", &http, "--ssh", &ssh])?;
        ensure!(well && said.matches("is held by this Berth").count() == 2, "{said}");
        Ok(())
    });
}

#[test]
fn berth_uses_a_postgres_and_a_redis_that_it_is_given() {
    let run = || -> Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let postgres = runtime.block_on(harness::PostgresServer::start())?;
        let redis = runtime.block_on(harness::redis())?;
        let (database, cache) = (postgres.given(), redis.url().to_owned());
        let given = [("DATABASE_URL", database.as_str()), ("REDIS_URL", cache.as_str())];
        let start = |name: &str| {
            Berth::start_with(&crate::given::binary()?, None, name, &["--disk-reserve-mib", "256"], &given, None)
        };

        // Its user may not make roles: said with the way out.
        let refused = start("norole").err().context("it started without the right to make roles")?;
        let refused = format!("{refused:#}");
        ensure!(refused.contains("fail PostgreSQL") && refused.contains("alter role paas createrole;"), "{refused}");
        runtime.block_on(postgres.sql("alter role paas createrole"))?;

        let mut g = Given::on(start("outside")?)?;
        pushed(&mut g)?;
        ensure!(g.berth.process("postgres").is_err() && g.berth.process("redis").is_err(), "it started its own");
        let counted = answered_by(&runtime, &postgres)?;
        ensure!(counted == "tides", "the app is in another database: {counted}");
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let words = String::from_utf8_lossy(&words).into_owned();
            ensure!(
                !(words.starts_with("berth") && words.contains("postgres://")),
                "an address is in an argument: {words}"
            );
        }
        ensure!(!g.berth.last_words().contains("postgres://"), "an address is in the log");
        // Roles are restarted with it, and the database is this installation's for good.
        let (well, said) = g.berth.command(&["restart", "web", "control"])?;
        ensure!(well, "{said}");
        let other = start("other").err().context("two installations share a database")?;
        ensure!(format!("{other:#}").contains("belongs to another installation of Berth"), "{other:#}");
        terminate(g.berth.pid());
        g.berth.start_again()?;
        g.answers("tides", "Tide table")?;
        g.end()?;

        // What would forget readings is refused.
        let mut evicts = Command::new("redis-cli");
        evicts.arg("-s").arg(redis.socket()).args(["config", "set", "maxmemory-policy", "allkeys-lru"]);
        harness::read(&mut evicts)?;
        let refused = start("evicts").err().context("a Redis that forgets was taken")?;
        ensure!(format!("{refused:#}").contains("set it to noeviction"), "{refused:#}");
        Ok(())
    };
    if let Err(cause) = run() {
        panic!("{cause:#}");
    }
}

fn answered_by(runtime: &tokio::runtime::Runtime, postgres: &harness::PostgresServer) -> Result<String> {
    Ok(runtime.block_on(postgres.sql("select name::text from app"))?.unwrap_or_default())
}
