//! `bench idle-sockets`: opens WebSockets, prints how many, and holds them until its stdin ends.

use anyhow::{Result, ensure};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

pub(crate) fn run(port: u16, host: &str, count: usize) -> Result<()> {
    let request = format!(
        "GET /socket HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.write_all(request.as_bytes())?;
        let mut head = Vec::new();
        let mut byte = [0; 512];
        while !head.ends_with(b"\r\n\r\n") {
            let read = stream.read(&mut byte)?;
            ensure!(
                read > 0,
                "closed during the upgrade: {}",
                String::from_utf8_lossy(&head)
            );
            head.extend_from_slice(&byte[..read]);
        }
        ensure!(
            head.starts_with(b"HTTP/1.1 101"),
            "no upgrade: {}",
            String::from_utf8_lossy(&head)
        );
        sockets.push(stream);
    }
    println!("{}", sockets.len());
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
