//! Holds one sandbox from its creation to its end.
//!
//! The runner starts it as `shim hold KEY=VALUE…` with the sandbox's standard descriptors as 0, 1
//! and 2 and a socket as 3, on which it says `P PID START` (it runs, in the background), `C PID`
//! (created: the runner connects the network now) and, after the runner's `S`, `R` (runs) or
//! `F why`. If the runner goes before that, what was made is removed again; afterwards it may go
//! and come as it likes (unless `tied`). SIGTERM stops the sandbox within `stop_ms`, SIGUSR1 at once.
//! `DIR/exit.json` appears by rename when the sandbox has ended, while its cgroup is still there.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::lines::{Cut, Rate, Splitter, Spool};
use crate::sys::{self, Ended};

/// What the runtime itself may take for one call.
const RUNTIME_LIMIT: Duration = Duration::from_secs(30);
const CONTROL: RawFd = 3;

struct Settings(HashMap<String, String>);

impl Settings {
    fn parse(args: &[String]) -> Self {
        Self(args.iter().filter_map(|a| a.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect())
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    fn need(&self, key: &'static str) -> Result<&str, String> {
        self.get(key).ok_or_else(|| format!("{key}= is missing"))
    }

    fn number(&self, key: &'static str) -> Result<u64, String> {
        self.need(key)?.parse().map_err(|_| format!("{key}= is not a number"))
    }
}

pub fn run(args: &[String]) -> ExitCode {
    let settings = Settings::parse(args);
    match hold(&settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            let _ = sys::write_all(CONTROL, format!("F {}\n", why.replace('\n', " ")).as_bytes());
            ExitCode::FAILURE
        }
    }
}

struct Output {
    fd: OwnedFd,
    kind: char,
    splitter: Splitter,
    is_open: bool,
}

struct Hold<'a> {
    settings: &'a Settings,
    dir: PathBuf,
    signal: OwnedFd,
    /// For the runtime's own calls: an empty input, and a file.
    quiet: [RawFd; 3],
    _empty: (OwnedFd, OwnedFd),
    _log: fs::File,
}

impl Hold<'_> {
    fn runtime(&self, args: &[&str], stdio: [RawFd; 3], other: impl FnMut(i32, Ended)) -> Result<(), String> {
        let runtime = self.settings.need("runtime")?;
        let log = self.dir.join("runtime.log");
        let log = log.to_string_lossy();
        let mut all = vec![runtime, "--root", self.settings.need("root")?, "--log", &log];
        all.extend_from_slice(args);
        let ended = sys::run(&all, stdio, self.settings.get("unified"), RUNTIME_LIMIT, other)
            .map_err(|e| format!("could not run {runtime}: {e}"))?;
        if ended == Ended::Code(0) {
            return Ok(());
        }
        let said = fs::read_to_string(self.dir.join("runtime.log")).unwrap_or_default();
        let said = said.trim().rsplit('\n').next().unwrap_or_default();
        let verb = args.first().copied().unwrap_or_default();
        Err(format!("{runtime} {verb} ended with {ended:?}: {said}"))
    }

    fn delete(&self) {
        if let Ok(id) = self.settings.need("id") {
            let _ = self.runtime(&["delete", "--force", id], self.quiet, |_, _| ());
        }
    }
}

