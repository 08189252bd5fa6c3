//! The PROXY protocol, version 1 (text) and 2 (binary), by which a load balancer in front announces the client's address. A
//! connection without such a header is served as it is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout_at};

/// The time without bytes after which a client has no load balancer in front of it (as gorouter).
const SILENCE: Duration = Duration::from_millis(100);
/// The time for the rest of a header that has begun.
const PATIENCE: Duration = Duration::from_secs(5);
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const LONGEST: usize = 2048;
/// The longest header of version 1 in bytes, with its line end.
const LONGEST_TEXT: usize = 107;

/// The reason why the connection is to be closed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid PROXY protocol header: {0}")]
pub(crate) struct InvalidHeader(&'static str);

#[derive(Debug, PartialEq, Eq)]
enum Parsed {
    /// The bytes are no such header.
    Absent,
    /// More bytes are needed.
    Partial,
    Header {
        len: usize,
        source: Option<SocketAddr>,
    },
}

/// Removes the header from the stream, if there is one, and returns the client's address; `None`: the address of the connection
/// is the client's.
pub(crate) async fn source(stream: &TcpStream) -> Result<Option<SocketAddr>, InvalidHeader> {
    let started = Instant::now();
    let mut buffer = [0; LONGEST];
    let (mut seen, mut deadline) = (0, started + SILENCE);
    loop {
        let peeked = match timeout_at(deadline, stream.peek(&mut buffer)).await {
            Ok(peeked) => peeked.map_err(|_| InvalidHeader("the connection broke"))?,
            Err(_) if seen == 0 => return Ok(None),
            Err(_) => return Err(InvalidHeader("the header does not end")),
        };
        match parse(&buffer[..peeked])? {
            Parsed::Absent => return Ok(None),
            Parsed::Header { len, source } => {
                let mut left = len;
                while left > 0 {
                    match stream.try_read(&mut buffer[..left]) {
                        Ok(0) | Err(_) => return Err(InvalidHeader("the connection broke")),
                        Ok(n) => left -= n,
                    }
                }
                return Ok(source);
            }
            Parsed::Partial if peeked == 0 => return Ok(None),
            Parsed::Partial if Instant::now() > started + PATIENCE => {
                return Err(InvalidHeader("the header does not end"));
            }
            // A peek returns the same bytes again at once.
            Parsed::Partial => sleep(Duration::from_millis(2)).await,
        }
        (seen, deadline) = (peeked, started + PATIENCE);
    }
}

fn parse(bytes: &[u8]) -> Result<Parsed, InvalidHeader> {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(a, b)| a == b);
    if begins(SIGNATURE) {
        return binary(bytes);
    }
    if begins(b"PROXY ") {
        return text(bytes);
    }
    Ok(Parsed::Absent)
}

fn text(bytes: &[u8]) -> Result<Parsed, InvalidHeader> {
    let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() < LONGEST_TEXT {
            Ok(Parsed::Partial)
        } else {
            Err(InvalidHeader("the line is too long"))
        };
    };
    let line =
        std::str::from_utf8(&bytes[..end]).map_err(|_| InvalidHeader("the header is not text"))?;
    let [_, family, source, _, port, _] = line.split(' ').collect::<Vec<_>>()[..] else {
        return Err(InvalidHeader("the header does not name the client"));
    };
    let ip: IpAddr = source.parse().map_err(|_| InvalidHeader("bad address"))?;
    let port = port.parse().map_err(|_| InvalidHeader("bad port"))?;
    match (family, ip) {
        ("TCP4", IpAddr::V4(_)) | ("TCP6", IpAddr::V6(_)) => Ok(Parsed::Header {
            len: end + 2,
            source: Some(SocketAddr::new(ip, port)),
        }),
        _ => Err(InvalidHeader("unknown family")),
    }
}

