//! Decisions, as data: see `policy.yml`.

use std::collections::BTreeMap;

use mailproof_milter::policy::{Decision, Facts, Policy, decide, decide_internal_error};
use mailproof_proto::arc::{ArcOutcome, ArcResult};
use mailproof_proto::dkim::{DkimProblem, SignatureOutcome};
use mailproof_proto::dmarc::{Discovery, Disposition, DmarcOutcome, DmarcProblem, DmarcResult};
use mailproof_proto::dns::Name;
use mailproof_proto::message::address::Author;
use mailproof_proto::message::{Defects, HeaderIndex};
use mailproof_proto::spf::{SpfOutcome, SpfProblem, SpfResult};
use mailproof_proto::verdict::{Action, Verdict};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    policy: String,
    verdict: Parts,
    #[serde(default)]
    header: String,
    expect: Expected,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Parts {
    spf: String,
    explanation: Option<String>,
    /// A result, or the policy of a message that failed.
    dmarc: String,
    testing: bool,
    /// Domains of the seals of a chain that passed.
    arc: Vec<String>,
    /// Signing domains with the problem of each.
    dkim: BTreeMap<String, String>,
    /// Those of them whose signature holds over the header.
    holds: Vec<String>,
}

#[derive(Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
struct Expected {
    action: String,
    asked: String,
    reply: Option<String>,
    reasons: String,
    #[serde(rename = "override")]
    override_reason: Option<String>,
}

impl Default for Parts {
    fn default() -> Self {
        let none = || "none".to_owned();
        Self {
            spf: none(),
            explanation: None,
            dmarc: none(),
            testing: false,
            arc: Vec::new(),
            dkim: BTreeMap::new(),
            holds: Vec::new(),
        }
    }
}

#[test]
fn every_case_is_decided_as_it_says() {
    let cases: Vec<Case> = serde_saphyr::from_str(include_str!("policy.yml")).unwrap();
    assert!(cases.len() > 30);
    for case in &cases {
        let policy: Policy = toml::from_str(&case.policy).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        let verdict = verdict(&case.verdict);
        let header = format!("From: a@author.example\r\n{}\r\n", case.header);
        let mut index = HeaderIndex::new();
        let facts = Facts::read(index.scan(header.as_bytes()), &verdict);
        assert_eq!(shown(&decide(&policy, &verdict, &facts)), case.expect, "{}", case.name);
    }
}

#[test]
fn a_fault_of_our_own_never_refuses_for_good() {
    let of = |policy: &str| shown(&decide_internal_error(&toml::from_str(policy).unwrap()));
    let expected = |action: &str, reply: Option<&str>| Expected {
        action: action.to_owned(),
        asked: action.to_owned(),
        reply: reply.map(str::to_owned),
        reasons: "internal-error".to_owned(),
        override_reason: None,
    };
    assert_eq!(of("mode = 'enforce'"), expected("accept", None));
    let deferred = expected("defer", Some("451 4.3.0 The message could not be checked now"));
    assert_eq!(of("mode = 'observe'\ninternal-error = 'defer'"), deferred);
}

#[test]
fn percent_signs_are_doubled_for_the_server() {
    let policy: Policy = toml::from_str("mode = 'enforce'\nrules.spf-fail = 'reject'").unwrap();
    let parts = Parts { spf: "fail".to_owned(), explanation: Some("50%\u{e9}\r\n".to_owned()), ..Parts::default() };
    let reply = decide(&policy, &verdict(&parts), &Facts::default()).reply.unwrap();
    assert!(reply.text().ends_with("that domain says: 50%???") && reply.for_milter().ends_with("50%%???"));
    assert!(reply.for_log().ends_with("bounce.sender.example"), "what the domain says may name the sender");
}

fn shown(decision: &Decision) -> Expected {
    let word = |action: Action| action.word().to_owned();
    let comment = decision.override_reason.as_ref().map(|it| format!("{} {}", it.kind.word(), it.comment));
    Expected {
        action: word(decision.action),
        asked: word(decision.asked),
        reply: decision.reply.as_ref().map(ToString::to_string),
        reasons: decision.reasons.to_string(),
        override_reason: comment,
    }
}

fn verdict(parts: &Parts) -> Verdict {
    let spf = SpfOutcome {
        result: SpfResult::from_word(&parts.spf).unwrap(),
        domain: Some(name("bounce.sender.example")),
        problem: matches!(parts.spf.as_str(), "permerror" | "temperror").then_some(SpfProblem::TooManyLookups),
        explanation: parts.explanation.clone(),
        ..SpfOutcome::without_client()
    };
    let helo = SpfOutcome::without_client();
    let problems = [
        DkimProblem::LengthUncovered,
        DkimProblem::BodyHashMismatch,
        DkimProblem::KeyTimeout,
        DkimProblem::SignatureMismatch,
    ];
    let signature = |(domain, word): (&String, &String)| {
        let problem = problems.into_iter().find(|it| it.word() == word).unwrap();
        SignatureOutcome {
            result: problem.result(),
            problem: Some(problem),
            domain: Some(name(domain)),
            selector: Some("s".to_owned()),
            identity: None,
            algorithm: None,
            key_bits: None,
            b: None,
            testing: false,
            signed_at: None,
            expires_at: None,
            body_octets: (0, 0),
            header_holds: parts.holds.contains(domain),
        }
    };
    Verdict {
        ip: Some("192.0.2.7".parse().unwrap()),
        null_reverse_path: false,
        spf,
        helo,
        dkim: parts.dkim.iter().map(signature).collect(),
        arc: ArcOutcome {
            result: if parts.arc.is_empty() { ArcResult::None } else { ArcResult::Pass },
            instances: u8::try_from(parts.arc.len()).unwrap(),
            oldest_pass: None,
            sealers: parts.arc.iter().map(|domain| (name(domain), "s".to_owned())).collect(),
            problem: None,
        },
        dmarc: dmarc(parts),
        author: Author::One(name("author.example")),
        defects: Defects::default(),
        action: Action::Accept,
        authentication_results: String::new(),
    }
}

fn dmarc(parts: &Parts) -> DmarcOutcome {
    let (result, disposition, problem) = match parts.dmarc.as_str() {
        "none" => (DmarcResult::None, Disposition::None, Some(DmarcProblem::NoRecord)),
        "pass" => (DmarcResult::Pass, Disposition::None, None),
        "temperror" => (DmarcResult::TempError, Disposition::None, Some(DmarcProblem::RecordLookupFailed)),
        "permerror" => (DmarcResult::PermError, Disposition::None, Some(DmarcProblem::SeveralAuthors)),
        "fail" => (DmarcResult::Fail, Disposition::None, None),
        "quarantine" => (DmarcResult::Fail, Disposition::Quarantine, None),
        "reject" => (DmarcResult::Fail, Disposition::Reject, None),
        other => panic!("{other}"),
    };
    DmarcOutcome {
        result,
        from_domain: Some(name("author.example")),
        organizational_domain: None,
        policy_domain: Some(name("author.example")),
        policy: Some(disposition),
        applies: None,
        discovery: Discovery::TreeWalk,
        testing: parts.testing,
        spf_aligned: None,
        dkim_aligned: None,
        disposition,
        problem,
    }
}

fn name(text: &str) -> Name {
    Name::parse_domain(text).unwrap()
}
