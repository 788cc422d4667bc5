//! The keys of a stream: pairs made once and kept in `keys/` for RSA, pairs made from the seed for Ed25519.
//!
//! They are public and protect nothing.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mailproof_testkit::generate::keys::TestKey;
use mailproof_testkit::random::Random;

/// The keys of a stream, of which its domains choose.
pub(super) struct Keys {
    rsa_2048: Vec<TestKey>,
    rsa_1024: Vec<TestKey>,
    ed25519: Vec<TestKey>,
}

/// One key of [`Keys`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum KeyChoice {
    Rsa2048(usize),
    Rsa1024(usize),
    Ed25519(usize),
}

impl Keys {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random::of_case(seed, KEY_CASE);
        Self {
            rsa_2048: pems(include_str!("../../keys/rsa-2048.pem")).map(TestKey::rsa).collect(),
            rsa_1024: pems(include_str!("../../keys/rsa-1024.pem")).map(TestKey::short_rsa).collect(),
            ed25519: (0..ED25519_COUNT).map(|_| ed25519(&mut random)).collect(),
        }
    }

    /// Any place stands for a key: places go round.
    pub(super) fn of(&self, choice: KeyChoice) -> &TestKey {
        match choice {
            KeyChoice::Rsa2048(at) => &self.rsa_2048[at % self.rsa_2048.len()],
            KeyChoice::Rsa1024(at) => &self.rsa_1024[at % self.rsa_1024.len()],
            KeyChoice::Ed25519(at) => &self.ed25519[at % self.ed25519.len()],
        }
    }

    /// The record to publish.
    pub(super) fn record(&self, choice: KeyChoice) -> String {
        let key = self.of(choice);
        format!("v=DKIM1; k={}; p={}", key.kind, key.public)
    }
}

impl KeyChoice {
    pub(super) const fn algorithm(self) -> &'static str {
        match self {
            Self::Ed25519(_) => "ed25519-sha256",
            _ => "rsa-sha256",
        }
    }
}

/// The keys of a file, one after the other.
fn pems(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive("-----END PRIVATE KEY-----\n").filter(|pem| pem.contains("BEGIN"))
}

fn ed25519(random: &mut Random) -> TestKey {
    // PrivateKeyInfo of RFC 8410 around the 32 octets of the key.
    let mut der = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    der.extend((0..4).flat_map(|_| random.number().to_be_bytes()));
    TestKey::ed25519(&format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der)))
}

const ED25519_COUNT: usize = 32;
/// Draws for keys meet those of no message and no domain.
const KEY_CASE: u64 = 1 << 48;
