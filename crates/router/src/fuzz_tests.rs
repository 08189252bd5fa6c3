//! Fuzz tests of every parser of the router, with the loop of [`testkit::fuzz`].

use crate::bus::message;
use crate::config::Settings;
use crate::listen::proxy_protocol;
use crate::observe::trace::ids;
use crate::path::{route_service, sticky};
use bytes::BytesMut;
use http::HeaderValue;
use http1::{Fields, Known, Limits, Request};
use route_table::registry::{EndpointSpec, Registered, Registry};
use std::time::Instant;
use testkit::fuzz::fuzz;

#[test]
fn nats() {
    use clients::nats::protocol::{ServerMessage, parse};
    const WORDS: &[&str] = &[
        "MSG ",
        "INFO {",
        "PING\r\n",
        "PONG",
        "+OK",
        "-ERR '",
        "\r\n",
        " 1 ",
        " 0\r\n\r\n",
        "-1",
        "4294967296",
        "\t",
        "null",
        "router.register",
    ];
    // This collects what was understood, and returns whether the rest is an error.
    fn understood(came: &mut BytesMut, said: &mut Vec<ServerMessage>) -> bool {
        loop {
            match parse(came) {
                Ok(Some(next)) => said.push(next),
                Ok(None) => return false,
                Err(_) => return true,
            }
        }
    }
    fuzz("nats", WORDS, |input| {
        let (mut came, mut whole) = (BytesMut::from(input), Vec::new());
        let wrong = understood(&mut came, &mut whole);
        let held: usize = whole
            .iter()
            .map(|said| match said {
                ServerMessage::Message(message) => {
                    message.subject().len() + message.payload().len()
                }
                _ => 0,
            })
            .sum();
        assert!(held <= input.len());
        for size in [1, 7] {
            let (mut came, mut said, mut failed) = (BytesMut::new(), Vec::new(), false);
            for piece in input.chunks(size) {
                came.extend_from_slice(piece);
                failed = understood(&mut came, &mut said);
                if failed {
                    break;
                }
            }
            assert_eq!(
                (said, failed),
                (whole.clone(), wrong),
                "in pieces of {size}"
            );
        }
    });
}

#[test]
fn registrations() {
    const WORDS: &[&str] = &[
        "null",
        "\"\"",
        "-1",
        "65536",
        "1e9",
        "{}",
        "[]",
        "\"uris\":",
        "\"tags\":{",
        "\"options\":{",
        "\"hash_balance\":",
        "\"loadbalancing\":\"hash\"",
        "\"*.a\"",
        "\"a//b?c\"",
        "\"[::1]\"",
        "\\u0000",
        "\"tls_port\":443",
        "\"stale_threshold_in_seconds\":",
        "\"route_policy_sources\":\"cf:any\"",
        ",",
    ];
    let (lasting, _) = Settings::default().split();
    let now = Instant::now();
    fuzz("register", WORDS, |payload| {
        let Ok(registration) = message::parse(payload, &lasting) else {
            return;
        };
        let registry = Registry::new(route_table::registry::Settings::default(), now);
        let spec: &EndpointSpec = &registration.spec;
        let mut endpoint = registry.endpoint(spec.clone());
        let seen = endpoint.spec();
        assert_eq!(
            (seen.host, seen.port, seen.tls),
            (&*spec.host, spec.port, spec.tls)
        );
        assert_eq!(seen.instance_id, spec.instance_id);
        assert_eq!(seen.tags.to_map(), spec.tags);
        assert_eq!(endpoint.address(), spec.address());
        for uri in &registration.uris {
            registry.register_with_place(uri, &mut endpoint, now, now);
        }
        for uri in &registration.uris {
            let again = registry.register_with_place(uri, &mut endpoint, now, now);
            assert_eq!(again.outcome, Registered::Refreshed, "{uri:?}");
        }
        for (uri, pool) in registry.snapshot() {
            assert_eq!(pool.len(), 1, "{uri:?}");
            assert!(pool.context_path().starts_with('/'));
        }
        for uri in &registration.uris {
            registry.unregister(uri, endpoint.address(), now);
        }
        assert_eq!((registry.routes(), registry.endpoints()), (0, 0));
    });
}

