//! Numbers as long as a modulus, in limbs of 52 bits, the lowest first.

/// Bits of a limb: what the multiply-add instructions take.
pub(super) const LIMB_BITS: usize = 52;
pub(super) const LIMB_MASK: u64 = (1 << LIMB_BITS) - 1;
/// Limbs of a vector.
pub(super) const LANES: usize = 8;

/// `V` vectors of limbs. The size of the modulus follows from `V`; limbs above [`Number::LIMBS`] are zero.
#[repr(align(64))]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Number<const V: usize>(pub(super) [[u64; LANES]; V]);

impl<const V: usize> Number<V> {
    pub(super) const ZERO: Self = Self([[0; LANES]; V]);

    /// Bits of the modulus.
    pub(super) const BITS: usize = match V {
        3 => 1024,
        5 => 2048,
        8 => 3072,
        10 => 4096,
        _ => panic!("no modulus has so many vectors"),
    };

    pub(super) const OCTETS: usize = Self::BITS / 8;

    /// Limbs in use, an even number. They have room for 16 to 64 bits more than the modulus.
    pub(super) const LIMBS: usize = Self::BITS.div_ceil(LIMB_BITS).next_multiple_of(2);

    /// Reads big-endian octets, which must be as many as the modulus has.
    pub(super) fn read(octets: &[u8]) -> Option<Self> {
        if octets.len() != Self::OCTETS {
            return None;
        }
        let mut number = Self::ZERO;
        for (at, limb) in number.limbs_mut().iter_mut().enumerate() {
            let bit = LIMB_BITS * at;
            // A limb and the up to seven bits below it are in eight octets; at the top there are fewer.
            let below = &octets[..octets.len().saturating_sub(bit / 8)];
            let window = match below.last_chunk() {
                Some(window) => u64::from_be_bytes(*window),
                None => below.iter().fold(0, |sum, &octet| sum << 8 | u64::from(octet)),
            };
            *limb = window >> (bit % 8) & LIMB_MASK;
        }
        Some(number)
    }

    pub(super) fn limbs(&self) -> &[u64] {
        &self.0.as_flattened()[..Self::LIMBS]
    }

    pub(super) fn limbs_mut(&mut self) -> &mut [u64] {
        &mut self.0.as_flattened_mut()[..Self::LIMBS]
    }

    pub(super) fn is_less(&self, other: &Self) -> bool {
        self.limbs().iter().rev().lt(other.limbs().iter().rev())
    }

    /// Takes `other` away once if that leaves something.
    pub(super) fn reduce_once(&mut self, other: &Self) {
        if self.is_less(other) {
            return;
        }
        let mut borrow = 0;
        for (limb, other) in self.limbs_mut().iter_mut().zip(other.limbs()) {
            let difference = limb.wrapping_sub(*other).wrapping_sub(borrow);
            borrow = difference >> 63;
            *limb = difference & LIMB_MASK;
        }
    }

    /// Times 2^`bits`, at most 12; the caller knows that there is room.
    pub(super) fn shift_up(&mut self, bits: usize) {
        let mut carry = 0;
        for limb in self.limbs_mut() {
            let shifted = *limb << bits | carry;
            carry = *limb >> (LIMB_BITS - bits);
            *limb = shifted & LIMB_MASK;
        }
        debug_assert_eq!(carry, 0);
    }
}
