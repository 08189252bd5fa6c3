//! Names to IPv4 addresses: /etc/hosts, then the name servers of /etc/resolv.conf. A static program has no other way.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const TIMEOUT: Duration = Duration::from_secs(2);

pub fn resolve(name: &str) -> Result<Ipv4Addr, String> {
    if let Ok(address) = name.parse() {
        return Ok(address);
    }
    if name.eq_ignore_ascii_case("localhost") {
        return Ok(Ipv4Addr::LOCALHOST);
    }
    if let Some(address) = from_hosts(&fs::read_to_string("/etc/hosts").unwrap_or_default(), name) {
        return Ok(address);
    }
    let servers = servers(&fs::read_to_string("/etc/resolv.conf").unwrap_or_default());
    let mut problem = "there is no name server in /etc/resolv.conf".to_owned();
    for server in servers {
        match ask(server, name) {
            Ok(Some(address)) => return Ok(address),
            Ok(None) => return Err(format!("no such host {name}")),
            Err(error) => problem = format!("ask name server {server} for {name}: {error}"),
        }
    }
    Err(problem)
}

fn from_hosts(hosts: &str, name: &str) -> Option<Ipv4Addr> {
    let lines = hosts.lines().map(|line| line.split('#').next().unwrap_or_default());
    lines.filter_map(|line| line.split_once(char::is_whitespace)).find_map(|(address, names)| {
        let named = names.split_whitespace().any(|known| known.eq_ignore_ascii_case(name));
        if named { address.parse().ok() } else { None }
    })
}

fn servers(resolv: &str) -> Vec<IpAddr> {
    resolv.lines().filter_map(|line| line.trim().strip_prefix("nameserver")?.trim().parse().ok()).collect()
}

/// `None`: the name does not exist or has no address.
fn ask(server: IpAddr, name: &str) -> std::io::Result<Option<Ipv4Addr>> {
    let id = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |now| now.subsec_nanos() as u16);
    let socket = UdpSocket::bind(if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.connect(SocketAddr::new(server, 53))?;
    socket.send(&question(id, name))?;
    let mut answer = [0; 1500];
    let length = socket.recv(&mut answer)?;
    Ok(first_address(&answer[..length], id))
}

fn question(id: u16, name: &str) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.trim_end_matches('.').split('.') {
        message.push(label.len().min(63) as u8);
        message.extend(label.bytes().take(63));
    }
    message.extend_from_slice(&[0, 0, 1, 0, 1]);
    message
}

/// The first A record; CNAMEs before it are skipped.
fn first_address(message: &[u8], id: u16) -> Option<Ipv4Addr> {
    let word = |at: usize| Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]));
    if word(0)? != id {
        return None;
    }
    let mut at = skip_name(message, 12)? + 4;
    for _ in 0..word(6)? {
        at = skip_name(message, at)?;
        let (kind, length) = (word(at)?, usize::from(word(at + 8)?));
        let data = message.get(at + 10..at + 10 + length)?;
        if kind == 1 && length == 4 {
            return Some(Ipv4Addr::new(data[0], data[1], data[2], data[3]));
        }
        at += 10 + length;
    }
    None
}

fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length if length >= 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files() {
        let hosts = "127.0.0.1 localhost\n# 1.1.1.1 a.example\n10.0.0.7\tb.example c.example # x\n::1 ip6\n";
        assert_eq!(from_hosts(hosts, "C.example"), Some(Ipv4Addr::new(10, 0, 0, 7)));
        assert_eq!(from_hosts(hosts, "a.example"), None);
        assert_eq!(servers("search x\nnameserver 10.0.0.2\nnameserver ::1\n").len(), 2);
    }

    #[test]
    fn answers() {
        let mut message = question(7, "a.example");
        message[2] = 0x81;
        message[7] = 2;
        message.extend_from_slice(&[0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 2, 0xc0, 14]);
        message.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 10, 1, 2, 3]);
        assert_eq!(first_address(&message, 7), Some(Ipv4Addr::new(10, 1, 2, 3)));
        assert_eq!(first_address(&message, 8), None);
        assert_eq!(first_address(&message[..20], 7), None);
    }
}
