//! Holds request heads.

use crate::fields::{Fields, Span, items};
use crate::framing;
use crate::known::Known;
use crate::room::{self, Slot};
use crate::{Framing, Limits, Refusal, Version};

/// A request's head, and what follows from it for the message. It is reused for each request of a connection.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub fields: Fields,
    method: Span,
    /// The target with which the request is forwarded: origin-form or `*`.
    target: Span,
    /// The target as the client sent it.
    received_target: Span,
    pub version: Version,
    pub framing: Framing,
    /// Whether the client may send another request on this connection.
    pub keep_alive: bool,
    /// Whether the request asks for another protocol: it has `Connection: upgrade` and some `Upgrade` token.
    pub upgrade: bool,
}

impl Request {
    pub fn method(&self) -> &str {
        self.fields.text(self.method)
    }

    pub fn is(&self, method: &str) -> bool {
        self.fields.slice(self.method) == method.as_bytes()
    }

    pub fn set_method(&mut self, method: &str) {
        self.method = self.fields.store(method.as_bytes());
    }

    /// Returns path and query, or `*`.
    pub fn target(&self) -> &[u8] {
        self.fields.slice(self.target)
    }

    pub fn set_target(&mut self, target: &[u8]) {
        self.target = self.fields.store(target);
    }

    /// Returns the target that the client sent, whatever the target is now.
    pub fn received_target(&self) -> &[u8] {
        self.fields.slice(self.received_target)
    }

    /// Begins a request that did not come as bytes.
    pub fn begin(&mut self, method: &str, target: &[u8], version: Version) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        *self = Self {
            method: fields.store(method.as_bytes()),
            target: fields.store(target),
            version,
            fields,
            ..Self::default()
        };
        self.received_target = self.target;
    }

    /// Writes the head for the next server, always as HTTP/1.1, with its empty line.
    pub fn write_to(&self, out: &mut Vec<u8>, canonical: bool) {
        out.extend_from_slice(self.fields.slice(self.method));
        out.push(b' ');
        out.extend_from_slice(self.target());
        out.extend_from_slice(b" HTTP/1.1\r\n");
        self.fields.write_to(out, canonical);
        out.extend_from_slice(b"\r\n");
    }

    /// Reads a head from the beginning of `input`. Returns its length in bytes, or `None` if it has not ended yet.
    pub fn parse(&mut self, input: &[u8], limits: &Limits) -> Result<Option<usize>, Refusal> {
        room::parse(input, limits, |room| self.parse_into(input, limits, room))
    }

    fn parse_into<'a>(
        &mut self,
        input: &'a [u8],
        limits: &Limits,
        room: &mut [Slot<'a>],
    ) -> Result<Option<usize>, Refusal> {
        // The connection handles empty lines before a request; the head does not.
        if matches!(input.first(), Some(b'\r' | b'\n')) {
            return Err(Refusal::RequestLine);
        }
        let mut parsed = httparse::Request::new(&mut []);
        let size = match parsed.parse_with_uninit_headers(input, room) {
            Ok(httparse::Status::Complete(size)) => size,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => return Err(refusal(error, input)),
        };
        if size > limits.bytes {
            return Err(Refusal::HeadTooLarge);
        }
        if parsed.headers.len() > limits.fields {
            return Err(Refusal::TooManyFields);
        }
        let head = &input[..size];
        line_ends(head, parsed.headers)?;
        self.fields.receive(head);
        self.method = Span::within(head, parsed.method.unwrap_or_default().as_bytes());
        self.target = Span::within(head, parsed.path.unwrap_or_default().as_bytes());
        self.version = match parsed.version {
            Some(0) => Version::Http10,
            _ => Version::Http11,
        };
        let mut hosts = 0;
        for header in parsed.headers.iter() {
            let name = Span::within(head, header.name.as_bytes());
            let value = Span::within(head, header.value);
            hosts += u8::from(self.fields.list_received(name, value) == Known::Host);
            if hosts > 1 {
                return Err(Refusal::DuplicateHost);
            }
        }
        self.interpret()?;
        Ok(Some(size))
    }

    /// Checks what the lines mean together, and sets the fields that follow from it.
    fn interpret(&mut self) -> Result<(), Refusal> {
        if self.is("CONNECT") {
            return Err(Refusal::Connect);
        }
        let host = self.fields.get(Known::Host);
        match host {
            Some(host) if !is_host(host) => return Err(Refusal::Host),
            None if self.version == Version::Http11 => return Err(Refusal::MissingHost),
            _ => {}
        }
        self.origin_form()?;
        self.received_target = self.target;
        self.framing = framing::of_request(&mut self.fields, self.version)?;
        let (mut close, mut keep_alive, mut upgrade) = (false, false, false);
        for item in items(self.fields.get_all(Known::Connection)) {
            close |= item.eq_ignore_ascii_case(b"close");
            keep_alive |= item.eq_ignore_ascii_case(b"keep-alive");
            upgrade |= item.eq_ignore_ascii_case(b"upgrade");
        }
        let modern = self.version == Version::Http11;
        self.keep_alive = !close && (modern || keep_alive);
        self.upgrade = modern && upgrade && self.fields.contains(Known::Upgrade);
        Ok(())
    }

    /// Turns the target `http://host/path` into `/path`, and its host into the field `Host`.
    fn origin_form(&mut self) -> Result<(), Refusal> {
        let target = self.target();
        if target.contains(&b'#') {
            return Err(Refusal::Target);
        }
        if target.starts_with(b"/") {
            return Ok(());
        }
        if target == b"*" && self.is("OPTIONS") {
            return Ok(());
        }
        let scheme = [&b"http://"[..], b"https://"].into_iter().find(|scheme| {
            let start = target.get(..scheme.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        });
        let rest = &target[scheme.ok_or(Refusal::Target)?.len()..];
        let end = rest
            .iter()
            .position(|byte| matches!(byte, b'/' | b'?'))
            .unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.is_empty() || !is_host(authority) {
            return Err(Refusal::Host);
        }
        match self.fields.get(Known::Host) {
            Some(host) if !host.eq_ignore_ascii_case(authority) => {
                return Err(Refusal::HostDisagrees);
            }
            _ => {}
        }
        let (authority, mut path) = (authority.to_vec(), path.to_vec());
        if !path.starts_with(b"/") {
            path.insert(0, b'/');
        }
        self.fields.set(Known::Host, &authority);
        self.target = self.fields.store(&path);
        Ok(())
    }
}

