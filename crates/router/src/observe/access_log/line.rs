//! The access log line, byte for byte as gorouter's (`accesslog/schema`): tools parse it.

use super::LoggedHeader;
use http::{HeaderValue, Version};
use std::fmt::{self, Display, Formatter, Write as _};
use std::net::SocketAddr;
use std::time::SystemTime;
use time::OffsetDateTime;

#[derive(Debug)]
pub(super) struct Line<'a> {
    pub(super) host: &'a str,
    pub(super) started_at: SystemTime,
    pub(super) method: &'a str,
    pub(super) uri: &'a str,
    pub(super) version: Version,
    pub(super) status: u16,
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) referer: Option<&'a [u8]>,
    pub(super) user_agent: Option<&'a [u8]>,
    /// `None`: the log must not tell.
    pub(super) client: Option<SocketAddr>,
    pub(super) backend: &'a str,
    pub(super) forwarded_for: Option<&'a [u8]>,
    pub(super) forwarded_proto: Option<&'a [u8]>,
    pub(super) request_id: Option<&'a [u8]>,
    /// Seconds.
    pub(super) response_time: f64,
    pub(super) gorouter_time: f64,
    pub(super) app_id: &'a str,
    pub(super) app_index: &'a str,
    pub(super) instance_id: &'a str,
    pub(super) router_error: &'a str,
    /// Rendered; empty, or beginning with a space.
    pub(super) extra_fields: &'a str,
    /// Names as the log spells them, and as many values.
    pub(super) extra_names: &'a [LoggedHeader],
    pub(super) extra_values: &'a [Option<HeaderValue>],
}

impl Display for Line<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let at = OffsetDateTime::from(self.started_at);
        write!(
            f,
            "{} - [{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z] ",
            self.host,
            at.year(),
            u8::from(at.month()),
            at.day(),
            at.hour(),
            at.minute(),
            at.second(),
            at.nanosecond()
        )?;
        f.write_char('"')?;
        for part in [self.method, " ", self.uri, " "] {
            go_escaped(f, part.as_bytes())?;
        }
        write!(
            f,
            "{}\" {} {} {} ",
            protocol(self.version),
            self.status,
            self.received,
            self.sent
        )?;
        write!(f, "{} {} \"", quoted(self.referer), quoted(self.user_agent))?;
        match self.client {
            Some(client) => write!(f, "{client}")?,
            None => f.write_char('-')?,
        }
        write!(f, "\" {} ", text(self.backend))?;
        write!(
            f,
            "x_forwarded_for:{} x_forwarded_proto:{} vcap_request_id:{} ",
            quoted(self.forwarded_for),
            quoted(self.forwarded_proto),
            quoted(self.request_id)
        )?;
        write!(
            f,
            "response_time:{:.6} gorouter_time:{:.6} ",
            self.response_time, self.gorouter_time
        )?;
        write!(
            f,
            "app_id:{} app_index:{} instance_id:{}{} x_cf_routererror:{}",
            text(self.app_id),
            text(self.app_index),
            text(self.instance_id),
            self.extra_fields,
            text(self.router_error)
        )?;
        for (header, value) in self.extra_names.iter().zip(self.extra_values) {
            let value = value.as_ref().map(HeaderValue::as_bytes);
            write!(f, " {}:{}", header.label, quoted(value))?;
        }
        Ok(())
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}

/// `"-"` when empty, else as Go's `%q`.
fn quoted(text: Option<&[u8]>) -> Quoted<'_> {
    Quoted(text.filter(|text| !text.is_empty()).unwrap_or(b"-"))
}

fn text(text: &str) -> Quoted<'_> {
    quoted(Some(text.as_bytes()))
}

struct Quoted<'a>(&'a [u8]);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        go_escaped(f, self.0)?;
        f.write_char('"')
    }
}

fn go_escaped(f: &mut Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    if bytes
        .iter()
        .all(|&b| (b' '..=b'~').contains(&b) && b != b'"' && b != b'\\')
    {
        // Printable ASCII is valid UTF-8.
        return f.write_str(std::str::from_utf8(bytes).unwrap_or("-"));
    }
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\x07' => f.write_str("\\a")?,
                '\x08' => f.write_str("\\b")?,
                '\x0c' => f.write_str("\\f")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                '\x0b' => f.write_str("\\v")?,
                c if c.is_ascii_control() => write!(f, "\\x{:02x}", c as u32)?,
                c if c.is_control() => write!(f, "\\u{:04x}", c as u32)?,
                c => f.write_char(c)?,
            }
        }
        for byte in chunk.invalid() {
            write!(f, "\\x{byte:02x}")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn line() -> Line<'static> {
        Line {
            host: "app.example.com:8080",
            started_at: SystemTime::UNIX_EPOCH + Duration::new(1_600_000_000, 1_002_003),
            method: "GET",
            uri: "/a%2Fb?c=d",
            version: Version::HTTP_11,
            status: 200,
            received: 0,
            sent: 42,
            referer: None,
            user_agent: Some(b"curl/8 \"x\""),
            client: Some("10.0.0.1:1234".parse().unwrap()),
            backend: "10.0.0.2:61001",
            forwarded_for: Some(b"1.2.3.4, 10.0.0.1"),
            forwarded_proto: Some(b"http"),
            request_id: Some(b"8d2f6cd5-0000-4000-8000-000000000000"),
            response_time: 0.001_234_56,
            gorouter_time: 0.000_1,
            app_id: "app-guid",
            app_index: "0",
            instance_id: "instance-guid",
            router_error: "",
            extra_fields: "",
            extra_names: &[],
            extra_values: &[],
        }
    }

    #[test]
    fn what_the_operator_adds_and_hides() {
        let mut line = line();
        line.client = None;
        line.extra_fields = " failed_attempts:1";
        line.forwarded_for = None;
        let names = ["x-custom", "b3"].map(|name| LoggedHeader::new(name.parse().unwrap()));
        let values = [Some(HeaderValue::from_static("a\"b")), None];
        (line.extra_names, line.extra_values) = (&names, &values);
        let text = line.to_string();
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
            line().to_string(),
            r#"app.example.com:8080 - [2020-09-13T12:26:40.001002003Z] "GET /a%2Fb?c=d HTTP/1.1" 200 0 42 "-" "curl/8 \"x\"" "10.0.0.1:1234" "10.0.0.2:61001" x_forwarded_for:"1.2.3.4, 10.0.0.1" x_forwarded_proto:"http" vcap_request_id:"8d2f6cd5-0000-4000-8000-000000000000" response_time:0.001235 gorouter_time:0.000100 app_id:"app-guid" app_index:"0" instance_id:"instance-guid" x_cf_routererror:"-""#
        );
    }

    #[test]
    fn strings_are_quoted_as_go_does() {
        let of = |bytes: &'static [u8]| quoted(Some(bytes)).to_string();
        assert_eq!(of(b"a\tb\\\x01\xff\xc3\xa9"), r#""a\tb\\\x01\xffé""#);
        assert_eq!(of(b""), r#""-""#);
    }
}
