//! HTTP responses: conditional requests, ranges, compression, and the head of each.
//!
//! An ETag is made from a file's content, so that it changes exactly when the content changes.

use super::auth::CHALLENGE;
use super::mime;
use super::request::Request;
use super::site::{Answer, Found, Site};
use super::{clock, listing};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Mutex, PoisonError};

/// The sizes of files that are compressed. Smaller files gain nothing from compression; larger ones would need too much memory.
const COMPRESSED: std::ops::RangeInclusive<u64> = 1100..=4 << 20;
const MAX_ETAGS: usize = 10_000;

/// A response as it is sent.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    headers: Vec<(&'static str, String)>,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Empty,
    Bytes(Vec<u8>),
    /// The given number of bytes from the file's current position.
    File(File, u64),
    /// The unpacked content of a gzipped file, whose length is not known.
    Unpacked(File),
}

/// The ETags of files that have been read once.
#[derive(Debug, Default)]
pub(super) struct Etags(Mutex<HashMap<FileVersion, String>>);

/// Device, inode, size, and the time of the last change in nanoseconds.
type FileVersion = (u64, u64, u64, i128);

impl Etags {
    /// Returns the ETag without quotes. The file is read to its end if it was not seen before, and is then rewound.
    fn of(&self, file: &mut File, metadata: &Metadata) -> io::Result<String> {
        let changed =
            i128::from(metadata.ctime()) * 1_000_000_000 + i128::from(metadata.ctime_nsec());
        let version = (metadata.dev(), metadata.ino(), metadata.len(), changed);
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(etag) = known().get(&version) {
            return Ok(etag.clone());
        }
        let mut hash = Sha256::new();
        io::copy(file, &mut hash)?;
        file.rewind()?;
        let etag: String = hash.finalize()[..12]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let mut etags = known();
        if etags.len() >= MAX_ETAGS {
            etags.clear();
        }
        etags.insert(version, etag.clone());
        Ok(etag)
    }
}

impl Reply {
    /// Creates the response. A file that cannot be read also gets one, with an error status.
    pub(super) fn new(site: &Site, etags: &Etags, request: &Request, answer: &Answer) -> Self {
        let made = match answer {
            Answer::Text { status } => Ok(Self::text(*status)),
            Answer::Moved { location } => Ok(Self {
                status: 301,
                headers: vec![("Location", location.clone())],
                body: Body::Empty,
            }),
            Answer::Listing { directory, path } => {
                listing::html(site, directory, path).map(|html| Self {
                    status: 200,
                    headers: vec![("Content-Type", "text/html; charset=utf-8".to_owned())],
                    body: Body::Bytes(html.into_bytes()),
                })
            }
            Answer::File { found, status } => Self::file(etags, request, found, *status),
        };
        let mut reply = made.unwrap_or_else(|error| {
            Self::text(match error.kind() {
                io::ErrorKind::PermissionDenied => 403,
                io::ErrorKind::NotFound => 404,
                _ => 500,
            })
        });
        // Over plain HTTP, where the header has no meaning, only a redirect to HTTPS is sent.
        if let (Some(value), 200..=399) = (&site.settings.strict_transport_security, reply.status) {
            reply
                .headers
                .push(("Strict-Transport-Security", value.clone()));
        }
        reply
    }

    pub(super) fn text(status: u16) -> Self {
        Self::with_text(status, format!("{status} {}\n", reason(status)))
    }

    pub(super) fn with_text(status: u16, text: String) -> Self {
        let mut headers = vec![("Content-Type", "text/plain; charset=utf-8".to_owned())];
        match status {
            401 => headers.push(("WWW-Authenticate", CHALLENGE.to_owned())),
            405 => headers.push(("Allow", "GET, HEAD".to_owned())),
            _ => {}
        }
        Self {
            status,
            headers,
            body: Body::Bytes(text.into_bytes()),
        }
    }

