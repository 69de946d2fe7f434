#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| agent::fuzz_properties::http2_frames(bytes));
