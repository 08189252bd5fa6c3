//! Tests of `cupola router` as a process: signals, reload, upgrade. The real binary runs beside a real nats-server. The tests use
//! plain sockets, so that they see exactly what a client sees.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use testkit::nats::NatsServer;
use testkit::net::free_port;
use testkit::wait::block_until;

fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill")
        .args([format!("-{name}"), pid.to_string()])
        .status();
    assert!(sent.unwrap().success(), "send {name} to {pid}");
}

/// A process that is killed when the test ends.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A nats-server, a backend that registers itself repeatedly, and a router with its files.
struct World {
    folder: tempfile::TempDir,
    router: Process,
    log: Arc<Mutex<String>>,
    http: u16,
    health: u16,
    registering: Arc<AtomicBool>,
    nats_port: u16,
    _nats: NatsServer,
    config: String,
}

impl World {
    fn new(extra: &str) -> Self {
        Self::with(extra, None)
    }

    /// Starts a world. `given` is a socket that is passed as systemd does, for `port`.
    fn with(extra: &str, given: Option<TcpListener>) -> Self {
        let nats_port = free_port();
        let nats = NatsServer::open(nats_port);
        let folder = tempfile::tempdir().unwrap();
        let http = given
            .as_ref()
            .map_or_else(free_port, |given| given.local_addr().unwrap().port());
        let (health, routes) = (free_port(), free_port());
        let config = format!(
            "port: {http}
status: {{host: 127.0.0.1, port: {health}, routes: {{port: {routes}}}, user: u, pass: p}}
nats: {{hosts: [{{hostname: 127.0.0.1, port: {nats_port}}}]}}
pid_file: {}
logging: {{level: info}}
disable_keep_alives: false
start_response_delay_interval: 1s
go_max_procs: 2
{extra}",
            folder.path().join("pid").display()
        );
        std::fs::write(folder.path().join("gorouter.yml"), &config).unwrap();
        let (binary, path) = (
            env!("CARGO_BIN_EXE_cupola"),
            folder.path().join("gorouter.yml"),
        );
        let mut command = match given {
            None => {
                let mut command = Command::new(binary);
                command.args(["router", "-c"]).arg(path);
                command.stdin(Stdio::null());
                command
            }
            Some(given) => {
                let mut command = Command::new("sh");
                let activate = "exec 3<&0 </dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\" router -c \"$1\"";
                command.args(["-c", activate, binary]).arg(path);
                command.stdin(OwnedFd::from(given));
                command
            }
        };
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        // A successor writes into the same pipe.
        let log = Arc::<Mutex<String>>::default();
        let (lines, written) = (BufReader::new(child.stdout.take().unwrap()), log.clone());
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                written.lock().unwrap().push_str(&format!("{line}\n"));
            }
        });
        let world = Self {
            folder,
            router: Process(child),
            log,
            http,
            health,
            registering: Arc::new(AtomicBool::new(true)),
            nats_port,
            _nats: nats,
            config,
        };
        world.register();
        block_until("the route to answer", || world.get("app.test") == Some(200));
        world
    }

    /// Registers the backend every 100 ms, as an emitter does every 20 s.
    fn register(&self) {
        let backend = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = backend.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in backend.incoming().map_while(Result::ok) {
                std::thread::spawn(move || answer_all(stream));
            }
        });
        let message = format!(r#"{{"host":"127.0.0.1","port":{port},"uris":["app.test"]}}"#);
        let (running, nats_port) = (self.registering.clone(), self.nats_port);
        std::thread::spawn(move || {
            // The test speaks NATS's text protocol itself; this needs no client library.
            while running.load(Ordering::Relaxed) {
                if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", nats_port)) {
                    let publish = format!(
                        "CONNECT {{\"verbose\":false}}\r\nPUB router.register {}\r\n{message}\r\nPING\r\n",
                        message.len()
                    );
                    let _ = stream.write_all(publish.as_bytes());
                    let mut buffer = [0; 4096];
                    let _ = stream.set_read_timeout(Some(Duration::from_millis(100)));
                    while stream.read(&mut buffer).is_ok_and(|n| n > 0) {}
                }
            }
        });
    }

    fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.http).into()
    }

    /// Sends a request on a connection of its own and returns the status; `None` means no response.
    fn get(&self, host: &str) -> Option<u16> {
        self.get_as(host, "test")
    }

    fn get_as(&self, host: &str, agent: &str) -> Option<u16> {
        let mut client = Client::connect(self.address()).ok()?;
        client.request(host, agent).ok().map(|answer| answer.status)
    }

    fn healthy(&self) -> Option<bool> {
        let mut client = Client::connect(([127, 0, 0, 1], self.health).into()).ok()?;
        let answer = client.ask("GET /health HTTP/1.1\r\nHost: x\r\n\r\n").ok()?;
        Some(answer.status == 200)
    }

    fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    fn pid(&self) -> u32 {
        let text = std::fs::read_to_string(self.folder.path().join("pid"));
        text.ok()
            .and_then(|t| t.trim().parse().ok())
            .unwrap_or_default()
    }

    fn rewrite(&self, text: &str) {
        std::fs::write(self.folder.path().join("gorouter.yml"), text).unwrap();
    }

    fn ended(&mut self) -> Option<bool> {
        let ended = self.router.0.try_wait().unwrap();
        ended.map(|status| status.success())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.registering.store(false, Ordering::Relaxed);
        // A successor is nobody's child any more.
        let (pid, own) = (self.pid(), self.router.0.id());
        let is_ours = std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.contains(&*self.folder.path().to_string_lossy()));
        if pid != own && is_ours {
            let _ = Command::new("kill")
                .args(["-KILL", &pid.to_string()])
                .status();
        }
        if std::thread::panicking() {
            eprintln!("the router's log:\n{}", self.log());
        }
    }
}

