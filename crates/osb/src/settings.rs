//! The settings of a client, and the brokers and callers of its calls.

use kit::reach::Reach;
use std::time::Duration;

/// The settings of a client.
#[derive(Clone)]
pub struct Settings {
    /// The longest time of a call, from the look-up of the name to the end of the answer.
    pub timeout: Duration,
    /// The maximum number of bytes of an answer's body.
    pub answer_bytes: usize,
    /// The addresses to which calls go.
    pub reach: Reach,
    /// The names below these domains are of this foundation: calls to them go to `router`, without a look-up.
    pub own_domains: Vec<String>,
    /// The host at which routers are reached, by name or address, with the port for each scheme. `None`: names of this foundation
    /// are looked up as all others.
    pub router: Option<Router>,
    /// Authorities that are trusted besides those of the machine, as a PEM text. It may be empty.
    pub authorities_pem: String,
    /// Whether certificates are not verified.
    pub skip_ssl_validation: bool,
    /// The address of the API, as in `api.example.com/`, from which brokers find the platform.
    pub api_info_location: String,
    /// The client of the UAA that is named when a service key is made, if there is one.
    pub key_client: Option<String>,
}

/// The place of a router. Calls to it are permitted whatever its address is, because users reach it anyway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Router {
    pub host: String,
    pub http_port: u16,
    pub https_port: Option<u16>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(60),
            answer_bytes: 4 << 20,
            reach: Reach::default(),
            own_domains: Vec::new(),
            router: None,
            authorities_pem: String::new(),
            skip_ssl_validation: false,
            api_info_location: String::new(),
            key_client: None,
        }
    }
}

/// Prints no certificate.
impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("timeout", &self.timeout)
            .field("answer_bytes", &self.answer_bytes)
            .field("reach", &self.reach)
            .field("own_domains", &self.own_domains)
            .field("router", &self.router)
            .field("skip_ssl_validation", &self.skip_ssl_validation)
            .finish_non_exhaustive()
    }
}

/// A broker: where it is, and how the platform authenticates there.
#[derive(Clone, PartialEq, Eq)]
pub struct Broker {
    pub url: String,
    pub username: String,
    pub password: String,
}

/// Prints the URL only.
impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// The user and the request on whose behalf a call is made. The platform's own calls have neither.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    pub user_guid: Option<String>,
    /// The id of the user's request, which the broker gets as `X-Vcap-Request-Id`.
    pub request_id: Option<String>,
}
