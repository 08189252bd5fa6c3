//! Tests of a container's properties, permissions and limits.

use crate::fixture::{finish, output, read_until, sh, spec, with_place};
use garden::api::{BindMount, Garden, GardenError, Limits, Output, ProcessSpec, Signal};
use std::time::Instant;

#[tokio::test(flavor = "multi_thread")]
async fn a_container_runs_as_vcap_without_powers() {
    with_place("run", |place| async move {
        let garden = place.build().await;
        let began = Instant::now();
        let container = garden.create(spec("run")).await.unwrap();
        let made = began.elapsed();
        let first = garden.run(&container.handle, sh("first", "echo $HOME $USER $FROM_CONTAINER $MINE; pwd; hostname; cat /etc/resolv.conf")).await.unwrap();
        println!("create {made:?}, running after {:?}", began.elapsed());
        let (exit, printed) = finish(first).await;
        assert_eq!((exit.status, printed), (0, format!("/home/vcap vcap yes\n/home/vcap\nrun\nnameserver {}", garden.cell_ip())));

        let script = "id -u; id -g; grep -E 'CapEff|CapBnd|NoNewPrivs|Seccomp:' /proc/self/status; touch /home/vcap/mine && stat -c %u /home/vcap/mine; \
                      touch /usr/x 2>&1; unshare -U true 2>&1; mount -t tmpfs x /mnt 2>&1; cat /proc/1/comm; ls /proc | grep -c '^[0-9]'; ulimit -n; cat /proc/self/cgroup | head -1; cat /proc/self/uid_map";
        let (_, printed) = output(&garden, &container, sh("powers", script)).await;
        println!("{printed}");
        assert!(printed.starts_with("2000\n2000\n"), "{printed}");
        assert!(printed.contains("CapEff:\t0000000000000000") && printed.contains("CapBnd:\t0000000000000000"), "{printed}");
        assert!(printed.contains("NoNewPrivs:\t1") && printed.contains("Seccomp:\t2"), "{printed}");
        assert!(printed.contains("touch: cannot touch '/usr/x': Permission denied"), "{printed}");
        assert!(printed.contains("unshare: unshare failed: Operation not permitted"), "{printed}");
        assert!(!printed.contains("0          0 4294967295"), "no user namespace: {printed}");

        let (_, root) = output(&garden, &container, ProcessSpec { user: "root".to_owned(), ..sh("root", "id -u; touch /usr/x && stat -c %u /usr/x; mknod /tmp/d b 7 0 2>&1; ip link add d type dummy 2>&1; cat /etc/shadow | head -1 | cut -d: -f1; touch /proc/sys/kernel/hostname 2>&1; echo x > /proc/sysrq-trigger") }).await;
        println!("{root}");
        assert!(root.starts_with("0\n0\n") && root.contains("Operation not permitted") && root.contains("\nroot\n"), "{root}");

        let missing = garden.run(&container.handle, ProcessSpec { path: "/no/such".to_owned(), ..sh("missing", "") }).await;
        assert!(matches!(&missing, Err(GardenError::CannotExecute { path, .. }) if path == "/no/such"), "{missing:?}");
        let stranger = garden.run(&container.handle, ProcessSpec { user: "stranger".to_owned(), ..sh("stranger", "") }).await;
        assert!(stranger.unwrap_err().to_string().contains("stranger"));
        assert!(matches!(garden.create(spec("run")).await, Err(GardenError::ContainerExists(_))));
        let mut unknown = spec("unknown");
        unknown.rootfs = "preloaded:windows".to_owned();
        assert!(matches!(garden.create(unknown).await, Err(GardenError::UnknownRootfs(_))));

        let (place, handle) = (place.clone(), container.handle.clone());
        let command = ["/bin/sh", "-c", "test $FROM_CONTAINER$MINE = yesapp && id -u > /tmp/by-exec; exit 4"].map(str::to_owned);
        garden.run(&container.handle, ProcessSpec { env: vec![("MINE".to_owned(), "app".to_owned())], ..sh("app", "sleep 1000") }).await.unwrap();
        let status = tokio::task::spawn_blocking(move || garden::linux::exec_interactive(&place.data, &place.run, &handle, &command)).await.unwrap();
        assert_eq!(status.unwrap(), 4);
        assert_eq!(garden.read_file(&container.handle, "/tmp/by-exec", 9).await.unwrap(), b"2000\n");

        let mut server = garden.run(&container.handle, sh("server", "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done")).await.unwrap();
        read_until(&mut server, "up").await;
        garden.signal(&container.handle, "server", Signal::Term).await.unwrap();
        let (exit, printed) = finish(server).await;
        assert_eq!((exit.status, printed.as_str()), (3, "bye"));
        let mut stubborn = garden.run(&container.handle, sh("stubborn", "echo up; exec sleep 1000")).await.unwrap();
        read_until(&mut stubborn, "up").await;
        garden.signal(&container.handle, "stubborn", Signal::Kill).await.unwrap();
        assert_eq!(finish(stubborn).await.0.status, 137);
        let attached = garden.attach(&container.handle, "stubborn").await.unwrap();
        assert_eq!(finish(attached).await.0.status, 137, "an exit is reported again");
        let metrics = garden.metrics(&container.handle).await.unwrap();
        println!("{metrics:?}");
        assert!(metrics.cpu > 0 && metrics.memory > 0);
        garden.destroy(&container.handle).await.unwrap();
        garden.destroy(&container.handle).await.unwrap();
        assert!(matches!(garden.run(&container.handle, sh("x", "")).await, Err(GardenError::ContainerNotFound(_))));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold() {
    with_place("limits", |place| async move {
        let garden = place.build().await;
        let mut wanted = spec("limits");
        wanted.limits = Limits {
            memory: 64 << 20,
            sidecar_memory: 160 << 20,
            disk: 32 << 20,
            cpu_shares: 100,
            pids: 20,
        };
        let began = Instant::now();
        let container = garden.create(wanted).await.unwrap();
        println!("create with a disk limit {:?}", began.elapsed());

        let (exit, printed) = output(
            &garden,
            &container,
            sh(
                "disk",
                "head -c 64M /dev/zero > /home/vcap/big; df -h / | tail -1",
            ),
        )
        .await;
        println!("{printed}");
        assert!(
            printed.contains("No space left on device"),
            "{exit:?} {printed}"
        );
        let used = garden.metrics(&container.handle).await.unwrap();
        assert!(used.disk > 20 << 20 && used.disk <= 32 << 20, "{used:?}");
        let (_, printed) = output(
            &garden,
            &container,
            sh(
                "free",
                "rm /home/vcap/big; head -c 1M /dev/zero > /tmp/x && echo fits",
            ),
        )
        .await;
        assert_eq!(printed, "fits");

        let (_, printed) = output(
            &garden,
            &container,
            sh("pids", "for i in $(seq 40); do sleep 3 & done; wait"),
        )
        .await;
        assert!(
            printed.contains("Resource temporarily unavailable"),
            "{printed}"
        );

        let (exit, _) = output(&garden, &container, sh("calm", "exit 5")).await;
        assert!(exit.status == 5 && !exit.out_of_memory);
        let hog = "import sys\nx = []\nwhile True: x.append(bytearray(1 << 20))";
        let eater = ProcessSpec {
            path: "python3".to_owned(),
            args: vec!["-c".to_owned(), hog.to_owned()],
            ..sh("eater", "")
        };
        let (exit, _) = output(&garden, &container, eater).await;
        assert_eq!((exit.status, exit.out_of_memory), (137, true));
        let side = ProcessSpec {
            path: "python3".to_owned(),
            args: vec![
                "-c".to_owned(),
                "print(len(bytearray(100 << 20)))".to_owned(),
            ],
            sidecar: true,
            ..sh("side", "")
        };
        let (exit, printed) = output(&garden, &container, side).await;
        assert_eq!(
            (exit.status, printed.as_str()),
            (0, "104857600"),
            "a sidecar's memory is its own"
        );
        let hog = ProcessSpec {
            path: "python3".to_owned(),
            args: vec![
                "-c".to_owned(),
                "print(len(bytearray(300 << 20)))".to_owned(),
            ],
            sidecar: true,
            ..sh("side-hog", "")
        };
        let (exit, _) = output(&garden, &container, hog).await;
        assert_eq!(
            (exit.status, exit.out_of_memory),
            (137, true),
            "and has an end"
        );
        let used = garden.metrics(&container.handle).await.unwrap();
        assert_eq!(used.memory_limit, 64 << 20);
        assert!(used.memory < 64 << 20, "{used:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_copied_in_and_out() {
    with_place("files", |place| async move {
        let garden = place.build().await;
        let host = place.data.join("host");
        std::fs::create_dir_all(host.join("dir/sub")).unwrap();
        std::fs::write(host.join("dir/sub/file"), "content").unwrap();
        std::fs::write(host.join("single"), "bound").unwrap();
        let mut wanted = spec("files");
        wanted.bind_mounts = vec![
            BindMount { host: host.join("dir"), container: "/etc/cf-assets/some".to_owned(), read_only: true },
            BindMount { host: host.join("single"), container: "/var/run/one/file".to_owned(), read_only: false },
        ];
        let container = garden.create(wanted).await.unwrap();
        let (_, printed) = output(&garden, &container, sh("binds", "cat /etc/cf-assets/some/sub/file /var/run/one/file /run/one/file; touch /etc/cf-assets/some/x 2>&1; stat -c %u /etc/cf-assets")).await;
        println!("{printed}");
        assert!(printed.starts_with("contentboundbound") && printed.contains("Read-only file system") && printed.ends_with("\n0"), "{printed}");

        for (archive, flags) in [("plain.tar", "-cf"), ("zipped.tgz", "-czf")] {
            let tar = host.join(archive);
            let status = std::process::Command::new("tar").arg(flags).arg(&tar).arg("-C").arg(host.join("dir")).arg(".").status().unwrap();
            assert!(status.success());
            garden.stream_in(&container.handle, &format!("/opt/new/{archive}"), "vcap", tar).await.unwrap();
            let (_, printed) = output(&garden, &container, sh(archive, &format!("cat /opt/new/{archive}/sub/file; stat -c %U /opt/new /opt/new/{archive}/sub"))).await;
            assert_eq!(printed, "contentvcap\nvcap");
        }
        assert_eq!(garden.read_file(&container.handle, "/opt/new/plain.tar/sub/file", 4).await.unwrap(), b"cont");
        let out = host.join("out.tar");
        garden.stream_out(&container.handle, "/opt/new/plain.tar", "vcap", out.clone()).await.unwrap();
        let listing = std::process::Command::new("tar").arg("-tf").arg(&out).output().unwrap();
        assert!(String::from_utf8_lossy(&listing.stdout).contains("plain.tar/sub/file"));
        assert!(garden.stream_out(&container.handle, "/nothing", "vcap", out).await.unwrap_err().to_string().contains("/nothing"));

        // Links do not lead out of the container, and pipes do not block the read.
        output(&garden, &container, sh("evil", "ln -s /etc/hostname /tmp/a; ln -s ../../../../../../etc/shadow /tmp/b; mkfifo /tmp/c; ln -s /proc/1/root/etc/hostname /tmp/d")).await;
        assert_eq!(garden.read_file(&container.handle, "/tmp/a", 100).await.unwrap(), b"files\n");
        let own = garden.read_file(&container.handle, "/tmp/b", 1 << 20).await.unwrap();
        assert!(String::from_utf8_lossy(&own).contains("vcap:"), "the container's own");
        assert!(garden.read_file(&container.handle, "/tmp/c", 1).await.is_err());
        assert!(garden.read_file(&container.handle, "/tmp/d", 1).await.is_err());

        // All output arrives in order, even a large amount, and none is lost before somebody reads it.
        let mut much = garden.run(&container.handle, sh("much", "seq 200000")).await.unwrap();
        let mut printed = Vec::new();
        while let Some(Output::Stdout(chunk) | Output::Stderr(chunk)) = much.output.recv().await {
            printed.extend_from_slice(&chunk);
        }
        let expected: String = (1..=200_000).map(|n| format!("{n}\n")).collect();
        assert!(printed == expected.as_bytes(), "{} of {} bytes", printed.len(), expected.len());
        assert_eq!(much.exit.await.unwrap().status, 0);
    })
    .await;
}
