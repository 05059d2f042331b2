//! Many visitors at once, each asking one thing after the other on a connection that it keeps. Where a load
//! generator connects anew without a word, this one says what went wrong: every request is accounted for.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

const TIMEOUT: Duration = Duration::from_secs(40);
/// Between two requests of one visitor: the tests' own machine is to do something else, too.
const PAUSE: Duration = Duration::from_millis(2);
/// Of the failures, as many are told.
const TOLD: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    Get,
    /// With a body that has to come back.
    Post,
}

#[derive(Debug, Default)]
pub struct Tally {
    pub answered: u64,
    pub failed: u64,
    pub why: Vec<String>,
}

impl Tally {
    pub fn all(&self) -> u64 {
        self.answered + self.failed
    }
}

/// Goes on until it is ended.
pub struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    visitors: Vec<JoinHandle<Tally>>,
}

impl Load {
    /// One visitor for each of `asks`; `host` as in `Host:`.
    pub fn begin(to: SocketAddr, host: &str, asks: &[Ask]) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let one = |(number, ask): (usize, &Ask)| {
            let (stop, answered, ask, host) = (Arc::clone(&stop), Arc::clone(&answered), *ask, host.to_owned());
            std::thread::spawn(move || visit(to, &host, ask, number, &stop, &answered))
        };
        Self { visitors: asks.iter().enumerate().map(one).collect(), stop, answered }
    }

    /// Answered well so far.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    pub fn end(mut self) -> Result<Tally> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Tally::default();
        for visitor in self.visitors.drain(..) {
            let Ok(one) = visitor.join() else { bail!("a visitor failed") };
            all.answered += one.answered;
            all.failed += one.failed;
            all.why.extend(one.why);
        }
        all.why.truncate(TOLD);
        Ok(all)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn visit(to: SocketAddr, host: &str, ask: Ask, number: usize, stop: &AtomicBool, answered: &AtomicU64) -> Tally {
    let (mut tally, mut connection) = (Tally::default(), None);
    while !stop.load(Ordering::Relaxed) {
        let body = format!("{number}-{}", tally.all()).repeat(40);
        match once(to, host, ask, &body, &mut connection) {
            Ok(()) => {
                tally.answered += 1;
                answered.fetch_add(1, Ordering::Relaxed);
            }
            Err(cause) => {
                connection = None;
                tally.failed += 1;
                if tally.why.len() < TOLD {
                    tally.why.push(format!("{ask:?} {}: {cause:#}", tally.all()));
                }
            }
        }
        std::thread::sleep(PAUSE);
    }
    tally
}

fn once(to: SocketAddr, host: &str, ask: Ask, body: &str, connection: &mut Option<TcpStream>) -> Result<()> {
    let mut io = match connection.take() {
        Some(io) => io,
        None => {
            let io = TcpStream::connect_timeout(&to, TIMEOUT).context("could not connect")?;
            io.set_nodelay(true)?;
            io.set_read_timeout(Some(TIMEOUT))?;
            io.set_write_timeout(Some(TIMEOUT))?;
            io
        }
    };
    let request = match ask {
        Ask::Get => format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        Ask::Post => {
            format!("POST /echo HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        }
    };
    io.write_all(request.as_bytes()).context("could not send")?;
    let (head, came) = answer(&mut io)?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    ensure!(status == "200", "answered {status}: {}", came.chars().take(80).collect::<String>());
    ensure!(ask == Ask::Get || came == body, "another body came back than was sent");
    if !head.to_ascii_lowercase().contains("connection: close") {
        *connection = Some(io);
    }
    Ok(())
}

/// A head, and the body of its stated length.
fn answer(io: &mut TcpStream) -> Result<(String, String)> {
    let (mut bytes, mut part) = (Vec::new(), [0; 8192]);
    let mut whole = None;
    loop {
        if whole.is_none()
            && let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n")
        {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
            });
            whole = Some((end + 4, length.context("an answer without a length")?, head));
        }
        if let Some((from, length, head)) = &whole
            && let Some(body) = bytes.get(*from..from + length)
        {
            return Ok((head.clone(), String::from_utf8_lossy(body).into_owned()));
        }
        match io.read(&mut part) {
            Ok(0) => bail!("the connection ended after {} bytes of an answer", bytes.len()),
            Ok(n) => bytes.extend_from_slice(&part[..n]),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e).context(format!("the connection broke after {} bytes of an answer", bytes.len())),
        }
    }
}
