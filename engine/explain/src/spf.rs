//! An outcome of SPF, for people.

use mailproof_proto::spf::SpfOutcome;

use crate::tone::{Tone, spf_tone};
use crate::words::visible;

/// One identity with everything known about its outcome.
#[must_use]
pub fn outcome_lines(what: &str, identity: &str, outcome: &SpfOutcome) -> Vec<String> {
    let result = spf_tone(outcome.result).paint(outcome.result.word());
    let mut lines = vec![format!("{} {result}", Tone::Strong.paint(&format!("{what:<10}")))];
    let mut line = |name: &str, value: &str| lines.push(format!("  {name:<13}{}", visible(value)));
    line("identity", identity);
    if let Some(domain) = &outcome.domain {
        line("domain", &domain.to_string());
    }
    if let Some(term) = &outcome.mechanism {
        line("decided by", term.as_str());
    }
    if let Some(problem) = &outcome.problem {
        line("because", &format!("{problem} [{}]", problem.word()));
    }
    if let Some(explanation) = &outcome.explanation {
        line("owner says", explanation);
    }
    if outcome.lookup_count > 0 || outcome.void_lookup_count > 0 {
        line("lookups", &format!("{} of 10, {} of 2 void", outcome.lookup_count, outcome.void_lookup_count));
    }
    lines
}
