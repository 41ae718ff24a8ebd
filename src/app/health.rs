//! `health`: asks a running bridge whether it lives. For a container's health check, where there is no other client.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long all of it may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Sends `GET /_matrix/mau/live` to the address that the bridge listens on. An answer other than 200 is an error with
/// its status line.
pub fn probe(listen: SocketAddr) -> io::Result<()> {
    let deadline = Instant::now() + TIMEOUT;
    let mut stream = TcpStream::connect_timeout(&reachable(listen), TIMEOUT)?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.write_all(b"GET /_matrix/mau/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    // The status line is all that counts.
    let mut answer = Vec::new();
    let mut buffer = [0; 256];
    while !answer.contains(&b'\n') && answer.len() < 1024 {
        let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero());
        stream.set_read_timeout(Some(left.ok_or(io::ErrorKind::TimedOut)?))?;
        match stream.read(&mut buffer)? {
            0 => break,
            length => answer.extend(buffer.iter().take(length)),
        }
    }
    let line = String::from_utf8_lossy(&answer);
    let line = line.lines().next().unwrap_or_default();
    if line.split(' ').nth(1) == Some("200") {
        return Ok(());
    }
    let shown: String = line.chars().filter(|c| !c.is_control()).take(80).collect();
    Err(io::Error::other(format!("answered \"{shown}\" instead of 200")))
}

/// "All addresses" is nothing to connect to; this machine's own is one of them.
pub fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;

    use super::*;

    /// Answers one request with this, and returns its first line.
    fn server(answer: &'static str) -> (SocketAddr, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            let mut lines = Vec::new();
            while lines.last().is_none_or(|line: &String| line != "\r\n") {
                let mut line = String::new();
                stream.read_line(&mut line).unwrap();
                lines.push(line);
            }
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
            lines.remove(0)
        });
        (address, thread)
    }

    #[test]
    fn only_200_is_alive() {
        let (address, thread) = server("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        probe(address).unwrap();
        assert_eq!(thread.join().unwrap(), "GET /_matrix/mau/live HTTP/1.1\r\n");
        for answer in ["HTTP/1.1 503 Service Unavailable\r\n\r\n", "", "HTTP/1.1 404 200\r\n\r\n", "200"] {
            let (address, thread) = server(answer);
            assert!(probe(address).is_err(), "{answer:?}");
            thread.join().unwrap();
        }
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(probe(closed).is_err());
    }

    #[test]
    fn all_addresses_means_loopback() {
        for (listen, asked) in [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("10.0.0.1:1", "10.0.0.1:1")] {
            assert_eq!(reachable(listen.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
