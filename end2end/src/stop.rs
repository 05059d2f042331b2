//! Signals that end a program are noted instead, so that it can clean up, and are passed on.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

static STOP: AtomicBool = AtomicBool::new(false);

unsafe extern "C" {
    fn signal(number: i32, handler: usize) -> usize;
    fn kill(process: i32, number: i32) -> i32;
    fn prctl(option: i32, ...) -> i32;
}

const SIGNALS: [i32; 3] = [1, 2, 15];
const TERMINATE: i32 = 15;

extern "C" fn note(_: i32) {
    STOP.store(true, Ordering::Relaxed);
}

/// From now on Ctrl-C, SIGTERM and a closed terminal do not end this program: [`asked_to_stop`] tells of them.
pub fn listen_for_stop() {
    for number in SIGNALS {
        // SAFETY: the handler only stores to an atomic.
        unsafe { signal(number, note as *const () as usize) };
    }
}

pub fn asked_to_stop() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// SIGTERM, to a child that was not waited for yet: so the number is still its own.
pub fn terminate(child: u32) {
    // SAFETY: a system call on a process of ours.
    unsafe { kill(child.cast_signed(), TERMINATE) };
}

/// The kernel sends it SIGTERM when the thread that starts it ends, however it ends.
pub fn end_with_this_thread(command: &mut Command) {
    const PR_SET_PDEATHSIG: i32 = 1;
    // SAFETY: between fork and exec there is one system call.
    unsafe {
        command.pre_exec(|| {
            prctl(PR_SET_PDEATHSIG, TERMINATE as std::ffi::c_ulong);
            Ok(())
        });
    }
}

/// kill -9.
pub fn kill_hard(process: u32) {
    // SAFETY: a system call; who calls knows whose process it is.
    unsafe { kill(process.cast_signed(), 9) };
}

/// SIGSTOP: it neither runs nor ends until [`go_on`].
pub fn pause(process: u32) {
    // SAFETY: a system call; who calls knows whose process it is.
    unsafe { kill(process.cast_signed(), 19) };
}

/// SIGCONT.
pub fn go_on(process: u32) {
    // SAFETY: a system call; who calls knows whose process it is.
    unsafe { kill(process.cast_signed(), 18) };
}

/// Asks until it holds; what was wrong last when it never did.
pub fn wait(limit: Duration, mut holds: impl FnMut() -> Result<()>) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        match holds() {
            Ok(()) => return Ok(()),
            Err(cause) if Instant::now() > deadline => {
                return Err(cause).with_context(|| format!("not within {limit:?}"));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
        if asked_to_stop() {
            bail!("stopped by a signal");
        }
    }
}
