//! `mailproof sign`: a DKIM signature on top of a message, or the record to publish for a key.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::SystemTime;

use mailproof_explain::split;
use mailproof_proto::dkim::{
    BodyHashes, Canonicalization, OVERSIGNED_NAMES, SIGNED_NAMES, SigningKey, SigningPlan, sign,
};
use mailproof_proto::dns::Name;
use mailproof_proto::message::HeaderIndex;

use crate::arguments::SignArguments;
use crate::failure::Failure;
use crate::input;

/// Runs the subcommand.
///
/// # Errors
/// What ends the run.
pub(crate) fn run(arguments: &SignArguments) -> Result<(), Failure> {
    let key = read_key(&arguments.key)?;
    if arguments.print_record {
        return print_record(arguments, &key);
    }
    let (Some(file), Some(domain), Some(selector)) = (&arguments.file, &arguments.domain, &arguments.selector) else {
        return Err(Failure::Usage("give --domain, --selector and a message".to_owned()));
    };
    let domain = read_domain(domain)?;
    let message = input::one(file, 1)?;
    let names: Vec<&str> = match arguments.headers.as_slice() {
        [] => SIGNED_NAMES.to_vec(),
        names => names.iter().flat_map(|names| names.split(',')).map(str::trim).collect(),
    };
    if !names.iter().any(|name| name.eq_ignore_ascii_case("From")) {
        return Err(Failure::Usage("--headers must name From (RFC 6376 section 5.4)".to_owned()));
    }
    let now = arguments.now.unwrap_or_else(seconds_now);
    let plan = SigningPlan {
        domain: &domain,
        selector,
        identity: arguments.identity.as_deref(),
        header_form: form(arguments.canonicalization.header_relaxed),
        body_form: form(arguments.canonicalization.body_relaxed),
        names: &names,
        oversigned: if arguments.headers.is_empty() { &OVERSIGNED_NAMES } else { &["From"] },
        signed_at: Some(now),
        expires_at: arguments.expire.map(|seconds| now.saturating_add(seconds)),
    };
    let (header, body) = split(&message);
    let mut bodies = BodyHashes::new();
    plan.want_body(&mut bodies);
    bodies.update(body);
    bodies.finish();
    let mut index = HeaderIndex::new();
    let field = sign(&plan, &key, index.scan(header), &bodies)
        .map_err(|error| Failure::Message { path: file.clone(), what: error.to_string() })?;
    let mut out = io::stdout().lock();
    out.write_all(field.as_bytes()).map_err(Failure::Output)?;
    if !arguments.field {
        out.write_all(&message).map_err(Failure::Output)?;
    }
    out.flush().map_err(Failure::Output)
}

fn print_record(arguments: &SignArguments, key: &SigningKey) -> Result<(), Failure> {
    let record = key.record().map_err(|error| key_failure(&arguments.key, &error.to_string()))?;
    // A character-string of a TXT record holds at most 255 octets (RFC 1035 section 3.3); the record is ASCII.
    let strings: Vec<String> =
        record.as_bytes().chunks(255).map(|part| format!("\"{}\"", String::from_utf8_lossy(part))).collect();
    let name = match (&arguments.selector, &arguments.domain) {
        (Some(selector), Some(domain)) => format!("{selector}._domainkey.{}.", read_domain(domain)?),
        (Some(selector), None) => format!("{selector}._domainkey"),
        _ => "SELECTOR._domainkey".to_owned(),
    };
    writeln!(io::stdout(), "{name} IN TXT {}", strings.join(" ")).map_err(Failure::Output)
}

fn read_key(path: &Path) -> Result<SigningKey, Failure> {
    let octets = fs::read(path).map_err(|error| Failure::Missing { path: path.to_owned(), error })?;
    SigningKey::read(&octets).map_err(|error| key_failure(path, &error.to_string()))
}

fn key_failure(path: &Path, what: &str) -> Failure {
    Failure::Key { path: path.to_owned(), what: what.to_owned() }
}

fn read_domain(text: &str) -> Result<Name, Failure> {
    let domain = Name::parse_domain(text).ok().filter(|domain| domain.label_count() > 1);
    domain.ok_or_else(|| Failure::Usage(format!("--domain {text}: give a domain name of two labels or more")))
}

fn form(relaxed: bool) -> Canonicalization {
    if relaxed { Canonicalization::Relaxed } else { Canonicalization::Simple }
}

fn seconds_now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
