//! Limits on requests. An error lists all invalid fields at once, one per line, as in `Invalid field: process_guid`.

use crate::failure::Failure;
use wire::bbs as m;

const MAX_ANNOTATION: usize = 10 * 1024;
const MAX_ROUTES: usize = 128 * 1024;
const MAX_FILES: usize = 1024 * 1024;

#[derive(Default)]
struct Complaints(Vec<String>);

impl Complaints {
    fn unless(&mut self, valid: bool, field: &str) {
        if !valid {
            self.0.push(format!("Invalid field: {field}"));
        }
    }

    fn finish(self) -> Result<(), Failure> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Failure::invalid(self.0.join("\n")))
        }
    }
}

pub(crate) fn desired_lrp(lrp: &m::DesiredLrp) -> Result<(), Failure> {
    let mut c = Complaints::default();
    c.unless(is_guid(&lrp.process_guid), "process_guid");
    c.unless(!lrp.domain.is_empty(), "domain");
    c.unless(is_url(&lrp.root_fs), "rootfs");
    c.unless(lrp.instances >= 0, "instances");
    c.unless(lrp.memory_mb >= 0, "memory_mb");
    c.unless(lrp.disk_mb >= 0, "disk_mb");
    c.unless(lrp.max_pids >= 0, "max_pids");
    c.unless(lrp.cpu_weight <= 100, "cpu_weight");
    c.unless(lrp.start_timeout_ms >= 0, "start_timeout_ms");
    c.unless(lrp.annotation.len() <= MAX_ANNOTATION, "annotation");
    c.unless(routes_fit(lrp.routes.as_ref()), "routes");
    c.unless(lrp.action.is_some(), "action");
    for wanted in [&lrp.setup, &lrp.action, &lrp.monitor]
        .into_iter()
        .flatten()
    {
        action(&mut c, wanted);
    }
    for sidecar in &lrp.sidecars {
        c.unless(
            sidecar.action.is_some() && sidecar.memory_mb >= 0 && sidecar.disk_mb >= 0,
            "sidecars",
        );
        sidecar.action.iter().for_each(|a| action(&mut c, a));
    }
    for check in lrp
        .check_definition
        .iter()
        .flat_map(|d| d.checks.iter().chain(&d.readiness_checks))
    {
        let ports = [
            check.tcp_check.as_ref().map(|t| t.port),
            check.http_check.as_ref().map(|h| h.port),
        ];
        let set: Vec<u32> = ports.into_iter().flatten().collect();
        c.unless(
            matches!(set[..], [port] if is_port(port)),
            "check_definition",
        );
    }
    c.unless(lrp.ports.iter().all(|&p| is_port(p)), "ports");
    container(
        &mut c,
        &lrp.egress_rules,
        &lrp.cached_dependencies,
        lrp.log_rate_limit.as_ref(),
        &lrp.volume_mounted_files,
    );
    c.unless(
        lrp.image_username.is_empty() == lrp.image_password.is_empty(),
        "image_username",
    );
    metric_tags(&mut c, &lrp.metric_tags, &lrp.metrics_guid);
    c.finish()
}

pub(crate) fn update(update: &m::DesiredLrpUpdate) -> Result<(), Failure> {
    let mut c = Complaints::default();
    c.unless(update.instances.is_none_or(|n| n >= 0), "instances");
    c.unless(
        update
            .annotation
            .as_ref()
            .is_none_or(|a| a.len() <= MAX_ANNOTATION),
        "annotation",
    );
    c.unless(routes_fit(update.routes.as_ref()), "routes");
    c.unless(
        update.image_username.is_some() == update.image_password.is_some(),
        "image_username",
    );
    metric_tags(&mut c, &update.metric_tags, "");
    if let Some(update) = &update.egress {
        egress(&mut c, &update.rules);
    }
    c.finish()
}

