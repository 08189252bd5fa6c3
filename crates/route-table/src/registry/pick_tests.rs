//! Tests that every instance gets its share, whatever the pool is like and whatever a request asks for.

use super::pick::{Instance, Want};
use super::tests::{Table, spec};
use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// One endpoint of a pool.
#[derive(Clone, Debug)]
struct Made {
    tls: bool,
    near: bool,
    org: u8,
    quiet: bool,
    failed: bool,
}

fn made() -> impl Strategy<Value = Made> {
    let flags = (
        any::<bool>(),
        any::<bool>(),
        0..3_u8,
        any::<bool>(),
        any::<bool>(),
    );
    flags.prop_map(|(tls, near, org, quiet, failed)| Made {
        tls,
        near,
        org,
        quiet,
        failed,
    })
}

/// The kinds of requests that are sent in turn.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Anybody,
    Near,
    Org,
}

impl Asked {
    fn want(self) -> Want<'static> {
        let mut want = Want::default();
        match self {
            Self::Anybody => {}
            Self::Near => want.zone = Some("near"),
            Self::Org => want.within = Within::Org("o1"),
        }
        want
    }
}

fn pool(table: &Table, endpoints: &[Made]) -> Arc<Pool> {
    for (at, made) in endpoints.iter().enumerate() {
        let mut spec = spec(at as u16 + 1, made.tls, "app", &at.to_string());
        spec.availability_zone = if made.near { "near" } else { "far" }.into();
        let org = format!("o{}", made.org);
        spec.tags = [("organization_id".to_owned(), org)].into();
        // The quiet endpoints were registered long before the others.
        table.register("a.test", spec, if made.quiet { 0 } else { 1_000 });
    }
    let pool = table.registry.lookup("a.test", "/").unwrap();
    for (endpoint, made) in pool.endpoints().iter().zip(endpoints) {
        if made.failed {
            pool.fail(endpoint, Failure::EndedEarly, table.at(1_000));
        }
    }
    pool
}

fn shares(pool: &Pool, table: &Table, kinds: &[Asked], rounds: usize) -> Vec<BTreeMap<u16, u32>> {
    let mut shares = vec![BTreeMap::new(); kinds.len()];
    for _ in 0..rounds {
        for (asked, shares) in kinds.iter().zip(&mut shares) {
            if let Ok(endpoint) = pool.pick(&asked.want(), table.at(1_000)) {
                *shares.entry(endpoint.spec().port).or_default() += 1;
            }
        }
    }
    shares
}

fn even(shares: &BTreeMap<u16, u32>) -> bool {
    let (least, most) = (shares.values().min(), shares.values().max());
    least
        .zip(most)
        .is_none_or(|(least, most)| most - least <= 1)
}

#[test]
fn silent_tls_endpoints_share_while_the_bus_is_there() {
    for count in 2..6 {
        let table = Table::new();
        let quiet = Made {
            tls: true,
            near: true,
            org: 0,
            quiet: true,
            failed: false,
        };
        let pool = pool(&table, &vec![quiet; count]);
        let shares = shares(&pool, &table, &[Asked::Anybody], 10 * count);
        assert_eq!(shares[0].len(), count);
        assert!(shares[0].values().all(|share| *share == 10), "{shares:?}");
    }
}

#[test]
fn a_request_for_one_instance_leaves_the_turn_unchanged() {
    let table = Table::new();
    for at in 0..3_u16 {
        table.register("a.test", spec(at + 1, false, "app", &at.to_string()), 0);
    }
    let pool = table.registry.lookup("a.test", "/").unwrap();
    let one = Want {
        instance: Instance::App {
            app: "app",
            index: "0",
        },
        ..Want::default()
    };
    let mut shares = BTreeMap::<u16, u32>::new();
    for _ in 0..30 {
        let endpoint = pool.pick(&Want::default(), table.start).unwrap();
        *shares.entry(endpoint.spec().port).or_default() += 1;
        assert_eq!(pool.pick(&one, table.start).unwrap().spec().port, 1);
    }
    assert_eq!(shares, [(1, 10), (2, 10), (3, 10)].into());
}

proptest! {
    #[test]
    fn shares_differ_by_one_at_most(
        endpoints in prop::collection::vec(made(), 1..9),
        least in any::<bool>(),
        seed in any::<u64>(),
        kind in prop_oneof![Just(Asked::Anybody), Just(Asked::Near), Just(Asked::Org)],
        rounds in 1..60_usize,
    ) {
        let balancing = if least { Balancing::LeastConnection } else { Balancing::RoundRobin };
        let table = Table::with(Settings { balancing, seed, ..Settings::default() });
        let pool = pool(&table, &endpoints);
        // The first round may clear the failures of all endpoints.
        shares(&pool, &table, &[kind], 1);
        let shares = shares(&pool, &table, &[kind], rounds);
        prop_assert!(even(&shares[0]), "{shares:?}");
        let kinds = [Asked::Anybody, Asked::Org];
        super::pick_tests::shares(&pool, &table, &kinds, 1);
        let both = super::pick_tests::shares(&pool, &table, &kinds, rounds);
        prop_assert!(both.iter().all(even), "{both:?}");
    }
}
