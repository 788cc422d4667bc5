//! One message from its envelope to its verdict.

use std::net::IpAddr;
use std::sync::Arc;

use memchr::memchr_iter;

use crate::arc::{ArcOutcome, Validator};
use crate::authres::Layout;
use crate::dkim::{BodyHashes, DkimOptions, DkimResult, SignatureOutcome, Verifier};
use crate::dmarc::{self, DmarcOptions, DmarcOutcome, Identifiers};
use crate::dns::{Answer, AnswerSource, Answers, Failure, Name, Question, Transcript};
use crate::limits::{HEADER_BLOCK_BYTES_MAX, MESSAGE_TIME_MAX, SPF_TIME_MAX};
use crate::message::address::{Author, AuthorProblem, author};
use crate::message::{Defects, HeaderIndex, Headers};
use crate::spf::{self, SpfOptions, SpfOutcome};
use crate::time::Timestamp;
use crate::verdict::{Policy, Verdict};

/// What is fixed for many messages: the receiver's name and its choices.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The authserv-id of the Authentication-Results field (RFC 8601 section 2.5), also `%{r}` of SPF.
    pub authserv_id: String,
    /// SPF choices.
    pub spf: SpfOptions,
    /// DKIM choices.
    pub dkim: DkimOptions,
    /// DMARC choices.
    pub dmarc: DmarcOptions,
    /// What is done with an outcome.
    pub policy: Policy,
}

/// What SMTP said before the message.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Envelope {
    /// Address of the client; without it there is no SPF.
    pub ip: Option<IpAddr>,
    /// Argument of HELO or EHLO.
    pub helo: String,
    /// Argument of MAIL FROM without angle brackets; empty for the null reverse-path.
    pub mail_from: String,
}

impl Envelope {
    /// The envelope of a message that came over SMTP.
    #[must_use]
    pub fn new(ip: IpAddr, helo: impl Into<String>, mail_from: impl Into<String>) -> Self {
        Self { ip: Some(ip), helo: helo.into(), mail_from: mail_from.into() }
    }
}

/// The verification of one message, as a state machine.
///
/// The contract: give it one input ([`push`](Self::push), [`end`](Self::end), [`learn`](Self::learn) or nothing but the
/// passing of time), then call [`poll`](Self::poll), then drain [`next_question`](Self::next_question). When `poll` says
/// [`Progress::Done`] the verdict stands; until then it names the moment at which it must be called again at the latest.
/// Answers may come in any order and at any stage; the verdict is the same.
///
/// Cost of an ordinary message: its header block is copied once, its body is canonicalised and hashed as it comes and
/// never kept; one pass over the header fields, one key operation a signature.
#[derive(Debug)]
pub struct Verification {
    options: Arc<Options>,
    envelope: Envelope,
    clock: Clock,
    stage: Stage,
    header: Vec<u8>,
    index: HeaderIndex,
    /// The header block was longer than is kept.
    header_over_limit: bool,
    empty_line: EmptyLineFinder,
    body_marks: BodyMarks,
    bodies: BodyHashes,
    transcript: Transcript,
    author: Author,
    signatures: Verifier,
    chain: Validator,
    results: Results,
    verdict: Option<Verdict>,
}

/// What can be said of a verification that is under way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Progress {
    /// More octets of the message, or its end, are needed.
    NeedsMessage,
    /// DNS answers are needed; poll again at `deadline` at the latest.
    NeedsAnswers {
        /// When questions still open count as failed.
        deadline: Timestamp,
    },
    /// The verdict stands.
    Done,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    Header,
    Body,
    Ended,
}

/// Since when answers are waited for. A client may take hours for a message; that time is none of the DNS.
#[derive(Clone, Copy, Debug)]
struct Clock {
    /// The first poll, when SPF asked.
    spf: Option<Timestamp>,
    /// The stage at the last poll, and the first poll within it: each brings questions of its own.
    stage: Stage,
    since: Timestamp,
}

