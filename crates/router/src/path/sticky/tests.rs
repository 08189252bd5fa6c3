use super::*;
use route_table::registry::{EndpointSpec, Registry};
use std::time::Instant;

const NOW: i64 = 1_700_000_000;

fn serving() -> Serving {
    Serving::default()
}

/// Returns the cookies that the router adds to an answer of instance `i` at `/P/up`.
fn added(answer: &[&str], wanted: Option<&Sticky>, settings: &Serving) -> Vec<String> {
    let mut fields = Fields::default();
    for line in answer {
        fields.append(Known::SetCookie, line.as_bytes());
    }
    let answered = StickyAnswer {
        wanted,
        negotiated: false,
        instance: "i",
        path: "/P/up",
    };
    answered.cookies(&fields, settings, NOW)
}

fn sticky(line: &str) -> Option<Sticky> {
    let mut fields = Fields::default();
    fields.append(Known::Cookie, line.as_bytes());
    wanted(&fields, &serving())
}

#[test]
fn both_cookies_make_a_request_sticky() {
    let of = |line: &str| Some(sticky(line)?.instance);
    assert_eq!(
        of("a=b; JSESSIONID=1; __VCAP_ID__=inst"),
        Some("inst".into())
    );
    assert_eq!(
        of("__Host-JSESSIONID=1; __VCAP_ID__=inst"),
        Some("inst".into())
    );
    for line in [
        "__VCAP_ID__=inst",
        "JSESSIONID=1",
        "__host-JSESSIONID=1; __VCAP_ID__=inst",
        "__Secure-JSESSIONID=1; __VCAP_ID__=inst",
        "__Host-__Host-JSESSIONID=1; __VCAP_ID__=inst",
        "jsessionid=1; __VCAP_ID__=inst",
    ] {
        assert_eq!(of(line), None, "{line}");
    }
}

#[test]
fn a_negotiation_insists_on_its_instance() {
    let mut fields = Fields::default();
    fields.append(Known::Cookie, b"__VCAP_ID__=inst");
    fields.append(Known::Authorization, b"NEGOTIATE abc");
    let on = Serving {
        sticky_for_auth_negotiate: true,
        ..serving()
    };
    assert_eq!(wanted(&fields, &serving()), None);
    let sticky = wanted(&fields, &on).unwrap();
    assert!(sticky.mandatory);
    let cookies = |wanted, instance: &'static str| {
        let answered = StickyAnswer {
            wanted,
            negotiated: true,
            instance,
            path: "/",
        };
        let mut answer = Fields::default();
        answer.append(Known::SetCookie, b"JSESSIONID=x; Max-Age=5");
        answered.cookies(&answer, &on, NOW)
    };
    let negotiated = "__VCAP_ID__=other; Path=/; Max-Age=60; HttpOnly; SameSite=Strict";
    assert_eq!(cookies(None, "other"), [negotiated]);
    assert_eq!(cookies(Some(&sticky), "other"), [negotiated]);
    // The instance that answered is the known one, but the app's new session counts.
    assert_eq!(cookies(Some(&sticky), "inst").len(), 2);
}

#[test]
fn the_cookies_copy_the_sessions_attributes() {
    for (attributes, copied, meta) in [
        ("", "; HttpOnly", ""),
        ("; Path=/z; Domain=a.test", "; HttpOnly", ""),
        (
            "; Max-Age=60",
            "; Max-Age=60; HttpOnly",
            "maxage=1700000060",
        ),
        ("; Max-Age=-1", "; Max-Age=0; HttpOnly", "maxage=-1"),
        ("; max-age=0", "; Max-Age=0; HttpOnly", "maxage=-1"),
        ("; Max-Age=060", "; HttpOnly", ""),
        ("; Max-Age=soon", "; HttpOnly", ""),
        (
            "; samesite=none",
            "; HttpOnly; SameSite=None",
            "samesite=none",
        ),
        ("; SameSite", "; HttpOnly", ""),
        ("; SameSite=odd", "; HttpOnly", ""),
        ("; Expires=junk", "; HttpOnly", ""),
        (
            "; Expires=Wed, 21-Oct-2026 07:28:00 GMT",
            "; Expires=Wed, 21 Oct 2026 07:28:00 GMT; HttpOnly",
            "expires=1792567680",
        ),
        (
            "; Max-Age=60; Expires=Wed, 21 Oct 2026 07:28:00 GMT; Secure; SameSite=Strict; Partitioned",
            "; Expires=Wed, 21 Oct 2026 07:28:00 GMT; Max-Age=60; HttpOnly; Secure; SameSite=Strict; Partitioned",
            "secure&partitioned&expires=1792567680&maxage=1700000060&samesite=strict",
        ),
    ] {
        for name in ["JSESSIONID", "__Host-JSESSIONID"] {
            let session = format!("{name}=x{attributes}");
            assert_eq!(
                added(&[&session], None, &serving()),
                [
                    format!("__VCAP_ID__=i; Path=/P/up{copied}"),
                    format!("__VCAP_ID_META__={meta}; Path=/P/up{copied}"),
                ],
                "{session}"
            );
        }
    }
}

