//! Restores: the content of a dump takes the place of an instance's database. Bindings stay valid, because names and users stay.
//!
//! ```text
//!  r_… is made and filled ─▶ db_… admits nobody, its sessions end ─▶ db_… becomes k_…, r_… becomes db_… ─▶ k_… is dropped
//! ```
//! A dump may contain functions that its users wrote. They run while it is read, so a temporary user reads it who has the rights of the
//! instance alone, and never the administrator.

use crate::broker::{Broker, Fault};
use crate::db;
use crate::dumps::{Dump, Dumper, Role, Temporary, finished};
use crate::instance::Instance;
use crate::names::Guid;
use anyhow::{Context as _, Result, bail, ensure};
use sqlx::PgConnection;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// The longest wait for the end of a database's sessions.
const PATIENCE: Duration = Duration::from_secs(15);

/// The content that is restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A stored dump.
    Dump {
        /// The guid of the instance that was dumped. `None`: it is the one that is restored.
        of: Option<String>,
        /// The dump's name: `2026-11-30T03-00-00Z`. `None`: it is the newest.
        name: Option<String>,
    },
    /// A file that `pg_dump --format=custom` wrote.
    File(PathBuf),
}

impl Source {
    /// The newest dump of the instance itself.
    pub const NEWEST: Self = Self::Dump {
        of: None,
        name: None,
    };
}

impl Dumper {
    /// Puts the content of a dump into an instance. Returns a text that names the dump.
    pub(crate) async fn restore(&self, guid: Guid, source: &Source) -> Result<String> {
        let (file, name, is_ours) = match source {
            Source::File(path) => (path.clone(), path.display().to_string(), false),
            Source::Dump { of, name } => {
                let of = match of {
                    Some(text) => Guid::parse(text).with_context(|| {
                        format!("{text:?} is no guid: `cupola broker postgres list` shows those of all dumps")
                    })?,
                    None => guid,
                };
                let dump = self.choose(of, name.as_deref()).await?;
                let file = self.place().temporary(guid);
                self.place().fetch(&dump, &file).await?;
                (file, dump.name(), true)
            }
        };
        let restored = self.restore_file(guid, &file).await;
        if is_ours {
            let _ = std::fs::remove_file(&file);
        }
        restored.with_context(|| format!("restore the instance {guid} from {name}"))?;
        tracing::info!(instance = %guid, dump = name, "instance-restored");
        Ok(name)
    }

    async fn choose(&self, of: Guid, name: Option<&str>) -> Result<Dump> {
        let dumps = self.place().list().await?;
        let own: Vec<Dump> = dumps
            .into_iter()
            .filter(|dump| dump.instance == of)
            .collect();
        let found = match name {
            Some(name) => own.iter().find(|dump| dump.name() == name),
            None => own.last(),
        };
        if let Some(dump) = found {
            return Ok(dump.clone());
        }
        let names: Vec<String> = own.iter().map(Dump::name).collect();
        match name {
            Some(name) => bail!(
                "the instance {of} has no dump {name}; it has {}",
                names.join(", ")
            ),
            None => {
                bail!("the instance {of} has no dump: make one with `cupola broker postgres dump`")
            }
        }
    }

    async fn restore_file(&self, guid: Guid, file: &Path) -> Result<()> {
        ensure!(
            file.is_file(),
            "{} does not exist, or is no file",
            file.display()
        );
        let broker = self.broker();
        let mut session = broker.session().await?;
        let conn = &mut session.conn;
        db::lock(conn, guid).await.map_err(Fault::from)?;
        let instance = broker.find(conn, guid).await?;
        // An attempt that broke off left it.
        db::drop_database(conn, &guid.restored()).await?;
        let filled = self.fill(conn, guid, file).await;
        if let Err(error) = filled {
            if let Err(left) = db::drop_database(conn, &guid.restored()).await {
                tracing::warn!(instance = %guid, error = %left, "restored-database-left");
            }
            return Err(error);
        }
        swap(conn, guid, &instance).await
    }

