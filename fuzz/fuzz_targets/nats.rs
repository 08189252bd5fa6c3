//! The reader understands the bytes of a NATS server alike in whatever pieces they arrive, and no message is longer than the input.
#![no_main]

use bytes::BytesMut;
use clients::nats::protocol::{ServerMessage, parse};
use libfuzzer_sys::fuzz_target;

/// Parses every complete message, and returns whether the rest is an error.
fn parsed(input: &mut BytesMut, messages: &mut Vec<ServerMessage>) -> bool {
    loop {
        match parse(input) {
            Ok(Some(next)) => messages.push(next),
            Ok(None) => return false,
            Err(_) => return true,
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let (mut input, mut whole) = (BytesMut::from(bytes), Vec::new());
    let wrong = parsed(&mut input, &mut whole);
    let size = |message: &ServerMessage| match message {
        ServerMessage::Message(message) => message.subject().len() + message.payload().len(),
        _ => 0,
    };
    assert!(whole.iter().map(size).sum::<usize>() <= bytes.len());
    for piece in [1, 7] {
        let (mut input, mut messages, mut failed) = (BytesMut::new(), Vec::new(), false);
        for part in bytes.chunks(piece) {
            input.extend_from_slice(part);
            failed = parsed(&mut input, &mut messages);
            if failed {
                break;
            }
        }
        assert_eq!((&messages, failed), (&whole, wrong), "in pieces of {piece}");
    }
});
