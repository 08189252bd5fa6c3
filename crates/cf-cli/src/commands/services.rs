//! Service instances that users provide, and their bindings to apps.

use super::routes::names;
use crate::api::types::{App, ServiceBinding, ServiceInstance};
use crate::api::{Request, filter};
use crate::args::{Flag, Parsed, Spec, Usage, switch, value};
use crate::session::{Session, Target};
use anyhow::{Context as _, Result, bail};
use reqwest::Method;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

const GROUP: &str = "Services";
const INSTANCES: &str = "/v3/service_instances";
const BINDINGS: &str = "/v3/service_credential_bindings";

const CREDENTIALS: Flag = value(
    Some('p'),
    "",
    "CREDENTIALS",
    "Credentials as a JSON object, as the path of a file with one, or as names whose values are asked for",
);
const DRAIN: Flag = value(
    Some('l'),
    "",
    "SYSLOG_DRAIN_URL",
    "URL to which logs are drained",
);
const ROUTE_SERVICE: Flag = value(
    Some('r'),
    "",
    "ROUTE_SERVICE_URL",
    "URL to which requests for bound routes are forwarded (https)",
);
const TAGS: Flag = value(Some('t'), "", "TAGS", "Tags, separated by commas");
const WAIT: Flag = switch(Some('w'), "wait", "Wait until it is done");

pub(super) const SPECS: &[Spec] = &[
    Spec {
        name: "services",
        alias: "s",
        group: GROUP,
        about: "List all service instances in the target space",
        args: &[],
        flags: &[switch(None, "no-apps", "Leave out the bound apps")],
        examples: &["cf services"],
    },
    Spec {
        name: "service",
        alias: "",
        group: GROUP,
        about: "Show a service instance and the apps that are bound to it",
        args: &["SERVICE_INSTANCE"],
        flags: &[switch(None, "guid", "Show only the guid")],
        examples: &["cf service my-db"],
    },
    Spec {
        name: "create-user-provided-service",
        alias: "cups",
        group: GROUP,
        about: "Make a service that runs elsewhere available to apps",
        args: &["SERVICE_INSTANCE"],
        flags: &[CREDENTIALS, DRAIN, ROUTE_SERVICE, TAGS],
        examples: &[
            "cf create-user-provided-service my-db -p host,port,password",
            "cf create-user-provided-service my-db -p /path/to/credentials.json -t sql,test",
            "cf create-user-provided-service my-proxy -r https://proxy.example.com",
        ],
    },
    Spec {
        name: "update-user-provided-service",
        alias: "uups",
        group: GROUP,
        about: "Change a user-provided service instance",
        args: &["SERVICE_INSTANCE"],
        flags: &[CREDENTIALS, DRAIN, ROUTE_SERVICE, TAGS],
        examples: &["cf update-user-provided-service my-db -p /path/to/credentials.json"],
    },
    Spec {
        name: "bind-service",
        alias: "bs",
        group: GROUP,
        about: "Bind a service instance to an app, which gets its credentials with its next start",
        args: &["APP_NAME", "SERVICE_INSTANCE"],
        flags: &[
            value(
                None,
                "binding-name",
                "BINDING_NAME",
                "Name under which the app finds the binding",
            ),
            value(
                Some('c'),
                "",
                "PARAMETERS",
                "Parameters for a broker, as a JSON object or as the path of a file with one",
            ),
            WAIT,
        ],
        examples: &["cf bind-service my-app my-db --binding-name main"],
    },
    Spec {
        name: "unbind-service",
        alias: "us",
        group: GROUP,
        about: "Remove the binding between an app and a service instance",
        args: &["APP_NAME", "SERVICE_INSTANCE"],
        flags: &[WAIT],
        examples: &["cf unbind-service my-app my-db"],
    },
    Spec {
        name: "delete-service",
        alias: "ds",
        group: GROUP,
        about: "Delete a service instance with its bindings",
        args: &["SERVICE_INSTANCE"],
        flags: &[switch(Some('f'), "force", "Delete without asking"), WAIT],
        examples: &["cf delete-service my-db -f"],
    },
];

