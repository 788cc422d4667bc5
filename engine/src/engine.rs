//! The engine: options, DNS and cache shared by every session.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
#[cfg(feature = "network")]
use std::sync::{OnceLock, Weak};
#[cfg(any(feature = "blocking-resolver", feature = "network"))]
use std::time::Duration;
use std::time::{Instant, SystemTime};

#[cfg(feature = "network")]
use mailproof_proto::dns::Outcome;
use mailproof_proto::dns::{Answer, AnswerSource, Name, Question};
use mailproof_proto::limits::MESSAGE_TIME_MAX;
use mailproof_proto::time::Timestamp;
use mailproof_proto::verdict::{Policy, Verdict};
use mailproof_proto::verification::{Envelope, Options};

use crate::cache::dump::{LoadError, Loaded};
use crate::cache::{Cache, CacheOptions, CacheStatistics, Hit};
#[cfg(feature = "simulation")]
use crate::hashing::Hashing;
#[cfg(feature = "network")]
use crate::network::{
    CompletionQueue, Completions, Gathering, Job, NetworkOptions, NetworkStatistics, Place, TlsSetup, Workers,
};
use crate::recent::Recent;
#[cfg(feature = "blocking-resolver")]
use crate::resolver::BlockingResolver;
use crate::resolver::ResolverError;
#[cfg(feature = "network")]
use crate::service::Service;
use crate::session::Session;
#[cfg(feature = "zone-files")]
use crate::zone::Zone;

/// Verifies messages. Cheap to clone; clones share the cache and may be used from any thread.
#[derive(Clone, Debug)]
pub struct Engine {
    options: Arc<Options>,
    shared: Arc<Shared>,
    /// The threads that ask; none in the engines that these threads themselves use.
    #[cfg(feature = "network")]
    workers: Option<Arc<Workers>>,
}

#[derive(Debug)]
struct Shared {
    dns: Dns,
    cache: Cache,
    clock: Clock,
    /// Counts changes of the cache by hand, which sessions have to see at once.
    generation: AtomicU64,
    /// The threads that fetch answers ahead of need.
    #[cfg(feature = "network")]
    refreshers: OnceLock<Weak<Workers>>,
}

