//! Tests of output: closed pipes, full disks, colours, and commands that only the cf CLI has.

use crate::fixture::Person;
use std::io::Write;
use std::sync::{Arc, Mutex};

/// A stdout that accepts no more bytes.
struct Closed(std::io::ErrorKind);

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(self.0.into())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn output_that_does_not_get_out_is_a_failure() {
    let person = Person::new().await;
    person.logs_in().await;
    for line in [&["apps"][..], &["help"], &["help", "push"], &["version"]] {
        let full = person
            .runs(line, |e| {
                e.stdout = Arc::new(Mutex::new(Closed(std::io::ErrorKind::StorageFull)));
            })
            .await;
        assert_eq!(full.code, 1, "{line:?}");
        assert!(
            full.err.contains("write stdout: "),
            "{line:?}: {}",
            full.err
        );
        let gone = person
            .runs(line, |e| {
                e.stdout = Arc::new(Mutex::new(Closed(std::io::ErrorKind::BrokenPipe)));
            })
            .await;
        assert_eq!((gone.code, gone.err.as_str()), (141, ""), "{line:?}");
    }
}

#[tokio::test]
async fn colour_is_used_only_if_it_is_wanted() {
    let person = Person::new().await;
    person.logs_in().await;
    for (variables, is_terminal, is_coloured) in [
        (&[][..], false, false),
        (&[], true, true),
        (&[("NO_COLOR", "1")], true, false),
        (&[("NO_COLOR", "")], true, true),
        (&[("TERM", "dumb")], true, false),
        (&[("TERM", "xterm")], true, true),
        (&[("CF_COLOR", "false")], true, false),
        (&[("CF_COLOR", "true")], false, true),
        (&[("CF_COLOR", "true"), ("NO_COLOR", "1")], true, true),
    ] {
        let seen = person
            .runs(&["apps"], |e| {
                e.stdout_is_terminal = is_terminal;
                let variables = variables.iter();
                e.vars
                    .extend(variables.map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
            })
            .await;
        assert_eq!(
            seen.out.contains('\u{1b}'),
            is_coloured,
            "{variables:?} {is_terminal}"
        );
    }
}

#[tokio::test]
async fn passwords_are_neither_shown_nor_traced() {
    let person = Person::new().await;
    let url = person.platform.lock().unwrap().url.clone();
    let trace = person.home.path().join("trace");
    let login = ["login", "-a", &url, "-u", "admin", "-p", "secret"];
    for traced in ["true".to_owned(), trace.display().to_string()] {
        let seen = person
            .runs(&login, |e| drop(e.vars.insert("CF_TRACE".into(), traced)))
            .await;
        assert_eq!(seen.code, 0, "{}", seen.err);
        assert!(
            !seen.out.contains("secret") && !seen.err.contains("secret"),
            "{}",
            seen.out
        );
    }
    let traced = std::fs::read_to_string(trace).unwrap();
    assert!(
        traced.contains("POST /oauth/token") && !traced.contains("=secret"),
        "{traced}"
    );
}

#[tokio::test]
async fn commands_of_the_original_point_at_it() {
    let person = Person::new().await;
    for (line, request) in [
        ("create-buildpack", "cf curl /v3/buildpacks -d "),
        ("help create-buildpack", "cf curl /v3/buildpacks -d "),
        (
            "help ssevg",
            "/v3/environment_variable_groups/staging -X PATCH",
        ),
        ("set-droplet x y", "/relationships/current_droplet -X PATCH"),
        ("plugins", ""),
    ] {
        let seen = person.types(line).await;
        assert_eq!((seen.code, seen.out.as_str()), (1, ""), "{line}");
        assert!(
            seen.err.contains("is a command of the cf CLI") && seen.err.contains(request),
            "{line}: {}",
            seen.err
        );
        assert_eq!(seen.err.contains("cf curl"), !request.is_empty(), "{line}");
    }
}

#[tokio::test]
async fn codes_and_spaces_of_ssh() {
    let person = Person::new().await;
    let seen = person.types("ssh-code").await;
    assert_eq!(
        (seen.code, seen.out.as_str()),
        (1, "FAILED\n"),
        "nobody is logged in"
    );
    person.logs_in().await;
    let seen = person.types("ssh-code").await;
    assert_eq!((seen.code, seen.out.as_str()), (0, "C0DE\n"));
    let seen = person.types("space-ssh-allowed space").await;
    assert!(
        seen.out
            .contains("ssh support is enabled in space 'space'."),
        "{}",
        seen.out
    );
    let seen = person.types("disallow-space-ssh space").await;
    assert!(
        seen.code == 0 && seen.out.contains("Disabling ssh support for space space"),
        "{}",
        seen.out
    );
    let seen = person.types("ssh dora -N -c env").await;
    assert!(seen.err.contains("cannot be used together"), "{}", seen.err);
}
