//! Holds response heads.

use crate::fields::{Fields, Span, items};
use crate::framing;
use crate::known::Known;
use crate::room::{self, Slot};
use crate::{Framing, Limits, Refusal, Version};

/// A response's head, and what follows from it for the message. It is reused for each response of a connection.
#[derive(Clone, Debug, Default)]
pub struct Response {
    pub fields: Fields,
    pub status: u16,
    reason: Span,
    pub framing: Framing,
    /// Whether the server accepts another request on this connection.
    pub keep_alive: bool,
}

impl Response {
    /// Begins a response that did not come as bytes.
    pub fn begin(&mut self, status: u16, reason: &str) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        *self = Self {
            status,
            reason: fields.store(reason.as_bytes()),
            fields,
            framing: Framing::None,
            keep_alive: false,
        };
    }

    pub fn reason(&self) -> &[u8] {
        self.fields.slice(self.reason)
    }

    /// Writes the status line and the fields, without the empty line.
    pub fn write_to(&self, out: &mut Vec<u8>, version: Version, canonical: bool) {
        out.extend_from_slice(match version {
            Version::Http10 => b"HTTP/1.0 ",
            _ => b"HTTP/1.1 ",
        });
        let digit = |unit: u16| b'0' + u8::try_from(self.status / unit % 10).unwrap_or_default();
        out.extend_from_slice(&[digit(100), digit(10), digit(1), b' ']);
        out.extend_from_slice(self.reason());
        out.extend_from_slice(b"\r\n");
        self.fields.write_to(out, canonical);
    }

    /// Reads a head from the beginning of `input`. `to_head` means that the request was a HEAD. Returns the length of the head in
    /// bytes, or `None` if the head has not ended yet.
    pub fn parse(
        &mut self,
        input: &[u8],
        limits: &Limits,
        to_head: bool,
    ) -> Result<Option<usize>, Refusal> {
        room::parse(input, limits, |room| {
            self.parse_into(input, limits, to_head, room)
        })
    }

    fn parse_into<'a>(
        &mut self,
        input: &'a [u8],
        limits: &Limits,
        to_head: bool,
        room: &mut [Slot<'a>],
    ) -> Result<Option<usize>, Refusal> {
        if matches!(input.first(), Some(b'\r' | b'\n')) {
            return Err(Refusal::StatusLine);
        }
        let mut parsed = httparse::Response::new(&mut []);
        // A proxy removes the blanks that a server puts before a colon (RFC 9112, 5.1).
        let mut config = httparse::ParserConfig::default();
        config.allow_spaces_after_header_name_in_responses(true);
        let parsed_size = config.parse_response_with_uninit_headers(&mut parsed, input, room);
        let size = match parsed_size {
            Ok(httparse::Status::Complete(size)) => size,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => return Err(refusal(error)),
        };
        if size > limits.bytes {
            return Err(Refusal::HeadTooLarge);
        }
        if parsed.headers.len() > limits.fields {
            return Err(Refusal::TooManyFields);
        }
        let head = &input[..size];
        self.fields.receive(head);
        self.status = parsed.code.unwrap_or_default();
        if self.status < 100 {
            return Err(Refusal::StatusLine);
        }
        let reason = parsed.reason.unwrap_or_default();
        self.reason = if reason.is_empty() {
            Span::default()
        } else {
            Span::within(head, reason.as_bytes())
        };
        let version = match parsed.version {
            Some(0) => Version::Http10,
            _ => Version::Http11,
        };
        for header in parsed.headers.iter() {
            let name = Span::within(head, header.name.as_bytes());
            self.fields
                .list_received(name, Span::within(head, header.value));
        }
        let framed_twice = self.fields.contains(Known::TransferEncoding)
            && self.fields.contains(Known::ContentLength);
        self.framing = framing::of_response(&mut self.fields, version, self.status, to_head)?;
        let (mut close, mut keep_alive) = (false, false);
        for item in items(self.fields.get_all(Known::Connection)) {
            close |= item.eq_ignore_ascii_case(b"close");
            keep_alive |= item.eq_ignore_ascii_case(b"keep-alive");
        }
        self.keep_alive = !close
            && !framed_twice
            && self.framing != Framing::UntilClose
            && (version == Version::Http11 || keep_alive);
        Ok(Some(size))
    }
}

