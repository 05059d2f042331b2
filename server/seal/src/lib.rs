//! Seals what a role may set and never read: public-key boxes (X25519, XSalsa20-Poly1305).
//!
//! Knows: bytes and keys. A box names the key that opens it, and what was sealed says whose it is: moved to another
//! app or another name it does not open.
//! Never: prints a value, a private key, or why exactly a box does not open.

use crypto_box::aead::OsRng;
use domain::{AppId, CustomerId, Secret};
use serde::{Deserialize, Serialize};

/// Of a box: what is in it, and how, may change.
const VERSION: u8 = 1;
const ID_BYTES: usize = 8;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SealError {
    #[error("this is no key: 64 hexadecimal digits are one")]
    NoKey,
    #[error("it could not be sealed")]
    Seal,
    #[error("it was sealed to a key that is not here")]
    OtherKey,
    #[error("it was damaged, or sealed for another app or name")]
    Spoiled,
}

/// Whose value it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound<'a> {
    pub customer: CustomerId,
    pub app: AppId,
    pub name: &'a str,
}

#[derive(Serialize, Deserialize)]
struct Content {
    customer: CustomerId,
    app: AppId,
    name: String,
    value: Secret<String>,
}

/// What opens boxes: in the process that hands an instance its environment, and nowhere else.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "Secret<String>", into = "Secret<String>")]
pub struct PrivateKey(crypto_box::SecretKey);

impl PrivateKey {
    /// A new one, of the kernel's randomness.
    pub fn new() -> Self {
        Self(crypto_box::SecretKey::generate(&mut OsRng))
    }

    pub fn parse(text: &Secret<String>) -> Result<Self, SealError> {
        Ok(Self(crypto_box::SecretKey::from(bytes(text.expose().trim())?)))
    }

    /// As it is kept.
    pub fn text(&self) -> Secret<String> {
        Secret::new(hex::encode(self.0.to_bytes()))
    }

    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.public_key())
    }

    pub fn open(&self, sealed: &[u8], bound: Bound<'_>) -> Result<Secret<String>, SealError> {
        let (head, rest) = sealed.split_first_chunk::<{ 1 + ID_BYTES }>().ok_or(SealError::Spoiled)?;
        if head[0] != VERSION || head[1..] != self.public().id() {
            return Err(SealError::OtherKey);
        }
        let content = self.0.unseal(rest).map_err(|_| SealError::Spoiled)?;
        let content: Content = serde_json::from_slice(&content).map_err(|_| SealError::Spoiled)?;
        let mine = content.customer == bound.customer && content.app == bound.app && content.name == bound.name;
        if mine { Ok(content.value) } else { Err(SealError::Spoiled) }
    }
}

impl Default for PrivateKey {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl TryFrom<Secret<String>> for PrivateKey {
    type Error = SealError;
    fn try_from(text: Secret<String>) -> Result<Self, SealError> {
        Self::parse(&text)
    }
}

impl From<PrivateKey> for Secret<String> {
    fn from(key: PrivateKey) -> Self {
        key.text()
    }
}

/// What seals.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey(crypto_box::PublicKey);

impl PublicKey {
    fn id(&self) -> [u8; ID_BYTES] {
        let mut id = [0; ID_BYTES];
        id.copy_from_slice(&self.0.as_bytes()[..ID_BYTES]);
        id
    }

    pub fn seal(&self, value: &Secret<String>, bound: Bound<'_>) -> Result<Vec<u8>, SealError> {
        let content =
            Content { customer: bound.customer, app: bound.app, name: bound.name.to_owned(), value: value.clone() };
        let content = serde_json::to_vec(&content).map_err(|_| SealError::Seal)?;
        let mut sealed = vec![VERSION];
        sealed.extend(self.id());
        sealed.extend(self.0.seal(&mut OsRng, &content).map_err(|_| SealError::Seal)?);
        Ok(sealed)
    }
}

impl TryFrom<String> for PublicKey {
    type Error = SealError;
    fn try_from(text: String) -> Result<Self, SealError> {
        Ok(Self(crypto_box::PublicKey::from(bytes(&text)?)))
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> String {
        hex::encode(key.0.as_bytes())
    }
}

fn bytes(text: &str) -> Result<[u8; 32], SealError> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| SealError::NoKey)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bound(app: i64, name: &str) -> Bound<'_> {
        Bound { customer: CustomerId(7), app: AppId(app), name }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn what_is_sealed_opens_for_its_own_app_and_name_only(value in any::<String>(), at in any::<prop::sample::Index>()) {
            let (key, value) = (PrivateKey::new(), Secret::new(value));
            let sealed = key.public().seal(&value, bound(1, "KEY")).unwrap();
            prop_assert_eq!(key.open(&sealed, bound(1, "KEY")), Ok(value.clone()));
            prop_assert_eq!(key.open(&sealed, bound(2, "KEY")), Err(SealError::Spoiled));
            prop_assert_eq!(key.open(&sealed, bound(1, "OTHER")), Err(SealError::Spoiled));
            prop_assert_eq!(PrivateKey::new().open(&sealed, bound(1, "KEY")), Err(SealError::OtherKey));
            let mut damaged = sealed.clone();
            let at = at.index(damaged.len());
            damaged[at] ^= 1;
            prop_assert!(key.open(&damaged, bound(1, "KEY")).is_err());
            prop_assert!(key.open(&sealed[..at], bound(1, "KEY")).is_err());
        }
    }

    #[test]
    fn keys_are_kept_as_text_and_not_printed() {
        let key = PrivateKey::new();
        let again = PrivateKey::parse(&Secret::new(format!("{}\n", key.text().expose()))).unwrap();
        let sealed = again.public().seal(&Secret::new("value".to_owned()), bound(1, "KEY")).unwrap();
        assert!(key.open(&sealed, bound(1, "KEY")).is_ok());
        assert_eq!(format!("{key:?}"), "***");
        for wrong in ["", "zz", &"z".repeat(64), &"0".repeat(63)] {
            assert!(PrivateKey::parse(&Secret::new(wrong.to_owned())).is_err());
        }
    }
}
