//! The parts of a verdict.

use mailproof::cache;
use mailproof::network;
use mailproof_proto::arc;
use mailproof_proto::dkim;
use mailproof_proto::dmarc;
use mailproof_proto::message;
use mailproof_proto::spf;

use crate::record::{Tuple, record};

record! {
    /// How one SPF check ended (RFC 7208).
    SpfOutcome {
        /// The result word of RFC 8601 section 2.7.2: `none`, `neutral`, `pass`, `fail`, `softfail`, `temperror` or `permerror`.
        result: &'static str,
        /// The domain that was checked, lower case with A-labels; None when it was no domain.
        domain: Option<String>,
        /// Why, as a stable word; None when there is nothing to explain.
        problem: Option<&'static str>,
        /// Why, in English.
        problem_text: Option<String>,
        /// The term of the record that decided, as written.
        mechanism: Option<String>,
        /// What the owner of the domain says about a fail. A stranger wrote it.
        explanation: Option<String>,
        /// Terms that caused DNS queries; at most 10 are allowed (RFC 7208 section 4.6.4).
        lookups: u8,
        /// Look-ups without an answer; at most 2 are allowed.
        void_lookups: u8,
    }
}

impl From<&spf::SpfOutcome> for SpfOutcome {
    fn from(outcome: &spf::SpfOutcome) -> Self {
        Self {
            result: outcome.result.word(),
            domain: outcome.domain.map(|domain| domain.to_string()),
            problem: outcome.problem.as_ref().map(|problem| problem.word()),
            problem_text: outcome.problem.as_ref().map(ToString::to_string),
            mechanism: outcome.mechanism.as_ref().map(|term| term.as_str().to_owned()),
            explanation: outcome.explanation.clone(),
            lookups: outcome.lookup_count,
            void_lookups: outcome.void_lookup_count,
        }
    }
}

record! {
    /// How one DKIM signature was judged (RFC 6376).
    SignatureOutcome {
        /// The result word of RFC 8601 section 2.7.1: `none`, `pass`, `fail`, `policy`, `neutral`, `temperror` or `permerror`.
        result: &'static str,
        /// `d=`, the domain that signed.
        domain: Option<String>,
        /// `s=`, the selector of its key.
        selector: Option<String>,
        /// `i=` as written, or `@` and the domain.
        identity: Option<String>,
        /// `a=` as written.
        algorithm: Option<String>,
        /// Bits of the public key that was used.
        key_bits: Option<u16>,
        /// The first characters of `b=`, by which signatures are told apart (RFC 6008).
        b: Option<String>,
        /// The key says that its owner is testing DKIM.
        testing: bool,
        /// `t=`, seconds since 1970.
        signed_at: Option<u64>,
        /// `x=`, seconds since 1970.
        expires_at: Option<u64>,
        /// Octets of the canonical body that the signature covers.
        body_octets_covered: u64,
        /// Octets of the canonical body.
        body_octets: u64,
        /// Why, as a stable word; None for a plain pass.
        problem: Option<&'static str>,
        /// Why, in English.
        problem_text: Option<String>,
    }
}

impl From<&dkim::SignatureOutcome> for SignatureOutcome {
    fn from(outcome: &dkim::SignatureOutcome) -> Self {
        let (body_octets_covered, body_octets) = outcome.body_octets;
        Self {
            result: outcome.result.word(),
            domain: outcome.domain.map(|domain| domain.to_string()),
            selector: outcome.selector.clone(),
            identity: outcome.identity.clone(),
            algorithm: outcome.algorithm.clone(),
            key_bits: outcome.key_bits,
            b: outcome.b.clone(),
            testing: outcome.testing,
            signed_at: outcome.signed_at,
            expires_at: outcome.expires_at,
            body_octets_covered,
            body_octets,
            problem: outcome.problem.map(|problem| problem.word()),
            problem_text: outcome.problem.map(|problem| problem.to_string()),
        }
    }
}

record! {
    /// How the ARC chain was judged (RFC 8617).
    ArcOutcome {
        /// `none`, `pass` or `fail`.
        result: &'static str,
        /// Sets found.
        instances: u8,
        /// The oldest instance whose message signature verifies, 0 when all do (RFC 8617 section 5.2).
        oldest_pass: Option<u8>,
        /// The domains of the seals from instance 1 up.
        sealers: Tuple<String>,
        /// Why it failed, as a stable word.
        problem: Option<&'static str>,
        /// Why it failed, in English.
        problem_text: Option<String>,
    }
}

impl From<&arc::ArcOutcome> for ArcOutcome {
    fn from(outcome: &arc::ArcOutcome) -> Self {
        Self {
            result: outcome.result.word(),
            instances: outcome.instances,
            oldest_pass: outcome.oldest_pass,
            sealers: Tuple(outcome.sealers.iter().map(|(domain, _)| domain.to_string()).collect()),
            problem: outcome.problem.map(|problem| problem.word()),
            problem_text: outcome.problem.map(|problem| problem.to_string()),
        }
    }
}

