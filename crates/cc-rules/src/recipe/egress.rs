//! Converts the rules of security groups, as the API stores them, into the egress rules of an LRP or task.
//!
//! A rule is `{"protocol": "tcp", "destination": "10.0.0.0/8,192.168.0.1-192.168.0.9", "ports": "80,443", "log": false}`; icmp
//! has `type` and `code` instead of `ports`. The API calls [`rules`] to check the rules that a user sends.

use serde_json::Value;
use std::net::IpAddr;
use wire::bbs::{IcmpInfo, PortRange, SecurityGroupRule};

/// The number of the wrong rule (counted from 1), and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("security group rule {number}: {problem}")]
pub struct RuleError {
    pub number: usize,
    pub problem: String,
}

/// Converts rules. Rules that log come last, as in the original: the first match decides, and most traffic need not be logged.
pub fn rules(json: &[Value]) -> Result<Vec<SecurityGroupRule>, RuleError> {
    let mut rules = Vec::with_capacity(json.len());
    for (index, rule) in json.iter().enumerate() {
        rules.extend(parse(rule).map_err(|problem| RuleError {
            number: index + 1,
            problem,
        })?);
    }
    rules.sort_by_key(|rule| rule.log);
    Ok(rules)
}

/// Converts one rule. The result may be several rules, because single ports and each port range are separate on the wire.
fn parse(rule: &Value) -> Result<Vec<SecurityGroupRule>, String> {
    let text = |key: &str| rule.get(key).and_then(Value::as_str);
    let protocol =
        text("protocol").ok_or("protocol is missing; want tcp, udp, icmp, icmpv6 or all")?;
    let destination = text("destination")
        .ok_or("destination is missing; want an address, a CIDR or a range a-b")?;
    if destination.contains(char::is_whitespace) {
        return Err(format!(
            "destination {destination:?} must not contain whitespace"
        ));
    }
    let destinations = destination
        .split(',')
        .map(check_destination)
        .collect::<Result<Vec<_>, _>>()?;
    let log = rule.get("log").and_then(Value::as_bool).unwrap_or(false);
    let base = SecurityGroupRule {
        protocol: protocol.into(),
        destinations,
        log,
        ..Default::default()
    };
    match protocol {
        "all" => Ok(vec![base]),
        "icmp" | "icmpv6" => {
            let number = |key: &str| {
                rule.get(key)
                    .and_then(Value::as_i64)
                    .and_then(|n| i32::try_from(n).ok())
                    .unwrap_or(-1)
            };
            Ok(vec![SecurityGroupRule {
                icmp_info: Some(IcmpInfo {
                    kind: number("type"),
                    code: number("code"),
                }),
                ..base
            }])
        }
        "tcp" | "udp" => split_ports(
            &base,
            text("ports").ok_or_else(|| {
                format!("ports are missing; {protocol} wants for example 443, 80,443 or 1000-2000")
            })?,
        ),
        other => Err(format!(
            "unknown protocol {other:?}; want tcp, udp, icmp, icmpv6 or all"
        )),
    }
}

fn split_ports(base: &SecurityGroupRule, ports: &str) -> Result<Vec<SecurityGroupRule>, String> {
    let (mut single, mut rules) = (Vec::new(), Vec::new());
    for part in ports.split(',').map(str::trim) {
        match part.split_once('-') {
            None => single.push(port(part)?),
            Some((start, end)) => {
                let (start, end) = (port(start.trim())?, port(end.trim())?);
                if start > end {
                    return Err(format!("port range {part:?} runs backwards"));
                }
                rules.push(SecurityGroupRule {
                    port_range: Some(PortRange { start, end }),
                    ..base.clone()
                });
            }
        }
    }
    if !single.is_empty() {
        rules.insert(
            0,
            SecurityGroupRule {
                ports: single,
                ..base.clone()
            },
        );
    }
    Ok(rules)
}

fn port(text: &str) -> Result<u32, String> {
    text.parse::<u16>()
        .ok()
        .filter(|port| *port > 0)
        .map(u32::from)
        .ok_or_else(|| format!("port {text:?}: want a number from 1 to 65535"))
}

fn check_destination(text: &str) -> Result<String, String> {
    let wrong = || format!("destination {text:?}: want an address, a CIDR or a range a-b");
    let address = |part: &str| part.parse::<IpAddr>().map_err(|_| wrong());
    if let Some((start, end)) = text.split_once('-') {
        if address(start)? > address(end)? {
            return Err(format!("destination {text:?}: the range runs backwards"));
        }
    } else if let Some((network, prefix)) = text.split_once('/') {
        let longest = if address(network)?.is_ipv4() { 32 } else { 128 };
        prefix
            .parse::<u8>()
            .ok()
            .filter(|prefix| *prefix <= longest)
            .ok_or_else(wrong)?;
    } else {
        address(text)?;
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn problem(rule: Value) -> String {
        rules(&[rule]).unwrap_err().to_string()
    }

    #[test]
    fn every_form_of_rule() {
        let wire = rules(&[
            json!({"protocol": "tcp", "destination": "10.0.0.0/8,192.168.0.1-192.168.0.9", "ports": "80, 443,1000-2000", "log": true}),
            json!({"protocol": "all", "destination": "0.0.0.0-9.255.255.255"}),
            json!({"protocol": "icmp", "destination": "1.2.3.4", "type": 8, "code": 0}),
        ])
        .unwrap();
        assert_eq!(wire.len(), 4);
        assert_eq!(
            (wire[0].protocol.as_str(), wire[0].destinations[0].as_str()),
            ("all", "0.0.0.0-9.255.255.255")
        );
        assert_eq!(wire[1].icmp_info, Some(IcmpInfo { kind: 8, code: 0 }));
        assert_eq!(
            (
                wire[2].ports.as_slice(),
                wire[2].log,
                wire[2].destinations.len()
            ),
            ([80, 443].as_slice(), true, 2)
        );
        assert_eq!(
            wire[3].port_range,
            Some(PortRange {
                start: 1000,
                end: 2000
            })
        );
    }

    #[test]
    fn problems_name_rule_and_value() {
        assert_eq!(
            problem(json!({"protocol": "sctp", "destination": "1.1.1.1"})),
            "security group rule 1: unknown protocol \"sctp\"; want tcp, udp, icmp, icmpv6 or all"
        );
        assert!(
            problem(json!({"protocol": "tcp", "destination": "1.1.1.1", "ports": "70000"}))
                .contains("\"70000\"")
        );
        assert!(
            problem(json!({"protocol": "tcp", "destination": "1.1.1.1"}))
                .contains("ports are missing")
        );
        assert!(
            problem(json!({"protocol": "all", "destination": "example.com"}))
                .contains("\"example.com\"")
        );
        assert!(
            problem(json!({"protocol": "all", "destination": "1.0.0.0/33"})).contains("1.0.0.0/33")
        );
        assert!(
            problem(json!({"protocol": "all", "destination": "9.0.0.0-1.0.0.0"}))
                .contains("backwards")
        );
        assert!(
            problem(json!({"protocol": "all", "destination": "1.1.1.1, 2.2.2.2"}))
                .contains("must not contain whitespace")
        );
    }
}
