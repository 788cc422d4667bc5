//! Keys and signatures.

use std::time::SystemTime;

use mailproof::keygen::{KeyKind, generate, zone_line};
use mailproof_explain::split;
use mailproof_proto::dkim::{self, BodyHashes, Canonicalization, OVERSIGNED_NAMES, SIGNED_NAMES, SigningPlan};
use mailproof_proto::dns::Name;
use mailproof_proto::message::HeaderIndex;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use crate::arguments::Natural;
use crate::message::Octets;

/// A private key, read once.
///
/// `key` is PEM or DER of an RSA key (PKCS#1 or PKCS#8, 2048 bits or more) or of an Ed25519 key (PKCS#8), or the base64
/// of an Ed25519 seed; bytes or str.
///
/// Raises ValueError when it is none of these.
#[pyclass(frozen, module = "mailproof")]
#[derive(Debug)]
pub(crate) struct SigningKey(dkim::SigningKey);

#[pymethods]
impl SigningKey {
    #[new]
    fn new(key: &Bound<'_, PyAny>) -> PyResult<Self> {
        let read = match key.cast::<PyString>() {
            Ok(text) => dkim::SigningKey::read(text.to_cow()?.as_bytes()),
            Err(_) => dkim::SigningKey::read(key.cast::<PyBytes>()?.as_bytes()),
        };
        read.map(Self).map_err(|error| PyValueError::new_err(error.to_string()))
    }

    /// What it signs with: `rsa-sha256` or `ed25519-sha256`.
    #[getter]
    fn algorithm(&self) -> &'static str {
        self.0.algorithm().word()
    }

    /// The text of the TXT record to publish for it (RFC 6376 section 3.6.1).
    fn record(&self) -> PyResult<String> {
        self.0.record().map_err(|error| PyRuntimeError::new_err(error.to_string()))
    }

    fn __repr__(&self) -> String {
        format!("<SigningKey {}>", self.0.algorithm().word())
    }
}

/// A new key.
#[pyclass(frozen, eq, get_all, module = "mailproof")]
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct GeneratedKey {
    /// The private key as PEM (PKCS#8). To be kept from everybody but the signer.
    pem: String,
    /// The text of the TXT record to publish.
    record: String,
}

#[pymethods]
impl GeneratedKey {
    /// Without the private key, which has no place in a log.
    fn __repr__(&self) -> String {
        format!("<GeneratedKey {}>", self.record)
    }
}

/// Makes a private key for DKIM: `rsa2048`, `rsa3072`, `rsa4096` or `ed25519`.
///
/// Raises ValueError for another word.
#[pyfunction]
#[pyo3(signature = (kind = "rsa2048"))]
pub(crate) fn keygen(py: Python<'_>, kind: &str) -> PyResult<GeneratedKey> {
    let kind = match kind {
        "rsa2048" => KeyKind::Rsa2048,
        "rsa3072" => KeyKind::Rsa3072,
        "rsa4096" => KeyKind::Rsa4096,
        "ed25519" => KeyKind::Ed25519,
        _ => return Err(PyValueError::new_err(format!("no kind of key: {kind:?}"))),
    };
    let made = py.detach(|| generate(kind)).map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
    Ok(GeneratedKey { pem: made.pem, record: made.record })
}

/// The line for a zone file (RFC 1035 section 5) that publishes a record at a selector of a domain.
///
/// Raises ValueError for what is no domain of two labels or more, or no selector.
#[pyfunction(name = "zone_line")]
pub(crate) fn key_zone_line(record: &str, domain: &str, selector: &str) -> PyResult<String> {
    if Name::parse_domain(selector).is_err() {
        return Err(PyValueError::new_err(format!("selector: {selector:?} is none")));
    }
    Ok(zone_line(&read_domain(domain)?, selector, record))
}

