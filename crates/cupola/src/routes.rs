//! `cupola routes`: the router's own table, as gorouter's `retrieve-local-routes` prints it, now or at an earlier time; what differs
//! between two times; and every change as it happens.

mod moment;

use crate::addresses::Service;
use crate::plan::{Plan, STATUS_USER};
use crate::terminal::print;
use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;
use serde::Serialize;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use time::OffsetDateTime;
use why::{changes, table};

/// The pause between two looks at the page of changes. The router writes the time of a change, so the pause costs no precision.
const PAUSE: Duration = Duration::from_millis(100);

/// The arguments of the command.
#[derive(Debug, Args)]
pub(crate) struct Query {
    /// Print the part of the table that a request to this host and path meets
    #[arg(value_name = "HOST[/PATH]", conflicts_with = "diff")]
    request: Option<String>,
    /// Use the table of an earlier time: a time of day in UTC, RFC 3339, or a duration before now (90s, 5m, 2h)
    #[arg(long, value_name = "TIME", conflicts_with_all = ["diff", "watch"])]
    at: Option<String>,
    /// Print the difference between the tables of two times
    #[arg(long, num_args = 2, value_names = ["A", "B"], conflicts_with = "watch")]
    diff: Option<Vec<String>>,
    /// Print every change as it happens, until Ctrl-C; with a host only those of its routes
    #[arg(long)]
    watch: bool,
    /// Print JSON (the table itself is JSON always)
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(data: &Path, query: Query) -> Result<()> {
    let pages = Pages::new(&Plan::read(data)?)?;
    let now = OffsetDateTime::now_utc();
    if query.watch {
        let host = query.request.as_deref().map(|request| parts(request).0);
        return watch(&pages, host, query.json).await;
    }
    if let Some([from, to]) = query.diff.as_deref() {
        let (from, to) = (moment::parse(from, now)?, moment::parse(to, now)?);
        return difference(&pages, from, to, query.json).await;
    }
    let at = query.at.as_deref().map(|text| moment::parse(text, now));
    let at = at.transpose()?;
    let page = match at {
        Some(at) => pages.table_at(at).await?,
        None => pages.table().await?,
    };
    match query.request {
        None => print(&format!("{}\n", serde_json::to_string_pretty(&page)?)),
        Some(request) => {
            let met = table::encounter(&read(page)?, parts(&request).0, parts(&request).1);
            let time = moment::written(at.unwrap_or(now))?;
            encounter(&request, &time, &met, query.json)
        }
    }
}

/// Returns the endpoints by route, as the router's `/routes` returns them.
pub(crate) async fn table(plan: &Plan) -> Result<Value> {
    Pages::new(plan)?.table().await
}

/// Returns the host and the path of a request. A scheme before the host is left out.
fn parts(request: &str) -> (&str, &str) {
    let rest = request.split_once("://").map_or(request, |(_, rest)| rest);
    match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    }
}

fn read(page: Value) -> Result<table::Table> {
    table::read(page).map_err(|fault| anyhow!("read the router's table: {fault}"))
}

/// The result of `cupola routes HOST` as JSON.
#[derive(Debug, Serialize)]
struct Met<'a> {
    request: &'a str,
    at: &'a str,
    #[serde(flatten)]
    met: &'a table::Encounter,
}

fn encounter(request: &str, at: &str, met: &table::Encounter, json: bool) -> Result<()> {
    if json {
        let met = Met { request, at, met };
        return print(&format!("{}\n", serde_json::to_string(&met)?));
    }
    print(&format!("At {at} a request to {request} meets {met}"))
}

