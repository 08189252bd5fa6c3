//! Dumps: every night one of each instance, by PostgreSQL's own `pg_dump`, into a folder or a bucket.
//!
//! A dump is made by a user that exists for it alone and may read everything in its database and nothing else. Nothing is locked:
//! apps work on, and the instance can be bound, changed and removed meanwhile.

mod place;
mod schedule;

pub(crate) use place::{Dump, Place};
pub(crate) use schedule::{is_due, removable};

use crate::broker::{Broker, Fault};
use crate::db;
use crate::instance::Instance;
use crate::names::Guid;
use crate::programs::Programs;
use crate::scram;
use crate::secrets::{random_hex, salt};
use anyhow::{Context as _, Result, bail, ensure};
use kit::CancellationToken;
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;
use time::OffsetDateTime;
use time::macros::format_description;
use tokio::process::Command;

/// The interval at which it is checked whether a dump is due.
const INTERVAL: Duration = Duration::from_secs(60);
/// The pause after a dump that failed.
const PAUSE: Duration = Duration::from_secs(15 * 60);
/// The longest time of one program.
const LONGEST: Duration = Duration::from_secs(12 * 3600);
/// The time for which a temporary user is valid: longer than a program may run.
const VALID: time::Duration = time::Duration::hours(24);

/// The maker of dumps.
#[derive(Debug)]
pub(crate) struct Dumper {
    broker: Broker,
    programs: Programs,
    place: Place,
}

/// A user for one dump or one restore.
#[derive(Debug)]
pub(crate) struct Temporary {
    pub(crate) name: String,
    pub(crate) password: String,
}

impl Temporary {
    /// Makes a user of an instance.
    pub(crate) async fn create(broker: &Broker, instance: Guid, role: Role) -> Result<Self, Fault> {
        let user = Self {
            name: Guid::random().temporary(),
            password: random_hex(20),
        };
        let mut session = broker.session().await?;
        let conn = &mut session.conn;
        let verifier = scram::verifier(&user.password, salt());
        let acts_as_owner = role == Role::Writer;
        let owner = instance.owner();
        db::create_user(conn, &user.name, &owner, &verifier, acts_as_owner).await?;
        let until = OffsetDateTime::now_utc() + VALID;
        let form = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]+00");
        let until = until.format(form).unwrap_or_default();
        db::expire(conn, &user.name, &until).await?;
        if role == Role::Reader {
            let permitted = db::let_read_all(conn, &user.name).await;
            if db::is_superuser(conn).await? {
                permitted?;
                db::let_read_all_rows(conn, &user.name).await?;
            } else if let Err(error) = permitted {
                // The user still reads what belongs to the owner's role.
                tracing::debug!(user = user.name, %error, "not-all-can-be-read");
            }
        }
        Ok(user)
    }

    /// Removes the user. One that cannot be removed now is removed at the broker's next start after its time.
    pub(crate) async fn remove(self, broker: &Broker) {
        let removed = async {
            let mut session = broker.session().await?;
            db::drop_role(&mut session.conn, &self.name).await?;
            Ok::<(), Fault>(())
        };
        if let Err(error) = removed.await {
            tracing::warn!(user = self.name, %error, "temporary-user-not-removed");
        }
    }
}

/// The rights of a temporary user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It reads everything.
    Reader,
    /// It acts as the owner of what is in the database.
    Writer,
}

impl Dumper {
    pub(crate) fn new(broker: Broker, programs: Programs) -> Result<Self> {
        let place = Place::open(&broker.settings().dumps.place, &broker.settings().data_dir)?;
        Ok(Self {
            broker,
            programs,
            place,
        })
    }

    pub(crate) fn broker(&self) -> &Broker {
        &self.broker
    }

