//! Fuzz tests of what users write: the URLs of drains, and lines with their tags. They use the loop of [`testkit::fuzz`].

use crate::rfc5424;
use crate::target::{Target, Transport};
use testkit::fuzz::fuzz;
use wire::loggregator::{Envelope, Log, Message};

#[test]
fn urls() {
    const WORDS: &[&str] = &[
        "syslog://",
        "syslog-tls:",
        "https://",
        "https-batch",
        "//",
        "@",
        ":",
        "[::1]",
        "?",
        "#",
        "&",
        "=",
        "%41",
        "%",
        "/",
        "65536",
        "drain-data=all",
        "user:pass@",
    ];
    fuzz("drain-url", WORDS, |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return;
        };
        let target = match Target::parse(text, true) {
            Ok(target) => target,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                return;
            }
        };
        assert!(!target.host.is_empty());
        assert!(!target.shown.contains('?') && !target.shown.contains('#'));
        if let Transport::Https(post) = &target.transport {
            assert!(post.path_and_query.starts_with('/'));
            assert!(!post.authority.contains('@'));
        }
        // The text that is shown leads to the same server.
        let again = Target::parse(&target.shown, true).unwrap();
        assert_eq!((&again.host, again.port), (&target.host, target.port));
        assert_eq!(again.shown, target.shown);
        assert_eq!(again.is_batch(), target.is_batch());
    });
}

#[test]
fn messages() {
    const WORDS: &[&str] = &[
        "\n",
        "\0",
        "\"",
        "]",
        "\\",
        " ",
        "=",
        "app_name",
        "space_name",
        "source_type",
        "é",
        "\u{1f600}",
        "-",
    ];
    fuzz("drain-message", WORDS, |bytes| {
        let mut parts = bytes.splitn(5, |byte| *byte == b'\n');
        let mut text = || String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
        let (source_id, instance_id, name, value) = (text(), text(), text(), text());
        let envelope = Envelope {
            timestamp: 1,
            source_id,
            instance_id,
            tags: [(name, value)].into(),
            message: Some(Message::Log(Log {
                payload: parts.next().unwrap_or_default().to_vec(),
                kind: 0,
            })),
        };
        for has_tags in [false, true] {
            let messages = rfc5424::messages(&envelope, "org.space.app", has_tags);
            let [message] = &messages[..] else {
                panic!("{} messages", messages.len());
            };
            assert_eq!(message.last(), Some(&b'\n'));
            let fields: Vec<&[u8]> = message.splitn(7, |byte| *byte == b' ').collect();
            let [priority, _, host, app, process, id, _] = fields[..] else {
                panic!("{} fields", fields.len());
            };
            assert_eq!((priority, id), (&b"<14>1"[..], &b"-"[..]));
            for (field, longest) in [(host, 255), (app, 48), (process, 128)] {
                assert!(!field.is_empty() && field.len() <= longest);
                assert!(field.iter().all(u8::is_ascii_graphic));
            }
            let mut framed = Vec::new();
            rfc5424::frame(message, &mut framed);
            assert!(framed.ends_with(message));
        }
    });
}
