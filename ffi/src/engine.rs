//! The engine: options, DNS and cache, shared by everything that is made of it.

use std::borrow::Cow;
use std::ffi::{CString, c_char, c_void};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
#[cfg(feature = "network")]
use std::time::Duration;

use mailproof::cache::CacheOptions;
use mailproof::cache::dump::LoadError;
#[cfg(feature = "network")]
use mailproof::network::{Backend, Choice, NetworkOptions};
use mailproof::proto::dmarc::{Discovery, DmarcResult};
use mailproof::proto::dns::Name;
use mailproof::proto::spf::SpfResult;
use mailproof::proto::time::Timestamp;
use mailproof::proto::verdict::{RejectPolicy, Verdict};
use mailproof::resolver::ResolverError;
use mailproof::{Engine, EngineBuilder, Envelope, Options};

use crate::envelope::{self, mailproof_envelope};
use crate::log::{Level, Log, mailproof_log_callback};
use crate::pointers::{self, Given, Told, first_size};
use crate::status::{Failure, Outcome, c_text, guard, guard_quietly, mailproof_status};
use crate::verdict::mailproof_verdict;
use crate::zone::mailproof_zone;

/// Verifies messages. Holds the options, the DNS cache, and the threads that ask the DNS where there are any. May be used
/// from any number of threads at once; one engine for the whole process is best, since it is the cache that saves time.
///
/// Sessions and queues keep what they need of it: it may be freed before them.
///
/// An engine with threads does not survive fork(): in the child it and what was made of it may be freed, and nothing else,
/// since a thread that the child does not have may hold what a call would wait for. Make the engine after the fork.
///
/// Its threads take no signals of the process. Memory that can not be had ends the process, as in most libraries.
#[derive(Debug)]
pub struct mailproof_engine {
    pub(crate) core: Arc<Core>,
    backend: CString,
    reason: CString,
}

/// What an engine shares with its sessions and queues.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) engine: Engine,
    pub(crate) log: Log,
    /// Who answers the questions.
    pub(crate) dns: Dns,
    has_told_trouble: AtomicBool,
}

/// Who answers the questions of an engine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Dns {
    /// Its threads.
    Network,
    /// A zone.
    Zone,
    /// Whoever drives its sessions.
    Caller,
}

/// Ask the DNS servers of the system (/etc/resolv.conf), on threads of the engine.
pub const MAILPROOF_DNS_SYSTEM: u32 = 0;
/// Ask the DNS servers that are named, on threads of the engine.
pub const MAILPROOF_DNS_SERVERS: u32 = 1;
/// Answer from a zone; nothing is asked of the network, and there is no thread.
pub const MAILPROOF_DNS_ZONE: u32 = 2;
/// The caller answers the questions of each session; there is no thread and no socket.
pub const MAILPROOF_DNS_CALLER: u32 = 3;

/// io_uring where it works, else epoll.
pub const MAILPROOF_BACKEND_AUTO: u32 = 0;
/// io_uring, or no engine.
pub const MAILPROOF_BACKEND_URING: u32 = 1;
/// epoll.
pub const MAILPROOF_BACKEND_EPOLL: u32 = 2;

/// DMARC as of RFC 9989: tree walk; `p=reject` alone quarantines (sections 4.10, 7.4).
pub const MAILPROOF_POLICY_9989: u32 = 9989;
/// DMARC as of RFC 7489: Public Suffix List; `p=reject` rejects (sections 3.2, 6.6.2).
pub const MAILPROOF_POLICY_7489: u32 = 7489;

