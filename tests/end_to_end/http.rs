//! Just enough HTTP to ask a server on loopback whether it is ready, and to use its administration interface.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;

use serde_json::Value;

use super::ground;

/// An answer: status and body.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

impl Answer {
    /// The body as JSON; panics unless the status is 200.
    pub fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.body))
    }
}

/// `GET path` of 127.0.0.1.
pub fn get(port: u16, path: &str) -> io::Result<Answer> {
    request(port, "GET", path, "", "")
}

/// `POST path` of 127.0.0.1 with a JSON body.
pub fn post(port: u16, path: &str, body: &Value) -> io::Result<Answer> {
    request(port, "POST", path, "", &body.to_string())
}

/// The same with a bearer token.
pub fn post_as(port: u16, path: &str, token: &str, body: &Value) -> io::Result<Answer> {
    request(port, "POST", path, &format!("Authorization: Bearer {token}\r\n"), &body.to_string())
}

/// Any request to 127.0.0.1 with a bearer token.
pub fn ask_as(port: u16, method: &str, path: &str, token: &str, body: &str) -> io::Result<Answer> {
    request(port, method, path, &format!("Authorization: Bearer {token}\r\n"), body)
}

/// HTTP/1.0: the answer ends with the connection and has no chunks.
fn request(port: u16, method: &str, path: &str, header: &str, body: &str) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(ground::deadline()))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n\
         {header}Content-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, answer.clone());
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(invalid)?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(invalid)?;
    Ok(Answer { status, body: body.to_owned() })
}
