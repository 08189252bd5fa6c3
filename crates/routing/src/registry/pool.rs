//! The endpoints of one route. Which of them a request gets is decided in [`super::pick`].

use super::endpoint::Endpoint;
use super::maglev::Maglev;
use super::members::{List, Member};
use super::modification_tag::Version;
use super::options::{Balancing, RoutePolicy};
use super::pick::{Instance, Want};
use super::uri::{RouteKey, spread};
use super::{Common, Registered};
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// What went wrong with an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Its certificate carries another name: it is somebody else.
    WrongName,
    /// No process listens at the endpoint's address.
    Refused,
    /// It could not be reached, or its TLS is broken.
    Unreachable,
    /// It broke off.
    Broken,
}

impl Failure {
    /// Whether the endpoint is most likely gone, and only the table does not know it yet.
    pub(super) fn looks_stale(self) -> bool {
        matches!(self, Self::WrongName | Self::Refused)
    }
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

/// Where a registration stands in the table, for as long as nothing changes in its pool.
#[derive(Clone, Debug)]
pub struct Place {
    pool: Arc<Pool>,
    version: u32,
    index: u16,
}

impl Place {
    pub(super) fn is_current(&self) -> bool {
        self.pool.read().version == self.version
    }

    /// Reads what [`refresh`](Self::refresh) reads, without waiting for anything or anybody.
    pub(super) fn look_ahead(&self) {
        std::hint::black_box((
            self.pool.next.load(Ordering::Relaxed),
            self.pool.members.is_locked_exclusive(),
        ));
    }

    /// Moves the time stamp, unless something changed since.
    pub(super) fn refresh(&self, now: Instant) -> bool {
        let members = self.pool.read();
        let member = members.list.as_slice().get(usize::from(self.index));
        match member {
            Some(member) if members.version == self.version => {
                member.refresh(self.pool.common.tick(now));
                true
            }
            _ => false,
        }
    }
}

/// The endpoints of one uri, sorted by address.
#[derive(Debug)]
pub struct Pool {
    pub(super) common: Arc<Common>,
    uri: Box<str>,
    host_len: u32,
    written_path: Option<Box<str>>,
    /// Whose turn it is.
    pub(super) next: AtomicU32,
    members: RwLock<Members>,
}

#[derive(Debug, Default)]
pub(super) struct Members {
    pub(super) list: List,
    /// `None`: the route says nothing that the router's own settings do not say.
    terms: Option<Box<Terms>>,
    /// Counts changes of the two above.
    version: u32,
    /// When it became empty; means nothing while it is not.
    emptied: u32,
    /// Its last endpoint was unregistered, pruned or evicted; it did not fail. Means nothing while it is not empty.
    left: bool,
    /// Until when instances of the route are known to be on their way, or are expected.
    starting_until: u32,
}

/// What the route itself says: as its newest endpoint was told.
#[derive(Debug, Default)]
struct Terms {
    balancing: Option<Balancing>,
    policy: Option<RoutePolicy>,
    route_service: Option<Arc<str>>,
    /// Of the list, made when it is first needed.
    maglev: OnceLock<Maglev>,
}

impl Members {
    /// To be called after every change. Emitters that are behind go on telling what was: the endpoint that was told
    /// something new last knows best.
    fn changed(&mut self) {
        self.version = self.version.wrapping_add(1);
        let Some(newest) = self.list.as_slice().iter().max_by_key(|m| m.since) else {
            return;
        };
        let options = newest.endpoint.options();
        let url = newest.endpoint.route_service_url();
        let terms = Terms {
            balancing: options.balancing.clone(),
            policy: options.policy.clone(),
            route_service: (!url.is_empty()).then(|| url.into()),
            maglev: OnceLock::new(),
        };
        let says_something =
            terms.balancing.is_some() || terms.policy.is_some() || terms.route_service.is_some();
        self.terms = says_something.then(|| Box::new(terms));
    }

    /// `None`: the router's own.
    pub(super) fn balancing(&self) -> Option<&Balancing> {
        self.terms.as_ref()?.balancing.as_ref()
    }

    pub(super) fn maglev(&self) -> Option<&Maglev> {
        let terms = self.terms.as_ref()?;
        let ids = || {
            self.list
                .as_slice()
                .iter()
                .map(|m| m.endpoint.instance_id())
        };
        Some(terms.maglev.get_or_init(|| Maglev::new(ids())))
    }

    fn find(&self, address: &str) -> Result<usize, usize> {
        let list = self.list.as_slice();
        list.binary_search_by(|member| member.endpoint.address().cmp(address))
    }
}

impl Pool {
    pub(super) fn new(key: &RouteKey, common: Arc<Common>) -> Self {
        Self {
            uri: key.uri().into(),
            host_len: key.host_len() as u32,
            written_path: key.written_path().map(Box::from),
            next: AtomicU32::new(spread(key.uri()) ^ common.settings.seed as u32),
            members: RwLock::default(),
            common,
        }
    }

    /// The normalised uri.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// `/` or `/Some/path`: the `Path` of cookies of this route, as its first registration wrote it.
    pub fn cookie_path(&self) -> &str {
        match &self.written_path {
            Some(path) => path,
            None => self.context_path(),
        }
    }

