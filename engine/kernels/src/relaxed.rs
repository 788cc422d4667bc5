//! The relaxed form, RFC 6376 section 3.4.4.

use crate::release_line_ends;

/// The relaxed canonical form of a body: white space before CRLF is gone, other runs of white space are one space,
/// empty lines at the end are gone, and a body that is not empty ends in CRLF.
///
/// A line of white space only counts as empty. A CR or an LF alone is an ordinary octet.
#[derive(Clone, Debug, Default)]
pub struct RelaxedBody {
    /// CRLFs that are the end of the body unless more follows.
    held: u64,
    /// White space after them, which stays unless CRLF or the end follows.
    white: bool,
    /// A CR after that, whose LF may follow.
    cr: bool,
    /// Something was handed on.
    any: bool,
}

impl RelaxedBody {
    /// The form of a body of which nothing has arrived.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next octets of the body, in chunks of any size; `sink` gets canonical octets in order.
    pub fn update(&mut self, chunk: &[u8], mut sink: impl FnMut(&[u8])) {
        let mut staged = [0; STAGE];
        let mut count = 0;
        for &octet in chunk {
            if octet == b'\n' && self.cr {
                self.held += 1;
                self.white = false;
                self.cr = false;
                continue;
            }
            if self.cr {
                sink(&staged[..count]);
                count = 0;
                self.release(&mut sink);
            }
            match octet {
                b' ' | b'\t' => self.white = true,
                b'\r' => self.cr = true,
                _ => {
                    if self.held > 0 || self.white || count == STAGE {
                        sink(&staged[..count]);
                        count = 0;
                        self.release(&mut sink);
                    }
                    self.any = true;
                    staged[count] = octet;
                    count += 1;
                }
            }
        }
        sink(&staged[..count]);
    }

    /// The end of the body; the value is ready for the next one.
    pub fn finish(&mut self, mut sink: impl FnMut(&[u8])) {
        if self.cr {
            self.release(&mut sink);
        }
        if self.any {
            sink(b"\r\n");
        }
        *self = Self::default();
    }

    fn release(&mut self, mut sink: impl FnMut(&[u8])) {
        release_line_ends(self.held, &mut sink);
        match (self.white, self.cr) {
            (true, true) => sink(b" \r"),
            (true, false) => sink(b" "),
            (false, true) => sink(b"\r"),
            (false, false) => {}
        }
        *self = Self { any: true, ..Self::default() };
    }
}

/// Octets handed on at a time.
const STAGE: usize = 4096;