fn hold(settings: &Settings) -> Result<(), String> {
    let text = |what: &'static str| move |e: std::io::Error| format!("{what}: {e}");
    sys::set_cloexec(CONTROL).map_err(text("no socket as descriptor 3"))?;
    sys::detach().map_err(text("could not go to the background"))?;
    let dir = PathBuf::from(settings.need("dir")?);
    let own = std::process::id() as i32;
    let own_start = sys::start_time(own).unwrap_or(0);
    let state = |child: i32| {
        let child_start = sys::start_time(child).unwrap_or(0);
        replace(&dir.join("shim"), &format!("{own} {own_start} {child} {child_start}\n"))
    };
    state(0).map_err(text("could not write its state"))?;
    tell(&format!("P {own} {own_start}\n"))?;

    let signal = sys::signal_fd().map_err(text("no signals by descriptor"))?;
    let empty = sys::pipe().map_err(text("no pipe"))?;
    let log = fs::OpenOptions::new().create(true).append(true).open(dir.join("shim.log")).map_err(text("no log"))?;
    let quiet = [empty.0.as_raw_fd(), log.as_raw_fd(), log.as_raw_fd()];
    let hold = Hold { settings, dir: dir.clone(), signal, quiet, _empty: empty, _log: log };

    let spool = match settings.get("spool") {
        Some(path) => {
            let rate =
                Rate { lines: settings.number("rate_lines")? as u32, bytes: settings.number("rate_bytes")? as u32 };
            Some(Spool::open(Path::new(path), rate, settings.number("spool_bytes")?).map_err(text("no spool"))?)
        }
        None => None,
    };
    let mut outputs = Vec::new();
    let mut stdio = [0, 1, 2];
    let mut theirs = Vec::new();
    if spool.is_some() {
        for (n, kind) in [(1, 'o'), (2, 'e')] {
            let (ours, end) = sys::pipe().map_err(text("no pipe"))?;
            sys::set_nonblocking(ours.as_raw_fd()).map_err(text("no pipe"))?;
            // Not every runtime does it.
            sys::give(end.as_raw_fd(), settings.number("uid")? as u32).map_err(text("no pipe"))?;
            stdio[n] = end.as_raw_fd();
            theirs.push(end);
            outputs.push(Output { fd: ours, kind, splitter: Splitter::default(), is_open: true });
        }
    }

    let id = settings.need("id")?;
    let pid_file = dir.join("pid");
    let pid_path = pid_file.to_string_lossy().into_owned();
    let created =
        hold.runtime(&["create", "--bundle", settings.need("bundle")?, "--pid-file", &pid_path, id], stdio, |_, _| ());
    drop(theirs);
    if let Err(why) = created {
        hold.delete();
        return Err(why);
    }
    close_given();
    let pid: i32 = fs::read_to_string(&pid_file).ok().and_then(|p| p.trim().parse().ok()).unwrap_or(0);
    let go = if pid > 1 {
        state(pid)
            .map_err(text("could not write its state"))
            .and_then(|()| tell(&format!("C {pid}\n")))
            .and_then(|()| await_go())
    } else {
        Err("the runtime told no process id".to_owned())
    };
    let mut ended = None;
    let started = go.and_then(|()| {
        hold.runtime(&["start", id], hold.quiet, |p, e| {
            if p == pid {
                ended = Some(e)
            }
        })
    });
    if let Err(why) = started {
        hold.delete();
        return Err(why);
    }
    let _ = tell("R\n");
    if settings.get("tied").is_none() {
        close(CONTROL);
    }

    let ended = watch(&hold, pid, ended, outputs, spool);
    record(settings, &dir, ended);
    hold.delete();
    Ok(())
}

/// The standard descriptors are the sandbox's alone now: when it closes them, they are closed.
fn close_given() {
    for fd in 0..3 {
        close(fd);
    }
}

fn close(fd: RawFd) {
    // SAFETY: 0 to 3 came with the program's start and nothing here owns them.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
}

fn tell(text: &str) -> Result<(), String> {
    sys::write_all(CONTROL, text.as_bytes()).map_err(|e| format!("the runner is gone: {e}"))
}

fn await_go() -> Result<(), String> {
    let mut answer = [0; 1];
    match sys::read(CONTROL, &mut answer) {
        Ok(1) if answer == *b"S" => Ok(()),
        _ => Err("the runner did not say to start".to_owned()),
    }
}

