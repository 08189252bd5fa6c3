//! One HTTP GET.

use crate::dns;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const CONNECT: Duration = Duration::from_secs(5);
const WHOLE: Duration = Duration::from_secs(15);
const MAX_BODY: usize = 32 << 20;

pub struct Fetched {
    pub status: u16,
    pub content_type: String,
    pub body: Vec<u8>,
}

/// `url` with or without `http://`.
pub fn get(url: &str) -> Result<Fetched, String> {
    // Some proxies on the way make one slash of two.
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("http:/")).unwrap_or(url);
    if rest.starts_with("https:") {
        return Err("only http is spoken here".into());
    }
    let (authority, path) = rest.find(['/', '?']).map_or((rest, ""), |at| rest.split_at(at));
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().map_err(|_| format!("port {port:?} is not a number"))?),
        None => (authority, 80),
    };
    if host.is_empty() {
        return Err("want /proxy/<host>[:port]/path".into());
    }
    let address = dns::resolve(host)?;
    exchange(SocketAddr::new(address.into(), port), authority, &path).map_err(|error| format!("{address}:{port}: {error}"))
}

fn exchange(target: SocketAddr, host: &str, path: &str) -> io::Result<Fetched> {
    let deadline = Instant::now() + WHOLE;
    let mut stream = TcpStream::connect_timeout(&target, CONNECT)?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: cupola-proxy\r\nAccept: */*\r\nConnection: close\r\n\r\n").as_bytes())?;
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 16 << 10]);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let read = stream.read(&mut buffer)?;
        bytes.extend_from_slice(&buffer[..read]);
        if read == 0 || complete(&bytes) || bytes.len() > MAX_BODY {
            return parse(&bytes).ok_or_else(|| io::Error::other("the answer is not HTTP"));
        }
    }
}

fn head(bytes: &[u8]) -> Option<(String, &[u8])> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some((String::from_utf8_lossy(&bytes[..end]).into_owned(), &bytes[end + 4..]))
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).filter_map(|line| line.split_once(':')).find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// Whether all of it has come, for servers that keep the connection open.
fn complete(bytes: &[u8]) -> bool {
    let Some((head, body)) = head(bytes) else { return false };
    match header(&head, "content-length").and_then(|length| length.parse::<usize>().ok()) {
        Some(length) => body.len() >= length,
        None => header(&head, "transfer-encoding").is_some() && body.ends_with(b"0\r\n\r\n"),
    }
}

fn parse(bytes: &[u8]) -> Option<Fetched> {
    let (head, body) = head(bytes)?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let chunked = header(&head, "transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
    let body = if chunked { dechunk(body)? } else { body.to_vec() };
    Some(Fetched { status, content_type: header(&head, "content-type").unwrap_or("application/octet-stream").to_owned(), body })
}

fn dechunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = std::str::from_utf8(&rest[..end]).ok()?.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        rest = &rest[end + 2..];
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_with_length_and_in_chunks() {
        let plain = b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\ncontent-length: 2\r\n\r\nhi";
        let fetched = parse(plain).unwrap();
        assert_eq!((fetched.status, fetched.content_type.as_str(), fetched.body.as_slice(), complete(plain)), (404, "text/html", b"hi".as_slice(), true));
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n";
        assert_eq!((parse(chunked).unwrap().body.as_slice(), complete(chunked)), (b"abcde".as_slice(), true));
        assert!(parse(b"SSH-2.0-x\r\n\r\n").is_none());
    }
}
