//! The verdict, and every field of it.
//!
//! Texts for C are made when one is first asked for, all of a verdict in one piece of memory; a caller that reads numbers
//! only does not pay for them.

mod texts;

use std::ffi::{CString, c_char, c_void};
use std::sync::OnceLock;

use mailproof::proto::arc::ArcResult;
use mailproof::proto::authres::{AuthservId, Layout, forged};
use mailproof::proto::dkim::DkimResult;
use mailproof::proto::dmarc::{Alignment, Discovery, Disposition, DmarcResult, PolicyTag};
use mailproof::proto::message::HeaderIndex;
use mailproof::proto::message::address::Author;
use mailproof::proto::spf::{SpfOutcome, SpfResult};
use mailproof::{Action, Verdict};

use self::texts::{OutcomeTexts, Room, Texts};
use crate::envelope;
use crate::log::Log;
use crate::pointers::{self, Told, first_size};
use crate::status::{Failure, Outcome, c_text, guard, guard_quietly, mailproof_status};

/// The verdict on one message. It never changes, so any number of threads may read it at once. It belongs to the caller,
/// depends on nothing that it came from, and is freed with mailproof_verdict_free(). Every text read out of it is UTF-8,
/// ends with NUL, belongs to the verdict and is good until that is freed; a NUL that someone wrote into a message stands
/// there as U+FFFD. Much of the text was written by strangers.
#[derive(Debug)]
pub struct mailproof_verdict {
    verdict: Verdict,
    results: OnceLock<CString>,
    texts: OnceLock<Texts>,
}

/// What the configured policy would do with the message.
#[repr(u32)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum mailproof_action {
    /// Deliver it.
    Accept = 0,
    /// Deliver it as suspicious.
    Quarantine = 1,
    /// Refuse it for good.
    Reject = 2,
    /// Refuse it for now.
    Defer = 3,
}

/// The results of SPF (RFC 7208 section 2.6).
#[repr(u32)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum mailproof_spf_result {
    /// No record, or nothing to look one up for.
    None = 0,
    /// The owner asserts nothing.
    Neutral = 1,
    /// The client is authorised.
    Pass = 2,
    /// The client is not authorised.
    Fail = 3,
    /// The client is probably not authorised.
    SoftFail = 4,
    /// A DNS error that may pass.
    TempError = 5,
    /// A record that can not be interpreted.
    PermError = 6,
}

/// The results of DKIM (RFC 8601 section 2.7.1).
#[repr(u32)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum mailproof_dkim_result {
    /// Not signed.
    None = 0,
    /// Verified.
    Pass = 1,
    /// The body hash or the signature does not match.
    Fail = 2,
    /// Verified, but not acceptable here.
    Policy = 3,
    /// Signed, but the signature could not be read.
    Neutral = 4,
    /// The key could not be fetched for now.
    TempError = 5,
    /// The signature can never verify.
    PermError = 6,
}

/// The results of ARC (RFC 8617 section 4.4).
#[repr(u32)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum mailproof_arc_result {
    /// No chain.
    None = 0,
    /// The chain validates.
    Pass = 1,
    /// It does not; it then counts as absent.
    Fail = 2,
}

/// The results of DMARC (RFC 9989 section 9.2).
#[repr(u32)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum mailproof_dmarc_result {
    /// No policy applies.
    None = 0,
    /// An aligned mechanism passed.
    Pass = 1,
    /// None did.
    Fail = 2,
    /// A DNS error that may pass stood in the way.
    TempError = 3,
    /// A record or From field that can not be used.
    PermError = 4,
}

/// The handling that a domain owner asks for (RFC 9989 section 4.7).
#[repr(u32)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum mailproof_policy {
    /// There is no policy.
    Absent = 0,
    /// No handling beyond reporting.
    None = 1,
    /// Treat as suspicious.
    Quarantine = 2,
    /// Refuse.
    Reject = 3,
}

