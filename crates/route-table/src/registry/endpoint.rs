//! Holds one backend as its registration described it.

use super::modification_tag::{ModificationTag, TagView};
use super::options::RouteOptions;
use super::texts::{Pattern, Texts};
use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The protocol of a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    #[default]
    Http1,
    Http2,
}

impl Protocol {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
        }
    }
}

/// The description of an endpoint in a registration. Two equal specs are the same endpoint.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EndpointSpec {
    pub host: String,
    pub port: u16,
    pub tls: bool,
    pub protocol: Protocol,
    pub app_id: String,
    pub instance_id: String,
    pub instance_index: String,
    /// The name that the backend's certificate must carry. If it is empty, that is the host.
    pub server_cert_domain_san: String,
    pub tags: BTreeMap<String, String>,
    pub route_service_url: String,
    pub isolation_segment: String,
    pub availability_zone: String,
    /// The stale threshold. If it is zero or longer than the router's own, the router's applies.
    pub stale_threshold: Duration,
    pub options: RouteOptions,
    /// The version of the route; empty in registrations from NATS.
    pub modification_tag: ModificationTag,
    /// The number of the route's last change; 0 if the registration has none.
    pub generation: u64,
}

impl EndpointSpec {
    /// Returns the address as `host:port`, in the form of [`Endpoint::address`].
    pub fn address(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        }
    }
}

/// A view of an [`EndpointSpec`], which an endpoint stores in less space.
#[derive(Clone, Copy, Debug)]
pub struct Spec<'a> {
    pub host: &'a str,
    pub port: u16,
    pub tls: bool,
    pub protocol: Protocol,
    pub app_id: &'a str,
    pub instance_id: &'a str,
    pub instance_index: &'a str,
    pub server_cert_domain_san: &'a str,
    pub tags: Tags<'a>,
    pub route_service_url: &'a str,
    pub isolation_segment: &'a str,
    pub availability_zone: &'a str,
    pub stale_threshold: Duration,
    pub options: &'a RouteOptions,
    pub modification_tag: TagView<'a>,
}

/// An endpoint's tags, sorted by name.
#[derive(Clone, Copy)]
pub struct Tags<'a>(&'a Endpoint);

impl<'a> Tags<'a> {
    pub fn get(self, name: &str) -> Option<&'a str> {
        let names = &self.0.shape.tags;
        let at = names.binary_search_by(|tag| (**tag).cmp(name));
        Some(self.0.text_at(FIXED + at.ok()?))
    }

    pub fn iter(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let names = self.0.shape.tags.iter().enumerate();
        names.map(move |(at, name)| (&**name, self.0.text_at(FIXED + at)))
    }

    pub fn is_empty(self) -> bool {
        self.0.shape.tags.is_empty()
    }

    pub fn to_map(self) -> BTreeMap<String, String> {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        self.iter().map(owned).collect()
    }
}

impl std::fmt::Debug for Tags<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// The positions of an endpoint's texts. The values of its tags follow them.
#[derive(Clone, Copy)]
enum Text {
    Address,
    App,
    Instance,
    Index,
    San,
    RouteService,
    Segment,
    Zone,
    ModificationGuid,
}

const FIXED: usize = Text::ModificationGuid as usize + 1;

/// The parts of a registration that many endpoints have in common.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Shape {
    /// The sorted names of the tags.
    tags: Box<[Box<str>]>,
    /// Which of the texts are equal.
    pattern: Pattern,
}

/// The known shapes. Most endpoints have one of a few shapes, so each is stored once.
#[derive(Debug, Default)]
pub(super) struct KnownShapes(Mutex<HashSet<Arc<Shape>>>);

impl KnownShapes {
    /// The number of shapes above which those that no endpoint uses are forgotten.
    const MOST: usize = 1000;

    fn of(&self, shape: Shape) -> Arc<Shape> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shape) = known.get(&shape) {
            return shape.clone();
        }
        if known.len() >= Self::MOST {
            known.retain(|shape| Arc::strong_count(shape) > 1);
        }
        let shape = Arc::new(shape);
        if known.len() < Self::MOST {
            known.insert(shape.clone());
        }
        shape
    }
}

