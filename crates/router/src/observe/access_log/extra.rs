//! The values of the fields that the operator adds to each line.

use super::line;
use crate::config::LogField;
use crate::observe::record::Record;
use std::fmt::Write as _;
use std::time::Duration;

/// Returns each field's name and value. A value is a number or a quoted text.
pub(super) fn values(record: &Record, fields: &[LogField]) -> Vec<(&'static str, String)> {
    let values = fields
        .iter()
        .map(|field| (field.name(), value(record, *field)));
    values.collect()
}

/// Formats each field as ` name:value`.
pub(super) fn text(record: &Record, fields: &[LogField]) -> String {
    let values = values(record, fields).into_iter();
    values.fold(String::new(), |mut text, (name, value)| {
        let _ = write!(text, " {name}:{value}");
        text
    })
}

fn value(record: &Record, field: LogField) -> String {
    let attempts = &record.attempts;
    let client = record.client.as_deref();
    let caller = client.and_then(|client| client.caller.as_ref());
    match field {
        LogField::BackendTime => seconds(attempts.started.map(|started| started.elapsed())),
        LogField::DialTime => seconds(attempts.made.dial),
        LogField::DnsTime => seconds(None),
        LogField::TlsTime => seconds(attempts.made.tls),
        LogField::FailedAttempts => attempts.failed.to_string(),
        LogField::FailedAttemptsTime => {
            seconds((attempts.failed > 0).then_some(attempts.failed_time))
        }
        LogField::LocalAddress => match attempts.made.local {
            Some(local) => format!("\"{local}\""),
            None => NONE.into(),
        },
        LogField::CallerApp => text_or_none(caller.map(|caller| caller.app.as_str())),
        LogField::CallerSpace => text_or_none(caller.map(|caller| caller.space.as_str())),
        LogField::CallerOrganization => {
            text_or_none(caller.map(|caller| caller.organization.as_str()))
        }
        LogField::RoutePolicy => text_or_none(record.route_policy),
        LogField::TlsSni => text_or_none(client.and_then(|client| client.sni.as_deref())),
    }
}

/// The value of a field that has none.
const NONE: &str = "\"-\"";

fn seconds(time: Option<Duration>) -> String {
    match time {
        Some(time) => format!("{:.6}", time.as_secs_f64()),
        None => NONE.into(),
    }
}

fn text_or_none(text: Option<&str>) -> String {
    match text.filter(|text| !text.is_empty()) {
        Some(text) => line::quoted(text),
        None => NONE.into(),
    }
}