/// A temporary error of DMARC defers the message instead of accepting it (RFC 9989 section 4.10.1).
pub const MAILPROOF_DEFER_ON_TEMPERROR: u64 = 1;
/// A DKIM signature whose `l=` leaves octets uncovered may pass (RFC 6376 section 8.2).
pub const MAILPROOF_HONOUR_LENGTH: u64 = 2;
/// From with several domains: judge each and keep the strictest (RFC 9989 section 11.5).
pub const MAILPROOF_STRICTEST_OF_SEVERAL: u64 = 4;
/// SPF or a signature in temporary error counts as not passed for DMARC (RFC 9989 sections 4.4, 5.3.6).
pub const MAILPROOF_MECHANISM_ERRORS_FAIL: u64 = 8;
/// Do not fetch the explanation of a failed SPF check (RFC 7208 section 6.2).
pub const MAILPROOF_NO_EXPLANATION: u64 = 16;
/// Believe the AD bit of the DNS servers that are named (RFC 4035 section 4.9.3); only with MAILPROOF_DNS_SERVERS. For those
/// of the system their configuration says it (`options trust-ad`).
pub const MAILPROOF_TRUST_AD: u64 = 32;

/// Threads of one engine.
#[cfg(feature = "network")]
const THREADS_MAX: u32 = 1024;

/// In `cache_bytes`: keep no answer.
pub const MAILPROOF_CACHE_NONE: u64 = u64::MAX;

/// What an engine is made of. Fill it with mailproof_engine_options_init(), then change what should be different. All
/// members but `size` may be zero. Texts and lists need to be good during mailproof_engine_new() only.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct mailproof_engine_options {
    /// sizeof(mailproof_engine_options).
    pub size: usize,
    /// MAILPROOF_DEFER_ON_TEMPERROR and others, added up.
    pub flags: u64,
    /// The name of the receiver in Authentication-Results (RFC 8601 section 2.5); NULL for `localhost`.
    pub authserv_id: *const c_char,
    /// MAILPROOF_DNS_SYSTEM, _SERVERS, _ZONE or _CALLER.
    pub dns: u32,
    /// MAILPROOF_POLICY_9989, _7489, or 0 for the first.
    pub policy: u32,
    /// With MAILPROOF_DNS_SERVERS: `IP`, `IP:PORT` or `[IP]:PORT`, with `#NAME` after it for DNS over TLS where the build
    /// has that.
    pub servers: *const *const c_char,
    /// How many `servers` there are; those after the eighth are left out.
    pub server_count: usize,
    /// With MAILPROOF_DNS_ZONE: the zone, of which a copy is taken.
    pub zone: *const mailproof_zone,
    /// Threads of the engine, 1024 at the most; 0 for one a processor. Each has up to 64 sockets for each server, all
    /// together no more than a quarter of the descriptors that the process may have (RLIMIT_NOFILE).
    pub threads: u32,
    /// MAILPROOF_BACKEND_AUTO, _URING or _EPOLL.
    pub backend: u32,
    /// Octets of the DNS cache; 0 for 64 MiB, MAILPROOF_CACHE_NONE for no cache.
    pub cache_bytes: u64,
    /// Seconds for which an answer may serve past its end while no server gives a new one (RFC 8767); 0 for none.
    pub cache_stale_seconds: u64,
    /// Seconds since 1970 as of which every message is judged: for replays and tests. 0 for the clock of the system.
    pub now_seconds: u64,
    /// Is told what the engine has to say; NULL for nobody.
    pub log: mailproof_log_callback,
    /// The first argument of `log`.
    pub log_context: *mut c_void,
}

// SAFETY: the first member is the size; pointers and numbers may be zero.
unsafe impl Given for mailproof_engine_options {
    const FIRST_SIZE: usize = first_size!(mailproof_engine_options, log_context);
}

/// What the DNS cache has done, and what it holds.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct mailproof_cache_statistics {
    /// Questions it answered.
    pub hits: u64,
    /// Questions it did not.
    pub misses: u64,
    /// Answers it took in.
    pub inserts: u64,
    /// Entries that had to make room.
    pub evictions: u64,
    /// Entries it holds, those whose time is over included.
    pub entries: u64,
    /// Octets it holds, an estimate.
    pub bytes: u64,
}

// SAFETY: numbers of one size.
unsafe impl Told for mailproof_cache_statistics {
    const FIRST_SIZE: usize = first_size!(mailproof_cache_statistics, bytes);
}

