use super::*;
use crate::MALFORMED;
use crate::frame::{ACK, DATA, PADDED, PING};

const PRI: &[u8; PREFACE] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let head = Head {
        length: payload.len(),
        kind,
        flags,
        stream,
    };
    head.write(&mut out);
    out.extend_from_slice(payload);
    out
}

fn opened(frames: &[Vec<u8>]) -> Vec<u8> {
    [PRI.to_vec(), frame(SETTINGS, 0, 0, &[]), frames.concat()].concat()
}

/// Returns the bytes that go on when these bytes come in pieces of these sizes, and the connection error, if there is one.
fn run(bytes: &[u8], sizes: &[usize]) -> (Vec<u8>, Option<ConnectionError>) {
    run_of(Sender::Client, bytes, sizes)
}

fn run_of(sender: Sender, bytes: &[u8], sizes: &[usize]) -> (Vec<u8>, Option<ConnectionError>) {
    let (mut check, mut out, mut rest) = (Check::new(sender, 1 << 16), Vec::new(), bytes);
    let mut sizes = sizes.iter().cycle();
    while !rest.is_empty() {
        let size = sizes.next().map_or(rest.len(), |&size| size.max(1));
        let (piece, more) = rest.split_at(size.min(rest.len()));
        let passed = check.consume(piece);
        out.extend_from_slice(&piece[..passed]);
        out.append(check.replacement());
        rest = more;
    }
    (out, check.error())
}

const GET: [u8; 3] = [0x82, 0x87, 0x84];
const BAD: [u8; 8] = [0x82, 0x87, 0x84, 0x40, 1, b'X', 1, b'y'];
const END: u8 = END_STREAM | END_HEADERS;

fn varied() -> Vec<u8> {
    opened(&[
        frame(HEADERS, END_HEADERS, 1, &GET),
        frame(PING, 0, 0, &[7; 8]),
        frame(DATA, 0, 1, &[1; 300]),
        frame(HEADERS, END_STREAM, 3, &BAD[..5]),
        frame(CONTINUATION, 0, 3, &[]),
        frame(CONTINUATION, END_HEADERS, 3, &BAD[5..]),
        frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 1, 0]),
        frame(
            HEADERS,
            END | PADDED,
            5,
            &[&[2][..], &GET, &[0, 0]].concat(),
        ),
        frame(DATA, END_STREAM, 1, &[2; 40]),
        frame(0xfe, 0xff, 9, &[3; 20]),
    ])
}

#[test]
fn correct_bytes_pass_without_a_copy() {
    let bytes = opened(&[
        frame(HEADERS, 0, 1, &GET[..1]),
        frame(CONTINUATION, END_HEADERS, 1, &GET[1..]),
        frame(DATA, END_STREAM, 1, b"hello"),
        frame(DATA, 0, 7, b"idle: the library's"),
    ]);
    let mut check = Check::new(Sender::Client, 1 << 16);
    assert_eq!(check.consume(&bytes), bytes.len());
    assert!(check.replacement().is_empty() && check.error().is_none());
}

#[test]
fn a_malformed_request_is_replaced_in_its_place() {
    let (out, error) = run(&varied(), &[]);
    assert_eq!(error, None);
    let mark = [&[0, MALFORMED.len() as u8][..], MALFORMED.as_bytes(), &[0]].concat();
    let harmless = [&GET[..], &[0x40, 1, b'x', 1, b'x'], &mark].concat();
    let whole = frame(HEADERS, END, 3, &harmless);
    let at = out.windows(whole.len()).position(|w| w == whole);
    let at = at.expect("the harmless form");
    assert_eq!(out[..at], varied()[..at]);
    assert!(varied().ends_with(&out[at + whole.len()..]));
    assert!(out.len() - at - whole.len() > 60, "all that follows");
}

#[test]
fn a_backends_bytes_begin_with_its_settings_and_its_streams_are_the_librarys() {
    let settings = frame(SETTINGS, 0, 0, &[]);
    let right = [
        settings.clone(),
        frame(HEADERS, END_HEADERS, 1, &[0x48, 3, b'1', b'0', b'3']),
        frame(HEADERS, END_HEADERS, 1, &[0x88]),
        frame(DATA, 0, 1, &[1; 300]),
        frame(HEADERS, END, 1, &[0x40, 1, b't', 1, b'v']),
        frame(DATA, END_STREAM, 1, b"late"),
    ]
    .concat();
    let of = |bytes: &[u8]| run_of(Sender::Backend, bytes, &[7]);
    assert_eq!(of(&right), (right, None));
    let bad = frame(HEADERS, END, 3, &[0x88, 0x40, 1, b'X', 1, b'y']);
    let (out, error) = of(&[settings, bad, frame(PING, 0, 0, &[7; 8])].concat());
    assert_eq!(error, None);
    let harmless = [
        &[0x88, 0x40, 1, b'x', 1, b'x', 0, 10][..],
        b"connection\x01x",
    ]
    .concat();
    assert!(
        out.ends_with(
            &[
                frame(HEADERS, END, 3, &harmless),
                frame(PING, 0, 0, &[7; 8])
            ]
            .concat()
        )
    );
    let (_, error) = of(&frame(PING, 0, 0, &[0; 8]));
    assert_eq!(error, Some(ConnectionError::Protocol), "settings first");
}

