//! One message on its way through the engine.

use std::sync::Arc;
#[cfg(feature = "network")]
use std::{
    task::Poll,
    time::{Duration, Instant},
};

use mailproof_proto::dns::{Answer, Question, Transcript};
use mailproof_proto::message::Headers;
use mailproof_proto::spf::SpfOutcome;
use mailproof_proto::time::Timestamp;
use mailproof_proto::verdict::Verdict;
use mailproof_proto::verification::{Envelope, Progress, Verification};

use crate::engine::Engine;
#[cfg(feature = "network")]
use crate::network::Gathering;
use crate::recent::Recent;

/// A message that arrives piece by piece: envelope, then octets in chunks of any size, then the verdict.
///
/// A session holds the header block and hash states, whatever the size of the body. It can be used for one message
/// after the other ([`Session::restart`]), which spares memory management.
#[derive(Debug)]
pub struct Session {
    engine: Engine,
    verification: Verification,
    recent: Recent,
    #[cfg(feature = "network")]
    asking: Asking,
}

/// Questions of a session that are on their way.
#[cfg(feature = "network")]
#[derive(Debug, Default)]
struct Asking {
    gathering: Arc<Gathering>,
    open_count: usize,
    has_begun: bool,
    has_header: bool,
}

impl Session {
    pub(crate) fn new(engine: Engine, envelope: Envelope) -> Self {
        let mut it = Self::with_envelope(engine, envelope);
        it.ask_ahead();
        it
    }

    /// A session without a message.
    pub(crate) fn idle(engine: Engine) -> Self {
        Self::with_envelope(engine, Envelope::default())
    }

    fn with_envelope(engine: Engine, envelope: Envelope) -> Self {
        let verification = Verification::new(Arc::clone(engine.options()), envelope, engine.now());
        Self {
            engine,
            verification,
            recent: Recent::default(),
            #[cfg(feature = "network")]
            asking: Asking::default(),
        }
    }

    /// Forgets the message and starts on the next one, keeping its memory.
    pub fn restart(&mut self, envelope: Envelope) {
        self.begin(envelope);
        self.ask_ahead();
    }

    /// Forgets the message and takes the next one whole; what is left is [`Session::poll`], or one of the ways to finish.
    /// Nothing is asked ahead of its end, which spares the looks that would take.
    pub fn take_whole(&mut self, message: &[u8], envelope: Envelope) {
        self.begin(envelope);
        self.verification.push(message);
        self.verification.end();
    }

    fn begin(&mut self, envelope: Envelope) {
        self.verification.restart(envelope, self.engine.now());
        #[cfg(feature = "network")]
        {
            if self.asking.open_count > 0 {
                // Answers to the message before would come to this one.
                self.asking = Asking::default();
            }
            (self.asking.has_begun, self.asking.has_header) = (false, false);
        }
    }

    /// Takes the next octets of the message: header block, empty line and body, cut anywhere, with CRLF line ends.
    pub fn push(&mut self, octets: &[u8]) {
        self.verification.push(octets);
        self.ask_ahead();
    }

    /// The message is complete.
    pub fn end(&mut self) {
        self.verification.end();
    }

    /// Goes on as far as the octets and the answers at hand allow, without waiting. What is missing comes out of
    /// [`Session::next_question`]; answers go into [`Session::learn`], followed by the next poll.
    pub fn poll(&mut self) -> Progress {
        let now = self.engine.now();
        self.verification.poll(now, &mut self.engine.source(Some(&mut self.recent), now))
    }

    /// The next question that is not answered from the cache; each is given out once.
    pub fn next_question(&mut self) -> Option<Question> {
        self.verification.next_question()
    }

    /// Takes the answer to a question that [`Session::next_question`] gave out; the first answer counts.
    pub fn learn(&mut self, question: &Question, answer: Answer) {
        self.verification.learn(question, answer);
    }

    /// Ends the message and gives its verdict, waiting for DNS answers where needed, at most until the deadline of
    /// [`MESSAGE_TIME_MAX`](mailproof_proto::limits::MESSAGE_TIME_MAX).
    pub fn finish(&mut self) -> &Verdict {
        self.end();
        while let Progress::NeedsAnswers { deadline } = self.poll() {
            self.fetch_answers(deadline);
        }
        // An ended verification needs answers or is done, and one that is done has its verdict.
        self.verification.verdict().expect("the verdict of a verification that is done")
    }

    /// Ends the message as [`Session::finish`] does and hands its verdict over.
    #[must_use]
    pub fn into_verdict(mut self) -> Verdict {
        self.finish();
        // As in `finish`.
        self.verification.into_verdict().expect("the verdict of a verification that is done")
    }

