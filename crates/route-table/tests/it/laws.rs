//! Tests that both laws hold after a random history.

use crate::world::World;

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

#[test]
fn digests_repair_whatever_the_bus_lost() {
    let steps = from_environment("PROPAGATION_STEPS", 200_000);
    let first = from_environment("PROPAGATION_SEED", 1);
    for seed in first..first + steps.div_ceil(ROUND / 4) {
        let run = std::panic::catch_unwind(|| {
            let mut world = World::with_losses(seed);
            for _ in 0..ROUND / 4 {
                world.step();
            }
            world.compare_digests();
            world.check_endpoints();
        });
        run.unwrap_or_else(|_| panic!("repeat with PROPAGATION_SEED={seed}"));
    }
}
