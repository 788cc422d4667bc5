//! A million names in the cache: what an entry takes, what a hit costs, and whether the bound on octets holds.
//!
//! `cargo bench -p mailproof-benches --bench cache`

use std::fs;
use std::hint::black_box;
use std::time::{Duration, Instant};

use mailproof::cache::{Cache, CacheOptions};
use mailproof_proto::dns::{Answer, Name, Outcome, Question, RecordSet, RecordType, Txt};
use mailproof_proto::time::Timestamp;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NAMES: usize = 1_000_000;
const NOW: Timestamp = Timestamp::from_seconds(1_000_000);
const RECORD: &str = "v=spf1 ip4:192.0.2.0/24 include:_spf.example.net -all";

fn main() {
    let questions: Vec<Question> = (0..NAMES).map(question).collect();
    let before = resident_bytes();
    let cache = filled(&questions, 8 << 30);
    let statistics = cache.statistics();
    let resident = resident_bytes() - before;
    println!("{} entries of one SPF record of {} octets", statistics.entries, RECORD.len());
    println!("  counted  {:>5.0} octets an entry", statistics.bytes as f64 / statistics.entries as f64);
    println!("  resident {:>5.0} octets an entry", resident as f64 / statistics.entries as f64);
    hits(&cache, &questions, "spread over all names", 7_919);
    hits(&cache, &questions[..1000], "over a thousand names", 7);
    drop(cache);

    let bound = 256 << 20;
    let before = resident_bytes();
    let cache = filled(&questions, bound);
    let statistics = cache.statistics();
    println!("bound of {} MiB: {} entries, {} evicted", bound >> 20, statistics.entries, statistics.evictions);
    println!("  counted  {:.1} % of the bound", statistics.bytes as f64 * 100.0 / bound as f64);
    println!("  resident {:.1} % of the bound", (resident_bytes() - before) as f64 * 100.0 / bound as f64);
}

fn question(index: usize) -> Question {
    Question::new(Name::parse(format!("mail{index}.customer-domain.example")).unwrap(), RecordType::Txt)
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

fn hits(cache: &Cache, questions: &[Question], what: &str, step: usize) {
    let (rounds, mut best) = (1_000_000, Duration::MAX);
    for _ in 0..5 {
        let (started, mut at, mut found) = (Instant::now(), 0, 0);
        for _ in 0..rounds {
            at = (at + step) % questions.len();
            found += usize::from(black_box(cache.get(&questions[at], NOW + Duration::from_secs(1))).is_some());
        }
        best = best.min(started.elapsed());
        assert_eq!(found, rounds);
    }
    println!("  a hit {what}: {:.0} ns", best.as_secs_f64() * 1e9 / f64::from(rounds as u32));
}

fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).and_then(|it| it.parse::<u64>().ok()).unwrap() * 1024
}