async fn difference(
    pages: &Pages,
    from: OffsetDateTime,
    to: OffsetDateTime,
    json: bool,
) -> Result<()> {
    let before = read(pages.table_at(from).await?)?;
    let after = read(pages.table_at(to).await?)?;
    let found = table::differing(&before, &after);
    if json {
        return print(&format!("{}\n", serde_json::to_string_pretty(&found)?));
    }
    if found.is_empty() {
        let (from, to) = (moment::written(from)?, moment::written(to)?);
        return print(&format!("The tables of {from} and {to} are equal.\n"));
    }
    let lines: String = found.iter().map(|line| format!("{line}\n")).collect();
    print(&lines)
}

async fn watch(pages: &Pages, host: Option<&str>, json: bool) -> Result<()> {
    let mut follower = Follower::begin(pages).await?;
    loop {
        for change in follower.next().await? {
            if host.is_some_and(|host| !change.is_of(host)) {
                continue;
            }
            let line = match json {
                true => serde_json::to_string(&change)?,
                false => change.to_string(),
            };
            print(&format!("{line}\n"))?;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// A reader of the changes.
pub(crate) struct Follower<'a> {
    pages: &'a Pages,
    router: String,
    last: u64,
}

impl<'a> Follower<'a> {
    pub(crate) async fn begin(pages: &'a Pages) -> Result<Self> {
        let page = pages.changes(0).await?;
        Ok(Self {
            pages,
            router: page.router,
            last: page.last,
        })
    }

    /// Makes a reader that begins with the oldest change that the router keeps.
    pub(crate) async fn begin_with_past(pages: &'a Pages) -> Result<Self> {
        let mut follower = Self::begin(pages).await?;
        let kept = pages.changes(0).await?;
        follower.last = kept.missed;
        Ok(follower)
    }

    /// Returns the changes since the last call, oldest first. It notes on standard error if some are missing.
    pub(crate) async fn next(&mut self) -> Result<Vec<changes::Change>> {
        let mut page = self.pages.changes(self.last).await?;
        if page.router != self.router {
            crate::terminal::print_error("the router was started again; its table began empty");
            page = self.pages.changes(0).await?;
        }
        if page.missed > 0 {
            let missed = page.missed;
            crate::terminal::print_error(&format!(
                "{missed} changes came too fast and are missing"
            ));
        }
        self.router = page.router;
        self.last = page.last;
        Ok(page.changes)
    }
}

/// The router's pages.
pub(crate) struct Pages {
    client: reqwest::Client,
    address: String,
    password: String,
}

impl Pages {
    pub(crate) fn new(plan: &Plan) -> Result<Self> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(10))
            .build()?;
        Ok(Self {
            client,
            address: plan.reach(Service::RouterStatus),
            password: plan.status_password.clone(),
        })
    }

    async fn table(&self) -> Result<Value> {
        let page = self.get("/routes").await?;
        page.json().await.context("read the router's table")
    }

    async fn table_at(&self, at: OffsetDateTime) -> Result<Value> {
        let path = format!("/routes?at={}", moment::written(at)?);
        let page = self.get(&path).await?;
        page.json().await.context("read the router's table")
    }

    async fn changes(&self, after: u64) -> Result<changes::Page> {
        let page = self.get(&format!("/changes?after={after}")).await?;
        page.json().await.context("read the router's changes")
    }

    /// Gets a page. The error has the router's reason.
    async fn get(&self, path: &str) -> Result<reqwest::Response> {
        let url = format!("http://{}{path}", self.address);
        let request = self.client.get(&url);
        let request = request.basic_auth(STATUS_USER, Some(&self.password));
        let response = request.send().await.with_context(|| {
            format!(
                "query the router at {url}: is the foundation running? start it with `cupola up`"
            )
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let reason = response.text().await.unwrap_or_default();
        bail!("the router answered {status} to {url}: {}", reason.trim())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_a_host_and_a_path() {
        for (request, wanted) in [
            ("a.test", ("a.test", "/")),
            ("a.test/x/y?z", ("a.test", "/x/y?z")),
            ("https://a.test:443/x", ("a.test:443", "/x")),
        ] {
            assert_eq!(parts(request), wanted);
        }
    }
}
