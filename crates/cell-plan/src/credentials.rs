//! Plans the instance identity: which name a certificate contains, and when it is replaced. The rep makes the certificate.

use std::net::Ipv4Addr;
use std::time::Duration;

/// The subject and the names of one certificate. Its key is P-256, and its usage is client and server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificatePlan {
    pub common_name: String,
    /// The organizational units `organization:…`, `space:…` and `app:…`, in the given order.
    pub organizational_units: Vec<String>,
    pub dns_names: Vec<String>,
    pub ip: Option<Ipv4Addr>,
}

/// Returns the plan of the certificate that is the instance's identity for the router and for apps: its guid and its address.
pub fn identity(
    guid: &str,
    organizational_units: &[String],
    container_ip: Ipv4Addr,
) -> CertificatePlan {
    CertificatePlan {
        common_name: guid.to_owned(),
        organizational_units: organizational_units.to_vec(),
        dns_names: vec![guid.to_owned()],
        ip: Some(container_ip),
    }
}

/// Returns the plan of the certificate for container-to-container traffic: the guid and the internal routes' names, no address.
pub fn container_to_container(
    guid: &str,
    organizational_units: &[String],
    internal_hostnames: &[String],
) -> CertificatePlan {
    let mut dns_names = vec![guid.to_owned()];
    dns_names.extend(internal_hostnames.iter().cloned());
    CertificatePlan {
        common_name: guid.to_owned(),
        organizational_units: organizational_units.to_vec(),
        dns_names,
        ip: None,
    }
}

/// Returns the time from the issue of a certificate to the next one: half an hour before its end, or 7/8 of a short validity.
pub fn rotate_after(validity: Duration) -> Duration {
    const LONG: Duration = Duration::from_secs(4 * 3600);
    if validity > LONG {
        validity - Duration::from_secs(1800)
    } else {
        validity / 8 * 7
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotation() {
        assert_eq!(
            rotate_after(Duration::from_secs(24 * 3600)),
            Duration::from_secs(24 * 3600 - 1800)
        );
        assert_eq!(
            rotate_after(Duration::from_secs(4 * 3600)),
            Duration::from_secs(4 * 3600 / 8 * 7)
        );
        assert_eq!(
            rotate_after(Duration::from_secs(16)),
            Duration::from_secs(14)
        );
    }

    #[test]
    fn names() {
        let units = ["organization:o".to_owned(), "app:a".to_owned()];
        let id = identity("guid", &units, Ipv4Addr::new(10, 255, 0, 2));
        assert_eq!(
            (id.dns_names, id.ip),
            (vec!["guid".to_owned()], Some(Ipv4Addr::new(10, 255, 0, 2)))
        );
        let c2c = container_to_container("guid", &units, &["a.apps.internal".into()]);
        assert_eq!(
            (c2c.dns_names, c2c.ip, c2c.organizational_units),
            (
                vec!["guid".to_owned(), "a.apps.internal".to_owned()],
                None,
                units.to_vec()
            )
        );
    }
}
