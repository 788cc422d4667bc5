//! Signing (RFC 6376 section 5, RFC 8463): the whole DKIM-Signature field, made from the same canonical forms and body
//! hashes that verification uses. `l=` and SHA-1 are never written.

use aws_lc_rs::digest::Digest;
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};

use super::canonical::{FieldsByName, HeaderHash};
use super::signature::{Algorithm, Form, Signature};
use super::{BodyHashes, Canonicalization, DkimProblem, base64};
use crate::dns::Name;
use crate::message::{Field, FieldKind, Headers};

/// A private key, parsed once.
#[derive(Debug)]
pub struct SigningKey(Private);

#[derive(Debug)]
enum Private {
    Rsa(Box<RsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
}

/// What a signature should say and cover.
#[derive(Clone, Copy, Debug)]
pub struct SigningPlan<'a> {
    /// `d=`
    pub domain: &'a Name,
    /// `s=`
    pub selector: &'a str,
    /// `i=`, left out when `None`.
    pub identity: Option<&'a str>,
    /// First word of `c=`.
    pub header_form: Canonicalization,
    /// Second word of `c=`.
    pub body_form: Canonicalization,
    /// Fields to sign, every instance of each.
    pub names: &'a [&'a str],
    /// Names listed once more than there are instances, so that none can be added (RFC 6376 section 5.4.2).
    pub oversigned: &'a [&'a str],
    /// `t=`, seconds since the epoch.
    pub signed_at: Option<u64>,
    /// `x=`, seconds since the epoch.
    pub expires_at: Option<u64>,
}

/// Why nothing was signed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// No private key in a form that is read, or an RSA key under 2048 bits.
    #[error("not a usable private key")]
    Key,
    /// RFC 6376 section 5.4 requires that From is signed.
    #[error("the message has no From field")]
    NoFrom,
    /// Nobody can say what a header holds that was cut off.
    #[error("the header is over a limit")]
    HeaderOverLimit,
    /// The hash of the body was not asked for before the body arrived.
    #[error("the body was not hashed")]
    BodyNotHashed,
    /// The plan gives a field that could not be read back.
    #[error("the signature would be invalid: {0}")]
    Invalid(DkimProblem),
    /// The cryptographic library refused.
    #[error("the signing operation failed")]
    Refused,
}

/// The fields worth signing (RFC 6376 section 5.4.1), From first.
pub const SIGNED_NAMES: [&str; 17] = [
    "From",
    "Sender",
    "Reply-To",
    "Subject",
    "Date",
    "Message-ID",
    "To",
    "Cc",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "In-Reply-To",
    "References",
    "List-Id",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "List-Post",
];

/// The fields that a reader sees or a program trusts, and to which no instance should be added.
pub const OVERSIGNED_NAMES: [&str; 8] =
    ["From", "Reply-To", "Subject", "Date", "To", "Cc", "MIME-Version", "Content-Type"];

impl SigningKey {
    /// Reads a private key: PEM or DER of an RSA key (PKCS#1 or PKCS#8) or of an Ed25519 key (PKCS#8), or the base64 of
    /// an Ed25519 seed.
    ///
    /// # Errors
    /// [`SignError::Key`] when it is none of these, or an RSA key that is too short to sign with.
    pub fn read(octets: &[u8]) -> Result<Self, SignError> {
        if octets.first() == Some(&0x30) {
            return Self::from_der(octets);
        }
        let text = std::str::from_utf8(octets).map_err(|_| SignError::Key)?;
        let mut decoded = Vec::new();
        let encoded = match text.split_once("-----BEGIN ") {
            Some((_, pem)) => pem
                .split_once("-----")
                .and_then(|(_, rest)| rest.split_once("-----END"))
                .map(|(encoded, _)| encoded)
                .ok_or(SignError::Key)?,
            None => text,
        };
        base64::decode(encoded.trim(), &mut decoded).ok_or(SignError::Key)?;
        if decoded.len() == ED25519_SEED_BYTES {
            let key = Ed25519KeyPair::from_seed_unchecked(&decoded).map_err(|_| SignError::Key)?;
            return Ok(Self(Private::Ed25519(Box::new(key))));
        }
        Self::from_der(&decoded)
    }

