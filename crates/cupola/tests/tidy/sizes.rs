//! Files must be short enough to be read at once.

use crate::report;
use crate::workspace;
use std::collections::BTreeMap;

const LONGEST: usize = 500;

/// The files that are longer today, and the maximum number of lines of each. Rows may shrink and disappear.
const LONGER: &[(&str, usize)] = &[
    ("crates/cc-rules/src/manifest/reader.rs", 540),
    ("crates/cf-cli/src/args.rs", 580),
    ("crates/cf-cli/src/commands/quotas.rs", 560),
    ("crates/cf-cli/src/commands/routes.rs", 760),
    ("crates/cf-cli/src/push/manifest.rs", 560),
    ("crates/clients/src/bbs.rs", 640),
    ("crates/cloud-controller/src/api/app.rs", 580),
    ("crates/cloud-controller/src/api/process.rs", 540),
    ("crates/cloud-controller/src/quota.rs", 640),
    ("crates/cloud-controller/tests/it/fixture.rs", 760),
    ("crates/cloud-controller/tests/it/quotas.rs", 700),
    ("crates/cloud-controller/tests/it/role_table/world.rs", 560),
    ("crates/cupola/tests/it/router_process.rs", 620),
    ("crates/garden/src/linux/cgroups.rs", 600),
    ("crates/garden/src/linux/firewall.rs", 560),
    ("crates/gorouter/src/yml/tests.rs", 740),
    ("crates/http-sides/src/http1.rs", 540),
    ("crates/http1/src/request.rs", 560),
    ("crates/inside/src/healthcheck.rs", 520),
    ("crates/inside/src/shim/server.rs", 580),
    ("crates/inside/src/staticfile/reply.rs", 640),
    ("crates/log-cache/src/store.rs", 560),
    ("crates/rep/src/instance/health.rs", 560),
    ("crates/rep/src/instance/lrp.rs", 600),
    ("crates/route-table/src/emission/tests.rs", 740),
    ("crates/route-table/src/registry/mod.rs", 640),
    ("crates/route-table/src/registry/tests.rs", 600),
    ("crates/router/src/config.rs", 560),
    ("crates/router/tests/it/nats.rs", 560),
    ("crates/testkit/src/sim_garden.rs", 700),
    ("crates/wire/src/bbs.rs", 700),
];

#[test]
fn files_are_not_longer_than_500_lines() {
    let listed: BTreeMap<&str, usize> = LONGER.iter().copied().collect();
    let mut problems = Vec::new();
    for source in workspace::sources() {
        let lines = source.text.lines().count();
        let allowed = listed.get(&*source.path).copied().unwrap_or(LONGEST);
        if lines > allowed {
            problems.push(format!(
                "{}: {lines} lines, {allowed} are allowed: split it; a long file usually hides a noun of its own",
                source.path
            ));
        }
        if listed.contains_key(&*source.path) && lines <= LONGEST {
            problems.push(format!(
                "{}: {lines} lines: remove its row from LONGER (tests/tidy/sizes.rs)",
                source.path
            ));
        }
    }
    for path in listed.keys() {
        if !workspace::sources().iter().any(|s| s.path == *path) {
            problems.push(format!(
                "{path} does not exist: remove its row from LONGER (tests/tidy/sizes.rs)"
            ));
        }
    }
    report(&problems);
}
