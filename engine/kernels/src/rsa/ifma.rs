//! Montgomery products with the limbs of one number side by side in AVX-512 IFMA lanes.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::modulus::Modulus;
use super::number::{LANES, LIMB_BITS, LIMB_MASK, Number};

/// Proof that the CPU has AVX-512 F and IFMA, and BMI2.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ifma(());

impl Ifma {
    pub(super) fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512ifma")
            && is_x86_feature_detected!("bmi2");
        has.then_some(Self(()))
    }

    /// a * b / R mod n, below n + a * b / R.
    pub(super) fn product<const V: usize>(self, modulus: &Modulus<V>, a: &Number<V>, b: &Number<V>) -> Number<V> {
        // SAFETY: `self` exists, so `detect` saw every feature the routine enables.
        unsafe { product(modulus, a, b) }
    }

    /// base^65537 mod n or n more, for a base below n.
    pub(super) fn power<const V: usize>(self, modulus: &Modulus<V>, base: &Number<V>) -> Number<V> {
        // SAFETY: `self` exists, so `detect` saw every feature the routine enables.
        unsafe { power(modulus, base) }
    }
}

#[target_feature(enable = "avx512f,avx512ifma,bmi2")]
fn power<const V: usize>(modulus: &Modulus<V>, base: &Number<V>) -> Number<V> {
    let mut power = product(modulus, base, modulus.r_squared());
    for _ in 0..16 {
        power = product(modulus, &power, &power);
    }
    product(modulus, &power, base)
}

/// Each round adds a * b[i] and the multiple y of n that clears the lowest limb, and drops that limb.
///
/// The multiple y of one round needs that of the round before, over a chain of instructions that is far longer than the
/// additions to all other limbs take. So the two lowest limbs are also followed in scalar registers: what the last
/// round added to them is known there before it is in the vectors, which have two rounds' time to catch up.
#[target_feature(enable = "avx512f,avx512ifma,bmi2")]
#[inline(never)]
fn product<const V: usize>(modulus: &Modulus<V>, a: &Number<V>, b: &Number<V>) -> Number<V> {
    let (a_limbs, n_limbs) = (a.limbs(), modulus.n().limbs());
    let (a0, n0, n1) = (a_limbs[0], n_limbs[0], n_limbs[1]);
    // Twelve bits up, so that products with y have their high limb in the upper word, and y needs no mask.
    let inverse = modulus.negated_inverse() << UP;
    let a = load(a);
    let n = load(modulus.n());
    let zero = _mm512_setzero_si512();
    let mut sums = [zero; V];
    let mut highs = [zero; V];
    // Of the lowest limb in this round: from the limb below, from the last round, and from those before.
    let (mut carry, mut recent, mut old) = (0u64, 0u64, 0u64);
    for &b in b.limbs() {
        let low = u128::from(a0) * u128::from(b << UP);
        let limb = carry + recent + old + (low as u64 >> UP);
        let y = limb.wrapping_mul(inverse);
        // The lowest limb and that of y * n add up to 0 or to a whole limb.
        carry = (limb >> LIMB_BITS) + u64::from(limb & LIMB_MASK != 0);
        recent = (low >> 64) as u64 + (u128::from(n0) * u128::from(y) >> 64) as u64 + (n1.wrapping_mul(y) >> UP);

        let b = _mm512_set1_epi64(b.cast_signed());
        let y = _mm512_set1_epi64((y >> UP).cast_signed());
        for at in 0..V {
            let low = _mm512_madd52lo_epu64(highs[at], a[at], b);
            let above = if at + 1 < V { sums[at + 1] } else { zero };
            // Down one limb; `sums` of this round start without y * n.
            let shifted = _mm512_alignr_epi64::<1>(above, sums[at]);
            sums[at] = _mm512_add_epi64(shifted, low);
        }
        old = second(sums[0]);
        for at in 0..V {
            sums[at] = _mm512_madd52lo_epu64(sums[at], n[at], y);
            highs[at] = _mm512_madd52hi_epu64(_mm512_madd52hi_epu64(zero, a[at], b), n[at], y);
        }
    }
    for at in 0..V {
        let above = if at + 1 < V { sums[at + 1] } else { zero };
        sums[at] = _mm512_add_epi64(_mm512_alignr_epi64::<1>(above, sums[at]), highs[at]);
    }
    let first = _mm512_maskz_set1_epi64(1, carry.cast_signed());
    sums[0] = _mm512_add_epi64(sums[0], first);
    spread_carries(sums)
}

/// Limbs of 52 bits out of lanes of up to 64.
#[inline]
#[target_feature(enable = "avx512f")]
fn spread_carries<const V: usize>(sums: [__m512i; V]) -> Number<V> {
    let mask = _mm512_set1_epi64(LIMB_MASK.cast_signed());
    let one = _mm512_set1_epi64(1);
    let mut limbs = sums;
    let mut below = _mm512_setzero_si512();
    // A bit for each limb: it is one limb too large, or would be with one more.
    let (mut over, mut full) = (0u128, 0u128);
    for at in 0..V {
        let carries = _mm512_srli_epi64::<{ LIMB_BITS as u32 }>(sums[at]);
        limbs[at] = _mm512_add_epi64(_mm512_and_si512(sums[at], mask), _mm512_alignr_epi64::<7>(carries, below));
        below = carries;
        over |= u128::from(_mm512_cmpgt_epu64_mask(limbs[at], mask)) << (LANES * at);
        full |= u128::from(_mm512_cmpeq_epu64_mask(limbs[at], mask)) << (LANES * at);
    }
    // Adding makes a carry run through all full limbs above it, and the difference shows where one arrived.
    let arrived = ((over << 1) + full) ^ full;
    let mut number = Number::ZERO;
    for at in 0..V {
        let more = (arrived >> (LANES * at)) as __mmask8;
        let limbs = _mm512_and_si512(_mm512_mask_add_epi64(limbs[at], more, limbs[at], one), mask);
        // SAFETY: the row has the 64 octets that are written.
        unsafe { _mm512_storeu_si512(number.0[at].as_mut_ptr().cast(), limbs) };
    }
    number
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load<const V: usize>(number: &Number<V>) -> [__m512i; V] {
    let mut vectors = [_mm512_setzero_si512(); V];
    for (vector, row) in vectors.iter_mut().zip(&number.0) {
        // SAFETY: the row has the 64 octets that are read.
        *vector = unsafe { _mm512_loadu_si512(row.as_ptr().cast()) };
    }
    vectors
}

/// The second lane.
#[inline]
#[target_feature(enable = "avx512f")]
fn second(vector: __m512i) -> u64 {
    _mm_extract_epi64::<1>(_mm512_castsi512_si128(vector)).cast_unsigned()
}

/// Bits of a word above a limb.
const UP: usize = 64 - LIMB_BITS;