/// What the DNS client of an engine has done; all zero without one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct mailproof_network_statistics {
    /// Questions that went to the servers.
    pub lookups: u64,
    /// Questions that were on their way already.
    pub joined: u64,
    /// Datagrams sent.
    pub udp_queries: u64,
    /// Queries sent over connections.
    pub tcp_queries: u64,
    /// Replies that matched no query: late, or forged. None of them was believed.
    pub unmatched: u64,
    /// Tries that a server let pass without a reply.
    pub silent_tries: u64,
    /// Questions that had no answer in the end.
    pub failures: u64,
    /// Questions that failed because too many were waiting.
    pub turned_away: u64,
    /// Answers fetched again before they expired.
    pub prefetches: u64,
}

// SAFETY: numbers of one size.
unsafe impl Told for mailproof_network_statistics {
    const FIRST_SIZE: usize = first_size!(mailproof_network_statistics, prefetches);
}

/// What came of loading a dump of the cache.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct mailproof_cache_loaded {
    /// Entries that are in the cache now.
    pub kept: u64,
    /// Entries left out because the cache knew a newer answer.
    pub known: u64,
    /// Entries whose time was over.
    pub expired: u64,
    /// Lines that are no entry.
    pub bad: u64,
    /// 1 when the dump is larger than the cache could hold, and its rest was not read.
    pub is_cut: u64,
}

// SAFETY: numbers of one size.
unsafe impl Told for mailproof_cache_loaded {
    const FIRST_SIZE: usize = first_size!(mailproof_cache_loaded, is_cut);
}

/// Fills in the defaults: the DNS of the system, RFC 9989, a cache of 64 MiB, no log. `size` is
/// sizeof(mailproof_engine_options).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_engine_options_init(
    size: usize,
    options: *mut mailproof_engine_options,
) -> mailproof_status {
    guard(Log::default(), || {
        let defaults = mailproof_engine_options {
            size,
            flags: 0,
            authserv_id: std::ptr::null(),
            dns: MAILPROOF_DNS_SYSTEM,
            policy: MAILPROOF_POLICY_9989,
            servers: std::ptr::null(),
            server_count: 0,
            zone: std::ptr::null(),
            threads: 0,
            backend: MAILPROOF_BACKEND_AUTO,
            cache_bytes: 0,
            cache_stale_seconds: 0,
            now_seconds: 0,
            log: None,
            log_context: std::ptr::null_mut(),
        };
        // SAFETY: the caller's.
        unsafe { pointers::tell(defaults, size, options) }
    })
}

// SAFETY: there is no padding between its members.
unsafe impl Told for mailproof_engine_options {
    const FIRST_SIZE: usize = first_size!(mailproof_engine_options, log_context);
}

/// Makes an engine, and starts its threads where it asks the DNS itself. It belongs to the caller: mailproof_engine_free().
/// May be called from any thread.
///
/// MAILPROOF_STATUS_BAD_OPTION, _BAD_TEXT, _BAD_SIZE, _BAD_SERVER for options that can not be; _NO_RESOLVER when the system
/// names no server; _NO_DRIVER when threads or descriptors can not be had; _UNSUPPORTED for what the build leaves out.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_engine_new(
    options: *const mailproof_engine_options,
    engine: *mut *mut mailproof_engine,
) -> mailproof_status {
    guard(Log::default(), || {
        // SAFETY: the caller's.
        let engine = unsafe { pointers::out(engine)? };
        // SAFETY: the caller's.
        let options = unsafe { pointers::given(options, "the options")? };
        // SAFETY: the caller's.
        engine.write(pointers::handle(unsafe { make(&options)? }));
        Ok(())
    })
}

/// Frees an engine; NULL is fine. Its threads end when the last session and the last queue are freed too; whichever of these
/// calls is the last waits for them: for messages of queues up to 30 seconds, for other questions that are on their way up
/// to 6. mailproof_engine_shut_down() before it bounds that. The engine must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_engine_free(engine: *mut mailproof_engine) {
    // SAFETY: the caller's.
    guard_quietly(|| unsafe { pointers::free(engine) });
}

