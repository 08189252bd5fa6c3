//! Starts OpenSSH's client for `cf ssh`: with the address and host key of the foundation, and with a one-time code as password.
//!
//! The host key is known by its fingerprint alone. So the client asks a script of ours about the key that it sees
//! (`KnownHostsCommand`), and another one for the password (`SSH_ASKPASS`). Both are in a private folder that is removed at the end; the
//! code is in the environment of the client and in no file.

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use tokio::process::Command;

const CODE: &str = "CUPOLA_SSH_CODE";
const FINGERPRINT: &str = "CUPOLA_SSH_FINGERPRINT";
/// It prints the code, whatever it is asked.
const ASKPASS: &str = "#!/bin/sh\nprintf '%s\\n' \"$CUPOLA_SSH_CODE\"\n";
/// Its arguments are the fingerprint that the client sees, the host, the kind of key and the key. It prints the key as known if the
/// fingerprint is the right one.
const KNOWN_HOST: &str = "#!/bin/sh\n[ \"$1\" != \"$CUPOLA_SSH_FINGERPRINT\" ] || printf '%s %s %s\\n' \"$2\" \"$3\" \"$4\"\n";

/// Whether the session gets a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Terminal {
    /// A shell gets one if the input is a terminal.
    #[default]
    Auto,
    IfInputIsOne,
    Always,
    Never,
}

/// A session as the user wants it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    /// The address of the ssh-proxy: `ssh.cupola.test:2222`.
    pub(crate) endpoint: String,
    /// The fingerprint of its host key. `None`: any key is accepted.
    pub(crate) fingerprint: Option<String>,
    /// `cf:PROCESS/INDEX`.
    pub(crate) user: String,
    /// The forwarded ports: `[ADDRESS:]PORT:HOST:PORT`.
    pub(crate) forwards: Vec<String>,
    pub(crate) terminal: Terminal,
    /// Whether neither a shell nor a command runs.
    pub(crate) is_silent: bool,
    pub(crate) command: Vec<String>,
}

/// Runs the client until it ends, and returns its exit code.
pub(crate) async fn run(wish: &Wish, code: &str) -> Result<u8> {
    let folder = tempfile::tempdir().context("make a folder for the scripts of the SSH client")?;
    let known = wish.fingerprint.as_deref().map(fingerprint).transpose()?;
    let askpass = folder.path().join("askpass");
    script(&askpass, ASKPASS)?;
    script(&folder.path().join("known-host"), KNOWN_HOST)?;
    let mut client = Command::new("ssh");
    client
        .args(arguments(wish, known.as_ref(), folder.path())?)
        .env("SSH_ASKPASS", &askpass)
        .env("SSH_ASKPASS_REQUIRE", "force")
        .env(CODE, code);
    if let Some(known) = &known {
        client.env(FINGERPRINT, &known.text);
    }
    let status = client.status().await.context(
        "'cf ssh' starts OpenSSH's client, which is missing: install it (Debian: openssh-client), version 8.5 or newer",
    )?;
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(255))
}

fn script(path: &Path, text: &str) -> Result<()> {
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o700)
        .open(path)
        .with_context(|| format!("create {}", path.display()))?;
    file.write_all(text.as_bytes())
        .with_context(|| format!("write {}", path.display()))
}

/// A fingerprint as OpenSSH shows it, and the hash of which it is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    text: String,
    hash: &'static str,
}

/// Converts a fingerprint of the API to the form of OpenSSH.
fn fingerprint(text: &str) -> Result<Known> {
    let sha256 = |text: &str| Known {
        text: format!("SHA256:{text}"),
        hash: "sha256",
    };
    match text.len() {
        43 => Ok(sha256(text)),
        64 => {
            let bytes = hex::decode(text).context("read the fingerprint of the host key")?;
            Ok(sha256(&STANDARD_NO_PAD.encode(bytes)))
        }
        47 => Ok(Known {
            text: format!("MD5:{}", text.to_ascii_lowercase()),
            hash: "md5",
        }),
        _ => bail!(
            "OpenSSH's client cannot check the fingerprint {text:?} of the host key: --skip-host-validation connects without the check"
        ),
    }
}

