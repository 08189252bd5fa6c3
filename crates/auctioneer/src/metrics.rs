//! The auctioneer's metrics: the original's names in Prometheus' form.

use kit::metrics::{Counter, Histogram, Level, REQUEST_SECONDS, Registry, Requests, WORK_SECONDS};

#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(crate) requests: Requests,
    /// 1 while this auctioneer holds the lock, else 0.
    pub(crate) lock_held: Level,
    /// The time in which the cells reported their states.
    pub(crate) fetch_states_duration: Histogram,
    /// The cells that did not report their state, or reported another cell's.
    pub(crate) failed_cell_state_requests: Counter,
    /// The instances and tasks that a cell accepted.
    pub(crate) lrp_auctions_started: Counter,
    pub(crate) task_auctions_started: Counter,
    /// The instances and tasks that no cell accepted.
    pub(crate) lrp_auctions_failed: Counter,
    pub(crate) task_auctions_failed: Counter,
}

impl Metrics {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        Self {
            requests: Requests {
                answered: registry.counter(
                    "auctioneer_request_count_total",
                    "Requests that the API answered",
                ),
                outstanding: registry.in_flight(
                    "auctioneer_requests_in_flight",
                    "Requests that the API has not answered yet",
                ),
                latency: registry.histogram(
                    "auctioneer_request_latency_seconds",
                    "Time until the head of a response",
                    REQUEST_SECONDS,
                ),
            },
            lock_held: registry.level(
                "auctioneer_lock_held",
                "1 if this auctioneer holds the lock",
            ),
            fetch_states_duration: registry.histogram(
                "auctioneer_fetch_states_duration_seconds",
                "Time in which the cells reported their states",
                WORK_SECONDS,
            ),
            failed_cell_state_requests: registry.counter(
                "auctioneer_failed_cell_state_requests_total",
                "Cells that did not report their state",
            ),
            lrp_auctions_started: registry.counter(
                "auctioneer_lrp_auctions_started_total",
                "Instances that a cell accepted",
            ),
            task_auctions_started: registry.counter(
                "auctioneer_task_auctions_started_total",
                "Tasks that a cell accepted",
            ),
            lrp_auctions_failed: registry.counter(
                "auctioneer_lrp_auctions_failed_total",
                "Instances that no cell accepted",
            ),
            task_auctions_failed: registry.counter(
                "auctioneer_task_auctions_failed_total",
                "Tasks that no cell accepted",
            ),
        }
    }
}
