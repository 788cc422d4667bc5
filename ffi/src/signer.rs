//! Signing (RFC 6376 section 5).

use std::ffi::{c_char, c_void};
use std::time::SystemTime;

use mailproof::proto::dkim::{
    BodyHashes, Canonicalization, OVERSIGNED_NAMES, SIGNED_NAMES, SigningKey, SigningPlan, sign,
};
use mailproof::proto::dns::Name;
use mailproof::proto::message::HeaderIndex;

use crate::envelope::with_crlf;
use crate::log::Log;
use crate::pointers::{self, Given, first_size};
use crate::status::{Failure, Outcome, c_text, guard, guard_quietly, mailproof_status};

/// Signs messages with one key. It never changes, so any number of threads may use it at once.
#[derive(Debug)]
pub struct mailproof_signer {
    key: SigningKey,
    domain: Name,
    selector: String,
    identity: Option<String>,
    /// Fields to sign; those of the standard where it is empty.
    names: Vec<String>,
    header_form: Canonicalization,
    body_form: Canonicalization,
    expire_seconds: u64,
    now_seconds: u64,
    /// Messages come with the line ends of Unix.
    has_lf: bool,
}

/// The header is hashed as it is (RFC 6376 section 3.4.1); relaxed otherwise (section 3.4.2).
pub const MAILPROOF_SIGN_SIMPLE_HEADER: u64 = 1;
/// The body is hashed as it is (RFC 6376 section 3.4.3); relaxed otherwise (section 3.4.4).
pub const MAILPROOF_SIGN_SIMPLE_BODY: u64 = 2;
/// Messages come with LF at the end of their lines, as programs of Unix keep them. They are signed as they will be sent, with
/// CRLF, and the field has LF too.
pub const MAILPROOF_SIGN_LINE_ENDS_LF: u64 = 4;

/// How a signer signs. All members but `size`, `domain` and `selector` may be zero. Copied: it needs to be good during
/// mailproof_signer_new() only.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct mailproof_signer_options {
    /// sizeof(mailproof_signer_options).
    pub size: usize,
    /// MAILPROOF_SIGN_SIMPLE_HEADER and others, added up.
    pub flags: u64,
    /// `d=`, of two labels or more.
    pub domain: *const c_char,
    /// `s=`
    pub selector: *const c_char,
    /// `i=`; NULL leaves it out.
    pub identity: *const c_char,
    /// Names of the fields to sign, From among them; NULL for those of RFC 6376 section 5.4.1, the most important of which no
    /// further instance can then be added of.
    pub names: *const *const c_char,
    /// How many.
    pub name_count: usize,
    /// `x=` is so many seconds after `t=`; 0 leaves it out.
    pub expire_seconds: u64,
    /// `t=`, seconds since 1970; 0 for the clock of the system.
    pub now_seconds: u64,
}

// SAFETY: the first member is the size; pointers and numbers may be zero.
unsafe impl Given for mailproof_signer_options {
    const FIRST_SIZE: usize = first_size!(mailproof_signer_options, now_seconds);
}

/// Names in `h=`; the message must be verified with as many.
const NAMES_MAX: usize = mailproof::proto::limits::DKIM_SIGNED_NAMES_MAX;

/// Makes a signer of a private key of `length` octets: PEM or DER of an RSA key of 2,048 bits or more (PKCS #1 or #8) or of
/// an Ed25519 key (PKCS #8, RFC 8463), or the base64 of an Ed25519 seed. It belongs to the caller: mailproof_signer_free().
/// From any thread.
///
/// MAILPROOF_STATUS_BAD_KEY, _BAD_NAME for the domain, _BAD_OPTION for what else can not be.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_signer_new(
    key: *const c_void,
    length: usize,
    options: *const mailproof_signer_options,
    signer: *mut *mut mailproof_signer,
) -> mailproof_status {
    guard(Log::default(), || {
        // SAFETY: the caller's.
        let signer = unsafe { pointers::out(signer)? };
        // SAFETY: the caller's.
        let key = unsafe { pointers::octets(key, length)? };
        // SAFETY: the caller's.
        let options = unsafe { pointers::given(options, "the options")? };
        // SAFETY: the caller's.
        signer.write(pointers::handle(unsafe { make(key, &options)? }));
        Ok(())
    })
}

/// Signs a whole message of `length` octets, with the line ends of SMTP unless the signer has MAILPROOF_SIGN_LINE_ENDS_LF, and
/// makes the DKIM-Signature field with its final line end, to be put on top of the header. The text belongs to the caller:
/// mailproof_text_free(). From any thread.
///
/// MAILPROOF_STATUS_NOT_SIGNED when the message has no From field, or lines of its header end in bare LF.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_signer_sign(
    signer: *const mailproof_signer,
    message: *const c_void,
    length: usize,
    field: *mut *mut c_char,
) -> mailproof_status {
    guard(Log::default(), || {
        // SAFETY: the caller's.
        let signer = unsafe { pointers::shared(signer, "the signer")? };
        // SAFETY: the caller's.
        let message = unsafe { pointers::octets(message, length)? };
        // SAFETY: the caller's.
        let field = unsafe { pointers::out(field)? };
        field.write(c_text(&signer.sign(message)?).into_raw());
        Ok(())
    })
}

/// The text of the key record to publish at SELECTOR._domainkey.DOMAIN (RFC 6376 section 3.6.1). It belongs to the caller:
/// mailproof_text_free(). From any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_signer_record(
    signer: *const mailproof_signer,
    record: *mut *mut c_char,
) -> mailproof_status {
    guard(Log::default(), || {
        // SAFETY: the caller's.
        let signer = unsafe { pointers::shared(signer, "the signer")? };
        // SAFETY: the caller's.
        let record = unsafe { pointers::out(record)? };
        let text = signer.key.record().map_err(|error| Failure::new(mailproof_status::BadKey, error.to_string()))?;
        record.write(c_text(&text).into_raw());
        Ok(())
    })
}

