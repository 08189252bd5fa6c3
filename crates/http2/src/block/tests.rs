use super::*;
use crate::name::Sender;

fn field(name: &str, value: &str) -> Vec<u8> {
    let mut out = Vec::new();
    literal(&mut out, 0x40, name.as_bytes(), value.as_bytes());
    out
}

fn request(block: &[u8], table: &mut Table) -> Result<Option<Vec<u8>>, ConnectionError> {
    check(block, Message::Request, table)
}

fn refused(block: &[u8]) -> Vec<u8> {
    let harmless = request(block, &mut Table::new(Sender::Client)).expect("decodable");
    harmless.expect("malformed")
}

#[test]
fn legal_blocks_pass() {
    for block in [
        vec![0x82, 0x87, 0x84],
        field("x-a", "b \t\u{e9}"),
        field(":path", "/\u{e9}"),
        field(":method", "M-SEARCH"),
        field("x-a", ""),
        [vec![0x20, 0x3f, 0xe1, 0x1f], field("x", "y")].concat(),
    ] {
        assert_eq!(
            request(&block, &mut Table::new(Sender::Client)),
            Ok(None),
            "{block:x?}"
        );
    }
}

#[test]
fn illegal_blocks_become_harmless() {
    let mark = field(MALFORMED, "")[1..].to_vec();
    let marked = |block: Vec<u8>| [block, vec![0], mark.clone()].concat();
    for (name, value, harmless) in [
        ("X-A", "b", field("xxx", "x")),
        ("x a", "b", field("xxx", "x")),
        (":x", "y", field("xx", "x")),
        (":status", "200", field("xxxxxxx", "xxx")),
        ("", "ab", field("x", "x")),
        ("x-a", "a\nb", field("x-a", "xxx")),
        ("x-a", "\u{7f}", field("x-a", "x")),
        (":method", "", field("xxxxxxx", "")),
        (":method", "G T", field(":method", "xxx")),
    ] {
        let block = [vec![0x82], field(name, value), vec![0x84]].concat();
        let expected = [vec![0x82], harmless, vec![0x84]].concat();
        assert_eq!(refused(&block), marked(expected), "{name:?}: {value:?}");
    }
    let bad_path = [&[0x44, 1][..], &[0xff]].concat();
    assert_eq!(refused(&bad_path), marked(vec![0x44, 1, b'/']));
    assert_eq!(
        request(&field("", ""), &mut Table::new(Sender::Client)),
        Err(ConnectionError::Protocol),
        "nothing legal is as small"
    );
}

/// Returns the block that the library gets instead, and the path that is carried beside it.
fn carried(block: &[u8], table: &mut Table) -> (Vec<u8>, Vec<u8>) {
    let harmless = request(block, table).unwrap().expect("odd");
    let name = [&[0, 13], TARGET.as_bytes()].concat();
    let at = harmless
        .windows(15)
        .position(|w| w == name)
        .expect("carried");
    let (block, rest) = harmless.split_at(at);
    (block.to_vec(), rest[name.len() + 1..].to_vec())
}

#[test]
fn a_path_that_the_library_refuses_is_carried() {
    for path in ["/a#b", "/<>", "/`", "/a\"b?\"", "/ ", "/a?{|}^\\", "#", "<"] {
        let mut table = Table::new(Sender::Client);
        let (block, target) = carried(&field(":path", path), &mut table);
        let instead = format!("/{}", "x".repeat(path.len() - 1));
        assert_eq!(block, field(":path", &instead), "{path}");
        assert_eq!(target, path.as_bytes());
        // Its index stands for the same path.
        let again = carried(&[0x82, 0xbe], &mut table);
        assert_eq!(again, (vec![0x82, 0xbe], path.into()));
    }
    for path in ["/a b\u{1}", "/<\n", "\u{7f}"] {
        let harmless = refused(&field(":path", path));
        let found = |name: &str| harmless.windows(name.len()).any(|w| w == name.as_bytes());
        assert!(found(MALFORMED) && !found(TARGET), "{path:?}");
    }
    for path in ["/", "*", "/a?b=c&d;e,f!$'()*+~@:%zz", "/\u{e9}", "/?/?"] {
        let block = field(":path", path);
        assert_eq!(
            request(&block, &mut Table::new(Sender::Client)),
            Ok(None),
            "{path}"
        );
    }
    let long = format!("/{}", "p".repeat(70_000));
    let mut block = vec![0x04];
    text(&mut block, long.as_bytes());
    let harmless = request(&block, &mut Table::new(Sender::Client))
        .unwrap()
        .unwrap();
    assert!(harmless.len() < LONGEST_PATH + long.len() + 50);
}

