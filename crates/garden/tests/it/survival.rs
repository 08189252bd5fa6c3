//! Tests that containers outlive their garden, and that nothing outlives its container.

use crate::fixture::{Traces, finish, output, read_until, sh, spec, with_place};
use garden::api::{Garden, Limits, Output};
use std::collections::BTreeMap;
use testkit::wait::within;

#[tokio::test(flavor = "multi_thread")]
async fn containers_outlive_the_garden() {
    with_place("adopt", |place| async move {
        let garden = place.build().await;
        let mut wanted = spec("adopt");
        wanted.limits.disk = 64 << 20;
        let container = garden.create(wanted).await.unwrap();
        garden.set_properties(&container.handle, BTreeMap::from([("lrp".to_owned(), "7".to_owned())])).await.unwrap();
        let mut app = garden.run(&container.handle, sh("app", "echo up; while [ ! -e /tmp/go ]; do sleep 0.02; done; echo while away; exit 7")).await.unwrap();
        read_until(&mut app, "up").await;
        let mut noisy = garden.run(&container.handle, sh("noisy", "echo up; while [ ! -e /tmp/go ]; do sleep 0.02; done; seq 100000; echo last; sleep 1000")).await.unwrap();
        read_until(&mut noisy, "up").await;
        let second = std::panic::AssertUnwindSafe(place.clone());
        assert!(tokio::spawn(async move { second.build().await }).await.is_err(), "two gardens on one folder");
        for role in ["shim", "init"] {
            // The processes that stand by for a container must use hardly any memory.
            let pids = std::process::Command::new("pgrep").args(["-f", &format!("inside {role}")]).output().unwrap();
            for pid in String::from_utf8(pids.stdout).unwrap().lines() {
                let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
                let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).map(str::trim).unwrap_or("gone");
                println!("{role}: PSS {pss}");
            }
        }
        drop((garden, app, noisy));
        // This is like kill -9: nothing was shut down or closed in order.
        let root = std::fs::read_dir(place.run.join("root")).unwrap().next().unwrap().unwrap().file_name();
        assert_eq!(root, "root-test-adopt");

        let garden = place.build().await;
        let found = garden.containers().await.unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].container_ip, &found[0].net_in), (container.container_ip, &container.net_in));
        assert_eq!(found[0].properties["lrp"], "7");
        assert_eq!(found[0].processes.keys().collect::<Vec<_>>(), ["app", "noisy"]);
        output(&garden, &container, sh("go", "touch /tmp/go")).await;
        let garden = {
            wait_exit(&garden, &container.handle, "app").await;
            drop(garden);
            place.build().await
        };
        let app = garden.attach(&container.handle, "app").await.unwrap();
        let (exit, printed) = finish(app).await;
        assert_eq!((exit.status, printed.as_str()), (7, "while away"));
        let mut noisy = garden.attach(&container.handle, "noisy").await.unwrap();
        let printed = read_until(&mut noisy, "last").await;
        assert!(printed.len() <= 64 << 10 && printed.contains("99999\n100000\nlast"), "the newest 64 KiB, not {}", printed.len());

        // New containers get other addresses and ports than the container that was taken over.
        let other = garden.create(spec("other")).await.unwrap();
        assert_ne!(other.container_ip, container.container_ip);
        assert!(other.net_in.iter().all(|mapping| !container.net_in.contains(mapping)));

        // If a shim is killed, its container ends with it, and the next start removes the remains.
        let shim = std::process::Command::new("pgrep").args(["-f", "garden-tadopt/containers/root-test-other/setup.json"]).output().unwrap();
        let shim: i32 = String::from_utf8(shim.stdout).unwrap().lines().next().unwrap().parse().unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(shim), nix::sys::signal::Signal::SIGKILL).unwrap();
        drop((garden, noisy));
        let garden = place.build().await;
        let left: Vec<String> = garden.containers().await.unwrap().into_iter().map(|container| container.handle).collect();
        assert_eq!(left, ["root-test-adopt"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shim_without_a_record_is_found() {
    with_place("nobody", |place| async move {
        let garden = place.build().await;
        let container = garden.create(spec("nobody")).await.unwrap();
        drop(garden);
        // This is like kill -9 after the shim was started but before its number was recorded and before it listens.
        let folder = place.data.join("containers").join(&container.handle);
        let record = folder.join("container.json");
        let mut noted: serde_json::Value =
            serde_json::from_slice(garden::seal::open(&std::fs::read(&record).unwrap()).unwrap())
                .unwrap();
        noted["shim"] = 0.into();
        noted["created"] = false.into();
        std::fs::write(&record, noted.to_string()).unwrap();
        std::fs::remove_file(place.run.join(format!("{}.sock", container.handle))).unwrap();

        let garden = place.build().await;
        assert!(garden.containers().await.unwrap().is_empty());
        let shims = Traces::now();
        assert_eq!(shims.processes(), Vec::<String>::new());
        assert!(!folder.exists());
    })
    .await;
}

async fn wait_exit(garden: &garden::linux::LinuxGarden, handle: &str, id: &str) {
    let exit = async {
        loop {
            let all = garden.containers().await.unwrap();
            let container = all.iter().find(|c| c.handle == handle).unwrap();
            if container.processes[id].is_some() {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    within("the exit of the process", exit).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_rounds_leave_nothing() {
    with_place("rounds", |place| async move {
        let garden = place.build().await;
        let before = Traces::now();
        for round in 0..5 {
            let four = (0..4).map(|i| {
                let garden = garden.clone();
                async move {
                    let began = std::time::Instant::now();
                    let mut wanted = spec(&format!("round-{round}-{i}"));
                    wanted.limits = Limits {
                        memory: 128 << 20,
                        sidecar_memory: 0,
                        disk: 64 << 20,
                        cpu_shares: 10,
                        pids: 100,
                    };
                    let container = garden.create(wanted).await.unwrap();
                    let made = began.elapsed();
                    let mut process = garden
                        .run(
                            &container.handle,
                            sh("app", "echo up; sleep 1000 & sleep 1000"),
                        )
                        .await
                        .unwrap();
                    let running = began.elapsed();
                    let first = process.output.recv().await;
                    assert_eq!(first, Some(Output::Stdout("up\n".into())));
                    let stop = std::time::Instant::now();
                    garden.destroy(&container.handle).await.unwrap();
                    println!(
                        "made {made:?} running {running:?} destroyed {:?}",
                        stop.elapsed()
                    );
                }
            });
            futures::future::join_all(four).await;
        }
        before.are_back().await;
    })
    .await;
}

/// Damages every file that garden keeps about a container and about itself, in several ways: the cell must start, the other
/// container must keep running, and nothing of an abandoned container may remain.
#[tokio::test(flavor = "multi_thread")]
async fn damage_on_disk_costs_its_own_container_only() {
    with_place("damage", |place| async move {
        let garden = place.build().await;
        let whole = garden.create(spec("whole")).await.unwrap();
        let _app = garden
            .run(&whole.handle, sh("app", "sleep 1000"))
            .await
            .unwrap();
        drop(garden);
        let mut walked = 0;
        for name in [
            "container.json",
            "setup.json",
            "config.json",
            "../../policies.json",
            "../../next-port",
        ] {
            for damage in ["truncate -s 0", "truncate -s 40", "flip", "rm -f"] {
                let garden = place.build().await;
                let hurt = garden.create(spec("hurt")).await.unwrap();
                let policy = garden::api::Policy {
                    source: "front".into(),
                    source_tag: 1,
                    destination: "back".into(),
                    protocol: garden::api::PolicyProtocol::Tcp,
                    ports: (8080, 8080),
                };
                // The file is written only when the policies change.
                garden.set_policies(Vec::new()).await.unwrap();
                garden.set_policies(vec![policy]).await.unwrap();
                drop(garden);
                let file = place.data.join("containers").join(&hurt.handle).join(name);
                if !file.exists() {
                    panic!("{} is no file of garden's", file.display());
                }
                if damage == "flip" {
                    let mut bytes = std::fs::read(&file).unwrap();
                    let middle = bytes.len() / 2;
                    bytes[middle] ^= 1;
                    std::fs::write(&file, bytes).unwrap();
                } else {
                    let status = std::process::Command::new("sh")
                        .args(["-c", &format!("{damage} {}", file.display())])
                        .status();
                    assert!(status.unwrap().success());
                }
                let garden = place.build().await;
                let found = garden.containers().await.unwrap();
                let whole = found.iter().find(|found| found.handle == whole.handle);
                let whole = whole.unwrap_or_else(|| panic!("{name} {damage}: {found:?}"));
                assert_eq!(whole.processes["app"], None, "{name} {damage}");
                if found.iter().any(|found| found.handle == hurt.handle) {
                    assert_ne!(name, "container.json", "{damage}");
                    garden.destroy(&hurt.handle).await.unwrap();
                }
                let left = Traces::now();
                let of_hurt = |text: &&String| text.contains(&hurt.handle);
                assert_eq!(
                    left.processes().iter().find(of_hurt),
                    None,
                    "{name} {damage}"
                );
                walked += 1;
            }
        }
        assert_eq!(walked, 20);
    })
    .await;
}

/// Tests that a stack stays as long as a container uses it, and that the half-unpacked stack of a killed run is removed at once.
#[tokio::test(flavor = "multi_thread")]
async fn old_stacks_are_removed_when_nothing_uses_them() {
    with_place("stacks", |place| async move {
        drop(place.build().await);
        // The tests share their unpacked stack. This test has a folder of its own, with links to the same files.
        let shared = std::fs::canonicalize(place.data.join("stacks")).unwrap();
        std::fs::remove_file(place.data.join("stacks")).unwrap();
        let stacks = place.data.join("stacks");
        std::fs::create_dir(&stacks).unwrap();
        let current = std::fs::read_dir(&shared)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .find(|name| name.starts_with("cflinuxfs4-"))
            .unwrap();
        for copy in [current.as_str(), "cflinuxfs4-0ld"] {
            let status = std::process::Command::new("cp")
                .arg("-al")
                .arg(shared.join(&current))
                .arg(stacks.join(copy))
                .status();
            assert!(status.unwrap().success());
        }
        std::fs::create_dir_all(stacks.join("other.unpacking/bin")).unwrap();
        std::fs::create_dir_all(stacks.join("unused-1/bin")).unwrap();
        let left = || {
            let mut names: Vec<String> = std::fs::read_dir(&stacks)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };

        let garden = place.build().await;
        assert_eq!(left(), [current.as_str()], "nothing uses the others");
        let status = std::process::Command::new("cp")
            .arg("-al")
            .arg(shared.join(&current))
            .arg(stacks.join("cflinuxfs4-0ld"))
            .status();
        assert!(status.unwrap().success());
        let mut wanted = spec("old");
        wanted.rootfs = stacks.join("cflinuxfs4-0ld").to_str().unwrap().to_owned();
        let container = garden.create(wanted).await.unwrap();
        let _app = garden
            .run(&container.handle, sh("app", "sleep 1000"))
            .await
            .unwrap();
        drop(garden);
        let garden = place.build().await;
        assert_eq!(left().len(), 2, "a container uses the old one");
        let (exit, _) = output(&garden, &container, sh("look", "ls /bin/bash")).await;
        assert_eq!(exit.status, 0);
        garden.destroy(&container.handle).await.unwrap();
        drop(garden);
        drop(place.build().await);
        assert_eq!(left(), [current.as_str()]);
    })
    .await;
}
