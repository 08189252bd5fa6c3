//! Address ranges, and the two pools of a cell: overlay addresses and host ports.
//!
//! The module is pure: the addresses and ports that the machine already uses come in as data. Both pools are first in, first out,
//! so that what a container released is reused as late as possible: a router that does not know yet that the container has ended
//! must not reach another one.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// An IPv4 network in CIDR form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    network: u32,
    prefix: u8,
}

impl Range {
    /// Returns the network with this prefix length that contains `address`.
    pub fn new(address: Ipv4Addr, prefix: u8) -> Self {
        let prefix = prefix.min(32);
        Self {
            network: u32::from(address) & Self::mask(prefix),
            prefix,
        }
    }

    fn mask(prefix: u8) -> u32 {
        if prefix == 0 {
            0
        } else {
            u32::MAX << (32 - u32::from(prefix))
        }
    }

    fn last(self) -> u32 {
        self.network | !Self::mask(self.prefix)
    }

    pub fn network(self) -> Ipv4Addr {
        self.network.into()
    }

    pub fn prefix(self) -> u8 {
        self.prefix
    }

    pub fn contains(self, address: Ipv4Addr) -> bool {
        (self.network..=self.last()).contains(&u32::from(address))
    }

    pub fn overlaps(self, other: Self) -> bool {
        self.network <= other.last() && other.network <= self.last()
    }

    /// Returns the n-th address, counted from the network's own.
    pub fn address(self, n: u32) -> Ipv4Addr {
        (self.network + n).into()
    }

    /// Returns the networks with the given prefix length inside this one, in order.
    pub fn subnets(self, prefix: u8) -> impl Iterator<Item = Self> {
        let (first, last) = (u64::from(self.network), u64::from(self.last()));
        let step = 1u64 << (32 - u32::from(prefix));
        (first..=last)
            .step_by(step as usize)
            .map(move |network| Self {
                network: network as u32,
                prefix,
            })
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network(), self.prefix)
    }
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not an IPv4 network; write it as 10.255.0.0/16");
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
        if prefix > 32 {
            return Err(wrong());
        }
        Ok(Self::new(address.parse().map_err(|_| wrong())?, prefix))
    }
}

/// The pools to try when none is configured. Cloud Foundry's own is the first.
pub(crate) const DEFAULT_POOLS: [&str; 5] = [
    "10.255.0.0/16",
    "10.254.0.0/16",
    "172.31.0.0/16",
    "10.200.0.0/16",
    "100.96.0.0/16",
];

/// Returns the first /24 of the pools, in order, that overlaps nothing in use, and its pool.
pub(crate) fn choose_range(pools: &[Range], in_use: &[Range]) -> Option<(Range, Range)> {
    pools.iter().find_map(|pool| {
        // If the machine routes the whole network elsewhere, each part of the pool is refused.
        let mut parts = pool.subnets(24.max(pool.prefix));
        parts
            .find(|part| !in_use.iter().any(|used| used.overlaps(*part)))
            .map(|part| (part, *pool))
    })
}

/// The free overlay addresses of one cell: all of its range but the network's own, the cell's and the last.
#[derive(Debug)]
pub(crate) struct AddressPool {
    free: VecDeque<Ipv4Addr>,
}

impl AddressPool {
    pub(crate) fn new(range: Range, taken: &BTreeSet<Ipv4Addr>) -> Self {
        let free = (range.network + 2..range.last())
            .map(Ipv4Addr::from)
            .filter(|address| !taken.contains(address));
        Self {
            free: free.collect(),
        }
    }

    pub(crate) fn allocate(&mut self) -> Option<Ipv4Addr> {
        self.free.pop_front()
    }

    /// Removes an address that is already in use.
    pub(crate) fn remove(&mut self, address: Ipv4Addr) {
        self.free.retain(|free| *free != address);
    }

    pub(crate) fn release(&mut self, address: Ipv4Addr) {
        if !self.free.contains(&address) {
            self.free.push_back(address);
        }
    }

    pub(crate) fn free(&self) -> usize {
        self.free.len()
    }
}

/// The range of garden's host ports. It is guardian's default pool (61001, 4534 ports).
pub(crate) const FIRST_PORT: u16 = 61001;
pub(crate) const LAST_PORT: u16 = 65534;

/// The host ports, allocated in a circle.
#[derive(Debug)]
pub(crate) struct PortPool {
    next: u16,
    taken: BTreeSet<u16>,
}

