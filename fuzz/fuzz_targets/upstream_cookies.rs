#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| agent::fuzz_properties::upstream_cookies(bytes));
