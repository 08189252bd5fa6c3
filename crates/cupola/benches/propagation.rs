//! `make bench`: how long a change of a route takes until a client sees it, and what a foundation costs in memory.
//!
//! Everything is measured from outside: plain sockets to the router, the public API, `/proc`. Prints one table.

#[path = "../tests/stories/foundation.rs"]
#[allow(dead_code, reason = "the stories use more of it")]
mod foundation;

use anyhow::{Context as _, Result, ensure};
use foundation::{Foundation, example, sh};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const ROUNDS: usize = 200;

fn main() -> Result<()> {
    let began = Instant::now();
    let mut f = Foundation::boot("", foundation::Mode::OneProcess)?;
    println!(
        "first `up` of an empty data directory to successful login        {:>8.2} s",
        began.elapsed().as_secs_f64()
    );
    f.stop_cleanly()?;
    let mut ups = Vec::new();
    for _ in 0..3 {
        let began = Instant::now();
        f.up()?;
        f.cf_ok(&["auth", "admin", foundation::PASSWORD])?;
        ups.push(began.elapsed());
        f.stop_cleanly()?;
    }
    f.up()?;
    row("`up` on existing data to successful login", &ups);

    let mut pushes = Vec::new();
    for round in 0..5 {
        let name = format!("bench{round}");
        let began = Instant::now();
        f.cf_ok(&[
            "push",
            &name,
            "-p",
            &example("proxy/bin"),
            "-b",
            "binary_buildpack",
            "-c",
            "./proxy",
            "-m",
            "64M",
            "-k",
            "128M",
        ])?;
        ensure!(
            f.get(&f.host(&name), "/")?.status == 200,
            "no 200 after push"
        );
        pushes.push(began.elapsed());
    }
    row("push of the prebuilt proxy app to first 200", &pushes);

    let api = Api::new(&f)?;
    let app = f.guid("bench0")?;
    let domains = f.cf_curl("/v3/domains")?;
    let domain = domains["resources"][0]["guid"]
        .as_str()
        .context("no domain")?
        .to_owned();
    let spaces = f.cf_curl("/v3/spaces?names=dev")?;
    let space = spaces["resources"][0]["guid"]
        .as_str()
        .context("no space")?
        .to_owned();
    let (mut answered, mut live, mut unanswered, mut gone) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut control = Connection::open(api.port)?;
    let mut data = Connection::open(api.port)?;
    for round in 0..ROUNDS {
        let host = format!("round{round}");
        let body = format!(
            r#"{{"host":"{host}","relationships":{{"space":{{"data":{{"guid":"{space}"}}}},"domain":{{"data":{{"guid":"{domain}"}}}}}}}}"#
        );
        let route = json(&control.request(&api.call("POST", "/v3/routes", &body))?)?["guid"]
            .as_str()
            .context("no route guid")?
            .to_owned();
        let path = format!("/v3/routes/{route}/destinations");
        let visible = format!("{host}.{}", f.domain);

        let sent = Instant::now();
        let call = api.call(
            "POST",
            &path,
            &format!(r#"{{"destinations":[{{"app":{{"guid":"{app}"}}}}]}}"#),
        );
        let port = api.port;
        let mapping = std::thread::spawn(move || -> Result<(Duration, Vec<u8>, Connection)> {
            let mut control = control;
            let answer = control.request(&call)?;
            ensure!(
                status(&answer) == 200,
                "map-route: {}",
                String::from_utf8_lossy(&answer)
            );
            Ok((sent.elapsed(), answer, control))
        });
        live.push(poll(&mut data, &visible, 200, sent)?);
        let (took, answer, connection) =
            mapping.join().expect("the mapping thread does not panic")?;
        control = connection;
        answered.push(took);
        let destination = json(&answer)?["destinations"][0]["guid"]
            .as_str()
            .context("no destination guid")?
            .to_owned();

        let sent = Instant::now();
        let call = api.call("DELETE", &format!("{path}/{destination}"), "");
        let unmapping = std::thread::spawn(move || -> Result<(Duration, Connection)> {
            let mut control = control;
            let answer = control.request(&call)?;
            ensure!(
                status(&answer) == 204,
                "unmap-route: {}",
                String::from_utf8_lossy(&answer)
            );
            Ok((sent.elapsed(), control))
        });
        gone.push(poll(&mut data, &visible, 404, sent)?);
        let (took, connection) = unmapping
            .join()
            .expect("the unmapping thread does not panic")?;
        control = connection;
        unanswered.push(took);
        if round % 50 == 49 {
            eprintln!("   … {} of {ROUNDS} rounds, port {port}", round + 1);
        }
    }
    row("map-route sent → answered", &answered);
    row("map-route sent → first 200 through the router", &live);
    row("unmap-route sent → answered", &unanswered);
    row("unmap-route sent → first 404 through the router", &gone);

    for round in 5..10 {
        f.cf_ok(&[
            "push",
            &format!("bench{round}"),
            "-p",
            &example("proxy/bin"),
            "-b",
            "binary_buildpack",
            "-c",
            "./proxy",
            "-m",
            "64M",
            "-k",
            "128M",
        ])?;
    }
    std::thread::sleep(Duration::from_secs(5));
    let pss = |pattern: &str| -> Result<f64> {
        let text = sh(&format!(
            "total=0; for p in $(pgrep -f '{pattern}'); do v=$(awk '/^Pss:/{{print $2}}' /proc/$p/smaps_rollup 2>/dev/null); total=$((total + ${{v:-0}})); done; echo $total"
        ))?;
        Ok(text.trim().parse::<f64>()? / 1024.0)
    };
    println!(
        "memory with 10 apps: cupola {:.0} MB, shims and inits {:.0} MB PSS (without nats-server, Envoys, apps)",
        pss("cupola up --http")?,
        pss("inside|shim|/init")?
    );
    f.stop_cleanly()
}

struct Api {
    port: u16,
    host: String,
    token: String,
}

impl Api {
    fn new(f: &Foundation) -> Result<Self> {
        let port = f.plan["http_port"]
            .as_u64()
            .and_then(|p| u16::try_from(p).ok())
            .context("no port")?;
        Ok(Self {
            port,
            host: f.host("api"),
            token: f.cf_ok(&["oauth-token"])?.trim().to_owned(),
        })
    }

    fn call(&self, method: &str, path: &str, body: &str) -> Vec<u8> {
        format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", self.host, self.token, body.len()).into_bytes()
    }
}

/// One keep-alive connection.
struct Connection {
    stream: TcpStream,
}

impl Connection {
    fn open(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok(Self { stream })
    }

    /// Head and body of the answer (Content-Length or chunked bodies).
    fn request(&mut self, request: &[u8]) -> Result<Vec<u8>> {
        self.stream.write_all(request)?;
        let mut answer = Vec::new();
        let mut buffer = [0; 16384];
        loop {
            let count = self.stream.read(&mut buffer)?;
            ensure!(
                count > 0,
                "connection closed: {}",
                String::from_utf8_lossy(&answer)
            );
            answer.extend_from_slice(&buffer[..count]);
            let Some(end) = answer
                .windows(4)
                .position(|w| w == b"\r\n\r\n")
                .map(|p| p + 4)
            else {
                continue;
            };
            let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
            let length = head
                .lines()
                .find_map(|l| l.strip_prefix("content-length:"))
                .and_then(|v| v.trim().parse::<usize>().ok());
            let whole = match length {
                Some(length) => answer.len() >= end + length,
                None if head.contains("transfer-encoding: chunked") => {
                    answer.ends_with(b"0\r\n\r\n")
                }
                None => true,
            };
            if whole {
                return Ok(answer);
            }
        }
    }
}

fn status(answer: &[u8]) -> u16 {
    std::str::from_utf8(answer.get(9..12).unwrap_or_default())
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or_default()
}

fn json(answer: &[u8]) -> Result<serde_json::Value> {
    let at = answer
        .iter()
        .position(|&b| b == b'{')
        .context("no JSON in the answer")?;
    let end = answer
        .iter()
        .rposition(|&b| b == b'}')
        .context("no JSON in the answer")?;
    serde_json::from_slice(&answer[at..=end])
        .with_context(|| String::from_utf8_lossy(answer).into_owned())
}

/// Time from `since` until the route answers with `wanted`.
fn poll(connection: &mut Connection, host: &str, wanted: u16, since: Instant) -> Result<Duration> {
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
    while since.elapsed() < Duration::from_secs(20) {
        if status(&connection.request(&request)?) == wanted {
            return Ok(since.elapsed());
        }
        std::thread::sleep(Duration::from_micros(300));
    }
    anyhow::bail!("{host} did not answer {wanted} within 20 s")
}

fn row(what: &str, times: &[Duration]) {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let at =
        |q: f64| sorted[((sorted.len() - 1) as f64 * q).round() as usize].as_secs_f64() * 1000.0;
    println!(
        "{what:<64} p50 {:>8.1} ms   p99 {:>8.1} ms   (n = {})",
        at(0.5),
        at(0.99),
        sorted.len()
    );
}
