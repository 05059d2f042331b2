//! Where a body ends (RFC 9112 §6, §7). Pure: bytes go by unchanged, a strict decoder only finds
//! the end, so chunk framing, extensions and trailers arrive as they were sent.

/// How the end of a body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    None,
    Length(u64),
    Chunked,
    /// Of an answer only: it ends with its connection.
    UntilClose,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FrameError(pub &'static str);

/// A chunk's extensions, which nobody uses and some abuse.
const EXTENSION_MAX: u32 = 256;
const TRAILERS_MAX: u32 = 8 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before or within the size's digits.
    Size {
        value: u64,
        digits: u8,
    },
    Extension {
        value: u64,
        length: u32,
    },
    SizeLf {
        value: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    /// At the beginning of a trailer line, or of the empty one that ends it all.
    Line,
    /// In a trailer's name.
    Name,
    Value,
    ValueLf,
    EndLf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoder {
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Length(u64),
    Chunked { state: State, trailers: u32 },
    UntilClose,
    Done,
}

/// A stretch of a body: what the sender meant, or what only frames it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Data(usize),
    Frame(usize),
}

impl Decoder {
    pub fn new(body: Body) -> Self {
        let kind = match body {
            Body::None | Body::Length(0) => Kind::Done,
            Body::Length(n) => Kind::Length(n),
            Body::Chunked => Kind::Chunked { state: State::Size { value: 0, digits: 0 }, trailers: 0 },
            Body::UntilClose => Kind::UntilClose,
        };
        Self { kind }
    }

    pub fn is_done(&self) -> bool {
        self.kind == Kind::Done
    }

    /// The connection ended. Right only where that is what ends the body.
    pub fn finish(&mut self) -> Result<(), FrameError> {
        match self.kind {
            Kind::UntilClose | Kind::Done => {
                self.kind = Kind::Done;
                Ok(())
            }
            _ => Err(FrameError("the body was cut off")),
        }
    }

    /// How many of `bytes`, which follow those seen before, belong to the body.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<usize, FrameError> {
        let mut at = 0;
        while at < bytes.len() && !self.is_done() {
            at += match self.next(&bytes[at..])? {
                Piece::Data(n) | Piece::Frame(n) => n,
            };
        }
        Ok(at)
    }

    /// Moves the body's data to the front of `bytes`, without the framing.
    /// Returns how many bytes were taken in, and how many of data are left.
    pub fn unframe(&mut self, bytes: &mut [u8]) -> Result<(usize, usize), FrameError> {
        let (mut at, mut kept) = (0, 0);
        while at < bytes.len() && !self.is_done() {
            match self.next(&bytes[at..])? {
                Piece::Frame(n) => at += n,
                Piece::Data(n) => {
                    bytes.copy_within(at..at + n, kept);
                    at += n;
                    kept += n;
                }
            }
        }
        Ok((at, kept))
    }

    /// The next stretch of `bytes`, which are not empty.
    fn next(&mut self, bytes: &[u8]) -> Result<Piece, FrameError> {
        match &mut self.kind {
            Kind::Done => Ok(Piece::Frame(0)),
            Kind::UntilClose => Ok(Piece::Data(bytes.len())),
            Kind::Length(left) => {
                let n = smaller(bytes.len(), *left);
                *left -= n as u64;
                if *left == 0 {
                    self.kind = Kind::Done;
                }
                Ok(Piece::Data(n))
            }
            Kind::Chunked { state: State::Data { left }, .. } => {
                let n = smaller(bytes.len(), *left);
                *left -= n as u64;
                if *left == 0
                    && let Kind::Chunked { state, .. } = &mut self.kind
                {
                    *state = State::DataCr;
                }
                Ok(Piece::Data(n))
            }
            Kind::Chunked { state, trailers } => {
                for (i, &byte) in bytes.iter().enumerate() {
                    match step(*state, byte, trailers)? {
                        Some(next) => *state = next,
                        None => {
                            self.kind = Kind::Done;
                            return Ok(Piece::Frame(i + 1));
                        }
                    }
                    if matches!(state, State::Data { .. }) {
                        return Ok(Piece::Frame(i + 1));
                    }
                }
                Ok(Piece::Frame(bytes.len()))
            }
        }
    }
}

