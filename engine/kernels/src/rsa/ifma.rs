//! Montgomery products with the limbs of one number side by side in AVX-512 IFMA lanes.
#![allow(unsafe_code)]

use std::arch::asm;
use std::arch::x86_64::*;
use std::mem::swap;

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

    /// a * b / R mod n, below n + a * b / R, where R is 2^(52 * limbs); `negated_inverse` is -1/n modulo a limb.
    pub(super) fn product<const V: usize>(
        self,
        n: &Number<V>,
        negated_inverse: u64,
        a: &Number<V>,
        b: &Number<V>,
    ) -> Number<V> {
        // SAFETY: `self` exists, so `detect` saw every feature the routine enables.
        unsafe { product(n, negated_inverse, a, b) }
    }
}

/// Each round adds `a` times a limb of `b`, and the multiple of n that clears the lowest limb, which is dropped.
///
/// That multiple needs the one of the round before, over a chain of instructions far longer than the additions to all
/// other limbs take: out of the vectors, a product, and back into them. So the lowest limbs are followed in scalar
/// registers as well ([`Lowest`]), where the last two rounds' share is known before it has come through the vectors.
///
/// The other long step is to move all lanes down by a limb. So there are two halves of the sums, which move by two limbs
/// in turn: the first lane of `own` is the lowest limb of this round, that of `other` is the lowest of the next, and the
/// upper halves of products, which count one limb higher, go to `other`.
#[target_feature(enable = "avx512f,avx512ifma,bmi2")]
#[inline(never)]
fn product<const V: usize>(n: &Number<V>, negated_inverse: u64, a: &Number<V>, b: &Number<V>) -> Number<V> {
    let mut lowest = Lowest::new(a.limbs(), n.limbs(), negated_inverse);
    let (a, n) = (load(a), load(n));
    let (mut own, mut other) = ([_mm512_setzero_si512(); V], [_mm512_setzero_si512(); V]);
    let mut limb = b.limbs()[0];
    for at in 0..V {
        own[at] = _mm512_madd52lo_epu64(own[at], a[at], broadcast(limb));
    }
    for at in 0..Number::<V>::LIMBS {
        let next = b.limbs().get(at + 1).copied().unwrap_or_default();
        round(&mut lowest, [&a, &n], [limb, next], &mut own, &mut other);
        swap(&mut own, &mut other);
        limb = next;
    }
    // What was `own` in the last round has not moved since.
    move_down::<1, V>(&mut other);
    for at in 0..V {
        own[at] = _mm512_add_epi64(own[at], other[at]);
    }
    own[0] = _mm512_add_epi64(own[0], _mm512_maskz_set1_epi64(1, lowest.carry.cast_signed()));
    spread_carries(own)
}

/// One round of [`product`]. `own` begins with the lower halves of `a` times the round's limb of `b`; `other` is moved
/// to where it belongs in the next round, and is left with the lower halves of `a` times `next`.
///
/// A sum has at most four halves of products for each limb, so up to 320 numbers of 52 bits: less than 61 bits.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma,bmi2")]
fn round<const V: usize>(
    lowest: &mut Lowest,
    [a, n]: [&[__m512i; V]; 2],
    [limb, next]: [u64; 2],
    own: &mut [__m512i; V],
    other: &mut [__m512i; V],
) {
    move_down::<2, V>(other);
    let y = broadcast(lowest.round(limb, third(own[0]) + second(other[0])));
    let limb = broadcast(limb);
    let next = broadcast(next);
    for at in 0..V {
        // From zero, so that these two products wait for no sum.
        let more = _mm512_madd52hi_epu64(_mm512_setzero_si512(), a[at], limb);
        let more = _mm512_madd52lo_epu64(more, a[at], next);
        other[at] = _mm512_add_epi64(other[at], more);
    }
    for at in 0..V {
        own[at] = _mm512_madd52lo_epu64(own[at], n[at], y);
        other[at] = _mm512_madd52hi_epu64(other[at], n[at], y);
    }
}