/// Returns an instance of the targeted space, if it exists.
async fn find(s: &Session, name: &str, target: &Target) -> Result<Option<ServiceInstance>> {
    let names = filter(name);
    let query = [
        ("names", names.as_str()),
        ("space_guids", target.space.guid.as_str()),
    ];
    s.first(INSTANCES, &query).await
}

async fn instance(s: &Session, name: &str, target: &Target) -> Result<ServiceInstance> {
    find(s, name, target)
        .await?
        .with_context(|| format!("Service instance '{name}' not found."))
}

fn announce(s: &Session, what: &str, names: &[&str], target: &Target) {
    let place = [&*target.org.name, &*target.space.name, &*target.user];
    s.ui.flavor(
        &format!("{what} in org {{}} / space {{}} as {{}}..."),
        &[names, &place[..]].concat(),
    );
}

/// Reads a JSON object from a flag: the text itself, or a file.
fn object(s: &Session, flag: &str, text: &str) -> Result<Option<Value>> {
    let text = text.trim();
    let json = match text.starts_with('{') {
        true => text.to_owned(),
        false => {
            let path = s.cwd.join(text);
            if !path.is_file() {
                return Ok(None);
            }
            std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?
        }
    };
    match serde_json::from_str(&json) {
        Ok(Value::Object(object)) => Ok(Some(object.into())),
        _ => bail!(Usage(format!(
            "Invalid configuration provided for -{flag} flag. Please provide a valid JSON object or path to a file containing a valid JSON object."
        ))),
    }
}

/// Returns the credentials of `-p`. A text that is neither an object nor a file is a list of names, whose values are asked for.
fn credentials(s: &Session, text: &str) -> Result<Value> {
    if let Some(object) = object(s, "p", text)? {
        return Ok(object);
    }
    let mut asked = Map::new();
    for name in text
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
    {
        let answer = s.ui.password(name)?;
        asked.insert(name.to_owned(), answer.into());
    }
    Ok(asked.into())
}

fn tags(text: &str) -> Vec<&str> {
    let tags = text.split(',').map(str::trim);
    tags.filter(|tag| !tag.is_empty()).collect()
}

/// Returns the part of a body that the flags set.
fn provided(s: &Session, p: &Parsed) -> Result<Map<String, Value>> {
    let mut body = Map::new();
    if let Some(text) = p.get("p") {
        body.insert("credentials".to_owned(), credentials(s, text)?);
    }
    for (flag, key) in [("l", "syslog_drain_url"), ("r", "route_service_url")] {
        if let Some(url) = p.get(flag) {
            body.insert(key.to_owned(), url.into());
        }
    }
    if let Some(text) = p.get("t") {
        body.insert("tags".to_owned(), tags(text).into());
    }
    Ok(body)
}

pub(super) async fn create(s: &Session, p: &Parsed) -> Result<()> {
    let target = s.require_space()?;
    let name = p.arg(0);
    let mut body = provided(s, p)?;
    body.insert("type".to_owned(), "user-provided".into());
    body.insert("name".to_owned(), name.into());
    let space = json!({ "space": { "data": { "guid": target.space.guid } } });
    body.insert("relationships".to_owned(), space);
    announce(s, "Creating user provided service {}", &[name], &target);
    let _: ServiceInstance = s.post(INSTANCES, &body).await?;
    s.ui.ok();
    Ok(())
}

pub(super) async fn update(s: &Session, p: &Parsed) -> Result<()> {
    let target = s.require_space()?;
    let name = p.arg(0);
    let body = provided(s, p)?;
    if body.is_empty() {
        s.ui.line("No flags specified. No changes were made");
        s.ui.ok();
        return Ok(());
    }
    announce(s, "Updating user provided service {}", &[name], &target);
    let found = instance(s, name, &target).await?;
    let path = format!("{INSTANCES}/{}", found.guid);
    let _: ServiceInstance = s.patch(&path, &body).await?;
    s.ui.ok();
    s.ui.line(
        "TIP: Use 'cf restage' for any bound apps to ensure your env variable changes take effect",
    );
    Ok(())
}

