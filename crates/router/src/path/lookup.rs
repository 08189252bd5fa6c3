//! Finds the pool for a host, a path and instance headers (as gorouter `handlers/lookup.go`).

use crate::observe::feed::Source;
use crate::observe::registrations;
use crate::path::context::RequestContext;
use crate::path::rejection::Rejection;
use crate::worker::Shared;
use http1::{Fields, Known, Request};
use route_table::registry::{Instance, Pool, request_host};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// The pool, and the instance in it, that a request is for.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) pool: Arc<Pool>,
    wanted: Wanted,
}

#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Any,
    App { guid: String, index: String },
    Process { guid: String, index: Option<String> },
}

/// The instance as gorouter names it to clients.
impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("instance"),
            Self::App { guid, index } => write!(f, "instance ('{index}') with guid ('{guid}')"),
            Self::Process { guid, index: None } => {
                write!(f, "instance with process guid ('{guid}')")
            }
            Self::Process {
                guid,
                index: Some(index),
            } => write!(f, "instance ('{index}') with process guid ('{guid}')"),
        }
    }
}

impl Target {
    pub(crate) fn any(pool: Arc<Pool>) -> Self {
        Self {
            pool,
            wanted: Wanted::Any,
        }
    }

    /// Returns the rejection of a request for a route that has no endpoint now, if it wants no certain instance. `is_known` is whether
    /// such a route is answered otherwise than one that does not exist.
    pub(crate) fn rejection_if_empty(&self, host: &str, is_known: bool) -> Option<Rejection> {
        if self.wanted != Wanted::Any || !self.pool.is_empty() {
            return None;
        }
        let host = host.to_owned();
        Some(match is_known {
            true => Rejection::NoEndpoints { host },
            false => Rejection::UnknownRoute { host },
        })
    }

    pub(crate) fn instance(&self) -> Instance<'_> {
        match &self.wanted {
            Wanted::Any => Instance::Any,
            Wanted::App { guid, index } => Instance::App { app: guid, index },
            Wanted::Process { guid, index } => Instance::Process {
                process: guid,
                index: index.as_deref(),
            },
        }
    }
}

/// Looks the route up, once. Only a request that finds a route without endpoints may have to wait for one ([`crate::path::hold`]).
pub(crate) async fn find(
    shared: &Shared,
    context: &mut RequestContext<'_>,
    request: &mut Request,
) -> Result<Target, Rejection> {
    let wanted = wanted(&mut request.fields, shared.lasting.compat_gorouter);
    let host = request.fields.text(context.host);
    let name = request_host(host);
    let dotted = host.as_bytes().get(name.len()) == Some(&b'.');
    if name.is_empty() || name == context.peer.ip && shared.registry.lookup(host, "/").is_none() {
        return Err(Rejection::EmptyHost);
    }
    let wanted = wanted?;
    let started = Instant::now();
    let path = std::str::from_utf8(request.target()).unwrap_or("/");
    let found = shared.registry.lookup(host, path);
    // For gorouter a name that ends with a dot is a different name.
    let found = found.filter(|_| !dotted || !shared.lasting.compat_gorouter);
    shared.metrics.looked_up(started.elapsed());
    let Some(mut pool) = found else {
        return Err(if wanted == Wanted::Any {
            Rejection::UnknownRoute {
                host: host.to_owned(),
            }
        } else {
            Rejection::UnknownInstance {
                host: host.to_owned(),
                instance: wanted.to_string(),
            }
        });
    };
    if pool.is_empty() {
        let limit = shared.lasting.hold_timeout;
        let (holds, registry) = (&shared.holds, &shared.registry);
        let held = Box::pin(holds.hold(registry, limit, &pool, (host, path))).await;
        if let Some(timeline) = context.record.timeline() {
            timeline.held(started, Instant::now());
        }
        if let Some(filled) = held {
            pool = filled;
        } else if !limit.is_zero() && registry.forget_over(pool.uri(), Instant::now()) {
            // The route was only kept for its next endpoint. A route with a shorter path or a wildcard may match instead.
            registrations::forgotten(shared, Source::Request, pool.uri());
            let next = shared.registry.lookup(host, path);
            pool = next.ok_or_else(|| Rejection::UnknownRoute {
                host: host.to_owned(),
            })?;
        }
    }
    let target = Target { pool, wanted };
    if let Some(rejection) = target.rejection_if_empty(host, shared.settings.empty_pool_503) {
        return Err(rejection);
    }
    if !target.pool.has(target.instance()) {
        return Err(Rejection::UnknownInstance {
            host: host.to_owned(),
            instance: target.wanted.to_string(),
        });
    }
    Ok(target)
}

