//! Tests that walk over the table of commands, so that no command and no flag is left out.

use crate::flags::Kind;
use crate::verbs::{Server, VERBS, Verb};
use crate::{Options, run_to};
use std::collections::BTreeMap;
use std::path::Path;

struct Operator {
    folder: tempfile::TempDir,
}

impl Operator {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["ca.crt", "client.crt", "client.key"] {
            std::fs::write(folder.path().join(name), "no certificate").unwrap();
        }
        Self { folder }
    }

    /// Returns the variables with which a command gets as far as its arguments.
    fn environment(&self) -> BTreeMap<String, String> {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        [
            ("BBS_URL", "https://127.0.0.1:1".to_owned()),
            ("LOCKET_API_LOCATION", "127.0.0.1:1".to_owned()),
            ("CA_CERT_FILE", path("ca.crt")),
            ("CLIENT_CERT_FILE", path("client.crt")),
            ("CLIENT_KEY_FILE", path("client.key")),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// Runs a command line. Returns exit code, stdout and stderr.
    async fn types(&self, args: &[&str]) -> (u8, String, String) {
        self.with(&self.environment(), args).await
    }

    async fn with(
        &self,
        environment: &BTreeMap<String, String>,
        args: &[&str],
    ) -> (u8, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let code = run_to(args, environment, Options::default(), &mut out, &mut err).await;
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (code, text(out), text(err))
    }
}

/// Returns the error without the line about a deprecated command.
fn error<'a>(verb: &Verb, err: &'a str) -> &'a str {
    match verb.deprecated {
        Some(_) => err.split_once('\n').unwrap().1,
        None => err,
    }
}

#[tokio::test]
async fn every_command_has_help_that_names_its_flags() {
    let operator = Operator::new();
    let (code, overview, _) = operator.types(&["--help"]).await;
    assert_eq!(code, 0);
    for verb in VERBS {
        let listed = format!("\n  {} ", verb.name);
        assert_eq!(
            overview.contains(&listed),
            verb.deprecated.is_none(),
            "{}",
            verb.name
        );
        let (code, own, _) = operator.types(&[verb.name, "--help"]).await;
        let (_, by_help, _) = operator.types(&["help", verb.name]).await;
        assert_eq!(code, 0);
        assert!(
            own.contains(&format!("Usage:\n  cfdot {}", verb.name)),
            "{own}"
        );
        for flag in verb.flags() {
            for help in [&own, &by_help] {
                assert!(help.contains(&format!("--{} ", flag.name)), "{help}");
                assert!(!flag.about.is_empty());
            }
        }
    }
}

#[tokio::test]
async fn every_flag_refuses_bad_values_with_its_usage() {
    let operator = Operator::new();
    for verb in VERBS {
        let (code, out, err) = operator.types(&[verb.name, "--nope"]).await;
        let begin = format!("Error: unknown flag: --nope\nUsage:\n  cfdot {}", verb.name);
        assert!(
            error(verb, &err).starts_with(&begin) && out.is_empty(),
            "{err}"
        );
        assert_eq!(code, 255);
        for flag in verb.flags() {
            let long = format!("--{}", flag.name);
            if flag.kind == Kind::Switch {
                let (code, _, err) = operator.types(&[verb.name, &format!("{long}=x")]).await;
                assert_eq!(code, 3, "{err}");
                continue;
            }
            let (code, _, err) = operator.types(&[verb.name, &long]).await;
            assert!(
                error(verb, &err).starts_with(&format!("Error: flag needs an argument: {long}\n"))
            );
            assert_eq!(code, 255);
            if flag.kind != Kind::Text {
                let (code, _, err) = operator.types(&[verb.name, &long, "x"]).await;
                let begin = format!(
                    "Error: invalid argument \"x\" for \"{}\" flag: ",
                    flag.spelled()
                );
                assert!(error(verb, &err).starts_with(&begin), "{err}");
                assert_eq!(code, 3);
            }
        }
    }
}

