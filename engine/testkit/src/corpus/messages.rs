//! The sets of messages without expectations, and signing: what is signed here must verify here.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::RsaKeyPair;
use mailproof::zone::Zone;
use mailproof_proto::dkim::{
    BodyHashes, Canonicalization, DkimOptions, DkimResult, OVERSIGNED_NAMES, SIGNED_NAMES, SignError, SigningKey,
    SigningPlan, sign,
};
use mailproof_proto::dns::Name;
use mailproof_proto::message::HeaderIndex;
use serde_json::{Value, json};

use super::dkim::{Message, NOW_DEFAULT, shown, verify};
use super::{CaseOutcome, SetRunner, read_cases, text};

/// The runner for a set of this kind.
#[must_use]
pub fn runner(set: &str) -> Option<SetRunner> {
    match set {
        "mail-cpython" | "mail-mail-parser" => Some(run),
        _ => None,
    }
}

fn run(dir: &Path) -> Result<Vec<CaseOutcome>, String> {
    let cases = read_cases(dir)?;
    Ok(cases.iter().map(|case| CaseOutcome::new(text(case, "id"), run_case(dir, case).err())).collect())
}

fn run_case(dir: &Path, case: &Value) -> Result<(), String> {
    const KNOWN: [&str; 6] = ["id", "file", "group", "bytes", "line_ends", "note"];
    if let Some(unknown) = case.as_object().into_iter().flatten().find(|(key, _)| !KNOWN.contains(&key.as_str())) {
        return Err(format!("unknown field {}", unknown.0));
    }
    let path = dir.join(text(case, "file"));
    let octets = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    if case.get("bytes").and_then(Value::as_u64).is_some_and(|bytes| bytes != octets.len() as u64) {
        return Err(format!("{} octets", octets.len()));
    }
    // As it is, and with the line ends of mail where it has those of a file.
    round_trip(&Message::split(&octets))?;
    round_trip(&Message::read(&path)?)
}

/// Keys to sign with: one of each kind.
pub(super) fn signing_keys() -> &'static [SigningKey] {
    static KEYS: OnceLock<Vec<SigningKey>> = OnceLock::new();
    KEYS.get_or_init(|| {
        let rsa = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key can be generated");
        let rsa = rsa.as_der().expect("a fresh key can be encoded");
        let seed = b"nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";
        [rsa.as_ref(), seed].iter().map(|key| SigningKey::read(key).expect("a good key")).collect()
    })
}

/// A zone that holds the record of one key.
pub(super) fn zone_of(key: &SigningKey, selector: &str, domain: &Name) -> Result<Zone, String> {
    let record = key.record().map_err(|error| error.to_string())?;
    let name = format!("{selector}._domainkey.{domain}");
    Zone::from_value(&json!({ name: [{ "TXT": record }] })).map_err(|error| error.to_string())
}

/// Judges a message, signs it in every form with every key, and judges it again.
pub(super) fn round_trip(message: &Message) -> Result<(), String> {
    verify(message, &Zone::new(), &DkimOptions::default(), NOW_DEFAULT)?;
    let domain = Name::parse_domain("signer.example").map_err(|error| error.to_string())?;
    let forms = [Canonicalization::Simple, Canonicalization::Relaxed];
    for (at, key) in signing_keys().iter().enumerate() {
        let zone = zone_of(key, "s1", &domain)?;
        for header_form in forms {
            let plan = SigningPlan {
                domain: &domain,
                selector: "s1",
                identity: (at == 0).then_some("someone@mail.signer.example"),
                header_form,
                body_form: forms[(at + usize::from(header_form == forms[0])) % 2],
                names: &SIGNED_NAMES,
                oversigned: &OVERSIGNED_NAMES,
                signed_at: Some(NOW_DEFAULT),
                expires_at: (at == 0).then_some(NOW_DEFAULT + 60),
            };
            round_trip_with(message, &plan, key, &zone)?;
        }
    }
    Ok(())
}

fn round_trip_with(message: &Message, plan: &SigningPlan<'_>, key: &SigningKey, zone: &Zone) -> Result<(), String> {
    let mut index = HeaderIndex::new();
    let headers = index.scan(&message.header);
    let mut bodies = BodyHashes::new();
    plan.want_body(&mut bodies);
    bodies.update(&message.body);
    bodies.finish();
    let field = match sign(plan, key, headers, &bodies) {
        Ok(field) => field,
        Err(SignError::NoFrom) => return Ok(()),
        Err(error) => return Err(format!("not signed: {error}")),
    };
    if let Some(line) = field.split("\r\n").find(|line| line.len() > 78) {
        return Err(format!("a line of {} characters", line.len()));
    }
    // A first line that begins with white space continues whatever is put before it.
    if headers.defects().header_over_limit || matches!(message.header.first(), Some(b' ' | b'\t')) {
        return Ok(());
    }
    let signed = Message { header: [field.as_bytes(), &message.header].concat(), body: message.body.clone() };
    let outcomes = verify(&signed, zone, &DkimOptions::default(), NOW_DEFAULT)?;
    match outcomes.first() {
        Some(outcome) if outcome.result == DkimResult::Pass => Ok(()),
        _ => Err(format!("signed as {field:?}: {}", shown(&outcomes))),
    }
}