impl PortPool {
    /// Creates the pool. `next` is the port at which an earlier run stopped.
    pub(crate) fn new(next: u16, taken: BTreeSet<u16>) -> Self {
        let next = if (FIRST_PORT..=LAST_PORT).contains(&next) {
            next
        } else {
            FIRST_PORT
        };
        Self { next, taken }
    }

    /// Returns the next port that no container has and on which nobody listens.
    pub(crate) fn allocate(&mut self, listened: &BTreeSet<u16>) -> Option<u16> {
        for _ in FIRST_PORT..=LAST_PORT {
            let port = self.next;
            self.next = if port == LAST_PORT {
                FIRST_PORT
            } else {
                port + 1
            };
            if !listened.contains(&port) && self.taken.insert(port) {
                return Some(port);
            }
        }
        None
    }

    /// Allocates a port that was requested. Returns `false` if a container has it.
    pub(crate) fn allocate_exactly(&mut self, port: u16) -> bool {
        self.taken.insert(port)
    }

    pub(crate) fn release(&mut self, port: u16) {
        self.taken.remove(&port);
    }

    pub(crate) fn next(&self) -> u16 {
        self.next
    }
}

/// Returns the TCP ports on which somebody listens, from the text of `/proc/net/tcp` or `tcp6`.
pub(crate) fn listened_ports(proc_net_tcp: &str) -> BTreeSet<u16> {
    const LISTEN: &str = "0A";
    proc_net_tcp
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let (local, state) = (fields.next()?, fields.nth(1)?);
            let port = local.rsplit(':').next()?;
            (state == LISTEN)
                .then(|| u16::from_str_radix(port, 16).ok())
                .flatten()
        })
        .collect()
}

/// Returns the TCP addresses on which somebody listens, from the texts of `/proc/net/tcp` and `tcp6`.
pub(crate) fn listeners(tcp: &str, tcp6: &str) -> Vec<SocketAddr> {
    const LISTEN: &str = "0A";
    let lines = tcp.lines().skip(1).chain(tcp6.lines().skip(1));
    let mut found: Vec<SocketAddr> = lines
        .filter_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let (local, state) = (fields.next()?, fields.nth(1)?);
            let (address, port) = local.split_once(':')?;
            let port = u16::from_str_radix(port, 16).ok()?;
            (state == LISTEN).then_some(SocketAddr::new(proc_address(address)?, port))
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

/// Parses an address as the kernel prints it: words of 32 bits, each in the machine's byte order.
fn proc_address(text: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(text.get(at..at + 8)?, 16).ok();
    match text.len() {
        8 => Some(Ipv4Addr::from(word(0)?.to_ne_bytes()).into()),
        32 => {
            let mut bytes = [0; 16];
            for (n, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(8 * n)?.to_ne_bytes());
            }
            Some(Ipv6Addr::from(bytes).to_canonical())
        }
        _ => None,
    }
}

/// Returns the networks for which the machine has a route other than the default one, from the text of `/proc/net/route`.
pub(crate) fn routed_networks(proc_net_route: &str) -> Vec<Range> {
    proc_net_route
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let number = |field: &str| u32::from_str_radix(field, 16).ok().map(u32::swap_bytes);
            let (network, mask) = (number(fields.get(1)?)?, number(fields.get(7)?)?);
            (mask != 0).then(|| Range::new(network.into(), mask.leading_ones() as u8))
        })
        .collect()
}

/// Returns the interface of the default route, from the text of `/proc/net/route`.
pub(crate) fn default_interface(proc_net_route: &str) -> Option<String> {
    proc_net_route.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (fields.get(1) == Some(&"00000000") && fields.get(7) == Some(&"00000000"))
            .then(|| fields[0].to_owned())
    })
}

