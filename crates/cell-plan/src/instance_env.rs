//! Computes the `CF_INSTANCE_*` variables, which contain the addresses of an instance and which every process of it gets.

use crate::ports::Mapping;
use serde::Serialize;

#[derive(Serialize)]
struct Port {
    #[serde(skip_serializing_if = "is_zero")]
    external: u16,
    internal: u16,
    #[serde(skip_serializing_if = "is_zero")]
    external_tls_proxy: u16,
    #[serde(skip_serializing_if = "is_zero")]
    internal_tls_proxy: u16,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature serde asks for"
)]
fn is_zero(port: &u16) -> bool {
    *port == 0
}

/// Returns the variables. `cell_ip` is the address of the host ports, `container_ip` that of the instance itself.
pub fn address_env(
    cell_ip: &str,
    container_ip: &str,
    mappings: &[Mapping],
) -> Vec<(String, String)> {
    let ports: Vec<Port> = mappings
        .iter()
        .map(|m| Port {
            external: m.host,
            internal: m.container,
            external_tls_proxy: m.host_tls,
            internal_tls_proxy: m.container_tls,
        })
        .collect();
    let first = mappings.first().map_or(0, |m| m.host);
    let mut env = vec![
        ("CF_INSTANCE_IP".to_owned(), cell_ip.to_owned()),
        (
            "CF_INSTANCE_INTERNAL_IP".to_owned(),
            container_ip.to_owned(),
        ),
    ];
    if mappings.is_empty() {
        env.push(("CF_INSTANCE_PORT".to_owned(), String::new()));
        env.push(("CF_INSTANCE_ADDR".to_owned(), String::new()));
    } else if first > 0 {
        env.push(("CF_INSTANCE_PORT".to_owned(), first.to_string()));
        env.push(("CF_INSTANCE_ADDR".to_owned(), format!("{cell_ip}:{first}")));
    }
    env.push((
        "CF_INSTANCE_PORTS".to_owned(),
        serde_json::to_string(&ports).expect("plain numbers serialise"),
    ));
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(mappings: &[Mapping]) -> Vec<String> {
        address_env("10.0.1.5", "10.255.7.3", mappings)
            .into_iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect()
    }

    #[test]
    fn proxied_only() {
        let m = [
            Mapping {
                container: 8080,
                host: 0,
                container_tls: 61001,
                host_tls: 61014,
            },
            Mapping {
                container: 8080,
                host: 0,
                container_tls: 61443,
                host_tls: 0,
            },
        ];
        assert_eq!(
            text(&m),
            [
                "CF_INSTANCE_IP=10.0.1.5",
                "CF_INSTANCE_INTERNAL_IP=10.255.7.3",
                r#"CF_INSTANCE_PORTS=[{"internal":8080,"external_tls_proxy":61014,"internal_tls_proxy":61001},{"internal":8080,"internal_tls_proxy":61443}]"#,
            ]
        );
    }

    #[test]
    fn with_a_plain_host_port() {
        let m = [Mapping {
            container: 8080,
            host: 61012,
            ..Mapping::default()
        }];
        assert_eq!(
            text(&m)[2..],
            [
                "CF_INSTANCE_PORT=61012",
                "CF_INSTANCE_ADDR=10.0.1.5:61012",
                r#"CF_INSTANCE_PORTS=[{"external":61012,"internal":8080}]"#
            ]
        );
    }

    #[test]
    fn without_ports() {
        assert_eq!(
            text(&[])[2..],
            [
                "CF_INSTANCE_PORT=",
                "CF_INSTANCE_ADDR=",
                "CF_INSTANCE_PORTS=[]"
            ]
        );
    }
}
