#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    agent::fuzz_properties::answer_head(bytes);
    agent::fuzz_properties::answer_source(bytes);
});