#[tokio::test]
async fn every_command_counts_its_arguments() {
    let operator = Operator::new();
    let wrong = [
        "Missing arguments",
        "Too many arguments specified",
        "missing spec argument",
    ];
    for verb in VERBS.iter().filter(|verb| verb.server != Server::None) {
        let wants = verb.args.split_whitespace().count();
        for given in [0, 1, 2, 3].into_iter().filter(|given| *given != wants) {
            let line = [&[verb.name][..], &["a", "b", "c"][..given]].concat();
            let (code, _, err) = operator.types(&line).await;
            let message = error(verb, &err).lines().next().unwrap().to_owned();
            let message = message.trim_start_matches("Error: ");
            let is_ours = wrong.contains(&message) || err.contains("deprecated. Use");
            assert!(code == 3 && is_ours, "{line:?}: {err}");
            assert!(err.contains("Usage:"), "{err}");
        }
    }
}

#[tokio::test]
async fn every_command_names_a_missing_setting_and_reads_it_from_flag_or_variable() {
    let operator = Operator::new();
    let all = operator.environment();
    for verb in VERBS.iter().filter(|verb| verb.server != Server::None) {
        let (own, flag) = match verb.server {
            Server::Locket => ("LOCKET_API_LOCATION", "--locketAPILocation"),
            _ => ("BBS_URL", "--bbsURL"),
        };
        for (variable, flag, message) in [
            (own, flag, "not set. Please specify one with the"),
            (
                "CA_CERT_FILE",
                "--caCertFile",
                "--caCertFile must be specified",
            ),
            (
                "CLIENT_CERT_FILE",
                "--clientCertFile",
                "--clientCertFile and --clientKeyFile must both",
            ),
            (
                "CLIENT_KEY_FILE",
                "--clientKeyFile",
                "--clientCertFile and --clientKeyFile must both",
            ),
        ] {
            let mut without = all.clone();
            let value = without.insert(variable.to_owned(), String::new()).unwrap();
            let (code, _, err) = operator.with(&without, &[verb.name]).await;
            assert!(code == 3 && err.contains(message), "{}: {err}", verb.name);
            // An empty flag does not replace the variable; a flag with a value does.
            for (environment, value) in [(&without, value.as_str()), (&all, "")] {
                let (_, _, err) = operator.with(environment, &[verb.name, flag, value]).await;
                assert!(
                    !err.contains(message),
                    "{} {flag} {value:?}: {err}",
                    verb.name
                );
            }
        }
        let path = |name: &str| Path::new("/nowhere").join(name).display().to_string();
        let gone = path("key");
        let (code, _, err) = operator.types(&[verb.name, "--clientKeyFile", &gone]).await;
        assert_eq!(code, 3);
        assert!(err.contains("Error: key file '/nowhere/key' doesn't exist or is not readable: open /nowhere/key: no such file or directory\nUsage:"), "{err}");
    }
}