/// Where answers come from when the cache has none.
#[derive(Debug)]
enum Dns {
    /// The engine's own client, on its own threads.
    #[cfg(feature = "network")]
    Network(NetworkOptions),
    #[cfg(feature = "blocking-resolver")]
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
        let mut session = Session::idle(self.clone());
        session.take_whole(message, envelope);
        session.into_verdict()
    }

    /// Verifies a whole message as [`Engine::verify`] does, without blocking: for any executor.
    #[cfg(feature = "network")]
    pub async fn verify_async(&self, message: &[u8], envelope: Envelope) -> Verdict {
        let mut session = Session::idle(self.clone());
        session.take_whole(message, envelope);
        session.finish_async().await.clone()
    }

    /// Verifies a whole message as [`Engine::verify_async`] does, and does the work on the engine's threads: for executors
    /// whose thread has other things to do. Without threads it is done here, at once.
    #[cfg(feature = "network")]
    pub async fn verify_on_threads(&self, message: Vec<u8>, envelope: Envelope) -> Verdict {
        let queue = Arc::new(CompletionQueue::default());
        self.submit_job(message, envelope, 0, &queue);
        // As a call that verifies on its own thread would.
        queue.next().await.verdict.unwrap_or_else(|defect| panic!("{defect}"))
    }

    /// A queue for messages that the engine's threads verify, with a descriptor to wait by.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    #[cfg(feature = "network")]
    pub fn completions(&self) -> io::Result<Completions> {
        Completions::new(self.clone())
    }

    /// Hosts a service on the engine's threads: accepts on this listening socket until the engine is dropped.
    ///
    /// # Errors
    /// When the engine has no threads: its DNS is not the network, or the process has forked.
    #[cfg(feature = "network")]
    pub fn listen(&self, listener: std::os::fd::OwnedFd, service: Arc<dyn Service>) -> io::Result<()> {
        let workers = self.workers.as_ref().filter(|workers| !workers.is_in_another_process());
        let Some(workers) = workers else { return Err(io::ErrorKind::Unsupported.into()) };
        workers.listen(listener, service);
        Ok(())
    }

    /// The I/O backend of the engine's threads, and why; `None` without threads.
    #[cfg(feature = "network")]
    #[must_use]
    pub fn backend(&self) -> Option<mailproof_io::Backend> {
        self.workers.as_ref().map(|workers| workers.backend())
    }

    /// What the DNS client has done; all zero without one.
    #[cfg(feature = "network")]
    #[must_use]
    pub fn network_statistics(&self) -> NetworkStatistics {
        self.workers.as_ref().map_or_else(NetworkStatistics::default, |workers| workers.statistics())
    }

    /// What the drivers of the engine's threads have done, a thread each.
    #[cfg(feature = "network")]
    #[must_use]
    pub fn driver_statistics(&self) -> Vec<mailproof_io::Statistics> {
        self.workers.as_ref().map_or_else(Vec::new, |workers| workers.driver_statistics())
    }

    /// Starts on a message that arrives piece by piece.
    #[must_use]
    pub fn session(&self, envelope: Envelope) -> Session {
        Session::new(self.clone(), envelope)
    }

    /// The options every session has.
    #[must_use]
    pub fn options(&self) -> &Arc<Options> {
        &self.options
    }

    /// The same engine, with its threads, DNS and cache, for messages that are judged by other options.
    ///
    /// Options that come from [`Engine::options`] are taken as they are, without a copy.
    #[must_use]
    pub fn with_options(&self, options: impl Into<Arc<Options>>) -> Self {
        Self { options: prepared(options.into(), &self.shared.dns), ..self.clone() }
    }

    /// Ends what the engine's threads do: they accept no more, finish the messages and questions that they have, for no
    /// longer than `within`, and end. Waits for that. From now on questions to the network fail.
    #[cfg(feature = "network")]
    pub fn shut_down(&self, within: Duration) {
        if let Some(workers) = &self.workers {
            workers.shut_down(within);
        }
    }

    /// The cache's figures.
    #[must_use]
    pub fn cache_statistics(&self) -> CacheStatistics {
        self.shared.cache.statistics()
    }

    /// Puts an answer into the cache as if it had just been fetched.
    pub fn remember(&self, question: &Question, answer: &Answer) {
        self.shared.cache.insert(question, answer, self.now());
        self.shared.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// The answer to one question: from the zone or the cache, else from the network, waited for.
    #[must_use]
    pub fn ask(&self, question: &Question) -> Answer {
        if let Some(answer) = self.source(None, self.now()).answer(question) {
            return answer;
        }
        #[cfg(feature = "network")]
        if let Some(workers) = &self.workers {
            let gathering = Arc::new(Gathering::default());
            workers.ask(vec![question.clone()], &gathering);
            let arrived = gathering.wait(Instant::now() + MESSAGE_TIME_MAX).pop();
            return arrived
                .map_or_else(|| Answer::failed(mailproof_proto::dns::Failure::TimedOut), |(_, answer)| answer);
        }
        let mut answers = self.fetch(std::slice::from_ref(question), self.now() + MESSAGE_TIME_MAX);
        answers.pop().unwrap_or_else(|| Answer::failed(mailproof_proto::dns::Failure::Unreachable))
    }

    /// What is wrong with the resolvers when none of them has ever answered: worth telling a person.
    #[must_use]
    pub fn resolver_trouble(&self) -> Option<ResolverError> {
        match &self.shared.dns {
            #[cfg(feature = "blocking-resolver")]
            Dns::Resolver(resolver) => resolver.trouble(),
            #[cfg(feature = "network")]
            Dns::Network(options) => {
                let workers = self.workers.as_ref()?;
                let is_trouble = workers.statistics().failures > 0 && !workers.has_answered();
                if !is_trouble {
                    return None;
                }
                #[cfg(feature = "dns-over-tls")]
                if let Some(trouble) = workers.tls_trouble() {
                    return Some(ResolverError::Tls(trouble));
                }
                let servers = options.servers.iter().map(|server| server.address).collect();
                Some(ResolverError::Unreachable { servers })
            }
            _ => None,
        }
    }

    /// The engine's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// Answers that need no waiting.
    pub(crate) fn source<'a>(&'a self, recent: Option<&'a mut Recent>, now: Timestamp) -> ReadySource<'a> {
        let generation = self.shared.generation.load(Ordering::Relaxed);
        ReadySource { shared: &self.shared, recent, generation, now }
    }

    /// An answer that needs no waiting.
    #[cfg(feature = "network")]
    pub(crate) fn at_hand(&self, question: &Question, now: Timestamp) -> Option<Answer> {
        self.source(None, now).answer(question)
    }

    /// The engine's time when a clock that started with it shows `running`.
    #[cfg(feature = "network")]
    pub(crate) fn time_at(&self, running: Timestamp) -> Timestamp {
        match &self.shared.clock {
            Clock::Running { .. } => running,
            Clock::Fixed(now) => *now,
            #[cfg(feature = "simulation")]
            Clock::Simulated(_) => running,
        }
    }

    /// Keeps an answer that has come; gives the one to use.
    #[cfg(feature = "network")]
    pub(crate) fn keep(&self, question: &Question, answer: Answer, now: Timestamp) -> Answer {
        if matches!(answer.outcome(), Outcome::Failed(_))
            && let Some(stale) = self.shared.cache.stale(question, now)
        {
            return stale;
        }
        self.shared.cache.insert(question, &answer, now);
        answer
    }

    /// Forgets what is known of one name; gives how many answers there were.
    pub fn purge(&self, name: &Name) -> usize {
        let count = self.shared.cache.purge(name);
        self.shared.generation.fetch_add(1, Ordering::Relaxed);
        count
    }

    /// The process has forked: the engine's threads are not here.
    #[cfg(feature = "network")]
    pub(crate) fn is_in_another_process(&self) -> bool {
        self.workers.as_ref().is_some_and(|workers| workers.is_in_another_process())
    }

    /// Writes the cache as text, in the form of [`cache::dump`](crate::cache::dump), for [`Engine::load_cache`] after the
    /// next start; gives how many answers there were.
    /// Whoever may change the text decides what the engine believes for up to a day.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn dump_cache(&self, writer: &mut dyn Write) -> io::Result<u64> {
        self.shared.cache.dump(self.now(), writer)
    }

    /// Takes in what [`Engine::dump_cache`] wrote, without what has expired meanwhile. Lines that can not be read are
    /// counted and passed over. AD bits are dropped where the resolvers of this engine are not trusted to validate.
    ///
    /// # Errors
    /// [`LoadError`] when it is no dump of a cache, or can not be read.
    pub fn load_cache(&self, reader: &mut dyn Read) -> Result<Loaded, LoadError> {
        let loaded = self.shared.cache.load(reader, self.now(), self.shared.dns.trusts_ad());
        self.shared.generation.fetch_add(1, Ordering::Relaxed);
        loaded
    }

    #[cfg(feature = "network")]
    pub(crate) fn has_network(&self) -> bool {
        self.workers.is_some()
    }

    /// Sends questions out; their answers come to `gathering`. False when there is nobody to ask.
    #[cfg(feature = "network")]
    pub(crate) fn ask_network(&self, questions: Vec<Question>, gathering: &Arc<Gathering>) -> bool {
        let Some(workers) = &self.workers else { return false };
        workers.ask(questions, gathering);
        true
    }

    #[cfg(feature = "network")]
    pub(crate) fn submit_job(&self, message: Vec<u8>, envelope: Envelope, token: u64, queue: &Arc<CompletionQueue>) {
        let engine = self.without_workers();
        let job = Job { message, envelope, place: Place::new(queue, token), engine };
        match &self.workers {
            Some(workers) if !workers.is_in_another_process() => workers.verify(job),
            // Zones and caches are at hand: there is nothing to wait for.
            _ => job.refuse(),
        }
    }

    #[cfg(feature = "network")]
    pub(crate) fn cancel_job(&self, token: u64, queue: &Arc<CompletionQueue>) {
        if let Some(workers) = &self.workers {
            workers.cancel(token, queue);
        }
    }

    /// Runs a piece of work on one of the engine's threads; here where there are none.
    #[cfg(feature = "tokio-uring")]
    pub(crate) fn run_on_threads(&self, work: Box<dyn FnOnce() + Send>) {
        match &self.workers {
            Some(workers) if !workers.is_in_another_process() => workers.run(work),
            _ => work(),
        }
    }

    /// Answers come by blocking the thread that wants them.
    #[cfg(feature = "tokio-uring")]
    pub(crate) fn waits_for_answers(&self) -> bool {
        #[cfg(not(feature = "blocking-resolver"))]
        return false;
        #[cfg(feature = "blocking-resolver")]
        matches!(self.shared.dns, Dns::Resolver(_))
    }

    /// The same engine for use on its own threads: it does not keep them alive and never waits.
    #[cfg(feature = "network")]
    pub(crate) fn without_workers(&self) -> Self {
        Self { options: Arc::clone(&self.options), shared: Arc::clone(&self.shared), workers: None }
    }

    /// Fetches answers that need waiting, at most until `deadline`, and keeps them.
    pub(crate) fn fetch(&self, questions: &[Question], deadline: Timestamp) -> Vec<Answer> {
        #[cfg(feature = "blocking-resolver")]
        if let Dns::Resolver(resolver) = &self.shared.dns {
            let left = deadline.milliseconds().saturating_sub(self.now().milliseconds());
            let answers = resolver.resolve(questions, Instant::now() + Duration::from_millis(left));
            for (question, answer) in questions.iter().zip(&answers) {
                self.shared.cache.insert(question, answer, self.now());
            }
            return answers;
        }
        let _ = deadline;
        let failure = mailproof_proto::dns::Failure::Unreachable;
        questions.iter().map(|_| Answer::failed(failure)).collect()
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
    #[cfg(feature = "blocking-resolver")]
    #[must_use]
    pub fn resolver(mut self, resolver: BlockingResolver) -> Self {
        self.dns = Some(Dns::Resolver(resolver));
        self
    }

    /// Asks DNS servers with the engine's own client, on threads of its own. This is the default, with the servers of the
    /// system.
    #[cfg(feature = "network")]
    #[must_use]
    pub fn network(mut self, options: NetworkOptions) -> Self {
        self.dns = Some(Dns::Network(options));
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
            #[cfg(feature = "network")]
            None => Dns::Network(NetworkOptions::from_system()?),
            #[cfg(all(feature = "blocking-resolver", not(feature = "network")))]
            None => Dns::Resolver(BlockingResolver::from_system()?),
            #[cfg(not(any(feature = "blocking-resolver", feature = "network")))]
            None => return Err(ResolverError::NoServers { path: None }),
        };
        let clock = self.fixed_time.map_or_else(Clock::system, Clock::Fixed);
        let engine = Engine::without_threads(self.options, dns, Cache::new(self.cache), clock);
        #[cfg(feature = "network")]
        if let Dns::Network(options) = &engine.shared.dns {
            if options.servers.is_empty() {
                return Err(ResolverError::NoServers { path: None });
            }
            let workers = Arc::new(Workers::start(&engine, options.clone(), TlsSetup::new(options)?)?);
            let _ = engine.shared.refreshers.set(Arc::downgrade(&workers));
            return Ok(Engine { workers: Some(workers), ..engine });
        }
        Ok(engine)
    }
}

