//! One message explained: every question, hash and decision, and why it ended so. For the command line and the bindings.
#![forbid(unsafe_code)]

mod meaning;
mod parts;
pub mod questions;
mod spf;
mod tone;
pub mod words;

use std::fmt::Write as _;

use mailproof::Engine;
use mailproof::network::Backend;
use mailproof_proto::arc::ArcResult;
use mailproof_proto::dkim::explain::{Explanation, SignedName, explain};
use mailproof_proto::dkim::{DkimResult, SignatureOutcome};
use mailproof_proto::dmarc::{self, Discovery, DmarcOutcome, DmarcResult, Published};
use mailproof_proto::dns::{Answer, AnswerSource, Answers, Name, Outcome, Question, RecordType, Transcript};
use mailproof_proto::message::address::Author;
use mailproof_proto::message::{Defects, FieldKind, HeaderIndex, Headers};
use mailproof_proto::spf::SpfResult;
use mailproof_proto::verdict::Verdict;
use mailproof_proto::verification::Envelope;

pub use self::meaning::aligned_signer;
pub use self::parts::split;
pub use self::spf::outcome_lines;
pub use self::tone::{Tone, action_tone, arc_tone, dkim_tone, dmarc_tone, spf_tone};
use self::words::{counted, listed, utc, visible, visible_octets};

/// Verifies a message with CRLF line ends and tells how the verdict came about, in lines with the escapes of a terminal;
/// `anstream` takes them out again. `full` shows long texts of the DNS whole.
///
/// Blocks while DNS answers are fetched, as [`Engine::verify`] does.
#[must_use]
pub fn page(engine: &Engine, message: &[u8], envelope: &Envelope, full: bool) -> String {
    let mut session = engine.session(envelope.clone());
    session.push(message);
    let verdict = session.finish().clone();
    let (header, body) = split(message);
    let mut index = HeaderIndex::new();
    let page = Page {
        engine,
        message,
        headers: index.scan(header),
        body,
        envelope,
        verdict: &verdict,
        transcript: session.transcript(),
        full,
        text: String::new(),
    };
    page.write()
}

/// Who answers the engine's questions, and by what.
#[must_use]
pub fn source(engine: &Engine) -> String {
    match engine.backend() {
        None => "zone files".to_owned(),
        Some(Backend::Uring) => "DNS servers, by io_uring".to_owned(),
        Some(Backend::EpollInstead { reason }) => format!("DNS servers, by epoll: {reason}"),
        Some(_) => "DNS servers, by epoll".to_owned(),
    }
}

/// The text, section by section.
struct Page<'a> {
    engine: &'a Engine,
    message: &'a [u8],
    headers: Headers<'a>,
    body: &'a [u8],
    envelope: &'a Envelope,
    verdict: &'a Verdict,
    transcript: &'a Transcript,
    full: bool,
    text: String,
}

/// Width of the names in front of values.
const NAME_WIDTH: usize = 13;

