//! Service brokers: register, show, change and remove them.

use crate::api::types::ServiceBroker;
use crate::api::{Request, filter};
use crate::args::{Flag, Parsed, Spec, switch};
use crate::session::Session;
use anyhow::{Context as _, Result};
use reqwest::Method;
use serde_json::{Value, json};

const GROUP: &str = "Service admin";
const BROKERS: &str = "/v3/service_brokers";

/// The variable with the password of a broker, so that it is not in the history of a shell.
const PASSWORD_VARIABLE: &str = "CF_BROKER_PASSWORD";

const FORCE: Flag = switch(Some('f'), "force", "Delete without asking");

/// The arguments of a broker. Three of them mean that the password comes from the variable or from a question.
const ACCESS: &[&str] = &["SERVICE_BROKER", "USERNAME", "PASSWORD_OR_URL", "[URL]"];

pub(super) const SPECS: &[Spec] = &[
    Spec {
        name: "service-brokers",
        alias: "",
        group: GROUP,
        about: "List service brokers",
        args: &[],
        flags: &[],
        examples: &["cf service-brokers"],
    },
    Spec {
        name: "create-service-broker",
        alias: "csb",
        group: GROUP,
        about: "Register a service broker; without PASSWORD it is asked for, or CF_BROKER_PASSWORD",
        args: ACCESS,
        flags: &[
            switch(
                None,
                "space-scoped",
                "Make the broker's plans visible in the targeted space only",
            ),
            switch(
                None,
                "update-if-exists",
                "Change the broker if it exists; --space-scoped is then ignored",
            ),
        ],
        examples: &[
            "cf create-service-broker db-broker admin https://broker.example.com",
            "cf create-service-broker db-broker admin s3cret https://broker.example.com --space-scoped",
        ],
    },
    Spec {
        name: "update-service-broker",
        alias: "",
        group: GROUP,
        about: "Change how a service broker is reached, and fetch its catalog again",
        args: ACCESS,
        flags: &[],
        examples: &["cf update-service-broker db-broker admin https://broker.example.com"],
    },
    Spec {
        name: "rename-service-broker",
        alias: "",
        group: GROUP,
        about: "Rename a service broker",
        args: &["SERVICE_BROKER", "NEW_SERVICE_BROKER"],
        flags: &[],
        examples: &["cf rename-service-broker db-broker postgres-broker"],
    },
    Spec {
        name: "delete-service-broker",
        alias: "",
        group: GROUP,
        about: "Delete a service broker without service instances",
        args: &["SERVICE_BROKER"],
        flags: &[FORCE],
        examples: &["cf delete-service-broker db-broker -f"],
    },
];

pub(super) async fn run(s: &Session, spec: &Spec, p: &Parsed) -> Result<()> {
    match spec.name {
        "service-brokers" => list(s).await,
        "create-service-broker" => create(s, p).await,
        "update-service-broker" => update(s, p).await,
        "rename-service-broker" => rename(s, p).await,
        _ => delete(s, p).await,
    }
}

async fn find(s: &Session, name: &str) -> Result<Option<ServiceBroker>> {
    s.first(BROKERS, &[("names", &filter(name))]).await
}

async fn broker(s: &Session, name: &str) -> Result<ServiceBroker> {
    find(s, name)
        .await?
        .with_context(|| format!("Service broker '{name}' not found"))
}

/// Returns the part of a body that says how the broker is reached.
fn access(s: &Session, p: &Parsed) -> Result<Value> {
    let (username, third) = (p.arg(1), p.arg(2));
    let (password, url) = match (p.opt(3), s.var(PASSWORD_VARIABLE)) {
        (Some(url), _) => (third.to_owned(), url),
        (None, Some(password)) => (password.to_owned(), third),
        (None, None) => (s.ui.password("Service Broker Password")?, third),
    };
    let credentials = json!({ "username": username, "password": password });
    Ok(json!({
        "url": url,
        "authentication": { "type": "basic", "credentials": credentials },
    }))
}

/// Sends a request and waits for its job.
async fn send(s: &Session, method: Method, path: &str, body: &Value) -> Result<()> {
    let request = Request::new(method, path).json(body)?;
    let response = s.call(request).await?;
    s.finish(&response).await
}

async fn list(s: &Session) -> Result<()> {
    let user = s.require_login()?;
    s.ui.flavor("Getting service brokers as {}...", &[&user]);
    let query = [("order_by", "name"), ("per_page", "5000")];
    let brokers: Vec<ServiceBroker> = s.list(BROKERS, &query).await?;
    if brokers.is_empty() {
        s.ui.line("No service brokers found");
        return Ok(());
    }
    let rows = brokers
        .into_iter()
        .map(|broker| vec![broker.name, broker.url]);
    s.ui.table("", &["name", "url"], rows.collect());
    Ok(())
}

async fn create(s: &Session, p: &Parsed) -> Result<()> {
    let user = s.require_login()?;
    let name = p.arg(0);
    let (is_scoped, may_exist) = (p.has("space-scoped"), p.has("update-if-exists"));
    let target = match is_scoped {
        true => Some(s.require_space()?),
        false => None,
    };
    let mut body = access(s, p)?;
    if may_exist && let Some(known) = find(s, name).await? {
        return change(s, &user, &known, &body).await;
    }
    body["name"] = json!(name);
    match &target {
        Some(target) => {
            s.ui.flavor(
                "Creating service broker {} in org {} / space {} as {}...",
                &[name, &target.org.name, &target.space.name, &user],
            );
            let guid = &target.space.guid;
            body["relationships"] = json!({ "space": { "data": { "guid": guid } } });
        }
        None => {
            s.ui.flavor("Creating service broker {} as {}...", &[name, &user])
        }
    }
    send(s, Method::POST, BROKERS, &body).await?;
    s.ui.ok();
    Ok(())
}

async fn change(s: &Session, user: &str, known: &ServiceBroker, body: &Value) -> Result<()> {
    s.ui.flavor("Updating service broker {} as {}...", &[&known.name, user]);
    let path = format!("{BROKERS}/{}", known.guid);
    send(s, Method::PATCH, &path, body).await?;
    s.ui.ok();
    Ok(())
}

async fn update(s: &Session, p: &Parsed) -> Result<()> {
    let user = s.require_login()?;
    let body = access(s, p)?;
    let known = broker(s, p.arg(0)).await?;
    change(s, &user, &known, &body).await
}

async fn rename(s: &Session, p: &Parsed) -> Result<()> {
    let user = s.require_login()?;
    let known = broker(s, p.arg(0)).await?;
    s.ui.flavor(
        "Renaming service broker {} to {} as {}...",
        &[p.arg(0), p.arg(1), &user],
    );
    let path = format!("{BROKERS}/{}", known.guid);
    send(s, Method::PATCH, &path, &json!({ "name": p.arg(1) })).await?;
    s.ui.ok();
    Ok(())
}

async fn delete(s: &Session, p: &Parsed) -> Result<()> {
    s.require_login()?;
    let name = p.arg(0);
    let question = format!("Really delete the service broker {}?", s.ui.named(name));
    if !p.has("force") && !s.ui.confirm(&question)? {
        s.ui.line(format!("'{name}' has not been deleted."));
        return p.end_early();
    }
    s.ui.flavor("Deleting service broker {}...", &[name]);
    match find(s, name).await? {
        Some(known) => s.delete(&format!("{BROKERS}/{}", known.guid)).await?,
        None => {
            s.ui.line(format!("Service broker '{name}' does not exist."))
        }
    }
    s.ui.ok();
    Ok(())
}
