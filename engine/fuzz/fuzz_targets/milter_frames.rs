//! Fuzz target `milter_frames`; the property stands in the test kit.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| mailproof_testkit::properties::milter_frames(octets));
