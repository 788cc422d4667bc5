//! Streams of mail whose verdicts are known because of how each message was made.
//!
//! The same numbers give the same octets on every machine: everything is drawn by [`Random`], keys are in `keys/` or come
//! from the seed, signatures are of the deterministic kinds, and the only arithmetic with fractions is that which IEEE 754
//! defines to the bit.
//!
//! Cost: a message is drawn, laid out and signed in 0.5 to 1 ms; messages do not depend on each other, so that a stream is
//! made on all processors.

mod body;
mod domain;
mod expectation;
mod fate;
mod keys;
mod letter;
mod sizes;
mod zone;

pub mod file;

use std::net::IpAddr;
use std::thread;

use mailproof_testkit::random::Random;

pub use self::expectation::Expectation;
pub use self::fate::Fate;
pub use self::zone::Records;

use self::domain::{Domain, Ranks};
use self::keys::Keys;

/// What to make.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Options {
    /// Messages.
    pub count: u64,
    /// Domains that send them, by Zipf's law.
    pub domain_count: u32,
    /// Where the random numbers start.
    pub seed: u64,
    /// Sizes of bodies.
    pub sizes: Sizes,
    /// What becomes of messages on their way.
    pub fates: Fates,
}

/// Sizes of bodies, in octets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sizes {
    /// Log-normal around 30 KiB, 63 KiB on average, up to 3 MiB.
    Ordinary,
    /// As ordinary, but from 256 octets to 3 KiB.
    Tiny,
    /// From 1 to 3 MiB, evenly.
    Giant,
}

/// What becomes of messages on their way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fates {
    /// Four fifths arrive as they were sent; the rest is forwarded, sealed, changed, broken or forged.
    Mixed,
    /// All arrive as they were sent, with a signature of 2,048 bits.
    Honest,
}

/// One message with its envelope and what must be found about it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Letter {
    /// `m-000000` and so on.
    pub id: String,
    /// Header block, empty line and body.
    pub octets: Vec<u8>,
    /// Address of the SMTP client.
    pub client: IpAddr,
    /// What it says in EHLO.
    pub helo: String,
    /// MAIL FROM without angle brackets; empty for the null reverse-path.
    pub mail_from: String,
    /// What must be found.
    pub expectation: Expectation,
}

/// A stream and the DNS of its domains.
#[derive(Clone, Debug)]
pub struct Corpus {
    /// The messages, in order.
    pub letters: Vec<Letter>,
    /// Every record; what is not here does not exist.
    pub records: Records,
}

/// Domains of a stream unless told otherwise.
pub const DOMAIN_COUNT: u32 = 1000;
/// Domains of one stream: their own addresses have to fit below 198.19.0.0/17.
pub const DOMAIN_COUNT_MAX: u32 = 32_000;
/// Messages of one stream.
pub const COUNT_MAX: u64 = 10_000_000;
/// The moment that dates and signatures of the messages carry: before any clock that is right.
pub const SENT_SECONDS: u64 = 1_700_000_000;

impl Options {
    /// An ordinary stream.
    #[must_use]
    pub const fn new(count: u64, seed: u64) -> Self {
        Self { count, domain_count: DOMAIN_COUNT, seed, sizes: Sizes::Ordinary, fates: Fates::Mixed }
    }
}

/// Makes any message of a stream, in any order.
pub struct Maker {
    options: Options,
    keys: Keys,
    ranks: Ranks,
}

impl Maker {
    /// For these messages. Counts above their limits are taken as the limits.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        let mut options = options.clone();
        options.count = options.count.min(COUNT_MAX);
        options.domain_count = options.domain_count.clamp(1, DOMAIN_COUNT_MAX);
        Self { keys: Keys::new(options.seed), ranks: Ranks::new(options.domain_count), options }
    }

    /// What is made.
    #[must_use]
    pub const fn options(&self) -> &Options {
        &self.options
    }

    /// Message number `number`, from 0.
    #[must_use]
    pub fn letter(&self, number: u64) -> Letter {
        let mut random = Random::of_case(self.options.seed, number);
        let domain = self.domain(self.ranks.draw(&mut random));
        letter::write(self, &domain, number, &mut random)
    }

    /// Messages from `from` to `to`, made on all processors.
    #[must_use]
    pub fn letters(&self, from: u64, to: u64) -> Vec<Letter> {
        let threads = thread::available_parallelism().map_or(1, usize::from) as u64;
        let share = to.saturating_sub(from).div_ceil(threads).max(1);
        thread::scope(|scope| {
            let makers: Vec<_> = (0..threads)
                .map(|thread| {
                    let (first, last) = ((from + thread * share).min(to), (from + (thread + 1) * share).min(to));
                    scope.spawn(move || (first..last).map(|number| self.letter(number)).collect::<Vec<_>>())
                })
                .collect();
            // A maker panics where a committed key can not be read, and then there is no stream.
            makers.into_iter().flat_map(|maker| maker.join().expect("every message can be made")).collect()
        })
    }

    /// The DNS of the stream.
    #[must_use]
    pub fn records(&self) -> Records {
        zone::records(self)
    }

    /// The whole stream in memory.
    #[must_use]
    pub fn corpus(&self) -> Corpus {
        Corpus { letters: self.letters(0, self.options.count), records: self.records() }
    }

    fn domain(&self, number: u32) -> Domain {
        Domain::new(&self.options, number)
    }
}

#[cfg(test)]
mod tests;
