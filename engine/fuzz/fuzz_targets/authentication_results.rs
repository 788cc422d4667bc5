//! Fuzz target `authentication_results`; the property stands in the test kit.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| mailproof_testkit::properties::authentication_results(octets));
