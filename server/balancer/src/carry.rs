//! One request on its way: to the upstream with its body, and the answer back, both at once.
//!
//! What is written towards one side is never more than what was read from the other, so a slow
//! reader slows its writer and nothing piles up. Bodies pass unchanged; decoders only find the end.

use std::cell::Cell;
use std::io;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::net::TcpStream;

use crate::buffer::Buffer;
use crate::frame::{Body, Decoder, FrameError};
use crate::head::{After, Method, Response, Scan, Version};
use crate::meters::Slot;
use crate::socket::{Socket, poll_write_both};
use crate::timer::Timer;
use crate::{Timeouts, ms};

/// The request's part of the input: a head of `begin` bytes, then of its body `known` bytes up to
/// where, of which those up to `sent` went on.
pub struct Inbound {
    decoder: Decoder,
    begin: usize,
    known: usize,
    sent: usize,
    /// All that was sent is still in the input.
    replayable: bool,
}

impl Inbound {
    pub fn new(body: Body, head: usize, input: &Buffer) -> Result<Self, FrameError> {
        let mut decoder = Decoder::new(body);
        let known = head + decoder.advance(&input.bytes()[head..])?;
        Ok(Self { decoder, begin: head, known, sent: head, replayable: true })
    }

    /// Nothing of the request is still to come.
    pub fn is_whole(&self) -> bool {
        self.decoder.is_done()
    }

    /// It has a body, and no byte of it was sent.
    pub fn is_unsent(&self) -> bool {
        self.replayable && self.sent == self.begin && !(self.is_whole() && self.known == self.begin)
    }

    /// It can be sent once more, from its beginning.
    pub fn rewind(&mut self) -> bool {
        if self.replayable {
            self.sent = self.begin;
        }
        self.replayable
    }

    /// Forgets the request; what is left in the input is the next one.
    pub fn finish(&mut self, input: &mut Buffer) {
        input.consume(self.known);
        (self.begin, self.known, self.sent, self.replayable) = (0, 0, 0, false);
    }
}

/// How it ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// The client has the whole answer.
    Done { upstream_reusable: bool, after: After },
    /// The upstream switched protocols; what it said after that is in `output`.
    Tunnel,
    /// The client has nothing of an answer.
    Failed(Failure),
    /// The client has a part of the answer: nothing is left but to close.
    Broken(Fault),
    /// The client left.
    Aborted,
}

/// Whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    App,
    Client,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// The connection ended before a byte of an answer.
    Died,
    /// What came is not an answer.
    Garbled(&'static str),
    TooLate,
    ClientTooLate,
    /// The client's body turned out malformed on the way.
    BadBody(&'static str),
}

/// What was asked, as far as the way back depends on it.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    pub method: Method,
    pub version: Version,
    pub upgrade: bool,
    pub after: After,
}

/// More interim answers (1xx) than this are not an answer.
const INTERIM_MAX: u32 = 16;

pub struct Carry<'a> {
    pub client: &'a mut TcpStream,
    pub input: &'a mut Buffer,
    pub inbound: &'a mut Inbound,
    pub upstream: &'a mut Socket,
    pub timer: &'a mut Timer,
    pub timeouts: &'a Timeouts,
    /// The request's head as the upstream gets it.
    pub head: &'a [u8],
    pub asked: Asked,
    /// The balancer ends: an answer that begins now is the connection's last.
    pub stopping: &'a Cell<bool>,
    /// Of the app, if it is one's.
    pub meter: Option<&'a Slot>,
    pub way: Way,
}

/// How far it got.
#[derive(Default)]
pub struct Way {
    /// Bytes that moved, in any direction.
    moved: u64,
    waited: bool,
    head_sent: usize,
    /// The upstream takes no more of the request; its answer may still come.
    refused: bool,
    /// The upstream broke the connection off, it did not just end it.
    reset: bool,

    /// From the upstream: `ready` bytes go to the client (after `out`), the rest is not looked at yet.
    pub output: Buffer,
    ready: usize,
    /// A head in place of the one that came.
    out: Vec<u8>,
    out_sent: usize,
    scan: Scan,
    /// A byte came from the upstream.
    pub heard: bool,
    interim: u32,
    answer: Option<Answer>,
    switched: bool,
    /// The client got a part of what cannot be taken back.
    begun: bool,
}

struct Answer {
    status: u16,
    /// When its head was whole.
    came: Instant,
    decoder: Decoder,
    after: After,
    unframe: bool,
    persistent: bool,
    surplus: bool,
}

