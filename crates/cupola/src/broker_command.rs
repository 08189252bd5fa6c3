//! `cupola broker postgres`: runs the broker of PostgreSQL databases in a process of its own, makes and restores dumps, and removes
//! instances that were forgotten.
//!
//! All of it works with the configuration and the data directory of a foundation. The other commands connect to the server, which must
//! run.

use crate::config::{self, Config, Overrides};
use crate::plan::Plan;
use crate::role::Role;
use crate::roles::postgres::settings;
use crate::terminal::{print, print_line, start_logging};
use crate::up;
use anyhow::Result;
use clap::{Args, Subcommand};
use kit::tls::Identity;
use postgres_broker::{Listed, Operator, Source};
use std::path::PathBuf;

/// The brokers that a foundation can run.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// PostgreSQL databases: one for each service instance, on one server
    #[command(subcommand)]
    Postgres(Postgres),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Postgres {
    /// Run the broker and its server in a process of their own; SIGTERM stops both
    #[command(after_help = "Example: cupola broker postgres run --config cupola.yml")]
    Run(File),
    /// List the instances and their dumps
    #[command(after_help = "Example: cupola broker postgres list --config cupola.yml")]
    List(File),
    /// Make a dump of an instance now, or of all of them
    #[command(after_help = "Examples:
  cupola broker postgres dump --config cupola.yml
  cupola broker postgres dump demo/dev/db --config cupola.yml")]
    Dump {
        /// The instance: its guid, its name, or ORG/SPACE/NAME
        #[arg(value_name = "INSTANCE")]
        instance: Option<String>,
        #[command(flatten)]
        file: File,
    },
    /// Replace the content of an instance with that of a dump; bindings stay valid, and sessions end
    #[command(after_help = "Examples:
  cupola broker postgres restore db --config cupola.yml                             the newest dump
  cupola broker postgres restore db --dump 2026-11-30T03-00-00Z --config cupola.yml
  cupola broker postgres restore db --of GUID --config cupola.yml                   a dump of an instance that is gone
  cupola broker postgres restore demo/dev/db --from db.dump --config cupola.yml     a file of pg_dump --format=custom")]
    Restore {
        /// The instance: its guid, its name, or ORG/SPACE/NAME
        #[arg(value_name = "INSTANCE")]
        instance: String,
        /// The name of the dump, as `list` shows it; default: the newest
        #[arg(long, value_name = "NAME", conflicts_with = "from")]
        dump: Option<String>,
        /// The guid of another instance whose dump it is, as `list` shows it; default: the instance itself
        #[arg(long, value_name = "GUID", conflicts_with = "from")]
        of: Option<String>,
        /// A file that `pg_dump --format=custom` wrote
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
        #[command(flatten)]
        file: File,
    },
    /// Remove an instance that the Cloud Controller has forgotten; its dumps stay
    #[command(
        after_help = "Example, after cf purge-service-instance: cupola broker postgres remove GUID --config cupola.yml"
    )]
    Remove {
        /// The guid of the instance, as `list` shows it
        #[arg(value_name = "GUID")]
        guid: String,
        #[command(flatten)]
        file: File,
    },
}

#[derive(Debug, Args)]
pub(crate) struct File {
    /// The configuration file (YAML), which has the section postgres
    #[arg(short, long)]
    config: Option<PathBuf>,
}

impl File {
    fn load(self, data: Option<PathBuf>) -> Result<Config> {
        config::load(Overrides {
            file: self.config,
            data,
            ..Overrides::default()
        })
    }
}

/// Runs a command.
pub(crate) async fn run(data: Option<PathBuf>, Command::Postgres(command): Command) -> Result<()> {
    match command {
        Postgres::Run(file) => {
            start_logging("info");
            up::serve(file.load(data)?, &[Role::PostgresBroker]).await
        }
        Postgres::List(file) => {
            start_logging("error");
            let listed = operator(file, data)?.list().await?;
            print(&table(&listed))
        }
        Postgres::Dump { instance, file } => {
            start_logging("warn");
            let made = operator(file, data)?.dump(instance.as_deref()).await?;
            for (guid, dump) in made {
                print_line(&format!("{guid}  {dump}"));
            }
            Ok(())
        }
        Postgres::Restore {
            instance,
            dump,
            of,
            from,
            file,
        } => {
            start_logging("warn");
            let source = match from {
                Some(path) => Source::File(path),
                None => Source::Dump { of, name: dump },
            };
            let operator = operator(file, data)?;
            let (guid, dump) = operator.restore(&instance, &source).await?;
            print_line(&format!("The instance {guid} has the content of {dump}."));
            Ok(())
        }
        Postgres::Remove { guid, file } => {
            start_logging("warn");
            operator(file, data)?.remove(&guid).await?;
            print_line(&format!("The instance {guid} is removed."));
            Ok(())
        }
    }
}

fn operator(file: File, data: Option<PathBuf>) -> Result<Operator> {
    let config = file.load(data)?;
    let plan = Plan::read(&config.data)?;
    // The commands present no certificate.
    let identity = Identity {
        cert_pem: String::new(),
        key_pem: String::new(),
        ca_pem: String::new(),
    };
    Operator::open(settings(&config, &plan, identity)?)
}

/// Returns the instances as lines, each followed by its dumps.
fn table(listed: &[Listed]) -> String {
    if listed.is_empty() {
        return "There are no instances and no dumps.\n".to_owned();
    }
    let mut text = String::new();
    for instance in listed {
        let Listed {
            guid, path, plan, ..
        } = instance;
        text.push_str(format!("{guid}  {path}  {plan}").trim_end());
        text.push('\n');
        for (name, bytes) in &instance.dumps {
            text.push_str(&format!("  {name}  {bytes} bytes\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_are_listed_with_their_dumps() {
        assert_eq!(table(&[]), "There are no instances and no dumps.\n");
        let listed = [
            Listed {
                guid: "1".to_owned(),
                path: "demo/dev/db".to_owned(),
                plan: "small".to_owned(),
                dumps: vec![("2026-11-30T03-00-00Z".to_owned(), 7)],
            },
            Listed {
                guid: "2".to_owned(),
                path: "(removed)".to_owned(),
                plan: String::new(),
                dumps: Vec::new(),
            },
        ];
        assert_eq!(
            table(&listed),
            "1  demo/dev/db  small\n  2026-11-30T03-00-00Z  7 bytes\n2  (removed)\n"
        );
    }
}
