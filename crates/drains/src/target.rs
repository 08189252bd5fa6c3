//! Reads the URL of a drain: where messages go, how they get there, and which envelopes become messages. The functions are pure.
//!
//! | Scheme | Messages go |
//! |---|---|
//! | `syslog` | over TCP, each behind its length |
//! | `syslog-tls` | the same over TLS, and the server's certificate is verified |
//! | `https` | each as the body of a `POST` |
//! | `https-batch` | those of a second together as the body of a `POST` |
//!
//! The query has the options: `drain-data` (`logs`, `metrics`, `traces`, `all`), the older `drain-type` (`logs`, `metrics`, `all`) and
//! `include-metrics-deprecated`; `disable-metadata` or its older name `omit-metadata` (`true`, `false`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use wire::loggregator::Message;

/// The ports of URLs that name none.
const SYSLOG_PORT: u16 = 514;
const SYSLOG_TLS_PORT: u16 = 6514;
const HTTPS_PORT: u16 = 443;

/// The destination of a drain, and the envelopes that go there.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) transport: Transport,
    /// The host without the brackets of a literal IPv6 address.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) data: Data,
    /// Whether messages contain the envelopes' tags.
    pub(crate) has_tags: bool,
    /// The URL without its secrets: user, password and query are left out.
    pub(crate) shown: String,
}

/// Prints no secrets.
impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target")
            .field("shown", &self.shown)
            .field("data", &self.data)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Tls,
    Https(Post),
}

/// The properties of the requests of a drain over HTTPS.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Post {
    /// The host and the port as the URL has them.
    pub(crate) authority: String,
    pub(crate) path_and_query: String,
    /// The header `authorization`, if the URL has a user.
    pub(crate) authorization: Option<String>,
    /// Whether a request has many messages.
    pub(crate) is_batch: bool,
}

/// The envelopes that a drain sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Data {
    /// Lines and events.
    Logs,
    Lines,
    /// Counters and gauges.
    Metrics,
    /// Timers of requests.
    Traces,
    LinesAndMetrics,
    All,
}

impl Data {
    pub(crate) fn includes(self, message: &Message) -> bool {
        match message {
            Message::Log(_) => matches!(
                self,
                Self::Logs | Self::Lines | Self::LinesAndMetrics | Self::All
            ),
            Message::Counter(_) | Message::Gauge(_) => {
                matches!(self, Self::Metrics | Self::LinesAndMetrics | Self::All)
            }
            Message::Timer(_) => matches!(self, Self::Traces | Self::All),
            Message::Event(_) => matches!(self, Self::Logs | Self::All),
        }
    }

    /// Returns the envelopes that a query selects. The newer option replaces the older one.
    fn of(query: &Query<'_>) -> Self {
        if !query.value("include-metrics-deprecated").is_empty() {
            return Self::All;
        }
        match &*query.value("drain-data") {
            "logs" => return Self::Logs,
            "metrics" => return Self::Metrics,
            "traces" => return Self::Traces,
            "all" => return Self::All,
            _ => {}
        }
        match &*query.value("drain-type") {
            "logs" => Self::Lines,
            "metrics" => Self::Metrics,
            "all" => Self::LinesAndMetrics,
            _ => Self::Logs,
        }
    }
}

/// The reason why a URL is no drain. The texts are those of the original and get into the log of the app.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UrlError {
    #[error("Cannot parse syslog drain URL.")]
    Unreadable,
    #[error("Invalid Scheme {scheme} for syslog drain url {shown}")]
    Scheme { scheme: String, shown: String },
    #[error("No hostname found in syslog drain url {shown}")]
    NoHost { shown: String },
}

/// The query of a URL.
struct Query<'a>(&'a str);

impl Query<'_> {
    /// Returns the first value of a key; the text is empty if there is none.
    fn value(&self, key: &str) -> String {
        let pairs = self.0.split('&');
        let mut pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let found = pairs.find(|(name, _)| decoded(name) == key);
        found.map(|(_, value)| decoded(value)).unwrap_or_default()
    }
}

/// Decodes a part of a query.
fn decoded(text: &str) -> String {
    let text = text.replace('+', " ");
    percent_decode_str(&text).decode_utf8_lossy().into_owned()
}

/// The parts of a URL.
struct Parts<'a> {
    scheme: &'a str,
    user: Option<&'a str>,
    /// The host with brackets, and the port.
    authority: &'a str,
    path: &'a str,
    query: &'a str,
}

