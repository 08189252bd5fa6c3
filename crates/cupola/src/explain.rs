//! `cupola why URL`: asks every component about a URL and prints its way, hop by hop, with the hop that breaks it. It uses the
//! operator's certificate.

use crate::addresses::Service;
use crate::exec;
use crate::nats_command;
use crate::plan::{Plan, STATUS_USER};
use crate::terminal;
use anyhow::{Result, ensure};
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use survey::{Diego, RouterAddress, Survey};
use why::{Advice, Explanation, Hop, Verdict};

/// The most lines of a hosts file that has the names of all routes.
const MOST_NAMES: usize = 5_000;

/// Runs `cupola why URL`. The exit code is 0 only if the route is right. Routers are found on the bus; `routers` are the addresses of the
/// operators' pages of others.
pub(crate) async fn run(
    data: &Path,
    url: &str,
    is_json: bool,
    routers: &[String],
) -> Result<ExitCode> {
    let host = url.split_once("://").map_or(url, |(_, rest)| rest);
    ensure!(
        host.split(['/', ':'])
            .next()
            .is_some_and(|host| host.contains('.')),
        "{url:?} is not a URL of a route: use e.g. app.example.com/path"
    );
    let explanation = ask(data, &Plan::read(data)?, url, routers).await?;
    if is_json {
        let json = serde_json::to_string_pretty(&explanation)?;
        terminal::print(&format!("{json}\n"))?;
    } else {
        terminal::print(&text(&explanation))?;
    }
    Ok(match explanation.is_right {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Asks all components about a URL.
pub(crate) async fn ask(
    data: &Path,
    plan: &Plan,
    url: &str,
    routers: &[String],
) -> Result<Explanation> {
    let operator = exec::operator(data)?;
    let mut addresses = own_routers(plan);
    addresses.extend(routers.iter().map(|address| router(plan, address)));
    let internal = format!("https://{}", plan.reach(Service::CloudControllerInternal));
    let route = survey::stored_route(&internal, &operator, url).await;
    let stored = route.as_ref().ok().and_then(Option::as_ref);
    // The hosts file has no wildcards.
    let is_named = stored.is_some_and(|route| !route.url.starts_with('*')) && keeps_names(plan);
    let survey = Survey {
        diego: Diego::new(exec::bbs_client(data, plan)?, &operator)?,
        routers: addresses,
        bus: Some(nats_command::bus(data, plan)?),
        name_port: is_named.then_some(plan.http_port),
    };
    Ok(why::explain(&survey.facts(url, route).await))
}

/// Returns whether the foundation keeps the names of its routes in the hosts file of this machine.
fn keeps_names(plan: &Plan) -> bool {
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let api = format!("api.{}", plan.domain);
    let names_api = |line: &str| line.split_whitespace().skip(1).any(|name| name == api);
    hosts.lines().any(names_api) && hosts.lines().count() < MOST_NAMES
}

/// Returns the router that the plan knows: that of this machine, if it has one.
pub(crate) fn own_routers(plan: &Plan) -> Vec<RouterAddress> {
    let own = router(plan, &plan.reach(Service::RouterStatus));
    vec![RouterAddress {
        is_guess: true,
        ..own
    }]
}

/// Returns a router by the address of its operator's pages. Its listener for requests is on the same host, at the foundation's port.
pub(crate) fn router(plan: &Plan, address: &str) -> RouterAddress {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    RouterAddress {
        name: address.to_owned(),
        status_url: format!("http://{address}"),
        user: STATUS_USER.to_owned(),
        password: plan.status_password.clone(),
        http_url: Some(format!("http://{host}:{}", plan.http_port)),
        https_address: Some(format!("{host}:{}", plan.https_port)),
        is_guess: false,
    }
}

/// Returns the explanation for people: a line for each hop, then the guilty one, then the last failing requests.
pub(crate) fn text(explanation: &Explanation) -> String {
    let mut text = String::new();
    for (at, hop) in explanation.hops.iter().enumerate() {
        line(&mut text, hop, explanation.guilty == Some(at));
    }
    match explanation.guilty_hop() {
        None => text.push_str("\nThe route is right.\n"),
        Some(hop) => {
            let place = format!("{} {} {}", hop.component, hop.part, hop.subject);
            let _ = writeln!(text, "\nThe first hop that is wrong: {}", place.trim_end());
            if let Some(advice) = hop.verdict.advice() {
                advise(&mut text, advice);
            }
        }
    }
    if !explanation.failures.is_empty() {
        text.push_str("\nThe last failing requests:\n");
    }
    for failure in &explanation.failures {
        let _ = writeln!(
            text,
            "   {} s ago {} {} {} request {}",
            age(failure.age),
            failure.status,
            failure.error,
            failure.path,
            failure.request_id
        );
        let Advice { reason, .. } = &failure.advice;
        let _ = writeln!(text, "      {}: {reason}", failure.component);
    }
    text
}

fn line(text: &mut String, hop: &Hop, is_guilty: bool) {
    let mark = match hop.verdict {
        Verdict::Right => '✓',
        Verdict::Wrong(_) => '✗',
        Verdict::Waits(_) => '…',
        Verdict::Unread(_) => '?',
    };
    let since = hop
        .age
        .map_or_else(String::new, |seconds| format!(" ({} s)", age(seconds)));
    let change = hop.generation.map_or_else(String::new, |generation| {
        let after = hop.after_ms.map(|ms| format!(" after {ms:.1} ms"));
        format!(", change {generation}{}", after.unwrap_or_default())
    });
    let arrow = if is_guilty { "  ◀" } else { "" };
    let _ = writeln!(
        text,
        "   {mark} {:<16} {:<15} {:<23} {}{since}{change}{arrow}",
        hop.component, hop.part, hop.subject, hop.found
    );
}

fn advise(text: &mut String, advice: &Advice) {
    let _ = writeln!(text, "   {}", advice.reason);
    let _ = writeln!(text, "   {}", advice.remedy);
}

/// Returns an age with one digit behind the point, as long as that digit matters.
fn age(seconds: f64) -> String {
    if seconds < 10.0 {
        format!("{seconds:.1}")
    } else {
        format!("{seconds:.0}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use why::Component;

    #[test]
    fn the_guilty_hop_is_marked_and_explained() {
        let hop = |component, part, verdict| Hop {
            component,
            part,
            subject: "shop/0".to_owned(),
            found: String::new(),
            age: Some(4.5),
            generation: Some(17),
            after_ms: Some(2.3),
            verdict,
        };
        let advice = Advice {
            reason: "It is gone.".to_owned(),
            remedy: "Bring it back.".to_owned(),
        };
        let mut explanation = Explanation {
            url: "shop.test".to_owned(),
            is_right: false,
            guilty: Some(1),
            hops: vec![
                hop(Component::Rep, "cell", Verdict::Right),
                hop(Component::Iptables, "DNAT", Verdict::Wrong(advice)),
            ],
            failures: Vec::new(),
        };
        let shown = text(&explanation);
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[0].starts_with("   ✓ rep"), "{shown}");
        assert!(
            lines[1].starts_with("   ✗ iptables")
                && lines[1].ends_with("(4.5 s), change 17 after 2.3 ms  ◀"),
            "{shown}"
        );
        assert!(shown.ends_with("The first hop that is wrong: iptables DNAT shop/0\n   It is gone.\n   Bring it back.\n"), "{shown}");
        explanation.guilty = None;
        assert!(text(&explanation).ends_with("\nThe route is right.\n"));
    }
}
