//! Whether an instance answers, and if not, why: read from the sandbox's own table of sockets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use domain::Reason;
use domain::wire::InstanceSpec;
use tokio::net::TcpStream;
use tokio::process::Command;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Asks an instance for its health, without ever reading what it answers: a connect tells enough,
/// and a request is made by an unprivileged child.
#[derive(Debug, Clone)]
pub struct Probe {
    pub program: PathBuf,
    pub uid: u32,
}

impl Probe {
    /// `Err` says what did not work, in words that follow "web: ".
    pub async fn check(&self, spec: &InstanceSpec, port: u16) -> Result<(), String> {
        let address = SocketAddr::from((spec.address, port));
        match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(_)) => {}
            Ok(Err(e)) => return Err(format!("does not accept connections on $PORT ({port}): {e}")),
            Err(_) => return Err(format!("does not accept connections on $PORT ({port}): no answer")),
        }
        match &spec.health.path {
            None => Ok(()),
            Some(path) => self.request(address, path, spec.app_name.as_str()).await,
        }
    }

    async fn request(&self, address: SocketAddr, path: &str, host: &str) -> Result<(), String> {
        let mut command = Command::new(&self.program);
        command
            .args(["probe", &address.to_string(), path, host, &ANSWER_TIMEOUT.as_millis().to_string()])
            .env_clear()
            .current_dir("/")
            .uid(self.uid)
            .gid(self.uid)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        match tokio::time::timeout(ANSWER_TIMEOUT * 2, command.output()).await {
            Err(_) => Err(format!("GET {path} was not answered within {} s", ANSWER_TIMEOUT.as_secs())),
            Ok(Err(e)) => Err(format!("GET {path} could not be asked: {e}")),
            Ok(Ok(output)) if output.status.success() => Ok(()),
            // Our own program's words: it passes nothing of the answer on but the status.
            Ok(Ok(output)) => Err(format!("GET {path} {}", String::from_utf8_lossy(&output.stdout).trim())),
        }
    }
}

/// What listens in a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listening(Vec<SocketAddr>);

impl Listening {
    /// From `/proc/PID/net/tcp` and `tcp6` of its first process.
    pub fn of(pid: i32) -> Self {
        let mut all = vec![];
        for file in ["tcp", "tcp6"] {
            let path = Path::new("/proc").join(pid.to_string()).join("net").join(file);
            all.extend(parse(&std::fs::read_to_string(path).unwrap_or_default()));
        }
        all.sort();
        all.dedup();
        Self(all)
    }

    /// The port is open, and only from the inside.
    pub fn only_on_loopback(&self, port: u16) -> bool {
        let mut on_port = self.0.iter().filter(|a| a.port() == port).peekable();
        on_port.peek().is_some() && on_port.all(|a| is_loopback(a.ip()))
    }

    /// Why nobody answers on `port`, as a person would explain it.
    pub fn explain(&self, process: &str, port: u16, waited: Duration) -> Reason {
        let outside: Vec<u16> = self.0.iter().filter(|a| !is_loopback(a.ip())).map(SocketAddr::port).collect();
        if self.only_on_loopback(port) {
            return on_loopback(process);
        }
        if let Some(other) = outside.iter().find(|p| **p != port) {
            return Reason::new(format!("{process} listens on port {other}, not on $PORT ({port})"))
                .hint("read the port from the environment variable PORT");
        }
        if let Some(other) = self.0.first().filter(|a| a.port() != port) {
            return Reason::new(format!("{process} listens only on {other}, not on $PORT ({port})"))
                .hint("bind to 0.0.0.0:$PORT");
        }
        Reason::new(format!("{process} did not listen on $PORT ({port}) within {} s", waited.as_secs()))
            .hint("bind to 0.0.0.0:$PORT, or raise `web.start_timeout` in berth.toml")
    }
}

pub fn on_loopback(process: &str) -> Reason {
    Reason::new(format!("{process} listens only on 127.0.0.1")).hint("bind to 0.0.0.0:$PORT")
}

fn is_loopback(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback()),
    }
}

/// The rows in state LISTEN (0A). Addresses are words of four bytes, each in the host's order.
fn parse(table: &str) -> Vec<SocketAddr> {
    table
        .lines()
        .skip(1)
        .filter_map(|row| {
            let mut columns = row.split_whitespace().skip(1);
            let (local, state) = (columns.next()?, columns.nth(1)?);
            let (ip, port) = local.split_once(':')?;
            let words: Vec<[u8; 4]> = (0..ip.len() / 8)
                .map(|n| ip.get(n * 8..n * 8 + 8).and_then(|w| u32::from_str_radix(w, 16).ok()).map(u32::to_ne_bytes))
                .collect::<Option<_>>()?;
            let ip = match words.as_slice() {
                [word] => IpAddr::V4(Ipv4Addr::from(*word)),
                [a, b, c, d] => {
                    let bytes: [u8; 16] = [*a, *b, *c, *d].concat().try_into().ok()?;
                    IpAddr::V6(Ipv6Addr::from(bytes))
                }
                _ => return None,
            };
            let port = u16::from_str_radix(port, 16).ok()?;
            (state == "0A").then_some(SocketAddr::new(ip, port))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue\n   \
        0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000\n   \
        1: 00000000:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000\n   \
        2: 0A64640A:1F40 0164640A:9C40 01 00000000:00000000 00:00000000 00000000  1000\n";

    fn check(listening: &[&str], expected: &str) {
        let listening = Listening(listening.iter().map(|a| a.parse().unwrap()).collect());
        assert_eq!(listening.explain("web", 8000, Duration::from_secs(60)).to_string(), expected);
    }

    #[test]
    fn only_listening_sockets_are_read() {
        assert_eq!(parse(TABLE), ["127.0.0.1:8000", "0.0.0.0:5000"].map(|a| a.parse().unwrap()));
    }

    #[test]
    fn the_reason_says_what_to_change() {
        check(&["127.0.0.1:8000"], "web listens only on 127.0.0.1; bind to 0.0.0.0:$PORT");
        check(&["[::1]:8000"], "web listens only on 127.0.0.1; bind to 0.0.0.0:$PORT");
        check(
            &["0.0.0.0:5000"],
            "web listens on port 5000, not on $PORT (8000); read the port from the environment variable PORT",
        );
        check(&["127.0.0.1:5000"], "web listens only on 127.0.0.1:5000, not on $PORT (8000); bind to 0.0.0.0:$PORT");
        check(
            &[],
            "web did not listen on $PORT (8000) within 60 s; bind to 0.0.0.0:$PORT, or raise `web.start_timeout` in berth.toml",
        );
    }
}
