//! The command line.

use clap::{Args, Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(
    name = "cfdot",
    about = "Shows and changes the state of Diego: LRPs, tasks, cells, domains, locks",
    disable_version_flag = true
)]
pub(crate) struct Command {
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Also from the environment: BBS_URL, LOCKET_API_LOCATION, CA_CERT_FILE, CLIENT_CERT_FILE, CLIENT_KEY_FILE.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// URL of the BBS
    #[arg(long = "bbsURL", global = true, env = "BBS_URL", value_name = "URL")]
    pub(crate) bbs_url: Option<String>,
    /// Address of locket
    #[arg(
        long = "locketAPILocation",
        global = true,
        env = "LOCKET_API_LOCATION",
        value_name = "URL"
    )]
    pub(crate) locket_url: Option<String>,
    /// CA that the servers' certificates must chain to
    #[arg(
        long = "caCertFile",
        global = true,
        env = "CA_CERT_FILE",
        value_name = "FILE"
    )]
    pub(crate) ca_cert_file: Option<String>,
    /// The client's certificate
    #[arg(
        long = "clientCertFile",
        global = true,
        env = "CLIENT_CERT_FILE",
        value_name = "FILE"
    )]
    pub(crate) client_cert_file: Option<String>,
    /// The client's key
    #[arg(
        long = "clientKeyFile",
        global = true,
        env = "CLIENT_KEY_FILE",
        value_name = "FILE"
    )]
    pub(crate) client_key_file: Option<String>,
    /// Longest time for the command, in seconds; 0 is no limit
    #[arg(
        long,
        global = true,
        env = "CFDOT_TIMEOUT",
        default_value_t = 0,
        value_name = "SECONDS"
    )]
    pub(crate) timeout: u64,
}

#[derive(Debug, Args)]
pub(crate) struct OfDomain {
    /// Only those of this domain (cf-apps, cf-tasks, …)
    #[arg(short, long, default_value = "")]
    pub(crate) domain: String,
}

#[derive(Debug, Args)]
pub(crate) struct OfDomainAndCell {
    #[command(flatten)]
    pub(crate) of: OfDomain,
    /// Only those on this cell
    #[arg(short, long, default_value = "")]
    pub(crate) cell_id: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List actual LRPs: where instances run, at which addresses and ports
    #[command(after_help = "Example: cfdot actual-lrps -p PROCESS_GUID | jq .")]
    ActualLrps {
        #[command(flatten)]
        of: OfDomainAndCell,
        /// Only those of this desired LRP
        #[arg(short, long, default_value = "")]
        process_guid: String,
        /// Only the instance with this index
        #[arg(short, long)]
        index: Option<i32>,
    },
    /// List desired LRPs: what should run
    #[command(after_help = "Example: cfdot desired-lrps -d cf-apps | jq .routes")]
    DesiredLrps(OfDomain),
    /// Show one desired LRP
    DesiredLrp { process_guid: String },
    /// List desired LRPs with what placement needs to know only
    DesiredLrpSchedulingInfos(OfDomain),
    /// Change a desired LRP: SPEC is JSON, or @FILE
    #[command(after_help = "Example: cfdot update-desired-lrp PROCESS_GUID '{\"instances\":2}'")]
    UpdateDesiredLrp { process_guid: String, spec: String },
    /// Delete a desired LRP: its instances stop
    DeleteDesiredLrp { process_guid: String },
    /// Stop one instance; if it is still desired another one starts
    RetireActualLrp { process_guid: String, index: i32 },
    /// List tasks
    Tasks(OfDomainAndCell),
    /// Show one task
    Task { task_guid: String },
    /// Cancel a task
    CancelTask { task_guid: String },
    /// Delete a completed task
    DeleteTask { task_guid: String },
    /// List fresh domains
    Domains,
    /// Make a domain fresh: what is missing from it may be stopped
    SetDomain {
        domain: String,
        /// How long it stays fresh (40s, 2m; 0s: for ever)
        #[arg(short, long, default_value = "0s")]
        ttl: String,
    },
    /// List the cells that are there
    Cells,
    /// Show one cell
    Cell { cell_id: String },
    /// Show what a cell itself says it runs and has left
    CellState { cell_id: String },
    /// The states of all cells
    CellStates,
    /// Print LRP events until interrupted
    LrpEvents {
        /// Only actual LRP events of this cell
        #[arg(short, long, default_value = "")]
        cell_id: String,
        /// Taken for compatibility: the deprecated group events are never shown
        #[arg(short = 'x', long)]
        exclude_actual_lrp_groups: bool,
    },
    /// Print task events until interrupted
    TaskEvents,
    /// List locks held in locket
    Locks,
    /// List presences in locket
    Presences,
}

/// Why there is nothing to run.
#[derive(Debug)]
pub(crate) enum Stop {
    Help(String),
    Mistake(String),
}

pub(crate) fn parse(args: Vec<String>) -> Result<Command, Stop> {
    Command::try_parse_from(std::iter::once("cfdot".to_owned()).chain(args)).map_err(|error| {
        match error.kind() {
            clap::error::ErrorKind::DisplayHelp => Stop::Help(error.to_string()),
            _ => Stop::Mistake(error.to_string().trim_end().to_owned()),
        }
    })
}

/// Go's durations in whole seconds: `40s`, `1m30s`, `2h`, `0`.
pub(crate) fn seconds(text: &str) -> Option<u32> {
    let (mut total, mut number) = (0u32, String::new());
    for c in text.chars() {
        if c.is_ascii_digit() {
            number.push(c);
            continue;
        }
        let unit = match c {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            _ => return None,
        };
        total = total.checked_add(number.parse::<u32>().ok()?.checked_mul(unit)?)?;
        number.clear();
    }
    if number.is_empty() || (total == 0 && number == "0") {
        Some(total).filter(|_| !text.is_empty())
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_parse() {
        let parse = |line: &str| parse(line.split_whitespace().map(str::to_owned).collect());
        let command = parse("actual-lrps -p guid -i 1 --cell-id c --bbsURL https://b").unwrap();
        assert!(
            matches!(command.verb, Verb::ActualLrps { ref process_guid, index: Some(1), .. } if process_guid == "guid")
        );
        assert_eq!(command.target.bbs_url.as_deref(), Some("https://b"));
        assert!(matches!(
            parse("lrp-events -x").unwrap().verb,
            Verb::LrpEvents {
                exclude_actual_lrp_groups: true,
                ..
            }
        ));
        assert!(matches!(parse("desired-lrp"), Err(Stop::Mistake(_))));
        assert!(matches!(parse("--help"), Err(Stop::Help(_))));
    }

    #[test]
    fn durations_are_go_s() {
        assert_eq!(
            ["40s", "1m30s", "2h", "0", "0s"].map(seconds),
            [Some(40), Some(90), Some(7200), Some(0), Some(0)]
        );
        assert_eq!(["40", "s", "-1s", "", "1d"].map(seconds), [None; 5]);
    }
}
