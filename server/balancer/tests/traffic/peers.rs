//! The two ends that a balancer stands between: an app that is a small thread, a client that is bytes.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Whatever a test waits for, it does not wait longer.
const DEADLINE: Duration = Duration::from_secs(20);

pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < DEADLINE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub fn hello() -> String {
    "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n".to_owned()
}

/// A request's head, and what came with it; `None` at the end.
pub fn read_head(io: &mut impl Read) -> Option<(String, Vec<u8>)> {
    let (mut bytes, mut part) = (Vec::new(), [0; 8192]);
    loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return Some((String::from_utf8_lossy(&bytes).into_owned(), rest));
        }
        match io.read(&mut part) {
            Ok(n @ 1..) => bytes.extend_from_slice(&part[..n]),
            _ => return None,
        }
    }
}

/// Breaks a connection off, whoever else has a copy of it.
pub fn reset(io: &TcpStream) -> io::Result<()> {
    // What was written has to arrive first: a reset may overtake nothing, but it may be read first.
    std::thread::sleep(Duration::from_millis(50));
    let nowhere = nix::libc::sockaddr { sa_family: nix::libc::AF_UNSPEC as u16, sa_data: [0; 14] };
    // SAFETY: the address is a valid one of its stated size; this disconnects the socket (connect(2)).
    let done = unsafe { nix::libc::connect(io.as_raw_fd(), &nowhere, size_of_val(&nowhere) as u32) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[derive(Default)]
struct Counts {
    connections: AtomicU64,
    requests: AtomicU64,
    ended: AtomicU64,
    killed: AtomicBool,
    sockets: Mutex<Vec<TcpStream>>,
}

/// One instance: a listener, and a thread a connection.
pub struct App {
    pub address: SocketAddr,
    counts: Arc<Counts>,
}

impl App {
    /// Answers each request (without its body, which must come with the head) by `answer`.
    pub fn start(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        Self::listen(move |mut io, counts| {
            while let Some((head, _)) = read_head(&mut io) {
                counts.requests.fetch_add(1, SeqCst);
                io.write_all(answer(&head).as_bytes())?;
            }
            Ok(())
        })
    }

    /// Does with each connection what `serve` does, then closes it.
    pub fn raw(serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self::listen(move |io, _| serve(io))
    }

    fn listen(serve: impl Fn(TcpStream, &Counts) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (counts, serve) = (Arc::new(Counts::default()), Arc::new(serve));
        let of_thread = Arc::clone(&counts);
        std::thread::spawn(move || {
            for io in listener.incoming().map_while(Result::ok) {
                let counts = Arc::clone(&of_thread);
                let mut sockets = counts.sockets.lock().unwrap();
                if counts.killed.load(SeqCst) {
                    return;
                }
                sockets.push(io.try_clone().unwrap());
                drop(sockets);
                counts.connections.fetch_add(1, SeqCst);
                let serve = Arc::clone(&serve);
                std::thread::spawn(move || {
                    let closer = io.try_clone().unwrap();
                    let _ = serve(io, &counts);
                    let _ = closer.shutdown(Shutdown::Both);
                    counts.ended.fetch_add(1, SeqCst);
                });
            }
        });
        Self { address, counts }
    }

    pub fn connections(&self) -> u64 {
        self.counts.connections.load(SeqCst)
    }

    pub fn open(&self) -> u64 {
        self.connections() - self.counts.ended.load(SeqCst)
    }

    pub fn requests(&self) -> u64 {
        self.counts.requests.load(SeqCst)
    }

    /// Ends like a process: listener and connections at once.
    pub fn kill(&self) {
        let sockets = self.counts.sockets.lock().unwrap();
        self.counts.killed.store(true, SeqCst);
        sockets.iter().for_each(|io| drop(io.shutdown(Shutdown::Both)));
        drop(sockets);
        // Wakes the listener's thread, which then drops it.
        let _ = TcpStream::connect(self.address);
        eventually("the listener to be gone", || TcpStream::connect(self.address).is_err());
    }
}

impl Drop for App {
    fn drop(&mut self) {
        if !self.counts.killed.load(SeqCst) {
            self.kill();
        }
    }
}

pub struct Client {
    io: TcpStream,
    held: Vec<u8>,
    /// How many bytes ever came.
    pub got: u64,
}

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Client {
    pub fn to(address: SocketAddr) -> Self {
        let io = TcpStream::connect(address).unwrap();
        io.set_nodelay(true).unwrap();
        io.set_read_timeout(Some(DEADLINE)).unwrap();
        io.set_write_timeout(Some(DEADLINE)).unwrap();
        Self { io, held: Vec::new(), got: 0 }
    }

    /// A write may fail when the other side already answered; the answer is what counts.
    pub fn send(&mut self, bytes: &str) {
        let _ = self.io.write_all(bytes.as_bytes());
    }

    pub fn end(&mut self) {
        self.io.shutdown(Shutdown::Write).unwrap();
    }

    fn fill(&mut self) -> usize {
        let mut part = [0; 65536];
        let n = self.io.read(&mut part).expect("an answer in time");
        self.held.extend_from_slice(&part[..n]);
        self.got += n as u64;
        n
    }

    pub fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.held.windows(4).position(|w| w == b"\r\n\r\n") {
                let rest = self.held.split_off(end + 4);
                return String::from_utf8(std::mem::replace(&mut self.held, rest)).unwrap();
            }
            assert!(self.fill() > 0, "the connection ended within a head: {:?}", String::from_utf8_lossy(&self.held));
        }
    }

    pub fn exactly(&mut self, n: usize) -> String {
        String::from_utf8(self.bytes(n)).unwrap()
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        while self.held.len() < n {
            assert!(self.fill() > 0, "the connection ended within a body");
        }
        let rest = self.held.split_off(n);
        std::mem::replace(&mut self.held, rest)
    }

    /// One answer; a chunked body with its framing.
    pub fn answer(&mut self) -> Answer {
        let head = self.head();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let length = head.split("Content-Length: ").nth(1).and_then(|l| l.lines().next()).map(|l| l.parse().unwrap());
        let body = match length {
            Some(length) => self.bytes(length),
            None if head.contains("Transfer-Encoding: chunked") => {
                let ends = |held: &[u8]| held.windows(4).position(|w| w == b"\r\n\r\n");
                while ends(&self.held).is_none() {
                    assert!(self.fill() > 0, "the connection ended within chunks");
                }
                let end = ends(&self.held).unwrap() + 4;
                self.bytes(end)
            }
            None => Vec::new(),
        };
        Answer { status, head, body }
    }

    pub fn ask(&mut self, request: &str) -> Answer {
        self.send(request);
        self.answer()
    }

    /// All that comes until the end.
    pub fn rest(&mut self) -> String {
        while self.fill() > 0 {}
        String::from_utf8(std::mem::take(&mut self.held)).unwrap()
    }

    /// All that comes until the connection is reset; its orderly end is a failure.
    pub fn until_it_breaks(&mut self) -> String {
        let mut part = [0; 4096];
        loop {
            match self.io.read(&mut part) {
                Ok(0) => panic!("it ended as if it were whole: {:?}", String::from_utf8_lossy(&self.held)),
                Ok(n) => self.held.extend_from_slice(&part[..n]),
                Err(e) => {
                    assert_eq!(e.kind(), io::ErrorKind::ConnectionReset);
                    return String::from_utf8(std::mem::take(&mut self.held)).unwrap();
                }
            }
        }
    }

    pub fn is_closed(&mut self) -> bool {
        self.held.is_empty() && self.fill() == 0
    }
}