/// Returns the instance that the headers ask for. The app header wins. Both headers are removed, because they are meant for the
/// router alone; in compatibility the backend sees the process header.
fn wanted(fields: &mut Fields, compat: bool) -> Result<Wanted, Rejection> {
    // An empty value names no instance.
    let named = |name| fields.get(name).filter(|value| !value.is_empty());
    let app = named(Known::XCfAppInstance).map(parse);
    let process = named(Known::XCfProcessInstance).map(parse);
    fields.remove(Known::XCfAppInstance);
    if !compat {
        fields.remove(Known::XCfProcessInstance);
    }
    if let Some(app) = app {
        let (guid, index) = app.ok_or(Rejection::InvalidAppInstance)?;
        let index = index.ok_or(Rejection::InvalidAppInstance)?;
        return Ok(Wanted::App { guid, index });
    }
    if let Some(process) = process {
        let (guid, index) = process.ok_or(Rejection::InvalidProcessInstance)?;
        return Ok(Wanted::Process { guid, index });
    }
    Ok(Wanted::Any)
}

/// Parses `<guid>` or `<guid>:<index>`: 8-4-4-4-12 lower-case hex digits, decimal index.
fn parse(value: &[u8]) -> Option<(String, Option<String>)> {
    let text = std::str::from_utf8(value).ok()?;
    let (guid, index) = match text.split_once(':') {
        Some((guid, index)) => (guid, Some(index)),
        None => (text, None),
    };
    let hex = |part: &str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let well_formed = guid.len() == 36
        && guid.split('-').map(str::len).eq([8, 4, 4, 4, 12])
        && guid.split('-').all(hex);
    let digits =
        index.is_none_or(|index| !index.is_empty() && index.bytes().all(|b| b.is_ascii_digit()));
    (well_formed && digits).then(|| (guid.to_owned(), index.map(str::to_owned)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUID: &str = "0a1b2c3d-0000-1111-2222-0123456789ab";

    #[test]
    fn a_route_that_lost_its_last_endpoint_after_the_lookup_is_as_one_without() {
        let start = Instant::now();
        let registry =
            route_table::registry::Registry::new(route_table::registry::Settings::default(), start);
        let spec = route_table::registry::EndpointSpec {
            host: "10.0.0.1".into(),
            port: 80,
            ..Default::default()
        };
        let endpoint = registry.endpoint(spec);
        registry.register("a.test", &endpoint, start);
        let target = Target::any(registry.lookup("a.test", "/").unwrap());
        assert!(target.rejection_if_empty("a.test", true).is_none());
        registry.unregister("a.test", "10.0.0.1:80", start);
        let rejection = |is_known| target.rejection_if_empty("a.test", is_known);
        assert!(matches!(
            rejection(true),
            Some(Rejection::NoEndpoints { .. })
        ));
        assert!(matches!(
            rejection(false),
            Some(Rejection::UnknownRoute { .. })
        ));
    }

    #[test]
    fn instance_headers() {
        let of = |name: Known, value: &str| {
            let mut fields = Fields::default();
            fields.append(name, value.as_bytes());
            wanted(&mut fields, false)
        };
        assert_eq!(
            of(Known::XCfAppInstance, &format!("{GUID}:12")).unwrap(),
            Wanted::App {
                guid: GUID.into(),
                index: "12".into()
            }
        );
        assert_eq!(
            of(Known::XCfProcessInstance, GUID).unwrap(),
            Wanted::Process {
                guid: GUID.into(),
                index: None
            }
        );
        let named = |name, value: &str| of(name, &format!("{GUID}{value}")).unwrap().to_string();
        assert_eq!(
            [
                named(Known::XCfAppInstance, ":1"),
                named(Known::XCfProcessInstance, ":1"),
                named(Known::XCfProcessInstance, ""),
            ],
            [
                format!("instance ('1') with guid ('{GUID}')"),
                format!("instance ('1') with process guid ('{GUID}')"),
                format!("instance with process guid ('{GUID}')"),
            ]
        );
        assert_eq!(of(Known::XCfAppInstance, "").unwrap(), Wanted::Any);
        assert_eq!(of(Known::XCfProcessInstance, "").unwrap(), Wanted::Any);
        for bad in [
            GUID.to_owned(),
            format!("{GUID}:"),
            format!("{GUID}:1a"),
            format!("{}:1", GUID.to_uppercase()),
            ":1".into(),
            format!("x{GUID}:1"),
        ] {
            assert!(
                matches!(
                    of(Known::XCfAppInstance, &bad),
                    Err(Rejection::InvalidAppInstance)
                ),
                "{bad}"
            );
        }
        assert!(matches!(
            of(Known::XCfProcessInstance, "x"),
            Err(Rejection::InvalidProcessInstance)
        ));
    }
}