impl Page<'_> {
    fn write(mut self) -> String {
        self.in_short();
        self.message();
        self.from();
        self.spf();
        self.signatures();
        self.arc();
        self.dmarc();
        self.action();
        self.questions();
        self.text
    }

    fn heading(&mut self, words: &str, section: &str) {
        let section = if section.is_empty() { String::new() } else { format!("  {}", Tone::Quiet.paint(section)) };
        self.line(&format!("\n{}{section}", Tone::Strong.paint(words)));
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// A name and a value that is safe to show.
    fn pair(&mut self, name: &str, value: &str) {
        // Writing to a String can not fail.
        let _ = writeln!(self.text, "  {name:<NAME_WIDTH$}{value}");
    }

    fn in_short(&mut self) {
        let result = self.verdict.dmarc.result;
        let result = dmarc_tone(result).paint(&format!("DMARC {}", result.word()));
        let action = action_tone(self.verdict.action).paint(self.verdict.action.word());
        self.line(&format!("{result}, action {action}"));
        for sentence in meaning::in_short(self.verdict) {
            self.line(&format!("  {}", visible(&sentence)));
        }
    }

    fn message(&mut self) {
        self.heading("Message", "");
        let fields = counted(self.headers.len() as u64, "header field");
        self.pair("size", &format!("{} octets, {fields}, body of {}", self.message.len(), self.body.len()));
        if let Some(subject) = self.headers.of_kind(FieldKind::Subject).next() {
            self.pair("subject", visible_octets(subject.value).trim());
        }
        let client = self.envelope.ip.map_or_else(|| "not known, so no SPF".to_owned(), |ip| ip.to_string());
        self.pair("client", &client);
        self.pair("HELO", &visible(&self.envelope.helo));
        self.pair("MAIL FROM", &format!("<{}>", visible(&self.envelope.mail_from)));
        self.pair("judged as of", &utc(self.engine.now().seconds()));
        let defects = defects(&self.verdict.defects);
        if !defects.is_empty() {
            self.pair("odd", &listed(&defects));
        }
    }

    fn from(&mut self) {
        self.heading("From", "RFC 9989 section 5.3.1");
        let fields: Vec<String> =
            self.headers.of_kind(FieldKind::From).map(|field| visible_octets(field.value).trim().to_owned()).collect();
        for field in &fields {
            self.pair("field", field);
        }
        match &self.verdict.author {
            Author::One(domain) => self.pair("author", &domain.to_string()),
            Author::Several(domains) => {
                let domains: Vec<String> = domains.iter().map(ToString::to_string).collect();
                self.pair("author", &format!("several: {}", listed(&domains)));
            }
            Author::Unusable(problem) => self.pair("author", &format!("none: {problem} [{}]", problem.word())),
        }
    }

    fn spf(&mut self) {
        let verdict = self.verdict;
        self.heading("SPF", "RFC 7208");
        if self.envelope.ip.is_none() {
            self.pair("result", "none: no client address was given");
            return;
        }
        let (outcome, helo) = (&verdict.spf, &verdict.helo);
        let mail_from = format!("<{}>", self.envelope.mail_from);
        for (what, identity, outcome) in
            [("MAIL FROM", mail_from.as_str(), outcome), ("HELO", &self.envelope.helo, helo)]
        {
            for line in outcome_lines(what, identity, outcome) {
                self.line(&format!("  {line}"));
            }
            let _ = writeln!(
                self.text,
                "    {:<NAME_WIDTH$}{}",
                "section",
                Tone::Quiet.paint(meaning::spf_section(outcome))
            );
        }
    }

    fn signatures(&mut self) {
        let explanations = explain(self.headers, FieldKind::DkimSignature, self.body);
        let mut outcomes = self.verdict.dkim.iter().peekable();
        if explanations.is_empty() {
            self.heading("DKIM", "RFC 6376");
            self.pair("result", "none: the message is not signed");
        }
        let count = explanations.len();
        for (at, explanation) in explanations.iter().enumerate() {
            // Outcomes stand in the order of the fields; those beyond the limit have none.
            let outcome = outcomes.next_if(|outcome| outcome.b.as_deref().unwrap_or_default() == explanation.b);
            self.heading(&format!("DKIM signature {} of {count}", at + 1), "RFC 6376");
            self.signature(explanation, outcome);
        }
    }

    fn signature(&mut self, explanation: &Explanation, outcome: Option<&SignatureOutcome>) {
        let Some(outcome) = outcome else {
            self.pair("result", "not looked at: more signatures than the limit");
            return;
        };
        let word = dkim_tone(outcome.result).paint(outcome.result.word());
        match outcome.problem {
            None => self.pair("result", &word),
            Some(problem) => {
                let (why, section) = meaning::dkim(problem);
                self.pair("result", &format!("{word}: {why} [{}]", problem.word()));
                self.pair("", &Tone::Quiet.paint(section));
            }
        }
        for (name, value) in &explanation.tags {
            let shown = match name.as_str() {
                "b" => format!("{}...", explanation.b),
                "t" | "x" => value.parse().map_or_else(|_| visible(value), |time| format!("{value} ({})", utc(time))),
                "h" => continue,
                _ => visible(value),
            };
            self.pair(&format!("{}=", visible(name)), &shown);
        }
        self.signed_fields(&explanation.signed);
        self.key(explanation, outcome);
        self.hashes(explanation, outcome);
    }

    fn signed_fields(&mut self, signed: &[SignedName]) {
        let names = |found: bool| {
            let names = signed.iter().filter(move |it| it.found == found).map(|it| visible(&it.name));
            names.collect::<Vec<_>>().join(", ")
        };
        let (found, absent) = (names(true), names(false));
        if !found.is_empty() {
            self.pair("covers", &found);
        }
        if !absent.is_empty() {
            self.pair("and no more", &absent);
        }
    }

    fn key(&mut self, explanation: &Explanation, outcome: &SignatureOutcome) {
        let Some(question) = &explanation.question else { return };
        self.pair("key at", &question.name.to_string());
        let answer = self.transcript.iter().find(|(asked, _)| *asked == question).and_then(|(_, answer)| answer);
        let Some(answer) = answer else {
            self.pair("key", "not asked for");
            return;
        };
        if answer.texts().is_empty() {
            self.pair("key", &questions::told_answer(answer, true));
            return;
        }
        for record in answer.dkim().records() {
            match record {
                Ok(key) => {
                    let mut facts = vec![format!("{} bits", key.bits())];
                    facts.extend(key.is_testing().then(|| "testing (t=y)".to_owned()));
                    facts.extend(key.is_strict().then(|| "strict (t=s)".to_owned()));
                    self.pair("key", &facts.join(", "));
                }
                Err(problem) => self.pair("key", &format!("unusable: {problem}")),
            }
        }
        if outcome.testing {
            self.pair("", "the owner is testing DKIM: treat a failure as unsigned");
        }
    }

    fn hashes(&mut self, explanation: &Explanation, outcome: &SignatureOutcome) {
        self.pair("body hash", &format!("{} signed", visible(&explanation.body_hash_signed)));
        let found = match &explanation.body_hash_found {
            Some(found) if *found == explanation.body_hash_signed => format!("{found} found: the same"),
            Some(found) => format!("{found} found: {}", Tone::Bad.paint("not the same")),
            None => "l= counts more octets than the body has".to_owned(),
        };
        self.pair("", &found);
        let (covered, total) = explanation.body_octets;
        let form = explanation.body_form.word();
        let uncovered = if covered < total { format!(", {} not covered", total - covered) } else { String::new() };
        self.pair("", &Tone::Quiet.paint(&format!("over {covered} of {total} octets in {form} form{uncovered}")));
        let matches = match outcome.result {
            DkimResult::Pass | DkimResult::Policy => "",
            _ => " (compared only when the body hash matches)",
        };
        let matches =
            if explanation.body_hash_found.as_ref() == Some(&explanation.body_hash_signed) { "" } else { matches };
        self.pair("header hash", &format!("{}{matches}", explanation.header_hash));
        self.pair("", &Tone::Quiet.paint(&format!("over these octets in {} form:", explanation.header_form.word())));
        for line in explanation.header.split_inclusive(|octet| *octet == b'\n') {
            let line = format!("    {}", visible_octets(line));
            self.line(&line);
        }
    }

    fn arc(&mut self) {
        let outcome = &self.verdict.arc;
        if outcome.instances == 0 && outcome.result == ArcResult::None {
            return;
        }
        self.heading("ARC", "RFC 8617");
        self.pair("result", &arc_tone(outcome.result).paint(outcome.result.word()));
        if let Some(problem) = outcome.problem {
            self.pair("because", &format!("{problem} [{}]", problem.word()));
        }
        let sets = explain(self.headers, FieldKind::ArcMessageSignature, self.body);
        for (at, (domain, selector)) in outcome.sealers.iter().enumerate() {
            let instance = (at + 1).to_string();
            let set = sets.iter().find(|set| set.tags.iter().any(|(name, value)| name == "i" && *value == instance));
            let body = match set {
                Some(set) if set.body_hash_found.as_ref() == Some(&set.body_hash_signed) => "; the body is as it left",
                Some(_) => "; the body was changed since",
                None => "",
            };
            self.pair(&format!("set {instance}"), &format!("sealed by {domain}, selector {}{body}", visible(selector)));
        }
        if let Some(oldest) = outcome.oldest_pass {
            self.pair("oldest pass", &oldest.to_string());
        }
        let claims: Vec<String> = self
            .headers
            .of_kind(FieldKind::ArcAuthenticationResults)
            .map(|field| visible_octets(field.value).replace("\\r\\n", "").trim().to_owned())
            .collect();
        for claim in claims {
            self.pair("a hop found", &claim);
        }
    }

    fn dmarc(&mut self) {
        let outcome = self.verdict.dmarc.clone();
        self.heading("DMARC", "RFC 9989");
        let result = dmarc_tone(outcome.result).paint(outcome.result.word());
        match outcome.problem {
            Some(problem) => self.pair("result", &format!("{result}: {problem} [{}]", problem.word())),
            None => self.pair("result", &result),
        }
        if let Some(from) = outcome.from_domain {
            self.walk(&from, &outcome);
            self.alignment(&from, &outcome);
        }
        if let Some(policy) = outcome.policy {
            let testing = if outcome.testing { ", one step milder because the owner is testing (t=y)" } else { "" };
            let applied = if outcome.result == DmarcResult::Fail { "" } else { ", not needed: it is for what fails" };
            self.pair("policy", &format!("{}={}{testing}{applied}", meaning::tag(outcome.applies), policy.word()));
        }
    }

    /// The names looked at, from the author domain up (section 4.10).
    fn walk(&mut self, from: &Name, outcome: &DmarcOutcome) {
        let how = match outcome.discovery {
            Discovery::TreeWalk => "tree walk (section 4.10)",
            Discovery::PublicSuffixList => "public suffix list (RFC 7489 section 3.2)",
        };
        self.pair("discovery", how);
        let asked: Vec<(Name, String)> = self
            .transcript
            .iter()
            .filter(|(question, _)| question.kind == RecordType::Txt)
            .filter_map(|(question, answer)| {
                let above = question.name.parent()?;
                let is_record = question.name.labels().next() == Some(b"_dmarc") && from.is_at_or_below(&above);
                is_record.then(|| (question.name, answer.map_or_else(|| "no answer".to_owned(), told_record)))
            })
            .collect();
        for (name, said) in asked {
            self.pair("", &format!("{name}: {said}"));
        }
        if let Some(domain) = outcome.policy_domain {
            self.pair("record of", &format!("{domain} (section 4.10.1)"));
        }
        if let Some(domain) = outcome.organizational_domain {
            self.pair("organization", &format!("{domain} (section 4.10.2)"));
        }
    }

    /// Each identifier that passed, against the author domain (section 4.4).
    fn alignment(&mut self, from: &Name, outcome: &DmarcOutcome) {
        let verdict = self.verdict;
        let mut passed: Vec<(&str, Name)> = Vec::new();
        if let (SpfResult::Pass, Some(domain)) = (verdict.spf.result, verdict.spf.domain) {
            passed.push(("SPF", domain));
        }
        for signature in verdict.dkim.iter().filter(|it| it.result == DkimResult::Pass) {
            passed.extend(signature.domain.map(|domain| ("DKIM", domain)));
        }
        if passed.is_empty() {
            self.pair("alignment", "neither SPF nor DKIM passed, so there is nothing to align (section 4.4)");
        }
        for (mechanism, domain) in passed {
            let aligned = if mechanism == "SPF" { outcome.spf_aligned } else { outcome.dkim_aligned };
            let relation = if domain == *from {
                "is the author domain: aligned".to_owned()
            } else {
                match (self.organization(&domain), outcome.organizational_domain) {
                    (Some(own), Some(authors)) if own == authors && aligned.is_some() => {
                        format!("belongs to {own} too: aligned (relaxed)")
                    }
                    (Some(own), Some(authors)) if own == authors => {
                        format!("belongs to {own} too, but the record demands the very same domain: not aligned")
                    }
                    (Some(own), _) => format!("belongs to {own}: not aligned"),
                    (None, _) => "belongs to nobody known: not aligned".to_owned(),
                }
            };
            self.pair("alignment", &format!("{mechanism} {domain} {relation} (section 4.4)"));
        }
    }

    /// The Organizational Domain of an identifier, found as the evaluation finds it.
    fn organization(&self, domain: &Name) -> Option<Name> {
        let mut transcript = self.transcript.clone();
        let mut source = Asking { engine: self.engine };
        let mut answers = Answers::new(&mut transcript, &mut source);
        dmarc::organizational_domain(domain, &self.engine.options().dmarc, &mut answers)?.ok()
    }

    fn action(&mut self) {
        self.heading("What is done", "");
        let action = action_tone(self.verdict.action).paint(self.verdict.action.word());
        self.pair("action", &action);
        self.pair("header", &format!("Authentication-Results: {}", visible(&self.verdict.authentication_results)));
    }

    fn questions(&mut self) {
        let questions = questions::told(self.transcript, self.full);
        let source = format!("answered from {}", visible(&source(self.engine)));
        self.heading(&format!("DNS: {}", counted(questions.len() as u64, "question")), &source);
        for question in questions {
            self.line(&format!("  {question}"));
        }
    }
}

/// Asks the engine for what the transcript does not hold.
struct Asking<'a> {
    engine: &'a Engine,
}

impl AnswerSource for Asking<'_> {
    fn answer(&mut self, question: &Question) -> Option<Answer> {
        Some(self.engine.ask(question))
    }
}

/// What stands at a `_dmarc` name.
fn told_record(answer: &Answer) -> String {
    match (answer.outcome(), answer.dmarc()) {
        (Outcome::Records(_), Published::None) => "no DMARC record there".to_owned(),
        (Outcome::Records(_), Published::Several) => "several records, so none counts".to_owned(),
        _ => questions::told_answer(answer, true),
    }
}

fn defects(defects: &Defects) -> Vec<String> {
    let counts = [
        (defects.bare_cr, "bare CR"),
        (defects.bare_lf, "bare LF"),
        (defects.nul, "NUL octet"),
        (defects.garbage_lines, "line that is no field"),
        (defects.repeated_singletons, "repeated field"),
        (defects.oversize_fields, "oversize field"),
    ];
    let mut found: Vec<String> =
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| counted(u64::from(*count), what)).collect();
    found.extend(defects.header_over_limit.then(|| "a header beyond the limits".to_owned()));
    found
}
