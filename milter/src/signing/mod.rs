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

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use mailproof_proto::dkim::{
    Algorithm, BodyHashes, Canonicalization, OVERSIGNED_NAMES, SIGNED_NAMES, SignError, SigningKey, SigningPlan, sign,
};
use mailproof_proto::dns::Name;
use mailproof_proto::message::address::addresses;
use mailproof_proto::message::{FieldKind, Headers};
use mailproof_proto::time::Timestamp;
use serde::Deserialize;

use self::key_file::read_key_text;
use self::opendkim::{KeyLine, KeyName, KeySource};

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
    /// The names of OpenDKIM's key table.
    names: HashMap<String, Vec<usize>>,
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
    /// The only author domain it signs for, where the name of its file says so.
    author: Option<Name>,
}

#[derive(Debug)]
struct Entry {
    pattern: SenderPattern,
    keys: EntryKeys,
    /// `i=`, in which `%` is the domain of the author.
    identity: Option<String>,
}

#[derive(Debug)]
enum EntryKeys {
    /// Positions among the keys.
    These(Vec<usize>),
    /// Those that have the author domain for their name.
    OfAuthor,
}

/// The keys that sign one message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Selection {
    author_domain: Name,
    /// Positions among the keys, each with its identity.
    keys: Vec<(usize, Option<String>)>,
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
    #[error("From is left out (RFC 6376 section 5.4)")]
    FromNotSigned,
    /// One table without the other.
    #[error("opendkim-key-table and opendkim-signing-table need each other")]
    OneTable,
}

impl SigningError {
    /// The key of the settings that is to be looked at.
    pub(crate) fn key(&self, settings: &SigningSettings) -> String {
        match self {
            Self::Key { file, .. } => match settings.key.iter().position(|key| key.file == *file) {
                Some(at) => format!("key[{at}].file"),
                None => KEY_TABLE.to_owned(),
            },
            Self::Table(error) => error.table.to_owned(),
            Self::FromNotSigned => "headers".to_owned(),
            Self::OneTable if settings.opendkim_key_table.is_some() => KEY_TABLE.to_owned(),
            Self::OneTable => SIGNING_TABLE.to_owned(),
        }
    }
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
            names: HashMap::new(),
            entries: Vec::new(),
            first_match_from: usize::MAX,
            headers: settings.headers.clone(),
            oversign: settings.oversign.clone(),
            canonicalization: settings.canonicalization,
            expire_seconds: settings.expire_seconds,
        };
        for key in &settings.key {
            let at = signer.keys.len();
            let private = read_key_file(&key.file, settings.require_safe_keys).map_err(of_file(&key.file))?;
            let (domain, selector, file) = (Some(key.domain), key.selector.clone(), key.file.clone());
            signer.keys.push(Key { domain, selector, file, private, author: None });
            let all = [SenderPattern::domain(&key.domain)];
            let senders = if key.senders.is_empty() { &all[..] } else { &key.senders };
            signer.entries.extend(senders.iter().map(|pattern| Entry {
                pattern: pattern.clone(),
                keys: EntryKeys::These(vec![at]),
                identity: None,
            }));
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
        let tables = opendkim::read(keys, senders)?;
        if !settings.opendkim_multiple_signatures {
            self.first_match_from = self.entries.len();
        }
        let (first, safe) = (self.keys.len(), settings.require_safe_keys);
        for KeyLine { author, domain, selector, source } in tables.keys {
            let (private, file) = match source {
                KeySource::File(file) => (read_key_file(&file, safe), file),
                KeySource::Text(text, table) => (read_key_text(&text, &table, safe), table),
            };
            let private = private.map_err(of_file(&file))?;
            self.keys.push(Key { domain, selector, file, private, author });
        }
        let moved = |positions: &Vec<usize>| positions.iter().map(|at| first + at).collect();
        self.names = tables.names.iter().map(|(name, positions)| (name.to_lowercase(), moved(positions))).collect();
        self.entries.extend(tables.senders.into_iter().map(|it| Entry {
            pattern: it.pattern,
            keys: match it.key {
                KeyName::Named(name) => EntryKeys::These(tables.names.get(&name).map(moved).unwrap_or_default()),
                KeyName::OfAuthor => EntryKeys::OfAuthor,
            },
            identity: it.identity,
        }));
        Ok(())
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
        let mut keys: Vec<(usize, Option<String>)> = Vec::new();
        for (at, entry) in self.entries.iter().enumerate() {
            if !entry.pattern.matches(&address) {
                continue;
            }
            let of_entry = match &entry.keys {
                EntryKeys::These(keys) => keys.as_slice(),
                EntryKeys::OfAuthor => self.names.get(&author_domain.to_string()).map_or(&[][..], Vec::as_slice),
            };
            for key in of_entry {
                let only = self.keys.get(*key).and_then(|key| key.author.as_ref());
                let fits = only.is_none_or(|only| *only == author_domain);
                if fits && keys.len() < SIGNATURES_MAX && !keys.iter().any(|(it, _)| it == key) {
                    let identity = entry.identity.as_ref().map(|it| it.replace('%', &author_domain.to_string()));
                    keys.push((*key, identity));
                }
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
        let keys = selection.keys.iter().filter_map(|(at, identity)| Some((self.keys.get(*at)?, identity)));
        keys.map(|(key, identity)| {
            let domain = key.domain.as_ref().unwrap_or(&selection.author_domain);
            let plan = SigningPlan {
                domain,
                selector: &key.selector,
                // One of another domain would make the signature invalid (RFC 6376 section 3.5).
                identity: identity.as_deref().filter(|it| is_identity_of(it, domain)),
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

impl Key {
    /// The domain whose zone has its record; `None` when that is the domain of each author.
    #[must_use]
    pub fn record_domain(&self) -> Option<&Name> {
        self.domain.as_ref().or(self.author.as_ref())
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

fn of_file(file: &Path) -> impl Fn(KeyFileError) -> SigningError {
    move |error| SigningError::Key { file: file.to_owned(), error }
}

fn is_identity_of(identity: &str, domain: &Name) -> bool {
    let of = identity.rsplit_once('@').and_then(|(_, of)| Name::parse_domain(of).ok());
    of.is_some_and(|of| of.is_at_or_below(domain))
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

const KEY_TABLE: &str = "opendkim-key-table";
const SIGNING_TABLE: &str = "opendkim-signing-table";
/// Signatures of one message.
const SIGNATURES_MAX: usize = 8;
