//! Translates a desired LRP or a task definition into garden's description of a container.

use crate::cell::SIDECAR_MEMORY_MB;
use anyhow::{Context as _, Result, bail};
use cell_plan::egress;
use garden::api::{EgressRule, Limits, Protocol};
use std::collections::BTreeMap;
use wire::bbs::{Action, DownloadAction};
use wire::bbs::{
    CachedDependency, DesiredLrp, EnvironmentVariable, File, ImageLayer, LayerType, MediaType,
    MetricTagDynamic, MetricTagValue, SecurityGroupRule, TaskDefinition,
};

/// The part that both definitions have in common.
#[derive(Clone, Debug)]
pub(crate) struct Definition {
    pub(crate) root_fs: String,
    pub(crate) env: Vec<EnvironmentVariable>,
    pub(crate) memory_mb: i32,
    pub(crate) disk_mb: i32,
    pub(crate) cpu_weight: u32,
    pub(crate) max_pids: i32,
    pub(crate) privileged: bool,
    pub(crate) egress_rules: Vec<SecurityGroupRule>,
    pub(crate) cached_dependencies: Vec<CachedDependency>,
    pub(crate) image_layers: Vec<ImageLayer>,
    pub(crate) trusted_certificates: String,
    pub(crate) network: BTreeMap<String, String>,
    pub(crate) organizational_units: Vec<String>,
    pub(crate) log_source: String,
    pub(crate) log_guid: String,
    pub(crate) log_limit: i64,
    pub(crate) metric_tags: BTreeMap<String, MetricTagValue>,
    pub(crate) files: Vec<File>,
    pub(crate) volumes: Vec<String>,
    pub(crate) ports: Vec<u32>,
    pub(crate) legacy_user: String,
}

macro_rules! definition {
    ($from:expr, $ports:expr) => {{
        let from = $from;
        Definition {
            root_fs: from.root_fs.clone(),
            env: from.environment_variables.clone(),
            memory_mb: from.memory_mb,
            disk_mb: from.disk_mb,
            cpu_weight: from.cpu_weight,
            max_pids: from.max_pids,
            privileged: from.privileged,
            egress_rules: from.egress_rules.clone(),
            cached_dependencies: from.cached_dependencies.clone(),
            image_layers: from.image_layers.clone(),
            trusted_certificates: from.trusted_system_certificates_path.clone(),
            network: from.network.clone().unwrap_or_default().properties,
            organizational_units: from
                .certificate_properties
                .clone()
                .unwrap_or_default()
                .organizational_unit,
            log_source: from.log_source.clone(),
            log_guid: from.log_guid.clone(),
            log_limit: from
                .log_rate_limit
                .as_ref()
                .map_or(-1, |limit| limit.bytes_per_second),
            metric_tags: from.metric_tags.clone(),
            files: from.volume_mounted_files.clone(),
            volumes: from
                .volume_mounts
                .iter()
                .map(|v| v.driver.clone())
                .collect(),
            ports: $ports,
            legacy_user: from.legacy_download_user.clone(),
        }
    }};
}

impl From<&DesiredLrp> for Definition {
    fn from(lrp: &DesiredLrp) -> Self {
        definition!(lrp, lrp.ports.clone())
    }
}

impl From<&TaskDefinition> for Definition {
    fn from(task: &TaskDefinition) -> Self {
        definition!(task, Vec::new())
    }
}

const MEGABYTE: u64 = 1 << 20;
/// The CPU shares of an app with weight 100.
const MAX_CPU_SHARES: u64 = 1024;

impl Definition {
    pub(crate) fn limits(&self) -> Limits {
        let positive = |n: i32| u64::try_from(n).unwrap_or(0);
        Limits {
            memory: positive(self.memory_mb) * MEGABYTE,
            sidecar_memory: SIDECAR_MEMORY_MB * MEGABYTE,
            disk: positive(self.disk_mb) * MEGABYTE,
            cpu_shares: MAX_CPU_SHARES * u64::from(self.cpu_weight) / 100,
            pids: positive(self.max_pids),
        }
    }

    /// Returns the number of bytes that a download may unpack to: content that does not fit into the container need not be
    /// written on the cell.
    pub(crate) fn download_limit(&self) -> u64 {
        match u64::try_from(self.disk_mb) {
            Ok(0) | Err(_) => crate::supply::archive::LARGEST,
            Ok(disk_mb) => disk_mb * MEGABYTE,
        }
    }

    pub(crate) fn egress(&self) -> Result<Vec<EgressRule>> {
        egress(&self.egress_rules)
    }