record! {
    /// How DMARC was judged (RFC 9989, or RFC 7489 where the engine was told so).
    DmarcOutcome {
        /// The result word of RFC 9989 section 9.2: `none`, `pass`, `fail`, `temperror` or `permerror`.
        result: &'static str,
        /// The Author Domain, of the From field.
        from_domain: Option<String>,
        /// Its Organizational Domain, when the result needed it.
        organizational_domain: Option<String>,
        /// Where the record that applies was found.
        policy_domain: Option<String>,
        /// The policy that applies to a failing message: `none`, `quarantine` or `reject`.
        policy: Option<&'static str>,
        /// The tag of the record that the policy came from: `p`, `sp` or `np`.
        applies: Option<&'static str>,
        /// How the Organizational Domain was found: `treewalk` or `psl`.
        discovery: &'static str,
        /// The record says that its owner is testing.
        testing: bool,
        /// How SPF aligned: `relaxed` or `strict`; None when it did not, or did not pass.
        spf_aligned: Option<&'static str>,
        /// How DKIM aligned: `relaxed` or `strict`; None when it did not, or did not pass.
        dkim_aligned: Option<&'static str>,
        /// What the policy asks for this message: `none` unless the result is `fail`.
        disposition: &'static str,
        /// Why there is no pass or fail, as a stable word.
        problem: Option<&'static str>,
        /// Why there is no pass or fail, in English.
        problem_text: Option<String>,
    }
}

impl From<&dmarc::DmarcOutcome> for DmarcOutcome {
    fn from(outcome: &dmarc::DmarcOutcome) -> Self {
        Self {
            result: outcome.result.word(),
            from_domain: outcome.from_domain.map(|domain| domain.to_string()),
            organizational_domain: outcome.organizational_domain.map(|domain| domain.to_string()),
            policy_domain: outcome.policy_domain.map(|domain| domain.to_string()),
            policy: outcome.policy.map(|policy| policy.word()),
            applies: outcome.applies.map(|tag| tag.word()),
            discovery: outcome.discovery.word(),
            testing: outcome.testing,
            spf_aligned: outcome.spf_aligned.map(dmarc::Alignment::word),
            dkim_aligned: outcome.dkim_aligned.map(dmarc::Alignment::word),
            disposition: outcome.disposition.word(),
            problem: outcome.problem.map(|problem| problem.word()),
            problem_text: outcome.problem.map(|problem| problem.to_string()),
        }
    }
}

record! {
    /// What is wrong with the octets of a message. It counts; nothing here decides a result.
    Defects {
        /// CR not followed by LF.
        bare_cr: u32,
        /// LF not preceded by CR.
        bare_lf: u32,
        /// NUL octets.
        nul: u32,
        /// Lines of the header that are neither a field nor the continuation of one.
        garbage_lines: u32,
        /// Instances beyond the first of fields that RFC 5322 section 3.6 allows once.
        repeated_singletons: u32,
        /// Fields longer than 64 KiB, which nothing reads.
        oversize_fields: u32,
        /// The header has more octets or fields than are read.
        header_over_limit: bool,
    }
}

impl From<&message::Defects> for Defects {
    fn from(defects: &message::Defects) -> Self {
        Self {
            bare_cr: defects.bare_cr,
            bare_lf: defects.bare_lf,
            nul: defects.nul,
            garbage_lines: defects.garbage_lines,
            repeated_singletons: defects.repeated_singletons,
            oversize_fields: defects.oversize_fields,
            header_over_limit: defects.header_over_limit,
        }
    }
}

record! {
    /// What the cache of an engine has done, and what it holds.
    CacheStatistics {
        /// Questions it answered.
        hits: u64,
        /// Questions it did not.
        misses: u64,
        /// Answers it took in.
        inserts: u64,
        /// Entries that had to make room.
        evictions: u64,
        /// Entries it holds, those whose time is over included.
        entries: u64,
        /// Octets it holds, an estimate.
        bytes: u64,
    }
}

impl From<cache::CacheStatistics> for CacheStatistics {
    fn from(of: cache::CacheStatistics) -> Self {
        let cache::CacheStatistics { hits, misses, inserts, evictions, entries, bytes } = of;
        Self { hits, misses, inserts, evictions, entries, bytes }
    }
}

record! {
    /// What the DNS client of an engine has done; all zero where a zone answers.
    NetworkStatistics {
        /// Questions that went to the servers.
        lookups: u64,
        /// Questions that were on their way already.
        joined: u64,
        /// Datagrams sent.
        udp_queries: u64,
        /// Queries sent over connections.
        tcp_queries: u64,
        /// Replies that matched no query: late, or forged. None of them was believed.
        unmatched: u64,
        /// Tries that a server let pass without a reply.
        silent_tries: u64,
        /// Questions that had no answer in the end.
        failures: u64,
        /// Questions that failed because too many were waiting.
        turned_away: u64,
        /// Answers fetched again before they expired.
        prefetches: u64,
    }
}

impl From<network::NetworkStatistics> for NetworkStatistics {
    fn from(of: network::NetworkStatistics) -> Self {
        Self {
            lookups: of.lookups,
            joined: of.joined,
            udp_queries: of.udp_queries,
            tcp_queries: of.tcp_queries,
            unmatched: of.unmatched,
            silent_tries: of.silent_tries,
            failures: of.failures,
            turned_away: of.turned_away,
            prefetches: of.prefetches,
        }
    }
}
