//! The access log line, byte for byte as gorouter's (`accesslog/schema`): tools parse it.

use super::credentials;
use super::headers::LoggedHeader;
use crate::clock::Timestamp;
use http1::{Fields, Known, Version};
use std::borrow::Cow;
use std::io::Write as _;
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Line<'a> {
    pub(super) host: &'a [u8],
    pub(super) started_at: Timestamp,
    pub(super) method: &'a str,
    pub(super) uri: &'a str,
    pub(super) version: Version,
    pub(super) status: u16,
    pub(super) received: u64,
    pub(super) sent: u64,
    /// The client's address; `-`: the log must not contain it.
    pub(super) client: &'a str,
    pub(super) backend: &'a str,
    pub(super) with_forwarded_for: bool,
    /// Whether the queries of other URLs in the line lose their passwords and tokens, as that of `uri` has.
    pub(super) hide_credentials: bool,
    pub(super) response_time: Duration,
    pub(super) gorouter_time: Duration,
    pub(super) app_id: &'a str,
    pub(super) app_index: &'a str,
    pub(super) instance_id: &'a str,
    pub(super) router_error: &'a str,
    /// The additional fields as text; empty, or beginning with a space.
    pub(super) extra_fields: &'a str,
    pub(super) extra_headers: &'a [LoggedHeader],
    /// The request's fields, as they went to the backend.
    pub(super) fields: &'a Fields,
}

impl Line<'_> {
    /// Returns the page that the client came from.
    pub(super) fn referer(&self) -> Cow<'_, [u8]> {
        let value = self.fields.get(Known::Referer).unwrap_or_default();
        if self.hide_credentials {
            credentials::hidden_bytes(value)
        } else {
            value.into()
        }
    }

    /// Writes the line without a line end. It is written piece by piece, because a formatter would cost more than the rest of a
    /// request's handling.
    pub(super) fn write_to(&self, out: &mut Vec<u8>) {
        self.write(out, false);
    }

    /// Returns the line for a datagram: parts that are too long are cut.
    pub(super) fn shortened(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out, true);
        out
    }

    fn write(&self, out: &mut Vec<u8>, short: bool) {
        let field = |known: Known| {
            let value = self.fields.get(known).unwrap_or_default();
            if short {
                cut(value, known.name(), SMALL)
            } else {
                value.into()
            }
        };
        escape(out, self.host);
        out.extend_from_slice(b" - [");
        self.started_at.write_to(out);
        out.extend_from_slice(b"] \"");
        escape(out, self.method.as_bytes());
        out.push(b' ');
        let uri = self.uri.as_bytes();
        if short {
            escape(out, &cut(uri, "request-uri", LARGE));
        } else {
            escape(out, uri);
        }
        out.push(b' ');
        out.extend_from_slice(self.version.as_str().as_bytes());
        out.extend_from_slice(b"\" ");
        for value in [u64::from(self.status), self.received, self.sent] {
            number(out, value, 1);
            out.push(b' ');
        }
        let referer = self.referer();
        if short {
            quote(out, &cut(&referer, Known::Referer.name(), SMALL));
        } else {
            quote(out, &referer);
        }
        out.push(b' ');
        quote(out, &field(Known::UserAgent));
        out.push(b' ');
        quote(out, self.client.as_bytes());
        out.push(b' ');
        quote(out, self.backend.as_bytes());
        let forwarded_for = if self.with_forwarded_for {
            field(Known::XForwardedFor)
        } else {
            Cow::default()
        };
        named(out, " x_forwarded_for:", &forwarded_for);
        named(out, " x_forwarded_proto:", &field(Known::XForwardedProto));
        let id = self.fields.get(Known::XVcapRequestId);
        named(out, " vcap_request_id:", id.unwrap_or_default());
        out.extend_from_slice(b" response_time:");
        seconds(out, self.response_time);
        out.extend_from_slice(b" gorouter_time:");
        seconds(out, self.gorouter_time);
        named(out, " app_id:", self.app_id.as_bytes());
        named(out, " app_index:", self.app_index.as_bytes());
        named(out, " instance_id:", self.instance_id.as_bytes());
        out.extend_from_slice(self.extra_fields.as_bytes());
        named(out, " x_cf_routererror:", self.router_error.as_bytes());
        self.write_extra_headers(out, short);
    }

    fn write_extra_headers(&self, out: &mut Vec<u8>, short: bool) {
        let mut length = 0;
        for header in self.extra_headers {
            let value = self.fields.get(header.name.as_str()).unwrap_or_default();
            out.push(b' ');
            // The length counts colon, quotes and space, which are written with the value.
            length += header.label.len() + value.len().max(1) + 4;
            if short && length >= LARGE {
                out.extend_from_slice(b"...EXTRA-REQUEST-HEADERS-TOO-LONG-TO-LOG--TRUNCATED");
                return;
            }
            out.extend_from_slice(header.label.as_bytes());
            out.push(b':');
            quote(out, value);
        }
    }
}

