//! Known answers, asked for once per process before the vector routine is trusted.

use super::modulus::Modulus;
use super::number::Number;
use super::{Ifma, OCTETS_MAX};

/// Whether the routine gives the known answers for every size of modulus; takes some 30 microseconds.
pub(super) fn passes(ifma: Ifma) -> bool {
    let [bits_1024, bits_2048, bits_3072, bits_4096] = ANSWERS;
    passes_with::<3>(ifma, bits_1024)
        && passes_with::<5>(ifma, bits_2048)
        && passes_with::<8>(ifma, bits_3072)
        && passes_with::<10>(ifma, bits_4096)
}

pub(super) fn passes_with<const V: usize>(ifma: Ifma, answers: [u64; 2]) -> bool {
    let given = cases::<V>().map(|(modulus, base)| {
        let modulus = Modulus::<V>::new(ifma, &modulus[..Number::<V>::OCTETS])?;
        Some(folded(&modulus.power(&Number::read(&base[..Number::<V>::OCTETS])?)))
    });
    given == answers.map(Some)
}

/// A modulus and a base: arbitrary octets, and a modulus that makes carries run as far as they can.
pub(super) fn cases<const V: usize>() -> [([u8; OCTETS_MAX], [u8; OCTETS_MAX]); 2] {
    let last = Number::<V>::OCTETS - 1;
    let (mut modulus, mut base) = (arbitrary(1), arbitrary(2));
    modulus[0] |= 0x80;
    modulus[last] |= 1;
    base[0] &= 0x7f;
    [(modulus, base), ([0xff; OCTETS_MAX], base)]
}

/// All limbs in one word (FNV-1a with words in place of octets).
pub(super) fn folded<const V: usize>(number: &Number<V>) -> u64 {
    number.limbs().iter().fold(0xcbf2_9ce4_8422_2325, |fold, limb| (fold ^ limb).wrapping_mul(0x0100_0000_01b3))
}

/// Octets of the generator xorshift64*.
fn arbitrary(seed: u64) -> [u8; OCTETS_MAX] {
    let mut state = seed;
    std::array::from_fn(|_| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as u8
    })
}

/// The folded powers of [`cases`], for moduli of 1024, 2048, 3072 and 4096 bits.
pub(super) const ANSWERS: [[u64; 2]; 4] = [
    [0x8537_4b43_6247_67ab, 0x5bf4_4227_fff1_3455],
    [0x377c_59e5_794d_20a5, 0xc62a_af18_3852_8752],
    [0x1c83_0717_ed44_4ae9, 0x0f04_0f69_683e_1b7e],
    [0x6540_de43_0b32_bb73, 0x6b25_d363_859e_5b4c],
];
