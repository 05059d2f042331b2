//! What a customer sees of a push.

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail, ensure};
use harness::{Person, Visitor, wait};

use crate::given::{DEPLOY, SOON, given};

#[test]
fn a_pushed_app_answers_and_its_pages_show_how() {
    given("pushed", |g| {
        g.app("tides", "static")?;
        let said = g.push_well("tides")?;
        let url = g.berth.app("tides");
        ensure!(said.contains("Deploy 1 live in") && said.contains(&url), "the push ends without its verdict:\n{said}");
        g.answers("tides", "Tide table")?;
        ensure!(g.visitor("tides").get("/no-such-file")?.status == 404, "a file that is not there is not a 404");
        g.page_says("/apps", "tides")?;
        g.page_says("/apps/tides", &url)?;
        g.page_says("/apps/tides/deploys/1", "Making the image")?;
        let fetched = harness::read(g.person.git("tides").args(["ls-remote", "berth", "refs/heads/main"]))?;
        let head = harness::read(g.person.git("tides").args(["rev-parse", "HEAD"]))?;
        ensure!(fetched.starts_with(head.trim()), "the deploy branch was not moved");
        Ok(())
    });
}

#[test]
fn who_signs_up_on_the_site_can_push() {
    given("signup", |g| {
        let mut site = Visitor::new(&g.berth.site, g.berth.http);
        let grace = Person::who_signs_up(&g.berth, "grace", &mut site)?;
        grace.add_key(&mut site)?;
        grace.create(&mut site, "tides")?;
        grace.prepare("tides", &crate::given::samples().join("static"))?;
        grace.push("tides")?;
        g.answers("tides", "Tide table")?;
        // The same key for two users would make one of them the other.
        let again = site.post("/account/keys", &[("name", "again"), ("key", &grace.public_key()?)])?;
        ensure!(again.status == 422, "a key that is known was taken again: {}", again.status);
        for bad in ["www", "Tides", "-x", "tides"] {
            let answer = site.post("/apps/new", &[("name", bad)])?;
            ensure!(answer.status == 422 && answer.body.contains(bad), "the name {bad} was answered {}", answer.status);
        }
        let out = site.post("/signout", &[])?;
        ensure!(out.status == 303 && site.get("/apps")?.status == 303, "after signing out the apps are shown");
        Ok(())
    });
}

#[test]
fn a_python_app_logs_and_its_lines_arrive() {
    given("python", |g| {
        g.app("guestbook", "flask")?;
        let said = g.push_well("guestbook")?;
        ensure!(said.contains("Installing requirements.txt"), "the build did not scroll by:\n{said}");
        g.answers("guestbook", "Guest book")?;
        let mut visitor = g.visitor("guestbook");
        let answer = visitor.post("/entries", &[("text", "moored at <b>berth</b> 4")])?;
        ensure!(answer.status == 201, "a form was answered {}", answer.status);
        g.page_says("/apps/guestbook", "entry 1 was written")
    });
}

#[test]
fn a_push_that_cannot_be_built_is_refused_and_the_old_release_serves() {
    given("refused", |g| {
        g.app("tides", "static")?;
        g.push_well("tides")?;
        for file in ["index.html", "about.html", "404.html", "style.css"] {
            harness::read(g.person.git("tides").args(["rm", "-q", file]))?;
        }
        g.change("tides", "notes.txt", "nothing to run")?;
        for deploy in [2, 3] {
            let (taken, said) = g.push("tides")?;
            ensure!(!taken && said.contains("rejected"), "it was taken:\n{said}");
            ensure!(
                said.contains(&format!("Deploy {deploy} of tides")),
                "the same commit was not tried again:\n{said}"
            );
            g.answers("tides", "Tide table")?;
        }
        g.page_says("/apps/tides/deploys/2", "failed")
    });
}

#[test]
fn an_app_that_ends_at_once_is_not_switched_on() {
    given("ends", |g| {
        g.app("tides", "static")?;
        g.push_well("tides")?;
        g.change("tides", "Procfile", "web: echo going under && exit 3\n")?;
        let (taken, said) = g.push("tides")?;
        ensure!(!taken, "it was taken:\n{said}");
        ensure!(said.contains("rejected"), "git was not told why:\n{said}");
        g.answers("tides", "Tide table")
    });
}

#[test]
fn an_app_that_listens_for_itself_only_is_told_so() {
    given("loopback", |g| {
        let line = "web: exec python3 -m http.server --bind 127.0.0.1 $PORT\n";
        g.app_of("shy", &[("Procfile", line), ("requirements.txt", "")])?;
        let (taken, said) = g.push("shy")?;
        ensure!(!taken && said.contains("127.0.0.1") && said.contains("0.0.0.0"), "it was not told why:\n{said}");
        Ok(())
    });
}

