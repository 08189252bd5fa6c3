//! The reader understands the bytes of a NATS server alike in whatever pieces they arrive, and no message is longer than the input.
#![no_main]

use bytes::BytesMut;
use clients::nats::protocol::{Said, take};
use libfuzzer_sys::fuzz_target;

/// Takes everything that is complete; returns whether the rest is an error.
fn understood(input: &mut BytesMut, said: &mut Vec<Said>) -> bool {
    loop {
        match take(input) {
            Ok(Some(next)) => said.push(next),
            Ok(None) => return false,
            Err(_) => return true,
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let (mut input, mut whole) = (BytesMut::from(bytes), Vec::new());
    let wrong = understood(&mut input, &mut whole);
    let size = |said: &Said| match said {
        Said::Message(message) => message.subject().len() + message.payload().len(),
        _ => 0,
    };
    assert!(whole.iter().map(size).sum::<usize>() <= bytes.len());
    for piece in [1, 7] {
        let (mut input, mut said, mut failed) = (BytesMut::new(), Vec::new(), false);
        for part in bytes.chunks(piece) {
            input.extend_from_slice(part);
            failed = understood(&mut input, &mut said);
            if failed {
                break;
            }
        }
        assert_eq!((&said, failed), (&whole, wrong), "in pieces of {piece}");
    }
});
