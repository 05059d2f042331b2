//! The door with the real OpenSSH client and the real git, before a desk that the test plays and a
//! runner that starts git without a sandbox, as the app's UID.

mod desk;
mod ground;
mod runner;

use std::time::Duration;

use domain::DeployState;

use self::desk::reason;
use self::ground::{Ground, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_push_prints_its_deploy_and_moves_the_branch_when_it_is_live() {
    let ground = Ground::new().await;
    let work = ground.work("shop");
    work.write("index.html", "hello");
    let commit = work.commit("the first");
    let push = work.push("main").spawn();

    let deploy = ground.desk.deploy(1).await;
    assert_eq!(
        (deploy.commit.as_str(), deploy.subject.as_str(), &deploy.before),
        (commit.as_str(), "the first", &None)
    );
    ground.desk.line(1, "-----> Static app detected");
    ground.desk.state(1, DeployState::Building);
    ground.desk.line(1, "       1 file\x1b[2J");
    assert_eq!(ground.branch("shop", "main"), None, "the branch moves when its release serves");
    ground.desk.live(1);

    let push = push.done().await;
    assert!(push.ok, "{}", push.text);
    push.says(&[
        "remote: Deploy 1 of shop: commit",
        "remote: -----> Static app detected",
        "remote:        1 file\\x1b[2J",
        "remote: Deploy 1 live in",
        "http://shop.localhost:8080",
        "remote: cost: €1.07 a day, 2 cents more than v0",
        "* [new branch]      main -> main",
    ]);
    assert_eq!(ground.branch("shop", "main"), Some(commit));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_deploy_fails_the_push_and_the_same_commit_can_be_pushed_again() {
    let ground = Ground::new().await;
    let work = ground.work("shop");
    work.write("app.py", "x");
    let commit = work.commit("broken");
    let push = work.push("main").spawn();
    ground.desk.deploy(1).await;
    ground.desk.line(1, "pip: no such package");
    ground.desk.fail(1, reason("the build failed: no package 'flsk'", "correct requirements.txt"));
    let push = push.done().await;
    assert!(!push.ok);
    push.says(&[
        "remote: pip: no such package",
        "remote: shop: deploy 1 failed",
        "remote:   the build failed: no package 'flsk'",
        "remote:   hint: correct requirements.txt",
        "! [remote rejected] main -> main (deploy 1 failed)",
    ]);
    assert_eq!(ground.branch("shop", "main"), None);

    let again = work.push("main").spawn();
    assert_eq!(ground.desk.deploy(2).await.commit.as_str(), commit);
    ground.desk.live(2);
    let again = again.done().await;
    assert!(again.ok, "{}", again.text);
    assert_eq!(ground.branch("shop", "main"), Some(commit));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_does_not_stop_its_deploy() {
    let ground = Ground::new().await;
    let work = ground.work("shop");
    work.write("index.html", "hello");
    let commit = work.commit("the first");
    let push = work.push("main").spawn();
    ground.desk.deploy(1).await;
    push.kill().await;
    within("the sandbox ends with its client", || ground.runner.running() == 0).await;
    ground.desk.state(1, DeployState::Building);
    ground.desk.live(1);
    within("the branch is moved", || ground.branch("shop", "main").as_deref() == Some(commit.as_str())).await;
    within("hooks' sockets are gone", || ground.hooks_dir_is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_repository_is_made_again_from_what_was_pushed() {
    let ground = Ground::new().await;
    let work = ground.work("shop");
    let deployed = |number| {
        let (ground, push) = (&ground, work.push("main").spawn());
        async move {
            let deploy = ground.desk.deploy(number).await;
            ground.desk.live(number);
            let push = push.done().await;
            assert!(push.ok, "{}", push.text);
            deploy
        }
    };
    work.random("big", 300_000);
    work.commit("one");
    let first = deployed(1).await;
    work.write("a", "2");
    work.commit("two");
    let two = work.commit_empty("two and a half");
    let second = deployed(2).await;
    let size = |deploy: &self::desk::Deploy| ground.bundle(deploy.bundle.as_ref().unwrap()).metadata().unwrap().len();
    assert!(size(&first) > 300_000 && size(&second) < 2_000, "only what is new is kept");
    // Pushed, but never live: kept, and not where the branch is.
    work.commit_empty("broken");
    let push = work.push("main").spawn();
    ground.desk.deploy(3).await;
    ground.desk.fail(3, reason("no", "no"));
    assert!(!push.done().await.ok);
    let refs = ground.refs("shop");

    ground.lose_repository();
    let (a, b) = (ground.work("shop"), ground.work("shop"));
    tokio::join!(async { a.pull().spawn().done().await.says(&["main"]) }, async {
        b.pull().spawn().done().await.says(&["main"])
    });
    assert_eq!((a.git(&["rev-parse", "FETCH_HEAD"]), a.git(&["rev-list", "--count", "FETCH_HEAD"])), (two, "3".into()));
    assert_eq!(ground.refs("shop"), refs, "the same commits are there");

    // The commit of a failed deploy again: nothing of it is new.
    let again = work.push("main").spawn();
    assert_eq!(ground.desk.deploy(4).await.bundle, None);
    ground.desk.live(4);
    let again = again.done().await;
    assert!(again.ok, "{}", again.text);

    ground.lose_repository();
    std::fs::remove_file(ground.bundle(second.bundle.as_ref().unwrap())).unwrap();
    let away = a.pull().spawn().done().await;
    assert!(!away.ok);
    away.says(&["the app's repository could not be restored from the object store"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_that_moved_meanwhile_is_left_where_it_is() {
    let ground = Ground::new().await;
    let (work, other) = (ground.work("shop"), ground.work("shop"));
    work.write("a", "1");
    work.commit("mine");
    other.write("b", "2");
    let theirs = other.commit("theirs");
    let (first, second) = (work.push("main").spawn(), {
        ground.desk.deploy(1).await;
        other.push("main").spawn()
    });
    ground.desk.deploy(2).await;
    ground.desk.live(2);
    assert!(second.done().await.ok);
    ground.desk.live(1);
    let first = first.done().await;
    assert!(!first.ok);
    first.says(&["! [remote rejected] main -> main (main moved meanwhile, fetch and push again)"]);
    assert_eq!(ground.branch("shop", "main"), Some(theirs));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_push_says_what_it_waits_for() {
    let ground = Ground::new().await;
    let work = ground.work("shop");
    work.write("a", "1");
    work.commit("one");
    let first = work.push("main").spawn();
    ground.desk.deploy(1).await;
    let second = work.push("main").spawn();
    second.until_says("remote: Waiting: deploy 1 of shop is still under way").await;
    ground.desk.live(1);
    assert!(first.done().await.ok);
    ground.desk.live(2);
    let second = second.done().await;
    assert!(second.ok, "{}", second.text);
    second.says(&["remote: Deploy 2 of shop", "remote: Deploy 2 live"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_waits_longer_than_a_client_may_be_silent_is_not_cut_off() {
    let ground = Ground::with(|limits| limits.idle_ms = 900).await;
    let work = ground.work("shop");
    work.write("a", "1");
    work.commit("one");
    let push = work.push("main").spawn();
    ground.desk.deploy(1).await;
    // The quiet itself is what is tested.
    tokio::time::sleep(Duration::from_millis(3_000)).await;
    ground.desk.live(1);
    let push = push.done().await;
    assert!(push.ok, "{}", push.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_deploy_branch_is_deployed_others_are_kept_and_tags_are_ignored() {
    let ground = Ground::new().await;
    let work = ground.work("shop");
    work.write("a", "1");
    work.commit("one");
    work.git(&["tag", "v1"]);
    work.git(&["branch", "feature"]);
    let push = work.push("feature").spawn().done().await;
    assert!(push.ok, "{}", push.text);
    push.says(&["feature is kept and not deployed, only main is; to deploy it: git push <remote> feature:main"]);
    let push = work.push("v1").spawn().done().await;
    assert!(push.ok, "{}", push.text);
    push.says(&["tag v1 is ignored", "git push <remote> v1^{}:main"]);
    assert!(!ground.refs("shop").contains("refs/tags"), "{}", ground.refs("shop"));
    // The tag, the branch and the deploy together, and what is in no deploy.
    work.git(&["checkout", "-q", "feature"]);
    work.random("big", 200_000);
    let feature = work.commit("on the feature");
    work.git(&["checkout", "-q", "main"]);
    let push = work.push_all(&["main", "feature", "v1"]).spawn();
    ground.desk.deploy(1).await;
    ground.desk.live(1);
    let push = push.done().await;
    assert!(push.ok, "{}", push.text);
    push.says(&["tag v1 is ignored: only branches are kept here", "feature is kept and not deployed, only main is"]);
    assert!(!push.text.contains("to deploy"), "it is deployed already: {}", push.text);
    for gone in [":main", ":feature"] {
        let gone = work.push(gone).spawn().done().await;
        assert_eq!(gone.ok, !gone.text.contains("main"), "{}", gone.text);
    }
    assert!(!ground.refs("shop").contains("refs/heads/feature"));
    // A branch is found again when the repository is lost, though no deploy has it, and a deleted one is not.
    work.git(&["branch", "gone"]);
    for name in ["feature", "gone", ":gone"] {
        assert!(work.push(name).spawn().done().await.ok);
    }
    // Forced: what is deployed is where the push says.
    work.git(&["commit", "-q", "--amend", "-m", "anew"]);
    assert!(!work.push("main").spawn().done().await.ok);
    let push = work.push("+main").spawn();
    let forced = ground.desk.deploy(2).await;
    ground.desk.live(2);
    assert!(push.done().await.ok);
    ground.lose_repository();
    let other = ground.work("shop");
    other.pull_branch("feature").spawn().done().await.says(&["feature"]);
    assert_eq!(other.git(&["rev-parse", "FETCH_HEAD"]), feature);
    let refs = ground.refs("shop");
    assert!(refs.contains(&format!("{} refs/heads/main", forced.commit)) && !refs.contains("gone"), "{refs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_push_decides_between_main_and_master() {
    let ground = Ground::new().await;
    let work = ground.work("shop");
    work.write("a", "1");
    work.commit("one");
    work.git(&["branch", "-m", "main", "master"]);
    let push = work.push("master").spawn();
    assert_eq!(ground.desk.deploy(1).await.branch, "master");
    ground.desk.live(1);
    let push = push.done().await;
    assert!(push.ok, "{}", push.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_source_is_the_committed_tree_as_it_is() {
    let ground = Ground::new().await;
    let work = ground.work("shop");
    work.write(
        ".gitattributes",
        "secret export-ignore\nversion export-subst\n*.txt text eol=crlf ident\n[attr]x export-ignore\nb x\n",
    );
    work.write("secret", "kept");
    work.write("version", "$Format:%H$");
    work.write("a.txt", "one\ntwo $Id$\n");
    work.write("b", "b");
    std::os::unix::fs::symlink("/etc/passwd", work.dir().join("link")).unwrap();
    work.commit("all");
    work.git(&["update-index", "--add", "--cacheinfo", "160000,1234567890123456789012345678901234567890,vendor/lib"]);
    work.git(&["commit", "-qm", "with a submodule"]);
    let push = work.push("main").spawn();
    let deploy = ground.desk.deploy(1).await;
    ground.desk.live(1);
    let push = push.done().await;
    assert!(push.ok, "{}", push.text);
    push.says(&["remote: warning: vendor/lib is a submodule; its files are not part of the push"]);

    let out = ground.unpack(&deploy.source);
    let read = |name: &str| std::fs::read_to_string(out.path().join(name)).unwrap();
    assert_eq!(read("secret"), "kept");
    assert_eq!(read("version"), "$Format:%H$");
    assert_eq!(read("a.txt"), "one\ntwo $Id$\n");
    assert_eq!(read("b"), "b");
    assert_eq!(std::fs::read_link(out.path().join("link")).unwrap().to_str(), Some("/etc/passwd"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_that_is_too_large_is_refused_with_the_reason() {
    let ground = Ground::with(|limits| limits.source_bytes = 2 << 20).await;
    let work = ground.work("shop");
    work.random("big", 8 << 20);
    work.commit("big");
    let push = work.push("main").spawn().done().await;
    assert!(!push.ok);
    push.says(&["remote:   the commit's tree is larger than 2 MiB", "(the commit's tree is larger than 2 MiB)"]);
    assert!(ground.desk.is_empty());
    within("nothing is left of it", || ground.stored_sources() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_sends_too_much_is_cut_off_with_the_reason() {
    let ground = Ground::with(|limits| limits.push_bytes = 2 << 20).await;
    let work = ground.work("shop");
    work.random("big", 8 << 20);
    work.commit("big");
    let push = work.push("main").spawn().done().await;
    assert!(!push.ok);
    push.says(&["berth: a push may send 2 MiB at most"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_pushed_can_be_cloned_byte_by_byte() {
    let ground = Ground::new().await;
    let work = ground.work("shop");
    work.random("big", 24 << 20);
    let commit = work.commit("big");
    let push = work.push("main").spawn();
    ground.desk.deploy(1).await;
    ground.desk.live(1);
    let push = push.done().await;
    assert!(push.ok, "{}", push.text);
    for (protocol, ssh) in [("0", ""), ("2", ""), ("2", "-o RekeyLimit=1M")] {
        let (done, clone) = ground.clone_of("shop", protocol, ssh).await;
        assert!(done.ok, "{}", done.text);
        assert_eq!(clone.git(&["rev-parse", "HEAD"]), commit);
        assert_eq!(clone.git(&["for-each-ref", "--format=%(refname)", "refs/berth"]), "");
        assert_eq!(std::fs::read(clone.dir().join("big")).unwrap(), std::fs::read(work.dir().join("big")).unwrap());
    }
    assert_eq!(ground.runner.protocols().last().cloned().flatten().as_deref(), Some("version=2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn not_yours_and_not_there_are_the_same_words() {
    let ground = Ground::new().await;
    let mut words = Vec::new();
    for name in ["theirs", "nosuch"] {
        let said = ground.ssh(&[&format!("git-receive-pack '{name}.git'")]).await;
        assert_eq!(said.code, Some(1));
        words.push(said.text.replace(name, "NAME"));
    }
    assert_eq!(words[0], words[1]);
    assert!(words[0].contains("berth: you have no app 'NAME'"), "{}", words[0]);
    let said = ground.ssh(&["git-receive-pack '../../etc/passwd'"]).await;
    assert!(said.code == Some(1) && said.text.contains("you have no app"), "{}", said.text);
    assert_eq!(ground.runner.started(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_shell_and_everything_else_is_answered_with_words() {
    let ground = Ground::new().await;
    // Where nobody answers for the data, what needs none is still said.
    for (command, code, words) in [
        (&["help"][..], 0, "git push berth main"),
        (&["help", "lgos"][..], 2, "There is no `lgos`. Did you mean `logs`?"),
        (&[][..], 0, "Usage: ssh -p 2222 berth@localhost COMMAND"),
        (&["-tt"][..], 0, "Usage: ssh -p 2222 berth@localhost COMMAND\r\n"),
        (&["cat /etc/passwd"][..], 2, "There is no `cat`."),
        (&["logs"][..], 2, "`logs` needs APP.\nusage: logs APP [-t]"),
        (&["create it's"][..], 2, "A quotation mark (') is not closed."),
        (&["apps"][..], 3, "berth: The database does not answer just now."),
        (
            &["apps --json"][..],
            3,
            "{\"error\":{\"kind\":\"away\",\"message\":\"The database does not answer just now.\"",
        ),
        (&["-s", "sftp"][..], 255, ""),
    ] {
        let said = ground.ssh(command).await;
        assert_eq!(said.code, Some(code), "{command:?}: {}", said.text);
        assert!(said.text.contains(words), "{command:?}: {}", said.text);
    }
    let said = ground.ssh(&["x".repeat(100_000).as_str()]).await;
    assert!(said.code == Some(2) && said.text.contains("longer than 96 KiB"), "{}", said.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_key_and_a_password_do_not_come_in() {
    let ground = Ground::new().await;
    let said = ground.ssh_as(&ground.stranger(), &["help"]).await;
    assert_eq!(said.code, Some(255));
    assert!(said.text.contains("Permission denied (publickey)"), "{}", said.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_not_gits_ends_with_an_error() {
    let ground = Ground::new().await;
    let deletes = format!("{} {} refs/heads/main\0 report-status", "0".repeat(40), "1".repeat(40));
    for input in [
        b"ffff".repeat(40_000),
        b"zzzz".to_vec(),
        vec![0; 1 << 20],
        format!("{:04x}{deletes}0000PACKgarbage", deletes.len() + 4).into_bytes(),
    ] {
        let said = ground.ssh_with(&["git-receive-pack 'shop.git'"], &input).await;
        assert_ne!(said.code, None);
    }
    within("no sandbox is left", || ground.runner.running() == 0).await;
    assert!(ground.desk.is_empty());
    within("hooks' sockets are gone", || ground.hooks_dir_is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_is_away_is_told_and_nothing_hangs() {
    let ground = Ground::new().await;
    ground.runner.stop().await;
    let work = ground.work("shop");
    work.write("a", "1");
    work.commit("one");
    let push = work.push("main").spawn().done().await;
    assert!(!push.ok);
    push.says(&["berth: git could not be started", "hint: try again"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_nobody_can_be_looked_up_everyone_is_told_so_and_nothing_is_done() {
    let ground = Ground::new().await;
    ground.desk.go_away();
    let work = ground.work("shop");
    work.write("a", "1");
    work.commit("one");
    for key in [ground.key(), ground.stranger()] {
        for command in ["git-receive-pack 'shop.git'", "git-upload-pack 'shop.git'", "help"] {
            let said = ground.ssh_as(&key, &[command]).await;
            assert_eq!(said.code, Some(3));
            said.says(&["berth: the database does not answer just now", "hint: try again in a minute"]);
        }
    }
    assert_eq!(ground.runner.started(), 0);
    assert!(!work.push("main").spawn().done().await.ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_sign_in_is_sent_away_and_an_address_has_so_many_connections() {
    let ground = Ground::with(|limits| {
        limits.login_ms = 300;
        limits.connections_per_address = 2;
    })
    .await;
    let (first, second) = (ground.connect().await, ground.connect().await);
    let third = ground.connect().await;
    let ended = |stream| tokio::time::timeout(Duration::from_secs(10), ground::to_end(stream));
    assert!(ended(third).await.is_ok_and(|heard| heard.is_empty()), "turned away without a word");
    assert!(ended(first).await.is_ok_and(|heard| heard.starts_with(b"SSH-2.0-Berth")));
    assert!(ended(second).await.is_ok());
    assert_eq!(ground.ssh(&["help"]).await.code, Some(0), "places are given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_receiver_stops_while_a_push_waits_and_the_deploy_stands() {
    let ground = Ground::new().await;
    let work = ground.work("shop");
    work.write("a", "1");
    work.commit("one");
    let push = work.push("main").spawn();
    ground.desk.deploy(1).await;
    ground.stop().await;
    let push = push.done().await;
    assert!(!push.ok);
    push.says(&["remote: A deploy that has begun goes on", "(Berth is away, try again)"]);
    assert_eq!(ground.desk.state_of(1), DeployState::Queued);
}
