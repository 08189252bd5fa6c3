//! A router and a bus, and the data directory of a foundation that consists of both: the fixture of the commands that show routes.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use testkit::nats::NatsServer;
use testkit::net::free_port;
use testkit::wait::block_until;

/// A process that is killed when the test ends.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A command that runs, and the lines that it has printed.
pub(crate) struct Running {
    process: Process,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Running {
    /// Returns the first printed line that contains the text.
    pub(crate) fn line_with(&self, text: &str) -> Option<String> {
        let lines = self.lines.lock().unwrap();
        lines.iter().find(|line| line.contains(text)).cloned()
    }

    /// Sends SIGINT, as Ctrl-C does.
    pub(crate) fn interrupt(&self) {
        let pid = i32::try_from(self.process.0.id()).unwrap();
        kill(Pid::from_raw(pid), Signal::SIGINT).unwrap();
    }

    /// Waits until the command ends, and returns its exit code.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        let child = &mut self.process.0;
        block_until("the command to end", || child.try_wait().unwrap()).code()
    }
}

/// The router with its bus.
pub(crate) struct Edge {
    data: tempfile::TempDir,
    http: u16,
    status: u16,
    nats: NatsServer,
    _router: Process,
}

impl Edge {
    pub(crate) fn start() -> Self {
        let nats = NatsServer::start(free_port());
        let bus = NatsServer::config(nats.port());
        let (http, health, status) = (free_port(), free_port(), free_port());
        let data = tempfile::tempdir().unwrap();
        let config = format!(
            "port: {http}
status: {{host: 127.0.0.1, port: {health}, routes: {{port: {status}}}, user: router-status, pass: secret}}
nats: {{hosts: [{{hostname: 127.0.0.1, port: {}}}], user: {}, pass: {}}}
pid_file: {}
start_response_delay_interval: 0s
go_max_procs: 1
",
            nats.port(),
            bus.user,
            bus.password,
            data.path().join("pid").display()
        );
        let file = data.path().join("gorouter.yml");
        std::fs::write(&file, config).unwrap();
        let port = |service: &str| match service {
            "nats" => nats.port(),
            _ => status,
        };
        let address = |service: &str| {
            let address = format!("127.0.0.1:{}", port(service));
            json!({"listen": address, "advertise": address})
        };
        let plan = json!({
            "tag": "a", "domain": "a.test", "cell_ip": "10.0.0.1", "http_port": http, "https_port": 443,
            "ports": {"nats": 1, "bbs": 2, "locket": 3, "auctioneer": 4, "rep": 5, "cloud_controller": 6,
                "cloud_controller_internal": 7, "uaa": 8, "log_cache": 9, "log_ingress": 10, "router_status": 11},
            "addresses": {"nats": address("nats"), "router_status": address("router_status")},
            "nats_password": bus.password, "status_password": "secret", "client_secret": "", "admin_user": "admin",
        });
        std::fs::write(data.path().join("foundation.json"), plan.to_string()).unwrap();
        let router = Command::new(env!("CARGO_BIN_EXE_cupola"))
            .args(["router", "-c"])
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let edge = Self {
            data,
            http,
            status,
            nats,
            _router: Process(router),
        };
        // A router serves its pages before it receives registrations, so the first route is published until it is there.
        block_until("the router to receive registrations", || {
            edge.try_publish(
                "router.register",
                r#"{"host":"10.9.9.9","port":9,"uris":["first.test"]}"#,
            )?;
            let page = edge.get("/routes")?;
            let has_route = page.contains("first.test");
            has_route.then_some(()).ok_or(page)
        });
        block_until("the router to accept requests", || {
            TcpStream::connect(("127.0.0.1", http)).map(drop)
        });
        edge
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cupola"));
        command
            .args(args)
            .arg("--data")
            .arg(self.data.path())
            .env_remove("CUPOLA_DATA")
            .env_remove("CF_PASSWORD")
            .env_remove("NATS_PASSWORD")
            // This folder of the cf CLI has no login.
            .env("CF_HOME", self.data.path())
            .stdin(Stdio::null());
        command
    }

    /// Returns the path of a file in the data directory.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.data.path().join(name)
    }

    /// Returns the address of the router's listener for requests.
    pub(crate) fn router(&self) -> String {
        format!("127.0.0.1:{}", self.http)
    }

    /// Returns the bus.
    pub(crate) fn bus(&self) -> &NatsServer {
        &self.nats
    }

    /// Runs a command of the binary on the data directory, and returns its exit code, output and complaints.
    pub(crate) fn cupola(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let output = self.command(args).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr),
        )
    }

    /// Starts a command that runs until the test ends.
    pub(crate) fn begin(&self, args: &[&str]) -> Running {
        let mut child = self.command(args).stdout(Stdio::piped()).spawn().unwrap();
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let (output, written) = (BufReader::new(child.stdout.take().unwrap()), lines.clone());
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                written.lock().unwrap().push(line);
            }
        });
        Running {
            process: Process(child),
            lines,
        }
    }

    /// Publishes a message on the bus and waits until the server has it.
    pub(crate) fn publish(&self, subject: &str, message: &str) {
        block_until("the bus to accept a message", || {
            self.try_publish(subject, message)
        });
    }

    /// Speaks NATS's text protocol, which needs no client library.
    fn try_publish(&self, subject: &str, message: &str) -> Result<(), String> {
        let bus = NatsServer::config(self.nats.port());
        let connect = json!({"verbose": false, "user": bus.user, "pass": bus.password});
        let length = message.len();
        let text = format!("CONNECT {connect}\r\nPUB {subject} {length}\r\n{message}\r\nPING\r\n");
        let answer = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(self.nats.address())?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            stream.write_all(text.as_bytes())?;
            let (mut answer, mut buffer) = (String::new(), [0; 4096]);
            while !answer.contains("PONG") && !answer.contains("-ERR") {
                match stream.read(&mut buffer)? {
                    0 => break,
                    n => answer.push_str(&String::from_utf8_lossy(&buffer[..n])),
                }
            }
            Ok(answer)
        };
        let answer = answer().map_err(|error| error.to_string())?;
        answer.contains("PONG").then_some(()).ok_or(answer)
    }

    /// Kills the bus, and returns its address.
    pub(crate) fn stop_bus(&mut self) -> String {
        self.nats.kill();
        self.nats.address()
    }

    /// Sends a request through the router, and returns the status of the answer.
    pub(crate) fn request(&self, host: &str, path: &str) -> Result<String, String> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        let answer = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.http))?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            stream.write_all(request.as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        let answer = answer().map_err(|error| error.to_string())?;
        let status = answer.split(' ').nth(1).map(str::to_owned);
        status.ok_or(answer)
    }

    /// Returns the body of a page of the router.
    fn get(&self, path: &str) -> Result<String, String> {
        let request =
            format!("GET {path} HTTP/1.0\r\nhost: router\r\nauthorization: Basic {LOGIN}\r\n\r\n");
        let answer = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.status))?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            stream.write_all(request.as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        let answer = answer().map_err(|error| error.to_string())?;
        match answer.split_once("\r\n\r\n") {
            Some((head, body)) if head.contains(" 200 ") => Ok(body.to_owned()),
            _ => Err(answer),
        }
    }

    /// Returns the router's page of changes.
    pub(crate) fn changes(&self) -> Value {
        let page = self.get("/changes").unwrap();
        serde_json::from_str(&page).unwrap()
    }
}

/// The credentials `router-status:secret` of the router's pages.
const LOGIN: &str = "cm91dGVyLXN0YXR1czpzZWNyZXQ=";
