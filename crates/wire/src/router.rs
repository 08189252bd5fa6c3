//! The router's NATS messages: subjects and JSON.

use serde::{Deserialize, Serialize};

pub mod subject {
    pub const REGISTER: &str = "router.register";
    pub const UNREGISTER: &str = "router.unregister";
    pub const GREET: &str = "router.greet";
    pub const START: &str = "router.start";
    /// A subject of our own: instances of these routes are starting. An original router receives it with its subscription to
    /// `router.*`, can parse it, and ignores every subject but the first two. An original emitter and registrar do not receive
    /// it.
    pub const STARTING: &str = "router.starting";
    /// The subject of names for containers, to which no router subscribes. The host is the container's address, the port is 0,
    /// and the URIs are the name and the name with the instance's index in front.
    pub const CONTAINER_REGISTER: &str = "service-discovery.register";
    pub const CONTAINER_UNREGISTER: &str = "service-discovery.unregister";
    /// The subject by which a name server reports that it begins to listen. Emitters then publish everything again.
    pub const CONTAINER_START: &str = "service-discovery.start";
    /// The subject on which emitters of ours publish the digest of their registrations.
    pub const DIGEST: &str = "route-digests.published";
    /// The subject on which a router asks an emitter for what it missed.
    pub const ASK_DIFFERENCE: &str = "route-digests.ask";
    /// The subject of the answers to it.
    pub const DIFFERENCE: &str = "route-digests.difference";
    /// The subject on which routers of ours publish what they serve of changed routes, and their answers to questions.
    pub const RECEIPTS: &str = "route-receipts.served";
    /// The subject of questions to the routers: what they serve of some routes.
    pub const ASK_RECEIPTS: &str = "route-receipts.ask";
    /// The subject on which all routers, original ones as well, answer the greetings of a Cloud Controller.
    pub const ROUTERS: &str = "route-receipts.routers";
    /// The subject on which somebody asks every router of ours what a request to one URL would meet.
    pub const ASK_VIEW: &str = "route-views.ask";
}

pub mod digests;
pub mod receipts;
mod registry_message;
mod trace;
mod view;

pub use registry_message::RegistryMessage;
pub use trace::{AttemptTrace, RequestTrace, TAP_PATH, TapEnded, TapOpened, tap_event};
pub use view::{
    EndpointView, FAILURES_PATH, FailureView, FailuresPage, RouteView, VIEW_PATH, ViewQuestion,
};

/// Reads `null` as the default. Go's emitters write `null` for an empty list, and read it everywhere as the absence of a value.
fn null_as_default<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The payload of `router.starting`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StartingMessage {
    #[serde(default, deserialize_with = "null_as_default")]
    pub uris: Vec<String>,
}

/// The payload of `router.start` and of the answer to `router.greet`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StartMessage {
    pub id: String,
    pub hosts: Vec<String>,
    #[serde(rename = "minimumRegisterIntervalInSeconds")]
    pub minimum_register_interval_in_seconds: u64,
    #[serde(rename = "pruneThresholdInSeconds")]
    pub prune_threshold_in_seconds: u64,
}
