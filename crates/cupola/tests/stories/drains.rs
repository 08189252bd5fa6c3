//! Stories of log drains: an app's lines on their way to a server of syslog, to another app over HTTPS, and to `cf logs`.

use crate::{Story, story};
use anyhow::{Context as _, Result, ensure};
use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use testkit::foundation::{Foundation, binary, wait_for};

pub(crate) const STORIES: &[Story] = &[
    story(
        "drains_get_the_lines_of_bound_apps_alone",
        lines_of_bound_apps,
    ),
    story(
        "drains_of_the_machine_itself_are_refused",
        machine_is_refused,
    ),
    story("drains_and_logs_lose_no_line_of_a_busy_app", busy_app),
];

/// The address of the stories' server of syslog.
const ADDRESS: &str = "127.0.0.9";

/// Drains may have no other address of the machine.
pub(crate) const CONFIG: &str = "log_cache: {drains: {permitted_addresses: [127.0.0.9]}}\n";

/// An app that prints lines on request (`/print/TAG/COUNT/RATE`), and keeps what it receives.
const APP: &str = r#"
import http.server, os, sys, threading, time

received, lock = [], threading.Lock()

def lines(tag, count, rate):
    begin = time.monotonic()
    for n in range(count):
        sys.stdout.write("%s %d\n" % (tag, n))
        if n % 100 == 99:
            sys.stdout.flush()
            time.sleep(max(0, (n + 1) / rate - (time.monotonic() - begin)))
    sys.stdout.flush()

class Page(http.server.BaseHTTPRequestHandler):
    def answer(self, text):
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self):
        parts = self.path.strip("/").split("/")
        if parts[0] == "print":
            threading.Thread(target=lines, args=(parts[1], int(parts[2]), int(parts[3]))).start()
        with lock:
            text = b"".join(received)
        self.answer(text if parts[0] == "received" else b"ok")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with lock:
            received.append(body)
        self.answer(b"")

    def log_message(self, *args):
        pass

http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Page).serve_forever()
"#;

const CHATTY: &str = "chatty";
const SINK: &str = "sink";

/// A server of syslog over TCP.
struct Syslog {
    address: SocketAddr,
    messages: Arc<Mutex<Vec<String>>>,
    open: Arc<AtomicUsize>,
}

