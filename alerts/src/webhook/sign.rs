//! Signatures of the Standard Webhooks specification, version 1.0.0: HMAC-SHA256 over `id.timestamp.body`, written as
//! `v1,` and Base64; during a rotation one signature a key, separated by spaces.
//!
//! Source: <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use harbinger_core::{Duration, Timestamp};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// Header with the message id, the same for every attempt.
pub const ID_HEADER: &str = "webhook-id";
/// Header with the time of the attempt in seconds since 1970.
pub const TIMESTAMP_HEADER: &str = "webhook-timestamp";
/// Header with the signatures.
pub const SIGNATURE_HEADER: &str = "webhook-signature";

/// How far a receiver's clock may differ from ours: what the specification's libraries use.
pub const TOLERANCE: Duration = Duration::from_secs(300);

const SECRET_PREFIX: &str = "whsec_";
const VERSION_PREFIX: &str = "v1,";
/// The specification asks for 24 to 64 random bytes.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// Of those that we make: the block that HMAC-SHA256 gives back.
const GENERATED_KEY_BYTES: usize = 32;

/// Why a text is no signing secret, or none could be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecret {
    /// It does not begin as secrets do.
    #[error("a signing secret begins with {SECRET_PREFIX}")]
    Prefix,
    /// What follows is not Base64.
    #[error("a signing secret is {SECRET_PREFIX} and Base64")]
    Base64,
    /// It is too short to be safe, or longer than the specification allows.
    #[error("a signing secret holds 24 to 64 bytes, not {bytes}")]
    Length {
        /// Bytes it holds.
        bytes: usize,
    },
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes for a signing secret")]
    NoRandomness,
}

/// The key of a signing secret.
#[derive(Clone)]
pub struct SigningKey(Vec<u8>);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(redacted)")
    }
}

impl SigningKey {
    /// Reads a secret: `whsec_` and Base64 of 24 to 64 bytes.
    ///
    /// # Errors
    /// [`InvalidSecret`].
    pub fn parse(secret: &str) -> Result<Self, InvalidSecret> {
        let encoded = secret.strip_prefix(SECRET_PREFIX).ok_or(InvalidSecret::Prefix)?;
        let key = BASE64.decode(encoded).map_err(|_| InvalidSecret::Base64)?;
        if KEY_BYTES.contains(&key.len()) { Ok(Self(key)) } else { Err(InvalidSecret::Length { bytes: key.len() }) }
    }

    /// Makes a key of 32 bytes from the operating system's randomness.
    ///
    /// # Errors
    /// [`InvalidSecret::NoRandomness`].
    pub fn generate() -> Result<Self, InvalidSecret> {
        let mut key = vec![0; GENERATED_KEY_BYTES];
        let random = rustls::crypto::ring::default_provider().secure_random;
        random.fill(&mut key).map_err(|_| InvalidSecret::NoRandomness)?;
        Ok(Self(key))
    }

    /// The secret as its owner keeps it.
    #[must_use]
    pub fn to_secret(&self) -> String {
        format!("{SECRET_PREFIX}{}", BASE64.encode(&self.0))
    }

    /// The signature of one message, with its version.
    #[must_use]
    pub fn sign(&self, message_id: &str, sent: Timestamp, body: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(format!("{message_id}.{}.", seconds(sent)).as_bytes());
        mac.update(body.as_bytes());
        format!("{VERSION_PREFIX}{}", BASE64.encode(mac.finalize().into_bytes()))
    }
}

/// The signature header: one signature a key.
#[must_use]
pub fn signature_header(keys: &[SigningKey], message_id: &str, sent: Timestamp, body: &str) -> String {
    let signatures: Vec<String> = keys.iter().map(|key| key.sign(message_id, sent, body)).collect();
    signatures.join(" ")
}

/// The timestamp header.
#[must_use]
pub fn timestamp_header(sent: Timestamp) -> String {
    seconds(sent).to_string()
}

