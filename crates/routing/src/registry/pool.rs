//! The endpoints of one route, and which of them a request gets.

use super::endpoint::{Endpoint, millis};
use super::maglev::Maglev;
use super::uri::{RouteKey, shard};
use super::{Registered, Settings};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

/// How a pool spreads requests.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Balancing {
    #[default]
    RoundRobin,
    LeastConnection,
    /// The same value of a header leads to the same endpoint. Requests without the header go round.
    Hash {
        /// Lower case.
        header: String,
        /// An endpoint with more than this many times the average in flight is passed over; 0: never.
        balance: f64,
    },
}

impl Balancing {
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::RoundRobin => "round-robin",
            Self::LeastConnection => "least-connection",
            Self::Hash { .. } => "hash",
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
    /// No other will do.
    pub mandatory: bool,
    /// The value of the pool's hash header ([`Pool::hash_header`]).
    pub hash: Option<&'a [u8]>,
    /// Endpoints of this availability zone first.
    pub zone: Option<&'a str>,
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
    members: RwLock<Members>,
    next: AtomicUsize,
    /// What requests without a hash header get.
    default: Balancing,
    /// When it became empty; only told apart from 0 while it is empty.
    emptied_ms: AtomicU64,
}

#[derive(Debug, Default)]
struct Members {
    list: Vec<Arc<Endpoint>>,
    balancing: Balancing,
    /// What the endpoint registered last says.
    route_service: Option<Arc<str>>,
    /// Of `list`, while the balancing is by hash.
    maglev: Option<Maglev>,
}

impl Members {
    /// To be called after every change.
    fn changed(&mut self) {
        self.maglev = match self.balancing {
            Balancing::Hash { .. } => {
                let ids = self.list.iter().map(|endpoint| endpoint.instance_id());
                Some(Maglev::new(ids))
            }
            _ => None,
        };
    }
}

impl Pool {
    pub(super) fn new(key: &RouteKey, epoch: Instant, settings: &Settings) -> Self {
        Self {
            uri: key.uri().into(),
            context_path: format!("/{}", key.path()).into(),
            epoch,
            members: RwLock::new(Members {
                balancing: settings.balancing.clone(),
                ..Members::default()
            }),
            next: AtomicUsize::new(shard(key.uri()) ^ settings.seed as usize),
            default: settings.balancing.clone(),
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
        self.read().list.is_empty()
    }

    pub fn len(&self) -> usize {
        self.read().list.len()
    }

    pub fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        self.read().list.clone()
    }

    pub fn balancing(&self) -> Balancing {
        self.read().balancing.clone()
    }

    /// The header whose value chooses the endpoint, if there is one.
    pub fn hash_header(&self) -> Option<String> {
        match &self.read().balancing {
            Balancing::Hash { header, .. } => Some(header.clone()),
            _ => None,
        }
    }

    /// Whether some endpoint is the instance.
    pub fn has(&self, instance: Instance<'_>) -> bool {
        self.read()
            .list
            .iter()
            .any(|endpoint| instance.is(endpoint))
    }

    /// The route service that the route is bound to: what the endpoint registered last says.
    pub fn route_service_url(&self) -> Option<Arc<str>> {
        self.read().route_service.clone()
    }

    /// The next endpoint for an attempt. Endpoints that failed lately are passed over while there are others.
    pub fn pick(&self, want: &Want<'_>, now: Instant) -> Result<Arc<Endpoint>, NoPick> {
        let members = self.read();
        let list = &members.list;
        let open = |endpoint: &Endpoint| {
            want.instance.is(endpoint)
                && !endpoint.is_full(want.max_conns)
                && !want
                    .tried
                    .iter()
                    .any(|tried| tried.address() == endpoint.address())
        };
        if let Some(id) = want.sticky {
            let stuck = list
                .iter()
                .find(|endpoint| endpoint.instance_id() == id && open(endpoint));
            match stuck {
                Some(endpoint) => return Ok(endpoint.clone()),
                None if want.mandatory => return Err(NoPick::None),
                None => {}
            }
        }
        let fresh = |endpoint: &Endpoint| open(endpoint) && !endpoint.is_failed(now);
        let chosen = match (&members.balancing, &members.maglev, want.hash) {
            (Balancing::Hash { balance, .. }, Some(maglev), Some(value)) => {
                hashed(list, maglev, value, *balance, fresh)
            }
            (Balancing::Hash { .. }, ..) => self.spread(list, &self.default, want, fresh, open),
            (balancing, ..) => self.spread(list, balancing, want, fresh, open),
        };
        if let Some(endpoint) = chosen {
            return Ok(endpoint.clone());
        }
        if let Some(endpoint) = list.iter().find(|endpoint| open(endpoint)) {
            // All that are left have failed: give everybody another chance.
            list.iter().for_each(|endpoint| endpoint.clear_failed());
            return Ok(endpoint.clone());
        }
        let mut candidates = list.iter().filter(|endpoint| want.instance.is(endpoint));
        Err(if candidates.clone().next().is_none() {
            NoPick::None
        } else if candidates.all(|endpoint| endpoint.is_full(want.max_conns)) {
            NoPick::Full
        } else {
            NoPick::Tried
        })
    }

