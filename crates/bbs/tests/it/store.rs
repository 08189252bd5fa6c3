//! Tests of a database that cannot be written, and of one with damaged rows.

use crate::fixture::{Foundation, claim, desired, on, run_action, start};
use testkit::wait::wait_for;
use wire::bbs::{self as m, Event};

async fn desired_guids(f: &Foundation) -> Vec<String> {
    let request = m::DesiredLrpsRequest::default();
    let lrps = f.bbs.desired_lrps(&request).await.unwrap();
    lrps.into_iter().map(|lrp| lrp.process_guid).collect()
}

/// Moves the file away, which SQLite itself would not notice. A full disk takes the same code path.
#[tokio::test]
async fn unwritable_changes_are_refused_and_reads_continue() {
    if testkit::postgres::is_chosen() {
        // The test of an outage is the same for a server.
        return;
    }
    let f = Foundation::start().await;
    let (_cell, _keeper) = f.cell("cell-1").await;
    let a = on("a", "cell-1");
    f.bbs.desire_lrp(desired("p", 1)).await.unwrap();
    f.bbs.claim(&claim("p", 0, &a)).await.unwrap();
    f.bbs.start(&start("p", 0, &a)).await.unwrap();
    let mut events = f.bbs.instance_events("").await.unwrap();

    let (file, aside) = (f.folder().join("bbs.db"), f.folder().join("aside"));
    std::fs::rename(&file, &aside).unwrap();
    for round in 0..5 {
        let refused = f.bbs.desire_lrp(desired(&format!("q{round}"), 1)).await;
        let text = refused.unwrap_err().to_string();
        let folder = f.folder().to_string_lossy().into_owned();
        assert!(
            text.contains("cannot be written") && text.contains(&folder),
            "{text}"
        );
        assert!(f.bbs.remove_desired_lrp("p").await.is_err());
        assert_eq!(f.rows("p").await, ["0 Ordinary RUNNING a"]);
        assert_eq!(desired_guids(&f).await, ["p"], "nothing of it is kept");
    }
    // A cell that appears now is present nevertheless.
    let (_late, _late_keeper) = f.cell("cell-2").await;

    std::fs::rename(&aside, &file).unwrap();
    wait_for("changes to be accepted again", async || {
        f.bbs.desire_lrp(desired("after", 1)).await.is_ok()
    })
    .await;
    let Event::DesiredLrpCreated(created) = events.next().await.unwrap() else {
        panic!("what was refused was not published")
    };
    assert_eq!(created.desired_lrp.unwrap().process_guid, "after");
    let copy = f.after_power_cut().await;
    assert_eq!(desired_guids(&copy).await, ["after", "p"]);
    copy.finish().await;
    f.finish().await;
}

const COLUMNS: &[(&str, &str, &[&str])] = &[
    (
        "desired_lrps",
        "process_guid = 'p1'",
        &["process_guid", "lrp"],
    ),
    (
        "actual_lrps",
        "process_guid = 'p1'",
        &["process_guid", "instance_index", "presence", "lrp"],
    ),
    ("tasks", "guid = 't1'", &["guid", "task"]),
    ("domains", "domain = 'd1'", &["domain", "expires_at"]),
    (
        "locks",
        "key = 'cell-1'",
        &["key", "resource", "ttl_seconds"],
    ),
    ("meta", "key = 'node_id'", &["key", "value"]),
];
const DAMAGES: &[&str] = &["X'FF00FF'", "'damaged'", "-9223372036854775807", "X''"];

/// Damages each column of one row of each table in turn, in several ways. The BBS must start and serve the other rows.
#[tokio::test]
async fn a_damaged_row_costs_only_itself() {
    if testkit::postgres::is_chosen() {
        // A server refuses values of other types, and its files are not ours to damage.
        return;
    }
    let mut f = Foundation::start().await;
    // The cell stays present, because its lease outlives each restart.
    let (cell, keeper) = f.cell("cell-1").await;
    for process in ["p1", "p2"] {
        let instance = on(process, "cell-1");
        f.bbs.desire_lrp(desired(process, 1)).await.unwrap();
        f.bbs.claim(&claim(process, 0, &instance)).await.unwrap();
        f.bbs.start(&start(process, 0, &instance)).await.unwrap();
    }
    for task in ["t1", "t2"] {
        let definition = m::TaskDefinition {
            root_fs: "preloaded:cflinuxfs4".into(),
            action: Some(run_action()),
            memory_mb: 256,
            ..m::TaskDefinition::default()
        };
        f.bbs.desire_task(task, "d", definition).await.unwrap();
    }
    for domain in ["d1", "d2", "d", "cf-apps"] {
        f.bbs.upsert_domain(domain, 1000).await.unwrap();
    }
    let whole = tempfile::tempdir().unwrap();
    let (mut checked, mut damages) = (0, Vec::new());
    for (table, row, columns) in COLUMNS {
        for column in *columns {
            for damage in DAMAGES {
                damages.push(format!(
                    "UPDATE {table} SET {column} = {damage} WHERE {row}"
                ));
            }
        }
    }
    (f, _) = f
        .restart_damaged(|data| copy(data, whole.path()), "SELECT 1")
        .await;
    for statement in damages {
        let damaged;
        (f, damaged) = f
            .restart_damaged(|data| copy(whole.path(), data), &statement)
            .await;
        checked += u32::from(damaged);
        let guids = desired_guids(&f).await;
        assert!(guids.contains(&"p2".to_owned()), "{statement}: {guids:?}");
        assert_eq!(f.rows("p2").await, ["0 Ordinary RUNNING p2"], "{statement}");
        if statement.starts_with("UPDATE desired_lrps") {
            // Its instance is not stopped, and desiring the LRP again repairs the row.
            let rows = f.rows("p1").await;
            assert!(
                rows.contains(&"0 Ordinary RUNNING p1".to_owned()),
                "{statement}: {rows:?}"
            );
        }
        let tasks = f.bbs.tasks(&m::TasksRequest::default()).await.unwrap();
        assert!(tasks.iter().any(|t| t.task_guid == "t2"), "{statement}");
        assert!(
            f.bbs.domains().await.unwrap().contains(&"d2".to_owned()),
            "{statement}"
        );
    }
    assert!(checked > 40, "only {checked} damages were made");
    keeper.abort();
    drop(cell);
    f.finish().await;
}

/// Replaces all files in `to` with the files of `from`.
fn copy(from: &std::path::Path, to: &std::path::Path) {
    for file in std::fs::read_dir(to).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}