/// Ends the threads of an engine: they finish what they have, for no longer than `within_ms` milliseconds. Waits for that.
/// From then on questions to the network fail. May be called from any thread, and again; without threads it does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_engine_shut_down(
    engine: *const mailproof_engine,
    within_ms: u64,
) -> mailproof_status {
    // SAFETY: the caller's.
    guard(unsafe { log_of(engine) }, || {
        // SAFETY: the caller's.
        let engine = unsafe { pointers::shared(engine, "the engine")? };
        #[cfg(feature = "network")]
        engine.core.engine.shut_down(Duration::from_millis(within_ms));
        #[cfg(not(feature = "network"))]
        let _ = (engine, within_ms);
        Ok(())
    })
}

/// What the threads of the engine do input and output by: "io_uring", "epoll", or "none" without threads. `reason` is why
/// it is not io_uring, or "". Both texts belong to the engine. Either out pointer may be NULL. From any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_engine_backend(
    engine: *const mailproof_engine,
    name: *mut *const c_char,
    reason: *mut *const c_char,
) -> mailproof_status {
    // SAFETY: the caller's.
    guard(unsafe { log_of(engine) }, || {
        // SAFETY: the caller's.
        let engine = unsafe { pointers::shared(engine, "the engine")? };
        for (to, text) in [(name, &engine.backend), (reason, &engine.reason)] {
            // SAFETY: the caller's.
            if let Ok(to) = unsafe { pointers::out(to) } {
                to.write(text.as_ptr());
            }
        }
        Ok(())
    })
}

/// The figures of the DNS cache. `size` is sizeof(mailproof_cache_statistics). From any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_engine_cache_statistics(
    engine: *const mailproof_engine,
    size: usize,
    statistics: *mut mailproof_cache_statistics,
) -> mailproof_status {
    // SAFETY: the caller's.
    guard(unsafe { log_of(engine) }, || {
        // SAFETY: the caller's.
        let found = unsafe { pointers::shared(engine, "the engine")? }.core.engine.cache_statistics();
        let told = mailproof_cache_statistics {
            hits: found.hits,
            misses: found.misses,
            inserts: found.inserts,
            evictions: found.evictions,
            entries: found.entries,
            bytes: found.bytes,
        };
        // SAFETY: the caller's.
        unsafe { pointers::tell(told, size, statistics) }
    })
}

/// The figures of the DNS client. `size` is sizeof(mailproof_network_statistics). From any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_engine_network_statistics(
    engine: *const mailproof_engine,
    size: usize,
    statistics: *mut mailproof_network_statistics,
) -> mailproof_status {
    // SAFETY: the caller's.
    guard(unsafe { log_of(engine) }, || {
        // SAFETY: the caller's.
        let engine = unsafe { pointers::shared(engine, "the engine")? };
        // SAFETY: the caller's.
        unsafe { pointers::tell(network_statistics(&engine.core.engine), size, statistics) }
    })
}

/// Forgets what the cache knows of one name. `count`, which may be NULL, becomes the number of answers there were. From
/// any thread; sessions under way keep the answers they have.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_engine_purge(
    engine: *const mailproof_engine,
    name: *const c_char,
    count: *mut usize,
) -> mailproof_status {
    // SAFETY: the caller's.
    guard(unsafe { log_of(engine) }, || {
        // SAFETY: the caller's.
        let engine = unsafe { pointers::shared(engine, "the engine")? };
        // SAFETY: the caller's.
        let purged = engine.core.engine.purge(&unsafe { read_name(name)? });
        // SAFETY: the caller's.
        if let Ok(count) = unsafe { pointers::out(count) } {
            count.write(purged);
        }
        Ok(())
    })
}

/// Writes the cache into a file, for mailproof_engine_load_cache() after the next start. It takes the place of one that is
/// there once it is whole, by way of the same name with `.new` behind it. Only its owner may read and write it: whoever may
/// change it decides what the engine believes for up to a day. `count`, which may be NULL, becomes the number of answers.
/// From any thread, one at a time for each path.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_engine_dump_cache(
    engine: *const mailproof_engine,
    path: *const c_char,
    count: *mut u64,
) -> mailproof_status {
    // SAFETY: the caller's.
    guard(unsafe { log_of(engine) }, || {
        // SAFETY: the caller's.
        let engine = unsafe { pointers::shared(engine, "the engine")? };
        // SAFETY: the caller's.
        let path = unsafe { pointers::path(path)? };
        let fault = |error| Failure::new(mailproof_status::File, format!("{}: {error}", path.display()));
        let written = write_in_place_of(path, |file| engine.core.engine.dump_cache(file)).map_err(fault)?;
        // SAFETY: the caller's.
        if let Ok(count) = unsafe { pointers::out(count) } {
            count.write(written);
        }
        Ok(())
    })
}