/// Outcomes so far; each is final once it is there.
#[derive(Debug, Default)]
struct Results {
    spf: Option<SpfOutcome>,
    helo: Option<SpfOutcome>,
    dkim: Option<Vec<SignatureOutcome>>,
    arc: Option<ArcOutcome>,
    dmarc: Option<DmarcOutcome>,
}

impl Verification {
    /// Starts on a message whose envelope is known.
    #[must_use]
    pub fn new(options: Arc<Options>, envelope: Envelope, now: Timestamp) -> Self {
        Self {
            options,
            envelope,
            clock: Clock::new(now),
            stage: Stage::Header,
            header: Vec::new(),
            index: HeaderIndex::new(),
            header_over_limit: false,
            empty_line: EmptyLineFinder::new(),
            body_marks: BodyMarks::default(),
            bodies: BodyHashes::new(),
            transcript: Transcript::new(),
            author: NO_AUTHOR,
            signatures: Verifier::default(),
            chain: Validator::default(),
            results: Results::default(),
            verdict: None,
        }
    }

    /// Starts on the next message, keeping the memory of this one.
    pub fn restart(&mut self, envelope: Envelope, now: Timestamp) {
        self.envelope = envelope;
        self.clock = Clock::new(now);
        self.stage = Stage::Header;
        self.header.clear();
        self.header_over_limit = false;
        self.empty_line = EmptyLineFinder::new();
        self.body_marks = BodyMarks::default();
        self.bodies = BodyHashes::new();
        self.transcript.clear();
        self.results = Results::default();
        self.verdict = None;
    }

    /// Takes the next octets of the message: header block, empty line, body, cut anywhere. Octets after
    /// [`end`](Self::end) are ignored.
    pub fn push(&mut self, octets: &[u8]) {
        match self.stage {
            Stage::Header => self.push_header(octets),
            Stage::Body => self.push_body(octets),
            Stage::Ended => {}
        }
    }

    /// The message is complete.
    pub fn end(&mut self) {
        if self.stage == Stage::Header {
            self.begin_body();
        }
        if self.stage == Stage::Body {
            self.bodies.finish();
            self.stage = Stage::Ended;
        }
    }

    /// Takes the answer to a question that [`next_question`](Self::next_question) gave out; the first answer counts.
    pub fn learn(&mut self, question: &Question, answer: Answer) {
        self.transcript.learn(question, answer);
    }

    /// Goes on as far as the message and the answers at hand allow; `source` is asked before the driver is.
    pub fn poll(&mut self, now: Timestamp, source: &mut dyn AnswerSource) -> Progress {
        if self.verdict.is_some() {
            return Progress::Done;
        }
        self.clock.polled(self.stage, now);
        self.fail_late_answers(now);
        self.judge_envelope(now, source);
        if self.stage == Stage::Header {
            return Progress::NeedsMessage;
        }
        self.judge_message(now, source);
        if self.stage != Stage::Ended {
            Progress::NeedsMessage
        } else if self.conclude() {
            Progress::Done
        } else {
            Progress::NeedsAnswers { deadline: self.deadline() }
        }
    }

    /// The next question for the driver; each is given out once.
    pub fn next_question(&mut self) -> Option<Question> {
        self.transcript.next_question()
    }

    /// The verdict, once [`poll`](Self::poll) said [`Progress::Done`].
    #[must_use]
    pub fn verdict(&self) -> Option<&Verdict> {
        self.verdict.as_ref()
    }

    /// The verdict for keeps.
    #[must_use]
    pub fn into_verdict(self) -> Option<Verdict> {
        self.verdict
    }

    /// The verdict, taken out; the verification is then ready for [`restart`](Self::restart).
    pub fn take_verdict(&mut self) -> Option<Verdict> {
        self.verdict.take()
    }

    /// The header block is complete: what it asks for is known.
    #[must_use]
    pub fn has_header(&self) -> bool {
        self.stage != Stage::Header
    }