#[tokio::test]
async fn texts_and_codes_are_the_originals() {
    let operator = Operator::new();
    for (line, code, begin) in [
        (
            "nope",
            255,
            "Error: unknown command \"nope\" for \"cfdot\"\nRun 'cfdot --help' for usage.\n",
        ),
        (
            "cels",
            255,
            "Error: unknown command \"cels\" for \"cfdot\"\n\nDid you mean this?\n\tcell\n\tcells\n\thelp\n\nRun 'cfdot --help' for usage.\n",
        ),
        (
            "--nope",
            255,
            "Error: unknown flag: --nope\nUsage:\n  cfdot [command]\n",
        ),
        (
            "help nope",
            3,
            "Error: 'nope' is not a valid command\nUsage:\n",
        ),
        (
            "retire-actual-lrp p -- -1",
            3,
            "Error: Index must be a non-negative integer\n",
        ),
        (
            "retire-actual-lrp p -1",
            255,
            "Error: unknown shorthand flag: '1' in -1\n",
        ),
        (
            "tasks -d a --domain b",
            3,
            "Error: Only one of -d and --domain should be passed\n",
        ),
        (
            "claim-lock -k a -o b -t 0",
            3,
            "Error: ttl should be an integer greater than zero\n",
        ),
        ("claim-lock -o b -t 1", 3, "Error: key cannot be empty\n"),
        ("release-lock -k a", 3, "Error: owner cannot be empty\n"),
        (
            "create-task {",
            3,
            "Error: Invalid JSON: unexpected end of JSON input\n",
        ),
        (
            "create-task x",
            3,
            "Error: Invalid JSON: invalid character 'x' looking for beginning of value\n",
        ),
        (
            "create-task @/nowhere/spec",
            3,
            "Error: stat /nowhere/spec: no such file or directory\n",
        ),
        (
            r#"create-task {"task_guid":5}"#,
            3,
            "Error: Invalid JSON: json: cannot unmarshal number into Go struct field Task.task_guid of type string\n",
        ),
        (
            r#"create-desired-lrp {"action":{"run":{"path":5}}}"#,
            3,
            "Error: Invalid JSON: json: cannot unmarshal number into Go struct field RunAction.action.run.path of type string\n",
        ),
        (
            r#"update-desired-lrp p {"instances":"4"}"#,
            3,
            "Error: Invalid JSON: json: cannot unmarshal string into Go struct field internalDesiredLRPUpdate.instances of type int32\n",
        ),
        (
            "domains",
            5,
            "Error: failed to load keypair: tls: failed to find any PEM data in certificate input\n",
        ),
        (
            "locks",
            4,
            "Error: failed to load keypair: tls: failed to find any PEM data in certificate input\n",
        ),
        (
            "domains --bbsURL http://b",
            3,
            "Error: The URL 'http://b' does not have an 'https' scheme.",
        ),
        (
            "domains --bbsURL %zz",
            3,
            "Error: The value '%zz' is not a valid BBS URL.",
        ),
    ] {
        let args: Vec<_> = line.split(' ').collect();
        let (seen, out, err) = operator.types(&args).await;
        assert!(err.starts_with(begin) && out.is_empty(), "{line}: {err}");
        assert_eq!(seen, code, "{line}");
    }
    let mut environment = operator.environment();
    environment.insert("CFDOT_TIMEOUT".into(), "x".into());
    let (code, _, err) = operator.with(&environment, &["domains"]).await;
    assert!(
        err.starts_with("Error: strconv.ParseInt: parsing \"x\": invalid syntax\nUsage:"),
        "{err}"
    );
    assert_eq!(code, 255);
}

#[tokio::test]
async fn completion_names_every_command_and_flag() {
    let operator = Operator::new();
    for shell in ["bash", "fish", "powershell", "zsh"] {
        let (code, script, _) = operator.types(&["completion", shell]).await;
        assert_eq!(code, 0);
        for verb in VERBS.iter().filter(|verb| verb.deprecated.is_none()) {
            assert!(script.contains(verb.name), "{shell} {}", verb.name);
        }
        assert!(script.contains("--exclude-actual-lrp-groups"), "{shell}");
    }
    let (code, list, _) = operator.types(&["completion"]).await;
    assert!(code == 0 && list.contains("powershell"), "{list}");
}

/// An output like a full disk or one that nobody reads.
struct Closed;

impl std::io::Write for Closed {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::StorageFull.into())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn output_that_does_not_get_out_is_a_failure() {
    let mut err = Vec::new();
    let environment = BTreeMap::new();
    let args = vec!["--help".to_owned()];
    let code = run_to(
        args,
        &environment,
        Options::default(),
        &mut Closed,
        &mut err,
    )
    .await;
    assert_eq!(code, 5);
    assert!(
        String::from_utf8(err)
            .unwrap()
            .starts_with("Error: write /dev/stdout: ")
    );
}
