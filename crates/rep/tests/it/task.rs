//! Tests of the life of a task, including one like staging: download, run, upload, result.

use crate::fixture::{CELL, Fixture, Running, resource, run};
use crate::stand_in_bbs::Call;
use axum::Router;
use axum::body::Bytes;
use axum::routing::{get, post};
use garden::api::{Exit, Garden as _};
use kit::CancellationToken;
use testkit::http::serve;
use tokio::sync::mpsc;
use wire::bbs::*;

async fn place(fixture: &Fixture, rep: &Running, definition: TaskDefinition) {
    let task = Task {
        task_guid: "task-1".into(),
        domain: "cf-tasks".into(),
        state: TaskState::Pending as i32,
        cell_id: CELL.into(),
        task_definition: Some(definition),
        ..Task::default()
    };
    fixture
        .bbs
        .rows
        .lock()
        .unwrap()
        .tasks
        .insert("task-1".into(), task);
    let work = wire::rep::Task {
        task_guid: "task-1".into(),
        domain: "cf-tasks".into(),
        resource: resource(),
        ..wire::rep::Task::default()
    };
    let refused = fixture
        .client
        .perform(
            &rep.url,
            &wire::rep::Work {
                lrps: vec![],
                tasks: vec![work],
                cell_id: CELL.into(),
            },
        )
        .await
        .unwrap();
    assert!(refused.is_empty());
}

fn completed(call: &Call) -> Option<CompleteTaskRequest> {
    if let Call::CompleteTask(complete) = call {
        Some(complete.clone())
    } else {
        None
    }
}

fn definition() -> TaskDefinition {
    let mut action = run("/builder");
    action.run.as_mut().unwrap().log_source = "STG".into();
    TaskDefinition {
        root_fs: "preloaded:cflinuxfs4".into(),
        action: Some(action),
        result_file: "/tmp/result.json".into(),
        log_source: "STG".into(),
        ..TaskDefinition::default()
    }
}

#[tokio::test]
async fn a_task_completes_with_its_result() {
    let fixture = Fixture::new().await;
    let rep = fixture.rep().await;
    place(&fixture, &rep, definition()).await;
    fixture
        .garden
        .wait_for("the process action", |g| g.process("task-1", "action"))
        .await;
    fixture
        .garden
        .write_file("task-1", "/tmp/result.json", br#"{"ok":true}"#);
    fixture.garden.exit(
        "task-1",
        "action",
        Exit {
            status: 0,
            out_of_memory: false,
        },
    );
    let complete = fixture.bbs.wait_for(completed).await;
    assert_eq!(
        (
            complete.failed,
            complete.result.as_str(),
            complete.cell_id.as_str()
        ),
        (false, r#"{"ok":true}"#, CELL)
    );
    fixture
        .garden
        .wait_for("the last container to be gone", |g| {
            g.handles().is_empty().then_some(())
        })
        .await;
    rep.stop().await;
}

#[tokio::test]
async fn a_failed_task_completes_with_its_reason() {
    let fixture = Fixture::new().await;
    let rep = fixture.rep().await;
    place(&fixture, &rep, definition()).await;
    fixture
        .garden
        .wait_for("the process action", |g| g.process("task-1", "action"))
        .await;
    fixture.garden.exit(
        "task-1",
        "action",
        Exit {
            status: 223,
            out_of_memory: false,
        },
    );
    let complete = fixture.bbs.wait_for(completed).await;
    assert_eq!(
        (complete.failed, complete.failure_reason.as_str()),
        (true, "STG: Exited with status 223")
    );
    rep.stop().await;
}

#[tokio::test]
async fn a_task_continues_under_the_next_rep() {
    let fixture = Fixture::new().await;
    let rep = fixture.rep().await;
    place(&fixture, &rep, definition()).await;
    fixture
        .garden
        .wait_for("the process action", |g| g.process("task-1", "action"))
        .await;
    rep.stop().await;
    fixture
        .garden
        .write_file("task-1", "/tmp/result.json", b"done");
    fixture.garden.exit(
        "task-1",
        "action",
        Exit {
            status: 0,
            out_of_memory: false,
        },
    );
    let rep = fixture.rep().await;
    assert_eq!(fixture.bbs.wait_for(completed).await.result, "done");
    rep.stop().await;
}

#[tokio::test]
async fn a_cancelled_task_is_destroyed_without_completion() {
    let fixture = Fixture::new().await;
    let rep = fixture.rep().await;
    place(&fixture, &rep, definition()).await;
    fixture
        .garden
        .wait_for("the process action", |g| g.process("task-1", "action"))
        .await;
    fixture
        .client
        .cancel_task(&rep.url, "task-1")
        .await
        .unwrap();
    fixture
        .garden
        .wait_for("the last container to be gone", |g| {
            g.handles().is_empty().then_some(())
        })
        .await;
    assert!(
        !fixture
            .bbs
            .calls()
            .iter()
            .any(|c| matches!(c, Call::CompleteTask(_)))
    );
    rep.stop().await;
}

#[tokio::test]
async fn a_task_whose_container_cannot_be_made_is_rejected() {
    let fixture = Fixture::new().await;
    fixture.garden.refuse_create("no space left on device");
    let rep = fixture.rep().await;
    place(&fixture, &rep, definition()).await;
    let reason = fixture
        .bbs
        .wait_for(|c| {
            if let Call::RejectTask(reject) = c {
                Some(reject.rejection_reason.clone())
            } else {
                None
            }
        })
        .await;
    assert!(reason.contains("no space left"), "{reason}");
    rep.stop().await;
}

/// Starts a server like Cloud Controller's internal one. It sends uploads to the returned channel.
async fn blobs(fixture: &Fixture, archive: Vec<u8>) -> (String, mpsc::Receiver<Bytes>) {
    let (sender, receiver) = mpsc::channel(1);
    let app = Router::new()
        .route("/package", get(move || async move { archive }))
        .route(
            "/droplet",
            post(move |body: Bytes| async move { sender.send(body).await.unwrap() }),
        );
    let identity = &fixture.certificates.identity;
    let server = serve(app, Some(identity), CancellationToken::new()).await;
    (server.url, receiver)
}

fn tgz(name: &str, content: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(
        Vec::new(),
        flate2::Compression::fast(),
    ));
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o755);
    tar.append_data(&mut header, name, content).unwrap();
    tar.into_inner().unwrap().finish().unwrap()
}

