//! A million names in the cache: what an entry takes, what a hit costs, and whether the bound on octets holds.
//!
//! `cargo bench -p mailproof-benches --bench cache`

use std::hint::black_box;
use std::ops::Range;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, fs};

use mailproof::cache::{Cache, CacheOptions};
use mailproof_proto::dns::lookup::Random;
use mailproof_proto::dns::{Answer, Name, Outcome, Question, RecordSet, RecordType, Txt};
use mailproof_proto::time::Timestamp;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NAMES: usize = 1_000_000;
const NOW: Timestamp = Timestamp::from_seconds(1_000_000);
/// Where the number stands in a name's octets.
const DIGITS: Range<usize> = 5..12;
const RECORD: &str = "v=spf1 ip4:192.0.2.0/24 include:_spf.example.net -all";

fn main() {
    if env::args().any(|it| it == "--bounded") {
        return bounded();
    }
    let questions: Vec<Question> = (0..NAMES).map(question).collect();
    let before = resident_bytes();
    let cache = filled(&questions, 8 << 30);
    let statistics = cache.statistics();
    let resident = resident_bytes() - before;
    println!("{} entries of one SPF record of {} octets", statistics.entries, RECORD.len());
    println!("  counted  {:>5.0} octets an entry", statistics.bytes as f64 / statistics.entries as f64);
    println!("  resident {:>5.0} octets an entry", resident as f64 / statistics.entries as f64);
    let mut random = Random::new(1);
    // The n-th most asked name is asked for one n-th as often as the first.
    let by_zipf = |random: &mut Random| (NAMES as f64).powf(share(random)) as usize % NAMES;
    hits(&cache, "of a thousand names", || random.next_u64() as usize % 1000);
    hits(&cache, "of a million names, by Zipf's law", || by_zipf(&mut random));
    hits(&cache, "of a million names, all alike", || random.next_u64() as usize % NAMES);
    drop((cache, questions));
    // In a process of its own, whose memory nobody has used before.
    let program = env::current_exe().unwrap();
    assert!(Command::new(program).arg("--bounded").status().unwrap().success());
}

/// A million names where 256 MiB are allowed.
fn bounded() {
    let questions: Vec<Question> = (0..NAMES).map(question).collect();
    let (bound, before) = (256 << 20, resident_bytes());
    let cache = filled(&questions, bound);
    let statistics = cache.statistics();
    println!("bound of {} MiB: {} entries, {} evicted", bound >> 20, statistics.entries, statistics.evictions);
    println!("  counted  {:.1} % of the bound", statistics.bytes as f64 * 100.0 / bound as f64);
    println!("  resident {:.1} % of the bound", (resident_bytes() - before) as f64 * 100.0 / bound as f64);
}

/// A number from 0 up to 1.
fn share(random: &mut Random) -> f64 {
    (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

fn question(index: usize) -> Question {
    Question::new(Name::parse(format!("mail{index:07}.customer-domain.example")).unwrap(), RecordType::Txt)
}

fn filled(questions: &[Question], bytes_max: u64) -> Cache {
    let cache = Cache::new(CacheOptions { bytes_max, ..CacheOptions::default() });
    for question in questions {
        let records = RecordSet::Txt([Txt(RECORD.as_bytes().into())].into());
        let answer = Answer::new(Outcome::Records(records), Some(3600));
        // As in use: the record is parsed once, and what came of it is kept beside it.
        black_box(answer.spf());
        cache.insert(question, &answer, NOW);
    }
    cache
}

fn hits(cache: &Cache, what: &str, mut next: impl FnMut() -> usize) {
    // Numbers, not questions: a message brings its names in a processor's nearest memory, and a list of questions would
    // take the place of the cache in the memory that is next.
    let numbers: Vec<u32> = (0..200_000).map(|_| next() as u32).collect();
    let (mut with, mut without) = (Duration::MAX, Duration::MAX);
    for _ in 0..5 {
        let (took, found) = timed(&numbers, |question| cache.get(question, NOW + Duration::from_secs(1)).is_some());
        assert_eq!(found, numbers.len());
        with = with.min(took);
        without = without.min(timed(&numbers, |question| !question.name.wire().is_empty()).0);
    }
    let hit = (with - without).as_secs_f64() * 1e9 / numbers.len() as f64;
    println!(
        "  a hit {what}: {hit:.0} ns (making the question: {:.0} ns)",
        without.as_secs_f64() * 1e9 / numbers.len() as f64
    );
}

/// Asks for each of these names.
fn timed(numbers: &[u32], ask: impl Fn(&Question) -> bool) -> (Duration, usize) {
    let (started, mut found) = (Instant::now(), 0);
    let mut asked = question(0);
    let mut wire = asked.name.wire().to_vec();
    for &number in numbers {
        let mut rest = number;
        for digit in wire[DIGITS].iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        asked.name = Name::from_wire(&wire).unwrap();
        found += usize::from(black_box(ask(black_box(&asked))));
    }
    (started.elapsed(), found)
}

fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).and_then(|it| it.parse::<u64>().ok()).unwrap() * 1024
}
