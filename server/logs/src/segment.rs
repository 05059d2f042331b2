//! The format of a segment: a file that is only appended to, and of which any beginning is good.
//!
//! A record is a frame: length and CRC-32 of its payload (both 32 bits, little-endian), then the
//! payload. The first byte of a payload is its kind:
//!
//! - head: format version, the first cursor, the stream. It comes first, so that a file which
//!   landed at the wrong place is not read as another stream's.
//! - origin: a number for a name within this segment, the lowest position still new of it, when it
//!   was last heard. A segment begins with those still of use: to know all origins, the newest
//!   segment is enough.
//! - line: cursor, position, time, the origin's number, source, text.
//!
//! A length of 0 is no record: blocks that the disk never got are read as zeros after a power
//! cut, and the CRC of nothing is 0.

use std::io::{self, Read};

use domain::Time;

const VERSION: u8 = 1;
const FRAME_BYTES: usize = 8;
/// Above what any record of ours can have; a larger length is damage.
const PAYLOAD_BYTES_MAX: usize = 64 << 10;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    Head { first: u64, stream: &'a str },
    Origin { number: u32, wanted: u64, heard: Time, name: &'a str },
    Line { cursor: u64, position: u64, at: Time, origin: u32, source: &'a str, text: &'a str },
}

const HEAD: u8 = 1;
const ORIGIN: u8 = 2;
const LINE: u8 = 3;

impl<'a> Record<'a> {
    /// Appends the record with its frame.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let begin = out.len();
        out.extend_from_slice(&[0; FRAME_BYTES]);
        match *self {
            Self::Head { first, stream } => {
                out.extend_from_slice(&[HEAD, VERSION]);
                out.extend_from_slice(&first.to_le_bytes());
                out.extend_from_slice(stream.as_bytes());
            }
            Self::Origin { number, wanted, heard, name } => {
                out.push(ORIGIN);
                out.extend_from_slice(&number.to_le_bytes());
                out.extend_from_slice(&wanted.to_le_bytes());
                out.extend_from_slice(&heard.unix_micros().to_le_bytes());
                out.extend_from_slice(name.as_bytes());
            }
            Self::Line { cursor, position, at, origin, source, text } => {
                out.push(LINE);
                out.extend_from_slice(&cursor.to_le_bytes());
                out.extend_from_slice(&position.to_le_bytes());
                out.extend_from_slice(&at.unix_micros().to_le_bytes());
                out.extend_from_slice(&origin.to_le_bytes());
                // `clean::source` keeps it below 256.
                out.push(u8::try_from(source.len()).unwrap_or(u8::MAX));
                out.extend_from_slice(source.as_bytes());
                out.extend_from_slice(text.as_bytes());
            }
        }
        let payload = &out[begin + FRAME_BYTES..];
        let (length, crc) = (payload.len() as u32, crc32fast::hash(payload));
        out[begin..begin + 4].copy_from_slice(&length.to_le_bytes());
        out[begin + 4..begin + FRAME_BYTES].copy_from_slice(&crc.to_le_bytes());
    }

    fn decode(payload: &'a [u8]) -> Option<Self> {
        let mut rest = Bytes(payload);
        match rest.u8()? {
            HEAD => {
                (rest.u8()? == VERSION).then_some(())?;
                Some(Self::Head { first: rest.u64()?, stream: rest.text()? })
            }
            ORIGIN => {
                let (number, wanted, heard) = (rest.u32()?, rest.u64()?, rest.time()?);
                Some(Self::Origin { number, wanted, heard, name: rest.text()? })
            }
            LINE => {
                let (cursor, position, at, origin) = (rest.u64()?, rest.u64()?, rest.time()?, rest.u32()?);
                let length = usize::from(rest.u8()?);
                let source = Bytes(rest.take(length)?).text()?;
                Some(Self::Line { cursor, position, at, origin, source, text: rest.text()? })
            }
            _ => None,
        }
    }
}

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn time(&mut self) -> Option<Time> {
        self.array().map(|bytes| Time::from_unix_micros(i64::from_le_bytes(bytes)))
    }

    /// All that is left.
    fn text(&self) -> Option<&'a str> {
        std::str::from_utf8(self.0).ok()
    }
}

/// Reads record after record, up to the end or the first that is not whole.
pub(crate) struct Scanner<R> {
    reader: R,
    payload: Vec<u8>,
    /// Where the next record begins: after the last good one.
    offset: u64,
}