impl Engine {
    fn without_threads(options: Options, dns: Dns, cache: Cache, clock: Clock) -> Self {
        let options = prepared(Arc::new(options), &dns);
        let shared = Shared {
            dns,
            cache,
            clock,
            generation: AtomicU64::new(0),
            #[cfg(feature = "network")]
            refreshers: OnceLock::new(),
        };
        Self {
            options,
            shared: Arc::new(shared),
            #[cfg(feature = "network")]
            workers: None,
        }
    }

    /// An engine whose workers the simulation runs, one for each driver.
    #[cfg(feature = "simulation")]
    pub(crate) fn simulated(
        options: Options,
        network: NetworkOptions,
        cache: CacheOptions,
        clock: Arc<AtomicU64>,
        start: impl FnOnce(&Self, NetworkOptions) -> Workers,
    ) -> Self {
        let (dns, cache) = (Dns::Network(network.clone()), Cache::with_hashing(cache, Hashing::Fixed));
        let engine = Self::without_threads(options, dns, cache, Clock::Simulated(clock));
        let workers = Arc::new(start(&engine, network));
        let _ = engine.shared.refreshers.set(Arc::downgrade(&workers));
        Self { workers: Some(workers), ..engine }
    }
}

/// Options as they are used with this DNS. Over the network the whole walk is asked at once: a few questions more, as many
/// round trips less.
fn prepared(mut options: Arc<Options>, dns: &Dns) -> Arc<Options> {
    if dns.takes_time() && !options.dmarc.ask_ahead {
        Arc::make_mut(&mut options).dmarc.ask_ahead = true;
    }
    options
}

