//! A value that cannot be read, in any column of any table, affects only what it belongs to: lists work, other rows are served,
//! the sync continues, and the Cloud Controller starts.

use crate::fixture::*;
use reqwest::Method;
use serde_json::json;
use std::time::Duration;
use testkit::broker::Broker;
use testkit::sqlite::Connection;

/// Creates one row of every table that requests can fill, beside those of an app that must not suffer.
async fn fill(f: &Foundation) -> (String, String) {
    let broker = Broker::start("db").await;
    let registered = f.register(&broker, "broker", None).await;
    let plan = f.plan_of(&registered, "small").await;
    let organizations = json!([{ "guid": f.organization }]);
    let visible = json!({ "type": "organization", "organizations": organizations });
    f.set_visibility(&plan, visible).await;
    let good = f.started_app("good").await;
    let (other, space) = f.another_place("other").await;
    let bad = f.started_app("bad").await;
    let package = f.package(&bad, zip("run", &"x".repeat(70_000))).await;
    let package = package.as_str();
    let of_package = json!({ "package": { "guid": package } });
    f.send(Method::POST, "/v3/builds", of_package).await;
    let task = json!({ "command": "true" });
    f.send(Method::POST, &format!("/v3/apps/{bad}/tasks"), task)
        .await;
    let sidecar = json!({ "name": "s", "command": "c", "process_types": ["web"] });
    f.send(Method::POST, &format!("/v3/apps/{bad}/sidecars"), sidecar)
        .await;
    for (host, app) in [("good", &good), ("bad", &bad)] {
        let route = f.create_route(host, "").await;
        f.map(&route, app).await;
    }
    f.send(
        Method::POST,
        "/v3/deployments",
        json!({ "relationships": { "app": { "data": { "guid": bad } } } }),
    )
    .await;
    let of_other = json!({ "organization": { "data": { "guid": other } } });
    for (path, body) in [
        (
            "/v3/domains",
            json!({ "name": "private.test", "relationships": of_other }),
        ),
        ("/v3/organization_quotas", json!({ "name": "oq" })),
        (
            "/v3/space_quotas",
            json!({ "name": "sq", "relationships": { "organization": of_other["organization"], "spaces": { "data": [{ "guid": space }] } } }),
        ),
        (
            "/v3/security_groups",
            json!({ "name": "g", "rules": [], "relationships": { "running_spaces": { "data": [{ "guid": space }] } } }),
        ),
        ("/v3/stacks", json!({ "name": "stack" })),
    ] {
        f.send(Method::POST, path, body).await;
    }
    f.bind_new_route("route-service").await;
    let service = f.create_instance("service", json!({ "k": "v" })).await;
    f.bind(&bad, &service).await;
    let managed = f.create_managed("managed", &plan).await;
    f.bind_managed(&bad, &managed).await;
    let flag = "/v3/feature_flags/service_instance_sharing";
    f.send(Method::PATCH, flag, json!({ "enabled": true }))
        .await;
    let target = f.another_space(&f.organization, "target").await;
    let shares = format!("/v3/service_instances/{managed}/relationships/shared_spaces");
    let target = json!({ "data": [{ "guid": target }] });
    f.send(Method::POST, &shares, target).await;
    f.user("u", &[("organization_user", "organization", &other)])
        .await;
    (good, bad)
}

/// Returns whether the database refuses what these tests store. A column of PostgreSQL accepts values of its type only; what a text
/// can contain is tested on both databases in `bad_rows`.
fn is_impossible() -> bool {
    let is_typed = postgres::is_chosen();
    if is_typed {
        eprintln!("skipped: the columns of PostgreSQL accept no values of other types");
    }
    is_typed
}

/// Returns (table, column) of all that can be damaged: all columns but rowids, which contain only whole numbers.
fn columns(database: &Connection) -> Vec<(String, String)> {
    let columns = "SELECT m.name, p.name FROM sqlite_master m JOIN pragma_table_info(m.name) p
         WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite%' AND NOT (p.pk > 0 AND p.type = 'INTEGER') AND m.name <> 'schema_versions' ORDER BY 1, 2";
    let mut columns = database.prepare(columns).unwrap();
    let columns = columns.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    columns.unwrap().map(Result::unwrap).collect()
}

/// Selects the newest row of a table, which is the one that is damaged.
fn newest(table: &str) -> String {
    format!("rowid = (SELECT MAX(rowid) FROM {table})")
}

fn execute(database: &Connection, statement: &str) -> usize {
    database.execute(statement, []).unwrap_or(0)
}

