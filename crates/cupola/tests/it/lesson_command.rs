//! Tests of `cupola lesson` without a foundation.

use std::process::{Command, Stdio};

/// Runs `cupola lesson` on an empty data directory. Returns the exit code and everything that it prints.
fn run(args: &[&str]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_cupola"))
        .arg("lesson")
        .args(args)
        .arg("--data")
        .arg(folder.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[test]
fn the_list_has_every_page() {
    let (code, text) = run(&["list"]);
    assert_eq!(code, Some(0), "{text}");
    let pages = lesson::pages(&lesson::Place::default()).unwrap();
    assert_eq!(text.lines().count(), pages.len());
    for page in pages {
        let has_page =
            |line: &str| line.starts_with(&page.kind.to_string()) && line.ends_with(&page.title);
        assert!(text.lines().any(has_page), "{}: {text}", page.kind);
    }
}

#[test]
fn a_page_is_shown_without_comments_and_without_a_foundation() {
    let (code, text) = run(&["show", "e1"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.starts_with("Exercise 1: "), "{text}");
    assert!(text.contains("    $ cupola lesson break 1\n"), "{text}");
    assert!(!text.contains("<!--"), "{text}");
}

#[test]
fn an_error_names_what_to_do() {
    for (args, wanted) in [
        (&[][..], "start one with `cupola up"),
        (&["check", "1"], "start one with `cupola up"),
        (&["show", "99"], "`cupola lesson list` lists all pages"),
        (&["repair"], "start one with `cupola up"),
    ] {
        let (code, text) = run(args);
        assert_eq!(code, Some(1), "{args:?}: {text}");
        assert!(text.contains(wanted), "{args:?}: {text}");
    }
    let (code, text) = run(&["show", "x"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("write the number of a story"), "{text}");
}