impl Syslog {
    fn start() -> Result<Self> {
        let listener = TcpListener::bind((ADDRESS, 0))?;
        let server = Self {
            address: listener.local_addr()?,
            messages: Arc::default(),
            open: Arc::default(),
        };
        let (messages, open) = (server.messages.clone(), server.open.clone());
        // The thread ends with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (messages, open) = (messages.clone(), open.clone());
                open.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || {
                    read(stream, &messages);
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Ok(server)
    }

    /// Returns the messages that contain a text.
    fn with(&self, text: &str) -> Vec<String> {
        let messages = self.messages.lock().expect("no reader panics");
        let found = messages.iter().filter(|message| message.contains(text));
        found.cloned().collect()
    }
}

/// Reads messages behind their lengths until the connection ends.
fn read(mut stream: TcpStream, messages: &Mutex<Vec<String>>) {
    let (mut waiting, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    while let Ok(count) = stream.read(&mut buffer) {
        if count == 0 {
            return;
        }
        waiting.extend_from_slice(&buffer[..count]);
        while let Some(at) = waiting.iter().position(|byte| *byte == b' ') {
            let length = String::from_utf8_lossy(&waiting[..at]).parse::<usize>();
            let Ok(length) = length else {
                return;
            };
            let end = at + 1 + length;
            if waiting.len() < end {
                break;
            }
            let message = String::from_utf8_lossy(&waiting[at + 1..end]).into_owned();
            messages.lock().expect("no reader panics").push(message);
            waiting.drain(..end);
        }
    }
}

/// Pushes the app under a name, unless an earlier story did.
fn push(f: &Foundation, name: &str) -> Result<String> {
    if let Ok(guid) = f.guid(name) {
        return Ok(guid);
    }
    let folder = f.folder().join("chatty");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("app.py"), APP)?;
    std::fs::write(folder.join("Procfile"), "web: python3 app.py\n")?;
    let path = folder.display().to_string();
    f.cf_ok(&["push", name, "-p", &path, "-m", "64M", "-k", "128M"])?;
    f.guid(name)
}

/// Binds the app to a drain.
fn drain(f: &Foundation, name: &str, url: &str) -> Result<()> {
    f.cf_ok(&["cups", name, "-l", url])?;
    f.cf_ok(&["bind-service", CHATTY, name]).map(drop)
}

fn undrain(f: &Foundation, name: &str) -> Result<()> {
    f.cf_ok(&["unbind-service", CHATTY, name])?;
    f.cf_ok(&["delete-service", name, "-f"]).map(drop)
}

fn print(f: &Foundation, tag: &str, count: u32, rate: u32) -> Result<()> {
    let answer = f.get(&f.host(CHATTY), &format!("/print/{tag}/{count}/{rate}"))?;
    ensure!(answer.status == 200, "print: {}", answer.status);
    Ok(())
}

/// Returns what the receiving app got.
fn received(f: &Foundation) -> Result<String> {
    Ok(f.get(&f.host(SINK), "/received")?.body)
}

/// Lets the app print single lines until `check` holds, because a new drain begins within seconds.
fn until_drained(f: &Foundation, what: &str, check: impl Fn() -> Result<bool>) -> Result<()> {
    wait_for(what, 60, || {
        print(f, "probe", 1, 1000)?;
        Ok(check()?.then_some(()))
    })
}

/// Returns the numbers behind a tag in texts such as `… TAG 17`, in their order.
fn numbers<'a>(lines: impl Iterator<Item = &'a str>, tag: &str) -> Vec<u32> {
    let number = |line: &str| {
        let (_, number) = line.trim_end().rsplit_once(&format!("{tag} "))?;
        number.parse().ok()
    };
    lines.filter_map(number).collect()
}

fn lines_of_bound_apps(f: &mut Foundation) -> Result<()> {
    let guid = push(f, CHATTY)?;
    push(f, SINK)?;
    let server = Syslog::start()?;
    drain(f, "tcp-drain", &format!("syslog://{}", server.address))?;
    let https = f.plan["https_port"].to_string();
    drain(
        f,
        "https-drain",
        &format!("https://{}:{https}/logs", f.host(SINK)),
    )?;
    until_drained(f, "lines at both servers", || {
        Ok(!server.with("probe").is_empty() && received(f)?.contains("probe"))
    })?;
    print(f, "line", 500, 1000)?;
    wait_for("all lines", 60, || {
        let by_tcp = numbers(server.with("line ").iter().map(String::as_str), "line");
        let by_https = numbers(received(f)?.lines(), "line");
        ensure!(
            by_tcp.len() == 500 && by_https.len() == 500,
            "{} and {}",
            by_tcp.len(),
            by_https.len()
        );
        let all: Vec<u32> = (0..500).collect();
        Ok((by_tcp == all && by_https == all).then_some(()))
    })?;
    let message = server.with("line 7\n").remove(0);
    let fields: Vec<&str> = message.split(' ').take(6).collect();
    ensure!(
        fields[0] == "<14>1" && fields[1].ends_with("+00:00"),
        "{message}"
    );
    ensure!(
        fields[2..] == ["demo.dev.chatty", &*guid, "[APP/PROC/WEB/0]", "-"],
        "{message}"
    );
    ensure!(message.contains("app_name=\"chatty\""), "{message}");
    let requests = server.with("/print/line/500/1000");
    ensure!(
        requests.iter().any(|request| request.contains(" [RTR/")),
        "{requests:?}"
    );

    // Without its binding the drain gets nothing more, and the other one goes on.
    undrain(f, "tcp-drain")?;
    wait_for("the end of the connection", 60, || {
        Ok((server.open.load(Ordering::SeqCst) == 0).then_some(()))
    })?;
    print(f, "after", 10, 1000)?;
    wait_for("lines at the other server", 60, || {
        Ok(received(f)?.contains("after 9").then_some(()))
    })?;
    ensure!(
        server.with("after").is_empty(),
        "an unbound drain got lines"
    );
    undrain(f, "https-drain")
}

