//! Receipts: what routers serve of a route. Routers of ours publish them; an original router takes no part.

use super::null_as_default;
use serde::{Deserialize, Serialize};

/// The maximum number of routes in one message. What is beyond it is in another message, or not answered.
pub const MOST_ROUTES: usize = 100;

/// The payload of `route-receipts.ask`. Every router answers with [`Receipts`], also to a question without routes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    #[serde(default, deserialize_with = "null_as_default")]
    pub uris: Vec<String>,
}

/// The payload of `route-receipts.served`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipts {
    /// The id of the router, as in `router.start`.
    pub router: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub routes: Vec<Receipt>,
}

/// The part of one route in a router's table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The route in its normal form: in lower case, without outer slashes.
    pub uri: String,
    /// The processes with endpoints in the route's pool. A route that is not in the table has none.
    #[serde(default, deserialize_with = "null_as_default")]
    pub processes: Vec<ServedProcess>,
    /// The change that this receipt confirms. An answer to a question confirms none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<AppliedChange>,
}

/// The endpoints of one process in a route's pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedProcess {
    /// The guid of the process, or of the app if the registration names no process.
    pub process: String,
    /// The lowest generation of the endpoints; 0 if a registration has none.
    pub generation: u64,
    pub endpoints: u32,
}

/// A change of a route that a router applied. Times are Unix nanoseconds of the sender's and of the router's clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedChange {
    pub generation: u64,
    pub emitted_at_ns: u64,
    pub applied_at_ns: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receipts_have_one_spelling() {
        let receipts = Receipts {
            router: "0-r".into(),
            routes: vec![
                Receipt {
                    uri: "a.x/p".into(),
                    processes: vec![ServedProcess {
                        process: "web".into(),
                        generation: 17,
                        endpoints: 2,
                    }],
                    change: Some(AppliedChange {
                        generation: 17,
                        emitted_at_ns: 1,
                        applied_at_ns: 2,
                    }),
                },
                Receipt {
                    uri: "b.x".into(),
                    ..Receipt::default()
                },
            ],
        };
        let json = r#"{"router":"0-r","routes":[{"uri":"a.x/p","processes":[{"process":"web","generation":17,"endpoints":2}],"change":{"generation":17,"emitted_at_ns":1,"applied_at_ns":2}},{"uri":"b.x","processes":[]}]}"#;
        assert_eq!(serde_json::to_string(&receipts).unwrap(), json);
        assert_eq!(serde_json::from_str::<Receipts>(json).unwrap(), receipts);
        let short = r#"{"router":"0-r","routes":null}"#;
        assert!(
            serde_json::from_str::<Receipts>(short)
                .unwrap()
                .routes
                .is_empty()
        );
        assert_eq!(
            serde_json::from_str::<Question>("{}").unwrap(),
            Question::default()
        );
    }
}
