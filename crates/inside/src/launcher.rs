//! `launcher <app directory> <start command> <metadata>` starts the app (as buildpackapplifecycle `launcher`).
//!
//! It completes the environment. Then bash sources the profile scripts and executes the start command, so that the app is the
//! process that the cell signals.

use serde_json::Value;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The start script. `$1` is the app's directory, `$2` the start command. Users know its messages from `cf logs`.
const SCRIPT: &str = r#"
cd "$1" || exit 1
echo 'Invoking pre-start scripts.'
for profile in ../profile.d/* .profile.d/*; do
  if [ -f "$profile" ]; then source "$profile"; fi
done
if [ -f .profile ]; then source .profile; fi
unset profile
echo 'Invoking start command.'
exec bash -c "$2"
"#;

pub(crate) fn main(args: &[String]) -> ExitCode {
    let [directory, command, ..] = args else {
        eprintln!(
            "launcher: received only {} arguments\nUsage: launcher <app-directory> <start-command> <metadata>",
            args.len()
        );
        return ExitCode::FAILURE;
    };
    match launch(Path::new(directory), command) {
        Ok(never) => match never {},
        Err(problem) => {
            eprintln!("launcher: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn launch(directory: &Path, command: &str) -> Result<std::convert::Infallible, String> {
    let app = fs::canonicalize(directory)
        .map_err(|error| format!("app directory {}: {error}", directory.display()))?;
    let root = app.parent().unwrap_or(&app).to_owned();
    let command = match command {
        "" => staged_command(&root)?.ok_or(
            "no start command specified or detected in droplet; push with -c COMMAND or a Procfile",
        )?,
        given => given.to_owned(),
    };
    let mut bash = Command::new("/bin/bash");
    bash.args(["-c", SCRIPT, "launcher"])
        .arg(&app)
        .arg(&command);
    complete(&mut bash, &app);
    Err(format!("execute /bin/bash: {}", bash.exec()))
}

/// Completes the environment of a program that runs in the app's directory: the app itself, or a session of the sshd.
pub(crate) fn complete(program: &mut Command, app: &Path) {
    let root = app.parent().unwrap_or(app);
    program
        .env("HOME", app)
        .env("TMPDIR", temporary(root))
        .env("DEPS_DIR", root.join("deps"));
    program.env_remove("VCAP_PLATFORM_OPTIONS");
    let variable = |name: &str| std::env::var(name).ok();
    if let Some(application) = variable("VCAP_APPLICATION").and_then(|text| enrich(&text, variable))
    {
        program.env("VCAP_APPLICATION", application);
    }
}

/// Returns the droplet's `tmp`. It is created if the droplet lacks it.
fn temporary(root: &Path) -> PathBuf {
    let tmp = root.join("tmp");
    let _ = fs::create_dir_all(&tmp);
    tmp
}

/// Returns the start command that staging wrote into the droplet.
fn staged_command(root: &Path) -> Result<Option<String>, String> {
    let path = root.join("staging_info.yml");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(format!(
                "Invalid staging info - {}: {error}",
                path.display()
            ));
        }
    };
    Ok(start_command(&text)
        .ok_or_else(|| format!("Invalid staging info - {}", path.display()))?
        .filter(|command| !command.is_empty()))
}

/// Parses the start command. The file is YAML by name but contains JSON; a plain `start_command: …` line is accepted too.
fn start_command(text: &str) -> Option<Option<String>> {
    if text.trim_start().starts_with('{') {
        let info: Value = serde_json::from_str(text).ok()?;
        return Some(
            info.get("start_command")
                .and_then(Value::as_str)
                .map(str::to_owned),
        );
    }
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("start_command:"));
    Some(line.map(|value| {
        value
            .trim()
            .trim_matches(|c| c == '"' || c == '\'')
            .to_owned()
    }))
}

/// Returns `VCAP_APPLICATION` with the values that only the instance knows.
fn enrich(application: &str, variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let mut application: Value = serde_json::from_str(application).ok()?;
    let members = application.as_object_mut()?;
    members.insert("host".into(), "0.0.0.0".into());
    let instance = variable("INSTANCE_GUID")
        .or_else(|| variable("CF_INSTANCE_GUID"))
        .unwrap_or_default();
    members.insert("instance_id".into(), instance.into());
    let number = |name: &str| variable(name)?.parse::<i64>().ok();
    if let Some(port) = number("PORT") {
        members.insert("port".into(), port.into());
    }
    if let Some(index) = number("INSTANCE_INDEX").or_else(|| number("CF_INSTANCE_INDEX")) {
        members.insert("instance_index".into(), index.into());
    }
    Some(application.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vcap_application_gets_the_instance() {
        let variable = |name: &str| match name {
            "PORT" => Some("8080".to_owned()),
            "CF_INSTANCE_INDEX" => Some("2".to_owned()),
            "INSTANCE_GUID" => Some("I".to_owned()),
            _ => None,
        };
        let enriched: Value =
            serde_json::from_str(&enrich(r#"{"name":"dora"}"#, variable).unwrap()).unwrap();
        assert_eq!(
            enriched,
            serde_json::json!({"name": "dora", "host": "0.0.0.0", "instance_id": "I", "port": 8080, "instance_index": 2})
        );
        assert_eq!(enrich("", variable), None);
    }

    #[test]
    fn start_commands_of_droplets() {
        assert_eq!(
            start_command(r#"{"detected_buildpack":"x","start_command":"./a \"b\""}"#),
            Some(Some("./a \"b\"".into()))
        );
        assert_eq!(
            start_command("detected_buildpack: x\nstart_command: ./a b\n"),
            Some(Some("./a b".into()))
        );
        assert_eq!(
            start_command("{\"start_command\":\"\"}"),
            Some(Some(String::new()))
        );
        assert_eq!(start_command("{}"), Some(None));
        assert_eq!(start_command("{"), None);
    }
}
