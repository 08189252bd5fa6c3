//! `cargo bench -p router --bench table`: the cost of the routing table. It runs one router in this process, a real nats-server,
//! and this program once more as the emitter, so that this process' CPU time is the router's alone.

use anyhow::{Context as _, Result, ensure};
use clients::loggregator::Emitter;
use kit::CancellationToken;
use router::{Config, Handle, Router, Settings, Status};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use testkit::nats::NatsServer;
use testkit::net::free_port;
use tokio::net::TcpListener;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["emit", port, ref rest @ ..] => emit(port.parse()?, rest),
        ["measure", what, routes] => tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?
            .block_on(measure(what, routes.parse()?)),
        // Each case has a process of its own, so that the memory of one does not count for another.
        _ => {
            for (what, routes) in [
                ("full", 1),
                ("one-tag", 100_000),
                ("full", 100_000),
                ("full", 400_000),
            ] {
                let own = std::env::current_exe()?;
                let status = Command::new(own)
                    .args(["measure", what, &routes.to_string()])
                    .status()?;
                ensure!(status.success(), "{what} with {routes} routes failed");
            }
            Ok(())
        }
    }
}

/// Returns a registration of route `n`; `full`: as a Cloud Controller tags it.
fn message(what: &str, n: usize) -> String {
    let guid = |kind: &str, n: usize| format!("{kind}{n:07}-1111-2222-3333-444444444444");
    let (app, instance) = (guid("a", n), guid("b", n));
    let (org, space) = (guid("c", n / 100), guid("d", n / 10));
    let tags = if what == "full" {
        format!(
            r#"{{"app_id":"{app}","app_name":"app-{n}","component":"route-emitter","instance_id":"0","organization_id":"{org}","organization_name":"org-{}","process_id":"{app}","process_instance_id":"{instance}","process_type":"web","source_id":"{app}","space_id":"{space}","space_name":"space-{}"}}"#,
            n / 100,
            n / 10
        )
    } else {
        r#"{"component":"route-emitter"}"#.into()
    };
    format!(
        r#"{{"host":"10.0.{}.{}","port":{},"tls_port":{},"uris":["app-{n}.apps.example.com"],"app":"{app}","private_instance_id":"{instance}","private_instance_index":"0","server_cert_domain_san":"{instance}","tags":{tags},"availability_zone":"z1"}}"#,
        n / 250 % 250,
        n % 250,
        61_000 + n % 1000,
        62_000 + n % 1000,
    )
}

/// Emits `what routes per-second rounds`: every route's registration in each round, evenly spread in time.
fn emit(port: u16, args: &[&str]) -> Result<()> {
    let [what, routes, per_second, rounds] = args else {
        anyhow::bail!("emit needs what, routes, per-second, rounds");
    };
    let (routes, per_second): (usize, usize) = (routes.parse()?, per_second.parse()?);
    let (mut bus, mut answers) = connect(port)?;
    let messages: Vec<String> = (0..routes)
        .map(|n| {
            let body = message(what, n);
            format!("PUB router.register {}\r\n{body}\r\n", body.len())
        })
        .collect();
    let (started, mut sent) = (Instant::now(), 0_usize);
    let slice = (per_second / 500).max(1);
    for _ in 0..rounds.parse()? {
        for chunk in messages.chunks(slice) {
            bus.write_all(chunk.concat().as_bytes())?;
            sent += chunk.len();
            let due = Duration::from_secs_f64(sent as f64 / per_second as f64);
            std::thread::sleep(due.saturating_sub(started.elapsed()));
        }
    }
    pong(&mut bus, &mut answers)
}

fn connect(port: u16) -> Result<(TcpStream, BufReader<TcpStream>)> {
    let mut bus = TcpStream::connect(("127.0.0.1", port))?;
    bus.set_nodelay(true)?;
    let mut answers = BufReader::new(bus.try_clone()?);
    bus.write_all(b"CONNECT {\"verbose\":false,\"user\":\"nats\",\"pass\":\"secret\"}\r\n")?;
    pong(&mut bus, &mut answers)?;
    Ok((bus, answers))
}

/// Waits until the server has read everything.
fn pong(bus: &mut TcpStream, answers: &mut BufReader<TcpStream>) -> Result<()> {
    bus.write_all(b"PING\r\n")?;
    let mut line = String::new();
    while !line.starts_with("PONG") {
        line.clear();
        ensure!(answers.read_line(&mut line)? > 0, "the bus hung up");
        ensure!(!line.starts_with("-ERR"), "{line}");
    }
    Ok(())
}

const ROUNDS: usize = 500;