/// Writes a file beside the one that it is to replace, and gives it that name when it is whole and on the disk.
fn write_in_place_of<R>(path: &Path, write: impl FnOnce(&mut File) -> io::Result<R>) -> io::Result<R> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = Path::new(&name);
    // What an earlier run left there, and whatever a stranger may have put there.
    match fs::remove_file(new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(new)?;
    let written = write(&mut file).and_then(|it| file.sync_all().map(|()| it));
    let written = written.and_then(|it| fs::rename(new, path).map(|()| it));
    if written.is_err() {
        // The one before stays.
        let _ = fs::remove_file(new);
    }
    written
}

/// Takes in what mailproof_engine_dump_cache() wrote, without what has expired meanwhile. `loaded`, of `size` octets, may be
/// NULL. From any thread.
///
/// MAILPROOF_STATUS_FILE when the file can not be read, _BAD_DUMP when it is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_engine_load_cache(
    engine: *const mailproof_engine,
    path: *const c_char,
    size: usize,
    loaded: *mut mailproof_cache_loaded,
) -> mailproof_status {
    // SAFETY: the caller's.
    guard(unsafe { log_of(engine) }, || {
        // SAFETY: the caller's.
        let engine = unsafe { pointers::shared(engine, "the engine")? };
        // SAFETY: the caller's.
        let path = unsafe { pointers::path(path)? };
        let fault =
            |status, error: &dyn std::fmt::Display| Failure::new(status, format!("{}: {error}", path.display()));
        if !loaded.is_null() {
            pointers::has_room(size, loaded)?;
        }
        let mut file = File::open(path).map_err(|error| fault(mailproof_status::File, &error))?;
        let found = engine.core.engine.load_cache(&mut file).map_err(|error| match error {
            LoadError::Io(error) => fault(mailproof_status::File, &error),
            error => fault(mailproof_status::BadDump, &error),
        })?;
        if loaded.is_null() {
            return Ok(());
        }
        let told = mailproof_cache_loaded {
            kept: found.kept,
            known: found.known,
            expired: found.expired,
            bad: found.bad,
            is_cut: found.is_cut.into(),
        };
        // SAFETY: the caller's.
        unsafe { pointers::tell(told, size, loaded) }
    })
}

/// Way one: verifies a whole message of `length` octets, header block, empty line and body, and makes its verdict, which
/// belongs to the caller: mailproof_verdict_free(). The message is not kept. Whatever its octets are, there is a verdict.
///
/// Waits for the DNS where the cache has no answer, never longer than 30 seconds. With MAILPROOF_DNS_CALLER only the cache
/// answers, and every other question fails. From any thread, several at once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_verify(
    engine: *const mailproof_engine,
    message: *const c_void,
    length: usize,
    envelope: *const mailproof_envelope,
    verdict: *mut *mut mailproof_verdict,
) -> mailproof_status {
    // SAFETY: the caller's.
    guard(unsafe { log_of(engine) }, || {
        // SAFETY: the caller's.
        let engine = unsafe { pointers::shared(engine, "the engine")? };
        // SAFETY: the caller's.
        let message = unsafe { pointers::octets(message, length)? };
        // SAFETY: the caller's.
        let (envelope, has_lf) = unsafe { envelope::read(envelope)? };
        // SAFETY: the caller's.
        let verdict = unsafe { pointers::out(verdict)? };
        let found = if has_lf {
            engine.core.engine.verify(&envelope::with_crlf(message), envelope)
        } else {
            engine.core.engine.verify(message, envelope)
        };
        engine.core.note_trouble(&found);
        verdict.write(pointers::handle(mailproof_verdict::new(found)));
        Ok(())
    })
}