/// The longest parts of a line in a datagram, in bytes: of a header that browsers make, and of what users write.
const SMALL: usize = 1_000;
const LARGE: usize = 20_000;

/// Halves the value until it fits, with a note at its end, as gorouter does.
fn cut<'v>(value: &'v [u8], name: &str, most: usize) -> Cow<'v, [u8]> {
    let mut value = Cow::Borrowed(value);
    while value.len() > most {
        let name = name.to_ascii_uppercase();
        let note = format!("...{name}-TOO-LONG-TO-LOG--TRUNCATED");
        let half = value.len() / 2;
        value = [&value[..half], note.as_bytes()].concat().into();
    }
    value
}

/// Writes a decimal number, with zeros in front up to `width`.
fn number(out: &mut Vec<u8>, mut value: u64, width: usize) {
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    while value > 0 {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
    }
    out.extend_from_slice(&digits[at.min(digits.len() - width)..]);
}

/// Writes seconds with six decimals.
fn seconds(out: &mut Vec<u8>, time: Duration) {
    let micros = u64::try_from((time.as_nanos() + 500) / 1000).unwrap_or(u64::MAX);
    number(out, micros / 1_000_000, 1);
    out.push(b'.');
    number(out, micros % 1_000_000, 6);
}

fn named(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    quote(out, value);
}

/// Returns the text quoted as in a line.
pub(super) fn quoted(text: &str) -> String {
    let mut out = Vec::new();
    quote(&mut out, text.as_bytes());
    String::from_utf8_lossy(&out).into_owned()
}

/// Writes `"-"` for an empty text, and otherwise Go's `%q`.
fn quote(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    escape(out, if text.is_empty() { b"-" } else { text });
    out.push(b'"');
}

fn escape(out: &mut Vec<u8>, bytes: &[u8]) {
    if bytes
        .iter()
        .all(|&b| (b' '..=b'~').contains(&b) && b != b'"' && b != b'\\')
    {
        return out.extend_from_slice(bytes);
    }
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            escape_char(out, c);
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
}

