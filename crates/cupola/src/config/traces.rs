//! The keys `router.tracing`: whether requests may ask for a trace, and who receives it.

use router::Otlp;
use serde::Deserialize;

/// The section as it is written. Its keys are those of `gorouter.yml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TracingSection {
    /// Whether the router reads and writes Zipkin's B3 headers.
    enable_zipkin: bool,
    /// Whether it reads and writes the W3C trace context.
    enable_w3c: bool,
    /// The URL of the receiver of marked requests' traces.
    otlp_endpoint: Option<String>,
}

/// The checked section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tracing {
    pub(crate) zipkin: bool,
    pub(crate) w3c: bool,
    pub(crate) otlp: Option<Otlp>,
}

pub(super) fn check(section: TracingSection, problems: &mut Vec<String>) -> Tracing {
    let TracingSection {
        enable_zipkin,
        enable_w3c,
        otlp_endpoint,
    } = section;
    let otlp = otlp_endpoint.and_then(|text| {
        let read = Otlp::parse(&text);
        if let Err(want) = read {
            problems.push(format!(
                "router.tracing.otlp_endpoint {text:?} is not {want}"
            ));
        }
        read.ok()
    });
    if otlp.is_some() && !enable_zipkin && !enable_w3c {
        problems.push(
            "router.tracing.otlp_endpoint needs router.tracing.enable_zipkin or enable_w3c: without one of them no request can ask for a trace"
                .into(),
        );
    }
    Tracing {
        zipkin: enable_zipkin,
        w3c: enable_w3c,
        otlp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(zipkin: bool, endpoint: Option<&str>) -> (Tracing, String) {
        let mut problems = Vec::new();
        let section = TracingSection {
            enable_zipkin: zipkin,
            enable_w3c: false,
            otlp_endpoint: endpoint.map(str::to_owned),
        };
        (check(section, &mut problems), problems.join("; "))
    }

    #[test]
    fn a_receiver_is_a_url_and_needs_headers_that_ask_for_traces() {
        let (tracing, problems) = checked(true, Some("http://127.0.0.1:4318"));
        assert_eq!(problems, "");
        assert_eq!(
            tracing.otlp.unwrap().url(),
            "http://127.0.0.1:4318/v1/traces"
        );
        assert_eq!(checked(false, None), (Tracing::default(), String::new()));
        let (_, problem) = checked(true, Some("127.0.0.1:4317"));
        let named = "router.tracing.otlp_endpoint \"127.0.0.1:4317\" is not the URL";
        assert!(problem.starts_with(named), "{problem}");
        let (_, problem) = checked(false, Some("http://127.0.0.1:4318"));
        assert!(
            problem.contains("needs router.tracing.enable_zipkin"),
            "{problem}"
        );
    }
}
