//! Fuzz target `dmarc_record`; the property stands in the test kit.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| mailproof_testkit::properties::dmarc_record(octets));