    pub(crate) fn programs(&self) -> &Programs {
        &self.programs
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// Makes a dump of an instance, and stores it.
    pub(crate) async fn dump(&self, guid: Guid) -> Result<Dump> {
        let at = OffsetDateTime::now_utc();
        let at = at.replace_nanosecond(0).unwrap_or(at);
        let file = self.place.temporary(guid);
        let made = self.dump_to(guid, &file).await;
        let stored = match made {
            Ok(()) => self.place.store(guid, at, &file).await,
            Err(error) => Err(error),
        };
        let _ = std::fs::remove_file(&file);
        let dump = stored.with_context(|| format!("dump the instance {guid}"))?;
        tracing::info!(instance = %guid, bytes = dump.bytes, "dump-stored");
        Ok(dump)
    }

    async fn dump_to(&self, guid: Guid, file: &Path) -> Result<()> {
        let out = File::options()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(file)
            .with_context(|| format!("create {}", file.display()))?;
        let user = Temporary::create(&self.broker, guid, Role::Reader).await?;
        let address = self.broker.admin().with_user(&user.name, &user.password);
        let mut command = self.programs.command("pg_dump");
        command
            .args([
                "--format=custom",
                "--no-password",
                "--lock-wait-timeout=60000",
            ])
            .envs(address.variables(&guid.database()))
            .stdin(Stdio::null())
            .stdout(out);
        let done = finished(command, "pg_dump").await;
        user.remove(&self.broker).await;
        done?;
        self.check(file).await
    }

    /// Reads the table of contents of a dump, which is at its end.
    async fn check(&self, file: &Path) -> Result<()> {
        let length = std::fs::metadata(file)
            .with_context(|| format!("examine {}", file.display()))?
            .len();
        ensure!(length > 0, "pg_dump wrote nothing");
        let mut command = self.programs.command("pg_restore");
        let input = File::open(file).with_context(|| format!("read {}", file.display()))?;
        command.arg("--list").stdin(input).stdout(Stdio::null());
        let checked = finished(command, "pg_restore --list").await;
        checked.context("the dump cannot be read")
    }

    /// Makes the dumps that are due, and removes old ones, until shutdown.
    pub(crate) async fn run(&self, shutdown: &CancellationToken) {
        let mut failed = HashMap::new();
        // A place that does not answer for hours is reported once.
        let mut reported = String::new();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(INTERVAL) => {}
            }
            let pass = shutdown.run_until_cancelled(self.pass(&mut failed));
            let error = match pass.await {
                Some(Err(error)) => format!("{error:#}"),
                _ => String::new(),
            };
            if !error.is_empty() && error != reported {
                tracing::error!(error, "dumps-not-made");
            }
            reported = error;
        }
    }

    async fn pass(&self, failed: &mut HashMap<Guid, tokio::time::Instant>) -> Result<()> {
        let (settings, metrics) = (self.broker.settings(), self.broker.metrics());
        let instances = self.instances().await?;
        let mut dumps = self.place.list().await?;
        let newest = |dumps: &[Dump], guid: Guid| {
            let own = dumps.iter().filter(|dump| dump.instance == guid);
            own.map(|dump| dump.at).max()
        };
        for (guid, instance) in &instances {
            let Some(at) = settings.dumps.at else { break };
            let now = OffsetDateTime::now_utc();
            let created = from_seconds(instance.created);
            let may_try = failed.get(guid).is_none_or(|since| since.elapsed() > PAUSE);
            if !may_try || !is_due(now, at, newest(&dumps, *guid), created) {
                continue;
            }
            match self.dump(*guid).await {
                Ok(dump) => {
                    metrics.dumps.add(1);
                    failed.remove(guid);
                    dumps.push(dump);
                }
                Err(error) => {
                    metrics.dump_failures.add(1);
                    failed.insert(*guid, tokio::time::Instant::now());
                    let error = format!("{error:#}");
                    tracing::error!(instance = %guid, error, "dump-failed: it is tried again");
                }
            }
        }
        let now = OffsetDateTime::now_utc();
        let ages = instances.iter().map(|(guid, instance)| {
            let last = newest(&dumps, *guid);
            now - last.unwrap_or_else(|| from_seconds(instance.created))
        });
        if let Some(oldest) = ages.max() {
            metrics.dump_age.set(oldest.as_seconds_f64().max(0.0));
        }
        let present: Vec<Guid> = instances.iter().map(|(guid, _)| *guid).collect();
        for dump in removable(now, settings.dumps.keep_days, &present, &dumps) {
            self.place.remove(&dump).await?;
            tracing::info!(instance = %dump.instance, dump = dump.name(), "dump-removed");
        }
        Ok(())
    }

    /// Returns the instances that are complete.
    pub(crate) async fn instances(&self) -> Result<Vec<(Guid, Instance)>> {
        let mut session = self.broker.session().await?;
        let databases = db::databases(&mut session.conn).await?;
        let complete = databases.into_iter().filter_map(|database| {
            let instance = Instance::parse(database.description.as_deref()?)?;
            Some((database.guid, instance))
        });
        Ok(complete.collect())
    }
}

fn from_seconds(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// Runs a program to its end.
pub(crate) async fn finished(mut command: Command, name: &str) -> Result<()> {
    let child = command
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {name}"))?;
    let Ok(output) = tokio::time::timeout(LONGEST, child.wait_with_output()).await else {
        bail!("{name} did not end within {LONGEST:?}");
    };
    let Output { status, stderr, .. } = output.with_context(|| format!("run {name}"))?;
    let text = String::from_utf8_lossy(&stderr);
    let first: String = text.trim().chars().take(500).collect();
    ensure!(status.success(), "{name} failed ({status}): {first}");
    Ok(())
}

#[cfg(test)]
mod tests;
