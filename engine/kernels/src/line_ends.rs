//! Counts of the octets that RFC 5321 section 2.3.8 allows only as a pair, and of NUL.

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

/// Octets counted in eight-bit lanes before the lanes are added up: one less than would overflow them.
const BLOCK_BYTES: usize = 255;

/// Counts line end octets. The loop has no branch, so the compiler makes vector code of it.
#[must_use]
pub fn count_line_ends(octets: &[u8]) -> LineEndCounts {
    let mut counts = LineEndCounts::default();
    let mut previous = 0_u8;
    for block in octets.chunks(BLOCK_BYTES) {
        let (mut cr, mut lf, mut nul) = (0_u8, 0_u8, 0_u8);
        for &octet in block {
            cr += u8::from(octet == b'\r');
            lf += u8::from(octet == b'\n');
            nul += u8::from(octet == 0);
        }
        let mut crlf = u8::from(previous == b'\r' && block.first() == Some(&b'\n'));
        for (&first, &second) in block.iter().zip(block.get(1..).unwrap_or_default()) {
            crlf += u8::from(first == b'\r') & u8::from(second == b'\n');
        }
        previous = block.last().copied().unwrap_or_default();
        counts.cr += u32::from(cr);
        counts.lf += u32::from(lf);
        counts.crlf += u32::from(crlf);
        counts.nul += u32::from(nul);
    }
    counts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn counts_equal_a_plain_scan(octets in prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(0), any::<u8>()], 0..2000)) {
            let plain = LineEndCounts {
                cr: octets.iter().filter(|&&o| o == b'\r').count() as u32,
                lf: octets.iter().filter(|&&o| o == b'\n').count() as u32,
                crlf: octets.windows(2).filter(|pair| pair == b"\r\n").count() as u32,
                nul: octets.iter().filter(|&&o| o == 0).count() as u32,
            };
            prop_assert_eq!(count_line_ends(&octets), plain);
        }
    }
}