/// Signs a message with DKIM and gives the DKIM-Signature field with its line end, to be put in front of the message.
///
/// `message` is taken as by `verify`; one with LF line ends is signed as it will be sent, with CRLF, and its field has the
/// line ends of the message, so that both together are whole. `key` is a `SigningKey`, or what makes one. `headers` names
/// the fields to sign, every instance of each, From among them; if not given those of RFC 6376 section 5.4.1, some of them
/// so that none can be added. `canonicalization` is `relaxed` or `simple` for header and body; `expire` and `now` are
/// seconds, `now` since 1970.
///
/// Raises ValueError when key, names or message allow no valid signature.
#[pyfunction]
#[pyo3(signature = (
    message, *, key, domain, selector, identity = None, headers = None, canonicalization = "relaxed/relaxed",
    expire = None, now = None
))]
#[expect(clippy::too_many_arguments, reason = "keywords of Python")]
pub(crate) fn sign<'py>(
    message: &Bound<'py, PyAny>,
    key: &Bound<'py, PyAny>,
    domain: &str,
    selector: &str,
    identity: Option<&str>,
    headers: Option<Vec<String>>,
    canonicalization: &str,
    expire: Option<Natural>,
    now: Option<Natural>,
) -> PyResult<Bound<'py, PyBytes>> {
    let py = message.py();
    let octets = Octets::of(message)?;
    let domain = read_domain(domain)?;
    let read;
    let key = match key.cast::<SigningKey>() {
        Ok(key) => key.get(),
        Err(_) => {
            read = SigningKey::new(key)?;
            &read
        }
    };
    let names: Vec<&str> = match &headers {
        Some(names) => names.iter().map(String::as_str).collect(),
        None => SIGNED_NAMES.to_vec(),
    };
    if !names.iter().any(|name| name.eq_ignore_ascii_case("From")) {
        return Err(PyValueError::new_err("headers: From must be among them (RFC 6376 section 5.4)"));
    }
    let (header_form, body_form) = forms(canonicalization)?;
    let now = now.map(|now| now.within("now", 0..=u64::MAX)).transpose()?.unwrap_or_else(seconds_now);
    let expire = expire.map(|seconds| seconds.within("expire", 0..=u64::MAX)).transpose()?;
    let plan = SigningPlan {
        domain: &domain,
        selector,
        identity,
        header_form,
        body_form,
        names: &names,
        oversigned: if headers.is_none() { &OVERSIGNED_NAMES } else { &["From"] },
        signed_at: Some(now),
        expires_at: expire.map(|seconds| now.saturating_add(seconds)),
    };
    let field = py.detach(|| {
        let (header, body) = split(&octets);
        let mut bodies = BodyHashes::new();
        plan.want_body(&mut bodies);
        bodies.update(body);
        bodies.finish();
        dkim::sign(&plan, &key.0, HeaderIndex::new().scan(header), &bodies)
    });
    let field = field.map_err(|error| PyValueError::new_err(error.to_string()))?;
    let field = if octets.had_lf() { field.replace("\r\n", "\n") } else { field };
    Ok(PyBytes::new(py, field.as_bytes()))
}

fn read_domain(text: &str) -> PyResult<Name> {
    let domain = Name::parse_domain(text).ok().filter(|domain| domain.label_count() > 1);
    domain.ok_or_else(|| PyValueError::new_err(format!("domain: {text:?} is no domain name of two labels or more")))
}

/// The two words of `c=` (RFC 6376 section 3.5).
fn forms(text: &str) -> PyResult<(Canonicalization, Canonicalization)> {
    let form = |word| match word {
        "relaxed" => Some(Canonicalization::Relaxed),
        "simple" => Some(Canonicalization::Simple),
        _ => None,
    };
    let (header, body) = text.split_once('/').unwrap_or((text, "simple"));
    form(header)
        .zip(form(body))
        .ok_or_else(|| PyValueError::new_err(format!("canonicalization: {text:?} is not like 'relaxed/simple'")))
}

fn seconds_now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
