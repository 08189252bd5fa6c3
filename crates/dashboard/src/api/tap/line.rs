//! Reads the lines about requests in an app's log: the access log's line of a request that has ended, and those of failed attempts.

/// A line that names a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Line {
    pub(super) request_id: String,
    /// The times and the endpoint, if it is the line of the end.
    pub(super) finished: Option<Finished>,
    /// The sentence of a failed attempt.
    pub(super) attempt: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Finished {
    pub(super) endpoint: String,
    pub(super) instance: String,
    pub(super) index: String,
    /// The time from the first byte of the request to the last one of the answer.
    pub(super) response_ms: f64,
    /// The part of it that the router itself took.
    pub(super) router_ms: f64,
}

impl Line {
    /// Reads a line; `None` if it names no request.
    pub(super) fn read(text: &str) -> Option<Self> {
        let request_id = quoted(text, "vcap_request_id")?.to_owned();
        let seconds = |name: &str| number(text, name).map(|seconds| seconds * 1000.0);
        if let Some(response_ms) = seconds("response_time") {
            let clean =
                |value: Option<&str>| value.filter(|v| *v != "-").unwrap_or_default().to_owned();
            let finished = Finished {
                endpoint: clean(endpoint(text)),
                instance: clean(quoted(text, "instance_id")),
                index: clean(quoted(text, "app_index")),
                response_ms,
                router_ms: seconds("gorouter_time").unwrap_or_default(),
            };
            return Some(Self {
                request_id,
                finished: Some(finished),
                attempt: None,
            });
        }
        let (sentence, _) = text.split_once(" vcap_request_id:")?;
        let at = sentence.find(" attempt ")?;
        Some(Self {
            request_id,
            finished: None,
            attempt: Some(sentence[at + 1..].to_owned()),
        })
    }
}

/// Returns the value of `name:"value"`.
fn quoted<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!(" {name}:\""))?;
    rest.split('"').next()
}

/// Returns the value of `name:1.5`.
fn number(text: &str, name: &str) -> Option<f64> {
    let (_, rest) = text.split_once(&format!(" {name}:"))?;
    rest.split(' ').next()?.parse().ok()
}

/// Returns the endpoint: the last quoted address before `x_forwarded_for`.
fn endpoint(text: &str) -> Option<&str> {
    let (before, _) = text.split_once(" x_forwarded_for:")?;
    before.strip_suffix('"')?.rsplit('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: &str = r#"a.test - [2026-11-30T10:04:31.250123456Z] "GET /x HTTP/1.1" 200 12 34 "-" "cf" "127.0.0.1:1" "10.0.0.1:61001" x_forwarded_for:"127.0.0.1" x_forwarded_proto:"http" vcap_request_id:"the-id" response_time:0.003100 gorouter_time:0.000100 app_id:"a" app_index:"2" instance_id:"i-2" x_cf_routererror:"-""#;

    #[test]
    fn the_line_of_a_request_has_endpoint_and_times() {
        let line = Line::read(END).unwrap();
        assert_eq!(line.request_id, "the-id");
        let finished = line.finished.unwrap();
        assert_eq!(finished.endpoint, "10.0.0.1:61001");
        assert_eq!(
            (finished.instance.as_str(), finished.index.as_str()),
            ("i-2", "2")
        );
        assert!((finished.response_ms - 3.1).abs() < 1e-9);
        assert!((finished.router_ms - 0.1).abs() < 1e-9);
        let none = END.replace("10.0.0.1:61001", "-").replace("i-2", "-");
        let finished = Line::read(&none).unwrap().finished.unwrap();
        assert_eq!(
            (finished.endpoint, finished.instance),
            (String::new(), String::new())
        );
    }

    #[test]
    fn the_line_of_an_attempt_has_its_sentence() {
        let text = r#"a.test "GET /" attempt 1 failed after 0.4 ms at 10.0.0.1:61001 (instance i, index 0): refused; another instance is tried if there is one vcap_request_id:"the-id""#;
        let line = Line::read(text).unwrap();
        assert_eq!(
            (line.request_id.as_str(), line.finished.is_none()),
            ("the-id", true)
        );
        let attempt = line.attempt.unwrap();
        assert!(
            attempt.starts_with("attempt 1 failed after 0.4 ms")
                && attempt.ends_with("if there is one"),
            "{attempt}"
        );
        assert_eq!(Line::read("out of the app"), None);
    }
}
