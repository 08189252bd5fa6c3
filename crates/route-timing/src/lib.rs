//! Measures how long a changed route takes until clients see it, at any Cloud Foundry.
//!
//! [`run`] makes routes by the Cloud Controller's API ([`ApiSettings`]) or by messages on the bus ([`BusSettings`]), requests them at
//! the routers from threads of their own, counts wrong answers, and removes everything that it made. The result is a [`Report`]: a table,
//! JSON, and a plot. `cupola bench propagation` and the crate `bench` call it. It knows no foundation's files and no command line.
//! docs/bench-propagation.md has the method.
//!
//! ```text
//!   plan ─▶ by_api (map, unmap) or by_bus (register, unregister; simulated apps) ─▶ routers
//!                          measure ◀─ judge ◀─ prober, front ◀─ answers ─────────────┘
//!                             └─▶ statistics ─▶ report ─▶ plot
//! ```

mod measure;
mod plan;

mod api;
mod by_api;
mod by_bus;
mod simulated;

mod front;
mod judge;
mod prober;

mod plot;
mod report;
pub mod statistics;

pub use api::{Api, Named};
pub use by_api::ApiSettings;
pub use by_bus::BusSettings;
pub use front::Front;
pub use judge::Mistakes;
pub use measure::{By, Settings, run};
pub use plan::Size;
pub use report::{Change, Churned, Ended, Report, Row};
