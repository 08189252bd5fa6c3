//! A broker with a server that others run, and the platform that calls it.

use kit::CancellationToken;
use postgres_broker::{
    Address, Config, DumpPlace, Dumps, Operator, Plan, PostgresBroker, Registration, Server,
    Settings,
};
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, PgConnection};
use std::str::FromStr as _;
use testkit::certs::identity;
use testkit::http::{answer, client};
use testkit::net;
use testkit::postgres::Postgres;
use testkit::wait::{wait_for, within};
use tokio::task::JoinHandle;

pub(crate) const INSTANCE: &str = "10000000-0000-4000-8000-000000000001";
pub(crate) const OTHER: &str = "10000000-0000-4000-8000-000000000002";
pub(crate) const BINDING: &str = "20000000-0000-4000-8000-000000000001";
pub(crate) const SECOND: &str = "20000000-0000-4000-8000-000000000002";

/// A running broker.
pub(crate) struct World {
    pub(crate) url: String,
    pub(crate) settings: Settings,
    credentials: (String, String),
    /// The server, if others run it.
    _server: Option<Postgres>,
    _data: tempfile::TempDir,
    stop: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

/// Returns settings for a server, with a small and a large plan.
pub(crate) fn settings(data: &std::path::Path, server: Server) -> Settings {
    let plan = |name: &str, connections| Plan {
        name: name.to_owned(),
        connections,
        storage_mb: 1024,
    };
    Settings {
        name: "postgres".to_owned(),
        data_dir: data.to_owned(),
        server,
        seed: "a test".to_owned(),
        plans: vec![plan("small", 2), plan("large", 5)],
        instances: 3,
        dumps: Dumps {
            place: DumpPlace::Folder(data.join("dumps")),
            at: None,
            keep_days: 14,
        },
    }
}

impl World {
    /// Starts a broker beside a server that demands TLS.
    pub(crate) async fn start() -> Self {
        let server = Postgres::with_tls(&identity());
        let url = format!("{}?sslmode=require", server.url("postgres"));
        let address = Address::parse(&url, None).unwrap();
        let data = tempfile::tempdir().unwrap();
        let settings = settings(data.path(), Server::Given(address));
        Self::with(settings, data, Some(server), None).await
    }

    /// Starts a broker whose administrator is no superuser.
    pub(crate) async fn start_limited() -> Self {
        kit::tls::install_crypto();
        let server = Postgres::with_tls(&identity());
        let url = format!("{}?sslmode=require", server.url("postgres"));
        let options = PgConnectOptions::from_str(&url).unwrap();
        let mut superuser = options.connect().await.unwrap();
        run(
            &mut superuser,
            "CREATE ROLE limited LOGIN CREATEROLE CREATEDB PASSWORD 'sesame';
             GRANT CONNECT, CREATE ON DATABASE postgres TO limited",
        )
        .await
        .unwrap();
        let (_, place) = url.rsplit_once('@').unwrap();
        let address = Address::parse(&format!("postgres://limited:sesame@{place}"), None).unwrap();
        let data = tempfile::tempdir().unwrap();
        let settings = settings(data.path(), Server::Given(address));
        Self::with(settings, data, Some(server), None).await
    }

    pub(crate) async fn with(
        settings: Settings,
        data: tempfile::TempDir,
        server: Option<Postgres>,
        registration: Option<Registration>,
    ) -> Self {
        kit::tls::install_crypto();
        let listener = net::listener().await;
        let url = format!("http://{}", listener.local_addr().unwrap());
        let broker = PostgresBroker::build(Config {
            listener,
            url: url.clone(),
            settings: settings.clone(),
            registration,
        })
        .await
        .unwrap();
        let credentials = broker.credentials();
        let stop = CancellationToken::new();
        let running = tokio::spawn(broker.run(stop.clone()));
        Self {
            url,
            settings,
            credentials,
            _server: server,
            _data: data,
            stop,
            running,
        }
    }

