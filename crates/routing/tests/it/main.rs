//! Both halves of the contract together, in a world that goes wrong: BBS events → emission → a bus that loses, repeats and
//! reorders → registry → look-up and pick → the certificate that the instance at that address shows.
//!
//! Two laws, under any such history:
//! - no request reaches an instance of a process that never owned the route, whatever the table says: what was true a
//!   moment ago may still be told, what never was may not;
//! - when the messages settle, the table is exactly what runs.
//!
//! `PROPAGATION_STEPS=100000000` runs longer, `PROPAGATION_SEED=…` repeats a failure.

mod cells;
mod routers;
mod world;

use world::World;

/// Steps between two settlements.
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
fn requests_reach_owners_only_and_the_table_settles() {
    let steps = from_environment("PROPAGATION_STEPS", 1_000_000);
    let first = from_environment("PROPAGATION_SEED", 1);
    let (mut requests, mut reached, mut refreshed) = (0, 0, 0);
    for seed in first..first + steps.div_ceil(ROUND) {
        let run = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            for _ in 0..ROUND {
                world.step();
            }
            world.settle();
            world.check_settled();
            world.counts()
        });
        let counts = run.unwrap_or_else(|_| panic!("repeat with PROPAGATION_SEED={seed}"));
        requests += counts.requests;
        reached += counts.reached;
        refreshed += counts.refreshed;
    }
    // A world in which nothing happens obeys every law.
    assert!(requests > steps / 10, "{requests} requests");
    assert!(reached > requests / 10, "{reached} of {requests} reached");
    assert!(refreshed > steps / 100, "{refreshed} refreshed unparsed");
}