#[test]
fn connection_errors_have_the_codes_of_the_rfc() {
    let header = |block: &[u8]| frame(HEADERS, END, 1, block);
    for (name, error, frames) in [
        (
            "PING",
            ConnectionError::FrameSize,
            frame(PING, 0, 0, &[0; 7]),
        ),
        (
            "an ACK",
            ConnectionError::FrameSize,
            frame(SETTINGS, ACK, 0, &[0; 6]),
        ),
        (
            "large",
            ConnectionError::FrameSize,
            frame(0xfe, 0, 0, &[0; 16_385]),
        ),
        (
            "a window",
            ConnectionError::FlowControl,
            frame(SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0]),
        ),
        ("index 0", ConnectionError::Compression, header(&[0x80])),
        ("index 62", ConnectionError::Compression, header(&[0xbe])),
        (
            "resized late",
            ConnectionError::Compression,
            header(&[0x82, 0x20]),
        ),
        (
            "cut off",
            ConnectionError::Compression,
            header(&[0, 3, b'x']),
        ),
        (
            "ended",
            ConnectionError::StreamClosed,
            [header(&GET), frame(DATA, 0, 1, b"x")].concat(),
        ),
        (
            "interrupted",
            ConnectionError::Protocol,
            [frame(HEADERS, 0, 1, &GET), frame(PING, 0, 0, &[0; 8])].concat(),
        ),
        (
            "without an end",
            ConnectionError::Excess,
            [
                frame(HEADERS, 0, 1, &GET),
                frame(CONTINUATION, 0, 1, &[]).repeat(100),
            ]
            .concat(),
        ),
    ] {
        let (out, seen) = run(&opened(&[frames]), &[]);
        assert_eq!(seen, Some(error), "{name}");
        assert!(out.len() >= PREFACE, "{name}: what came before passes");
    }
    let first = [&PRI[..], &frame(PING, 0, 0, &[0; 8])].concat();
    assert_eq!(run(&first, &[]).1, Some(ConnectionError::Protocol));
}

proptest::proptest! {
    /// The result does not depend on how the bytes are cut.
    #[test]
    fn pieces_do_not_matter(sizes in proptest::collection::vec(1_usize..60, 1..20)) {
        proptest::prop_assert_eq!(run(&varied(), &sizes), run(&varied(), &[]));
    }

    /// Bytes without meaning obey the same law.
    #[test]
    fn nor_of_noise(noise: Vec<u8>, kind in 0_u8..10, sizes in proptest::collection::vec(1_usize..9, 1..5)) {
        let bytes = opened(&[frame(kind, END, 1, &noise), noise.clone()]);
        proptest::prop_assert_eq!(run(&bytes, &sizes), run(&bytes, &[]));
    }
}

#[test]
fn empty_data_is_dropped_and_its_end_is_passed_on() {
    let empty = frame(DATA, 0, 1, &[]);
    let end = frame(DATA, END_STREAM, 1, &[]);
    let padded = frame(DATA, PADDED, 1, &[0]);
    let head = frame(HEADERS, END_HEADERS, 1, &GET);
    let bytes = |data: &[&[u8]]| opened(&[head.clone(), data.concat()]);
    let (came, error) = run(&bytes(&[&empty, &empty, &padded, &empty, &end]), &[]);
    assert_eq!((came, error), (bytes(&[&padded, &end]), None));
    let (_, error) = run(&bytes(&[&end, &empty]), &[]);
    assert_eq!(error, Some(ConnectionError::StreamClosed));
    // The frame reaches the library, which refuses it.
    let idle = bytes(&[&frame(DATA, 0, 3, &[])]);
    assert_eq!(run(&idle, &[]), (idle, None));
}

/// The frame counts as a reset, so that a flood of such frames uses up the connection's budget.
#[test]
fn a_reset_of_no_stream_without_an_error_is_left_out() {
    let reset = |code: u8| frame(RST_STREAM, 0, 0, &[0, 0, 0, code]);
    let get = frame(HEADERS, END, 1, &GET);
    let bytes = opened(&[reset(0), get.clone(), reset(0)]);
    for sizes in [&[bytes.len()][..], &[1], &[40, 3]] {
        assert_eq!(
            run(&bytes, sizes),
            (opened(std::slice::from_ref(&get)), None)
        );
    }
    let mut check = Check::new(Sender::Client, 1 << 16);
    check.consume(&bytes);
    assert_eq!(check.take_tally().resets, 2);
    // The library refuses the frame with any other code, and a backend's.
    let wrong = opened(&[reset(8)]);
    assert_eq!(run(&wrong, &[wrong.len()]), (wrong.clone(), None));
    let backend = [frame(SETTINGS, 0, 0, &[]), reset(0)].concat();
    assert_eq!(
        run_of(Sender::Backend, &backend, &[7]),
        (backend.clone(), None)
    );
}

#[test]
fn requests_and_resets_are_counted() {
    let reset = |stream| frame(RST_STREAM, 0, stream, &[0; 4]);
    let ask = |stream| frame(HEADERS, END, stream, &GET);
    let mut check = Check::new(Sender::Client, 1 << 16);
    check.consume(&opened(&[ask(1), reset(1), ask(3), reset(1)]));
    let tally = check.take_tally();
    assert_eq!((tally.opened, tally.resets), (2, 1), "each stream once");
    assert_eq!(check.take_tally(), Tally::default());
}