/// The lowest limb of a round, and what is known of the two above it.
struct Lowest {
    a: [u64; 2],
    n: [u64; 3],
    /// -1/n modulo a limb, in the upper bits.
    negated_inverse: u64,
    /// What the limbs dropped so far carry into the lowest one.
    carry: u64,
    /// The lowest limb, but for its share of `a` times the round's limb of `b`.
    first: u64,
    /// The limb above it, but for both products with its first limb.
    second: u64,
}

impl Lowest {
    fn new(a: &[u64], n: &[u64], negated_inverse: u64) -> Self {
        let negated_inverse = negated_inverse << UP;
        Self { a: [a[0], a[1]], n: [n[0], n[1], n[2]], negated_inverse, carry: 0, first: 0, second: 0 }
    }

    /// The multiple of n for the round with this limb of `b`.
    ///
    /// `third` is what the vectors have of the third limb: everything of the rounds before, and the lower half of `a`
    /// times the limb.
    #[inline]
    fn round(&mut self, limb: u64, third: u64) -> u64 {
        let a0 = Halves::of(self.a[0], limb << UP);
        let a1 = Halves::of(self.a[1], limb << UP);
        let lowest = self.first + a0.low;
        // In the upper bits as well, where it needs no mask.
        let y = lowest.wrapping_mul(self.negated_inverse);
        let n0 = Halves::of(self.n[0], y);
        let n1 = Halves::of(self.n[1], y);
        let n2 = Halves::of(self.n[2], y);
        // What is dropped, the lowest limb and its share of y * n, adds up to 0 or to a whole limb.
        self.carry = (lowest >> LIMB_BITS) + u64::from(lowest & LIMB_MASK != 0);
        let early = scalar(self.second + a0.high + a1.low);
        self.first = scalar(early + self.carry + (n0.high + n1.low));
        self.second = scalar(third + a1.high) + (n1.high + n2.low);
        y >> UP
    }
}

/// A product of two limbs as two limbs.
struct Halves {
    high: u64,
    low: u64,
}

impl Halves {
    /// Of a limb and one in the upper bits.
    #[inline]
    fn of(limb: u64, up: u64) -> Self {
        let product = u128::from(limb) * u128::from(up);
        Self { high: (product >> 64) as u64, low: product as u64 >> UP }
    }
}

/// Moves the lanes of all vectors down by `BY` lanes, with zeros from above.
#[inline]
#[target_feature(enable = "avx512f")]
fn move_down<const BY: i32, const V: usize>(lanes: &mut [__m512i; V]) {
    for at in 0..V {
        let above = if at + 1 < V { lanes[at + 1] } else { _mm512_setzero_si512() };
        lanes[at] = _mm512_alignr_epi64::<BY>(above, lanes[at]);
    }
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

#[inline]
#[target_feature(enable = "avx512f")]
fn broadcast(limb: u64) -> __m512i {
    _mm512_set1_epi64(limb.cast_signed())
}

/// The same word, in a scalar register. Without this the compiler takes the sums of [`Lowest`] in pairs to vector
/// registers, which costs more than what the products take.
#[inline]
fn scalar(mut word: u64) -> u64 {
    // SAFETY: there is no instruction.
    unsafe { asm!("/* {} */", inout(reg) word, options(pure, nomem, nostack, preserves_flags)) };
    word
}

/// The second lane.
#[inline]
#[target_feature(enable = "avx512f")]
fn second(vector: __m512i) -> u64 {
    _mm_extract_epi64::<1>(_mm512_castsi512_si128(vector)).cast_unsigned()
}

/// The third lane.
#[inline]
#[target_feature(enable = "avx512f")]
fn third(vector: __m512i) -> u64 {
    let upper = _mm256_extracti128_si256::<1>(_mm512_castsi512_si256(vector));
    _mm_cvtsi128_si64(upper).cast_unsigned()
}

/// Bits of a word above a limb.
const UP: usize = 64 - LIMB_BITS;
