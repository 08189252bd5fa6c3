//! The changes: routes come, move between instances, and go, over NATS. Every live one is registered again within 20 s, as an
//! emitter does. One thread publishes all changes, so their order is the one that the ownership records.

use super::clients::World;
use super::instances::{Instance, Instances};
use crate::bus::Bus;
use crate::messages;
use anyhow::{Context as _, Result, anyhow};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use wire::router::RegistryMessage;

/// The interval at which emitters repeat each registration.
const REPEAT: Duration = Duration::from_secs(20);
/// The interval at which a TLS port passes to another instance.
const REPLACE: Duration = Duration::from_secs(5);

pub(super) struct Churn {
    world: Arc<World>,
    instances: Arc<Mutex<Instances>>,
    bus: Bus,
    /// The number of the next host to be registered again.
    next: usize,
    done: Churned,
}

#[derive(Clone, Copy, Default)]
pub(super) struct Churned {
    pub(super) added: u64,
    pub(super) moved: u64,
    pub(super) removed: u64,
    pub(super) repeated: u64,
    pub(super) replaced: u64,
}

impl Churn {
    pub(super) fn new(world: Arc<World>, instances: Arc<Mutex<Instances>>, bus: Bus) -> Self {
        Self {
            world,
            instances,
            bus,
            next: 0,
            done: Churned::default(),
        }
    }

    /// Registers an owner for three of four hosts.
    pub(super) fn fill(&mut self) -> Result<()> {
        for host in (0..self.world.hosts).filter(|host| host % 4 != 0) {
            self.add(host)?;
        }
        self.bus.flush()?;
        std::thread::sleep(super::ownership::GRACE);
        Ok(())
    }

    pub(super) fn owned(&self) -> usize {
        self.world.hosts - self.world.hosts.div_ceil(4)
    }

    /// Makes changes until the world stops.
    pub(super) fn run(&mut self, changes_per_second: u32) -> Result<Churned> {
        let began = Instant::now();
        let repeats_per_second = self.world.hosts as f64 / REPEAT.as_secs_f64();
        let (mut changes, mut repeats, mut replaced) = (0.0, 0.0, Duration::ZERO);
        while !self.world.stop.load(Ordering::Relaxed) {
            let now = began.elapsed();
            while changes < now.as_secs_f64() * f64::from(changes_per_second) {
                self.change()?;
                changes += 1.0;
            }
            while repeats < now.as_secs_f64() * repeats_per_second {
                self.repeat()?;
                repeats += 1.0;
            }
            if now >= replaced + REPLACE {
                self.replace()?;
                replaced = now;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.bus.flush()?;
        Ok(self.done)
    }

    fn change(&mut self) -> Result<()> {
        let host = rand::random_range(0..self.world.hosts);
        match self.world.owner(host)? {
            None => self.add(host),
            Some(_) if rand::random_bool(0.25) => self.remove(host),
            Some(_) => self.shift(host),
        }
    }

    fn add(&mut self, host: usize) -> Result<()> {
        let (name, message) = self.message(host, rand::random_range(0..self.count()?))?;
        self.world.change(host, Some(name))?;
        self.publish("router.register", &message)?;
        self.done.added += 1;
        Ok(())
    }

    fn remove(&mut self, host: usize) -> Result<()> {
        let message = self.current(host)?;
        self.world.change(host, None)?;
        self.publish("router.unregister", &message)?;
        self.done.removed += 1;
        Ok(())
    }

    /// Moves a host to another instance. The new one is registered before or after the old one is unregistered.
    fn shift(&mut self, host: usize) -> Result<()> {
        let old = self.current(host)?;
        let now = self
            .world
            .owner(host)?
            .with_context(|| format!("host {host} has no owner"))?;
        let at = self
            .instances()?
            .named(&now)
            .context("the owner of the route does not run")?;
        let count = self.count()?;
        let (name, new) = self.message(host, (at + rand::random_range(1..count)) % count)?;
        self.world.change(host, Some(name))?;
        let mut steps = [("router.register", new), ("router.unregister", old)];
        if rand::random() {
            steps.reverse();
        }
        for (subject, message) in steps {
            self.publish(subject, &message)?;
        }
        self.done.moved += 1;
        Ok(())
    }

    fn repeat(&mut self) -> Result<()> {
        let host = self.next;
        self.next = (host + 1) % self.world.hosts;
        if self.world.owner(host)?.is_some() {
            let message = self.current(host)?;
            self.publish("router.register", &message)?;
            self.done.repeated += 1;
        }
        Ok(())
    }

    /// Makes another instance answer at a TLS port: all routes of the old instance pass to the new one.
    fn replace(&mut self) -> Result<()> {
        let secure: Vec<usize> = {
            let instances = self.instances()?;
            (0..instances.len())
                .filter(|n| instances.get(*n).tls)
                .collect()
        };
        let at = secure[rand::random_range(0..secure.len())];
        let (old, new) = {
            let mut instances = self.instances()?;
            let old = instances.get(at).name.clone();
            let hosts = self.world.hosts_of(&old)?;
            let stale: Vec<_> = hosts
                .iter()
                .map(|host| registration(*host, instances.get(at)))
                .collect();
            // The ownership changes before the instance does, so that every answer of the new one is right.
            let new = instances.next_name();
            for host in &hosts {
                self.world.change(*host, Some(new.clone()))?;
            }
            instances.replace(at);
            let fresh: Vec<_> = hosts
                .iter()
                .map(|host| registration(*host, instances.get(at)))
                .collect();
            (stale, fresh)
        };
        for (old, new) in old.iter().zip(&new) {
            self.publish("router.unregister", old)?;
            self.publish("router.register", new)?;
        }
        self.done.replaced += 1;
        Ok(())
    }

    fn instances(&self) -> Result<std::sync::MutexGuard<'_, Instances>> {
        self.instances
            .lock()
            .map_err(|_| anyhow!("an instance panicked"))
    }

    fn count(&self) -> Result<usize> {
        Ok(self.instances()?.len())
    }

    fn current(&self, host: usize) -> Result<RegistryMessage> {
        let owner = self
            .world
            .owner(host)?
            .with_context(|| format!("host {host} has no owner"))?;
        let at = self
            .instances()?
            .named(&owner)
            .context("the owner of the route does not run")?;
        Ok(self.message(host, at)?.1)
    }

    fn message(&self, host: usize, at: usize) -> Result<(Arc<str>, RegistryMessage)> {
        let instances = self.instances()?;
        let instance = instances.get(at);
        Ok((instance.name.clone(), registration(host, instance)))
    }

    fn publish(&mut self, subject: &str, message: &RegistryMessage) -> Result<()> {
        self.bus.publish(subject, &messages::text(message))
    }
}

fn registration(host: usize, instance: &Instance) -> RegistryMessage {
    let plain = messages::small(&messages::host(host), instance.port);
    let name = instance.name.to_string();
    if !instance.tls {
        return RegistryMessage {
            private_instance_id: Some(name),
            ..plain
        };
    }
    RegistryMessage {
        port: 0,
        tls_port: Some(instance.port),
        private_instance_id: Some(name.clone()),
        server_cert_domain_san: Some(name),
        ..plain
    }
}
