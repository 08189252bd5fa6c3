//! Holds the endpoints of one route. [`super::pick`] decides which of them serves a request.

use super::endpoint::Endpoint;
use super::maglev::Maglev;
use super::members::{List, Member};
use super::modification_tag::TagView;
use super::options::{Balancing, RoutePolicy};
use super::pick::{Instance, Want};
use super::uri::{RouteKey, spread};
use super::{Common, Registered, Registration};
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// The kind of a failure of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The endpoint's certificate carries another name, so another instance listens at its address.
    WrongName,
    /// No process listens at the endpoint's address.
    NotListening,
    /// The router could not reach the endpoint, or its TLS failed.
    Unreachable,
    /// The endpoint ended the exchange early.
    EndedEarly,
}

impl Failure {
    /// Returns whether the endpoint is most likely gone and the table does not know it yet.
    pub(super) fn looks_stale(self) -> bool {
        matches!(self, Self::WrongName | Self::NotListening)
    }
}

/// The consequence of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consequence {
    Pruned,
    /// The endpoint is passed over for a while.
    Marked,
    /// The endpoint had already left the pool.
    Gone,
}

/// The place of a registration in the table. It is valid as long as nothing changes in its pool.
#[derive(Clone, Debug)]
pub struct Place {
    pub(super) pool: Arc<Pool>,
    pub(super) version: u32,
    pub(super) index: u16,
}

/// The endpoints of one uri, sorted by address.
#[derive(Debug)]
pub struct Pool {
    pub(super) common: Arc<Common>,
    /// The normalised uri. Behind it stands the path as the first registration spelt it, if that differs: few pools have one, and
    /// no pool needs a field for it.
    texts: Box<str>,
    uri_len: u32,
    /// The position in the list of the endpoint that has the next turn.
    pub(super) next: AtomicU32,
    members: RwLock<Members>,
}

#[derive(Debug, Default)]
pub(super) struct Members {
    pub(super) list: List,
    /// The route's own settings; `None` if the route has none and the router's settings apply.
    terms: Option<Box<Terms>>,
    /// The number of changes of the two fields above.
    version: u32,
    /// The time at which the pool became empty; meaningless while it is not.
    emptied: u32,
    /// Whether the last endpoint was unregistered, pruned or evicted, and did not fail. Meaningless while the pool is not empty.
    left: bool,
    /// The time until which instances of the route are known to be starting, or are expected.
    starting_until: u32,
}

/// The settings of the route, from the endpoint whose settings are the newest.
#[derive(Debug, Default)]
struct Terms {
    balancing: Option<Balancing>,
    policy: Option<RoutePolicy>,
    route_service: Option<Arc<str>>,
    /// The hash table of the list, made when it is first needed.
    maglev: OnceLock<Maglev>,
}