/// The tag of a DMARC record that gave the policy (RFC 9989 section 4.7).
#[repr(u32)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum mailproof_policy_tag {
    /// There is no policy.
    Absent = 0,
    /// `p`
    P = 1,
    /// `sp`
    Sp = 2,
    /// `np`
    Np = 3,
}

/// How the Organizational Domain is found.
#[repr(u32)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum mailproof_discovery {
    /// RFC 9989 section 4.10.
    TreeWalk = 0,
    /// RFC 7489 section 3.2.
    PublicSuffixList = 1,
}

/// How an identifier aligned (RFC 9989 section 4.4).
#[repr(u32)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum mailproof_alignment {
    /// It did not, or did not pass.
    Absent = 0,
    /// Same Organizational Domain.
    Relaxed = 1,
    /// Same domain.
    Strict = 2,
}

/// Whom the message says it is from (RFC 9989 section 5.3.1).
#[repr(u32)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum mailproof_author_kind {
    /// One domain.
    One = 0,
    /// More than one domain.
    Several = 1,
    /// No domain that every reader of the message would see.
    Unusable = 2,
}

/// The client as it was judged.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct mailproof_client {
    /// Its address as text; NULL when none was given.
    pub ip: *const c_char,
    /// 1 when MAIL FROM was the null reverse-path, so that SPF is of the HELO name (RFC 7208 section 2.4).
    pub null_reverse_path: u64,
}

/// SPF of one identity (RFC 7208).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct mailproof_spf {
    /// The result.
    pub result: mailproof_spf_result,
    /// Terms that caused queries (section 4.6.4).
    pub lookup_count: u32,
    /// Void lookups (section 4.6.4).
    pub void_lookup_count: u32,
    /// Zero.
    pub reserved: u32,
    /// The word of the result (RFC 8601 section 2.7.2).
    pub word: *const c_char,
    /// The domain that was checked; NULL when it was none.
    pub domain: *const c_char,
    /// Why, for an error or none: a stable word; NULL when there is nothing to say.
    pub problem: *const c_char,
    /// The same for people.
    pub problem_text: *const c_char,
    /// What the owner of the domain says about a fail (section 6.2); NULL without. Written by strangers.
    pub explanation: *const c_char,
    /// The term that decided; NULL when none matched.
    pub mechanism: *const c_char,
}

/// One DKIM signature (RFC 6376).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct mailproof_dkim {
    /// The result.
    pub result: mailproof_dkim_result,
    /// Bits of the public key that was used; 0 when none was.
    pub key_bits: u32,
    /// 1 when the key says `t=y` (section 3.6.1).
    pub testing: u32,
    /// 1 when the key verifies the signature over this header, whatever else is wrong.
    pub header_holds: u32,
    /// The word of the result (RFC 8601 section 2.7.1).
    pub word: *const c_char,
    /// Why, when it is not a plain pass: a stable word; NULL when there is nothing to say.
    pub problem: *const c_char,
    /// The same for people.
    pub problem_text: *const c_char,
    /// `d=`; NULL when it could not be read. So are the next three.
    pub domain: *const c_char,
    /// `s=` as written.
    pub selector: *const c_char,
    /// `i=` as written, or `@` and the domain.
    pub identity: *const c_char,
    /// `a=` as written.
    pub algorithm: *const c_char,
    /// The first characters of `b=` (RFC 6008); NULL when it could not be read.
    pub b: *const c_char,
    /// `t=`, seconds since 1970; -1 without.
    pub signed_at: i64,
    /// `x=`, seconds since 1970; -1 without.
    pub expires_at: i64,
    /// Octets of the canonical body that the signature covers.
    pub body_covered: u64,
    /// Octets of the canonical body.
    pub body_total: u64,
}