    /// Sends a request as the platform.
    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> (u16, Value) {
        let (client, url) = (client(), format!("{}/v2{path}", self.url));
        let request = match method {
            "PUT" => client.put(url),
            "PATCH" => client.patch(url),
            "DELETE" => client.delete(url),
            _ => client.get(url),
        };
        let (user, password) = &self.credentials;
        let request = request
            .basic_auth(user, Some(password))
            .header("X-Broker-API-Version", "2.17");
        let request = match body {
            Some(body) => request
                .header("content-type", "application/json")
                .body(body.to_string()),
            None => request,
        };
        answer(request.send().await.unwrap()).await
    }

    /// Returns the ids of the offering and of a plan.
    pub(crate) async fn ids(&self, plan: &str) -> (String, String) {
        let (status, catalog) = self.call("GET", "/catalog", None).await;
        assert_eq!(status, 200, "{catalog}");
        let offering = &catalog["services"][0];
        let plans = offering["plans"].as_array().unwrap();
        let plan = plans.iter().find(|other| other["name"] == plan).unwrap();
        let text = |value: &Value| value["id"].as_str().unwrap().to_owned();
        (text(offering), text(plan))
    }

    /// Returns the body of a request about an instance.
    pub(crate) async fn body(&self, plan: &str) -> Value {
        let (service, plan) = self.ids(plan).await;
        json!({
            "service_id": service,
            "plan_id": plan,
            "organization_guid": "org-guid",
            "space_guid": "space-guid",
            "context": {
                "platform": "cloudfoundry", "organization_guid": "org-guid", "organization_name": "demo",
                "space_guid": "space-guid", "space_name": "dev", "instance_name": "db",
            },
        })
    }

    pub(crate) async fn query(&self, plan: &str) -> String {
        let (service, plan) = self.ids(plan).await;
        format!("?service_id={service}&plan_id={plan}")
    }

    /// Creates an instance when the server is ready.
    pub(crate) async fn provision(&self, instance: &str, plan: &str) {
        let body = self.body(plan).await;
        let path = format!("/service_instances/{instance}");
        wait_for("the instance", async || {
            let (status, answer) = self.call("PUT", &path, Some(&body)).await;
            match status {
                200 | 201 => Ok(()),
                _ => Err(format!("{status}: {answer}")),
            }
        })
        .await;
    }

    /// Binds, and returns the credentials.
    pub(crate) async fn bind(&self, instance: &str, binding: &str) -> Value {
        let mut body = self.body("small").await;
        body["bind_resource"] = json!({ "app_guid": "app-guid" });
        let path = binding_path(instance, binding);
        let (status, answer) = self.call("PUT", &path, Some(&body)).await;
        assert!([200, 201].contains(&status), "{status}: {answer}");
        answer["credentials"].clone()
    }

    pub(crate) fn operator(&self) -> Operator {
        Operator::open(self.settings.clone()).unwrap()
    }

    /// Stops the broker, and checks that it ends well.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        let ended = within("the end of the broker", self.running).await;
        ended.unwrap().unwrap();
    }
}

pub(crate) fn binding_path(instance: &str, binding: &str) -> String {
    format!("/service_instances/{instance}/service_bindings/{binding}")
}

/// Connects as an app does.
pub(crate) async fn connect(credentials: &Value) -> sqlx::Result<PgConnection> {
    let uri = credentials["uri"].as_str().unwrap();
    PgConnectOptions::from_str(uri)?.connect().await
}

pub(crate) async fn run(conn: &mut PgConnection, sql: &str) -> sqlx::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(&mut *conn)
        .await
        .map(drop)
}

/// Returns the single number that a query finds.
pub(crate) async fn number(conn: &mut PgConnection, sql: &str) -> sqlx::Result<i64> {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
        .fetch_one(&mut *conn)
        .await
}
