//! Plans the ports of a container: for every app port a TLS port of its Envoy, and which of them get a host port.
//!
//! The plan is the original's. TLS ports begin at 61001, in the order of the app ports. Port 8080 gets a second one, 61443, for
//! container-to-container traffic, which is listed after the first and has no host port. The admin page gets the next free port.

pub const FIRST_TLS_PORT: u16 = 61001;
pub const LAST_TLS_PORT: u16 = 65534;
/// The port of container-to-container TLS.
pub const C2C_TLS_PORT: u16 = 61443;
pub const DEFAULT_APP_PORT: u16 = 8080;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    #[error("port {0} is not a TCP port; expected 1 to 65535")]
    Invalid(u32),
    #[error(
        "port {C2C_TLS_PORT} is reserved for container-to-container TLS; choose another app port"
    )]
    Reserved,
    #[error("no port is left for the TLS proxy of app port {0}")]
    Exhausted(u16),
}

/// One listener of the Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsPort {
    pub app: u16,
    pub tls: u16,
}

impl TlsPort {
    /// Returns whether it is the container-to-container listener, which has no host port and requires no client certificate.
    pub fn is_c2c(self) -> bool {
        self.tls == C2C_TLS_PORT
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortPlan {
    /// The app ports, in the requested order.
    pub app: Vec<u16>,
    /// The TLS ports; empty without a proxy.
    pub tls: Vec<TlsPort>,
    /// The port of the admin page on loopback; `None` without a proxy.
    pub admin: Option<u16>,
    /// Whether app ports get host ports of their own.
    pub unproxied: bool,
}

/// A port mapping as in the BBS and `CF_INSTANCE_PORTS`. A port is 0 where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    pub container: u16,
    pub host: u16,
    pub container_tls: u16,
    pub host_tls: u16,
}

/// Plans the ports. Without a proxy the app ports are mapped themselves; with one they are mapped only if `unproxied`.
pub fn plan(app_ports: &[u32], proxy: bool, unproxied: bool) -> Result<PortPlan, PortError> {
    let mut app = Vec::new();
    for port in app_ports {
        let port = u16::try_from(*port)
            .ok()
            .filter(|p| *p != 0)
            .ok_or(PortError::Invalid(*port))?;
        if port == C2C_TLS_PORT {
            return Err(PortError::Reserved);
        }
        if !app.contains(&port) {
            app.push(port);
        }
    }
    if !proxy || app.is_empty() {
        return Ok(PortPlan {
            app,
            tls: Vec::new(),
            admin: None,
            unproxied: true,
        });
    }
    let mut tls = Vec::new();
    let mut free =
        (FIRST_TLS_PORT..=LAST_TLS_PORT).filter(|p| *p != C2C_TLS_PORT && !app.contains(p));
    for port in &app {
        tls.push(TlsPort {
            app: *port,
            tls: free.next().ok_or(PortError::Exhausted(*port))?,
        });
        if *port == DEFAULT_APP_PORT {
            tls.push(TlsPort {
                app: *port,
                tls: C2C_TLS_PORT,
            });
        }
    }
    let admin = free.next();
    Ok(PortPlan {
        app,
        tls,
        admin,
        unproxied,
    })
}

impl PortPlan {
    /// Returns the container ports that need a host port, in order.
    pub fn net_in(&self) -> Vec<u16> {
        let plain = self.app.iter().copied().filter(|_| self.unproxied);
        plain
            .chain(self.tls.iter().filter(|p| !p.is_c2c()).map(|p| p.tls))
            .collect()
    }

    /// Returns the mappings, given the host port of each container port of [`Self::net_in`].
    pub fn mappings(&self, host_port: impl Fn(u16) -> Option<u16>) -> Vec<Mapping> {
        let host = |port| host_port(port).unwrap_or(0);
        if self.tls.is_empty() {
            return self
                .app
                .iter()
                .map(|port| Mapping {
                    container: *port,
                    host: host(*port),
                    ..Mapping::default()
                })
                .collect();
        }
        self.tls
            .iter()
            .map(|p| Mapping {
                container: p.app,
                host: host(p.app),
                container_tls: p.tls,
                host_tls: host(p.tls),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(plan: &PortPlan) -> Vec<(u16, u16)> {
        plan.tls.iter().map(|p| (p.app, p.tls)).collect()
    }

    #[test]
    fn the_usual_app() {
        let plan = plan(&[8080, 2222], true, false).unwrap();
        assert_eq!(pairs(&plan), [(8080, 61001), (8080, 61443), (2222, 61002)]);
        assert_eq!(plan.admin, Some(61003));
        assert_eq!(plan.net_in(), [61001, 61002]);
        let mappings = plan.mappings(|p| Some(p + 1000).filter(|_| p == 61001 || p == 61002));
        let as_tuple: Vec<_> = mappings
            .iter()
            .map(|m| (m.container, m.host, m.container_tls, m.host_tls))
            .collect();
        assert_eq!(
            as_tuple,
            [
                (8080, 0, 61001, 62001),
                (8080, 0, 61443, 0),
                (2222, 0, 61002, 62002)
            ]
        );
    }

    #[test]
    fn plain_ports_are_mapped_when_requested() {
        let plan = plan(&[8080, 2222], true, true).unwrap();
        assert_eq!(plan.net_in(), [8080, 2222, 61001, 61002]);
        assert_eq!(
            plan.mappings(Some)[1],
            Mapping {
                container: 8080,
                host: 8080,
                container_tls: 61443,
                host_tls: 61443
            }
        );
    }

    #[test]
    fn without_proxy_only_app_ports() {
        let plan = plan(&[8080], false, false).unwrap();
        assert_eq!((plan.net_in(), plan.admin), (vec![8080], None));
        assert_eq!(
            plan.mappings(|_| Some(61005)),
            [Mapping {
                container: 8080,
                host: 61005,
                ..Mapping::default()
            }]
        );
    }

    #[test]
    fn app_ports_among_the_tls_ports_are_skipped() {
        let plan = plan(&[61001, 61003], true, false).unwrap();
        assert_eq!(pairs(&plan), [(61001, 61002), (61003, 61004)]);
        assert_eq!(plan.admin, Some(61005));
    }

    #[test]
    fn bad_ports() {
        assert_eq!(plan(&[61443], true, false), Err(PortError::Reserved));
        assert_eq!(plan(&[0], true, false), Err(PortError::Invalid(0)));
        assert_eq!(plan(&[70000], false, false), Err(PortError::Invalid(70000)));
    }
}
