//! All commands: their table, and the dispatch from a name to a function. There is one file per noun.

pub(crate) mod apps;
mod brokers;
mod curl;
mod domains;
mod env;
mod events;
mod health_check;
mod lifecycle;
mod login;
mod logs;
mod managed_services;
mod marketplace;
mod network;
mod orgs;
mod platform;
mod push;
mod quotas;
mod route_policies;
mod route_services;
mod routes;
mod service_access;
mod service_bindings;
mod service_info;
mod service_keys;
mod service_sharing;
mod services;
mod spaces;
mod ssh;
mod tasks;
mod users;

use crate::args::{self, Parsed, Spec, Usage};
use crate::help;
use crate::session::Session;
use crate::ui::{Environment, Ui};
use anyhow::Result;

/// The error that ends the command with this exit code. Everything has been printed already.
#[derive(Debug, thiserror::Error)]
#[error("exit code {0}")]
pub(crate) struct Exit(pub(crate) u8);

/// The tables in the order of `cf help`.
const TABLES: &[&[Spec]] = &[
    login::SPECS,
    push::SPECS,
    apps::SPECS,
    lifecycle::SPECS,
    health_check::SPECS,
    tasks::SPECS,
    env::SPECS,
    logs::SPECS,
    events::SPECS,
    ssh::SPECS,
    orgs::SPECS,
    spaces::SPECS,
    domains::SPECS,
    routes::SPECS,
    route_policies::SPECS,
    service_info::SPECS,
    managed_services::SPECS,
    services::SPECS,
    route_services::SPECS,
    service_bindings::SPECS,
    service_keys::SPECS,
    service_sharing::SPECS,
    marketplace::SPECS,
    brokers::SPECS,
    service_access::SPECS,
    platform::SPECS,
];

const OTHERS: &[&[Spec]] = &[
    network::SPECS,
    quotas::ORGANIZATION,
    quotas::SPACE,
    users::SPECS,
    curl::SPECS,
];

pub(crate) fn all() -> impl Iterator<Item = &'static Spec> {
    TABLES.iter().chain(OTHERS).copied().flatten()
}

fn find(name: &str) -> Option<&'static Spec> {
    all().find(|s| s.name == name || (!s.alias.is_empty() && s.alias == name))
}

/// The version, which scripts compare with that of the cf CLI.
pub(crate) const VERSION: &str = concat!("8.18.4+cupola.", env!("CARGO_PKG_VERSION"));

pub(crate) async fn run(args: Vec<String>, environment: Environment) -> u8 {
    // `cf -v apps` traces as `cf apps -v` does.
    let (global_verbose, args) = match args.split_first() {
        Some((first, rest)) if matches!(first.as_str(), "-v" | "--verbose") && !rest.is_empty() => {
            (true, rest.to_vec())
        }
        _ => (false, args),
    };
    let parsed = match parse_command(&args) {
        Ok(understood) => understood,
        Err(answer) => {
            let ui = Ui::new(environment);
            let code = answer.print(&ui);
            return ui.exit_code(code);
        }
    };
    let (spec, parsed) = parsed;
    let session = match Session::open(environment, parsed.verbose || global_verbose) {
        Ok(session) => session,
        Err(refused) => {
            refused.0.failed(&format!("{:#}", refused.1));
            return 1;
        }
    };
    let code = match Box::pin(dispatch(&session, spec, &parsed)).await {
        Ok(()) => unused(&session.ui, spec, &parsed),
        Err(error) => report(&session.ui, spec, &error),
    };
    session.ui.exit_code(code)
}

/// Reports flags that the command did not read. The parser refuses flags that would have no effect; one that it does not detect
/// must not look like success.
fn unused(ui: &Ui, spec: &Spec, parsed: &Parsed) -> u8 {
    let flags = parsed.without_effect(spec);
    if flags.is_empty() {
        return 0;
    }
    ui.failed(&format!(
        "{} was not used here; the rest was done. See 'cf help {}'.",
        flags.join(", "),
        spec.name
    ));
    1
}

