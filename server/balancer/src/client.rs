//! One client's connection: request after request, each carried to the site or an instance, or
//! answered here.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use domain::InstanceId;
use domain::wire::RouteState;
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::buffer::Buffer;
use crate::carry::{Asked, Carry, End, Failure, Fault, Inbound, Way as Course};
use crate::frame::FrameError;
use crate::head::{After, Forwarded, Refusal, Request, Scan};
use crate::hold::{self, Waited};
use crate::ms;
use crate::pages::{self, Page, Way};
use crate::pool::Peer;
use crate::sample::Class;
use crate::socket::{Socket, poll_write_both};
use crate::table::{App, Habit, Open, Outlook, lower_case};
use crate::timer::Timer;
use crate::tunnel::tunnel;
use crate::worker::{LAST_REQUESTS, Presence, Worker};

/// Empty lines before a request, which old clients send (RFC 9112 §2.2).
const EMPTY_LINES_MAX: u32 = 4;
/// After a last answer: how long, and how many reads, the client's rest is still listened to.
/// Closing at once would take the answer away from it.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_READS: u32 = 64;
/// When connections become scarce, idle ones go first.
const IDLE_WHEN_SCARCE: Duration = Duration::from_secs(1);

/// Before an instance that closed a connection is asked once more: if it is ending, its listener is
/// then gone, and the request can wait for its successor.
const SAME_AGAIN: Duration = Duration::from_millis(50);

pub struct Client {
    io: TcpStream,
    address: String,
    input: Buffer,
    timer: Timer,
    worker: Rc<Worker>,
    presence: Presence,
}

/// Whom a host belongs to.
enum Place {
    Site,
    App(Arc<App>),
    Nobody,
}

enum Head {
    Whole(usize),
    /// The client left, or stayed silent for too long.
    Gone,
    Refused(Refusal),
    TooLate,
}

/// What becomes of a request whose connection was refused.
enum Next {
    /// Another instance may take it: the one retry that a request has.
    Other,
    /// No instance is up.
    Wait,
    /// The instance left meanwhile: it was just not meant any more.
    Left,
    Fail,
}

/// A request on its way to be answered.
struct Task<'a> {
    request: &'a Request,
    /// When its head was whole.
    began: Instant,
    id: &'a [u8],
    /// As the upstream gets it.
    head: &'a [u8],
    inbound: Inbound,
}

impl Client {
    pub fn new(io: TcpStream, address: String, worker: Rc<Worker>, presence: Presence) -> Self {
        let timer = Timer::new(ms(worker.shared.config.timeouts.idle_ms));
        Self { io, address, input: Buffer::default(), timer, worker, presence }
    }

    pub async fn serve(mut self) {
        loop {
            let length = match self.head().await {
                Head::Whole(length) => length,
                Head::Gone => return,
                Head::Refused(refusal) => return self.refuse(refusal).await,
                Head::TooLate => {
                    return self.last_words(&pages::refuse("408 Request Timeout", "the request took too long")).await;
                }
            };
            let request = match Request::parse(&self.input.bytes()[..length]) {
                Ok(request) => request,
                Err(refusal) => return self.refuse(refusal).await,
            };
            self.presence.busy();
            match self.request(&request, length).await {
                Some(After::Keep) => {}
                Some(After::Close) => return self.linger().await,
                None => return,
            }
        }
    }

