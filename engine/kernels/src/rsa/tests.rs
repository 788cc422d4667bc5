use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{
    KeyPair as _, RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, RSA_PKCS1_SHA256, RsaPublicKeyComponents,
};
use num_bigint::BigUint;
use proptest::prelude::*;

use super::self_test::{cases, folded};
use super::*;

/// base^65537 mod n, by the plain twin.
fn plain_power(modulus: &[u8], base: &[u8]) -> BigUint {
    BigUint::from_bytes_be(base).modpow(&BigUint::from(65537u32), &BigUint::from_bytes_be(modulus))
}

fn number<const V: usize>(value: &BigUint) -> Number<V> {
    let octets = value.to_bytes_be();
    let mut whole = vec![0; Number::<V>::OCTETS - octets.len()];
    whole.extend(octets);
    Number::read(&whole).unwrap()
}

/// Compares the power with the twin's, for a modulus of the size of `V` made of these octets.
fn check_power<const V: usize>(ifma: Ifma, modulus: &[u8], base: &[u8]) -> Result<(), TestCaseError> {
    let mut modulus = modulus[..Number::<V>::OCTETS].to_vec();
    modulus[0] |= 0x80;
    *modulus.last_mut().unwrap() |= 1;
    let base = BigUint::from_bytes_be(&base[..Number::<V>::OCTETS]) % BigUint::from_bytes_be(&modulus);
    let fast = Modulus::<V>::new(ifma, &modulus).unwrap().power(&number(&base));
    prop_assert_eq!(fast, number(&plain_power(&modulus, &base.to_bytes_be())));
    Ok(())
}

fn check_all_sizes(ifma: Ifma, modulus: &[u8], base: &[u8]) -> Result<(), TestCaseError> {
    check_power::<3>(ifma, modulus, base)?;
    check_power::<5>(ifma, modulus, base)?;
    check_power::<8>(ifma, modulus, base)?;
    check_power::<10>(ifma, modulus, base)
}

/// Octets in which runs of zeros and ones, whole limbs of them, are frequent.
fn octets() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        3 => prop::collection::vec(any::<u8>(), 1..40),
        2 => (prop::sample::select(vec![0xff, 0, 0x80, 1]), 1..200usize).prop_map(|(octet, count)| vec![octet; count]),
    ];
    prop::collection::vec(piece, 1..40).prop_map(|pieces| {
        let mut octets = pieces.concat();
        octets.resize(OCTETS_MAX, 0xff);
        octets
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 24 } else { 4096 }))]

    #[test]
    fn power_equals_plain(modulus in octets(), base in octets()) {
        if let Some(ifma) = Ifma::detect() {
            check_all_sizes(ifma, &modulus, &base)?;
        }
    }
}

#[test]
fn power_of_the_edges_equals_plain() {
    let Some(ifma) = Ifma::detect() else { return };
    let ones = [0xff; OCTETS_MAX];
    let mut least = [0; OCTETS_MAX];
    least[0] = 0x80;
    let mut middle = ones;
    middle[8..120].fill(0);
    for modulus in [ones, least, middle] {
        let len_of = |size: usize| [&modulus[..size - 1], &[modulus[size - 1] | 1]].concat();
        for size in [128, 256, 384, 512] {
            let modulus = BigUint::from_bytes_be(&len_of(size));
            let small = [0u32, 1, 2, 65536].map(BigUint::from);
            let large = small.clone().map(|less| &modulus - 1u32 - less);
            let powers = [51, 52, 53, 104, 416, 1023].map(|bit| BigUint::from(1u32) << bit);
            let below = powers.clone().map(|power| power - 1u32);
            for base in [&small[..], &large, &powers, &below].concat() {
                let mut whole = vec![0; size - base.to_bytes_be().len()];
                whole.extend(base.to_bytes_be());
                whole.resize(OCTETS_MAX, 0);
                match size {
                    128 => check_power::<3>(ifma, &modulus.to_bytes_be(), &whole),
                    256 => check_power::<5>(ifma, &modulus.to_bytes_be(), &whole),
                    384 => check_power::<8>(ifma, &modulus.to_bytes_be(), &whole),
                    _ => check_power::<10>(ifma, &modulus.to_bytes_be(), &whole),
                }
                .unwrap();
            }
        }
    }
}

#[test]
fn known_answers_are_those_of_the_twin() {
    fn answers<const V: usize>() -> [u64; 2] {
        cases::<V>().map(|(modulus, base)| {
            let (modulus, base) = (&modulus[..Number::<V>::OCTETS], &base[..Number::<V>::OCTETS]);
            folded::<V>(&number(&plain_power(modulus, base)))
        })
    }
    assert_eq!([answers::<3>(), answers::<5>(), answers::<8>(), answers::<10>()], self_test::ANSWERS);
    let Some(ifma) = Ifma::detect() else { return };
    assert!(self_test::passes(ifma));
    let [one, other] = answers::<5>();
    assert!(!self_test::passes_with::<5>(ifma, [one, other ^ 1]));
    assert!(!self_test::passes_with::<5>(ifma, [one ^ 1, other]));
}

