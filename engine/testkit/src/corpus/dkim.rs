//! The sets on DKIM: verification, key records, canonicalisation, signing.
//!
//! Every message is judged in each order of answers and with its body in one piece and in small ones; the outcome must
//! be the same in all. A case passes when everything it states about the outcome holds; a field that is not known here
//! makes it fail.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use mailproof::zone::Zone;
use mailproof_proto::dkim::{
    BodyHashes, Canonicalization, DkimOptions, DkimResult, SignatureOutcome, Verifier, canonical_field,
};
use mailproof_proto::dns::Txt;
use mailproof_proto::message::address::{Author, author};
use mailproof_proto::message::{HeaderIndex, Headers};
use mailproof_proto::time::Timestamp;
use serde_json::{Value, json};

use super::{CaseOutcome, SetRunner, read_cases, read_yaml, text};
use crate::drive::{ORDERS, drive};

/// The runner for a set of this kind.
#[must_use]
pub fn runner(set: &str) -> Option<SetRunner> {
    match set {
        "dkim-chasquid" => Some(run_chasquid),
        "dkim-dkimpy" | "dkim-edge" | "dkim-exim" | "dkim-go-msgauth" | "dkim-mail-auth" | "dkim-mail-dkim"
        | "dkim-mailauth" | "dkim-mimekit" | "dkim-opendkim" => Some(run),
        _ => None,
    }
}

/// A message taken apart.
pub(super) struct Message {
    /// The header fields with their line ends.
    pub(super) header: Vec<u8>,
    /// What follows the empty line.
    pub(super) body: Vec<u8>,
}

/// The clock of sets that name none.
pub(super) const NOW_DEFAULT: u64 = 1_795_392_000;

impl Message {
    pub(super) fn split(octets: &[u8]) -> Self {
        if let Some(body) = octets.strip_prefix(b"\r\n") {
            return Self { header: Vec::new(), body: body.to_vec() };
        }
        let end = octets.windows(4).position(|four| four == b"\r\n\r\n");
        let (header, body) = octets.split_at(end.map_or(octets.len(), |end| end + 2));
        Self { header: header.to_vec(), body: body.get(2..).unwrap_or_default().to_vec() }
    }

    /// Reads a message file; where a set keeps line ends as LF throughout, they become CRLF.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let octets = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self::split(&if octets.contains(&b'\r') { octets } else { with_crlf(&octets) }))
    }
}

/// LF becomes CRLF.
pub(super) fn with_crlf(octets: &[u8]) -> Vec<u8> {
    octets
        .split_inclusive(|&octet| octet == b'\n')
        .flat_map(|line| match line.strip_suffix(b"\n") {
            Some(line) => [line, b"\r\n"].concat(),
            None => line.to_vec(),
        })
        .collect()
}

/// The outcomes of a message, the same in every order of answers and for every size of chunks.
pub(super) fn verify(
    message: &Message,
    zone: &Zone,
    options: &DkimOptions,
    now: u64,
) -> Result<Vec<SignatureOutcome>, String> {
    let mut index = HeaderIndex::new();
    let headers = index.scan(&message.header);
    let mut first: Option<Vec<SignatureOutcome>> = None;
    for chunk_bytes in [usize::MAX, 1, 7] {
        for order in ORDERS {
            let outcomes = verify_once(headers, &message.body, zone, options, now, chunk_bytes, order);
            match &first {
                None => first = Some(outcomes),
                Some(first) if *first != outcomes => {
                    return Err(format!("{order:?} with chunks of {chunk_bytes}: {outcomes:?} instead of {first:?}"));
                }
                Some(_) => {}
            }
        }
    }
    Ok(first.unwrap_or_default())
}

fn verify_once(
    headers: Headers<'_>,
    body: &[u8],
    zone: &Zone,
    options: &DkimOptions,
    now: u64,
    chunk_bytes: usize,
    order: crate::drive::Order,
) -> Vec<SignatureOutcome> {
    let mut bodies = BodyHashes::new();
    let author = match author(headers) {
        Author::One(name) => Some(name),
        Author::Several(_) | Author::Unusable(_) => None,
    };
    let mut verifier = Verifier::begin(headers, author.as_ref(), options, &mut bodies);
    for chunk in body.chunks(chunk_bytes.min(body.len().max(1))) {
        bodies.update(chunk);
    }
    bodies.finish();
    let now = Timestamp::from_seconds(now);
    drive(zone, order, |answers| verifier.outcomes(headers, &bodies, options, now, answers)).0
}

