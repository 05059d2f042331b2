//! `shim probe ADDRESS:PORT PATH HOST TIMEOUT_MS`: one GET, run as a user without rights, since the
//! answer is a stranger's bytes. Ends with 0 when it is below 400; else says why and ends with 1.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

pub fn run(args: &[String]) -> ExitCode {
    let [address, path, host, timeout] = args else {
        println!("use: shim probe ADDRESS:PORT PATH HOST TIMEOUT_MS");
        return ExitCode::from(64);
    };
    match probe(address, path, host, timeout) {
        Ok(status) if (100..400).contains(&status) => ExitCode::SUCCESS,
        Ok(status) => {
            println!("answered {status}");
            ExitCode::FAILURE
        }
        Err(why) => {
            println!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn probe(address: &str, path: &str, host: &str, timeout: &str) -> Result<u16, String> {
    let address: SocketAddr = address.parse().map_err(|_| "not an address".to_owned())?;
    let limit = Duration::from_millis(timeout.parse().map_err(|_| "not a time".to_owned())?);
    if path.bytes().chain(host.bytes()).any(|b| b <= b' ' || b == 0x7f) || !path.starts_with('/') {
        return Err("not a path".to_owned());
    }
    let until = Instant::now() + limit;
    let mut stream = TcpStream::connect_timeout(&address, limit).map_err(|e| format!("did not connect: {e}"))?;
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: berth-health\r\nConnection: close\r\n\r\n");
    let left = |until: Instant| until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    stream.set_write_timeout(Some(left(until))).map_err(|e| e.to_string())?;
    stream.write_all(request.as_bytes()).map_err(|e| format!("did not take the request: {e}"))?;
    // `HTTP/1.1 200`: all that is wanted of the answer.
    let mut head = [0u8; 12];
    let mut filled = 0;
    while filled < head.len() {
        if Instant::now() >= until {
            return Err("did not answer in time".to_owned());
        }
        stream.set_read_timeout(Some(left(until))).map_err(|e| e.to_string())?;
        let room = head.get_mut(filled..).unwrap_or_default();
        match stream.read(room) {
            Ok(0) => return Err("closed the connection without an answer".to_owned()),
            Ok(n) => filled += n,
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return Err("did not answer in time".to_owned()),
            Err(e) => return Err(format!("did not answer: {e}")),
        }
    }
    let text = std::str::from_utf8(&head).map_err(|_| "answered no HTTP".to_owned())?;
    let status = text.strip_prefix("HTTP/1.").and_then(|t| t.get(2..5)).and_then(|s| s.parse().ok());
    status.ok_or_else(|| "answered no HTTP".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn answered(bytes: &'static [u8]) -> Result<u16, String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0; 1024];
            let _ = stream.read(&mut head).unwrap();
            stream.write_all(bytes).unwrap();
        });
        let got = probe(&address, "/up", "shop", "2000");
        server.join().unwrap();
        got
    }

    #[test]
    fn only_the_status_of_an_answer_counts() {
        assert_eq!(answered(b"HTTP/1.1 204 No Content\r\n\r\n"), Ok(204));
        assert_eq!(answered(b"HTTP/1.0 503 x\r\n\r\n"), Ok(503));
        assert_eq!(answered(b"SSH-2.0-OpenSSH_9.2\r\n"), Err("answered no HTTP".to_owned()));
        assert!(answered(b"").is_err());
    }
}
