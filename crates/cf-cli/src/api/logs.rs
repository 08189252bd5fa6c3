//! Reads logs from log-cache: recent lines, and a tail that neither repeats lines nor loses late ones.

use super::{Request, with_query};
use crate::api::error::ApiError;
use crate::session::Session;
use crate::units;
use anyhow::{Context as _, Result};
use base64::Engine as _;
use reqwest::Method;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};

/// How far behind the newest line the tail reads again, in nanoseconds. Lines of several sources arrive out of order.
const WINDOW: i64 = 2_000_000_000;

/// The number of lines that are read at once, which is the most that log-cache returns.
const PAGE: usize = 1000;

/// The number of new lines after which a tail returns them, although more may have arrived.
const MOST_AT_ONCE: usize = 10_000;

/// One log line of an app.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Line {
    /// The time in Unix nanoseconds.
    pub(crate) timestamp: i64,
    pub(crate) source_type: String,
    pub(crate) instance: String,
    pub(crate) is_error: bool,
    pub(crate) text: String,
}

impl Line {
    /// Returns the line as it is printed: with time and source, or only the text.
    pub(crate) fn render(&self, with_header: bool) -> String {
        let header = if with_header {
            let source = if self.instance.is_empty() {
                self.source_type.clone()
            } else {
                format!("{}/{}", self.source_type, self.instance)
            };
            format!(
                "{} [{source}] {} ",
                units::log_time(self.timestamp),
                if self.is_error { "ERR" } else { "OUT" }
            )
        } else {
            String::new()
        };
        self.text
            .trim_end_matches('\n')
            .split('\n')
            .map(|line| format!("   {header}{}", line.trim_end_matches('\r')))
            .collect::<Vec<_>>()
            .join("\n")
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    envelopes: Batch,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Batch {
    batch: Vec<Envelope>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Envelope {
    timestamp: Integer,
    instance_id: String,
    tags: BTreeMap<String, String>,
    deprecated_tags: BTreeMap<String, serde_json::Value>,
    log: Option<Log>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Log {
    payload: String,
    #[serde(rename = "type")]
    kind: String,
}

/// A 64-bit integer in protobuf's JSON, where it is a string. A number is accepted too.
#[derive(Debug, Default)]
struct Integer(i64);

impl<'de> Deserialize<'de> for Integer {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => {
                text.parse().map(Self).map_err(serde::de::Error::custom)
            }
            serde_json::Value::Number(number) => Ok(Self(number.as_i64().unwrap_or(0))),
            _ => Err(serde::de::Error::custom("expected a 64-bit integer")),
        }
    }
}

fn lines(answer: Answer) -> Vec<Line> {
    let line = |envelope: Envelope| {
        let log = envelope.log?;
        let payload = base64::engine::general_purpose::STANDARD
            .decode(&log.payload)
            .ok()?;
        Some(Line {
            timestamp: envelope.timestamp.0,
            source_type: envelope
                .tags
                .get("source_type")
                .cloned()
                .or_else(|| deprecated(&envelope.deprecated_tags))
                .unwrap_or_default(),
            instance: envelope.instance_id,
            is_error: log.kind == "ERR",
            text: String::from_utf8_lossy(&payload).into_owned(),
        })
    };
    answer
        .envelopes
        .batch
        .into_iter()
        .filter_map(line)
        .collect()
}

fn deprecated(tags: &BTreeMap<String, serde_json::Value>) -> Option<String> {
    tags.get("source_type")?
        .get("text")?
        .as_str()
        .map(str::to_owned)
}

impl Session {
    async fn read_logs(&self, app_guid: &str, query: &[(&str, &str)]) -> Result<Vec<Line>> {
        let endpoint = self.config().log_cache_endpoint.clone();
        anyhow::ensure!(
            !endpoint.is_empty(),
            "the foundation has no log-cache endpoint: run 'cf api URL' again"
        );
        let mut query = query.to_vec();
        query.push(("envelope_types", "LOG"));
        let url = with_query(
            &format!("{}/api/v1/read/{app_guid}", endpoint.trim_end_matches('/')),
            &query,
        );
        let response = self.authorized(Request::new(Method::GET, &url)).await?;
        if !response.is_success() {
            return Err(ApiError::of(&Method::GET, &url, &response))
                .context("Failed to retrieve logs from Log Cache");
        }
        Ok(lines(response.json(&url)?))
    }

    /// Returns the newest lines, oldest first.
    pub(crate) async fn recent_logs(&self, app_guid: &str) -> Result<Vec<Line>> {
        let mut lines = self
            .read_logs(
                app_guid,
                &[
                    ("descending", "true"),
                    ("limit", "1000"),
                    ("start_time", "0"),
                ],
            )
            .await?;
        lines.sort_by_key(|l| l.timestamp);
        Ok(lines)
    }

    /// Starts a tail of the lines that follow the present newest line.
    pub(crate) async fn tail(&self, app_guid: &str) -> Result<Tail> {
        let newest = self
            .read_logs(
                app_guid,
                &[("descending", "true"), ("limit", "1"), ("start_time", "0")],
            )
            .await?;
        Ok(Tail::after(
            app_guid,
            newest.first().map_or(0, |l| l.timestamp),
        ))
    }

    /// Returns the lines that have arrived since the last call.
    pub(crate) async fn follow(&self, tail: &mut Tail) -> Result<Vec<Line>> {
        let (mut fresh, mut start) = (Vec::new(), tail.start());
        loop {
            let (from, limit) = (start.to_string(), PAGE.to_string());
            let query = [("start_time", from.as_str()), ("limit", limit.as_str())];
            let page = match self.read_logs(&tail.app_guid, &query).await {
                Ok(page) => page,
                // The lines that are known already are not returned again.
                Err(_) if !fresh.is_empty() => return Ok(fresh),
                Err(error) => return Err(error),
            };
            match tail.add(page, &mut fresh) {
                Some(next) => start = next,
                None => return Ok(fresh),
            }
        }
    }
}

/// The state of a tail. A window of the last seconds is read again each time, and lines that were already returned are left out.
#[derive(Debug)]
pub(crate) struct Tail {
    app_guid: String,
    /// The timestamp up to which lines are not shown.
    floor: i64,
    newest: i64,
    seen: HashMap<Line, u32>,
}

impl Tail {
    fn after(app_guid: &str, floor: i64) -> Self {
        Self {
            app_guid: app_guid.to_owned(),
            floor,
            newest: floor,
            seen: HashMap::new(),
        }
    }

    fn start(&self) -> i64 {
        (self.newest - WINDOW).max(self.floor + 1)
    }

    /// Accepts a page and adds its new lines to `fresh`. Returns the beginning of the next page, if it is to be read now. A busy app has more
    /// lines in the window than a page has, so that page begins behind the last line, and not at the window again.
    fn add(&mut self, page: Vec<Line>, fresh: &mut Vec<Line>) -> Option<i64> {
        let is_full = page.len() >= PAGE;
        let last = page.iter().map(|line| line.timestamp).max();
        fresh.extend(self.accept(page));
        let last = last.filter(|_| is_full && fresh.len() < MOST_AT_ONCE);
        last.map(|last| last.saturating_add(1))
    }

    /// Accepts all lines from [`Self::start`] on, and returns the new ones in the order of their times. Equal lines are
    /// distinguished by their number.
    fn accept(&mut self, mut batch: Vec<Line>) -> Vec<Line> {
        batch.sort_by_key(|l| l.timestamp);
        let mut in_batch: HashMap<&Line, u32> = HashMap::new();
        let mut fresh = Vec::new();
        for line in &batch {
            let count = in_batch.entry(line).or_default();
            *count += 1;
            if *count > self.seen.get(line).copied().unwrap_or(0) {
                fresh.push(line.clone());
            }
        }
        for line in &fresh {
            *self.seen.entry(line.clone()).or_default() += 1;
            self.newest = self.newest.max(line.timestamp);
        }
        let start = self.start();
        self.seen.retain(|line, _| line.timestamp >= start);
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(timestamp: i64, text: &str) -> Line {
        Line {
            timestamp,
            source_type: "APP/PROC/WEB".into(),
            instance: "0".into(),
            is_error: false,
            text: text.into(),
        }
    }

    #[test]
    fn envelopes_become_lines() {
        let json = r#"{"envelopes":{"batch":[{"timestamp":"1704189600120000000","source_id":"g","instance_id":"0","deprecated_tags":{},
            "tags":{"source_type":"APP/PROC/WEB"},"log":{"payload":"aGVsbG8K","type":"ERR"}},{"timestamp":"5","gauge":{}}]}}"#;
        let lines = lines(serde_json::from_str(json).unwrap());
        assert_eq!(lines.len(), 1);
        assert_eq!(
            lines[0].render(true),
            "   2024-01-02T10:00:00.12+0000 [APP/PROC/WEB/0] ERR hello"
        );
        assert_eq!(lines[0].render(false), "   hello");
    }

    #[test]
    fn late_lines_are_shown_once_and_equal_lines_each() {
        let mut tail = Tail::after("g", 1000);
        let texts = |lines: Vec<Line>| lines.into_iter().map(|l| l.text).collect::<Vec<_>>();
        assert_eq!(
            texts(tail.accept(vec![line(3000, "b"), line(3000, "b")])),
            ["b", "b"]
        );
        assert_eq!(
            texts(tail.accept(vec![
                line(2000, "a"),
                line(3000, "b"),
                line(3000, "b"),
                line(3000, "b")
            ])),
            ["a", "b"]
        );
        assert_eq!(
            texts(tail.accept(vec![line(2000, "a"), line(3000, "b")])),
            [""; 0]
        );
        assert_eq!(texts(tail.accept(vec![line(10_000_000_000, "c")])), ["c"]);
        assert_eq!((tail.start(), tail.seen.len()), (8_000_000_000, 1));
    }

    /// Reads all pages of a server that has these lines.
    fn poll<'a>(tail: &mut Tail, lines: impl Iterator<Item = &'a Line> + Clone) -> Vec<Line> {
        let (mut fresh, mut start) = (Vec::new(), tail.start());
        loop {
            let page = lines.clone().filter(|line| line.timestamp >= start);
            match tail.add(page.take(PAGE).cloned().collect(), &mut fresh) {
                Some(next) => start = next,
                None => return fresh,
            }
        }
    }

    #[test]
    fn a_busy_app_loses_no_line_and_repeats_none() {
        // There are 5,000 lines in each second, so the window has far more than a page.
        let all: Vec<Line> = (0..30_000)
            .map(|n| line(1000 + n * 200_000, &n.to_string()))
            .collect();
        let (mut tail, mut shown) = (Tail::after("g", 0), Vec::new());
        for polls in 1..=24 {
            let now = 1000 + polls * 250_000_000;
            let visible = all.iter().filter(|line| line.timestamp < now);
            shown.extend(poll(&mut tail, visible.clone()));
            assert_eq!(shown.len(), visible.count());
        }
        assert_eq!(shown, all);
    }

    #[test]
    fn a_flood_is_returned_in_portions() {
        let all: Vec<Line> = (0..25_500).map(|n| line(n, &n.to_string())).collect();
        let (mut tail, mut shown) = (Tail::after("g", -1), Vec::new());
        for portion in [10_000, 10_000, 5_500] {
            let fresh = poll(&mut tail, all.iter());
            assert_eq!(fresh.len(), portion);
            shown.extend(fresh);
        }
        assert_eq!(shown, all);
    }
}