/// One set: where it is and what all its cases share.
struct Set<'a> {
    dir: &'a Path,
    zone: Zone,
    now: u64,
}

/// Fields that tell about a case, and state nothing that can be checked here.
const TOLD: [&str; 22] = [
    "id",
    "file",
    "kind",
    "title",
    "why",
    "upstream",
    "upstream_strict",
    "sigs",
    "comment",
    "script",
    "log",
    "note",
    "policy",
    "config",
    "final_reply",
    "maths",
    "bytes",
    "line_ends",
    "readme",
    "group",
    "sig_count",
    "option",
];

fn run(dir: &Path) -> Result<Vec<CaseOutcome>, String> {
    let whole = read_yaml(&dir.join("cases.yml"))?;
    let zone_file = dir.join("dns.yml");
    let zone = if zone_file.is_file() {
        Zone::from_value(&read_yaml(&zone_file)?).map_err(|error| error.to_string())?
    } else {
        Zone::new()
    };
    // The README of dkim-mail-auth: some of its messages have expired since.
    let default = if text(&whole, "set") == "dkim-mail-auth" { 1_667_843_664 } else { NOW_DEFAULT };
    let set = Set { dir, zone, now: whole.get("now").and_then(Value::as_u64).unwrap_or(default) };
    let cases = read_cases(dir)?;
    Ok(cases.iter().map(|case| CaseOutcome::new(text(case, "id"), set.run_case(case).err())).collect())
}

impl Set<'_> {
    fn run_case(&self, case: &Value) -> Result<(), String> {
        match text(case, "kind") {
            "verify" | "" => self.run_verify(case),
            "milter-verify" => self.run_milter(case),
            "input" => self.run_input(case),
            "arc-structure" | "arc" => super::arc::run_message(self.dir, &self.zone, self.now, case),
            "canon-body" => run_canonical_body(case),
            "canon-header" => run_canonical_header(case),
            "key-record" => run_key_record(case),
            "sign" => super::messages::run_sign(self.dir, &self.zone, case),
            other => Err(format!("unknown kind {other}")),
        }
    }

    fn run_verify(&self, case: &Value) -> Result<(), String> {
        let message = Message::read(&self.dir.join(text(case, "file")))?;
        let honour = text(case, "option") == "honour-l" || lists(case, "library_flags", "SIGNLEN");
        if !matches!(text(case, "option"), "" | "honour-l") {
            return Err(format!("unknown option {}", text(case, "option")));
        }
        let options = DkimOptions { honour_length: honour, ..DkimOptions::default() };
        let outcomes = verify(&message, &self.zone, &options, self.now)?;
        check(case, &outcomes)?;
        if let Some(without) = case.get("without_option") {
            let outcomes = verify(&message, &self.zone, &DkimOptions::default(), self.now)?;
            check(without, &outcomes).map_err(|failure| format!("without the option: {failure}"))?;
        }
        Ok(())
    }

    /// A message without expectation: it is judged, and a field is neither lost nor judged twice.
    fn run_input(&self, case: &Value) -> Result<(), String> {
        let message = Message::read(&self.dir.join(text(case, "file")))?;
        verify(&message, &self.zone, &DkimOptions::default(), self.now)?;
        super::messages::round_trip(&message)
    }

    /// A whole transaction of another milter: what its Authentication-Results field says is about the same facts.
    fn run_milter(&self, case: &Value) -> Result<(), String> {
        let mut message = Message::read(&self.dir.join(text(case, "file")))?;
        // The milter protocol hands over folded values with LF.
        message.header = repaired(&message.header);
        let keys = self.dir.join("milter-pubkeys.txt");
        let keys = fs::read_to_string(&keys).map_err(|error| format!("{}: {error}", keys.display()))?;
        let mut names = BTreeMap::new();
        for (name, record) in keys.lines().filter_map(|line| line.split_once(char::is_whitespace)) {
            names.entry(name.to_owned()).or_insert_with(Vec::new).push(json!({ "TXT": record.trim() }));
        }
        let zone = Zone::from_value(&json!(names)).map_err(|error| error.to_string())?;
        let outcomes = verify(&message, &zone, &DkimOptions::default(), self.now)?;
        let expected = case.get("authres_contains").and_then(Value::as_array).ok_or("no authres_contains")?;
        let words: Vec<&str> = expected.iter().filter_map(Value::as_str).collect();
        for word in &words {
            check_milter_word(word, &words, &outcomes)?;
        }
        if text(case, "final_reply") == "SMFIR_REPLYCODE" {
            not_pass(&outcomes)?;
        }
        Ok(())
    }
}

