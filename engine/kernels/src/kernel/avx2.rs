//! 64 octets per step: compare masks, then eight table shuffles of 8 octets where something goes.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{LOOKAHEAD, STEP, Staging};

/// Proof that the CPU has AVX2, BMI1 and POPCNT.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Avx2(());

impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        let has =
            is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi1") && is_x86_feature_detected!("popcnt");
        has.then_some(Self(()))
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

#[target_feature(enable = "avx2,bmi1,popcnt")]
fn unchanged(source: &[u8]) -> usize {
    let mut at = 0;
    while at < source.len() {
        let changed = match source[at..].first_chunk() {
            Some(window) => classify(window).changed(),
            None => classify(&padded(&source[at..])).changed(),
        };
        if changed != 0 {
            return at + changed.trailing_zeros() as usize;
        }
        at += STEP;
    }
    source.len()
}

#[target_feature(enable = "avx2,bmi1,popcnt")]
fn squeeze(source: &[u8], read: usize, out: &mut Staging) -> usize {
    let mut written = 0;
    let mut at = 0;
    while at < read {
        let range = if read - at < STEP { (1 << (read - at)) - 1 } else { u64::MAX };
        let step = match source[at..].first_chunk() {
            Some(window) => classify(window),
            None => classify(&padded(&source[at..])),
        };
        written += step.keep(range, &mut out[written..]);
        at += STEP;
    }
    written
}

/// The last octets of a source with zeros behind them.
fn padded(rest: &[u8]) -> [u8; STEP + LOOKAHEAD] {
    let mut window = [0; STEP + LOOKAHEAD];
    window[..rest.len()].copy_from_slice(rest);
    window
}

/// What happens to 64 octets.
struct Step {
    now: [__m256i; 2],
    tabs: [__m256i; 2],
    changed: u64,
    dropped: u64,
}

#[inline]
#[target_feature(enable = "avx2")]
fn classify(window: &[u8; STEP + LOOKAHEAD]) -> Step {
    let now = [load::<0>(window), load::<32>(window)];
    let tabs = now.map(|half| equal(half, b'\t'));
    let white = [0, 1].map(|half| _mm256_or_si256(tabs[half], equal(now[half], b' ')));
    let mut step = Step { now, tabs, changed: 0, dropped: 0 };
    let white_bits = bits(white);
    if white_bits != 0 {
        let next = [load::<1>(window), load::<33>(window)];
        let white_next = bits(next.map(|half| _mm256_or_si256(equal(half, b'\t'), equal(half, b' '))));
        let before_cr = white_bits & bits(next.map(|half| equal(half, b'\r')));
        step.dropped = white_bits & white_next;
        if before_cr != 0 {
            let after = [load::<2>(window), load::<34>(window)];
            step.dropped |= before_cr & bits(after.map(|half| equal(half, b'\n')));
        }
        step.changed = step.dropped | bits(tabs);
    }
    step
}

#[inline]
#[target_feature(enable = "avx2")]
fn equal(octets: __m256i, octet: u8) -> __m256i {
    _mm256_cmpeq_epi8(octets, _mm256_set1_epi8(octet as i8))
}

#[inline]
#[target_feature(enable = "avx2")]
fn bits(halves: [__m256i; 2]) -> u64 {
    let [low, high] = halves.map(|half| u64::from(_mm256_movemask_epi8(half) as u32));
    low | high << 32
}

#[inline]
#[target_feature(enable = "avx2")]
fn load<const AT: usize>(window: &[u8; STEP + LOOKAHEAD]) -> __m256i {
    const { assert!(AT + 32 <= STEP + LOOKAHEAD) };
    // SAFETY: AT + 32 octets are in the window, by the assertion above.
    unsafe { _mm256_loadu_si256(window.as_ptr().add(AT).cast()) }
}

impl Step {
    #[inline]
    fn changed(&self) -> u64 {
        self.changed
    }

    /// Writes what is kept of the octets in `range`; returns their count.
    #[inline]
    #[target_feature(enable = "avx2,bmi1,popcnt")]
    fn keep(&self, range: u64, out: &mut [u8]) -> usize {
        let out: &mut [u8; STEP] = out.first_chunk_mut().expect("a step of room is left behind what is staged");
        let space = _mm256_set1_epi8(b' ' as i8);
        let [low, high] = [0, 1].map(|half| _mm256_blendv_epi8(self.now[half], space, self.tabs[half]));
        let keep = !self.dropped;
        if self.dropped == 0 {
            let at = out.as_mut_ptr();
            // SAFETY: `out` has 64 octets, 32 of them from here on.
            unsafe { _mm256_storeu_si256(at.cast(), low) };
            // SAFETY: `out` has 64 octets, 32 of them behind the first 32.
            unsafe { _mm256_storeu_si256(at.add(32).cast(), high) };
        } else {
            let mut written = 0;
            let quarters = [
                _mm256_castsi256_si128(low),
                _mm256_extracti128_si256::<1>(low),
                _mm256_castsi256_si128(high),
                _mm256_extracti128_si256::<1>(high),
            ];
            for (quarter, octets) in quarters.into_iter().enumerate() {
                let keep = (keep >> (16 * quarter)) as usize;
                let (first, second) = (keep & 0xff, keep >> 8 & 0xff);
                let pattern = _mm_set_epi64x(SHUFFLE[second] as i64 | UPPER, SHUFFLE[first] as i64);
                let octets = _mm_shuffle_epi8(octets, pattern);
                out[written..written + 8].copy_from_slice(&_mm_cvtsi128_si64(octets).to_le_bytes());
                written += first.count_ones() as usize;
                out[written..written + 8].copy_from_slice(&_mm_extract_epi64::<1>(octets).to_le_bytes());
                written += second.count_ones() as usize;
            }
        }
        (keep & range).count_ones() as usize
    }
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
