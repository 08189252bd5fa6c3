//! `cupola nats sub SUBJECT`: the messages of the bus as a person reads them. Addresses, credentials and the certificate are those of
//! the foundation.

use crate::exec;
use crate::plan::Plan;
use crate::terminal::print;
use anyhow::{Result, bail, ensure};
use clap::Subcommand;
use futures::StreamExt as _;
use std::path::Path;
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use why::bus::Received;

/// The longest time for a connection to the bus.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print every message on a subject as it arrives, until Ctrl-C
    #[command(after_help = "Examples:
  cupola nats sub 'router.*'               routes that come and go
  cupola nats sub router.register --json | jq .message.uris
  cupola nats sub '>'                      everything")]
    Sub {
        /// The subject; * stands for one part of it, > for all that follow
        subject: String,
        /// End after so many messages
        #[arg(long, value_name = "N")]
        count: Option<u64>,
        /// Print each message as a line of JSON
        #[arg(long)]
        json: bool,
    },
}

pub(crate) async fn run(data: &Path, command: Command) -> Result<()> {
    let Command::Sub {
        subject,
        count,
        json,
    } = command;
    if let Some(fault) = Received::fault_of_subject(&subject) {
        bail!(
            "subject {subject:?} is not one: {fault}; use e.g. router.register, 'router.*' or '>'"
        );
    }
    let (_client, mut messages) = subscribe(data, &subject).await?;
    let mut left = count.unwrap_or(u64::MAX);
    while left > 0 {
        let Some(message) = messages.next().await else {
            bail!("the subscription to {subject} has ended: run the command again");
        };
        left -= 1;
        let time = OffsetDateTime::now_utc().format(&Rfc3339)?;
        let received = Received {
            time: &time,
            subject: &message.subject,
            reply: message.reply.as_deref(),
            payload: &message.payload,
        };
        print(&match json {
            true => format!("{}\n", received.to_json()),
            false => format!("{received}\n"),
        })?;
    }
    Ok(())
}

/// Returns the addresses of the foundation's bus, and the operator's credentials there.
pub(crate) fn bus(data: &Path, plan: &Plan) -> Result<clients::nats::Config> {
    let mut config = plan.nats();
    if plan.bus_has_tls {
        config.tls = Some(exec::operator(data)?);
    }
    Ok(config)
}

/// Subscribes to a subject on the foundation's bus. When it returns, the subscription is on its way to the server.
pub(crate) async fn subscribe(
    data: &Path,
    subject: &str,
) -> Result<(async_nats::Client, async_nats::Subscriber)> {
    let config = bus(data, &Plan::read(data)?)?;
    let client = clients::nats::connect(&config, "cupola", |_| std::future::ready(())).await?;
    let messages = client.subscribe(subject.to_owned()).await?;
    let connected = tokio::time::timeout(PATIENCE, client.flush()).await;
    let servers = config.servers.join(", ");
    ensure!(
        matches!(connected, Ok(Ok(()))),
        "connect to the bus at {servers}: no answer within {} s; is the foundation running? start it with `cupola up`",
        PATIENCE.as_secs()
    );
    Ok((client, messages))
}
