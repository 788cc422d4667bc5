//! New keys, with the record to publish for them.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mailproof_proto::dkim::{SignError, SigningKey};
use mailproof_proto::dns::Name;

/// The kind of a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyKind {
    /// RSA of 2048 bits, which every receiver verifies (RFC 8301 section 3.2).
    Rsa2048,
    /// RSA of 3072 bits.
    Rsa3072,
    /// RSA of 4096 bits, the most that every receiver has to verify.
    Rsa4096,
    /// Ed25519 (RFC 8463), to be used beside an RSA key.
    Ed25519,
}

/// A new key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GeneratedKey {
    /// The private key as PEM (PKCS#8).
    pub pem: String,
    /// The TXT record of the public key (RFC 6376 section 3.6.1).
    pub record: String,
}

/// Makes a key.
///
/// # Errors
/// [`SignError::Refused`] when the cryptographic library does not make one.
pub fn generate(kind: KeyKind) -> Result<GeneratedKey, SignError> {
    let rsa = |size| -> Result<Vec<u8>, SignError> {
        let pair = RsaKeyPair::generate(size).map_err(|_| SignError::Refused)?;
        let der: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| SignError::Refused)?;
        Ok(der.as_ref().to_vec())
    };
    let der = match kind {
        KeyKind::Rsa2048 => rsa(KeySize::Rsa2048)?,
        KeyKind::Rsa3072 => rsa(KeySize::Rsa3072)?,
        KeyKind::Rsa4096 => rsa(KeySize::Rsa4096)?,
        KeyKind::Ed25519 => {
            let pair = Ed25519KeyPair::generate().map_err(|_| SignError::Refused)?;
            // Version 1, the only form that OpenSSL and other signers read.
            pair.to_pkcs8v1().map_err(|_| SignError::Refused)?.as_ref().to_vec()
        }
    };
    let record = SigningKey::read(&der)?.record()?;
    Ok(GeneratedKey { pem: pem(&der), record })
}

/// The line to put into a zone file (RFC 1035 section 5): a record is split into character-strings.
#[must_use]
pub fn zone_line(domain: &Name, selector: &str, record: &str) -> String {
    let mut line = format!("{selector}._domainkey.{domain}. IN TXT (");
    let mut rest = record;
    while !rest.is_empty() {
        // A record is ASCII, so every octet ends a character.
        let (string, after) = rest.split_at_checked(STRING_BYTES_MAX).unwrap_or((rest, ""));
        line.push_str(&format!(" \"{string}\""));
        rest = after;
    }
    line.push_str(" )");
    line
}

/// RFC 7468 section 10.
fn pem(der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let mut text = "-----BEGIN PRIVATE KEY-----\n".to_owned();
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at_checked(PEM_LINE_CHARACTERS).unwrap_or((rest, ""));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str("-----END PRIVATE KEY-----\n");
    text
}

/// RFC 1035 section 3.3.
const STRING_BYTES_MAX: usize = 255;
/// RFC 7468 section 2.
const PEM_LINE_CHARACTERS: usize = 64;
