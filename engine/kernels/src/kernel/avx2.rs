//! 32 octets per step: comparisons, then four table shuffles of 8 octets where something goes.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{LOOKAHEAD, Staging};
use crate::LineEndCounts;
use crate::line_ends::count;

/// Proof that the CPU has AVX2 and POPCNT.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Avx2(());

impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        let has =
            is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi1") && is_x86_feature_detected!("popcnt");
        has.then_some(Self(()))
    }

    pub(super) fn count_line_ends(self, octets: &[u8]) -> LineEndCounts {
        // SAFETY: `self` exists, so `detect` saw every feature the routine enables.
        unsafe { count_line_ends(octets) }
    }

    pub(super) fn unchanged(self, source: &[u8]) -> usize {
        // SAFETY: `self` exists, so `detect` saw every feature the routine enables.
        unsafe { unchanged(source) }
    }

    pub(super) fn squeeze(self, source: &[u8], read: usize, out: &mut Staging) -> usize {
        // SAFETY: `self` exists, so `detect` saw every feature the routine enables.
        unsafe { squeeze(source, read, out) }
    }
}

#[target_feature(enable = "avx2,popcnt")]
fn count_line_ends(octets: &[u8]) -> LineEndCounts {
    count(octets)
}

#[target_feature(enable = "avx2,popcnt")]
fn unchanged(source: &[u8]) -> usize {
    let mut at = 0;
    while at < source.len() {
        let step = match source[at..].first_chunk() {
            Some(window) => Step::read(window),
            None => Step::read(&padded(&source[at..])),
        };
        let changed = bits(step.tabs) | step.dropped();
        if changed != 0 {
            return at + changed.trailing_zeros() as usize;
        }
        at += WIDTH;
    }
    source.len()
}

#[target_feature(enable = "avx2,popcnt")]
fn squeeze(source: &[u8], read: usize, out: &mut Staging) -> usize {
    let mut written = 0;
    let mut at = 0;
    while at < read {
        let range = if read - at < WIDTH { (1 << (read - at)) - 1 } else { u32::MAX };
        let step = match source[at..].first_chunk() {
            Some(window) => Step::read(window),
            None => Step::read(&padded(&source[at..])),
        };
        written += step.write(range, &mut out[written..]);
        at += WIDTH;
    }
    written
}

/// Octets of one vector.
const WIDTH: usize = 32;

type Window = [u8; WIDTH + LOOKAHEAD];

/// The last octets of a source with zeros behind them.
fn padded(rest: &[u8]) -> Window {
    let mut window = [0; WIDTH + LOOKAHEAD];
    window[..rest.len()].copy_from_slice(rest);
    window
}

/// 32 octets and what decides about them.
///
/// All stays in vectors until one mask is taken: where masks of two vectors are combined as integers, the compiler
/// takes them apart bit by bit.
#[derive(Clone, Copy)]
struct Step {
    now: __m256i,
    tabs: __m256i,
    dropped: __m256i,
}

impl Step {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn read(window: &Window) -> Self {
        let (now, next, after) = (load::<0>(window), load::<1>(window), load::<2>(window));
        let tabs = equal(now, b'\t');
        let white = _mm256_or_si256(equal(now, b' '), tabs);
        let white_next = _mm256_or_si256(equal(next, b' '), equal(next, b'\t'));
        let line_end = _mm256_and_si256(equal(next, b'\r'), equal(after, b'\n'));
        Self { now, tabs, dropped: _mm256_and_si256(white, _mm256_or_si256(white_next, line_end)) }
    }

    /// A bit for every octet that goes.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn dropped(self) -> u32 {
        bits(self.dropped)
    }

    /// Writes what is kept of the octets in `range`; returns their count.
    #[inline]
    #[target_feature(enable = "avx2,popcnt")]
    fn write(self, range: u32, out: &mut [u8]) -> usize {
        let out: &mut [u8; WIDTH] = out.first_chunk_mut().expect("a step of room is left behind what is staged");
        let spaced = _mm256_blendv_epi8(self.now, _mm256_set1_epi8(b' ' as i8), self.tabs);
        let keep = !self.dropped();
        if keep == u32::MAX {
            // SAFETY: `out` has the 32 octets that are written.
            unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), spaced) };
        } else {
            let room = compress(_mm256_castsi256_si128(spaced), keep, out);
            compress(_mm256_extracti128_si256::<1>(spaced), keep >> 16, room);
        }
        (keep & range).count_ones() as usize
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load<const AT: usize>(window: &Window) -> __m256i {
    const { assert!(AT <= LOOKAHEAD) };
    // SAFETY: the window has 32 octets from AT on, by the assertion above.
    unsafe { _mm256_loadu_si256(window.as_ptr().add(AT).cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn equal(octets: __m256i, octet: u8) -> __m256i {
    _mm256_cmpeq_epi8(octets, _mm256_set1_epi8(octet as i8))
}

#[inline]
#[target_feature(enable = "avx2")]
fn bits(mask: __m256i) -> u32 {
    _mm256_movemask_epi8(mask) as u32
}

/// Writes those of 16 octets whose bit is set; returns the room behind them.
#[inline]
#[target_feature(enable = "avx2,popcnt")]
fn compress(octets: __m128i, keep: u32, room: &mut [u8]) -> &mut [u8] {
    let (first, second) = (keep as u8, (keep >> 8) as u8);
    let pattern = _mm_set_epi64x(SHUFFLE[usize::from(second)] as i64 | UPPER, SHUFFLE[usize::from(first)] as i64);
    let octets = _mm_shuffle_epi8(octets, pattern);
    room[..8].copy_from_slice(&_mm_cvtsi128_si64(octets).to_le_bytes());
    let room = &mut room[first.count_ones() as usize..];
    room[..8].copy_from_slice(&_mm_extract_epi64::<1>(octets).to_le_bytes());
    &mut room[second.count_ones() as usize..]
}

/// Added to a pattern so that it takes from the upper half of 16 octets.
const UPPER: i64 = 0x0808_0808_0808_0808;

/// For each set of kept octets out of 8, the indices of these octets, lowest first.
static SHUFFLE: [u64; 256] = {
    let mut table = [0; 256];
    let mut set = 0;
    while set < 256 {
        let (mut at, mut octet) = (0, 0);
        while octet < 8 {
            if set >> octet & 1 == 1 {
                table[set] |= octet << (8 * at);
                at += 1;
            }
            octet += 1;
        }
        set += 1;
    }
    table
};
