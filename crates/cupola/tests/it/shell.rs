//! Tests of the binary as a shell sees it: output that cannot be written, colours, `--data`.

use std::fs::File;
use std::io::Read as _;
use std::process::{Command, Output, Stdio};

fn cupola(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cupola"));
    command
        .args(args)
        .env_remove("CUPOLA_DATA")
        .stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn output(command: &mut Command) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    (status.code(), text(&stdout), text(&stderr))
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("cupola.yml");
    std::fs::write(&config, "domain: a.test\n").unwrap();
    let config = config.to_string_lossy().into_owned();
    for args in [
        &["completion", "bash"][..],
        &["check-config", "--config", &config],
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let (code, _, complaint) = output(cupola(args).stdout(full));
        assert_eq!(code, Some(1), "{args:?}: {complaint}");
        assert!(
            complaint.starts_with("cupola: write to standard output: No space left"),
            "{args:?}: {complaint}"
        );
    }
}

/// Closes standard output, as `| head -1` does.
#[test]
fn a_reader_that_leaves_is_no_panic() {
    for shell in ["bash", "zsh", "fish"] {
        // The reader has left before the program starts, so that nothing it writes fits into the pipe.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut child = cupola(&["completion", shell])
            .stdout(writer)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut complaint = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut complaint)
            .unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(141), "{complaint}");
        assert_eq!(complaint, "");
    }
}

#[test]
fn data_is_read_from_the_given_directory() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("nothing-here");
    let data = data.to_string_lossy().into_owned();
    for args in [
        &["cfdot", "actual-lrps", "--data", &data][..],
        &["cfdot", "--data", &data, "actual-lrps"],
        &["--data", &data, "cfdot", "actual-lrps"],
        &["routes", "--data", &data],
        &["why", "app.test", "--data", &data],
        &["bench", "propagation", "--data", &data],
        &["exec", "app", "--data", &data, "--", "ls"],
    ] {
        let (code, _, complaint) = output(&mut cupola(args));
        assert!(code.is_some_and(|code| code != 0), "{args:?}: {complaint}");
        assert!(complaint.contains(&data), "{args:?}: {complaint}");
    }
    let (code, _, complaint) = output(&mut cupola(&["demo", "--data", &data]));
    assert_eq!(code, Some(2), "{complaint}");
    assert!(complaint.contains("--data has no effect"), "{complaint}");
}

#[test]
fn no_colours_without_a_terminal() {
    for args in [
        &["--help"][..],
        &["no-such-command"],
        &["up", "--no-such-flag"],
    ] {
        let (_, out, complaint) = output(cupola(args).env("TERM", "xterm-256color"));
        assert!(
            !out.contains('\x1b') && !complaint.contains('\x1b'),
            "{args:?}"
        );
    }
}
