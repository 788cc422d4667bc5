//! Ways two and four: a message that arrives piece by piece, with the DNS of the engine or of the caller.

use std::ffi::c_void;
use std::sync::Arc;

use mailproof::proto::spf::SpfOutcome;
use mailproof::{Progress, Session};

use crate::answer::Asked;
use crate::engine::{Core, Dns, log_of, mailproof_engine};
use crate::envelope::{self, LineEnds, mailproof_envelope};
use crate::log::Log;
use crate::pointers;
use crate::status::{Failure, Outcome, guard, guard_quietly, mailproof_status};
use crate::verdict::{EarlyOutcome, mailproof_spf, mailproof_spf_result, mailproof_verdict, spf_result};

/// A message that arrives piece by piece. It holds the header block and hash states, whatever the size of the body.
///
/// One thread at a time may use a session; any number of sessions may be under way, on one thread or on many, and a session
/// may move from thread to thread. The order of calls: mailproof_session_new() or _restart(); then either _push() with the
/// octets of the message cut anywhere, or _field() for each header field, _end_of_fields(), and _push() for the body; then
/// _end() or _finish(). With MAILPROOF_DNS_CALLER, _poll(), _next_question() and _answer() go between and after these.
#[derive(Debug)]
pub struct mailproof_session {
    core: Arc<Core>,
    session: Session,
    stage: Stage,
    /// The message comes with the line ends of Unix.
    has_lf: bool,
    line_ends: LineEnds,
    pub(crate) asked: Asked,
    /// What was told of SPF last.
    told: Option<EarlyOutcome>,
    /// A call ended in the middle of its work, or is under way.
    is_broken: bool,
}

/// How far a session is.
#[repr(u32)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum mailproof_progress {
    /// More octets of the message, or its end, are needed.
    NeedsMessage = 0,
    /// Answers are needed: the message has ended, and questions are open.
    NeedsAnswers = 1,
    /// The verdict stands: mailproof_session_finish() gives it without waiting.
    Done = 2,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// Nothing of the message has come.
    Start,
    /// The message comes as octets.
    Octets,
    /// Its header comes field by field.
    Fields,
    /// The header has come field by field, and the body comes.
    Body,
    Ended,
    /// The verdict was handed out.
    Finished,
}

/// Ways two and four: starts on a message, and on the questions of SPF. The session belongs to the caller:
/// mailproof_session_free(). From any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_session_new(
    engine: *const mailproof_engine,
    envelope: *const mailproof_envelope,
    session: *mut *mut mailproof_session,
) -> mailproof_status {
    // SAFETY: the caller's.
    guard(unsafe { log_of(engine) }, || {
        // SAFETY: the caller's.
        let core = &unsafe { pointers::shared(engine, "the engine")? }.core;
        // SAFETY: the caller's.
        let (envelope, has_lf) = unsafe { envelope::read(envelope)? };
        // SAFETY: the caller's.
        let session = unsafe { pointers::out(session)? };
        session.write(pointers::handle(mailproof_session {
            core: Arc::clone(core),
            session: core.engine.session(envelope),
            stage: Stage::Start,
            has_lf,
            line_ends: LineEnds::default(),
            asked: Asked::default(),
            told: None,
            is_broken: false,
        }));
        Ok(())
    })
}

/// Forgets the message, at whatever stage it is, and starts on the next one with the memory of this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_session_restart(
    session: *mut mailproof_session,
    envelope: *const mailproof_envelope,
) -> mailproof_status {
    // SAFETY: the caller's.
    guard(unsafe { log_of_session(session) }, || {
        // SAFETY: the caller's.
        let session = unsafe { pointers::exclusive(session, "the session")? };
        // SAFETY: the caller's.
        let (envelope, has_lf) = unsafe { envelope::read(envelope)? };
        if std::mem::replace(&mut session.is_broken, true) {
            session.session = session.core.engine.session(envelope);
        } else {
            session.session.restart(envelope);
        }
        session.stage = Stage::Start;
        session.has_lf = has_lf;
        session.line_ends.restart();
        session.asked.restart();
        session.is_broken = false;
        Ok(())
    })
}

