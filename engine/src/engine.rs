//! The engine: options, DNS and cache shared by every session.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use mailproof_proto::dns::{Answer, AnswerSource, Question};
use mailproof_proto::limits::MESSAGE_TIME_MAX;
use mailproof_proto::time::Timestamp;
use mailproof_proto::verdict::{Policy, Verdict};
use mailproof_proto::verification::{Envelope, Options};

use crate::cache::{Cache, CacheOptions, CacheStatistics};
use crate::resolver::{BlockingResolver, ResolverError};
use crate::session::Session;
#[cfg(feature = "zone-files")]
use crate::zone::Zone;

/// Verifies messages. Cheap to clone; clones share the cache and may be used from any thread.
#[derive(Clone, Debug)]
pub struct Engine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: Arc<Options>,
    dns: Dns,
    cache: Cache,
    clock: Clock,
}

/// Where answers come from when the cache has none.
#[derive(Debug)]
enum Dns {
    Resolver(BlockingResolver),
    #[cfg(feature = "zone-files")]
    Zone(Zone),
    /// Nothing beyond the cache: every other question fails.
    Offline,
}

/// Collects what an engine is made of; see [`Engine::builder`].
#[derive(Debug, Default)]
pub struct EngineBuilder {
    options: Options,
    dns: Option<Dns>,
    cache: CacheOptions,
    fixed_time: Option<Timestamp>,
}

impl Engine {
    /// An engine is built with the DNS of the system unless told otherwise.
    #[must_use]
    pub fn builder() -> EngineBuilder {
        EngineBuilder::default()
    }

    /// Verifies a whole message: header block, empty line and body with CRLF line ends.
    ///
    /// Blocks while DNS answers are fetched; never longer than
    /// [`MESSAGE_TIME_MAX`](mailproof_proto::limits::MESSAGE_TIME_MAX). Whatever the octets are, the answer is a verdict.
    #[must_use]
    pub fn verify(&self, message: &[u8], envelope: Envelope) -> Verdict {
        let mut session = self.session(envelope);
        session.push(message);
        session.into_verdict()
    }

    /// Starts on a message that arrives piece by piece.
    #[must_use]
    pub fn session(&self, envelope: Envelope) -> Session {
        Session::new(self.clone(), envelope)
    }

    /// The options every session has.
    #[must_use]
    pub fn options(&self) -> &Arc<Options> {
        &self.shared.options
    }

    /// The cache's figures.
    #[must_use]
    pub fn cache_statistics(&self) -> CacheStatistics {
        self.shared.cache.statistics()
    }

    /// Puts an answer into the cache as if it had just been fetched.
    pub fn remember(&self, question: &Question, answer: &Answer) {
        self.shared.cache.insert(question, answer, self.now());
    }

    /// The answer to one question: from the zone or the cache, else from the network, waited for.
    #[must_use]
    pub fn ask(&self, question: &Question) -> Answer {
        if let Some(answer) = self.source().answer(question) {
            return answer;
        }
        let mut answers = self.fetch(std::slice::from_ref(question), self.now() + MESSAGE_TIME_MAX);
        answers.pop().unwrap_or_else(|| Answer::failed(mailproof_proto::dns::Failure::Unreachable))
    }

    /// What is wrong with the resolvers when none of them has ever answered: worth telling a person.
    #[must_use]
    pub fn resolver_trouble(&self) -> Option<ResolverError> {
        match &self.shared.dns {
            Dns::Resolver(resolver) => resolver.trouble(),
            _ => None,
        }
    }

