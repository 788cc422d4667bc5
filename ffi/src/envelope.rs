//! What SMTP said before a message, and the line ends the message comes with.

use std::ffi::c_char;

use mailproof::Envelope;

use crate::pointers::{self, Given, first_size};
use crate::status::{Failure, Outcome, mailproof_status};

/// What SMTP said before the message. All members but `size` may be zero. The texts are copied: they need to be good
/// during the call only.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct mailproof_envelope {
    /// sizeof(mailproof_envelope).
    pub size: usize,
    /// Address of the SMTP client as text, without brackets. Without an address there is no SPF.
    pub ip: *const c_char,
    /// The address as octets in network order instead, as in sin_addr or sin6_addr; counts before `ip`.
    pub ip_octets: *const u8,
    /// 4 or 16, with `ip_octets`.
    pub ip_length: usize,
    /// Argument of HELO or EHLO.
    pub helo: *const c_char,
    /// Argument of MAIL FROM without angle brackets; NULL or "" for the null reverse-path.
    pub mail_from: *const c_char,
    /// MAILPROOF_LINE_ENDS_LF or 0.
    pub flags: u64,
}

/// Lines of the message end with LF, as programs of Unix keep them: each LF that no CR stands before is taken for CRLF.
/// Without it the message has to come with the line ends of SMTP, and a bare LF is a defect of it.
pub const MAILPROOF_LINE_ENDS_LF: u64 = 1;

// SAFETY: the first member is the size; pointers and numbers may be zero.
unsafe impl Given for mailproof_envelope {
    const FIRST_SIZE: usize = first_size!(mailproof_envelope, flags);
}

/// Octets that are converted at a time.
const PIECE_BYTES: usize = 64 * 1024;

/// Reads an envelope, and whether the message comes with the line ends of Unix.
///
/// # Safety
/// As [`pointers`] says.
pub(crate) unsafe fn read(envelope: *const mailproof_envelope) -> Outcome<(Envelope, bool)> {
    // SAFETY: the caller's.
    let given = unsafe { pointers::given(envelope, "the envelope")? };
    let has_lf = has_lf(given.flags)?;
    // SAFETY: the caller's.
    let ip = unsafe { pointers::address(given.ip, given.ip_octets, given.ip_length)? };
    // SAFETY: the caller's.
    let helo = unsafe { pointers::foreign_text(given.helo) }.into_owned();
    // SAFETY: the caller's.
    let mail_from = unsafe { pointers::foreign_text(given.mail_from) }.into_owned();
    Ok((Envelope { ip, helo, mail_from }, has_lf))
}

/// What the flags say of line ends.
pub(crate) fn has_lf(flags: u64) -> Outcome<bool> {
    if flags & !MAILPROOF_LINE_ENDS_LF != 0 {
        return Err(Failure::new(mailproof_status::BadOption, format!("flags {flags:#x}")));
    }
    Ok(flags & MAILPROOF_LINE_ENDS_LF != 0)
}

/// A whole message with its line ends turned.
pub(crate) fn with_crlf(message: &[u8]) -> Vec<u8> {
    let mut turned = Vec::with_capacity(message.len() + message.len() / 32);
    LineEnds::default().turn(message, |octets| turned.extend_from_slice(octets));
    turned
}

/// Turns LF into CRLF, in pieces cut anywhere.
#[derive(Debug, Default)]
pub(crate) struct LineEnds {
    /// The last octet was CR.
    after_cr: bool,
    room: Vec<u8>,
}

impl LineEnds {
    pub(crate) fn restart(&mut self) {
        self.after_cr = false;
    }

    /// Hands the octets on, with their line ends turned.
    pub(crate) fn turn(&mut self, octets: &[u8], mut push: impl FnMut(&[u8])) {
        for piece in octets.chunks(PIECE_BYTES) {
            self.room.clear();
            let mut rest = piece;
            while let Some(at) = memchr::memchr(b'\n', rest) {
                let (line, after) = rest.split_at(at);
                let has_cr = line.last().map_or(self.after_cr, |&octet| octet == b'\r');
                self.room.extend_from_slice(line);
                self.room.extend_from_slice(if has_cr { b"\n" } else { b"\r\n" });
                self.after_cr = false;
                rest = &after[1..];
            }
            self.room.extend_from_slice(rest);
            self.after_cr = rest.last().map_or(self.after_cr, |&octet| octet == b'\r');
            push(&self.room);
        }
    }
}

#[cfg(test)]
mod tests {
    use mailproof_testkit::verify;

    use super::*;

    #[test]
    fn line_ends_are_turned_wherever_the_text_is_cut() {
        let texts: [&[u8]; 6] = [b"a\nb\n", b"a\r\nb\r\n", b"\n\n\r\n\n", b"\ra\r\r\n\n\r", b"", b"\n"];
        for text in texts {
            let wanted = verify::with_crlf(text);
            for cut in 1..=text.len().max(1) {
                let mut found = Vec::new();
                let mut ends = LineEnds::default();
                for piece in text.chunks(cut) {
                    ends.turn(piece, |octets| found.extend_from_slice(octets));
                }
                assert_eq!(found, wanted, "{text:?} cut at {cut}");
            }
        }
        let long = b"x\n".repeat(PIECE_BYTES);
        assert_eq!(with_crlf(&long), verify::with_crlf(&long));
    }
}
