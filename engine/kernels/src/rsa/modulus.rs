//! A modulus and the constants of its Montgomery products, where R is 2^(52 * limbs).

use super::Ifma;
use super::number::{LIMB_BITS, LIMB_MASK, Number};

#[derive(Clone, Debug)]
pub(super) struct Modulus<const V: usize> {
    n: Number<V>,
    /// Something congruent to R^2 mod n, below 2n.
    r_squared: Number<V>,
    /// -1/n modulo a limb.
    negated_inverse: u64,
    ifma: Ifma,
}

impl<const V: usize> Modulus<V> {
    /// From big-endian octets; `None` unless the number is odd and has exactly the bits of this size.
    pub(super) fn new(ifma: Ifma, octets: &[u8]) -> Option<Self> {
        let top = u64::from_be_bytes(*octets.first_chunk()?);
        let n: Number<V> = Number::read(octets)?;
        if top >> 63 == 0 || n.limbs()[0] & 1 == 0 {
            return None;
        }
        let negated_inverse = inverse(n.limbs()[0]).wrapping_neg() & LIMB_MASK;
        let mut modulus = Self { n, r_squared: Number::ZERO, negated_inverse, ifma };
        modulus.r_squared = modulus.square_of_r(top);
        Some(modulus)
    }

    pub(super) fn n(&self) -> &Number<V> {
        &self.n
    }

    /// `base`^65537 mod n, for a base below n.
    pub(super) fn power(&self, base: &Number<V>) -> Number<V> {
        let mut power = self.product(base, &self.r_squared);
        for _ in 0..16 {
            power = self.product(&power, &power);
        }
        power = self.product(&power, base);
        power.reduce_once(&self.n);
        power
    }

    /// a * b / R mod n, below n + a * b / R.
    fn product(&self, a: &Number<V>, b: &Number<V>) -> Number<V> {
        self.ifma.product(&self.n, self.negated_inverse, a, b)
    }

    /// From R, by the powers of two whose exponents are the leading bits of the exponent of R = 2^e: each product makes
    /// 2^2x R out of 2^x R, and one more bit is a shift.
    ///
    /// Nothing is reduced in between: with 16 spare bits in the limbs or more, the product of two numbers below c * n is
    /// below (c^2 / 2^16 + 1) * n. So 5n shifted by 8 (with more spare bits, by up to 12) becomes less than 26n, a shift
    /// later less than 1.1n, and stays there.
    fn square_of_r(&self, top: u64) -> Number<V> {
        let exponent = LIMB_BITS * Number::<V>::LIMBS;
        let mut rest = exponent.ilog2() - (LEADING_BITS - 1);
        let mut power = self.r(top);
        power.shift_up(exponent >> rest);
        while rest > 0 {
            rest -= 1;
            power = self.product(&power, &power);
            power.shift_up(exponent >> rest & 1);
        }
        power
    }

    /// Something congruent to R mod n, below 5n: R minus as many n as the 64 leading bits of n tell.
    fn r(&self, top: u64) -> Number<V> {
        let spare = LIMB_BITS * Number::<V>::LIMBS - Number::<V>::BITS;
        let times = (u128::MAX >> (64 - spare)) / (u128::from(top) + 1);
        let mut r = Number::ZERO;
        let mut borrow = 0;
        for (limb, n) in r.limbs_mut().iter_mut().zip(self.n.limbs()) {
            let product = times * u128::from(*n) + borrow;
            *limb = (product as u64).wrapping_neg() & LIMB_MASK;
            borrow = (product >> LIMB_BITS) + u128::from(*limb != 0);
        }
        r
    }
}

/// 1/n mod 2^64 of an odd number: each round doubles the right bits.
fn inverse(n: u64) -> u64 {
    (0..6).fold(1u64, |inverse, _| inverse.wrapping_mul(2u64.wrapping_sub(n.wrapping_mul(inverse))))
}

/// Bits of the exponent of R that are made by a shift alone.
const LEADING_BITS: u32 = 4;
