//! Tests what a session passes on, and how it ends.

use crate::fixture::{Stage, USER};
use std::time::Duration;
use testkit::wait::{wait_for, within};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn terminals_and_signals_are_passed_on() {
    let stage = Stage::start().await;
    let args = ["-tt", "-o", "SetEnv=A=1", "127.0.0.1", "terminal"];
    let mut client = stage.client(USER, "one", &args);
    let output = client.env("TERM", "vt100").output().await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stdout.starts_with(b"vt100 "), "{output:?}");
    // The client's own exit code of a command that a signal ended is 255.
    let output = stage.ssh(USER, "two", &["127.0.0.1", "die"]).await;
    assert_eq!(output.status.code(), Some(255), "{output:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_subsystem_fails() {
    let stage = Stage::start().await;
    let output = stage.ssh(USER, "one", &["-s", "127.0.0.1", "sftp"]).await;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("subsystem request failed"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ports_are_forwarded() {
    let stage = Stage::start().await;
    let port = kit::net::free_port().unwrap();
    let forward = format!("{port}:db.example:5432");
    let _client = stage
        .client(USER, "one", &["-N", "-L", &forward, "127.0.0.1"])
        .spawn()
        .unwrap();
    for _ in 0..3 {
        let mut stream = wait_for("the forwarded port", async || {
            TcpStream::connect(("127.0.0.1", port)).await.ok()
        })
        .await;
        let mut text = String::new();
        within("the answer", stream.read_to_string(&mut text))
            .await
            .unwrap();
        assert_eq!(text, "forwarded to db.example:5432\n");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ends_with_its_instance() {
    let mut stage = Stage::start().await;
    let mut client = stage
        .client(USER, "one", &["127.0.0.1", "wait"])
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(client.stdout.take().unwrap());
    within("the session", output.read_line(&mut line))
        .await
        .unwrap();
    assert_eq!(line, "waiting\n");
    drop(stage.sshd.take());
    let ended = within("the end of the session", client.wait_with_output());
    let ended = ended.await.unwrap();
    let text = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(text.contains("instance of the app has ended"), "{ended:?}");
    assert!(!ended.status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_session_ends() {
    let idle = Duration::from_millis(500);
    let stage = Stage::of(|config| config.idle = idle, "instance-1").await;
    let ended = within("the end", stage.ssh(USER, "one", &["127.0.0.1", "wait"])).await;
    let text = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(text.contains("nothing was sent"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_sessions_at_once() {
    const SESSIONS: usize = 100;
    let stage = Stage::start().await;
    let codes: Vec<String> = (0..SESSIONS).map(|n| format!("code-{n}")).collect();
    stage.rights.lock().unwrap().codes.clone_from(&codes);
    let mut sessions = Vec::new();
    for code in &codes {
        let mut client = stage
            .client(USER, code, &["127.0.0.1", "wait"])
            .spawn()
            .unwrap();
        sessions.push((client.stdout.take().unwrap(), client));
    }
    for (output, _) in &mut sessions {
        let mut line = [0; 8];
        within("a session", output.read_exact(&mut line))
            .await
            .unwrap();
        assert_eq!(&line, b"waiting\n");
    }
}