impl<'a> Parts<'a> {
    fn of(url: &'a str) -> Option<Self> {
        let (scheme, rest) = url.split_once(':')?;
        let rest = rest.split('#').next().unwrap_or_default();
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let rest = rest.strip_prefix("//").unwrap_or_default();
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let (user, authority) = match authority.rsplit_once('@') {
            Some((user, authority)) => (Some(user), authority),
            None => (None, authority),
        };
        Some(Self {
            scheme,
            user,
            authority,
            path,
            query,
        })
    }

    /// Returns the host without brackets, and the port if there is one.
    fn host(&self) -> Option<(&'a str, Option<u16>)> {
        let (host, port) = match self.authority.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                host.parse::<std::net::Ipv6Addr>().ok()?;
                (host, port)
            }
            None => {
                let at = self.authority.find(':').unwrap_or(self.authority.len());
                let (host, port) = self.authority.split_at(at);
                let is_right = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
                if !host.chars().all(is_right) {
                    return None;
                }
                (host, port)
            }
        };
        match port.strip_prefix(':') {
            None if port.is_empty() => Some((host, None)),
            None => None,
            Some("") => Some((host, None)),
            Some(port) => Some((host, Some(port.parse().ok()?))),
        }
    }
}

impl Target {
    /// Reads a URL. `has_tags`: whether messages have tags if the URL does not decide it.
    pub(crate) fn parse(url: &str, has_tags: bool) -> Result<Self, UrlError> {
        let parts = Parts::of(url).ok_or(UrlError::Unreadable)?;
        let scheme = parts.scheme.to_ascii_lowercase();
        let shown = format!("{scheme}://{}{}", parts.authority, parts.path);
        let (host, port) = parts.host().ok_or(UrlError::Unreadable)?;
        let (transport, default_port) = match &*scheme {
            "syslog" => (Transport::Tcp, SYSLOG_PORT),
            "syslog-tls" => (Transport::Tls, SYSLOG_TLS_PORT),
            "https" => (parts.post(false), HTTPS_PORT),
            "https-batch" => (parts.post(true), HTTPS_PORT),
            _ => return Err(UrlError::Scheme { scheme, shown }),
        };
        if host.is_empty() {
            return Err(UrlError::NoHost { shown });
        }
        let query = Query(parts.query);
        let metadata = match query.value("disable-metadata") {
            unset if unset.is_empty() => query.value("omit-metadata"),
            set => set,
        };
        Ok(Self {
            transport,
            host: host.to_owned(),
            port: port.unwrap_or(default_port),
            data: Data::of(&query),
            has_tags: match has_tags {
                true => metadata != "true",
                false => metadata == "false",
            },
            shown,
        })
    }

    /// Returns whether messages are collected before they are sent.
    pub(crate) fn is_batch(&self) -> bool {
        matches!(&self.transport, Transport::Https(post) if post.is_batch)
    }
}

