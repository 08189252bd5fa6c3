//! A request's head goes out as something that is understood in the same way, with one way to frame its body.
#![no_main]

use http1::{Known, Limits, Request};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits {
    bytes: 16 << 10,
    fields: 64,
};

fuzz_target!(|bytes: &[u8]| {
    let mut request = Request::default();
    let Ok(Some(size)) = request.parse(bytes, &LIMITS) else {
        return;
    };
    assert!(size <= bytes.len());
    let both = request.fields.contains(Known::ContentLength)
        && request.fields.contains(Known::TransferEncoding);
    assert!(!both, "two ways to frame the body");
    let breaks = |text: &[u8]| text.iter().any(|b| matches!(b, b'\r' | b'\n' | 0));
    for (name, value) in request.fields.iter() {
        assert!(!breaks(name) && !breaks(value));
    }
    // The router refuses a request without a host and forwards nothing.
    if !request.fields.contains(Known::Host) {
        return;
    }
    let mut out = Vec::new();
    request.write_to(&mut out, false);
    let mut again = Request::default();
    assert_eq!(again.parse(&out, &LIMITS), Ok(Some(out.len())));
    assert_eq!(
        (again.method(), again.target()),
        (request.method(), request.target())
    );
    assert_eq!(again.framing, request.framing);
    assert!(again.fields.iter().eq(request.fields.iter()));
});
