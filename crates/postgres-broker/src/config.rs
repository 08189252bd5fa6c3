//! The configuration of the broker. The binary checks it, and it has no hidden defaults.

use crate::address::Address;
use kit::tls::Identity;
use s3_client::S3;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::net::TcpListener;

/// The configuration of the component.
#[derive(Debug)]
pub struct Config {
    /// The listener for the platform, plain HTTP.
    pub listener: TcpListener,
    /// The URL at which the platform reaches `listener`: `http://127.0.0.1:8086`.
    pub url: String,
    pub settings: Settings,
    /// The Cloud Controller at which the broker registers itself. `None`: the operator registers it.
    pub registration: Option<Registration>,
}

/// The settings that the operator's commands need as well.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name of the offering and of the broker: `postgres`.
    pub name: String,
    /// The folder of the secrets.
    pub data_dir: PathBuf,
    pub server: Server,
    /// A text that is always the same for this foundation and other for others. The ids of the catalog are made of it.
    pub seed: String,
    pub plans: Vec<Plan>,
    /// The maximum number of instances.
    pub instances: u32,
    pub dumps: Dumps,
}

/// The server whose databases the broker manages.
#[derive(Clone, Debug)]
pub enum Server {
    /// One that the broker starts and stops.
    Own(OwnServer),
    /// One that runs elsewhere, with its administrator's account. Apps reach it at the same host and port.
    Given(Address),
}

/// A server of Debian's package, which the broker starts and stops.
#[derive(Clone, Debug)]
pub struct OwnServer {
    /// The folder of its data, certificates and logs.
    pub folder: PathBuf,
    /// The address at which apps connect. The server also listens on loopback, at the same port.
    pub listen: SocketAddr,
    /// The host and the port that bindings name.
    pub host: String,
    pub port: u16,
    /// The certificate that the server presents, and the authority that bindings name.
    pub identity: Identity,
    /// The maximum number of connections of all apps.
    pub connections: u32,
    /// The size of the server's shared buffers.
    pub memory_mb: u32,
}

/// A plan of the catalog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub name: String,
    /// The maximum number of connections of each binding.
    pub connections: u32,
    /// The size in MiB above which the database accepts no writes.
    pub storage_mb: u64,
}

/// The nightly dumps.
#[derive(Clone, Debug)]
pub struct Dumps {
    pub place: DumpPlace,
    /// The time of the day (UTC). `None`: dumps are made by command only.
    pub at: Option<time::Time>,
    /// The age in days at which a dump is removed. The newest one of an instance stays.
    pub keep_days: u32,
}

#[derive(Clone, Debug)]
pub enum DumpPlace {
    Folder(PathBuf),
    /// A bucket, and the beginning of all keys: `postgres/`.
    Bucket {
        s3: Box<S3>,
        prefix: String,
    },
}

/// The Cloud Controller at which the broker registers itself, and the broker's client at the UAA.
#[derive(Clone)]
pub struct Registration {
    pub uaa_url: String,
    pub client_id: String,
    pub client_secret: String,
    pub cloud_controller_url: String,
}

/// Prints no secret.
impl std::fmt::Debug for Registration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registration")
            .field("cloud_controller_url", &self.cloud_controller_url)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}