/// The ARC chain (RFC 8617).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct mailproof_arc {
    /// The result.
    pub result: mailproof_arc_result,
    /// Sets found.
    pub instances: u32,
    /// `header.oldest-pass` (section 5.2): 0 when every message signature verifies; -1 when it was not found out.
    pub oldest_pass: i32,
    /// Seals that mailproof_verdict_arc_sealer() gives out.
    pub sealer_count: u32,
    /// The word of the result.
    pub word: *const c_char,
    /// Why the chain failed: a stable word; NULL when it did not.
    pub problem: *const c_char,
    /// The same for people.
    pub problem_text: *const c_char,
}

/// Who made one seal of an ARC chain.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct mailproof_arc_sealer {
    /// `d=`
    pub domain: *const c_char,
    /// `s=`
    pub selector: *const c_char,
}

/// DMARC (RFC 9989).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct mailproof_dmarc {
    /// The result.
    pub result: mailproof_dmarc_result,
    /// The policy that applies to a failing message: after sp, np and t.
    pub policy: mailproof_policy,
    /// The tag it came from.
    pub applies: mailproof_policy_tag,
    /// What the policy asks for this message: none unless the result is fail.
    pub disposition: mailproof_policy,
    /// How the Organizational Domain was found.
    pub discovery: mailproof_discovery,
    /// How SPF aligned, when it did with a pass.
    pub spf_aligned: mailproof_alignment,
    /// How DKIM aligned, when it did with a pass.
    pub dkim_aligned: mailproof_alignment,
    /// 1 for `t=y`.
    pub testing: u32,
    /// The word of the result.
    pub word: *const c_char,
    /// The Author Domain; NULL when there is no single one.
    pub from_domain: *const c_char,
    /// Its Organizational Domain; NULL when it was not needed.
    pub organizational_domain: *const c_char,
    /// Where the record that applies was found; NULL when none was.
    pub policy_domain: *const c_char,
    /// Why there is no pass or fail: a stable word; NULL when there is.
    pub problem: *const c_char,
    /// The same for people.
    pub problem_text: *const c_char,
}

/// Whom the message says it is from.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct mailproof_author {
    /// How many there are.
    pub kind: mailproof_author_kind,
    /// Domains that mailproof_verdict_author_domain() gives out.
    pub domain_count: u32,
    /// Why there is none: a stable word; NULL when there is one.
    pub problem: *const c_char,
    /// The same for people.
    pub problem_text: *const c_char,
}

/// What is wrong with the octets of the message, counted.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct mailproof_defects {
    /// CR not followed by LF.
    pub bare_cr: u32,
    /// LF not preceded by CR.
    pub bare_lf: u32,
    /// NUL octets.
    pub nul: u32,
    /// Lines of the header block that are neither a field nor the continuation of one.
    pub garbage_lines: u32,
    /// Instances beyond the first of fields that may stand once (RFC 5322 section 3.6).
    pub repeated_singletons: u32,
    /// Fields longer than what is read.
    pub oversize_fields: u32,
    /// 1 when the header block has more octets or fields than are looked at.
    pub header_over_limit: u32,
    /// Zero.
    pub reserved: u32,
}

// SAFETY: its members fill it.
unsafe impl Told for mailproof_client {
    const FIRST_SIZE: usize = first_size!(mailproof_client, null_reverse_path);
}
// SAFETY: its members fill it.
unsafe impl Told for mailproof_spf {
    const FIRST_SIZE: usize = first_size!(mailproof_spf, mechanism);
}
// SAFETY: its members fill it.
unsafe impl Told for mailproof_dkim {
    const FIRST_SIZE: usize = first_size!(mailproof_dkim, body_total);
}
// SAFETY: its members fill it.
unsafe impl Told for mailproof_arc {
    const FIRST_SIZE: usize = first_size!(mailproof_arc, problem_text);
}
// SAFETY: its members fill it.
unsafe impl Told for mailproof_arc_sealer {
    const FIRST_SIZE: usize = first_size!(mailproof_arc_sealer, selector);
}
// SAFETY: its members fill it.
unsafe impl Told for mailproof_dmarc {
    const FIRST_SIZE: usize = first_size!(mailproof_dmarc, problem_text);
}
// SAFETY: its members fill it.
unsafe impl Told for mailproof_author {
    const FIRST_SIZE: usize = first_size!(mailproof_author, problem_text);
}
// SAFETY: its members fill it.
unsafe impl Told for mailproof_defects {
    const FIRST_SIZE: usize = first_size!(mailproof_defects, reserved);
}