#[test]
fn each_session_cookie_gets_a_pair_and_an_apps_own_cookie_wins() {
    let two = [
        "JSESSIONID=; Max-Age=0",
        "JSESSIONID=x; Partitioned; Secure",
    ];
    let cookies = added(&two, None, &serving());
    assert_eq!(cookies.len(), 4);
    assert!(cookies[0].contains("Max-Age=0") && cookies[2].contains("; Partitioned"));
    assert!(added(&["JSESSIONID=x", "__VCAP_ID__=mine"], None, &serving()).is_empty());
    assert!(added(&["other=x"], None, &serving()).is_empty());
    let secure = Serving {
        secure_cookies: true,
        ..serving()
    };
    let cookies = added(&["JSESSIONID=x"], None, &secure);
    assert_eq!(
        cookies[1],
        "__VCAP_ID_META__=secure; Path=/P/up; HttpOnly; Secure"
    );
}

#[test]
fn a_session_that_moves_lives_no_longer_than_before() {
    for (meta, written) in [
        (None, "; HttpOnly"),
        (Some(""), "; HttpOnly"),
        (
            Some("nonsense&maxage=x&expires=&samesite=LAX"),
            "; HttpOnly",
        ),
        (Some("maxage=1700000007"), "; Max-Age=7; HttpOnly"),
        (Some("maxage=1699999999"), "; Max-Age=0; HttpOnly"),
        (Some("maxage=-1"), "; Max-Age=0; HttpOnly"),
        (
            Some("secure&partitioned&expires=1792567680&maxage=1700000060&samesite=lax"),
            "; Expires=Wed, 21 Oct 2026 07:28:00 GMT; Max-Age=60; HttpOnly; Secure; SameSite=Lax; Partitioned",
        ),
    ] {
        let meta = meta.map(|meta| format!("; __VCAP_ID_META__={meta}"));
        let meta = meta.unwrap_or_default();
        let line = format!("JSESSIONID=x; __VCAP_ID__=gone{meta}");
        let wanted = sticky(&line);
        // The router sets no META beside the new cookie either.
        assert_eq!(
            added(&[], wanted.as_ref(), &serving()),
            [format!("__VCAP_ID__=i; Path=/P/up{written}")],
            "{line}"
        );
        let secure = Serving {
            secure_cookies: true,
            ..serving()
        };
        assert!(added(&[], wanted.as_ref(), &secure)[0].contains("; Secure"));
    }
    let stays = sticky("JSESSIONID=x; __VCAP_ID__=i; __VCAP_ID_META__=maxage=-1");
    assert!(added(&[], stays.as_ref(), &serving()).is_empty());
}

#[test]
fn the_path_is_written_as_it_was_registered() {
    let registry = Registry::new(route_table::registry::Settings::default(), Instant::now());
    for (uri, path) in [
        ("a.test/App/UP", "/App/UP"),
        ("b.test/low/", "/low"),
        ("C.test", "/"),
        ("d.test/X?q", "/X"),
    ] {
        let mut endpoint = registry.endpoint(EndpointSpec {
            instance_id: "i".into(),
            ..EndpointSpec::default()
        });
        let now = Instant::now();
        registry.register_with_place(uri, &mut endpoint, now, now);
        let (host, _) = uri.split_once('/').unwrap_or((uri, ""));
        let pool = registry.lookup(host, path).unwrap();
        let mut answer = Fields::default();
        answer.append(Known::SetCookie, b"JSESSIONID=x");
        remember(&mut answer, None, &pool, &endpoint, &serving());
        let written = answer.get_all(Known::SetCookie).nth(1).unwrap();
        let wanted = format!("__VCAP_ID__=i; Path={path}; HttpOnly");
        assert_eq!(std::str::from_utf8(written).unwrap(), wanted);
    }
}
