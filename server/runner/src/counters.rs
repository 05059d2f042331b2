//! The kernel's named counters of one nftables table, over netlink: a look costs no process.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

const NEW_OBJECT: u16 = (libc::NFNL_SUBSYS_NFTABLES as u16) << 8 | libc::NFT_MSG_NEWOBJ as u16;
const GET_OBJECT: u16 = (libc::NFNL_SUBSYS_NFTABLES as u16) << 8 | libc::NFT_MSG_GETOBJ as u16;
/// `enum nft_object_attributes` and what it leads to.
const TABLE: u16 = 1;
const NAME: u16 = 2;
const TYPE: u16 = 3;
const DATA: u16 = 4;
const TYPE_COUNTER: u32 = 1;
const COUNTER_BYTES: u16 = 1;
/// A header is 16 bytes, what every message of nftables begins with 4, an attribute's head 4.
const HEADER: usize = 16;
const BEGIN: usize = HEADER + 4;
const ANSWER_SECONDS: i64 = 5;
/// A dump during which something changed is tried again.
const TRIES: u32 = 3;

/// The bytes of all counters of an `inet` table. Without the table: none.
pub fn all(table: &str) -> io::Result<HashMap<String, u64>> {
    let mut tries = TRIES;
    loop {
        let (counters, is_torn) = ask(table, None)?;
        tries -= 1;
        if !is_torn || tries == 0 {
            return Ok(counters);
        }
    }
}

/// Of one; `None`: there is no such counter.
pub fn one(table: &str, name: &str) -> io::Result<Option<u64>> {
    match ask(table, Some(name)) {
        Ok((mut counters, _)) => Ok(counters.remove(name)),
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

fn ask(table: &str, name: Option<&str>) -> io::Result<(HashMap<String, u64>, bool)> {
    let kernel: OwnedFd =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkNetFilter)?;
    setsockopt(&kernel, sockopt::ReceiveTimeout, &TimeVal::seconds(ANSWER_SECONDS))?;
    let fd = kernel.as_raw_fd();
    sendto(fd, &question(table, name), &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let (mut counters, mut is_torn) = (HashMap::new(), false);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let n = match recv(fd, &mut buffer, MsgFlags::empty()) {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        let mut rest = &buffer[..n];
        while let Some((kind, flags, message, after)) = next_message(rest) {
            rest = after;
            is_torn |= flags & libc::NLM_F_DUMP_INTR as u16 != 0;
            match i32::from(kind) {
                libc::NLMSG_DONE => return Ok((counters, is_torn)),
                libc::NLMSG_ERROR => {
                    let code = message.get(HEADER..HEADER + 4).and_then(|b| b.try_into().ok()).map(i32::from_ne_bytes);
                    return match code {
                        Some(0) => Ok((counters, is_torn)),
                        Some(code) => Err(io::Error::from_raw_os_error(-code)),
                        None => Err(io::ErrorKind::UnexpectedEof.into()),
                    };
                }
                _ if kind == NEW_OBJECT => {
                    if let Some((found, bytes)) = counter(message.get(BEGIN..).unwrap_or_default()) {
                        counters.insert(found, bytes);
                    }
                    if name.is_some() {
                        return Ok((counters, is_torn));
                    }
                }
                _ => {}
            }
        }
    }
}

fn question(table: &str, name: Option<&str>) -> Vec<u8> {
    let flags = libc::NLM_F_REQUEST | if name.is_none() { libc::NLM_F_DUMP } else { 0 };
    let mut message = vec![0; 4];
    message.extend(GET_OBJECT.to_ne_bytes());
    message.extend((flags as u16).to_ne_bytes());
    // A sequence number and a port: nobody else is asked on this socket.
    message.extend([0; 8]);
    message.extend([libc::NFPROTO_INET as u8, 0, 0, 0]);
    let text = |text: &str| [text.as_bytes(), &[0]].concat();
    attribute(&mut message, TABLE, &text(table));
    if let Some(name) = name {
        attribute(&mut message, NAME, &text(name));
    }
    attribute(&mut message, TYPE, &TYPE_COUNTER.to_be_bytes());
    let length = u32::try_from(message.len()).unwrap_or(0);
    message[..4].copy_from_slice(&length.to_ne_bytes());
    message
}

fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(4);
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

/// Its type, its flags, the whole of it, and what comes after.
fn next_message(bytes: &[u8]) -> Option<(u16, u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let half = |at: usize| Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let message = bytes.get(..length).filter(|m| m.len() >= HEADER)?;
    let after = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((half(4)?, half(6)?, message, after))
}

fn find(mut bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    while let Some((head, _)) = bytes.split_first_chunk::<4>() {
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        // The upper two bits say how it is packed.
        let kind = u16::from_ne_bytes([head[2], head[3]]) & 0x3fff;
        let value = bytes.get(4..length)?;
        if kind == wanted {
            return Some(value);
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    None
}

fn counter(attributes: &[u8]) -> Option<(String, u64)> {
    let name = find(attributes, NAME)?.strip_suffix(&[0])?;
    let bytes = find(find(attributes, DATA)?, COUNTER_BYTES)?;
    Some((String::from_utf8(name.to_vec()).ok()?, u64::from_be_bytes(bytes.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_understood_and_nonsense_is_not() {
        let mut data = vec![];
        attribute(&mut data, COUNTER_BYTES, &700_u64.to_be_bytes());
        attribute(&mut data, 2, &7_u64.to_be_bytes());
        let mut of = vec![];
        attribute(&mut of, TABLE, b"berth-1\0");
        attribute(&mut of, NAME, b"i17\0");
        attribute(&mut of, DATA | 0x8000, &data);
        assert_eq!(counter(&of), Some(("i17".to_owned(), 700)));
        for cut in 0..of.len() {
            assert!(counter(&of[..cut]).is_none_or(|found| found.1 == 700), "cut at {cut}");
        }
        assert!(next_message(&[0; 40]).is_none() && next_message(&[255; 8]).is_none());
    }
}
