//! Git sandboxes with the real git and the real runtime. Needs root.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::Ground;
use domain::wire::{GitAnswer, GitAsk, GitBranch, GitCall, GitVerb, Uids};
use domain::{AppId, CommitId, Secret};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use runner::{Git, Slice};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio_util::sync::CancellationToken;

const APP: AppId = AppId(7);

/// The door, and what a receiver would hold.
struct Door {
    ground: Ground,
    slice: Slice,
    socket: PathBuf,
    stop: CancellationToken,
    served: tokio::task::JoinHandle<Result<(), runner::GitError>>,
}

/// One ask, its answers, and our ends of its descriptors.
struct Call {
    answers: BufReader<UnixStream>,
    stdin: Option<pipe::Sender>,
    stdout: pipe::Receiver,
    stderr: pipe::Receiver,
}

impl Door {
    async fn new() -> Self {
        let ground = Ground::new(&[]).await;
        // As the supervisor gives it to its roles.
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o027));
        std::fs::create_dir(&ground.config.git.hooks_dir).unwrap();
        let slice = Slice::set_up(&ground.config).await.unwrap();
        let git = Git::new(slice.clone(), ground.config.git.clone(), &ground.config.run_dir.join("git")).await.unwrap();
        let socket = ground.dir().join("runner.sock");
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let stop = CancellationToken::new();
        let until = stop.clone();
        let served = tokio::spawn(async move { git.serve(listener, until).await });
        Self { ground, slice, socket, stop, served }
    }

    fn uids(&self) -> Uids {
        Uids::of(self.ground.config.git.apps_uid_base, APP).unwrap()
    }

    fn ask(&self, verb: GitVerb) -> GitAsk {
        GitAsk { app: APP, uids: self.uids(), verb, protocol: None, hook_socket: None, time_ms: 60_000, make: true }
    }

    async fn call(&self, ask: GitAsk) -> Call {
        self.call_with(ask, self.ground.config.git.receiver_token.clone()).await
    }

    async fn call_with(&self, ask: GitAsk, token: Secret<String>) -> Call {
        let pipes = || std::io::pipe().unwrap();
        let ((git_in, to_git), (from_git, git_out), (said, git_err)) = (pipes(), pipes(), pipes());
        let theirs: [OwnedFd; 3] = [git_in.into(), git_out.into(), git_err.into()];
        let stream = self.send(&GitCall { token, ask }, &theirs).await;
        Call {
            answers: BufReader::new(stream),
            stdin: Some(pipe::Sender::from_owned_fd(to_git.into()).unwrap()),
            stdout: pipe::Receiver::from_owned_fd(from_git.into()).unwrap(),
            stderr: pipe::Receiver::from_owned_fd(said.into()).unwrap(),
        }
    }

    async fn send(&self, call: &GitCall, fds: &[OwnedFd]) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).await.unwrap();
        stream.writable().await.unwrap();
        let mut line = serde_json::to_vec(call).unwrap();
        line.push(b'\n');
        let raw: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let sent = sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(&line)], &rights, MsgFlags::empty(), None);
        assert_eq!(sent.unwrap(), line.len());
        stream
    }

    fn repository(&self) -> PathBuf {
        self.ground.config.git.repos_dir.join(APP.to_string())
    }

    async fn end(self) {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(30), self.served).await.unwrap().unwrap().unwrap();
        assert_eq!(self.slice.units(), Vec::<String>::new());
    }
}

impl Call {
    async fn answer(&mut self) -> Option<GitAnswer> {
        let mut line = String::new();
        let read = self.answers.read_line(&mut line);
        tokio::time::timeout(Duration::from_secs(60), read).await.expect("an answer in time").unwrap();
        (!line.is_empty()).then(|| serde_json::from_str(&line).unwrap())
    }