/// Sends one response with `content-length: 2` to each request.
fn answer_all(stream: TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    loop {
        let mut line = String::new();
        loop {
            line.clear();
            match reader.read_line(&mut line) {
                Ok(n) if n > 0 => {}
                _ => return,
            }
            if line == "\r\n" {
                break;
            }
        }
        if stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .is_err()
        {
            return;
        }
    }
}

struct Answer {
    status: u16,
    /// Whether the connection accepts no further request.
    closes: bool,
}

struct Client {
    stream: TcpStream,
}

impl Client {
    fn connect(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(30))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream })
    }

    fn request(&mut self, host: &str, agent: &str) -> std::io::Result<Answer> {
        self.ask(&format!(
            "GET / HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\n\r\n"
        ))
    }

    fn ask(&mut self, request: &str) -> std::io::Result<Answer> {
        self.stream.write_all(request.as_bytes())?;
        let mut reader = BufReader::new(&self.stream);
        let (mut status, mut length, mut closes) = (0, 0, false);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let lower = line.trim().to_ascii_lowercase();
            if let Some(rest) = lower.strip_prefix("http/1.1 ") {
                status = rest[..3].parse().unwrap_or_default();
            } else if let Some(n) = lower.strip_prefix("content-length:") {
                length = n.trim().parse().unwrap_or_default();
            } else if let Some(value) = lower.strip_prefix("connection:") {
                closes = value.contains("close");
            } else if lower.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        Ok(Answer { status, closes })
    }
}

/// A load of requests without pause until it is stopped. It returns the errors.
struct Load {
    running: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    threads: Vec<std::thread::JoinHandle<Vec<String>>>,
}

impl Load {
    /// Starts the load. If `keep` is set, a connection is used until the router announces that it closes it.
    fn start(address: SocketAddr, threads: usize, keep: bool) -> Self {
        let running = Arc::new(AtomicBool::new(true));
        let done = Arc::<AtomicU64>::default();
        let threads = (0..threads)
            .map(|_| {
                let (running, done) = (running.clone(), done.clone());
                std::thread::spawn(move || {
                    let mut failures = Vec::new();
                    let mut client: Option<Client> = None;
                    while running.load(Ordering::Relaxed) {
                        let connected = client.take().map_or_else(|| Client::connect(address), Ok);
                        let asked = connected.and_then(|mut client| {
                            let answer = client.request("app.test", "test")?;
                            Ok((client, answer))
                        });
                        match asked {
                            Ok((back, answer)) if answer.status == 200 => {
                                client = Some(back).filter(|_| keep && !answer.closes);
                            }
                            Ok((_, answer)) => failures.push(format!("status {}", answer.status)),
                            Err(error) => failures.push(error.to_string()),
                        }
                        done.fetch_add(1, Ordering::Relaxed);
                        std::thread::sleep(Duration::from_millis(2));
                    }
                    failures
                })
            })
            .collect();
        Self {
            running,
            done,
            threads,
        }
    }

    fn stop(self) -> (u64, Vec<String>) {
        self.running.store(false, Ordering::Relaxed);
        let failures = self.threads.into_iter().flat_map(|t| t.join().unwrap());
        let failures = failures.collect();
        (self.done.load(Ordering::Relaxed), failures)
    }
}

