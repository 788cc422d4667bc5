//! Counts of the octets that RFC 5321 section 2.3.8 allows only as a pair, and of NUL.

use crate::Kernel;

/// How often the octets occur.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LineEndCounts {
    /// CR, alone or in a pair.
    pub cr: u32,
    /// LF, alone or in a pair.
    pub lf: u32,
    /// CR directly followed by LF.
    pub crlf: u32,
    /// NUL.
    pub nul: u32,
}

/// Counts line end octets.
#[must_use]
pub fn count_line_ends(octets: &[u8]) -> LineEndCounts {
    Kernel::detected().count_line_ends(octets)
}

/// The routine for every vector width: lanes of eight bits, added up before they can overflow. It has no branch inside,
/// so the compiler makes of it whatever vectors its caller is compiled for.
#[inline(always)]
pub(crate) fn count(octets: &[u8]) -> LineEndCounts {
    let mut counts = LineEndCounts::default();
    let mut rest = octets;
    while rest.len() > LANES {
        let (mut cr, mut lf, mut crlf, mut nul) = ([0_u8; LANES], [0_u8; LANES], [0_u8; LANES], [0_u8; LANES]);
        for _ in 0..u8::MAX {
            let Some(window) = rest.first_chunk::<{ LANES + 1 }>() else { break };
            for lane in 0..LANES {
                let (now, next) = (window[lane], window[lane + 1]);
                cr[lane] += u8::from(now == b'\r');
                lf[lane] += u8::from(now == b'\n');
                crlf[lane] += u8::from(now == b'\r') & u8::from(next == b'\n');
                nul[lane] += u8::from(now == 0);
            }
            rest = &rest[LANES..];
        }
        counts.cr += sum(&cr);
        counts.lf += sum(&lf);
        counts.crlf += sum(&crlf);
        counts.nul += sum(&nul);
    }
    for (at, &octet) in rest.iter().enumerate() {
        counts.cr += u32::from(octet == b'\r');
        counts.lf += u32::from(octet == b'\n');
        counts.crlf += u32::from(octet == b'\r' && rest.get(at + 1) == Some(&b'\n'));
        counts.nul += u32::from(octet == 0);
    }
    counts
}

#[inline(always)]
fn sum(lanes: &[u8; LANES]) -> u32 {
    lanes.iter().map(|&lane| u32::from(lane)).sum()
}

/// Octets looked at side by side.
const LANES: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn counts_equal_a_plain_scan(
            octets in prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(0), any::<u8>()], 0..2000),
            times in 1..20usize,
        ) {
            let octets = octets.repeat(times);
            let plain = LineEndCounts {
                cr: octets.iter().filter(|&&o| o == b'\r').count() as u32,
                lf: octets.iter().filter(|&&o| o == b'\n').count() as u32,
                crlf: octets.windows(2).filter(|pair| pair == b"\r\n").count() as u32,
                nul: octets.iter().filter(|&&o| o == 0).count() as u32,
            };
            for kernel in Kernel::available() {
                prop_assert_eq!(kernel.count_line_ends(&octets), plain);
            }
        }
    }
}
