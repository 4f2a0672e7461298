//! An HTTP/1.1 connection that is kept open, for whoever asks often and measures: a request, its answer, the next request.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, ensure};

use crate::http::Answer;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(120);

fn connect(address: SocketAddr) -> anyhow::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(BufReader::with_capacity(64 << 10, stream))
}

/// One connection to one server.
#[derive(Debug)]
pub struct Connection {
    address: SocketAddr,
    stream: BufReader<TcpStream>,
    /// Headers that every request carries.
    constant: String,
}

impl Connection {
    /// Connects; shows `key` with each request, where there is one.
    ///
    /// # Errors
    /// Where nobody listens.
    pub fn open(address: SocketAddr, key: Option<&str>) -> anyhow::Result<Self> {
        let key = key.map(|key| format!("Authorization: Bearer {key}\r\n")).unwrap_or_default();
        let constant = format!(" HTTP/1.1\r\nHost: {address}\r\n{key}");
        Ok(Self { address, stream: connect(address)?, constant })
    }

    /// Sends a request and reads its answer to the end.
    ///
    /// # Errors
    /// Where the connection breaks, or what comes is no HTTP.
    pub fn ask(&mut self, method: &str, path: &str, content_type: &str, body: &[u8]) -> anyhow::Result<Answer> {
        let mut head = format!("{method} {path}{}Content-Length: {}\r\n", self.constant, body.len());
        if !body.is_empty() {
            head += &format!("Content-Type: {content_type}\r\n");
        }
        head += "\r\n";
        let stream = self.stream.get_mut();
        let sent = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
        // A server that refuses may close before it has read everything: what it says is worth more than the broken pipe.
        let answer = self.answer().with_context(|| format!("{method} {path}"));
        if answer.is_err() {
            sent?;
        }
        let answer = answer?;
        // Some servers end a connection now and then, and say so.
        if answer.header("connection").is_some_and(|connection| connection.eq_ignore_ascii_case("close")) {
            self.stream = connect(self.address)?;
        }
        Ok(answer)
    }

    /// Reads a path.
    ///
    /// # Errors
    /// As [`Connection::ask`].
    pub fn get(&mut self, path: &str) -> anyhow::Result<Answer> {
        self.ask("GET", path, "", &[])
    }

    fn answer(&mut self) -> anyhow::Result<Answer> {
        let status = self.line()?;
        let status = status.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status line")?;
        let mut answer = Answer { status, headers: Vec::new(), body: Vec::new() };
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            answer.headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
        if answer.header("transfer-encoding").is_some_and(|coding| coding == "chunked") {
            while let length @ 1.. = usize::from_str_radix(&self.line()?, 16).context("no length of a chunk")? {
                self.body(length, &mut answer.body)?;
                ensure!(self.line()?.is_empty(), "a chunk is longer than it says");
            }
            ensure!(self.line()?.is_empty(), "trailers, which nobody asked for");
        } else {
            let length = answer.header("content-length").map_or(Ok(0), str::parse)?;
            self.body(length, &mut answer.body)?;
        }
        Ok(answer)
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        ensure!(self.stream.read_line(&mut line)? > 0, "the connection was closed");
        Ok(line.trim_end().to_owned())
    }

    fn body(&mut self, length: usize, body: &mut Vec<u8>) -> anyhow::Result<()> {
        let read = self.stream.by_ref().take(length as u64).read_to_end(body)?;
        ensure!(read == length, "the connection was closed in a body");
        Ok(())
    }
}