impl<R: Read> Scanner<R> {
    /// `reader` stands at `offset`.
    pub(crate) fn new(reader: R, offset: u64) -> Self {
        Self { reader, payload: Vec::new(), offset }
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// `None` where the good part ends; an error only if the disk gives one.
    pub(crate) fn next(&mut self) -> io::Result<Option<Record<'_>>> {
        let mut frame = [0; FRAME_BYTES];
        if !fill(&mut self.reader, &mut frame)? {
            return Ok(None);
        }
        let [a, b, c, d, crc @ ..] = frame;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        if length == 0 || length > PAYLOAD_BYTES_MAX {
            return Ok(None);
        }
        self.payload.resize(length, 0);
        if !fill(&mut self.reader, &mut self.payload)? || crc32fast::hash(&self.payload) != u32::from_le_bytes(crc) {
            return Ok(None);
        }
        let record = Record::decode(&self.payload);
        if record.is_some() {
            self.offset += (FRAME_BYTES + length) as u64;
        }
        Ok(record)
    }
}

/// Whether the whole of `into` could be filled.
fn fill(reader: &mut impl Read, into: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(into) {
        Ok(()) => Ok(true),
        Err(end) if end.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(other) => Err(other),
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// A record with its texts, to be borrowed from.
    #[derive(Debug, Clone)]
    struct Owned(u8, u64, u64, i64, String, String);

    impl Owned {
        fn record(&self) -> Record<'_> {
            let Owned(kind, a, b, c, name, text) = self;
            match kind {
                0 => Record::Head { first: *a, stream: name },
                1 => Record::Origin { number: *a as u32, wanted: *b, heard: Time::from_unix_micros(*c), name },
                _ => Record::Line {
                    cursor: *a,
                    position: *b,
                    at: Time::from_unix_micros(*c),
                    origin: *a as u32,
                    source: name,
                    text,
                },
            }
        }
    }

    fn records() -> impl Strategy<Value = Vec<Owned>> {
        let one = (0..3u8, any::<u64>(), any::<u64>(), any::<i64>(), "\\PC{0,20}", "\\PC{0,200}");
        vec(one.prop_map(|(k, a, b, c, n, t)| Owned(k, a, b, c, n, t)), 0..12)
    }

    fn encoded(records: &[Owned]) -> (Vec<u8>, Vec<u64>) {
        let (mut bytes, mut ends) = (Vec::new(), vec![0]);
        for record in records {
            record.record().encode(&mut bytes);
            ends.push(bytes.len() as u64);
        }
        (bytes, ends)
    }

    /// How many records are read back, each as it was written, and where the good part ends.
    fn recovered(bytes: &[u8], written: &[Owned]) -> (usize, u64) {
        let mut scanner = Scanner::new(bytes, 0);
        let mut n = 0;
        while let Some(record) = scanner.next().unwrap() {
            assert_eq!(record, written[n].record());
            n += 1;
        }
        (n, scanner.offset())
    }

    proptest! {
        #[test]
        fn any_cut_of_the_file_recovers_the_records_before_it(written in records(), cut in any::<prop::sample::Index>()) {
            let (bytes, ends) = encoded(&written);
            let cut = cut.index(bytes.len() + 1);
            let whole = ends.iter().filter(|end| **end <= cut as u64).count() - 1;
            prop_assert_eq!(recovered(&bytes[..cut], &written), (whole, ends[whole]));
        }

        #[test]
        fn a_tail_that_never_reached_the_disk_is_no_record(written in records(), cut in any::<prop::sample::Index>(), zeros in 1..5000usize) {
            let (mut bytes, ends) = encoded(&written);
            bytes.truncate(cut.index(bytes.len() + 1));
            let whole = ends.iter().filter(|end| **end <= bytes.len() as u64).count() - 1;
            bytes.resize(bytes.len() + zeros, 0);
            let (n, end) = recovered(&bytes, &written);
            // A cut among zeros of the record itself can leave it whole.
            prop_assert!(n >= whole && end >= ends[whole] && n <= written.len());
        }

        #[test]
        fn a_changed_bit_ends_the_good_part_and_is_never_read_as_a_line(written in records(), at in any::<prop::sample::Index>(), bit in 0..8u32) {
            let (mut bytes, ends) = encoded(&written);
            prop_assume!(!bytes.is_empty());
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let before = ends.iter().filter(|end| **end <= at as u64).count() - 1;
            prop_assert_eq!(recovered(&bytes, &written), (before, ends[before]));
        }

        #[test]
        fn any_bytes_at_all_are_read_without_a_panic(bytes in vec(any::<u8>(), 0..300)) {
            let mut scanner = Scanner::new(bytes.as_slice(), 0);
            while scanner.next().unwrap().is_some() {}
        }
    }
}