    /// Counts every open question as failed: nobody is going to answer.
    pub fn fail_open(&mut self) {
        self.transcript.fail_open(Failure::Unreachable);
    }

    /// Every question asked so far, with its answer: what `explain` shows.
    #[must_use]
    pub fn transcript(&self) -> &Transcript {
        &self.transcript
    }

    /// The header block as far as it is known.
    #[must_use]
    pub fn headers(&self) -> Headers<'_> {
        self.index.view(&self.header)
    }

    /// The envelope.
    #[must_use]
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// SPF of MAIL FROM as soon as it is known, which may be before the first octet of the message.
    #[must_use]
    pub fn spf(&self) -> Option<&SpfOutcome> {
        self.verdict.as_ref().map(|verdict| &verdict.spf).or(self.results.spf.as_ref())
    }

    /// The result of HELO, as soon as it is known.
    #[must_use]
    pub fn helo(&self) -> Option<&SpfOutcome> {
        self.verdict.as_ref().map(|verdict| &verdict.helo).or(self.results.helo.as_ref())
    }

    /// False once the header has shown that no result depends on the body, which need not be passed in then. Defects of
    /// its octets are not counted if it is not.
    #[must_use]
    pub fn wants_body(&self) -> bool {
        self.stage == Stage::Header || !self.bodies.is_empty()
    }

    fn push_header(&mut self, octets: &[u8]) {
        let body_start = self.empty_line.find(octets);
        let of_header = octets.get(..body_start.unwrap_or(octets.len())).unwrap_or_default();
        let room = HEADER_BLOCK_BYTES_MAX.saturating_sub(self.header.len());
        self.header.extend_from_slice(of_header.get(..room).unwrap_or(of_header));
        self.header_over_limit |= of_header.len() > room;
        if let Some(body_start) = body_start {
            if !self.header_over_limit {
                self.header.truncate(self.header.len().saturating_sub(CRLF_BYTES));
            }
            self.begin_body();
            self.push_body(octets.get(body_start..).unwrap_or_default());
        }
    }

    fn begin_body(&mut self) {
        self.stage = Stage::Body;
        self.index.scan(&self.header);
        if self.header_over_limit {
            self.index.mark_over_limit();
        }
        let headers = self.index.view(&self.header);
        self.author = author(headers);
        let aligned_with = match &self.author {
            Author::One(domain) => Some(domain),
            Author::Several(_) | Author::Unusable(_) => None,
        };
        self.signatures.restart(headers, aligned_with, &self.options.dkim, &mut self.bodies);
        self.chain.restart(headers, &self.options.dkim, &mut self.bodies);
    }

    fn push_body(&mut self, octets: &[u8]) {
        self.body_marks.count(octets);
        self.bodies.update(octets);
    }

    /// SPF needs no octet of the message, so it starts at once.
    fn judge_envelope(&mut self, now: Timestamp, source: &mut dyn AnswerSource) {
        if self.results.spf.is_some() && self.results.helo.is_some() {
            return;
        }
        let Some(ip) = self.envelope.ip else {
            self.results.spf.get_or_insert_with(SpfOutcome::without_client);
            self.results.helo.get_or_insert_with(SpfOutcome::without_client);
            return;
        };
        let check = spf::Check {
            ip,
            helo: &self.envelope.helo,
            mail_from: &self.envelope.mail_from,
            receiver: &self.options.authserv_id,
            now_seconds: now.seconds(),
        };
        let mut answers = Answers::new(&mut self.transcript, source);
        if self.results.spf.is_none() {
            self.results.spf = spf::check_mail_from(&check, &self.options.spf, &mut answers);
        }
        if self.results.helo.is_none() {
            self.results.helo = spf::check_helo(&check, &self.options.spf, &mut answers);
        }
    }

    /// Keys and the DMARC walk are asked for as soon as the header is known; judging waits for the end of the body.
    fn judge_message(&mut self, now: Timestamp, source: &mut dyn AnswerSource) {
        let headers = self.index.view(&self.header);
        let mut answers = Answers::new(&mut self.transcript, source);
        if self.stage != Stage::Ended {
            self.signatures.ask_keys(&mut answers);
            self.chain.ask_keys(&mut answers);
            dmarc::ask_walk(&self.author, &self.options.dmarc, &mut answers);
            return;
        }
        let (bodies, options) = (&self.bodies, &self.options);
        if self.results.dkim.is_none() {
            self.results.dkim = self.signatures.outcomes(headers, bodies, &options.dkim, now, &mut answers);
        }
        if self.results.arc.is_none() {
            self.results.arc = self.chain.outcome(headers, bodies, now, &mut answers);
        }
        if self.results.dmarc.is_some() {
            return;
        }
        let (Some(spf), Some(dkim)) = (&self.results.spf, &self.results.dkim) else {
            // What is known of the walk already does not have to wait for SPF and the keys.
            dmarc::ask_walk(&self.author, &options.dmarc, &mut answers);
            return;
        };
        let signers: Signers = dkim.iter().filter_map(|it| Some((it.domain?, it.result))).collect();
        let identifiers = Identifiers {
            author: &self.author,
            spf: spf.domain.as_ref().map(|domain| (domain, spf.result)),
            dkim: &signers,
        };
        self.results.dmarc = dmarc::evaluate(&identifiers, &options.dmarc, &mut answers);
    }

    /// Puts the verdict together once every outcome is there.
    fn conclude(&mut self) -> bool {
        let Results { spf: Some(_), helo: Some(_), dkim: Some(_), arc: Some(_), dmarc: Some(_) } = &self.results else {
            return false;
        };
        let results = std::mem::take(&mut self.results);
        let (Some(spf), Some(helo), Some(dkim), Some(arc), Some(dmarc)) =
            (results.spf, results.helo, results.dkim, results.arc, results.dmarc)
        else {
            return false;
        };
        let mut verdict = Verdict {
            ip: self.envelope.ip,
            null_reverse_path: self.envelope.mail_from.is_empty(),
            spf,
            helo,
            dkim,
            arc,
            action: self.options.policy.decide(&dmarc),
            dmarc,
            author: std::mem::replace(&mut self.author, NO_AUTHOR),
            defects: self.defects(),
            authentication_results: String::new(),
        };
        let mut results = String::with_capacity(AUTHENTICATION_RESULTS_BYTES);
        verdict.write_authentication_results(&mut results, &self.options.authserv_id, Layout::OneLine);
        verdict.authentication_results = results;
        self.verdict = Some(verdict);
        true
    }

    /// What is still open past a deadline counts as timed out: SPF on its own clock, then the whole message.
    fn fail_late_answers(&mut self, now: Timestamp) {
        if now >= self.clock.since + MESSAGE_TIME_MAX {
            self.transcript.fail_open(Failure::TimedOut);
        } else if now >= self.clock.spf_since() + SPF_TIME_MAX {
            let (mail_from, helo) = (self.envelope.mail_from.as_str(), self.envelope.helo.as_str());
            let (_, domain) = spf::split_mail_from(mail_from, helo);
            self.results.spf.get_or_insert_with(|| SpfOutcome::out_of_time(domain));
            self.results.helo.get_or_insert_with(|| SpfOutcome::out_of_time(helo));
        }
    }

    fn deadline(&self) -> Timestamp {
        let of_all = self.clock.since + MESSAGE_TIME_MAX;
        let of_spf = self.results.spf.is_none() || self.results.helo.is_none();
        if of_spf { of_all.min(self.clock.spf_since() + SPF_TIME_MAX) } else { of_all }
    }

    fn defects(&self) -> Defects {
        let mut defects = self.index.defects();
        defects.bare_cr += self.body_marks.bare_cr();
        defects.bare_lf += self.body_marks.bare_lf();
        defects.nul += self.body_marks.nul;
        defects
    }
}