    /// `/` or `/some/path`, in lower case.
    pub fn context_path(&self) -> &str {
        match &self.uri[self.host_len as usize..] {
            "" => "/",
            path => path,
        }
    }

    /// Without the slash before it.
    pub(super) fn path(&self) -> &str {
        self.context_path().trim_start_matches('/')
    }

    /// The host, with `*.` in front of a wildcard.
    pub(super) fn host(&self) -> &str {
        &self.uri[..self.host_len as usize]
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn len(&self) -> usize {
        self.read().list.as_slice().len()
    }

    pub fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        let members = self.read();
        let list = members.list.as_slice();
        list.iter().map(|m| m.endpoint.clone()).collect()
    }

    pub fn balancing(&self) -> Balancing {
        let members = self.read();
        let own = members.balancing();
        own.unwrap_or(&self.common.settings.balancing).clone()
    }

    /// The header whose value chooses the endpoint, if there is one.
    pub fn hash_header(&self) -> Option<String> {
        match self.read().balancing() {
            Some(Balancing::Hash { header, .. }) => Some(header.clone()),
            _ => None,
        }
    }

    /// Who may call; `None`: the route says nothing of it.
    pub fn policy(&self) -> Option<RoutePolicy> {
        self.read().terms.as_ref()?.policy.clone()
    }

    /// Whether its last endpoint was unregistered, pruned or evicted.
    pub fn has_left(&self) -> bool {
        let members = self.read();
        members.list.as_slice().is_empty() && members.left
    }

    /// Whether some endpoint is a component's own.
    pub(super) fn has_component(&self) -> bool {
        let members = self.read();
        let list = members.list.as_slice();
        list.iter().any(|member| member.endpoint.is_component())
    }

    /// The endpoint at this address.
    pub(super) fn at(&self, address: &str) -> Option<Arc<Endpoint>> {
        let members = self.read();
        let at = members.find(address).ok()?;
        Some(members.list.as_slice()[at].endpoint.clone())
    }

    /// Whether some endpoint is the instance.
    pub fn has(&self, instance: Instance<'_>) -> bool {
        let members = self.read();
        let list = members.list.as_slice();
        list.iter().any(|member| instance.is(&member.endpoint))
    }

    /// The route service that the route is bound to.
    pub fn route_service_url(&self) -> Option<Arc<str>> {
        self.read().terms.as_ref()?.route_service.clone()
    }

    /// Whether instances are on their way, though none is here yet.
    pub fn is_starting(&self, now: Instant) -> bool {
        let members = self.read();
        members.list.as_slice().is_empty() && self.common.tick(now) < members.starting_until
    }

    /// How long requests may still wait for its first endpoint; `None`: nobody is on the way.
    pub fn starting_for(&self, now: Instant) -> Option<Duration> {
        let members = self.read();
        let left = members.starting_until.saturating_sub(self.common.tick(now));
        (members.list.as_slice().is_empty() && left > 0)
            .then(|| Duration::from_millis(u64::from(left) * 100))
    }

    /// Whether there is an endpoint left that this request did not try, that was heard of lately, and that did not fail.
    pub fn has_spare(&self, want: &Want<'_>, now: Instant) -> bool {
        let members = self.read();
        let now = self.common.tick(now);
        let list = members.list.as_slice();
        list.iter()
            .any(|member| want.admits(member) && member.is_good(&self.common, now))
    }

    /// Records a failure: a wrong name always removes the endpoint; an unreachable TLS endpoint is removed unless it is
    /// the last, for it may come back and nobody else would serve; all others are marked.
    pub fn fail(&self, endpoint: &Arc<Endpoint>, failure: Failure, now: Instant) -> Consequence {
        let mut members = self.write();
        let list = members.list.as_slice();
        let found = list.iter().position(|m| Arc::ptr_eq(&m.endpoint, endpoint));
        let Some(at) = found else {
            return Consequence::Gone;
        };
        let prune = match failure {
            Failure::WrongName => true,
            Failure::Refused | Failure::Unreachable => endpoint.is_tls() && list.len() > 1,
            Failure::Broken => false,
        };
        if !prune {
            list[at].mark_failed(self.common.tick(now));
            return Consequence::Marked;
        }
        self.take_out(&mut members, at, now);
        members.left = false;
        Consequence::Pruned
    }

