//! Tests of builder, launcher and health check.

use crate::fixture::{Folder, INSIDE, launch};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::{Command, Output};

/// Returns a program, which must be an ELF file. This test's own binary is one.
fn program() -> Vec<u8> {
    fs::read(INSIDE).unwrap()
}

#[test]
fn binary_app() {
    let folder = Folder::new("binary");
    folder.file("proxy", program()).file("lib/libx.so.1", "x");
    symlink("proxy", folder.path("app/link")).unwrap();
    let result = folder.built(&["-buildpackOrder=staticfile_buildpack,python_buildpack,procfile_buildpack,binary_buildpack"], "-----> Binary Buildpack version 1.0.0");
    assert_eq!(
        result["process_types"],
        serde_json::json!({"web": "./proxy"})
    );
    assert_eq!(
        result["lifecycle_metadata"]["buildpacks"],
        serde_json::json!([{"key": "binary_buildpack", "name": "binary", "version": "1.0.0"}])
    );
    let droplet = folder.droplet();
    for name in [
        "./",
        "./deps/0/",
        "./logs/",
        "./profile.d/",
        "./tmp/",
        "./staging_info.yml",
        "./app/",
        "./app/lib/libx.so.1",
        "./app/link",
    ] {
        assert!(droplet.contains_key(name), "{name} in {droplet:?}");
    }
    assert_eq!(
        droplet["./app/proxy"],
        (0o755, 2000),
        "made executable, vcap's"
    );

    // Long names and targets, and the times of the package, must arrive in the container.
    let long = format!("{}/{}", "folder".repeat(20), "file".repeat(30));
    folder.file(&long, "far down");
    symlink(&long, folder.path("app/far")).unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    let file = fs::File::options()
        .write(true)
        .open(folder.path("app/lib/libx.so.1"));
    file.unwrap().set_modified(time).unwrap();
    folder.built(&[], "Binary Buildpack");
    assert!(folder.droplet().contains_key(&format!("./app/{long}")));
    let home = folder.unpack();
    assert_eq!(
        fs::read_to_string(home.join("app/far")).unwrap(),
        "far down"
    );
    assert_eq!(
        fs::metadata(home.join("app/lib/libx.so.1"))
            .unwrap()
            .modified()
            .unwrap(),
        time
    );
    let info = fs::metadata(home.join("staging_info.yml"))
        .unwrap()
        .modified()
        .unwrap();
    assert!(
        info > time + std::time::Duration::from_secs(1),
        "made today"
    );
    fs::remove_dir_all(&home).unwrap();

    fs::remove_file(folder.path("app/link")).unwrap();
    folder.file("Procfile", "web: ./proxy --fast\nworker: ./proxy work\n");
    let result = folder.built(
        &["-buildpackOrder", "binary_buildpack", "-skipDetect"],
        "Binary Buildpack",
    );
    assert_eq!(
        result["process_types"],
        serde_json::json!({"web": "./proxy --fast", "worker": "./proxy work"})
    );
}

#[test]
fn binary_app_without_start_command_and_for_another_machine() {
    let folder = Folder::new("binary2");
    folder.file("run.sh", "#!/bin/sh\n");
    let result = folder.built(
        &["-buildpackOrder=binary_buildpack", "-skipDetect=true"],
        "No start command specified by buildpack or via Procfile.",
    );
    assert_eq!(result["process_types"], serde_json::json!({}));

    let mut other = program();
    other[18] = 243;
    folder.file("prog", other);
    let output = folder.build(&["-buildpackOrder=binary_buildpack", "-skipDetect"]);
    assert_eq!(output.status.code(), Some(223));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("program prog is built for RISC-V"),
        "{output:?}"
    );
}

#[test]
fn failures_have_their_statuses() {
    let folder = Folder::new("failures");
    folder.file("readme.txt", "nothing to run");
    let status = |flags: &[&str]| {
        let output = folder.build(flags);
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, text) = status(&[]);
    assert_eq!(
        (code, text.lines().next().unwrap()),
        (
            222,
            "None of the buildpacks detected a compatible application"
        )
    );
    assert_eq!(
        status(&["-buildpackOrder=procfile_buildpack", "-skipDetect"]).0,
        223
    );
    assert_eq!(
        status(&["-buildpackOrder=java_buildpack", "-skipDetect"]).0,
        1
    );
    assert_eq!(
        status(&[
            "-buildpackOrder=python_buildpack,binary_buildpack",
            "-skipDetect"
        ])
        .0,
        225
    );
    assert_eq!(status(&["-what"]).0, 2);
    folder.file("Procfile", "web ./x");
    let (code, text) = status(&["-buildpackOrder=binary_buildpack", "-skipDetect"]);
    assert_eq!(code, 224);
    assert!(text.contains("line 1 is \"web ./x\""), "{text}");
}

