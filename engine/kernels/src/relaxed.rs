//! The relaxed form, RFC 6376 section 3.4.4.
//!
//! Whether an octet stays depends on the two after it and on nothing else, but for the empty lines at the end. So a
//! chunk is cut in two: content, which ends in an octet that certainly stays, and what may still turn out to be the end
//! of a line or of the body. The first part goes through a [`Kernel`] without any state, the second becomes state.

use crate::kernel::{Kernel, STAGE, Staging};
use crate::release_line_ends;

/// The relaxed canonical form of a body: white space before CRLF is gone, other runs of white space are one space,
/// empty lines at the end are gone, and a body that is not empty ends in CRLF.
///
/// A line of white space only counts as empty. A CR or an LF alone is an ordinary octet. The value is a few words
/// large whatever the body; octets that need no change are handed on where they stand.
#[derive(Clone, Debug)]
pub struct RelaxedBody {
    kernel: Kernel,
    held: Held,
    /// Something was handed on.
    any: bool,
}

/// What may be the end of the body.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    line_ends: u64,
    /// White space after them, which stays unless CRLF or the end follows.
    white: bool,
    /// A CR after that, whose LF may follow.
    cr: bool,
}

impl RelaxedBody {
    /// The form of a body of which nothing has arrived.
    #[must_use]
    pub fn new() -> Self {
        Self::with_kernel(Kernel::detected())
    }

    /// The same with a routine of the caller's choice.
    #[must_use]
    pub fn with_kernel(kernel: Kernel) -> Self {
        Self { kernel, held: Held::default(), any: false }
    }

    /// Takes the next octets of the body, in chunks of any size; `sink` gets canonical octets in order.
    pub fn update(&mut self, mut chunk: &[u8], mut sink: impl FnMut(&[u8])) {
        if self.held.cr {
            match chunk {
                [] => return,
                [b'\n', rest @ ..] => {
                    self.held = Held { line_ends: self.held.line_ends + 1, ..Held::default() };
                    chunk = rest;
                }
                _ => self.release(&mut sink),
            }
        }
        let (content, held) = Held::split(chunk);
        if content.is_empty() {
            self.held.line_ends += held.line_ends;
            self.held.white = held.white || (self.held.white && held.line_ends == 0);
            self.held.cr = held.cr;
            return;
        }
        if let [b' ' | b'\t', ..] | [b'\r', b'\n', ..] = content {
            self.held.white = false;
        }
        self.release(&mut sink);
        self.squeeze(content, &mut sink);
        self.held = held;
    }

    /// The end of the body; the value is ready for the next one.
    pub fn finish(&mut self, mut sink: impl FnMut(&[u8])) {
        if self.held.cr {
            self.release(&mut sink);
        }
        if self.any {
            sink(b"\r\n");
        }
        *self = Self::with_kernel(self.kernel);
    }

    /// Hands on what was held: it was not the end.
    fn release(&mut self, mut sink: impl FnMut(&[u8])) {
        release_line_ends(self.held.line_ends, &mut sink);
        match (self.held.white, self.held.cr) {
            (true, true) => sink(b" \r"),
            (true, false) => sink(b" "),
            (false, true) => sink(b"\r"),
            (false, false) => {}
        }
        self.held = Held::default();
        self.any = true;
    }

    fn squeeze(&self, mut content: &[u8], mut sink: impl FnMut(&[u8])) {
        loop {
            let unchanged = self.kernel.unchanged(content);
            if unchanged == content.len() || unchanged >= UNCHANGED_MIN {
                sink(&content[..unchanged]);
                content = &content[unchanged..];
            }
            if content.is_empty() {
                return;
            }
            let mut staged: Staging = [0; _];
            let (read, written) = self.kernel.squeeze(content, &mut staged);
            sink(&staged[..written]);
            content = &content[read..];
        }
    }
}

impl Default for RelaxedBody {
    fn default() -> Self {
        Self::new()
    }
}

impl Held {
    /// Cuts off what may be the end of a line or of the body.
    fn split(chunk: &[u8]) -> (&[u8], Self) {
        let mut content = chunk.strip_suffix(b"\r").unwrap_or(chunk);
        let cr = content.len() < chunk.len();
        let before_cr = content.len();
        content = without_white(content);
        let white = content.len() < before_cr;
        let mut line_ends = 0;
        while let [before @ .., b'\r', b'\n'] = content {
            content = without_white(before);
            line_ends += 1;
        }
        (content, Self { line_ends, white, cr })
    }
}

fn without_white(mut octets: &[u8]) -> &[u8] {
    while let [before @ .., b' ' | b'\t'] = octets {
        octets = before;
    }
    octets
}

/// Octets that need no change are handed on where they stand if they are that many; fewer are staged with the rest.
const UNCHANGED_MIN: usize = STAGE / 8;
