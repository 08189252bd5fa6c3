//! Tests cases of the policy, and a property: the winner is the one that the original's zone loop would choose.

use super::*;
use crate::cell::Resources;
use crate::constraint::RootFsProvider;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn cell(id: &str, zone: &str) -> Cell {
    let total = Resources {
        memory_mb: 1000,
        disk_mb: 1000,
        containers: 10,
    };
    Cell {
        id: id.into(),
        zone: zone.into(),
        index: 0,
        root_fs_providers: BTreeMap::from([(
            "preloaded".to_owned(),
            RootFsProvider::FixedSet(BTreeSet::from(["linux".to_owned()])),
        )]),
        volume_drivers: Vec::new(),
        placement_tags: Vec::new(),
        optional_placement_tags: Vec::new(),
        available: total,
        total,
        proxy_memory_mb: 0,
        starting_containers: 0,
        instances: BTreeMap::new(),
        tasks: 0,
    }
}

fn constraint(tags: &[&str]) -> Constraint {
    Constraint {
        root_fs: "preloaded:linux".into(),
        volume_drivers: Vec::new(),
        placement_tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
    }
}

fn lrp(process: &str, index: i32, memory_mb: i64) -> LrpAuction {
    LrpAuction {
        process: process.into(),
        index,
        constraint: constraint(&[]),
        memory_mb,
        disk_mb: 10,
    }
}

fn task(memory_mb: i64) -> TaskAuction {
    TaskAuction {
        constraint: constraint(&[]),
        memory_mb,
        disk_mb: 10,
    }
}

fn winners(cells: &mut [Cell], batch: &Batch) -> Vec<(Job, String)> {
    let placements = place(cells, batch, &Weights::default());
    assert_eq!(placements.failed, []);
    placements
        .won
        .into_iter()
        .map(|(job, cell)| (job, cell.to_string()))
        .collect()
}

fn error(cells: &mut [Cell], lrp: LrpAuction) -> String {
    let placements = place(
        cells,
        &Batch {
            lrps: vec![lrp],
            tasks: Vec::new(),
        },
        &Weights::default(),
    );
    placements.failed[0].1.to_string()
}

#[test]
fn instances_spread_over_zones_then_cells() {
    let mut cells = [cell("a1", "a"), cell("a2", "a"), cell("b1", "b")];
    let batch = Batch {
        lrps: (0..4).map(|index| lrp("p", index, 10)).collect(),
        tasks: Vec::new(),
    };
    let names: Vec<_> = winners(&mut cells, &batch)
        .into_iter()
        .map(|(_, cell)| cell)
        .collect();
    assert_eq!(names, ["a1", "b1", "a2", "b1"]);
}

#[test]
fn first_instances_come_before_tasks_and_the_largest_first() {
    let batch = Batch {
        lrps: vec![lrp("p", 1, 10), lrp("p", 0, 10), lrp("q", 0, 50)],
        tasks: vec![task(5), task(7)],
    };
    let jobs: Vec<_> = winners(&mut [cell("a", "z")], &batch)
        .into_iter()
        .map(|(job, _)| job)
        .collect();
    assert_eq!(
        jobs,
        [
            Job::Lrp(2),
            Job::Lrp(1),
            Job::Task(1),
            Job::Task(0),
            Job::Lrp(0)
        ]
    );
}

#[test]
fn tasks_avoid_cells_with_tasks_whatever_the_zone() {
    let mut cells = [cell("a", "z"), cell("b", "z")];
    cells[0].tasks = 1;
    cells[1].available.memory_mb = 100;
    assert_eq!(
        winners(
            &mut cells,
            &Batch {
                lrps: Vec::new(),
                tasks: vec![task(10)]
            }
        )[0]
        .1,
        "b"
    );
}

#[test]
fn the_proxys_memory_is_reserved_too() {
    let mut cells = [cell("a", "z")];
    cells[0].available.memory_mb = 300;
    cells[0].proxy_memory_mb = 50;
    let batch = Batch {
        lrps: (0..3).map(|index| lrp("p", index, 100)).collect(),
        tasks: Vec::new(),
    };
    let placements = place(&mut cells, &batch, &Weights::default());
    assert_eq!(
        placements.won.len(),
        2,
        "the original would promise a third"
    );
    assert_eq!(
        placements.failed[0].1.to_string(),
        "insufficient resources: memory"
    );
    assert_eq!(cells[0].available.memory_mb, 0);
}

