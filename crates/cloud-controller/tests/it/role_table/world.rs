//! The world of the role table: an organization, a space, one caller of each kind, and resources on demand.

use super::{Row, Sent, market};
use crate::fixture::*;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use testkit::broker::Broker;

/// The kinds of callers, as the table's header names them.
pub(crate) const COLUMNS: &str = "ARGMUBODPISN";

pub(crate) struct World {
    pub(crate) f: Foundation,
    tokens: HashMap<char, String>,
    /// The server of all service brokers of this world.
    pub(super) broker: Broker,
    standing: Mutex<HashMap<String, String>>,
    number: AtomicUsize,
}

/// The role of each column in the organization and in the space.
const ROLES: &[(char, Option<&str>, Option<&str>)] = &[
    ('M', Some("organization_manager"), None),
    ('U', Some("organization_auditor"), None),
    ('B', Some("organization_billing_manager"), None),
    ('O', Some("organization_user"), None),
    ('D', Some("organization_user"), Some("space_developer")),
    ('P', Some("organization_user"), Some("space_manager")),
    ('I', Some("organization_user"), Some("space_auditor")),
    ('S', Some("organization_user"), Some("space_supporter")),
];

impl World {
    pub(crate) async fn start() -> Self {
        let f = Foundation::start().await;
        let mut tokens = HashMap::from([('A', f.admin.clone())]);
        let writes = "cloud_controller.write";
        for (column, scope) in [
            ('R', "cloud_controller.admin_read_only"),
            ('G', "cloud_controller.global_auditor"),
        ] {
            let token = token(&column.to_string(), &[scope, writes], 600);
            tokens.insert(column, token);
        }
        for column in "MUBODPISN".chars() {
            tokens.insert(column, token(&column.to_string(), USER, 600));
        }
        let world = Self {
            f,
            tokens,
            broker: Broker::start("service").await,
            standing: Mutex::default(),
            number: AtomicUsize::new(0),
        };
        for (column, in_organization, in_space) in ROLES {
            let user = format!("{column}-guid");
            if let Some(kind) = in_organization {
                let organization = world.f.organization.clone();
                world.give(kind, &user, "organization", &organization).await;
            }
            if let Some(kind) = in_space {
                let space = world.f.space.clone();
                world.give(kind, &user, "space", &space).await;
            }
        }
        // The callers are stored by name at their first request.
        for token in world.tokens.values() {
            world.f.call_as(token, Method::GET, "/v3/users", None).await;
        }
        world
    }

    pub(crate) async fn finish(self) {
        self.f.finish().await;
    }

    pub(crate) fn token(&self, column: char) -> &str {
        &self.tokens[&column]
    }

    pub(crate) async fn as_(
        &self,
        column: char,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        self.f.call_as(self.token(column), method, path, body).await
    }

