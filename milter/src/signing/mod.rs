//! Signing of outgoing mail: which keys sign for which sender, and the signatures.
//!
//! Every key whose pattern holds for the author signs, so an RSA and an Ed25519 key stand side by side by naming both.
//! Imported OpenDKIM tables keep their own rule: the first pattern that matches decides.
//!
//! Cost of a signature beside the maths: one canonicalisation and one hash of the body, shared by all keys of a message.

mod key_file;
mod opendkim;
mod sender_pattern;

pub use self::key_file::{KeyFileError, PublishedKey, check_published, key_question, read_key_file};
pub use self::opendkim::{TableError, TableFault, TableSource};
pub use self::sender_pattern::SenderPattern;
pub use mailproof::keygen::{GeneratedKey, KeyKind, generate, zone_line};

use std::path::PathBuf;

use mailproof_proto::dkim::{
    Algorithm, BodyHashes, Canonicalization, OVERSIGNED_NAMES, SIGNED_NAMES, SignError, SigningKey, SigningPlan, sign,
};
use mailproof_proto::dns::Name;
use mailproof_proto::message::address::addresses;
use mailproof_proto::message::{FieldKind, Headers};
use mailproof_proto::time::Timestamp;
use serde::Deserialize;

/// The settings of signing.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct SigningSettings {
    /// Fields that are signed, every instance of each.
    pub headers: Vec<String>,
    /// Fields listed once more than there are, so that none can be added (RFC 6376 section 5.4.2).
    pub oversign: Vec<String>,
    /// `c=` (RFC 6376 section 3.5).
    pub canonicalization: CanonicalizationPair,
    /// Seconds after which a signature expires (`x=`); 0 for never.
    pub expire_seconds: u64,
    /// Refuse key files that others than their owner and group may read.
    pub require_safe_keys: bool,
    /// Compare every key with its record in the DNS at start, and say where they differ.
    pub check_dns: bool,
    /// OpenDKIM's `KeyTable`: a path, or `file:` or `refile:` and a path.
    pub opendkim_key_table: Option<TableSource>,
    /// OpenDKIM's `SigningTable`, written as its configuration does.
    pub opendkim_signing_table: Option<TableSource>,
    /// OpenDKIM's `MultipleSignatures`: every pattern that matches signs, not the first alone.
    pub opendkim_multiple_signatures: bool,
    /// The keys.
    pub key: Vec<KeySettings>,
}

/// One key.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct KeySettings {
    /// `d=`
    #[serde(deserialize_with = "read_domain")]
    pub domain: Name,
    /// `s=`
    #[serde(deserialize_with = "read_selector")]
    pub selector: String,
    /// The file with the private key.
    pub file: PathBuf,
    /// The authors it signs for; every address of `domain` when none is named.
    #[serde(default)]
    pub senders: Vec<SenderPattern>,
}

/// The two words of `c=`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub struct CanonicalizationPair {
    /// Of the header.
    pub header: Canonicalization,
    /// Of the body.
    pub body: Canonicalization,
}

/// Keys and patterns, ready to sign. Made once, shared by all connections.
#[derive(Debug)]
pub struct Signer {
    keys: Vec<Key>,
    entries: Vec<Entry>,
    /// From this entry on the first that matches ends the search.
    first_match_from: usize,
    headers: Vec<String>,
    oversign: Vec<String>,
    canonicalization: CanonicalizationPair,
    expire_seconds: u64,
}

/// A key that can sign.
#[derive(Debug)]
pub struct Key {
    /// `d=`; `None` for the domain of the author.
    pub domain: Option<Name>,
    /// `s=`
    pub selector: String,
    /// Where it was read.
    pub file: PathBuf,
    /// The private key.
    pub private: SigningKey,
}

#[derive(Debug)]
struct Entry {
    pattern: SenderPattern,
    key: usize,
}

/// The keys that sign one message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Selection {
    author_domain: Name,
    /// Positions among the keys.
    keys: Vec<usize>,
}

/// Why a signer can not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SigningError {
    /// A key file.
    #[error("{}: {error}", file.display())]
    Key {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        error: KeyFileError,
    },
    /// A table of OpenDKIM.
    #[error(transparent)]
    Table(#[from] TableError),
    /// RFC 6376 section 5.4.
    #[error("signing.headers leaves out From (RFC 6376 section 5.4)")]
    FromNotSigned,
    /// One table without the other.
    #[error("opendkim-key-table and opendkim-signing-table need each other")]
    OneTable,
}

impl Default for SigningSettings {
    fn default() -> Self {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            headers: owned(&SIGNED_NAMES),
            oversign: owned(&OVERSIGNED_NAMES),
            canonicalization: CanonicalizationPair {
                header: Canonicalization::Relaxed,
                body: Canonicalization::Relaxed,
            },
            expire_seconds: 0,
            require_safe_keys: true,
            check_dns: true,
            opendkim_key_table: None,
            opendkim_signing_table: None,
            opendkim_multiple_signatures: false,
            key: Vec::new(),
        }
    }
}

