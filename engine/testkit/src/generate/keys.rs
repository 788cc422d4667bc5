//! Key pairs of generated signatures: made once, kept in `keys/`, so that the same seed gives the same octets.

use std::sync::LazyLock;

use aws_lc_rs::digest;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A key pair with its public half as it stands in the DNS.
pub struct TestKey {
    private: Private,
    /// The value of `k=`.
    pub kind: &'static str,
    /// The value of `p=`: SubjectPublicKeyInfo for RSA, the raw key for Ed25519 (RFC 8463 section 4.2).
    pub public: String,
    /// Bits of the modulus, or 256.
    pub bits: usize,
}

enum Private {
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
    /// Moduli below 2048 bits, which the cryptographic library verifies but does not sign with.
    ShortRsa(ShortRsa),
}

/// Every key: RSA of 2048 bits (two), 1024 and 512 bits, Ed25519 (two).
pub static KEYS: LazyLock<[TestKey; 6]> = LazyLock::new(|| {
    [
        TestKey::rsa(include_str!("../../keys/rsa-2048-a.pem")),
        TestKey::rsa(include_str!("../../keys/rsa-2048-b.pem")),
        TestKey::short_rsa(include_str!("../../keys/rsa-1024.pem")),
        TestKey::short_rsa(include_str!("../../keys/rsa-512.pem")),
        TestKey::ed25519(include_str!("../../keys/ed25519-a.pem")),
        TestKey::ed25519(include_str!("../../keys/ed25519-b.pem")),
    ]
});

/// Places in [`KEYS`].
pub const RSA_2048: [usize; 2] = [0, 1];
/// Place in [`KEYS`] of the key of 1024 bits.
pub const RSA_1024: usize = 2;
/// Place in [`KEYS`] of the key of 512 bits, too short to count.
pub const RSA_512: usize = 3;
/// Places in [`KEYS`].
pub const ED25519: [usize; 2] = [4, 5];

impl TestKey {
    /// An RSA key of 2,048 bits or more, in PKCS#8.
    ///
    /// # Panics
    /// When it is no such key.
    #[must_use]
    pub fn rsa(pem: &str) -> Self {
        let der = pem_octets(pem);
        let pair = RsaKeyPair::from_pkcs8(&der).expect("the key was made by OpenSSL");
        let short = ShortRsa::from_pkcs8(&der);
        Self { public: short.public_key(), bits: short.bits(), kind: "rsa", private: Private::Rsa(pair) }
    }

    /// An RSA key of any size, in PKCS#8.
    ///
    /// # Panics
    /// When it is no such key.
    #[must_use]
    pub fn short_rsa(pem: &str) -> Self {
        let short = ShortRsa::from_pkcs8(&pem_octets(pem));
        Self { public: short.public_key(), bits: short.bits(), kind: "rsa", private: Private::ShortRsa(short) }
    }

    /// An Ed25519 key, in PKCS#8.
    ///
    /// # Panics
    /// When it is no such key.
    #[must_use]
    pub fn ed25519(pem: &str) -> Self {
        let der = pem_octets(pem);
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).expect("the key was made by OpenSSL");
        let public = STANDARD.encode(pair.public_key().as_ref());
        Self { public, bits: 256, kind: "ed25519", private: Private::Ed25519(pair) }
    }

    /// Signs the header octets of a message: RSASSA-PKCS1-v1_5 over their SHA-256, or Ed25519 over that hash
    /// (RFC 8463 section 3).
    #[must_use]
    pub fn sign(&self, octets: &[u8]) -> Vec<u8> {
        match &self.private {
            Private::Ed25519(pair) => {
                let hash = digest::digest(&digest::SHA256, octets);
                pair.sign(hash.as_ref()).as_ref().to_vec()
            }
            Private::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let random = SystemRandom::new();
                pair.sign(&RSA_PKCS1_SHA256, &random, octets, &mut signature).expect("the buffer has the right size");
                signature
            }
            Private::ShortRsa(key) => key.sign(octets),
        }
    }
}

