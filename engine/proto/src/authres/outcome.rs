//! Our own results, in the form RFC 8601 section 2.7, RFC 8617 section 6 and RFC 9989 section 9.2 give them.

use std::net::IpAddr;

use super::Writer;
use crate::arc::{ArcOutcome, ArcResult};
use crate::dkim::{DkimResult, SignatureOutcome};
use crate::dmarc::DmarcOutcome;
use crate::spf::SpfOutcome;

impl Writer<'_> {
    /// SPF of the MAIL FROM identity; its local part is left out (RFC 8601 section 2.7.2).
    pub fn spf_mail_from(&mut self, outcome: &SpfOutcome) -> &mut Self {
        self.spf(outcome, "mailfrom")
    }

    /// SPF of the HELO identity.
    pub fn spf_helo(&mut self, outcome: &SpfOutcome) -> &mut Self {
        self.spf(outcome, "helo")
    }

    /// One signature. `None` stands for a message without any.
    pub fn dkim(&mut self, outcome: Option<&SignatureOutcome>) -> &mut Self {
        let Some(outcome) = outcome else {
            return self.result("dkim", DkimResult::None.word());
        };
        self.result("dkim", outcome.result.word());
        let problem = outcome.problem.as_ref().map(|problem| problem.word());
        if let (Some(word), false) = (problem, outcome.result == DkimResult::Policy) {
            self.reason(word);
        }
        if let Some(domain) = &outcome.domain {
            self.property_display("header", "d", domain);
        }
        let named = [("i", &outcome.identity), ("s", &outcome.selector), ("a", &outcome.algorithm), ("b", &outcome.b)];
        for (name, value) in named {
            if let Some(value) = value {
                self.property("header", name, value);
            }
        }
        if let (Some(word), DkimResult::Policy) = (problem, outcome.result) {
            self.property("policy", "dkim-rules", word);
        }
        self
    }

    /// DMARC.
    pub fn dmarc(&mut self, outcome: &DmarcOutcome) -> &mut Self {
        self.result("dmarc", outcome.result.word());
        if let Some(problem) = &outcome.problem {
            self.reason(problem.word());
        }
        if let Some(domain) = &outcome.from_domain {
            self.property_display("header", "from", domain);
        }
        if let Some(policy) = outcome.policy {
            self.property("policy", "dmarc", policy.word());
        }
        self
    }

    /// ARC; the address is that of the client that handed the message over.
    pub fn arc(&mut self, outcome: &ArcOutcome, remote: Option<IpAddr>) -> &mut Self {
        self.result("arc", outcome.result.word());
        if let Some(problem) = &outcome.problem {
            self.reason(problem.word());
        }
        if outcome.result == ArcResult::None {
            return self;
        }
        if let Some(remote) = remote {
            self.property_display("smtp", "remote-ip", &remote);
        }
        if let Some(oldest) = outcome.oldest_pass {
            self.property_number("header", "oldest-pass", oldest.into());
        }
        self
    }

    fn spf(&mut self, outcome: &SpfOutcome, identity: &str) -> &mut Self {
        self.result("spf", outcome.result.word());
        if let Some(problem) = &outcome.problem {
            self.reason(problem.word());
        }
        if let Some(domain) = &outcome.domain {
            self.property_display("smtp", identity, domain);
        }
        self
    }
}