/// What the configured policy would do with the message.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_verdict_action(
    verdict: *const mailproof_verdict,
    action: *mut mailproof_action,
) -> mailproof_status {
    guard(Log::default(), || {
        // SAFETY: the caller's.
        let verdict = unsafe { pointers::shared(verdict, "the verdict")? };
        // SAFETY: the caller's.
        unsafe { pointers::out(action)? }.write(match verdict.verdict.action {
            Action::Accept => mailproof_action::Accept,
            Action::Quarantine => mailproof_action::Quarantine,
            Action::Reject => mailproof_action::Reject,
            Action::Defer => mailproof_action::Defer,
        });
        Ok(())
    })
}

/// The value of the Authentication-Results field to add (RFC 8601), on one line, without the name of the field.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_verdict_authentication_results(
    verdict: *const mailproof_verdict,
    text: *mut *const c_char,
) -> mailproof_status {
    guard(Log::default(), || {
        // SAFETY: the caller's.
        let verdict = unsafe { pointers::shared(verdict, "the verdict")? };
        // SAFETY: the caller's.
        let text = unsafe { pointers::out(text)? };
        text.write(verdict.results.get_or_init(|| c_text(&verdict.verdict.authentication_results)).as_ptr());
        Ok(())
    })
}

/// In `layout`: on one line.
pub const MAILPROOF_LAYOUT_LINE: u32 = 0;
/// In `layout`: a new line, CRLF and a tab, before each result, as short lines are asked for (RFC 5322 section 2.1.1).
pub const MAILPROOF_LAYOUT_FOLDED: u32 = 1;
/// In `layout`: the same with LF alone, for programs that keep messages so.
pub const MAILPROOF_LAYOUT_FOLDED_LF: u32 = 2;

/// The value of the Authentication-Results field to add (RFC 8601), without the name of the field, laid out as
/// MAILPROOF_LAYOUT_LINE, _FOLDED or _FOLDED_LF. `authserv_id` is whose results these are (section 2.5). The text belongs to
/// the caller: mailproof_text_free().
///
/// MAILPROOF_STATUS_BAD_OPTION for another layout.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_verdict_results(
    verdict: *const mailproof_verdict,
    authserv_id: *const c_char,
    layout: u32,
    text: *mut *mut c_char,
) -> mailproof_status {
    guard(Log::default(), || {
        // SAFETY: the caller's.
        let verdict = unsafe { pointers::shared(verdict, "the verdict")? };
        // SAFETY: the caller's.
        let authserv_id = unsafe { pointers::own_text(authserv_id)? };
        let authserv_id = authserv_id.ok_or_else(|| Failure::null("the authserv-id"))?;
        // SAFETY: the caller's.
        let text = unsafe { pointers::out(text)? };
        let layout = match layout {
            MAILPROOF_LAYOUT_LINE => Layout::OneLine,
            MAILPROOF_LAYOUT_FOLDED => Layout::Folded,
            MAILPROOF_LAYOUT_FOLDED_LF => Layout::FoldedLf,
            layout => return Err(Failure::new(mailproof_status::BadOption, format!("layout {layout}"))),
        };
        let mut results = String::new();
        verdict.verdict.write_authentication_results(&mut results, authserv_id, layout);
        text.write(c_text(&results).into_raw());
        Ok(())
    })
}

