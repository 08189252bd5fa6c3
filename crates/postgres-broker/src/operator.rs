//! The operator's commands list instances and dumps, make a dump, restore one, and remove an instance. The server must run; the broker
//! need not.

use crate::broker::Broker;
use crate::component::admin;
use crate::config::{Server, Settings};
use crate::dumps::Dumper;
use crate::metrics::Metrics;
use crate::names::Guid;
use crate::programs::Programs;
use crate::restore::Source;
use crate::secrets::Secrets;
use anyhow::{Context as _, Result, bail};
use kit::metrics::Registry;
use kit::readiness::Readiness;
use std::time::Duration;

/// An operator's access to the instances.
#[derive(Debug)]
pub struct Operator(Dumper);

/// An instance as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub guid: String,
    /// The organization, the space and the name: `demo/dev/db`.
    pub path: String,
    pub plan: String,
    /// The names of its dumps, the oldest first, with their bytes.
    pub dumps: Vec<(String, u64)>,
}

impl Operator {
    /// Opens the access. It connects to nothing yet.
    pub fn open(settings: Settings) -> Result<Self> {
        let secrets = Secrets::open(&settings.data_dir)?;
        let metrics = Metrics::new(&mut Registry::default(), &Readiness::default());
        let admin = admin(&settings.server, &secrets);
        let programs = match &settings.server {
            Server::Own(own) => {
                let text = std::fs::read_to_string(own.folder.join("data/PG_VERSION"));
                let version = text.ok().and_then(|text| text.trim().parse().ok());
                Programs::find(version)?
            }
            Server::Given(_) => Programs::find(None)?.for_this_user(),
        };
        let broker = Broker::new(settings, admin, secrets, metrics, Duration::ZERO);
        Ok(Self(Dumper::new(broker, programs)?))
    }

    /// Returns all instances and their dumps. Instances that do not exist any more are listed while they have dumps.
    pub async fn list(&self) -> Result<Vec<Listed>> {
        let dumps = self.0.place().list().await?;
        let mut listed: Vec<Listed> = Vec::new();
        for (guid, instance) in self.0.instances().await? {
            listed.push(Listed {
                guid: guid.to_string(),
                path: instance.path(),
                plan: instance.plan.name,
                dumps: Vec::new(),
            });
        }
        for dump in dumps {
            let guid = dump.instance.to_string();
            let entry = (dump.name(), dump.bytes);
            match listed.iter_mut().find(|own| own.guid == guid) {
                Some(own) => own.dumps.push(entry),
                None => listed.push(Listed {
                    guid,
                    path: "(removed)".to_owned(),
                    plan: String::new(),
                    dumps: vec![entry],
                }),
            }
        }
        Ok(listed)
    }

    /// Makes a dump of one instance, or of all of them. Returns the guid of each instance with the name of its dump.
    pub async fn dump(&self, instance: Option<&str>) -> Result<Vec<(String, String)>> {
        let guids = match instance {
            Some(instance) => vec![self.find(instance).await?],
            None => {
                let all = self.0.instances().await?;
                all.into_iter().map(|(guid, _)| guid).collect()
            }
        };
        let mut made = Vec::new();
        for guid in guids {
            let dump = self.0.dump(guid).await?;
            made.push((guid.to_string(), dump.name()));
        }
        Ok(made)
    }

    /// Puts the content of a dump into an instance. Returns the guid of the instance and the name of the dump.
    pub async fn restore(&self, instance: &str, source: &Source) -> Result<(String, String)> {
        let guid = self.find(instance).await?;
        let dump = self.0.restore(guid, source).await?;
        Ok((guid.to_string(), dump))
    }

    /// Removes an instance by its guid. Its dumps stay.
    pub async fn remove(&self, guid: &str) -> Result<()> {
        let guid = Guid::parse(guid).with_context(|| {
            format!(
                "{guid:?} is no guid: `cupola broker postgres list` shows those of all instances"
            )
        })?;
        let removed = self.0.broker().remove(guid).await;
        removed.with_context(|| format!("remove the instance {guid}"))
    }

    /// Finds an instance by its guid, by its name if only one has it, or by `org/space/name`.
    async fn find(&self, text: &str) -> Result<Guid> {
        let instances = self.0.instances().await;
        let instances = instances.context("ask PostgreSQL for its instances: does it run?")?;
        if let Some(guid) = Guid::parse(text) {
            let exists = instances.iter().any(|(other, _)| *other == guid);
            anyhow::ensure!(exists, "no instance has the guid {guid}");
            return Ok(guid);
        }
        let named = instances
            .iter()
            .filter(|(_, instance)| instance.place.name == text || instance.path() == text);
        let named: Vec<_> = named.collect();
        match named.as_slice() {
            [(guid, _)] => Ok(*guid),
            [] => bail!("no instance is named {text:?}: `cupola broker postgres list` shows all"),
            several => {
                let paths: Vec<String> = several.iter().map(|(_, i)| i.path()).collect();
                bail!(
                    "several instances are named {text:?}: write one of {}",
                    paths.join(", ")
                )
            }
        }
    }
}