    /// Ends the message and gives its verdict as [`Session::finish`] does, without blocking: for any executor. The
    /// future may be dropped; what was asked then goes into the cache.
    #[cfg(feature = "network")]
    pub async fn finish_async(&mut self) -> &Verdict {
        self.end();
        std::future::poll_fn(|context| {
            loop {
                let Progress::NeedsAnswers { .. } = self.poll() else { return Poll::Ready(()) };
                if self.engine.is_in_another_process() || !self.ask_open() && self.asking.open_count == 0 {
                    // Without a network there is nobody to wait for.
                    self.fail_open();
                    continue;
                }
                let arrived = self.asking.gathering.take_or_wake(context);
                if arrived.is_empty() {
                    return Poll::Pending;
                }
                self.learn_all(arrived);
            }
        })
        .await;
        // As in `finish`.
        self.verification.verdict().expect("the verdict of a verification that is done")
    }

    fn fetch_answers(&mut self, deadline: Timestamp) {
        #[cfg(feature = "network")]
        if self.engine.has_network() {
            if self.engine.is_in_another_process() {
                // Those who were asked are threads of the parent.
                return self.fail_open();
            }
            self.ask_open();
            let left = deadline.milliseconds().saturating_sub(self.engine.now().milliseconds());
            let arrived = self.asking.gathering.wait(Instant::now() + Duration::from_millis(left));
            if arrived.is_empty() {
                self.fail_open();
            }
            return self.learn_all(arrived);
        }
        let mut questions: Vec<Question> = Vec::new();
        while let Some(question) = self.verification.next_question() {
            questions.push(question);
        }
        let answers = self.engine.fetch(&questions, deadline);
        if questions.is_empty() {
            // What is open was given out by `next_question`, and whoever ends the message is not going to answer it.
            self.fail_open();
        }
        for (question, answer) in questions.iter().zip(answers) {
            self.verification.learn(question, answer);
        }
    }

    /// Nobody is going to answer what is open: it counts as failed from now on.
    pub fn fail_open(&mut self) {
        #[cfg(feature = "network")]
        {
            self.asking = Asking::default();
        }
        self.verification.fail_open();
    }

    /// Asks for what is known to be needed, without waiting: SPF at the envelope, keys and the DMARC walk at the end of
    /// the header, what follows from answers when they are there.
    fn ask_ahead(&mut self) {
        #[cfg(feature = "network")]
        {
            if !self.engine.has_network() {
                return;
            }
            let arrived = if self.asking.open_count > 0 { self.asking.gathering.take() } else { Vec::new() };
            let has_header = self.verification.has_header();
            if !arrived.is_empty() || !self.asking.has_begun || has_header != self.asking.has_header {
                (self.asking.has_begun, self.asking.has_header) = (true, has_header);
                self.learn_all(arrived);
                self.poll();
                self.ask_open();
            }
        }
    }

    /// Sends out the questions that are not on their way; false when there are none.
    #[cfg(feature = "network")]
    fn ask_open(&mut self) -> bool {
        let questions: Vec<Question> = std::iter::from_fn(|| self.verification.next_question()).collect();
        if questions.is_empty() {
            return false;
        }
        self.asking.open_count += questions.len();
        self.engine.ask_network(questions, &self.asking.gathering)
    }

    #[cfg(feature = "network")]
    fn learn_all(&mut self, arrived: Vec<(Question, Answer)>) {
        self.asking.open_count = self.asking.open_count.saturating_sub(arrived.len());
        for (question, answer) in arrived {
            self.verification.learn(&question, answer);
        }
    }

    /// The verdict, taken out; the session is then ready for [`Session::restart`].
    pub fn take_verdict(&mut self) -> Option<Verdict> {
        self.verification.take_verdict()
    }

    /// The verdict, once [`Session::finish`] has reached it.
    #[must_use]
    pub fn verdict(&self) -> Option<&Verdict> {
        self.verification.verdict()
    }

    /// SPF of MAIL FROM as soon as it is known; see [`Verification::spf`].
    #[must_use]
    pub fn spf(&self) -> Option<&SpfOutcome> {
        self.verification.spf()
    }

    /// The SPF result of HELO, as soon as it is known.
    #[must_use]
    pub fn helo(&self) -> Option<&SpfOutcome> {
        self.verification.helo()
    }

    /// False once no result depends on the body; see [`Verification::wants_body`].
    #[must_use]
    pub fn wants_body(&self) -> bool {
        self.verification.wants_body()
    }

    /// The envelope.
    #[must_use]
    pub fn envelope(&self) -> &Envelope {
        self.verification.envelope()
    }

    /// Every question asked, with its answer.
    #[must_use]
    pub fn transcript(&self) -> &Transcript {
        self.verification.transcript()
    }

    /// The header block.
    #[must_use]
    pub fn headers(&self) -> Headers<'_> {
        self.verification.headers()
    }
}
