//! Tests both sides of the contract together, in a world full of failures: BBS events → emission → a bus that loses, repeats and
//! reorders → registry → look-up and pick → the certificate that the instance at that address presents.
//!
//! Two laws must hold after any such history:
//! - No request reaches an instance of a process that never owned the route, whatever the table contains. Registrations that
//!   were true a moment ago may still be published; registrations that never were true may not.
//! - When all messages have been delivered, the table agrees exactly with the running instances.
//!
//! A third law concerns losses alone: when emitters and routers have compared their digests, the table agrees with the running instances,
//! without any repetition.
//!
//! `PROPAGATION_STEPS=100000000` makes the test longer, `PROPAGATION_SEED=…` repeats a failure.

mod cells;
mod laws;
mod routers;
mod world;
