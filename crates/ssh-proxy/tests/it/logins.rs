//! Tests which users are let in, and what the others read.

use crate::fixture::{PROCESS, Stage, USER};
use testkit::wait::within;

fn error(output: &std::process::Output) -> String {
    assert_eq!(output.status.code(), Some(255), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_lets_its_user_in_once() {
    let stage = Stage::start().await;
    let output = stage.ssh(USER, "one", &["127.0.0.1", "hello"]).await;
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    assert_eq!(output.stdout, b"out hello\n");
    assert_eq!(output.stderr, b"err hello\n");
    let again = stage.ssh(USER, "one", &["127.0.0.1", "hello"]).await;
    assert!(error(&again).contains("Permission denied"), "{again:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_are_refused() {
    let stage = Stage::start().await;
    for user in [
        "root",
        "cf:x/0",
        &format!("diego:{PROCESS}/0"),
        &format!("cf:{PROCESS}/1"),
    ] {
        let output = stage.ssh(user, "one", &["127.0.0.1", "hello"]).await;
        let text = error(&output);
        assert!(text.contains("Permission denied"), "{user}: {text}");
        stage.rights.lock().unwrap().codes = vec!["one".to_owned()];
    }
    stage.rights.lock().unwrap().status = 403;
    let output = stage.ssh(USER, "one", &["127.0.0.1", "hello"]).await;
    assert!(error(&output).contains("Permission denied"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_reads_why_there_is_no_instance() {
    let stage = Stage::start().await;
    stage.stop_app().await;
    let output = stage.ssh(USER, "one", &["127.0.0.1", "hello"]).await;
    let text = error(&output);
    assert!(text.contains("the app is stopped"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_with_another_name_is_not_trusted() {
    let stage = Stage::of(|_| {}, "another").await;
    let output = stage.ssh(USER, "one", &["127.0.0.1", "hello"]).await;
    let text = error(&output);
    assert!(text.contains("cannot be reached"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_host_key_is_that_of_the_fingerprint() {
    let stage = Stage::start().await;
    let scan = tokio::process::Command::new("ssh-keyscan")
        .args(["-p", &stage.addr.port().to_string(), "127.0.0.1"])
        .output();
    let scan = within("the host key", scan).await.unwrap();
    let file = stage.folder().join("keys");
    std::fs::write(&file, &scan.stdout).unwrap();
    let shown = tokio::process::Command::new("ssh-keygen")
        .arg("-lf")
        .arg(&file)
        .output();
    let shown = String::from_utf8(shown.await.unwrap().stdout).unwrap();
    assert!(
        shown.contains(&format!("SHA256:{}", stage.fingerprint)),
        "{shown}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_bounded() {
    let stage = Stage::of(|config| config.connections = 1, "instance-1").await;
    let _held = tokio::net::TcpStream::connect(stage.addr).await.unwrap();
    let output = stage.ssh(USER, "one", &["127.0.0.1", "hello"]).await;
    assert!(!error(&output).is_empty());
    assert_eq!(stage.rights.lock().unwrap().codes.len(), 2);
}