    /// Makes the new database, and fills it as a user of the instance.
    async fn fill(&self, conn: &mut PgConnection, guid: Guid, file: &Path) -> Result<()> {
        let broker = self.broker();
        let name = guid.restored();
        broker.prepare(conn, guid, &name).await?;
        let user = Temporary::create(broker, guid, Role::Writer).await?;
        let address = broker.admin().with_user(&user.name, &user.password);
        let input =
            std::fs::File::open(file).with_context(|| format!("read {}", file.display()))?;
        let mut command = self.programs().command("pg_restore");
        command
            .arg(format!("--dbname={name}"))
            .args(["--no-owner", "--no-privileges", "--no-password"])
            .args(["--exit-on-error", "--single-transaction"])
            .envs(address.variables(&name))
            .stdin(input)
            .stdout(Stdio::null());
        let done = finished(command, "pg_restore").await;
        if done.is_ok() {
            // A function in the dump may have made things that belong to the temporary user.
            let mut inside = broker.admin().connect(&name).await?;
            db::disown(&mut inside, &user.name, &guid.owner()).await?;
        }
        user.remove(broker).await;
        done
    }
}

/// Puts the new database in the place of the previous one.
async fn swap(conn: &mut PgConnection, guid: Guid, instance: &Instance) -> Result<()> {
    let (current, restored, kept) = (guid.database(), guid.restored(), guid.kept());
    db::drop_database(conn, &kept).await?;
    db::limit(conn, &restored, instance.plan.connections).await?;
    db::allow_connections(conn, &current, false).await?;
    let renamed = async {
        wait_for_nobody(conn, &current).await?;
        wait_for_nobody(conn, &restored).await?;
        db::rename(conn, &current, &kept).await?;
        db::rename(conn, &restored, &current).await?;
        Ok::<(), anyhow::Error>(())
    };
    let renamed = renamed.await;
    mend(conn, guid).await.context("end the restore")?;
    renamed
}

/// Ends the sessions of a database, and waits for it.
async fn wait_for_nobody(conn: &mut PgConnection, database: &str) -> Result<()> {
    let began = tokio::time::Instant::now();
    loop {
        db::end_sessions(conn, database).await?;
        if db::sessions(conn, database).await? == 0 {
            return Ok(());
        }
        ensure!(
            began.elapsed() < PATIENCE,
            "the sessions of {database} do not end"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Brings an instance to a whole state, wherever a restore broke off, or has ended. The caller holds its lock.
async fn mend(conn: &mut PgConnection, guid: Guid) -> Result<()> {
    let (current, restored, kept) = (guid.database(), guid.restored(), guid.kept());
    if db::has_database(conn, &current).await? {
        // It is the previous one if there is no other, and else the new one.
        db::allow_connections(conn, &current, true).await?;
        db::drop_database(conn, &kept).await?;
    } else if db::has_database(conn, &kept).await? {
        db::rename(conn, &kept, &current).await?;
        db::allow_connections(conn, &current, true).await?;
        tracing::warn!(instance = %guid, "restore-undone: the previous database is in its place again");
    }
    Ok(db::drop_database(conn, &restored).await?)
}

/// Removes what restores and dumps of processes have left that were killed.
pub(crate) async fn tidy(broker: &Broker) -> Result<(), Fault> {
    let mut session = broker.session().await?;
    let conn = &mut session.conn;
    let mut left = db::with_prefix(conn, "r").await?;
    left.extend(db::with_prefix(conn, "k").await?);
    left.sort_unstable();
    left.dedup();
    for guid in left {
        if !db::try_lock(conn, guid).await? {
            // A restore is under way.
            continue;
        }
        if let Err(error) = mend(conn, guid).await {
            let error = format!("{error:#}");
            tracing::error!(instance = %guid, error, "restore-not-mended");
        }
        db::unlock(conn, guid).await?;
    }
    for user in db::expired_users(conn).await? {
        if let Err(error) = db::drop_role(conn, &user).await {
            tracing::warn!(user, %error, "temporary-user-not-removed");
        }
    }
    Ok(())
}
