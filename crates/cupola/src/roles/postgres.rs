//! Wires the broker of PostgreSQL databases: its server, the addresses at which apps reach it, and its registration.

use super::Setting;
use crate::addresses::Service;
use crate::config::{Config, DumpPlace, PostgresServer};
use crate::plan::Plan;
use crate::supervisor::{Run, run};
use anyhow::{Context as _, Result};
use garden::api::Protocol;
use garden::linux::{Audience, HostService};
use kit::tls::Identity;
use postgres_broker::{OwnServer, PostgresBroker, Registration, Settings};
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};

/// The client of the broker at the UAA. It registers the broker at the Cloud Controller.
pub(crate) const CLIENT: &str = "postgres_broker";
/// The name of the server in its certificate.
const SERVER: &str = "postgres";

pub(crate) async fn postgres_broker(setting: Setting) -> Result<Run> {
    let (config, plan) = (&setting.config, &setting.plan);
    setting.folder("postgres-broker")?;
    let address = plan.postgres(config.addresses.get(&Service::Postgres));
    let mut hosts = vec![
        "127.0.0.1".to_owned(),
        plan.cell_ip.to_string(),
        crate::addresses::host(&address.advertise).to_owned(),
    ];
    // A client cannot connect to the unspecified address.
    if !address.listen.ip().is_unspecified() {
        hosts.push(address.listen.ip().to_string());
    }
    let identity = setting.certificates.for_apps(SERVER, &hosts)?;
    let broker = PostgresBroker::build(postgres_broker::Config {
        listener: setting.listen(Service::PostgresBroker).await?,
        url: setting.http(Service::PostgresBroker),
        settings: settings(config, plan, identity)?,
        registration: Some(Registration {
            uaa_url: setting.http(Service::Uaa),
            client_id: CLIENT.into(),
            client_secret: plan.client_secret.clone(),
            cloud_controller_url: setting.http(Service::CloudController),
        }),
    })
    .await?;
    setting.monitor.show("postgres-broker", broker.observed());
    Ok(run(|shutdown| broker.run(shutdown)))
}

/// Returns the broker's settings. `identity` is that of the server that the broker runs, if it runs one.
pub(crate) fn settings(config: &Config, plan: &Plan, identity: Identity) -> Result<Settings> {
    let postgres = config.postgres.as_ref().context(
        "the configuration has no section postgres: write `postgres: {}`, and name the file with --config",
    )?;
    let server = match &postgres.server {
        PostgresServer::Own {
            folder: own,
            connections,
            memory_mb,
        } => {
            let address = plan.postgres(config.addresses.get(&Service::Postgres));
            let (host, port) = address
                .advertise
                .rsplit_once(':')
                .context("the address of PostgreSQL has no port")?;
            postgres_broker::Server::Own(OwnServer {
                folder: absolute(&own.clone().unwrap_or_else(|| beside(&config.data)))?,
                listen: address.listen,
                host: host.to_owned(),
                port: port.parse().context("read the port of PostgreSQL")?,
                identity,
                connections: *connections,
                memory_mb: *memory_mb,
            })
        }
        PostgresServer::Given(address, _) => postgres_broker::Server::Given(address.clone()),
    };
    Ok(Settings {
        name: postgres.name.clone(),
        data_dir: absolute(&config.data.join("postgres-broker"))?,
        server,
        seed: format!("{} {}", plan.domain, plan.tag),
        plans: postgres.plans.clone(),
        instances: postgres.instances,
        dumps: postgres_broker::Dumps {
            place: match &postgres.dumps {
                DumpPlace::Folder(own) => {
                    let default = || config.data.join("postgres-dumps");
                    let path = own.clone().unwrap_or_else(default);
                    postgres_broker::DumpPlace::Folder(absolute(&path)?)
                }
                DumpPlace::Bucket { s3, prefix } => postgres_broker::DumpPlace::Bucket {
                    s3: s3.clone(),
                    prefix: prefix.clone(),
                },
            },
            at: postgres.dump_at,
            keep_days: postgres.keep_days,
        },
    })
}

/// Returns the folder of the server beside the data directory, through which only root can pass.
fn beside(data: &Path) -> PathBuf {
    let mut name = data.as_os_str().to_owned();
    name.push("-postgres");
    PathBuf::from(name)
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("find {}", path.display()))
}

/// Returns the addresses at which apps reach the server; none if the role does not run.
fn reached(config: &Config, plan: &Plan) -> Vec<SocketAddrV4> {
    match config.postgres.as_ref().map(|postgres| &postgres.server) {
        None => Vec::new(),
        Some(PostgresServer::Own { .. }) => {
            let address = plan.postgres(config.addresses.get(&Service::Postgres));
            address
                .advertise
                .parse::<SocketAddrV4>()
                .into_iter()
                .collect()
        }
        Some(PostgresServer::Given(_, addresses)) => addresses.clone(),
    }
}

/// Returns what apps reach that are bound to an instance of the broker: the server, and nothing else.
pub(crate) fn bound_egress(setting: &Setting) -> Vec<cloud_controller::BoundEgress> {
    let addresses = reached(&setting.config, &setting.plan);
    if addresses.is_empty() {
        return Vec::new();
    }
    vec![cloud_controller::BoundEgress {
        broker_url: setting.http(Service::PostgresBroker),
        addresses,
    }]
}

/// Returns the ports of this machine that bound apps may reach. A server on another machine is not among this machine's addresses, so
/// that the entry has no effect.
pub(crate) fn host_services(config: &Config, plan: &Plan) -> Vec<HostService> {
    let service = |address: SocketAddrV4| HostService {
        protocol: Protocol::Tcp,
        address: *address.ip(),
        port: address.port(),
        audience: Audience::Bound,
    };
    reached(config, plan).into_iter().map(service).collect()
}