    /// Gives all input, and returns the exit code, what was written and what was said.
    async fn run(mut self, input: &[u8]) -> (i32, Vec<u8>, String) {
        let started = self.answer().await;
        assert_eq!(started, Some(GitAnswer::Started));
        let mut stdin = self.stdin.take().unwrap();
        let give = async move {
            let _ = stdin.write_all(input).await;
        };
        let (mut written, mut said) = (Vec::new(), Vec::new());
        let both = async { tokio::join!(self.stdout.read_to_end(&mut written), self.stderr.read_to_end(&mut said)) };
        let (_, read) = tokio::join!(give, tokio::time::timeout(Duration::from_secs(60), both));
        read.expect("its pipes are closed in time").0.unwrap();
        let Some(GitAnswer::Exited { code }) = self.answer().await else { panic!("no exit") };
        (code, written, String::from_utf8_lossy(&said).into_owned())
    }
}

fn git(dir: &Path, args: &[&str]) -> String {
    let mut command = Command::new("/usr/bin/git");
    command.current_dir(dir).args([
        "-c",
        "safe.directory=*",
        "-c",
        "user.name=Ada",
        "-c",
        "user.email=ada@example.com",
    ]);
    let out = command.args(args).output().unwrap();
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

fn packet(text: &str) -> Vec<u8> {
    format!("{:04x}{text}", text.len() + 4).into_bytes()
}

/// A commit with one file, and what a client sends to push it to `name`.
fn pushed(dir: &Path, name: &str) -> (String, Vec<u8>) {
    git(dir, &["init", "-q", "-b", "main"]);
    std::fs::write(dir.join("index.html"), "hello").unwrap();
    git(dir, &["add", "-A"]);
    git(dir, &["commit", "-q", "-m", "the first"]);
    let commit = git(dir, &["rev-parse", "HEAD"]);
    (commit.clone(), push_of(dir, &commit, name))
}

/// An object as its bytes are, whatever git thinks of them.
fn object(dir: &Path, kind: &str, bytes: &[u8]) -> String {
    std::fs::write(dir.join("object"), bytes).unwrap();
    git(dir, &["hash-object", "-t", kind, "-w", "--literally", "object"])
}

/// What a client sends to push all of the repository as `commit` to `name`.
fn push_of(dir: &Path, commit: &str, name: &str) -> Vec<u8> {
    let zeros = "0".repeat(40);
    let mut sent = packet(&format!("{zeros} {commit} {name}\0report-status"));
    sent.extend_from_slice(b"0000");
    let mut pack = Command::new("/usr/bin/git");
    let mut child = pack
        .current_dir(dir)
        .args(["pack-objects", "--all", "--stdout", "-q"])
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Read::read_to_end(child.stdout.as_mut().unwrap(), &mut sent).unwrap();
    assert!(child.wait().unwrap().success());
    sent
}

/// A receiver's side of the hook: takes the refs, keeps one commit, refuses or takes the ref.
async fn hook(listener: tokio::net::UnixListener, commit: String) -> (u32, Vec<String>, Vec<u8>) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let uid = stream.peer_cred().unwrap().uid();
    async fn read(stream: &mut UnixStream) -> (u8, Vec<u8>) {
        let mut head = [0; 5];
        stream.read_exact(&mut head).await.unwrap();
        let mut body = vec![0; u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize];
        stream.read_exact(&mut body).await.unwrap();
        (head[0], body)
    }
    async fn write(stream: &mut UnixStream, kind: u8, text: &str) {
        stream.write_u8(kind).await.unwrap();
        stream.write_u32(text.len() as u32).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
    }
    let (mut refs, mut tar) = (Vec::new(), Vec::new());
    loop {
        match read(&mut stream).await {
            (b'r', line) => refs.push(String::from_utf8(line).unwrap()),
            (b'.', _) => break,
            (kind, _) => panic!("{kind}"),
        }
    }
    write(&mut stream, b'd', &commit).await;
    loop {
        match read(&mut stream).await {
            (b'i', subject) => assert_eq!(subject, b"the first"),
            (b't', piece) => tar.extend(piece),
            (b'e', _) => break,
            (kind, body) => panic!("{} {}", char::from(kind), String::from_utf8_lossy(&body)),
        }
    }
    write(&mut stream, b'h', &commit).await;
    let mut bundle = Vec::new();
    loop {
        match read(&mut stream).await {
            (b'b', piece) => bundle.extend(piece),
            (b'f', _) => break,
            (kind, body) => panic!("{} {}", char::from(kind), String::from_utf8_lossy(&body)),
        }
    }
    assert!(bundle.starts_with(b"# v2 git bundle\n"));
    write(&mut stream, b'l', "a line").await;
    write(&mut stream, b'o', "refs/heads/main").await;
    write(&mut stream, b'.', "").await;
    (uid, refs, tar)
}

