//! The endpoints of one route, and which of them a request gets.

use super::Registered;
use super::endpoint::{Endpoint, millis};
use super::uri::{RouteKey, shard};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

/// How a pool spreads requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Balancing {
    #[default]
    RoundRobin = 0,
    LeastConnection = 1,
}

impl Balancing {
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "round-robin" => Some(Self::RoundRobin),
            "least-connection" => Some(Self::LeastConnection),
            _ => None,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::RoundRobin => "round-robin",
            Self::LeastConnection => "least-connection",
        }
    }
}

/// The instance that a request insists on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Instance<'a> {
    #[default]
    Any,
    /// `X-CF-APP-INSTANCE`
    App { app: &'a str, index: &'a str },
    /// `X-CF-PROCESS-INSTANCE`
    Process {
        process: &'a str,
        index: Option<&'a str>,
    },
}

impl Instance<'_> {
    fn is(&self, endpoint: &Endpoint) -> bool {
        match *self {
            Self::Any => true,
            Self::App { app, index } => {
                endpoint.spec().app_id == app && endpoint.spec().instance_index == index
            }
            Self::Process { process, index } => {
                endpoint.tag("process_id") == process
                    && index.is_none_or(|index| endpoint.spec().instance_index == index)
            }
        }
    }
}

/// What one attempt of a request wants of [`Pool::pick`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Want<'a> {
    pub instance: Instance<'a>,
    /// Preferred instance guid (`__VCAP_ID__`); any other will do when it is gone, full or tried.
    pub sticky: Option<&'a str>,
    /// Addresses that this request has tried already.
    pub tried: &'a [Arc<Endpoint>],
    /// Most requests in flight per endpoint; 0: no limit.
    pub max_conns: u32,
}

/// Why there is no endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPick {
    #[error("no endpoints available")]
    None,
    #[error("every endpoint is at its connection limit")]
    Full,
    #[error("every endpoint was tried")]
    Tried,
}

/// What went wrong with an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Its certificate carries another name: it is somebody else.
    WrongName,
    /// It could not be reached, or its TLS is broken.
    Unreachable,
    /// It broke off.
    Broken,
}

/// What a failure led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consequence {
    Pruned,
    /// Passed over for a while.
    Marked,
    /// It had left the pool already.
    Gone,
}

/// The endpoints of one uri, sorted by address.
#[derive(Debug)]
pub struct Pool {
    uri: Box<str>,
    context_path: Box<str>,
    epoch: Instant,
    members: RwLock<Vec<Arc<Endpoint>>>,
    next: AtomicUsize,
    balancing: AtomicU8,
    route_service: AtomicBool,
    /// When it became empty; only told apart from 0 while it is empty.
    emptied_ms: AtomicU64,
}

impl Pool {
    pub(super) fn new(key: &RouteKey, epoch: Instant, seed: u64) -> Self {
        Self {
            uri: key.uri().into(),
            context_path: format!("/{}", key.path()).into(),
            epoch,
            members: RwLock::default(),
            next: AtomicUsize::new(shard(key.uri()) ^ seed as usize),
            balancing: AtomicU8::new(Balancing::RoundRobin as u8),
            route_service: AtomicBool::new(false),
            emptied_ms: AtomicU64::new(0),
        }
    }

    /// The normalised uri.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// `/` or `/some/path`: the `Path` of cookies of this route.
    pub fn context_path(&self) -> &str {
        &self.context_path
    }

    pub fn is_empty(&self) -> bool {
        self.read().is_empty()
    }

    pub fn len(&self) -> usize {
        self.read().len()
    }