    fn from_der(der: &[u8]) -> Result<Self, SignError> {
        if let Ok(key) = RsaKeyPair::from_pkcs8(der).or_else(|_| RsaKeyPair::from_der(der)) {
            return Ok(Self(Private::Rsa(Box::new(key))));
        }
        let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(|_| SignError::Key)?;
        Ok(Self(Private::Ed25519(Box::new(key))))
    }

    /// The algorithm it signs with.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match self.0 {
            Private::Rsa(_) => Algorithm::RsaSha256,
            Private::Ed25519(_) => Algorithm::Ed25519Sha256,
        }
    }

    /// The key record to publish for it.
    ///
    /// # Errors
    /// [`SignError::Refused`] when the library can not encode the public key.
    pub fn record(&self) -> Result<String, SignError> {
        Ok(match &self.0 {
            Private::Rsa(key) => {
                let public: PublicKeyX509Der<'_> = key.public_key().as_der().map_err(|_| SignError::Refused)?;
                format!("v=DKIM1; k=rsa; p={}", base64::encode(public.as_ref()))
            }
            Private::Ed25519(key) => format!("v=DKIM1; k=ed25519; p={}", base64::encode(key.public_key().as_ref())),
        })
    }

    pub(crate) fn sign(&self, hash: &Digest) -> Result<Vec<u8>, SignError> {
        match &self.0 {
            Private::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign_digest(&RSA_PKCS1_SHA256, hash, &mut signature).map_err(|_| SignError::Refused)?;
                Ok(signature)
            }
            Private::Ed25519(key) => {
                key.try_sign(hash.as_ref()).map(|it| it.as_ref().to_vec()).map_err(|_| SignError::Refused)
            }
        }
    }
}

impl SigningPlan<'_> {
    /// Asks for the hash of the body, before its first octet arrives.
    pub fn want_body(&self, bodies: &mut BodyHashes) {
        bodies.want(self.body_form, None);
    }
}

/// Signs a message: gives the DKIM-Signature field with its final CRLF, to be put on top of the header.
///
/// # Errors
/// [`SignError`] when the message or the plan allow no valid signature.
pub fn sign(
    plan: &SigningPlan<'_>,
    key: &SigningKey,
    headers: Headers<'_>,
    bodies: &BodyHashes,
) -> Result<String, SignError> {
    if headers.of_kind(FieldKind::From).next().is_none() {
        return Err(SignError::NoFrom);
    }
    let mut field = FieldWriter::new("DKIM-Signature");
    field.tag("v", "1");
    write_covering_tags(&mut field, plan, key, headers, bodies)?;
    field.sign(plan, key, headers, Form::Dkim)
}

/// The tags that DKIM-Signature and ARC-Message-Signature have in common, all but `b=`.
pub(crate) fn write_covering_tags(
    field: &mut FieldWriter,
    plan: &SigningPlan<'_>,
    key: &SigningKey,
    headers: Headers<'_>,
    bodies: &BodyHashes,
) -> Result<(), SignError> {
    let body = bodies.hash(plan.body_form, None).and_then(|hash| hash.digest).ok_or(SignError::BodyNotHashed)?;
    field.tag("a", key.algorithm().word());
    field.tag("c", &format!("{}/{}", plan.header_form.word(), plan.body_form.word()));
    field.tag("d", &plan.domain.to_string());
    field.tag("s", plan.selector);
    if let Some(identity) = plan.identity {
        field.tag("i", identity);
    }
    for (name, time) in [("t", plan.signed_at), ("x", plan.expires_at)] {
        if let Some(time) = time {
            field.tag(name, &time.to_string());
        }
    }
    field.names(&covered_names(plan, headers));
    field.tag("bh", &base64::encode(body));
    Ok(())
}