/// Whether a header field has to go before results of this host are added (RFC 8601 section 5): an Authentication-Results
/// field that names `authserv_id`, could be read so, or is of a version that nobody knows. `field` is the whole field,
/// `Name: value` with its folding, with or without the line end behind it; with the line ends of SMTP, or, with
/// MAILPROOF_LINE_ENDS_LF in `flags`, those of Unix. Other fields never have to. From any thread.
///
/// MAILPROOF_STATUS_BAD_NAME for an authserv-id that could not be told apart in a field.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_results_are_forged(
    authserv_id: *const c_char,
    field: *const c_void,
    length: usize,
    flags: u64,
    are_forged: *mut bool,
) -> mailproof_status {
    guard(Log::default(), || {
        // SAFETY: the caller's.
        let authserv_id = unsafe { pointers::own_text(authserv_id)? };
        let authserv_id = authserv_id.ok_or_else(|| Failure::null("the authserv-id"))?;
        // SAFETY: the caller's.
        let field = unsafe { pointers::octets(field, length)? };
        // SAFETY: the caller's.
        let are_forged = unsafe { pointers::out(are_forged)? };
        let ours = AuthservId::new(authserv_id);
        let ours = [ours.map_err(|error| Failure::new(mailproof_status::BadName, error.to_string()))?];
        let has_lf = envelope::has_lf(flags)?;
        let mut octets = if has_lf { envelope::with_crlf(field) } else { field.to_vec() };
        if !octets.ends_with(b"\n") {
            octets.extend_from_slice(b"\r\n");
        }
        are_forged.write(forged(HeaderIndex::new().scan(&octets), &ours).next().is_some());
        Ok(())
    })
}

/// The client that the message came from. `size` is sizeof(mailproof_client).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_verdict_client(
    verdict: *const mailproof_verdict,
    size: usize,
    client: *mut mailproof_client,
) -> mailproof_status {
    // SAFETY: the caller's.
    unsafe {
        told(verdict, size, client, |it, texts| {
            Ok(mailproof_client { ip: texts.room.at(texts.ip), null_reverse_path: it.null_reverse_path.into() })
        })
    }
}

/// SPF of MAIL FROM, the one that DMARC looks at. `size` is sizeof(mailproof_spf).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_verdict_spf(
    verdict: *const mailproof_verdict,
    size: usize,
    spf: *mut mailproof_spf,
) -> mailproof_status {
    // SAFETY: the caller's.
    unsafe { told(verdict, size, spf, |it, texts| Ok(outcome(&it.spf, &texts.room, &texts.spf))) }
}

/// SPF of HELO. `size` is sizeof(mailproof_spf).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_verdict_helo(
    verdict: *const mailproof_verdict,
    size: usize,
    helo: *mut mailproof_spf,
) -> mailproof_status {
    // SAFETY: the caller's.
    unsafe { told(verdict, size, helo, |it, texts| Ok(outcome(&it.helo, &texts.room, &texts.helo))) }
}

/// DKIM signatures that were judged; 0 when the message is not signed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_verdict_dkim_count(
    verdict: *const mailproof_verdict,
    count: *mut usize,
) -> mailproof_status {
    guard(Log::default(), || {
        // SAFETY: the caller's.
        let verdict = unsafe { pointers::shared(verdict, "the verdict")? };
        // SAFETY: the caller's.
        unsafe { pointers::out(count)? }.write(verdict.verdict.dkim.len());
        Ok(())
    })
}

/// One DKIM signature, counted from 0 at the top of the message. `size` is sizeof(mailproof_dkim).
/// MAILPROOF_STATUS_OUT_OF_RANGE when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_verdict_dkim(
    verdict: *const mailproof_verdict,
    index: usize,
    size: usize,
    dkim: *mut mailproof_dkim,
) -> mailproof_status {
    // SAFETY: the caller's.
    unsafe { told(verdict, size, dkim, |it, texts| signature(it, texts, index)) }
}

/// The ARC chain. `size` is sizeof(mailproof_arc).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_verdict_arc(
    verdict: *const mailproof_verdict,
    size: usize,
    arc: *mut mailproof_arc,
) -> mailproof_status {
    // SAFETY: the caller's.
    unsafe { told(verdict, size, arc, |it, texts| Ok(chain(it, texts))) }
}

