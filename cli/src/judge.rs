//! The engine as the command line asks for it, and the worker that puts messages through it.
//!
//! Messages are verified on the thread that has them, and only questions go to the engine's threads. Measured with one
//! thread over 8,000 messages of 32 KiB, all answers in the cache: 38 to 40 µs of CPU a message, against 44 to 61 µs when
//! each is submitted to a worker of the engine (1 to 1,024 at a time, on io_uring as on epoll).

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use mailproof::network::Choice;
use mailproof::network::NetworkOptions;
use mailproof::resolver::ResolverError;
use mailproof::zone::Zone;
use mailproof::{Engine, EngineBuilder, Session};
use mailproof_proto::dmarc::Discovery;
use mailproof_proto::limits::HEADER_BLOCK_BYTES_MAX;
use mailproof_proto::time::Timestamp;
use mailproof_proto::verdict::{RejectPolicy, Verdict};
use mailproof_proto::verification::{Envelope, Options, Progress};

use crate::arguments::{DnsArguments, JudgeArguments, PolicyEdition};
use crate::failure::Failure;
use crate::pipeline::Work;

/// Names the I/O backend of the engine's threads; for doubt and for tests.
const BACKEND_VARIABLE: &str = "MAILPROOF_BACKEND";
/// Judging threads that one thread of the engine serves with answers: a message that finds nothing in the cache costs
/// about as much DNS as half of its verification.
const JUDGES_PER_THREAD: usize = 2;

/// Builds the engine for so many threads that judge.
///
/// # Errors
/// A zone file that can not be used, no resolver, or no such backend.
pub(crate) fn engine(
    dns: &DnsArguments,
    options: Options,
    now: Option<u64>,
    thread_count: usize,
) -> Result<Engine, Failure> {
    let backend = backend()?;
    let mut builder = Engine::builder().options(options);
    if let Some(now) = now {
        builder = builder.fixed_time(Timestamp::from_seconds(now));
    }
    if dns.zone.is_empty() {
        let threads = thread_count.div_ceil(JUDGES_PER_THREAD);
        builder = builder.network(NetworkOptions { threads, backend, ..network(dns)? });
    } else {
        builder = builder.zone(zone(dns)?);
    }
    build(builder)
}

/// The engine of these parts.
///
/// # Errors
/// No resolver, or no such backend.
pub(crate) fn build(builder: EngineBuilder) -> Result<Engine, Failure> {
    builder.build().map_err(|error| match error {
        ResolverError::Driver(driver) => Failure::Driver { driver },
        error => Failure::NoResolver(error),
    })
}

/// The servers that are named, or those of the system.
///
/// # Errors
/// There are none.
pub(crate) fn network(dns: &DnsArguments) -> Result<NetworkOptions, Failure> {
    match dns.resolver.as_slice() {
        [] => NetworkOptions::from_system().map_err(Failure::NoResolver),
        servers => Ok(NetworkOptions::new(servers.to_vec())),
    }
}

/// The zone of the files that are named.
///
/// # Errors
/// One of them can not be used.
pub(crate) fn zone(dns: &DnsArguments) -> Result<Zone, Failure> {
    let mut zone = Zone::new();
    for path in &dns.zone {
        zone.add_file(path)?;
    }
    Ok(zone)
}

/// The backend that the environment asks for.
///
/// # Errors
/// It names none.
pub(crate) fn backend() -> Result<Choice, Failure> {
    let Some(word) = std::env::var_os(BACKEND_VARIABLE).filter(|word| !word.is_empty()) else {
        return Ok(Choice::Auto);
    };
    let word = word.to_string_lossy();
    word.parse().map_err(|error| Failure::Usage(format!("{BACKEND_VARIABLE}={word}: {error}")))
}

/// The end of a run whose verdicts are written: a failure when the DNS was silent all the time.
pub(crate) fn end(engine: &Engine) -> Result<(), Failure> {
    engine.resolver_trouble().map_or(Ok(()), |trouble| Err(Failure::Silent(trouble)))
}