#[tokio::test]
async fn staging_downloads_and_uploads() {
    let fixture = Fixture::new().await;
    let rep = fixture.rep().await;
    let (url, mut uploads) = blobs(&fixture, tgz("app.py", b"print()")).await;
    let download = DownloadAction {
        artifact: "app package".into(),
        from: format!("{url}/package"),
        to: "/tmp/app".into(),
        user: "vcap".into(),
        ..DownloadAction::default()
    };
    let upload = UploadAction {
        artifact: "droplet".into(),
        from: "/tmp/droplet".into(),
        to: format!("{url}/droplet"),
        ..UploadAction::default()
    };
    let actions = vec![
        Action {
            download: Some(download),
            ..Action::default()
        },
        run("/builder"),
        Action {
            upload: Some(upload),
            ..Action::default()
        },
    ];
    let lifecycle = CachedDependency {
        name: "lifecycle".into(),
        from: format!("{url}/package"),
        to: "/tmp/lifecycle".into(),
        ..CachedDependency::default()
    };
    let task = TaskDefinition {
        action: Some(Action {
            serial: Some(SerialAction {
                actions,
                log_source: String::new(),
            }),
            ..Action::default()
        }),
        cached_dependencies: vec![lifecycle],
        result_file: String::new(),
        ..definition()
    };
    place(&fixture, &rep, task).await;
    fixture
        .garden
        .wait_for("the process action-1", |g| g.process("task-1", "action-1"))
        .await;
    let spec = fixture.garden.spec("task-1").unwrap();
    let mount = spec
        .bind_mounts
        .iter()
        .find(|m| m.container == "/tmp/lifecycle")
        .unwrap();
    assert_eq!(
        std::fs::read(mount.host.join("app.py")).unwrap(),
        b"print()"
    );
    fixture
        .garden
        .write_file("task-1", "/tmp/droplet", b"the droplet");
    fixture.garden.exit(
        "task-1",
        "action-1",
        Exit {
            status: 0,
            out_of_memory: false,
        },
    );
    assert_eq!(uploads.recv().await.unwrap(), b"the droplet".as_slice());
    assert!(!fixture.bbs.wait_for(completed).await.failed);
    rep.stop().await;
}

