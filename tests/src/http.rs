//! A client of the REST API as small as can be: one request a connection, HTTP/1.0, so that the answer is what comes until
//! the connection ends. It shares no code with the server or with the product's own client.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first header of that name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body of an answer that succeeded, as JSON.
    ///
    /// # Errors
    /// Where the status is no 2xx, or the body no JSON; with the body.
    pub fn json(&self) -> anyhow::Result<Value> {
        ensure!((200..300).contains(&self.status), "{}: {}", self.status, self.text());
        serde_json::from_slice(&self.body).with_context(|| format!("no JSON: {}", self.text()))
    }
}

/// One server, asked with one key.
#[derive(Debug, Clone)]
pub struct Client {
    address: SocketAddr,
    key: Option<String>,
}

impl Client {
    /// A client that shows `key`, where there is one.
    #[must_use]
    pub fn new(address: SocketAddr, key: Option<&str>) -> Self {
        Self { address, key: key.map(str::to_owned) }
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// Where there is no answer, or none of HTTP.
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> anyhow::Result<Answer> {
        let asked = || format!("{method} {path}");
        let mut stream = self.send(method, path, headers, body).with_context(asked)?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).with_context(asked)?;
        parse(&bytes).with_context(asked)
    }

    /// Sends a request and leaves the answer in the connection: for streams that do not end.
    ///
    /// # Errors
    /// Where the request cannot be sent.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> anyhow::Result<TcpStream> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut request = format!("{method} {path} HTTP/1.0\r\nHost: {}\r\n", self.address);
        if let Some(key) = &self.key {
            request += &format!("Authorization: Bearer {key}\r\n");
        }
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        request += &format!("Content-Length: {}\r\n\r\n", body.len());
        stream.write_all(request.as_bytes())?;
        stream.write_all(body)?;
        Ok(stream)
    }

    /// Reads a path.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.ask("GET", path, &[], &[])
    }

    /// Reads a path as CSV.
    ///
    /// # Errors
    /// As [`Client::ask`], and where the status is not 200.
    pub fn csv(&self, path: &str) -> anyhow::Result<String> {
        let answer = self.ask("GET", path, &[("Accept", "text/csv")], &[])?;
        ensure!(answer.status == 200, "GET {path}: {}: {}", answer.status, answer.text());
        Ok(String::from_utf8(answer.body)?)
    }

    /// Posts a JSON document.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn post(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        self.ask("POST", path, &[("Content-Type", "application/json")], body.to_string().as_bytes())
    }

    /// Posts lines of telemetry.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn telemetry(&self, lines: &str) -> anyhow::Result<Answer> {
        self.ask("POST", "/api/v1/telemetry", &[("Content-Type", "application/x-ndjson")], lines.as_bytes())
    }

    /// All items of a list, page by page.
    ///
    /// # Errors
    /// As [`Client::ask`], and where an answer is no page.
    pub fn items(&self, path: &str) -> anyhow::Result<Vec<Value>> {
        let mut items = Vec::new();
        let mut cursor = String::new();
        loop {
            let join = if path.contains('?') { '&' } else { '?' };
            let mut page = self.get(&format!("{path}{join}limit=10000{cursor}"))?.json()?;
            let Some(Value::Array(found)) = page.get_mut("items").map(Value::take) else {
                bail!("no page: {page}");
            };
            items.extend(found);
            match page.get("next_cursor").and_then(Value::as_str) {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(items),
            }
        }
    }

    /// The value of a metric: the sum over its label sets that hold all of `labels`; 0 where it is not there.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn metric(&self, name: &str, labels: &str) -> anyhow::Result<f64> {
        let answer = self.get("/metrics")?;
        ensure!(answer.status == 200, "/metrics: {}", answer.status);
        let of_line = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            let own = series.split('{').next().unwrap_or_default();
            (own == name && series.contains(labels)).then(|| value.parse::<f64>().ok())?
        };
        Ok(answer.text().lines().filter_map(of_line).sum())
    }
}

fn parse(bytes: &[u8]) -> anyhow::Result<Answer> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").context("the answer has no end of headers")?;
    let (head, body) = bytes.split_at(end);
    let head = std::str::from_utf8(head)?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).context("no status line")?;
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())).collect();
    Ok(Answer { status, headers, body: body[4..].to_vec() })
}