    /// Refuses requirements that this cell cannot meet.
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(driver) = self.volumes.first() {
            bail!("volume driver {driver:?} is not available on this cell");
        }
        Ok(())
    }

    /// Returns the cached dependencies and shared layers.
    pub(crate) fn dependencies(&self) -> Vec<CachedDependency> {
        let shared = self
            .image_layers
            .iter()
            .filter(|l| l.layer_type == LayerType::Shared as i32)
            .map(|layer| CachedDependency {
                name: layer.name.clone(),
                from: layer.url.clone(),
                to: layer.destination_path.clone(),
                cache_key: layer.url.clone(),
                log_source: String::new(),
                checksum_algorithm: if layer.digest_value.is_empty() {
                    String::new()
                } else {
                    "sha256".to_owned()
                },
                checksum_value: layer.digest_value.clone(),
            });
        self.cached_dependencies
            .iter()
            .cloned()
            .chain(shared)
            .collect()
    }

    /// Returns the exclusive layers as downloads that precede the setup.
    pub(crate) fn layer_downloads(&self) -> Vec<Action> {
        let exclusive = self.image_layers.iter().filter(|l| {
            l.layer_type == LayerType::Exclusive as i32 && l.media_type != MediaType::Invalid as i32
        });
        exclusive
            .map(|layer| Action {
                download: Some(DownloadAction {
                    artifact: layer.name.clone(),
                    from: layer.url.clone(),
                    to: layer.destination_path.clone(),
                    user: self.legacy_user.clone(),
                    checksum_algorithm: if layer.digest_value.is_empty() {
                        String::new()
                    } else {
                        "sha256".to_owned()
                    },
                    checksum_value: layer.digest_value.clone(),
                    ..DownloadAction::default()
                }),
                ..Action::default()
            })
            .collect()
    }

    /// Returns the metric tags with their values. `index` is -1 for a task.
    pub(crate) fn tags(&self, guid: &str, index: i32) -> BTreeMap<String, String> {
        self.metric_tags
            .iter()
            .map(|(name, value)| {
                let text = match MetricTagDynamic::try_from(value.dynamic) {
                    Ok(MetricTagDynamic::Index) => index.max(0).to_string(),
                    Ok(MetricTagDynamic::InstanceGuid) => guid.to_owned(),
                    _ => value.static_value.clone(),
                };
                (name.clone(), text)
            })
            .collect()
    }
}

/// Checks the rules and converts them to garden's type.
pub(crate) fn egress(texts: &[SecurityGroupRule]) -> Result<Vec<EgressRule>> {
    let mut rules = Vec::new();
    for rule in texts {
        let text = egress::RuleText {
            protocol: &rule.protocol,
            destinations: &rule.destinations,
            ports: &rule.ports,
            port_range: rule.port_range.as_ref().map(|r| (r.start, r.end)),
            icmp: rule.icmp_info.as_ref().map(|i| (i.kind, i.code)),
            log: rule.log,
        };
        rules.extend(
            egress::check(&text)
                .context("use a security group rule")?
                .map(egress_rule),
        );
    }
    Ok(rules)
}

fn egress_rule(rule: egress::Rule) -> EgressRule {
    let protocol = match rule.protocol {
        egress::Protocol::Tcp => Protocol::Tcp,
        egress::Protocol::Udp => Protocol::Udp,
        egress::Protocol::Icmp => Protocol::Icmp,
        egress::Protocol::All => Protocol::All,
    };
    EgressRule {
        protocol,
        destinations: rule.destinations,
        ports: rule.ports,
        icmp: rule.icmp,
        log: rule.log,
    }
}

/// Returns the host names of the `internal-router` routes. JSON that cannot be read counts as no route.
pub(crate) fn internal_routes(lrp: &DesiredLrp) -> Vec<String> {
    let names = lrp
        .routes
        .as_ref()
        .map(|routes| routes.internal_hostnames());
    match names.unwrap_or_else(|| Ok(Vec::new())) {
        Ok(names) => names,
        Err(error) => {
            tracing::warn!(%error, process_guid = lrp.process_guid, "internal-routes-unreadable");
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::bbs::{LogRateLimit, ProtoRoutes};

    #[test]
    fn the_app_gets_its_own_limit_and_the_proxy_another() {
        let limits = |memory_mb| {
            Definition::from(&DesiredLrp {
                memory_mb,
                disk_mb: 1,
                cpu_weight: 50,
                ..DesiredLrp::default()
            })
            .limits()
        };
        assert_eq!(
            (limits(64).memory, limits(64).disk, limits(64).cpu_shares),
            (64 << 20, 1 << 20, 512)
        );
        assert_eq!(limits(0).memory, 0);
        assert_eq!(limits(0).sidecar_memory, SIDECAR_MEMORY_MB << 20);
    }

    #[test]
    fn no_log_limit_unless_given() {
        assert_eq!(Definition::from(&DesiredLrp::default()).log_limit, -1);
        assert_eq!(
            Definition::from(&TaskDefinition {
                log_rate_limit: Some(LogRateLimit {
                    bytes_per_second: 0
                }),
                ..TaskDefinition::default()
            })
            .log_limit,
            0
        );
    }

    #[test]
    fn tags_are_resolved() {
        let tag = |static_value: &str, dynamic| MetricTagValue {
            static_value: static_value.into(),
            dynamic,
        };
        let metric_tags = BTreeMap::from([
            ("a".to_owned(), tag("x", 0)),
            ("i".to_owned(), tag("", 1)),
            ("g".to_owned(), tag("", 2)),
        ]);
        let tags = Definition::from(&DesiredLrp {
            metric_tags,
            ..DesiredLrp::default()
        })
        .tags("guid", 3);
        assert_eq!(tags.into_values().collect::<Vec<_>>(), ["x", "guid", "3"]);
    }

    #[test]
    fn internal_routes_are_read() {
        let lrp = |text: &str| DesiredLrp {
            routes: Some(ProtoRoutes {
                routes: BTreeMap::from([("internal-router".to_owned(), text.as_bytes().to_vec())]),
            }),
            ..DesiredLrp::default()
        };
        assert_eq!(
            internal_routes(&lrp(r#"[{"hostname":"a.apps.internal"}]"#)),
            ["a.apps.internal"]
        );
        assert_eq!(internal_routes(&lrp("null")), Vec::<String>::new());
        assert_eq!(internal_routes(&lrp("x")), Vec::<String>::new());
    }
}
