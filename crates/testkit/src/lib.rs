//! Everything that the suites of several crates need. Components are always the real ones; simulated are only edges of the machine.
//!
//! | A test needs | It takes |
//! |---|---|
//! | to wait for something | [`wait`]: one bound, and a panic that names what was awaited |
//! | certificates | [`certs`]: an authority, and identities from it |
//! | a port, a listener, an address without a listener | [`net`] |
//! | a bus | [`nats`]: a real nats-server |
//! | a bus that loses messages | [`lossy_bus`]: a proxy in front of a nats-server |
//! | a database server | [`postgres`]: a real PostgreSQL, and the choice of the database for a whole suite |
//! | a component's file of SQLite, opened from outside | [`sqlite`] |
//! | a bucket of S3 | [`moto`]: a server of PyPI |
//! | a peer that speaks HTTP, a client of it | [`http`] |
//! | a service broker with every fault | [`broker`] |
//! | a BBS, a UAA, a Cloud Controller | [`components`]: the real ones, in the test's process |
//! | a whole foundation of real processes | [`foundation`] |
//! | a foundation of several machines | [`machines`]: network namespaces, joined by files |
//! | the documented metrics, a page of metrics | [`metrics`] |
//! | containers without Linux's help | [`sim_garden`] |
//! | inputs that break a parser | [`fuzz`] |
//!
//! Its functions panic when they fail, because a test fails by panicking. No component depends on it, except in tests.

pub mod broker;
pub mod certs;
pub mod components;
pub mod foundation;
pub mod fuzz;
pub mod http;
pub mod lossy_bus;
pub mod machines;
pub mod metrics;
pub mod moto;
pub mod nats;
pub mod net;
pub mod postgres;
pub mod sim_garden;
pub mod sqlite;
pub mod wait;
