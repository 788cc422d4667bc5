//! Scenarios: cases of our own as data, one a file, run by every interface of the engine alike.
//!
//! A scenario is a YAML file:
//!
//! | key | what |
//! |---|---|
//! | `why` | what is right, in a sentence |
//! | `section` | what says so |
//! | `now` | seconds since the epoch at which the message is judged |
//! | `envelope` | `ip`, `helo`, `mail_from` |
//! | `options` | `policy: "7489"`, `honour-length: true`, `strictest-of-several: true`, `defer-on-temperror: true` |
//! | `zone` | the DNS, in the form of zone files |
//! | `message` | the message, its line ends turned into CRLF; `\r`, `\n` and `\0` can be written in a quoted scalar of `message_octets` instead, which is taken as it is |
//! | `expect` | the part of the verdict that must be so |

use std::path::{Path, PathBuf};

use mailproof::zone::Zone;
use mailproof_proto::dmarc::Discovery;
use mailproof_proto::time::Timestamp;
use mailproof_proto::verdict::RejectPolicy;
use mailproof_proto::verification::{Envelope, Options};
use serde_json::Value;

use crate::corpus::{read_yaml, text};
use crate::verify::{Case, with_crlf};

/// A scenario as its file says it.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The name of its file without the ending.
    pub name: String,
    /// Message, envelope, options and clock.
    pub case: Case,
    /// The DNS.
    pub zone: Zone,
    /// The part of the verdict that must be so.
    pub expect: Value,
}

/// The folder of the project's scenarios.
#[must_use]
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios")
}

/// Every scenario of a folder, by name.
///
/// # Errors
/// The file and what is wrong with it.
pub fn load_all(dir: &Path) -> Result<Vec<Scenario>, String> {
    let entries = std::fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "yml"));
    paths.sort();
    paths.iter().map(|path| Scenario::load(path)).collect()
}

impl Scenario {
    /// Reads one file.
    ///
    /// # Errors
    /// The file and what is wrong with it.
    pub fn load(path: &Path) -> Result<Self, String> {
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let fault = |what: String| format!("{name}: {what}");
        let value = read_yaml(path)?;
        for key in value.as_object().into_iter().flat_map(serde_json::Map::keys) {
            if !KEYS.contains(&key.as_str()) {
                return Err(fault(format!("unknown key {key}")));
            }
        }
        let message = match value.get("message_octets").and_then(Value::as_str) {
            Some(octets) => octets.as_bytes().to_vec(),
            None => with_crlf(text(&value, "message").as_bytes()),
        };
        let zone = Zone::from_value(&value["zone"]).map_err(|error| fault(error.to_string()))?;
        let case = Case {
            options: options(&value["options"]).map_err(fault)?,
            envelope: envelope(&value["envelope"]).map_err(fault)?,
            message,
            now: Timestamp::from_seconds(value["now"].as_u64().unwrap_or(NOW_SECONDS)),
        };
        let expect = value["expect"].clone();
        if expect.as_object().is_none_or(serde_json::Map::is_empty) {
            return Err(fault("expects nothing".to_owned()));
        }
        Ok(Self { name, case, zone, expect })
    }

    /// Runs it in every order of answers and every cut of the message.
    ///
    /// # Errors
    /// The first difference to what is expected.
    pub fn run(&self) -> Result<(), String> {
        let (verdict, _) = self.case.verify_every_way(&self.zone)?;
        let json = verdict.to_json(&self.name);
        let found: Value = serde_json::from_str(&json).map_err(|error| format!("{json}: {error}"))?;
        compare("", &self.expect, &found).map_err(|difference| format!("{difference}\n{json}"))
    }
}

/// Checks that everything in `wanted` is in `found`; lists must have the same length.
///
/// # Errors
/// The path of the first difference.
pub fn compare(path: &str, wanted: &Value, found: &Value) -> Result<(), String> {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => wanted.iter().try_for_each(|(key, wanted)| {
            let missing = || format!("{path}/{key} is not in the verdict");
            compare(&format!("{path}/{key}"), wanted, found.get(key).ok_or_else(missing)?)
        }),
        (Value::Array(wanted), Value::Array(found)) if wanted.len() == found.len() => {
            let mut pairs = wanted.iter().zip(found).enumerate();
            pairs.try_for_each(|(index, (wanted, found))| compare(&format!("{path}/{index}"), wanted, found))
        }
        _ if wanted == found => Ok(()),
        _ => Err(format!("{path} is {found}, wanted {wanted}")),
    }
}

const KEYS: [&str; 9] = ["why", "section", "now", "envelope", "options", "zone", "message", "message_octets", "expect"];

const NOW_SECONDS: u64 = 1_795_392_000;

fn envelope(value: &Value) -> Result<Envelope, String> {
    let ip = match text(value, "ip") {
        "" => None,
        ip => Some(ip.parse().map_err(|error| format!("ip {ip}: {error}"))?),
    };
    Ok(Envelope { ip, helo: text(value, "helo").to_owned(), mail_from: text(value, "mail_from").to_owned() })
}

fn options(value: &Value) -> Result<Options, String> {
    let mut options = Options { authserv_id: "mx.example.net".to_owned(), ..Options::default() };
    for (key, value) in value.as_object().into_iter().flatten() {
        let switch = value.as_bool().unwrap_or_default();
        match key.as_str() {
            "policy" if value == "7489" => {
                options.dmarc.discovery = Discovery::PublicSuffixList;
                options.policy.reject = RejectPolicy::Literal;
            }
            "policy" if value == "9989" => {}
            "honour-length" => options.dkim.honour_length = switch,
            "strictest-of-several" => options.dmarc.strictest_of_several = switch,
            "defer-on-temperror" => options.policy.defer_on_temperror = switch,
            _ => return Err(format!("unknown option {key}: {value}")),
        }
    }
    Ok(options)
}