fn smaller(here: usize, left: u64) -> usize {
    usize::try_from(left).map_or(here, |left| left.min(here))
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// One byte of framing; `None` after the last.
fn step(state: State, byte: u8, trailers: &mut u32) -> Result<Option<State>, FrameError> {
    let next = match (state, byte) {
        (State::Size { value, digits }, byte) if byte.is_ascii_hexdigit() => {
            // Fifteen digits hold 2^60: no sum of a size and what is around it can overflow.
            if digits == 15 {
                return Err(FrameError("a chunk's size has too many digits"));
            }
            let digit = (byte as char).to_digit(16).unwrap_or(0);
            State::Size { value: value << 4 | u64::from(digit), digits: digits + 1 }
        }
        (State::Size { digits: 0, .. }, _) => return Err(FrameError("a chunk begins without a size")),
        (State::Size { value, .. }, b'\r') => State::SizeLf { value },
        (State::Size { value, .. }, b';') => State::Extension { value, length: 0 },
        (State::Size { .. }, _) => return Err(FrameError("a chunk's size is not a number")),
        (State::Extension { value, .. }, b'\r') => State::SizeLf { value },
        (State::Extension { value, length }, byte) if is_text(byte) && length < EXTENSION_MAX => {
            State::Extension { value, length: length + 1 }
        }
        (State::Extension { .. }, _) => return Err(FrameError("a chunk's extension is malformed")),
        (State::SizeLf { value: 0 }, b'\n') => State::Line,
        (State::SizeLf { value }, b'\n') => State::Data { left: value },
        (State::DataCr, b'\r') => State::DataLf,
        (State::DataLf, b'\n') => State::Size { value: 0, digits: 0 },
        (State::Line, b'\r') => State::EndLf,
        (State::EndLf, b'\n') => return Ok(None),
        (State::Line | State::Name, byte) if is_token(byte) => State::Name,
        (State::Name, b':') => State::Value,
        (State::Value, b'\r') => State::ValueLf,
        (State::Value, byte) if is_text(byte) => State::Value,
        (State::ValueLf, b'\n') => State::Line,
        (State::Line | State::Name | State::Value | State::ValueLf | State::EndLf, _) => {
            return Err(FrameError("a trailer is malformed"));
        }
        (State::SizeLf { .. }, _) => return Err(FrameError("a chunk's size line does not end with CR LF")),
        (State::DataCr | State::DataLf, _) => return Err(FrameError("a chunk is longer than its size")),
        (State::Data { .. }, _) => return Err(FrameError("data where framing was expected")),
    };
    if matches!(next, State::Name | State::Value) {
        *trailers += 1;
        if *trailers > TRAILERS_MAX {
            return Err(FrameError("the trailers are too long"));
        }
    }
    Ok(Some(next))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A chunked body, its data, and where it ends.
    fn chunked() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
        let chunk = (proptest::collection::vec(any::<u8>(), 1..300), "(;[a-z]{1,8}(=[a-z0-9]{1,8})?)?");
        let trailers = proptest::collection::vec("[A-Z][a-z]{0,5}: [ -~]{0,10}", 0..3);
        (proptest::collection::vec(chunk, 0..6), trailers, any::<bool>()).prop_map(|(chunks, trailers, upper)| {
            let (mut wire, mut data) = (Vec::new(), Vec::new());
            for (bytes, extension) in chunks {
                let size = if upper { format!("{:X}", bytes.len()) } else { format!("00{:x}", bytes.len()) };
                wire.extend(format!("{size}{extension}\r\n").bytes());
                wire.extend(&bytes);
                wire.extend(b"\r\n");
                data.extend(bytes);
            }
            wire.extend(b"0\r\n");
            for trailer in trailers {
                wire.extend(format!("{trailer}\r\n").bytes());
            }
            wire.extend(b"\r\n");
            (wire, data)
        })
    }

    proptest! {
        #[test]
        fn however_a_body_arrives_its_end_and_its_data_are_the_same(
            (wire, data) in chunked(), surplus in proptest::collection::vec(any::<u8>(), 0..40), cut in 1usize..70,
        ) {
            let mut whole = wire.clone();
            whole.extend(&surplus);
            let mut decoder = Decoder::new(Body::Chunked);
            prop_assert_eq!(decoder.advance(&whole), Ok(wire.len()));
            prop_assert!(decoder.is_done());

            let mut decoder = Decoder::new(Body::Chunked);
            let (mut seen, mut got) = (0, Vec::new());
            for part in whole.chunks(cut) {
                let mut part = part.to_vec();
                let (taken, kept) = decoder.unframe(&mut part).unwrap();
                seen += taken;
                got.extend(&part[..kept]);
            }
            prop_assert_eq!((seen, got), (wire.len(), data));
            prop_assert!(decoder.is_done());
        }

        #[test]
        fn a_body_cut_short_is_never_whole((wire, _) in chunked(), at in any::<proptest::sample::Index>()) {
            let mut decoder = Decoder::new(Body::Chunked);
            prop_assert_eq!(decoder.advance(&wire[..at.index(wire.len())]), Ok(at.index(wire.len())));
            prop_assert!(!decoder.is_done());
            prop_assert!(decoder.finish().is_err());
        }

        #[test]
        fn noise_is_refused_or_waited_for_and_never_overrun(noise in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut decoder = Decoder::new(Body::Chunked);
            if let Ok(taken) = decoder.advance(&noise) {
                prop_assert!(taken == noise.len() || decoder.is_done());
            }
        }

        #[test]
        fn a_length_is_taken_to_the_byte(length in 0u64..500, cut in 1usize..90) {
            let mut decoder = Decoder::new(Body::Length(length));
            let taken: usize = [0u8; 600].chunks(cut).map(|part| decoder.advance(part).unwrap()).sum();
            prop_assert_eq!(taken as u64, length);
            prop_assert!(decoder.is_done());
        }
    }

    #[test]
    fn doubtful_chunks_are_refused() {
        for bad in [
            "\r\n",
            "5\nhello\r\n0\r\n\r\n",
            "5\rhello",
            " 5\r\nhello\r\n",
            "5 \r\nhello\r\n",
            "0x5\r\nhello\r\n",
            "+5\r\nhello\r\n",
            "-1\r\n",
            "5;a\nb\r\nhello\r\n",
            "5;a\rb\r\nhello\r\n",
            "5\r\nhello0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "1000000000000000\r\n",
            "0000000000000001\r\n",
            "0\r\n folded: x\r\n\r\n",
            "0\r\nA : x\r\n\r\n",
            "0\r\nA: x\n\r\n",
            "0\r\nA\r\n\r\n",
            "0\r\n\n",
        ] {
            assert!(Decoder::new(Body::Chunked).advance(bad.as_bytes()).is_err(), "{bad:?}");
        }
        let long = format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(300));
        assert!(Decoder::new(Body::Chunked).advance(long.as_bytes()).is_err());
        let long = format!("0\r\nA: {}\r\n\r\n", "a".repeat(9000));
        assert!(Decoder::new(Body::Chunked).advance(long.as_bytes()).is_err());
    }
}
