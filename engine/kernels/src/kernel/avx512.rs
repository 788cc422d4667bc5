//! 64 octets per step: compare masks, then one byte compression.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{LOOKAHEAD, STEP, Staging};
use crate::LineEndCounts;
use crate::line_ends::count;

/// Proof that the CPU has AVX-512 F, BW and VBMI2, and POPCNT.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Avx512(());

impl Avx512 {
    pub(super) fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vbmi2")
            && is_x86_feature_detected!("popcnt");
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

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,popcnt")]
fn count_line_ends(octets: &[u8]) -> LineEndCounts {
    count(octets)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,popcnt")]
fn unchanged(source: &[u8]) -> usize {
    let mut at = 0;
    while let Some(window) = source[at..].first_chunk() {
        let changed = classify(Source::whole(window)).changed();
        if changed != 0 {
            return at + changed.trailing_zeros() as usize;
        }
        at += STEP;
    }
    while at < source.len() {
        let changed = classify(Source::partial(&source[at..])).changed();
        if changed != 0 {
            return at + changed.trailing_zeros() as usize;
        }
        at += STEP;
    }
    source.len()
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,popcnt")]
fn squeeze(source: &[u8], read: usize, out: &mut Staging) -> usize {
    let mut written = 0;
    let mut at = 0;
    while at + STEP <= read
        && let Some(window) = source[at..].first_chunk()
    {
        let step = classify(Source::whole(window));
        written += step.keep(u64::MAX, &mut out[written..]);
        at += STEP;
    }
    while at < read {
        let step = classify(Source::partial(&source[at..]));
        written += step.keep(first(read - at), &mut out[written..]);
        at += STEP;
    }
    written
}

/// 64 octets, the same moved by one, and where to find them moved by two.
#[derive(Clone, Copy)]
struct Source<'a> {
    now: __m512i,
    next: __m512i,
    rest: &'a [u8],
}

impl<'a> Source<'a> {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn whole(window: &'a [u8; STEP + LOOKAHEAD]) -> Self {
        let rest = window.as_slice();
        // SAFETY: `window` has 64 octets from 0 on.
        let now = unsafe { _mm512_loadu_epi8(rest.as_ptr().cast()) };
        // SAFETY: `window` has 64 octets from 1 on.
        let next = unsafe { _mm512_loadu_epi8(rest.as_ptr().add(1).cast()) };
        Self { now, next, rest }
    }

    /// Octets beyond the end count as zero.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn partial(rest: &'a [u8]) -> Self {
        Self { now: load(rest), next: load(rest.get(1..).unwrap_or_default()), rest }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn after_next(self) -> __m512i {
        load(self.rest.get(2..).unwrap_or_default())
    }
}

/// Up to 64 octets, zero beyond the end.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load(octets: &[u8]) -> __m512i {
    // SAFETY: the mask admits no more than `octets.len()` octets; the others are not accessed.
    unsafe { _mm512_maskz_loadu_epi8(first(octets.len()), octets.as_ptr().cast()) }
}

/// The lowest `count` bits.
#[inline]
fn first(count: usize) -> u64 {
    if count < STEP { (1 << count) - 1 } else { u64::MAX }
}

/// What happens to 64 octets.
#[derive(Clone, Copy)]
struct Step {
    now: __m512i,
    tabs: u64,
    dropped: u64,
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn classify(source: Source<'_>) -> Step {
    let (now, next) = (source.now, source.next);
    let tabs = _mm512_cmpeq_epi8_mask(now, _mm512_set1_epi8(b'\t' as i8));
    let white = _mm512_cmpeq_epi8_mask(now, _mm512_set1_epi8(b' ' as i8)) | tabs;
    let mut dropped = 0;
    if white != 0 {
        let white_next = _mm512_cmpeq_epi8_mask(next, _mm512_set1_epi8(b' ' as i8))
            | _mm512_cmpeq_epi8_mask(next, _mm512_set1_epi8(b'\t' as i8));
        let before_cr = white & _mm512_cmpeq_epi8_mask(next, _mm512_set1_epi8(b'\r' as i8));
        dropped = white & white_next;
        if before_cr != 0 {
            dropped |= before_cr & _mm512_cmpeq_epi8_mask(source.after_next(), _mm512_set1_epi8(b'\n' as i8));
        }
    }
    Step { now, tabs, dropped }
}

impl Step {
    #[inline]
    fn changed(self) -> u64 {
        self.tabs | self.dropped
    }

    /// Writes what is kept of the octets in `range`; returns their count.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,popcnt")]
    fn keep(self, range: u64, out: &mut [u8]) -> usize {
        let mut kept = _mm512_mask_blend_epi8(self.tabs, self.now, _mm512_set1_epi8(b' ' as i8));
        let keep = !self.dropped;
        if self.dropped != 0 {
            kept = _mm512_maskz_compress_epi8(keep, kept);
        }
        let out: &mut [u8] = &mut out[..STEP];
        // SAFETY: `out` has 64 octets.
        unsafe { _mm512_storeu_epi8(out.as_mut_ptr().cast(), kept) };
        (keep & range).count_ones() as usize
    }
}
