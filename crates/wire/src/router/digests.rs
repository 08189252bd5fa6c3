//! Digests: how routers notice that messages of an emitter were lost. Original emitters and routers take no part.

use super::null_as_default;
use serde::{Deserialize, Serialize};

/// The payload of `route-digests.published`: the state of an emitter's registrations for routers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestMessage {
    /// The name of the emitter, which every start makes anew; its messages carry it as well.
    pub emitter: String,
    /// The number of its last change.
    pub sequence: u64,
    pub registrations: u64,
    /// The combination of the numbers of its registrations.
    pub sum: u64,
}

/// The payload of `route-digests.ask`: a router asks an emitter what changed after a number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DifferenceQuestion {
    pub emitter: String,
    /// The id of the router, as in `router.start`.
    pub router: String,
    pub after: u64,
}

/// The payload of `route-digests.difference`: the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DifferenceMessage {
    pub emitter: String,
    pub router: String,
    pub after: u64,
    /// The number up to which the difference is complete. If the digest has a higher one, the router asks again.
    pub upto: u64,
    /// The payloads of `router.register`, as texts.
    #[serde(default, deserialize_with = "null_as_default")]
    pub register: Vec<String>,
    /// The payloads of `router.unregister`, as texts.
    #[serde(default, deserialize_with = "null_as_default")]
    pub unregister: Vec<String>,
}
