//! The set `auth-milter`: the Authentication-Results field that another filter wrote, result by result.

use std::net::IpAddr;
use std::path::Path;

use mailproof::zone::Zone;
use mailproof_proto::authres;
use mailproof_proto::dkim::DkimResult;
use mailproof_proto::dmarc::DmarcResult;
use mailproof_proto::message::{FieldKind, HeaderIndex};
use mailproof_proto::spf::ReceivedSpf;
use mailproof_proto::verdict::Verdict;
use serde_json::Value;

use super::{envelope, message_case, read_message};
use crate::corpus::{CaseOutcome, read_cases, text};
use crate::verify::{Case, with_crlf};

/// The authserv-id of the fields in the expected messages.
const AUTHSERV_ID: &str = "test.module";

pub(super) fn run(dir: &Path) -> Result<Vec<CaseOutcome>, String> {
    let zone = read_zone(dir)?;
    let cases = read_cases(dir)?;
    Ok(cases
        .iter()
        .map(|case| {
            let judged = || {
                let (verdict, _) = read(dir, case)?.verify_every_way(&zone)?;
                let expected = with_crlf(&read_message(dir, file(case, 1))?);
                compare(&verdict, &expected)
            };
            CaseOutcome::new(text(case, "id"), judged().err())
        })
        .collect())
}

pub(super) fn read_zone(dir: &Path) -> Result<Zone, String> {
    let text = std::fs::read(dir.join("zonefile.txt")).map_err(|error| error.to_string())?;
    Zone::from_master(&text).map_err(|error| error.to_string())
}

pub(super) fn read(dir: &Path, case: &Value) -> Result<Case, String> {
    let message = with_crlf(&read_message(dir, file(case, 0))?);
    let expected = with_crlf(&read_message(dir, file(case, 1))?);
    let mut envelope = envelope(case, "ip")?;
    // A profile may map addresses; the one that was judged stands in the field that filter wrote.
    envelope.ip = judged_address(&expected).or(envelope.ip);
    Ok(message_case(envelope, message))
}

/// The name of the message, or of the message that is expected.
fn file(case: &Value, index: usize) -> &str {
    case.pointer(&format!("/files/{index}")).and_then(Value::as_str).unwrap_or_default()
}

/// `client-ip` of the topmost Received-SPF field.
fn judged_address(expected: &[u8]) -> Option<IpAddr> {
    let end = memchr::memmem::find(expected, b"\r\n\r\n").map_or(expected.len(), |at| at + 2);
    let mut index = HeaderIndex::new();
    let field = index.scan(&expected[..end]).of_kind(FieldKind::ReceivedSpf).next()?;
    let received = ReceivedSpf::parse(std::str::from_utf8(field.value).ok()?).ok()?;
    received.value("client-ip")?.parse().ok()
}

/// Every result the other filter gave; what it left out (local clients, dry runs, hidden `none`) is not compared.
fn compare(verdict: &Verdict, expected: &[u8]) -> Result<(), String> {
    let end = memchr::memmem::find(expected, b"\r\n\r\n").map_or(expected.len(), |at| at + 2);
    let mut index = HeaderIndex::new();
    let headers = index.scan(&expected[..end]);
    let mut fields =
        headers.of_kind(FieldKind::AuthenticationResults).filter_map(|field| authres::parse(field.value).ok());
    let Some(written) = fields.find(|field| field.authserv_id == AUTHSERV_ID) else { return Ok(()) };
    // One result for each of several authors: that filter judges every domain, we judge none and never pass.
    if written.results.iter().filter(|it| it.method == "dmarc").count() > 1 {
        let passes = verdict.dmarc.result == DmarcResult::Pass;
        return if passes { Err("dmarc passes for several authors".to_owned()) } else { Ok(()) };
    }
    for wanted in &written.results {
        let property = |name: &str| wanted.properties.iter().find(|it| it.name == name);
        let found = match &*wanted.method {
            "spf" => verdict.spf.result.word(),
            "dmarc" => verdict.dmarc.result.word(),
            "arc" => verdict.arc.result.word(),
            "dkim" => {
                let b = property("b").map_or("", |it| &*it.value);
                let signature = verdict.dkim.iter().find(|it| it.b.as_deref().is_some_and(|ours| ours.starts_with(b)));
                // Where the key says that it is tested, a failure counts as neutral by our convention.
                signature.map_or("none", |it| {
                    if it.testing && it.result == DkimResult::Neutral { "fail" } else { it.result.word() }
                })
            }
            _ => continue,
        };
        if found != &*wanted.result {
            return Err(format!("{} {found}, wanted {}: {}", wanted.method, wanted.result, verdict.to_json("x")));
        }
    }
    Ok(())
}
