//! Whether reports may go to an address outside the domain that asks for them (RFC 9990 section 4, RFC 9991 section 5).

use super::DmarcOptions;
use super::policy::organizational_domain;
use super::record::{Record, ReportUri, tags, uris};
use crate::dns::{Answers, Failure, Name, Outcome, Question, RecordType};

/// Which reports are to be sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReportKind {
    /// `rua`
    Aggregate,
    /// `ruf`
    Failure,
}

/// What the host of a report address says of reports on a domain.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Consent {
    /// It accepts them; where it names other addresses, those replace the one in the policy record.
    Given {
        /// Its `rua`
        rua: Option<Box<str>>,
        /// Its `ruf`
        ruf: Option<Box<str>>,
    },
    /// It does not.
    Refused,
    /// The question failed; it may be asked again later.
    Unknown(Failure),
}

/// Where the reports for one URI go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Destination {
    /// To the URI as it stands in the policy record.
    AsListed,
    /// To these instead.
    Replaced(Vec<Box<str>>),
    /// Nowhere.
    Refused,
    /// Not now: a question failed.
    Unknown(Failure),
}

/// Decides where the reports for one entry of `rua` or `ruf` go; `None` while answers are missing.
///
/// `policy_domain` is where the record was found. A URI within the same Organizational Domain needs no consent.
pub fn report_destination(
    uri: &ReportUri<'_>,
    kind: ReportKind,
    policy_domain: &Name,
    options: &DmarcOptions,
    answers: &mut Answers<'_>,
) -> Option<Destination> {
    let Some(host) = uri.host() else { return Some(Destination::Refused) };
    if host == *policy_domain {
        return Some(Destination::AsListed);
    }
    match (organizational_domain(&host, options, answers)?, organizational_domain(policy_domain, options, answers)?) {
        (Ok(theirs), Ok(own)) if theirs == own => return Some(Destination::AsListed),
        (Err(failure), _) | (_, Err(failure)) => return Some(Destination::Unknown(failure)),
        (Ok(_), Ok(_)) => {}
    }
    let replacement = match consent(policy_domain, &host, answers)? {
        Consent::Refused => return Some(Destination::Refused),
        Consent::Unknown(failure) => return Some(Destination::Unknown(failure)),
        Consent::Given { rua, .. } if kind == ReportKind::Aggregate => rua,
        Consent::Given { ruf, .. } => ruf,
    };
    let Some(replacement) = replacement else { return Some(Destination::AsListed) };
    let same_host = |entry: &str| ReportUri::parse(entry).is_some_and(|uri| uri.host() == Some(host));
    Some(if uris(&replacement).all(same_host) {
        Destination::Replaced(uris(&replacement).map(Box::from).collect())
    } else {
        Destination::Refused
    })
}

/// Asks `host` whether it takes reports on `policy_domain` (RFC 9990 section 4); `None` while the answer is missing.
///
/// Every text that is a list of tags and begins with `v=DMARC1` gives consent; there may be several. The first of them
/// with a `rua` or `ruf` names the replacement.
pub fn consent(policy_domain: &Name, host: &Name, answers: &mut Answers<'_>) -> Option<Consent> {
    let name = host.prepend("_report._dmarc").ok().and_then(|mut name| {
        let labels: Vec<&[u8]> = policy_domain.labels().collect();
        for label in labels.iter().rev() {
            name = name.prepend(label).ok()?;
        }
        Some(name)
    });
    let Some(name) = name else {
        return Some(Consent::Refused);
    };
    let answer = answers.ask(&Question::new(name, RecordType::Txt))?;
    if let Outcome::Failed(failure) = answer.outcome() {
        return Some(Consent::Unknown(*failure));
    }
    let is_tag_list = |text: &[u8]| tags(text).all(|tag| tag.value.is_some());
    let records = || answer.texts().iter().filter(|txt| is_tag_list(&txt.0)).filter_map(|txt| Record::read(&txt.0));
    if records().next().is_none() {
        return Some(Consent::Refused);
    }
    Some(Consent::Given { rua: records().find_map(|record| record.rua), ruf: records().find_map(|record| record.ruf) })
}
