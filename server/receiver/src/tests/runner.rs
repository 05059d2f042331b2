//! A runner that starts git as the app's UID, without a sandbox.

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use domain::wire::{GitAnswer, GitCall, GitVerb};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(super) struct TestRunner {
    seen: Arc<Mutex<Seen>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

#[derive(Default)]
struct Seen {
    running: usize,
    started: usize,
    protocols: Vec<Option<String>>,
}

impl TestRunner {
    pub(super) fn new(listener: UnixListener, repos: PathBuf, hook: PathBuf) -> Self {
        let (stop, tasks, seen) = (CancellationToken::new(), TaskTracker::new(), Arc::new(Mutex::new(Seen::default())));
        let (until, each, counted) = (stop.clone(), tasks.clone(), Arc::clone(&seen));
        tasks.spawn(async move {
            loop {
                let stream = tokio::select! {
                    () = until.cancelled() => return,
                    accepted = listener.accept() => accepted.unwrap().0,
                };
                let (repos, hook, seen) = (repos.clone(), hook.clone(), Arc::clone(&counted));
                each.spawn(async move { serve(stream, &repos, &hook, &seen).await });
            }
        });
        Self { seen, stop, tasks }
    }

    pub(super) fn running(&self) -> usize {
        self.seen.lock().unwrap().running
    }

    pub(super) fn started(&self) -> usize {
        self.seen.lock().unwrap().started
    }

    pub(super) fn protocols(&self) -> Vec<Option<String>> {
        self.seen.lock().unwrap().protocols.clone()
    }

    pub(super) async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

async fn serve(mut stream: UnixStream, repos: &Path, hook: &Path, seen: &Mutex<Seen>) {
    let (line, fds) = receive(&stream).await;
    let call: GitCall = serde_json::from_slice(&line).unwrap();
    assert_eq!(call.token.expose(), "the token");
    let ask = call.ask;
    let restores = matches!(ask.verb, GitVerb::Restore { .. });
    let place = repos.join(ask.app.to_string());
    let path = if restores { repos.join("new") } else { place.clone() };
    if restores {
        super::ground::repository(&path, hook.parent().unwrap().parent().unwrap());
    } else if !path.exists() {
        return answer(&mut stream, &GitAnswer::Missing).await;
    }
    let mut command = match &ask.verb {
        GitVerb::Restore { branch, branches } => {
            let mut command = tokio::process::Command::new(hook);
            command.args(["hook", "restore", branch.as_ref().map_or("none", |b| b.name.as_str())]);
            command.args(branches.iter().chain(branch).flat_map(|b| [b.name.as_str(), b.commit.as_str()]));
            command
        }
        GitVerb::Maintain { keep: commits } | GitVerb::Bundle { commits } => {
            let mut command = tokio::process::Command::new(hook);
            command.arg("hook").arg(if matches!(ask.verb, GitVerb::Bundle { .. }) { "bundle" } else { "maintain" });
            command.args(commits.iter().map(ToString::to_string));
            command
        }
        GitVerb::ReceivePack => git(&["receive-pack", "."]),
        GitVerb::UploadPack => git(&["upload-pack", "--strict", "."]),
        GitVerb::UpdateRef { name, new, old } => {
            let mut command = tokio::process::Command::new(hook);
            command.args(["hook", "move", name, new.as_str(), old.as_ref().map_or("none", |old| old.as_str())]);
            command
        }
    };
    let [stdin, stdout, stderr]: [OwnedFd; 3] = fds.try_into().expect("three descriptors");
    command
        .current_dir(&path)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", "/nonexistent")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .envs(ask.protocol.clone().map(|protocol| ("GIT_PROTOCOL", protocol)))
        .envs(ask.hook_socket.map(|socket| ("BERTH_HOOK_SOCKET", socket)))
        .uid(ask.uids.app)
        .gid(ask.uids.app)
        .process_group(0)
        .stdin(Stdio::from(stdin))
        .stdout(Stdio::from(stdout))
        .stderr(Stdio::from(stderr));
    let mut child = command.spawn().unwrap();
    // Holds our copies of the descriptors.
    drop(command);
    {
        let mut seen = seen.lock().unwrap();
        seen.running += 1;
        seen.started += 1;
        seen.protocols.push(ask.protocol);
    }
    answer(&mut stream, &GitAnswer::Started).await;
    let mut rest = [0; 1];
    tokio::select! {
        status = child.wait() => {
            let code = status.unwrap().code().unwrap_or(137);
            if restores && code == 0 {
                std::fs::rename(&path, &place).unwrap();
            } else if restores {
                std::fs::remove_dir_all(&path).unwrap();
            }
            answer(&mut stream, &GitAnswer::Exited { code }).await;
        }
        _ = stream.read(&mut rest) => {
            let group = nix::unistd::Pid::from_raw(child.id().unwrap() as i32);
            let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
            let _ = child.wait().await;
        }
    }
    seen.lock().unwrap().running -= 1;
}

fn git(args: &[&str]) -> tokio::process::Command {
    let mut command = tokio::process::Command::new("git");
    command.args(args);
    command
}

async fn answer(stream: &mut UnixStream, answer: &GitAnswer) {
    let mut line = serde_json::to_vec(answer).unwrap();
    line.push(b'\n');
    let _ = stream.write_all(&line).await;
}

async fn receive(stream: &UnixStream) -> (Vec<u8>, Vec<OwnedFd>) {
    let (mut line, mut fds) = (Vec::new(), Vec::new());
    while !line.ends_with(b"\n") {
        let n = stream.async_io(Interest::READABLE, || {
            let mut buffer = [0; 4096];
            let mut space = nix::cmsg_space!([std::os::fd::RawFd; 3]);
            let mut parts = [IoSliceMut::new(&mut buffer)];
            let got = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
            for message in got.cmsgs()? {
                if let ControlMessageOwned::ScmRights(raw) = message {
                    // SAFETY: the kernel has just given them to us.
                    fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
                }
            }
            let n = got.bytes;
            line.extend_from_slice(&buffer[..n]);
            Ok(n)
        });
        assert_ne!(n.await.unwrap(), 0);
    }
    (line, fds)
}
