//! The engine as the command line asks for it, and the worker that puts messages through it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use mailproof::Engine;
use mailproof::Session;
use mailproof::resolver::BlockingResolver;
use mailproof::zone::Zone;
use mailproof_proto::dmarc::Discovery;
use mailproof_proto::time::Timestamp;
use mailproof_proto::verdict::{RejectPolicy, Verdict};
use mailproof_proto::verification::{Envelope, Options};

use crate::arguments::{DnsArguments, JudgeArguments, PolicyEdition};
use crate::failure::Failure;

/// Builds the engine.
///
/// # Errors
/// A zone file that can not be used, or no resolver.
pub(crate) fn engine(dns: &DnsArguments, options: Options, now: Option<u64>) -> Result<Engine, Failure> {
    let mut builder = Engine::builder().options(options);
    if let Some(now) = now {
        builder = builder.fixed_time(Timestamp::from_seconds(now));
    }
    if !dns.zone.is_empty() {
        let mut zone = Zone::new();
        for path in &dns.zone {
            zone.add_file(path)?;
        }
        builder = builder.zone(zone);
    } else if !dns.resolver.is_empty() {
        builder = builder.resolver(BlockingResolver::new(&dns.resolver).map_err(Failure::NoResolver)?);
    }
    builder.build().map_err(Failure::NoResolver)
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

/// Judges message after message, keeping the memory of the last for the next.
#[derive(Debug)]
pub(crate) struct Judge {
    engine: Engine,
    session: Option<Session>,
}

impl Judge {
    pub(crate) fn new(engine: Engine) -> Self {
        Self { engine, session: None }
    }

    /// Judges a message and hands the verdict to `read`. An error is a defect of the engine: the message is lost, the
    /// run is not.
    pub(crate) fn judge<T>(
        &mut self,
        octets: &[u8],
        envelope: Envelope,
        read: impl FnOnce(&Verdict, &Session) -> T,
    ) -> Result<T, &'static str> {
        let session = self.session.take();
        let judged = catch_unwind(AssertUnwindSafe(|| {
            let mut session = match session {
                Some(mut session) => {
                    session.restart(envelope);
                    session
                }
                None => self.engine.session(envelope),
            };
            session.push(octets);
            session.finish();
            (session.verdict().map(|verdict| read(verdict, &session)), session)
        }));
        let Ok((Some(outcome), session)) = judged else {
            return Err("internal error while judging; please report the message");
        };
        self.session = Some(session);
        Ok(outcome)
    }
}
