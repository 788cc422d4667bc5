//! The side of SMTP that a client has. Where the server lets us (Postfix, `XCLIENT`), each message comes from the address
//! that it is meant to come from.

use std::ops::Range;

use super::dialogue::{Outgoing, Step, Trouble};
use super::findings::{Action, Findings};
use crate::corpus::Letter;

/// A message as it is sent.
#[derive(Clone, Debug)]
pub(crate) struct Lines {
    pub(crate) octets: Vec<u8>,
    /// One for each of [`Said::Hello`] to [`Said::Content`].
    parts: [Range<usize>; 6],
}

/// One message on one connection to a mail server.
#[derive(Debug, Default)]
pub(crate) struct SmtpDialogue {
    /// Whose reply is waited for.
    said: Said,
    knows_xclient: bool,
    is_introduced: bool,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Said {
    Hello = 0,
    Xclient = 1,
    Mail = 2,
    Recipient = 3,
    Data = 4,
    Content = 5,
    /// Nothing: the server greets first.
    #[default]
    Nothing,
}

/// Octets of one reply of a server.
const REPLY_BYTES_MAX: usize = 64 * 1024;

impl Lines {
    pub(crate) fn new(letter: &Letter) -> Self {
        let mut octets = Vec::with_capacity(letter.octets.len() + 1024);
        let (helo, client) = (&letter.helo, letter.client);
        let client = if client.is_ipv6() { format!("IPV6:{client}") } else { client.to_string() };
        let commands = [
            format!("EHLO {helo}\r\n"),
            format!("XCLIENT ADDR={client} NAME={helo}\r\n"),
            format!("MAIL FROM:<{}>\r\n", letter.mail_from),
            "RCPT TO:<someone@receiver.example>\r\n".to_owned(),
            "DATA\r\n".to_owned(),
        ];
        let mut parts = [const { 0..0 }; 6];
        for (part, command) in parts.iter_mut().zip(commands) {
            let from = octets.len();
            octets.extend_from_slice(command.as_bytes());
            *part = from..octets.len();
        }
        let from = octets.len();
        for line in letter.octets.split_inclusive(|octet| *octet == b'\n') {
            if line.starts_with(b".") {
                octets.push(b'.');
            }
            octets.extend_from_slice(line);
        }
        if !octets.ends_with(b"\r\n") {
            octets.extend_from_slice(b"\r\n");
        }
        octets.extend_from_slice(b".\r\n");
        parts[5] = from..octets.len();
        Self { octets, parts }
    }
}

impl SmtpDialogue {
    /// Starts on a message; on a new connection the server speaks first.
    pub(crate) fn begin(&mut self, lines: &Lines, is_new: bool, out: &mut Outgoing) {
        if is_new {
            *self = Self::default();
        } else {
            self.is_introduced = false;
            self.say(if self.knows_xclient { Said::Xclient } else { Said::Mail }, lines, out);
        }
    }

    /// Takes replies; gives how many octets of them were whole.
    pub(crate) fn received(
        &mut self,
        input: &[u8],
        lines: &Lines,
        findings: &mut Findings,
        out: &mut Outgoing,
    ) -> Result<(usize, Step), Trouble> {
        let mut at = 0;
        while let Some(length) = reply_length(&input[at..]) {
            let reply = &input[at..at + length];
            at += length;
            if self.reply(reply, lines, findings, out)? == Step::Done {
                return Ok((at, Step::Done));
            }
        }
        if input.len() - at > REPLY_BYTES_MAX { Err(Trouble::Silent) } else { Ok((at, Step::Waits)) }
    }

    fn reply(
        &mut self,
        reply: &[u8],
        lines: &Lines,
        findings: &mut Findings,
        out: &mut Outgoing,
    ) -> Result<Step, Trouble> {
        let is_good = matches!(reply.first(), Some(b'2' | b'3'));
        if !is_good {
            findings.action = if reply.first() == Some(&b'4') { Action::Defer } else { Action::Reject };
            let line = String::from_utf8_lossy(reply).lines().next().unwrap_or_default().to_owned();
            // A refusal of the content is an answer; one of anything else means that the server is not set up for this.
            return if self.said == Said::Content { Ok(Step::Done) } else { Err(Trouble::Refused(line)) };
        }
        let next = match self.said {
            Said::Nothing | Said::Xclient => Said::Hello,
            Said::Hello => {
                self.knows_xclient = memchr::memmem::find(reply, b"XCLIENT").is_some();
                if self.knows_xclient && !self.is_introduced {
                    self.is_introduced = true;
                    Said::Xclient
                } else {
                    Said::Mail
                }
            }
            Said::Mail => Said::Recipient,
            Said::Recipient => Said::Data,
            Said::Data => Said::Content,
            Said::Content => return Ok(Step::Done),
        };
        if self.said == Said::Xclient {
            self.is_introduced = true;
        }
        self.say(next, lines, out);
        Ok(Step::Waits)
    }

    fn say(&mut self, said: Said, lines: &Lines, out: &mut Outgoing) {
        self.said = said;
        out.range = lines.parts.get(said as usize).cloned().unwrap_or_default();
        out.has_content |= said == Said::Content;
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.said == Said::Content
    }
}

/// Ends a session.
pub(crate) const QUIT: &[u8] = b"QUIT\r\n";

/// Octets of the first reply with all its lines, once it is there (RFC 5321 section 4.2.1).
fn reply_length(input: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let line = input.get(at..)?;
        let end = memchr::memchr(b'\n', line)? + 1;
        at += end;
        if line.get(3) != Some(&b'-') {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::{Maker, Options, Sizes};

    #[test]
    fn a_session_goes_through_every_step() {
        let letter = Maker::new(&Options { sizes: Sizes::Tiny, domain_count: 3, ..Options::new(1, 1) }).letter(0);
        let lines = Lines::new(&letter);
        let (mut dialogue, mut out, mut findings) = (SmtpDialogue::default(), Outgoing::default(), Findings::default());
        dialogue.begin(&lines, true, &mut out);
        let mut said = Vec::new();
        for reply in [
            &b"220 x\r\n"[..],
            b"250-x\r\n250-XCLIENT NAME ADDR\r\n250 8BITMIME\r\n",
            b"220 x\r\n",
            b"250-XCLIENT\r\n250 x\r\n",
            b"250 ok\r\n",
            b"250 ok\r\n",
            b"354 go\r\n",
            b"550 5.7.1 no\r\n",
        ] {
            let (length, step) = dialogue.received(reply, &lines, &mut findings, &mut out).unwrap();
            assert_eq!(length, reply.len());
            said.push(
                out.next(&lines.octets).split(|octet| *octet == b' ' || *octet == b'\r').next().unwrap().to_vec(),
            );
            assert_eq!(step == Step::Done, reply.starts_with(b"550"));
        }
        let commands: Vec<&[u8]> = said[..6].iter().map(Vec::as_slice).collect();
        assert_eq!(commands, [&b"EHLO"[..], b"XCLIENT", b"EHLO", b"MAIL", b"RCPT", b"DATA"]);
        assert!(dialogue.is_at_end() && out.has_content);
        assert_eq!(findings.action, Action::Reject);
        let mut dialogue = SmtpDialogue::default();
        assert!(matches!(
            dialogue.received(b"421 busy\r\n", &lines, &mut findings, &mut out),
            Err(Trouble::Refused(_))
        ));
    }
}
