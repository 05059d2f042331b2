//! What goes from disk, what stays, and what happens when there is no room.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use harness::{SmallDisk, wait};

use crate::given::{DEPLOY, SOON, given_with};

/// What is younger than an hour is never deleted: all of these are older now.
fn age(dir: &Path) -> Result<()> {
    let old = SystemTime::now() - Duration::from_secs(2 * 3600);
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_file() {
            fs::File::options().append(true).open(path)?.set_modified(old)?;
        }
    }
    Ok(())
}

fn names(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.path().is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

#[test]
fn old_releases_go_those_kept_serve_again_and_a_deleted_app_leaves_nothing() {
    given_with("collect", &["--keep-releases", "2"], None, |g| {
        g.app("tides", "static")?;
        g.push_well("tides")?;
        for n in 2..=5 {
            g.change("tides", "index.html", &format!("<h1>Tide table {n}</h1>"))?;
            g.push_well("tides")?;
        }
        let objects = g.berth.data.join("objects");
        let count = |kind: &str| Ok::<_, anyhow::Error>(names(&objects.join(kind))?.len());
        ensure!(count("images")? >= 3, "there is nothing to collect");
        for kind in ["images", "sources", "bundles"] {
            age(&objects.join(kind))?;
        }
        // Its own objects are new; those of 4 and 5 are kept to roll back to.
        g.change("tides", "index.html", "<h1>Tide table 6</h1>")?;
        g.push_well("tides")?;
        wait(DEPLOY, || {
            for kind in ["images", "sources"] {
                ensure!(count(kind)? == 3, "{} {kind} are left", count(kind)?);
            }
            Ok(())
        })?;
        let page = g.site.get("/apps/tides")?.body;
        for (number, offered) in [(1, false), (3, false), (4, true), (5, true), (6, false)] {
            let path = format!("/apps/tides/deploys/{number}/roll-back");
            ensure!(page.contains(&path) == offered, "a roll-back to {number} should be offered: {offered}");
        }
        let refused = g.site.post("/apps/tides/deploys/1/roll-back", &[])?;
        ensure!(refused.status != 303 && refused.body.contains("not kept"), "it was answered {}", refused.status);
        g.post("/apps/tides/deploys/4/roll-back", &[])?;
        g.answers("tides", "Tide table 4")?;

        let app = g.berth.sql("select id from app where name = 'tides'")?;
        g.post("/apps/tides/delete", &[("name", "tides")])?;
        for kind in ["images", "sources", "bundles"] {
            age(&objects.join(kind))?;
        }
        wait(DEPLOY, || {
            for kind in ["images", "sources", "bundles"] {
                ensure!(count(kind)? == 0, "{} {kind} are left", count(kind)?);
            }
            for part in ["logs", "repos"] {
                ensure!(!g.berth.data.join(part).join(&app).exists(), "its {part} are left");
            }
            let caches = names(&g.berth.data.join("runner/caches"))?;
            ensure!(caches.is_empty(), "its caches are left: {caches:?}");
            Ok(())
        })
    });
}

#[test]
fn a_full_disk_refuses_pushes_with_the_reason_and_nothing_is_lost() {
    let disk = SmallDisk::new(1536).unwrap();
    // A quarter of so small a disk must stay free: 384 MiB, a little less after the file system's own part.
    given_with("full", &[], Some(&disk.path()), |g| {
        g.app("tides", "static")?;
        g.push_well("tides")?;
        g.answers("tides", "Tide table")?;

        disk.leave(250)?;
        g.change("tides", "index.html", "<h1>Tide table, second edition</h1>")?;
        let (taken, said) = g.push("tides")?;
        ensure!(!taken && said.contains("MiB of disk free"), "it was not told why:\n{said}");
        // What comes by another door is refused by the coordinator, once it has heard of it.
        wait(SOON, || {
            g.site.post("/apps/tides/restart", &[])?;
            let page = g.site.get("/apps/tides")?.body;
            ensure!(page.contains("of disk free"), "the page does not say why nothing is started");
            Ok(())
        })?;
        g.answers("tides", "Tide table")?;

        // To the last byte: what serves goes on, and kill -9 in this state leaves nothing broken.
        disk.leave(0)?;
        ensure!(disk.free_mib()? < 2, "it is not full");
        for _ in 0..50 {
            g.answers("tides", "Tide table")?;
        }
        harness::kill_hard(g.berth.pid());
        disk.free();
        g.berth.start_again()?;
        g.answers("tides", "Tide table")?;
        wait(DEPLOY, || g.push_well("tides").map(drop))?;
        g.answers("tides", "second edition")?;

        // It runs full in the middle of a push: that one is cut off, and gives back what it took.
        let noise = g.person.repository("tides").join("noise");
        let dd = ["if=/dev/urandom", "bs=1M", "count=200", "status=none"];
        harness::run(std::process::Command::new("dd").args(dd).arg(format!("of={}", noise.display())))?;
        g.person.commit("tides", "Too much")?;
        disk.leave(450)?;
        let (taken, said) = g.push("tides")?;
        ensure!(!taken && said.contains("cut off") && said.contains("MiB of disk free"), "it was taken:\n{said}");
        wait(SOON, || {
            ensure!(disk.free_mib()? > 440, "what was cut off is still there: {} MiB are free", disk.free_mib()?);
            Ok(())
        })?;
        disk.free();
        harness::read(g.person.git("tides").args(["reset", "-q", "--hard", "HEAD~1"]))?;
        g.change("tides", "index.html", "<h1>Tide table, third edition</h1>")?;
        wait(DEPLOY, || g.push_well("tides").map(drop))?;
        g.answers("tides", "third edition")?;

        // A build that writes without end fills its own file system, and leaves what must stay free.
        let (package, lock) = (
            r#"{"name":"greedy","private":true,"scripts":{"build":"dd if=/dev/zero of=big bs=1M count=8000"}}"#,
            r#"{"name":"greedy","lockfileVersion":3,"requires":true,"packages":{"":{"name":"greedy"}}}"#,
        );
        g.app_of("greedy", &[("package.json", package), ("package-lock.json", lock)])?;
        let (taken, said) = g.push("greedy")?;
        ensure!(!taken && said.contains("No space left on device"), "it was not told why:\n{said}");
        ensure!(disk.free_mib()? > 500, "{} MiB are free after it", disk.free_mib()?);
        g.answers("tides", "third edition")
    });
}

#[test]
fn a_repository_is_tidied_its_bundles_become_one_and_a_quota_refuses_what_is_too_much() {
    // How full the disk of the tests' own machine is says nothing here: caches go where it is nearly full.
    given_with("tidy", &["--disk-reserve-mib", "256"], None, |g| {
        g.app("tides", "static")?;
        g.push_well("tides")?;
        let app = g.berth.sql("select id from app where name = 'tides'")?;
        let measured = |kind: &str| -> Result<u64> {
            let said =
                g.berth.sql(&format!("select bytes from disk_usage where app_id = {app} and kind = '{kind}'"))?;
            Ok(said.parse().unwrap_or(0))
        };
        wait(DEPLOY, || {
            for kind in ["image", "source", "bundle", "repository", "cache", "log"] {
                ensure!(measured(kind)? > 0, "{kind} is not measured");
            }
            Ok(())
        })?;

        // 8 MiB of noise are pushed, and then taken back by a force push.
        let noise = |name: &str, mib: u32| {
            let to = format!("of={}", g.person.repository("tides").join(name).display());
            let dd = ["if=/dev/urandom", "bs=1M", "status=none", &format!("count={mib}"), &to];
            harness::run(std::process::Command::new("dd").args(dd))
        };
        noise("noise", 8)?;
        g.person.commit("tides", "Too much")?;
        g.push_well("tides")?;
        harness::read(g.person.git("tides").args(["reset", "-q", "--hard", "HEAD~1"]))?;
        g.change("tides", "index.html", "<h1>Tide table, clean</h1>")?;
        harness::run(g.person.git("tides").args(["push", "-q", "--force", "berth", "main"]))?;
        // As time and later releases would: it is not kept any more, and was tidied more than an hour ago.
        let tidy_again = "update disk_usage set at = now() - interval '2 hours' where kind = 'repository'";
        g.berth.sql("update deploy set forgotten = now() where number = 2")?;
        // As if it had been pushed before there were bundles.
        g.berth.sql("update deploy set bundle = null")?;
        g.berth.sql(&format!("{tidy_again}; update deploy set created = now() where number = 3"))?;
        wait(DEPLOY, || {
            ensure!(g.berth.sql("select bundle is not null from app where name = 'tides'")? == "t", "it has no bundle");
            ensure!(measured("repository")? < 4 << 20, "{} bytes are left", measured("repository")?);
            Ok(())
        })?;
        // From that one bundle, and the one of the next push, all of it can be made again.
        g.change("tides", "index.html", "<h1>Tide table, later</h1>")?;
        g.push_well("tides")?;
        std::fs::remove_dir_all(g.berth.data.join("repos").join(&app))?;
        let head = harness::read(g.person.git("tides").args(["rev-parse", "HEAD"]))?;
        let fetched = harness::read(g.person.git("tides").args(["ls-remote", "berth"]))?;
        ensure!(fetched.contains(&format!("{}\trefs/heads/main", head.trim())), "the branch is not there: {fetched}");
        harness::run(g.person.git("tides").args(["fetch", "-q", "--refetch", "berth"]))?;

        // A push is as large as the quota lets it be, and nothing is received beyond it.
        wait(DEPLOY, || {
            ensure!(measured("bundle")? > 0, "its bundles are not measured");
            Ok(())
        })?;
        let used: u64 = g.berth.sql("select sum(bytes) from disk_usage")?.parse()?;
        g.berth.sql(&format!("update customer set disk_bytes_max = {}", used + (6 << 20)))?;
        // More than what was taken back can still give free while this runs.
        noise("noise", 48)?;
        g.person.commit("tides", "Too much for its customer")?;
        let (taken, said) = g.push("tides")?;
        ensure!(!taken && said.contains("your limit is"), "it was taken:\n{said}");
        g.berth.sql(&format!("update customer set disk_bytes_max = {}", 1 << 10))?;
        let (taken, said) = g.push("tides")?;
        ensure!(!taken && said.contains("on disk, and your limit is"), "it was taken:\n{said}");
        g.page_says("/apps/tides", "on disk")?;
        g.answers("tides", "Tide table, later")
    });
}
