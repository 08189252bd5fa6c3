//! Makes routes by the bus alone: registers simulated apps, registers them again as cells do, and unregisters everything at the end.

use crate::judge::Owner;
use crate::plan::{Means, Owned, Plan, Size};
use crate::prober::{Prober, unserved};
use crate::report::Churned;
use crate::simulated::Apps;
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use bytes::Bytes;
use futures::StreamExt as _;
use kit::CancellationToken;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use wire::router::{RegistryMessage, StartMessage, subject};

/// The longest time for a connection to the bus, and for a message to oneself.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest time for the end of what runs beside and for the removal of all routes.
const CLEANING: Duration = Duration::from_secs(120);
/// The number of messages that are sent at once, and the pause after them: 20,000 a second, which an original router reads.
const PORTION: usize = 500;
const PORTION_PAUSE: Duration = Duration::from_millis(25);
/// The pause between two looks at what the churn owes.
const CHURN_TICK: Duration = Duration::from_millis(5);
/// The domain of the routes. It needs no DNS, because requests name the router's address.
const DOMAIN: &str = "propbench.test";

/// The bus, and the address of the simulated apps.
#[derive(Clone, Debug)]
pub struct BusSettings {
    pub nats: clients::nats::Config,
    /// The address at which routers reach this machine. With `None` it is the one from which this machine reaches the router.
    pub own_address: Option<IpAddr>,
}

/// A sender of registrations. Its clones share a connection.
#[derive(Clone)]
struct Emitter {
    client: async_nats::Client,
    plan: Arc<Plan>,
    address: IpAddr,
    ports: Arc<[u16]>,
}

impl Emitter {
    /// Returns the registration or the unregistration of a route of an app. It is the same each time, byte for byte.
    fn message(&self, subject: &str, host: &str, app: usize) -> Bytes {
        let guid = format!("{}-app{app}", self.plan.prefix());
        let tags = [
            ("component", "cupola-bench"),
            ("app_id", guid.as_str()),
            ("process_id", guid.as_str()),
        ];
        let message = RegistryMessage {
            host: self.address.to_string(),
            port: self.ports.get(app).copied().unwrap_or_default(),
            uris: vec![host.to_owned()],
            app: Some(guid.clone()),
            private_instance_id: Some(format!("{guid}-0")),
            private_instance_index: Some("0".to_owned()),
            tags: Some(tags.map(|(k, v)| (k.to_owned(), v.to_owned())).into()),
            // The app lives on, so that no other instance of it is expected at the route.
            withdrawn: subject == subject::UNREGISTER,
            ..RegistryMessage::default()
        };
        serde_json::to_vec(&message).unwrap_or_default().into()
    }

    async fn publish(&self, subject: &'static str, host: &str, app: usize) -> Result<()> {
        let message = self.message(subject, host, app);
        let published = self.client.publish(subject, message).await;
        published.with_context(|| format!("publish {subject} of {host}"))
    }

    async fn flush(&self) -> Result<()> {
        let flushed = tokio::time::timeout(PATIENCE, self.client.flush()).await;
        let flushed = flushed
            .with_context(|| format!("the bus accepted nothing for {} s", PATIENCE.as_secs()))?;
        flushed.context("send to the bus")
    }

    /// Publishes a message for each route, in portions. It ends early when it is stopped.
    async fn publish_all(
        &self,
        subject: &'static str,
        routes: impl Iterator<Item = Owned>,
        stop: &CancellationToken,
    ) -> Result<()> {
        for (number, route) in routes.enumerate() {
            if number % PORTION == PORTION - 1 {
                self.flush().await?;
                tokio::time::sleep(PORTION_PAUSE).await;
                if stop.is_cancelled() {
                    return Ok(());
                }
            }
            self.publish(subject, &route.host, route.app).await?;
        }
        self.flush().await
    }