/// Returns the IPv4 name servers, from the text of `resolv.conf`.
pub(crate) fn name_servers(resolv_conf: &str) -> Vec<Ipv4Addr> {
    let servers = resolv_conf
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"));
    servers
        .filter_map(|server| server.trim().parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Range {
        text.parse().unwrap()
    }

    #[test]
    fn a_range_knows_its_members_and_neighbours() {
        assert_eq!(range("10.255.7.9/24").to_string(), "10.255.7.0/24");
        assert!(range("10.255.0.0/16").contains("10.255.255.53".parse().unwrap()));
        assert!(range("10.0.0.0/8").overlaps(range("10.255.3.0/24")));
        assert!(!range("10.255.0.0/24").overlaps(range("10.255.1.0/24")));
        assert!(
            "10.255.0.0"
                .parse::<Range>()
                .unwrap_err()
                .contains("write it as")
        );
        assert!("10.255.0.0/33".parse::<Range>().is_err());
    }

    #[test]
    fn the_next_free_range_is_chosen() {
        let pools: Vec<Range> = DEFAULT_POOLS.iter().map(|pool| range(pool)).collect();
        let choose = |used: &[&str]| {
            let used: Vec<Range> = used.iter().map(|text| range(text)).collect();
            choose_range(&pools, &used).map(|(part, pool)| (part.to_string(), pool.to_string()))
        };
        let is = |part: &str, pool: &str| Some((part.to_owned(), pool.to_owned()));
        assert_eq!(
            choose(&["192.0.2.0/24", "10.255.255.53/32"]),
            is("10.255.0.0/24", "10.255.0.0/16")
        );
        assert_eq!(
            choose(&["10.255.0.0/24", "10.255.1.1/32"]),
            is("10.255.2.0/24", "10.255.0.0/16")
        );
        assert_eq!(
            choose(&["10.0.0.0/8"]),
            is("172.31.0.0/24", "172.31.0.0/16")
        );
        assert_eq!(
            choose(&["10.0.0.0/8", "172.16.0.0/12", "100.64.0.0/10"]),
            None
        );
    }

    #[test]
    fn released_addresses_are_allocated_last() {
        let cell: BTreeSet<Ipv4Addr> = ["10.255.0.3".parse().unwrap()].into();
        let mut pool = AddressPool::new(range("10.255.0.0/29"), &cell);
        let mut allocate = || pool.allocate().map(|address| address.octets()[3]);
        assert_eq!(
            [allocate(), allocate(), allocate(), allocate(), allocate()],
            [Some(2), Some(4), Some(5), Some(6), None]
        );
        pool.release("10.255.0.5".parse().unwrap());
        pool.release("10.255.0.5".parse().unwrap());
        assert_eq!(pool.free(), 1);
    }

    #[test]
    fn ports_are_allocated_in_turn_and_listening_ones_are_skipped() {
        let mut pool = PortPool::new(LAST_PORT - 1, [LAST_PORT].into());
        assert_eq!(pool.allocate(&BTreeSet::new()), Some(LAST_PORT - 1));
        assert_eq!(pool.allocate(&[FIRST_PORT].into()), Some(FIRST_PORT + 1));
        pool.release(FIRST_PORT + 1);
        assert_eq!(pool.allocate(&BTreeSet::new()), Some(FIRST_PORT + 2));
        assert!(pool.allocate_exactly(62000) && !pool.allocate_exactly(62000));
        let all: BTreeSet<u16> = (FIRST_PORT..=LAST_PORT).collect();
        assert_eq!(pool.allocate(&all), None);
        assert_eq!(PortPool::new(7, BTreeSet::new()).next(), FIRST_PORT);
    }

    #[test]
    fn proc_files_are_understood() {
        let tcp = "  sl  local_address rem_address   st tx_queue rx_queue\n\
                   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000\n\
                   1: 0100007F:EE49 0100007F:1F90 01 00000000:00000000 00:00000000\n";
        assert_eq!(listened_ports(tcp), [8080].into());
        let tcp6 = "  sl  local_address remote_address st\n\
                    0: 00000000000000000000000000000000:1F91 00000000000000000000000000000000:0000 0A 0:0\n\
                    1: 00000000000000000000000001000000:1F92 00000000000000000000000000000000:0000 0A 0:0\n\
                    2: 0000000000000000FFFF00000100007F:1F90 00000000000000000000000000000000:0000 0A 0:0\n";
        let found: Vec<String> = listeners(tcp, tcp6)
            .iter()
            .map(SocketAddr::to_string)
            .collect();
        assert_eq!(found, ["127.0.0.1:8080", "[::]:8081", "[::1]:8082"]);
        let route = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                     eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                     eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
                     *\t0000FF0A\t00000000\t0200\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        assert_eq!(
            routed_networks(route),
            [range("192.0.2.0/24"), range("10.255.0.0/24")]
        );
        assert_eq!(default_interface(route).as_deref(), Some("eth0"));
        assert_eq!(
            name_servers("# x\nnameserver 10.255.255.53\nnameserver fd00::1\n"),
            ["10.255.255.53".parse::<Ipv4Addr>().unwrap()]
        );
    }
}