/// A registered endpoint. All routes of its message share it, and with it the count of its requests.
#[derive(Debug)]
pub struct Endpoint {
    texts: Texts,
    shape: Arc<Shape>,
    /// The route's options, in a box because few routes have any.
    options: Option<Box<RouteOptions>>,
    /// The number of the peer, made from everything that identifies it. Endpoints share connections only if they have the same
    /// number.
    transport: u128,
    /// The endpoint's state before an update, kept while requests from that time are in flight.
    elder: Option<Arc<Self>>,
    /// The number of requests in flight, without those of `elder`.
    in_flight: AtomicU32,
    generation: u64,
    /// The stale threshold in tenths of a second, as in [`super::Common::tick`].
    stale_ticks: u32,
    modification_index: u32,
    port: u16,
    tls: bool,
    protocol: Protocol,
}

static NO_OPTIONS: RouteOptions = RouteOptions::NONE;

impl Endpoint {
    pub(super) fn new(spec: &EndpointSpec, known: &KnownShapes, transport: u128) -> Self {
        let address = spec.address();
        let mut texts = [""; FIXED].to_vec();
        for (at, text) in [
            (Text::Address, &address),
            (Text::App, &spec.app_id),
            (Text::Instance, &spec.instance_id),
            (Text::Index, &spec.instance_index),
            (Text::San, &spec.server_cert_domain_san),
            (Text::RouteService, &spec.route_service_url),
            (Text::Segment, &spec.isolation_segment),
            (Text::Zone, &spec.availability_zone),
            (Text::ModificationGuid, &spec.modification_tag.guid),
        ] {
            texts[at as usize] = text.as_str();
        }
        texts.extend(spec.tags.values().map(String::as_str));
        let (pattern, texts) = Texts::pack(&texts);
        let tags = spec.tags.keys().map(|name| name.as_str().into()).collect();
        Self {
            texts,
            shape: known.of(Shape { tags, pattern }),
            options: Some(&spec.options)
                .filter(|options| **options != NO_OPTIONS)
                .map(|options| Box::new(options.clone())),
            transport,
            elder: None,
            in_flight: AtomicU32::new(0),
            generation: spec.generation,
            stale_ticks: u32::try_from(spec.stale_threshold.as_millis() / 100).unwrap_or(u32::MAX),
            modification_index: spec.modification_tag.index,
            port: spec.port,
            tls: spec.tls,
            protocol: spec.protocol,
        }
    }

    /// Returns whether both have the same registration.
    pub(super) fn has_same_registration(&self, other: &Self) -> bool {
        self.texts == other.texts
            && (self.port, self.tls, self.protocol) == (other.port, other.tls, other.protocol)
            && self.stale_ticks == other.stale_ticks
            && self.modification_index == other.modification_index
            && self.generation == other.generation
            && self.shape == other.shape
            && self.options == other.options
    }

    /// Returns whether both contain the same settings of the route.
    pub(super) fn same_terms(&self, other: &Self) -> bool {
        self.route_service_url() == other.route_service_url() && self.options == other.options
    }

    /// Takes over the requests of `old`. For the second uri of a message this is already done.
    pub(super) fn inherit_requests(self: &Arc<Self>, old: &Arc<Self>) -> Arc<Self> {
        let elder = old.busy();
        let known = |elder| matches!(&self.elder, Some(own) if Arc::ptr_eq(own, elder));
        if elder.as_ref().is_none_or(known) {
            return self.clone();
        }
        Arc::new(Self {
            texts: self.texts.clone(),
            shape: self.shape.clone(),
            options: self.options.clone(),
            elder,
            in_flight: AtomicU32::new(0),
            ..**self
        })
    }

    /// Returns the newest of this endpoint and its elders that has requests in flight.
    fn busy(self: &Arc<Self>) -> Option<Arc<Self>> {
        let mut next = Some(self);
        while let Some(endpoint) = next {
            if endpoint.in_flight.load(Ordering::Relaxed) > 0 {
                return Some(endpoint.clone());
            }
            next = endpoint.elder.as_ref();
        }
        None
    }