fn seconds(at: Timestamp) -> i64 {
    at.millis().div_euclid(1000)
}

/// Why a received message is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotVerified {
    /// The timestamp header is no number of seconds.
    #[error("{TIMESTAMP_HEADER} is no number of seconds")]
    Timestamp,
    /// It was sent too long ago, or comes from the future: perhaps an old message played again.
    #[error("{TIMESTAMP_HEADER} is more than {TOLERANCE} from now")]
    Age,
    /// No signature fits.
    #[error("no signature fits")]
    Signature,
}

/// What a receiver does: checks the three headers of a message against a key.
///
/// # Errors
/// [`NotVerified`].
pub fn verify(
    key: &SigningKey,
    message_id: &str,
    timestamp: &str,
    signatures: &str,
    body: &str,
    now: Timestamp,
) -> Result<(), NotVerified> {
    let seconds: i64 = timestamp.parse().map_err(|_| NotVerified::Timestamp)?;
    let sent = Timestamp::from_millis(seconds.saturating_mul(1000));
    if sent.millis().abs_diff(now.millis()) > TOLERANCE.millis().unsigned_abs() {
        return Err(NotVerified::Age);
    }
    let expected = key.sign(message_id, sent, body);
    let fits = |signature: &str| bool::from(signature.as_bytes().ct_eq(expected.as_bytes()));
    if signatures.split(' ').any(fits) { Ok(()) } else { Err(NotVerified::Signature) }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The example of the specification's reference libraries (standard-webhooks, `libraries/rust`, test of `sign`).
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const SENT: i64 = 1_614_265_330_000;
    const BODY: &str = r#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn the_specifications_example_is_signed_as_published() {
        assert_eq!(SigningKey::parse(SECRET).unwrap().sign(ID, at(SENT), BODY), SIGNATURE);
    }

    #[test]
    fn during_a_rotation_a_receiver_with_either_key_believes_the_message() {
        let keys = [SigningKey::generate().unwrap(), SigningKey::parse(SECRET).unwrap()];
        let header = signature_header(&keys, ID, at(SENT), BODY);
        assert_eq!(header.split(' ').count(), 2);
        for key in &keys {
            assert_eq!(verify(key, ID, &timestamp_header(at(SENT)), &header, BODY, at(SENT)), Ok(()));
        }
        let stranger = SigningKey::generate().unwrap();
        assert_eq!(verify(&stranger, ID, "1614265330", &header, BODY, at(SENT)), Err(NotVerified::Signature));
    }

    #[test]
    fn altered_old_and_early_messages_are_not_believed() {
        let key = SigningKey::parse(SECRET).unwrap();
        let check = |timestamp, body, now| verify(&key, ID, timestamp, SIGNATURE, body, at(now));
        assert_eq!(check("1614265330", BODY, SENT + 299_000), Ok(()));
        assert_eq!(check("1614265330", BODY, SENT + 301_000), Err(NotVerified::Age));
        assert_eq!(check("1614265330", BODY, SENT - 301_000), Err(NotVerified::Age));
        assert_eq!(check("1614265331", BODY, SENT), Err(NotVerified::Signature));
        assert_eq!(check("1614265330", "{}", SENT), Err(NotVerified::Signature));
        assert_eq!(check("soon", BODY, SENT), Err(NotVerified::Timestamp));
    }

    #[test]
    fn secrets_come_back_and_bad_ones_are_refused() {
        let key = SigningKey::generate().unwrap();
        assert_eq!(SigningKey::parse(&key.to_secret()).unwrap().0, key.0);
        assert!(!format!("{key:?}").contains(&key.to_secret()));
        assert_eq!(SigningKey::parse("MfKQ").unwrap_err(), InvalidSecret::Prefix);
        assert_eq!(SigningKey::parse("whsec_!").unwrap_err(), InvalidSecret::Base64);
        assert_eq!(SigningKey::parse("whsec_MfKQ").unwrap_err(), InvalidSecret::Length { bytes: 3 });
    }
}