fn pem_octets(pem: &str) -> Vec<u8> {
    let lines = pem.lines().skip_while(|line| !line.starts_with("-----BEGIN")).skip(1);
    let text: String = lines.take_while(|line| !line.starts_with("-----END")).collect();
    STANDARD.decode(text).expect("PEM holds base64")
}

/// An RSA key as numbers, for signatures of any size; slow, and good for tests only.
struct ShortRsa {
    modulus: Vec<u64>,
    modulus_octets: Vec<u8>,
    public_exponent: Vec<u8>,
    private_exponent: Vec<u8>,
}

impl ShortRsa {
    /// Reads modulus and exponents out of PrivateKeyInfo (RFC 5208) around RSAPrivateKey (RFC 8017 appendix A.1.2).
    fn from_pkcs8(der: &[u8]) -> Self {
        let (_, info, _) = der_item(der);
        let (_, _, rest) = der_item(info);
        let (_, _, rest) = der_item(rest);
        let (_, key, _) = der_item(rest);
        let (_, numbers, _) = der_item(key);
        let (_, _, rest) = der_item(numbers);
        let (_, modulus, rest) = der_item(rest);
        let (_, public_exponent, rest) = der_item(rest);
        let (_, private_exponent, _) = der_item(rest);
        let modulus_octets: Vec<u8> = modulus.iter().copied().skip_while(|&octet| octet == 0).collect();
        Self {
            modulus: limbs(&modulus_octets),
            modulus_octets,
            public_exponent: public_exponent.to_vec(),
            private_exponent: private_exponent.to_vec(),
        }
    }

    fn bits(&self) -> usize {
        self.modulus_octets.len() * 8 - self.modulus_octets.first().map_or(0, |octet| octet.leading_zeros() as usize)
    }

    /// SubjectPublicKeyInfo in base64.
    fn public_key(&self) -> String {
        let numbers = [der(2, &[&[0], &*self.modulus_octets].concat()), der(2, &self.public_exponent)].concat();
        let key = der(0x30, &numbers);
        let rsa_encryption = [0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
        STANDARD.encode(der(0x30, &[der(0x30, &rsa_encryption), der(3, &[&[0], &*key].concat())].concat()))
    }

    /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017 section 8.2.1).
    fn sign(&self, octets: &[u8]) -> Vec<u8> {
        const SHA256_PREFIX: [u8; 19] =
            [0x30, 0x31, 0x30, 0x0d, 0x06, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0, 4, 0x20];
        let hash = digest::digest(&digest::SHA256, octets);
        let info = [&SHA256_PREFIX[..], hash.as_ref()].concat();
        let padding = vec![0xff; self.modulus_octets.len() - info.len() - 3];
        let encoded = [&[0, 1][..], &padding, &[0], &info].concat();
        let power = self.power(&limbs(&encoded));
        let octets: Vec<u8> = power.iter().rev().flat_map(|limb| limb.to_be_bytes()).collect();
        octets[octets.len() - self.modulus_octets.len()..].to_vec()
    }

    /// `base` to the private exponent, by squaring in Montgomery form.
    fn power(&self, base: &[u64]) -> Vec<u64> {
        let size = self.modulus.len();
        let mut one = vec![0; size];
        one[0] = 1;
        // R modulo n, by doubling 1 as often as R has bits.
        let mut r = one.clone();
        let mut base_r = base.to_vec();
        base_r.resize(size, 0);
        for _ in 0..64 * size {
            self.double(&mut r);
            self.double(&mut base_r);
        }
        let mut power = r;
        for bit in self.private_exponent.iter().flat_map(|octet| (0..8).rev().map(move |bit| octet >> bit & 1)) {
            power = self.montgomery(&power, &power);
            if bit == 1 {
                power = self.montgomery(&power, &base_r);
            }
        }
        self.montgomery(&power, &one)
    }

    fn double(&self, number: &mut [u64]) {
        let mut carry = 0;
        for limb in number.iter_mut() {
            let next = *limb >> 63;
            *limb = *limb << 1 | carry;
            carry = next;
        }
        self.reduce(number, carry);
    }

