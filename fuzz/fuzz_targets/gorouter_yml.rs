//! A configuration file gives settings or named problems.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match gorouter::yml::read(text) {
        Ok(read) => assert!(!read.settings.prune_interval.is_zero()),
        Err(problems) => {
            assert!(!problems.is_empty() && problems.iter().all(|problem| !problem.is_empty()));
        }
    }
});