    /// Round robin, or the least busy; within the wanted zone while somebody is there.
    fn spread<'m>(
        &self,
        list: &'m [Arc<Endpoint>],
        balancing: &Balancing,
        want: &Want<'_>,
        fresh: impl Fn(&Endpoint) -> bool,
        open: impl Fn(&Endpoint) -> bool,
    ) -> Option<&'m Arc<Endpoint>> {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let (after, before) = list.split_at_checked(next % list.len().max(1))?;
        let turn = before.iter().chain(after);
        if *balancing == Balancing::LeastConnection {
            let near = |e: &&Arc<Endpoint>| {
                want.zone
                    .is_none_or(|zone| e.spec().availability_zone == zone)
            };
            let idlest = |e: &&Arc<Endpoint>| e.in_flight();
            return turn
                .clone()
                .filter(|e| open(e) && near(e))
                .min_by_key(idlest)
                .or_else(|| turn.filter(|e| open(e)).min_by_key(idlest));
        }
        if let Some(zone) = want.zone {
            let near = list
                .iter()
                .filter(|e| fresh(e) && e.spec().availability_zone == zone);
            let count = near.clone().count();
            if count > 0 {
                return { near }.nth(next % count);
            }
        }
        let (passed_over, endpoint) = turn.enumerate().find(|(_, e)| fresh(e))?;
        // Whoever follows one that was passed over must not get its share as well.
        if passed_over > 0 && want.tried.is_empty() {
            self.next.fetch_add(passed_over, Ordering::Relaxed);
        }
        Some(endpoint)
    }

    /// Records a failure: a wrong name always removes the endpoint; an unreachable TLS endpoint is removed unless it is
    /// the last, for it may come back and nobody else would serve; all others are marked.
    pub fn fail(&self, endpoint: &Arc<Endpoint>, failure: Failure, now: Instant) -> Consequence {
        let mut members = self.write();
        let Some(at) = members
            .list
            .iter()
            .position(|member| Arc::ptr_eq(member, endpoint))
        else {
            return Consequence::Gone;
        };
        let prune = match failure {
            Failure::WrongName => true,
            Failure::Unreachable => endpoint.spec().tls && members.list.len() > 1,
            Failure::Broken => false,
        };
        if !prune {
            endpoint.mark_failed(now);
            return Consequence::Marked;
        }
        members.list.remove(at);
        members.changed();
        self.emptied_ms
            .store(millis(self.epoch, now), Ordering::Relaxed);
        Consequence::Pruned
    }

    pub(super) fn put(
        &self,
        endpoint: &Arc<Endpoint>,
        balancing: Option<&Balancing>,
        now: Instant,
    ) -> Registered {
        let url = Some(endpoint.spec().route_service_url.as_str()).filter(|url| !url.is_empty());
        let find = |members: &[Arc<Endpoint>]| {
            members.binary_search_by(|member| member.address().cmp(endpoint.address()))
        };
        {
            let members = self.read();
            if let Ok(at) = find(&members.list)
                && members.list[at].spec() == endpoint.spec()
                && balancing.is_none_or(|balancing| *balancing == members.balancing)
                && members.route_service.as_deref() == url
            {
                members.list[at].refresh(now);
                return Registered::Refreshed;
            }
        }
        let mut members = self.write();
        if let Some(balancing) = balancing {
            members.balancing.clone_from(balancing);
        }
        members.route_service = url.map(Arc::from);
        let registered = match find(&members.list) {
            Ok(at) => {
                members.list[at] = endpoint.succeed(&members.list[at], now);
                Registered::Updated
            }
            Err(at) => {
                members.list.insert(at, endpoint.clone());
                Registered::Added { new_route: false }
            }
        };
        members.changed();
        registered
    }

    pub(super) fn remove(&self, address: &str) -> Option<Arc<Endpoint>> {
        let mut members = self.write();
        let at = members
            .list
            .binary_search_by(|member| member.address().cmp(address))
            .ok()?;
        let removed = members.list.remove(at);
        members.changed();
        Some(removed)
    }

    pub(super) fn remove_stale(&self, now: Instant) -> Vec<Arc<Endpoint>> {
        if !self
            .read()
            .list
            .iter()
            .any(|endpoint| endpoint.is_stale(now))
        {
            return Vec::new();
        }
        let mut stale = Vec::new();
        let mut members = self.write();
        members.list.retain(|endpoint| {
            let keep = !endpoint.is_stale(now);
            if !keep {
                stale.push(endpoint.clone());
            }
            keep
        });
        members.changed();
        stale
    }

    pub(super) fn refresh(&self, now: Instant) {
        self.read()
            .list
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

    fn read(&self) -> RwLockReadGuard<'_, Members> {
        self.members.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Members> {
        self.members.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The endpoint that a value leads to; the next in the table when it may not be, or has too much to do.
fn hashed<'m>(
    list: &'m [Arc<Endpoint>],
    maglev: &Maglev,
    value: &[u8],
    balance: f64,
    fresh: impl Fn(&Endpoint) -> bool,
) -> Option<&'m Arc<Endpoint>> {
    let total: u32 = list.iter().map(|endpoint| endpoint.in_flight()).sum();
    let limit = balance * f64::from(total) / list.len() as f64;
    let crowded = |endpoint: &Endpoint| limit > 0.0 && f64::from(endpoint.in_flight()) > limit;
    let mut spare = None;
    for endpoint in maglev.from(value).map(|at| &list[at]) {
        if fresh(endpoint) {
            if !crowded(endpoint) {
                return Some(endpoint);
            }
            spare = spare.or(Some(endpoint));
        }
    }
    spare
}
