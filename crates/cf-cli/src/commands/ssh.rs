//! SSH: sessions in instances, one-time codes, and the features of apps and spaces.

use crate::api::types::{Process, Root, Space};
use crate::api::{Request, with_query};
use crate::args::{Flag, Parsed, Spec, Usage, switch, value};
use crate::commands::Exit;
use crate::openssh::{self, Terminal, Wish};
use crate::session::Session;
use anyhow::{Context as _, Result, bail, ensure};
use reqwest::{Method, Url};
use serde::Deserialize;
use serde_json::json;

const GROUP: &str = "SSH";
const COMMAND: Flag = value(
    Some('c'),
    "command",
    "COMMAND",
    "Command to run instead of a shell",
)
.repeats();
const FORWARD: Flag = value(
    Some('L'),
    "",
    "[ADDRESS:]PORT:HOST:PORT",
    "Forward a port of this machine to a host that the instance reaches",
)
.repeats();

pub(super) const SPECS: &[Spec] = &[
    Spec {
        name: "ssh",
        alias: "",
        group: GROUP,
        about: "Log in to an instance of an app",
        args: &["APP_NAME"],
        flags: &[
            value(
                Some('i'),
                "app-instance-index",
                "INDEX",
                "Index of the instance; default: 0",
            ),
            value(None, "process", "TYPE", "Process type; default: web"),
            COMMAND,
            FORWARD,
            switch(
                Some('N'),
                "skip-remote-execution",
                "Run neither a shell nor a command",
            ),
            switch(
                Some('t'),
                "request-pseudo-tty",
                "Get a terminal for a command too, if the input is one",
            ),
            switch(None, "force-pseudo-tty", "Get a terminal in every case")
                .not_with(&["request-pseudo-tty", "disable-pseudo-tty"]),
            switch(Some('T'), "disable-pseudo-tty", "Get no terminal")
                .not_with(&["request-pseudo-tty"]),
            switch(
                Some('k'),
                "skip-host-validation",
                "Do not check the host key",
            ),
        ],
        examples: &[
            "cf ssh my-app",
            "cf ssh my-app -i 1 -c env",
            "cf ssh my-app -N -L 5432:db.example.com:5432",
        ],
    },
    feature_spec(
        "ssh-code",
        "Get a one-time code for SSH clients",
        &[],
        &["cf ssh-code"],
    ),
    feature_spec(
        "ssh-enabled",
        "Show whether an app permits SSH",
        &["APP_NAME"],
        &["cf ssh-enabled my-app"],
    ),
    feature_spec(
        "enable-ssh",
        "Permit SSH to an app",
        &["APP_NAME"],
        &["cf enable-ssh my-app"],
    ),
    feature_spec(
        "disable-ssh",
        "Forbid SSH to an app",
        &["APP_NAME"],
        &["cf disable-ssh my-app"],
    ),
    feature_spec(
        "space-ssh-allowed",
        "Show whether a space permits SSH",
        &["SPACE_NAME"],
        &["cf space-ssh-allowed dev"],
    ),
    feature_spec(
        "allow-space-ssh",
        "Permit SSH to the apps of a space",
        &["SPACE_NAME"],
        &["cf allow-space-ssh dev"],
    ),
    feature_spec(
        "disallow-space-ssh",
        "Forbid SSH to the apps of a space",
        &["SPACE_NAME"],
        &["cf disallow-space-ssh dev"],
    ),
];

/// Returns a command without flags.
const fn feature_spec(
    name: &'static str,
    about: &'static str,
    args: &'static [&'static str],
    examples: &'static [&'static str],
) -> Spec {
    Spec {
        name,
        alias: "",
        group: GROUP,
        about,
        args,
        flags: &[],
        examples,
    }
}

pub(super) async fn run(s: &Session, spec: &Spec, p: &Parsed) -> Result<()> {
    match spec.name {
        "ssh" => ssh(s, p).await,
        "ssh-code" => {
            s.require_login()?;
            s.ui.line(one_time_code(s).await?);
            Ok(())
        }
        "ssh-enabled" => ssh_enabled(s, p).await,
        "enable-ssh" => set_app(s, p, true).await,
        "disable-ssh" => set_app(s, p, false).await,
        "space-ssh-allowed" => space_allowed(s, p).await,
        "allow-space-ssh" => set_space(s, p, true).await,
        _ => set_space(s, p, false).await,
    }
}

async fn ssh(s: &Session, p: &Parsed) -> Result<()> {
    let index: u32 = match p.get("app-instance-index") {
        Some(text) => text.parse().map_err(|_| {
            Usage(format!(
                "invalid argument for flag `--app-instance-index' (expected a whole number): {text:?}"
            ))
        })?,
        None => 0,
    };
    let kind = p.get("process").unwrap_or("web");
    let terminal = match () {
        () if p.has("force-pseudo-tty") => Terminal::Always,
        () if p.has("disable-pseudo-tty") => Terminal::Never,
        () if p.has("request-pseudo-tty") => Terminal::IfInputIsOne,
        () => Terminal::Auto,
    };
    let skips_check = p.has("skip-host-validation");
    let (forwards, command) = (p.all("L").to_vec(), p.all("command").to_vec());
    let is_silent = p.has("skip-remote-execution");
    ensure!(
        !is_silent || command.is_empty(),
        Usage("--skip-remote-execution and --command cannot be used together".to_owned())
    );
    let target = s.require_space()?;
    let app = s.app(p.arg(0), &target).await?;
    ensure!(
        app.state == "STARTED",
        "App '{}' is not started. Use 'cf start {}'.",
        app.name,
        app.name
    );
    let process: Process = s
        .get(&format!("/v3/apps/{}/processes/{kind}", app.guid))
        .await
        .with_context(|| format!("Process '{kind}' of app '{}' not found.", app.name))?;
    let (endpoint, fingerprint) = proxy(s).await?;
    let wish = Wish {
        endpoint,
        fingerprint: fingerprint.filter(|_| !skips_check),
        user: format!("cf:{}/{index}", process.guid),
        forwards,
        terminal,
        is_silent,
        command,
    };
    ensure!(
        skips_check || wish.fingerprint.is_some(),
        "The foundation does not show the fingerprint of its SSH host key: --skip-host-validation connects without the check."
    );
    let code = one_time_code(s).await?;
    match openssh::run(&wish, &code).await? {
        0 => Ok(()),
        code => Err(Exit(code).into()),
    }
}

