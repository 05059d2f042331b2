//! What a command reads and writes: its channel, with or without a terminal at the other end.

use bytes::Bytes;
use commands::Kind;
use russh::server::Msg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use tokio::sync::mpsc;

use super::Stop;
use crate::session::{STDERR, Terminal};
use crate::words;

/// Pieces of input that wait to be read by the command.
const WAITING_MAX: usize = 4;
const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;
const CTRL_U: u8 = 21;

pub(crate) struct Out {
    write: ChannelWriteHalf<Msg>,
    terminal: Option<Terminal>,
}

impl Out {
    pub(crate) fn new(write: ChannelWriteHalf<Msg>, terminal: Option<Terminal>) -> Self {
        Self { write, terminal }
    }

    pub(crate) fn channel(&self) -> &ChannelWriteHalf<Msg> {
        &self.write
    }

    /// `None`: a pipe or a file, and nothing is cut.
    pub(super) fn columns(&self) -> Option<usize> {
        self.terminal.map(|terminal| terminal.columns).filter(|columns| *columns > 0)
    }

    /// A stranger's line: colours towards a terminal only, and they end with it.
    pub(super) fn line(&self, text: &str) -> String {
        match self.terminal {
            Some(_) if text.contains('\x1b') => format!("{}\x1b[0m", words::terminal(text)),
            Some(_) => words::terminal(text),
            None => words::plain(text),
        }
    }

    /// Results, to standard output: safe text. Waits for a client that reads slowly.
    pub(super) async fn say(&self, text: &str) -> Result<(), Stop> {
        self.write.data_bytes(self.bytes(text)).await.map_err(|_| Stop::Gone)
    }

    /// What is no result, to standard error.
    pub(super) async fn note(&self, text: &str) -> Result<(), Stop> {
        self.write.extended_data_bytes(STDERR, self.bytes(text)).await.map_err(|_| Stop::Gone)
    }

    fn bytes(&self, text: &str) -> Bytes {
        match self.terminal {
            Some(_) => Bytes::from(text.replace('\n', "\r\n")),
            None => Bytes::copy_from_slice(text.as_bytes()),
        }
    }
}

pub(crate) enum Hangup {
    Gone,
    /// Ctrl-C at a terminal, or a signal.
    Interrupted,
}

/// The client's side, heard for as long as the command runs.
pub(crate) struct Input {
    to: Option<mpsc::Sender<Bytes>>,
    terminal: bool,
}

impl Input {
    pub(crate) fn new(terminal: bool) -> (Self, Typed) {
        let (to, from) = mpsc::channel(WAITING_MAX);
        (Self { to: Some(to), terminal }, Typed { from: Some(from), terminal })
    }

    /// Hands on what the client sends, until it is gone. Its end of input is no end: it still listens.
    pub(crate) async fn carry(&mut self, read: &mut ChannelReadHalf) -> Hangup {
        loop {
            match read.wait().await {
                Some(ChannelMsg::Data { data }) => {
                    if self.terminal && data.contains(&CTRL_C) {
                        return Hangup::Interrupted;
                    }
                    // A command that takes no input, or no more, has dropped its end.
                    if let Some(to) = &self.to
                        && to.send(data).await.is_err()
                    {
                        self.to = None;
                    }
                }
                Some(ChannelMsg::Signal { .. }) => return Hangup::Interrupted,
                Some(ChannelMsg::Eof) => self.to = None,
                Some(ChannelMsg::Close) | None => return Hangup::Gone,
                Some(_) => {}
            }
        }
    }
}

/// What the client types or pipes in.
pub(crate) struct Typed {
    from: Option<mpsc::Receiver<Bytes>>,
    terminal: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Echo {
    Shown,
    Hidden,
}

impl Typed {
    pub(super) fn none() -> Self {
        Self { from: None, terminal: false }
    }

    /// Of a pipe everything until its end, without the last line's end; at a terminal one line, asked for by
    /// `prompt`. At most `bytes_max`.
    pub(super) async fn read(&mut self, out: &Out, prompt: &str, echo: Echo, bytes_max: usize) -> Result<String, Stop> {
        // Once: a second reader would find nothing.
        let Some(mut from) = self.from.take() else { return Ok(String::new()) };
        let read = if self.terminal {
            out.note(prompt).await?;
            line(&mut from, out, echo, bytes_max).await?
        } else {
            let mut read = Vec::new();
            while let Some(piece) = from.recv().await {
                read.extend_from_slice(&piece);
                if read.len() > bytes_max + 2 {
                    return Err(too_long(bytes_max));
                }
            }
            for end in [b'\n', b'\r'] {
                if read.last() == Some(&end) {
                    read.pop();
                }
            }
            read
        };
        if read.len() > bytes_max {
            return Err(too_long(bytes_max));
        }
        let hint = "Encode it, by base64 for instance.";
        String::from_utf8(read).map_err(|_| Stop::told(Kind::Invalid, "The input is not UTF-8.", hint))
    }
}

fn too_long(bytes_max: usize) -> Stop {
    let message = format!("The input is longer than {bytes_max} bytes.");
    Stop::Told { kind: Kind::Invalid, message, hint: None }
}

/// The terminal is in raw mode: nobody else handles its keys.
async fn line(from: &mut mpsc::Receiver<Bytes>, out: &Out, echo: Echo, bytes_max: usize) -> Result<Vec<u8>, Stop> {
    let mut line = Vec::new();
    while let Some(piece) = from.recv().await {
        for byte in piece {
            match byte {
                b'\r' | b'\n' | CTRL_D => {
                    out.note("\n").await?;
                    return Ok(line);
                }
                8 | 127 => {
                    let kept = String::from_utf8_lossy(&line).char_indices().next_back().map_or(0, |(at, _)| at);
                    if echo == Echo::Shown && !line.is_empty() {
                        out.note("\x08 \x08").await?;
                    }
                    line.truncate(kept);
                }
                CTRL_U if echo == Echo::Hidden => line.clear(),
                // A key that is no character begins so; the rest of it would only be seen.
                control if control < b' ' && control != b'\t' => {}
                _ if line.len() > bytes_max => return Err(too_long(bytes_max)),
                other => {
                    line.push(other);
                    if echo == Echo::Shown && other.is_ascii() {
                        out.note(&char::from(other).to_string()).await?;
                    }
                }
            }
        }
    }
    Ok(line)
}