    fn file(etags: &Etags, request: &Request, found: &Found, status: u16) -> io::Result<Self> {
        let name = found.name();
        let kind = mime::of(&name);
        let gzip = request.accepts_gzip();
        let (path, form) = match found {
            Found {
                packed: Some(packed),
                ..
            } if gzip => (packed, Form::Packed),
            Found {
                plain: Some(plain), ..
            } => (plain, Form::Plain),
            Found {
                packed: Some(packed),
                ..
            } => (packed, Form::Unpacked),
            Found { .. } => return Err(io::ErrorKind::NotFound.into()),
        };
        let mut file = File::open(path)?;
        let metadata = file.metadata()?;
        let compressible = found.packed.is_none()
            && mime::is_compressible(kind)
            && COMPRESSED.contains(&metadata.len())
            && !request.is_http_1_0();
        let form = match form {
            Form::Plain if compressible && gzip && request.header("range").is_none() => {
                Form::Compressed
            }
            form => form,
        };
        let etag = format!("\"{}{}\"", etags.of(&mut file, &metadata)?, form.suffix());
        let modified = metadata.mtime();
        let mut headers = vec![("Content-Type", kind.to_owned()), ("ETag", etag.clone())];
        // A time of 0 means that the time is not known.
        if modified > 0 {
            headers.push(("Last-Modified", clock::http_date(modified)));
        }
        if compressible || found.packed.is_some() {
            headers.push(("Vary", "Accept-Encoding".to_owned()));
        }
        if status == 200 && is_known(request, &etag, modified) {
            headers.retain(|(name, _)| *name != "Content-Type");
            return Ok(Self {
                status: 304,
                headers,
                body: Body::Empty,
            });
        }
        if matches!(form, Form::Packed | Form::Compressed) {
            headers.push(("Content-Encoding", "gzip".to_owned()));
        }
        let length = metadata.len();
        match form {
            Form::Unpacked => Ok(Self {
                status,
                headers,
                body: Body::Unpacked(file),
            }),
            Form::Compressed => {
                let mut packed = GzEncoder::new(Vec::new(), Compression::new(6));
                io::copy(&mut file, &mut packed)?;
                Ok(Self {
                    status,
                    headers,
                    body: Body::Bytes(packed.finish()?),
                })
            }
            Form::Packed | Form::Plain => {
                headers.push(("Accept-Ranges", "bytes".to_owned()));
                let range = if status == 200 {
                    range(request, &etag, modified, length)
                } else {
                    Range::default()
                };
                match range {
                    Range::Whole => Ok(Self {
                        status,
                        headers,
                        body: Body::File(file, length),
                    }),
                    Range::Part(first, last) => {
                        file.seek(SeekFrom::Start(first))?;
                        headers.push(("Content-Range", format!("bytes {first}-{last}/{length}")));
                        Ok(Self {
                            status: 206,
                            headers,
                            body: Body::File(file, last - first + 1),
                        })
                    }
                    Range::None => {
                        let mut reply = Self::text(416);
                        reply
                            .headers
                            .push(("Content-Range", format!("bytes */{length}")));
                        Ok(reply)
                    }
                }
            }
        }
    }

    /// Writes the whole response. Returns the number of body bytes sent.
    pub(super) fn write(
        self,
        request: &Request,
        keep_alive: bool,
        mut out: impl Write,
    ) -> io::Result<u64> {
        use std::fmt::Write as _;
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        for (name, value) in &self.headers {
            let value: String = value.chars().filter(|c| !c.is_control()).collect();
            let _ = write!(head, "{name}: {value}\r\n");
        }
        let length = match &self.body {
            Body::Empty if self.status == 304 => None,
            Body::Empty => Some(0),
            Body::Bytes(bytes) => Some(bytes.len() as u64),
            Body::File(_, length) => Some(*length),
            Body::Unpacked(_) => None,
        };
        let chunked = matches!(self.body, Body::Unpacked(_)) && !request.is_http_1_0();
        if let Some(length) = length {
            let _ = write!(head, "Content-Length: {length}\r\n");
        } else if chunked {
            head.push_str("Transfer-Encoding: chunked\r\n");
        }
        let keep_alive = keep_alive && (length.is_some() || chunked || self.status == 304);
        let _ = write!(
            head,
            "Connection: {}\r\n\r\n",
            if keep_alive { "keep-alive" } else { "close" }
        );
        out.write_all(head.as_bytes())?;
        if request.method() == "HEAD" {
            return Ok(0);
        }
        match self.body {
            Body::Empty => Ok(0),
            Body::Bytes(bytes) => out.write_all(&bytes).map(|()| bytes.len() as u64),
            Body::File(file, length) => {
                let sent = io::copy(&mut file.take(length), &mut out)?;
                // The file has shrunk meanwhile: the promised length cannot be kept.
                if sent < length {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Ok(sent)
            }
            Body::Unpacked(file) => {
                let mut chunks = Chunks { out, chunked };
                let sent = io::copy(&mut MultiGzDecoder::new(file), &mut chunks)?;
                chunks.end().map(|()| sent)
            }
        }
    }

    /// Returns whether the connection can be used again after this response.
    pub(super) fn is_delimited(&self, request: &Request) -> bool {
        !matches!(self.body, Body::Unpacked(_)) || !request.is_http_1_0()
    }
}

/// The form in which a file is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Plain,
    /// A gzipped file as it is stored.
    Packed,
    /// A gzipped file, unpacked for a client that does not accept gzip.
    Unpacked,
    Compressed,
}