    /// Takes the modulus off once where the number, with its carry, is not below it.
    fn reduce(&self, number: &mut [u64], carry: u64) {
        let is_below = carry == 0 && number.iter().rev().lt(self.modulus.iter().rev());
        if is_below {
            return;
        }
        let mut borrow = false;
        for (limb, modulus) in number.iter_mut().zip(&self.modulus) {
            let (less, first) = limb.overflowing_sub(*modulus);
            let (less, second) = less.overflowing_sub(u64::from(borrow));
            *limb = less;
            borrow = first || second;
        }
    }

    /// `a * b / R` modulo n (Koç, Acar and Kaliski, 1996: coarsely integrated operand scanning).
    fn montgomery(&self, a: &[u64], b: &[u64]) -> Vec<u64> {
        let size = self.modulus.len();
        let mut inverse = 1_u64;
        for _ in 0..6 {
            inverse = inverse.wrapping_mul(2_u64.wrapping_sub(self.modulus[0].wrapping_mul(inverse)));
        }
        let negative_inverse = inverse.wrapping_neg();
        let mut sum = vec![0_u64; size + 2];
        for &factor in b {
            let mut carry = 0_u128;
            for at in 0..size {
                let wide = u128::from(sum[at]) + u128::from(a[at]) * u128::from(factor) + carry;
                sum[at] = wide as u64;
                carry = wide >> 64;
            }
            let wide = u128::from(sum[size]) + carry;
            sum[size] = wide as u64;
            sum[size + 1] = (wide >> 64) as u64;
            let quotient = sum[0].wrapping_mul(negative_inverse);
            let mut carry = (u128::from(sum[0]) + u128::from(quotient) * u128::from(self.modulus[0])) >> 64;
            for at in 1..size {
                let wide = u128::from(sum[at]) + u128::from(quotient) * u128::from(self.modulus[at]) + carry;
                sum[at - 1] = wide as u64;
                carry = wide >> 64;
            }
            let wide = u128::from(sum[size]) + carry;
            sum[size - 1] = wide as u64;
            sum[size] = sum[size + 1] + (wide >> 64) as u64;
            sum[size + 1] = 0;
        }
        let carry = sum[size];
        sum.truncate(size);
        self.reduce(&mut sum, carry);
        sum
    }
}

/// Octets, the most significant first, as limbs, the least significant first.
fn limbs(octets: &[u8]) -> Vec<u64> {
    octets.rchunks(8).map(|chunk| chunk.iter().fold(0, |limb, &octet| limb << 8 | u64::from(octet))).collect()
}

/// The first item of a DER encoding: tag, content, and what follows.
fn der_item(octets: &[u8]) -> (u8, &[u8], &[u8]) {
    let (tag, first) = (octets[0], usize::from(octets[1]));
    let (len, start) = if first < 0x80 {
        (first, 2)
    } else {
        let count = first - 0x80;
        (octets[2..2 + count].iter().fold(0, |len, &octet| len << 8 | usize::from(octet)), 2 + count)
    };
    (tag, &octets[start..start + len], &octets[start + len..])
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let len = content.len();
    let head = match len {
        0..0x80 => vec![tag, len as u8],
        0x80..0x100 => vec![tag, 0x81, len as u8],
        _ => vec![tag, 0x82, (len >> 8) as u8, len as u8],
    };
    [&head[..], content].concat()
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, UnparsedPublicKey};

    use super::*;

    #[test]
    fn signatures_made_with_plain_numbers_verify() {
        let public = STANDARD.decode(&KEYS[RSA_1024].public).unwrap();
        let key = UnparsedPublicKey::new(&RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, public);
        for message in [&b"one"[..], b"two", b"three"] {
            key.verify(message, &KEYS[RSA_1024].sign(message)).unwrap();
        }
        let private = pem_octets(include_str!("../../keys/rsa-2048-a.pem"));
        assert_eq!(ShortRsa::from_pkcs8(&private).sign(b"same"), KEYS[0].sign(b"same"));
        assert_eq!(KEYS.iter().map(|key| key.bits).collect::<Vec<_>>(), [2048, 2048, 1024, 512, 256, 256]);
    }
}