/// Frees a signer; NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_signer_free(signer: *mut mailproof_signer) {
    // SAFETY: the caller's.
    guard_quietly(|| unsafe { pointers::free(signer) });
}

/// Makes a signer of its options.
///
/// # Safety
/// As [`pointers`] says.
unsafe fn make(key: &[u8], given: &mailproof_signer_options) -> Outcome<mailproof_signer> {
    let bad = |what: String| Failure::new(mailproof_status::BadOption, what);
    const KNOWN: u64 = MAILPROOF_SIGN_SIMPLE_HEADER | MAILPROOF_SIGN_SIMPLE_BODY | MAILPROOF_SIGN_LINE_ENDS_LF;
    if given.flags & !KNOWN != 0 {
        return Err(bad(format!("flags {:#x} of a signer", given.flags)));
    }
    let key = SigningKey::read(key).map_err(|error| Failure::new(mailproof_status::BadKey, error.to_string()))?;
    // SAFETY: the caller's.
    let domain = unsafe { pointers::own_text(given.domain)? }.ok_or_else(|| Failure::null("the domain"))?;
    let domain = Name::parse_domain(domain).ok().filter(|domain| domain.label_count() > 1);
    let domain = domain.ok_or_else(|| Failure::new(mailproof_status::BadName, "a domain is of two labels or more"))?;
    // SAFETY: the caller's.
    let selector = unsafe { pointers::own_text(given.selector)? }.ok_or_else(|| Failure::null("the selector"))?;
    // SAFETY: the caller's.
    let identity = unsafe { pointers::own_text(given.identity)? }.map(str::to_owned);
    // SAFETY: the caller's.
    let names = unsafe { pointers::list(given.names, given.name_count)? };
    // SAFETY: the caller's.
    let names = names.iter().map(|&it| unsafe { pointers::own_text(it) }?.ok_or_else(|| Failure::null("a field name")));
    let names: Vec<String> = names.map(|name| name.map(str::to_owned)).collect::<Outcome<_>>()?;
    if names.len() > NAMES_MAX || !names.is_empty() && !names.iter().any(|name| name.eq_ignore_ascii_case("From")) {
        return Err(bad(format!("fields to sign: up to {NAMES_MAX}, From among them")));
    }
    let form = |flag| if given.flags & flag == 0 { Canonicalization::Relaxed } else { Canonicalization::Simple };
    let signer = mailproof_signer {
        key,
        domain,
        selector: selector.to_owned(),
        identity,
        names,
        header_form: form(MAILPROOF_SIGN_SIMPLE_HEADER),
        body_form: form(MAILPROOF_SIGN_SIMPLE_BODY),
        expire_seconds: given.expire_seconds,
        now_seconds: given.now_seconds,
        has_lf: given.flags & MAILPROOF_SIGN_LINE_ENDS_LF != 0,
    };
    // A selector or an identity that can not be would otherwise show at the first message.
    signer.sign_whole(b"From: a@example.org\r\n\r\n").map_err(|failure| bad(failure.into_text()))?;
    Ok(signer)
}

impl mailproof_signer {
    fn sign(&self, message: &[u8]) -> Outcome<String> {
        if self.has_lf {
            return Ok(self.sign_whole(&with_crlf(message))?.replace("\r\n", "\n"));
        }
        self.sign_whole(message)
    }

    /// Signs a message that has the line ends of SMTP.
    fn sign_whole(&self, message: &[u8]) -> Outcome<String> {
        let names: Vec<&str> = match self.names.as_slice() {
            [] => SIGNED_NAMES.to_vec(),
            names => names.iter().map(String::as_str).collect(),
        };
        let since_epoch = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let now = if self.now_seconds == 0 { since_epoch() } else { self.now_seconds };
        let plan = SigningPlan {
            domain: &self.domain,
            selector: &self.selector,
            identity: self.identity.as_deref(),
            header_form: self.header_form,
            body_form: self.body_form,
            names: &names,
            oversigned: if self.names.is_empty() { &OVERSIGNED_NAMES } else { &["From"] },
            signed_at: Some(now),
            expires_at: (self.expire_seconds > 0).then(|| now.saturating_add(self.expire_seconds)),
        };
        let (header, body) = split(message);
        if memchr::memchr_iter(b'\n', header).any(|at| at == 0 || header[at - 1] != b'\r') {
            let text = "lines end in LF: MAILPROOF_SIGN_LINE_ENDS_LF is for such messages";
            return Err(Failure::new(mailproof_status::NotSigned, text));
        }
        let mut bodies = BodyHashes::new();
        plan.want_body(&mut bodies);
        bodies.update(body);
        bodies.finish();
        let mut index = HeaderIndex::new();
        sign(&plan, &self.key, index.scan(header), &bodies)
            .map_err(|error| Failure::new(mailproof_status::NotSigned, error.to_string()))
    }
}

/// The header block with the CRLF of its last field, and the body. A message without an empty line is all header.
fn split(message: &[u8]) -> (&[u8], &[u8]) {
    if let Some(body) = message.strip_prefix(b"\r\n") {
        return (&[], body);
    }
    match memchr::memmem::find(message, b"\r\n\r\n") {
        Some(at) => (&message[..at + 2], &message[at + 4..]),
        None => (message, &[]),
    }
}
