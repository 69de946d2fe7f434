#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    agent::fuzz_properties::request_target(bytes);
    agent::fuzz_properties::policy_decision(bytes);
});