#[test]
fn an_upgrade_under_load_loses_nothing() {
    let mut world = World::new("");
    let before = world.pid();
    assert_eq!(before, world.router.0.id());
    let fresh = Load::start(world.address(), 4, false);
    let kept = Load::start(world.address(), 4, true);
    signal(before, "USR2");
    block_until("the successor to take over", || {
        world.log().contains("gorouter.upgrade.taken-over")
    });
    block_until("the old process to end", || world.ended() == Some(true));
    let after = world.pid();
    assert_ne!(before, after);
    let done = || [&fresh, &kept].map(|load| load.done.load(Ordering::Relaxed));
    let so_far = done();
    block_until("requests at the successor", || {
        let now = done();
        now[0] > so_far[0] + 100 && now.iter().all(|done| *done > 200)
    });
    for (what, load) in [("new connections", fresh), ("kept connections", kept)] {
        let (done, failures) = load.stop();
        assert!(done > 200, "{what}: {done} requests");
        assert!(
            failures.is_empty(),
            "{what}: {} of {done} failed: {:?}",
            failures.len(),
            &failures[..failures.len().min(5)]
        );
    }
    assert_eq!(world.healthy(), Some(true));
    // The successor can be replaced as well.
    signal(after, "USR2");
    block_until("the successor's successor", || {
        let now = world.pid();
        now != after && now != 0
    });
    let last = world.pid();
    block_until("the successor to end", || {
        !PathBuf::from(format!("/proc/{after}")).exists()
    });
    assert_eq!(world.get("app.test"), Some(200));
    signal(last, "TERM");
    block_until("nobody to listen", || world.get("app.test").is_none());
    block_until("the pid file to go", || world.pid() == 0);
}

#[test]
fn a_successor_that_fails_leaves_the_old_one_serving() {
    let mut world = World::new("");
    let pid = world.pid();
    world.rewrite("port: nonsense\n");
    signal(pid, "USR2");
    block_until("the failure to be reported", || {
        world.log().contains("gorouter.upgrade.failed")
    });
    assert!(world.log().contains("is not a port"), "{}", world.log());
    assert_eq!(world.get("app.test"), Some(200));
    assert_eq!((world.healthy(), world.ended()), (Some(true), None));
    assert_eq!(world.pid(), pid);
    // With a corrected configuration the upgrade succeeds.
    world.rewrite(&world.config);
    signal(pid, "USR2");
    block_until("the successor", || world.pid() != pid);
    assert_eq!(world.get("app.test"), Some(200));
}

#[test]
fn a_reload_changes_what_can_change_and_refuses_a_broken_file() {
    let mut world = World::new("");
    let pid = world.pid();
    let mut kept = Client::connect(world.address()).unwrap();
    assert_eq!(kept.request("app.test", "test").unwrap().status, 200);
    assert_eq!(world.get_as("nobody.test", "Probe/2"), Some(404));
    world.rewrite(&format!(
        "{}healthcheck_user_agent: Probe/2\nindex: 5\n",
        world.config
    ));
    signal(pid, "HUP");
    block_until("the new setting", || {
        world.get_as("nobody.test", "Probe/2") == Some(200)
    });
    block_until("a word about what waits for an upgrade", || {
        world.log().contains(r#""key":"index""#)
    });
    world.rewrite("endpoint_timeout: soon\n");
    signal(pid, "HUP");
    block_until("the refusal", || {
        world.log().contains("gorouter.reload-refused")
    });
    assert!(world.log().contains("is not a duration"), "{}", world.log());
    assert_eq!(world.get_as("nobody.test", "Probe/2"), Some(200));
    assert_eq!((world.ended(), world.healthy()), (None, Some(true)));
}

#[test]
fn a_drain_fails_health_first_and_ignores_later_signals() {
    let mut world = World::new("drain_wait: 10s\n");
    let pid = world.pid();
    signal(pid, "USR1");
    block_until("health to fail", || world.healthy() == Some(false));
    assert_eq!(world.get("app.test"), Some(200), "it still serves");
    signal(pid, "TERM");
    block_until("the signal to be ignored", || {
        world.log().contains("gorouter.signal.ignored")
    });
    assert_eq!(world.get("app.test"), Some(200), "it still serves");
    block_until("the end", || world.ended() == Some(true));
    assert!(world.get("app.test").is_none());
    assert_eq!(world.pid(), 0, "the pid file is gone");
}

#[test]
fn a_stop_is_at_once_as_in_gorouter_or_a_drain_without_its_quirks() {
    let mut world = World::new("drain_wait: 600s\n");
    signal(world.pid(), "TERM");
    block_until("the end", || world.ended() == Some(true));
    block_until("the log", || world.log().contains("gorouter.stopping"));

    let mut world = World::new("drain_wait: 10s\ncompat: none\n");
    signal(world.pid(), "TERM");
    block_until("health to fail", || world.healthy() == Some(false));
    assert_eq!(world.get("app.test"), Some(200), "it still serves");
    block_until("the end", || world.ended() == Some(true));
}

/// Runs a router that cannot start, and returns its standard output and error.
fn refused(yml: &str) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gorouter.yml");
    std::fs::write(&path, yml).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_cupola"))
        .args(["router", "-c"])
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut process = Process(child.unwrap());
    let mut code = None;
    block_until("the router to end", || {
        code = process.0.try_wait().unwrap().and_then(|s| s.code());
        code.is_some()
    });
    assert_eq!(code, Some(1), "{yml}");
    let (mut out, mut err) = (String::new(), String::new());
    let (stdout, stderr) = (process.0.stdout.take(), process.0.stderr.take());
    stdout.unwrap().read_to_string(&mut out).unwrap();
    stderr.unwrap().read_to_string(&mut err).unwrap();
    (out, err)
}