/// Takes one whole header field, `Name: value` with its folding, with or without the line end behind it. The octets are not
/// kept by reference. MAILPROOF_STATUS_WRONG_STATE after mailproof_session_push() or _end_of_fields().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_session_field(
    session: *mut mailproof_session,
    field: *const c_void,
    length: usize,
) -> mailproof_status {
    // SAFETY: the caller's.
    unsafe {
        inside(session, |it| {
            // SAFETY: the caller's.
            let field = pointers::octets(field, length)?;
            let field = field.strip_suffix(b"\n").unwrap_or(field);
            let field = field.strip_suffix(b"\r").unwrap_or(field);
            if field.is_empty() {
                return Err(Failure::new(mailproof_status::BadText, "a header field without octets"));
            }
            it.advance(&[Stage::Start, Stage::Fields], Stage::Fields)?;
            it.take(field);
            it.take(b"\r\n");
            Ok(())
        })
    }
}

/// The header is complete: the body comes next, with mailproof_session_push(). Only after mailproof_session_field(), or as
/// the first call for a message without header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_session_end_of_fields(session: *mut mailproof_session) -> mailproof_status {
    // SAFETY: the caller's.
    unsafe {
        inside(session, |it| {
            it.advance(&[Stage::Start, Stage::Fields], Stage::Body)?;
            it.take(b"\r\n");
            Ok(())
        })
    }
}

/// Takes the next octets of the message, cut anywhere: header block, empty line and body; or of the body, after
/// mailproof_session_end_of_fields(). The octets are not kept by reference. Never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_session_push(
    session: *mut mailproof_session,
    octets: *const c_void,
    length: usize,
) -> mailproof_status {
    // SAFETY: the caller's.
    unsafe {
        inside(session, |it| {
            // SAFETY: the caller's.
            let octets = pointers::octets(octets, length)?;
            let next = if it.stage == Stage::Body { Stage::Body } else { Stage::Octets };
            it.advance(&[Stage::Start, Stage::Octets, Stage::Body], next)?;
            it.take(octets);
            Ok(())
        })
    }
}

/// The message is complete. Never waits. mailproof_session_finish() does it too; with MAILPROOF_DNS_CALLER it goes before
/// the questions that are left.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_session_end(session: *mut mailproof_session) -> mailproof_status {
    // SAFETY: the caller's.
    unsafe {
        inside(session, |it| {
            it.advance(&[Stage::Start, Stage::Octets, Stage::Fields, Stage::Body], Stage::Ended)?;
            it.session.end();
            Ok(())
        })
    }
}

/// Goes on as far as the message and the answers at hand allow; never waits. `wait_ms`, which may be NULL, becomes the
/// milliseconds after which to poll again at the latest when answers are needed: what is open then counts as failed (RFC
/// 7208 section 4.6.4 for SPF, 30 seconds for the whole message). It is 0 otherwise.
///
/// For engines with MAILPROOF_DNS_CALLER or _ZONE; MAILPROOF_STATUS_WRONG_STATE with others, whose threads have the answers,
/// and after mailproof_session_finish().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_session_poll(
    session: *mut mailproof_session,
    progress: *mut mailproof_progress,
    wait_ms: *mut u64,
) -> mailproof_status {
    // SAFETY: the caller's.
    unsafe {
        inside(session, |it| {
            if it.core.dns == Dns::Network {
                return Err(Failure::new(mailproof_status::WrongState, "the engine asks the DNS itself"));
            }
            it.unfinished()?;
            // SAFETY: the caller's.
            let progress = pointers::out(progress)?;
            let (found, wait) = match it.session.poll() {
                Progress::NeedsMessage => (mailproof_progress::NeedsMessage, 0),
                Progress::Done => (mailproof_progress::Done, 0),
                Progress::NeedsAnswers { deadline } => {
                    let left = deadline.milliseconds().saturating_sub(it.core.engine.now().milliseconds());
                    (mailproof_progress::NeedsAnswers, left)
                }
            };
            progress.write(found);
            // SAFETY: the caller's.
            if let Ok(wait_ms) = pointers::out(wait_ms) {
                wait_ms.write(wait);
            }
            Ok(())
        })
    }
}

