//! Key records (RFC 6376 section 3.6, RFC 8301, RFC 8463): read once, kept as parsed public keys.

use aws_lc_rs::digest::{Digest, SHA256};
use aws_lc_rs::signature::{ED25519, ParsedPublicKey, RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY};

use mailproof_kernels::RsaKey;

use super::DkimProblem;
use super::base64;
use super::signature::Algorithm;
use crate::dns::Txt;
use crate::limits::{DKIM_KEY_RECORDS_MAX, RSA_BITS_MAX, RSA_BITS_MIN, RSA_EXPONENT_BITS_MAX};
use crate::tag_list::{TagList, colon_list};

/// What stands at a selector, read as DKIM keys.
#[derive(Debug)]
pub struct Published {
    records: Vec<Result<Key, DkimProblem>>,
}

/// One key that may verify mail.
#[derive(Debug)]
pub struct Key {
    public: Public,
    bits: u16,
    testing: bool,
    strict: bool,
    sha256: bool,
}

#[derive(Debug)]
enum Public {
    Rsa(Box<RsaPublic>),
    /// Under [`RSA_BITS_MIN`]: it verifies nothing (RFC 8301 section 3.2).
    RsaTooShort,
    Ed25519(Box<ParsedPublicKey>),
}

/// An RSA key for the library, and for the vector routine where that takes it.
#[derive(Debug)]
struct RsaPublic {
    parsed: ParsedPublicKey,
    fast: Option<RsaKey>,
}

impl Published {
    /// Parses the key records (RFC 6376 section 3.6.1): the first few, where a selector holds several.
    #[must_use]
    pub fn read(texts: &[Txt]) -> Self {
        Self { records: texts.iter().take(DKIM_KEY_RECORDS_MAX).map(|text| Key::read(&text.0)).collect() }
    }

    /// The records in their order: keys, and why the others are none.
    pub fn records(&self) -> impl Iterator<Item = Result<&Key, DkimProblem>> {
        self.records.iter().map(|record| record.as_ref().map_err(|problem| *problem))
    }
}

impl Key {
    /// Reads one record.
    ///
    /// # Errors
    /// Why there is no key in it that mail could be verified with.
    pub fn read(record: &[u8]) -> Result<Self, DkimProblem> {
        let tags = TagList::parse(record).map_err(|_| DkimProblem::KeySyntax)?;
        if let Some(version) = tags.value("v")
            && (version != "DKIM1" || !tags.begins_with("v"))
        {
            return Err(DkimProblem::KeySyntax);
        }
        let material = tags.value("p").ok_or(DkimProblem::KeySyntax)?;
        if material.is_empty() {
            return Err(DkimProblem::KeyRevoked);
        }
        let service = |tag: &str| colon_list(tag).any(|service| matches!(service, "*" | "email"));
        if !tags.value("s").is_none_or(service) {
            return Err(DkimProblem::KeyServiceMismatch);
        }
        let mut octets = Vec::new();
        base64::decode(material, &mut octets).ok_or(DkimProblem::KeySyntax)?;
        let (public, bits) = match tags.value("k").unwrap_or("rsa") {
            "rsa" => read_rsa(&octets)?,
            "ed25519" => read_ed25519(&octets)?,
            _ => return Err(DkimProblem::KeyTypeMismatch),
        };
        let flag = |wanted: &str| tags.value("t").is_some_and(|flags| colon_list(flags).any(|flag| flag == wanted));
        Ok(Self {
            public,
            bits,
            testing: flag("y"),
            strict: flag("s"),
            sha256: tags.value("h").is_none_or(|hashes| colon_list(hashes).any(|hash| hash == "sha256")),
        })
    }

    /// Bits of the modulus, or of an Ed25519 key.
    #[must_use]
    pub fn bits(&self) -> u16 {
        self.bits
    }

    /// `t=y`: the domain is testing DKIM.
    #[must_use]
    pub fn is_testing(&self) -> bool {
        self.testing
    }

    /// `t=s`: the domain of `i=` must be that of `d=`.
    #[must_use]
    pub fn is_strict(&self) -> bool {
        self.strict
    }

