//! The routes of a desired LRP: raw JSON by router kind in [`ProtoRoutes`].
//!
//! | Kind | Elements | Who writes it | Who reads it |
//! |---|---|---|---|
//! | [`CF_ROUTER`] | [`CfRoute`] | Cloud Controller | route-emitter |
//! | [`TCP_ROUTER`] | [`TcpRoute`] | Cloud Controller | |
//! | [`INTERNAL_ROUTER`] | [`InternalRoute`] | Cloud Controller | route-emitter, BBS, rep |
//! | [`DIEGO_SSH`] | one [`crate::ssh::SshRoute`] | Cloud Controller, which sends it back unchanged in an update | ssh-proxy |

use crate::bbs::ProtoRoutes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub const CF_ROUTER: &str = "cf-router";
pub const TCP_ROUTER: &str = "tcp-router";
pub const INTERNAL_ROUTER: &str = "internal-router";
pub const DIEGO_SSH: &str = "diego-ssh";

/// The key in [`CfRoute::options`] for how far a route's policies reach: `any`, `org` or `space`.
pub const ROUTE_POLICY_SCOPE: &str = "route_policy_scope";
/// The key in [`CfRoute::options`] for the sources that a route's policies let in, separated by commas.
pub const ROUTE_POLICY_SOURCES: &str = "route_policy_sources";

/// An HTTP route. An absent value is written as `null`, but `options` and `generation` are left out: the BBS
/// compares routes as bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CfRoute {
    /// Host, domain and path: `app.example.com/v2`.
    pub hostnames: Vec<String>,
    /// The destination's port inside the container.
    pub port: u32,
    #[serde(default)]
    pub route_service_url: Option<String>,
    #[serde(default)]
    pub isolation_segment: Option<String>,
    /// `http1` or `http2`.
    #[serde(default)]
    pub protocol: Option<String>,
    /// `{"loadbalancing": "least-connection"}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<Map<String, Value>>,
    /// The number of the last change of this destination of the route. A field of our own, which an original emitter ignores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
}

/// A TCP route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpRoute {
    pub router_group_guid: String,
    pub external_port: u16,
    pub container_port: u16,
}

/// A name for other containers, on an internal domain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InternalRoute {
    pub hostname: String,
}

impl ProtoRoutes {
    /// The host names under [`INTERNAL_ROUTER`]; none when the key is absent or `null`.
    ///
    /// # Errors
    ///
    /// When the JSON is not a list of [`InternalRoute`].
    pub fn internal_hostnames(&self) -> serde_json::Result<Vec<String>> {
        let Some(json) = self.routes.get(INTERNAL_ROUTER) else {
            return Ok(Vec::new());
        };
        let routes: Option<Vec<InternalRoute>> = serde_json::from_slice(json)?;
        Ok(routes
            .unwrap_or_default()
            .into_iter()
            .map(|route| route.hostname)
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_values_are_null_and_read_back() {
        let route = CfRoute {
            hostnames: vec!["a.example".into()],
            port: 8080,
            ..CfRoute::default()
        };
        let json = r#"{"hostnames":["a.example"],"port":8080,"route_service_url":null,"isolation_segment":null,"protocol":null}"#;
        assert_eq!(serde_json::to_string(&route).unwrap(), json);
        assert_eq!(serde_json::from_str::<CfRoute>(json).unwrap(), route);
        let short = r#"{"hostnames":["a.example"],"port":8080}"#;
        assert_eq!(serde_json::from_str::<CfRoute>(short).unwrap(), route);
    }

    #[test]
    fn internal_hostnames_are_read() {
        let names = |text: &str| {
            let routes = [(INTERNAL_ROUTER.to_owned(), text.as_bytes().to_vec())].into();
            ProtoRoutes { routes }.internal_hostnames()
        };
        let found = names(r#"[{"hostname":"a.apps.internal"},{"hostname":""}]"#).unwrap();
        assert_eq!(found, ["a.apps.internal", ""]);
        assert!(names("null").unwrap().is_empty());
        assert!(
            ProtoRoutes::default()
                .internal_hostnames()
                .unwrap()
                .is_empty()
        );
        for wrong in ["x", "{}", r#"[{"host":"a"}]"#] {
            assert!(names(wrong).is_err(), "{wrong}");
        }
    }
}
