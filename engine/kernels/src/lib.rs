//! The two parts of DKIM and ARC verification that are worth vector instructions: body canonicalisation (RFC 6376
//! section 3.4), as a stream, and the power of an RSA signature ([`RsaKey`]).
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
//!
//! # Twins
//!
//! The relaxed form is squeezed by the fastest of three routines that this CPU has, chosen once per process: AVX-512
//! VBMI2, AVX2, and a portable one without `unsafe` that the compiler vectorises as far as the target allows. With
//! `MAILPROOF_KERNELS=portable` in the environment the portable one is taken everywhere. All give the same octets, which
//! the tests compare with a routine that goes octet by octet. The simple form only looks at the ends of chunks.
//!
//! The twin of [`RsaKey`] is the cryptographic library of whoever uses it: without AVX-512 IFMA, with
//! `MAILPROOF_KERNELS=portable`, and for sizes and exponents that are not those of nearly every key, there is no
//! [`RsaKey`]; and the library decides on every signature that does not verify here. The tests compare the power with
//! that of a plain big number, and known answers are asked for before the first key of a process is made.
//!
//! # Measured
//!
//! One thread of an AMD EPYC (Zen 4, 2 virtual CPUs of a shared machine), rustc 1.95, release, warm caches, best of 25
//! batches, microseconds for one relaxed body of 30 kB in one chunk; the bench `canonical` of `mailproof-benches`
//! repeats it.
//!
//! | body | AVX-512 | AVX2 | portable |
//! |---|---:|---:|---:|
//! | base64 | 0.3 | 0.8 | 1.6 |
//! | plain text | 0.9 | 0.8 | 1.7 |
//! | HTML | 1.6 | 2.7 | 7.3 |
//!
//! A loop that goes octet by octet takes 25 to 33. Beside 16.5 for the SHA-256 of these 30 kB with aws-lc-rs, the form
//! is no longer what a verdict waits for. What was measured next to it and is not part of the crate yet: SHA-256 over
//! two bodies at once, rounds interleaved on SHA-NI, runs at 3.6 GB/s for both against 1.8 for one (three streams gain
//! hardly more, four lose).
//!
//! One thread of an AMD EPYC (Zen 5, 2 virtual CPUs of a shared machine), microseconds for one RSA signature, octets in
//! and verdict out, and for one key, with aws-lc-rs and its parsed key beside it; the bench `keys` repeats it.
//!
//! | modulus | verify | aws-lc-rs | prepare the key | aws-lc-rs |
//! |---|---:|---:|---:|---:|
//! | 1024 bits | 1.7 | 4.0 | 0.8 | 0.3 |
//! | 2048 bits | 3.1 | 13.4 | 1.6 | 0.3 |
//! | 3072 bits | 6.1 | 28.6 | 3.0 | 0.3 |
//! | 4096 bits | 9.9 | 48.9 | 5.4 | 0.3 |
//!
//! A key is worth preparing for its first signature. One signature at a time is faster than eight in the eight lanes of
//! a vector, which took 4.7 microseconds each on a Zen 4 and made seven of them wait. Tried and slower for 2048 bits,
//! where the power alone takes 2.8: all sums moved in every round, with one scalar round ahead (3.5); with half of them
//! moved in turn (3.1).
#![deny(unsafe_code)]

mod kernel;
mod line_ends;
mod relaxed;
mod rsa;
mod simple;

pub use self::kernel::Kernel;
pub use self::line_ends::{LineEndCounts, count_line_ends};
pub use self::relaxed::RelaxedBody;
pub use self::rsa::RsaKey;
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