/// Measures the time from a registration's first byte until the table has the route, and from an unregistration's until it has
/// not; and, for comparison, the bus alone: a message to oneself.
fn visible(handle: &Handle, port: u16) -> Result<()> {
    let (mut bus, mut answers) = connect(port)?;
    bus.write_all(b"SUB echo 1\r\n")?;
    pong(&mut bus, &mut answers)?;
    let (mut there, mut gone, mut echo) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..ROUNDS {
        let body = message("full", 10_000_000 + n);
        let uri = format!("app-{}.apps.example.com", 10_000_000 + n);
        for (subject, times) in [("register", &mut there), ("unregister", &mut gone)] {
            let text = format!("PUB router.{subject} {}\r\n{body}\r\n", body.len());
            let began = Instant::now();
            bus.write_all(text.as_bytes())?;
            while handle.serves(&uri) != (subject == "register") {
                ensure!(
                    began.elapsed() < Duration::from_secs(10),
                    "{uri}: no {subject}"
                );
                std::thread::yield_now();
            }
            times.push(began.elapsed());
        }
        let began = Instant::now();
        bus.write_all(format!("PUB echo {}\r\n{body}\r\n", body.len()).as_bytes())?;
        let mut line = String::new();
        for _ in ["its head", "its body"] {
            answers.read_line(&mut line)?;
        }
        echo.push(began.elapsed());
    }
    for (what, mut times) in [
        ("registered → there", there),
        ("unregistered → gone", gone),
        ("echo", echo),
    ] {
        times.sort_unstable();
        println!(
            "{:25} {what}: p50 {:.3} ms, p99 {:.3} ms",
            "",
            times[ROUNDS / 2].as_secs_f64() * 1e3,
            times[ROUNDS * 99 / 100].as_secs_f64() * 1e3
        );
    }
    Ok(())
}

fn emitter(port: u16, what: &str, routes: usize, rate: usize, rounds: usize) -> Result<Child> {
    let numbers = [port as usize, routes, rate, rounds].map(|n| n.to_string());
    let [port, routes, rate, rounds] = &numbers;
    Command::new(std::env::current_exe()?)
        .args(["emit", port, what, routes, rate, rounds])
        .spawn()
        .context("start the emitter")
}

async fn measure(what: &str, routes: usize) -> Result<()> {
    kit::tls::install_crypto();
    let port = free_port();
    let _bus = NatsServer::start(port);
    let router = Router::build(Config {
        http: vec![TcpListener::bind("127.0.0.1:0").await?],
        https: Vec::new(),
        certificates: Vec::new(),
        status: Status {
            listener: TcpListener::bind("127.0.0.1:0").await?,
            user: "status".into(),
            password: "secret".into(),
        },
        nats: NatsServer::config(port),
        routing_api: None,
        backend_tls: kit::tls::Identity {
            cert_pem: String::new(),
            key_pem: String::new(),
            ca_pem: String::new(),
        },
        access_log: None,
        loggregator: Emitter::discard(),
        settings: Settings {
            workers: 1,
            ..Settings::default()
        },
    })
    .await?;
    let handle = router.handle();
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(router.run(shutdown.clone()));
    while !handle.healthy() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;

    let (memory, cpu) = (resident()?, cpu()?);
    let mut child = emitter(port, what, routes, 50_000, 1)?;
    settle(&handle, routes, &mut child).await?;
    let registered = self::cpu()? - cpu;
    println!(
        "{what:8} {routes:>7} routes, {} bytes a message: {:>6.1} MB above empty ({:.0} bytes a route), {:.2} µs to register",
        message(what, routes / 2).len(),
        (resident()? - memory) as f64 / 1e6,
        (resident()? - memory) as f64 / routes as f64,
        registered * 1e6 / routes as f64,
    );
    for rate in [12_500, 50_000].into_iter().filter(|rate| *rate <= routes) {
        let rounds = (10 * rate / routes).clamp(1, 5);
        let (cpu, before, began) = (self::cpu()?, refreshed(&handle), Instant::now());
        let mut child = emitter(port, what, routes, rate, rounds)?;
        let sent = (routes * rounds) as u64;
        while refreshed(&handle) < before + sent {
            ensure!(
                began.elapsed() < Duration::from_secs(300),
                "re-registrations were lost"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        ensure!(child.wait()?.success(), "the emitter failed");
        println!(
            "{:25} re-registered at {rate:>6}/s: {:.2} µs of CPU each, {sent} of {sent} arrived; {:.1} MB",
            "",
            (self::cpu()? - cpu) * 1e6 / sent as f64,
            (resident()? - memory) as f64 / 1e6,
        );
    }
    tokio::task::spawn_blocking(move || visible(&handle, port)).await??;
    shutdown.cancel();
    running.await??;
    Ok(())
}

async fn settle(handle: &Handle, routes: usize, child: &mut Child) -> Result<()> {
    let began = Instant::now();
    while handle.routes() < routes {
        ensure!(
            began.elapsed() < Duration::from_secs(120),
            "{} of {routes} routes arrived",
            handle.routes()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    ensure!(child.wait()?.success(), "the emitter failed");
    tokio::time::sleep(Duration::from_millis(500)).await;
    Ok(())
}

fn refreshed(handle: &Handle) -> u64 {
    let text = handle.metrics_text();
    let lines = text.lines().filter(|line| line.contains("\"refreshed\""));
    lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

/// Returns the seconds of CPU time that this process has used.
fn cpu() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after = stat.rsplit(')').next().context("stat")?;
    let fields: Vec<&str> = after.split_whitespace().collect();
    let ticks = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(ticks as f64 / 100.0)
}

fn resident() -> Result<i64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS"));
    let kb = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(kb.context("VmRSS")?.parse::<i64>()? * 1024)
}
