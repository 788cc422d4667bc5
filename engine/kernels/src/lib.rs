//! Body canonicalisation for DKIM and ARC (RFC 6376 section 3.4), as a stream.
//!
//! A body arrives in chunks of any size, cut anywhere; the canonical octets leave in order through a sink, which is
//! usually the update of a hash. What is kept between chunks is a count of line ends and two flags, whatever the body.
//!
//! ```
//! use mailproof_kernels::RelaxedBody;
//!
//! let mut canonical = Vec::new();
//! let mut body = RelaxedBody::new();
//! for chunk in [&b"a \t b \r"[..], b"\n\r\n"] {
//!     body.update(chunk, |run| canonical.extend_from_slice(run));
//! }
//! body.finish(|run| canonical.extend_from_slice(run));
//! assert_eq!(canonical, b"a b\r\n");
//! ```
#![deny(unsafe_code)]

mod kernel;
mod relaxed;
mod simple;

pub use self::kernel::Kernel;
pub use self::relaxed::RelaxedBody;
pub use self::simple::SimpleBody;

/// Line ends that were held back, handed on in runs.
fn release_line_ends(mut count: u64, mut sink: impl FnMut(&[u8])) {
    while count > 0 {
        let run = count.min(RUN as u64);
        sink(&LINE_ENDS[..2 * run as usize]);
        count -= run;
    }
}

/// Line ends handed on at a time.
const RUN: usize = 128;

const LINE_ENDS: [u8; 2 * RUN] = {
    let mut octets = [b'\r'; 2 * RUN];
    let mut at = 1;
    while at < octets.len() {
        octets[at] = b'\n';
        at += 2;
    }
    octets
};