    /// Assigns a role and returns its guid.
    pub(crate) async fn give(&self, kind: &str, user: &str, place: &str, guid: &str) -> String {
        let body = json!({ "type": kind, "relationships": { "user": { "data": { "guid": user } }, place: { "data": { "guid": guid } } } });
        let role = self.f.send(Method::POST, "/v3/roles", body).await;
        role["guid"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn set_flag(&self, flag: &str, enabled: bool) {
        let path = format!("/v3/feature_flags/{flag}");
        self.f
            .send(Method::PATCH, &path, json!({ "enabled": enabled }))
            .await;
    }

    pub(crate) async fn suspend(&self, organization: bool, space: bool) {
        for (path, suspended) in [
            (
                format!("/v3/organizations/{}", self.f.organization),
                organization,
            ),
            (format!("/v3/spaces/{}", self.f.space), space),
        ] {
            self.f
                .send(Method::PATCH, &path, json!({ "suspended": suspended }))
                .await;
        }
    }

    pub(super) async fn send(
        &self,
        column: char,
        row: &Row,
        path: &str,
        sent: String,
    ) -> (u16, Value) {
        let request = self
            .f
            .http
            .request(row.method.clone(), format!("{}{path}", self.f.url))
            .header("authorization", format!("bearer {}", self.token(column)));
        let request = match row.sent {
            Sent::Nothing => request,
            Sent::Json(_) => request.json(&serde_json::from_str::<Value>(&sent).unwrap()),
            Sent::Yaml(_) => request
                .header("content-type", "application/x-yaml")
                .body(sent),
            Sent::Zip => {
                let bits = reqwest::multipart::Part::bytes(bits(path)).file_name("bits");
                request.multipart(reqwest::multipart::Form::new().part("bits", bits))
            }
        };
        answer(request.send().await.unwrap()).await
    }

    /// Returns the resources of one call: its own, or those that all calls share.
    pub(super) fn things(&self, fresh: bool, column: char) -> Things<'_> {
        Things {
            world: self,
            fresh,
            column,
            made: HashMap::new(),
        }
    }

    pub(crate) fn name(&self) -> String {
        format!("n{}", self.number.fetch_add(1, Ordering::Relaxed))
    }

    async fn post(&self, path: &str, body: Value) -> String {
        let made = self.f.send(Method::POST, path, body).await;
        made["guid"].as_str().unwrap().to_owned()
    }

    async fn upload(&self, path: &str) {
        let bits = reqwest::multipart::Part::bytes(bits(path)).file_name("bits");
        let request = self
            .f
            .http
            .post(format!("{}{path}/upload", self.f.url))
            .header("authorization", format!("bearer {}", self.f.admin))
            .multipart(reqwest::multipart::Form::new().part("bits", bits));
        let (status, body) = answer(request.send().await.unwrap()).await;
        assert!((200..300).contains(&status), "{path}: {status} {body}");
    }
}

/// Returns the bits of a package or a droplet.
fn bits(path: &str) -> Vec<u8> {
    if path.contains("droplets") {
        tgz("app/run", "#!x")
    } else {
        zip("run", "#!x")
    }
}

/// The values that replace the placeholders of one call.
pub(super) struct Things<'a> {
    world: &'a World,
    fresh: bool,
    column: char,
    made: HashMap<String, String>,
}