impl Form {
    /// Returns the suffix of the ETag, because the forms of one file are different contents.
    fn suffix(self) -> &'static str {
        match self {
            Self::Plain | Self::Packed => "",
            Self::Unpacked => "-plain",
            Self::Compressed => "-gzip",
        }
    }
}

/// A writer that sends pieces as chunks if the client reads chunks.
struct Chunks<W> {
    out: W,
    chunked: bool,
}

impl<W: Write> Chunks<W> {
    fn end(mut self) -> io::Result<()> {
        if self.chunked {
            self.out.write_all(b"0\r\n\r\n")
        } else {
            Ok(())
        }
    }
}

impl<W: Write> Write for Chunks<W> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if !self.chunked || piece.is_empty() {
            return self.out.write(piece);
        }
        let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
        chunk.extend_from_slice(piece);
        chunk.extend_from_slice(b"\r\n");
        self.out.write_all(&chunk).map(|()| piece.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Returns whether the client already has this content. An ETag takes precedence over a time.
fn is_known(request: &Request, etag: &str, modified: i64) -> bool {
    if let Some(wanted) = request.header("if-none-match") {
        return wanted
            .split(',')
            .map(|one| one.trim().trim_start_matches("W/"))
            .any(|one| one == "*" || one == etag);
    }
    modified > 0
        && request
            .header("if-modified-since")
            .and_then(clock::parse_http_date)
            .is_some_and(|since| modified <= since)
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Range {
    #[default]
    Whole,
    /// The first and the last byte of a part.
    Part(u64, u64),
    /// No requested byte exists.
    None,
}

/// Returns the requested range. Several ranges at once, and values that are no range of bytes, are answered with the whole file.
fn range(request: &Request, etag: &str, modified: i64, length: u64) -> Range {
    let Some(ranges) = request
        .header("range")
        .and_then(|range| range.strip_prefix("bytes="))
        .filter(|_| request.method() == "GET")
    else {
        return Range::Whole;
    };
    let same = match request.header("if-range") {
        None => true,
        Some(known) if known.starts_with('"') => known == etag,
        Some(date) => clock::parse_http_date(date) == Some(modified),
    };
    let (Some((first, last)), true) =
        (ranges.trim().split_once('-'), same && !ranges.contains(','))
    else {
        return Range::Whole;
    };
    let number = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| text.parse().unwrap_or(u64::MAX))
    };
    match (first, number(first), last, number(last)) {
        ("", _, "", _) => Range::Whole,
        ("", _, _, Some(suffix)) if suffix == 0 || length == 0 => Range::None,
        ("", _, _, Some(suffix)) => Range::Part(length.saturating_sub(suffix), length - 1),
        (_, Some(first), _, _) if first >= length => Range::None,
        (_, Some(first), "", _) => Range::Part(first, length - 1),
        (_, Some(first), _, Some(last)) if first <= last => {
            Range::Part(first, last.min(length - 1))
        }
        _ => Range::Whole,
    }
}

