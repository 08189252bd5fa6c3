//! logs: the lines of one busy app on their way to a log drain and to `cf logs`, at rising rates. It boots a foundation of its own. A line's
//! lag is the time from its timestamp, which the cell sets, until the server of the drain has it.

use super::progress;
use crate::rig::Effort;
use crate::table::{Table, verdict};
use anyhow::{Context as _, Result, bail, ensure};
use route_timing::statistics::{quantile, sorted};
use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use testkit::foundation::{Foundation, Mode, binary, wait_for};

/// The address of the drain's server, which the foundation's configuration permits.
const ADDRESS: &str = "127.0.0.9";
/// The rates in lines per second. A drain must lose nothing at those up to the first constant, and `cf logs` at those up to the second.
const RATES: &[u32] = &[1000, 2000, 5000, 10_000];
const OF_DRAINS: u32 = 5000;
const OF_CF_LOGS: u32 = 2000;

/// An app that prints lines of 100 bytes on request: `/TAG/COUNT/RATE`.
const APP: &str = r#"
import http.server, os, sys, threading, time

def lines(tag, count, rate):
    begin = time.monotonic()
    for n in range(count):
        sys.stdout.write(("%s %d " % (tag, n)).ljust(99, "x") + "\n")
        if n % 50 == 49:
            sys.stdout.flush()
            time.sleep(max(0, (n + 1) / rate - (time.monotonic() - begin)))
    sys.stdout.flush()

class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        parts = self.path.strip("/").split("/")
        if len(parts) == 3:
            threading.Thread(target=lines, args=(parts[0], int(parts[1]), int(parts[2]))).start()
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args):
        pass

http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Page).serve_forever()
"#;

/// A line as the drain's server received it.
struct Received {
    text: String,
    lag_ms: f64,
}

type Lines = Arc<Mutex<Vec<Received>>>;

pub(super) fn run(effort: Effort) -> Result<String> {
    let seconds = if effort.rounds > 1 { 20 } else { 3 };
    let config = format!("log_cache: {{drains: {{permitted_addresses: [{ADDRESS}]}}}}\n");
    let mut f = Foundation::boot(&config, Mode::OneProcess, None)?;
    let measured = measure(&f, seconds);
    f.stop_cleanly()?;
    measured
}

fn measure(f: &Foundation, seconds: u32) -> Result<String> {
    let (address, lines) = serve()?;
    push(f)?;
    f.cf_ok(&["cups", "drain", "-l", &format!("syslog://{address}")])?;
    f.cf_ok(&["bind-service", "lines", "drain"])?;
    wait_for("the drain", 60, || {
        print(f, "probe", 1, 1000)?;
        Ok((!numbers(&lines, "probe").is_empty()).then_some(()))
    })?;
    let mut table = Table::new(&[
        "Lines/s",
        "printed",
        "drained",
        "lag ms p50",
        "p99",
        "max",
        "drain must lose nothing",
        "`cf logs`",
        "must print each once",
    ]);
    for rate in RATES {
        let (count, tag) = (rate * seconds, format!("r{rate}"));
        let mut tail = Tail::start(f, &tag)?;
        print(f, &tag, count, *rate)?;
        await_lines(&lines, &tag, count, seconds);
        let drained = numbers(&lines, &tag);
        let is_whole = drained == (0..count).collect::<Vec<u32>>();
        let printed = tail.stop(&tag, count)?;
        let different: BTreeSet<u32> = printed.iter().copied().collect();
        let is_printed = printed.len() == different.len() && different.len() == count as usize;
        let lags = lags(&lines, &tag);
        let [p50, p99, most] = [0.5, 0.99, 1.0].map(|q| format!("{:.1}", quantile(&lags, q)));
        let must = |most: u32, met: bool, number: usize| match *rate <= most {
            true => verdict(met, &format!("{number} of {count}")),
            false => "–".to_owned(),
        };
        table.row(&[
            rate.to_string(),
            count.to_string(),
            drained.len().to_string(),
            p50,
            p99,
            most,
            must(OF_DRAINS, is_whole, drained.len()),
            printed.len().to_string(),
            must(OF_CF_LOGS, is_printed, different.len()),
        ]);
        progress(&format!("   {rate} lines/s measured"));
    }
    Ok(table.to_string())
}

fn push(f: &Foundation) -> Result<()> {
    let folder = f.folder().join("lines");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("app.py"), APP)?;
    std::fs::write(folder.join("Procfile"), "web: python3 app.py\n")?;
    let path = folder.display().to_string();
    f.cf_ok(&["push", "lines", "-p", &path, "-m", "64M", "-k", "128M"])
        .map(drop)
}

fn print(f: &Foundation, tag: &str, count: u32, rate: u32) -> Result<()> {
    let answer = f.get(&f.host("lines"), &format!("/{tag}/{count}/{rate}"))?;
    ensure!(answer.status == 200, "the app answered {}", answer.status);
    Ok(())
}

