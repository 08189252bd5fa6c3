//! The sshd and the file server, with OpenSSH's clients. Each call is bounded by `timeout`.

use crate::fixture::{Folder, INSIDE};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use testkit::wait::block_until;

/// The bound of an answer.
const BOUND: Duration = Duration::from_secs(60);

/// A running sshd with the folder of an app, and the key that may log in.
struct Sshd {
    folder: Folder,
    port: u16,
    process: Child,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn key(path: &Path) {
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"])
        .arg(path)
        .status()
        .expect("OpenSSH's client is installed (scripts/setup-tests)");
    assert!(made.success());
}

impl Sshd {
    fn start(name: &str) -> Self {
        let folder = Folder::new(name);
        for name in ["user", "host", "other"] {
            key(&folder.path(name));
        }
        let read = |name: &str| fs::read_to_string(folder.path(name)).unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        // A test run under nohup ignores SIGHUP; the sshd must not inherit that. `env` becomes the sshd.
        let process = Command::new("env")
            .args(["--default-signal=HUP", INSIDE, "diego-sshd"])
            .arg(format!("-address=127.0.0.1:{port}"))
            .arg(format!("-hostKey={}", read("host")))
            .arg(format!("-authorizedKey={}", read("user.pub").trim()))
            .args(["-inheritDaemonEnv", "-logLevel=fatal"])
            .env("COLOUR", "blue")
            .env("VCAP_APPLICATION", r#"{"name":"dora"}"#)
            .env("CF_INSTANCE_INDEX", "3")
            .current_dir(folder.path(""))
            .spawn()
            .unwrap();
        block_until("the sshd", || TcpStream::connect(("127.0.0.1", port)).ok());
        Self {
            folder,
            port,
            process,
        }
    }

    /// Returns the options of all clients.
    fn options(&self, key: &str) -> Vec<String> {
        let mut options = vec!["-F".to_owned(), "none".to_owned(), "-q".to_owned()];
        for option in [
            "BatchMode=yes",
            "IdentitiesOnly=yes",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "User=vcap",
            &format!("Port={}", self.port),
            &format!("IdentityFile={}", self.folder.path(key).display()),
        ] {
            options.extend(["-o".to_owned(), option.to_owned()]);
        }
        options
    }

    fn client(&self, program: &str) -> Command {
        let mut client = Command::new("timeout");
        client.args(["60", program]).args(self.options("user"));
        client
    }

    fn ssh(&self, args: &[&str]) -> Output {
        let mut ssh = self.client("ssh");
        ssh.args(args).stdin(Stdio::null()).output().unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_command_has_streams_and_an_exit_code() {
    let sshd = Sshd::start("ssh-command");
    let output = sshd.ssh(&["127.0.0.1", "echo out; echo err >&2; exit 7"]);
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert_eq!(
        (&*output.stdout, &*output.stderr),
        (&b"out\n"[..], &b"err\n"[..])
    );
    let killed = sshd.ssh(&["127.0.0.1", "kill -TERM $$"]);
    assert_eq!(killed.status.code(), Some(255), "{killed:?}");
}

#[test]
fn a_session_has_the_apps_environment_and_folder() {
    let sshd = Sshd::start("ssh-environment");
    sshd.folder
        .file(".profile.d/a.sh", "echo noise; export FROM_PROFILE=1")
        .file(".profile", "export FROM_APP=2");
    let command = "pwd; echo $HOME $COLOUR $FROM_PROFILE $FROM_APP; echo $VCAP_APPLICATION; env";
    let output = sshd.ssh(&["127.0.0.1", command]);
    let (app, shown) = (sshd.folder.path("app"), text(&output.stdout));
    let app = app.display();
    assert!(
        shown.starts_with(&format!("{app}\n{app} blue 1 2\n")),
        "{shown}"
    );
    assert!(shown.contains(r#""instance_index":3"#), "{shown}");
    assert!(
        !shown.contains("noise") && !shown.contains("PRIVATE KEY"),
        "{shown}"
    );

    let mut shell = sshd
        .client("ssh")
        .arg("127.0.0.1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = shell.stdin.take().unwrap();
    input.write_all(b"echo $COLOUR\nexit 3\n").unwrap();
    drop(input);
    let output = shell.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), &*output.stdout),
        (Some(3), &b"blue\n"[..])
    );
}

#[test]
fn a_terminal_is_a_terminal() {
    let sshd = Sshd::start("ssh-terminal");
    let output = sshd.ssh(&["-tt", "127.0.0.1", "test -t 0 && test -t 1 && tty"]);
    assert!(text(&output.stdout).starts_with("/dev/pts/"), "{output:?}");
    let output = sshd.ssh(&["-T", "127.0.0.1", "test -t 0 || echo none"]);
    assert_eq!(output.stdout, b"none\n");
}

#[test]
fn much_data_goes_both_ways_at_once() {
    const SIZE: usize = 30 << 20;
    let sshd = Sshd::start("ssh-data");
    let (sent, received) = (sshd.folder.path("sent"), sshd.folder.path("received"));
    let content: Vec<u8> = (0..SIZE).map(|at| (at / 7 % 251) as u8).collect();
    fs::write(&sent, &content).unwrap();
    let status = sshd
        .client("ssh")
        .args(["127.0.0.1", "cat"])
        .stdin(File::open(&sent).unwrap())
        .stdout(File::create(&received).unwrap())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
    assert!(fs::read(&received).unwrap() == content, "the data differ");
}

#[test]
fn files_are_copied_by_scp_and_sftp() {
    let sshd = Sshd::start("ssh-files");
    let local = sshd.folder.path("local");
    fs::create_dir_all(local.join("deep/er")).unwrap();
    fs::write(local.join("deep/er/a.txt"), "hello").unwrap();
    let copy = |from: &str, to: &str| {
        let output = sshd.client("scp").args(["-r", "-p", from, to]).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{from} to {to}: {output:?}");
    };
    let (source, back) = (local.join("deep"), local.join("back"));
    copy(&source.display().to_string(), "127.0.0.1:copied");
    let copied = sshd.folder.path("app/copied/er/a.txt");
    assert_eq!(fs::read_to_string(copied).unwrap(), "hello");
    copy("127.0.0.1:copied", &back.display().to_string());
    assert_eq!(fs::read_to_string(back.join("er/a.txt")).unwrap(), "hello");

    // The old protocol: the machine of the test has an scp for it.
    let old = sshd
        .client("scp")
        .args(["-O", "-r", &source.display().to_string(), "127.0.0.1:old"])
        .output()
        .unwrap();
    assert!(old.status.success(), "{old:?}");
    let copied = sshd.folder.path("app/old/er/a.txt");
    assert_eq!(fs::read_to_string(copied).unwrap(), "hello");

    let mut sftp = sshd
        .client("sftp")
        .args(["-b", "-", "127.0.0.1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let batch =
        "pwd\nls copied\nrename copied/er/a.txt copied/b.txt\nrmdir copied/er\nls -l copied\n";
    let mut input = sftp.stdin.take().unwrap();
    input.write_all(batch.as_bytes()).unwrap();
    drop(input);
    let output = sftp.wait_with_output().unwrap();
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{shown}");
    let app = sshd.folder.path("app").canonicalize().unwrap();
    assert!(shown.contains(&app.display().to_string()), "{shown}");
    assert!(sshd.folder.path("app/copied/b.txt").exists(), "{shown}");
    assert!(!sshd.folder.path("app/copied/er").exists(), "{shown}");
}

#[test]
fn a_port_is_forwarded() {
    let sshd = Sshd::start("ssh-forward");
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let (there, here) = (
        target.local_addr().unwrap().port(),
        free.local_addr().unwrap().port(),
    );
    drop(free);
    let answering = std::thread::spawn(move || {
        let (mut peer, _) = target.accept().unwrap();
        let mut question = [0; 4];
        peer.read_exact(&mut question).unwrap();
        peer.write_all(b"pong").unwrap();
        question
    });
    let mut ssh = sshd
        .client("ssh")
        .args([
            "-N",
            "-L",
            &format!("{here}:127.0.0.1:{there}"),
            "127.0.0.1",
        ])
        .spawn()
        .unwrap();
    let mut client = block_until("the forwarded port", || {
        TcpStream::connect(("127.0.0.1", here)).ok()
    });
    client.set_read_timeout(Some(BOUND)).unwrap();
    client.write_all(b"ping").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "pong");
    assert_eq!(&answering.join().unwrap(), b"ping");
    ssh.kill().unwrap();
    ssh.wait().unwrap();
}

#[test]
fn another_key_is_refused() {
    let sshd = Sshd::start("ssh-key");
    let output = Command::new("timeout")
        .args(["60", "ssh"])
        .args(sshd.options("other"))
        .args(["127.0.0.1", "true"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(255), "{output:?}");
    let arguments = fs::read(format!("/proc/{}/cmdline", sshd.process.id())).unwrap();
    let arguments = text(&arguments);
    assert!(arguments.contains("-authorizedKey") && !arguments.contains("PRIVATE"));
}

#[test]
fn a_session_ends_with_its_client() {
    must_end_with_its_client("ssh-end", "echo $$; exec sleep 1000");
}

/// A shell that is about to become another program can lose a signal.
#[test]
fn a_session_ends_with_its_client_even_if_it_loses_a_signal() {
    let loses_one = "trap 'trap - HUP' HUP; echo $$; while true; do sleep 0.1; done";
    must_end_with_its_client("ssh-lost", loses_one);
}

/// Ends the client of a session whose command prints its process id, and waits for the end of that process.
fn must_end_with_its_client(name: &str, command: &str) {
    let sshd = Sshd::start(name);
    let mut ssh = Command::new("ssh")
        .args(sshd.options("user"))
        .args(["127.0.0.1", command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(ssh.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let process = Path::new("/proc").join(line.trim());
    assert!(process.exists());
    ssh.kill().unwrap();
    ssh.wait().unwrap();
    block_until("the end of the process", || {
        (!process.exists()).then_some(())
    });
}