/// Counts every open question as failed: nobody is going to answer it. Poll next.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_session_give_up(session: *mut mailproof_session) -> mailproof_status {
    // SAFETY: the caller's.
    unsafe {
        inside(session, |it| {
            it.unfinished()?;
            it.session.fail_open();
            Ok(())
        })
    }
}

/// Ends the message if that has not been done, and makes its verdict, which belongs to the caller: mailproof_verdict_free().
/// Waits for the engine's DNS where answers are on their way, never longer than 30 seconds; with MAILPROOF_DNS_CALLER it
/// never waits, and what is open counts as failed. Where a thread serves many messages and the DNS is the engine's,
/// mailproof_queue_finish() does not wait.
///
/// Once a message; afterwards the session can be restarted or freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_session_finish(
    session: *mut mailproof_session,
    verdict: *mut *mut mailproof_verdict,
) -> mailproof_status {
    // SAFETY: the caller's.
    unsafe {
        inside(session, |it| {
            it.unfinished()?;
            // SAFETY: the caller's.
            let verdict = pointers::out(verdict)?;
            it.session.finish();
            // A session that has finished has its verdict.
            let found =
                it.session.take_verdict().ok_or_else(|| Failure::new(mailproof_status::Defect, "no verdict"))?;
            it.stage = Stage::Finished;
            it.core.note_trouble(&found);
            verdict.write(pointers::handle(mailproof_verdict::new(found)));
            Ok(())
        })
    }
}

/// SPF of MAIL FROM as soon as it is known, which may be before the first octet of the message: what a server needs that
/// wants to refuse at MAIL FROM. Never waits; MAILPROOF_STATUS_EMPTY while it is not known.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_session_spf(
    session: *mut mailproof_session,
    result: *mut mailproof_spf_result,
) -> mailproof_status {
    // SAFETY: the caller's.
    unsafe {
        inside(session, |it| {
            it.unfinished()?;
            // SAFETY: the caller's.
            let result = pointers::out(result)?;
            it.take_in();
            let found = it.session.spf().ok_or_else(not_known)?;
            result.write(spf_result(found.result));
            Ok(())
        })
    }
}

/// SPF of MAIL FROM with all that there is to say about it, as soon as it is known, as mailproof_session_spf() has it: the
/// reply to a refused MAIL FROM quotes the explanation of the domain (RFC 7208 section 6.2). `size` is sizeof(mailproof_spf).
/// The texts belong to the session and are good until the next call of this function or of mailproof_session_helo(), or until
/// the session is freed. Never waits; MAILPROOF_STATUS_EMPTY while it is not known.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_session_mail_from(
    session: *mut mailproof_session,
    size: usize,
    spf: *mut mailproof_spf,
) -> mailproof_status {
    // SAFETY: the caller's.
    unsafe { tell_outcome(session, size, spf, Session::spf) }
}

/// SPF of the HELO name, as mailproof_session_mail_from() has that of MAIL FROM (RFC 7208 section 2.3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_session_helo(
    session: *mut mailproof_session,
    size: usize,
    spf: *mut mailproof_spf,
) -> mailproof_status {
    // SAFETY: the caller's.
    unsafe { tell_outcome(session, size, spf, Session::helo) }
}