/// A signing case of another program: its own field must verify here, and the same message signed here under the same
/// terms has the same body hash and verifies. Its key is shorter than what is signed with here, so `b=` differs.
pub(super) fn run_sign(dir: &Path, zone: &Zone, case: &Value) -> Result<(), String> {
    if case.get("key").is_some() {
        return run_sign_with_key(dir, zone, case);
    }
    const KNOWN: [&str; 20] = [
        "id",
        "file",
        "kind",
        "title",
        "expect",
        "selector",
        "domain",
        "canon",
        "algorithm",
        "length",
        "time",
        "rfc8301",
        "library_flags",
        "sigs",
        "verdict",
        "upstream",
        "policy",
        "why",
        "note",
        "comment",
    ];
    if let Some(unknown) = case.as_object().into_iter().flatten().find(|(key, _)| !KNOWN.contains(&key.as_str())) {
        return Err(format!("unknown field {}", unknown.0));
    }
    let message = Message::read(&dir.join(text(case, "file")))?;
    let time = case.get("time").and_then(Value::as_u64);
    let expected = text(case, "expect");
    let sha1 = tag(expected, "a").as_deref() == Some("rsa-sha1");
    let theirs = Message {
        header: [b"DKIM-Signature: ", expected.as_bytes(), b"\r\n", &message.header].concat(),
        body: message.body.clone(),
    };
    let options = DkimOptions { honour_length: true, ..DkimOptions::default() };
    let outcomes = verify(&theirs, zone, &options, time.unwrap_or(NOW_DEFAULT))?;
    let wanted = if sha1 { DkimResult::Policy } else { DkimResult::Pass };
    if outcomes.first().map(|it| it.result) != Some(wanted) {
        return Err(format!("{} expected: {}", wanted.word(), shown(&outcomes)));
    }
    let domain = tag(expected, "d").ok_or("no d=")?;
    let domain = Name::parse_domain(&domain).map_err(|error| error.to_string())?;
    let selector = tag(expected, "s").ok_or("no s=")?;
    let forms = tag(expected, "c").ok_or("no c=")?;
    let form = |word: Option<&str>| match word {
        Some("relaxed") => Canonicalization::Relaxed,
        _ => Canonicalization::Simple,
    };
    let names = tag(expected, "h").ok_or("no h=")?;
    let mut names: Vec<&str> = names.split(':').collect();
    names.dedup();
    let plan = SigningPlan {
        domain: &domain,
        selector: &selector,
        identity: None,
        header_form: form(forms.split('/').next()),
        body_form: form(forms.split('/').nth(1)),
        names: &names,
        oversigned: &[],
        signed_at: time,
        expires_at: None,
    };
    let mut index = HeaderIndex::new();
    let headers = index.scan(&message.header);
    let mut bodies = BodyHashes::new();
    plan.want_body(&mut bodies);
    bodies.update(&message.body);
    bodies.finish();
    for key in signing_keys() {
        let field = sign(&plan, key, headers, &bodies).map_err(|error| error.to_string())?;
        let value = field.split_once(':').map_or("", |(_, value)| value);
        let whole = tag(expected, "l").is_none();
        if !sha1 && whole && tag(value, "bh") != tag(expected, "bh") {
            return Err(format!("bh= differs from {expected:?}: {field:?}"));
        }
        round_trip_with(&message, &plan, key, &zone_of(key, &selector, &domain)?)?;
    }
    Ok(())
}

/// A signing case with a key and the record to verify with: the record itself, or the name it stands at. A key that is
/// too short to sign with here gives way to one of ours with its own record.
fn run_sign_with_key(dir: &Path, zone: &Zone, case: &Value) -> Result<(), String> {
    const KNOWN: [&str; 14] = [
        "id",
        "file",
        "kind",
        "key",
        "dns",
        "verdict",
        "why",
        "domain",
        "selector",
        "algorithm",
        "title",
        "upstream",
        "rfc8301",
        "sigs",
    ];
    if let Some(unknown) = case.as_object().into_iter().flatten().find(|(key, _)| !KNOWN.contains(&key.as_str())) {
        return Err(format!("unknown field {}", unknown.0));
    }
    let named = text(case, "key");
    let octets = [dir.join(named), dir.join("keys").join(named)].iter().find_map(|path| fs::read(path).ok());
    let key = SigningKey::read(&octets.ok_or(format!("no key {named}"))?);
    let published = text(case, "dns");
    let (selector, domain) = published.split_once("._domainkey.").unwrap_or(("test", "example.com"));
    let domain = Name::parse_domain(domain).map_err(|error| error.to_string())?;
    let (key, zone) = match &key {
        Err(_) => (&signing_keys()[0], zone_of(&signing_keys()[0], selector, &domain)?),
        Ok(key) if published.contains("p=") => {
            let name = format!("{selector}._domainkey.{domain}");
            let zone = Zone::from_value(&json!({ name: [{ "TXT": published }] })).map_err(|error| error.to_string())?;
            (key, zone)
        }
        Ok(key) => (key, zone.clone()),
    };
    let message = Message::read(&dir.join(text(case, "file")))?;
    let form = Canonicalization::Relaxed;
    let plan = SigningPlan {
        domain: &domain,
        selector,
        identity: None,
        header_form: form,
        body_form: form,
        names: &SIGNED_NAMES,
        oversigned: &OVERSIGNED_NAMES,
        signed_at: Some(NOW_DEFAULT),
        expires_at: None,
    };
    match (text(case, "verdict"), round_trip_with(&message, &plan, key, &zone)) {
        ("pass", outcome) => outcome,
        ("not-pass", Err(_)) => Ok(()),
        ("not-pass", Ok(())) => Err("not-pass expected: pass".to_owned()),
        (other, _) => Err(format!("unknown verdict {other}")),
    }
}

/// The value of a tag, white space removed.
pub(super) fn tag(list: &str, name: &str) -> Option<String> {
    let tags = list.split(';').filter_map(|tag| tag.split_once('='));
    let value = tags.into_iter().find(|(found, _)| found.trim() == name)?.1;
    Some(value.split_ascii_whitespace().collect())
}