#[test]
fn a_second_push_drops_no_request() {
    given("drops", |g| {
        g.app("tides", "static")?;
        g.push_well("tides")?;
        g.answers("tides", "Tide table")?;
        let url = format!("http://127.0.0.1:{}/", g.berth.http.port());
        let host = format!("Host: tides.localhost:{}", g.berth.http.port());
        let wrk = std::process::Command::new("wrk")
            .args(["-t1", "-c16", "-d8s", "-H", &host, &url])
            .stdout(Stdio::piped())
            .spawn()?;
        g.change("tides", "index.html", "<title>Second</title>Tide table, second edition")?;
        let pushed = g.push_well("tides");
        let said = String::from_utf8_lossy(&wrk.wait_with_output()?.stdout).into_owned();
        pushed?;
        println!("{said}");
        ensure!(said.contains("requests in"), "wrk did not run:\n{said}");
        ensure!(!said.contains("Non-2xx") && !said.contains("Socket errors"), "requests were lost:\n{said}");
        g.answers("tides", "second edition")
    });
}

#[test]
fn a_deploy_goes_on_when_its_pusher_is_gone() {
    given("gone", |g| {
        g.app("guestbook", "flask")?;
        let mut git = g.person.git("guestbook").args(["push", "berth", "main"]).stderr(Stdio::piped()).spawn()?;
        // The first line says that the deploy exists.
        use std::io::{BufRead, BufReader};
        let said = git.stderr.take().into_iter().flat_map(|said| BufReader::new(said).lines());
        let mut lines = said.map_while(Result::ok).inspect(|line| println!("{line}"));
        ensure!(lines.any(|line| line.contains("Deploy 1 of guestbook")), "no deploy began");
        harness::kill_hard(git.id());
        git.wait()?;
        let moved = || -> Result<()> {
            let refs = harness::read(g.person.git("guestbook").args(["ls-remote", "berth", "refs/heads/main"]))?;
            let head = harness::read(g.person.git("guestbook").args(["rev-parse", "HEAD"]))?;
            ensure!(refs.starts_with(head.trim()), "the branch is at `{refs}`");
            Ok(())
        };
        wait(DEPLOY, moved)?;
        g.answers("guestbook", "Guest book")
    });
}

#[test]
fn two_pushes_to_one_app_queue() {
    given("queue", |g| {
        g.app("guestbook", "flask")?;
        let mut first = g.person.git("guestbook").args(["push", "-q", "berth", "main"]).spawn()?;
        wait(SOON, || {
            ensure!(g.berth.sql("select count(*) from deploy")? == "1", "the first push has no deploy");
            Ok(())
        })?;
        // Another branch: the deploy branch waits for its verdict.
        g.change("guestbook", "later.txt", "later")?;
        let (_, said) = g.push("guestbook")?;
        let first = first.wait()?;
        ensure!(first.success(), "the first push failed");
        ensure!(said.contains("Deploy 2"), "the second push got no number of its own:\n{said}");
        let order =
            g.berth.sql("select string_agg(number::text, ',' order by ended) from deploy where ended is not null")?;
        ensure!(order == "1,2", "the deploys ended in the order {order}");
        Ok(())
    });
}

#[test]
fn a_repository_whose_disk_was_lost_is_there_again() {
    given("lost", |g| {
        g.app("tides", "static")?;
        g.push_well("tides")?;
        g.change("tides", "index.html", "<h1>Second table</h1>")?;
        g.push_well("tides")?;
        let head = harness::read(g.person.git("tides").args(["rev-parse", "HEAD"]))?;
        let app = g.berth.sql("select id from app where name = 'tides'")?;
        let repository = g.berth.data.join("repos").join(&app);
        std::fs::remove_dir_all(&repository)?;
        let fetched = harness::read(g.person.git("tides").args(["ls-remote", "berth"]))?;
        ensure!(fetched.contains(&format!("{}\trefs/heads/main", head.trim())), "the branch is not there: {fetched}");
        harness::run(g.person.git("tides").args(["fetch", "-q", "--refetch", "berth"]))?;
        // A push whose objects build on what was restored, and a branch that is moved from there.
        std::fs::remove_dir_all(&repository)?;
        g.change("tides", "index.html", "<h1>Third table</h1>")?;
        g.push_well("tides")?;
        g.answers("tides", "Third table")?;
        let kept = g.berth.sql("select count(bundle) from deploy")?;
        ensure!(kept == "3", "{kept} bundles are kept of 3 pushes");
        Ok(())
    });
}

