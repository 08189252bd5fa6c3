//! Tests of the command line.

use super::*;

fn parsed(line: &str) -> CommandLine {
    let args = line.split_whitespace().map(OsString::from).collect();
    parse(args).unwrap_or_else(|error| panic!("{line}: {error}"))
}

#[test]
fn data_is_accepted_at_any_position() {
    for line in [
        "cupola --data /d up",
        "cupola up --data /d",
        "cupola up --data=/d --no-hosts",
        "cupola serve --roles nats --data /d",
        "cupola --data /d routes",
        "cupola routes --data /d",
        "cupola nats sub router.* --data /d",
        "cupola rotate-key --data /d",
        "cupola broker postgres list --data /d",
        "cupola --data /d broker postgres restore db --from x",
        "cupola watch --data /d proxy",
        "cupola tap a.test --data /d --json",
        "cupola why app.test --data /d --json",
        "cupola bench propagation --data /d --churn 5",
        "cupola cfdot --data /d actual-lrps",
        "cupola cfdot actual-lrps --data /d",
        "cupola cfdot actual-lrps --data=/d -d apps",
        "cupola --data /d cfdot actual-lrps",
        "cupola --data=/d cfdot actual-lrps",
        "cupola exec --data /d proxy",
        "cupola exec proxy --data /d -- ls --data /x",
        "cupola exec proxy --data=/d ls --data /x",
        "cupola --data /d exec proxy ls",
    ] {
        assert_eq!(
            parsed(line).data.as_deref(),
            Some(std::path::Path::new("/d")),
            "{line}"
        );
    }
}

#[test]
fn others_arguments_stay_as_they_are() {
    let Command::Exec { app, command } =
        parsed("cupola exec app --data /d -- ls --data /x").command
    else {
        panic!("not exec");
    };
    assert_eq!(
        (app.as_str(), command.join(" ")),
        ("app", "ls --data /x".into())
    );
    let Command::Exec { command, .. } = parsed("cupola exec app ls --data /x").command else {
        panic!("not exec");
    };
    assert_eq!(command.join(" "), "ls --data /x");
    let Command::Cfdot { args } = parsed("cupola cfdot tasks -d x --data /d").command else {
        panic!("not cfdot");
    };
    assert_eq!(args.join(" "), "tasks -d x");
    let Command::Cf { args } = parsed("cupola cf push exec --data /d").command else {
        panic!("not cf");
    };
    assert_eq!(args.join(" "), "push exec --data /d");
}

#[test]
fn a_lesson_has_actions() {
    let action = |line: &str| {
        let Command::Lesson { action } = parsed(line).command else {
            panic!("{line}: not lesson");
        };
        action
    };
    assert!(action("cupola lesson").is_none());
    assert!(matches!(
        action("cupola lesson break 1 --data /d"),
        Some(lesson_command::Action::Break { exercise: 1 })
    ));
    for line in [
        "cupola lesson list",
        "cupola lesson from 4",
        "cupola lesson show e1",
        "cupola lesson check 2",
        "cupola lesson repair",
        "cupola lesson guard --data /d",
    ] {
        assert!(action(line).is_some(), "{line}");
    }
    let wrong = ["cupola", "lesson", "show", "x"].map(OsString::from);
    assert!(parse(wrong.to_vec()).is_err());
}

#[test]
fn a_measurement_uses_the_api_or_the_bus() {
    for line in [
        "cupola bench propagation",
        "cupola bench propagation --app proxy --domain apps.test --svg a.svg",
        "cupola bench propagation --user me --password-file f --org o --space s",
        "cupola bench propagation --nats 10.0.0.1:4222 --router a:80 --router b:80",
        "cupola bench propagation --own-address 10.0.0.9 --apps 1000 --routes-per-app 100",
    ] {
        let command = parsed(line).command;
        assert!(matches!(command, Command::Bench { .. }), "{line}");
    }
    for (line, reason) in [
        (
            "cupola bench propagation --app a --own-address 10.0.0.9",
            "cannot be used with",
        ),
        ("cupola bench propagation --nats a:1", "--router <ADDRESS>"),
        ("cupola bench propagation --space s", "--org <NAME>"),
        (
            "cupola bench propagation --password-file f",
            "--user <NAME>",
        ),
        (
            "cupola bench propagation --nats-cert c --nats a:1 --router b:2",
            "--nats-key <FILE>",
        ),
        (
            "cupola bench propagation --app a --push .",
            "cannot be used with",
        ),
        (
            "cupola bench propagation --limit 0",
            "0 is not in 1..=86400",
        ),
        ("cupola bench", "Usage"),
    ] {
        let args = line.split_whitespace().map(OsString::from).collect();
        let error = parse(args).err().unwrap().to_string();
        assert!(error.contains(reason), "{line}: {error}");
    }
}

#[test]
fn data_is_refused_where_it_would_be_ignored() {
    for line in [
        "cupola demo --data /d",
        "cupola --data /d completion bash",
        "cupola --data /d cf apps",
    ] {
        let args = line.split_whitespace().map(OsString::from).collect();
        let error = parse(args).err().unwrap().to_string();
        assert!(error.contains("--data has no effect"), "{line}: {error}");
    }
}

#[test]
fn completion_knows_the_commands() {
    for shell in [
        clap_complete::Shell::Bash,
        clap_complete::Shell::Zsh,
        clap_complete::Shell::Fish,
    ] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut CommandLine::command(), "cupola", &mut script);
        let script = String::from_utf8(script).unwrap();
        for word in [
            "serve",
            "route-registrar",
            "check-config",
            "no-hosts",
            "completion",
        ] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}
