//! Sizes drawn from a log-normal distribution, to the bit the same everywhere.
//!
//! The standard libraries of platforms differ in the last bits of `exp` and `ln`; here both are made of operations that
//! IEEE 754 rounds exactly.

use std::f64::consts::{LN_2, SQRT_2};

use mailproof_testkit::random::Random;

use super::Sizes;

/// Octets of a body.
pub(super) fn draw(sizes: Sizes, random: &mut Random) -> usize {
    match sizes {
        Sizes::Ordinary => (MEDIAN_BYTES * log_normal(random)).clamp(BODY_BYTES_MIN, BODY_BYTES_MAX) as usize,
        Sizes::Tiny => random.between(256, 3072),
        Sizes::Giant => random.between(1 << 20, BODY_BYTES_MAX as usize),
    }
}

fn log_normal(random: &mut Random) -> f64 {
    exp(SIGMA * normal(random))
}

/// The polar method (Marsaglia and Bray, 1964).
fn normal(random: &mut Random) -> f64 {
    loop {
        let (x, y) = (2.0 * part(random) - 1.0, 2.0 * part(random) - 1.0);
        let square = x * x + y * y;
        if square < 1.0 && square > 0.0 {
            return x * (-2.0 * ln(square) / square).sqrt();
        }
    }
}

/// From 0 to below 1, in steps of 2^-53.
fn part(random: &mut Random) -> f64 {
    (random.number() >> 11) as f64 / (1_u64 << 53) as f64
}

/// Of a positive, normal number: 2 artanh((m - 1) / (m + 1)) + e ln 2 for m 2^e.
fn ln(number: f64) -> f64 {
    let bits = number.to_bits();
    let mut exponent = (bits >> 52) as i32 - 1023;
    let mut mantissa = f64::from_bits(bits & ((1 << 52) - 1) | 1023 << 52);
    if mantissa > SQRT_2 {
        mantissa /= 2.0;
        exponent += 1;
    }
    let t = (mantissa - 1.0) / (mantissa + 1.0);
    let square = t * t;
    let series = (0..12).rev().fold(0.0, |sum, at| sum * square + 1.0 / f64::from(2 * at + 1));
    2.0 * t * series + f64::from(exponent) * LN_2
}

/// Of a number between -700 and 700.
fn exp(number: f64) -> f64 {
    let power = (number / LN_2).floor();
    let rest = number - power * LN_2;
    let series = (1..20).rev().fold(1.0, |sum, at| 1.0 + sum * rest / f64::from(at));
    series * f64::from_bits(((power as i64 + 1023) as u64) << 52)
}

const MEDIAN_BYTES: f64 = 30_720.0;
/// The mean of a log-normal distribution is its median times exp(sigma^2 / 2): 63 KiB here.
const SIGMA: f64 = 1.22;
const BODY_BYTES_MIN: f64 = 256.0;
const BODY_BYTES_MAX: f64 = 3.0 * 1024.0 * 1024.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_functions_are_those_of_the_standard_library_to_the_last_digits() {
        for number in [1e-300, 0.1, 0.5, 0.99, 1.0, 1.5, 2.0, 3.7, 1e10] {
            assert!((ln(number) - number.ln()).abs() <= 1e-14 * number.ln().abs().max(1.0), "{number}");
        }
        for number in [-20.0, -1.0, -1e-9, 0.0, 0.3, 1.0, 5.5, 100.0] {
            assert!((exp(number) / number.exp() - 1.0).abs() < 1e-13, "{number}");
        }
    }

    #[test]
    fn sizes_have_the_median_the_mean_and_the_tail_that_mail_has() {
        let mut random = Random::new(1);
        let mut sizes: Vec<usize> = (0..100_000).map(|_| draw(Sizes::Ordinary, &mut random)).collect();
        sizes.sort_unstable();
        let mean = sizes.iter().sum::<usize>() / sizes.len();
        assert!((30_000..31_500).contains(&sizes[50_000]), "median {}", sizes[50_000]);
        assert!((60_000..67_000).contains(&mean), "mean {mean}");
        assert_eq!(sizes.last(), Some(&(3 << 20)));
        // Draws of another platform, to the octet.
        let mut random = Random::new(7);
        let first: Vec<usize> = (0..5).map(|_| draw(Sizes::Ordinary, &mut random)).collect();
        assert_eq!(first, FIRST);
    }

    const FIRST: [usize; 5] = [29_194, 89_498, 21_149, 19_426, 8_645];
}