/// Checks that every line ends with CRLF. The library accepts LF alone as well.
pub(crate) fn line_ends(head: &[u8], headers: &[httparse::Header<'_>]) -> Result<(), Refusal> {
    let begins_line = |part: &str| {
        let start = (part.as_ptr() as usize).saturating_sub(head.as_ptr() as usize);
        start >= 2 && head.get(start - 2..start) == Some(b"\r\n")
    };
    let strict = head.ends_with(b"\r\n\r\n") && headers.iter().all(|h| begins_line(h.name));
    if strict { Ok(()) } else { Err(Refusal::BareLf) }
}

/// Returns whether the text is a name or an address, with or without port. An empty text is valid here; the callers know what it
/// means.
pub fn is_host(host: &[u8]) -> bool {
    let (name, port) = if host.first() == Some(&b'[') {
        let Some(end) = host.iter().position(|&byte| byte == b']') else {
            return false;
        };
        let inside = &host[1..end];
        if inside.is_empty()
            || !inside
                .iter()
                .all(|b| b.is_ascii_hexdigit() || b":.".contains(b))
        {
            return false;
        }
        (&b""[..], &host[end + 1..])
    } else {
        let colon = host.iter().position(|&byte| byte == b':');
        host.split_at(colon.unwrap_or(host.len()))
    };
    let named = name
        .iter()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(byte));
    let ported = match port.split_first() {
        None => true,
        Some((b':', digits)) => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        Some(_) => false,
    };
    named && ported
}

