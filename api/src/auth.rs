//! Who asks, and what they may do: API keys from the `Authorization` header.
//!
//! **Invariant**: a handler learns its tenant from a [`Caller`] and from nowhere else, and a [`Caller`] names the scope that
//! the handler needs in its type: whoever forgets to ask for a scope has no tenant to work with.

use std::{marker::PhantomData, sync::Arc};

use axum::{
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use harbinger_core::TenantId;
use harbinger_store::ledger::keys::{self, Key, Scope};

use crate::{
    errors::{Code, Error, Result},
    state::ApiState,
};

/// A scope as a type, for the signature of a handler.
pub trait Needs: Send + Sync + 'static {
    /// The scope.
    const SCOPE: Scope;
}

macro_rules! scopes {
    ($($(#[$doc:meta])* $name:ident),+) => {
        $($(#[$doc])* #[derive(Debug, Clone, Copy)] pub struct $name; impl Needs for $name { const SCOPE: Scope = Scope::$name; })+
    };
}

scopes!(
    /// The handler takes telemetry.
    Ingest,
    /// The handler only reads.
    Read,
    /// The handler changes something.
    Operate,
    /// The handler touches keys or the audit record.
    Admin
);

/// Whoever sent the request, known to hold the scope `S`.
#[derive(Debug, Clone)]
pub struct Caller<S: Needs> {
    /// The tenant whose rows the request may see.
    pub tenant: TenantId,
    /// The key's id: who did it, for history and audit.
    pub actor: String,
    scope: PhantomData<S>,
}

impl<S: Needs, T: Send + Sync> FromRequestParts<T> for Caller<S> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &T) -> Result<Self> {
        let key = parts.extensions.get::<Arc<Key>>().ok_or_else(unauthenticated)?;
        check_scope(key, S::SCOPE)?;
        Ok(Self { tenant: key.tenant.clone(), actor: key.key_id.clone(), scope: PhantomData })
    }
}

fn unauthenticated() -> Error {
    Error::new(Code::Unauthenticated, "the request carries no valid key")
}

fn check_scope(key: &Key, required: Scope) -> Result<()> {
    if key.allows(required) {
        return Ok(());
    }
    Err(Error::new(
        Code::Forbidden,
        format!("this needs scope {required:?}, which the key lacks", required = required.as_str()),
    ))
}

/// The plain key in the headers: `Bearer KEY`, or `Basic` with the key as password for simple tools.
fn plain_key(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
    text.split_once(':').map(|(_, password)| password.to_owned())
}

/// The key of a request, valid now; its use is noted at most once a minute.
async fn authenticate(state: &ApiState, headers: &HeaderMap) -> Result<Arc<Key>> {
    let plain = plain_key(headers).ok_or_else(unauthenticated)?;
    let now = state.clock.now();
    let mut connection = state.ledger.read().await?;
    let found = keys::find(&mut connection, &plain).await?;
    drop(connection);
    let key = found.filter(|key| key.is_valid(now)).ok_or_else(unauthenticated)?;
    if keys::use_is_worth_noting(&key, now) {
        let (ledger, key_id) = (state.ledger.clone(), key.key_id.clone());
        // Not awaited: the answer does not depend on it, and a note that is lost is made again on the next use.
        tokio::spawn(async move {
            let noted = async {
                let mut tx = ledger.write().await?;
                keys::note_use(&mut tx, &key_id, now).await?;
                tx.commit().await.map_err(harbinger_store::ledger::Error::from)
            };
            if let Err(error) = noted.await {
                tracing::warn!(%error, key_id, "a key's last use was not noted");
            }
        });
    }
    Ok(Arc::new(key))
}

/// Lets only requests with a valid key through; the handler's [`Caller`] then asks for its scope.
pub(crate) async fn require_key(State(state): State<ApiState>, mut request: Request, next: Next) -> Response {
    match authenticate(&state, request.headers()).await {
        Ok(key) => {
            request.extensions_mut().insert(key.tenant.clone());
            request.extensions_mut().insert(key);
            next.run(request).await
        }
        Err(error) => error.into_response(),
    }
}

/// Lets only requests through whose key holds a scope, and puts the key's [`TenantId`] into the request's extensions: for
/// routes that stand beside these, such as the intake of telemetry.
///
/// Use with `axum::middleware::from_fn_with_state(Authorize::new(state, Scope::Ingest), authorize)`.
#[derive(Clone)]
pub struct Authorize {
    state: ApiState,
    required: Scope,
}

impl Authorize {
    /// Asks for `required`.
    #[must_use]
    pub fn new(state: ApiState, required: Scope) -> Self {
        Self { state, required }
    }
}

/// The middleware of [`Authorize`].
pub async fn authorize(State(asked): State<Authorize>, mut request: Request, next: Next) -> Response {
    let key = authenticate(&asked.state, request.headers()).await;
    match key.and_then(|key| check_scope(&key, asked.required).map(|()| key)) {
        Ok(key) => {
            request.extensions_mut().insert(key.tenant.clone());
            request.extensions_mut().insert(key);
            next.run(request).await
        }
        Err(error) => error.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(header: &str, expected: Option<&str>) {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, header.parse().unwrap());
        assert_eq!(plain_key(&headers).as_deref(), expected, "{header:?}");
    }

    #[test]
    fn keys_are_read_from_bearer_and_basic() {
        check("Bearer hbr_abc", Some("hbr_abc"));
        check("bearer  hbr_abc ", Some("hbr_abc"));
        // echo -n 'any:hbr_abc' | base64
        check("Basic YW55Omhicl9hYmM=", Some("hbr_abc"));
        check("Basic ???", None);
        check("Digest x", None);
        check("hbr_abc", None);
        assert_eq!(plain_key(&HeaderMap::new()), None);
    }
}
