//! A loop that changes kept inputs at random and feeds them to a parser. The corpus is `fuzz/corpus/`, with one folder per parser.
//! Each finding becomes a file there. `FUZZ_SECONDS=600` runs longer, `FUZZ_SEED=…` repeats a run.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use std::path::Path;
use std::time::{Duration, Instant};

/// Runs `check` over the corpus as it is, then over changed pieces of it. `words`: the elements of the format.
///
/// # Panics
///
/// Panics if `check` panics for an input, and names the input.
pub fn fuzz(parser: &str, words: &[&str], check: impl Fn(&[u8])) {
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.expect("the folder is readable");
        std::fs::read(entry.path()).expect("a file of the corpus is readable")
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(parser);
    let mut corpus: Vec<Vec<u8>> = std::fs::read_dir(&folder)
        .expect("the corpus is kept with the project")
        .map(read)
        .collect();
    corpus.sort();
    assert!(!corpus.is_empty(), "no corpus in {}", folder.display());
    corpus.iter().for_each(|input| check(input));
    let number = |name: &str, default| {
        std::env::var(name).map_or(default, |text| text.parse::<u64>().expect("a number"))
    };
    let seed = number("FUZZ_SEED", rand::random());
    let until = Instant::now() + Duration::from_secs(number("FUZZ_SECONDS", 3));
    let mut rng = StdRng::seed_from_u64(seed);
    let mut runs = 0_u64;
    // A machine that stands still in that time does not end it after a few runs.
    while Instant::now() < until || runs <= 20 {
        let mut input = corpus[rng.random_range(0..corpus.len())].clone();
        for _ in 0..rng.random_range(1..6) {
            change(&mut input, &corpus, words, &mut rng);
        }
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&input)));
        assert!(
            run.is_ok(),
            "FUZZ_SEED={seed}, run {runs}: keep this in fuzz/corpus/{parser}: {:?}",
            String::from_utf8_lossy(&input)
        );
        runs += 1;
    }
}

fn change(input: &mut Vec<u8>, corpus: &[Vec<u8>], words: &[&str], rng: &mut StdRng) {
    let at = rng.random_range(0..=input.len());
    let span = at..rng.random_range(at..=input.len().min(at + 40));
    match rng.random_range(0..8) {
        0 if at < input.len() => input[at] ^= 1 << rng.random_range(0..8),
        1 if at < input.len() => input[at] = rng.random(),
        2 => drop(input.drain(span)),
        3 => {
            let again = input[span].to_vec();
            drop(input.splice(at..at, again));
        }
        4 => input.truncate(at),
        5 => {
            let other = &corpus[rng.random_range(0..corpus.len())];
            let from = rng.random_range(0..=other.len());
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        _ => {
            let word = words[rng.random_range(0..words.len())];
            drop(input.splice(span, word.bytes()));
        }
    }
}