#[tokio::test]
async fn a_repository_that_is_not_there_is_restored_whole_or_not_at_all() {
    let door = Door::new().await;
    let work = tempfile::tempdir().unwrap();
    let (commit, _) = pushed(work.path(), "refs/heads/main");
    git(work.path(), &["update-ref", &format!("refs/berth/commits/{commit}"), &commit]);
    git(work.path(), &["bundle", "create", "-q", "b", &format!("refs/berth/commits/{commit}")]);
    let bundle = std::fs::read(work.path().join("b")).unwrap();
    let frame = |kind: u8, body: &[u8]| [&[kind], (body.len() as u32).to_be_bytes().as_slice(), body].concat();
    let sent = [frame(b'b', &bundle[..20]), frame(b'b', &bundle[20..]), frame(b'f', b"")].concat();
    let whole = [sent.clone(), frame(b'.', b"")].concat();

    let fetch = GitAsk { make: false, ..door.ask(GitVerb::UploadPack) };
    assert_eq!(door.call(fetch).await.answer().await, Some(GitAnswer::Missing));
    let branch = GitBranch { name: "refs/heads/main".to_owned(), commit: commit.parse().unwrap() };
    let restore = || door.ask(GitVerb::Restore { branch: Some(branch.clone()), branches: vec![] });
    let broken = [frame(b'b', &bundle[..bundle.len() - 30]), frame(b'f', b""), frame(b'.', b"")].concat();
    for bad in [sent.as_slice(), &broken] {
        let (code, _, _) = door.call(restore()).await.run(bad).await;
        assert_ne!(code, 0);
        assert!(!door.repository().exists());
    }
    let (code, _, said) = door.call(restore()).await.run(&whole).await;
    assert_eq!(code, 0, "{said}");
    let repository = door.repository();
    assert_eq!(std::fs::metadata(&repository).unwrap().uid(), door.uids().app);
    let refs = git(&repository, &["for-each-ref", "--format=%(objectname) %(refname)"]);
    assert_eq!(refs, format!("{commit} refs/berth/commits/{commit}\n{commit} refs/heads/main"));
    assert_eq!(git(&repository, &["show", "main:index.html"]), "hello");
    assert!(matches!(door.call(restore()).await.answer().await, Some(GitAnswer::Refused { .. })));
    door.end().await;
}