    pub fn spec(&self) -> Spec<'_> {
        Spec {
            host: self.host(),
            port: self.port,
            tls: self.tls,
            protocol: self.protocol,
            app_id: self.app_id(),
            instance_id: self.text(Text::Instance),
            instance_index: self.instance_index(),
            server_cert_domain_san: self.text(Text::San),
            tags: self.tags(),
            route_service_url: self.route_service_url(),
            isolation_segment: self.text(Text::Segment),
            availability_zone: self.availability_zone(),
            stale_threshold: Duration::from_millis(u64::from(self.stale_ticks) * 100),
            options: self.options(),
            modification_tag: self.version(),
        }
    }

    /// Returns `host:port`, the endpoint's identity within a pool.
    pub fn address(&self) -> &str {
        self.text(Text::Address)
    }

    fn host(&self) -> &str {
        let host = self.address().rsplit_once(':').map_or("", |(host, _)| host);
        let inner = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        // Only an IPv6 address got its brackets from this crate.
        inner.filter(|h| h.contains(':')).unwrap_or(host)
    }

    pub fn transport(&self) -> u128 {
        self.transport
    }

    pub fn is_tls(&self) -> bool {
        self.tls
    }

    pub fn app_id(&self) -> &str {
        self.text(Text::App)
    }

    /// Returns the instance guid, or the address when the registration had none.
    pub fn instance_id(&self) -> &str {
        match self.text(Text::Instance) {
            "" => self.address(),
            id => id,
        }
    }

    pub fn instance_index(&self) -> &str {
        self.text(Text::Index)
    }

    /// Returns the name to verify in the backend's certificate.
    pub fn tls_name(&self) -> &str {
        match self.text(Text::San) {
            "" => self.host(),
            san => san,
        }
    }

    pub fn tags(&self) -> Tags<'_> {
        Tags(self)
    }

    /// Returns the value of a tag, or `""` if the endpoint has no such tag.
    pub fn tag(&self, name: &str) -> &str {
        self.tags().get(name).unwrap_or_default()
    }

    pub fn availability_zone(&self) -> &str {
        self.text(Text::Zone)
    }

    /// Returns the number of the route's last change that the registration knew; 0 if it had none.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    pub fn in_flight(&self) -> u32 {
        let (mut count, mut next) = (0, Some(self));
        while let Some(endpoint) = next {
            count += endpoint.in_flight.load(Ordering::Relaxed);
            next = endpoint.elder.as_deref();
        }
        count
    }

    pub(super) fn route_service_url(&self) -> &str {
        self.text(Text::RouteService)
    }

    pub(super) fn options(&self) -> &RouteOptions {
        self.options.as_deref().unwrap_or(&NO_OPTIONS)
    }

    pub(super) fn version(&self) -> TagView<'_> {
        TagView {
            guid: self.text(Text::ModificationGuid),
            index: self.modification_index,
        }
    }

    pub(super) fn stale_ticks(&self) -> u32 {
        self.stale_ticks
    }

    pub(super) fn is_full(&self, max_conns: u32) -> bool {
        max_conns > 0 && self.in_flight() >= max_conns
    }

    /// Returns whether both are the same instance of the same process, perhaps an earlier and a later one.
    pub(super) fn same_slot(&self, other: &Self) -> bool {
        !self.app_id().is_empty()
            && !self.instance_index().is_empty()
            && self.instance_index() == other.instance_index()
            && self.app_id() == other.app_id()
            && self.tag("process_id") == other.tag("process_id")
    }

    fn text(&self, at: Text) -> &str {
        self.text_at(at as usize)
    }

    fn text_at(&self, at: usize) -> &str {
        self.texts.get(&self.shape.pattern, at)
    }
}

/// A guard that counts one request (or tunnel) of an endpoint for as long as it lives.
#[derive(Debug)]
pub struct InFlight(Arc<Endpoint>);

impl InFlight {
    pub fn new(endpoint: Arc<Endpoint>) -> Self {
        endpoint.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(endpoint)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