impl Clock {
    const fn new(now: Timestamp) -> Self {
        Self { spf: None, stage: Stage::Header, since: now }
    }

    fn polled(&mut self, stage: Stage, now: Timestamp) {
        if self.spf.is_none() || stage != self.stage {
            (self.stage, self.since) = (stage, now);
        }
        self.spf.get_or_insert(now);
    }

    fn spf_since(&self) -> Timestamp {
        self.spf.unwrap_or(self.since)
    }
}

/// Signing domains with their results; rarely more than a few.
type Signers = Vec<(Name, DkimResult)>;

/// Counts what RFC 5321 section 2.3.8 forbids in a body.
#[derive(Clone, Copy, Debug, Default)]
struct BodyMarks {
    cr: u32,
    lf: u32,
    crlf: u32,
    nul: u32,
    after_cr: bool,
}

impl BodyMarks {
    fn count(&mut self, octets: &[u8]) {
        let (Some(&first), Some(&last)) = (octets.first(), octets.last()) else { return };
        self.crlf += u32::from(self.after_cr && first == b'\n');
        self.after_cr = last == b'\r';
        let counts = mailproof_kernels::count_line_ends(octets);
        self.cr = self.cr.saturating_add(counts.cr);
        self.lf = self.lf.saturating_add(counts.lf);
        self.crlf = self.crlf.saturating_add(counts.crlf);
        self.nul = self.nul.saturating_add(counts.nul);
    }

