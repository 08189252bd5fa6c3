//! A chunked body is the same data in whatever pieces it arrives.
#![no_main]

use http1::chunked::Decoder;
use libfuzzer_sys::fuzz_target;

/// The data, whether the body ended, and how many bytes were read; the data before the fault of a faulty body.
fn read(bytes: &[u8], piece: usize) -> Result<(Vec<u8>, bool, usize), Vec<u8>> {
    let (mut decoder, mut data, mut at) = (Decoder::default(), Vec::new(), 0);
    while at < bytes.len() && !decoder.ended() {
        let input = &bytes[at..bytes.len().min(at + piece)];
        let Ok(step) = decoder.decode(input) else {
            return Err(data);
        };
        assert!(step.data <= step.consumed && step.consumed <= input.len());
        assert!(
            step.consumed > 0 || decoder.ended(),
            "the decoder stands still"
        );
        data.extend_from_slice(&input[step.consumed - step.data..step.consumed]);
        at += step.consumed;
    }
    Ok((data, decoder.ended(), at))
}

fuzz_target!(|bytes: &[u8]| {
    let whole = read(bytes, bytes.len().max(1));
    for piece in [1, 7] {
        assert_eq!(read(bytes, piece), whole, "in pieces of {piece}");
    }
});