    pub fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        self.read().clone()
    }

    pub fn balancing(&self) -> Balancing {
        if self.balancing.load(Ordering::Relaxed) == Balancing::LeastConnection as u8 {
            Balancing::LeastConnection
        } else {
            Balancing::RoundRobin
        }
    }

    /// Whether some endpoint is the instance.
    pub fn has(&self, instance: Instance<'_>) -> bool {
        self.read().iter().any(|endpoint| instance.is(endpoint))
    }

    /// Whether the route is bound to a route service: what the endpoint registered last says.
    pub fn has_route_service(&self) -> bool {
        self.route_service.load(Ordering::Relaxed)
    }

    /// The next endpoint for an attempt. Endpoints that failed lately are passed over while there are others.
    pub fn pick(&self, want: &Want<'_>, now: Instant) -> Result<Arc<Endpoint>, NoPick> {
        let members = self.read();
        let tried = |endpoint: &Endpoint| {
            want.tried
                .iter()
                .any(|tried| tried.address() == endpoint.address())
        };
        if let Some(id) = want.sticky
            && let Some(endpoint) = members
                .iter()
                .find(|e| e.instance_id() == id && want.instance.is(e))
            && !tried(endpoint)
            && !endpoint.is_full(want.max_conns)
        {
            return Ok(endpoint.clone());
        }
        let open = |endpoint: &Endpoint| {
            want.instance.is(endpoint) && !tried(endpoint) && !endpoint.is_full(want.max_conns)
        };
        let start = self.next.fetch_add(1, Ordering::Relaxed) % members.len().max(1);
        let turn = members[start..]
            .iter()
            .chain(&members[..start])
            .enumerate()
            .filter(|(_, endpoint)| open(endpoint));
        let chosen = match self.balancing() {
            Balancing::RoundRobin => turn.clone().find(|(_, endpoint)| !endpoint.is_failed(now)),
            Balancing::LeastConnection => turn
                .clone()
                .min_by_key(|(_, endpoint)| endpoint.in_flight()),
        };
        if let Some((passed_over, endpoint)) = chosen {
            // Whoever follows one that was passed over must not get its share as well.
            if self.balancing() == Balancing::RoundRobin && passed_over > 0 && want.tried.is_empty()
            {
                self.next.fetch_add(passed_over, Ordering::Relaxed);
            }
            return Ok(endpoint.clone());
        }
        if let Some((_, endpoint)) = { turn }.next() {
            // All that are left have failed: give everybody another chance.
            members.iter().for_each(|endpoint| endpoint.clear_failed());
            return Ok(endpoint.clone());
        }
        let candidates = members.iter().filter(|endpoint| want.instance.is(endpoint));
        Err(if candidates.clone().next().is_none() {
            NoPick::None
        } else if candidates
            .clone()
            .all(|endpoint| endpoint.is_full(want.max_conns))
        {
            NoPick::Full
        } else {
            NoPick::Tried
        })
    }

    /// Records a failure: a wrong name always removes the endpoint; an unreachable TLS endpoint is removed unless it is
    /// the last, for it may come back and nobody else would serve; all others are marked.
    pub fn fail(&self, endpoint: &Arc<Endpoint>, failure: Failure, now: Instant) -> Consequence {
        let mut members = self.write();
        let Some(at) = members
            .iter()
            .position(|member| Arc::ptr_eq(member, endpoint))
        else {
            return Consequence::Gone;
        };
        let prune = match failure {
            Failure::WrongName => true,
            Failure::Unreachable => endpoint.spec().tls && members.len() > 1,
            Failure::Broken => false,
        };
        if !prune {
            endpoint.mark_failed(now);
            return Consequence::Marked;
        }
        members.remove(at);
        self.emptied_ms
            .store(millis(self.epoch, now), Ordering::Relaxed);
        Consequence::Pruned
    }

    pub(super) fn put(
        &self,
        endpoint: &Arc<Endpoint>,
        balancing: Option<Balancing>,
        now: Instant,
    ) -> Registered {
        if let Some(balancing) = balancing {
            self.balancing.store(balancing as u8, Ordering::Relaxed);
        }
        self.route_service.store(
            !endpoint.spec().route_service_url.is_empty(),
            Ordering::Relaxed,
        );
        let find = |members: &[Arc<Endpoint>]| {
            members.binary_search_by(|member| member.address().cmp(endpoint.address()))
        };
        {
            let members = self.read();
            if let Ok(at) = find(&members)
                && members[at].spec() == endpoint.spec()
            {
                members[at].refresh(now);
                return Registered::Refreshed;
            }
        }
        let mut members = self.write();
        match find(&members) {
            Ok(at) => {
                members[at] = endpoint.succeed(&members[at], now);
                Registered::Updated
            }
            Err(at) => {
                members.insert(at, endpoint.clone());
                Registered::Added { new_route: false }
            }
        }
    }

    pub(super) fn remove(&self, address: &str) -> Option<Arc<Endpoint>> {
        let mut members = self.write();
        let at = members
            .binary_search_by(|member| member.address().cmp(address))
            .ok()?;
        Some(members.remove(at))
    }

    pub(super) fn remove_stale(&self, now: Instant) -> Vec<Arc<Endpoint>> {
        if !self.read().iter().any(|endpoint| endpoint.is_stale(now)) {
            return Vec::new();
        }
        let mut stale = Vec::new();
        self.write().retain(|endpoint| {
            let keep = !endpoint.is_stale(now);
            if !keep {
                stale.push(endpoint.clone());
            }
            keep
        });
        stale
    }

    pub(super) fn refresh(&self, now: Instant) {
        self.read()
            .iter()
            .for_each(|endpoint| endpoint.refresh(now));
    }

    pub(super) fn empty_for(&self, now: Instant) -> Option<Duration> {
        self.is_empty().then(|| {
            Duration::from_millis(
                millis(self.epoch, now).saturating_sub(self.emptied_ms.load(Ordering::Relaxed)),
            )
        })
    }

    fn read(&self) -> RwLockReadGuard<'_, Vec<Arc<Endpoint>>> {
        self.members.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Vec<Arc<Endpoint>>> {
        self.members.write().unwrap_or_else(PoisonError::into_inner)
    }
}