/// Returns the address of the ssh-proxy and the fingerprint of its host key.
async fn proxy(s: &Session) -> Result<(String, Option<String>)> {
    let root: Root = s.get("/").await?;
    let link = root.links.get("app_ssh").cloned().flatten();
    let link = link.unwrap_or_default();
    let endpoint = link.href.filter(|href| !href.is_empty());
    let endpoint = endpoint.context("SSH is disabled on this foundation.")?;
    let fingerprint = link.meta.get("host_key_fingerprint");
    let fingerprint = fingerprint
        .and_then(|text| text.as_str())
        .map(str::to_owned);
    Ok((endpoint, fingerprint.filter(|text| !text.is_empty())))
}

/// Returns a code that the ssh-proxy accepts once.
async fn one_time_code(s: &Session) -> Result<String> {
    let (uaa, client) = {
        let config = s.config();
        (config.uaa_endpoint.clone(), config.ssh_oauth_client.clone())
    };
    let query = [
        ("response_type", "code"),
        ("grant_type", "authorization_code"),
        ("client_id", client.as_str()),
    ];
    let url = format!("{}/oauth/authorize", uaa.trim_end_matches('/'));
    let response = s
        .authorized(Request::new(Method::GET, with_query(&url, &query)))
        .await?;
    ensure!(
        response.status == 302,
        "The UAA refused a one-time code with status {}.",
        response.status
    );
    let location = response.headers.get("location");
    let location = location
        .and_then(|text| text.to_str().ok())
        .unwrap_or_default();
    match code_of(location) {
        Some(code) => Ok(code),
        None => bail!("The UAA's answer has no one-time code."),
    }
}

/// Returns the code in the query of a URL.
fn code_of(location: &str) -> Option<String> {
    let url = Url::parse(location).ok()?;
    let mut pairs = url.query_pairs();
    let code = pairs.find(|(name, _)| name == "code")?.1.into_owned();
    (!code.is_empty()).then_some(code)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Feature {
    enabled: bool,
    reason: String,
}

fn word(enabled: bool) -> &'static str {
    if enabled { "enabled" } else { "disabled" }
}

async fn ssh_enabled(s: &Session, p: &Parsed) -> Result<()> {
    let target = s.require_space()?;
    let app = s.app(p.arg(0), &target).await?;
    let found: Feature = s.get(&format!("/v3/apps/{}/ssh_enabled", app.guid)).await?;
    let word = word(found.enabled);
    s.ui.line(format!("ssh support is {word} for app '{}'.", app.name));
    if !found.reason.is_empty() {
        s.ui.line(found.reason);
    }
    Ok(())
}

async fn set_app(s: &Session, p: &Parsed, enabled: bool) -> Result<()> {
    let target = s.require_space()?;
    let app = s.app(p.arg(0), &target).await?;
    let doing = if enabled { "Enabling" } else { "Disabling" };
    let line = format!("{doing} ssh support for app {{}} as {{}}...");
    s.ui.flavor(&line, &[&app.name, &target.user]);
    let path = format!("/v3/apps/{}/features/ssh", app.guid);
    let before: Feature = s.get(&path).await?;
    if before.enabled == enabled {
        let word = word(enabled);
        s.ui.line(format!(
            "ssh support for app '{}' is already {word}.",
            app.name
        ));
    }
    let _: Feature = s.patch(&path, &json!({ "enabled": enabled })).await?;
    s.ui.ok();
    if enabled {
        s.ui.line("TIP: An app restart may be required for the change to take effect.");
    }
    Ok(())
}

async fn space_of(s: &Session, p: &Parsed) -> Result<(Space, String)> {
    let target = s.require_org()?;
    let space = s.space(p.arg(0), &target.org.guid).await?;
    Ok((space, target.user))
}

async fn space_allowed(s: &Session, p: &Parsed) -> Result<()> {
    let (space, _) = space_of(s, p).await?;
    let path = format!("/v3/spaces/{}/features/ssh", space.guid);
    let found: Feature = s.get(&path).await?;
    let word = word(found.enabled);
    s.ui.line(format!("ssh support is {word} in space '{}'.", space.name));
    Ok(())
}

async fn set_space(s: &Session, p: &Parsed, enabled: bool) -> Result<()> {
    let (space, user) = space_of(s, p).await?;
    let doing = if enabled { "Enabling" } else { "Disabling" };
    let line = format!("{doing} ssh support for space {{}} as {{}}...");
    s.ui.flavor(&line, &[&space.name, &user]);
    let path = format!("/v3/spaces/{}/features/ssh", space.guid);
    let _: Feature = s.patch(&path, &json!({ "enabled": enabled })).await?;
    s.ui.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_in_the_query_of_the_redirect() {
        let code = |text| code_of(text);
        assert_eq!(
            code("https://uaa.test/login?code=aB3&state=x").as_deref(),
            Some("aB3")
        );
        for none in ["", "https://uaa.test/login", "https://uaa.test/login?code="] {
            assert_eq!(code(none), None, "{none}");
        }
    }
}
