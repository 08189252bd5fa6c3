//! One call per command, and its answer as lines of JSON.

use crate::Options;
use crate::args::{self, Command, OfDomain, OfDomainAndCell, Target, Verb};
use crate::json;
use anyhow::{Context as _, anyhow};
use clients::bbs::{BbsError, Events};
use kit::tls::Identity;
use std::io::Write;
use std::time::Duration;
use wire::bbs as m;
use wire::locket::TypeCode;

#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line or the environment is wrong.
    Mistake(String),
    Bbs {
        kind: m::ErrorType,
        message: String,
    },
    /// Locket or a rep.
    Component(String),
    Other(anyhow::Error),
}

impl Failure {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Mistake(_) => 3,
            Self::Bbs { .. } | Self::Component(_) => 4,
            Self::Other(_) => 5,
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Mistake(text) | Self::Component(text) => f.write_str(text),
            Self::Bbs { kind, message } => write!(
                f,
                "BBS error\nType {}: {kind:?}\nMessage: {message}",
                *kind as i32
            ),
            Self::Other(error) => write!(f, "{error:#}"),
        }
    }
}

impl From<BbsError> for Failure {
    fn from(error: BbsError) -> Self {
        match error {
            BbsError::Answer { kind, message } => Self::Bbs { kind, message },
            unreachable => Self::Other(unreachable.into()),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

type Done = Result<(), Failure>;

pub(crate) async fn run(command: Command, options: Options, out: &mut (dyn Write + Send)) -> Done {
    let limit = command.target.timeout;
    let reach = Reach::new(&command.target, options)?;
    let work = reach.run(command.verb, out);
    if limit == 0 {
        return work.await;
    }
    match tokio::time::timeout(Duration::from_secs(limit), work).await {
        Ok(done) => done,
        Err(_) => Err(Failure::Other(anyhow!("no answer within {limit} s"))),
    }
}

/// The servers, as far as they are known.
struct Reach {
    bbs_url: Option<String>,
    locket_url: Option<String>,
    identity: Option<Identity>,
}

impl Reach {
    fn new(target: &Target, options: Options) -> Result<Self, Failure> {
        let files = (
            &target.client_cert_file,
            &target.client_key_file,
            &target.ca_cert_file,
        );
        let identity = match files {
            (Some(cert), Some(key), Some(ca)) => {
                let read = |path: &String| {
                    std::fs::read_to_string(path)
                        .map_err(|e| Failure::Mistake(format!("read {path}: {e}")))
                };
                Some(Identity {
                    cert_pem: read(cert)?,
                    key_pem: read(key)?,
                    ca_pem: read(ca)?,
                })
            }
            (None, None, None) => options.identity,
            _ => {
                return Err(Failure::Mistake(
                    "--caCertFile, --clientCertFile and --clientKeyFile must be given together"
                        .into(),
                ));
            }
        };
        Ok(Self {
            bbs_url: target.bbs_url.clone().or(options.bbs_url),
            locket_url: target.locket_url.clone().or(options.locket_url),
            identity,
        })
    }

    fn identity(&self) -> Result<&Identity, Failure> {
        let missing = "no client certificate: specify --caCertFile, --clientCertFile and --clientKeyFile, or CA_CERT_FILE, CLIENT_CERT_FILE and CLIENT_KEY_FILE";
        self.identity
            .as_ref()
            .ok_or_else(|| Failure::Mistake(missing.into()))
    }

    fn bbs(&self) -> Result<clients::bbs::Client, Failure> {
        let missing = "BBS URL not set. Please specify one with the '--bbsURL' flag or the 'BBS_URL' environment variable.";
        let url = self
            .bbs_url
            .as_deref()
            .ok_or_else(|| Failure::Mistake(missing.into()))?;
        if !url.starts_with("https://") {
            return Err(Failure::Mistake(format!(
                "The URL '{url}' does not have an 'https' scheme. Please specify one with the '--bbsURL' flag or the 'BBS_URL' environment variable."
            )));
        }
        Ok(clients::bbs::Client::new(url, self.identity()?)?)
    }

    fn locket(&self) -> Result<clients::locket::Client, Failure> {
        let missing = "Locket API Location not set. Please specify one with the '--locketAPILocation' flag or the 'LOCKET_API_LOCATION' environment variable.";
        let url = self
            .locket_url
            .as_deref()
            .ok_or_else(|| Failure::Mistake(missing.into()))?;
        let url = if url.contains("://") {
            url.to_owned()
        } else {
            format!("https://{url}")
        };
        Ok(clients::locket::Client::new(url, self.identity()?)?)
    }

    async fn run(&self, verb: Verb, out: &mut (dyn Write + Send)) -> Done {
        match verb {
            Verb::Locks => self.resources(TypeCode::Lock, out).await,
            Verb::Presences => self.resources(TypeCode::Presence, out).await,
            Verb::CellState { cell_id } => {
                let cell = self.cell(&cell_id).await?;
                self.cell_state(&cell, out).await
            }
            Verb::CellStates => {
                for cell in self.bbs()?.cells().await? {
                    self.cell_state(&cell, out).await?;
                }
                Ok(())
            }
            Verb::Cell { cell_id } => line(out, &json::cell_presence(&self.cell(&cell_id).await?)),
            Verb::LrpEvents { cell_id, .. } => {
                events(self.bbs()?.instance_events(&cell_id).await?, out).await
            }
            Verb::TaskEvents => events(self.bbs()?.task_events().await?, out).await,
            verb => bbs_command(&self.bbs()?, verb, out).await,
        }
    }

    async fn cell(&self, id: &str) -> Result<m::CellPresence, Failure> {
        let cells = self.bbs()?.cells().await?;
        cells.into_iter().find(|c| c.cell_id == id).ok_or_else(|| {
            Failure::Other(anyhow!(
                "Cell not found: no cell {id:?} is present; 'cfdot cells' lists them"
            ))
        })
    }

    async fn cell_state(&self, cell: &m::CellPresence, out: &mut (dyn Write + Send)) -> Done {
        let rep = clients::rep::Client::new(self.identity()?)?;
        let url = if cell.rep_url.is_empty() {
            &cell.rep_address
        } else {
            &cell.rep_url
        };
        let state = rep.state(url).await.map_err(|e| {
            Failure::Component(format!(
                "Rep error: Failed to get cell state for cell {}: {e:#}",
                cell.cell_id
            ))
        })?;
        line(out, &state)
    }

    async fn resources(&self, kind: TypeCode, out: &mut (dyn Write + Send)) -> Done {
        let resources = self
            .locket()?
            .fetch_all(kind)
            .await
            .map_err(|e| Failure::Component(format!("Locket error: {e}")))?;
        lines(out, resources.iter().map(json::resource))
    }
}

async fn bbs_command(bbs: &clients::bbs::Client, verb: Verb, out: &mut (dyn Write + Send)) -> Done {
    match verb {
        Verb::ActualLrps {
            of: OfDomainAndCell { of, cell_id },
            process_guid,
            index,
        } => {
            let request = m::ActualLrpsRequest {
                domain: of.domain,
                cell_id,
                process_guid,
                index,
            };
            lines(
                out,
                bbs.actual_lrps(&request)
                    .await?
                    .iter()
                    .map(json::actual_lrp),
            )
        }
        Verb::DesiredLrps(of) => lines(
            out,
            bbs.desired_lrps(&in_domain(of))
                .await?
                .iter()
                .map(json::desired_lrp),
        ),
        Verb::DesiredLrp { process_guid } => line(
            out,
            &json::desired_lrp(&bbs.desired_lrp(&process_guid).await?),
        ),
        Verb::DesiredLrpSchedulingInfos(of) => lines(
            out,
            bbs.scheduling_infos(&in_domain(of))
                .await?
                .iter()
                .map(json::scheduling_info),
        ),
        Verb::UpdateDesiredLrp { process_guid, spec } => {
            let text = match spec.strip_prefix('@') {
                Some(file) => std::fs::read_to_string(file)
                    .map_err(|e| Failure::Mistake(format!("read {file}: {e}")))?,
                None => spec,
            };
            let update = json::desired_lrp_update(&text)
                .map_err(|e| Failure::Mistake(format!("Invalid JSON: {e}")))?;
            Ok(bbs.update_desired_lrp(&process_guid, update).await?)
        }
        Verb::DeleteDesiredLrp { process_guid } => {
            Ok(bbs.remove_desired_lrp(&process_guid).await?)
        }
        Verb::RetireActualLrp {
            process_guid,
            index,
        } => {
            let domain = bbs.desired_lrp(&process_guid).await?.domain;
            Ok(bbs
                .retire(m::ActualLrpKey {
                    process_guid,
                    index,
                    domain,
                })
                .await?)
        }
        Verb::Tasks(OfDomainAndCell { of, cell_id }) => {
            let request = m::TasksRequest {
                domain: of.domain,
                cell_id,
            };
            lines(out, bbs.tasks(&request).await?.iter().map(json::task))
        }
        Verb::Task { task_guid } => line(out, &json::task(&bbs.task(&task_guid).await?)),
        Verb::CancelTask { task_guid } => Ok(bbs.cancel_task(&task_guid).await?),
        Verb::DeleteTask { task_guid } => {
            bbs.resolve_task(&task_guid).await?;
            Ok(bbs.delete_task(&task_guid).await?)
        }
        Verb::Domains => lines(out, bbs.domains().await?),
        Verb::SetDomain { domain, ttl } => {
            let seconds = args::seconds(&ttl).ok_or_else(|| {
                Failure::Mistake(format!("invalid ttl {ttl:?}: use a duration such as 40s"))
            })?;
            Ok(bbs.upsert_domain(&domain, seconds).await?)
        }
        Verb::Cells => lines(out, bbs.cells().await?.iter().map(json::cell_presence)),
        other => Err(Failure::Other(anyhow!("{other:?} is no BBS command"))),
    }
}

fn in_domain(of: OfDomain) -> m::DesiredLrpsRequest {
    m::DesiredLrpsRequest {
        domain: of.domain,
        ..m::DesiredLrpsRequest::default()
    }
}

/// Prints events until the stream or the reader ends.
async fn events(mut events: Events, out: &mut (dyn Write + Send)) -> Done {
    loop {
        let event = events
            .next()
            .await
            .map_err(|e| Failure::Other(e.context("the BBS closed the event stream")))?;
        line(out, &json::event(&event))?;
    }
}

fn line(out: &mut (dyn Write + Send), value: &impl serde::Serialize) -> Done {
    let text = serde_json::to_string(value).context("encode JSON")?;
    writeln!(out, "{text}")
        .and_then(|()| out.flush())
        .context("write to stdout")?;
    Ok(())
}

fn lines(
    out: &mut (dyn Write + Send),
    values: impl IntoIterator<Item = impl serde::Serialize>,
) -> Done {
    values.into_iter().try_for_each(|value| line(out, &value))
}
