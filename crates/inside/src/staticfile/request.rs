//! Requests on a connection. The core that the router parses requests with parses these too.

use http1::{Framing, Limits, Refusal, Version};
use std::io::{self, BufRead, Read as _};

const LIMITS: Limits = Limits {
    bytes: 32 << 10,
    fields: usize::MAX,
};

/// A request's head.
#[derive(Debug)]
pub(super) struct Request {
    head: http1::Request,
    pub(super) content_length: u64,
    /// Whether the connection may be used again after the response.
    pub(super) keep_alive: bool,
}

impl Request {
    fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut head = http1::Request::default();
        head.parse(bytes, &LIMITS)?.ok_or(Refusal::RequestLine)?;
        Ok(Self {
            content_length: match head.framing {
                Framing::Length(length) => length,
                _ => 0,
            },
            // The end of chunks is not determined; the connection is closed after the response.
            keep_alive: head.keep_alive
                && head.version == Version::Http11
                && head.framing != Framing::Chunked,
            head,
        })
    }

    /// Returns a request that stands for one that cannot be parsed.
    pub(super) fn broken() -> Self {
        let mut head = http1::Request::default();
        head.begin("GET", b"/", Version::Http11);
        Self {
            head,
            content_length: 0,
            keep_alive: false,
        }
    }

    pub(super) fn method(&self) -> &str {
        self.head.method()
    }

    /// Returns the target without scheme and host.
    pub(super) fn target(&self) -> &str {
        std::str::from_utf8(self.head.target()).unwrap_or_default()
    }

    /// Returns the version as it was sent, e.g. `HTTP/1.1`.
    pub(super) fn version(&self) -> &'static str {
        self.head.version.as_str()
    }

    /// Returns the first header of that name, if it is text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.fields.get_text(name)
    }

    /// Returns the target without its query.
    pub(super) fn path(&self) -> &str {
        self.target().split('?').next().unwrap_or_default()
    }

    /// Returns the query with its `?`, or an empty text.
    pub(super) fn query(&self) -> &str {
        &self.target()[self.path().len()..]
    }

    pub(super) fn is_http_1_0(&self) -> bool {
        self.head.version == Version::Http10
    }

    /// Returns whether the client accepts gzip.
    pub(super) fn accepts_gzip(&self) -> bool {
        let refused = |parameters: &str| {
            parameters
                .split(';')
                .filter_map(|parameter| parameter.trim().strip_prefix("q="))
                .any(|weight| {
                    weight
                        .trim()
                        .parse::<f32>()
                        .is_ok_and(|weight| weight == 0.0)
                })
        };
        let header = self.header("accept-encoding").unwrap_or_default();
        header.split(',').any(|coding| {
            let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
            name.trim().eq_ignore_ascii_case("gzip") && !refused(parameters)
        })
    }
}

/// Reads a request. Returns `None` at the end of the connection, and `Some(Err)` for a head that is refused.
pub(super) fn read(reader: &mut impl BufRead) -> io::Result<Option<Result<Request, Refusal>>> {
    let mut input = reader.by_ref().take(LIMITS.bytes as u64);
    let mut head = Vec::new();
    loop {
        let start = head.len();
        if input.read_until(b'\n', &mut head)? == 0 {
            let is_too_large = !head.is_empty() && input.limit() == 0;
            return Ok(is_too_large.then_some(Err(Refusal::HeadTooLarge)));
        }
        let is_empty_line = matches!(&head[start..], b"\r\n" | b"\n");
        if is_empty_line && start == 0 {
            // Empty lines before a request mean nothing.
            head.clear();
        } else if is_empty_line {
            return Ok(Some(Request::parse(&head)));
        }
    }
}

/// Parses a head whose lines end with LF. A request of HTTP/1.1 that names no host gets one.
#[cfg(test)]
pub(super) fn request(text: &str) -> Request {
    let mut lines: Vec<&str> = text.lines().collect();
    if lines[0].ends_with("HTTP/1.1") && !lines.iter().any(|line| line.starts_with("Host:")) {
        lines.push("Host: a.example");
    }
    Request::parse((lines.join("\r\n") + "\r\n\r\n").as_bytes()).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        let whole = request("GET /a?b=c HTTP/1.1\nConnection: x, close\nContent-Length: 3");
        assert_eq!((whole.method(), whole.target()), ("GET", "/a?b=c"));
        assert_eq!((whole.path(), whole.query()), ("/a", "?b=c"));
        assert_eq!((whole.keep_alive, whole.content_length), (false, 3));
        assert_eq!(request("GET http://a.example/y HTTP/1.1").path(), "/y");
        assert_eq!(
            request("GET /login?to=http://x/y HTTP/1.1").query(),
            "?to=http://x/y"
        );
        assert!(request("GET / HTTP/1.1").keep_alive);
        for closed in [
            "GET / HTTP/1.0\nConnection: keep-alive",
            "PUT / HTTP/1.1\nTransfer-Encoding: chunked",
        ] {
            assert!(!request(closed).keep_alive, "{closed}");
        }
    }

    #[test]
    fn heads_are_read_one_by_one() {
        let mut input =
            &b"\r\n\nGET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.0\r\n\r\nGET /cut"[..];
        for path in ["/a", "/b"] {
            assert_eq!(read(&mut input).unwrap().unwrap().unwrap().path(), path);
        }
        assert!(read(&mut input).unwrap().is_none());
    }

    #[test]
    fn ambiguous_heads_are_refused() {
        let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(40_000));
        for (text, why) in [
            ("GET /\r\n\r\n", Refusal::RequestLine),
            ("GET x HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::Target),
            ("GET / HTTP/2.0\r\n\r\n", Refusal::UnsupportedVersion),
            ("GET / HTTP/1.1\r\n\r\n", Refusal::MissingHost),
            ("GET / HTTP/1.1\nHost: a\n\n", Refusal::BareLf),
            (
                "PUT / HTTP/1.0\r\nContent-Length: x\r\n\r\n",
                Refusal::ContentLength,
            ),
            (
                "PUT / HTTP/1.0\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
                Refusal::ContentLengthsDiffer,
            ),
            (
                "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                Refusal::FramedTwice,
            ),
            (long.as_str(), Refusal::HeadTooLarge),
        ] {
            let read = read(&mut text.as_bytes()).unwrap().unwrap();
            assert_eq!(read.err(), Some(why), "{text}");
        }
    }

    #[test]
    fn the_clients_that_accept_gzip_are_recognised() {
        let accepts = |value: &str| {
            request(&format!("GET / HTTP/1.1\nAccept-Encoding: {value}")).accepts_gzip()
        };
        for yes in ["gzip", "br, GZIP;q=0.5", "deflate,gzip;q=1"] {
            assert!(accepts(yes), "{yes}");
        }
        for no in ["", "br", "gzip;q=0", "gzip; q=0.0", "xgzip"] {
            assert!(!accepts(no), "{no}");
        }
    }
}
