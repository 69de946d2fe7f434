#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    agent::fuzz_properties::oauth1_answer(bytes);
    agent::fuzz_properties::oauth2_answer(bytes);
});
