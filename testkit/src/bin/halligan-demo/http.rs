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
    let mut stream = TcpStream::connect(("127.0.0.1", port)).context("failed to reach the server")?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("failed to read the server's answer")?;
    let (head, text) = answer.split_once("\r\n\r\n").context("the server's answer has no body")?;
    let status: u16 = head
        .split_whitespace()
        .nth(1)
        .and_then(|code| code.parse().ok())
        .context("the answer has no status")?;
    let text = if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        unchunk(text)?
    } else {
        text.to_owned()
    };
    if !(200..300).contains(&status) {
        bail!("the server answered {status}: {text}");
    }
    if text.trim().is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(&text).with_context(|| format!("the server's answer is not JSON: {text}"))
}

fn unchunk(mut text: &str) -> Result<String> {
    let mut whole = String::new();
    loop {
        let (size, rest) = text.split_once("\r\n").context("a chunk has no size")?;
        let size = usize::from_str_radix(size.trim(), 16).context("a chunk's size is not a number")?;
        if size == 0 {
            return Ok(whole);
        }
        whole.push_str(rest.get(..size).context("a chunk is cut short")?);
        text = rest.get(size + 2..).unwrap_or_default();
    }
}