impl Things<'_> {
    /// Replaces each `{thing}` by its guid; `{=text}` is the text itself. Braces around anything else stay.
    pub(super) async fn fill(&mut self, text: &str) -> String {
        let mut filled = String::new();
        let mut rest = text;
        while let Some(start) = rest.find('{') {
            let (before, from) = rest.split_at(start);
            filled.push_str(before);
            let end = from.find('}').unwrap_or(from.len());
            let name = &from[1..end.max(1)];
            let is_name = !name.is_empty()
                && name
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "_=:-".contains(c));
            if is_name {
                filled.push_str(&self.thing(name).await);
                rest = &from[end + 1..];
            } else {
                filled.push('{');
                rest = &from[1..];
            }
        }
        filled + rest
    }

    async fn thing(&mut self, name: &str) -> String {
        if let Some(text) = name.strip_prefix('=') {
            return text.to_owned();
        }
        if name == "name" {
            return self.world.name();
        }
        // The key `droplet:app` names what was created beside the droplet.
        let key = name.split(':').next().unwrap_or(name).to_owned();
        if let Some(known) = self.made.get(name) {
            return known.clone();
        }
        if !self.fresh {
            let standing = self.world.standing.lock().unwrap().get(name).cloned();
            if let Some(known) = standing {
                return known;
            }
        }
        for (name, guid) in self.make(&key).await {
            if !self.fresh {
                let mut standing = self.world.standing.lock().unwrap();
                standing.insert(name.clone(), guid.clone());
            }
            self.made.insert(name, guid);
        }
        self.made[name].clone()
    }

    async fn make(&mut self, name: &str) -> Vec<(String, String)> {
        let one = |guid: String| vec![(name.to_owned(), guid)];
        let (w, f) = (self.world, &self.world.f);
        if let Some(guid) = market::make(w, name).await {
            return one(guid);
        }
        match name {
            "org" => one(f.organization.clone()),
            "space" => one(f.space.clone()),
            "shared_domain" => one(f.domain.clone()),
            "doomed_org" if self.fresh => one(self.organization().await),
            "doomed_org" => one(f.organization.clone()),
            "doomed_space" if self.fresh => one(self.space().await),
            "doomed_space" => one(f.space.clone()),
            "second_org" => {
                let guid = self.organization().await;
                // Sharing a domain needs the manager's role in both organizations.
                w.give("organization_manager", "M-guid", "organization", &guid)
                    .await;
                one(guid)
            }
            "second_space" => {
                let guid = self.space().await;
                for (user, kind) in [("D-guid", "space_developer"), ("S-guid", "space_supporter")] {
                    w.give(kind, user, "space", &guid).await;
                }
                one(guid)
            }
            "app" => one(self.app().await),
            "running_app" => {
                let app = f.started_app(&w.name()).await;
                let lrp = f.lrps(&app).await.remove(0);
                f.run_instance(&lrp.process_guid, 0).await;
                one(app)
            }
            "package" => {
                let guid = self.package().await;
                w.upload(&format!("/v3/packages/{guid}")).await;
                one(guid)
            }
            "empty_package" => one(self.package().await),
            "build" => {
                let package = self.package().await;
                w.upload(&format!("/v3/packages/{package}")).await;
                let body = json!({ "package": { "guid": package } });
                one(w.post("/v3/builds", body).await)
            }
            "droplet" => {
                let (app, droplet) = self.droplet().await;
                w.upload(&format!("/v3/droplets/{droplet}")).await;
                vec![(name.to_owned(), droplet), (format!("{name}:app"), app)]
            }
            "empty_droplet" => one(self.droplet().await.1),
            "deployment" => {
                let app = f.started_app(&w.name()).await;
                one(w
                    .post(
                        "/v3/deployments",
                        json!({ "relationships": { "app": { "data": { "guid": app } } } }),
                    )
                    .await)
            }
            "task" => {
                let path = format!("/v3/apps/{}/tasks", self.app().await);
                one(w.post(&path, json!({ "command": "true" })).await)
            }
            "sidecar" => {
                let app = self.app().await;
                let body = json!({ "name": w.name(), "command": "./x", "process_types": ["web"] });
                one(w.post(&format!("/v3/apps/{app}/sidecars"), body).await)
            }
            "unused_stack" => one(w.post("/v3/stacks", json!({ "name": w.name() })).await),
            "route" => one(f.create_route(&w.name(), "").await),
            "route_url" => {
                let name = w.name();
                f.create_route(&name, "").await;
                one(format!("{name}.{DOMAIN}"))
            }
            "guarded_route" => one(f.guarded_route(&w.name()).await),
            "route_policy" => {
                let route = f.guarded_route(&w.name()).await;
                one(f.add_policy(&route, "cf:any").await)
            }
            "service_instance" => one(f.create_instance(&w.name(), json!({ "k": "v" })).await),
            "service_credential_binding" => {
                let instance = f.create_instance(&w.name(), json!({ "k": "v" })).await;
                one(f.bind(&self.app().await, &instance).await)
            }
            "route_service" => one(f.create_route_service(&w.name()).await),
            "service_route_binding" => one(f.bind_new_route(&w.name()).await),
            "shared_route" => {
                let (route, space) = (
                    f.create_route(&w.name(), "").await,
                    Box::pin(self.thing("second_space")).await,
                );
                let path = format!("/v3/routes/{route}/relationships/shared_spaces");
                f.send(Method::POST, &path, json!({ "data": [{ "guid": space }] }))
                    .await;
                one(route)
            }
            "destination" => {
                let (route, app) = (f.create_route(&w.name(), "").await, self.app().await);
                let mapped = f.map(&route, &app).await;
                let destination = mapped["destinations"][0]["guid"]
                    .as_str()
                    .unwrap()
                    .to_owned();
                vec![
                    (name.to_owned(), destination),
                    (format!("{name}:route"), route),
                ]
            }
            "domain" => one(self.domain().await),
            "doomed_shared_domain" => {
                let body = json!({ "name": format!("{}.test", w.name()) });
                one(w.post("/v3/domains", body).await)
            }
            "lent_domain" => {
                let (domain, to) = (
                    self.domain().await,
                    Box::pin(self.thing("second_org")).await,
                );
                let path = format!("/v3/domains/{domain}/relationships/shared_organizations");
                f.send(Method::POST, &path, json!({ "data": [{ "guid": to }] }))
                    .await;
                one(domain)
            }
            "user" => one(w.post("/v3/users", json!({ "guid": w.name() })).await),
            "member" => {
                let user = w.post("/v3/users", json!({ "guid": w.name() })).await;
                w.give("organization_user", &user, "organization", &f.organization)
                    .await;
                one(user)
            }
            "org_role" => one(w
                .give(
                    "organization_user",
                    &w.name(),
                    "organization",
                    &f.organization,
                )
                .await),
            "space_role" => {
                let user = w.name();
                w.give("organization_user", &user, "organization", &f.organization)
                    .await;
                one(w.give("space_auditor", &user, "space", &f.space).await)
            }
            "quota" => one(w
                .post("/v3/organization_quotas", json!({ "name": w.name() }))
                .await),
            "space_quota" => {
                let space = self.space().await;
                for (column, _, kind) in ROLES {
                    if let Some(kind) = kind {
                        w.give(kind, &format!("{column}-guid"), "space", &space)
                            .await;
                    }
                }
                let relationships = json!({ "organization": { "data": { "guid": f.organization } }, "spaces": { "data": [{ "guid": space }] } });
                let body = json!({ "name": w.name(), "relationships": relationships });
                let quota = w.post("/v3/space_quotas", body).await;
                vec![(name.to_owned(), quota), (format!("{name}:space"), space)]
            }
            "idle_space_quota" => {
                let relationships =
                    json!({ "organization": { "data": { "guid": f.organization } } });
                let body = json!({ "name": w.name(), "relationships": relationships });
                one(w.post("/v3/space_quotas", body).await)
            }
            "group" => {
                let bound = json!({ "running_spaces": { "data": [{ "guid": f.space }] } });
                one(w
                    .post(
                        "/v3/security_groups",
                        json!({ "name": w.name(), "relationships": bound }),
                    )
                    .await)
            }
            "global_group" => {
                one(first(f, "/v3/security_groups?globally_enabled_running=true").await)
            }
            "stack" => one(first(f, "/v3/stacks").await),
            "buildpack" => one(first(f, "/v3/buildpacks").await),
            "event" => {
                let app = self.app().await;
                one(first(f, &format!("/v3/audit_events?target_guids={app}")).await)
            }
            "usage_event" => {
                Box::pin(self.thing("running_app")).await;
                one(first(f, "/v3/app_usage_events").await)
            }
            "job" => {
                let route = f.create_route(&w.name(), "").await;
                one(w.job(Method::DELETE, &format!("/v3/routes/{route}")).await)
            }
            other => panic!(
                "the table names an unknown thing: {other} (column {})",
                self.column
            ),
        }
    }

    async fn organization(&self) -> String {
        let body = json!({ "name": self.world.name() });
        self.world.post("/v3/organizations", body).await
    }

    async fn space(&self) -> String {
        let organization = json!({ "data": { "guid": self.world.f.organization } });
        let body =
            json!({ "name": self.world.name(), "relationships": { "organization": organization } });
        self.world.post("/v3/spaces", body).await
    }

    async fn domain(&self) -> String {
        let organization = json!({ "data": { "guid": self.world.f.organization } });
        let body = json!({ "name": format!("{}.test", self.world.name()), "relationships": { "organization": organization } });
        self.world.post("/v3/domains", body).await
    }

    async fn package(&self) -> String {
        let app = self.world.f.create_app(&self.world.name()).await;
        let body =
            json!({ "type": "bits", "relationships": { "app": { "data": { "guid": app } } } });
        self.world.post("/v3/packages", body).await
    }

    /// Creates an app and a droplet of it that awaits its upload.
    async fn droplet(&self) -> (String, String) {
        let app = self.world.f.create_app(&self.world.name()).await;
        let body = json!({ "relationships": { "app": { "data": { "guid": app } } }, "process_types": { "web": "./run" } });
        let droplet = self.world.post("/v3/droplets", body).await;
        (app, droplet)
    }

    /// Creates a stopped app with a current droplet.
    async fn app(&self) -> String {
        let (app, droplet) = self.droplet().await;
        self.world.upload(&format!("/v3/droplets/{droplet}")).await;
        let path = format!("/v3/apps/{app}/relationships/current_droplet");
        let body = json!({ "data": { "guid": droplet } });
        self.world.f.send(Method::PATCH, &path, body).await;
        app
    }
}

async fn first(f: &Foundation, path: &str) -> String {
    f.get(path).await["resources"][0]["guid"]
        .as_str()
        .unwrap()
        .to_owned()
}

impl World {
    /// Returns the guid of the job that a request starts.
    async fn job(&self, method: Method, path: &str) -> String {
        let request = self
            .f
            .http
            .request(method, format!("{}{path}", self.f.url))
            .header("authorization", format!("bearer {}", self.f.admin));
        let response = request.send().await.unwrap();
        let location = response.headers()["location"].to_str().unwrap();
        location.rsplit('/').next().unwrap().to_owned()
    }
}