fn binary(bytes: &[u8]) -> Result<Parsed, InvalidHeader> {
    let Some((head, rest)) = bytes.split_at_checked(16) else {
        return Ok(Parsed::Partial);
    };
    let size = usize::from(u16::from_be_bytes([head[14], head[15]]));
    if head[12] >> 4 != 2 || head[12] & 0xf > 1 {
        return Err(InvalidHeader("unknown version or command"));
    }
    if 16 + size > LONGEST {
        return Err(InvalidHeader("the header is too long"));
    }
    let Some(rest) = rest.get(..size) else {
        return Ok(Parsed::Partial);
    };
    let port = |at: usize| u16::from_be_bytes([rest[at], rest[at + 1]]);
    // LOCAL: the connection is the balancer's own, for a health check.
    let source = match (head[12] & 0xf, head[13] >> 4) {
        (1, 1) if size >= 12 => {
            let ip = <[u8; 4]>::try_from(&rest[..4]).map(Ipv4Addr::from);
            ip.ok().map(|ip| SocketAddr::new(ip.into(), port(8)))
        }
        (1, 2) if size >= 36 => {
            let ip = <[u8; 16]>::try_from(&rest[..16]).map(Ipv6Addr::from);
            ip.ok().map(|ip| SocketAddr::new(ip.into(), port(32)))
        }
        (1, 1 | 2) => return Err(InvalidHeader("the header is too short for its addresses")),
        _ => None,
    };
    Ok(Parsed::Header {
        len: 16 + size,
        source,
    })
}

/// Checks that a header is understood the same way however its bytes arrive, and is never longer than the bytes.
#[cfg(test)]
pub(crate) fn check_sound(bytes: &[u8]) {
    let whole = parse(bytes);
    if let Ok(Parsed::Header { len, .. }) = whole {
        assert!(len <= bytes.len());
        assert_eq!(parse(&bytes[..len]), whole, "what follows does not matter");
        for some in 0..len {
            assert_eq!(
                parse(&bytes[..some]),
                Ok(Parsed::Partial),
                "of {some} bytes"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(len: usize, source: &str) -> Result<Parsed, InvalidHeader> {
        let source = (!source.is_empty()).then(|| source.parse().unwrap());
        Ok(Parsed::Header { len, source })
    }

    fn v2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([0x20 | command, family, 0, addresses.len() as u8]);
        bytes.extend(addresses);
        bytes
    }

    #[test]
    fn text_headers() {
        for (bytes, parsed) in [
            (
                "PROXY TCP4 1.2.3.4 5.6.7.8 11 22\r\nGET",
                header(34, "1.2.3.4:11"),
            ),
            ("PROXY TCP6 ::1 ::2 11 22\r\n", header(26, "[::1]:11")),
            ("PROXY TCP4 1.2.3.4 5.6", Ok(Parsed::Partial)),
            ("PRO", Ok(Parsed::Partial)),
            ("", Ok(Parsed::Partial)),
            ("GET / HTTP/1.1", Ok(Parsed::Absent)),
        ] {
            assert_eq!(parse(bytes.as_bytes()), parsed, "{bytes:?}");
        }
        for bad in [
            "PROXY UNKNOWN\r\n".to_owned(),
            "PROXY TCP4 ::1 ::2 1 2\r\n".into(),
            "PROXY TCP4 1.2.3.4 5.6.7.8 99999 2\r\n".into(),
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n".into(),
            format!("PROXY {}", "x".repeat(200)),
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn binary_headers() {
        let mut v4 = v2(1, 0x11, &[1, 2, 3, 4, 5, 6, 7, 8, 0, 11, 0, 22, 9, 9]);
        assert_eq!(parse(&v4), header(30, "1.2.3.4:11"));
        assert_eq!(parse(&v4[..20]), Ok(Parsed::Partial));
        assert_eq!(parse(&v4[..5]), Ok(Parsed::Partial));
        v4.extend(b"GET");
        assert_eq!(parse(&v4), header(30, "1.2.3.4:11"));
        let mut addresses = [0; 36];
        (addresses[15], addresses[33]) = (1, 11);
        assert_eq!(parse(&v2(1, 0x21, &addresses)), header(52, "[::1]:11"));
        assert_eq!(parse(&v2(0, 0, &[])), header(16, ""));
        assert_eq!(parse(&v2(1, 0, &[])), header(16, ""));
        assert!(parse(&v2(1, 0x11, &[1])).is_err());
        assert!(parse(&v2(2, 0x11, &[0; 12])).is_err());
    }
}
