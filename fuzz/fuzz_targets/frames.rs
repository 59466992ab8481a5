#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| rustory_sim::fuzz::frames(data));
