//! Fuzz target `dkim_signature`; the property stands in the test kit.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| mailproof_testkit::properties::dkim_signature(octets));
