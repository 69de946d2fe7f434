#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    agent::fuzz_properties::framed_requests(bytes);
    agent::fuzz_properties::request_head(bytes);
    agent::fuzz_properties::chunked_body(bytes);
});