impl Dns {
    /// Those who answer are trusted to validate.
    fn trusts_ad(&self) -> bool {
        match self {
            #[cfg(feature = "network")]
            Self::Network(options) => options.lookup.trusts_ad,
            #[cfg(feature = "blocking-resolver")]
            Self::Resolver(resolver) => resolver.trusts_ad(),
            #[cfg(feature = "zone-files")]
            Self::Zone(_) => true,
            Self::Offline => true,
        }
    }

    /// Answers come over the network.
    fn takes_time(&self) -> bool {
        match self {
            #[cfg(feature = "network")]
            Self::Network(_) => true,
            #[cfg(feature = "blocking-resolver")]
            Self::Resolver(_) => true,
            _ => false,
        }
    }
}

impl Shared {
    /// Fetches an answer again that is in use and about to expire.
    fn refresh_if_ageing(&self, question: &Question, hit: &Hit) {
        #[cfg(feature = "network")]
        if hit.is_ageing
            && let Some(workers) = self.refreshers.get().and_then(Weak::upgrade)
        {
            workers.prefetch(question);
        }
        #[cfg(not(feature = "network"))]
        let _ = (question, hit);
    }
}

/// What is at hand: the zone, or the cache.
pub(crate) struct ReadySource<'a> {
    shared: &'a Shared,
    recent: Option<&'a mut Recent>,
    generation: u64,
    now: Timestamp,
}

