//! What must be found about a message.

use serde::{Deserialize, Serialize};

use super::Fate;
use super::domain::Domain;

/// The results that follow from how a message was made, in the words of RFC 8601.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// What became of it.
    pub fate: Fate,
    /// SPF of MAIL FROM, or of HELO for the null reverse-path.
    pub spf: String,
    /// Signing domain and result of each DKIM signature, from top to bottom.
    pub dkim: Vec<(String, String)>,
    /// The ARC chain.
    pub arc: String,
    /// DMARC.
    pub dmarc: String,
}

impl Expectation {
    /// `stranger` signs and sends where somebody else does.
    pub(super) fn new(domain: &Domain, fate: Fate, stranger: &str) -> Self {
        let spf = match fate {
            _ if fate.has_foreign_envelope() || !fate.is_elsewhere() => "pass",
            _ if domain.is_soft => "softfail",
            _ => "fail",
        };
        let mut dkim = Vec::new();
        if fate.has_foreign_envelope() {
            dkim.push((stranger.to_owned(), "pass".to_owned()));
        }
        if fate.is_signed_by_author() {
            let word = if fate.author_signature_holds() { "pass" } else { fate.broken_word() };
            dkim.extend(domain.signers.iter().map(|_| (domain.name.clone(), word.to_owned())));
        }
        let arc = match fate {
            Fate::BrokenChain => "fail",
            _ if fate.is_sealed() => "pass",
            _ => "none",
        };
        let by_spf = spf == "pass" && !fate.has_foreign_envelope() && fate != Fate::Bounce;
        let by_dkim = fate.is_signed_by_author() && fate.author_signature_holds();
        let dmarc = match domain.policy {
            None => "none",
            Some(_) if by_spf || by_dkim => "pass",
            Some(_) => "fail",
        };
        Self { fate, spf: spf.to_owned(), dkim, arc: arc.to_owned(), dmarc: dmarc.to_owned() }
    }

    /// The domains whose signatures hold.
    pub fn passing_domains(&self) -> impl Iterator<Item = &str> {
        self.dkim.iter().filter(|(_, word)| word == "pass").map(|(domain, _)| domain.as_str())
    }
}
