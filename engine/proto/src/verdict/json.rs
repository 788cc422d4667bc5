//! The verdict as JSON: one schema for every caller, fields in a fixed order.

use std::fmt;

use serde::{Serialize, Serializer};

use super::Verdict;
use crate::dkim::SignatureOutcome;
use crate::dmarc::Alignment;

/// Version of the schema, its first field.
const SCHEMA_VERSION: u32 = 1;

impl Verdict {
    /// The verdict as one line of JSON without a line end. `id` is the caller's name for the message.
    #[must_use]
    pub fn to_json(&self, id: &str) -> String {
        // Serialising these types can not fail: every key is a string and no value is a map or a float.
        serde_json::to_string(&self.document(id)).unwrap_or_default()
    }

    fn document<'a>(&'a self, id: &'a str) -> Document<'a> {
        let dmarc = &self.dmarc;
        Document {
            v: SCHEMA_VERSION,
            id,
            spf: Spf {
                result: self.spf.result.word(),
                scope: "mfrom",
                domain: self.spf.domain.as_ref().map(Text),
                ip: self.ip.map(Text),
                problem: self.spf.problem.as_ref().map(|problem| problem.word()),
                explanation: self.spf.explanation.as_deref(),
                helo: Helo { result: self.helo.result.word(), domain: self.helo.domain.as_ref().map(Text) },
            },
            dkim: &self.dkim,
            arc: Arc {
                result: self.arc.result.word(),
                instances: self.arc.instances,
                oldest_pass: self.arc.oldest_pass,
                sealers: self.arc.sealers.iter().map(|(domain, _)| Text(domain)).collect(),
                problem: self.arc.problem.map(|problem| problem.word()),
            },
            dmarc: Dmarc {
                result: dmarc.result.word(),
                from_domain: dmarc.from_domain.as_ref().map(Text),
                organizational_domain: dmarc.organizational_domain.as_ref().map(Text),
                policy_domain: dmarc.policy_domain.as_ref().map(Text),
                policy: dmarc.policy.map(|policy| policy.word()),
                applies: dmarc.applies.map(|tag| tag.word()),
                discovery: dmarc.discovery.word(),
                testing: dmarc.testing,
                aligned: Aligned {
                    spf: dmarc.spf_aligned.map(Alignment::word),
                    dkim: dmarc.dkim_aligned.map(Alignment::word),
                },
                disposition: dmarc.disposition.word(),
                problem: dmarc.problem.map(|problem| problem.word()),
            },
            action: self.action.word(),
            authentication_results: &self.authentication_results,
        }
    }
}

#[derive(Serialize)]
struct Document<'a> {
    v: u32,
    id: &'a str,
    spf: Spf<'a>,
    dkim: &'a [SignatureOutcome],
    arc: Arc<'a>,
    dmarc: Dmarc<'a>,
    action: &'a str,
    authentication_results: &'a str,
}

#[derive(Serialize)]
struct Spf<'a> {
    result: &'a str,
    scope: &'a str,
    domain: Option<Text<&'a crate::dns::Name>>,
    ip: Option<Text<std::net::IpAddr>>,
    problem: Option<&'a str>,
    explanation: Option<&'a str>,
    helo: Helo<'a>,
}

#[derive(Serialize)]
struct Helo<'a> {
    result: &'a str,
    domain: Option<Text<&'a crate::dns::Name>>,
}

#[derive(Serialize)]
struct Signature<'a> {
    result: &'a str,
    domain: Option<Text<&'a crate::dns::Name>>,
    selector: Option<&'a str>,
    identity: Option<&'a str>,
    algorithm: Option<&'a str>,
    key_bits: Option<u16>,
    b: Option<&'a str>,
    testing: bool,
    problem: Option<&'a str>,
}

#[derive(Serialize)]
struct Arc<'a> {
    result: &'a str,
    instances: u8,
    oldest_pass: Option<u8>,
    sealers: Vec<Text<&'a crate::dns::Name>>,
    problem: Option<&'a str>,
}

#[derive(Serialize)]
struct Dmarc<'a> {
    result: &'a str,
    from_domain: Option<Text<&'a crate::dns::Name>>,
    organizational_domain: Option<Text<&'a crate::dns::Name>>,
    policy_domain: Option<Text<&'a crate::dns::Name>>,
    policy: Option<&'a str>,
    applies: Option<&'a str>,
    discovery: &'a str,
    testing: bool,
    aligned: Aligned<'a>,
    disposition: &'a str,
    problem: Option<&'a str>,
}

#[derive(Serialize)]
struct Aligned<'a> {
    spf: Option<&'a str>,
    dkim: Option<&'a str>,
}

/// A value written as the text it displays as.
struct Text<T>(T);

impl<T: fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl Serialize for SignatureOutcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let signature = Signature {
            result: self.result.word(),
            domain: self.domain.as_ref().map(Text),
            selector: self.selector.as_deref(),
            identity: self.identity.as_deref(),
            algorithm: self.algorithm.as_deref(),
            key_bits: self.key_bits,
            b: self.b.as_deref(),
            testing: self.testing,
            problem: self.problem.map(|problem| problem.word()),
        };
        signature.serialize(serializer)
    }
}
