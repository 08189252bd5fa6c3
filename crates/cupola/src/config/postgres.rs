//! The section `postgres`: the broker of PostgreSQL databases. Without it the role does not run.

use super::blobs::{S3Section, bucket};
use super::values::address_v4;
use cloud_controller::S3;
use postgres_broker::{Address, Plan};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use time::Time;
use time::macros::format_description;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PostgresSection {
    /// The address at which the broker listens.
    pub(super) listen: Option<String>,
    /// The address at which the Cloud Controller reaches the broker; default: `listen`.
    pub(super) advertise: Option<String>,
    /// The name of the broker and of its offering.
    pub(super) name: Option<String>,
    /// The server that the broker runs.
    pub(super) server: ServerSection,
    /// The URL of a server that others run, with its administrator's account.
    pub(super) url: Option<Url>,
    /// A PEM file with the authorities that may have issued the certificate of that server.
    pub(super) ca: Option<PathBuf>,
    /// The addresses at which apps reach that server, if its URL has a name: `10.0.0.5:5432`.
    pub(super) addresses: Vec<String>,
    /// The maximum number of instances.
    pub(super) instances: Option<u32>,
    pub(super) plans: Option<BTreeMap<String, PlanSection>>,
    pub(super) dumps: DumpsSection,
}

/// The URL of a database server. It contains a password, so it is not printed.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct Url(String);

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Url")
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ServerSection {
    /// The address at which apps connect; default: the cell's address.
    pub(super) listen: Option<String>,
    /// The address that bindings name; default: `listen`.
    pub(super) advertise: Option<String>,
    /// The folder of the data; default: that of the data directory, with `-postgres` at its end.
    pub(super) folder: Option<PathBuf>,
    /// The maximum number of connections of all apps.
    pub(super) connections: Option<u32>,
    /// The size of the server's shared buffers.
    pub(super) memory_mb: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PlanSection {
    /// The maximum number of connections of each binding.
    pub(super) connections: Option<u32>,
    /// The size above which the database accepts no writes.
    pub(super) storage_mb: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DumpsSection {
    /// Whether a dump of each instance is made every night; default: true.
    pub(super) nightly: Option<bool>,
    /// The time of the day in UTC: `03:00`.
    pub(super) at: Option<String>,
    /// The age in days at which a dump is removed.
    pub(super) keep_days: Option<u32>,
    /// The folder of the dumps; default: `postgres-dumps` in the data directory.
    pub(super) folder: Option<PathBuf>,
    /// The bucket of the dumps, in place of a folder.
    pub(super) s3: Option<S3Section>,
    /// The beginning of the keys in the bucket; default: `postgres/`.
    pub(super) prefix: Option<String>,
}

/// The checked section.
#[derive(Clone, Debug)]
pub(crate) struct Postgres {
    pub(crate) name: String,
    pub(crate) server: Server,
    pub(crate) plans: Vec<Plan>,
    pub(crate) instances: u32,
    /// The time of the nightly dumps; `None`: they are made by command only.
    pub(crate) dump_at: Option<Time>,
    pub(crate) keep_days: u32,
    pub(crate) dumps: DumpPlace,
}

#[derive(Clone, Debug)]
pub(crate) enum Server {
    /// One that the broker runs.
    Own {
        /// `None`: a folder beside the data directory.
        folder: Option<PathBuf>,
        connections: u32,
        memory_mb: u32,
    },
    /// One that others run, and the addresses at which apps reach it.
    Given(Address, Vec<SocketAddrV4>),
}

#[derive(Clone, Debug)]
pub(crate) enum DumpPlace {
    /// `None`: a folder in the data directory.
    Folder(Option<PathBuf>),
    Bucket {
        s3: Box<S3>,
        prefix: String,
    },
}

const NAME: &str = "postgres";
const CONNECTIONS: u32 = 300;
const MOST_CONNECTIONS: u32 = 5000;
const MEMORY_MB: u32 = 128;
const INSTANCES: u32 = 100;
const KEEP_DAYS: u32 = 14;
const PLAN_CONNECTIONS: u32 = 10;
const PLAN_STORAGE_MB: u64 = 1024;
/// The plans of a section that names none.
const PLANS: [(&str, u32, u64); 3] = [
    ("small", 10, 1024),
    ("medium", 25, 8 * 1024),
    ("large", 50, 32 * 1024),
];

pub(super) fn check(section: PostgresSection, problems: &mut Vec<String>) -> Option<Postgres> {
    let before = problems.len();
    let name = section.name.unwrap_or_else(|| NAME.to_owned());
    if !is_name(&name) {
        problems.push(format!(
            "postgres.name {name:?} is no name of an offering: use 1 to 50 small letters, digits and dashes"
        ));
    }
    let plans = plans(section.plans, problems);
    let server = match &section.url {
        Some(Url(url)) => given(url, section.ca, &section.addresses, problems),
        None => {
            if section.ca.is_some() || !section.addresses.is_empty() {
                problems.push("postgres.ca and postgres.addresses are for a server that others run: set postgres.url too, or remove them".to_owned());
            }
            None
        }
    };
    let server = match (server, section.url.is_some()) {
        (Some((address, addresses)), _) => Some(Server::Given(address, addresses)),
        (None, true) => None,
        (None, false) => Some(own(&section.server, &plans, problems)),
    };
    if section.url.is_some() && has_own_keys(&section.server) {
        problems.push("postgres.server is for a server that the broker runs: remove it, or remove postgres.url".to_owned());
    }
    let instances = section.instances.unwrap_or(INSTANCES);
    if instances == 0 {
        problems.push("postgres.instances must be at least 1".to_owned());
    }
    let (dump_at, keep_days, dumps) = dumps(section.dumps, problems)?;
    if problems.len() > before {
        return None;
    }
    Some(Postgres {
        name,
        server: server?,
        plans,
        instances,
        dump_at,
        keep_days,
        dumps,
    })
}

fn has_own_keys(server: &ServerSection) -> bool {
    server.listen.is_some()
        || server.advertise.is_some()
        || server.folder.is_some()
        || server.connections.is_some()
        || server.memory_mb.is_some()
}

fn is_name(name: &str) -> bool {
    (1..=50).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn plans(section: Option<BTreeMap<String, PlanSection>>, problems: &mut Vec<String>) -> Vec<Plan> {
    let plan = |name: &str, connections, storage_mb| Plan {
        name: name.to_owned(),
        connections,
        storage_mb,
    };
    let Some(section) = section else {
        return PLANS
            .map(|(name, connections, storage)| plan(name, connections, storage))
            .to_vec();
    };
    if section.is_empty() {
        problems.push("postgres.plans is empty: name a plan, or remove the key".to_owned());
    }
    let mut found = Vec::new();
    for (name, wanted) in section {
        if !is_name(&name) {
            problems.push(format!(
                "postgres.plans has {name:?}, which is no name of a plan: use 1 to 50 small letters, digits and dashes"
            ));
        }
        let plan = plan(
            &name,
            wanted.connections.unwrap_or(PLAN_CONNECTIONS),
            wanted.storage_mb.unwrap_or(PLAN_STORAGE_MB),
        );
        if plan.connections == 0 || plan.storage_mb < 16 {
            problems.push(format!(
                "postgres.plans.{name} permits nothing: connections must be at least 1, and storage_mb at least 16"
            ));
        }
        found.push(plan);
    }
    found
}

fn own(section: &ServerSection, plans: &[Plan], problems: &mut Vec<String>) -> Server {
    let connections = section.connections.unwrap_or(CONNECTIONS);
    if !(1..=MOST_CONNECTIONS).contains(&connections) {
        problems.push(format!(
            "postgres.server.connections {connections} is not between 1 and {MOST_CONNECTIONS}"
        ));
    }
    let largest = plans.iter().max_by_key(|plan| plan.connections);
    if let Some(plan) = largest.filter(|plan| plan.connections > connections) {
        problems.push(format!(
            "postgres.plans.{} permits {} connections, and the server accepts {connections}: raise postgres.server.connections, or lower the plan",
            plan.name, plan.connections
        ));
    }
    // The egress rules of apps have IPv4 addresses.
    for (key, text) in [
        ("listen", &section.listen),
        ("advertise", &section.advertise),
    ] {
        if let Some(text) = text.as_ref().filter(|text| address_v4(text).is_none()) {
            problems.push(format!(
                "postgres.server.{key} {text:?} is not an IPv4 address with a port: use e.g. 10.0.0.5:5432"
            ));
        }
    }
    let memory_mb = section.memory_mb.unwrap_or(MEMORY_MB);
    if !(16..=65_536).contains(&memory_mb) {
        problems.push(format!(
            "postgres.server.memory_mb {memory_mb} is not between 16 and 65536"
        ));
    }
    if let Some(folder) = section
        .folder
        .as_ref()
        .filter(|folder| !folder.is_absolute())
    {
        problems.push(format!(
            "postgres.server.folder {:?} is not absolute: write the whole path",
            folder.display().to_string()
        ));
    }
    Server::Own {
        folder: section.folder.clone(),
        connections,
        memory_mb,
    }
}

fn given(
    url: &str,
    ca: Option<PathBuf>,
    addresses: &[String],
    problems: &mut Vec<String>,
) -> Option<(Address, Vec<SocketAddrV4>)> {
    if let Some(ca) = ca.as_ref().filter(|ca| !ca.is_file()) {
        problems.push(format!(
            "postgres.ca {:?} is not a file: name a PEM file of authorities",
            ca.display().to_string()
        ));
    }
    let address = match Address::parse(url, ca.as_deref()) {
        Ok(address) => address,
        Err(error) => {
            problems.push(format!("postgres.url is not valid: {error:#}"));
            return None;
        }
    };
    let mut reached = BTreeSet::new();
    for text in addresses {
        match address_v4(text) {
            Some(address) => {
                reached.insert(address);
            }
            None => problems.push(format!(
                "postgres.addresses has {text:?}, which is not an IPv4 address with a port: use e.g. 10.0.0.5:5432"
            )),
        }
    }
    match address.host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) if reached.is_empty() && usable(ip) => {
            reached.insert(SocketAddrV4::new(ip, address.port));
        }
        _ if reached.is_empty() => problems.push(
            "postgres.addresses is missing: apps cannot reach the host of postgres.url as it is written, so name the IPv4 addresses and ports at which they do, e.g. [10.0.0.5:5432]"
                .to_owned(),
        ),
        _ => {}
    }
    Some((address, reached.into_iter().collect()))
}

/// Returns whether containers can reach an address.
fn usable(ip: Ipv4Addr) -> bool {
    !ip.is_loopback() && !ip.is_unspecified()
}

type Dumps = (Option<Time>, u32, DumpPlace);

fn dumps(section: DumpsSection, problems: &mut Vec<String>) -> Option<Dumps> {
    let text = section.at.unwrap_or_else(|| "03:00".to_owned());
    let at = Time::parse(&text, format_description!("[hour]:[minute]"));
    if at.is_err() {
        problems.push(format!(
            "postgres.dumps.at {text:?} is not a time of the day: use e.g. 03:00"
        ));
    }
    let keep_days = section.keep_days.unwrap_or(KEEP_DAYS);
    if keep_days == 0 {
        problems.push("postgres.dumps.keep_days must be at least 1".to_owned());
    }
    let place = match (section.s3, section.folder) {
        (Some(_), Some(_)) => {
            problems.push(
                "postgres.dumps has a folder and a bucket: remove one of folder and s3".to_owned(),
            );
            return None;
        }
        (Some(s3), None) => DumpPlace::Bucket {
            s3: Box::new(bucket(s3, "postgres.dumps.s3", problems)?),
            prefix: section.prefix.unwrap_or_else(|| "postgres/".to_owned()),
        },
        (None, folder) => {
            if section.prefix.is_some() {
                problems.push("postgres.dumps.prefix is for a bucket: set postgres.dumps.s3 too, or remove it".to_owned());
            }
            DumpPlace::Folder(folder)
        }
    };
    let nightly = section.nightly.unwrap_or(true);
    Some((at.ok().filter(|_| nightly), keep_days, place))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Result<Postgres, String> {
        let section: PostgresSection = yaml_serde::from_str(text).unwrap();
        assert!(!format!("{section:?}").contains("sesame"));
        let mut problems = Vec::new();
        let postgres = check(section, &mut problems);
        assert!(!format!("{postgres:?}").contains("sesame"));
        postgres.ok_or_else(|| problems.join("; "))
    }

    #[test]
    fn an_empty_section_runs_a_server_with_three_plans() {
        let postgres = checked("{}").unwrap();
        assert_eq!(postgres.name, "postgres");
        let plans: Vec<&str> = postgres.plans.iter().map(|plan| &*plan.name).collect();
        assert_eq!(plans, ["small", "medium", "large"]);
        assert!(matches!(
            postgres.server,
            Server::Own {
                folder: None,
                connections: 300,
                memory_mb: 128
            }
        ));
        assert_eq!(postgres.dump_at.unwrap().hour(), 3);
        assert!(matches!(postgres.dumps, DumpPlace::Folder(None)));
        let quiet = checked("dumps: {nightly: false}").unwrap();
        assert_eq!(quiet.dump_at, None);
    }

    #[test]
    fn a_given_server_is_reached_at_its_address() {
        let reached = |text: &str| match checked(text)?.server {
            Server::Given(_, addresses) => Ok::<_, String>(addresses),
            Server::Own { .. } => Err("a server of our own".to_owned()),
        };
        let text = "url: 'postgres://a:sesame@10.0.0.5:5433/postgres'";
        assert_eq!(
            reached(text).unwrap(),
            ["10.0.0.5:5433".parse::<SocketAddrV4>().unwrap()]
        );
        let name = "url: 'postgres://a:sesame@db.example/postgres'";
        assert!(
            reached(name)
                .unwrap_err()
                .contains("postgres.addresses is missing")
        );
        let both = format!("{name}\naddresses: ['10.0.0.6:5432']");
        assert_eq!(
            reached(&both).unwrap(),
            ["10.0.0.6:5432".parse::<SocketAddrV4>().unwrap()]
        );
        let here = reached("url: 'postgres://a:sesame@127.0.0.1/postgres'");
        assert!(here.unwrap_err().contains("postgres.addresses is missing"));
    }

    #[test]
    fn everything_that_is_wrong_is_named() {
        let text = "name: 'Post gres'
instances: 0
url: 'mysql://a:sesame@h'
ca: /nowhere.pem
addresses: [db]
server: {connections: 5}
plans: {'A b': {}, tiny: {storage_mb: 1}}
dumps: {at: night, keep_days: 0, prefix: x}";
        let error = checked(text).unwrap_err();
        for part in [
            "postgres.name \"Post gres\"",
            "postgres.instances must",
            "postgres.url is not valid: it does not begin with postgres://",
            "postgres.ca \"/nowhere.pem\"",
            "postgres.server is for a server that the broker runs",
            "postgres.plans has \"A b\"",
            "postgres.plans.tiny permits nothing",
            "postgres.dumps.at \"night\"",
            "postgres.dumps.keep_days must",
            "postgres.dumps.prefix is for a bucket",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
        let error = checked("server: {connections: 5, folder: here}\nca: /x").unwrap_err();
        for part in [
            "postgres.plans.large permits 50 connections",
            "postgres.server.folder \"here\" is not absolute",
            "set postgres.url too",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
        let error = checked("dumps: {s3: {bucket: b}}").unwrap_err();
        assert!(
            error.contains("postgres.dumps.s3.endpoint is missing"),
            "{error}"
        );
    }
}
