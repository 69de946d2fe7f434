#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    agent::fuzz_properties::enrollment_token(bytes);
    agent::fuzz_properties::tunnel_address(bytes);
});