fn check_milter_word(word: &str, words: &[&str], outcomes: &[SignatureOutcome]) -> Result<(), String> {
    let first = || outcomes.first().ok_or_else(|| format!("{word}: no outcome"));
    let holds = match word.split_once('=') {
        Some(("dkim", "none")) => outcomes.is_empty(),
        Some(("dkim", "pass")) => outcomes.iter().any(|it| it.result == DkimResult::Pass),
        // That milter refuses as a whole what a signer may or may not have covered.
        Some(("dkim", "permerror" | "fail")) => not_pass(outcomes).is_ok(),
        Some(("header.d", domain)) => first()?.domain.is_some_and(|it| it.to_string() == domain),
        Some(("header.s", selector)) => first()?.selector.as_deref() == Some(selector),
        Some(("header.i", identity)) => first()?.identity.as_deref() == Some(identity),
        Some(("header.b", b)) => first()?.b.as_deref() == Some(b),
        None if word == "revoked" => first()?.problem.is_some_and(|problem| problem.word() == "key-revoked"),
        // The authserv-id; a malformed From, which is no matter of DKIM.
        None if word.ends_with(';') || word == "format" => true,
        _ => return Err(format!("unknown word {word}")),
    };
    if holds { Ok(()) } else { Err(format!("{word} of {words:?} does not hold: {}", shown(outcomes))) }
}

/// Checks everything a case states about its outcomes.
fn check(case: &Value, outcomes: &[SignatureOutcome]) -> Result<(), String> {
    let Some(fields) = case.as_object() else { return Err("not a map".to_owned()) };
    let refused_today = case.get("rfc8301").is_some() && !has_signature_of_today(case);
    let since_6376 = text(case, "rfc6376");
    let result_is_open = fields.contains_key("accept");
    for (key, value) in fields {
        match key.as_str() {
            "verdict" => {
                let word = match value.as_str() {
                    _ if refused_today || since_6376.starts_with("not-pass") => "not-pass",
                    _ if text(case, "protocol") == "domainkeys" => "none",
                    // What older key tags asked for no longer counts.
                    _ if since_6376.starts_with("pass") || since_6376.starts_with("the g= key tag") => "pass",
                    Some(word) => word,
                    None => return Err("verdict is no word".to_owned()),
                };
                check_verdict(word, result_is_open, case, outcomes)?;
            }
            "result" if !result_is_open => {
                let found = outcomes.first().map_or("none", |it| it.result.word());
                if value.as_str() != Some(found) {
                    return Err(format!("{value} expected: {}", shown(outcomes)));
                }
            }
            "accept" => {
                let found = outcomes.first().map_or("none", |it| it.result.word());
                if !lists(case, "accept", found) {
                    return Err(format!("one of {value} expected: {}", shown(outcomes)));
                }
            }
            "flags" => {
                for flag in value.as_array().ok_or("flags is no list")? {
                    match flag.as_str() {
                        Some("testing") if outcomes.first().is_some_and(|it| it.testing) => {}
                        Some("testing") => return Err(format!("testing expected: {}", shown(outcomes))),
                        _ => return Err(format!("unknown flag {flag}")),
                    }
                }
            }
            "reason" => check_reason(value.as_str().unwrap_or_default(), outcomes)?,
            "domain" => {
                let found = outcomes.first().and_then(|it| it.domain).map(|name| name.to_string());
                if value.as_str() != found.as_deref() {
                    return Err(format!("domain {value} expected: {}", shown(outcomes)));
                }
            }
            "result" | "without_option" | "rfc8301" | "rfc6376" | "protocol" | "library_flags" => {}
            known if TOLD.contains(&known) => {}
            unknown => return Err(format!("unknown field {unknown}")),
        }
    }
    Ok(())
}

