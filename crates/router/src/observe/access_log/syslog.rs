//! Sends access log lines to a syslog server (RFC 5424, by UDP or TCP), as gorouter does. A thread of its own does the network; a
//! server that is slow or absent costs lines, which are counted, and never delays a request.

use crate::config::Syslog;
use anyhow::{Context as _, Result};
use std::io::{self, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime};
use time::OffsetDateTime;

/// The largest number of lines that wait.
const CAPACITY: usize = 8192;
/// The longest wait for the server's network.
const PATIENCE: Duration = Duration::from_secs(2);
/// The pause after a failure.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Sender {
    lines: SyncSender<String>,
    dropped: Arc<AtomicU64>,
    truncate: usize,
}

impl Sender {
    /// Starts the sender. `compat`: the header is gorouter's to the byte, which leaves structured data out.
    pub(super) fn open(settings: &Syslog, compat: bool) -> Result<Self> {
        let (sender, lines) = sync_channel(CAPACITY);
        let dropped = Arc::<AtomicU64>::default();
        let line = Form {
            host: hostname(),
            tag: settings.tag.clone(),
            pid: std::process::id(),
            compat,
        };
        let (settings, lost) = (settings.clone(), dropped.clone());
        let truncate = settings.truncate;
        std::thread::Builder::new()
            .name("access-syslog".into())
            .spawn(move || run(&settings, &line, &lines, &lost))
            .context("start the syslog thread")?;
        Ok(Self {
            lines: sender,
            dropped,
            truncate,
        })
    }

    pub(super) fn send(&self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        let line = cut(&line, self.truncate).to_owned();
        if self.lines.try_send(line).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Returns at most `most` bytes of the line; 0: all.
fn cut(line: &str, most: usize) -> &str {
    if most == 0 || line.len() <= most {
        return line;
    }
    let end = (0..=most).rev().find(|&at| line.is_char_boundary(at));
    &line[..end.unwrap_or(0)]
}

/// The values of the header before each line.
struct Form {
    host: String,
    tag: String,
    pid: u32,
    compat: bool,
}

impl Form {
    /// Returns the message: user facility, informational.
    fn of(&self, at: SystemTime, line: &str) -> String {
        let at = OffsetDateTime::from(at);
        let (date, time) = (at.date(), at.time());
        let (hour, minute, second) = time.as_hms();
        let data = if self.compat { "-" } else { "- -" };
        format!(
            "<14>1 {date}T{hour:02}:{minute:02}:{second:02}Z {} {} {} {data} \u{feff}{line}",
            self.host, self.tag, self.pid
        )
    }
}

fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "-" } else { name }.to_owned()
}

enum Connection {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl Connection {
    fn open(settings: &Syslog) -> io::Result<Self> {
        let mut addresses = settings.address.to_socket_addrs()?;
        let address = addresses
            .next()
            .ok_or_else(|| io::Error::other("its name has no address"))?;
        if settings.tcp {
            let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
            stream.set_write_timeout(Some(PATIENCE))?;
            return Ok(Self::Tcp(stream));
        }
        let any = if address.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect(address)?;
        Ok(Self::Udp(socket))
    }

    fn send(&mut self, mut message: String) -> io::Result<()> {
        match self {
            Self::Udp(socket) => socket.send(message.as_bytes()).map(|_| ()),
            Self::Tcp(stream) => {
                message.push('\n');
                stream.write_all(message.as_bytes())
            }
        }
    }
}

fn run(settings: &Syslog, form: &Form, lines: &Receiver<String>, dropped: &AtomicU64) {
    let mut connection = None;
    let mut again_at = Instant::now();
    while let Ok(line) = lines.recv() {
        if connection.is_none() && Instant::now() >= again_at {
            connection = Connection::open(settings)
                .inspect_err(|error| {
                    tracing::warn!(%error, address = settings.address, "syslog-connect-failed");
                    again_at = Instant::now() + PAUSE;
                })
                .ok();
        }
        let Some(open) = &mut connection else {
            dropped.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        if let Err(error) = open.send(form.of(SystemTime::now(), &line)) {
            tracing::warn!(%error, address = settings.address, "syslog-send-failed");
            dropped.fetch_add(1, Ordering::Relaxed);
            connection = None;
            again_at = Instant::now() + PAUSE;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader};
    use std::net::TcpListener;

    #[test]
    fn the_header_is_gorouters_or_the_standards() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
        let mut form = Form {
            host: "h".into(),
            tag: "gorouter".into(),
            pid: 7,
            compat: true,
        };
        assert_eq!(
            form.of(at, "line"),
            "<14>1 2020-09-13T12:26:40Z h gorouter 7 - \u{feff}line"
        );
        form.compat = false;
        assert!(form.of(at, "line").ends_with(" 7 - - \u{feff}line"));
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("aé", 0), "aé");
    }

    fn settings(address: String, tcp: bool) -> Syslog {
        Syslog {
            address,
            tcp,
            tag: "gorouter".into(),
            truncate: 8,
        }
    }

    #[test]
    fn lines_arrive_by_tcp_and_by_udp() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let sender = Sender::open(&settings(address, true), true).unwrap();
        sender.send(b"one two three");
        let mut line = String::new();
        BufReader::new(listener.accept().unwrap().0)
            .read_line(&mut line)
            .unwrap();
        assert!(line.ends_with(" - \u{feff}one two \n"), "{line:?}");

        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let address = socket.local_addr().unwrap().to_string();
        let sender = Sender::open(&settings(address, false), true).unwrap();
        sender.send(b"x");
        let mut buffer = [0; 512];
        let n = socket.recv(&mut buffer).unwrap();
        assert!(buffer[..n].ends_with("\u{feff}x".as_bytes()));
    }

    #[test]
    fn a_server_that_does_not_read_costs_lines_and_no_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut settings = settings(address, true);
        settings.truncate = 0;
        let sender = Sender::open(&settings, true).unwrap();
        let line = "x".repeat(8192);
        let started = Instant::now();
        for _ in 0..CAPACITY * 2 {
            sender.send(line.as_bytes());
        }
        assert!(sender.dropped() > 0);
        // Waiting for the server would take two seconds for each of thousands of lines.
        let took = started.elapsed();
        assert!(took < Duration::from_secs(60), "{took:?}");
    }
}