fn machine_is_refused(f: &mut Foundation) -> Result<()> {
    push(f, CHATTY)?;
    let (bus, metadata) = (f.port("nats"), "169.254.169.254:80");
    drain(
        f,
        "to-bus",
        &format!("syslog://user:s3cret@127.0.0.1:{bus}"),
    )?;
    drain(f, "to-link", &format!("https://{metadata}/"))?;
    wait_for("the refusals in the app's log", 60, || {
        print(f, "probe", 1, 1000)?;
        let logs = f.cf_ok(&["logs", CHATTY, "--recent"])?;
        ensure!(!logs.contains("s3cret"), "a password is in the log");
        let is_refused = |url: &str| {
            let text =
                format!("Resolved ip address for syslog drain with url {url} is blacklisted");
            logs.lines()
                .any(|line| line.contains(&text) && line.contains("[LGR/0] ERR"))
        };
        let all = is_refused(&format!("syslog://127.0.0.1:{bus}"))
            && is_refused(&format!("https://{metadata}/"));
        Ok(all.then_some(()))
    })?;
    undrain(f, "to-bus")?;
    undrain(f, "to-link")
}

fn busy_app(f: &mut Foundation) -> Result<()> {
    const COUNT: u32 = 20_000;
    push(f, CHATTY)?;
    let server = Syslog::start()?;
    drain(f, "busy-drain", &format!("syslog://{}", server.address))?;
    let shown = f.folder().join("cf-logs");
    let mut tail = Command::new(binary())
        .args(["cf", "logs", CHATTY])
        .env("CF_HOME", f.folder().join("home"))
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&shown)?)
        .spawn()?;
    let text = || std::fs::read_to_string(&shown).context("read what cf logs printed");
    let ran = until_drained(f, "both ways", || {
        Ok(!server.with("probe").is_empty() && text()?.contains("OUT probe"))
    });
    let ran = ran.and_then(|()| print(f, "busy", COUNT, 2000));
    let ran = ran.and_then(|()| {
        wait_for("the last line on both ways", 60, || {
            let last = format!("busy {}\n", COUNT - 1);
            Ok((!server.with(&last).is_empty() && text()?.contains(&last)).then_some(()))
        })
    });
    tail.kill()?;
    tail.wait()?;
    ran?;
    let drained = numbers(server.with("busy ").iter().map(String::as_str), "busy");
    ensure!(
        drained == (0..COUNT).collect::<Vec<u32>>(),
        "{} lines were drained",
        drained.len()
    );
    let text = text()?;
    let lines = text.lines().filter(|line| line.contains("OUT busy "));
    let printed = numbers(lines, "busy");
    let different: BTreeSet<u32> = printed.iter().copied().collect();
    ensure!(
        printed.len() == COUNT as usize && different.len() == COUNT as usize,
        "cf logs printed {} lines, {} different ones",
        printed.len(),
        different.len()
    );
    // A drain alone carries more than twice as many.
    print(f, "flood", COUNT, 5000)?;
    let last = format!("flood {}\n", COUNT - 1);
    wait_for("the last line of the flood", 60, || {
        Ok((!server.with(&last).is_empty()).then_some(()))
    })?;
    let drained = numbers(server.with("flood ").iter().map(String::as_str), "flood");
    ensure!(
        drained == (0..COUNT).collect::<Vec<u32>>(),
        "{} lines of the flood were drained",
        drained.len()
    );
    undrain(f, "busy-drain")?;
    for app in [CHATTY, SINK] {
        f.cf_ok(&["delete", "-f", "-r", app])?;
    }
    Ok(())
}
