//! Lists the names of fields that the router itself reads or writes. A field's id is found once, when its head is parsed; all
//! later look-ups compare ids.

macro_rules! known {
    ($($id:ident $name:literal,)*) => {
        /// A field name that the router knows, or [`Known::Other`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Known {
            $(#[doc = $name] $id,)*
            /// Any other name.
            Other,
        }

        impl Known {
            /// All known names, without `Other`.
            pub const ALL: &[Known] = &[$(Known::$id,)*];

            /// Returns the spelling in which the router writes the name; empty for `Other`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$id => $name,)*
                    Self::Other => "",
                }
            }
        }
    };
}

known! {
    Host "Host",
    Connection "Connection",
    ContentLength "Content-Length",
    TransferEncoding "Transfer-Encoding",
    KeepAlive "Keep-Alive",
    ProxyConnection "Proxy-Connection",
    ProxyAuthenticate "Proxy-Authenticate",
    ProxyAuthorization "Proxy-Authorization",
    Te "TE",
    Trailer "Trailer",
    Upgrade "Upgrade",
    Expect "Expect",
    Date "Date",
    Cookie "Cookie",
    SetCookie "Set-Cookie",
    Authorization "Authorization",
    WwwAuthenticate "WWW-Authenticate",
    UserAgent "User-Agent",
    Referer "Referer",
    ContentType "Content-Type",
    ContentRange "Content-Range",
    ContentEncoding "Content-Encoding",
    CacheControl "Cache-Control",
    Expires "Expires",
    IdempotencyKey "Idempotency-Key",
    XIdempotencyKey "X-Idempotency-Key",
    XContentTypeOptions "X-Content-Type-Options",
    XForwardedFor "X-Forwarded-For",
    XForwardedProto "X-Forwarded-Proto",
    XForwardedClientCert "X-Forwarded-Client-Cert",
    XRequestStart "X-Request-Start",
    XVcapRequestId "X-Vcap-Request-Id",
    XVcapTrace "X-Vcap-Trace",
    XVcapRouter "X-Vcap-Router",
    XVcapBackend "X-Vcap-Backend",
    XCfRouteEndpoint "X-Cf-RouteEndpoint",
    XB3TraceId "X-B3-TraceId",
    XB3SpanId "X-B3-SpanId",
    XB3ParentSpanId "X-B3-ParentSpanId",
    XB3Sampled "X-B3-Sampled",
    XB3Flags "X-B3-Flags",
    B3 "B3",
    Traceparent "Traceparent",
    Tracestate "Tracestate",
    XCfApplicationId "X-CF-ApplicationID",
    XCfInstanceId "X-CF-InstanceID",
    XCfInstanceIndex "X-CF-InstanceIndex",
    XCfAppInstance "X-CF-APP-INSTANCE",
    XCfProcessInstance "X-CF-PROCESS-INSTANCE",
    XCfProxySignature "X-CF-Proxy-Signature",
    XCfProxyMetadata "X-CF-Proxy-Metadata",
    XCfForwardedUrl "X-CF-Forwarded-Url",
    XCfRouterError "X-Cf-RouterError",
    SecWebSocketKey "Sec-WebSocket-Key",
    SecWebSocketAccept "Sec-WebSocket-Accept",
}

impl Known {
    /// Returns the known name that equals `name` in any spelling, or `Other`.
    pub fn by_name(name: &[u8]) -> Self {
        let Some(&candidates) = BY_LENGTH.get(name.len()) else {
            return Self::Other;
        };
        candidates
            .iter()
            .copied()
            .find(|known| known.name().as_bytes().eq_ignore_ascii_case(name))
            .unwrap_or(Self::Other)
    }

    pub(crate) const fn bit(self) -> u64 {
        1 << self as u8
    }
}

/// The known names by their length, so that most names need no comparison at all. A test keeps the table complete.
const BY_LENGTH: &[&[Known]] = &[
    &[],
    &[],
    &[Known::Te, Known::B3],
    &[],
    &[Known::Host, Known::Date],
    &[],
    &[Known::Cookie, Known::Expect],
    &[
        Known::Referer,
        Known::Upgrade,
        Known::Trailer,
        Known::Expires,
    ],
    &[],
    &[],
    &[
        Known::Connection,
        Known::UserAgent,
        Known::KeepAlive,
        Known::SetCookie,
        Known::Tracestate,
        Known::XB3Flags,
    ],
    &[Known::Traceparent, Known::XB3SpanId],
    &[
        Known::ContentType,
        Known::XVcapTrace,
        Known::XB3TraceId,
        Known::XB3Sampled,
    ],
    &[
        Known::CacheControl,
        Known::Authorization,
        Known::ContentRange,
        Known::XVcapRouter,
    ],
    &[Known::ContentLength, Known::XVcapBackend],
    &[
        Known::XForwardedFor,
        Known::XRequestStart,
        Known::IdempotencyKey,
        Known::XCfInstanceId,
    ],
    &[
        Known::ProxyConnection,
        Known::WwwAuthenticate,
        Known::XCfRouterError,
        Known::ContentEncoding,
    ],
    &[
        Known::TransferEncoding,
        Known::XForwardedProto,
        Known::XVcapRequestId,
        Known::XB3ParentSpanId,
        Known::XIdempotencyKey,
        Known::XCfAppInstance,
        Known::SecWebSocketKey,
    ],
    &[
        Known::ProxyAuthenticate,
        Known::XCfApplicationId,
        Known::XCfInstanceIndex,
        Known::XCfRouteEndpoint,
        Known::XCfForwardedUrl,
    ],
    &[Known::ProxyAuthorization, Known::XCfProxyMetadata],
    &[Known::XCfProxySignature, Known::SecWebSocketAccept],
    &[Known::XCfProcessInstance],
    &[Known::XContentTypeOptions],
    &[Known::XForwardedClientCert],
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_any_spelling() {
        assert!(Known::ALL.len() < 64, "one bit each");
        for &known in Known::ALL {
            for name in [
                known.name().to_owned(),
                known.name().to_lowercase(),
                known.name().to_uppercase(),
            ] {
                assert_eq!(Known::by_name(name.as_bytes()), known, "{name}");
            }
        }
        for other in [
            "",
            "x",
            "hosts",
            "x-custom-header-of-somebody-with-a-long-name",
        ] {
            assert_eq!(Known::by_name(other.as_bytes()), Known::Other, "{other}");
        }
    }
}