#[tokio::test]
async fn a_push_reaches_the_hook_and_its_branch_is_moved_by_a_second_sandbox() {
    let door = Door::new().await;
    let work = tempfile::tempdir().unwrap();
    let (commit, sent) = pushed(work.path(), "refs/heads/main");
    let path = door.ground.config.git.hooks_dir.join("s");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    let heard = tokio::spawn(hook(listener, commit.clone()));
    let ask = GitAsk { hook_socket: Some(path.display().to_string()), ..door.ask(GitVerb::ReceivePack) };
    let (code, written, said) = door.call(ask).await.run(&sent).await;
    let written = String::from_utf8_lossy(&written).into_owned();
    assert_eq!(code, 0, "{said} {written}");
    assert!(written.contains("unpack ok") && written.contains("ok refs/heads/main"), "{written}");
    assert!(said.contains("a line"), "{said}");
    let (uid, refs, tar) = heard.await.unwrap();
    assert_eq!(uid, door.uids().app, "the hook is known by its UID");
    assert_eq!(refs, [format!("{} {commit} refs/heads/main", "0".repeat(40))]);
    assert!(tar.windows(5).any(|w| w == b"hello"));

    let repository = door.repository();
    assert_eq!(std::fs::metadata(&repository).unwrap().mode() & 0o777, 0o700);
    assert_eq!(std::fs::metadata(repository.join("objects")).unwrap().uid(), door.uids().app);
    let refs = git(&repository, &["for-each-ref", "--format=%(refname)"]);
    assert_eq!(refs, format!("refs/berth/commits/{commit}"), "only the hidden ref is there");

    let new: CommitId = commit.parse().unwrap();
    let to = |old: Option<CommitId>| GitVerb::UpdateRef { name: "refs/heads/main".to_owned(), new: new.clone(), old };
    for _again in 0..2 {
        let (code, _, said) = door.call(door.ask(to(None))).await.run(b"").await;
        assert_eq!(code, 0, "{said}");
    }
    assert_eq!(git(&repository, &["rev-parse", "refs/heads/main"]), commit);
    let other =
        GitVerb::UpdateRef { name: "refs/heads/main".to_owned(), new: "1".repeat(40).parse().unwrap(), old: None };
    assert_eq!(door.call(door.ask(other)).await.run(b"").await.0, domain::wire::GIT_REF_MOVED);

    let fetch = GitAsk { protocol: Some("version=2".to_owned()), ..door.ask(GitVerb::UploadPack) };
    let mut list = packet("command=ls-refs\n");
    list.extend_from_slice(b"00010000" as &[u8]);
    list.extend_from_slice(b"0000");
    let (code, written, said) = door.call(fetch).await.run(&list).await;
    let written = String::from_utf8_lossy(&written).into_owned();
    assert_eq!(code, 0, "{said}");
    assert!(written.contains("version 2") && written.contains("refs/heads/main"), "{written}");
    assert!(!written.contains("refs/berth"), "{written}");
    door.end().await;
}

#[tokio::test]
async fn hostile_bytes_end_with_an_error_and_store_nothing() {
    let door = Door::new().await;
    let zeros = "0".repeat(40);
    let ones = "1".repeat(40);
    let mut garbage = packet(&format!("{zeros} {ones} refs/heads/main\0report-status"));
    garbage.extend_from_slice(b"0000PACK\0\0\0\x02\xff\xff\xff\xff");
    for input in [b"zzzz".to_vec(), b"fffff".repeat(100_000), garbage] {
        let (code, written, _) = door.call(door.ask(GitVerb::ReceivePack)).await.run(&input).await;
        let told = String::from_utf8_lossy(&written).contains("ng refs/heads/main unpacker error");
        assert!(code != 0 || told, "{}", String::from_utf8_lossy(&written));
    }
    assert_eq!(git(&door.repository(), &["for-each-ref"]), "");
    door.end().await;
}

#[tokio::test]
async fn an_honest_old_history_is_taken_and_a_tree_that_attacks_a_clone_is_not() {
    let door = Door::new().await;
    let good = "author A <a@b.c> 1 +0000\ncommitter A <a@b.c> 1 +0000\n\nx\n";
    let old_zone = "author A <a@b.c> 1 +051800\ncommitter A <a@b.c> 1 +051800\n\nx\n";
    let no_space = "author A <a@b.c>12345 +0000\ncommitter A <a@b.c>12345 +0000\n\nx\n";
    for (entry, people, is_taken) in [
        ("100644 a", old_zone, true),
        ("100644 a", no_space, true),
        ("0100644 a", good, true),
        ("100644 .git", good, false),
        ("100644 .GIT", good, false),
        ("100644 ..", good, false),
        ("120000 .gitmodules", good, false),
    ] {
        let work = tempfile::tempdir().unwrap();
        let dir = work.path();
        git(dir, &["init", "-q", "-b", "main"]);
        let blob = object(dir, "blob", b"x");
        let id: Vec<u8> = (0..40).step_by(2).map(|i| u8::from_str_radix(&blob[i..i + 2], 16).unwrap()).collect();
        let tree = object(dir, "tree", &[entry.as_bytes(), b"\0", &id].concat());
        let commit = object(dir, "commit", format!("tree {tree}\n{people}").as_bytes());
        git(dir, &["update-ref", "refs/heads/main", &commit]);
        let sent = push_of(dir, &commit, "refs/heads/main");
        let (_, written, said) = door.call(door.ask(GitVerb::ReceivePack)).await.run(&sent).await;
        let written = String::from_utf8_lossy(&written).into_owned();
        assert_eq!(written.contains("unpack ok"), is_taken, "{entry} {people}: {written} {said}");
    }
    door.end().await;
}