/// Verifies a whole message as mailproof_verify() does, and tells for people how the verdict came about: every question with
/// its answer, what was hashed, and why it ended so. `is_full` other than 0 shows long texts of the DNS whole. The text, of
/// many lines, belongs to the caller: mailproof_text_free(). From any thread, several at once.
///
/// MAILPROOF_STATUS_UNSUPPORTED in a build without it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_explain(
    engine: *const mailproof_engine,
    message: *const c_void,
    length: usize,
    envelope: *const mailproof_envelope,
    is_full: u32,
    text: *mut *mut c_char,
) -> mailproof_status {
    // SAFETY: the caller's.
    guard(unsafe { log_of(engine) }, || {
        // SAFETY: the caller's.
        let engine = unsafe { pointers::shared(engine, "the engine")? };
        // SAFETY: the caller's.
        let message = unsafe { pointers::octets(message, length)? };
        // SAFETY: the caller's.
        let (envelope, has_lf) = unsafe { envelope::read(envelope)? };
        // SAFETY: the caller's.
        let text = unsafe { pointers::out(text)? };
        let turned = if has_lf { envelope::with_crlf(message).into() } else { Cow::Borrowed(message) };
        text.write(c_text(&explain(&engine.core.engine, &turned, &envelope, is_full != 0)?).into_raw());
        Ok(())
    })
}

#[cfg(feature = "explain")]
fn explain(engine: &Engine, message: &[u8], envelope: &Envelope, is_full: bool) -> Outcome<String> {
    // The page is for terminals; C gets it without colours.
    let page = mailproof_explain::page(engine, message, envelope, is_full);
    Ok(anstream::adapter::strip_str(&page).to_string())
}

#[cfg(not(feature = "explain"))]
fn explain(_: &Engine, _: &[u8], _: &Envelope, _: bool) -> Outcome<String> {
    Err(Failure::unsupported("explanations"))
}

/// Whom to tell what happens with an engine; nobody where there is none.
///
/// # Safety
/// As [`pointers`] says.
pub(crate) unsafe fn log_of(engine: *const mailproof_engine) -> Log {
    // SAFETY: the caller's.
    unsafe { engine.as_ref() }.map_or_else(Log::default, |engine| engine.core.log)
}

/// Reads a domain name.
///
/// # Safety
/// As [`pointers`] says.
pub(crate) unsafe fn read_name(name: *const c_char) -> Outcome<Name> {
    // SAFETY: the caller's.
    let octets = unsafe { pointers::octets_to_nul(name) }.ok_or_else(|| Failure::null("the name"))?;
    Name::parse(octets).map_err(|error| Failure::new(mailproof_status::BadName, error.to_string()))
}

impl Core {
    /// Tells once that the DNS was silent, when a verdict shows that something was.
    pub(crate) fn note_trouble(&self, verdict: &Verdict) {
        let is_temporary = verdict.dmarc.result == DmarcResult::TempError || verdict.spf.result == SpfResult::TempError;
        if !is_temporary || self.has_told_trouble.load(Ordering::Relaxed) {
            return;
        }
        if let Some(trouble) = self.engine.resolver_trouble()
            && !self.has_told_trouble.swap(true, Ordering::Relaxed)
        {
            self.log.write(Level::Warning, &trouble.to_string());
        }
    }
}