impl Signer {
    /// Reads every key and table that the settings name.
    ///
    /// # Errors
    /// [`SigningError`] for the first that can not be used.
    pub fn load(settings: &SigningSettings) -> Result<Self, SigningError> {
        if !settings.headers.iter().any(|name| name.eq_ignore_ascii_case("From")) {
            return Err(SigningError::FromNotSigned);
        }
        let mut signer = Self {
            keys: Vec::new(),
            entries: Vec::new(),
            first_match_from: usize::MAX,
            headers: settings.headers.clone(),
            oversign: settings.oversign.clone(),
            canonicalization: settings.canonicalization,
            expire_seconds: settings.expire_seconds,
        };
        for key in &settings.key {
            let at = signer.add_key(Some(key.domain), &key.selector, &key.file, settings)?;
            let all = [SenderPattern::domain(&key.domain)];
            let senders = if key.senders.is_empty() { &all[..] } else { &key.senders };
            signer.entries.extend(senders.iter().map(|pattern| Entry { pattern: pattern.clone(), key: at }));
        }
        match (&settings.opendkim_key_table, &settings.opendkim_signing_table) {
            (Some(keys), Some(senders)) => signer.import(keys, senders, settings)?,
            (None, None) => {}
            _ => return Err(SigningError::OneTable),
        }
        Ok(signer)
    }

    fn import(
        &mut self,
        keys: &TableSource,
        senders: &TableSource,
        settings: &SigningSettings,
    ) -> Result<(), SigningError> {
        let (keys, senders) = opendkim::read(keys, senders)?;
        if !settings.opendkim_multiple_signatures {
            self.first_match_from = self.entries.len();
        }
        let first_key = self.keys.len();
        for key in &keys {
            self.add_key(key.domain, &key.selector, &key.file, settings)?;
        }
        self.entries.extend(senders.into_iter().map(|it| Entry { pattern: it.pattern, key: first_key + it.key }));
        Ok(())
    }

    fn add_key(
        &mut self,
        domain: Option<Name>,
        selector: &str,
        file: &std::path::Path,
        settings: &SigningSettings,
    ) -> Result<usize, SigningError> {
        let private = read_key_file(file, settings.require_safe_keys)
            .map_err(|error| SigningError::Key { file: file.to_owned(), error })?;
        self.keys.push(Key { domain, selector: selector.to_owned(), file: file.to_owned(), private });
        Ok(self.keys.len() - 1)
    }

    /// True when no mail can be signed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The keys, for a comparison with the DNS.
    #[must_use]
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// The keys that sign a message: those of the first address in From. `None` when there are none.
    #[must_use]
    pub fn select(&self, headers: Headers<'_>) -> Option<Selection> {
        let from = headers.of_kind(FieldKind::From).next()?;
        let author = addresses(from.value).next()?.ok()?;
        let author_domain = author.domain_name().ok()?;
        let local_part = std::str::from_utf8(author.local_part).ok()?;
        let address = format!("{local_part}@{author_domain}").to_lowercase();
        let mut keys: Vec<usize> = Vec::new();
        for (at, entry) in self.entries.iter().enumerate() {
            if !entry.pattern.matches(&address) {
                continue;
            }
            if !keys.contains(&entry.key) && keys.len() < SIGNATURES_MAX {
                keys.push(entry.key);
            }
            if at >= self.first_match_from {
                break;
            }
        }
        (!keys.is_empty()).then_some(Selection { author_domain, keys })
    }

    /// Asks for the hash of the body before its first octet arrives.
    pub fn want_body(&self, bodies: &mut BodyHashes) {
        bodies.want(self.canonicalization.body, None);
    }

    /// Signs: one DKIM-Signature field a key, each with its final CRLF and the algorithm it was made with.
    ///
    /// # Errors
    /// [`SignError`] when one of them can not be made; none is added then.
    pub fn sign(
        &self,
        selection: &Selection,
        headers: Headers<'_>,
        bodies: &BodyHashes,
        now: Timestamp,
    ) -> Result<Vec<(Algorithm, String)>, SignError> {
        let names: Vec<&str> = self.headers.iter().map(String::as_str).collect();
        let oversigned: Vec<&str> = self.oversign.iter().map(String::as_str).collect();
        let signed_at = now.seconds();
        let expires_at = (self.expire_seconds > 0).then(|| signed_at.saturating_add(self.expire_seconds));
        let keys = selection.keys.iter().filter_map(|at| self.keys.get(*at));
        keys.map(|key| {
            let plan = SigningPlan {
                domain: key.domain.as_ref().unwrap_or(&selection.author_domain),
                selector: &key.selector,
                identity: None,
                header_form: self.canonicalization.header,
                body_form: self.canonicalization.body,
                names: &names,
                oversigned: &oversigned,
                signed_at: Some(signed_at),
                expires_at,
            };
            Ok((key.private.algorithm(), sign(&plan, &key.private, headers, bodies)?))
        })
        .collect()
    }
}

impl Selection {
    /// The domain of the author.
    #[must_use]
    pub fn author_domain(&self) -> &Name {
        &self.author_domain
    }
}

impl TryFrom<String> for CanonicalizationPair {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let form = |word: &str| match word {
            "simple" => Ok(Canonicalization::Simple),
            "relaxed" => Ok(Canonicalization::Relaxed),
            _ => Err(format!("`{text}`: write `relaxed/relaxed`, with `simple` for either word")),
        };
        let (header, body) = text.split_once('/').unwrap_or((&text, "simple"));
        Ok(Self { header: form(header)?, body: form(body)? })
    }
}

fn read_domain<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
    let text = String::deserialize(deserializer)?;
    let name = Name::parse_domain(&text).ok().filter(|name| name.label_count() > 1);
    name.ok_or_else(|| serde::de::Error::custom(format!("`{text}` is no domain name of two labels or more")))
}

fn read_selector<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if is_selector(&text) { Ok(text) } else { Err(serde::de::Error::custom(format!("`{text}` is no selector"))) }
}

/// RFC 6376 section 3.1: labels, as those of a domain.
fn is_selector(text: &str) -> bool {
    Name::parse_domain(text).is_ok()
}

/// Signatures of one message.
const SIGNATURES_MAX: usize = 8;