    /// `told`: when the endpoint became what it is, as far as the message knows.
    pub(super) fn put(
        self: &Arc<Self>,
        endpoint: &mut Arc<Endpoint>,
        told: Instant,
        now: Instant,
    ) -> (Registered, Option<Place>) {
        let tick = self.common.tick(now);
        {
            let members = self.read();
            if let Ok(at) = members.find(endpoint.address())
                && members.list.as_slice()[at].endpoint.says_the_same(endpoint)
            {
                members.list.as_slice()[at].refresh(tick);
                return (Registered::Refreshed, self.place(&members, at));
            }
        }
        let mut members = self.write();
        let told = self.common.micros(told.min(now));
        let (registered, at) = match members.find(endpoint.address()) {
            Ok(at) => {
                let known = members.list.as_slice()[at].endpoint.version();
                if !known.is_succeeded_by(endpoint.version()) {
                    return (Registered::Unmodified, None);
                }
                let old = members.list.remove(at);
                let since = if old.endpoint.same_terms(endpoint)
                    && old.endpoint.instance_id() == endpoint.instance_id()
                {
                    old.since
                } else {
                    told
                };
                *endpoint = endpoint.succeed(&old.endpoint);
                let new = Member::new(endpoint.clone(), since, tick);
                members.list.insert(at, new);
                members.list.settle_slot(&old.endpoint);
                (Registered::Updated, at)
            }
            Err(at) => {
                let new = Member::new(endpoint.clone(), told, tick);
                members.list.insert(at, new);
                self.common.endpoints.fetch_add(1, Ordering::Relaxed);
                let came_back = members.left && !self.common.settings.keep_unregistered;
                let new_route = members.version == 0 || came_back && members.list.len() == 1;
                members.starting_until = 0;
                (Registered::Added { new_route }, at)
            }
        };
        members.list.settle_slot(endpoint);
        members.changed();
        let place = self.place(&members, at);
        (registered, place)
    }

    /// `version`: only if that is what stands there, or older.
    pub(super) fn remove(
        &self,
        address: &str,
        version: Option<Version<'_>>,
        now: Instant,
    ) -> Option<Arc<Endpoint>> {
        let mut members = self.write();
        let Ok(at) = members.find(address) else {
            // It failed before, and now it is known to have gone.
            members.left |= version.is_none();
            return None;
        };
        let known = members.list.as_slice()[at].endpoint.version();
        if version.is_some_and(|gone| !known.ends_with(gone)) {
            return None;
        }
        let removed = self.take_out(&mut members, at, now);
        let expected = self.common.settings.expect_successor;
        if members.list.as_slice().is_empty() && !expected.is_zero() {
            let until = self.common.tick(now + expected);
            members.starting_until = members.starting_until.max(until);
        }
        Some(removed)
    }

    /// Those that are no component's.
    pub(super) fn remove_apps(&self, now: Instant) -> Vec<Arc<Endpoint>> {
        let mut removed = Vec::new();
        let mut members = self.write();
        let is_app = |member: &Member| !member.endpoint.is_component();
        while let Some(at) = members.list.as_slice().iter().position(is_app) {
            removed.push(self.take_out(&mut members, at, now));
        }
        if !removed.is_empty() {
            members.starting_until = 0;
        }
        removed
    }

    pub(super) fn remove_stale(&self, now: Instant) -> Vec<Arc<Endpoint>> {
        let tick = self.common.tick(now);
        let tls_threshold = self.common.settings.stale_tls_threshold;
        let stale = |member: &Member| {
            if member.endpoint.is_tls() {
                tls_threshold.is_some_and(|most| member.silence(tick) > most)
            } else {
                member.is_quiet(tick)
            }
        };
        let mut removed = Vec::new();
        if !self.read().list.as_slice().iter().any(stale) {
            return removed;
        }
        let mut members = self.write();
        while let Some(at) = members.list.as_slice().iter().position(stale) {
            removed.push(self.take_out(&mut members, at, now));
        }
        removed
    }

    fn take_out(&self, members: &mut Members, at: usize, now: Instant) -> Arc<Endpoint> {
        let removed = members.list.remove(at).endpoint;
        members.list.settle_slot(&removed);
        members.changed();
        members.emptied = self.common.tick(now);
        members.left = true;
        self.common.endpoints.fetch_sub(1, Ordering::Relaxed);
        removed
    }

    /// Everybody is heard of now.
    pub(super) fn refresh(&self, now: Instant) {
        let tick = self.common.tick(now);
        let members = self.read();
        members.list.as_slice().iter().for_each(|m| m.refresh(tick));
    }

    pub(super) fn announce_start(&self, until: Instant, now: Instant) {
        let mut members = self.write();
        if members.version == 0 && members.emptied == 0 {
            members.emptied = self.common.tick(now);
        }
        members.starting_until = members.starting_until.max(self.common.tick(until));
    }

    /// Whether it is empty, for longer than an empty pool may stay, and nobody is on the way.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        let members = self.read();
        let tick = self.common.tick(now);
        let forgets = members.left && !self.common.settings.keep_unregistered;
        let longest = if members.version == 0 || forgets {
            Duration::ZERO
        } else {
            self.common.settings.empty_pool_timeout
        };
        members.list.as_slice().is_empty()
            && tick >= members.starting_until
            && u128::from(tick.saturating_sub(members.emptied)) * 100 >= longest.as_millis()
    }

    /// `None`: in a pool so large that it is not worth it.
    fn place(self: &Arc<Self>, members: &Members, at: usize) -> Option<Place> {
        Some(Place {
            pool: self.clone(),
            version: members.version,
            index: u16::try_from(at).ok()?,
        })
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Members> {
        self.members.read()
    }

    fn write(&self) -> RwLockWriteGuard<'_, Members> {
        self.members.write()
    }
}
