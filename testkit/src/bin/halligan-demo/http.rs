//! Just enough HTTP for the two calls of an enrolment, which a person would make in a terminal with their phone in hand.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Posts JSON to a server on this machine and reads the JSON that it answers.
pub fn post(port: u16, path: &str, body: &Value) -> Result<Value> {
    let body = body.to_string();
    let request = format!(
        "POST /api/v1{path} HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    exchange(port, &request)
}

/// Gets JSON.
pub fn get(port: u16, path: &str) -> Result<Value> {
    exchange(
        port,
        &format!("GET /api/v1{path} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n"),
    )
}

fn exchange(port: u16, request: &str) -> Result<Value> {
    let answer = send(port, request)?;
    if !(200..300).contains(&answer.status) {
        bail!("the server answered {}: {}", answer.status, answer.text);
    }
    answer.json()
}

/// What the server said: an answer that came whole, whatever it says.
pub struct Answer {
    pub status: u16,
    pub text: String,
}

impl Answer {
    /// Its body; null if it has none.
    pub fn json(&self) -> Result<Value> {
        if self.text.trim().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&self.text)
            .with_context(|| format!("the server's answer is not JSON: {}", self.text))
    }
}

/// One try of a call as a person. An error means that nothing whole came back: whether it was carried out is not known.
pub fn once(port: u16, method: &str, path: &str, token: &str, key: &str, body: &Value) -> Result<Answer> {
    let body = if method == "GET" { String::new() } else { body.to_string() };
    send(
        port,
        &format!(
            "{method} /api/v1{path} HTTP/1.1\r\nHost: localhost:{port}\r\nAuthorization: Bearer {token}\r\nIdempotency-Key: {key}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ),
    )
}

fn send(port: u16, request: &str) -> Result<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).context("failed to reach the server")?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).context("failed to read the server's answer")?;
    let cut = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .context("the server's answer has no body")?;
    let (head, body) = answer.split_at(cut);
    let body = body.get(4..).unwrap_or_default();
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let status: u16 = head
        .split_whitespace()
        .nth(1)
        .and_then(|code| code.parse().ok())
        .context("the answer has no status")?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let body = if head.contains("transfer-encoding: chunked") {
        unchunk(body)?
    } else if length
        .and_then(|length| length.trim().parse().ok())
        .is_some_and(|length: usize| length != body.len())
    {
        bail!("the server's answer was cut off");
    } else {
        body.to_vec()
    };
    Ok(Answer { status, text: String::from_utf8_lossy(&body).into_owned() })
}

fn unchunk(mut bytes: &[u8]) -> Result<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let line = bytes.windows(2).position(|window| window == b"\r\n").context("a chunk has no size")?;
        let (size, rest) = bytes.split_at(line);
        let size = usize::from_str_radix(String::from_utf8_lossy(size).trim(), 16)
            .context("a chunk's size is not a number")?;
        if size == 0 {
            return Ok(whole);
        }
        whole.extend_from_slice(rest.get(2..size + 2).context("a chunk is cut short")?);
        bytes = rest.get(size + 4..).unwrap_or_default();
    }
}