#[tokio::test]
async fn relative_paths_start_at_the_users_home() {
    let fixture = Fixture::new().await;
    let rep = fixture.rep().await;
    let (url, mut uploads) = blobs(&fixture, tgz("app.py", b"print()")).await;
    let download = DownloadAction {
        from: format!("{url}/package"),
        to: ".".into(),
        user: "vcap".into(),
        ..DownloadAction::default()
    };
    let upload = UploadAction {
        from: "droplet".into(),
        to: format!("{url}/droplet"),
        user: "vcap".into(),
        ..UploadAction::default()
    };
    let actions = vec![
        Action {
            download: Some(download),
            ..Action::default()
        },
        run("/builder"),
        Action {
            upload: Some(upload),
            ..Action::default()
        },
    ];
    let serial = Action {
        serial: Some(SerialAction {
            actions,
            log_source: String::new(),
        }),
        ..Action::default()
    };
    let definition = TaskDefinition {
        action: Some(serial),
        result_file: String::new(),
        ..definition()
    };
    place(&fixture, &rep, definition).await;
    fixture
        .garden
        .wait_for("the process action-1", |g| g.process("task-1", "action-1"))
        .await;
    fixture
        .garden
        .read_file("task-1", "/home/vcap/.", 1)
        .await
        .unwrap();
    fixture
        .garden
        .write_file("task-1", "/home/vcap/droplet", b"droplet");
    let done = Exit {
        status: 0,
        out_of_memory: false,
    };
    fixture.garden.exit("task-1", "action-1", done);
    assert_eq!(uploads.recv().await.unwrap(), "droplet");
    assert!(!fixture.bbs.wait_for(completed).await.failed);
    rep.stop().await;
}

/// Changes the egress rules of the task in the BBS.
fn allow(fixture: &Fixture, destination: Option<&str>) {
    let mut rows = fixture.bbs.rows.lock().unwrap();
    let task = rows.tasks.get_mut("task-1").unwrap();
    task.task_definition.as_mut().unwrap().egress_rules = destination
        .iter()
        .map(|destination| SecurityGroupRule {
            protocol: "all".into(),
            destinations: vec![(*destination).to_owned()],
            ..SecurityGroupRule::default()
        })
        .collect();
}

async fn reaches(fixture: &Fixture, address: Option<&str>) {
    let wanted: Vec<std::net::Ipv4Addr> = address.iter().map(|a| a.parse().unwrap()).collect();
    let what = format!("egress of the task to {wanted:?} alone");
    let wait = fixture.garden.wait_for(&what, |garden| {
        let rules = garden.spec("task-1")?.egress;
        let is: Vec<_> = rules.iter().map(|rule| rule.destinations[0].0).collect();
        (is == wanted).then_some(())
    });
    wait.await;
}

#[tokio::test]
async fn changed_egress_rules_reach_a_running_task() {
    let fixture = Fixture::new().await;
    let rep = fixture.rep().await;
    place(&fixture, &rep, definition()).await;
    fixture
        .garden
        .wait_for("the process action", |g| g.process("task-1", "action"))
        .await;
    reaches(&fixture, None).await;
    allow(&fixture, Some("1.1.1.1"));
    reaches(&fixture, Some("1.1.1.1")).await;
    allow(&fixture, None);
    reaches(&fixture, None).await;

    // Rules that cannot be read change nothing; the next readable ones apply.
    allow(&fixture, Some("2.2.2.2"));
    reaches(&fixture, Some("2.2.2.2")).await;
    allow(&fixture, Some("nowhere"));
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    reaches(&fixture, Some("2.2.2.2")).await;

    // A change that was made while no rep ran also arrives.
    rep.stop().await;
    allow(&fixture, Some("3.3.3.3"));
    let rep = fixture.rep().await;
    reaches(&fixture, Some("3.3.3.3")).await;
    assert_eq!(
        fixture.garden.processes("task-1")["action"],
        None,
        "the task was not restarted"
    );
    rep.stop().await;
}