/// Waits until the last line has arrived, or until none has come for five seconds after the app should have printed all.
fn await_lines(lines: &Lines, tag: &str, count: u32, seconds: u32) {
    let printed = Instant::now() + Duration::from_secs(u64::from(seconds));
    let (mut before, mut changed) = (0, Instant::now());
    loop {
        let numbers = numbers(lines, tag);
        if numbers.last() == Some(&(count - 1)) {
            return;
        }
        if numbers.len() > before {
            (before, changed) = (numbers.len(), Instant::now());
        }
        let is_over = changed.elapsed() > Duration::from_secs(5) && Instant::now() > printed;
        if is_over {
            return;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Returns the numbers of the lines with a tag, in the order in which they arrived.
fn numbers(lines: &Lines, tag: &str) -> Vec<u32> {
    let lines = lines.lock().expect("no reader panics");
    let found = lines.iter().filter_map(|line| number(&line.text, tag));
    found.collect()
}

/// Returns the number of a line such as `… TAG 17 xxx`.
fn number(line: &str, tag: &str) -> Option<u32> {
    let (_, rest) = line.split_once(&format!(" {tag} "))?;
    rest.split(' ').next()?.parse().ok()
}

fn lags(lines: &Lines, tag: &str) -> Vec<f64> {
    let lines = lines.lock().expect("no reader panics");
    let of_tag = lines
        .iter()
        .filter(|line| number(&line.text, tag).is_some());
    sorted(&of_tag.map(|line| line.lag_ms).collect::<Vec<f64>>())
}

/// Serves syslog over TCP. The threads end with the process.
fn serve() -> Result<(SocketAddr, Lines)> {
    let listener = TcpListener::bind((ADDRESS, 0)).context("listen for the drain")?;
    let (address, lines) = (listener.local_addr()?, Lines::default());
    let received = lines.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let received = received.clone();
            std::thread::spawn(move || read(stream, &received));
        }
    });
    Ok((address, lines))
}

fn read(mut stream: TcpStream, lines: &Lines) {
    let (mut waiting, mut buffer) = (Vec::new(), vec![0; 256 << 10]);
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        let now = of_day(SystemTime::now());
        waiting.extend_from_slice(&buffer[..count]);
        let mut from = 0;
        while let Some(at) = waiting[from..].iter().position(|byte| *byte == b' ') {
            let begin = from + at + 1;
            let length = String::from_utf8_lossy(&waiting[from..begin - 1]).parse::<usize>();
            let Ok(length) = length else { return };
            if waiting.len() < begin + length {
                break;
            }
            from = begin + length;
            let text = String::from_utf8_lossy(&waiting[begin..from]).into_owned();
            let lag_ms = now - logged(&text).unwrap_or(now);
            let mut lines = lines.lock().expect("no reader panics");
            lines.push(Received { text, lag_ms });
        }
        waiting.drain(..from);
    }
}

/// Returns the milliseconds of the day, in UTC.
fn of_day(time: SystemTime) -> f64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs_f64() % 86_400.0 * 1000.0
}

/// Returns the time of a message in milliseconds of the day: that of `<14>1 2026-11-30T08:00:00.5+00:00 …` is 28,800,500.
fn logged(message: &str) -> Option<f64> {
    let (_, time) = message.split_once('T')?;
    let (time, _) = time.split_once('+')?;
    let mut parts = time.split(':').map(str::parse::<f64>);
    let mut part = || parts.next()?.ok();
    let (hours, minutes, seconds) = (part()?, part()?, part()?);
    Some(((hours * 60.0 + minutes) * 60.0 + seconds) * 1000.0)
}

/// A running `cf logs`, which is killed when it is dropped.
struct Tail {
    child: Child,
    shown: std::path::PathBuf,
}

impl Drop for Tail {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Tail {
    /// Starts `cf logs` and waits until it prints lines.
    fn start(f: &Foundation, tag: &str) -> Result<Self> {
        let shown = f.folder().join(format!("cf-logs-{tag}"));
        let child = Command::new(binary())
            .args(["cf", "logs", "lines"])
            .env("CF_HOME", f.folder().join("home"))
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(&shown)?)
            .spawn()
            .context("start cf logs")?;
        let tail = Self { child, shown };
        wait_for("the first line of cf logs", 60, || {
            print(f, "probe", 1, 1000)?;
            Ok(text(&tail.shown)?.contains(" probe 0 ").then_some(()))
        })?;
        Ok(tail)
    }

    /// Waits until the last line is printed, for ten seconds at most. Returns the numbers of the printed lines, and ends the program.
    fn stop(&mut self, tag: &str, count: u32) -> Result<Vec<u32>> {
        let last = format!(" {tag} {} ", count - 1);
        let until = Instant::now() + Duration::from_secs(10);
        while !text(&self.shown)?.contains(&last) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(200));
        }
        if let Some(status) = self.child.try_wait()? {
            bail!("cf logs ended with {status}");
        }
        self.child.kill()?;
        let text = text(&self.shown)?;
        Ok(text.lines().filter_map(|line| number(line, tag)).collect())
    }
}

fn text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_a_number_and_a_time() {
        let line = "<14>1 2026-11-30T08:00:00.5+00:00 o.s.a g [APP/PROC/WEB/0] - [tags@47450 a=\"b\"] r1000 17 xxx\n";
        assert_eq!(number(line, "r1000"), Some(17));
        assert_eq!(number(line, "r100"), None);
        assert_eq!(logged(line), Some(28_800_500.0));
        assert_eq!(of_day(UNIX_EPOCH + Duration::from_secs(86_401)), 1000.0);
    }
}