/// Tells one result of SPF.
///
/// # Safety
/// As [`pointers`] says.
unsafe fn tell_outcome(
    session: *mut mailproof_session,
    size: usize,
    spf: *mut mailproof_spf,
    of: fn(&Session) -> Option<&SpfOutcome>,
) -> mailproof_status {
    // SAFETY: the caller's.
    unsafe {
        inside(session, |it| {
            it.unfinished()?;
            pointers::has_room(size, spf)?;
            it.take_in();
            let told = EarlyOutcome::of(of(&it.session).ok_or_else(not_known)?);
            let told = it.told.insert(told);
            // SAFETY: the caller's.
            pointers::tell(told.told(), size, spf)
        })
    }
}

fn not_known() -> Failure {
    Failure::new(mailproof_status::Empty, "SPF is not known yet")
}

/// Whether the body is of use: false once the header has shown that no result depends on it, so that it need not be passed
/// in. Defects of its octets are not counted then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_session_wants_body(
    session: *const mailproof_session,
    wants: *mut bool,
) -> mailproof_status {
    // SAFETY: the caller's.
    guard(unsafe { log_of_session(session) }, || {
        // SAFETY: the caller's.
        let session = unsafe { pointers::shared(session, "the session")? };
        if session.is_broken {
            return Err(broken());
        }
        // SAFETY: the caller's.
        unsafe { pointers::out(wants)? }.write(session.session.wants_body());
        Ok(())
    })
}

/// Frees a session at whatever stage it is; NULL is fine. Answers that are on their way go into the cache.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_session_free(session: *mut mailproof_session) {
    // SAFETY: the caller's.
    guard_quietly(|| unsafe { pointers::free(session) });
}

impl mailproof_session {
    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    pub(crate) fn session_mut(&mut self) -> &mut Session {
        &mut self.session
    }

    /// Takes in what has arrived, without waiting.
    fn take_in(&mut self) {
        // With the engine's own DNS, which asks what follows from it, after the end of the message too.
        self.session.push(&[]);
        self.session.poll();
    }

    /// The message goes its own way from here, and is finished as far as this session is concerned.
    #[cfg(feature = "network")]
    pub(crate) fn hand_over(&mut self) -> Session {
        self.stage = Stage::Finished;
        std::mem::replace(&mut self.session, self.core.engine.session(mailproof::Envelope::default()))
    }

    /// The verdict has not been handed out.
    pub(crate) fn unfinished(&self) -> Outcome {
        if self.stage == Stage::Finished {
            return Err(Failure::new(mailproof_status::WrongState, "the message has its verdict"));
        }
        Ok(())
    }

    /// Goes to the next stage if it may follow this one.
    fn advance(&mut self, from: &[Stage], to: Stage) -> Outcome {
        if !from.contains(&self.stage) {
            return Err(Failure::new(mailproof_status::WrongState, format!("{to:?} does not follow {:?}", self.stage)));
        }
        self.stage = to;
        Ok(())
    }

    fn take(&mut self, octets: &[u8]) {
        if self.has_lf {
            self.line_ends.turn(octets, |octets| self.session.push(octets));
        } else {
            self.session.push(octets);
        }
    }
}

/// Works on a session; one that a panic left in the middle of something is not worked on any more.
///
/// # Safety
/// As [`pointers`] says.
pub(crate) unsafe fn inside(
    session: *mut mailproof_session,
    work: impl FnOnce(&mut mailproof_session) -> Outcome,
) -> mailproof_status {
    // SAFETY: the caller's.
    guard(unsafe { log_of_session(session) }, || {
        // SAFETY: the caller's.
        let session = unsafe { pointers::exclusive(session, "the session")? };
        if std::mem::replace(&mut session.is_broken, true) {
            return Err(broken());
        }
        let done = work(session);
        session.is_broken = false;
        done
    })
}

fn broken() -> Failure {
    Failure::new(mailproof_status::Defect, "the session broke in a call before")
}

/// Whom to tell what happens with a session.
///
/// # Safety
/// As [`pointers`] says.
unsafe fn log_of_session(session: *const mailproof_session) -> Log {
    // SAFETY: the caller's.
    unsafe { session.as_ref() }.map_or_else(Log::default, |session| session.core.log)
}
