//! Who sends: domains with their keys, their SPF record, their policy, and the services that some of them send through.

use mailproof_testkit::random::Random;

use super::keys::KeyChoice;
use super::{Fates, Options};

/// A domain that sends mail.
pub(super) struct Domain {
    pub(super) name: String,
    pub(super) number: u32,
    /// The service that it sends through.
    pub(super) provider: Option<u32>,
    /// Selector and key of each signature, from top to bottom.
    pub(super) signers: Vec<(&'static str, KeyChoice)>,
    pub(super) policy: Option<&'static str>,
    /// SPF ends in `~all` instead of `-all`.
    pub(super) is_soft: bool,
    pub(super) header_relaxed: bool,
    pub(super) body_relaxed: bool,
}

/// Services that send for others; each is two blocks of addresses behind two includes.
pub(super) const PROVIDER_COUNT: u32 = 40;
/// Hosts that forward what they get, lists among them; each may seal what it passes on.
pub(super) const FORWARDER_COUNT: u32 = 12;
/// Draws for domains and for messages do not meet.
const DOMAIN_CASES: u64 = 1 << 40;

impl Domain {
    pub(super) fn new(options: &Options, number: u32) -> Self {
        let mut random = Random::of_case(options.seed, DOMAIN_CASES + u64::from(number));
        let words = ["amber", "birch", "cedar", "delta", "ember", "fern", "grove", "heath", "iris", "juniper"];
        let (first, second) = (random.pick(&words), random.pick(&words));
        let provider = random.chance(70).then(|| random.below(PROVIDER_COUNT as usize) as u32);
        let key = random.below(1 << 16);
        let is_honest = options.fates == Fates::Honest;
        let mix = random.weighted(&[62, 12, 14, 8, 4]);
        let signers = match if is_honest { 0 } else { mix } {
            0 => vec![("s1", KeyChoice::Rsa2048(key))],
            1 => vec![("s1", KeyChoice::Rsa1024(key))],
            2 => vec![("s1", KeyChoice::Rsa2048(key)), ("s2", KeyChoice::Ed25519(key))],
            3 => vec![("s1", KeyChoice::Rsa2048(key)), ("s2", KeyChoice::Rsa2048(key + 1))],
            _ => vec![("s2", KeyChoice::Ed25519(key))],
        };
        let policies = [Some("reject"), Some("quarantine"), Some("none"), None];
        let policy = policies[random.weighted(&[40, 20, 30, if is_honest { 0 } else { 10 }])];
        let (header_relaxed, body_relaxed) =
            [(true, true), (true, false), (false, false)][random.weighted(&[85, 10, 5])];
        let is_soft = random.chance(40);
        let name = format!("{first}-{second}-{number}.example");
        Self { name, number, provider, signers, policy, is_soft, header_relaxed, body_relaxed }
    }

    /// An address that its SPF record allows.
    pub(super) fn client(&self, random: &mut Random) -> String {
        match self.provider {
            Some(provider) => format!("198.18.{}.{}", provider * 2 + random.below(2) as u32, random.between(1, 254)),
            None => self.address(),
        }
    }

    /// The host that sends for it.
    pub(super) fn host(&self) -> String {
        self.provider.map_or_else(|| format!("mx.{}", self.name), |provider| format!("out.provider-{provider}.example"))
    }

    /// Its own host.
    pub(super) fn address(&self) -> String {
        format!("198.19.{}.{}", self.number / 256, self.number % 256)
    }

    pub(super) fn spf(&self) -> String {
        let all = if self.is_soft { "~all" } else { "-all" };
        match self.provider {
            // Every other one allows itself first, in a way that asks further questions.
            Some(provider) if self.number.is_multiple_of(2) => {
                format!("v=spf1 a mx include:_spf.provider-{provider}.example {all}")
            }
            Some(provider) => format!("v=spf1 include:_spf.provider-{provider}.example {all}"),
            None => format!("v=spf1 ip4:{} {all}", self.address()),
        }
    }
}

/// Zipf's law: the domain of rank r sends 1/r of what the first sends.
pub(super) struct Ranks {
    /// Up to and including each domain.
    sums: Vec<u64>,
}

impl Ranks {
    pub(super) fn new(count: u32) -> Self {
        let mut sum = 0;
        let sums = (1..=u64::from(count)).map(|rank| {
            sum += (1 << 40) / rank;
            sum
        });
        Self { sums: sums.collect() }
    }

    pub(super) fn draw(&self, random: &mut Random) -> u32 {
        let total = self.sums.last().copied().unwrap_or(1);
        let at = ((u128::from(random.number()) * u128::from(total)) >> 64) as u64;
        self.sums.partition_point(|sum| *sum <= at) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rank_sends_twice_what_the_second_does() {
        let ranks = Ranks::new(1000);
        let mut random = Random::new(3);
        let mut counts = vec![0_u32; 1000];
        for _ in 0..100_000 {
            counts[ranks.draw(&mut random) as usize] += 1;
        }
        let (first, second) = (f64::from(counts[0]), f64::from(counts[1]));
        assert!((1.9..2.1).contains(&(first / second)), "{first} {second}");
        assert!(counts.iter().filter(|count| **count > 0).count() > 950);
    }
}
