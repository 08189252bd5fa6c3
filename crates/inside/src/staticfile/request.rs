//! Requests on a connection: one head, parsed as far as a file server needs it.

use std::io::{self, BufRead as _, BufReader, Read as _};
use std::net::TcpStream;

const MAX_HEAD: u64 = 32 << 10;

/// A request's head.
#[derive(Debug, Default)]
pub(super) struct Request {
    pub(super) method: String,
    /// The target as it was sent, without scheme and host.
    pub(super) target: String,
    /// The version as it was sent, e.g. `HTTP/1.1`.
    pub(super) version: String,
    headers: Vec<(String, String)>,
    pub(super) content_length: u64,
    /// Whether the connection may be used again after the response.
    pub(super) keep_alive: bool,
}

impl Request {
    /// Returns a request that stands for one that cannot be parsed.
    pub(super) fn broken() -> Self {
        Self {
            method: "GET".to_owned(),
            version: "HTTP/1.1".to_owned(),
            ..Self::default()
        }
    }

    /// Returns the first header of that name (in lower case).
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// Returns the target without its query.
    pub(super) fn path(&self) -> &str {
        self.target.split(['?', '#']).next().unwrap_or_default()
    }

    /// Returns the query with its `?`, or an empty text.
    pub(super) fn query(&self) -> &str {
        self.target.find('?').map_or("", |at| {
            self.target[at..].split('#').next().unwrap_or_default()
        })
    }

    pub(super) fn is_http_1_0(&self) -> bool {
        self.version == "HTTP/1.0"
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

/// Reads a request. Returns `None` at the end of the connection, and `Some(Err)` for data that is not HTTP.
pub(super) fn read(
    reader: &mut BufReader<&TcpStream>,
) -> io::Result<Option<Result<Request, &'static str>>> {
    let mut head = reader.by_ref().take(MAX_HEAD);
    let mut lines = Vec::new();
    loop {
        let mut line = Vec::new();
        if head.read_until(b'\n', &mut line)? == 0 {
            return Ok(if lines.is_empty() {
                None
            } else {
                Some(Err("request head is cut or too long\n"))
            });
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        match (line.is_empty(), lines.is_empty()) {
            (true, true) => {}
            (true, false) => return Ok(Some(parse(&lines))),
            (false, _) => lines.push(line),
        }
    }
}

fn parse(lines: &[String]) -> Result<Request, &'static str> {
    let mut words = lines[0].split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err("request line is not HTTP\n");
    };
    if !version.starts_with("HTTP/1.") {
        return Err("only HTTP/1 is served here\n");
    }
    // Proxies may send the absolute form.
    let target = match target.split_once("://") {
        Some((_, rest)) if !target.starts_with('/') => rest.find('/').map_or("/", |at| &rest[at..]),
        _ => target,
    };
    let mut request = Request {
        method: method.to_owned(),
        target: target.to_owned(),
        version: version.to_owned(),
        keep_alive: version != "HTTP/1.0",
        ..Request::default()
    };
    let mut length: Option<u64> = None;
    for (name, value) in lines[1..].iter().filter_map(|line| line.split_once(':')) {
        let (name, value) = (name.to_ascii_lowercase(), value.trim().to_owned());
        match name.as_str() {
            "connection" if value.eq_ignore_ascii_case("close") => request.keep_alive = false,
            "content-length" => {
                let new = value
                    .parse()
                    .map_err(|_| "Content-Length is not a number\n")?;
                if length.is_some_and(|length| length != new) {
                    return Err("Content-Length occurs twice\n");
                }
                length = Some(new);
            }
            // The end of such a body is not determined; the connection is closed after the response.
            "transfer-encoding" => request.keep_alive = false,
            _ => {}
        }
        request.headers.push((name, value));
    }
    request.content_length = length.unwrap_or(0);
    Ok(request)
}

#[cfg(test)]
pub(super) fn request(text: &str) -> Request {
    parse(&text.lines().map(str::to_owned).collect::<Vec<_>>()).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        let parse = |text: &str| parse(&text.lines().map(str::to_owned).collect::<Vec<_>>());
        let request =
            parse("GET /a?b=c#d HTTP/1.1\nHost: x\nConnection: close\nContent-Length: 3").unwrap();
        assert_eq!(
            (
                request.path(),
                request.query(),
                request.keep_alive,
                request.content_length
            ),
            ("/a", "?b=c", false, 3)
        );
        assert_eq!(parse("GET http://x/y HTTP/1.1").unwrap().path(), "/y");
        assert_eq!(
            parse("GET /login?to=http://x/y HTTP/1.1").unwrap().query(),
            "?to=http://x/y"
        );
        for text in [
            "GET /",
            "GET / HTTP/2.0",
            "GET / x HTTP/1.1",
            "GET / HTTP/1.1\nContent-Length: x",
            "GET / HTTP/1.1\nContent-Length: 1\nContent-Length: 2",
        ] {
            assert!(parse(text).is_err(), "{text}");
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