    fn bare_cr(self) -> u32 {
        self.cr.saturating_sub(self.crlf)
    }

    fn bare_lf(self) -> u32 {
        self.lf.saturating_sub(self.crlf)
    }
}

/// Finds the end of the empty line that closes a header block, in chunks of any size.
#[derive(Clone, Copy, Debug)]
struct EmptyLineFinder {
    /// The last octets seen, and how many: where a message begins, a line has just ended.
    carry: [u8; EmptyLineFinder::CARRY_BYTES],
    carry_len: usize,
}

const CRLF_BYTES: usize = 2;

/// Room for the field of an ordinary verdict.
const AUTHENTICATION_RESULTS_BYTES: usize = 640;

/// Until the header is known.
const NO_AUTHOR: Author = Author::Unusable(AuthorProblem::NoFrom);

impl EmptyLineFinder {
    const PATTERN: &[u8] = b"\r\n\r\n";
    const CARRY_BYTES: usize = Self::PATTERN.len() - 1;

    const fn new() -> Self {
        Self { carry: [b'\r', b'\n', 0], carry_len: CRLF_BYTES }
    }

    /// Where in this chunk the body starts.
    fn find(&mut self, octets: &[u8]) -> Option<usize> {
        let mut seam = [0; 2 * Self::CARRY_BYTES];
        let mut seam_len = 0;
        let carried = self.carry.iter().take(self.carry_len);
        for (to, from) in seam.iter_mut().zip(carried.chain(octets.iter().take(Self::CARRY_BYTES))) {
            *to = *from;
            seam_len += 1;
        }
        let seam = seam.get(..seam_len).unwrap_or_default();
        if let Some(at) = seam.windows(Self::PATTERN.len()).position(|window| window == Self::PATTERN) {
            return Some(at + Self::PATTERN.len() - self.carry_len);
        }
        // Header lines are short: going from one LF to the next is quicker than to prepare a search for the pattern.
        let ends_empty_line = |lf: usize| {
            let start = (lf + 1).checked_sub(Self::PATTERN.len());
            start.is_some_and(|start| octets.get(start..=lf) == Some(Self::PATTERN))
        };
        let found = memchr_iter(b'\n', octets).find(|&lf| ends_empty_line(lf)).map(|lf| lf + 1);
        let tail = if octets.len() < Self::CARRY_BYTES { seam } else { octets };
        let tail = tail.get(tail.len().saturating_sub(Self::CARRY_BYTES)..).unwrap_or_default();
        self.carry_len = tail.len();
        for (to, from) in self.carry.iter_mut().zip(tail) {
            *to = *from;
        }
        found
    }
}
