//! Service instances: create, change and delete those that users provide, and delete all kinds. The other commands of services have files of
//! their own, and use the helpers of this one.

use crate::api::types::ServiceInstance;
use crate::api::{Request, filter};
use crate::args::{Flag, Parsed, Spec, Usage, switch, value};
use crate::session::{Session, Target};
use anyhow::{Context as _, Result, bail};
use reqwest::Method;
use serde_json::{Map, Value, json};

pub(super) const GROUP: &str = "Services";
pub(super) const INSTANCES: &str = "/v3/service_instances";
pub(super) const BINDINGS: &str = "/v3/service_credential_bindings";

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
pub(super) const TAGS: Flag = value(Some('t'), "", "TAGS", "Tags, separated by commas");
pub(super) const PARAMETERS: Flag = value(
    Some('c'),
    "",
    "PARAMETERS",
    "Parameters for the broker, as a JSON object or as the path of a file with one",
);
pub(super) const WAIT: Flag = switch(Some('w'), "wait", "Wait until the broker is done");

pub(super) const SPECS: &[Spec] = &[
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
pub(super) async fn find(
    s: &Session,
    name: &str,
    target: &Target,
) -> Result<Option<ServiceInstance>> {
    let names = filter(name);
    let query = [
        ("names", names.as_str()),
        ("space_guids", target.space.guid.as_str()),
    ];
    s.first(INSTANCES, &query).await
}

pub(super) async fn instance(s: &Session, name: &str, target: &Target) -> Result<ServiceInstance> {
    find(s, name, target)
        .await?
        .with_context(|| format!("Service instance '{name}' not found."))
}

pub(super) fn announce(s: &Session, what: &str, names: &[&str], target: &Target) {
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

/// Returns the parameters of `-c`.
pub(super) fn parameters(s: &Session, p: &Parsed) -> Result<Option<Value>> {
    let Some(text) = p.get("c") else {
        return Ok(None);
    };
    let found = object(s, "c", text)?;
    let missing = || Usage(format!("the file {text:?} of the flag -c does not exist"));
    Ok(Some(found.with_context(missing)?))
}

/// Sends a request whose job calls a broker. Returns whether all is done: without `--wait` it is enough that the broker works.
pub(super) async fn send(s: &Session, p: &Parsed, request: Request) -> Result<bool> {
    let waits = p.has("wait");
    let response = s.call(request).await?;
    if waits && response.status == 202 {
        s.ui.line("Waiting for the operation to complete...");
    }
    s.follow_job(&response, waits).await
}

/// Says that a broker works on an instance.
pub(super) fn in_progress(s: &Session, what: &str, name: &str) {
    s.ui.line(format!(
        "{what} in progress. Use 'cf services' or 'cf service {name}' to check operation status."
    ));
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

pub(super) fn tags(text: &str) -> Vec<&str> {
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

pub(super) async fn delete(s: &Session, p: &Parsed) -> Result<()> {
    let target = s.require_space()?;
    let name = p.arg(0);
    p.has("wait");
    if !p.has("force") {
        s.ui.line("This action impacts all resources scoped to this service instance, including service bindings, service keys and route bindings.");
        s.ui.line(
            "This will remove the service instance from any spaces where it has been shared.",
        );
    }
    let question = format!("Really delete the service instance {}?", s.ui.named(name));
    if !p.has("force") && !s.ui.confirm(&question)? {
        s.ui.line("Delete cancelled");
        return p.end_early();
    }
    announce(s, "Deleting service instance {}", &[name], &target);
    match find(s, name, &target).await? {
        None => s.ui.line(format!("Service instance {name} did not exist.")),
        Some(found) => {
            let path = format!("{INSTANCES}/{}", found.guid);
            match send(s, p, Request::new(Method::DELETE, path)).await? {
                true => s.ui.line(format!("Service instance {name} deleted.")),
                false => in_progress(s, "Delete", name),
            }
        }
    }
    s.ui.ok();
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
