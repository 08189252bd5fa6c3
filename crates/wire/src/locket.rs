//! The messages of Locket's gRPC service (`models.Locket`: Lock, Fetch, Release, FetchAll).

#[derive(Clone, PartialEq, prost::Message)]
pub struct Resource {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub owner: String,
    /// The value. That of a cell presence is the presence as JSON.
    #[prost(string, tag = "3")]
    pub value: String,
    /// The deprecated spelling of the type: `lock` or `presence`.
    #[prost(string, tag = "4")]
    pub type_name: String,
    #[prost(enumeration = "TypeCode", tag = "5")]
    pub type_code: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum TypeCode {
    Unknown = 0,
    Lock = 1,
    Presence = 2,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct LockRequest {
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    #[prost(int64, tag = "2")]
    pub ttl_in_seconds: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct LockResponse {}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ReleaseRequest {
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ReleaseResponse {}

#[derive(Clone, PartialEq, prost::Message)]
pub struct FetchRequest {
    #[prost(string, tag = "1")]
    pub key: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct FetchResponse {
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct FetchAllRequest {
    #[prost(string, tag = "1")]
    pub type_name: String,
    #[prost(enumeration = "TypeCode", tag = "2")]
    pub type_code: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct FetchAllResponse {
    #[prost(message, repeated, tag = "1")]
    pub resources: Vec<Resource>,
}

/// The paths of the gRPC methods.
pub mod path {
    pub const LOCK: &str = "/models.Locket/Lock";
    pub const FETCH: &str = "/models.Locket/Fetch";
    pub const RELEASE: &str = "/models.Locket/Release";
    pub const FETCH_ALL: &str = "/models.Locket/FetchAll";
}

/// The spellings of [`Resource::type_name`].
pub const LOCK: &str = "lock";
pub const PRESENCE: &str = "presence";

impl Resource {
    /// Returns the type, by its code or by its deprecated name.
    pub fn kind(&self) -> TypeCode {
        kind(self.type_code, &self.type_name)
    }
}

impl FetchAllRequest {
    pub fn kind(&self) -> TypeCode {
        kind(self.type_code, &self.type_name)
    }
}

fn kind(code: i32, name: &str) -> TypeCode {
    match (TypeCode::try_from(code), name) {
        (Ok(kind @ (TypeCode::Lock | TypeCode::Presence)), _) => kind,
        (_, LOCK) => TypeCode::Lock,
        (_, PRESENCE) => TypeCode::Presence,
        _ => TypeCode::Unknown,
    }
}

/// The JSON that a cell stores as the value of its presence. The names are those of the original's generated code.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
struct PresenceJson {
    cell_id: String,
    rep_address: String,
    zone: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    capacity: Option<CapacityJson>,
    #[serde(rename = "rootfs_provider_list", skip_serializing_if = "Vec::is_empty")]
    rootfs_providers: Vec<ProviderJson>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    placement_tags: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    optional_placement_tags: Vec<String>,
    rep_url: String,
    #[serde(skip_serializing_if = "std::collections::HashMap::is_empty")]
    annotations: std::collections::HashMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
struct CapacityJson {
    memory_mb: i32,
    disk_mb: i32,
    containers: i32,
}

#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
struct ProviderJson {
    name: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    properties: Vec<String>,
}

impl crate::bbs::CellPresence {
    /// Returns the value of the cell's presence in locket.
    pub fn to_locket_value(&self) -> String {
        let json = PresenceJson {
            cell_id: self.cell_id.clone(),
            rep_address: self.rep_address.clone(),
            zone: self.zone.clone(),
            capacity: self.capacity.as_ref().map(|c| CapacityJson {
                memory_mb: c.memory_mb,
                disk_mb: c.disk_mb,
                containers: c.containers,
            }),
            rootfs_providers: self
                .rootfs_providers
                .iter()
                .map(|p| ProviderJson {
                    name: p.name.clone(),
                    properties: p.properties.clone(),
                })
                .collect(),
            placement_tags: self.placement_tags.clone(),
            optional_placement_tags: self.optional_placement_tags.clone(),
            rep_url: self.rep_url.clone(),
            annotations: self.annotations.clone(),
        };
        serde_json::to_string(&json).unwrap_or_default()
    }

    pub fn from_locket_value(value: &str) -> Result<Self, serde_json::Error> {
        let json: PresenceJson = serde_json::from_str(value)?;
        Ok(Self {
            cell_id: json.cell_id,
            rep_address: json.rep_address,
            zone: json.zone,
            capacity: json.capacity.map(|c| crate::bbs::CellCapacity {
                memory_mb: c.memory_mb,
                disk_mb: c.disk_mb,
                containers: c.containers,
            }),
            rootfs_providers: json
                .rootfs_providers
                .into_iter()
                .map(|p| crate::bbs::Provider {
                    name: p.name,
                    properties: p.properties,
                })
                .collect(),
            placement_tags: json.placement_tags,
            optional_placement_tags: json.optional_placement_tags,
            rep_url: json.rep_url,
            annotations: json.annotations,
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::bbs::CellPresence;

    #[test]
    fn presence_value() {
        let text = r#"{"cell_id":"c","rep_address":"http://10.0.0.1:1800","zone":"z1","capacity":{"memory_mb":1,"disk_mb":2,"containers":3},"rootfs_provider_list":[{"name":"preloaded","properties":["cflinuxfs4"]},{"name":"docker"}],"rep_url":"https://c:1801"}"#;
        let presence = CellPresence::from_locket_value(text).unwrap();
        assert_eq!(presence.rootfs_providers[0].properties, ["cflinuxfs4"]);
        assert_eq!(presence.to_locket_value(), text);
    }
}