    /// Waits for a whole head.
    async fn head(&mut self) -> Head {
        let (mut scan, mut empty_lines, mut begun) = (Scan::default(), 0, false);
        self.presence.idle();
        self.timer.set(self.idle());
        poll_fn(|cx| {
            loop {
                if !self.input.is_empty() {
                    match scan.end(self.input.bytes()) {
                        Ok(Some(2)) if empty_lines < EMPTY_LINES_MAX => {
                            self.input.consume(2);
                            empty_lines += 1;
                            scan = Scan::default();
                            continue;
                        }
                        Ok(Some(length)) => return Poll::Ready(Head::Whole(length)),
                        Ok(None) => {}
                        Err(refusal) => return Poll::Ready(Head::Refused(refusal)),
                    }
                }
                match self.input.poll_fill(&mut self.io, cx) {
                    Poll::Ready(Ok(1..)) => {}
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Head::Gone),
                    Poll::Pending => {
                        if !self.input.is_empty() && !begun {
                            begun = true;
                            self.timer.set(ms(self.worker.shared.config.timeouts.head_ms));
                        }
                        let late = || if begun { Head::TooLate } else { Head::Gone };
                        return self.timer.poll(cx).map(|()| late());
                    }
                }
            }
        })
        .await
    }

    fn idle(&self) -> Duration {
        let idle = ms(self.worker.shared.config.timeouts.idle_ms);
        // It was not told that the connection ends: its next request may be on its way.
        if self.worker.is_stopping() {
            return idle.min(LAST_REQUESTS);
        }
        if self.worker.is_scarce() { idle.min(IDLE_WHEN_SCARCE) } else { idle }
    }

    /// Answers one request; `None`: the connection is of no use any more.
    async fn request(&mut self, request: &Request, length: usize) -> Option<After> {
        let began = Instant::now();
        let place = self.place(&self.input.bytes()[request.host.clone()]);
        // Here and nowhere else: however it ends, it was a request for the app.
        if let Place::App(app) = &place {
            app.meter.count();
            app.budget().earn();
        }
        let bytes = &self.input.bytes()[..length];
        let made;
        let id: &[u8] = match request.request_id.clone() {
            Some(range) => &bytes[range],
            None => {
                made = hex(rand::random());
                &made
            }
        };
        let id = id.to_vec();
        let mut head = Vec::new();
        let forwarded = Forwarded { address: &self.address, proto: "http", request_id: &id };
        request.upstream(bytes, &forwarded, &mut head);
        let inbound = match Inbound::new(request.body, length, &self.input) {
            Ok(inbound) => inbound,
            Err(FrameError(why)) => {
                self.last_words(&pages::refuse("400 Bad Request", why)).await;
                return None;
            }
        };
        let task = Task { request, began, id: &id, head: &head, inbound };
        match place {
            Place::Site => self.upstream(task, None).await,
            Place::App(app) => match app.state {
                RouteState::Live => self.upstream(task, Some(&app)).await,
                RouteState::Empty => {
                    app.seen.count(Class::ClientError, None);
                    self.page(task, Page::Empty { app: app.name.as_str() }).await
                }
                RouteState::Stopped => {
                    app.seen.count(Class::Unanswered, None);
                    self.page(task, Page::Stopped { app: app.name.as_str() }).await
                }
            },
            Place::Nobody => {
                let host = String::from_utf8_lossy(&self.input.bytes()[request.host.clone()]).into_owned();
                self.page(task, Page::NoSuchApp { host: &host }).await
            }
        }
    }

    fn place(&self, host: &[u8]) -> Place {
        let shared = &self.worker.shared;
        let mut lower = [0; 255];
        if lower_case(host, &mut lower)
            .is_some_and(|host| shared.config.site_hosts.iter().any(|site| site.as_str() == host))
        {
            return Place::Site;
        }
        shared.table.load().host(host).map_or(Place::Nobody, |app| Place::App(Arc::clone(app)))
    }

    /// Carries a request to the site (no `app`) or an instance of `app`, and to a second one where
    /// that is safe.
    async fn upstream(&mut self, mut task: Task<'_>, app: Option<&Arc<App>>) -> Option<After> {
        let (mut not, mut retried, mut anew) = (None, false, false);
        let (mut waits, mut held) = (false, None);
        loop {
            let (peer, open) = match app {
                None => (Peer::Site, None),
                Some(app) => match if waits { None } else { self.choose(app, not, anew) } {
                    Some(open) => (Peer::Instance(Arc::clone(open.instance())), Some(open)),
                    // Boxed, as all that is rare: every connection's task is as large as its largest future.
                    None => match Box::pin(hold::wait(&self.worker.shared, app.id, &mut held, &self.io)).await {
                        Waited::Again => {
                            (waits, not) = (false, None);
                            continue;
                        }
                        Waited::InVain => {
                            return self.failed_page(task, app, Page::NoInstance { app: app.name.as_str() }).await;
                        }
                        Waited::Alone => return None,
                    },
                },
            };
            let once = !task.request.method.is_idempotent();
            let pooled = if anew { None } else { self.pooled(&peer, once) };
            let reused = pooled.is_some();
            let mut upstream = match pooled {
                Some(upstream) => upstream,
                None => match self.connect(&peer).await {
                    Ok(upstream) => upstream,
                    Err(cause) => {
                        let Some((app, open)) = app.zip(open) else {
                            self.worker.say(|| warn!(%cause, "the site takes no connection"));
                            return self.page(task, Page::SiteAway).await;
                        };
                        // Nothing was sent: any other instance may have it.
                        match self.refused(app, &open, &cause, retried) {
                            Next::Other => {
                                retried = true;
                                not = Some(open.instance().id);
                            }
                            Next::Wait => waits = true,
                            Next::Left => {}
                            Next::Fail => {
                                return self.failed_page(task, app, Page::NoInstance { app: app.name.as_str() }).await;
                            }
                        }
                        continue;
                    }
                },
            };
            drop(held.take());
            let taken = if once { upstream.taken() } else { None };
            let after = if task.request.persistent { After::Keep } else { After::Close };
            let asked = Asked {
                method: task.request.method,
                version: task.request.version,
                upgrade: task.request.upgrade.is_some(),
                after,
            };
            let mut carry = Carry {
                client: &mut self.io,
                input: &mut self.input,
                inbound: &mut task.inbound,
                upstream: &mut upstream,
                timer: &mut self.timer,
                timeouts: &self.worker.shared.config.timeouts,
                head: task.head,
                asked,
                stopping: &self.worker.stopping,
                meter: app.map(|app| &app.meter),
                way: Course::default(),
            };
            let end = poll_fn(|cx| carry.poll(cx)).await;
            let course = carry.way;
            if let (Some(app), Some(open)) = (app, &open) {
                self.heard(app, open, &course, &end, task.began);
            }
            match end {
                End::Done { upstream_reusable, after } => {
                    task.inbound.finish(&mut self.input);
                    if reused {
                        peer.seen(Habit::Keeps);
                    }
                    if upstream_reusable {
                        self.worker.pool.borrow_mut().give(peer, upstream);
                    }
                    return Some(after);
                }
                End::Tunnel => {
                    task.inbound.finish(&mut self.input);
                    let idle = ms(self.worker.shared.config.timeouts.tunnel_ms);
                    let input = std::mem::take(&mut self.input);
                    let meter = app.map(|app| &app.meter);
                    tunnel(&mut self.io, &mut upstream, input, course.output, meter, &mut self.timer, idle).await;
                    return None;
                }
                End::Aborted => return None,
                End::Broken(_) => {
                    reset(&self.io);
                    return None;
                }
                End::Failed(Failure::Died) => {
                    // An idle connection that was closed as the request went out (RFC 9110 §9.2.2).
                    if reused {
                        self.worker.pool.borrow_mut().forget(&peer);
                    }
                    // Ended, not broken off: what its kernel had not taken by then, nobody there has read.
                    let unread = || taken.is_some() && !course.was_reset() && upstream.taken() == taken;
                    let safe = !once || course.nothing_sent() || task.inbound.is_unsent() || unread();
                    let again = safe && !retried && task.inbound.rewind() && app.is_none_or(|app| app.budget().spend());
                    if again {
                        (retried, anew) = (true, true);
                        not = open.map(|open| open.instance().id);
                        if app.is_some_and(|app| self.choose(app, not, false).is_none()) {
                            Box::pin(sleep(SAME_AGAIN)).await;
                        }
                        continue;
                    }
                    return self.no_answer(task, app, open, "it closed the connection").await;
                }
                End::Failed(Failure::Garbled(why)) => return self.no_answer(task, app, open, why).await,
                End::Failed(Failure::TooLate) => match app {
                    Some(app) => {
                        if let Some(open) = &open {
                            self.blame(app, open, "it did not answer in time");
                        }
                        return self.failed_page(task, app, Page::TooLate { app: app.name.as_str() }).await;
                    }
                    None => return self.page(task, Page::SiteAway).await,
                },
                End::Failed(Failure::ClientTooLate) => {
                    app.inspect(|app| app.seen.count(Class::ClientError, None));
                    self.last_words(&pages::refuse("408 Request Timeout", "the body took too long")).await;
                    return None;
                }
                End::Failed(Failure::BadBody(why)) => {
                    app.inspect(|app| app.seen.count(Class::ClientError, None));
                    self.last_words(&pages::refuse("400 Bad Request", why)).await;
                    return None;
                }
            }
        }
    }

    /// What an exchange says about its instance. A client's end, its silence, or a malformed body of
    /// its own says nothing.
    fn heard(&self, app: &App, open: &Open, course: &Course, end: &End, began: Instant) {
        let instance = open.instance();
        let class = match end {
            End::Broken(Fault::App) => Some(Class::ServerError),
            End::Tunnel => Some(Class::Ok),
            // It is tried again, or a page answers.
            End::Failed(_) => None,
            End::Done { .. } | End::Broken(Fault::Client) | End::Aborted => course.status().map(Class::of),
        };
        if let Some(class) = class {
            let came = course.came().unwrap_or_else(Instant::now);
            app.seen.count(class, Some(came.saturating_duration_since(began)));
        }
        if course.heard {
            instance.connected();
        }
        if *end == End::Broken(Fault::App) {
            app.meter.count_error();
            self.blame(app, open, "it broke off");
        } else if course.status().is_some_and(|status| status >= 500) {
            app.meter.count_error();
            instance.failed(self.worker.shared.now_ms());
        } else if matches!(end, End::Done { .. } | End::Tunnel) {
            instance.answered();
        }
    }

    /// An instance of the app as it is now: it may have changed since the request came.
    fn choose(&self, app: &App, not: Option<InstanceId>, same_will_do: bool) -> Option<Open> {
        let shared = &self.worker.shared;
        let table = shared.table.load();
        let app = table.app(app.id)?;
        let other = app.choose(shared, not);
        if other.is_none() && same_will_do { app.choose(shared, None) } else { other }
    }

    fn pooled(&self, peer: &Peer, once: bool) -> Option<Socket> {
        let habit = peer.habit();
        // The site's process may just be giving way to its successor.
        let new_only = habit == Habit::Closes || once && (habit == Habit::Unknown || matches!(peer, Peer::Site));
        if new_only {
            return None;
        }
        let mut pool = self.worker.pool.borrow_mut();
        loop {
            let socket = pool.take(peer)?;
            if (!once && habit == Habit::Keeps) || socket.is_surely_quiet() {
                return Some(socket);
            }
        }
    }

    async fn connect(&self, peer: &Peer) -> io::Result<Socket> {
        let shared = &self.worker.shared;
        let connecting = async {
            match peer {
                Peer::Site => UnixStream::connect(&shared.config.web_socket).await.map(Socket::Unix),
                Peer::Instance(instance) => {
                    let tcp = tokio::select! {
                        biased;
                        tcp = TcpStream::connect(instance.address) => tcp?,
                        // It crashed or stopped: nobody answers there any more, not even with a refusal.
                        () = instance.left(shared) => return Err(io::ErrorKind::ConnectionRefused.into()),
                    };
                    tcp.set_nodelay(true)?;
                    Ok(Socket::Tcp(tcp))
                }
            }
        };
        match timeout(ms(shared.config.timeouts.connect_ms), connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Takes an instance that takes no connection out of the choice for a while; what becomes of the request.
    fn refused(&self, app: &App, open: &Open, cause: &io::Error, retried: bool) -> Next {
        // What is short here is not the instance's fault.
        let ours = [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM, Errno::EADDRNOTAVAIL];
        if cause.raw_os_error().is_some_and(|code| ours.contains(&Errno::from_raw(code))) {
            self.worker.say(|| warn!(%cause, "no connection could be made"));
            return if !retried && app.budget().spend() { Next::Other } else { Next::Fail };
        }
        let (instance, shared) = (open.instance(), &self.worker.shared);
        if instance.has_left() {
            return Next::Left;
        }
        if instance.refused(shared.now_ms()) {
            info!(app.name = %app.name, instance.id = %instance.id, %cause, "an instance of {} takes no connection", app.name);
        }
        match shared.table.load().app(app.id).map(|app| app.outlook(shared.now_ms())) {
            Some(Outlook::Now) if retried || !app.budget().spend() => Next::Fail,
            Some(Outlook::Now) => Next::Other,
            Some(Outlook::Later | Outlook::Never) | None => Next::Wait,
        }
    }

    fn blame(&self, app: &App, open: &Open, why: &str) {
        open.instance().failed(self.worker.shared.now_ms());
        let instance = open.instance().id;
        self.worker
            .say(|| info!(app.name = %app.name, instance.id = %instance, "{} gave no whole answer: {why}", app.name));
    }

    async fn no_answer(
        &mut self,
        task: Task<'_>,
        app: Option<&Arc<App>>,
        open: Option<Open>,
        why: &str,
    ) -> Option<After> {
        match app {
            Some(app) => {
                if let Some(open) = &open {
                    self.blame(app, open, why);
                }
                self.failed_page(task, app, Page::NoAnswer { app: app.name.as_str() }).await
            }
            None => {
                self.worker.say(|| warn!("the site gave no whole answer: {why}"));
                self.page(task, Page::SiteAway).await
            }
        }
    }

    async fn failed_page(&mut self, task: Task<'_>, app: &App, page: Page<'_>) -> Option<After> {
        app.meter.count_failed();
        app.seen.count(Class::Unanswered, None);
        self.page(task, page).await
    }

    /// A page of our own. The connection goes on if the request is whole.
    async fn page(&mut self, mut task: Task<'_>, page: Page<'_>) -> Option<After> {
        let keep = task.request.persistent && task.inbound.is_whole() && !self.worker.is_stopping();
        let after = if keep { After::Keep } else { After::Close };
        let way = Way { method: task.request.method, html: task.request.html, after, request_id: task.id };
        let answer = self.worker.shared.pages.answer(page, &way);
        task.inbound.finish(&mut self.input);
        self.write(&answer).await.ok()?;
        Some(after)
    }

    async fn refuse(self, refusal: Refusal) {
        let answer = match refusal {
            Refusal::Malformed(why) => pages::refuse("400 Bad Request", why),
            Refusal::TooLarge => {
                pages::refuse("431 Request Header Fields Too Large", "the request's head is too large")
            }
            Refusal::Method => pages::refuse("405 Method Not Allowed", "this is not a proxy to elsewhere"),
            Refusal::Version => {
                pages::refuse("505 HTTP Version Not Supported", "only HTTP/1.1 and HTTP/1.0 are spoken here")
            }
        };
        let mut client = self;
        client.last_words(&answer).await;
    }

    async fn last_words(&mut self, answer: &[u8]) {
        if self.write(answer).await.is_ok() {
            self.listen_on().await;
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut sent = 0;
        self.timer.set(ms(self.worker.shared.config.timeouts.stall_ms));
        poll_fn(|cx| {
            while sent < bytes.len() {
                match poll_write_both(&mut self.io, cx, &bytes[sent..], &[]) {
                    Poll::Ready(Ok(n)) => sent += n,
                    Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                    Poll::Pending => return self.timer.poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into())),
                }
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    async fn linger(mut self) {
        self.listen_on().await;
    }

    /// Says that nothing more comes, and hears the client out for a moment.
    async fn listen_on(&mut self) {
        use tokio::io::AsyncWriteExt;
        if self.io.shutdown().await.is_err() {
            return;
        }
        self.input = Buffer::default();
        self.timer.set(LINGER);
        let mut reads = 0;
        poll_fn(|cx| {
            loop {
                match self.input.poll_fill(&mut self.io, cx) {
                    Poll::Ready(Ok(n @ 1..)) => self.input.consume(n),
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                    Poll::Pending => return self.timer.poll(cx),
                }
                reads += 1;
                if reads > LINGER_READS {
                    return Poll::Ready(());
                }
            }
        })
        .await;
    }
}

/// What the client has is not the whole: its end must not look like one.
fn reset(io: &TcpStream) {
    let at_once = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    // Where it cannot be set, the connection ends all the same.
    let _ = setsockopt(io, sockopt::Linger, &at_once);
}

fn hex(id: u128) -> [u8; 32] {
    let mut out = [0; 32];
    for (i, digit) in out.iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(id >> (124 - 4 * i) & 15) as usize];
    }
    out
}