    /// Whether the key may be used with an algorithm.
    pub(crate) fn accepts(&self, algorithm: Algorithm) -> Result<(), DkimProblem> {
        let same_type = match self.public {
            Public::Rsa(_) | Public::RsaTooShort => algorithm != Algorithm::Ed25519Sha256,
            Public::Ed25519(_) => algorithm == Algorithm::Ed25519Sha256,
        };
        if !same_type {
            return Err(DkimProblem::KeyTypeMismatch);
        }
        if self.sha256 { Ok(()) } else { Err(DkimProblem::KeyHashMismatch) }
    }

    /// Verifies a signature over the hash of a header.
    pub(crate) fn verify(&self, hash: &Digest, signature: &[u8]) -> Result<(), DkimProblem> {
        let verified = match &self.public {
            Public::Rsa(key) if key.verifies_fast(hash, signature) => Ok(()),
            Public::Rsa(key) => key.parsed.verify_digest_sig(hash, signature),
            // RFC 8463 section 3: PureEdDSA over the hash itself.
            Public::Ed25519(key) => key.verify_sig(hash.as_ref(), signature),
            Public::RsaTooShort => return Err(DkimProblem::KeyTooShort),
        };
        verified.map_err(|_| DkimProblem::SignatureMismatch)
    }
}

impl RsaPublic {
    /// Whether the vector routine verifies a signature. Where it does not, the library has the last word.
    fn verifies_fast(&self, hash: &Digest, signature: &[u8]) -> bool {
        let Some(key) = &self.fast else { return false };
        hash.algorithm() == &SHA256 && hash.as_ref().try_into().is_ok_and(|octets| key.verifies(octets, signature))
    }
}

fn read_ed25519(octets: &[u8]) -> Result<(Public, u16), DkimProblem> {
    // RFC 8463 section 4.2: the raw key, no structure around it.
    if octets.len() != 32 {
        return Err(DkimProblem::KeyUnusable);
    }
    let key = ParsedPublicKey::new(&ED25519, octets).map_err(|_| DkimProblem::KeyUnusable)?;
    Ok((Public::Ed25519(Box::new(key)), 256))
}

fn read_rsa(octets: &[u8]) -> Result<(Public, u16), DkimProblem> {
    let (modulus, exponent) = rsa_numbers(octets).ok_or(DkimProblem::KeyUnusable)?;
    let bits = bit_count(modulus);
    if bits > RSA_BITS_MAX {
        return Err(DkimProblem::KeyTooLong);
    }
    let exponent_bits = bit_count(exponent);
    let odd = exponent.last().is_some_and(|octet| octet & 1 == 1);
    if !odd || !(2..=RSA_EXPONENT_BITS_MAX).contains(&exponent_bits) {
        return Err(DkimProblem::KeyUnusable);
    }
    if bits < RSA_BITS_MIN {
        return Ok((Public::RsaTooShort, bits as u16));
    }
    let parsed = ParsedPublicKey::new(&RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, octets)
        .map_err(|_| DkimProblem::KeyUnusable)?;
    // Preparing takes less than one verification saves, so there is no reason to wait for the first.
    let fast = if exponent == F4 { RsaKey::prepare(modulus) } else { None };
    Ok((Public::Rsa(Box::new(RsaPublic { parsed, fast })), bits as u16))
}

/// Modulus and exponent of a SubjectPublicKeyInfo (RFC 5280 section 4.1, RFC 3279 section 2.3.1) or of a bare
/// RSAPublicKey (RFC 8017 appendix A.1.1), without leading zeros.
fn rsa_numbers(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut outer = Der(octets);
    let mut sequence = Der(outer.read(Der::SEQUENCE)?);
    if !outer.0.is_empty() {
        return None;
    }
    if sequence.0.first() == Some(&Der::SEQUENCE) {
        let mut algorithm = Der(sequence.read(Der::SEQUENCE)?);
        if algorithm.read(Der::OBJECT_IDENTIFIER)? != Der::RSA_ENCRYPTION {
            return None;
        }
        let key = sequence.read(Der::BIT_STRING)?.strip_prefix(&[0])?;
        let mut inner = Der(key);
        sequence = Der(inner.read(Der::SEQUENCE)?);
    }
    let modulus = sequence.read(Der::INTEGER)?;
    let exponent = sequence.read(Der::INTEGER)?;
    Some((positive(modulus)?, positive(exponent)?))
}

