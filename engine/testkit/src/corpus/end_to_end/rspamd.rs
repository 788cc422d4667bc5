//! The set `auth-rspamd`: symbols that must or must not appear.

use std::path::Path;

use mailproof_proto::arc::ArcResult;
use mailproof_proto::dkim::DkimResult;
use mailproof_proto::dmarc::{Disposition, DmarcResult};
use mailproof_proto::spf::SpfResult;
use mailproof_proto::verdict::Verdict;
use serde_json::Value;

use super::{envelope, message_case, read_message, read_zone};
use crate::corpus::{CaseOutcome, read_cases, text};
use crate::verify::{Case, with_crlf};

pub(super) fn run(dir: &Path) -> Result<Vec<CaseOutcome>, String> {
    let zone = read_zone(&dir.join("dns.yml"))?;
    let cases = read_cases(dir)?;
    Ok(cases
        .iter()
        .map(|case| {
            let judged = || {
                let (verdict, _) = read(dir, case)?.verify_every_way(&zone)?;
                check(case, &verdict)
            };
            CaseOutcome::new(text(case, "id"), judged().err())
        })
        .collect())
}

pub(super) fn read(dir: &Path, case: &Value) -> Result<Case, String> {
    let message = with_crlf(&read_message(dir, text(case, "file"))?);
    Ok(message_case(envelope(case, "ip")?, message))
}

fn check(case: &Value, verdict: &Verdict) -> Result<(), String> {
    for (key, wanted) in [("expect", true), ("reject", false)] {
        for symbol in case.get(key).and_then(Value::as_array).into_iter().flatten() {
            let symbol = symbol.as_str().unwrap_or_default();
            if appears(symbol, verdict)? != wanted {
                let verb = if wanted { "is missing" } else { "appears" };
                return Err(format!("{symbol} {verb}: {}", verdict.to_json("x")));
            }
        }
    }
    Ok(())
}

/// True when the verdict would make rspamd show this symbol.
fn appears(symbol: &str, verdict: &Verdict) -> Result<bool, String> {
    let dkim = |wanted: DkimResult| verdict.dkim.iter().any(|it| it.result == wanted);
    let spf = |wanted: SpfResult| verdict.spf.result == wanted;
    let dmarc = |result: DmarcResult, disposition: Disposition| {
        verdict.dmarc.result == result && verdict.dmarc.disposition == disposition
    };
    Ok(match symbol {
        "R_DKIM_ALLOW" => dkim(DkimResult::Pass),
        "R_DKIM_REJECT" => dkim(DkimResult::Fail),
        "R_DKIM_PERMFAIL" => dkim(DkimResult::PermError) || dkim(DkimResult::Neutral) || dkim(DkimResult::Policy),
        "R_DKIM_TEMPFAIL" => dkim(DkimResult::TempError),
        "R_DKIM_NA" => verdict.dkim.is_empty(),
        "R_SPF_ALLOW" | "R_SPF_PLUSALL" => spf(SpfResult::Pass),
        "R_SPF_FAIL" => spf(SpfResult::Fail),
        "R_SPF_SOFTFAIL" => spf(SpfResult::SoftFail),
        "R_SPF_NEUTRAL" => spf(SpfResult::Neutral),
        "R_SPF_DNSFAIL" => spf(SpfResult::TempError),
        "R_SPF_PERMFAIL" => spf(SpfResult::PermError),
        "R_SPF_NA" => spf(SpfResult::None),
        "ARC_ALLOW" => verdict.arc.result == ArcResult::Pass,
        "ARC_INVALID" | "ARC_REJECT" => verdict.arc.result == ArcResult::Fail,
        "ARC_NA" => verdict.arc.result == ArcResult::None,
        "DMARC_POLICY_ALLOW" => verdict.dmarc.result == DmarcResult::Pass,
        "DMARC_POLICY_SOFTFAIL" => dmarc(DmarcResult::Fail, Disposition::None),
        "DMARC_POLICY_QUARANTINE" => dmarc(DmarcResult::Fail, Disposition::Quarantine),
        "DMARC_POLICY_REJECT" => dmarc(DmarcResult::Fail, Disposition::Reject),
        "DMARC_NA" | "DMARC_BAD_POLICY" => {
            matches!(verdict.dmarc.result, DmarcResult::None | DmarcResult::PermError)
        }
        "DMARC_DNSFAIL" => verdict.dmarc.result == DmarcResult::TempError,
        _ => return Err(format!("unknown symbol {symbol}")),
    })
}