#[test]
fn moduli_of_another_kind_are_not_taken() {
    let Some(ifma) = Ifma::detect() else { return };
    let prepared = |modulus: &[u8]| RsaKey::prepare_with(ifma, modulus).is_some();
    for size in [128, 256, 384, 512] {
        let modulus = vec![0xff; size];
        assert!(prepared(&modulus));
        let mut even = modulus.clone();
        even[size - 1] = 0xfe;
        let mut short = modulus.clone();
        short[0] = 0x7f;
        let leading_zero = [&[0], &modulus[..]].concat();
        for other in [&even[..], &short, &leading_zero, &modulus[1..], &modulus[..size - 8], &[]] {
            assert!(!prepared(other));
        }
    }
    assert!(!prepared(&[0xff; 192]));
}

/// A modulus and its signature over [`MESSAGE`], made by the library.
fn signed(size: KeySize, octets: usize) -> (Vec<u8>, Vec<u8>) {
    let pair = KeyPair::generate(size).unwrap();
    let mut signature = vec![0; octets];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), MESSAGE, &mut signature).unwrap();
    let der = pair.public_key().as_ref();
    // RFC 8017 appendix A.1.1: the exponent 65537 and its head are the last five octets.
    (der[der.len() - 5 - octets..der.len() - 5].to_vec(), signature)
}

/// The same with a key of 1024 bits, with which the library does not sign.
fn signed_short() -> (Vec<u8>, Vec<u8>) {
    let [p, q] = PRIMES.map(|prime| BigUint::parse_bytes(prime.as_bytes(), 16).unwrap());
    let exponent = BigUint::from(65537u32).modinv(&((&p - 1u32) * (&q - 1u32))).unwrap();
    let encoded: Number<3> = encoded_message(&hash(MESSAGE));
    let encoded = encoded.limbs().iter().rev().fold(BigUint::ZERO, |sum, limb| (sum << number::LIMB_BITS) + *limb);
    let modulus = p * q;
    let mut signature = encoded.modpow(&exponent, &modulus).to_bytes_be();
    signature.splice(..0, vec![0; 128 - signature.len()]);
    (modulus.to_bytes_be(), signature)
}

fn hash(message: &[u8]) -> [u8; 32] {
    digest(&SHA256, message).as_ref().try_into().unwrap()
}

#[test]
fn signatures_verify_as_in_the_library() {
    let Some(ifma) = Ifma::detect() else { return };
    let mut all = vec![signed_short(), signed(KeySize::Rsa2048, 256)];
    if !cfg!(debug_assertions) {
        all.extend([signed(KeySize::Rsa3072, 384), signed(KeySize::Rsa4096, 512)]);
    }
    for (modulus, signature) in all {
        let key = RsaKey::prepare_with(ifma, &modulus).unwrap();
        let components = RsaPublicKeyComponents { n: &modulus[..], e: &[1, 0, 1][..] };
        let verifies = |message: &[u8], signature: &[u8]| {
            let fast = key.verifies(&hash(message), signature);
            let parameters = &RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY;
            assert_eq!(fast, components.verify(parameters, message, signature).is_ok());
            fast
        };
        assert!(verifies(MESSAGE, &signature));
        assert!(!verifies(b"other", &signature));
        let size = modulus.len();
        for bit in [0, 7, 4 * size, 8 * size - 1] {
            let mut changed = signature.clone();
            changed[bit / 8] ^= 0x80 >> (bit % 8);
            assert!(!verifies(MESSAGE, &changed), "bit {bit}");
        }
        let n = BigUint::from_bytes_be(&modulus);
        let number = BigUint::from_bytes_be(&signature);
        let others = [BigUint::ZERO, BigUint::from(1u32), &n - 1u32, n.clone(), &n - &number, &n + &number];
        for other in others.map(|other| other.to_bytes_be()) {
            let padded = [&vec![0; size.saturating_sub(other.len())], &other[..]].concat();
            assert!(!verifies(MESSAGE, &padded));
        }
        // The same number, written longer or shorter.
        assert!(!verifies(MESSAGE, &[&[0], &signature[..]].concat()));
        assert!(!verifies(MESSAGE, &signature[1..]));
        assert!(!verifies(MESSAGE, &[]));
    }
}

#[test]
fn environment_switches_the_routine_off() {
    const NAME: &str = "MAILPROOF_KERNELS";
    let off = RsaKey::prepare(&[0xff; 256]).is_none();
    if std::env::var_os(NAME).is_some_and(|wish| wish == "portable") {
        assert!(off);
        return;
    }
    assert_eq!(off, Ifma::detect().is_none());
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "rsa::tests::environment_switches_the_routine_off"])
        .env(NAME, "portable")
        .output()
        .unwrap()
        .status;
    assert!(status.success());
}

const MESSAGE: &[u8] = b"a header, in its canonical form";

/// The factors of a modulus of 1024 bits.
const PRIMES: [&str; 2] = [
    "e3b78cc2ea9543e8ad2a1be1bfa9c72c756b4513cedf1868e038afb1c3b99d26\
     51ea655b879a28e8944c6fdc7df1676a31be5dce6d914ab8a66efef067e13c05",
    "ccb48506a5f90aee9ecf9de9be68f06a27cc91f48723f36d1f45f04dc9696155\
     f85df3572755dd86f5da2ac37922ba4913d210128e7d1543d6e096c38bd58545",
];
