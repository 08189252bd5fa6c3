//! Tests both sides of the contract together, in a world full of failures: BBS events → emission → a bus that loses, repeats and
//! reorders → registry → look-up and pick → the certificate that the instance at that address presents.
//!
//! Two laws must hold after any such history:
//! - No request reaches an instance of a process that never owned the route, whatever the table contains. Registrations that
//!   were true a moment ago may still be published; registrations that never were true may not.
//! - When all messages have been delivered, the table agrees exactly with the running instances.
//!
//! `PROPAGATION_STEPS=100000000` makes the test longer, `PROPAGATION_SEED=…` repeats a failure.

mod cells;
mod routers;
mod world;

use world::World;

/// The number of steps between two checks of the second law.
const ROUND: u64 = 20_000;

#[expect(
    clippy::disallowed_methods,
    reason = "the developer chooses length and seed of a run"
)]
fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is not a number"))
    })
}

#[test]
fn requests_reach_owners_only_and_the_table_converges() {
    let steps = from_environment("PROPAGATION_STEPS", 1_000_000);
    let first = from_environment("PROPAGATION_SEED", 1);
    let (mut requests, mut reached, mut refreshed) = (0, 0, 0);
    for seed in first..first + steps.div_ceil(ROUND) {
        let run = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            for _ in 0..ROUND {
                world.step();
            }
            world.deliver_everything();
            world.check_table();
            world.counts()
        });
        let counts = run.unwrap_or_else(|_| panic!("repeat with PROPAGATION_SEED={seed}"));
        requests += counts.requests;
        reached += counts.reached;
        refreshed += counts.refreshed;
    }
    // A world in which nothing happens would obey every law.
    assert!(requests > steps / 10, "{requests} requests");
    assert!(reached > requests / 10, "{reached} of {requests} reached");
    assert!(refreshed > steps / 100, "{refreshed} refreshed unparsed");
}
