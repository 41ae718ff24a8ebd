#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| messenger_bridge_fuzz::properties::config(data));
