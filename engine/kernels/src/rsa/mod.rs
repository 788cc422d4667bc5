//! RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017 section 8.2) for the exponent 65537, one signature at a time.
//!
//! The power is 18 Montgomery products: one into Montgomery form, 16 squarings, and one with the plain signature, which
//! multiplies and leaves that form at once. A [`Modulus`] holds what they need.

#[cfg(not(target_arch = "x86_64"))]
mod absent;
#[cfg(target_arch = "x86_64")]
mod ifma;
mod modulus;
mod number;
mod self_test;

use std::sync::OnceLock;

#[cfg(not(target_arch = "x86_64"))]
use self::absent::Ifma;
#[cfg(target_arch = "x86_64")]
use self::ifma::Ifma;
use self::modulus::Modulus;
use self::number::Number;
use crate::kernel::portable_wished;

/// An RSA public key with the exponent 65537, ready for fast verification; 0.4 to 1.4 kB.
///
/// A key exists only for moduli of 1024, 2048, 3072 or 4096 bits, and where the CPU has AVX-512 IFMA. Everything else is
/// the work of a general library, and so is the last word on a signature that does not verify here: "yes" means that
/// the power of the signature equals the whole encoded message (RFC 8017 section 9.2), "no" may also mean that
/// something was not to this routine's taste.
///
/// Nothing here is constant in time: keys, signatures and hashes of mail are public. It must not see a private key.
///
/// ```
/// // The signature 0 has the power 0, which is no encoded message.
/// let modulus = [0xff; 256];
/// if let Some(key) = mailproof_kernels::RsaKey::prepare(&modulus) {
///     assert!(!key.verifies(&[0; 32], &[0; 256]));
/// }
/// ```
#[derive(Clone, Debug)]
pub struct RsaKey(Size);

/// The vectors that hold a number of so many bits.
#[derive(Clone, Debug)]
enum Size {
    Bits1024(Box<Modulus<3>>),
    Bits2048(Box<Modulus<5>>),
    Bits3072(Box<Modulus<8>>),
    Bits4096(Box<Modulus<10>>),
}

impl RsaKey {
    /// A key from its modulus, big-endian and without leading zeros.
    ///
    /// `None` where the CPU has no fast routine, `MAILPROOF_KERNELS=portable` is in the environment, the routine failed
    /// its self-test, or the modulus is even or has another size.
    #[must_use]
    pub fn prepare(modulus: &[u8]) -> Option<Self> {
        Self::prepare_with(trusted()?, modulus)
    }

    fn prepare_with(ifma: Ifma, modulus: &[u8]) -> Option<Self> {
        let size = match modulus.len() {
            128 => Size::Bits1024(Box::new(Modulus::new(ifma, modulus)?)),
            256 => Size::Bits2048(Box::new(Modulus::new(ifma, modulus)?)),
            384 => Size::Bits3072(Box::new(Modulus::new(ifma, modulus)?)),
            512 => Size::Bits4096(Box::new(Modulus::new(ifma, modulus)?)),
            _ => return None,
        };
        Some(Self(size))
    }

    /// Whether a signature, big-endian and as long as the modulus, is one over this SHA-256 hash.
    #[must_use]
    pub fn verifies(&self, sha256: &[u8; 32], signature: &[u8]) -> bool {
        match &self.0 {
            Size::Bits1024(modulus) => verifies(modulus, sha256, signature),
            Size::Bits2048(modulus) => verifies(modulus, sha256, signature),
            Size::Bits3072(modulus) => verifies(modulus, sha256, signature),
            Size::Bits4096(modulus) => verifies(modulus, sha256, signature),
        }
    }
}

fn verifies<const V: usize>(modulus: &Modulus<V>, sha256: &[u8; 32], signature: &[u8]) -> bool {
    let encoded: Number<V> = encoded_message(sha256);
    // RFC 8017 section 5.2.2: a representative of n or more is out of range.
    Number::read(signature).filter(|base| base.is_less(modulus.n())).is_some_and(|base| modulus.power(&base) == encoded)
}

/// EMSA-PKCS1-v1_5 (RFC 8017 section 9.2) in as many octets as the modulus has.
fn encoded_message<const V: usize>(sha256: &[u8; 32]) -> Number<V> {
    let mut octets = [0xff; OCTETS_MAX];
    let octets = &mut octets[..Number::<V>::OCTETS];
    octets[..2].copy_from_slice(&[0, 1]);
    let (padding, hash) = octets.split_at_mut(Number::<V>::OCTETS - sha256.len());
    hash.copy_from_slice(sha256);
    let (padding, info) = padding.split_at_mut(padding.len() - DIGEST_INFO.len());
    info.copy_from_slice(&DIGEST_INFO);
    padding[padding.len() - 1] = 0;
    Number::read(octets).expect("the octets are as many as the number has")
}

/// The zero octet between padding and hash follows from [`encoded_message`]; this is what RFC 8017 section 9.2 note 1
/// puts before a SHA-256 hash.
const DIGEST_INFO: [u8; 19] =
    [0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20];

/// Octets of the longest modulus.
const OCTETS_MAX: usize = 512;

/// The routine of this CPU, if there is one, is wanted, and gives the known answers.
fn trusted() -> Option<Ifma> {
    static TRUSTED: OnceLock<Option<Ifma>> = OnceLock::new();
    *TRUSTED.get_or_init(|| Ifma::detect().filter(|&ifma| !portable_wished() && self_test::passes(ifma)))
}

#[cfg(test)]
mod tests;
