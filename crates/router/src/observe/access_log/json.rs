//! The access log line as a JSON object: gorouter's fields under their names, absent ones `null`.

use super::line::Line;
use http1::Known;
use serde_json::{Map, Value, json};

/// Formats the line. `extra`: names and values as in gorouter's line, where a value is a number or a quoted text.
pub(super) fn line(line: &Line<'_>, extra: &[(&'static str, String)]) -> Vec<u8> {
    let mut object = Map::new();
    let mut set = |name: &str, value: Value| {
        object.insert(name.to_owned(), value);
    };
    let mut time = Vec::new();
    line.started_at.write_to(&mut time);
    let field = |known: Known| text(line.fields.get(known).unwrap_or_default());
    set("timestamp", text(&time));
    set("host", text(line.host));
    set("method", json!(line.method));
    set("uri", json!(line.uri));
    set("protocol", json!(line.version.as_str()));
    set("status", json!(line.status));
    set("bytes_received", json!(line.received));
    set("bytes_sent", json!(line.sent));
    set("referer", text(&line.referer()));
    set("user_agent", field(Known::UserAgent));
    set("client", text(line.client.as_bytes()));
    set("backend", text(line.backend.as_bytes()));
    if line.with_forwarded_for {
        set("x_forwarded_for", field(Known::XForwardedFor));
    }
    set("x_forwarded_proto", field(Known::XForwardedProto));
    set("vcap_request_id", field(Known::XVcapRequestId));
    set("response_time", json!(line.response_time.as_secs_f64()));
    set("gorouter_time", json!(line.gorouter_time.as_secs_f64()));
    set("app_id", text(line.app_id.as_bytes()));
    set("app_index", text(line.app_index.as_bytes()));
    set("instance_id", text(line.instance_id.as_bytes()));
    for (name, value) in extra {
        let parsed = serde_json::from_str(value).unwrap_or_else(|_| json!(value));
        set(name, if parsed == "-" { Value::Null } else { parsed });
    }
    set("x_cf_routererror", text(line.router_error.as_bytes()));
    for header in line.extra_headers {
        let value = line.fields.get(header.name.as_str());
        set(&header.label, text(value.unwrap_or_default()));
    }
    Value::Object(object).to_string().into_bytes()
}

/// Returns the text; it is `null` if it is empty or if the log must not contain it.
fn text(bytes: &[u8]) -> Value {
    match bytes {
        b"" | b"-" => Value::Null,
        bytes => json!(String::from_utf8_lossy(bytes)),
    }
}
