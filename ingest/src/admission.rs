//! Who may send: clients prove who they are, a principal says for which tenants it may publish, and unknown devices are
//! registered or turned away by policy.

use std::net::SocketAddr;

use async_trait::async_trait;
use harbinger_core::{DeviceKey, TenantId, Timestamp};
use serde::{Deserialize, Serialize};

/// The tenants whose topics a client may use.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Tenants {
    /// Every tenant's: a gateway of the operator, or development on loopback.
    All,
    /// One tenant's.
    One(TenantId),
}

impl Tenants {
    /// Whether topics of `tenant` may be used.
    #[must_use]
    pub fn allow(&self, tenant: &TenantId) -> bool {
        match self {
            Self::All => true,
            Self::One(own) => own == tenant,
        }
    }

    /// The tenant, where there is only one.
    #[must_use]
    pub fn only(&self) -> Option<&TenantId> {
        match self {
            Self::All => None,
            Self::One(own) => Some(own),
        }
    }
}

/// A client that has proved who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Name for the log: a key's id, a certificate's subject. Never a secret.
    pub name: String,
    /// What it may publish and subscribe to.
    pub tenants: Tenants,
}

/// Why a client is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The name or the password is wrong, revoked or expired.
    #[error("user name or password is not valid")]
    BadCredentials,
    /// The client is known and may not connect, or came without a name from outside.
    #[error("{reason}")]
    NotAuthorized {
        /// Words for the log.
        reason: String,
    },
    /// The check itself failed; the client may try again.
    #[error("credentials could not be checked: {reason}")]
    Unavailable {
        /// Words for the log.
        reason: String,
    },
}

/// Decides who may connect.
#[async_trait]
pub trait Authenticator: Send + Sync + 'static {
    /// Checks what a client showed. Called once a connection, within the connect timeout.
    ///
    /// # Errors
    /// [`Refused`]: the connection is answered with the matching return code and closed.
    async fn authenticate(
        &self,
        username: Option<&str>,
        password: Option<&[u8]>,
        peer: SocketAddr,
    ) -> Result<Principal, Refused>;
}

/// Lets in whoever connects from this machine, for all tenants, and nobody else.
#[derive(Debug, Clone, Copy, Default)]
pub struct AnonymousOnLoopback;

#[async_trait]
impl Authenticator for AnonymousOnLoopback {
    async fn authenticate(
        &self,
        _username: Option<&str>,
        _password: Option<&[u8]>,
        peer: SocketAddr,
    ) -> Result<Principal, Refused> {
        // An IPv4 client of a dual-stack socket arrives as ::ffff:127.0.0.1.
        if peer.ip().to_canonical().is_loopback() {
            return Ok(Principal { name: "anonymous on loopback".to_owned(), tenants: Tenants::All });
        }
        Err(Refused::NotAuthorized { reason: "anonymous clients are let in from loopback only".to_owned() })
    }
}

/// What is done with a device that nobody registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceAdmission {
    /// It is registered with what its topic says, and its readings are stored.
    #[default]
    AutoRegister,
    /// Its messages go to quarantine until somebody registers it and replays them.
    Quarantine,
}

/// The registry of devices did not answer: what came is not acknowledged, so that it comes again.
#[derive(Debug, thiserror::Error)]
#[error("the device registry failed to {attempt}")]
pub struct RegistrarError {
    /// What was attempted.
    pub attempt: &'static str,
    /// Why.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// The registry of devices, as intake sees it. Asked once a device and start, not once a message.
#[async_trait]
pub trait Registrar: Send + Sync + 'static {
    /// Which of these devices are registered: one answer a key, in the same order.
    ///
    /// # Errors
    /// [`RegistrarError`] where the registry cannot be read.
    async fn known(&self, keys: &[DeviceKey]) -> Result<Vec<bool>, RegistrarError>;

    /// Registers devices that reported for the first time at `seen_at` (wall clock). Registering one twice is success.
    ///
    /// # Errors
    /// [`RegistrarError`] where the registry cannot be written.
    async fn register(&self, keys: &[DeviceKey], seen_at: Timestamp) -> Result<(), RegistrarError>;
}

/// A registry for running without a ledger: it knows nobody and takes everybody.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenRegistrar;

#[async_trait]
impl Registrar for OpenRegistrar {
    async fn known(&self, keys: &[DeviceKey]) -> Result<Vec<bool>, RegistrarError> {
        Ok(vec![false; keys.len()])
    }

    async fn register(&self, _keys: &[DeviceKey], _seen_at: Timestamp) -> Result<(), RegistrarError> {
        Ok(())
    }
}
