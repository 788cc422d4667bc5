//! What a client is told when its message is refused: codes of RFC 3463, RFC 7208 section 8, RFC 7372 and RFC 9989
//! section 7.2.

use std::fmt;
use std::net::IpAddr;

use mailproof_proto::dmarc::{Disposition, DmarcOutcome, DmarcProblem, DmarcResult};
use mailproof_proto::spf::{SpfOutcome, SpfResult};
use mailproof_proto::verdict::Action;

/// A reply of three parts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SmtpReply {
    code: u16,
    enhanced: &'static str,
    text: String,
    /// Octets of the text that are our own words; behind them somebody is quoted.
    own: usize,
}

impl SmtpReply {
    /// What is said about SPF; `None` where nothing is refused.
    pub(super) fn spf(spf: &SpfOutcome, client: Option<IpAddr>) -> Option<Self> {
        let domain = spf.domain.as_ref().map_or_else(|| "the sender".to_owned(), ToString::to_string);
        let client = client.map_or_else(|| "this host".to_owned(), |address| address.to_canonical().to_string());
        let problem = spf.problem.as_ref().map_or("", |problem| problem.word());
        Some(match spf.result {
            SpfResult::Fail => {
                let text = format!("SPF: {client} may not send mail from {domain}");
                match &spf.explanation {
                    Some(said) => Self::new(550, "5.7.23", text).quoting(&format!("; that domain says: {said}")),
                    None => Self::new(550, "5.7.23", text),
                }
            }
            SpfResult::PermError => {
                Self::new(550, "5.7.24", format!("SPF: the record of {domain} can not be used ({problem})"))
            }
            SpfResult::TempError => {
                Self::new(451, "4.7.24", format!("SPF: {domain} can not be looked up now ({problem})"))
            }
            SpfResult::None | SpfResult::Neutral | SpfResult::Pass | SpfResult::SoftFail => return None,
        })
    }

    pub(super) fn dkim_temperror() -> Self {
        Self::new(451, "4.7.5", "DKIM: the key of a signature can not be looked up now".to_owned())
    }

    /// What is said about DMARC when this is done; `None` where nothing is refused.
    pub(super) fn dmarc(dmarc: &DmarcOutcome, action: Action) -> Option<Self> {
        let from = dmarc.from_domain.as_ref().map_or_else(|| "its author".to_owned(), ToString::to_string);
        let problem = dmarc.problem.map_or("", DmarcProblem::word);
        Some(match (action, dmarc.result) {
            (Action::Defer, _) => {
                Self::new(451, "4.7.1", format!("DMARC: the policy of {from} can not be looked up now ({problem})"))
            }
            (Action::Reject, DmarcResult::PermError) => {
                Self::new(550, "5.7.1", format!("DMARC: the author of this message can not be checked ({problem})"))
            }
            (Action::Reject, _) => {
                let owner = dmarc.policy_domain.as_ref().map_or_else(|| from.clone(), ToString::to_string);
                let by = match dmarc.disposition {
                    Disposition::Reject => format!("the policy of {owner}"),
                    Disposition::None | Disposition::Quarantine => "local policy".to_owned(),
                };
                let text = format!("DMARC: not authenticated as mail from {from}; refused by {by}");
                Self::new(550, "5.7.1", text)
            }
            (Action::Accept | Action::Quarantine, _) => return None,
        })
    }

    pub(super) fn internal_error() -> Self {
        Self::new(451, "4.3.0", "The message could not be checked now".to_owned())
    }

    /// For what could not be signed.
    pub(crate) fn not_signed() -> Self {
        Self::new(451, "4.3.0", "The message could not be signed now".to_owned())
    }

    fn new(code: u16, enhanced: &'static str, text: String) -> Self {
        let text: String = text.chars().map(plain).take(TEXT_CHARACTERS_MAX).collect();
        Self { code, enhanced, own: text.len(), text }
    }

    /// With what somebody else has to say: the text of an SPF record may name the sender.
    fn quoting(mut self, words: &str) -> Self {
        let room = TEXT_CHARACTERS_MAX - self.text.len();
        self.text.extend(words.chars().map(plain).take(room));
        self
    }

    /// The code of RFC 5321 section 4.2.
    #[must_use]
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The code of RFC 3463.
    #[must_use]
    pub fn enhanced(&self) -> &'static str {
        self.enhanced
    }

    /// The text, printable ASCII.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The reply without what is quoted in it, for logs and events.
    #[must_use]
    pub fn for_log(&self) -> String {
        format!("{} {} {}", self.code, self.enhanced, self.text.get(..self.own).unwrap_or_default())
    }

    /// The reply as a milter gives it: the server takes `%` for the beginning of a format, unless it stands twice.
    #[must_use]
    pub fn for_milter(&self) -> String {
        self.to_string().replace('%', "%%")
    }
}

impl fmt::Display for SmtpReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.code, self.enhanced, self.text)
    }
}

/// Printable ASCII.
fn plain(character: char) -> char {
    if character == ' ' || character.is_ascii_graphic() { character } else { '?' }
}

/// RFC 5321 section 4.5.3.1.5: a reply line has at most 512 octets, the codes and a doubled `%` or two included.
const TEXT_CHARACTERS_MAX: usize = 240;
