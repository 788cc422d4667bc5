//! The stream against the engine, and against itself.

use std::collections::BTreeMap;

use mailproof::proto::time::Timestamp;
use mailproof::{Engine, Envelope};

use super::*;

#[test]
fn the_engine_finds_what_every_message_was_made_for() {
    let options = Options { sizes: Sizes::Tiny, domain_count: 200, ..Options::new(600, 11) };
    let corpus = Maker::new(&options).corpus();
    let now = Timestamp::from_seconds(SENT_SECONDS + 3600);
    let engine = Engine::builder().zone(corpus.records.to_zone().unwrap()).fixed_time(now).build().unwrap();
    let mut fates = BTreeMap::new();
    for letter in &corpus.letters {
        let envelope = Envelope::new(letter.client, letter.helo.clone(), letter.mail_from.clone());
        let verdict = engine.verify(&letter.octets, envelope);
        let domain = |it: &mailproof::proto::dkim::SignatureOutcome| {
            it.domain.as_ref().map(ToString::to_string).unwrap_or_default()
        };
        let found = Expectation {
            fate: letter.expectation.fate,
            spf: verdict.spf.result.word().to_owned(),
            dkim: verdict.dkim.iter().map(|it| (domain(it), it.result.word().to_owned())).collect(),
            arc: verdict.arc.result.word().to_owned(),
            dmarc: verdict.dmarc.result.word().to_owned(),
        };
        assert_eq!(found, letter.expectation, "{}", letter.id);
        *fates.entry(letter.expectation.fate).or_insert(0) += 1;
    }
    assert_eq!(fates.len(), Fate::SHARES.len(), "every fate has come: {fates:?}");
}

#[test]
fn the_same_numbers_give_the_same_octets_in_any_order() {
    let maker = Maker::new(&Options::new(40, 5));
    let letters = maker.letters(0, 40);
    assert_eq!(Maker::new(&Options::new(40, 5)).letter(17), letters[17]);
    let digest = letters
        .iter()
        .flat_map(|letter| &letter.octets)
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, octet| (sum ^ u64::from(*octet)).wrapping_mul(0x100_0000_01b3));
    assert_eq!(digest, DIGEST, "the octets of another machine");
}

/// FNV-1a over the messages above.
const DIGEST: u64 = 11_251_835_155_466_938_462;

#[test]
fn what_is_written_is_what_is_read() {
    let folder = std::env::temp_dir().join(format!("mailproof-corpus-{}", std::process::id()));
    let maker = Maker::new(&Options { sizes: Sizes::Tiny, domain_count: 10, ..Options::new(5, 1) });
    let bytes = file::write(&folder, &maker).unwrap();
    let letters = file::read(&folder).unwrap();
    let zones = ["zone.yml", "example.zone"].map(|name| {
        let mut zone = mailproof::zone::Zone::new();
        zone.add_file(folder.join(name)).unwrap();
        zone.len()
    });
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(letters, maker.letters(0, 5));
    assert_eq!(bytes, letters.iter().map(|letter| letter.octets.len() as u64).sum::<u64>());
    // The master file has the zone's own name and its server too.
    assert!(zones[0] > 80 && (2..=3).contains(&(zones[1] - zones[0])), "{zones:?}");
}