#[tokio::test]
async fn a_closed_connection_and_a_time_that_is_over_end_a_sandbox() {
    let door = Door::new().await;
    let mut waits = door.call(door.ask(GitVerb::ReceivePack)).await;
    assert_eq!(waits.answer().await, Some(GitAnswer::Started));
    assert_eq!(door.slice.units().len(), 1);
    drop(waits.answers);
    let mut rest = Vec::new();
    let ended = waits.stdout.read_to_end(&mut rest);
    tokio::time::timeout(Duration::from_secs(20), ended).await.expect("its output ends").unwrap();

    let late = GitAsk { time_ms: 300, ..door.ask(GitVerb::ReceivePack) };
    let mut late = door.call(late).await;
    assert_eq!(late.answer().await, Some(GitAnswer::Started));
    assert_eq!(late.answer().await, Some(GitAnswer::Exited { code: 137 }));
    door.end().await;
}

#[tokio::test]
async fn what_no_receiver_asks_for_is_refused() {
    let door = Door::new().await;
    let mut stranger = door.call_with(door.ask(GitVerb::UploadPack), Secret::new("x".repeat(64))).await;
    assert_eq!(stranger.answer().await, None, "without the token there is no answer");

    let secret = door.ground.dir().join("secret");
    std::fs::write(&secret, "s").unwrap();
    let outside = door.ground.dir().join("outside.sock");
    let _outside = std::os::unix::net::UnixListener::bind(&outside).unwrap();
    let link = door.ground.config.git.hooks_dir.join("link");
    std::os::unix::fs::symlink(&outside, &link).unwrap();
    let hooked =
        |path: &Path| GitAsk { hook_socket: Some(path.display().to_string()), ..door.ask(GitVerb::ReceivePack) };
    let refs = |name: &str| {
        let new = "1".repeat(40).parse().unwrap();
        door.ask(GitVerb::UpdateRef { name: name.to_owned(), new, old: None })
    };
    for ask in [
        GitAsk { uids: Uids { root: 0, app: 0 }, ..door.ask(GitVerb::UploadPack) },
        GitAsk { app: AppId(8), ..door.ask(GitVerb::UploadPack) },
        GitAsk { app: AppId(-1), ..door.ask(GitVerb::UploadPack) },
        GitAsk { protocol: Some("version=2\nX=y".to_owned()), ..door.ask(GitVerb::UploadPack) },
        hooked(&secret),
        hooked(&outside),
        hooked(&link),
        hooked(&door.ground.config.git.hooks_dir.join("../outside.sock")),
        refs("--help"),
        refs("refs/berth/commits/x"),
        refs("refs/heads/../x"),
    ] {
        let mut call = door.call(ask.clone()).await;
        assert!(matches!(call.answer().await, Some(GitAnswer::Refused { .. })), "{ask:?}");
    }
    let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    let call = GitCall { token: door.ground.config.git.receiver_token.clone(), ask: door.ask(GitVerb::UploadPack) };
    let mut answers = BufReader::new(door.send(&call, &[null(), null(), null()]).await);
    let mut line = String::new();
    answers.read_line(&mut line).await.unwrap();
    assert!(line.contains("pipes"), "{line}");
    assert_eq!(std::fs::metadata("/dev/null").unwrap().uid(), 0);
    door.end().await;
}

