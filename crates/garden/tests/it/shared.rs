//! Tests of resources that containers share with each other and with the machine: one container must not use them up, and
//! firewall rules must be restored after a flush.

use crate::fixture::{all_addresses, finish, output, read_until, sh, spec, with_place};
use crate::network::{Outside, connect, fetch, serve};
use garden::api::{Container, Garden, Limits, ProcessSpec};
use garden::linux::{LinuxGarden, NetworkLimits, SharedLimits};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

fn python(id: &str, script: &str) -> ProcessSpec {
    ProcessSpec {
        path: "python3".to_owned(),
        args: vec!["-c".to_owned(), script.to_owned()],
        ..sh(id, "")
    }
}

/// Counts the entries of the connection-tracking table that the container began.
fn tracked(container: &Container) -> usize {
    let table = std::fs::read_to_string("/proc/net/nf_conntrack").unwrap();
    let source = format!("src={} ", container.container_ip);
    let first = |line: &&str| {
        line.split("src=")
            .nth(1)
            .is_some_and(|rest| format!("src={rest}").starts_with(&source))
    };
    table.lines().filter(first).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_container_does_not_use_up_the_kernels_tables() {
    with_place("shared", |mut place| async move {
        place.limits = SharedLimits {
            network: NetworkLimits {
                connections_out: 50,
                connections_in: 20,
                new_connections_per_second: 0,
                ..NetworkLimits::default()
            },
            inotify_instances: 16,
            inotify_watches: 100,
            pids: 40,
            shared_memory_mb: 8,
        };
        let machine = || std::fs::read_to_string("/proc/sys/fs/inotify/max_user_instances").unwrap();
        let garden = place.build().await;
        let before = machine();
        let outside = Outside::new();
        let mut wanted = spec("greedy");
        wanted.egress = vec![all_addresses()];
        let greedy = garden.create(wanted).await.unwrap();
        let modest = garden.create(spec("modest")).await.unwrap();

        let instances = "import ctypes\nl = ctypes.CDLL(None)\nn = 0\nwhile n < 5000 and l.inotify_init() >= 0: n += 1\nprint(n)";
        assert_eq!(output(&garden, &greedy, python("inotify", instances)).await.1, "16");
        let watches = "import ctypes, os\nl = ctypes.CDLL(None)\nf = l.inotify_init()\nn = 0\nfor i in range(500):\n  os.mkdir(f'/tmp/w{i}')\n  if l.inotify_add_watch(f, f'/tmp/w{i}'.encode(), 0xfff) < 0: break\n  n += 1\nprint(n)";
        assert_eq!(output(&garden, &modest, python("watches", watches)).await.1, "100");
        assert_eq!(machine(), before, "the machine's own limit stays");

        // The container opens connections to the outside, by a protocol that needs no answer.
        let flood = format!("import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\nfor p in range(20000, 23000):\n  try: s.sendto(b'x', ('{OUTSIDE}', p))\n  except OSError: pass\nprint('sent')");
        assert_eq!(output(&garden, &greedy, python("flood", &flood)).await.1, "sent");
        let entries = tracked(&greedy);
        assert!((25..=60).contains(&entries), "{entries} entries");
        assert!(garden.repair().await.unwrap().is_empty());
        let refused = garden.metrics(&greedy.handle).await.unwrap().refused_packets;
        assert!(refused > 1000, "{refused}");
        assert_eq!(garden.metrics(&modest.handle).await.unwrap().refused_packets, 0);

        // Routers and others open connections to the container.
        let _serving = serve(&garden, &modest, 61001).await;
        let port = modest.net_in[1].host_port;
        assert!(fetch((garden.cell_ip(), port)).starts_with("hello"));
        let hold = garden.run(&modest.handle, python("hold", "import socket, time\ns = socket.create_server(('0.0.0.0', 8080), backlog=500)\nprint('up', flush=True)\ntime.sleep(60)")).await;
        read_until(&mut hold.unwrap(), "up").await;
        let address = (garden.cell_ip(), modest.net_in[0].host_port).into();
        let held: Vec<TcpStream> = (0..40).filter_map(|_| TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()).collect();
        assert!((10..=22).contains(&held.len()), "{}", held.len());
        drop(held);

        // The parent counts the children that it could start; they wait until they are killed.
        let bomb = "import os, signal, time\nchildren = []\ntry:\n  while len(children) < 200:\n    child = os.fork()\n    if child == 0: time.sleep(30); os._exit(0)\n    children.append(child)\nexcept OSError: pass\nfor child in children: os.kill(child, signal.SIGKILL)\nprint(len(children))";
        let (_, printed) = output(&garden, &greedy, python("bomb", bomb)).await;
        assert!(printed.parse::<u32>().unwrap() < 40, "{printed}");
        drop(outside);
    })
    .await;
}

/// Tests that data in socket buffers that nobody reads is limited. It is in kernel memory that version 1 of the control groups
/// does not count as memory.
#[tokio::test(flavor = "multi_thread")]
async fn one_container_does_not_fill_the_kernels_socket_buffers() {
    with_place("buffers", |place| async move {
        let garden = place.build().await;
        let mut wanted = spec("buffers");
        wanted.limits = Limits {
            memory: 96 << 20,
            ..Limits::default()
        };
        let container = garden.create(wanted).await.unwrap();
        let fill = "import socket\n\
            held, total = [], 0\n\
            server = socket.create_server(('127.0.0.1', 0), backlog=500)\n\
            for i in range(200):\n  \
              c = socket.create_connection(server.getsockname(), timeout=5)\n  \
              held.append((c, server.accept()))\n  \
              c.setblocking(False)\n  \
              try:\n    \
                while True: total += c.send(b'x' * 65536)\n  \
              except BlockingIOError: pass\n\
            print(total >> 20)\n";
        let (exit, printed) = output(&garden, &container, python("fill", fill)).await;
        let queued = printed.parse::<u32>().unwrap_or(0);
        assert!(
            exit.out_of_memory || (1..250).contains(&queued),
            "{exit:?} {printed} MiB"
        );
    })
    .await;
}

/// Tests that resources that the kernel counts by user are counted by container: each container has its own ids on the machine.
#[tokio::test(flavor = "multi_thread")]
async fn one_container_does_not_use_up_what_users_may_have() {
    with_place("users", |place| async move {
        let garden = place.build().await;
        let greedy = garden.create(spec("greedy")).await.unwrap();
        let modest = garden.create(spec("modest")).await.unwrap();
        let mut ids = Vec::new();
        for container in [&greedy, &modest] {
            let script = "awk '$1 == 0 { print $2 }' /proc/self/uid_map";
            let (_, base) = output(&garden, container, sh("ids", script)).await;
            let (_, all) = output(&garden, container, sh("who", "id -un; stat -c %U / /etc/passwd /home/vcap; touch /home/vcap/x && echo written")).await;
            assert_eq!(all, "vcap\nroot\nroot\nvcap\nwritten", "{base}");
            ids.push(base);
        }
        assert_ne!(ids[0], ids[1]);

        // Descriptors in flight in sockets: one user may have no more than one process may open.
        let send = |count: u32| format!("import array, os, resource, socket\n\
            n, pairs = 0, []\n\
            fds = array.array('i', [os.open('/dev/null', os.O_RDONLY)] * 200)\n\
            try:\n  \
              while n < {count}:\n    \
                if n % 2000 == 0: pairs.append(socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM))\n    \
                pairs[-1][0].sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])\n    \
                n += 200\n\
            except OSError as e: print(e.errno)\n\
            print('sent', n, flush=True)\n");
        let hold = format!("{}import time\ntime.sleep(60)", send(1_000_000));
        let mut holding = garden.run(&greedy.handle, python("hold", &hold)).await.unwrap();
        let printed = read_until(&mut holding, "sent").await;
        assert!(printed.contains("109"), "ETOOMANYREFS: {printed}");
        let (_, printed) = output(&garden, &modest, python("send", &send(2000))).await;
        assert_eq!(printed, "sent 2000", "the other container has its own count");
        let (_, printed) = output(&garden, &greedy, python("more", &send(2000))).await;
        assert!(printed.contains("109"), "{printed}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_sees_its_own_limits_and_no_more_of_the_kernel() {
    with_place("view", |place| async move {
        let garden = place.build().await;
        let mut wanted = spec("view");
        wanted.limits = Limits {
            memory: 96 << 20,
            sidecar_memory: 32 << 20,
            ..Limits::default()
        };
        let container = garden.create(wanted).await.unwrap();
        let (_, printed) = output(&garden, &container, sh("limit", "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max")).await;
        assert_eq!(printed, (96u64 << 20).to_string());
        let root = ProcessSpec {
            user: "root".to_owned(),
            ..sh("write", "f=$(ls /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null | head -1); echo 999999999 > $f; mount -o remount,rw $(dirname $f) 2>&1; echo 0 > $(dirname $f)/cgroup.procs")
        };
        let (_, printed) = output(&garden, &container, root).await;
        assert_eq!(printed.matches("Read-only file system").count(), 2, "{printed}");
        // The test reads the files that the JVM reads: the mount points of the controllers, and the position of the process in
        // them.
        let (_, printed) = output(&garden, &container, sh("mounts", "grep -c ' - cgroup' /proc/self/mountinfo; grep ' - cgroup' /proc/self/mountinfo | awk '{print $4}' | sort -u; grep -E ':(memory|):' /proc/self/cgroup | cut -d: -f3 | sort -u")).await;
        let lines: Vec<&str> = printed.lines().collect();
        assert!(lines[0].parse::<u32>().unwrap() >= 1 && lines[1..].contains(&"/"), "{printed}");

        let (_, printed) = output(&garden, &container, sh("ulimits", "ulimit -c; ulimit -l; ulimit -q; df -m /dev/shm | tail -1 | awk '{print $2}'; dmesg 2>&1 | tail -1; touch /dev/x 2>&1")).await;
        let lines: Vec<&str> = printed.lines().collect();
        assert!(["0", "1"].contains(&lines[0]), "no core dumps: {printed}");
        assert_eq!(lines[1..4], ["64", "204800", "64"], "{printed}");
        assert!(lines[4].contains("not permitted") && lines[5].contains("Permission denied"), "{printed}");

        // Shared memory counts as the app's memory.
        let (exit, printed) = output(&garden, &container, python("shm", "import os\nx = bytearray(40 << 20)\nf = open('/dev/shm/a', 'wb')\nfor i in range(63): f.write(bytes(1 << 20)); f.flush()\nprint('fits')")).await;
        assert!(exit.out_of_memory, "{exit:?} {printed}");

        // 32-bit programs cannot reach other socket families by the old call, whose arguments a filter cannot inspect.
        let socketcall = "import ctypes, mmap, struct\n\
            libc = ctypes.CDLL(None, use_errno=True)\n\
            libc.mmap.restype = ctypes.c_void_p\n\
            libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]\n\
            p = libc.mmap(None, 4096, 7, 0x62, -1, 0)\n\
            args = p + 512\n\
            ctypes.memmove(args, struct.pack('<III', 40, 1, 0), 12)\n\
            code = b'\\x53\\xb8' + struct.pack('<I', 102) + b'\\xbb' + struct.pack('<I', 1) + b'\\xb9' + struct.pack('<I', args) + b'\\xcd\\x80\\x5b\\xc3'\n\
            ctypes.memmove(p, code, len(code))\n\
            f = ctypes.CFUNCTYPE(ctypes.c_int)(p)\n\
            print(f())";
        if cfg!(target_arch = "x86_64") {
            let (_, printed) = output(&garden, &container, python("socketcall", socketcall)).await;
            assert_eq!(printed, "-38", "ENOSYS");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_egress_holds_for_connections_that_exist() {
    with_place("asg", |place| async move {
        let garden = place.build().await;
        let outside = Outside::new();
        let container = garden.create(spec("asg")).await.unwrap();
        let (_, printed) = output(&garden, &container, connect("before", OUTSIDE, 7001)).await;
        assert_eq!(printed, "ConnectionRefusedError");
        garden.set_egress(&container.handle, vec![all_addresses()]).await.unwrap();
        let (_, printed) = output(&garden, &container, connect("allowed", OUTSIDE, 7001)).await;
        assert_eq!(printed, "got b'198.51.100.1'");

        let follow = format!("import socket\ns = socket.create_connection(('{OUTSIDE}', 7004), 20)\ns.settimeout(30)\nprint('up', flush=True)\ntry:\n  while True:\n    if not s.recv(10): print('closed'); break\n    s.send(b'y')\nexcept Exception as e: print(type(e).__name__)");
        let mut following = garden.run(&container.handle, python("follow", &follow)).await.unwrap();
        read_until(&mut following, "up").await;
        let _serving = serve(&garden, &container, 8080).await;
        garden.set_egress(&container.handle, Vec::new()).await.unwrap();
        let (_, printed) = finish(following).await;
        assert_eq!(printed, "ConnectionResetError", "a connection that is forbidden now ends");
        let (_, printed) = output(&garden, &container, connect("revoked", OUTSIDE, 7001)).await;
        assert_eq!(printed, "ConnectionRefusedError");
        assert!(fetch((garden.cell_ip(), container.net_in[0].host_port)).starts_with("hello"), "answers still go out");
        assert!(garden.repair().await.unwrap().is_empty(), "the change is what is wanted now");

        // The next garden also knows the rule.
        drop(garden);
        let garden = place.build().await;
        assert!(garden.repair().await.unwrap().is_empty());
        let (_, printed) = output(&garden, &container, connect("still", OUTSIDE, 7001)).await;
        assert_eq!(printed, "ConnectionRefusedError");
        drop(outside);
    })
    .await;
}

fn shell(script: &str) {
    let output = std::process::Command::new("sh")
        .args(["-c", script])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{script}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

async fn works(garden: &LinuxGarden, container: &Container, what: &str) {
    let printed = fetch((garden.cell_ip(), container.net_in[0].host_port));
    assert!(printed.starts_with("hello"), "{what}: {printed}");
    for (n, (port, answer)) in [
        (7001, "got b'198.51.100.1'"),
        (7002, "ConnectionRefusedError"),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("{}-{n}", what.replace(' ', "_"));
        let (_, printed) = output(garden, container, connect(&id, OUTSIDE, port)).await;
        assert_eq!(printed, answer, "{what}, port {port}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_change_to_the_rules_is_repaired() {
    with_place("flush", |place| async move {
        let garden = place.build().await;
        let outside = Outside::new();
        let mut wanted = spec("flush");
        let mut rule = all_addresses();
        rule.protocol = garden::api::Protocol::Tcp;
        rule.ports = vec![(7001, 7001)];
        wanted.egress = vec![rule];
        let container = garden.create(wanted).await.unwrap();
        let other = garden.create(spec("flush-other")).await.unwrap();
        let _serving = serve(&garden, &container, 8080).await;
        assert!(garden.repair().await.unwrap().is_empty());
        works(&garden, &container, "untouched").await;

        let (name, tag) = (&container.handle, &place.tag);
        let veth = std::fs::read_dir("/sys/class/net")
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .find(|link| {
                link.starts_with(&format!("cv{tag}-"))
                    && shell_output(&format!(
                        "iptables -S FORWARD | grep -c -- '-i {link} -j netout--{name}$' || true"
                    )) == "1"
            })
            .unwrap();
        for damage in [
            "iptables -F; iptables -t nat -F".to_owned(),
            "iptables -F; iptables -t nat -F; iptables -X; iptables -t nat -X".to_owned(),
            format!("iptables -D FORWARD -i {veth} -j netout--{name}"),
            format!("iptables -D INPUT -i {veth} -j input--{name}"),
            format!(
                "iptables -D OUTPUT -d {}/32 -j limits--{name}",
                container.container_ip
            ),
            format!("iptables -t nat -D netin--{name} 1"),
            format!("iptables -t nat -D OUTPUT -j netin--{name}"),
            format!("iptables -t nat -D POSTROUTING -j masq--{tag}"),
            format!("iptables -F overlay--{tag}"),
            format!("iptables -R netout--{name} 2 -j ACCEPT"),
            format!("iptables -F netout--{name}"),
            "iptables -I FORWARD 1 -j ACCEPT; iptables -I INPUT 1 -j ACCEPT".to_owned(),
            format!("ip link del {veth}"),
            format!("ip link set {veth} down"),
            format!("ip addr flush dev {veth}"),
            format!("ip route del {}/32 dev {veth}", container.container_ip),
            format!("ip link del cupola-{tag}"),
            format!("ip link set cupola-{tag} down"),
            format!("ip addr flush dev cupola-{tag}"),
            "echo 0 > /proc/sys/net/ipv4/ip_forward".to_owned(),
        ] {
            shell(&damage);
            let repaired = garden.repair().await.unwrap();
            assert!(
                !repaired.is_empty() || damage.starts_with("echo") || damage.contains("cupola-"),
                "{damage}"
            );
            let bridge = shell_output(&format!("ip -o -4 addr show dev cupola-{tag} up"));
            assert!(
                bridge.contains(&garden.cell_ip().to_string()),
                "{damage}: {bridge}"
            );
            works(&garden, &container, &damage).await;
            assert!(
                garden.repair().await.unwrap().is_empty(),
                "once is enough: {damage}"
            );
        }
        shell("iptables -D FORWARD -j ACCEPT; iptables -D INPUT -j ACCEPT");

        // Containers are created and destroyed while somebody flushes the rules repeatedly.
        let flusher = std::process::Command::new("sh")
            .args([
                "-c",
                "while :; do iptables -w -F; iptables -w -t nat -F; sleep 0.05; done",
            ])
            .spawn()
            .unwrap();
        let flusher = Flusher(flusher);
        for n in 0..4 {
            let made = garden.create(spec(&format!("flush-{n}"))).await.unwrap();
            let _ = garden.repair().await;
            garden.destroy(&made.handle).await.unwrap();
        }
        drop(flusher);
        garden.repair().await.unwrap();
        assert!(garden.repair().await.unwrap().is_empty());
        works(&garden, &container, "after many flushes").await;
        garden.destroy(&other.handle).await.unwrap();
        assert!(
            garden.repair().await.unwrap().is_empty(),
            "what is gone is not brought back"
        );
        drop(outside);
    })
    .await;
}

fn shell_output(script: &str) -> String {
    let output = std::process::Command::new("sh")
        .args(["-c", script])
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

struct Flusher(std::process::Child);

impl Drop for Flusher {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