pub(crate) fn task(
    guid: &str,
    domain: &str,
    definition: &m::TaskDefinition,
) -> Result<(), Failure> {
    let mut c = Complaints::default();
    c.unless(is_guid(guid), "task_guid");
    c.unless(!domain.is_empty(), "domain");
    c.unless(is_url(&definition.root_fs), "rootfs");
    c.unless(definition.memory_mb >= 0, "memory_mb");
    c.unless(definition.disk_mb >= 0, "disk_mb");
    c.unless(definition.max_pids >= 0, "max_pids");
    c.unless(definition.cpu_weight <= 100, "cpu_weight");
    c.unless(definition.annotation.len() <= MAX_ANNOTATION, "annotation");
    let callback = &definition.completion_callback_url;
    c.unless(
        callback.is_empty() || callback.starts_with("https://") || callback.starts_with("http://"),
        "completion_callback_url",
    );
    c.unless(definition.action.is_some(), "action");
    definition.action.iter().for_each(|a| action(&mut c, a));
    container(
        &mut c,
        &definition.egress_rules,
        &definition.cached_dependencies,
        definition.log_rate_limit.as_ref(),
        &definition.volume_mounted_files,
    );
    c.unless(
        definition.image_username.is_empty() == definition.image_password.is_empty(),
        "image_username",
    );
    metric_tags(&mut c, &definition.metric_tags, &definition.metrics_guid);
    c.finish()
}

/// Checks the egress rules that replace those of a task.
pub(crate) fn egress_update(update: &m::EgressUpdate) -> Result<(), Failure> {
    let mut c = Complaints::default();
    egress(&mut c, &update.rules);
    c.finish()
}

pub(crate) fn actual_key(key: Option<&m::ActualLrpKey>) -> Result<lrp::ActualLrpKey, Failure> {
    let key = key.ok_or_else(|| Failure::invalid("Invalid field: actual_lrp_key"))?;
    let mut c = Complaints::default();
    c.unless(!key.process_guid.is_empty(), "process_guid");
    c.unless(key.index >= 0, "index");
    c.unless(!key.domain.is_empty(), "domain");
    c.finish()?;
    Ok(crate::convert::core_key(key))
}

pub(crate) fn instance_key(
    instance: Option<&m::ActualLrpInstanceKey>,
) -> Result<lrp::InstanceKey, Failure> {
    let instance =
        instance.ok_or_else(|| Failure::invalid("Invalid field: actual_lrp_instance_key"))?;
    let mut c = Complaints::default();
    c.unless(!instance.instance_guid.is_empty(), "instance_guid");
    c.unless(!instance.cell_id.is_empty(), "cell_id");
    c.finish()?;
    Ok(crate::convert::core_instance(instance))
}

pub(crate) fn present(text: &str, field: &str) -> Result<(), Failure> {
    let mut c = Complaints::default();
    c.unless(!text.is_empty(), field);
    c.finish()
}

fn egress(c: &mut Complaints, rules: &[m::SecurityGroupRule]) {
    for rule in rules {
        c.unless(
            matches!(
                rule.protocol.as_str(),
                "tcp" | "udp" | "icmp" | "icmpv6" | "all"
            ),
            "egress_rules",
        );
        c.unless(!rule.destinations.is_empty(), "destinations");
        c.unless(
            rule.port_range
                .as_ref()
                .is_none_or(|r| r.start <= r.end && is_port(r.end)),
            "port_range",
        );
    }
}

fn container(
    c: &mut Complaints,
    rules: &[m::SecurityGroupRule],
    cached: &[m::CachedDependency],
    log_rate: Option<&m::LogRateLimit>,
    files: &[m::File],
) {
    egress(c, rules);
    for dependency in cached {
        c.unless(
            !dependency.from.is_empty() && !dependency.to.is_empty(),
            "cached_dependencies",
        );
        c.unless(
            dependency.checksum_algorithm.is_empty() == dependency.checksum_value.is_empty(),
            "checksum",
        );
    }
    c.unless(
        log_rate.is_none_or(|l| l.bytes_per_second >= -1),
        "log_rate_limit",
    );
    c.unless(
        files.iter().map(|f| f.content.len()).sum::<usize>() <= MAX_FILES,
        "volume_mounted_files",
    );
    c.unless(
        files.iter().all(|f| !f.path.is_empty()),
        "volume_mounted_files",
    );
}