#[tokio::test]
async fn a_repository_is_tidied_while_nobody_is_at_work_on_it_and_what_is_not_kept_goes() {
    let door = Door::new().await;
    let dir = door.ground.dir().join("work");
    std::fs::create_dir(&dir).unwrap();
    // A person is at work on it: its repository is made, and git waits for what they want.
    let mut fetch = door.call(door.ask(GitVerb::UploadPack)).await;
    assert_eq!(fetch.answer().await, Some(GitAnswer::Started));
    let mut refused = door.call(door.ask(GitVerb::Maintain { keep: vec![] })).await;
    let answer = refused.answer().await;
    assert!(matches!(&answer, Some(GitAnswer::Refused { reason }) if reason.message.contains("at work")), "{answer:?}");
    drop(fetch);

    let (kept, _) = pushed(&dir, "refs/heads/main");
    let gone = git(&dir, &["commit-tree", "-m", "gone", "HEAD^{tree}"]);
    let repository = door.repository();
    // As root, and then given to the app: a hook's part is not played here.
    let pack = |commit: &str| {
        git(&dir, &["branch", "-f", "one", commit]);
        git(&repository, &["fetch", "-q", dir.to_str().unwrap(), &format!("one:refs/berth/commits/{commit}")]);
    };
    pack(&kept);
    pack(&gone);
    std::fs::create_dir(repository.join("objects/tmp_objdir-incoming-x")).unwrap();
    std::fs::write(repository.join("packed-refs.lock"), "").unwrap();
    let owner = format!("{0}:{0}", door.uids().app);
    assert!(Command::new("chown").args(["-R", &owner]).arg(&repository).status().unwrap().success());

    let keep: Vec<CommitId> = vec![kept.parse().unwrap()];
    let code_of = async |verb, tries| {
        for _ in 0..tries {
            let mut call = door.call(door.ask(GitVerb::clone(&verb))).await;
            if let Some(GitAnswer::Refused { .. }) = call.answer().await {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
            drop(call.stdin.take());
            let (mut written, mut said) = (Vec::new(), String::new());
            call.stdout.read_to_end(&mut written).await.unwrap();
            call.stderr.read_to_string(&mut said).await.unwrap();
            let Some(GitAnswer::Exited { code }) = call.answer().await else { panic!("no exit") };
            return (code, written, said);
        }
        panic!("git is at work for good")
    };
    // The fetch that went away may still be ending.
    let (code, written, said) = code_of(GitVerb::Maintain { keep: keep.clone() }, 100).await;
    assert_eq!(code, 0, "{said}");
    assert!(String::from_utf8_lossy(&written).trim().parse::<u64>().unwrap() > 4096);
    let refs = git(&repository, &["for-each-ref", "--format=%(refname)"]);
    assert_eq!(refs, format!("refs/berth/commits/{kept}"));
    assert!(
        !repository.join("objects/tmp_objdir-incoming-x").exists() && !repository.join("packed-refs.lock").exists()
    );
    let is_there = |commit: &str| {
        let mut look = Command::new("/usr/bin/git");
        look.current_dir(&repository).args(["-c", "safe.directory=*", "cat-file", "-e", commit]);
        look.status().unwrap().success()
    };
    assert!(is_there(&kept) && !is_there(&gone));

    // Whoever was alone and heard of the end may ask again at once.
    let (code, bundle, said) = code_of(GitVerb::Bundle { commits: keep }, 1).await;
    assert_eq!(code, 0, "{said}");
    assert!(bundle.starts_with(b"# v2 git bundle"));
    let (code, ..) = code_of(GitVerb::Bundle { commits: vec![gone.parse().unwrap()] }, 1).await;
    assert_ne!(code, 0, "a commit that is not here cannot be in a bundle");
    door.end().await;
}
