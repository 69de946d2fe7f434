#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    agent::fuzz_properties::known_hosts_file(bytes);
    agent::fuzz_properties::private_key_file(bytes);
    agent::fuzz_properties::pem_file(bytes);
});
