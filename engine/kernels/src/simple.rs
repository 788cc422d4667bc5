//! The simple form, RFC 6376 section 3.4.3.

use crate::release_line_ends;

/// The simple canonical form of a body: empty lines at its end are one CRLF, nothing else changes.
///
/// Octets are handed on where they stand, without a copy. A CR or an LF alone is an ordinary octet.
#[derive(Clone, Debug, Default)]
pub struct SimpleBody {
    /// CRLFs that are the end of the body unless more follows.
    held: u64,
    /// A CR after them, whose LF may follow.
    cr: bool,
}

impl SimpleBody {
    /// The form of a body of which nothing has arrived.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next octets of the body, in chunks of any size; `sink` gets canonical octets in order.
    pub fn update(&mut self, mut chunk: &[u8], mut sink: impl FnMut(&[u8])) {
        if chunk.is_empty() {
            return;
        }
        if self.cr {
            if let [b'\n', rest @ ..] = chunk {
                self.held += 1;
                self.cr = false;
                chunk = rest;
            } else {
                self.release(&mut sink);
            }
        }
        let mut content = chunk.strip_suffix(b"\r").unwrap_or(chunk);
        let cr = content.len() < chunk.len();
        let mut held = 0;
        while let [before @ .., b'\r', b'\n'] = content {
            content = before;
            held += 1;
        }
        if !content.is_empty() {
            self.release(&mut sink);
            sink(content);
        }
        self.held += held;
        self.cr |= cr;
    }

    /// The end of the body; the value is ready for the next one.
    pub fn finish(&mut self, mut sink: impl FnMut(&[u8])) {
        if self.cr {
            self.release(&mut sink);
        }
        self.held = 0;
        sink(b"\r\n");
    }

    fn release(&mut self, mut sink: impl FnMut(&[u8])) {
        release_line_ends(self.held, &mut sink);
        if self.cr {
            sink(b"\r");
        }
        *self = Self::default();
    }
}
