//! What the example `compare` finds: how long each of those compared takes for a task, and whether they are right.

use crate::record::{WRONG, line};

/// The results of one message, in the words of RFC 8601; `-` for what somebody does not look at.
#[derive(Clone, Debug)]
pub struct Words {
    /// Of the address in MAIL FROM.
    pub spf: String,
    /// Of the first signature.
    pub dkim: String,
    /// Of the author's domain.
    pub dmarc: String,
}

/// What one of those compared made of one task.
#[derive(Clone, Debug, Default)]
pub struct Finding {
    /// Who.
    pub name: &'static str,
    /// What they look at.
    pub does: &'static str,
    /// Microseconds a message, one for each round.
    pub times: Vec<f64>,
    /// What they say that is not so, or why they do not answer.
    pub wrong: Option<String>,
}

/// What those look at who are compared by themselves.
pub const SPF: &str = "SPF";
/// The table of the record.
pub const COMPARE: &str = "compare";
/// What a name of ours begins with.
pub const OURS: &str = "mailproof";

impl Words {
    /// Puts three words together.
    #[must_use]
    pub fn new(spf: &str, dkim: &str, dmarc: &str) -> Self {
        Self { spf: spf.to_owned(), dkim: dkim.to_owned(), dmarc: dmarc.to_owned() }
    }

    /// The first word that is another; words that were not looked for do not count.
    #[must_use]
    pub fn difference(&self, expected: &Self) -> Option<String> {
        let pairs = [
            ("spf", &self.spf, &expected.spf),
            ("dkim", &self.dkim, &expected.dkim),
            ("dmarc", &self.dmarc, &expected.dmarc),
        ];
        let (what, said, _) = pairs.into_iter().find(|(_, said, expected)| *said != "-" && said != expected)?;
        Some(format!("{what}={said}"))
    }
}

impl Finding {
    /// Microseconds a message.
    #[must_use]
    pub fn median(&self) -> f64 {
        let mut times = self.times.clone();
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// The line of the table: a time says nothing when the answer is wrong. SPF alone is another task, so that nobody
    /// stands beside those that do more.
    #[must_use]
    pub fn line(&self, task: &str) -> String {
        let alone = if self.does == SPF { ", SPF alone" } else { "" };
        let case = format!("{task}{alone} / {}", self.name);
        match self.wrong {
            Some(_) => line(&[COMPARE, &case, WRONG, "0"]),
            None => line(&[COMPARE, &case, "us", &format!("{:.2}", self.median())]),
        }
    }

    /// For the terminal, beside one of ours that does as much.
    #[must_use]
    pub fn text(&self, own: &Self) -> String {
        let name = self.name;
        if let Some(difference) = &self.wrong {
            return format!("  {name:<36} wrong: {difference}");
        }
        let (median, least) = (self.median(), self.times.iter().copied().fold(f64::MAX, f64::min));
        let ratio = median / own.median();
        format!("  {name:<36}{median:>10.1} us (least {least:>9.1}){ratio:>8.2} times   {}", self.does)
    }
}

/// False when one of ours is wrong: then the comparison says nothing.
#[must_use]
pub fn ours_are_right(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.wrong.is_none() || !finding.name.starts_with(OURS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::rows_of;

    fn finding(name: &'static str, wrong: Option<&str>) -> Finding {
        Finding { name, does: SPF, times: vec![3.0, 1.0, 2.0], wrong: wrong.map(str::to_owned) }
    }

    #[test]
    fn who_always_says_pass_is_wrong_where_it_fails() {
        let fails = Words::new("fail", "fail", "fail");
        assert_eq!(Words::new("pass", "-", "-").difference(&fails).unwrap(), "spf=pass");
        assert_eq!(Words::new("fail", "fail", "pass").difference(&fails).unwrap(), "dmarc=pass");
        assert_eq!(Words::new("fail", "-", "-").difference(&fails), None);
    }

    #[test]
    fn spf_alone_is_a_task_of_its_own() {
        let whole = Finding { does: "SPF, DKIM, DMARC", ..finding("a", None) };
        assert_eq!(whole.line("t"), "compare,t / a,us,2.00\n");
        assert_eq!(finding("a", None).line("t"), "compare,\"t, SPF alone / a\",us,2.00\n");
    }

    #[test]
    fn who_is_wrong_is_in_the_table_as_wrong() {
        let whole = |finding| Finding { does: "SPF, DKIM", ..finding };
        let table = whole(finding("a, b", None)).line("t") + &whole(finding("c", Some("spf=pass"))).line("t");
        let rows = rows_of(&table);
        let of: Vec<_> = rows.iter().map(|row| (row.case.as_str(), row.value, row.is_wrong())).collect();
        assert_eq!(of, [("t / a, b", 2.0, false), ("t / c", 0.0, true)]);
        assert!(finding("c", Some("spf=pass")).text(&finding("a", None)).ends_with("wrong: spf=pass"));
    }

    #[test]
    fn a_wrong_verdict_of_ours_spoils_the_comparison() {
        let (ours, theirs) = (finding("mailproof", None), finding("viaspf", Some("spf=pass")));
        assert!(ours_are_right(&[ours.clone(), theirs.clone()]));
        let ours = Finding { wrong: Some("spf=pass".to_owned()), ..ours };
        assert!(!ours_are_right(&[theirs, ours]));
    }
}
