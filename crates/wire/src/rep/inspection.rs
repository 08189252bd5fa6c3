//! The answer of a rep to a question about one instance: what the cell really has of it. It is a page of ours; an original rep
//! answers 404.

use serde::{Deserialize, Serialize};

/// The state of one instance on its cell, read when the request came.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Inspection {
    pub instance_guid: String,
    pub cell_id: String,
    /// The cell's clock, in seconds since 1970.
    pub now: i64,
    /// Whether the cell is healthy: garden answers and the comparison with the BBS works.
    pub cell_is_healthy: bool,
    pub machine: InspectedMachine,
    /// The rep's state of the instance: `reserved`, `initializing`, `created`, `running` or `completed`. It is empty if the rep has
    /// no such instance.
    pub state: String,
    /// Whether the readiness checks pass and the instance is not stopping.
    pub is_routable: bool,
    pub is_stopping: bool,
    /// The container as garden has it; `None` if garden has none of that name.
    pub container: Option<InspectedContainer>,
    /// The rules of the machine's firewall that concern the container.
    pub firewall: Read<Vec<InspectedRule>>,
    /// The answer of the instance's Envoy to a TLS handshake; `None` if the instance has no Envoy.
    pub envoy: Option<Read<InspectedCertificate>>,
}

/// The state of the cell's machine. `None`: the value could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InspectedMachine {
    /// The number of connections that the kernel tracks, and the most that it can.
    pub tracked_connections: Option<u64>,
    pub most_tracked_connections: Option<u64>,
    /// Whether the kernel passes packets on from one link to another.
    pub forwards_packets: Option<bool>,
    /// The free bytes on the disk of the containers.
    pub free_disk: Option<u64>,
}

/// A part of the answer. `problem` is the reason why it could not be read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Read<T> {
    pub value: Option<T>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub problem: String,
}

impl<T> Read<T> {
    /// Returns the value, or the reason why there is none.
    pub fn get(&self) -> Result<&T, &str> {
        self.value.as_ref().ok_or(self.problem.as_str())
    }
}

impl<T> From<Result<T, String>> for Read<T> {
    fn from(result: Result<T, String>) -> Self {
        match result {
            Ok(value) => Self {
                value: Some(value),
                problem: String::new(),
            },
            Err(problem) => Self {
                value: None,
                problem,
            },
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct InspectedContainer {
    /// The container's own address.
    pub address: String,
    /// The address of the cell at which the mapped ports are reached.
    pub cell_address: String,
    pub ports: Vec<InspectedPort>,
    /// The TCP addresses on which processes in the container listen.
    pub listeners: Vec<String>,
    pub processes: Vec<InspectedProcess>,
    /// The number of packets that the container's limits of connections and packets have refused.
    pub refused_packets: u64,
}

/// A mapped port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InspectedPort {
    pub host_port: u16,
    pub container_port: u16,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InspectedProcess {
    pub id: String,
    /// The exit status; `None` while the process runs.
    pub exit_status: Option<i32>,
}

/// A rule of the machine's firewall.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InspectedRule {
    /// The table: `nat`, `filter`, `raw` or `mangle`.
    pub table: String,
    /// The rule as `iptables -S` prints it, with its chain.
    pub rule: String,
    /// The number of packets that the rule has matched.
    pub packets: u64,
}

/// A certificate that a server presents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InspectedCertificate {
    /// The DNS names and IP addresses for which it is valid.
    pub names: Vec<String>,
    /// The times from which and until which it is valid, in seconds since 1970.
    pub not_before: i64,
    pub not_after: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inspection_is_read_as_it_was_written() {
        let inspection = Inspection {
            instance_guid: "i1".to_owned(),
            container: Some(InspectedContainer {
                listeners: vec!["0.0.0.0:8080".to_owned()],
                ..InspectedContainer::default()
            }),
            firewall: Ok(vec![InspectedRule::default()]).into(),
            envoy: Some(Err("connection refused".to_owned()).into()),
            ..Inspection::default()
        };
        let json = serde_json::to_string(&inspection).unwrap();
        let read: Inspection = serde_json::from_str(&json).unwrap();
        assert_eq!(read, inspection);
        assert_eq!(read.firewall.get().map(Vec::len), Ok(1));
        let envoy = read.envoy.unwrap();
        assert_eq!(envoy.get(), Err("connection refused"));
        // A rep of another version may leave everything out.
        let empty: Inspection = serde_json::from_str("{}").unwrap();
        assert_eq!(empty, Inspection::default());
    }
}