impl Way {
    /// Of the answer, once its head came.
    pub fn status(&self) -> Option<u16> {
        self.answer.as_ref().map(|answer| answer.status)
    }

    /// When the answer's head came.
    pub fn came(&self) -> Option<Instant> {
        self.answer.as_ref().map(|answer| answer.came)
    }

    pub fn nothing_sent(&self) -> bool {
        self.head_sent == 0
    }

    pub fn was_reset(&self) -> bool {
        self.reset
    }
}

impl Carry<'_> {
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let before = self.way.moved;
        if let Err(end) = self.request(cx) {
            return Poll::Ready(end);
        }
        if let Poll::Ready(end) = self.response(cx) {
            return Poll::Ready(end);
        }
        if self.way.moved != before || !self.way.waited {
            self.way.waited = true;
            let waiting = self.sent_all() && self.way.answer.is_none();
            let limit = if waiting { self.timeouts.answer_ms } else { self.timeouts.stall_ms };
            self.timer.set(ms(limit));
        }
        self.timer.poll(cx).map(|()| {
            let reads = self.way.ready > 0 || self.way.out_sent < self.way.out.len();
            let sends = !self.sent_all() && self.inbound.sent == self.inbound.known && !self.way.refused;
            self.fail(if reads || sends { Failure::ClientTooLate } else { Failure::TooLate })
        })
    }

    fn fail(&self, failure: Failure) -> End {
        match failure {
            failure if !self.way.begun => End::Failed(failure),
            Failure::ClientTooLate | Failure::BadBody(_) => End::Broken(Fault::Client),
            Failure::Died | Failure::Garbled(_) | Failure::TooLate => End::Broken(Fault::App),
        }
    }

    fn sent_all(&self) -> bool {
        self.inbound.is_whole() && self.inbound.sent == self.inbound.known && self.way.head_sent == self.head.len()
    }

    /// Moves the request on as far as it goes; an error ends it all.
    fn request(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        while !self.way.refused && !self.sent_all() {
            let head = &self.head[self.way.head_sent..];
            let body = &self.input.bytes()[self.inbound.sent..self.inbound.known];
            if !head.is_empty() || !body.is_empty() {
                match poll_write_both(self.upstream, cx, head, body) {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(Ok(n)) => {
                        self.way.moved += n as u64;
                        let of_head = n.min(head.len());
                        self.way.head_sent += of_head;
                        self.inbound.sent += n - of_head;
                    }
                    // It may have answered first and closed.
                    Poll::Ready(Err(cause)) => {
                        self.way.refused = true;
                        self.way.reset |= cause.kind() == io::ErrorKind::ConnectionReset;
                    }
                }
                continue;
            }
            if self.input.is_full() {
                self.inbound.finish(self.input);
            }
            let held = self.input.len();
            match self.input.poll_fill(self.client, cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(0) | Err(_)) => return Err(End::Aborted),
                Poll::Ready(Ok(n)) => {
                    self.way.moved += n as u64;
                    match self.inbound.decoder.advance(&self.input.bytes()[held..]) {
                        Ok(taken) => self.inbound.known += taken,
                        Err(FrameError(why)) => return Err(self.fail(Failure::BadBody(why))),
                    }
                }
            }
        }
        if !self.sent_all() {
            return Ok(());
        }
        if self.way.heard && self.inbound.known > 0 {
            self.inbound.finish(self.input);
        }
        // The client may leave, or begin its next request; one read's worth of that waits here.
        if self.input.len() == self.inbound.known && !self.input.is_full() {
            match self.input.poll_fill(self.client, cx) {
                Poll::Pending | Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0) | Err(_)) => return Err(End::Aborted),
            }
        }
        Ok(())
    }

    fn response(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            let way = &mut self.way;
            if way.ready > 0 || way.out_sent < way.out.len() {
                match poll_write_both(self.client, cx, &way.out[way.out_sent..], &way.output.bytes()[..way.ready]) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Err(_)) => return Poll::Ready(End::Aborted),
                    Poll::Ready(Ok(n)) => {
                        way.moved += n as u64;
                        if let Some(meter) = self.meter {
                            meter.count_bytes(n);
                        }
                        let of_head = n.min(way.out.len() - way.out_sent);
                        way.out_sent += of_head;
                        way.ready -= n - of_head;
                        way.output.consume(n - of_head);
                        // A whole interim answer leaves the way open for any other.
                        way.begun |= way.answer.is_some() || way.switched;
                        way.begun |= way.ready > 0 || way.out_sent < way.out.len();
                        continue;
                    }
                }
            }
            if way.switched {
                return Poll::Ready(End::Tunnel);
            }
            if way.answer.as_ref().is_some_and(|answer| answer.decoder.is_done()) {
                return Poll::Ready(self.done());
            }
            if way.answer.is_none() && !way.output.is_empty() {
                match self.head_of_answer() {
                    Ok(true) => continue,
                    Ok(false) => {}
                    Err(why) => return Poll::Ready(self.fail(Failure::Garbled(why))),
                }
            }
            match self.way.output.poll_fill(self.upstream, cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(n @ 1..)) => {
                    self.way.moved += n as u64;
                    self.way.heard = true;
                    if self.way.answer.is_some()
                        && let Err(FrameError(why)) = self.take_body(0)
                    {
                        return Poll::Ready(self.fail(Failure::Garbled(why)));
                    }
                }
                Poll::Ready(ended) => match &mut self.way.answer {
                    Some(answer) => {
                        // A reset is not an end, not even of a body that ends with its connection.
                        if ended.is_err() || answer.decoder.finish().is_err() {
                            return Poll::Ready(self.fail(Failure::Garbled("it broke off")));
                        }
                    }
                    None if self.way.heard => return Poll::Ready(self.fail(Failure::Garbled("it broke off"))),
                    None => {
                        self.way.reset |= ended.is_err_and(|e| e.kind() == io::ErrorKind::ConnectionReset);
                        return Poll::Ready(self.fail(Failure::Died));
                    }
                },
            }
        }
    }

    /// Understands the head that `output` begins with; `false` if it is not whole yet.
    fn head_of_answer(&mut self) -> Result<bool, &'static str> {
        let sent_all = self.sent_all();
        let way = &mut self.way;
        let length = match way.scan.end(way.output.bytes()) {
            Ok(Some(length)) => length,
            Ok(None) => return Ok(false),
            Err(_) => return Err("its head is too long or malformed"),
        };
        way.scan = Scan::default();
        let head = &way.output.bytes()[..length];
        let response = Response::parse(head, self.asked.method)?;
        match response.status {
            101 if self.asked.upgrade && sent_all => {
                way.switched = true;
                way.ready = length;
                return Ok(true);
            }
            101 => return Err("it switched protocols unasked"),
            100..=199 => {
                way.interim += 1;
                if way.interim > INTERIM_MAX {
                    return Err("it sends interim answers without end");
                }
                if self.asked.version == Version::Http10 {
                    way.output.consume(length);
                } else if let Some(out) = response.client(head, After::Keep, false) {
                    (way.out, way.out_sent) = (out, 0);
                    way.output.consume(length);
                } else {
                    way.ready = length;
                }
                return Ok(true);
            }
            _ => {}
        }
        let chunked = response.body == Body::Chunked;
        let unframe = chunked && self.asked.version == Version::Http10;
        // An answer before the request's end: what the client still sends could not be told from
        // its next request.
        let closes = !sent_all
            || response.body == Body::UntilClose
            || self.asked.version == Version::Http10
            || self.stopping.get();
        let after = if closes { After::Close } else { self.asked.after };
        let untouched = match response.client(head, after, self.asked.version == Version::Http10) {
            None => length,
            Some(out) => {
                (way.out, way.out_sent) = (out, 0);
                way.output.consume(length);
                0
            }
        };
        way.answer = Some(Answer {
            status: response.status,
            came: Instant::now(),
            decoder: Decoder::new(response.body),
            after,
            unframe,
            persistent: response.persistent && response.body != Body::UntilClose,
            surplus: false,
        });
        self.take_body(untouched).map_err(|FrameError(why)| why)?;
        Ok(true)
    }

    /// Finds out how much of `output` from `from` on is the answer's body; all before goes out too.
    fn take_body(&mut self, from: usize) -> Result<(), FrameError> {
        let way = &mut self.way;
        let Some(answer) = &mut way.answer else { return Ok(()) };
        let came = way.output.len() - from;
        let (taken, kept) = if came == 0 {
            (0, 0)
        } else if answer.unframe {
            answer.decoder.unframe(&mut way.output.bytes_mut()[from..])?
        } else {
            let taken = answer.decoder.advance(&way.output.bytes()[from..])?;
            (taken, taken)
        };
        answer.surplus |= taken < came;
        way.ready = from + kept;
        way.output.truncate(way.ready);
        Ok(())
    }

    fn done(&self) -> End {
        let Some(answer) = &self.way.answer else { return End::Broken(Fault::App) };
        let sent_all = self.sent_all();
        End::Done {
            upstream_reusable: sent_all && !self.way.refused && !answer.surplus && answer.persistent,
            after: if sent_all { answer.after } else { After::Close },
        }
    }
}