/// Checks everything that must continue to work, whatever is damaged, and returns what does not work.
async fn failures(f: &Foundation, good: &str, what: &str) -> Vec<String> {
    let lists = cloud_controller::endpoints()
        .into_iter()
        .filter(|endpoint| {
            let is_list = endpoint.parameters.iter().any(|name| name == "per_page");
            endpoint.method == "GET" && is_list && !endpoint.path.contains('{')
        });
    let mut paths: Vec<String> = lists.map(|endpoint| endpoint.path).collect();
    let own = ["", "/processes", "/routes", "/env", "/droplets/current"];
    paths.extend(own.map(|path| format!("/v3/apps/{good}{path}")));
    paths.push("/v3/apps?label_selector=a%21%3Db".to_owned());
    let mut wrong = Vec::new();
    for path in paths {
        let (status, body) = f.call(Method::GET, &path, None).await;
        if status != 200 {
            wrong.push(format!("{what}: GET {path}: {status} {body}"));
        }
    }
    let scale = format!("/v3/processes/{good}/actions/scale");
    let (status, body) = f
        .call(Method::POST, &scale, Some(json!({ "instances": 1 })))
        .await;
    if status != 202 {
        wrong.push(format!("{what}: scale: {status} {body}"));
    }
    if let Some(lrp) = f.lrps(good).await.pop() {
        f.bbs.remove_desired_lrp(&lrp.process_guid).await.unwrap();
    }
    let back = async {
        while f.lrps(good).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(30), back)
        .await
        .is_err()
    {
        wrong.push(format!("{what}: the sync does not continue"));
    }
    wrong
}

async fn check(f: &Foundation, good: &str, what: &str) {
    let wrong = failures(f, good, what).await;
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_value_affects_only_its_row() {
    if is_impossible() {
        return;
    }
    let f = Foundation::start_syncing(Duration::from_millis(50)).await;
    let (good, _) = fill(&f).await;
    let database = f.database();
    let (mut damaged, mut wrong) = (0, Vec::new());
    for (table, column) in columns(&database) {
        let place = newest(&table);
        let sql = format!("SELECT quote({column}) FROM {table} WHERE {place}");
        let before = database.query_row(&sql, [], |row| row.get::<_, String>(0));
        let Ok(before) = before else { continue };
        let id = format!("SELECT rowid FROM {table} WHERE {place}");
        let id: i64 = sqlite::value(&database, &id);
        let set = |value: &str| format!("UPDATE {table} SET {column} = {value} WHERE rowid = {id}");
        if execute(&database, &set("X'FF'")) == 0 {
            continue;
        }
        damaged += 1;
        wrong.extend(failures(&f, &good, &format!("{table}.{column}")).await);
        execute(&database, &set(&before));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(damaged > 120, "only {damaged} values were damaged");
    // Everybody shares the groups of variables.
    for group in ["running", "staging"] {
        let set =
            format!("UPDATE environment_variable_groups SET var = '{{' WHERE name = '{group}'");
        assert_eq!(execute(&database, &set), 1);
        check(&f, &good, &format!("the group {group}")).await;
        let path = format!("/v3/environment_variable_groups/{group}");
        let set = json!({ "var": { "A": "1" } });
        assert_eq!(
            f.send(Method::PATCH, &path, set).await["var"],
            json!({ "A": "1" })
        );
    }
    // A flag that cannot be read stops what it may have stopped, until it is set.
    execute(
        &database,
        "UPDATE feature_flags SET enabled = X'FF' WHERE name = 'task_creation'",
    );
    let roles: &[(&str, &str, &str)] = &[
        ("organization_user", "organization", &f.organization),
        ("space_developer", "space", &f.space),
    ];
    let developer = f.user("dev", roles).await;
    let tasks = format!("/v3/apps/{good}/tasks");
    let task = json!({ "command": "true" });
    let (status, body) = f
        .call_as(&developer, Method::POST, &tasks, Some(task.clone()))
        .await;
    assert_eq!(status, 403, "{body}");
    assert!(detail(&body).contains("cannot be read"), "{body}");
    f.send(
        Method::PATCH,
        "/v3/feature_flags/task_creation",
        json!({ "enabled": true }),
    )
    .await;
    let (status, _) = f
        .call_as(&developer, Method::POST, &tasks, Some(task))
        .await;
    assert_eq!(status, 202);
    f.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_starts_whatever_table_is_damaged() {
    if is_impossible() {
        return;
    }
    let mut f = Foundation::start_syncing(Duration::from_millis(50)).await;
    let (good, _) = fill(&f).await;
    let columns = columns(&f.database());
    f.restart(async |folder| {
        // The rows of the good app stay undamaged, because they are never the newest.
        let database = sqlite::open(&folder.join("cloud-controller.db"));
        let unlinked = database.pragma_update(None, "foreign_keys", false);
        unlinked.unwrap();
        let mut damaged = 0;
        for (table, column) in &columns {
            let place = newest(table);
            let set = format!("UPDATE {table} SET {column} = X'FF' WHERE {place}");
            if !["guid", "name", "number"].contains(&column.as_str()) {
                damaged += execute(&database, &set);
            }
        }
        assert!(damaged > 100, "only {damaged} values were damaged");
    })
    .await;
    check(&f, &good, "the damage of every table").await;
    f.finish().await;
}
