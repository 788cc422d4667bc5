//! Sets that go through the whole verification: message and envelope in, verdict out.

mod cves;
mod espoofer;
mod hostile;
mod milter;
mod rspamd;

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use mailproof::zone::Zone;
use mailproof_proto::time::Timestamp;
use mailproof_proto::verification::{Envelope, Options};
use serde_json::Value;

use super::{SetRunner, read_cases, read_yaml, text};
use crate::verify::Case;

pub use self::hostile::{Hostile, generate as generate_hostile};

/// The runner for a set of this kind.
#[must_use]
pub fn runner(set: &str) -> Option<SetRunner> {
    Some(match set {
        "auth-milter" => milter::run,
        "auth-rspamd" => rspamd::run,
        "hostile" => hostile::run,
        "security-cves" => cves::run,
        "security-espoofer" => espoofer::run,
        _ => return None,
    })
}

/// Message and envelope of every case of a set, by its id, with the zone that all of them share: for those who run them in
/// other ways.
///
/// # Errors
/// When the set can not be read, or is none of `auth-milter` and `auth-rspamd`.
pub fn cases(set: &str, dir: &Path) -> Result<(Vec<(String, Case)>, Zone), String> {
    let (read, zone): (ReadCase, Zone) = match set {
        "auth-milter" => (milter::read, milter::read_zone(dir)?),
        "auth-rspamd" => (rspamd::read, read_zone(&dir.join("dns.yml"))?),
        _ => return Err(format!("{set}: not run in other ways")),
    };
    let cases = read_cases(dir)?;
    let cases = cases.iter().map(|case| Ok((text(case, "id").to_owned(), read(dir, case)?)));
    Ok((cases.collect::<Result<_, String>>()?, zone))
}

/// Reads a case of the set in a directory.
type ReadCase = fn(&Path, &Value) -> Result<Case, String>;

/// The moment cases are judged at whose set gives none.
const NOW_SECONDS: u64 = 1_795_392_000;

/// The envelope of a case; `ip` absent means that no client address is known.
fn envelope(case: &Value, ip: &str) -> Result<Envelope, String> {
    let address = match text(case, ip) {
        "" => None,
        address => Some(address.parse::<IpAddr>().map_err(|error| format!("{address}: {error}"))?),
    };
    let mail_from = text(case, "mail_from");
    let mail_from = mail_from.strip_prefix('<').and_then(|it| it.strip_suffix('>')).unwrap_or(mail_from);
    Ok(Envelope { ip: address, helo: text(case, "helo").to_owned(), mail_from: mail_from.to_owned() })
}

fn message_case(envelope: Envelope, message: Vec<u8>) -> Case {
    let options = Options { authserv_id: "mx.example.net".to_owned(), ..Options::default() };
    Case { options, envelope, message, now: Timestamp::from_seconds(NOW_SECONDS) }
}

fn read_message(dir: &Path, name: &str) -> Result<Vec<u8>, String> {
    let path = dir.join(name);
    fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))
}

fn read_zone(path: &Path) -> Result<Zone, String> {
    Zone::from_value(&read_yaml(path)?).map_err(|error| format!("{}: {error}", path.display()))
}