impl Members {
    /// Updates the settings and the version; to be called after every change. Emitters that lag behind still publish the old
    /// settings, so the endpoint whose settings or instance changed last decides.
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
        let has_settings =
            terms.balancing.is_some() || terms.policy.is_some() || terms.route_service.is_some();
        self.terms = has_settings.then(|| Box::new(terms));
    }

    /// Returns the balancing that the route asks for; `None` means the router's own.
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
            texts: [key.uri(), key.written_path().unwrap_or_default()]
                .concat()
                .into(),
            uri_len: key.uri().len() as u32,
            next: AtomicU32::new(spread(key.uri()) ^ common.settings.seed as u32),
            members: RwLock::default(),
            common,
        }
    }

    /// Returns the normalised uri.
    pub fn uri(&self) -> &str {
        &self.texts[..self.uri_len as usize]
    }

    /// Returns the `Path` of cookies of this route, as its first registration spelt it: `/` or `/Some/path`.
    pub fn cookie_path(&self) -> &str {
        match &self.texts[self.uri_len as usize..] {
            "" => self.context_path(),
            path => path,
        }
    }

    /// Returns the context path in lower case: `/` or `/some/path`.
    pub fn context_path(&self) -> &str {
        match self.uri().find('/') {
            None => "/",
            Some(at) => &self.uri()[at..],
        }
    }

    /// Returns the context path without the slash before it.
    pub(super) fn path(&self) -> &str {
        self.context_path().trim_start_matches('/')
    }

    /// Returns the host, with `*.` in front if it is a wildcard.
    pub(super) fn host(&self) -> &str {
        let uri = self.uri();
        &uri[..uri.find('/').unwrap_or(uri.len())]
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

    /// Returns the header whose value chooses the endpoint, if the route balances by one.
    pub fn hash_header(&self) -> Option<String> {
        match self.read().balancing() {
            Some(Balancing::Hash { header, .. }) => Some(header.clone()),
            _ => None,
        }
    }

    /// Returns which callers the route admits; `None` if the route has no policy.
    pub fn policy(&self) -> Option<RoutePolicy> {
        self.read().terms.as_ref()?.policy.clone()
    }

    /// Returns whether the pool is empty because its last endpoint was unregistered, pruned or evicted.
    pub fn has_left(&self) -> bool {
        let members = self.read();
        members.list.as_slice().is_empty() && members.left
    }

    /// Returns whether some endpoint is a component's own.
    pub(super) fn has_component(&self) -> bool {
        let members = self.read();
        let list = members.list.as_slice();
        list.iter().any(|member| member.endpoint.is_component())
    }

    /// Returns the endpoint at this address.
    pub(super) fn at(&self, address: &str) -> Option<Arc<Endpoint>> {
        let members = self.read();
        let at = members.find(address).ok()?;
        Some(members.list.as_slice()[at].endpoint.clone())
    }

    /// Returns whether some endpoint is the instance.
    pub fn has(&self, instance: Instance<'_>) -> bool {
        let members = self.read();
        let list = members.list.as_slice();
        list.iter().any(|member| instance.is(&member.endpoint))
    }

    /// Returns the route service to which the route is bound.
    pub fn route_service_url(&self) -> Option<Arc<str>> {
        self.read().terms.as_ref()?.route_service.clone()
    }

    /// Returns whether instances are starting while the pool is empty.
    pub fn is_starting(&self, now: Instant) -> bool {
        let members = self.read();
        members.list.as_slice().is_empty() && self.common.tick(now) < members.starting_until
    }

    /// Returns how long requests may still wait for the first endpoint; `None` if no instance is starting or the pool is not
    /// empty.
    pub fn starting_for(&self, now: Instant) -> Option<Duration> {
        let members = self.read();
        let left = members.starting_until.saturating_sub(self.common.tick(now));
        (members.list.as_slice().is_empty() && left > 0)
            .then(|| Duration::from_millis(u64::from(left) * 100))
    }

    /// Returns whether there is an endpoint that this request has not tried, whose stale threshold has not passed, and that did
    /// not fail.
    pub fn has_spare(&self, want: &Want<'_>, now: Instant) -> bool {
        let members = self.read();
        let now = self.common.tick(now);
        let list = members.list.as_slice();
        list.iter()
            .any(|member| want.admits(member) && member.is_good(&self.common, now))
    }

    /// Records a failure. A wrong name always removes the endpoint. A TLS endpoint that is unreachable is removed unless it is
    /// the last one, which may come back and has no substitute. All other endpoints are marked.
    pub fn fail(&self, endpoint: &Arc<Endpoint>, failure: Failure, now: Instant) -> Consequence {
        let mut members = self.write();
        let list = members.list.as_slice();
        let found = list.iter().position(|m| Arc::ptr_eq(&m.endpoint, endpoint));
        let Some(at) = found else {
            return Consequence::Gone;
        };
        let prune = match failure {
            Failure::WrongName => true,
            Failure::NotListening | Failure::Unreachable => endpoint.is_tls() && list.len() > 1,
            Failure::EndedEarly => false,
        };
        if !prune {
            list[at].mark_failed(self.common.tick(now));
            return Consequence::Marked;
        }
        self.remove_at(&mut members, at, now);
        members.left = false;
        Consequence::Pruned
    }

    /// Returns whether nothing has changed since the pool had this version.
    pub(super) fn is_at(&self, version: u32) -> bool {
        self.read().version == version
    }

    /// Reads the memory that [`refresh_at`](Self::refresh_at) will read, without waiting for it and without taking a lock.
    pub(super) fn look_ahead(&self) {
        std::hint::black_box((
            self.next.load(Ordering::Relaxed),
            self.members.is_locked_exclusive(),
        ));
    }

    /// Moves the time stamp of one registration, unless the pool has changed since it had this version. Returns whether it did.
    pub(super) fn refresh_at(&self, version: u32, index: u16, now: Instant) -> bool {
        let members = self.read();
        let member = members.list.as_slice().get(usize::from(index));
        match member {
            Some(member) if members.version == version => {
                member.refresh(self.common.tick(now));
                true
            }
            _ => false,
        }
    }

    /// Adds, replaces or refreshes the endpoint. `changed_at` is the time at which the endpoint took its present state, as far as the
    /// message shows.
    pub(super) fn register(
        self: &Arc<Self>,
        endpoint: &mut Arc<Endpoint>,
        changed_at: Instant,
        now: Instant,
    ) -> Registration {
        let tick = self.common.tick(now);
        {
            let members = self.read();
            if let Ok(at) = members.find(endpoint.address())
                && members.list.as_slice()[at]
                    .endpoint
                    .has_same_registration(endpoint)
            {
                members.list.as_slice()[at].refresh(tick);
                return Registration::new(Registered::Refreshed, self.place(&members, at));
            }
        }
        let mut members = self.write();
        let changed_at = self.common.micros(changed_at.min(now));
        let mut replaced = None;
        let (registered, at) = match members.find(endpoint.address()) {
            Ok(at) => {
                let known = members.list.as_slice()[at].endpoint.version();
                if !known.is_succeeded_by(endpoint.version()) {
                    return Registration::new(Registered::Unmodified, None);
                }
                let old = members.list.remove(at);
                let since = if old.endpoint.same_terms(endpoint)
                    && old.endpoint.instance_id() == endpoint.instance_id()
                {
                    old.since
                } else {
                    changed_at
                };
                *endpoint = endpoint.inherit_requests(&old.endpoint);
                let new = Member::new(endpoint.clone(), since, tick);
                members.list.insert(at, new);
                members.list.mark_superseded(&old.endpoint);
                replaced = Some(old.endpoint);
                (Registered::Updated, at)
            }
            Err(at) => {
                let new = Member::new(endpoint.clone(), changed_at, tick);
                members.list.insert(at, new);
                self.common.endpoints.fetch_add(1, Ordering::Relaxed);
                let came_back = members.left && !self.common.settings.keep_unregistered;
                let new_route = members.version == 0 || came_back && members.list.len() == 1;
                members.starting_until = 0;
                (Registered::Added { new_route }, at)
            }
        };
        members.list.mark_superseded(endpoint);
        members.changed();
        let place = self.place(&members, at);
        Registration::new(registered, place).replacing(replaced)
    }

    /// Removes the endpoint at the address. With a `version`, it removes only an endpoint of this or of an older version. `expects` is
    /// whether an empty pool may get its next endpoint soon.
    pub(super) fn remove(
        &self,
        address: &str,
        version: Option<TagView<'_>>,
        expects: bool,
        now: Instant,
    ) -> Option<Arc<Endpoint>> {
        let mut members = self.write();
        let Ok(at) = members.find(address) else {
            // The endpoint had failed and left; now it is known to have gone for good.
            members.left |= version.is_none();
            return None;
        };
        let known = members.list.as_slice()[at].endpoint.version();
        if version.is_some_and(|gone| !known.ends_with(gone)) {
            return None;
        }
        let removed = self.remove_at(&mut members, at, now);
        let expected = self.common.settings.expect_successor;
        if expects && members.list.as_slice().is_empty() && !expected.is_zero() {
            let until = self.common.tick(now + expected);
            members.starting_until = members.starting_until.max(until);
        }
        Some(removed)
    }

    /// Removes the endpoints of apps, which are all that belong to no component.
    pub(super) fn remove_apps(&self, now: Instant) -> Vec<Arc<Endpoint>> {
        let mut removed = Vec::new();
        let mut members = self.write();
        let is_app = |member: &Member| !member.endpoint.is_component();
        while let Some(at) = members.list.as_slice().iter().position(is_app) {
            removed.push(self.remove_at(&mut members, at, now));
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
            removed.push(self.remove_at(&mut members, at, now));
        }
        removed
    }

    fn remove_at(&self, members: &mut Members, at: usize, now: Instant) -> Arc<Endpoint> {
        let removed = members.list.remove(at).endpoint;
        members.list.mark_superseded(&removed);
        members.changed();
        members.emptied = self.common.tick(now);
        members.left = true;
        self.common.endpoints.fetch_sub(1, Ordering::Relaxed);
        removed
    }

    /// Sets the time stamp of every endpoint to now.
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

    /// Returns whether the pool has been empty for longer than it may be and no instance is starting.
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

    /// Returns the place of an endpoint, or `None` in a pool that is too large for its index.
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