/// A positive INTEGER without its leading zero octets.
fn positive(integer: &[u8]) -> Option<&[u8]> {
    let negative = integer.first().is_none_or(|first| first & 0x80 != 0);
    let start = integer.iter().position(|&octet| octet != 0)?;
    if negative { None } else { integer.get(start..) }
}

/// 65537, the exponent of nearly every key and the only one the vector routine knows.
const F4: &[u8] = &[1, 0, 1];

fn bit_count(number: &[u8]) -> usize {
    number.first().map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize)
}

/// Reads DER from front to back.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    const INTEGER: u8 = 0x02;
    const BIT_STRING: u8 = 0x03;
    const OBJECT_IDENTIFIER: u8 = 0x06;
    const SEQUENCE: u8 = 0x30;
    /// 1.2.840.113549.1.1.1
    const RSA_ENCRYPTION: &'static [u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

    /// The contents of the next element, when it has this tag.
    fn read(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (&found, rest) = self.0.split_first()?;
        let (&length, mut rest) = rest.split_first()?;
        let mut count = usize::from(length & 0x7f);
        if length & 0x80 != 0 {
            let (octets, after) = rest.split_at_checked(count)?;
            if !(1..=3).contains(&count) {
                return None;
            }
            count = octets.iter().fold(0, |sum, &octet| sum << 8 | usize::from(octet));
            rest = after;
        }
        let (contents, rest) = rest.split_at_checked(count)?;
        self.0 = rest;
        (found == tag).then_some(contents)
    }
}