/// Who made one seal of the ARC chain, counted from 0 for instance 1. `size` is sizeof(mailproof_arc_sealer).
/// MAILPROOF_STATUS_OUT_OF_RANGE when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_verdict_arc_sealer(
    verdict: *const mailproof_verdict,
    index: usize,
    size: usize,
    sealer: *mut mailproof_arc_sealer,
) -> mailproof_status {
    // SAFETY: the caller's.
    unsafe {
        told(verdict, size, sealer, |_, texts| {
            let &(domain, selector) = texts.sealers.get(index).ok_or_else(|| out_of_range(index))?;
            Ok(mailproof_arc_sealer { domain: texts.room.at(domain), selector: texts.room.at(selector) })
        })
    }
}

/// DMARC. `size` is sizeof(mailproof_dmarc).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_verdict_dmarc(
    verdict: *const mailproof_verdict,
    size: usize,
    dmarc: *mut mailproof_dmarc,
) -> mailproof_status {
    // SAFETY: the caller's.
    unsafe { told(verdict, size, dmarc, |it, texts| Ok(policy(it, texts))) }
}

/// Whom the message says it is from. `size` is sizeof(mailproof_author).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_verdict_author(
    verdict: *const mailproof_verdict,
    size: usize,
    author: *mut mailproof_author,
) -> mailproof_status {
    // SAFETY: the caller's.
    unsafe {
        told(verdict, size, author, |it, texts| {
            Ok(mailproof_author {
                kind: match it.author {
                    Author::One(_) => mailproof_author_kind::One,
                    Author::Several(_) => mailproof_author_kind::Several,
                    Author::Unusable(_) => mailproof_author_kind::Unusable,
                },
                domain_count: texts.authors.len() as u32,
                problem: texts.room.at(texts.author_problem.0),
                problem_text: texts.room.at(texts.author_problem.1),
            })
        })
    }
}

/// One domain that the message says it is from, counted from 0 in order of appearance. MAILPROOF_STATUS_OUT_OF_RANGE when
/// there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_verdict_author_domain(
    verdict: *const mailproof_verdict,
    index: usize,
    domain: *mut *const c_char,
) -> mailproof_status {
    guard(Log::default(), || {
        // SAFETY: the caller's.
        let texts = unsafe { pointers::shared(verdict, "the verdict")? }.texts();
        let found = *texts.authors.get(index).ok_or_else(|| out_of_range(index))?;
        // SAFETY: the caller's.
        unsafe { pointers::out(domain)? }.write(texts.room.at(found));
        Ok(())
    })
}

/// What is wrong with the octets of the message. `size` is sizeof(mailproof_defects).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_verdict_defects(
    verdict: *const mailproof_verdict,
    size: usize,
    defects: *mut mailproof_defects,
) -> mailproof_status {
    guard(Log::default(), || {
        // SAFETY: the caller's.
        let found = &unsafe { pointers::shared(verdict, "the verdict")? }.verdict.defects;
        let told = mailproof_defects {
            bare_cr: found.bare_cr,
            bare_lf: found.bare_lf,
            nul: found.nul,
            garbage_lines: found.garbage_lines,
            repeated_singletons: found.repeated_singletons,
            oversize_fields: found.oversize_fields,
            header_over_limit: found.header_over_limit.into(),
            reserved: 0,
        };
        // SAFETY: the caller's.
        unsafe { pointers::tell(told, size, defects) }
    })
}

/// The whole verdict as one line of JSON without a line end, in the form that every interface of Mailproof has. `id` is the
/// caller's name for the message, NULL for none. The text belongs to the caller: mailproof_text_free().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_verdict_json(
    verdict: *const mailproof_verdict,
    id: *const c_char,
    json: *mut *mut c_char,
) -> mailproof_status {
    guard(Log::default(), || {
        // SAFETY: the caller's.
        let verdict = unsafe { pointers::shared(verdict, "the verdict")? };
        // SAFETY: the caller's.
        let id = unsafe { pointers::foreign_text(id) };
        // SAFETY: the caller's.
        unsafe { pointers::out(json)? }.write(c_text(&verdict.verdict.to_json(&id)).into_raw());
        Ok(())
    })
}