#[test]
fn the_launcher_runs_the_droplet() {
    let folder = Folder::new("launcher");
    folder
        .file("Procfile", "web: echo from-droplet\n")
        .file(".profile", "export FROM_PROFILE=1\n")
        .file(".profile.d/a.sh", "export FROM_D=2\n");
    folder.built(
        &["-buildpackOrder=procfile_buildpack"],
        "Procfile Buildpack",
    );
    let home = folder.unpack();
    let text = |output: Output| {
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(
        text(launch(&home, "")),
        "Invoking pre-start scripts.\nInvoking start command.\nfrom-droplet\n"
    );
    let shown = text(launch(
        &home,
        "echo $FROM_PROFILE $FROM_D; pwd; echo $HOME; echo $TMPDIR; echo $VCAP_APPLICATION",
    ));
    let app = fs::canonicalize(home.join("app")).unwrap();
    let lines: Vec<&str> = shown.lines().skip(2).collect();
    assert_eq!(
        lines[..4],
        [
            "1 2",
            app.to_str().unwrap(),
            app.to_str().unwrap(),
            app.parent().unwrap().join("tmp").to_str().unwrap()
        ]
    );
    let application: serde_json::Value = serde_json::from_str(lines[4]).unwrap();
    assert_eq!(
        (
            &application["instance_index"],
            &application["port"],
            &application["name"]
        ),
        (&3.into(), &8080.into(), &"dora".into())
    );

    let output = launch(&home, "exit 7");
    assert_eq!(output.status.code(), Some(7));
    fs::remove_file(home.join("staging_info.yml")).unwrap();
    let output = launch(&home, "");
    assert!(
        String::from_utf8_lossy(&output.stderr)
            .contains("no start command specified or detected in droplet"),
        "{output:?}"
    );
}

#[test]
fn health_checks() {
    // The listener uses every address, because the check uses the machine's own.
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let check = |port: u16, flags: &[&str]| {
        Command::new(INSIDE)
            .arg("healthcheck")
            .arg(format!("-port={port}"))
            .args(flags)
            .output()
            .unwrap()
    };
    assert!(check(port, &["-timeout=60000ms"]).status.success());
    assert!(
        check(port, &["-startup-interval=10ms", "-startup-timeout=60s"])
            .status
            .success()
    );
    assert!(
        check(port, &["-until-ready-interval=10ms"])
            .status
            .success()
    );
    drop(listener);
    let failed = check(port, &["-timeout=60s"]);
    let text = String::from_utf8(failed.stderr).unwrap();
    assert_eq!(failed.status.code(), Some(4));
    assert!(
        text.starts_with("failed to make TCP connection to ")
            && text.ends_with("connect: connection refused\n"),
        "{text}"
    );
    let failed = check(port, &["-liveness-interval=10ms", "-timeout=60s"]);
    assert!(
        String::from_utf8(failed.stderr)
            .unwrap()
            .starts_with("Liveness check unsuccessful: failed to make TCP")
    );
    let failed = check(port, &["-startup-interval=10ms", "-startup-timeout=50ms"]);
    let text = String::from_utf8(failed.stderr).unwrap();
    assert!(
        text.starts_with("Timed out after 50ms (")
            && text.contains("attempts) waiting for startup check to succeed: failed to make"),
        "{text}"
    );
    assert_eq!(
        check(port, &["-uri=/", "-timeout=60s"]).status.code(),
        Some(5)
    );
}

#[test]
fn the_name_it_is_called_by_decides() {
    let folder = Folder::new("names");
    fs::copy(INSIDE, folder.path("healthcheck")).unwrap();
    fs::set_permissions(
        folder.path("healthcheck"),
        fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    let output = Command::new(folder.path("healthcheck"))
        .arg("-port=x")
        .output()
        .unwrap();
    assert_eq!(
        (
            output.status.code(),
            String::from_utf8(output.stderr)
                .unwrap()
                .starts_with("healthcheck: ")
        ),
        (Some(2), true)
    );
}

/// Tests scp's old protocol between OpenSSH's program and ours.
#[test]
fn scp_receives_what_openssh_sends() {
    let folder = Folder::new("scp");
    folder.file("deep/a.txt", "hello");
    let script = format!(
        "mkfifo forth back && {{ timeout 60 scp -r -p -f app/deep <back >forth & }} && timeout 60 {INSIDE} scp -r -p -t copied >back <forth"
    );
    let done = Command::new("bash")
        .args(["-c", &script])
        .current_dir(folder.path(""))
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    let copied = fs::read_to_string(folder.path("copied/a.txt")).unwrap();
    assert_eq!(copied, "hello");
}