fn check_verdict(word: &str, result_is_open: bool, case: &Value, outcomes: &[SignatureOutcome]) -> Result<(), String> {
    let passes = outcomes.iter().any(|it| it.result == DkimResult::Pass);
    // Where the words left open hold both pass and others, the verdict is open too.
    let is_open = result_is_open && lists(case, "accept", "pass");
    let holds = match word {
        "pass" => passes || is_open,
        "not-pass" => !passes || is_open,
        "none" => outcomes.is_empty(),
        // Old drafts and whole-message refusals of another program: what counts is that nothing passes by them.
        "skip" | "see comment" | "policy" => true,
        _ => return Err(format!("unknown verdict {word}")),
    };
    if holds { Ok(()) } else { Err(format!("{word} expected: {}", shown(outcomes))) }
}

/// The words of a reason say the same thing as the problem, perhaps in another order or number.
fn check_reason(reason: &str, outcomes: &[SignatureOutcome]) -> Result<(), String> {
    let words = |text: &str| -> Vec<String> {
        let parts = text.split(|it: char| !it.is_ascii_alphanumeric()).filter(|part| part.len() > 1);
        parts.map(str::to_ascii_lowercase).collect()
    };
    let found: Vec<String> = outcomes
        .first()
        .and_then(|it| it.problem)
        .map(|problem| words(&format!("{} {problem}", problem.word())))
        .unwrap_or_default();
    if words(reason).iter().any(|word| found.contains(word)) {
        Ok(())
    } else {
        Err(format!("reason {reason:?} expected: {}", shown(outcomes)))
    }
}

/// True when one signature of the case uses nothing that RFC 8301 forbids.
fn has_signature_of_today(case: &Value) -> bool {
    case.get("sigs").and_then(Value::as_array).into_iter().flatten().any(|signature| {
        let bits = signature.get("rsa_bits").and_then(Value::as_u64);
        match text(signature, "a") {
            "ed25519-sha256" => true,
            "rsa-sha256" => bits.is_some_and(|bits| bits >= 1024),
            _ => false,
        }
    })
}

fn not_pass(outcomes: &[SignatureOutcome]) -> Result<(), String> {
    if outcomes.iter().any(|it| it.result == DkimResult::Pass) {
        return Err(format!("not pass expected: {}", shown(outcomes)));
    }
    Ok(())
}

fn lists(case: &Value, key: &str, word: &str) -> bool {
    case.get(key).and_then(Value::as_array).is_some_and(|list| list.iter().any(|it| it.as_str() == Some(word)))
}

/// Results and problems in one line.
pub(super) fn shown(outcomes: &[SignatureOutcome]) -> String {
    let one = |it: &SignatureOutcome| format!("{} ({})", it.result.word(), it.problem.map_or("-", |it| it.word()));
    if outcomes.is_empty() { "none".to_owned() } else { outcomes.iter().map(one).collect::<Vec<_>>().join(", ") }
}

fn chunks(case: &Value) -> Vec<&str> {
    case.get("chunks").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

fn form(case: &Value) -> Result<Canonicalization, String> {
    match text(case, "algorithm") {
        "simple" => Ok(Canonicalization::Simple),
        "relaxed" => Ok(Canonicalization::Relaxed),
        other => Err(format!("unknown form {other}")),
    }
}

/// The hash of a body is that of the canonical octets the case names. Where a set repairs bare line ends first, they
/// are repaired here.
fn run_canonical_body(case: &Value) -> Result<(), String> {
    let form = form(case)?;
    let hash = |chunks: &[&[u8]]| {
        let mut bodies = BodyHashes::new();
        bodies.want(form, None);
        chunks.iter().for_each(|chunk| bodies.update(chunk));
        bodies.finish();
        bodies.hash(form, None).and_then(|hash| hash.digest.map(<[u8]>::to_vec))
    };
    let wanted = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text(case, "canonical").as_bytes());
    let chunks: Vec<&[u8]> = chunks(case).into_iter().map(str::as_bytes).collect();
    let repaired = repaired(&chunks.concat());
    for chunks in [&chunks[..], &[&repaired[..]]] {
        if hash(chunks).as_deref() == Some(wanted.as_ref()) {
            return Ok(());
        }
    }
    Err(format!("the hash is not that of {:?}", text(case, "canonical")))
}