/// A message that was understood has the same meaning after it is written and read again.
#[test]
fn messages_of_the_bus() {
    const WORDS: &[&str] = &[
        "null",
        "0",
        "\"uris\":[\"a\"]",
        "\"id\":\"\"",
        "{",
        "}",
        "\"hosts\":[]",
    ];
    fuzz("wire", WORDS, |payload| {
        use wire::router::digests::{DifferenceMessage, DigestMessage};
        use wire::router::receipts::{Question, Receipts};
        use wire::router::{RegistryMessage, StartMessage, StartingMessage};
        fn again<T>(payload: &[u8])
        where
            T: serde::de::DeserializeOwned + serde::Serialize + PartialEq + std::fmt::Debug,
        {
            if let Ok(message) = serde_json::from_slice::<T>(payload) {
                let text = serde_json::to_vec(&message).unwrap();
                assert_eq!(serde_json::from_slice::<T>(&text).unwrap(), message);
            }
        }
        again::<StartMessage>(payload);
        again::<StartingMessage>(payload);
        again::<Question>(payload);
        again::<Receipts>(payload);
        again::<DigestMessage>(payload);
        again::<DifferenceMessage>(payload);
        if let Ok(message) = serde_json::from_slice::<RegistryMessage>(payload) {
            // Numbers in options may lose their last digit.
            let plain = RegistryMessage {
                options: None,
                ..message
            };
            again::<RegistryMessage>(&serde_json::to_vec(&plain).unwrap());
        }
    });
}

#[test]
fn proxy_headers() {
    const WORDS: &[&str] = &[
        "PROXY ",
        "TCP4 ",
        "TCP6 ",
        "UNKNOWN",
        "\r\n",
        "1.2.3.4 ",
        "::1 ",
        "65536",
        "\r\n\r\n\0\r\nQUIT\n",
        "\x21\x11\0\x0c",
        "\x20\0\0\0",
        "\x7f\x7f",
    ];
    fuzz("proxy", WORDS, |bytes| {
        proxy_protocol::check_sound(bytes);
    });
}

#[test]
fn cookies() {
    const WORDS: &[&str] = &[
        "__VCAP_ID__=",
        "JSESSIONID=",
        "; ",
        ";;",
        "=",
        "\"",
        "Max-Age=-1",
        "Max-Age=0",
        "Expires=x",
        "SameSite=None",
        "Secure",
        "Partitioned",
        "\u{e4}",
        ",",
    ];
    let (_, settings) = Settings::default().split();
    let registry = Registry::new(route_table::registry::Settings::default(), Instant::now());
    let mut endpoint = registry.endpoint(EndpointSpec {
        instance_id: "instance".into(),
        ..EndpointSpec::default()
    });
    let now = Instant::now();
    registry.register_with_place("a.test/path", &mut endpoint, now, now);
    let pool = registry.lookup("a.test", "/path").unwrap();
    fuzz("cookie", WORDS, |bytes| {
        let Ok(line) = HeaderValue::from_bytes(bytes) else {
            return;
        };
        let line = line.as_bytes();
        let mut request = Fields::default();
        request.append(Known::Cookie, line);
        let wanted = sticky::wanted(&request, &settings);
        if let Some(wanted) = &wanted {
            assert!(!wanted.instance.contains(';'), "{wanted:?}");
        }
        let mut response = Fields::default();
        response.append(Known::SetCookie, line);
        sticky::remember(&mut response, wanted.as_ref(), &pool, &endpoint, &settings);
        let lines: Vec<_> = response.get_all(Known::SetCookie).collect();
        assert!(lines.len() <= 3);
        for (own, name) in lines[1..]
            .iter()
            .zip(["__VCAP_ID__=instance", "__VCAP_ID_META__="])
        {
            let own = std::str::from_utf8(own).unwrap();
            assert!(
                own.starts_with(name) && own.contains("; Path=/path"),
                "{own}"
            );
            assert!(own.contains("; HttpOnly"), "{own}");
        }
    });
}

#[test]
fn notes_of_route_services() {
    const WORDS: &[&str] = &["=", "-", "_", "AAAA", "e30=", "eyJub25jZSI6", "\n"];
    let sound = route_service::Soundness::new();
    fuzz("route-service", WORDS, |bytes| sound.check(bytes));
}