#[test]
fn an_illegal_entry_stays_illegal() {
    let mut table = Table::new(Sender::Client);
    request(&field("X-A", "b"), &mut table).unwrap().unwrap();
    for block in [vec![0xbe], [&[0x0f, 47][..], &[1, b'b']].concat()] {
        assert!(request(&block, &mut table).unwrap().is_some(), "{block:x?}");
    }
    // Here only the value was illegal.
    request(&field("x-b", "\n"), &mut table).unwrap().unwrap();
    assert_eq!(request(&[0x0f, 47, 1, b'b'], &mut table), Ok(None));
    assert!(request(&[0xbe], &mut table).unwrap().is_some());
}

#[test]
fn trailers_have_no_pseudo_headers() {
    let trailers = |block: &[u8]| {
        check(block, Message::Trailers, &mut Table::new(Sender::Client)).expect("decodable")
    };
    assert_eq!(trailers(&field("x-sum", "1")), None);
    let harmless = trailers(&[0x84]).expect("malformed");
    assert!(harmless.starts_with(&[0x84, 0]) && harmless.ends_with(b"connection\x01x"));
}

#[test]
fn a_response_has_its_own_pseudo_headers() {
    let answer =
        |block: &[u8], table: &mut Table| check(block, Message::Answer, table).expect("decodable");
    let alone = |block: &[u8]| answer(block, &mut Table::new(Sender::Backend));
    for legal in [
        [vec![0x88], field("x-a", "b")].concat(),
        field(":status", "103"),
        field("x-trailer", "1"),
    ] {
        assert_eq!(alone(&legal), None, "{legal:x?}");
    }
    let mark = [&[0, 10][..], b"connection\x01x"].concat();
    for (bad, harmless) in [
        (field("X-A", "b"), field("xxx", "x")),
        (field("x-a", "b\0"), field("x-a", "xx")),
        (field(":status", "abc"), field("xxxxxxx", "xxx")),
        (field(":status", "099"), field("xxxxxxx", "xxx")),
        (field(":status", ""), field("xxxxxxx", "")),
        (field(":method", "GET"), field("xxxxxxx", "xxx")),
        (vec![0x84], vec![]),
    ] {
        let block = [&[0x88][..], &bad, &[0x89]].concat();
        let wanted = [&[0x88][..], &harmless, &[0x89], &mark].concat();
        assert_eq!(alone(&block), Some(wanted), "{bad:x?}");
    }
    let mut table = Table::new(Sender::Backend);
    answer(&field(":status", "abc"), &mut table).expect("malformed");
    assert!(answer(&[0xbe], &mut table).is_some(), "still in the table");
}

#[test]
fn long_strings_have_long_lengths() {
    for length in [0, 126, 127, 128, 254, 255, 20_000] {
        let value = "v".repeat(length);
        let block = field("x-a", &value);
        let mut walk = Walk {
            bytes: &block,
            at: 0,
        };
        let read = walk.literal(6, &mut Table::new(Sender::Client)).unwrap();
        assert_eq!(
            (read.entry.value, walk.at, read.entry.legal),
            (length, block.len(), true)
        );
    }
}

proptest::proptest! {
    /// No input causes a panic, and every harmless form is harmless.
    #[test]
    fn a_harmless_form_is_legal(bytes: Vec<u8>) {
        let (mut table, mut other) = (Table::new(Sender::Client), Table::new(Sender::Client));
        if let Ok(Some(harmless)) = request(&bytes, &mut table) {
            proptest::prop_assert_eq!(request(&harmless, &mut other), Ok(None));
        }
    }
}