/// Every LF that no CR stands before becomes CRLF.
fn repaired(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for &octet in octets {
        if octet == b'\n' && out.last() != Some(&b'\r') {
            out.push(b'\r');
        }
        out.push(octet);
    }
    out
}

fn run_canonical_header(case: &Value) -> Result<(), String> {
    let octets = chunks(case).concat();
    let mut index = HeaderIndex::new();
    let headers = index.scan(octets.as_bytes());
    let mut canonical = Vec::new();
    for field in headers.fields() {
        canonical.extend(canonical_field(form(case)?, &field));
        canonical.extend_from_slice(b"\r\n");
    }
    let canonical = String::from_utf8_lossy(&canonical);
    if canonical == text(case, "canonical") { Ok(()) } else { Err(format!("{canonical:?}")) }
}

/// A published text: whether mail could be verified with a key from it.
fn run_key_record(case: &Value) -> Result<(), String> {
    let text_record = Txt(text(case, "record").as_bytes().into());
    let published = mailproof_proto::dkim::Published::read(&[text_record]);
    let usable = published.records().next().is_some_and(|record| record.is_ok());
    match text(case, "verdict") {
        "pass" if usable => Ok(()),
        "not-pass" | "tlsrpt-only" if !usable => Ok(()),
        "pass" | "not-pass" | "tlsrpt-only" => Err(format!("{:?}", published.records().next())),
        other => Err(format!("unknown verdict {other}")),
    }
}

fn run_chasquid(dir: &Path) -> Result<Vec<CaseOutcome>, String> {
    let cases = read_cases(dir)?;
    Ok(cases.iter().map(|case| CaseOutcome::new(text(case, "id"), run_chasquid_case(dir, case).err())).collect())
}

fn run_chasquid_case(dir: &Path, case: &Value) -> Result<(), String> {
    const KNOWN: [&str; 8] = ["id", "file", "dns", "found", "valid", "results", "error", "readme"];
    if let Some(unknown) =
        case.as_object().into_iter().flatten().map(|(key, _)| key).find(|it| !KNOWN.contains(&it.as_str()))
    {
        return Err(format!("unknown field {unknown}"));
    }
    let mut names = serde_json::Map::new();
    for (name, records) in case.get("dns").and_then(Value::as_object).into_iter().flatten() {
        let records: Vec<Value> = records.as_array().cloned().unwrap_or_else(|| vec![records.clone()]);
        let records = records.iter().flat_map(|record| match record.as_str() {
            Some("TEMPERROR") => vec![json!("SERVFAIL")],
            Some("PERMERROR") => vec![json!("NXDOMAIN")],
            _ => record.as_str().unwrap_or_default().lines().map(|line| json!({ "TXT": line })).collect(),
        });
        names.insert(name.clone(), records.collect());
    }
    let zone = Zone::from_value(&Value::Object(names)).map_err(|error| error.to_string())?;
    let message = Message::read(&dir.join(text(case, "file")))?;
    // Limits of that program: 5 signatures, and l= is honoured.
    let options = DkimOptions { honour_length: true, signatures_max: 5, ..DkimOptions::default() };
    let outcomes = verify(&message, &zone, &options, NOW_DEFAULT)?;
    let count = |key: &str| case.get(key).and_then(Value::as_u64);
    let valid = outcomes.iter().filter(|it| it.result == DkimResult::Pass).count() as u64;
    if count("found").is_some_and(|found| found != outcomes.len() as u64) || valid != count("valid").unwrap_or(0) {
        return Err(format!("found {:?}, valid {:?}: {}", count("found"), count("valid"), shown(&outcomes)));
    }
    let results = case.get("results").and_then(Value::as_array).into_iter().flatten();
    for (wanted, found) in results.zip(&outcomes) {
        let state = match found.result {
            DkimResult::Pass => "SUCCESS",
            DkimResult::TempError => "TEMPFAIL",
            _ => "PERMFAIL",
        };
        let domain = found.domain.map(|name| name.to_string()).unwrap_or_default();
        let named = matches!(text(wanted, "domain"), "") || text(wanted, "domain") == domain;
        let selected = matches!(text(wanted, "selector"), "")
            || found.selector.as_deref() == wanted.get("selector").and_then(Value::as_str);
        if text(wanted, "state") != state || !named || !selected {
            return Err(format!("{wanted} expected: {}", shown(&outcomes)));
        }
    }
    Ok(())
}
