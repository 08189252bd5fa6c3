//! The keys of route services.

use super::keys::Keys;
use super::tls;
use router::{AddressRange, RouteServices, TlsTerms};
use std::time::Duration;

/// Reads the keys; `None` without a secret. `terms`: the TLS versions and suites towards services.
pub(super) fn route_services(keys: &mut Keys<'_>, terms: &TlsTerms) -> Option<RouteServices> {
    let secret = keys.word("route_services_secret");
    let secret_decrypt_only = keys.word("route_services_secret_decrypt_only");
    keys.without_effect(&["route_services_internal_server_port"]);
    let timeout = keys.duration("route_services_timeout");
    let recommend_https = keys.flag("route_services_recommend_https", false);
    let hairpinning = keys.flag("route_services_hairpinning", false);
    let allowlist = keys.texts("route_services_hairpinning_allowlist");
    let skip_ssl_validation = keys.flag("skip_ssl_validation", false);
    let mut own = keys.section("route_services");
    let mut egress_blocklist = Vec::new();
    let ranges = own.texts("egress_blocklist").unwrap_or_default();
    for range in ranges.into_iter().filter(|range| !range.is_empty()) {
        match AddressRange::parse(&range) {
            Some(range) => egress_blocklist.push(range),
            None => own.problem(
                "egress_blocklist",
                &format!("has {range:?}, which is not a range of addresses: write e.g. 10.0.0.0/8"),
            ),
        }
    }
    Some(RouteServices {
        secret_decrypt_only,
        rotation: None,
        timeout: timeout.unwrap_or(Duration::from_secs(60)),
        recommend_https,
        return_port: None,
        max_attempts: own.signed("max_attempts").unwrap_or(3).max(1),
        strict_signature_validation: own.flag("strict_signature_validation", false),
        websockets: own.flag("enable_websockets", true),
        identity: tls::pair_or_none(&mut own, "cert_chain", "private_key"),
        tls_terms: terms.clone(),
        skip_ssl_validation,
        authorities: String::new(),
        system_authorities: false,
        hairpinning,
        hairpinning_allowlist: allowlist.unwrap_or_default(),
        egress_blocklist,
        secret: secret?,
    })
}
