//! The keys that sign, compared with the DNS: the most frequent fault of a signer is a record that is not there.

use std::sync::Arc;

use mailproof::Engine;

use crate::Service;
use crate::signing::{Key, PublishedKey, check_published, key_question};

/// Looks every key up and says where a receiver would not find it. Takes the time that the DNS takes.
pub(crate) fn compare_keys(service: &Arc<Service>, engine: &Engine) {
    let (mut matching, mut wrong, mut unknown) = (0, 0, 0);
    for key in service.signer.keys() {
        let Some(result) = compare(key, engine) else { continue };
        match result {
            PublishedKey::Matches => matching += 1,
            PublishedKey::Differs | PublishedKey::Missing => wrong += 1,
            PublishedKey::Unknown(_) => unknown += 1,
        }
        if result == PublishedKey::Matches {
            continue;
        }
        service.log("key-not-published", |line| {
            line.optional("domain", key.record_domain().map(|it| it as &dyn std::fmt::Display));
            line.pair("selector", &key.selector).display("file", &key.file.display());
            let (word, remedy) = match result {
                PublishedKey::Differs => ("differs", "another key is in the DNS: receivers will see broken signatures"),
                PublishedKey::Missing => ("missing", "publish the record that `mailproof keygen` printed"),
                _ => ("unknown", "the DNS did not answer"),
            };
            line.pair("dns", word).pair("detail", remedy);
            if let Ok(record) = key.private.record()
                && matches!(result, PublishedKey::Differs | PublishedKey::Missing)
            {
                line.pair("record", &record);
            }
        });
    }
    if matching + wrong + unknown > 0 {
        service.log("keys-checked", |line| {
            line.number("matching", matching).number("wrong", wrong).number("unknown", unknown);
        });
    }
}

/// `None` for a key whose domain is that of each author.
fn compare(key: &Key, engine: &Engine) -> Option<PublishedKey> {
    let question = key_question(key.record_domain()?, &key.selector)?;
    Some(check_published(&key.private, &engine.ask(&question)))
}
