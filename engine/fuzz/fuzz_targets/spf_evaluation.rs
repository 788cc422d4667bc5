//! Fuzz target `spf_evaluation`; the property stands in the test kit.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| mailproof_testkit::properties::spf_evaluation(octets));
