//! Private keys in files, and whether the DNS has their other half.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mailproof_proto::dkim::{SignError, SigningKey};
use mailproof_proto::dns::{Answer, Failure, Name, Outcome, Question, RecordSet, RecordType};
use mailproof_proto::tag_list::TagList;

/// Why a key file can not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// It can not be opened or read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A folder, a device, or more octets than a key has.
    #[error("no file of at most {KEY_BYTES_MAX} octets")]
    NotAFile,
    /// Others may read it, or its group may write it.
    #[error("mode {mode:o} lets others at the key; `chmod 640` or less, or set signing.require-safe-keys = false")]
    TooOpen {
        /// The permission bits.
        mode: u32,
    },
    /// What is in it is no key that signs.
    #[error("{0}; give a PEM file with an RSA key of 2048 bits or more, or an Ed25519 key")]
    NoKey(SignError),
}

/// How a key and its record in the DNS go together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PublishedKey {
    /// A record holds this key.
    Matches,
    /// Records are there, none with this key.
    Differs,
    /// No record.
    Missing,
    /// The DNS did not say.
    Unknown(Failure),
}

/// Reads a private key. With `require_safe`, the file must not be readable by others nor writable by its group.
///
/// # Errors
/// [`KeyFileError`].
pub fn read_key_file(path: &Path, require_safe: bool) -> Result<SigningKey, KeyFileError> {
    let mut octets = Vec::new();
    open(path, require_safe, KEY_BYTES_MAX)?.take(KEY_BYTES_MAX).read_to_end(&mut octets)?;
    SigningKey::read(&octets).map_err(KeyFileError::NoKey)
}

/// Reads a private key that stands in a table itself, which must be as safe as a file with a key.
pub(super) fn read_key_text(text: &str, table: &Path, require_safe: bool) -> Result<SigningKey, KeyFileError> {
    open(table, require_safe, u64::MAX)?;
    SigningKey::read(text.as_bytes()).map_err(KeyFileError::NoKey)
}

fn open(path: &Path, require_safe: bool, bytes_max: u64) -> Result<File, KeyFileError> {
    let file = File::open(path)?;
    // Asked of the open file, so that it is the same one.
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > bytes_max {
        return Err(KeyFileError::NotAFile);
    }
    let mode = metadata.mode() & 0o777;
    if require_safe && mode & UNSAFE_MODE != 0 {
        return Err(KeyFileError::TooOpen { mode });
    }
    Ok(file)
}

/// The question for the record of a key (RFC 6376 section 3.6.2.1); `None` when its name would be too long.
#[must_use]
pub fn key_question(domain: &Name, selector: &str) -> Option<Question> {
    let below = domain.prepend("_domainkey").ok()?.prepend(selector).ok()?;
    Some(Question::new(below, RecordType::Txt))
}

/// Compares a key with the answer to its question.
#[must_use]
pub fn check_published(key: &SigningKey, answer: &Answer) -> PublishedKey {
    let texts = match answer.outcome() {
        Outcome::Records(RecordSet::Txt(texts)) => texts,
        Outcome::Failed(failure) => return PublishedKey::Unknown(*failure),
        Outcome::Records(_) | Outcome::NoData | Outcome::NxDomain => return PublishedKey::Missing,
    };
    let Some(own) = key.record().ok().and_then(|record| material(record.as_bytes())) else {
        return PublishedKey::Differs;
    };
    // An RSA key may be published without the structure around it (RFC 6376 section 3.6.1), which ends with the key.
    let same = |published: Vec<u8>| published.len() >= MATERIAL_BYTES_MIN && own.ends_with(&published);
    match texts.iter().filter_map(|text| material(&text.0)).any(same) {
        true => PublishedKey::Matches,
        false => PublishedKey::Differs,
    }
}

/// The octets of `p=`.
fn material(record: &[u8]) -> Option<Vec<u8>> {
    let tags = TagList::parse(record).ok()?;
    let text: String = tags.value("p")?.chars().filter(|character| !character.is_ascii_whitespace()).collect();
    STANDARD.decode(text).ok()
}

/// Permission bits that a key file must not have.
const UNSAFE_MODE: u32 = 0o027;
/// Octets of a key file; one of 16,384 bits as PEM has 13,000.
const KEY_BYTES_MAX: u64 = 64 * 1024;
/// The shortest public key there is, an Ed25519 one.
const MATERIAL_BYTES_MIN: usize = 32;