#[test]
fn a_full_zone_does_not_stop_the_search() {
    let mut cells = [cell("a", "a"), cell("b", "b")];
    cells[0].available.memory_mb = 5;
    cells[1].instances.insert("p".into(), 3);
    assert_eq!(
        winners(
            &mut cells,
            &Batch {
                lrps: vec![lrp("p", 3, 10)],
                tasks: Vec::new()
            }
        )[0]
        .1,
        "b"
    );
}

#[test]
fn errors_name_the_missing_resource() {
    assert_eq!(
        error(&mut [], lrp("p", 0, 1)),
        "unable to communicate to compatible cells"
    );
    let other = |constraint| LrpAuction {
        constraint,
        ..lrp("p", 0, 1)
    };
    assert_eq!(
        error(
            &mut [cell("a", "z")],
            other(Constraint {
                root_fs: "preloaded:windows".into(),
                ..constraint(&[])
            })
        ),
        "found no compatible cell for required rootfs"
    );
    let drivers = Constraint {
        volume_drivers: vec!["nfs".into()],
        ..constraint(&[])
    };
    assert_eq!(
        error(&mut [cell("a", "z")], other(drivers)),
        "found no compatible cell with required volume drivers"
    );
    assert_eq!(
        error(&mut [cell("a", "z")], other(constraint(&["iso"]))),
        "found no compatible cell with placement tag \"iso\""
    );
    assert_eq!(
        error(&mut [cell("a", "z")], other(constraint(&["x", "y", "z"]))),
        "found no compatible cell with placement tags \"x\", \"y\" and \"z\""
    );
    let mut isolated = cell("a", "z");
    isolated.placement_tags = vec!["iso".into()];
    assert_eq!(
        error(&mut [isolated], lrp("p", 0, 1)),
        "found no compatible cell with no placement tags"
    );

    let (mut little_memory, mut little_disk) = (cell("a", "z"), cell("b", "z"));
    (
        little_memory.available.memory_mb,
        little_disk.available.disk_mb,
    ) = (1, 1);
    assert_eq!(
        error(&mut [little_memory.clone(), little_disk], lrp("p", 0, 10)),
        "insufficient resources"
    );
    little_memory.available.containers = 0;
    assert_eq!(
        error(&mut [little_memory], lrp("p", 0, 10)),
        "insufficient resources: containers, memory"
    );
    assert_eq!(
        error(&mut [cell("a", "z"), cell("b", "z")], lrp("p", 0, 1001)),
        "insufficient resources: memory (no cell is that large)"
    );
}

#[test]
fn placement_tags_of_isolation_segments() {
    let mut isolated = cell("iso", "z");
    isolated.placement_tags = vec!["iso".into()];
    isolated.optional_placement_tags = vec!["gpu".into()];
    let mut cells = [cell("shared", "z"), isolated];
    let with = |tags: &[&str]| Batch {
        lrps: vec![LrpAuction {
            constraint: constraint(tags),
            ..lrp("p", 0, 1)
        }],
        tasks: Vec::new(),
    };
    assert_eq!(winners(&mut cells, &with(&["iso"]))[0].1, "iso");
    assert_eq!(winners(&mut cells, &with(&["iso", "gpu"]))[0].1, "iso");
    assert_eq!(winners(&mut cells, &with(&[]))[0].1, "shared");
}

#[test]
fn the_limit_of_starting_containers() {
    let mut cells = [cell("a", "z")];
    cells[0].starting_containers = 2;
    let weights = Weights {
        starting_container_maximum: 3,
        ..Weights::default()
    };
    let placements = place(
        &mut cells,
        &Batch {
            lrps: vec![lrp("p", 0, 1), lrp("p", 1, 1)],
            tasks: Vec::new(),
        },
        &weights,
    );
    assert_eq!(placements.won.len(), 1);
    assert_eq!(
        placements.failed[0].1.to_string(),
        "waiting to start instance: reached in-flight start limit"
    );
}

/// Returns the score of the winner by a loop over zones with one floating-point score, which is how the original decides. The
/// result is a score and not a cell, so that exact ties do not matter.
fn by_zones(cells: &[Cell], lrp: &LrpAuction, weights: &Weights) -> Option<f64> {
    let zones = zone_instances(cells, &lrp.process);
    let mut sorted: Vec<_> = zones.into_iter().collect();
    sorted.sort_by_key(|(_, instances)| *instances);
    let mut least: Option<f64> = None;
    for (position, (zone, instances)) in sorted.iter().enumerate() {
        let scores = cells
            .iter()
            .filter(|cell| cell.zone == *zone && lrp.constraint.check(cell).is_ok())
            .filter_map(|cell| float_score(cell, lrp, weights));
        least = scores.chain(least).reduce(f64::min);
        let tied = sorted
            .get(position + 1)
            .is_some_and(|(_, next)| next == instances);
        if least.is_some() && !tied {
            break;
        }
    }
    least
}