    /// The engine's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// Answers that need no waiting.
    pub(crate) fn source(&self) -> ReadySource<'_> {
        ReadySource { shared: &self.shared, now: self.now() }
    }

    /// Fetches answers that need waiting, at most until `deadline`, and keeps them.
    pub(crate) fn fetch(&self, questions: &[Question], deadline: Timestamp) -> Vec<Answer> {
        let Dns::Resolver(resolver) = &self.shared.dns else {
            let failure = mailproof_proto::dns::Failure::Unreachable;
            return questions.iter().map(|_| Answer::failed(failure)).collect();
        };
        let left = deadline.milliseconds().saturating_sub(self.now().milliseconds());
        let answers = resolver.resolve(questions, Instant::now() + Duration::from_millis(left));
        for (question, answer) in questions.iter().zip(&answers) {
            self.shared.cache.insert(question, answer, self.now());
        }
        answers
    }
}

impl EngineBuilder {
    /// The authserv-id of the Authentication-Results fields written (RFC 8601 section 2.5). Default: `localhost`.
    #[must_use]
    pub fn authserv_id(mut self, authserv_id: impl Into<String>) -> Self {
        self.options.authserv_id = authserv_id.into();
        self
    }

    /// Every option at once.
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// What is done with an outcome.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.options.policy = policy;
        self
    }

    /// Asks this resolver instead of the system's.
    #[must_use]
    pub fn resolver(mut self, resolver: BlockingResolver) -> Self {
        self.dns = Some(Dns::Resolver(resolver));
        self
    }

    /// Answers every question from a zone file; nothing is asked of the network.
    #[cfg(feature = "zone-files")]
    #[must_use]
    pub fn zone(mut self, zone: Zone) -> Self {
        self.dns = Some(Dns::Zone(zone));
        self
    }

    /// Answers only from what [`Engine::remember`] put into the cache; every other question fails.
    #[must_use]
    pub fn offline(mut self) -> Self {
        self.dns = Some(Dns::Offline);
        self
    }

    /// How much the cache holds, and for how long.
    #[must_use]
    pub fn cache(mut self, options: CacheOptions) -> Self {
        self.cache = options;
        self
    }

    /// Judges every message as of one moment: for replays and tests.
    #[must_use]
    pub fn fixed_time(mut self, now: Timestamp) -> Self {
        self.fixed_time = Some(now);
        self
    }

    /// The engine.
    ///
    /// # Errors
    /// When no resolver was given and the system's configuration names none.
    pub fn build(mut self) -> Result<Engine, ResolverError> {
        if self.options.authserv_id.is_empty() {
            "localhost".clone_into(&mut self.options.authserv_id);
        }
        let dns = match self.dns {
            Some(dns) => dns,
            None => Dns::Resolver(BlockingResolver::from_system()?),
        };
        // Over the network the whole walk is asked at once: a few questions more, as many round trips less.
        self.options.dmarc.ask_ahead |= matches!(dns, Dns::Resolver(_));
        let cache = Cache::new(self.cache);
        let clock = self.fixed_time.map_or_else(Clock::system, Clock::Fixed);
        Ok(Engine { shared: Arc::new(Shared { options: Arc::new(self.options), dns, cache, clock }) })
    }
}

/// What is at hand: the zone, or the cache.
pub(crate) struct ReadySource<'a> {
    shared: &'a Shared,
    now: Timestamp,
}

impl AnswerSource for ReadySource<'_> {
    fn answer(&mut self, question: &Question) -> Option<Answer> {
        #[cfg(feature = "zone-files")]
        if let Dns::Zone(zone) = &self.shared.dns {
            return Some(zone.lookup(question));
        }
        self.shared.cache.get(question, self.now)
    }
}

/// The time of day, going forward only.
#[derive(Clone, Copy, Debug)]
enum Clock {
    Running { started: Timestamp, at: Instant },
    Fixed(Timestamp),
}

impl Clock {
    fn system() -> Self {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let started = Timestamp::from_milliseconds(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX));
        Self::Running { started, at: Instant::now() }
    }

    fn now(self) -> Timestamp {
        match self {
            Self::Running { started, at } => started + at.elapsed(),
            Self::Fixed(now) => now,
        }
    }
}