impl Parts<'_> {
    fn post(&self, is_batch: bool) -> Transport {
        let path = if self.path.is_empty() { "/" } else { self.path };
        let path_and_query = if self.query.is_empty() {
            path.to_owned()
        } else {
            format!("{path}?{}", self.query)
        };
        let authorization = self.user.map(|user| {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            let mut pair: Vec<u8> = percent_decode_str(name).collect();
            pair.push(b':');
            pair.extend(percent_decode_str(password));
            format!("Basic {}", STANDARD.encode(pair))
        });
        Transport::Https(Post {
            authority: self.authority.to_owned(),
            path_and_query,
            authorization,
            is_batch,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::loggregator::{Counter, Event, Gauge, Log, Timer};

    fn target(url: &str) -> Target {
        Target::parse(url, true).unwrap()
    }

    #[test]
    fn schemes_have_their_transport_and_port() {
        for (url, host, port, is_right) in [
            ("syslog://logs.test:1514", "logs.test", 1514, "tcp"),
            ("syslog://10.0.0.1", "10.0.0.1", 514, "tcp"),
            ("SYSLOG-TLS://[fd00::1]", "fd00::1", 6514, "tls"),
            ("syslog-tls://h:1?a=b", "h", 1, "tls"),
            ("https://u:p@h/a/b?c=d#e", "h", 443, "one"),
            ("https-batch://h:8443", "h", 8443, "batch"),
        ] {
            let target = target(url);
            assert_eq!((&*target.host, target.port), (host, port), "{url}");
            let kind = match &target.transport {
                Transport::Tcp => "tcp",
                Transport::Tls => "tls",
                Transport::Https(post) if post.is_batch => "batch",
                Transport::Https(_) => "one",
            };
            assert_eq!(kind, is_right, "{url}");
            assert_eq!(target.is_batch(), kind == "batch");
        }
    }

    #[test]
    fn a_request_has_the_whole_path_and_the_user() {
        let url = "https://us%40r:p%3Aw@h:8443/a%20b?token=s3cret&drain-data=all#part";
        let target = target(url);
        let Transport::Https(post) = &target.transport else {
            panic!("{target:?}");
        };
        assert_eq!(post.authority, "h:8443");
        assert_eq!(post.path_and_query, "/a%20b?token=s3cret&drain-data=all");
        let pair = STANDARD.encode("us@r:p:w");
        assert_eq!(post.authorization, Some(format!("Basic {pair}")));
        assert_eq!(target.shown, "https://h:8443/a%20b");
        let shown = format!("{target:?}");
        assert!(
            !shown.contains("s3cret") && !shown.contains(&pair),
            "{shown}"
        );
        let Transport::Https(post) = super::Target::parse("https://h", true).unwrap().transport
        else {
            panic!("no transport of HTTPS");
        };
        assert_eq!((&*post.path_and_query, post.authorization), ("/", None));
    }

    #[test]
    fn wrong_urls_are_refused_with_the_originals_texts() {
        for (url, text) in [
            ("logs.test", "Cannot parse syslog drain URL."),
            ("syslog://a b:1", "Cannot parse syslog drain URL."),
            ("syslog://h:x", "Cannot parse syslog drain URL."),
            ("syslog://h:70000", "Cannot parse syslog drain URL."),
            ("syslog://[::g]", "Cannot parse syslog drain URL."),
            ("syslog://[::1]x", "Cannot parse syslog drain URL."),
            (
                "http://u:p@h/a?b",
                "Invalid Scheme http for syslog drain url http://h/a",
            ),
            (
                "syslog:host",
                "No hostname found in syslog drain url syslog://",
            ),
            (
                "syslog-tls:///a",
                "No hostname found in syslog drain url syslog-tls:///a",
            ),
        ] {
            let error = Target::parse(url, true).unwrap_err();
            assert_eq!(error.to_string(), text, "{url}");
        }
    }

    #[test]
    fn options_select_the_envelopes() {
        let log = Message::Log(Log::default());
        let event = Message::Event(Event::default());
        let counter = Message::Counter(Counter::default());
        let gauge = Message::Gauge(Gauge::default());
        let timer = Message::Timer(Timer::default());
        let all = [&log, &event, &counter, &gauge, &timer];
        for (query, wanted) in [
            ("", "yynnn"),
            ("drain-type=logs", "ynnnn"),
            ("drain-type=metrics", "nnyyn"),
            ("drain-type=all", "ynyyn"),
            ("drain-type=other", "yynnn"),
            ("drain-data=logs", "yynnn"),
            ("drain-data=metrics", "nnyyn"),
            ("drain-data=traces", "nnnny"),
            ("drain-data=all", "yyyyy"),
            ("drain-type=metrics&drain-data=logs", "yynnn"),
            ("drain-type=metrics&drain-data=x", "nnyyn"),
            ("drain%2Dtype=me%74rics&drain-type=all", "nnyyn"),
            ("drain-data=logs&include-metrics-deprecated=1", "yyyyy"),
        ] {
            let data = target(&format!("syslog://h?{query}")).data;
            let shown = all.map(|message| if data.includes(message) { 'y' } else { 'n' });
            assert_eq!(String::from_iter(shown), wanted, "{query}");
        }
    }

    #[test]
    fn tags_are_left_out_as_the_url_or_the_operator_says() {
        for (query, by_default, wanted) in [
            ("", true, true),
            ("", false, false),
            ("disable-metadata=true", true, false),
            ("disable-metadata=false", false, true),
            ("omit-metadata=true", true, false),
            ("omit-metadata=false", false, true),
            ("disable-metadata=false&omit-metadata=true", true, true),
            ("disable-metadata=x", true, true),
            ("disable-metadata=x", false, false),
        ] {
            let target = Target::parse(&format!("syslog://h?{query}"), by_default).unwrap();
            assert_eq!(target.has_tags, wanted, "{query} {by_default}");
        }
    }
}