/// Makes an engine of options.
///
/// # Safety
/// As [`pointers`] says.
unsafe fn make(given: &mailproof_engine_options) -> Outcome<mailproof_engine> {
    let log = Log::new(given.log, given.log_context);
    // SAFETY: the caller's.
    let authserv_id = unsafe { pointers::own_text(given.authserv_id)? }.unwrap_or_default();
    let cache = CacheOptions {
        bytes_max: match given.cache_bytes {
            0 => CacheOptions::default().bytes_max,
            MAILPROOF_CACHE_NONE => 0,
            bytes => bytes,
        },
        stale_max: std::time::Duration::from_secs(given.cache_stale_seconds),
        ..CacheOptions::default()
    };
    let mut builder = Engine::builder().options(options(given, authserv_id)?).cache(cache);
    if given.now_seconds != 0 {
        builder = builder.fixed_time(Timestamp::from_seconds(given.now_seconds));
    }
    // SAFETY: the caller's.
    let engine = unsafe { with_dns(builder, given)? }.build().map_err(|error| resolver_failure(&error))?;
    let (backend, reason) = backend(&engine);
    match reason.as_str() {
        "" => log.write(Level::Info, &format!("engine started; input and output: {backend}")),
        reason => log.write(Level::Warning, &format!("engine started; input and output: {backend}, because {reason}")),
    }
    let dns = match given.dns {
        MAILPROOF_DNS_CALLER => Dns::Caller,
        MAILPROOF_DNS_ZONE => Dns::Zone,
        _ => Dns::Network,
    };
    let core = Core { engine, log, dns, has_told_trouble: AtomicBool::new(false) };
    Ok(mailproof_engine { core: Arc::new(core), backend: c_text(backend), reason: c_text(&reason) })
}

fn options(given: &mailproof_engine_options, authserv_id: &str) -> Outcome<Options> {
    const KNOWN: u64 = MAILPROOF_DEFER_ON_TEMPERROR
        | MAILPROOF_HONOUR_LENGTH
        | MAILPROOF_STRICTEST_OF_SEVERAL
        | MAILPROOF_MECHANISM_ERRORS_FAIL
        | MAILPROOF_NO_EXPLANATION
        | MAILPROOF_TRUST_AD;
    let bad = |what: String| Failure::new(mailproof_status::BadOption, what);
    if given.flags & !KNOWN != 0 {
        return Err(bad(format!("flags {:#x} of an engine", given.flags)));
    }
    let has = |flag| given.flags & flag != 0;
    let mut options = Options { authserv_id: authserv_id.to_owned(), ..Options::default() };
    match given.policy {
        0 | MAILPROOF_POLICY_9989 => {}
        MAILPROOF_POLICY_7489 => {
            options.dmarc.discovery = Discovery::PublicSuffixList;
            options.policy.reject = RejectPolicy::Literal;
        }
        policy => return Err(bad(format!("policy {policy}"))),
    }
    options.policy.defer_on_temperror = has(MAILPROOF_DEFER_ON_TEMPERROR);
    options.dkim.honour_length = has(MAILPROOF_HONOUR_LENGTH);
    options.dmarc.strictest_of_several = has(MAILPROOF_STRICTEST_OF_SEVERAL);
    options.dmarc.mechanism_errors_fail = has(MAILPROOF_MECHANISM_ERRORS_FAIL);
    options.spf.fetch_explanation = !has(MAILPROOF_NO_EXPLANATION);
    Ok(options)
}

/// Where the answers come from.
///
/// # Safety
/// As [`pointers`] says.
unsafe fn with_dns(builder: EngineBuilder, given: &mailproof_engine_options) -> Outcome<EngineBuilder> {
    let is_odd = |what: &'static str| Err(Failure::new(mailproof_status::BadOption, what));
    if given.server_count > 0 && given.dns != MAILPROOF_DNS_SERVERS {
        return is_odd("servers are named, and dns is not MAILPROOF_DNS_SERVERS");
    }
    if !given.zone.is_null() && given.dns != MAILPROOF_DNS_ZONE {
        return is_odd("there is a zone, and dns is not MAILPROOF_DNS_ZONE");
    }
    match given.dns {
        MAILPROOF_DNS_CALLER => Ok(builder.offline()),
        MAILPROOF_DNS_ZONE => {
            // SAFETY: the caller's.
            let zone = unsafe { pointers::shared(given.zone, "the zone")? };
            #[cfg(feature = "zone-files")]
            return Ok(builder.zone(zone.zone.clone()));
            #[cfg(not(feature = "zone-files"))]
            return Err({
                let _ = zone;
                Failure::unsupported("zone files")
            });
        }
        #[cfg(feature = "network")]
        MAILPROOF_DNS_SYSTEM | MAILPROOF_DNS_SERVERS => {
            // SAFETY: the caller's.
            Ok(builder.network(unsafe { network(given)? }))
        }
        #[cfg(not(feature = "network"))]
        MAILPROOF_DNS_SYSTEM | MAILPROOF_DNS_SERVERS => Err(Failure::unsupported("a DNS client")),
        dns => Err(Failure::new(mailproof_status::BadOption, format!("DNS of kind {dns}"))),
    }
}