/// Returns the binding of an app to an instance, if there is one.
async fn binding(
    s: &Session,
    app: &App,
    instance: &ServiceInstance,
) -> Result<Option<ServiceBinding>> {
    let query = [
        ("type", "app"),
        ("app_guids", app.guid.as_str()),
        ("service_instance_guids", instance.guid.as_str()),
    ];
    s.first(BINDINGS, &query).await
}

pub(super) async fn bind(s: &Session, p: &Parsed) -> Result<()> {
    let target = s.require_space()?;
    let (app_name, name) = (p.arg(0), p.arg(1));
    let (binding_name, _) = (p.get("binding-name"), p.has("wait"));
    let parameters =
        match p.get("c") {
            None => None,
            Some(text) => Some(object(s, "c", text)?.with_context(|| {
                Usage(format!("the file {text:?} of the flag -c does not exist"))
            })?),
        };
    match binding_name {
        None => announce(
            s,
            "Binding service instance {} to app {}",
            &[name, app_name],
            &target,
        ),
        Some(own) => announce(
            s,
            "Binding service instance {} to app {} with binding name {}",
            &[name, app_name, own],
            &target,
        ),
    }
    let found = instance(s, name, &target).await?;
    let app = s.app(app_name, &target).await?;
    if binding(s, &app, &found).await?.is_some() {
        s.ui.line(format!(
            "App {app_name} is already bound to service instance {name}."
        ));
        s.ui.ok();
        return Ok(());
    }
    let mut body = json!({ "type": "app", "relationships": {
        "app": { "data": { "guid": app.guid } },
        "service_instance": { "data": { "guid": found.guid } },
    } });
    if let Some(own) = binding_name {
        body["name"] = own.into();
    }
    if let Some(parameters) = parameters {
        body["parameters"] = parameters;
    }
    let request = Request::new(Method::POST, BINDINGS).json(&body)?;
    let response = s.call(request).await?;
    s.finish(&response).await?;
    s.ui.ok();
    s.ui.blank();
    s.ui.line(format!(
        "TIP: Use 'cf restage {app_name}' to ensure your env variable changes take effect"
    ));
    Ok(())
}

pub(super) async fn unbind(s: &Session, p: &Parsed) -> Result<()> {
    let target = s.require_space()?;
    let (app_name, name) = (p.arg(0), p.arg(1));
    p.has("wait");
    announce(
        s,
        "Unbinding app {} from service {}",
        &[app_name, name],
        &target,
    );
    let found = instance(s, name, &target).await?;
    let app = s.app(app_name, &target).await?;
    match binding(s, &app, &found).await? {
        Some(binding) => s.delete(&format!("{BINDINGS}/{}", binding.guid)).await?,
        None => s.ui.warn(format!(
            "Binding between {name} and {app_name} did not exist"
        )),
    }
    s.ui.ok();
    Ok(())
}

pub(super) async fn delete(s: &Session, p: &Parsed) -> Result<()> {
    let target = s.require_space()?;
    let name = p.arg(0);
    p.has("wait");
    let question = format!("Really delete the service instance {}?", s.ui.named(name));
    if !p.has("force") && !s.ui.confirm(&question)? {
        s.ui.line("Delete cancelled");
        return p.end_early();
    }
    announce(s, "Deleting service instance {}", &[name], &target);
    match find(s, name, &target).await? {
        None => s.ui.line(format!("Service instance {name} did not exist.")),
        Some(found) => {
            s.delete(&format!("{INSTANCES}/{}", found.guid)).await?;
            s.ui.line(format!("Service instance {name} deleted."));
        }
    }
    s.ui.ok();
    Ok(())
}

/// Returns the bindings of instances to apps.
async fn bindings(s: &Session, instances: &[ServiceInstance]) -> Result<Vec<ServiceBinding>> {
    let guids: Vec<&str> = instances.iter().map(|one| one.guid.as_str()).collect();
    let mut all = Vec::new();
    for batch in guids.chunks(200) {
        let batch = batch.join(",");
        let query = [
            ("type", "app"),
            ("service_instance_guids", batch.as_str()),
            ("per_page", "5000"),
        ];
        all.extend(s.list::<ServiceBinding>(BINDINGS, &query).await?);
    }
    Ok(all)
}