/// Whatever a client sends as ids, those that go to a receiver of traces are hexadecimal digits.
#[test]
fn marks_of_requests() {
    const WORDS: &[&str] = &[
        "-",
        "\n",
        "00-",
        "-01",
        "-d",
        "ff",
        "4bf92f3577b34da6a3ce929d0e0e4736",
        "00f067aa0ba902b7",
        "\u{e4}",
    ];
    let (lasting, _) = Settings {
        zipkin: true,
        w3c: true,
        ..Settings::default()
    }
    .split();
    fuzz("trace-headers", WORDS, |input| {
        let mut fields = Fields::default();
        let names = [
            Known::B3,
            Known::Traceparent,
            Known::XB3Sampled,
            Known::XB3Flags,
        ];
        for (name, value) in names.into_iter().zip(input.split(|byte| *byte == b'\n')) {
            fields.append(name, value);
        }
        let mark = ids::mark(&fields, &lasting);
        let Some(own) = mark.and_then(|mark| mark.own_span(&fields, 1)) else {
            return;
        };
        let hex = |id: &str, length| {
            id.len() == length && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        assert!(hex(&own.trace, 32) && hex(&own.span, 16), "{own:?}");
        assert!(own.parent.is_none_or(|parent| hex(&parent, 16)));
    });
}

/// A head that was understood is understood in the same way after it is written.
#[test]
fn heads_of_requests() {
    const WORDS: &[&str] = &[
        "\r\n",
        "\n",
        "\r",
        "\0",
        " ",
        "\t",
        ":",
        "GET ",
        "CONNECT ",
        "* ",
        "http://a/",
        "HTTP/1.1",
        "HTTP/1.0",
        "Host: a\r\n",
        "Content-Length: 5\r\n",
        "Content-Length: 05, 5\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Connection: close, te\r\n",
        "Expect: 100-continue\r\n",
        "\u{e4}",
    ];
    let limits = Limits {
        bytes: 16 << 10,
        fields: 64,
    };
    fuzz("http1-request", WORDS, |bytes| {
        let mut request = Request::default();
        let Ok(Some(size)) = request.parse(bytes, &limits) else {
            return;
        };
        assert!(size <= bytes.len());
        let both = request.fields.contains(Known::ContentLength)
            && request.fields.contains(Known::TransferEncoding);
        assert!(!both, "two ways to frame the body");
        for (name, value) in request.fields.iter() {
            let breaks = |text: &[u8]| text.iter().any(|b| matches!(b, b'\r' | b'\n' | 0));
            assert!(!breaks(name) && !breaks(value));
        }
        // A request without a host is answered here and forwarded nowhere.
        if !request.fields.contains(Known::Host) {
            return;
        }
        let mut out = Vec::new();
        request.write_to(&mut out, false);
        let mut again = Request::default();
        assert_eq!(again.parse(&out, &limits), Ok(Some(out.len())));
        assert_eq!(
            (again.method(), again.target()),
            (request.method(), request.target())
        );
        assert_eq!(again.framing, request.framing);
        assert!(again.fields.iter().eq(request.fields.iter()));
    });
}

/// A body is the same, in whatever pieces it arrives.
#[test]
fn chunked_bodies() {
    const WORDS: &[&str] = &[
        "0\r\n",
        "\r\n",
        "\n",
        "5\r\nhello\r\n",
        ";a=b",
        "ffffffffffffffff",
        "-1",
        "0x5",
        " ",
        "A: b\r\n",
    ];
    let read = |bytes: &[u8], piece: usize| {
        let (mut decoder, mut data) = (http1::chunked::Decoder::default(), Vec::new());
        let mut at = 0;
        while at < bytes.len() && !decoder.ended() {
            let input = &bytes[at..bytes.len().min(at + piece)];
            let Ok(step) = decoder.decode(input) else {
                return Err(data);
            };
            assert!(step.data <= step.consumed && step.consumed <= input.len());
            assert!(step.consumed > 0 || decoder.ended(), "no way on");
            data.extend_from_slice(&input[step.consumed - step.data..step.consumed]);
            at += step.consumed;
        }
        Ok((data, decoder.ended(), at))
    };
    fuzz("http1-chunked", WORDS, |bytes| {
        let whole = read(bytes, usize::MAX - bytes.len());
        assert_eq!(read(bytes, 1), whole);
        assert_eq!(read(bytes, 7), whole);
    });
}
