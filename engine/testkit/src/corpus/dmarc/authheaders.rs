//! `dmarc-authheaders`: messages with the Authentication-Results field that comes out.

use std::fs;
use std::path::Path;

use mailproof::zone::Zone;
use mailproof_proto::dkim::{BodyHashes, DkimOptions, Verifier};
use mailproof_proto::dmarc::DmarcOptions;
use mailproof_proto::dns::{Answers, Transcript};
use mailproof_proto::message::HeaderIndex;
use mailproof_proto::message::address::author;
use mailproof_proto::time::Timestamp;
use serde_json::Value;

use super::{
    Authenticated, check_keys, dkim_result, domain, each, expect_equal, judge, mail_dmarc, policy_word, set_zone,
    spf_result,
};
use crate::corpus::{CaseOutcome, text};

/// A moment after every signature of the set was made; none expires.
const NOW: Timestamp = Timestamp::from_seconds(1_795_392_000);

pub(super) fn run(dir: &Path) -> Result<Vec<CaseOutcome>, String> {
    let zone = set_zone(dir)?;
    each(dir, |case| {
        if text(case, "kind") == "from-domain" {
            check_keys(case, &["id", "kind", "from_value", "domain", "note"])?;
            return mail_dmarc::from_domain(case);
        }
        check_keys(case, &["id", "kind", "file", "mechanisms", "authserv_id", "authres", "prev", "tree_walk", "note"])?;
        let path = dir.join(text(case, "file"));
        let message = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        run_message(case, &zone, &with_crlf(&message))
    })
}

fn run_message(case: &Value, zone: &Zone, message: &[u8]) -> Result<(), String> {
    let expected = results(text(case, "authres"));
    let before = results(text(case, "prev"));
    let mut mechanisms =
        case.get("mechanisms").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let (header, body) = split(message);
    let mut found = Authenticated::default();
    for info in &before {
        info.add_to(&mut found)?;
    }
    if mechanisms.clone().any(|it| it == "dkim") {
        let wanted: Vec<_> = expected.iter().skip(before.len()).filter(|info| info.method == "dkim").collect();
        let signatures = signatures(header, body, zone)?;
        found.dkim.extend(&signatures);
        let found: Vec<_> = signatures.iter().map(|(name, it)| (it.word(), name.to_string())).collect();
        let wanted: Vec<_> =
            wanted.iter().map(|info| (info.result, info.property("header.d").unwrap_or_default().to_owned())).collect();
        expect_equal("signatures", found, wanted)?;
    }
    if let Some(unknown) = mechanisms.clone().find(|it| !["dkim", "dmarc"].contains(it)) {
        return Err(format!("the runner does not know the mechanism {unknown}"));
    }
    if !mechanisms.any(|it| it == "dmarc") {
        return Ok(());
    }
    let wanted = expected.iter().find(|info| info.method == "dmarc").ok_or("no result for DMARC expected")?;
    let mut index = HeaderIndex::new();
    let author = author(index.scan(header));
    // authheaders judges each of several author domains and reports the strictest.
    let options = DmarcOptions { strictest_of_several: true, ..DmarcOptions::default() };
    let (outcome, _) = judge(zone, &author, &found, &options)?;
    expect_equal("result", outcome.result.word(), wanted.result)?;
    if let Some(from) = wanted.property("header.from") {
        let found = outcome.from_domain.map_or_else(|| "none".to_owned(), |name| name.to_string());
        expect_equal("header.from", found.as_str(), from)?;
    }
    match wanted.property("policy.dmarc") {
        Some(policy) => expect_equal("policy.dmarc", policy_word(&outcome).unwrap_or("none"), policy),
        None => Ok(()),
    }
}

type Signature = (mailproof_proto::dns::Name, mailproof_proto::dkim::DkimResult);

fn signatures(header: &[u8], body: &[u8], zone: &Zone) -> Result<Vec<Signature>, String> {
    let mut index = HeaderIndex::new();
    let headers = index.scan(header);
    let options = DkimOptions::default();
    let mut bodies = BodyHashes::new();
    let mut verifier = Verifier::begin(headers, None, &options, &mut bodies);
    bodies.update(body);
    bodies.finish();
    let (mut transcript, mut source) = (Transcript::new(), zone);
    let mut answers = Answers::new(&mut transcript, &mut source);
    let outcomes = verifier.outcomes(headers, &bodies, &options, NOW, &mut answers);
    let outcomes = outcomes.ok_or("DKIM has no outcome although every answer is at hand")?;
    Ok(outcomes.into_iter().filter_map(|it| Some((it.domain?, it.result))).collect())
}

/// One `method=result property=value` of an Authentication-Results field.
struct ResultInfo<'a> {
    method: &'a str,
    result: &'a str,
    properties: Vec<(&'a str, &'a str)>,
}

impl ResultInfo<'_> {
    fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().find(|(it, _)| *it == name).map(|(_, value)| *value)
    }

    /// Takes the result for an input of DMARC.
    fn add_to(&self, found: &mut Authenticated) -> Result<(), String> {
        match self.method {
            "dkim" => {
                let signer = self.property("header.d").ok_or("a signature without header.d")?;
                found.dkim.push((domain(signer)?, dkim_result(self.result)?));
            }
            "spf" => {
                let sender =
                    self.property("smtp.mailfrom").or(self.property("smtp.mfrom")).ok_or("SPF without sender")?;
                let sender = sender.rsplit('@').next().unwrap_or(sender);
                found.spf = Some((domain(sender)?, spf_result(self.result)?));
            }
            _ => {}
        }
        Ok(())
    }
}

/// The results of a field, comments left out. The fields of this set quote nothing that matters here.
fn results(field: &str) -> Vec<ResultInfo<'_>> {
    let mut depth = 0_usize;
    let outside = field.split_inclusive(['(', ')']).flat_map(|part| {
        let kept = if depth == 0 { part.trim_end_matches('(') } else { "" };
        depth = if part.ends_with('(') { depth + 1 } else { depth.saturating_sub(usize::from(part.ends_with(')'))) };
        kept.split_inclusive(';')
    });
    let mut infos: Vec<ResultInfo<'_>> = Vec::new();
    let mut starts = false;
    for part in outside {
        for pair in part.trim_end_matches(';').split_whitespace().filter_map(|word| word.split_once('=')) {
            match infos.last_mut() {
                Some(info) if !starts => info.properties.push(pair),
                _ => infos.push(ResultInfo { method: pair.0, result: pair.1, properties: Vec::new() }),
            }
            starts = false;
        }
        starts |= part.ends_with(';');
    }
    infos
}

fn split(message: &[u8]) -> (&[u8], &[u8]) {
    match message.windows(4).position(|octets| octets == b"\r\n\r\n") {
        Some(end) => (&message[..end + 2], &message[end + 4..]),
        None => (message, b""),
    }
}

fn with_crlf(message: &[u8]) -> Vec<u8> {
    let mut octets = Vec::with_capacity(message.len());
    for &octet in message {
        if octet == b'\n' && octets.last() != Some(&b'\r') {
            octets.push(b'\r');
        }
        octets.push(octet);
    }
    octets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_without_comments() {
        let field = "Authentication-Results: x; dkim=fail (a; (b=c) d) header.d=e.example; dmarc=none";
        let all = results(field);
        let found: Vec<_> = all.iter().map(|it| (it.method, it.result, it.property("header.d"))).collect();
        assert_eq!(found, [("dkim", "fail", Some("e.example")), ("dmarc", "none", None)]);
    }
}
