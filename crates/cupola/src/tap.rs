//! `cupola tap HOST`: the next requests to a host as they end, one line each: the phases of its time in milliseconds, and each attempt at
//! an instance. The router measures a request only while a tap of its host is open.

use crate::addresses::Service;
use crate::plan::{Plan, STATUS_USER};
use crate::terminal::{print, print_error};
use anyhow::{Context as _, Result};
use clap::Args;
use clients::tap::{Event, Page, Wanted};
use std::path::Path;
use why::changes::time_of_day;
use wire::router::{RequestTrace, TapEnded};

/// The arguments of the command.
#[derive(Debug, Args)]
pub(crate) struct Query {
    /// The host of the requests
    host: String,
    /// End after so many requests [default: 100]
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// End after so many seconds [default: 600]
    #[arg(long, value_name = "S")]
    seconds: Option<u64>,
    /// The address of the operator's pages of another router [default: the foundation's]
    #[arg(long, value_name = "ADDRESS")]
    router: Option<String>,
    /// Print each request as a line of JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(data: &Path, query: Query) -> Result<()> {
    let plan = Plan::read(data)?;
    let address = query.router;
    let address = address.unwrap_or_else(|| plan.reach(Service::RouterStatus));
    let page = Page {
        url: format!("http://{address}"),
        user: STATUS_USER.into(),
        password: plan.status_password.clone(),
    };
    let wanted = Wanted {
        host: query.host,
        limit: query.limit,
        seconds: query.seconds,
    };
    let mut tap = page.tap(&wanted).await.map_err(explained)?;
    loop {
        let event = tap.next().await;
        match event.context("the router has closed the tap: run the command again")? {
            Event::Opened(opened) => {
                let (host, limit, seconds) = (opened.host, opened.limit, opened.seconds);
                print_error(&format!(
                    "showing requests to {host}: at most {limit}, for at most {seconds} s"
                ));
            }
            Event::Request(trace) => print(&line(&trace, query.json)?)?,
            Event::Ended(ended) => {
                print_error(&end(&ended));
                return Ok(());
            }
        }
    }
}

/// Adds what to do to an error of the connection. The router's own answers name what is wrong with the arguments.
fn explained(error: anyhow::Error) -> anyhow::Error {
    match error.chain().any(|cause| cause.is::<reqwest::Error>()) {
        true => error.context("open a tap: is the foundation running? start it with `cupola up`"),
        false => error,
    }
}

fn line(trace: &RequestTrace, json: bool) -> Result<String> {
    let line = match json {
        true => serde_json::to_string(trace)?,
        false => format!("{}  {trace}", time_of_day(&trace.time)),
    };
    Ok(format!("{line}\n"))
}

/// Returns the last sentence of the command.
fn end(ended: &TapEnded) -> String {
    let shown = ended.requests;
    let why = match ended.reason.as_str() {
        "limit" => "the tap has reached its limit",
        "time" => "the time of the tap is over",
        _ => "the router has ended the tap",
    };
    let missing = match ended.missed {
        0 => String::new(),
        missed => format!("; missing, because they came too fast: {missed}"),
    };
    format!("requests shown: {shown}; {why}{missing}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_begins_with_the_time_of_day() {
        let trace = RequestTrace {
            time: "2026-11-30T10:04:31.25Z".into(),
            host: "a.test".into(),
            method: "GET".into(),
            path: "/".into(),
            status: 404,
            ..RequestTrace::default()
        };
        let text = line(&trace, false).unwrap();
        let begins = "10:04:31.250  a.test \"GET /\" 404 in 0.00 ms: router 0.00";
        assert!(text.starts_with(begins), "{text}");
        assert!(line(&trace, true).unwrap().starts_with("{\"time\":\"2026"));
    }

    #[test]
    fn the_end_has_its_reason_and_what_is_missing() {
        let ended = |reason: &str, missed| TapEnded {
            reason: reason.into(),
            requests: 7,
            missed,
        };
        assert_eq!(
            end(&ended("limit", 2)),
            "requests shown: 7; the tap has reached its limit; missing, because they came too fast: 2"
        );
        assert!(end(&ended("time", 0)).ends_with("the time of the tap is over"));
        assert!(end(&ended("stop", 0)).ends_with("the router has ended the tap"));
    }
}