    /// Registers the present routes again, cell after cell, until it is stopped.
    async fn keep(self, interval: Duration, stop: CancellationToken) {
        let cells = self.plan.cells();
        if cells.is_empty() {
            return;
        }
        let mut ticks = tokio::time::interval(self.plan.pause_between_cells(interval));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for cell in cells.into_iter().cycle() {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => return,
            }
            let routes = cell.map(|number| self.plan.present(number));
            // A bus that is away is reported by the measured routes; the cells go on.
            let _ = self.publish_all(subject::REGISTER, routes, &stop).await;
        }
    }

    /// Makes the changes of the churn until it is stopped. Returns what was done, and the number of steps.
    async fn churn(self, stop: CancellationToken) -> (Churned, usize) {
        let wanted = self.plan.size().churn;
        let began = Instant::now();
        let mut ticks = tokio::time::interval(CHURN_TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let (mut done, mut failed, mut first_failure) = (0, 0, None);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => break,
            }
            let due = (began.elapsed().as_secs_f64() * wanted as f64) as usize;
            let mut failure = None;
            while done < due && failure.is_none() {
                let step = self.plan.step(done);
                let subject = match step.adds {
                    true => subject::REGISTER,
                    false => subject::UNREGISTER,
                };
                let host = self.plan.churned(step.route);
                failure = self.publish(subject, &host, step.app).await.err();
                done += 1;
            }
            let failure = failure.or(self.flush().await.err());
            if let Some(error) = failure {
                failed += 1;
                first_failure.get_or_insert_with(|| format!("{error:#}"));
            }
        }
        let churned = Churned {
            wanted_per_second: wanted,
            made_per_second: done as f64 / began.elapsed().as_secs_f64().max(1e-3),
            failed,
            first_failure,
        };
        (churned, done)
    }
}

/// The routes of one run.
pub(crate) struct ByBus {
    emitter: Emitter,
    servers: String,
    /// The interval at which the router wants registrations to be repeated.
    interval: Duration,
    echo: String,
    echoes: async_nats::Subscriber,
    /// The number of messages to oneself.
    sent: u64,
    keeping: Option<JoinHandle<()>>,
    churning: Option<JoinHandle<(Churned, usize)>>,
    /// The token that ends both.
    beside: CancellationToken,
    /// The measured route that may be registered.
    probed: Option<usize>,
    _apps: Apps,
}

impl ByBus {
    /// Connects to the bus and starts the simulated apps. `reached_from`: the address from which this machine reaches the router.
    pub(crate) async fn connect(
        settings: &BusSettings,
        reached_from: IpAddr,
        size: Size,
        run: &str,
    ) -> Result<Self> {
        let plan = Plan::new(size, Means::Bus, run, DOMAIN).map_err(|fault| anyhow!(fault))?;
        let config = &settings.nats;
        let servers = config.servers.join(", ");
        let name = "cupola-bench-propagation";
        let client = clients::nats::connect(config, name, |_| std::future::ready(())).await?;
        let connected = tokio::time::timeout(PATIENCE, client.flush()).await;
        ensure!(
            matches!(connected, Ok(Ok(()))),
            "connect to the bus at {servers}: no answer within {} s; is it there, and are --nats-user, its password and the certificates right?",
            PATIENCE.as_secs()
        );
        let greeted = client.request(subject::GREET, Bytes::new());
        let answer = tokio::time::timeout(PATIENCE, greeted).await;
        let answer = answer.ok().and_then(Result::ok).with_context(|| {
            format!("no router answers router.greet on the bus at {servers}: name the bus of the router with --nats")
        })?;
        let start: StartMessage = serde_json::from_slice(&answer.payload)
            .context("read the router's answer to router.greet")?;
        let address = settings.own_address.unwrap_or(reached_from);
        let apps = Apps::start(address, size.apps).await?;
        let echo = client.new_inbox();
        let echoes = client.subscribe(echo.clone()).await;
        let echoes = echoes.context("subscribe to messages to oneself")?;
        Ok(Self {
            emitter: Emitter {
                client,
                plan: Arc::new(plan),
                address,
                ports: apps.ports().into(),
            },
            servers,
            interval: Duration::from_secs(start.minimum_register_interval_in_seconds.max(1)),
            echo,
            echoes,
            sent: 0,
            keeping: None,
            churning: None,
            beside: CancellationToken::new(),
            probed: None,
            _apps: apps,
        })
    }

    pub(crate) fn plan(&self) -> Arc<Plan> {
        self.emitter.plan.clone()
    }

    pub(crate) fn target(&self) -> String {
        format!("the bus at {}", self.servers)
    }

    pub(crate) fn owner(&self, route: &Owned) -> Owner {
        Owner::Simulated(route.app)
    }

