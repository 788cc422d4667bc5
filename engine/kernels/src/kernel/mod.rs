//! The choice of the routines that squeeze white space, made once per process.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use std::sync::OnceLock;

use crate::LineEndCounts;

/// One of the twins of every routine that this crate has in several forms; all give the same octets.
///
/// A value for a vector routine exists only where the CPU has what the routine needs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Kernel(Twin);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Twin {
    #[cfg(target_arch = "x86_64")]
    Avx512(avx512::Avx512),
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Avx2),
    Portable,
}

impl Kernel {
    /// The fastest routine of this CPU, or the portable one where `MAILPROOF_KERNELS=portable` is in the environment.
    #[must_use]
    pub fn detected() -> Self {
        static DETECTED: OnceLock<Kernel> = OnceLock::new();
        *DETECTED.get_or_init(|| Self::available().next().filter(|_| !portable_wished()).unwrap_or(Self::portable()))
    }

    /// The routine that runs everywhere.
    #[must_use]
    pub const fn portable() -> Self {
        Self(Twin::Portable)
    }

    /// Every routine this CPU can run, the fastest first.
    pub fn available() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let vector = [avx512::Avx512::detect().map(Twin::Avx512), avx2::Avx2::detect().map(Twin::Avx2)];
        #[cfg(not(target_arch = "x86_64"))]
        let vector: [Option<Twin>; 0] = [];
        vector.into_iter().flatten().chain([Twin::Portable]).map(Self)
    }

    /// The word for logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Twin::Avx512(_) => "avx512",
            #[cfg(target_arch = "x86_64")]
            Twin::Avx2(_) => "avx2",
            Twin::Portable => "portable",
        }
    }

    /// Counts line end octets.
    pub(crate) fn count_line_ends(self, octets: &[u8]) -> LineEndCounts {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Twin::Avx512(twin) => twin.count_line_ends(octets),
            #[cfg(target_arch = "x86_64")]
            Twin::Avx2(twin) => twin.count_line_ends(octets),
            Twin::Portable => crate::line_ends::count(octets),
        }
    }

    /// Octets at the start of `source` that need no change. What follows `source` is no white space and no LF.
    pub(crate) fn unchanged(self, source: &[u8]) -> usize {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Twin::Avx512(twin) => twin.unchanged(source),
            #[cfg(target_arch = "x86_64")]
            Twin::Avx2(twin) => twin.unchanged(source),
            Twin::Portable => portable::unchanged(source),
        }
    }

    /// Squeezes the first octets of `source` into `out`; returns how many were read and written.
    ///
    /// Everything is read where `source` has up to [`STAGE`] octets, and [`STAGE`] octets where it has more. What follows
    /// `source` is no white space and no LF.
    pub(crate) fn squeeze(self, source: &[u8], out: &mut Staging) -> (usize, usize) {
        let read = source.len().min(STAGE);
        let written = match self.0 {
            #[cfg(target_arch = "x86_64")]
            Twin::Avx512(twin) => twin.squeeze(source, read, out),
            #[cfg(target_arch = "x86_64")]
            Twin::Avx2(twin) => twin.squeeze(source, read, out),
            Twin::Portable => portable::squeeze(source, read, out),
        };
        (read, written)
    }
}

/// Whether `MAILPROOF_KERNELS=portable` is in the environment.
pub(crate) fn portable_wished() -> bool {
    std::env::var_os("MAILPROOF_KERNELS").is_some_and(|wish| wish == "portable")
}

/// Octets squeezed at a time: few calls of the hash, and the staging stays in the first-level cache.
pub(crate) const STAGE: usize = 4096;

/// Octets one vector step reads, and may write past those it keeps.
const STEP: usize = 64;

/// Octets after an octet that decide whether it stays.
const LOOKAHEAD: usize = 2;

/// Where squeezed octets go.
pub(crate) type Staging = [u8; STAGE + STEP];
