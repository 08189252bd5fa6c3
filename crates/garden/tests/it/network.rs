//! Tests of mapped ports, egress, and addresses that containers must not reach.

use crate::fixture::{
    BOUND_PORT, OPEN_PORT, ROUTER_PORT, all_addresses, output, read_until, sh, spec, with_place,
};
use garden::api::{
    Container, EgressRule, Garden, POLICY_GROUP, Policy, PolicyProtocol, Process, Protocol,
};
use garden::linux::LinuxGarden;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

pub(crate) async fn serve(garden: &LinuxGarden, container: &Container, port: u16) -> Process {
    let script = format!(
        "import socket\ns = socket.create_server(('0.0.0.0', {port}))\nprint('up', flush=True)\nwhile True:\n  c, a = s.accept()\n  c.sendall(b'hello from {} to ' + a[0].encode())\n  c.close()",
        container.handle
    );
    let process = garden::api::ProcessSpec {
        path: "python3".to_owned(),
        args: vec!["-c".to_owned(), script],
        ..sh(&format!("serve{port}"), "")
    };
    let mut process = garden.run(&container.handle, process).await.unwrap();
    read_until(&mut process, "up").await;
    process
}

pub(crate) fn fetch(address: impl Into<SocketAddr>) -> String {
    let mut stream = TcpStream::connect_timeout(&address.into(), Duration::from_secs(20)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut printed = String::new();
    stream.read_to_string(&mut printed).unwrap();
    printed
}

fn iptables(args: &[&str]) -> String {
    String::from_utf8(
        std::process::Command::new("iptables")
            .args(args)
            .output()
            .unwrap()
            .stdout,
    )
    .unwrap()
}

/// Returns a process that connects from inside and prints the result.
pub(crate) fn connect(id: &str, address: Ipv4Addr, port: u16) -> garden::api::ProcessSpec {
    let script = format!(
        "import socket\ntry:\n  s = socket.create_connection(('{address}', {port}), 20)\n  print('got', s.recv(100))\nexcept Exception as e: print(type(e).__name__)"
    );
    garden::api::ProcessSpec {
        path: "python3".to_owned(),
        args: vec!["-c".to_owned(), script],
        ..sh(id, "")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_are_mapped_and_apps_kept_apart() {
    with_place("net", |place| async move {
        let garden = place.build().await;
        let cell = garden.cell_ip();
        let mut free = spec("free");
        free.egress = vec![all_addresses()];
        let (a, b) = (garden.create(spec("closed")).await.unwrap(), garden.create(free).await.unwrap());
        let _serving = (serve(&garden, &a, 8080).await, serve(&garden, &b, 8080).await);

        // The host reaches the app through the cell's address, by rules in the form that operators know.
        let port = a.net_in[0].host_port;
        assert!(fetch((cell, port)).starts_with("hello from root-test-closed to"));
        assert!(fetch((cell, b.net_in[0].host_port)).starts_with("hello from root-test-free"));
        let nat = iptables(&["-S", "-t", "nat"]);
        for wanted in [
            "-A PREROUTING -j netin--root-test-closed".to_owned(),
            "-A OUTPUT -j netin--root-test-closed".to_owned(),
            format!("-A netin--root-test-closed -d {cell}/32 -p tcp -m tcp --dport {port} -j DNAT --to-destination {}:8080", a.container_ip),
        ] {
            assert!(nat.lines().any(|line| line == wanted), "{wanted} not in\n{nat}");
        }
        assert!(TcpListener::bind((cell, port)).is_ok(), "nobody listens on a mapped port");

        // The host is closed to containers, except for the router and the name server.
        let router = TcpListener::bind((cell, ROUTER_PORT)).unwrap();
        let other = TcpListener::bind((cell, 0)).unwrap();
        let other_port = other.local_addr().unwrap().port();
        std::thread::spawn(move || router.incoming().flatten().for_each(|mut client| drop(client.write_all(b"router"))));
        std::thread::spawn(move || other.incoming().flatten().for_each(|mut client| drop(client.write_all(b"secret"))));
        let own = nix::ifaddrs::getifaddrs().unwrap().find_map(|entry| {
            (entry.interface_name == "eth0").then(|| entry.address?.as_sockaddr_in().map(|address| address.ip())).flatten()
        });
        for container in [&a, &b] {
            let (_, printed) = output(&garden, container, connect("router", cell, ROUTER_PORT)).await;
            assert_eq!(printed, "got b'router'", "{}", container.handle);
            for (id, address, port) in [
                ("host", cell, other_port),
                ("gateway", Ipv4Addr::new(169, 254, 0, 1), other_port),
                ("own", own.unwrap_or(cell), other_port),
                ("direct", if container.handle == a.handle { b.container_ip } else { a.container_ip }, 8080),
                ("mapped", cell, if container.handle == a.handle { b.net_in[0].host_port } else { port }),
            ] {
                let (_, printed) = output(&garden, container, connect(id, address, port)).await;
                assert_eq!(printed, "ConnectionRefusedError", "{id} from {}", container.handle);
            }
        }
        let unused = Ipv4Addr::from(u32::from(cell) + 200);
        let (_, printed) = output(&garden, &b, connect("unused", unused, 80)).await;
        assert!(!printed.starts_with("got"), "{printed}");
        let (_, printed) = output(&garden, &a, sh("six", "cat /proc/net/if_inet6 | grep -v ' lo' | wc -l; cat /sys/class/net/eth0/mtu")).await;
        println!("{printed}");
        assert!(printed.starts_with('0'));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn host_services_are_open_to_all_or_to_those_with_a_rule() {
    with_place("hosts", |place| async move {
        let garden = place.build().await;
        let cell = garden.cell_ip();
        let mut wide = spec("wide");
        wide.egress = vec![all_addresses()];
        let container = garden.create(wide).await.unwrap();
        for port in [OPEN_PORT, BOUND_PORT] {
            let service = TcpListener::bind((cell, port)).unwrap();
            std::thread::spawn(move || {
                let clients = service.incoming().flatten();
                // The connections stay open until the test ends.
                let open: Vec<TcpStream> = clients
                    .map(|mut client| {
                        client.write_all(b"host").unwrap();
                        client
                    })
                    .collect();
                drop(open);
            });
        }
        let exact = EgressRule {
            protocol: Protocol::Tcp,
            destinations: vec![(cell, cell)],
            ports: vec![(BOUND_PORT, BOUND_PORT)],
            icmp: None,
            log: false,
        };
        for (id, port, rules, wanted) in [
            ("open", OPEN_PORT, vec![], "got b'host'"),
            ("wide", BOUND_PORT, vec![all_addresses()], "ConnectionRefusedError"),
            ("bound", BOUND_PORT, vec![exact.clone()], "got b'host'"),
            ("near", BOUND_PORT + 1, vec![exact.clone()], "ConnectionRefusedError"),
        ] {
            garden.set_egress(&container.handle, rules).await.unwrap();
            let (_, printed) = output(&garden, &container, connect(id, cell, port)).await;
            assert_eq!(printed, wanted, "{id}");
        }

        // A connection ends when its rule is removed.
        garden.set_egress(&container.handle, vec![exact]).await.unwrap();
        let script = format!(
            "import socket, time\ns = socket.create_connection(('{cell}', {BOUND_PORT}), 20)\nprint('up', flush=True)\ntry:\n  while True: s.sendall(b'x'); time.sleep(0.05)\nexcept Exception as e: print(type(e).__name__, flush=True)"
        );
        let spec = garden::api::ProcessSpec {
            path: "python3".to_owned(),
            args: vec!["-c".to_owned(), script],
            ..sh("long", "")
        };
        let mut process = garden.run(&container.handle, spec).await.unwrap();
        read_until(&mut process, "up").await;
        garden.set_egress(&container.handle, vec![]).await.unwrap();
        read_until(&mut process, "ConnectionResetError").await;
        assert!(garden.repair().await.unwrap().is_empty(), "the rules are as they were made");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_open_one_port_in_one_direction() {
    with_place("policy", |place| async move {
        let garden = place.build().await;
        let in_group = |name: &str, group: &str| {
            let mut spec = spec(name);
            spec.properties
                .insert(POLICY_GROUP.to_owned(), group.to_owned());
            spec
        };
        let front = garden.create(in_group("front", "front")).await.unwrap();
        let back = garden.create(in_group("back", "back")).await.unwrap();
        let _serving = (
            serve(&garden, &back, 8080).await,
            serve(&garden, &back, 9090).await,
            serve(&garden, &front, 8080).await,
        );
        let mut count = 0;
        let mut reach = async |from: &Container, to: &Container, port: u16| {
            count += 1;
            let attempt = connect(&format!("try{count}"), to.container_ip, port);
            let (_, printed) = output(&garden, from, attempt).await;
            printed.contains("hello from")
        };
        assert!(!reach(&front, &back, 8080).await, "closed without a policy");
        let policy = Policy {
            source: "front".into(),
            source_tag: 7,
            destination: "back".into(),
            protocol: PolicyProtocol::Tcp,
            ports: (8080, 8081),
        };
        garden.set_policies(vec![policy.clone()]).await.unwrap();
        assert!(reach(&front, &back, 8080).await, "{}", iptables(&["-S"]));
        assert!(!reach(&front, &back, 9090).await, "another port");
        assert!(!reach(&back, &front, 8080).await, "the other direction");
        // The policies hold for a container that starts later, and not for one that gets the address of one that ended.
        let late = garden.create(in_group("late", "back")).await.unwrap();
        let _late = serve(&garden, &late, 8080).await;
        assert!(reach(&front, &late, 8080).await);
        garden.destroy(&late.handle).await.unwrap();
        let stranger = garden
            .create(in_group("stranger", "strangers"))
            .await
            .unwrap();
        let _stranger = serve(&garden, &stranger, 8080).await;
        assert!(!reach(&front, &stranger, 8080).await);
        assert!(!reach(&stranger, &back, 8080).await);
        // A restart keeps the policies; removing a policy closes the port.
        drop(garden);
        let garden = place.build().await;
        let rules = iptables(&["-S"]);
        assert!(
            rules.contains(&format!(
                "-d {}/32 -p tcp -m tcp --dport 8080:8081 -m mark --mark 0x7 -j ACCEPT",
                back.container_ip
            )),
            "{rules}"
        );
        garden.set_policies(Vec::new()).await.unwrap();
        assert!(!iptables(&["-S"]).contains("--mark 0x7"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn egress_follows_the_rules() {
    with_place("egress", |place| async move {
        let garden = place.build().await;
        // The outside machine is another network namespace behind a link of its own, in a range reserved for documentation.
        let outside = Outside::new();
        let mut wanted = spec("egress");
        let to = |last: u8| Ipv4Addr::new(198, 51, 100, last);
        let rule = |protocol, destination: (u8, u8), ports| EgressRule {
            protocol,
            destinations: vec![(to(destination.0), to(destination.1))],
            ports,
            icmp: None,
            log: false,
        };
        wanted.egress = vec![rule(
            Protocol::Tcp,
            (2, 2),
            vec![(7001, 7001), (7003, 7004)],
        )];
        let container = garden.create(wanted).await.unwrap();
        for (port, allowed) in [(7001, true), (7002, false), (7003, true)] {
            let (_, printed) = output(
                &garden,
                &container,
                connect(&format!("p{port}"), to(2), port),
            )
            .await;
            // The outside machine reports who connected: the host, not the container.
            assert_eq!(
                printed,
                if allowed {
                    "got b'198.51.100.1'"
                } else {
                    "ConnectionRefusedError"
                },
                "{port}"
            );
        }
        let (_, printed) = output(&garden, &container, connect("other", to(3), 7001)).await;
        assert_eq!(printed, "ConnectionRefusedError");
        let mut wanted = spec("icmp");
        wanted.egress = vec![
            EgressRule {
                icmp: Some((8, -1)),
                ..rule(Protocol::Icmp, (0, 255), vec![])
            },
            rule(Protocol::Udp, (2, 2), vec![]),
        ];
        let created = garden.create(wanted).await.unwrap();
        let (_, printed) = output(&garden, &created, connect("tcp", to(2), 7001)).await;
        assert_eq!(printed, "ConnectionRefusedError");
        drop(outside);
    })
    .await;
}

pub(crate) struct Outside {
    server: std::process::Child,
}

const SERVER: &str = "import socket, threading\ndef serve(s):\n  while True:\n    c, a = s.accept(); c.sendall(a[0].encode()); c.close()\n\
                      for p in (7001, 7002, 7003): threading.Thread(target=serve, args=(socket.create_server(('0.0.0.0', p)),)).start()\n\
                      def tick(c):\n  import time\n  try:\n    while True: c.sendall(b'x'); time.sleep(0.05)\n  except OSError: pass\n\
                      def ticks(s):\n  while True: c, a = s.accept(); threading.Thread(target=tick, args=(c,)).start()\n\
                      threading.Thread(target=ticks, args=(socket.create_server(('0.0.0.0', 7004)),)).start()\nprint('up', flush=True)";

impl Outside {
    pub(crate) fn new() -> Self {
        let script = format!(
            "ip link set lo up; read x; ip addr add 198.51.100.2/24 dev gtout1; ip link set gtout1 up; exec python3 -c \"{SERVER}\""
        );
        let mut server = std::process::Command::new("unshare")
            .args(["-n", "sh", "-c", &script])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let host = std::fs::read_link("/proc/self/ns/net").unwrap();
        let theirs = format!("/proc/{}/ns/net", server.id());
        while std::fs::read_link(&theirs).unwrap() == host {
            std::thread::yield_now();
        }
        let setup = format!(
            "ip link add gtout0 type veth peer name gtout1 netns {} && ip addr add 198.51.100.1/24 dev gtout0 && ip link set gtout0 up",
            server.id()
        );
        assert!(
            std::process::Command::new("sh")
                .args(["-c", &setup])
                .status()
                .unwrap()
                .success()
        );
        server.stdin.take().unwrap().write_all(b"go\n").unwrap();
        let mut up = [0; 3];
        server.stdout.take().unwrap().read_exact(&mut up).unwrap();
        Self { server }
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = std::process::Command::new("ip")
            .args(["link", "del", "gtout0"])
            .output();
    }
}