    /// Registers the present routes, waits until the routers serve the last of each cell, and starts what runs beside.
    pub(crate) async fn set_up(
        &mut self,
        probers: &[Prober],
        stop: &CancellationToken,
    ) -> Result<()> {
        let plan = self.plan();
        for cell in plan.cells() {
            let last = cell.end - 1;
            let routes = cell.map(|number| plan.present(number));
            self.emitter
                .publish_all(subject::REGISTER, routes, stop)
                .await?;
            let last = plan.present(last);
            let owner = self.owner(&last);
            if let Some(reason) = unserved(probers, &last.host, &owner, stop).await? {
                bail!("{reason}: {}", self.hint());
            }
        }
        if stop.is_cancelled() {
            return Ok(());
        }
        let (emitter, beside) = (self.emitter.clone(), self.beside.clone());
        self.keeping = Some(tokio::spawn(emitter.keep(self.interval, beside)));
        if plan.size().churn > 0 {
            let (emitter, beside) = (self.emitter.clone(), self.beside.clone());
            self.churning = Some(tokio::spawn(emitter.churn(beside)));
        }
        Ok(())
    }

    /// Returns the explanation of a route that is not served although it was registered.
    pub(crate) fn hint(&self) -> String {
        format!(
            "do routers reach the simulated apps at {}? name another address of this machine with --own-address",
            self.emitter.address
        )
    }

    /// Registers a measured route. Returns when the bus delivered a message that was sent after it.
    pub(crate) async fn add(&mut self, number: usize) -> Result<Instant> {
        self.probed = Some(number);
        self.change(subject::REGISTER, number).await
    }

    pub(crate) async fn remove(&mut self, number: usize) -> Result<Instant> {
        let removed = self.change(subject::UNREGISTER, number).await?;
        self.probed = None;
        Ok(removed)
    }

    async fn change(&mut self, subject: &'static str, number: usize) -> Result<Instant> {
        let route = self.emitter.plan.probe(number);
        self.emitter
            .publish(subject, &route.host, route.app)
            .await?;
        self.echo().await
    }

    /// Sends a message to oneself, and returns the time of its arrival. A server reads the messages of a connection in their order.
    async fn echo(&mut self) -> Result<Instant> {
        self.sent += 1;
        let number = Bytes::from(self.sent.to_string());
        let client = &self.emitter.client;
        let sent = client.publish(self.echo.clone(), number.clone()).await;
        sent.context("publish a message to oneself")?;
        self.emitter.flush().await?;
        let echoes = &mut self.echoes;
        let arriving = async {
            loop {
                let message = echoes.next().await;
                let message = message.context("the subscription to messages to oneself ended")?;
                // One that came too late for its own wait is not this one.
                if message.payload == number {
                    return Ok::<_, anyhow::Error>(Instant::now());
                }
            }
        };
        let arrived = tokio::time::timeout(PATIENCE, arriving).await;
        arrived.with_context(|| {
            format!(
                "a message to oneself did not return within {} s",
                PATIENCE.as_secs()
            )
        })?
    }

    /// Ends what runs beside, and unregisters all routes. Returns what the churn did.
    pub(crate) async fn clean_up(mut self) -> (Option<Churned>, Result<()>) {
        let cleaned = tokio::time::timeout(CLEANING, self.remove_all()).await;
        let (churned, removed) = cleaned.unwrap_or_else(|_| {
            let late = anyhow!("it takes longer than {} s", CLEANING.as_secs());
            (None, Err(late))
        });
        let removed = removed.context(
            "unregister the routes: they stay until the routers prune them, which takes two minutes",
        );
        (churned, removed)
    }

    async fn remove_all(&mut self) -> (Option<Churned>, Result<()>) {
        self.beside.cancel();
        if let Some(keeping) = self.keeping.take() {
            let _ = keeping.await;
        }
        let churned = match self.churning.take() {
            None => None,
            Some(churning) => churning.await.ok(),
        };
        let plan = self.plan();
        let steps = churned.as_ref().map_or(0, |(_, steps)| *steps);
        let probed = self.probed.map(|number| plan.probe(number)).into_iter();
        let left = plan.left_after(steps).into_iter();
        let left = left.map(|(route, app)| Owned {
            host: plan.churned(route),
            app,
        });
        let present = (0..plan.present_count()).map(|number| plan.present(number));
        let routes = probed.chain(left).chain(present);
        let never = CancellationToken::new();
        let removed = self
            .emitter
            .publish_all(subject::UNREGISTER, routes, &never)
            .await;
        let removed = match removed {
            Ok(()) => self.echo().await.map(drop),
            Err(error) => Err(error),
        };
        (churned.map(|(churned, _)| churned), removed)
    }
}
