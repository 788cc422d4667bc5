//! The engine.

use std::path::PathBuf;
use std::sync::Arc;

use mailproof::cache::CacheOptions;
use mailproof::network::{Backend, Choice, NetworkOptions};
use mailproof::proto::dmarc::Discovery;
use mailproof::proto::time::Timestamp;
use mailproof::proto::verdict::RejectPolicy;
use mailproof::resolver::ResolverError;
use mailproof::zone::{Zone, ZoneError};
use mailproof::{EngineBuilder, Options};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping, PyString};

use crate::arguments::{Natural, Text};
use crate::batch::Verdicts;
use crate::completions::Completions;
use crate::envelope::envelope;
use crate::kept::Kept;
use crate::living::{Living, system_error};
use crate::message::Octets;
use crate::results::{CacheStatistics, NetworkStatistics};
use crate::session::Session;
use crate::spf::{self, SpfCheck};
use crate::verdict::Verdict;
use crate::waiting;

/// What `mailproof.Engine` is made of.
#[pyclass(frozen, subclass, module = "mailproof._mailproof")]
#[derive(Debug)]
pub(crate) struct Engine {
    living: Arc<Living>,
}

/// The most threads that may be asked for.
pub(crate) const THREADS_MAX: usize = 1024;
/// Names the I/O backend of the engine's threads; for doubt and for tests.
const BACKEND_VARIABLE: &str = "MAILPROOF_BACKEND";

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (
        resolvers = None, zone = None, cache_size = None, *, authserv_id = None, policy = "9989", defer_on_temperror = false,
        honour_length = false, strictest_of_several = false, now = None, threads = None, backend = None
    ))]
    #[expect(clippy::too_many_arguments, reason = "keywords of Python")]
    fn new(
        resolvers: Option<Vec<String>>,
        zone: Option<&Bound<'_, PyAny>>,
        cache_size: Option<Natural>,
        authserv_id: Option<String>,
        policy: &str,
        defer_on_temperror: bool,
        honour_length: bool,
        strictest_of_several: bool,
        now: Option<Natural>,
        threads: Option<Natural>,
        backend: Option<&str>,
    ) -> PyResult<Self> {
        let mut options = Options { authserv_id: authserv_id.unwrap_or_else(host_name), ..Options::default() };
        match policy {
            "9989" => {}
            "7489" => {
                options.dmarc.discovery = Discovery::PublicSuffixList;
                options.policy.reject = RejectPolicy::Literal;
            }
            _ => return Err(PyValueError::new_err(format!("policy: '9989' or '7489', not {policy:?}"))),
        }
        options.policy.defer_on_temperror = defer_on_temperror;
        options.dkim.honour_length = honour_length;
        options.dmarc.strictest_of_several = strictest_of_several;
        let mut cache = CacheOptions::default();
        if let Some(size) = cache_size {
            cache.bytes_max = size.within("cache_size", 0..=u64::MAX)?;
        }
        let now = now.map(|now| now.within("now", 0..=u64::MAX)).transpose()?;
        let threads = threads.map(|threads| threads.count_within("threads", 1..=THREADS_MAX)).transpose()?;
        let builder = move || {
            let builder = mailproof::Engine::builder().options(options.clone()).cache(cache.clone());
            match now {
                Some(seconds) => builder.fixed_time(Timestamp::from_seconds(seconds)),
                None => builder,
            }
        };
        let living = match (zone, resolvers) {
            (Some(_), Some(_)) => return Err(PyValueError::new_err("resolvers or zone, not both")),
            // A zone has no threads: it serves the children of this process as well.
            (Some(zone), None) => Living::without_threads(build(builder().zone(read_zone(zone)?))?),
            (None, resolvers) => {
                let network = network(resolvers.as_deref(), threads, backend)?;
                Living::new(Box::new(move || build(builder().network(network.clone()))))?
            }
        };
        Ok(Self { living: Arc::new(living) })
    }

    /// Verifies one message and gives its verdict.
    ///
    /// `message` is bytes, any buffer, a path object, an `email.message.Message`; `ip` the address of the SMTP client as
    /// text or as an object of `ipaddress`, without which there is no SPF; `helo` and `mail_from` what SMTP said, '' for
    /// the null reverse-path; `id` the caller's name for the message. Waits for DNS answers at most 30 seconds, with the
    /// interpreter released.
    ///
    /// A `Message` object is written anew by Python, which may differ from what was signed: where the octets are at hand,
    /// they are the better choice. What is no UTF-8 in `helo`, `mail_from` and `id` (lone surrogates) is read as U+FFFD.
    ///
    /// Raises TypeError or ValueError for what is no message or no address, OSError for a file that can not be read.
    #[pyo3(
        signature = (message, *, ip = None, helo = Text::default(), mail_from = Text::default(), id = Text::default()),
        text_signature = "($self, message, *, ip=None, helo='', mail_from='', id='')"
    )]
    fn verify(
        &self,
        py: Python<'_>,
        message: &Bound<'_, PyAny>,
        ip: Option<&Bound<'_, PyAny>>,
        helo: Text,
        mail_from: Text,
        id: Text,
    ) -> PyResult<Verdict> {
        let envelope = envelope(ip, helo, mail_from)?;
        let octets = Octets::of(message)?;
        let engine = self.living.engine(py)?;
        let verdict = waiting::wait(py, async { Kept::new(engine.verify_async(&octets, envelope).await) })?;
        Ok(Verdict::new(id.0, verdict))
    }

    /// Verifies a stream of messages on several threads and gives an iterator over their verdicts, in order.
    ///
    /// `messages` is any iterable of messages, as `verify` takes them, or of `Request` objects, which have an envelope.
    /// It is consumed as verdicts are taken, at most `look_ahead` messages (1 to 65,536; 256 if not given) and 64 MiB
    /// ahead. `threads` (1 to 1024) counts those that verify, this one included; one a processor if not given, and no more
    /// than the processors are used: a message that waits for the DNS holds no thread.
    ///
    /// A source that waits for something itself keeps back the verdicts of what it gave before; `look_ahead=1`, or
    /// `averify`, is for such. What the iterable raises is raised behind the verdicts of what it gave before, but
    /// `KeyboardInterrupt`, and whatever else is no `Exception`, at once: the verdicts can still be taken then. Raises
    /// ValueError for numbers out of range.
    #[pyo3(
        signature = (messages, *, threads = None, look_ahead = Natural::new(256)),
        text_signature = "($self, messages, *, threads=None, look_ahead=256)"
    )]
    fn verify_many(
        &self,
        py: Python<'_>,
        messages: &Bound<'_, PyAny>,
        threads: Option<Natural>,
        look_ahead: Natural,
    ) -> PyResult<Verdicts> {
        Verdicts::new(self.living.engine(py)?, Arc::clone(&self.living), messages.try_iter()?, threads, look_ahead)
    }

    /// Begins a message that arrives piece by piece; see `Session`.
    #[pyo3(
        signature = (*, ip = None, helo = Text::default(), mail_from = Text::default(), id = Text::default()),
        text_signature = "($self, *, ip=None, helo='', mail_from='', id='')"
    )]
    fn session(
        &self,
        py: Python<'_>,
        ip: Option<&Bound<'_, PyAny>>,
        helo: Text,
        mail_from: Text,
        id: Text,
    ) -> PyResult<Session> {
        Session::new(py, &self.living, envelope(ip, helo, mail_from)?, id.0)
    }

    /// Checks a client against the SPF records of MAIL FROM and HELO (RFC 7208), without a message.
    ///
    /// Waits for DNS answers at most 20 seconds. Raises TypeError or ValueError for what is no address.
    #[pyo3(
        signature = (ip, *, helo = Text::default(), mail_from = Text::default()),
        text_signature = "($self, ip, *, helo='', mail_from='')"
    )]
    fn spf(&self, py: Python<'_>, ip: &Bound<'_, PyAny>, helo: Text, mail_from: Text) -> PyResult<SpfCheck> {
        spf::check(py, &self.living.engine(py)?, envelope(Some(ip), helo, mail_from)?)
    }

    /// Verifies one message and tells in words how the verdict came about: every question, hash and decision.
    ///
    /// `full` shows long DNS texts whole, `color` keeps the escapes for a terminal. Otherwise as `verify`.
    #[pyo3(
        signature = (
            message, *, ip = None, helo = Text::default(), mail_from = Text::default(), full = false, color = false
        ),
        text_signature = "($self, message, *, ip=None, helo='', mail_from='', full=False, color=False)"
    )]
    #[expect(clippy::too_many_arguments, reason = "keywords of Python")]
    fn explain(
        &self,
        py: Python<'_>,
        message: &Bound<'_, PyAny>,
        ip: Option<&Bound<'_, PyAny>>,
        helo: Text,
        mail_from: Text,
        full: bool,
        color: bool,
    ) -> PyResult<String> {
        let envelope = envelope(ip, helo, mail_from)?;
        let octets = Octets::of(message)?;
        let engine = self.living.engine(py)?;
        // Answers are fetched first, where signals are seen to; what is left finds them in the cache.
        waiting::wait(py, async { drop(engine.verify_async(&octets, envelope.clone()).await) })?;
        let page = py.detach(|| mailproof_explain::page(&engine, &octets, &envelope, full));
        Ok(if color { page } else { anstream::adapter::strip_str(&page).to_string() })
    }

    /// The cache's figures.
    fn cache_statistics(&self, py: Python<'_>) -> PyResult<CacheStatistics> {
        Ok(self.living.engine(py)?.cache_statistics().into())
    }

    /// The figures of the DNS client.
    fn network_statistics(&self, py: Python<'_>) -> PyResult<NetworkStatistics> {
        Ok(self.living.engine(py)?.network_statistics().into())
    }

    /// How the engine's threads drive their sockets: `uring`, `epoll`, or `zone` where there are none.
    #[getter]
    fn backend(&self, py: Python<'_>) -> PyResult<&'static str> {
        Ok(match self.living.engine(py)?.backend() {
            None => "zone",
            Some(Backend::Uring) => "uring",
            Some(_) => "epoll",
        })
    }

    /// The name written into Authentication-Results.
    #[getter]
    fn authserv_id(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.living.engine(py)?.options().authserv_id.clone())
    }

    /// A queue for messages that the engine's threads verify, with a descriptor; what `averify` stands on.
    fn _completions(&self, py: Python<'_>) -> PyResult<Completions> {
        Completions::new(self.living.engine(py)?, Arc::clone(&self.living))
    }
}