/// The names of `h=`: one for each instance there is, one more where none may be added.
fn covered_names<'a>(plan: &SigningPlan<'a>, headers: Headers<'_>) -> Vec<&'a str> {
    let mut names = Vec::new();
    for name in plan.names {
        let is = |field: &Field<'_>| field.name.eq_ignore_ascii_case(name.as_bytes());
        let more = plan.oversigned.iter().any(|other| other.eq_ignore_ascii_case(name));
        let count = headers.fields().filter(is).count() + usize::from(more);
        names.extend(std::iter::repeat_n(*name, count));
    }
    names
}

/// A header field of tags on its way out, folded between tags and names.
#[derive(Debug)]
pub(crate) struct FieldWriter {
    text: String,
    name: &'static str,
    line_start: usize,
}

impl FieldWriter {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { text: format!("{name}:"), name, line_start: 0 }
    }

    pub(crate) fn tag(&mut self, name: &str, value: &str) {
        self.part(" ", &format!("{name}={value};"));
    }

    fn names(&mut self, names: &[&str]) {
        for (index, name) in names.iter().enumerate() {
            let start = if index == 0 { "h=" } else { "" };
            let end = if index + 1 == names.len() { ";" } else { ":" };
            self.part(if index == 0 { " " } else { "" }, &format!("{start}{name}{end}"));
        }
    }

    /// Adds what should not be divided, on a new line when this one has no room for it.
    fn part(&mut self, before: &str, part: &str) {
        if self.text.len() - self.line_start + before.len() + part.len() > LINE_CHARACTERS_MAX {
            self.text.push_str("\r\n\t");
            self.line_start = self.text.len() - 1;
        } else {
            self.text.push_str(before);
        }
        self.text.push_str(part);
    }

    /// Adds `b=` without a value: the field as it is hashed.
    pub(crate) fn unsigned(&mut self) -> Field<'_> {
        self.part(" ", "b=");
        let value_start = self.name.len() + 1;
        let octets = self.text.as_bytes();
        let (before, value) = octets.split_at_checked(value_start).unwrap_or((octets, &[]));
        let name = before.strip_suffix(b":").unwrap_or(before);
        Field { name, value, raw: octets, kind: FieldKind::of(name), position: usize::MAX }
    }

    /// Adds the value of `b=` and the final CRLF.
    pub(crate) fn finish(mut self, signature: &[u8]) -> String {
        let encoded = base64::encode(signature);
        for character in encoded.chars() {
            self.part("", character.encode_utf8(&mut [0; 4]));
        }
        self.text.push_str("\r\n");
        self.text
    }

    /// Signs what the plan covers and the field itself; makes sure that it can be read back.
    pub(crate) fn sign(
        mut self,
        plan: &SigningPlan<'_>,
        key: &SigningKey,
        headers: Headers<'_>,
        form: Form,
    ) -> Result<String, SignError> {
        let mut by_name = FieldsByName::default();
        by_name.index(headers);
        by_name.restart();
        let mut hash = HeaderHash::default();
        for name in covered_names(plan, headers) {
            if let Some(field) = by_name.next(headers, name.as_bytes(), usize::MAX) {
                hash.add(plan.header_form, &field);
            }
        }
        let own = self.unsigned();
        let end = own.value.len();
        let digest = hash.finish_with(plan.header_form, &own, end..end);
        let text = self.finish(&key.sign(&digest)?);
        let raw = text.as_bytes().strip_suffix(b"\r\n").unwrap_or_default();
        let mut index = crate::message::HeaderIndex::new();
        let read = index.scan(raw).field(0).map(|field| Signature::read(&field, form, &mut Vec::new()));
        match read.map_or(Some(DkimProblem::Syntax), |signature| signature.problem) {
            None => Ok(text),
            Some(problem) => Err(SignError::Invalid(problem)),
        }
    }
}

/// RFC 5322 section 2.1.1 asks for lines of at most 78 characters.
const LINE_CHARACTERS_MAX: usize = 78;
/// RFC 8032 section 5.1.5.
const ED25519_SEED_BYTES: usize = 32;