/// Until the sandbox's first process has ended and all that it printed is written down.
fn watch(hold: &Hold<'_>, pid: i32, ended: Option<Ended>, mut outputs: Vec<Output>, mut spool: Option<Spool>) -> Ended {
    let stop = Duration::from_millis(hold.settings.number("stop_ms").unwrap_or(10_000));
    let is_tied = hold.settings.get("tied").is_some();
    let mut control_open = is_tied;
    let mut ended = ended;
    let mut kill_at: Option<Instant> = None;
    let mut drain_until: Option<Instant> = None;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        if ended.is_some() {
            let until = *drain_until.get_or_insert_with(|| Instant::now() + Duration::from_secs(1));
            if outputs.iter().all(|o| !o.is_open) || Instant::now() >= until {
                break;
            }
        }
        let mut fds = vec![hold.signal.as_raw_fd(), if control_open { CONTROL } else { -1 }];
        fds.extend(outputs.iter().map(|o| if o.is_open { o.fd.as_raw_fd() } else { -1 }));
        let is_dropping = spool.as_ref().is_some_and(Spool::is_dropping);
        let soonest = [
            kill_at.map(|at| at.saturating_duration_since(Instant::now())),
            (ended.is_some() || is_dropping).then_some(Duration::from_millis(100)),
        ]
        .into_iter()
        .flatten()
        .min();
        let Ok(ready) = sys::poll(&fds, soonest) else { break };
        if ready.first() == Some(&true) {
            while let Some(signal) = sys::next_signal(&hold.signal) {
                match signal {
                    libc::SIGTERM if kill_at.is_none() => kill_at = Some(Instant::now() + terminate(hold, pid, stop)),
                    libc::SIGUSR1 => kill_at = Some(Instant::now()),
                    _ => {}
                }
            }
            while let Some((child, how)) = sys::reap() {
                if child == pid {
                    ended = Some(how);
                }
            }
        }
        if ready.get(1) == Some(&true) {
            // Nothing is ever said here after the start: it can only be closed.
            control_open = false;
            kill_at = Some(Instant::now());
        }
        for (output, ready) in outputs.iter_mut().zip(ready.iter().skip(2)) {
            if *ready {
                match sys::read(output.fd.as_raw_fd(), &mut buffer) {
                    Ok(0) => output.is_open = false,
                    Ok(n) => {
                        let lines = output.splitter.lines(buffer.get(..n).unwrap_or_default());
                        if let Some(spool) = &mut spool {
                            spool.take(output.kind, lines.iter().map(|(l, c)| (l.as_slice(), *c)));
                        }
                    }
                    Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(_) => output.is_open = false,
                }
            }
        }
        if let Some(spool) = &mut spool {
            spool.tell_dropped(false);
            if spool.is_dropping() {
                // Whoever floods its log waits for its pipe instead of burning a core of ours.
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        if ended.is_none() && kill_at.is_some_and(|at| Instant::now() >= at) {
            sys::kill(pid, libc::SIGKILL);
            // Frozen, or in a long call of the kernel: asked again until it is gone.
            kill_at = Some(Instant::now() + Duration::from_millis(200));
        }
    }
    if let Some(spool) = &mut spool {
        for output in &mut outputs {
            let last: Vec<(Vec<u8>, Cut)> = output.splitter.end().into_iter().collect();
            spool.take(output.kind, last.iter().map(|(l, c)| (l.as_slice(), *c)));
        }
        spool.tell_dropped(true);
    }
    ended.unwrap_or(Ended::Signal(libc::SIGKILL))
}

/// SIGTERM to all in the sandbox, and how long to wait for its end.
/// The kernel spares the first process of a pid namespace every signal that it does not handle, so
/// a program that knows nothing of SIGTERM would wait out the whole time: when nobody inside handles
/// or ignores it, the end comes at once, as it would outside.
fn terminate(hold: &Hold<'_>, pid: i32, stop: Duration) -> Duration {
    let procs = hold.settings.get("procs").and_then(|p| fs::read_to_string(p).ok()).unwrap_or_default();
    let mut all: Vec<i32> = procs.lines().filter_map(|l| l.parse().ok()).collect();
    if !all.contains(&pid) {
        all.push(pid);
    }
    let anyone = all.iter().any(|p| minds_term(*p));
    for pid in all {
        sys::kill(pid, libc::SIGTERM);
    }
    if anyone { stop } else { Duration::ZERO }
}

fn minds_term(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let bit = 1u64 << (libc::SIGTERM - 1);
    status
        .lines()
        .filter_map(|l| l.strip_prefix("SigCgt:").or_else(|| l.strip_prefix("SigIgn:")))
        .filter_map(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .any(|mask| mask & bit != 0)
}

/// How it ended, with the last counters, while they can still be read.
fn record(settings: &Settings, dir: &Path, ended: Ended) {
    let number = |key: &str, field: &str| -> Option<u64> {
        let text = fs::read_to_string(settings.get(key)?).ok()?;
        if field.is_empty() {
            return text.trim().parse().ok();
        }
        text.lines().find_map(|l| l.strip_prefix(field)?.trim().parse().ok())
    };
    let oom = number("oom", "oom_kill ").is_some_and(|n| n > 0);
    let cpu = match settings.get("cpu_unit") {
        Some("ns") => number("cpu", "").map(|n| n / 1000),
        _ => number("cpu", "usage_usec "),
    };
    let (code, signal) = match ended {
        Ended::Code(code) => (code.to_string(), "null".to_owned()),
        Ended::Signal(signal) => ("null".to_owned(), signal.to_string()),
    };
    let cpu = cpu.map_or("null".to_owned(), |n| n.to_string());
    let _ = replace(
        &dir.join("exit.json"),
        &format!("{{\"code\":{code},\"signal\":{signal},\"oom\":{oom},\"cpu_micros\":{cpu}}}\n"),
    );
}

fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let new = path.with_extension("new");
    let mut file = fs::File::create(&new)?;
    file.write_all(text.as_bytes())?;
    fs::rename(new, path)
}