/// Returns the names of the bound apps by guid.
async fn app_names(s: &Session, bindings: &[ServiceBinding]) -> Result<BTreeMap<String, String>> {
    let guids: BTreeSet<String> = bindings.iter().map(|b| b.app_guid().to_owned()).collect();
    names(s, "/v3/apps", guids).await
}

pub(super) async fn services(s: &Session, p: &Parsed) -> Result<()> {
    let target = s.require_space()?;
    announce(s, "Getting service instances", &[], &target);
    s.ui.blank();
    let query = [
        ("space_guids", target.space.guid.as_str()),
        ("order_by", "name"),
        ("per_page", "5000"),
    ];
    let instances: Vec<ServiceInstance> = s.list(INSTANCES, &query).await?;
    let hides_apps = p.has("no-apps");
    if instances.is_empty() {
        s.ui.line("No service instances found.");
        return Ok(());
    }
    let bindings = match hides_apps {
        true => Vec::new(),
        false => bindings(s, &instances).await?,
    };
    let apps = app_names(s, &bindings).await?;
    let rows = instances.iter().map(|one| {
        let bound = bindings.iter().filter(|b| b.instance_guid() == one.guid);
        let mut bound: Vec<&str> = bound
            .filter_map(|b| apps.get(b.app_guid()).map(String::as_str))
            .collect();
        bound.sort_unstable();
        let operation = &one.last_operation;
        let mut row = vec![one.name.clone(), one.kind.clone(), String::new()];
        if !hides_apps {
            row.push(bound.join(", "));
        }
        row.push(format!("{} {}", operation.kind, operation.state));
        row.extend([String::new(), String::new()]);
        row
    });
    let rows = rows.collect();
    let mut header = vec!["name", "offering", "plan"];
    if !hides_apps {
        header.push("bound apps");
    }
    header.extend(["last operation", "broker", "upgrade available"]);
    s.ui.table("", &header, rows);
    Ok(())
}

pub(super) async fn service(s: &Session, p: &Parsed) -> Result<()> {
    let target = s.require_space()?;
    let name = p.arg(0);
    if p.has("guid") {
        let found = instance(s, name, &target).await?;
        s.ui.line(&found.guid);
        return Ok(());
    }
    announce(s, "Showing info of service {}", &[name], &target);
    s.ui.blank();
    let found = instance(s, name, &target).await?;
    s.ui.key_values(&[
        ("name", found.name.clone()),
        ("guid", found.guid.clone()),
        ("type", found.kind.clone()),
        ("tags", found.tags.join(", ")),
        (
            "route service url",
            found.route_service_url.clone().unwrap_or_default(),
        ),
        (
            "syslog drain url",
            found.syslog_drain_url.clone().unwrap_or_default(),
        ),
    ]);
    s.ui.blank();
    s.ui.line("Showing status of last operation:");
    let operation = &found.last_operation;
    s.ui.key_values(&[(
        "   status",
        format!("{} {}", operation.kind, operation.state),
    )]);
    s.ui.blank();
    s.ui.line("Showing bound apps:");
    let bindings = bindings(s, std::slice::from_ref(&found)).await?;
    if bindings.is_empty() {
        s.ui.line("   There are no bound apps for this service instance.");
        return Ok(());
    }
    let apps = app_names(s, &bindings).await?;
    let rows = bindings.iter().map(|binding| {
        let operation = &binding.last_operation;
        vec![
            apps.get(binding.app_guid()).cloned().unwrap_or_default(),
            binding.name.clone().unwrap_or_default(),
            format!("{} {}", operation.kind, operation.state),
            operation.description.clone().unwrap_or_default(),
        ]
    });
    let header = ["name", "binding name", "status", "message"];
    s.ui.table("   ", &header, rows.collect());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_separated_by_commas() {
        assert_eq!(tags("a, b,,c "), ["a", "b", "c"]);
        assert!(tags("").is_empty());
    }
}
