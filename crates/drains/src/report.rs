//! Writes lines about drains to the logs of their apps, with the source `LGR` as the original.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use wire::loggregator::{Envelope, Log, LogType, Message};

/// The function that receives the lines. It must not wait.
pub type Report = Arc<dyn Fn(Envelope) + Send + Sync>;

/// The destination of the lines about drains. It is cheap to clone.
#[derive(Clone)]
pub(crate) struct Reports(Report);

impl Reports {
    pub(crate) fn new(report: Report) -> Self {
        Self(report)
    }

    /// Writes a line to the log of an app. A drain of all sources has no app.
    pub(crate) fn line(&self, app: &str, text: String) {
        if !app.is_empty() {
            (self.0)(envelope(app, text, now()));
        }
    }

    /// Writes that messages of an app were lost, in the words of the original.
    pub(crate) fn lost(&self, app: &str, messages: u64, shown: &str) {
        let text = format!(
            "{messages} messages lost for application {app} in user provided syslog drain with url {shown}"
        );
        tracing::info!(app, drain = shown, messages, "drain-dropped-messages");
        self.line(app, text);
    }
}

/// Returns the time in Unix nanoseconds.
fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
}

fn envelope(app: &str, text: String, timestamp: i64) -> Envelope {
    Envelope {
        timestamp,
        source_id: app.to_owned(),
        instance_id: "0".to_owned(),
        tags: [("source_type".to_owned(), "LGR".to_owned())].into(),
        message: Some(Message::Log(Log {
            payload: text.into_bytes(),
            kind: LogType::Err as i32,
        })),
    }
}