fn build(builder: EngineBuilder) -> PyResult<mailproof::Engine> {
    builder.build().map_err(resolver_error)
}

fn network(resolvers: Option<&[String]>, threads: Option<usize>, backend: Option<&str>) -> PyResult<NetworkOptions> {
    let mut options = match resolvers {
        None => NetworkOptions::from_system(),
        Some(servers) => NetworkOptions::from_texts(servers),
    }
    .map_err(resolver_error)?;
    options.threads = threads.unwrap_or_default();
    let variable = std::env::var(BACKEND_VARIABLE).ok().filter(|word| !word.is_empty());
    if let Some(word) = backend.or(variable.as_deref()) {
        options.backend =
            word.parse::<Choice>().map_err(|error| PyValueError::new_err(format!("backend {word:?}: {error}")))?;
    }
    Ok(options)
}

/// What was written wrong is a `ValueError`, what the system lacks an `OSError`.
fn resolver_error(error: ResolverError) -> PyErr {
    match error {
        ResolverError::BadServer { .. } | ResolverError::NoServers { path: None } => {
            PyValueError::new_err(error.to_string())
        }
        error => system_error(error),
    }
}

/// A zone from a file, several files, or a dictionary of names.
fn read_zone(zone: &Bound<'_, PyAny>) -> PyResult<Zone> {
    if let Ok(names) = zone.cast::<PyMapping>() {
        let names = PyDict::from_sequence(names.items()?.as_any())?;
        let text = zone.py().import("json")?.call_method1("dumps", (names,))?;
        let value = serde_json::from_str(text.cast::<PyString>()?.to_str()?);
        let value = value.map_err(|error| PyValueError::new_err(format!("zone: {error}")))?;
        return Zone::from_value(&value).map_err(zone_error);
    }
    let paths: Vec<PathBuf> = match zone.extract::<PathBuf>() {
        Ok(path) => vec![path],
        Err(_) => zone.extract().map_err(|_| {
            PyTypeError::new_err("zone: a path, a list of paths, or a dictionary of names with their records")
        })?,
    };
    let mut zone = Zone::new();
    for path in paths {
        zone.add_file(path).map_err(zone_error)?;
    }
    Ok(zone)
}

fn zone_error(error: ZoneError) -> PyErr {
    match &error {
        ZoneError::Io(_) => system_error(error),
        ZoneError::File { error: inner, .. } if matches!(**inner, ZoneError::Io(_)) => system_error(error),
        _ => PyValueError::new_err(format!("zone: {error}")),
    }
}

/// The name of this host, `localhost` where it has none.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() || name == "(none)" { "localhost".to_owned() } else { name.to_owned() }
}
