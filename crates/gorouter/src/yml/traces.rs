//! The section `tracing`: the headers of traces, and our own key for a receiver.

use super::keys::Keys;
use router::{Otlp, Settings};

/// Reads the section into the settings.
pub(super) fn tracing(keys: &mut Keys<'_>, settings: &mut Settings) {
    let mut tracing = keys.section("tracing");
    settings.zipkin = tracing.flag("enable_zipkin", false);
    settings.w3c = tracing.flag("enable_w3c", false);
    settings.w3c_tenant = tracing.text("w3c_tenant_id").unwrap_or_default();
    settings.otlp = otlp(&mut tracing);
    if settings.otlp.is_some() && !settings.zipkin && !settings.w3c {
        tracing.problem(
            "otlp_endpoint",
            "needs tracing.enable_zipkin or tracing.enable_w3c: without one of them no request can ask for a trace",
        );
    }
}

/// Reads our own key: the receiver of traces. An empty value counts as absent.
fn otlp(tracing: &mut Keys<'_>) -> Option<Otlp> {
    let text = tracing.word("otlp_endpoint")?;
    let read = Otlp::parse(&text);
    if let Err(want) = read {
        tracing.problem("otlp_endpoint", &format!("{text:?} is not {want}"));
    }
    read.ok()
}

#[cfg(test)]
mod tests {
    use crate::yml::read;

    #[test]
    fn the_receiver_is_read_and_faults_are_named() {
        let settings = |text: &str| read(text).map(|read| read.settings.otlp);
        for text in [
            "",
            "tracing: {otlp_endpoint: ''}",
            "tracing: {enable_w3c: true}",
        ] {
            assert_eq!(settings(text), Ok(None), "{text}");
        }
        let text = "tracing: {enable_zipkin: true, otlp_endpoint: 'http://127.0.0.1:4318'}";
        let otlp = settings(text).unwrap().unwrap();
        assert_eq!(otlp.url(), "http://127.0.0.1:4318/v1/traces");
        for (text, problem) in [
            (
                "tracing: {enable_w3c: true, otlp_endpoint: 'localhost:4317'}",
                "tracing.otlp_endpoint \"localhost:4317\" is not the URL of an OTLP receiver",
            ),
            (
                "tracing: {otlp_endpoint: 'http://127.0.0.1:4318'}",
                "tracing.otlp_endpoint needs tracing.enable_zipkin or",
            ),
        ] {
            let problems = settings(text).unwrap_err().join("; ");
            assert!(problems.contains(problem), "{problems}");
        }
    }
}