pub(super) fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        301 => "Moved Permanently",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        416 => "Range Not Satisfiable",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        505 => "HTTP Version Not Supported",
        _ => "Status",
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::request;
    use super::super::settings::Settings;
    use super::super::site::tests::Folder;
    use super::*;
    use std::fs;

    fn ask(site: &Site, head: &str) -> (String, Vec<u8>) {
        let request = request(head);
        let reply = Reply::new(site, &Etags::default(), &request, &site.answer(&request));
        let mut out = Vec::new();
        reply.write(&request, true, &mut out).unwrap();
        let end = out
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .unwrap();
        let body = out.split_off(end + 4);
        (String::from_utf8(out).unwrap(), body)
    }

    fn header<'a>(head: &'a str, name: &str) -> &'a str {
        head.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            .unwrap_or_default()
    }

    #[test]
    fn an_etag_follows_the_content_alone() {
        let folder = Folder::new("etag");
        let site = folder.site(Settings::default());
        let etag = || header(&ask(&site, "GET / HTTP/1.1").0, "ETag").to_owned();
        let first = etag();
        assert!(first.starts_with('"') && first.len() == 26, "{first}");
        let page = site.root.join("index.html");
        let file = File::options().write(true).open(&page).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(etag(), first);
        assert_eq!(header(&ask(&site, "GET / HTTP/1.1").0, "Last-Modified"), "");
        fs::write(&page, "<h1>ho</h1>").unwrap();
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000))
            .unwrap();
        assert_ne!(etag(), first);
        let (head, _) = ask(&site, "GET / HTTP/1.1");
        assert_eq!(
            header(&head, "Last-Modified"),
            "Sun, 09 Sep 2001 01:46:40 GMT"
        );
        let known = |headers: &str| {
            ask(&site, &format!("GET / HTTP/1.1\n{headers}"))
                .0
                .starts_with("HTTP/1.1 304")
        };
        assert!(known(&format!("If-None-Match: \"x\", W/{}", etag())));
        assert!(known("If-None-Match: *") && !known(&format!("If-None-Match: {first}")));
        assert!(known("If-Modified-Since: Sun, 09 Sep 2001 01:46:40 GMT"));
        assert!(
            !known("If-Modified-Since: Sun, 09 Sep 2001 01:46:39 GMT")
                && !known("If-Modified-Since: yesterday")
        );
        assert!(!known(
            "If-None-Match: \"x\"\nIf-Modified-Since: Sun, 09 Sep 2030 01:46:40 GMT"
        ));
    }

    #[test]
    fn ranges() {
        let folder = Folder::new("ranges");
        let site = folder.site(Settings::default());
        fs::write(site.root.join("ten"), "0123456789").unwrap();
        let part = |range: &str| {
            let (head, body) = ask(&site, &format!("GET /ten HTTP/1.1\nRange: {range}"));
            let status = head[9..12].to_owned();
            (
                status,
                header(&head, "Content-Range").to_owned(),
                String::from_utf8(body).unwrap(),
            )
        };
        let expect = |status: &str, range: &str, body: &str| {
            (status.to_owned(), range.to_owned(), body.to_owned())
        };
        assert_eq!(part("bytes=2-4"), expect("206", "bytes 2-4/10", "234"));
        assert_eq!(part("bytes=7-"), expect("206", "bytes 7-9/10", "789"));
        assert_eq!(part("bytes=-3"), expect("206", "bytes 7-9/10", "789"));
        assert_eq!(
            part("bytes=-30"),
            expect("206", "bytes 0-9/10", "0123456789")
        );
        assert_eq!(
            part("bytes=8-99999999999999999999999"),
            expect("206", "bytes 8-9/10", "89")
        );
        for none in ["bytes=10-", "bytes=-0", "bytes=99999999999999999999999-"] {
            assert_eq!(part(none).0, "416", "{none}");
            assert_eq!(part(none).1, "bytes */10", "{none}");
        }
        for whole in [
            "bytes=4-2",
            "bytes=-",
            "bytes=0-1,3-4",
            "lines=1-2",
            "bytes=a-b",
            "bytes=+1-2",
        ] {
            assert_eq!(part(whole), expect("200", "", "0123456789"), "{whole}");
        }
        let etag = header(&ask(&site, "GET /ten HTTP/1.1").0, "ETag").to_owned();
        assert_eq!(part(&format!("bytes=0-0\nIf-Range: {etag}")).0, "206");
        assert_eq!(part("bytes=0-0\nIf-Range: \"old\"").0, "200");
        // Only GET has ranges, and HEAD has no body.
        let (head, body) = ask(&site, "HEAD /ten HTTP/1.1\nRange: bytes=2-4");
        assert!(
            head.starts_with("HTTP/1.1 200")
                && header(&head, "Content-Length") == "10"
                && body.is_empty()
        );
    }

    #[test]
    fn files_are_compressed_if_requested_and_worthwhile() {
        let folder = Folder::new("gzip");
        let site = folder.site(Settings::default());
        let text = "a compressible line\n".repeat(200);
        fs::write(site.root.join("long.css"), &text).unwrap();
        fs::write(site.root.join("long.png"), &text).unwrap();
        fs::write(site.root.join("short.css"), "a{}").unwrap();
        let unpack = |bytes: &[u8]| io::read_to_string(MultiGzDecoder::new(bytes)).unwrap();
        let gzip = "HTTP/1.1\nAccept-Encoding: gzip";
        let (head, body) = ask(&site, &format!("GET /long.css {gzip}"));
        assert_eq!(
            (header(&head, "Content-Encoding"), header(&head, "Vary")),
            ("gzip", "Accept-Encoding")
        );
        assert_eq!(unpack(&body), text);
        assert!(
            header(&head, "ETag").ends_with("-gzip\"") && header(&head, "Accept-Ranges").is_empty()
        );
        let (head, body) = ask(&site, "GET /long.css HTTP/1.1");
        assert_eq!(
            (header(&head, "Content-Encoding"), header(&head, "Vary")),
            ("", "Accept-Encoding")
        );
        assert_eq!(body, text.as_bytes());
        let (head, body) = ask(&site, &format!("GET /long.css {gzip}\nRange: bytes=0-1"));
        assert!(head.starts_with("HTTP/1.1 206") && body == b"a ");
        for plain in ["/long.png", "/short.css"] {
            assert_eq!(
                header(
                    &ask(&site, &format!("GET {plain} {gzip}")).0,
                    "Content-Encoding"
                ),
                "",
                "{plain}"
            );
        }
        // The compressed form was made beforehand.
        let mut packed = GzEncoder::new(Vec::new(), Compression::best());
        packed.write_all(b"made beforehand").unwrap();
        let packed = packed.finish().unwrap();
        fs::write(site.root.join("only.js.gz"), &packed).unwrap();
        let (head, body) = ask(&site, &format!("GET /only.js {gzip}"));
        assert_eq!(
            (header(&head, "Content-Encoding"), body),
            ("gzip", packed.clone())
        );
        assert_eq!(
            header(&head, "Content-Type"),
            "text/javascript; charset=utf-8"
        );
        let (head, body) = ask(&site, "GET /only.js HTTP/1.1");
        assert_eq!(header(&head, "Transfer-Encoding"), "chunked");
        assert_eq!(
            String::from_utf8(body).unwrap(),
            "f\r\nmade beforehand\r\n0\r\n\r\n"
        );
        let (head, body) = ask(&site, "GET /only.js HTTP/1.0");
        assert_eq!(
            (header(&head, "Connection"), body.as_slice()),
            ("close", b"made beforehand".as_slice())
        );
        assert_eq!(ask(&site, "GET /only.js.gz HTTP/1.1").1, packed);
    }

    #[test]
    fn strict_transport_security_and_challenges() {
        let folder = Folder::new("hsts");
        let site = folder.site(Settings::parse("http_strict_transport_security: true").unwrap());
        let hsts = |head: &str| header(&ask(&site, head).0, "Strict-Transport-Security").to_owned();
        assert_eq!(hsts("GET / HTTP/1.1"), "max-age=31536000");
        assert_eq!(hsts("GET /none HTTP/1.1"), "");
        let mut out = Vec::new();
        Reply::text(401)
            .write(&request("GET / HTTP/1.1"), false, &mut out)
            .unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            header(&text, "WWW-Authenticate"),
            "Basic realm=\"Restricted\""
        );
        assert_eq!(header(&text, "Connection"), "close");
    }
}