/// Returns the arguments of the client. The configuration of the user is not read.
fn arguments(wish: &Wish, known: Option<&Known>, folder: &Path) -> Result<Vec<String>> {
    let (host, port) = wish
        .endpoint
        .rsplit_once(':')
        .filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        .with_context(|| {
            format!(
                "the address {:?} of the ssh-proxy has no port",
                wish.endpoint
            )
        })?;
    let mut options = vec![
        format!("User={}", wish.user),
        "PreferredAuthentications=password".to_owned(),
        "NumberOfPasswordPrompts=1".to_owned(),
        "ServerAliveInterval=30".to_owned(),
        "ExitOnForwardFailure=yes".to_owned(),
        "ControlPath=none".to_owned(),
        "UserKnownHostsFile=/dev/null".to_owned(),
        "GlobalKnownHostsFile=/dev/null".to_owned(),
        "LogLevel=ERROR".to_owned(),
    ];
    match known {
        Some(known) => {
            let script = folder.join("known-host");
            options.extend([
                "StrictHostKeyChecking=yes".to_owned(),
                format!("FingerprintHash={}", known.hash),
                format!("KnownHostsCommand=/bin/sh {} %f %H %t %K", script.display()),
            ]);
        }
        None => options.push("StrictHostKeyChecking=no".to_owned()),
    }
    let mut arguments = vec!["-F".to_owned(), "none".to_owned()];
    for option in options {
        arguments.extend(["-o".to_owned(), option]);
    }
    arguments.extend(["-p".to_owned(), port.to_owned()]);
    for forward in &wish.forwards {
        arguments.extend(["-L".to_owned(), forward.clone()]);
    }
    if wish.is_silent {
        arguments.push("-N".to_owned());
    }
    match wish.terminal {
        Terminal::Auto => {}
        Terminal::IfInputIsOne => arguments.push("-t".to_owned()),
        Terminal::Always => arguments.push("-tt".to_owned()),
        Terminal::Never => arguments.push("-T".to_owned()),
    }
    arguments.extend(["--".to_owned(), host.trim_matches(['[', ']']).to_owned()]);
    arguments.extend(wish.command.iter().cloned());
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_of_the_api_become_those_of_openssh() {
        let base64 = "bbXpuKG6zhzdmnxq256TlqzFBzRl2f6OOg722cYNbU8";
        let digits = "6db5e9b8a1bace1cdd9a7c6adb9e9396acc5073465d9fe8e3a0ef6d9c60d6d4f";
        for text in [base64, digits] {
            let known = fingerprint(text).unwrap();
            assert_eq!(known.text, format!("SHA256:{base64}"));
            assert_eq!(known.hash, "sha256");
        }
        let md5 = "CF:07:be:9d:68:ae:65:54:6d:a0:93:c3:6f:bd:0d:82";
        assert_eq!(
            fingerprint(md5).unwrap().text,
            format!("MD5:{}", md5.to_lowercase())
        );
        let sha1 = "e4:c1:89:26:af:a5:db:fd:10:c0:e0:6a:60:ba:c6:98:e1:fb:27:93";
        let refused = fingerprint(sha1).unwrap_err().to_string();
        assert!(refused.contains("--skip-host-validation"), "{refused}");
    }

    fn wish() -> Wish {
        Wish {
            endpoint: "ssh.cupola.test:2222".into(),
            user: "cf:guid/1".into(),
            ..Wish::default()
        }
    }

    fn line(wish: &Wish, known: Option<&Known>) -> String {
        arguments(wish, known, Path::new("/f")).unwrap().join(" ")
    }

    #[test]
    fn a_shell_with_a_checked_host_key() {
        let known = fingerprint("bbXpuKG6zhzdmnxq256TlqzFBzRl2f6OOg722cYNbU8").unwrap();
        let line = line(&wish(), Some(&known));
        assert!(line.starts_with("-F none -o User=cf:guid/1 "), "{line}");
        assert!(
            line.contains("-o StrictHostKeyChecking=yes -o FingerprintHash=sha256 -o KnownHostsCommand=/bin/sh /f/known-host %f %H %t %K"),
            "{line}"
        );
        assert!(line.ends_with(" -p 2222 -- ssh.cupola.test"), "{line}");
    }

    #[test]
    fn everything_that_a_user_may_want() {
        let all = Wish {
            forwards: vec!["8080:localhost:80".into(), "9090:db:5432".into()],
            terminal: Terminal::Always,
            is_silent: true,
            command: vec!["ls".into(), "-l".into()],
            ..wish()
        };
        let line = line(&all, None);
        assert!(line.contains("StrictHostKeyChecking=no"), "{line}");
        assert!(
            line.ends_with(
                "-p 2222 -L 8080:localhost:80 -L 9090:db:5432 -N -tt -- ssh.cupola.test ls -l"
            ),
            "{line}"
        );
        let wrong = Wish {
            endpoint: "ssh.cupola.test".into(),
            ..wish()
        };
        assert!(arguments(&wrong, None, Path::new("/f")).is_err());
    }
}