#[test]
fn other_branches_are_kept_tags_ignored_and_the_first_push_decides_what_is_deployed() {
    given("branches", |g| {
        g.app("tides", "static")?;
        let git = |g: &crate::given::Given, args: &[&str]| harness::read(g.person.git("tides").args(args));
        let push = |g: &crate::given::Given, args: &[&str]| -> Result<(bool, String)> {
            let output = g.person.git("tides").arg("push").arg("berth").args(args).output()?;
            Ok((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
        };
        git(g, &["branch", "-m", "main", "master"])?;
        git(g, &["tag", "v1"])?;
        let (taken, said) = push(g, &["master", "v1"])?;
        ensure!(taken && said.contains("Deploy 1 live") && said.contains("tag v1 is ignored"), "{said}");
        g.page_says("/apps/tides", "<code>master</code>")?;
        git(g, &["checkout", "-q", "-b", "main"])?;
        g.change("tides", "index.html", "<h1>On main</h1>")?;
        let (taken, said) = push(g, &["main"])?;
        ensure!(taken && said.contains("main is kept and not deployed, only master is"), "{said}");
        let (taken, said) = push(g, &["main:master"])?;
        ensure!(taken && said.contains("Deploy 2 live"), "{said}");
        g.answers("tides", "On main")?;
        let (taken, said) = push(g, &[":master"])?;
        ensure!(!taken && said.contains("it cannot be deleted"), "{said}");
        // Forced back: that is what is deployed.
        let (taken, said) = push(g, &["+master"])?;
        ensure!(taken && said.contains("Deploy 3 live"), "{said}");
        g.answers("tides", "Tide table")?;
        git(g, &["checkout", "-q", "-b", "feature"])?;
        g.change("tides", "index.html", "<h1>In no deploy</h1>")?;
        ensure!(push(g, &["feature", "main:gone"])?.0 && push(g, &[":gone"])?.0, "branches are not kept");
        let refs = git(g, &["ls-remote", "berth"])?;
        ensure!(refs.contains("refs/heads/feature") && !refs.contains("gone") && !refs.contains("tags"), "{refs}");
        let app = g.berth.sql("select id from app where name = 'tides'")?;
        std::fs::remove_dir_all(g.berth.data.join("repos").join(&app))?;
        let again = git(g, &["ls-remote", "berth"])?;
        ensure!(again == refs, "a lost repository has other branches now:\n{again}\nand had:\n{refs}");
        git(g, &["fetch", "-q", "--refetch", "berth", "feature"]).map(drop)
    });
}

#[test]
fn strangers_get_nowhere_and_learn_nothing() {
    given("strangers", |g| {
        g.app("tides", "static")?;
        g.push_well("tides")?;
        // Someone else with an account and a key, but not of this app.
        let other = Person::new(&g.berth, "bob")?;
        let mut site = Visitor::new(&g.berth.site, g.berth.http);
        other.sign_in(&mut site)?;
        other.add_key(&mut site)?;
        for path in ["/apps/tides", "/apps/never-was", "/apps/tides/deploys/1"] {
            ensure!(site.get(path)?.status == 404, "{path} is not a 404 for another customer");
        }
        other.prepare("tides", &crate::given::samples().join("static"))?;
        other.prepare("never-was", &crate::given::samples().join("static"))?;
        let push = |app: &str| -> Result<String> {
            let output = other.git(app).args(["push", "berth", "main"]).output()?;
            ensure!(!output.status.success(), "a stranger's push was taken");
            Ok(String::from_utf8_lossy(&output.stderr).replace(app, "APP"))
        };
        ensure!(
            push("tides")?.lines().last() == push("never-was")?.lines().last(),
            "a stranger learns which apps there are"
        );
        g.answers("tides", "Tide table")
    });
}

#[test]
fn an_instance_that_ends_is_started_again() {
    given("crash", |g| {
        g.app("guestbook", "flask")?;
        g.push_well("guestbook")?;
        g.answers("guestbook", "Guest book")?;
        let before = g.berth.app_processes("gunicorn")?;
        ensure!(!before.is_empty(), "no process of the app was found");
        before.iter().for_each(|pid| harness::kill_hard(*pid));
        wait(SOON, || {
            let now = g.berth.app_processes("gunicorn")?;
            ensure!(!now.is_empty() && now.iter().all(|pid| !before.contains(pid)), "it was not started again");
            Ok(())
        })?;
        g.answers("guestbook", "Guest book")
    });
}

#[test]
fn an_app_that_takes_too_much_memory_is_told_so() {
    const HUNGRY: &str = "import http.server, os\n\
        class H(http.server.BaseHTTPRequestHandler):\n\
        \x20   def do_GET(self):\n\
        \x20       self.send_response(200); self.end_headers(); self.wfile.write(b'hungry')\n\
        \x20       if self.path == '/eat': x = bytearray(4 << 30); x[::4096] = b'x' * len(x[::4096])\n\
        http.server.ThreadingHTTPServer(('0.0.0.0', int(os.environ['PORT'])), H).serve_forever()\n";
    given("memory", |g| {
        let files = [("app.py", HUNGRY), ("requirements.txt", ""), ("Procfile", "web: exec python3 app.py\n")];
        g.app_of("hungry", &files)?;
        g.push_well("hungry")?;
        g.answers("hungry", "hungry")?;
        let _ = g.visitor("hungry").get("/eat");
        g.page_says("/apps/hungry", "memory")?;
        g.answers("hungry", "hungry")
    });
}

/// While `during` runs, each request to the app is answered well.
pub fn answered_all_the_time(mut visitor: Visitor, during: impl FnOnce() -> Result<()>) -> Result<u64> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| -> Result<u64> {
            let mut asked = 0;
            while !stop.load(Ordering::Relaxed) {
                let answer = visitor.get("/")?;
                ensure!(answer.status == 200, "request {asked} was answered {}", answer.status);
                asked += 1;
            }
            Ok(asked)
        });
        let done = during();
        stop.store(true, Ordering::Relaxed);
        let asked = asking.join().unwrap_or_else(|_| bail!("asking failed"));
        done.and(asked)
    })
}