fn escape_char(out: &mut Vec<u8>, c: char) {
    let short: &[u8] = match c {
        '"' => b"\\\"",
        '\\' => b"\\\\",
        '\x07' => b"\\a",
        '\x08' => b"\\b",
        '\x0c' => b"\\f",
        '\n' => b"\\n",
        '\r' => b"\\r",
        '\t' => b"\\t",
        '\x0b' => b"\\v",
        c if c.is_ascii_control() => {
            let _ = write!(out, "\\x{:02x}", c as u32);
            return;
        }
        c if c.is_control() => {
            let _ = write!(out, "\\u{:04x}", c as u32);
            return;
        }
        c => return out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
    };
    out.extend_from_slice(short);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use std::time::SystemTime;

    fn fields(user_agent: &str) -> Fields {
        let mut fields = Fields::default();
        for (name, value) in [
            (Known::UserAgent, user_agent),
            (Known::XForwardedFor, "1.2.3.4, 10.0.0.1"),
            (Known::XForwardedProto, "http"),
            (
                Known::XVcapRequestId,
                "8d2f6cd5-0000-4000-8000-000000000000",
            ),
        ] {
            fields.append(name, value.as_bytes());
        }
        fields
    }

    fn line(fields: &Fields) -> Line<'_> {
        let at = SystemTime::UNIX_EPOCH + Duration::new(1_600_000_000, 1_002_003);
        Line {
            host: b"app.example.com:8080",
            started_at: Clock::default().timestamp(at),
            method: "GET",
            uri: "/a%2Fb?c=d",
            version: Version::Http11,
            status: 200,
            received: 0,
            sent: 42,
            client: "10.0.0.1:1234",
            backend: "10.0.0.2:61001",
            with_forwarded_for: true,
            hide_credentials: false,
            response_time: Duration::from_nanos(1_234_560),
            gorouter_time: Duration::from_micros(100),
            app_id: "app-guid",
            app_index: "0",
            instance_id: "instance-guid",
            router_error: "",
            extra_fields: "",
            extra_headers: &[],
            fields,
        }
    }

    fn text(line: &Line<'_>) -> String {
        let mut out = Vec::new();
        line.write_to(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_the_operator_adds_and_hides() {
        let mut fields = fields("x");
        fields.append("X-Custom", b"a\"b");
        let mut line = line(&fields);
        line.client = "-";
        line.extra_fields = " failed_attempts:1";
        line.with_forwarded_for = false;
        let names = ["x-custom", "b3"].map(LoggedHeader::new);
        line.extra_headers = &names;
        let text = text(&line);
        assert!(
            text.contains(r#" "-" "10.0.0.2:61001" x_forwarded_for:"-" "#),
            "{text}"
        );
        assert!(
            text.ends_with(r#" failed_attempts:1 x_cf_routererror:"-" x_custom:"a\"b" b3:"-""#),
            "{text}"
        );
    }

    #[test]
    fn an_answered_request() {
        assert_eq!(
            text(&line(&fields("curl/8 \"x\""))),
            r#"app.example.com:8080 - [2020-09-13T12:26:40.001002003Z] "GET /a%2Fb?c=d HTTP/1.1" 200 0 42 "-" "curl/8 \"x\"" "10.0.0.1:1234" "10.0.0.2:61001" x_forwarded_for:"1.2.3.4, 10.0.0.1" x_forwarded_proto:"http" vcap_request_id:"8d2f6cd5-0000-4000-8000-000000000000" response_time:0.001235 gorouter_time:0.000100 app_id:"app-guid" app_index:"0" instance_id:"instance-guid" x_cf_routererror:"-""#
        );
    }

    #[test]
    fn a_line_for_a_datagram_has_no_long_parts() {
        let mut fields = fields(&"u".repeat(2_500));
        fields.append("X-Custom", &[b'c'; 19_000]);
        fields.append("X-Other", &[b'o'; 1_000]);
        let uri = format!("/{}", "x".repeat(70_000));
        let mut line = line(&fields);
        line.uri = &uri;
        let names = ["x-custom", "x-other", "b3"].map(LoggedHeader::new);
        line.extra_headers = &names;
        assert!(text(&line).contains(&format!("\"GET {uri} HTTP/1.1\"")));
        let short = String::from_utf8(line.shortened()).unwrap();
        // 70,001 bytes are halved twice, the second time with the first note.
        let half = format!("/{}", "x".repeat(17_519));
        for wanted in [
            &format!("\"GET {half}...REQUEST-URI-TOO-LONG-TO-LOG--TRUNCATED HTTP/1.1\" 200 0 42"),
            &format!(
                "{}...USER-AGENT-TOO-LONG-TO-LOG--TRUNCATED\"",
                "u".repeat(645)
            ),
            &format!(
                " x_custom:\"{}\" ...EXTRA-REQUEST-HEADERS-TOO-LONG-TO-LOG--TRUNCATED",
                "c".repeat(19_000)
            ),
        ] {
            assert!(short.contains(wanted), "{wanted}\nin {short}");
        }
        assert!(short.ends_with("TRUNCATED"));
    }

    #[test]
    fn strings_are_quoted_as_go_does() {
        let of = |bytes: &[u8]| {
            let mut out = Vec::new();
            quote(&mut out, bytes);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(of(b"a\tb\\\x01\xff\xc3\xa9"), r#""a\tb\\\x01\xffé""#);
        assert_eq!(of(b""), r#""-""#);
    }

    #[test]
    fn numbers() {
        let of = |value, width| {
            let mut out = Vec::new();
            number(&mut out, value, width);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            (of(0, 1), of(42, 1), of(42, 6)),
            ("0".into(), "42".into(), "000042".into())
        );
        assert_eq!(of(u64::MAX, 1), u64::MAX.to_string());
    }
}