fn refusal(error: httparse::Error) -> Refusal {
    match error {
        httparse::Error::HeaderName => Refusal::FieldName,
        httparse::Error::HeaderValue => Refusal::FieldValue,
        httparse::Error::TooManyHeaders => Refusal::TooManyFields,
        httparse::Error::Version => Refusal::Version,
        _ => Refusal::StatusLine,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits {
        bytes: 4096,
        fields: 100,
    };

    fn parse(head: &str, to_head: bool) -> Result<Response, Refusal> {
        let mut response = Response::default();
        let size = response.parse(head.as_bytes(), &LIMITS, to_head)?;
        assert_eq!(size, Some(head.len()), "{head:?}");
        Ok(response)
    }

    #[test]
    fn the_length_of_a_body_follows_from_its_fields() {
        for (head, to_head, framing, keep_alive) in [
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
                false,
                Framing::Length(5),
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
                true,
                Framing::None,
                true,
            ),
            (
                "HTTP/1.1 200\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                false,
                Framing::None,
                false,
            ),
            (
                "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n",
                false,
                Framing::Chunked,
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
                false,
                Framing::Chunked,
                false,
            ),
            ("HTTP/1.1 200 OK\r\n\r\n", false, Framing::UntilClose, false),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n",
                false,
                Framing::Length(5),
                false,
            ),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n",
                false,
                Framing::Length(5),
                true,
            ),
            (
                "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
                false,
                Framing::None,
                true,
            ),
            (
                "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
                false,
                Framing::None,
                true,
            ),
            (
                "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n",
                false,
                Framing::None,
                true,
            ),
            (
                "HTTP/1.1 200 OK\nContent-Length: 5\n\n",
                false,
                Framing::Length(5),
                true,
            ),
        ] {
            let response = parse(head, to_head).unwrap();
            assert_eq!(
                (response.framing, response.keep_alive),
                (framing, keep_alive),
                "{head:?}"
            );
        }
    }

    #[test]
    fn responses_that_a_backend_must_not_send_are_refused() {
        use Refusal as R;
        for (head, why) in [
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
                R::ContentLengthsDiffer,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
                R::ContentLength,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
                R::TransferEncoding,
            ),
            (
                "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                R::TransferEncodingInHttp10,
            ),
            ("HTTP/1.1 099 What\r\n\r\n", R::StatusLine),
            ("HTTP/2.0 200 OK\r\n\r\n", R::Version),
            ("SSH-2.0-x\r\n\r\n", R::Version),
            ("HTTP/1.1 200 OK\r\nX y: 1\r\n\r\n", R::FieldName),
            ("HTTP/1.1 200 OK\r\n : 1\r\n\r\n", R::FieldName),
            (
                "HTTP/1.1 200 OK\r\nContent-Length : 5\r\nContent-Length: 6\r\n\r\n",
                R::ContentLengthsDiffer,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding : gzip\r\n\r\n",
                R::TransferEncoding,
            ),
            ("HTTP/1.1 200 OK\r\nX: 1\r\n 2\r\n\r\n", R::FieldName),
        ] {
            assert_eq!(parse(head, false).err(), Some(why), "{head:?}");
        }
    }

    #[test]
    fn blanks_before_a_colon_are_removed() {
        let response = parse(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding \t: chunked\r\nX-One : 1\r\n\r\n",
            false,
        )
        .unwrap();
        assert_eq!(response.framing, Framing::Chunked);
        let mut out = Vec::new();
        response.write_to(&mut out, Version::Http11, false);
        let text = String::from_utf8(out).unwrap();
        assert!(text.ends_with("\r\nX-One: 1\r\n"), "{text:?}");
    }

    #[test]
    fn only_bytes_count_where_fields_are_not_counted() {
        let head = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: 1\r\n".repeat(3000));
        let limits = |fields| Limits {
            bytes: 1 << 20,
            fields,
        };
        let mut response = Response::default();
        let parsed = response.parse(head.as_bytes(), &limits(usize::MAX), false);
        assert_eq!(parsed, Ok(Some(head.len())));
        assert_eq!(response.fields.len(), 3000);
        for (fields, fits) in [(3000, true), (2999, false), (64, false), (10, false)] {
            let parsed = Response::default().parse(head.as_bytes(), &limits(fields), false);
            assert_eq!(parsed.is_ok(), fits, "{fields}");
        }
    }

    proptest! {
        #[test]
        fn reading_what_was_written(
            status in 200u16..600,
            reason in "[A-Za-z ]{0,20}[a-z]",
            fields in proptest::collection::vec(("X-[A-Za-z0-9-]{1,10}", "[!-~]([ -~]{0,20}[!-~])?"), 0..20),
        ) {
            let mut first = Response::default();
            first.begin(status, &reason);
            for (name, value) in &fields {
                first.fields.append_spelled(name.as_bytes(), value.as_bytes());
            }
            let mut bytes = Vec::new();
            first.write_to(&mut bytes, Version::Http11, false);
            bytes.extend_from_slice(b"\r\n");
            let mut second = Response::default();
            prop_assert_eq!(second.parse(&bytes, &LIMITS, false), Ok(Some(bytes.len())));
            let mut again = Vec::new();
            second.write_to(&mut again, Version::Http11, false);
            again.extend_from_slice(b"\r\n");
            prop_assert_eq!(bytes, again);
        }

        #[test]
        fn no_input_causes_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Response::default().parse(&bytes, &LIMITS, false);
        }
    }
}
