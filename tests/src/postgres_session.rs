//! A client of PostgreSQL's protocol as small as can be: `COPY ... FROM STDIN`, over and over on one session.

use std::{
    io::{BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context, bail, ensure};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// Version 3.0 of the protocol.
const PROTOCOL: i32 = 3 << 16;

/// One session with a server that trusts its user.
#[derive(Debug)]
pub struct Session {
    stream: BufReader<TcpStream>,
}

impl Session {
    /// Connects to a database by its URL, `postgres://user@address/database`.
    ///
    /// # Errors
    /// Where the server does not let us in.
    pub fn open(url: &str) -> anyhow::Result<Self> {
        let parts = url.strip_prefix("postgres://").and_then(|rest| {
            let (user, rest) = rest.split_once('@')?;
            rest.split_once('/').map(|(address, database)| (user, address, database))
        });
        let (user, address, database) =
            parts.with_context(|| format!("not postgres://user@address/database: {url}"))?;
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut session = Self { stream: BufReader::new(stream) };
        let mut startup = PROTOCOL.to_be_bytes().to_vec();
        startup.extend_from_slice(format!("user\0{user}\0database\0{database}\0\0").as_bytes());
        session.write(&[&length_of(&startup)?, &startup])?;
        session.until_ready()?;
        Ok(session)
    }

    /// Runs a `COPY ... FROM STDIN` over rows in text format; returns when they are committed.
    ///
    /// # Errors
    /// What the server says is wrong.
    pub fn copy(&mut self, statement: &str, rows: &[u8]) -> anyhow::Result<()> {
        self.ask(statement)?;
        match self.message()? {
            (b'G', _) => {}
            (b'E', error) => bail!("{statement}: {}", told(&error)),
            (other, _) => bail!("{statement}: message {:?} instead of CopyInResponse", char::from(other)),
        }
        self.write(&[b"d", &length_of(rows)?, rows, b"c", &length_of(b"")?])?;
        self.until_ready().with_context(|| statement.to_owned())
    }

    fn ask(&mut self, statement: &str) -> anyhow::Result<()> {
        let text = [statement.as_bytes(), b"\0"].concat();
        self.write(&[b"Q", &length_of(&text)?, &text])
    }

    /// Reads up to ReadyForQuery.
    fn until_ready(&mut self) -> anyhow::Result<()> {
        let mut error = None;
        loop {
            match self.message()? {
                (b'Z', _) => break,
                (b'E', body) => error = Some(told(&body)),
                (b'R', body) => ensure!(body == [0; 4], "the server asks for a password"),
                // Parameters, notices, descriptions and tags.
                _ => {}
            }
        }
        match error {
            Some(error) => bail!(error),
            None => Ok(()),
        }
    }

    fn message(&mut self) -> anyhow::Result<(u8, Vec<u8>)> {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head)?;
        let [kind, length @ ..] = head;
        let length = usize::try_from(i32::from_be_bytes(length))?.checked_sub(4).context("a message without length")?;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok((kind, body))
    }

    fn write(&mut self, parts: &[&[u8]]) -> anyhow::Result<()> {
        let stream = self.stream.get_mut();
        parts.iter().try_for_each(|part| stream.write_all(part)).context("the session was closed")
    }
}

/// A message's length counts itself.
fn length_of(body: &[u8]) -> anyhow::Result<[u8; 4]> {
    Ok(i32::try_from(body.len() + 4)?.to_be_bytes())
}

/// The fields of an error: a letter and a text each; `M` is the message.
fn told(body: &[u8]) -> String {
    let fields = body.split(|&byte| byte == 0);
    let message = fields.filter_map(|field| field.strip_prefix(b"M")).next().unwrap_or(body);
    String::from_utf8_lossy(message).into_owned()
}
