//! Typed ids: a device is not a depot, and the compiler knows it.
//!
//! An id is text that its owner chose (a serial number, an ERP number). It travels in MQTT topics, so the characters that
//! topics reserve are refused where it is parsed; after that it is valid by construction and cheap to clone.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize, Serializer};

/// Longest id in bytes. An MQTT topic name holds at most 65,535 bytes and ours carries two ids; 200 is generous for any
/// serial number and keeps an index row small.
pub const MAX_ID_BYTES: usize = 200;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// The text has no characters.
    #[error("{kind} id is empty")]
    Empty {
        /// Which kind of id was parsed.
        kind: &'static str,
    },
    /// The text is longer than [`MAX_ID_BYTES`].
    #[error("{kind} id is {bytes} bytes long, at most {MAX_ID_BYTES} are allowed")]
    TooLong {
        /// Which kind of id was parsed.
        kind: &'static str,
        /// Its length.
        bytes: usize,
    },
    /// The text holds a character that MQTT topics reserve, or a control character.
    #[error("{kind} id {text:?} holds {character:?}, which an MQTT topic cannot carry")]
    Character {
        /// Which kind of id was parsed.
        kind: &'static str,
        /// The whole text.
        text: String,
        /// The first offending character.
        character: char,
    },
}

fn check(kind: &'static str, text: &str) -> Result<(), InvalidId> {
    if text.is_empty() {
        return Err(InvalidId::Empty { kind });
    }
    if text.len() > MAX_ID_BYTES {
        return Err(InvalidId::TooLong { kind, bytes: text.len() });
    }
    let reserved = |c: &char| c.is_control() || matches!(c, '/' | '+' | '#');
    match text.chars().find(reserved) {
        Some(character) => Err(InvalidId::Character { kind, text: text.to_owned(), character }),
        None => Ok(()),
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(Arc<str>);

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl $name {
            /// Takes a text as an id.
            ///
            /// # Errors
            /// [`InvalidId`] where the text is empty, too long, or holds `/`, `+`, `#` or a control character.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                check($kind, text)?;
                Ok(Self(Arc::from(text)))
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.as_ref().to_owned()
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

text_id!(
    /// An owner of devices, parts and data: an OEM or a service company. No tenant sees another's rows.
    TenantId, "tenant"
);
text_id!(
    /// A machine that reports: a server, a drive, a refrigerator. Unique within its tenant.
    DeviceId, "device"
);
text_id!(
    /// A hardware model: the make and type of a device (not a statistical model).
    HardwareModelId, "model"
);
text_id!(
    /// A component slot of a hardware model: what fails and is replaced.
    ComponentId, "component"
);
text_id!(
    /// A spare part number.
    PartId, "part"
);
text_id!(
    /// A stock location: the hub or a forward depot.
    DepotId, "depot"
);
text_id!(
    /// A service contract.
    ContractId, "contract"
);
text_id!(
    /// A signal of a device: the name of one time series of values.
    SignalId, "signal"
);

/// A device of a tenant: the key of everything that devices report.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeviceKey {
    /// Who owns the device.
    pub tenant: TenantId,
    /// The device within that tenant.
    pub device: DeviceId,
}

impl DeviceKey {
    /// Joins a tenant and a device.
    #[must_use]
    pub fn new(tenant: TenantId, device: DeviceId) -> Self {
        Self { tenant, device }
    }
}

impl fmt::Display for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.device)
    }
}

/// A new id for a row that we make: `prefix` and a UUID of version 7, such as `alr_0197...`. Ids made later in one process
/// sort later, so they serve as keyset cursors. Source: RFC 9562, section 5.7.
#[must_use]
pub fn new_id(prefix: &str) -> String {
    format!("{prefix}_{}", uuid::Uuid::now_v7().simple())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_keeps_its_text_and_refuses_what_topics_reserve() {
        assert_eq!(DeviceId::parse("Hitachi HDS5C3030").unwrap().as_str(), "Hitachi HDS5C3030");
        assert_eq!(DeviceId::parse(""), Err(InvalidId::Empty { kind: "device" }));
        for text in ["a/b", "a+", "#", "a\nb", "\0"] {
            assert!(matches!(PartId::parse(text), Err(InvalidId::Character { .. })), "{text:?}");
        }
        assert!(matches!(DepotId::parse(&"x".repeat(201)), Err(InvalidId::TooLong { bytes: 201, .. })));
    }

    #[test]
    fn json_is_checked_like_text() {
        assert!(serde_json::from_str::<TenantId>("\"acme\"").is_ok());
        assert!(serde_json::from_str::<TenantId>("\"a/b\"").is_err());
    }
}