/// Frees a verdict; NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_verdict_free(verdict: *mut mailproof_verdict) {
    // SAFETY: the caller's.
    guard_quietly(|| unsafe { pointers::free(verdict) });
}

/// Frees a text that a function of the library made over to the caller; NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mailproof_text_free(text: *mut c_char) {
    if !text.is_null() {
        // SAFETY: the text was made by `CString::into_raw`, and its end is where it was.
        guard_quietly(|| drop(unsafe { CString::from_raw(text) }));
    }
}

impl mailproof_verdict {
    pub(crate) fn new(verdict: Verdict) -> Self {
        Self { verdict, results: OnceLock::new(), texts: OnceLock::new() }
    }

    fn texts(&self) -> &Texts {
        self.texts.get_or_init(|| Texts::of(&self.verdict))
    }
}

/// Fills in one structure of a verdict.
///
/// # Safety
/// As [`pointers`] says.
unsafe fn told<T: Told>(
    verdict: *const mailproof_verdict,
    size: usize,
    to: *mut T,
    make: impl FnOnce(&Verdict, &Texts) -> Outcome<T>,
) -> mailproof_status {
    guard(Log::default(), || {
        // SAFETY: the caller's.
        let verdict = unsafe { pointers::shared(verdict, "the verdict")? };
        // SAFETY: the caller's.
        unsafe { pointers::tell(make(&verdict.verdict, verdict.texts())?, size, to) }
    })
}

fn out_of_range(index: usize) -> Failure {
    Failure::new(mailproof_status::OutOfRange, format!("index {index}"))
}

/// SPF as a session knows it, before there is a verdict.
#[derive(Debug)]
pub(crate) struct EarlyOutcome {
    outcome: SpfOutcome,
    texts: (Room, OutcomeTexts),
}

impl EarlyOutcome {
    pub(crate) fn of(found: &SpfOutcome) -> Self {
        Self { outcome: found.clone(), texts: OutcomeTexts::of(found) }
    }

    pub(crate) fn told(&self) -> mailproof_spf {
        outcome(&self.outcome, &self.texts.0, &self.texts.1)
    }
}

/// SPF of one identity for C.
fn outcome(found: &SpfOutcome, texts: &Room, of: &OutcomeTexts) -> mailproof_spf {
    mailproof_spf {
        result: spf_result(found.result),
        lookup_count: found.lookup_count.into(),
        void_lookup_count: found.void_lookup_count.into(),
        reserved: 0,
        word: texts.at(of.word),
        domain: texts.at(of.domain),
        problem: texts.at(of.problem.0),
        problem_text: texts.at(of.problem.1),
        explanation: texts.at(of.explanation),
        mechanism: texts.at(of.mechanism),
    }
}

/// A result of SPF for C.
pub(crate) fn spf_result(result: SpfResult) -> mailproof_spf_result {
    match result {
        SpfResult::None => mailproof_spf_result::None,
        SpfResult::Neutral => mailproof_spf_result::Neutral,
        SpfResult::Pass => mailproof_spf_result::Pass,
        SpfResult::Fail => mailproof_spf_result::Fail,
        SpfResult::SoftFail => mailproof_spf_result::SoftFail,
        SpfResult::TempError => mailproof_spf_result::TempError,
        SpfResult::PermError => mailproof_spf_result::PermError,
    }
}