/// A command line that is answered without a session.
enum Answer {
    Overview,
    Version,
    Help(Option<String>),
    Unknown(String),
    HelpOf(&'static Spec),
    Misused(&'static Spec, Usage),
}

fn parse_command(args: &[String]) -> Result<(&'static Spec, Parsed), Answer> {
    let Some((name, rest)) = args.split_first() else {
        return Err(Answer::Overview);
    };
    match name.as_str() {
        "version" | "-v" | "--version" => return Err(Answer::Version),
        "help" | "h" | "-h" | "--help" => {
            let about = rest.iter().find(|a| !a.starts_with('-'));
            return Err(Answer::Help(about.cloned()));
        }
        _ => {}
    }
    let spec = find(name).ok_or_else(|| Answer::Unknown(name.clone()))?;
    match args::parse(spec, rest) {
        Ok(parsed) if parsed.help => Err(Answer::HelpOf(spec)),
        Ok(parsed) => Ok((spec, parsed)),
        Err(usage) => Err(Answer::Misused(spec, usage)),
    }
}

impl Answer {
    fn print(self, ui: &Ui) -> u8 {
        match self {
            Self::Overview | Self::Help(None) => help::overview(ui, all()),
            Self::Version => ui.line(format!("cf version {VERSION}")),
            Self::HelpOf(spec) => help::command(ui, spec),
            Self::Misused(spec, usage) => return misused(ui, spec, &usage),
            Self::Help(Some(name)) | Self::Unknown(name) => match find(&name) {
                Some(spec) => help::command(ui, spec),
                None => return unknown(&name, ui),
            },
        }
        0
    }
}

fn report(ui: &Ui, spec: &Spec, error: &anyhow::Error) -> u8 {
    if let Some(Exit(code)) = error.downcast_ref() {
        return *code;
    }
    if let Some(usage) = error.downcast_ref::<Usage>() {
        return misused(ui, spec, usage);
    }
    ui.failed(&format!("{error:#}"));
    1
}

fn misused(ui: &Ui, spec: &Spec, usage: &Usage) -> u8 {
    ui.warn(format!("Incorrect Usage: {usage}\n"));
    help::command(ui, spec);
    1
}

fn unknown(name: &str, ui: &Ui) -> u8 {
    if let Some(text) = help::of_the_original(name) {
        ui.warn(text);
        return 1;
    }
    let near: Vec<_> = all()
        .map(|s| s.name)
        .filter(|known| help::is_near(name, known))
        .collect();
    let hint = if near.is_empty() {
        String::new()
    } else {
        format!("\n\nDid you mean?\n   {}", near.join("\n   "))
    };
    ui.warn(format!(
        "'{name}' is not a registered command. See 'cf help'{hint}"
    ));
    1
}

async fn dispatch(s: &Session, spec: &Spec, p: &Parsed) -> Result<()> {
    match spec.name {
        "api" => login::api(s, p).await,
        "login" => login::login(s, p).await,
        "logout" => login::logout(s),
        "auth" => login::auth(s, p).await,
        "target" => login::target(s, p).await,
        "oauth-token" => login::oauth_token(s).await,

        "push" => crate::push::push(s, spec, p).await,
        "app" => apps::app(s, p).await,
        "apps" => apps::apps(s).await,
        "scale" => apps::scale(s, spec, p).await,
        "rename" => apps::rename(s, p).await,
        "delete" => apps::delete(s, p).await,
        "start" => lifecycle::start(s, p).await,
        "stop" => lifecycle::stop(s, p).await,
        "restart" => lifecycle::restart(s, spec, p).await,
        "restage" => lifecycle::restage(s, spec, p).await,
        "restart-app-instance" => lifecycle::restart_app_instance(s, p).await,
        "set-health-check" => health_check::set(s, spec, p).await,

        "env" => env::env(s, p).await,
        "set-env" => env::set_env(s, p).await,
        "unset-env" => env::unset_env(s, p).await,
        "logs" => logs::logs(s, p).await,
        "events" => events::events(s, p).await,
        name if ssh::SPECS.iter().any(|ssh| ssh.name == name) => ssh::run(s, spec, p).await,

        "orgs" => orgs::orgs(s).await,
        "org" => orgs::org(s, p).await,
        "create-org" => orgs::create_org(s, p).await,
        "delete-org" => orgs::delete_org(s, p).await,
        "spaces" => spaces::spaces(s).await,
        "space" => spaces::space(s, p).await,
        "create-space" => spaces::create_space(s, p).await,
        "delete-space" => spaces::delete_space(s, p).await,

        "domains" => domains::domains(s).await,
        "create-shared-domain" => domains::create_shared(s, p).await,
        "create-private-domain" => domains::create_private(s, p).await,
        "delete-shared-domain" | "delete-private-domain" => domains::delete(s, spec, p).await,
        "routes" => routes::routes(s, p).await,
        "route" => routes::route(s, spec, p).await,
        "create-route" => routes::create_route(s, spec, p).await,
        "check-route" => routes::check_route(s, spec, p).await,
        "map-route" => routes::map_route(s, spec, p).await,
        "update-route" => routes::update_route(s, spec, p).await,
        "unmap-route" => routes::unmap_route(s, spec, p).await,
        "delete-route" => routes::delete_route(s, spec, p).await,
        "route-policies" => route_policies::policies(s, p).await,
        "add-route-policy" => route_policies::add(s, p).await,
        "remove-route-policy" => route_policies::remove(s, p).await,
        "delete-orphaned-routes" => routes::delete_orphaned_routes(s, p).await,

        "create-user-provided-service" => services::create(s, p).await,
        "update-user-provided-service" => services::update(s, p).await,
        "delete-service" => services::delete(s, p).await,
        "bind-route-service" => route_services::bind(s, spec, p).await,
        "unbind-route-service" => route_services::unbind(s, spec, p).await,
        name if service_info::SPECS.iter().any(|of| of.name == name) => {
            service_info::run(s, spec, p).await
        }
        name if managed_services::SPECS.iter().any(|of| of.name == name) => {
            managed_services::run(s, spec, p).await
        }
        name if service_bindings::SPECS.iter().any(|of| of.name == name) => {
            service_bindings::run(s, spec, p).await
        }
        name if service_keys::SPECS.iter().any(|of| of.name == name) => {
            service_keys::run(s, spec, p).await
        }
        name if service_sharing::SPECS.iter().any(|of| of.name == name) => {
            service_sharing::run(s, spec, p).await
        }

        name if brokers::SPECS.iter().any(|of| of.name == name) => brokers::run(s, spec, p).await,
        name if marketplace::SPECS.iter().any(|of| of.name == name) => {
            marketplace::run(s, spec, p).await
        }
        name if service_access::SPECS.iter().any(|of| of.name == name) => {
            service_access::run(s, spec, p).await
        }

        "buildpacks" => platform::buildpacks(s).await,
        "stacks" => platform::stacks(s).await,
        "run-task" => tasks::run_task(s, spec, p).await,
        "tasks" => tasks::tasks(s, p).await,
        "terminate-task" => tasks::terminate_task(s, p).await,
        "add-network-policy" => network::add(s, p).await,
        "remove-network-policy" => network::remove(s, p).await,
        "network-policies" => network::list(s, p).await,
        name if quotas::is_of(name) => quotas::run(s, spec, p).await,
        "create-user" => users::create_user(s, p).await,
        "set-org-role" => users::set_org_role(s, p).await,
        "set-space-role" => users::set_space_role(s, p).await,
        "curl" => curl::curl(s, p).await,
        name => anyhow::bail!("the command '{name}' has no implementation"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_name_and_alias_is_unique_and_explained() {
        let mut names = BTreeSet::new();
        for spec in all() {
            assert!(names.insert(spec.name), "{} twice", spec.name);
            assert!(
                spec.alias.is_empty() || names.insert(spec.alias),
                "{} twice",
                spec.alias
            );
            assert!(
                !spec.about.is_empty() && !spec.examples.is_empty() && !spec.group.is_empty(),
                "{}",
                spec.name
            );
            for example in spec.examples {
                let words: Vec<_> = example
                    .split_whitespace()
                    .skip(2)
                    .map(|w| w.trim_matches('\'').to_owned())
                    .collect();
                assert!(
                    example.starts_with(&format!("cf {}", spec.name)),
                    "{example}"
                );
                let simple = !example.contains('"') && !example.contains('{');
                assert!(
                    !simple || args::parse(spec, &words).is_ok(),
                    "{example}: {:?}",
                    args::parse(spec, &words)
                );
            }
        }
    }

    /// Tests that the commands that messages recommend exist.
    #[test]
    fn messages_name_commands_that_exist() {
        let sources = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut folders = vec![sources];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                for words in std::fs::read_to_string(&path)
                    .unwrap()
                    .split("'cf ")
                    .skip(1)
                {
                    let name: String = words
                        .chars()
                        .take_while(|c| c.is_ascii_lowercase() || *c == '-')
                        .collect();
                    assert!(
                        matches!(name.as_str(), "" | "help" | "delete-" | "version")
                            || find(&name).is_some(),
                        "{} names 'cf {name}'",
                        path.display()
                    );
                }
            }
        }
    }

    #[test]
    fn commands_of_the_original_are_ours_or_point_at_it() {
        for name in help::ORIGINAL.iter().flat_map(|line| line.split(' ')) {
            assert!(find(name).is_none(), "{name} is a command of this client");
        }
        assert!(
            help::of_the_original("create-buildpack")
                .unwrap()
                .contains("'create-buildpack'")
        );
        assert!(help::of_the_original("psh").is_none());
    }

    #[test]
    fn aliases_lead_to_their_commands() {
        for (alias, name) in [
            ("p", "push"),
            ("a", "apps"),
            ("r", "routes"),
            ("s", "services"),
            ("st", "start"),
            ("sp", "stop"),
            ("rs", "restart"),
            ("rg", "restage"),
            ("d", "delete"),
            ("t", "target"),
            ("l", "login"),
            ("lo", "logout"),
            ("o", "orgs"),
            ("e", "env"),
            ("se", "set-env"),
            ("co", "create-org"),
            ("csp", "create-space"),
        ] {
            assert!(find(alias).is_none_or(|s| s.name == name), "{alias}");
            assert!(find(alias).is_some(), "{alias}");
        }
    }
}
