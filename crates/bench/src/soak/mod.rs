//! `bench soak`: runs a router at full speed for a long time, while its table changes 1,000 times a second. Every answer is
//! judged against what was published, and memory must stay flat. It ends with a one-page report.

mod churn;
mod clients;
mod instances;
mod ownership;
mod report;

use crate::Programs;
use crate::peers::listener::{Listener, Reads};
use crate::peers::{Cupola, Router, Scheme};
use crate::rig::{Effort, Rig};
use crate::sections::progress;
use anyhow::{Context as _, Result, bail};
use churn::Churn;
use clients::{Kind, World};
use instances::Instances;
use ownership::Ownership;
use report::{Report, Sample, Tally};
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The size of a soak.
#[derive(clap::Args)]
pub(crate) struct Size {
    /// The length of the soak, in minutes
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
    /// The number of route changes per second
    #[arg(long, default_value_t = 1000)]
    changes: u32,
    /// The number of host names; three of four have an owner at the start
    #[arg(long, default_value_t = 20_000)]
    hosts: usize,
}

const PLAIN_INSTANCES: usize = 20;
const TLS_INSTANCES: usize = 20;
const SAMPLE_EVERY: Duration = Duration::from_secs(5);

pub(crate) fn run(size: &Size, programs: &Programs, report: &Path) -> Result<()> {
    let effort = Effort {
        rounds: 1,
        seconds: 1,
    };
    let rig = Rig::new(programs, effort)?;
    // The router sends an envelope for each event of a request to an agent that reads, as it does in production.
    let agent = Listener::start(None, Reads::Together)?;
    let router = Cupola::free().with_envelopes(agent.port).start(&rig)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let instances = runtime.block_on(Instances::start(
        &rig.certs.authority,
        PLAIN_INSTANCES,
        TLS_INSTANCES,
    ))?;
    let instances = Arc::new(Mutex::new(instances));
    let world = Arc::new(World {
        http: router.port(Scheme::Http),
        https: router.port(Scheme::Https),
        ca_pem: rig.certs.front.ca_pem,
        hosts: size.hosts,
        began: Instant::now(),
        ownership: Mutex::new(Ownership::new(size.hosts)),
        tallies: Mutex::new(HashMap::new()),
        stop: AtomicBool::new(false),
    });
    let bus = router.nats.connect()?;
    let mut churn = Churn::new(world.clone(), instances, bus);
    churn.fill()?;
    router.has_routes(churn.owned() as u64)?;
    progress(&format!(
        "   {} of {} hosts have an owner; clients start",
        churn.owned(),
        size.hosts
    ));
    let changes = size.changes;
    // The churn is returned to the caller, because the instances end with it and must outlive the clients' last requests.
    let churning = std::thread::spawn(move || {
        let churned = churn.run(changes);
        (churned, churn)
    });
    let clients = clients::start(&world, &runtime);
    let samples = observe(
        &router,
        &world,
        Duration::from_secs_f64(size.minutes * 60.0),
    );
    world.stop.store(true, Ordering::Relaxed);
    runtime.block_on(async {
        for client in clients {
            client.await.context("a client panicked")?;
        }
        anyhow::Ok(())
    })?;
    let (churned, churn) = churning
        .join()
        .map_err(|_| anyhow::anyhow!("the churn's thread panicked"))?;
    drop(churn);
    let tallies = world
        .tallies
        .lock()
        .map_err(|_| anyhow::anyhow!("a client panicked"))?;
    let report_text = Report {
        elapsed: world.began.elapsed(),
        tallies: &tallies,
        samples: &samples?,
        churned: churned?,
        envelopes: agent.received(),
    };
    let text = report_text.text();
    println!("{text}");
    std::fs::write(report, &text)?;
    if !report_text.passed() {
        bail!("the soak failed; the report is in {}", report.display());
    }
    Ok(())
}

/// Samples the memory of the router until the time is over, and prints the progress.
fn observe(router: &Router, world: &World, duration: Duration) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    while world.began.elapsed() < duration {
        std::thread::sleep(SAMPLE_EVERY.min(duration.saturating_sub(world.began.elapsed())));
        let memory = router.process.memory()?;
        samples.push(Sample {
            at: world.began.elapsed(),
            rss: memory.rss,
            anonymous: memory.anonymous,
        });
        if samples.len() % 6 == 1 {
            let total = world.total();
            progress(&format!(
                "   {:>5.0} s: {} requests, {} wrong, {:.1} MB",
                world.began.elapsed().as_secs_f64(),
                total.requests,
                total.wrong.len(),
                memory.rss / 1e6
            ));
        }
    }
    Ok(samples)
}

impl World {
    fn total(&self) -> Tally {
        let mut total = Tally::default();
        if let Ok(tallies) = self.tallies.lock() {
            for kind in Kind::ALL {
                if let Some(tally) = tallies.get(kind) {
                    total.add(tally);
                }
            }
        }
        total
    }
}
