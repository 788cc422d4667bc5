//! One signature verified, and one key prepared: by the kernel, and by aws-lc-rs.

use std::hint::black_box;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{
    KeyPair as _, ParsedPublicKey, RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, RSA_PKCS1_SHA256,
};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use mailproof_kernels::RsaKey;
use mailproof_testkit::generate::keys::{KEYS, RSA_1024};

/// A key and a signature of it over [`MESSAGE`].
struct Signed {
    bits: usize,
    /// RSAPublicKey (RFC 8017 appendix A.1.1).
    public: Vec<u8>,
    signature: Vec<u8>,
}

impl Signed {
    fn all() -> Vec<Self> {
        let sizes = [(2048, KeySize::Rsa2048), (3072, KeySize::Rsa3072), (4096, KeySize::Rsa4096)];
        let generated = sizes.map(|(bits, size)| Self::generate(bits, size));
        [Self::short()].into_iter().chain(generated).collect()
    }

    /// 1024 bits, which the library verifies but does not sign with.
    fn short() -> Self {
        let info = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, &KEYS[RSA_1024].public);
        // SubjectPublicKeyInfo begins with two heads and the algorithm.
        let public = info.expect("a key record holds base64")[22..].to_vec();
        Self { bits: 1024, public, signature: KEYS[RSA_1024].sign(MESSAGE) }
    }

    fn generate(bits: usize, size: KeySize) -> Self {
        let pair = KeyPair::generate(size).expect("the library generates keys of this size");
        let mut signature = vec![0; bits / 8];
        pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), MESSAGE, &mut signature).expect("the buffer has the size");
        Self { bits, public: pair.public_key().as_ref().to_vec(), signature }
    }

    /// The exponent 65537 and its head are the last five octets.
    fn modulus(&self) -> &[u8] {
        let end = self.public.len() - 5;
        &self.public[end - self.bits / 8..end]
    }

    fn parsed(&self) -> ParsedPublicKey {
        ParsedPublicKey::new(&RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, &self.public).expect("the key is good")
    }
}

fn verify(criterion: &mut Criterion) {
    let hash = digest(&SHA256, MESSAGE);
    let octets: &[u8; 32] = hash.as_ref().try_into().expect("SHA-256 has 32 octets");
    let mut group = criterion.benchmark_group("verify");
    for signed in Signed::all() {
        let parsed = signed.parsed();
        assert!(parsed.verify_digest_sig(&hash, &signed.signature).is_ok());
        group.bench_function(BenchmarkId::new("aws-lc-rs", signed.bits), |bencher| {
            bencher.iter(|| parsed.verify_digest_sig(black_box(&hash), black_box(&signed.signature)));
        });
        let Some(key) = RsaKey::prepare(signed.modulus()) else { continue };
        assert!(key.verifies(octets, &signed.signature));
        group.bench_function(BenchmarkId::new("kernel", signed.bits), |bencher| {
            bencher.iter(|| key.verifies(black_box(octets), black_box(&signed.signature)));
        });
    }
    group.finish();
}

fn prepare(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("prepare");
    for signed in Signed::all() {
        group.bench_function(BenchmarkId::new("aws-lc-rs", signed.bits), |bencher| bencher.iter(|| signed.parsed()));
        if RsaKey::prepare(signed.modulus()).is_none() {
            continue;
        }
        group.bench_function(BenchmarkId::new("kernel", signed.bits), |bencher| {
            bencher.iter(|| RsaKey::prepare(black_box(signed.modulus())));
        });
    }
    group.finish();
}

const MESSAGE: &[u8] = b"a header, in its canonical form";

criterion_group!(benches, verify, prepare);
criterion_main!(benches);
