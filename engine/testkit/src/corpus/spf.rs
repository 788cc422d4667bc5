//! The sets on SPF. Every evaluation runs in each order of answers, and the outcomes have to be equal.

mod expansion;
mod fuzz;
pub mod grammar;
mod lines;
mod received;
mod suite;

use std::net::{IpAddr, Ipv4Addr};

use mailproof::zone::Zone;
use mailproof_proto::dns::{Answers, Name};
use mailproof_proto::spf::macros::{MacroString, Usage, Variables};
use mailproof_proto::spf::{Check, SpfOptions, SpfOutcome, SpfResult, check_mail_from, validated_name};
use serde_json::Value;

use super::SetRunner;
use crate::drive::{ORDERS, Order, drive};

/// The runner for a set of this kind.
#[must_use]
pub fn runner(set: &str) -> Option<SetRunner> {
    Some(match set {
        "spf-rfc7208" | "spf-pyspf" | "spf-blitiri" | "spf-probes" => suite::run,
        "spf-mail-auth" => lines::run,
        "spf-mox" => expansion::run_mox,
        "spf-libspf2" => expansion::run_libspf2,
        "spf-blitiri-fuzz" => fuzz::run,
        "received-spf" => received::run,
        _ => return None,
    })
}

/// The clock of every case.
const NOW_SECONDS: u64 = 1_795_392_000;
/// The receiving host where a case names none.
const RECEIVER: &str = "receiver.example";

/// Evaluates MAIL FROM in every order.
fn evaluate(zone: &Zone, check: &Check<'_>) -> Result<SpfOutcome, String> {
    let options = SpfOptions::default();
    in_every_order(zone, |answers| check_mail_from(check, &options, answers))
}

/// Runs an evaluation in every order; an error when the outcomes differ.
fn in_every_order<T: PartialEq + std::fmt::Debug>(
    zone: &Zone,
    mut evaluate: impl FnMut(&mut Answers<'_>) -> Option<T>,
) -> Result<T, String> {
    let (outcome, _) = drive(zone, Order::AtHand, &mut evaluate);
    for order in ORDERS {
        let (other, _) = drive(zone, order, &mut evaluate);
        if other != outcome {
            return Err(format!("{order:?} gives {other:?}, not {outcome:?}"));
        }
    }
    Ok(outcome)
}

fn check<'a>(ip: IpAddr, helo: &'a str, mail_from: &'a str, receiver: &'a str) -> Check<'a> {
    Check { ip, helo, mail_from, receiver, now_seconds: NOW_SECONDS }
}

/// The result words that a case accepts: one, or a list.
fn accepted(expected: &Value) -> Result<Vec<SpfResult>, String> {
    let words = match expected {
        Value::Array(words) => words.as_slice(),
        single => std::slice::from_ref(single),
    };
    let read = |word: &Value| {
        word.as_str().and_then(SpfResult::from_word).ok_or_else(|| format!("unknown expected result {word}"))
    };
    words.iter().map(read).collect()
}

/// Why an outcome is not the expected one.
fn compare(outcome: &SpfOutcome, expected: &Value) -> Result<(), String> {
    if accepted(expected)?.contains(&outcome.result) {
        return Ok(());
    }
    let problem = outcome.problem.as_ref().map_or_else(String::new, |problem| format!(" ({problem})"));
    Err(format!("{}{problem}, expected {expected}", outcome.result))
}

/// An expected explanation; `DEFAULT` stands for the text a program has for want of one. Case is ignored, because sets
/// disagree on that of the hexadecimal digits in `%{i}`, which the RFC leaves open.
fn compare_explanation(outcome: &SpfOutcome, expected: &str) -> Result<(), String> {
    let wanted = (expected != "DEFAULT").then_some(expected);
    let equal = match (wanted, outcome.explanation.as_deref()) {
        (None, None) => true,
        (Some(wanted), Some(found)) => wanted.eq_ignore_ascii_case(found),
        _ => false,
    };
    if equal { Ok(()) } else { Err(format!("explanation {:?}, expected {expected:?}", outcome.explanation)) }
}

/// An error for a key that the set's description does not know.
fn known_keys(case: &Value, known: &[&str]) -> Result<(), String> {
    let keys = case.as_object().ok_or("not a map")?.keys();
    keys.filter(|key| !known.contains(&key.as_str())).try_for_each(|key| Err(format!("unknown key {key}")))
}

fn read_ip(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("no IP address: {text:?}"))
}

/// The name of the PTR records of an address.
fn reverse_name(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(ip) => {
            let digits = format!("{:032x}", ip.to_bits());
            digits.chars().rev().map(|digit| format!("{digit}.")).collect::<String>() + "ip6.arpa"
        }
    }
}

/// The mail that a macro string is expanded for.
struct Mail<'a> {
    ip: Option<&'a str>,
    helo: &'a str,
    sender: &'a str,
    receiver: &'a str,
}

/// Expands a macro string; the inner `None` when it is not well-formed.
fn expand(text: &str, usage: Usage, mail: &Mail<'_>, zone: &Zone) -> Result<Option<String>, String> {
    let Ok(text) = MacroString::parse(text.as_bytes(), usage) else { return Ok(None) };
    let ip = mail.ip.map_or(Ok(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 3))), read_ip)?;
    let (local_part, sender_domain) = mail.sender.rsplit_once('@').ok_or("a sender without @")?;
    let domain = Name::parse(sender_domain).map_err(|error| error.to_string())?;
    let validated = in_every_order(zone, |answers| validated_name(ip, &domain, answers))?;
    let variables = Variables {
        ip,
        local_part,
        sender_domain,
        domain: &domain,
        validated_name: validated.as_ref(),
        helo: mail.helo,
        receiver: mail.receiver,
        now_seconds: NOW_SECONDS,
    };
    Ok(match usage {
        Usage::Explanation => text.expand_explanation(&variables),
        Usage::DomainSpec | Usage::Modifier => {
            Some(String::from_utf8_lossy(text.expand_domain(&variables).as_bytes()).into_owned())
        }
    })
}