/// Which servers are asked, and how.
///
/// # Safety
/// As [`pointers`] says.
#[cfg(feature = "network")]
unsafe fn network(given: &mailproof_engine_options) -> Outcome<NetworkOptions> {
    let mut options = if given.dns == MAILPROOF_DNS_SYSTEM {
        NetworkOptions::from_system().map_err(|error| resolver_failure(&error))?
    } else {
        // SAFETY: the caller's.
        let texts = unsafe { pointers::list(given.servers, given.server_count)? };
        // SAFETY: the caller's.
        let texts =
            texts.iter().map(|&text| unsafe { pointers::own_text(text) }?.ok_or_else(|| Failure::null("a server")));
        let texts: Vec<&str> = texts.collect::<Outcome<_>>()?;
        NetworkOptions::from_texts(&texts).map_err(|error| resolver_failure(&error))?
    };
    if given.flags & MAILPROOF_TRUST_AD != 0 {
        if given.dns == MAILPROOF_DNS_SYSTEM {
            let text = "MAILPROOF_TRUST_AD is for servers that are named";
            return Err(Failure::new(mailproof_status::BadOption, text));
        }
        options.lookup.trusts_ad = true;
    }
    if given.threads > THREADS_MAX {
        return Err(Failure::new(mailproof_status::BadOption, format!("{} threads", given.threads)));
    }
    options.threads = given.threads as usize;
    options.backend = match given.backend {
        MAILPROOF_BACKEND_AUTO => Choice::Auto,
        MAILPROOF_BACKEND_URING => Choice::Uring,
        MAILPROOF_BACKEND_EPOLL => Choice::Epoll,
        backend => return Err(Failure::new(mailproof_status::BadOption, format!("backend {backend}"))),
    };
    let threads = if options.threads == 0 { processors() } else { options.threads };
    options.ports = options.ports.min(ports_max(threads * options.servers.len()));
    Ok(options)
}

#[cfg(feature = "network")]
fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Ports of each of so many pairs of a thread and a server, so that the program keeps most of its descriptors.
#[cfg(feature = "network")]
fn ports_max(pair_count: usize) -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let ours = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX)) / 4;
    (ours / pair_count.max(1)).max(1)
}

fn resolver_failure(error: &ResolverError) -> Failure {
    let status = match error {
        ResolverError::BadServer { .. } => mailproof_status::BadServer,
        #[cfg(feature = "network")]
        ResolverError::Driver(_) => mailproof_status::NoDriver,
        #[cfg(feature = "network")]
        ResolverError::NoTls { .. } => mailproof_status::Unsupported,
        _ => mailproof_status::NoResolver,
    };
    Failure::new(status, error.to_string())
}

/// The name of what does input and output, and why it is not another.
fn backend(engine: &Engine) -> (&'static str, String) {
    #[cfg(feature = "network")]
    match engine.backend() {
        Some(Backend::Uring) => return ("io_uring", String::new()),
        Some(Backend::EpollInstead { reason }) => return ("epoll", reason),
        Some(_) => return ("epoll", String::new()),
        None => {}
    }
    let _ = engine;
    ("none", String::new())
}

#[cfg(feature = "network")]
fn network_statistics(engine: &Engine) -> mailproof_network_statistics {
    let found = engine.network_statistics();
    mailproof_network_statistics {
        lookups: found.lookups,
        joined: found.joined,
        udp_queries: found.udp_queries,
        tcp_queries: found.tcp_queries,
        unmatched: found.unmatched,
        silent_tries: found.silent_tries,
        failures: found.failures,
        turned_away: found.turned_away,
        prefetches: found.prefetches,
    }
}

#[cfg(not(feature = "network"))]
fn network_statistics(_: &Engine) -> mailproof_network_statistics {
    mailproof_network_statistics::default()
}