fn float_score(cell: &Cell, lrp: &LrpAuction, weights: &Weights) -> Option<f64> {
    let memory = lrp.memory_mb + cell.proxy_memory_mb;
    if cell.available.memory_mb < memory
        || cell.available.disk_mb < lrp.disk_mb
        || cell.available.containers < 1
    {
        return None;
    }
    let used = |left: i64, total: i64| 1.0 - left as f64 / total as f64;
    let resources = used(cell.available.memory_mb - memory, cell.total.memory_mb)
        + used(cell.available.disk_mb - lrp.disk_mb, cell.total.disk_mb)
        + used(cell.available.containers - 1, cell.total.containers);
    let locality = 1000.0 * f64::from(cell.instances_of(&lrp.process));
    Some(
        resources / 3.0
            + f64::from(cell.starting_containers) * weights.starting_container
            + locality
            + f64::from(cell.index) * weights.bin_pack_first_fit,
    )
}

fn any_cell() -> impl Strategy<Value = Cell> {
    let sizes = (
        0..2000i64,
        0..2000i64,
        0..20i64,
        2000..4000i64,
        2000..4000i64,
        20..40i64,
    );
    (
        sizes,
        0..4u8,
        0..5i32,
        0..6u32,
        0..4u32,
        any::<bool>(),
        prop::sample::select(vec![0i64, 32]),
    )
        .prop_map(
            |(sizes, zone, index, starting, instances, matches, proxy_memory_mb)| {
                let mut cell = cell("", &format!("zone-{zone}"));
                cell.available = Resources {
                    memory_mb: sizes.0,
                    disk_mb: sizes.1,
                    containers: sizes.2,
                };
                cell.total = Resources {
                    memory_mb: sizes.3,
                    disk_mb: sizes.4,
                    containers: sizes.5,
                };
                (cell.index, cell.starting_containers, cell.proxy_memory_mb) =
                    (index, starting, proxy_memory_mb);
                if instances > 0 {
                    cell.instances.insert("p".into(), instances);
                }
                if !matches {
                    cell.placement_tags = vec!["iso".into()];
                }
                cell
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn chooses_as_the_original_does(mut cells in prop::collection::vec(any_cell(), 1..12), memory in 1..500i64, packing in prop::sample::select(vec![0.0, 1.0])) {
        for (at, cell) in cells.iter_mut().enumerate() {
            cell.id = format!("cell-{at}").into();
        }
        let weights = Weights { bin_pack_first_fit: packing, ..Weights::default() };
        let lrp = lrp("p", 0, memory);
        let before = cells.clone();
        let expected = by_zones(&before, &lrp, &weights);
        let placements = place(&mut cells, &Batch { lrps: vec![lrp.clone()], tasks: Vec::new() }, &weights);
        match (expected, placements.won.first()) {
            (Some(expected), Some((_, winner))) => {
                let cell = before.iter().find(|cell| cell.id == *winner).unwrap();
                let actual = float_score(cell, &lrp, &weights).unwrap();
                prop_assert!((actual - expected).abs() < 1e-8, "{actual} against {expected}");
            }
            (None, None) => {}
            other => prop_assert!(false, "{other:?}"),
        }
    }

    /// No cell is ever assigned more than it has, including the memory of proxies.
    #[test]
    fn never_overbooks(cells in prop::collection::vec(any_cell(), 1..5), memories in prop::collection::vec(1..600i64, 1..40)) {
        let mut cells = cells;
        for (at, cell) in cells.iter_mut().enumerate() {
            cell.id = format!("cell-{at}").into();
        }
        let lrps = memories.iter().enumerate().map(|(index, memory)| lrp("p", index as i32, *memory)).collect();
        let placements = place(&mut cells, &Batch { lrps, tasks: Vec::new() }, &Weights::default());
        prop_assert_eq!(placements.won.len() + placements.failed.len(), memories.len());
        for cell in &cells {
            prop_assert!(cell.available.memory_mb >= 0 && cell.available.disk_mb >= 0 && cell.available.containers >= 0);
        }
    }
}
