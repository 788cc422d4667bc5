//! Fuzz target `header_scan`; the property stands in the test kit.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| mailproof_testkit::properties::header_scan(octets));
