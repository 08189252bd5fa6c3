//! Tests of the bus with real servers: three of them form a cluster, and a message crosses it.

use super::*;
use crate::config::{self, Overrides};
use futures::StreamExt as _;

struct Member {
    bus: MessageBus,
    plan: Plan,
    data: tempfile::TempDir,
}

/// Builds the member `own` of a cluster whose client and cluster ports are given.
async fn member(own: usize, ports: &[(u16, u16)], identity: Option<&Identity>) -> Result<Member> {
    let data = tempfile::tempdir()?;
    let peers = ports.iter().enumerate().filter(|(at, _)| *at != own);
    let peers: Vec<String> = peers
        .map(|(_, (_, cluster))| format!("127.0.0.1:{cluster}"))
        .collect();
    let (client, cluster) = ports[own];
    let file = data.path().join("cupola.yml");
    let text = format!(
        "cell: {{ip: 10.255.3.1}}\nnats: {{listen: '127.0.0.1:{client}', cluster: {{listen: '127.0.0.1:{cluster}', peers: {peers:?}}}}}\n"
    );
    std::fs::write(&file, text)?;
    let config = config::load(Overrides {
        file: Some(file),
        data: Some(data.path().to_owned()),
        ..Overrides::default()
    })?;
    let mut plan = Plan::open(&config, None)?;
    plan.nats_password = "one-for-all".to_owned();
    let program = crate::assets::nats_server()?;
    let bus = MessageBus::build(&plan, &config, program, identity).await?;
    Ok(Member { bus, plan, data })
}

#[tokio::test]
async fn three_servers_are_one_bus() {
    cross_the_cluster(None).await;
}

#[tokio::test]
async fn servers_with_an_identity_demand_certificates() {
    kit::tls::install_crypto();
    let folder = tempfile::tempdir().unwrap();
    let certificates = crate::certs::Certificates::open(folder.path()).unwrap();
    let identity = certificates.component("nats", &["127.0.0.1".to_owned()]);
    cross_the_cluster(Some(identity.unwrap())).await;
}

/// Sends a message from a client of the first server of a cluster to a client of the third.
async fn cross_the_cluster(identity: Option<Identity>) {
    let port = || kit::net::free_port().unwrap();
    let ports: Vec<(u16, u16)> = (0..3).map(|_| (port(), port())).collect();
    let shutdown = CancellationToken::new();
    let (mut plans, mut running, mut folders) = (Vec::new(), Vec::new(), Vec::new());
    for own in 0..3 {
        let member = member(own, &ports, identity.as_ref()).await.unwrap();
        running.push(tokio::spawn(member.bus.run(shutdown.clone())));
        plans.push(member.plan);
        folders.push(member.data);
    }
    let mut clients = Vec::new();
    for plan in &plans {
        let config = clients::nats::Config {
            tls: identity.clone(),
            ..plan.nats()
        };
        let client = clients::nats::connect(&config, "test", |_| async {});
        clients.push(client.await.unwrap());
    }
    let mut received = clients[2].subscribe("cluster.test").await.unwrap();
    // A message that was sent before the servers know each other's subscriptions is lost, so it is sent until it arrives.
    let arrived = async {
        loop {
            clients[0]
                .publish("cluster.test", "crossed".into())
                .await
                .unwrap();
            let next = tokio::time::timeout(Duration::from_millis(100), received.next());
            if let Ok(Some(message)) = next.await {
                return message;
            }
        }
    };
    let message = tokio::time::timeout(Duration::from_secs(30), arrived);
    assert_eq!(&message.await.unwrap().payload[..], b"crossed");
    if identity.is_some() {
        let plain = tokio::net::TcpStream::connect(("127.0.0.1", ports[0].0));
        let mut hello = tokio::io::BufReader::new(plain.await.unwrap());
        let mut line = String::new();
        let read = tokio::io::AsyncBufReadExt::read_line(&mut hello, &mut line);
        read.await.unwrap();
        assert!(line.contains("\"tls_required\":true"), "{line}");
        assert!(line.contains("\"tls_verify\":true"), "{line}");
    }
    shutdown.cancel();
    for bus in running {
        bus.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_taken_cluster_port_is_named_with_its_key() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let ports = [
        (
            kit::net::free_port().unwrap(),
            taken.local_addr().unwrap().port(),
        ),
        (1, 1),
    ];
    let error = member(0, &ports, None).await.err().unwrap();
    assert!(error.to_string().contains("nats.cluster.listen"), "{error}");
}

#[tokio::test]
async fn a_server_whose_cupola_was_killed_at_once_is_ended() {
    let port = || kit::net::free_port().unwrap();
    let ports = [(port(), port()), (1, 1)];
    let first = member(0, &ports, None).await.unwrap();
    let config = first.bus.config.clone();
    // The process id of this server is recorded nowhere.
    drop(first.bus.port);
    let mut left = std::process::Command::new(&first.bus.program);
    let mut left = left.arg("-c").arg(&config).spawn().unwrap();
    let address = first.bus.address;
    while TcpStream::connect(address).await.is_err() {
        assert_eq!(left.try_wait().unwrap(), None, "the server ended");
        tokio::time::sleep(ACCEPT_INTERVAL).await;
    }
    let loaded = config::load(Overrides {
        file: Some(first.data.path().join("cupola.yml")),
        data: Some(first.data.path().to_owned()),
        ..Overrides::default()
    });
    let program = crate::assets::nats_server().unwrap();
    let second = MessageBus::build(&first.plan, &loaded.unwrap(), program, None).await;
    assert_eq!(second.unwrap().address, address);
    let ended = left.wait().unwrap();
    assert!(!ended.success(), "{ended}");
}