fn refusal(error: httparse::Error, input: &[u8]) -> Refusal {
    match error {
        httparse::Error::HeaderName => Refusal::FieldName,
        httparse::Error::HeaderValue => Refusal::FieldValue,
        httparse::Error::TooManyHeaders => Refusal::TooManyFields,
        httparse::Error::Version => {
            let line = input.split(|&byte| byte == b'\n').next().unwrap_or(input);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let word = line.rsplit(|&byte| byte == b' ').next().unwrap_or(line);
            match word {
                b"HTTP/1.0" | b"HTTP/1.1" => Refusal::RequestLine,
                [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
                    if major.is_ascii_digit() && minor.is_ascii_digit() =>
                {
                    Refusal::UnsupportedVersion
                }
                _ => Refusal::Version,
            }
        }
        _ => Refusal::RequestLine,
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

    fn parse(head: &str) -> Result<Request, Refusal> {
        let mut request = Request::default();
        let size = request.parse(head.as_bytes(), &LIMITS)?;
        assert_eq!(size, Some(head.len()), "{head:?}");
        Ok(request)
    }

    #[test]
    fn a_request_keeps_the_bytes_that_were_received() {
        let request = parse(
            "GET /a%2Fb/../?q=%zz HTTP/1.1\r\nhOST: a.test:80\r\nX-One:  1 \r\nx-one:\t2\r\n\r\n",
        )
        .unwrap();
        let mut out = Vec::new();
        request.write_to(&mut out, false);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "GET /a%2Fb/../?q=%zz HTTP/1.1\r\nhOST: a.test:80\r\nX-One: 1\r\nx-one: 2\r\n\r\n"
        );
        assert_eq!(
            (request.framing, request.keep_alive, request.upgrade),
            (Framing::None, true, false)
        );
    }

    #[test]
    fn ambiguous_requests_are_refused() {
        use Refusal as R;
        for (head, why) in [
            (
                "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n",
                R::FieldName,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r2\r\n\r\n",
                R::FieldValue,
            ),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: 1\0\r\n\r\n", R::FieldValue),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nX: 1\x0b\r\n\r\n",
                R::FieldValue,
            ),
            ("GET / HTTP/1.1\nHost: a\r\n\r\n", R::BareLf),
            ("GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", R::BareLf),
            ("GET / HTTP/1.1\r\nHost: a\r\n\n", R::BareLf),
            ("GET / HTTP/1.1\r\nHost: a\n\r\n", R::BareLf),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", R::FieldName),
            ("GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n", R::FieldName),
            ("GET / HTTP/1.1\r\nHost: a\r\nX y: x\r\n\r\n", R::FieldName),
            ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", R::FieldName),
            ("GET / HTTP/1.1\r\nHost: a\r\nnothing\r\n\r\n", R::FieldName),
            ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", R::RequestLine),
            ("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", R::RequestLine),
            ("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", R::RequestLine),
            ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", R::RequestLine),
            ("GET /\r\n\r\n", R::RequestLine),
            ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", R::UnsupportedVersion),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", R::UnsupportedVersion),
            ("GET / HTTP/1.10\r\nHost: a\r\n\r\n", R::RequestLine),
            ("GET / http/1.1\r\nHost: a\r\n\r\n", R::Version),
            ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", R::Target),
            ("GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n", R::RequestLine),
            ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", R::Target),
            ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", R::Target),
            ("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", R::Target),
            ("GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", R::Host),
            (
                "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
                R::HostDisagrees,
            ),
            ("GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", R::Host),
            ("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", R::Connect),
            ("GET / HTTP/1.1\r\n\r\n", R::MissingHost),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nHOST: a\r\n\r\n",
                R::DuplicateHost,
            ),
            ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", R::Host),
            ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", R::Host),
            ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", R::Host),
            ("GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", R::Host),
            ("GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n", R::Host),
            ("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", R::Host),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
                R::ContentLength,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
                R::ContentLength,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1 2\r\n\r\n",
                R::ContentLength,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n",
                R::ContentLengthEmpty,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1,\r\n\r\n",
                R::ContentLength,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\n",
                R::ContentLength,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
                R::ContentLength,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775808\r\n\r\n",
                R::ContentLength,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 2\r\n\r\n",
                R::ContentLengthsDiffer,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
                R::ContentLengthsDiffer,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                R::FramedTwice,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
                R::TransferEncoding,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
                R::TransferEncoding,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
                R::TransferEncoding,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
                R::TransferEncoding,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n",
                R::TransferEncoding,
            ),
            (
                "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
                R::TransferEncodingInHttp10,
            ),
        ] {
            assert_eq!(parse(head).err(), Some(why), "{head:?}");
        }
    }

    #[test]
    fn unambiguous_requests_are_accepted() {
        for (head, framing, keep_alive, upgrade) in [
            ("GET / HTTP/1.0\r\n\r\n", Framing::None, false, false),
            (
                "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
                Framing::None,
                true,
                false,
            ),
            (
                "GET / HTTP/1.1\r\nHost:\r\nConnection: x, Close\r\n\r\n",
                Framing::None,
                false,
                false,
            ),
            (
                "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\nContent-Length: 3\r\n\r\n",
                Framing::Length(3),
                true,
                false,
            ),
            (
                "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 000\r\n\r\n",
                Framing::None,
                true,
                false,
            ),
            (
                "PUT / HTTP/1.1\r\nHost: [::1]:80\r\nTransfer-Encoding: Chunked\r\n\r\n",
                Framing::Chunked,
                true,
                false,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nConnection: UPGRADE\r\nUpgrade: x\r\n\r\n",
                Framing::None,
                true,
                true,
            ),
            (
                "GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
                Framing::None,
                false,
                false,
            ),
            (
                "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
                Framing::None,
                true,
                false,
            ),
        ] {
            let request = parse(head).unwrap();
            assert_eq!(
                (request.framing, request.keep_alive, request.upgrade),
                (framing, keep_alive, upgrade),
                "{head:?}"
            );
            assert!(request.fields.get_all(Known::ContentLength).count() < 2);
        }
        for (target, path) in [
            ("http://A.test/x?y", "/x?y"),
            ("HTTPS://A.test?y", "/?y"),
            ("http://a.test", "/"),
        ] {
            let request = parse(&format!("GET {target} HTTP/1.1\r\nHost: a.TEST\r\n\r\n")).unwrap();
            assert_eq!(request.target(), path.as_bytes());
        }
    }

    #[test]
    fn heads_are_bounded() {
        let mut request = Request::default();
        let limits = Limits {
            bytes: 100,
            fields: 3,
        };
        let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(100));
        assert_eq!(
            request.parse(long.as_bytes(), &limits),
            Err(Refusal::HeadTooLarge)
        );
        let whole = format!("{long}Host: a\r\n\r\n");
        assert_eq!(
            request.parse(whole.as_bytes(), &limits),
            Err(Refusal::HeadTooLarge)
        );
        let many = "GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 1\r\nC: 1\r\n\r\n";
        assert_eq!(
            request.parse(many.as_bytes(), &limits),
            Err(Refusal::TooManyFields)
        );
        let lines: String = (0..90).map(|n| format!("X-{n}: {n}\r\n")).collect();
        assert!(
            parse(&format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")).is_ok(),
            "more than usual"
        );
    }

    proptest! {
        /// A head that was written is read as the same head, and no beginning of it is accepted as the whole.
        #[test]
        fn reading_what_was_written(
            target in "/[a-zA-Z0-9%._~!$&'()*+,;=:@/?-]{0,20}",
            fields in proptest::collection::vec(("X-[A-Za-z0-9-]{1,10}", "[!-~\u{80}-\u{ff}]([ -~\t]{0,20}[!-~])?"), 0..20),
        ) {
            let mut first = Request::default();
            first.begin("GET", target.as_bytes(), Version::Http11);
            first.fields.append(Known::Host, b"a.test");
            for (name, value) in &fields {
                first.fields.append_spelled(name.as_bytes(), value.as_bytes());
            }
            let mut bytes = Vec::new();
            first.write_to(&mut bytes, false);
            let mut second = Request::default();
            prop_assert_eq!(second.parse(&bytes, &LIMITS), Ok(Some(bytes.len())));
            let mut again = Vec::new();
            second.write_to(&mut again, false);
            prop_assert_eq!(&bytes, &again);
            for end in 0..bytes.len() {
                prop_assert_eq!(second.parse(&bytes[..end], &LIMITS), Ok(None));
                prop_assert!(!crate::head_ends(&bytes[..end], 0));
            }
            prop_assert!(crate::head_ends(&bytes, bytes.len() - 1));
        }

        #[test]
        fn no_input_causes_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Request::default().parse(&bytes, &LIMITS);
        }
    }
}
