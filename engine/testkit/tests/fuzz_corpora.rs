//! Replays the inputs that fuzzing kept, without a fuzzer.

use std::path::Path;

use mailproof_testkit::properties::PROPERTIES;

#[test]
fn kept_inputs_hold_their_properties() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    for (target, property) in PROPERTIES {
        let entries = std::fs::read_dir(corpora.join(target)).unwrap_or_else(|error| panic!("{target}: {error}"));
        let mut count = 0;
        for entry in entries {
            property(&std::fs::read(entry.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count > 0, "{target} has no inputs");
        println!("{target}: {count} inputs");
    }
}
