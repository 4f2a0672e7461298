//! Who may send: API keys as MQTT passwords, and devices that the ledger knows.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use harbinger_core::{Clock, DeviceKey, TenantId, Timestamp};
use harbinger_ingest::{
    AnonymousOnLoopback, Authenticator, Principal, Refused, Registrar, Tenants, admission::RegistrarError,
};
use harbinger_store::{
    Ledger,
    ledger::{
        self,
        keys::{self, Scope},
        registry,
    },
};

/// Lets clients in whose password is an API key with the right to ingest; without a password only from loopback.
pub(super) struct Gate {
    ledger: Ledger,
    clock: Arc<dyn Clock>,
}

impl Gate {
    pub(super) fn new(ledger: Ledger, clock: Arc<dyn Clock>) -> Self {
        Self { ledger, clock }
    }

    async fn key(&self, plain: &str) -> Result<Option<keys::Key>, ledger::Error> {
        let mut read = self.ledger.read().await?;
        keys::find(&mut read, plain).await
    }
}

#[async_trait]
impl Authenticator for Gate {
    async fn authenticate(
        &self,
        username: Option<&str>,
        password: Option<&[u8]>,
        peer: SocketAddr,
    ) -> Result<Principal, Refused> {
        let Some(password) = password.filter(|password| !password.is_empty()) else {
            return AnonymousOnLoopback.authenticate(username, None, peer).await;
        };
        let plain = std::str::from_utf8(password).map_err(|_| Refused::BadCredentials)?;
        let unavailable = |error: ledger::Error| {
            tracing::error!(%error, "a client could not be authenticated");
            Refused::Unavailable { reason: "the ledger did not answer".to_owned() }
        };
        let key = self.key(plain).await.map_err(unavailable)?;
        let now = self.clock.now();
        let key = key.filter(|key| key.is_valid(now)).ok_or(Refused::BadCredentials)?;
        if !key.allows(Scope::Ingest) {
            return Err(Refused::NotAuthorized { reason: "the key has no right to ingest".to_owned() });
        }
        Ok(Principal { name: key.key_id, tenants: Tenants::One(key.tenant) })
    }
}

/// The registry of devices in the ledger.
pub(super) struct LedgerRegistrar {
    ledger: Ledger,
}

impl LedgerRegistrar {
    pub(super) fn new(ledger: Ledger) -> Self {
        Self { ledger }
    }

    async fn look_up(&self, keys: &[DeviceKey]) -> Result<Vec<bool>, ledger::Error> {
        let mut read = self.ledger.read().await?;
        let mut known = Vec::with_capacity(keys.len());
        for key in keys {
            known.push(registry::known_device(&mut read, &key.tenant, &key.device).await?);
        }
        Ok(known)
    }

    async fn add(&self, keys: &[DeviceKey], seen_at: Timestamp) -> Result<(), ledger::Error> {
        let mut by_tenant: BTreeMap<&TenantId, Vec<&DeviceKey>> = BTreeMap::new();
        for key in keys {
            by_tenant.entry(&key.tenant).or_default().push(key);
        }
        let mut write = self.ledger.write().await?;
        for (tenant, keys) in by_tenant {
            registry::ensure_tenant(&mut write, tenant, seen_at).await?;
            for key in keys {
                registry::auto_register(&mut write, tenant, &key.device).await?;
            }
        }
        Ok(write.commit().await?)
    }
}

#[async_trait]
impl Registrar for LedgerRegistrar {
    async fn known(&self, keys: &[DeviceKey]) -> Result<Vec<bool>, RegistrarError> {
        let failed = |error: ledger::Error| RegistrarError { attempt: "look up devices", source: Box::new(error) };
        self.look_up(keys).await.map_err(failed)
    }

    async fn register(&self, keys: &[DeviceKey], seen_at: Timestamp) -> Result<(), RegistrarError> {
        let failed = |error: ledger::Error| RegistrarError { attempt: "register devices", source: Box::new(error) };
        self.add(keys, seen_at).await.map_err(failed)
    }
}