fn signature(verdict: &Verdict, texts: &Texts, index: usize) -> Outcome<mailproof_dkim> {
    let (Some(found), Some(of)) = (verdict.dkim.get(index), texts.dkim.get(index)) else {
        return Err(out_of_range(index));
    };
    let time = |moment: Option<u64>| moment.and_then(|it| i64::try_from(it).ok()).unwrap_or(-1);
    Ok(mailproof_dkim {
        result: match found.result {
            DkimResult::None => mailproof_dkim_result::None,
            DkimResult::Pass => mailproof_dkim_result::Pass,
            DkimResult::Fail => mailproof_dkim_result::Fail,
            DkimResult::Policy => mailproof_dkim_result::Policy,
            DkimResult::Neutral => mailproof_dkim_result::Neutral,
            DkimResult::TempError => mailproof_dkim_result::TempError,
            DkimResult::PermError => mailproof_dkim_result::PermError,
        },
        key_bits: found.key_bits.unwrap_or_default().into(),
        testing: found.testing.into(),
        header_holds: found.header_holds.into(),
        word: texts.room.at(of.word),
        problem: texts.room.at(of.problem.0),
        problem_text: texts.room.at(of.problem.1),
        domain: texts.room.at(of.domain),
        selector: texts.room.at(of.selector),
        identity: texts.room.at(of.identity),
        algorithm: texts.room.at(of.algorithm),
        b: texts.room.at(of.b),
        signed_at: time(found.signed_at),
        expires_at: time(found.expires_at),
        body_covered: found.body_octets.0,
        body_total: found.body_octets.1,
    })
}

fn chain(verdict: &Verdict, texts: &Texts) -> mailproof_arc {
    let found = &verdict.arc;
    mailproof_arc {
        result: match found.result {
            ArcResult::None => mailproof_arc_result::None,
            ArcResult::Pass => mailproof_arc_result::Pass,
            ArcResult::Fail => mailproof_arc_result::Fail,
        },
        instances: found.instances.into(),
        oldest_pass: found.oldest_pass.map_or(-1, i32::from),
        sealer_count: texts.sealers.len() as u32,
        word: texts.room.at(texts.arc_word),
        problem: texts.room.at(texts.arc_problem.0),
        problem_text: texts.room.at(texts.arc_problem.1),
    }
}

fn policy(verdict: &Verdict, texts: &Texts) -> mailproof_dmarc {
    let (found, of) = (&verdict.dmarc, &texts.dmarc);
    let aligned = |it: Option<Alignment>| match it {
        None => mailproof_alignment::Absent,
        Some(Alignment::Relaxed) => mailproof_alignment::Relaxed,
        Some(Alignment::Strict) => mailproof_alignment::Strict,
    };
    let policy = |it: Disposition| match it {
        Disposition::None => mailproof_policy::None,
        Disposition::Quarantine => mailproof_policy::Quarantine,
        Disposition::Reject => mailproof_policy::Reject,
    };
    mailproof_dmarc {
        result: match found.result {
            DmarcResult::None => mailproof_dmarc_result::None,
            DmarcResult::Pass => mailproof_dmarc_result::Pass,
            DmarcResult::Fail => mailproof_dmarc_result::Fail,
            DmarcResult::TempError => mailproof_dmarc_result::TempError,
            DmarcResult::PermError => mailproof_dmarc_result::PermError,
        },
        policy: found.policy.map_or(mailproof_policy::Absent, policy),
        applies: match found.applies {
            None => mailproof_policy_tag::Absent,
            Some(PolicyTag::P) => mailproof_policy_tag::P,
            Some(PolicyTag::Sp) => mailproof_policy_tag::Sp,
            Some(PolicyTag::Np) => mailproof_policy_tag::Np,
        },
        disposition: policy(found.disposition),
        discovery: match found.discovery {
            Discovery::TreeWalk => mailproof_discovery::TreeWalk,
            Discovery::PublicSuffixList => mailproof_discovery::PublicSuffixList,
        },
        spf_aligned: aligned(found.spf_aligned),
        dkim_aligned: aligned(found.dkim_aligned),
        testing: found.testing.into(),
        word: texts.room.at(of.word),
        from_domain: texts.room.at(of.from_domain),
        organizational_domain: texts.room.at(of.organizational_domain),
        policy_domain: texts.room.at(of.policy_domain),
        problem: texts.room.at(of.problem.0),
        problem_text: texts.room.at(of.problem.1),
    }
}
