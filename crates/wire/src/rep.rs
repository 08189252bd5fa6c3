//! The rep's and the auctioneer's HTTP JSON. Names are the original's exactly (`diego.md` 3.1 and 3.3).

/// Paths of the rep's network API (mTLS, default port 1801).
pub mod path {
    pub const STATE: &str = "/state";
    pub const WORK: &str = "/work";
    pub const CONTAINER_METRICS: &str = "/container_metrics";
    /// `PUT /v2/lrps/:process_guid/instances/:instance_guid`
    pub const UPDATE_LRP: &str = "/v2/lrps/{process_guid}/instances/{instance_guid}";
    /// `POST /v1/lrps/:process_guid/instances/:instance_guid/stop`
    pub const STOP_LRP: &str = "/v1/lrps/{process_guid}/instances/{instance_guid}/stop";
    /// `POST /v1/tasks/:task_guid/cancel`
    pub const CANCEL_TASK: &str = "/v1/tasks/{task_guid}/cancel";
    /// The auctioneer's (default port 9016).
    pub const AUCTION_LRPS: &str = "/v1/lrps";
    pub const AUCTION_TASKS: &str = "/v1/tasks";
}
