//! Replies to the mail server.

/// One reply, or one change to the message before the reply to its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reply<'a> {
    /// Go on (`SMFIR_CONTINUE`).
    Continue,
    /// Take the message, and say no more of it (`SMFIR_ACCEPT`).
    Accept,
    /// Refuse for good (`SMFIR_REJECT`).
    Reject,
    /// Refuse for now (`SMFIR_TEMPFAIL`).
    Tempfail,
    /// Refuse with a code and a text (`SMFIR_REPLYCODE`): code, space, enhanced code, space, text.
    ReplyCode(&'a str),
    /// No more of the body is wanted (`SMFIR_SKIP`).
    Skip,
    /// Still at work (`SMFIR_PROGRESS`).
    Progress,
    /// A header field is put in before that of this index, 0 for the top (`SMFIR_INSHEADER`).
    InsertHeader {
        /// Where.
        index: u32,
        /// Name of the field.
        name: &'a str,
        /// Its value, folded with LF.
        value: &'a [u8],
    },
    /// One instance of a header field, counted by name from 1, gets a new value; an empty one removes it
    /// (`SMFIR_CHGHEADER`).
    ChangeHeader {
        /// Which instance.
        index: u32,
        /// Name of the field.
        name: &'a str,
        /// Its value.
        value: &'a [u8],
    },
    /// The message is held, for this reason (`SMFIR_QUARANTINE`).
    Quarantine(&'a str),
}

/// Appends a reply.
pub fn write_reply(out: &mut Vec<u8>, reply: Reply<'_>) {
    const NUL: &[u8] = &[0];
    match reply {
        Reply::Continue => write_frame(out, b'c', &[]),
        Reply::Accept => write_frame(out, b'a', &[]),
        Reply::Reject => write_frame(out, b'r', &[]),
        Reply::Tempfail => write_frame(out, b't', &[]),
        Reply::ReplyCode(text) => write_frame(out, b'y', &[without_nul(text.as_bytes()), NUL]),
        Reply::Skip => write_frame(out, b's', &[]),
        Reply::Progress => write_frame(out, b'p', &[]),
        Reply::InsertHeader { index, name, value } => {
            let fields = [&index.to_be_bytes()[..], without_nul(name.as_bytes()), NUL, without_nul(value), NUL];
            write_frame(out, b'i', &fields);
        }
        Reply::ChangeHeader { index, name, value } => {
            let fields = [&index.to_be_bytes()[..], without_nul(name.as_bytes()), NUL, without_nul(value), NUL];
            write_frame(out, b'm', &fields);
        }
        Reply::Quarantine(reason) => write_frame(out, b'q', &[without_nul(reason.as_bytes()), NUL]),
    }
}

/// Appends a frame.
pub(super) fn write_frame(out: &mut Vec<u8>, command: u8, fields: &[&[u8]]) {
    let length: usize = 1 + fields.iter().map(|field| field.len()).sum::<usize>();
    // What is written here is made by this program and has a few thousand octets at most.
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    out.push(command);
    for field in fields {
        out.extend_from_slice(field);
    }
}

/// A string ends at its first NUL, whatever was meant to follow.
fn without_nul(octets: &[u8]) -> &[u8] {
    octets.split(|octet| *octet == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(reply: Reply<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        write_reply(&mut out, reply);
        out
    }

    #[test]
    fn replies_have_the_form_of_libmilter() {
        assert_eq!(written(Reply::Continue), b"\0\0\0\x01c");
        assert_eq!(written(Reply::ReplyCode("550 5.7.1 no")), b"\0\0\0\x0ey550 5.7.1 no\0");
        let insert = Reply::InsertHeader { index: 0, name: "X", value: b" a\n\tb" };
        assert_eq!(written(insert), b"\0\0\0\x0di\0\0\0\0X\0 a\n\tb\0");
        let delete = Reply::ChangeHeader { index: 258, name: "X", value: b"" };
        assert_eq!(written(delete), b"\0\0\0\x08m\0\0\x01\x02X\0\0");
        assert_eq!(written(Reply::Quarantine("spf\0fail")), b"\0\0\0\x05qspf\0");
    }
}