#[test]
fn why_it_does_not_start_is_logged_in_gorouters_words() {
    let nobody = free_port();
    let api =
        |keys: &str| format!("routing_api: {{uri: 'http://127.0.0.1', port: {nobody}{keys}}}\n");
    let oauth = |port: u16| {
        format!(
            "oauth: {{token_endpoint: 127.0.0.1, port: {port}, client_name: c, client_secret: s, skip_ssl_validation: true}}
token_fetcher_max_retries: 1
token_fetcher_retry_interval: 10ms
"
        )
    };
    for (yml, message, error) in [
        (
            "enable_ssl: true\n".to_owned(),
            "Error loading config:",
            "tls_pem has no certificate",
        ),
        (
            "port: [\n".to_owned(),
            "Error loading config:",
            "the file is not YAML",
        ),
        (
            "logging: {metron_address: ''}\n".to_owned(),
            "Error loading config:",
            "logging.metron_address is empty",
        ),
        (
            "html_error_template_file: /nowhere/at/all\n".to_owned(),
            "new-html-error-template-from-file",
            "Could not read HTML error template file: html_error_template_file /nowhere/at/all",
        ),
        (
            api("") + &oauth(0),
            "Error loading config:",
            "UAA client requires TLS enabled",
        ),
        (
            api("") + &oauth(nobody),
            "routing-api-connection-failed",
            "unable-to-fetch-token",
        ),
        (
            api(", auth_disabled: true"),
            "routing-api-connection-failed",
            "the Routing API did not answer",
        ),
    ] {
        let (out, err) = refused(&yml);
        let line = out.lines().last().unwrap_or_default();
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(
            (&line["message"], &line["log_level"]),
            (&message.into(), &3.into())
        );
        let logged = line["data"]["error"].as_str().unwrap();
        assert!(logged.contains(error), "{logged}");
        assert!(err.contains(error), "{err}");
    }
}

#[test]
fn the_start_is_logged_in_gorouters_words() {
    // Without gorouter's quirks the router serves although its Routing API does not answer.
    let world = World::new(&format!(
        "compat: none
isolation_segments: [is1, is2]
routing_api: {{uri: 'http://127.0.0.1', port: {}, auth_disabled: true}}
",
        free_port()
    ));
    for words in [
        r#""message":"starting""#,
        r#""data":{"isolation_segments":["is1","is2"],"routing_table_sharding_mode":"all"}"#,
        r#""message":"setting-up-routing-api""#,
        r#""message":"using-noop-token-fetcher""#,
        r#""message":"gorouter.started""#,
    ] {
        block_until(words, || world.log().contains(words));
    }
    let address = format!(
        r#""message":"Successfully-connected-to-nats","source":"vcap.gorouter.nats","data":{{"addr":"127.0.0.1:{0}","host":"127.0.0.1:{0}"}}"#,
        world.nats_port
    );
    block_until(&address, || world.log().contains(&address));
}

#[test]
fn sockets_from_systemd_are_used_and_handed_on() {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    // Binding this address again would fail.
    let _held = listener.try_clone().unwrap();
    let world = World::with("", Some(listener));
    let pid = world.pid();
    signal(pid, "USR2");
    block_until(
        "the successor",
        || !matches!(world.pid(), now if now == pid || now == 0),
    );
    block_until("the old process to accept no more", || {
        world.log().contains("gorouter.handed-over")
    });
    assert_eq!(world.get("app.test"), Some(200));
}

#[test]
fn the_log_level_changes_while_it_runs() {
    let port = free_port();
    let world = World::new(&format!("debug_addr: 127.0.0.1:{port}\n"));
    assert!(!world.log().contains(r#""log_level":0"#));
    let put = |level: &str| {
        let mut client = Client::connect(([127, 0, 0, 1], port).into()).unwrap();
        let request = format!(
            "PUT /log-level HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{level}",
            level.len()
        );
        client.ask(&request).unwrap().status
    };
    assert_eq!(put("loud"), 400);
    assert_eq!(put("debug"), 200);
    let mut client = Client::connect(([127, 0, 0, 1], world.http).into()).unwrap();
    let _ = client.ask("no request\r\n\r\n");
    block_until("a debug line", || world.log().contains(r#""log_level":0"#));
}
