//! Locket's gRPC messages (service `models.Locket`: Lock, Fetch, Release, FetchAll).

#[derive(Clone, PartialEq, prost::Message)]
pub struct Resource {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub owner: String,
    /// For a cell presence: JSON of the cell's presence.
    #[prost(string, tag = "3")]
    pub value: String,
    /// Deprecated spelling of the type: `lock` or `presence`.
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