impl AnswerSource for ReadySource<'_> {
    fn answer(&mut self, question: &Question) -> Option<Answer> {
        #[cfg(feature = "zone-files")]
        if let Dns::Zone(zone) = &self.shared.dns {
            return Some(zone.lookup(question));
        }
        let Some(recent) = self.recent.as_deref_mut() else {
            let hit = self.shared.cache.find(question, self.now)?;
            self.shared.refresh_if_ageing(question, &hit);
            return Some(hit.answer);
        };
        if let Some(answer) = recent.get(question, self.generation, self.now) {
            return Some(answer);
        }
        let hit = self.shared.cache.find(question, self.now)?;
        self.shared.refresh_if_ageing(question, &hit);
        recent.put(question, &hit.answer, hit.expires, self.generation, self.now);
        Some(hit.answer)
    }
}

/// The time of day, going forward only.
#[derive(Clone, Debug)]
enum Clock {
    Running {
        started: Timestamp,
        at: Instant,
    },
    Fixed(Timestamp),
    /// Milliseconds, as whoever simulates sets them.
    #[cfg(feature = "simulation")]
    Simulated(Arc<AtomicU64>),
}

impl Clock {
    fn system() -> Self {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let started = Timestamp::from_milliseconds(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX));
        Self::Running { started, at: Instant::now() }
    }

    fn now(&self) -> Timestamp {
        match self {
            Self::Running { started, at } => *started + at.elapsed(),
            Self::Fixed(now) => *now,
            #[cfg(feature = "simulation")]
            Self::Simulated(clock) => Timestamp::from_milliseconds(clock.load(Ordering::Relaxed)),
        }
    }
}
