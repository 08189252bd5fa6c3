//! `cf help`: the overview and one page per command. Both come from the command table.

use crate::args::{Flag, Spec};
use crate::by_curl;
use crate::ui::Ui;

/// The commands of the cf CLI that this client does not have, with their aliases.
pub(crate) const ORIGINAL: &[&str] = &[
    "add-plugin-repo apply-manifest bind-running-security-group",
    "bind-security-group bind-staging-security-group cancel-deployment",
    "cleanup-outdated-service-bindings config continue-deployment copy-source create-app create-app-manifest",
    "create-buildpack create-isolation-segment create-package create-security-group",
    "delete-buildpack",
    "delete-isolation-segment delete-security-group",
    "delete-user disable-feature-flag disable-org-isolation",
    "download-droplet droplets enable-feature-flag enable-org-isolation feature-flag",
    "feature-flags get-health-check get-readiness-health-check install-plugin isolation-segments labels",
    "list-plugin-repos move-route org-users packages passwd pw plugins",
    "remove-plugin-repo rename-org rename-service rename-space",
    "repo-plugins reset-org-default-isolation-segment reset-space-isolation-segment revision revisions rollback",
    "router-groups running-environment-variable-group revg running-security-groups security-group security-groups",
    "set-droplet",
    "set-label set-org-default-isolation-segment set-running-environment-variable-group srevg",
    "set-space-isolation-segment set-staging-environment-variable-group ssevg share-private-domain share-route",
    "space-users stack stage-package stage",
    "staging-environment-variable-group sevg staging-security-groups",
    "unbind-running-security-group unbind-security-group unbind-staging-security-group",
    "uninstall-plugin unset-label unset-org-role unset-space-role unshare-private-domain unshare-route",
    "update-buildpack update-destination update-security-group update-stack",
    "v3-push",
];

/// Returns advice for a command that the cf CLI has and this client does not; `None` for other names.
pub(crate) fn of_the_original(name: &str) -> Option<String> {
    let is_known = ORIGINAL
        .iter()
        .any(|line| line.split(' ').any(|known| known == name));
    if !is_known {
        return None;
    }
    let request = by_curl::request(name).map(|request| {
        format!("\nThis request does the same (words in capitals stand for values):\n   {request}")
    });
    Some(format!(
        "'{name}' is a command of the cf CLI that this built-in client does not have.\nThe cf CLI (version 8 or 9) works with this foundation: install it; it uses the login of this client.{}\n'cf help' lists the commands of this client.",
        request.unwrap_or_default()
    ))
}

pub(crate) fn overview(ui: &Ui, specs: impl Iterator<Item = &'static Spec>) {
    ui.line(format!(
        "cf version {}, Cloud Foundry command line tool",
        crate::commands::VERSION
    ));
    ui.line("Usage: cf [-v] command [arguments...] [options]");
    let mut group = "";
    for spec in specs {
        if spec.group != group {
            group = spec.group;
            ui.blank();
            ui.line(ui.bold(&format!("{group}:")));
        }
        let name = if spec.alias.is_empty() {
            spec.name.to_owned()
        } else {
            format!("{},{}", spec.name, spec.alias)
        };
        ui.line(format!("   {name:<26} {}", spec.about));
    }
    ui.blank();
    ui.line(ui.bold("Environment variables:"));
    for (name, about) in VARIABLES {
        ui.line(format!("   {name:<26} {about}"));
    }
    ui.blank();
    ui.line("Use 'cf help COMMAND' (or 'cf COMMAND --help') for the options and an example of one command.");
    ui.line("Begin with: cf login -a https://api.<system domain> -u USER, cf target -o ORG -s SPACE, cf push APP");
}

const VARIABLES: [(&str, &str); 8] = [
    (
        "CF_HOME=path/to/dir",
        "Keep the config file in path/to/dir/.cf instead of ~/.cf",
    ),
    ("CF_USERNAME, CF_PASSWORD", "Credentials for 'cf auth'"),
    (
        "CF_BROKER_PASSWORD",
        "Password of a service broker that is registered or changed",
    ),
    (
        "CF_COLOR=false",
        "Do not colour output (true: always); NO_COLOR does the same",
    ),
    (
        "CF_TRACE=true",
        "Print API requests and responses, with secrets hidden (or append them to a file: CF_TRACE=path)",
    ),
    (
        "CF_STAGING_TIMEOUT=15",
        "Longest wait for staging, in minutes",
    ),
    (
        "CF_STARTUP_TIMEOUT=5",
        "Longest wait for instances to start, in minutes",
    ),
    (
        "https_proxy=host:port",
        "Proxy for an API that is not on this machine",
    ),
];

pub(crate) fn command(ui: &Ui, spec: &Spec) {
    ui.line(ui.bold("NAME:"));
    ui.line(format!("   {} - {}", spec.name, spec.about));
    ui.blank();
    ui.line(ui.bold("USAGE:"));
    ui.line(format!("   {}", usage(spec)));
    ui.blank();
    ui.line(ui.bold("EXAMPLES:"));
    for example in spec.examples {
        ui.line(format!("   {example}"));
    }
    if !spec.alias.is_empty() {
        ui.blank();
        ui.line(ui.bold("ALIAS:"));
        ui.line(format!("   {}", spec.alias));
    }
    if !spec.flags.is_empty() {
        ui.blank();
        ui.line(ui.bold("OPTIONS:"));
        let names: Vec<_> = spec.flags.iter().map(spellings).collect();
        let width = names.iter().map(String::len).max().unwrap_or(0);
        for (flag, name) in spec.flags.iter().zip(names) {
            ui.line(format!("   {name:<width$}   {}", flag.help));
        }
    }
}

fn usage(spec: &Spec) -> String {
    let flags = spec.flags.iter().map(|f| {
        let value = f.value.map(|v| format!(" {v}")).unwrap_or_default();
        format!(
            "[{}{value}]",
            if let Some(short) = f.short {
                format!("-{short}")
            } else {
                f.spelled()
            }
        )
    });
    let args = spec.args.iter().map(|a| (*a).to_owned());
    std::iter::once(format!("cf {}", spec.name))
        .chain(args)
        .chain(flags)
        .collect::<Vec<_>>()
        .join(" ")
}

fn spellings(flag: &Flag) -> String {
    match flag.short {
        Some(short) if !flag.long.is_empty() => format!("--{}, -{short}", flag.long),
        _ => flag.spelled(),
    }
}

/// Returns whether a mistyped name may mean this one: one begins with the other, or few letters differ.
pub(crate) fn is_near(typed: &str, known: &str) -> bool {
    (typed.len() >= 3 && known.starts_with(typed)) || distance(typed, known) <= 1 + known.len() / 6
}

fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_suggested() {
        assert!(
            is_near("psh", "push")
                && is_near("restrat", "restart")
                && is_near("create", "create-org")
        );
        assert!(!is_near("foo", "push") && !is_near("xyz", "orgs"));
    }
}
