//! One HTTP client for a telemetry server: address, authentication, time-out, and what an answer means.

use reqwest::{Client, Method, RequestBuilder, Response};

use super::{Failure, Settings};
use crate::ledger::webhooks::Secret;

/// Of an answer that is no success, so much is told.
const MESSAGE_BYTES_MAX: usize = 500;

/// Talks to one server.
#[derive(Debug)]
pub(super) struct Http {
    client: Client,
    base: String,
    /// Kind, URL and database.
    pub(super) server: String,
    authorization: Authorization,
}

#[derive(Debug)]
enum Authorization {
    None,
    Basic { user: String, password: Option<Secret> },
    Token(Secret),
}

impl Http {
    pub(super) fn new(kind: &str, settings: &Settings) -> Result<Self, Failure> {
        let url = reqwest::Url::parse(&settings.url);
        let base = match url.as_ref().map(|url| (url.scheme(), url.has_host())) {
            Ok(("http" | "https", true)) => settings.url.trim_end_matches('/').to_owned(),
            _ => {
                let expected = "expected http://host:port or https://host:port";
                return Err(Failure::Settings(format!("{:?} is not the URL of a server: {expected}", settings.url)));
            }
        };
        if settings.database.is_empty() {
            return Err(Failure::Settings(format!("no database is named for {kind} at {base}")));
        }
        let server = format!("{kind} at {base}, database {}", settings.database);
        let millis = settings.request_timeout.millis().max(1).unsigned_abs();
        // Whoever comes first installs the process's cryptography, and any provider does.
        let _already_there = rustls::crypto::ring::default_provider().install_default();
        let builder = || Client::builder().timeout(std::time::Duration::from_millis(millis));
        // A machine without root certificates can still use plain http.
        let client = builder().build().or_else(|_| builder().tls_certs_only([]).build());
        let client = client.map_err(|e| Failure::Unreachable { server: server.clone(), source: Box::new(e) })?;
        let authorization = match (&settings.token, settings.user.as_str()) {
            (Some(token), _) => Authorization::Token(token.clone()),
            (None, "") => Authorization::None,
            (None, user) => Authorization::Basic { user: user.to_owned(), password: settings.password.clone() },
        };
        Ok(Self { client, base, server, authorization })
    }

    /// A request of a path below the server's URL.
    pub(super) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.base));
        match &self.authorization {
            Authorization::None => request,
            Authorization::Basic { user, password } => request.basic_auth(user, password.as_ref().map(Secret::expose)),
            Authorization::Token(token) => request.header("Authorization", format!("Token {}", token.expose())),
        }
    }

    /// Sends; any answer but a success is a failure with the server's own words.
    pub(super) async fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let answer = request.send().await.map_err(|e| self.unreachable(e))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap_or_default();
        Err(self.status(status, &text))
    }

    pub(super) fn unreachable(&self, source: impl std::error::Error + Send + Sync + 'static) -> Failure {
        Failure::Unreachable { server: self.server.clone(), source: Box::new(source) }
    }

    /// An answer that is no success.
    pub(super) fn status(&self, status: u16, text: &str) -> Failure {
        let mut message = text.trim().to_owned();
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
        Failure::Status { server: self.server.clone(), status, message }
    }

    pub(super) fn unreadable(&self, reason: impl ToString) -> Failure {
        Failure::Unreadable { server: self.server.clone(), reason: reason.to_string() }
    }
}