/// The receiver's choices.
pub(crate) fn options(judge: &JudgeArguments) -> Options {
    let mut options =
        Options { authserv_id: judge.authserv_id.clone().unwrap_or_else(host_name), ..Options::default() };
    if judge.policy == PolicyEdition::Rfc7489 {
        options.dmarc.discovery = Discovery::PublicSuffixList;
        options.policy.reject = RejectPolicy::Literal;
    }
    options.policy.defer_on_temperror = judge.defer_on_temperror;
    options.dkim.honour_length = judge.honour_length;
    options.dmarc.strictest_of_several = judge.strictest_of_several;
    options
}

/// The name of this host, `localhost` where it has none.
pub(crate) fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() || name == "(none)" { "localhost".to_owned() } else { name.to_owned() }
}

/// Judges message after message, keeping the memory of the last for the next. Messages that wait for answers each have
/// their own.
pub(crate) struct Judge {
    engine: Engine,
    free: Rc<RefCell<Vec<Session>>>,
}

/// Octets that a message which waits holds at the most: its header block; of the body there are only hashes.
const WAITING_OCTETS_MAX: usize = HEADER_BLOCK_BYTES_MAX + 64 * 1024;

/// Sessions kept for later messages; more were needed only while many messages waited.
const FREE_SESSIONS_MAX: usize = 64;

impl Judge {
    pub(crate) fn new(engine: Engine) -> Self {
        Self { engine, free: Rc::default() }
    }

    /// Judges a message and hands the verdict to `read`. An error is a defect of the engine: the message is lost, the
    /// run is not.
    pub(crate) fn judge<T: 'static>(
        &self,
        octets: &[u8],
        envelope: Envelope,
        read: impl FnOnce(&Verdict, &Session) -> T + 'static,
    ) -> Work<Result<T, &'static str>> {
        let session = self.free.borrow_mut().pop();
        let begun = guarded(|| {
            let mut session = session.unwrap_or_else(|| self.engine.session(Envelope::default()));
            session.take_whole(octets, envelope);
            let is_done = matches!(session.poll(), Progress::Done);
            (session, is_done)
        });
        let free = Rc::clone(&self.free);
        match begun {
            Err(defect) => Work::Done(Err(defect)),
            Ok((session, true)) => Work::Done(told(session, read, &free)),
            Ok((session, false)) => {
                let rest = async move { told(finished(session).await?, read, &free) };
                Work::Waits { octets: octets.len().min(WAITING_OCTETS_MAX), rest: Box::pin(rest) }
            }
        }
    }
}

/// Waits for the verdict.
async fn finished(mut session: Session) -> Result<Session, &'static str> {
    {
        let mut verdict = pin!(session.finish_async());
        poll_fn(|context| match guarded(|| verdict.as_mut().poll(context).is_ready()) {
            Ok(true) => Poll::Ready(Ok(())),
            Ok(false) => Poll::Pending,
            Err(defect) => Poll::Ready(Err(defect)),
        })
        .await?;
    }
    Ok(session)
}

/// Reads the verdict of a session and lays it aside for the next message.
fn told<T>(
    session: Session,
    read: impl FnOnce(&Verdict, &Session) -> T,
    free: &RefCell<Vec<Session>>,
) -> Result<T, &'static str> {
    let outcome = guarded(|| session.verdict().map(|verdict| read(verdict, &session)))?.ok_or(DEFECT)?;
    let mut free = free.borrow_mut();
    if free.len() < FREE_SESSIONS_MAX {
        free.push(session);
    }
    Ok(outcome)
}

fn guarded<T>(share: impl FnOnce() -> T) -> Result<T, &'static str> {
    catch_unwind(AssertUnwindSafe(share)).map_err(|_| DEFECT)
}

const DEFECT: &str = "internal error while judging; please report the message";
