//! Sandboxes against the real runtime, kernel and nftables. Needs root.

#![allow(clippy::unwrap_used, reason = "a test's helpers")]

mod common;

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use common::{Ground, until};
use runner::{Bind, Kind, Output, Slice, Tie};

/// Whichever runtimes this server has: crun first, runc as the fallback.
fn runtimes() -> Vec<&'static str> {
    ["/usr/bin/crun", "/usr/sbin/runc", "/usr/bin/runc"]
        .into_iter()
        .filter(|r| std::path::Path::new(r).exists())
        .collect()
}

#[tokio::test]
async fn a_sandbox_runs_prints_ends_and_leaves_nothing() {
    for runtime in runtimes() {
        eprintln!("with {runtime}");
        let mut ground = Ground::new(&[]).await;
        ground.config.runtime = Some(runtime.into());
        let slice = Slice::set_up(&ground.config).await.unwrap();
        let spool = ground.spool("s1");
        let script = "echo out; echo err >&2; id -u; cat /proc/self/status | grep CapEff; exit 3";
        let sandbox = slice.start(ground.spec("s1", script, &spool)).await.unwrap();
        let exit = sandbox.wait().await;
        assert_eq!((exit.code, exit.signal, exit.oom), (Some(3), None, false));
        let lines = ground.lines(&spool);
        let texts: Vec<&str> = lines.iter().map(|l| l.2.as_str()).collect();
        assert!(texts.contains(&"out") && texts.contains(&"err") && texts.contains(&"1000"), "{texts:?}");
        assert!(texts.contains(&"CapEff:\t0000000000000000"), "{texts:?}");
        assert!(exit.cpu_micros.unwrap() > 0);
        slice.clear("s1", None).await.unwrap();
        assert!(slice.cpu_micros("s1").unwrap() >= exit.cpu_micros.unwrap());
        slice.remove_unit("s1").unwrap();
        assert_eq!(slice.units(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn the_host_reaches_a_sandbox_and_a_sandbox_reaches_neither_host_nor_neighbour() {
    let ground = Ground::new(&[]).await;
    let slice = Slice::set_up(&ground.config).await.unwrap();
    let host = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let host_port = host.local_addr().unwrap().port();
    let server = |unit: &str, last: u8| {
        let mut spec = ground.spec(unit, "exec python3 -m http.server -d /usr/share/doc 8000", &ground.spool(unit));
        spec.network = Some((ground.address(last), Kind::App));
        spec
    };
    let one = slice.start(server("n1", 10)).await.unwrap();
    let two = slice.start(server("n2", 11)).await.unwrap();
    for last in [10, 11] {
        let address = SocketAddr::from((ground.address(last), 8000));
        until("the server answers", || TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()).await;
    }
    // An address that no sandbox has is nobody's: the default route might lead to somebody.
    let nobody = TcpStream::connect_timeout(&SocketAddr::from((ground.address(99), 8000)), Duration::from_secs(5));
    assert_eq!(nobody.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    // From inside: a neighbour, the gateway, the server's own address, a private network, metadata.
    let uplink = common::uplink_address();
    let targets = [
        format!("{}:8000", ground.address(11)),
        format!("{}:{host_port}", ground.address(1)),
        format!("{uplink}:{host_port}"),
        "10.99.99.99:80".to_owned(),
        "169.254.169.254:80".to_owned(),
        "192.168.1.1:80".to_owned(),
    ];
    let script = format!(
        "python3 - {} <<'P'\nimport socket,sys\nfor t in sys.argv[1:]:\n h,p=t.split(':')\n try:\n  socket.create_connection((h,int(p)),3); print(t,'REACHED')\n except OSError as e: print(t,'refused',e)\nP",
        targets.join(" ")
    );
    let spool = ground.spool("n3");
    let mut spec = ground.spec("n3", &script, &spool);
    spec.network = Some((ground.address(12), Kind::App));
    let probe = slice.start(spec).await.unwrap();
    assert_eq!(probe.wait().await.code, Some(0));
    let lines = ground.lines(&spool);
    assert_eq!(lines.iter().filter(|l| l.2.contains("refused")).count(), targets.len(), "{lines:?}");
    for sandbox in [one, two, probe] {
        slice.clear(sandbox.unit(), None).await.unwrap();
    }
}

#[tokio::test]
async fn stopping_ends_a_program_that_knows_no_signal_at_once_and_waits_for_one_that_does() {
    let ground = Ground::new(&[]).await;
    let slice = Slice::set_up(&ground.config).await.unwrap();
    let spec = ground.spec("t1", "exec sleep 1000", &ground.spool("t1"));
    let deaf = slice.start(spec).await.unwrap();
    let begun = std::time::Instant::now();
    deaf.stop();
    assert_eq!(deaf.wait().await.signal, Some(9));
    assert!(begun.elapsed() < Duration::from_secs(3));

    let spool = ground.spool("t2");
    let polite = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.1; done";
    let sandbox = slice.start(ground.spec("t2", polite, &spool)).await.unwrap();
    until("it is ready", || ground.lines(&spool).iter().any(|l| l.2 == "ready")).await;
    sandbox.stop();
    assert_eq!(sandbox.wait().await.code, Some(0));
    assert!(ground.lines(&spool).iter().any(|l| l.2 == "bye"));
}

#[tokio::test]
async fn running_out_of_memory_is_told() {
    let ground = Ground::new(&[]).await;
    let slice = Slice::set_up(&ground.config).await.unwrap();
    let mut spec = ground.spec("m1", "exec python3 -c 'x=bytearray(300<<20)'", &ground.spool("m1"));
    spec.limits.memory_bytes = 64 << 20;
    let sandbox = slice.start(spec).await.unwrap();
    let exit = sandbox.wait().await;
    assert_eq!((exit.signal, exit.oom), (Some(9), true));
}

#[tokio::test]
async fn a_free_sandbox_is_adopted_and_a_tied_one_ends_with_its_holder() {
    let ground = Ground::new(&[]).await;
    let slice = Slice::set_up(&ground.config).await.unwrap();
    let free = slice.start(ground.spec("a1", "exec sleep 1000", &ground.spool("a1"))).await.unwrap();
    let pid = free.pid();
    drop(free);
    let mut spec = ground.spec("a2", "exec sleep 1000", &ground.spool("a2"));
    spec.tie = Tie::ToRunner;
    let tied = slice.start(spec).await.unwrap();
    let tied_pid = tied.pid();
    drop(tied);
    until("the tied one is gone", || !std::path::Path::new(&format!("/proc/{tied_pid}")).exists()).await;
    drop(slice);
    let slice = Slice::set_up(&ground.config).await.unwrap();
    let again = slice.adopt("a1").unwrap();
    assert_eq!(again.pid(), pid);
    until("its shim is gone", || slice.adopt("a2").is_none()).await;
    again.kill();
    assert_eq!(again.wait().await.signal, Some(9));
}

#[tokio::test]
async fn given_descriptors_are_the_sandboxs_own() {
    let ground = Ground::new(&[]).await;
    let slice = Slice::set_up(&ground.config).await.unwrap();
    let (in_read, mut in_write) = std::io::pipe().unwrap();
    let (out_read, out_write) = std::io::pipe().unwrap();
    let (_err_read, err_write) = std::io::pipe().unwrap();
    let data = ground.dir().join("given");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("file"), "x").unwrap();
    let mut spec = ground.spec("g1", "cat; cat /work/file; touch /work/no 2>/dev/null || echo ro", &ground.spool("g1"));
    spec.binds = vec![Bind::read_only(&data, "/work")];
    spec.stdin = Some(in_read.into());
    spec.output = Output::Given { stdout: out_write.into(), stderr: err_write.into() };
    let sandbox = slice.start(spec).await.unwrap();
    in_write.write_all(b"hello").unwrap();
    drop(in_write);
    let text = tokio::task::spawn_blocking(move || std::io::read_to_string(out_read).unwrap()).await.unwrap();
    assert_eq!(text, "helloxro\n");
    assert_eq!(sandbox.wait().await.code, Some(0));
}

#[tokio::test]
async fn a_fork_bomb_ends_and_leaves_nothing() {
    let ground = Ground::new(&[]).await;
    let slice = Slice::set_up(&ground.config).await.unwrap();
    let spool = ground.spool("f1");
    let bomb = "echo go; while :; do (sleep 1000 &) ; done 2>/dev/null";
    let sandbox = slice.start(ground.spec("f1", bomb, &spool)).await.unwrap();
    until("it began", || !ground.lines(&spool).is_empty()).await;
    drop(sandbox);
    runner::leave_nothing(&ground.config).await.unwrap();
}

/// Each try prints its name and `refused` or `DONE`.
const FORBIDDEN: &str = r#"
import ctypes, os, socket, threading, subprocess
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *args):
    ctypes.set_errno(0)
    print(name, 'DONE' if libc.syscall(*args) >= 0 else 'refused', flush=True)
def attempt(name, work):
    try: work(); print(name, 'DONE', flush=True)
    except OSError: print(name, 'refused', flush=True)
call('unshare', 272, 0x10000000)
call('unshare user and net', 272, 0x10000000 | 0x40000000)
call('clone into a user namespace', 56, 0x10000000 | 17, 0, 0, 0, 0)
call('clone3', 435, 0, 0)
call('mount', 165, b'none', b'/tmp', b'tmpfs', 0, 0)
call('open_tree', 428, -100, b'/', 0)
call('ptrace', 101, 0, 0, 0, 0)
call('keyctl', 250, 0, 0, 0)
call('bpf', 321, 0, 0, 0)
call('io_uring', 425, 1, 0)
call('userfaultfd', 323, 0)
call('perf', 298, 0, 0, -1, -1, 0)
call('kexec', 246, 0, 0, 0, 0)
attempt('vsock', lambda: socket.socket(40, socket.SOCK_STREAM))
attempt('packet', lambda: socket.socket(17, socket.SOCK_RAW))
attempt('netlink audit', lambda: socket.socket(16, socket.SOCK_RAW, 9))
attempt('raw', lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
attempt('setuid', lambda: os.setuid(0))
attempt('write /usr', lambda: open('/usr/x', 'w'))
attempt('write /etc', lambda: open('/etc/x', 'w'))
attempt('write /proc/sys', lambda: open('/proc/sys/kernel/core_pattern', 'w'))
# Masked: what is there is /dev/null.
def real(path, mode):
    if os.path.exists(path) and os.stat(path).st_rdev == os.stat('/dev/null').st_rdev: raise OSError('masked')
    open(path, mode)
attempt('sysrq', lambda: real('/proc/sysrq-trigger', 'w'))
attempt('kernel memory', lambda: real('/proc/kcore', 'rb'))
attempt('a device', lambda: os.mknod('/tmp/d', 0o060600, os.makedev(254, 0)))
attempt('the server\'s files', lambda: os.listdir('/sys/fs'))
print('descriptors', sorted(int(f) for f in os.listdir('/proc/self/fd'))[:3], flush=True)
t = threading.Thread(target=lambda: print('threads work', flush=True)); t.start(); t.join()
print(subprocess.check_output(['id', '-u', '-n'], text=True).strip(), 'is who it is', flush=True)
socket.socket(socket.AF_UNIX); socket.socket(socket.AF_INET); print('sockets work', flush=True)
open('/tmp/x', 'w').write('x'); open('/dev/null', 'w').write('x'); open('/dev/stdout', 'w').write('stdout opens\n')
"#;

#[tokio::test]
async fn a_sandbox_may_do_what_programs_need_and_nothing_else() {
    for runtime in runtimes() {
        only_what_programs_need(runtime).await;
    }
}

async fn only_what_programs_need(runtime: &str) {
    eprintln!("with {runtime}");
    let mut ground = Ground::new(&[]).await;
    ground.config.runtime = Some(runtime.into());
    let slice = Slice::set_up(&ground.config).await.unwrap();
    let spool = ground.spool("q1");
    let mut spec = ground.spec("q1", "", &spool);
    spec.program.args = ["python3", "-c", FORBIDDEN].map(str::to_owned).to_vec();
    let sandbox = slice.start(spec).await.unwrap();
    let exit = sandbox.wait().await;
    let texts: Vec<String> = ground.lines(&spool).into_iter().map(|l| l.2).collect();
    assert_eq!(exit.code, Some(0), "{texts:#?}");
    assert_eq!(texts.iter().filter(|t| t.ends_with("refused")).count(), 25, "{texts:#?}");
    assert!(!texts.iter().any(|t| t.ends_with("DONE")), "{texts:#?}");
    for works in ["threads work", "app is who it is", "sockets work", "stdout opens"] {
        assert!(texts.iter().any(|t| t == works), "{works}: {texts:#?}");
    }
    // The runtime gives its standard descriptors to the app: never the server's own device.
    let null = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/dev/null").unwrap());
    assert_eq!(null, 0);
}

#[tokio::test]
async fn whoever_floods_its_log_is_told_what_was_dropped() {
    let ground = Ground::new(&[]).await;
    let slice = Slice::set_up(&ground.config).await.unwrap();
    let spool = ground.spool("l1");
    let sandbox = slice.start(ground.spec("l1", "seq 1 20000; sleep 0.2; echo last", &spool)).await.unwrap();
    assert_eq!(sandbox.wait().await.code, Some(0));
    let lines = ground.lines(&spool);
    let dropped: u64 = lines
        .iter()
        .filter(|l| l.1 == 'b')
        .filter_map(|l| l.2.strip_prefix("dropped ")?.split(' ').next()?.parse::<u64>().ok())
        .sum();
    let kept = lines.iter().filter(|l| l.1 == 'o').count() as u64;
    assert_eq!((kept + dropped, dropped > 0), (20_001, true), "{kept} kept");
    assert!(lines.iter().map(|l| l.0).eq(1..=lines.len() as u64));
}
