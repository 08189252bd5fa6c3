//! An app to look at a foundation from inside: where am I, and what can I reach? See README.md.

mod client;
mod dns;

use std::collections::BTreeSet;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const MAX_CONNECTIONS: usize = 512;
const MAX_HEAD: u64 = 64 << 10;
const IDLE: Duration = Duration::from_secs(90);

static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);
static EATEN: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

fn main() {
    let port: u16 = std::env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(8080);
    let listener = match TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("listen on port {port}: {error}");
            std::process::exit(1);
        }
    };
    println!("proxy listens on {}", listener.local_addr().map_or_else(|_| port.to_string(), |address| address.to_string()));
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
            std::thread::sleep(Duration::from_millis(50));
            continue;
        };
        if CONNECTIONS.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTIONS {
            CONNECTIONS.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let spawned = std::thread::Builder::new().stack_size(256 << 10).spawn(move || {
            let _ = serve(&stream, port);
            CONNECTIONS.fetch_sub(1, Ordering::Relaxed);
        });
        if spawned.is_err() {
            CONNECTIONS.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

struct Answer {
    status: u16,
    content_type: String,
    body: Vec<u8>,
}

impl Answer {
    fn text(status: u16, body: impl Into<String>) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8".into(), body: body.into().into_bytes() }
    }
    fn json(body: String) -> Self {
        Self { status: 200, content_type: "application/json".into(), body: body.into_bytes() }
    }
}

fn serve(mut stream: &TcpStream, port: u16) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(IDLE))?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader)? {
        let length: u64 = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or_default();
        io::copy(&mut reader.by_ref().take(length), &mut io::sink())?;
        let close = request.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) || request.header("transfer-encoding").is_some();
        let answer = answer(&request, port);
        let connection = if close { "close" } else { "keep-alive" };
        let mut bytes = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n",
            answer.status,
            if answer.status < 400 { "OK" } else { "Error" },
            answer.content_type,
            answer.body.len()
        )
        .into_bytes();
        if request.method != "HEAD" {
            bytes.extend_from_slice(&answer.body);
        }
        stream.write_all(&bytes)?;
        println!("{} {} {}", request.method, request.target.escape_debug(), answer.status);
        if request.target == "/crash" {
            eprintln!("crashing as asked");
            std::process::exit(1);
        }
        if close {
            break;
        }
    }
    Ok(())
}

/// `None` at the end of the connection and for what is no HTTP.
fn read_request(reader: &mut BufReader<&TcpStream>) -> io::Result<Option<Request>> {
    let mut head = reader.by_ref().take(MAX_HEAD);
    let mut line = String::new();
    if head.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return Ok(None) };
    let mut request = Request { method: method.to_owned(), target: target.to_owned(), headers: Vec::new() };
    loop {
        let mut line = String::new();
        if head.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        match line.trim_end().split_once(':') {
            Some((name, value)) => request.headers.push((name.to_owned(), value.trim().to_owned())),
            None => return Ok(Some(request)),
        }
    }
}

fn answer(request: &Request, port: u16) -> Answer {
    let path = request.target.split('?').next().unwrap_or_default();
    match path {
        "/" => Answer::json(format!("{{\"ListenAddresses\":[{}],\"Port\":{port}}}", addresses().iter().map(|address| format!("\"{address}\"")).collect::<Vec<_>>().join(","))),
        "/health" => Answer::text(200, "ok\n"),
        "/id" => Answer::json(id()),
        "/headers" => Answer::text(200, request.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect::<String>()),
        "/crash" => Answer::text(200, "crashing\n"),
        _ => {
            if request.target.starts_with("/proxy/") {
                return fetch(&request.target["/proxy/".len()..]);
            }
            match path.strip_prefix("/memory/").map(str::parse::<usize>) {
                Some(Ok(megabytes)) => eat(megabytes),
                Some(Err(_)) => Answer::text(400, "want /memory/<MB>\n"),
                None => Answer::text(404, "want /, /proxy/<url>, /id, /headers, /memory/<MB>, /crash or /health\n"),
            }
        }
    }
}

fn fetch(url: &str) -> Answer {
    match client::get(url) {
        Ok(fetched) => Answer { status: fetched.status, content_type: fetched.content_type, body: fetched.body },
        Err(reason) => Answer::text(502, format!("request failed: {url}: {reason}\n")),
    }
}

fn id() -> String {
    let variable = |names: &[&str]| names.iter().find_map(|name| std::env::var(name).ok()).unwrap_or_default();
    let application = variable(&["VCAP_APPLICATION"]);
    // The one member of one JSON text: a parser would be most of this program.
    let name = application.split("\"application_name\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
    format!(
        "{{\"instance_guid\":\"{}\",\"instance_index\":\"{}\",\"app\":\"{name}\"}}",
        variable(&["CF_INSTANCE_GUID", "INSTANCE_GUID"]),
        variable(&["CF_INSTANCE_INDEX", "INSTANCE_INDEX"])
    )
}

fn eat(megabytes: usize) -> Answer {
    for _ in 0..megabytes {
        // Every page is written, so that the memory is really used.
        EATEN.lock().expect("no holder panics").push(vec![1; 1 << 20]);
    }
    let eaten = EATEN.lock().expect("no holder panics").len();
    Answer::text(200, format!("{eaten} MB taken\n"))
}

/// The IPv4 addresses of this network namespace, as the kernel's routing table has them; loopback first.
fn addresses() -> Vec<Ipv4Addr> {
    let table = std::fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let mut found = local_addresses(&table);
    if let Some(own) = std::env::var("CF_INSTANCE_INTERNAL_IP").ok().and_then(|text| text.parse().ok()) {
        found.insert(own);
    }
    found.insert(Ipv4Addr::LOCALHOST);
    let (loopback, others): (Vec<_>, Vec<_>) = found.into_iter().partition(Ipv4Addr::is_loopback);
    [loopback, others].concat()
}

fn local_addresses(table: &str) -> BTreeSet<Ipv4Addr> {
    let mut found = BTreeSet::new();
    let mut last: Option<Ipv4Addr> = None;
    for line in table.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse().ok();
        } else if line.starts_with("/32 host LOCAL") {
            found.extend(last);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_routing_table() {
        let table = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\nLocal:\n     |-- 10.255.0.2\n        /32 host LOCAL\n     |-- 127.0.0.0\n        /8 host LOCAL\n     |-- 127.0.0.1\n        /32 host LOCAL\n     |-- 127.255.255.255\n        /32 link BROADCAST\n";
        assert_eq!(Vec::from_iter(local_addresses(table)), [Ipv4Addr::new(10, 255, 0, 2), Ipv4Addr::LOCALHOST]);
    }
}