#[cfg(test)]
mod tests {
    use ::base64::Engine;
    use ::base64::engine::general_purpose::STANDARD;
    use aws_lc_rs::digest::digest;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::{KeyPair, KeySize};
    use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};

    use super::*;

    fn integer(octets: &[u8]) -> Vec<u8> {
        let zero = if octets[0] & 0x80 == 0 { &[][..] } else { &[0] };
        element(Der::INTEGER, &[zero, octets].concat())
    }

    fn element(tag: u8, contents: &[u8]) -> Vec<u8> {
        let [high, low] = (contents.len() as u16).to_be_bytes();
        let head = match contents.len() {
            0..128 => vec![tag, low],
            128..256 => vec![tag, 0x81, low],
            _ => vec![tag, 0x82, high, low],
        };
        [&head, contents].concat()
    }

    /// A record with an RSA key of so many bits that nobody knows the factors of.
    fn rsa(bits: usize, exponent: &[u8]) -> Vec<u8> {
        let mut modulus = vec![0xff; bits.div_ceil(8)];
        modulus[0] >>= (8 - bits % 8) % 8;
        let key = element(Der::SEQUENCE, &[integer(&modulus), integer(exponent)].concat());
        format!("v=DKIM1; p={}", STANDARD.encode(key)).into_bytes()
    }

    fn problem(record: &[u8]) -> Option<DkimProblem> {
        Key::read(record).err()
    }

    #[test]
    fn modulus_limits_hold_on_both_sides() {
        let f4 = &[1, 0, 1];
        let too_short = |bits| matches!(Key::read(&rsa(bits, f4)).unwrap().public, Public::RsaTooShort);
        assert!(too_short(RSA_BITS_MIN - 1));
        assert!(!too_short(RSA_BITS_MIN));
        assert_eq!(Key::read(&rsa(1025, f4)).unwrap().bits(), 1025);
        assert!(!too_short(RSA_BITS_MAX));
        assert_eq!(problem(&rsa(RSA_BITS_MAX + 1, f4)), Some(DkimProblem::KeyTooLong));
    }

    #[test]
    fn exponents_are_odd_and_small() {
        assert_eq!(problem(&rsa(2048, &[3])), None);
        assert_eq!(problem(&rsa(2048, &[0xff; 4])), None);
        for exponent in [&[1][..], &[2], &[1, 0, 0], &[1, 0, 0, 0, 1], &[0xff; 256]] {
            assert_eq!(problem(&rsa(2048, exponent)), Some(DkimProblem::KeyUnusable), "{exponent:?}");
        }
    }

    #[test]
    fn only_keys_of_the_usual_kind_go_to_the_vector_routine() {
        let is_fast = |bits, exponent| match Key::read(&rsa(bits, exponent)).unwrap().public {
            Public::Rsa(key) => key.fast.is_some(),
            Public::RsaTooShort | Public::Ed25519(_) => unreachable!("the key is long enough"),
        };
        let has_routine = RsaKey::prepare(&[0xff; 256]).is_some();
        for bits in [1024, 2048, 3072, 4096] {
            assert_eq!(is_fast(bits, F4), has_routine);
            assert!(!is_fast(bits, &[3]) && !is_fast(bits, &[1, 0, 3]) && !is_fast(bits + 1, F4));
        }
        assert!(!is_fast(1536, F4) && !is_fast(2047, F4));
        let mut even = [0xff; 256];
        even[255] = 0xfe;
        let key = element(Der::SEQUENCE, &[integer(&even), integer(F4)].concat());
        assert_eq!(problem(format!("p={}", STANDARD.encode(key)).as_bytes()), Some(DkimProblem::KeyUnusable));
    }

    #[test]
    fn vector_routine_and_library_have_the_same_words() {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let record = format!("p={}", STANDARD.encode(pair.public_key().as_ref())).into_bytes();
        let key = Key::read(&record).unwrap();
        let mut plain = Key::read(&record).unwrap();
        if let Public::Rsa(key) = &mut plain.public {
            key.fast = None;
        }
        let verified = |message: &[u8], signature: &[u8]| {
            let hash = digest(&SHA256, message);
            let verified = key.verify(&hash, signature);
            assert_eq!(verified, plain.verify(&hash, signature));
            verified
        };
        let mut signature = vec![0; 256];
        pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), b"header", &mut signature).unwrap();
        assert_eq!(verified(b"header", &signature), Ok(()));
        let mismatch = Err(DkimProblem::SignatureMismatch);
        assert_eq!(verified(b"other", &signature), mismatch);
        // Too long, too short, out of range.
        let longer = [&[0], &signature[..]].concat();
        for other in [&longer[..], &signature[1..], &[0; 256], &[0xff; 256], &[]] {
            assert_eq!(verified(b"header", other), mismatch);
        }
    }

    #[test]
    fn record_defects_have_their_own_words() {
        let ed = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
        let read = |record: &str| problem(record.replace("ED", ed).as_bytes());
        assert_eq!(read("k=ed25519; p=ED"), None);
        assert_eq!(read("v=DKIM1; k=ed25519; t=x:s; s=tlsrpt:email; n=a b; p=ED"), None);
        assert_eq!(read("k=ed25519; v=DKIM1; p=ED"), Some(DkimProblem::KeySyntax));
        assert_eq!(read("v=dkim1; k=ed25519; p=ED"), Some(DkimProblem::KeySyntax));
        assert_eq!(read("v=DKIM1; k=ed25519"), Some(DkimProblem::KeySyntax));
        assert_eq!(read("v=DKIM1; k=ed25519; p=ED; p=ED"), Some(DkimProblem::KeySyntax));
        assert_eq!(read("v=DKIM1; k=ed25519; p=*"), Some(DkimProblem::KeySyntax));
        assert_eq!(read("v=DKIM1; k=ed25519; p="), Some(DkimProblem::KeyRevoked));
        assert_eq!(read("v=DKIM1; k=ed25519; s=tlsrpt; p=ED"), Some(DkimProblem::KeyServiceMismatch));
        assert_eq!(read("v=DKIM1; k=ec; p=ED"), Some(DkimProblem::KeyTypeMismatch));
        assert_eq!(read("v=DKIM1; p=ED"), Some(DkimProblem::KeyUnusable));
        assert_eq!(read("v=DKIM1; k=ed25519; p=AAAA"), Some(DkimProblem::KeyUnusable));
        let sha1 = Key::read(format!("k=ed25519; h=sha1; p={ed}").as_bytes()).unwrap();
        assert_eq!(sha1.accepts(Algorithm::Ed25519Sha256), Err(DkimProblem::KeyHashMismatch));
        assert_eq!(sha1.accepts(Algorithm::RsaSha256), Err(DkimProblem::KeyTypeMismatch));
    }

    #[test]
    fn only_the_first_records_are_read() {
        let texts = vec![Txt(Box::from(&b"p="[..])); DKIM_KEY_RECORDS_MAX + 1];
        assert_eq!(Published::read(&texts).records().count(), DKIM_KEY_RECORDS_MAX);
        assert_eq!(Published::read(&texts[1..]).records().count(), DKIM_KEY_RECORDS_MAX);
    }
}