/// Checks that each node has exactly one kind, and the fields that this kind requires.
fn action(c: &mut Complaints, action: &m::Action) {
    let inner = |inner: &Option<Box<m::Action>>, c: &mut Complaints| match inner {
        Some(inner) => self::action(c, inner),
        None => c.unless(false, "action"),
    };
    let mut kinds = 0;
    let mut some = || kinds += 1;
    if let Some(a) = &action.download {
        some();
        c.unless(!a.from.is_empty(), "from");
        c.unless(!a.to.is_empty(), "to");
        c.unless(!a.user.is_empty(), "user");
        c.unless(
            a.checksum_algorithm.is_empty() == a.checksum_value.is_empty(),
            "checksum",
        );
    }
    if let Some(a) = &action.upload {
        some();
        c.unless(!a.from.is_empty(), "from");
        c.unless(!a.to.is_empty(), "to");
        c.unless(!a.user.is_empty(), "user");
    }
    if let Some(a) = &action.run {
        some();
        c.unless(!a.path.is_empty(), "path");
        c.unless(!a.user.is_empty(), "user");
    }
    if let Some(a) = &action.timeout {
        some();
        c.unless(a.timeout_ms > 0, "timeout_ms");
        inner(&a.action, c);
    }
    if let Some(a) = &action.emit_progress {
        some();
        inner(&a.action, c);
    }
    if let Some(a) = &action.try_ {
        some();
        inner(&a.action, c);
    }
    let lists = [
        action.parallel.as_ref().map(|a| &a.actions),
        action.serial.as_ref().map(|a| &a.actions),
        action.codependent.as_ref().map(|a| &a.actions),
    ];
    for list in lists.into_iter().flatten() {
        some();
        c.unless(!list.is_empty(), "actions");
        list.iter().for_each(|a| self::action(c, a));
    }
    c.unless(kinds == 1, "inner_action");
}

fn metric_tags(
    c: &mut Complaints,
    tags: &std::collections::BTreeMap<String, m::MetricTagValue>,
    metrics_guid: &str,
) {
    for tag in tags.values() {
        c.unless(
            tag.static_value.is_empty() || tag.dynamic == m::MetricTagDynamic::Invalid as i32,
            "metric_tags",
        );
    }
    if let (Some(source), false) = (tags.get("source_id"), metrics_guid.is_empty()) {
        c.unless(
            source.static_value == metrics_guid,
            "source_id should match metrics_guid",
        );
    }
}

fn routes_fit(routes: Option<&m::ProtoRoutes>) -> bool {
    routes.is_none_or(|r| r.routes.values().map(Vec::len).sum::<usize>() <= MAX_ROUTES)
}

fn is_guid(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// Returns whether the text begins with a URL scheme.
fn is_url(text: &str) -> bool {
    text.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    })
}

fn is_port(port: u32) -> bool {
    (1..=65535).contains(&port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lrp() -> m::DesiredLrp {
        let run = m::RunAction {
            path: "/bin/true".into(),
            user: "vcap".into(),
            ..m::RunAction::default()
        };
        m::DesiredLrp {
            process_guid: "a-B_1".into(),
            domain: "d".into(),
            root_fs: "preloaded:x".into(),
            action: Some(m::Action {
                run: Some(run),
                ..m::Action::default()
            }),
            ..m::DesiredLrp::default()
        }
    }

    #[test]
    fn desired() {
        let check = |name: &str, change: &dyn Fn(&mut m::DesiredLrp), want: &str| {
            let mut lrp = lrp();
            change(&mut lrp);
            let got = desired_lrp(&lrp)
                .err()
                .map(|f| f.message)
                .unwrap_or_default();
            assert_eq!(got, want, "{name}");
        };
        check("valid", &|_| {}, "");
        check(
            "guid",
            &|l| l.process_guid = "a/b".into(),
            "Invalid field: process_guid",
        );
        check(
            "several",
            &|l| (l.domain, l.root_fs) = (String::new(), "x".into()),
            "Invalid field: domain\nInvalid field: rootfs",
        );
        check(
            "negative",
            &|l| l.instances = -1,
            "Invalid field: instances",
        );
        check(
            "annotation",
            &|l| l.annotation = "x".repeat(10 * 1024 + 1),
            "Invalid field: annotation",
        );
        check(
            "routes",
            &|l| {
                l.routes = Some(m::ProtoRoutes {
                    routes: [("cf-router".into(), vec![0; 128 * 1024 + 1])].into(),
                })
            },
            "Invalid field: routes",
        );
        check("no action", &|l| l.action = None, "Invalid field: action");
        check(
            "empty action",
            &|l| l.action = Some(m::Action::default()),
            "Invalid field: inner_action",
        );
        check(
            "user alone",
            &|l| l.image_username = "u".into(),
            "Invalid field: image_username",
        );
        check(
            "log rate",
            &|l| {
                l.log_rate_limit = Some(m::LogRateLimit {
                    bytes_per_second: -2,
                })
            },
            "Invalid field: log_rate_limit",
        );
    }
}
