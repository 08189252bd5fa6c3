//! Turns uris into keys: `Host/Some/Path?query` and `host/some/path/` are one route (as gorouter `route/uris.go`).

/// A registered uri in its normal form: lower case, cut at `?`, without outer slashes. `*.` at the front makes it a wildcard.
#[derive(Clone, Debug)]
pub struct RouteKey {
    uri: String,
    host_len: usize,
    /// The path as the registration spelt it, if that differs from the normal form: cookies keep capitals.
    written_path: Option<Box<str>>,
}

impl PartialEq for RouteKey {
    fn eq(&self, other: &Self) -> bool {
        self.uri == other.uri
    }
}

impl Eq for RouteKey {}

impl std::hash::Hash for RouteKey {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.uri.hash(state);
    }
}

impl RouteKey {
    pub fn new(uri: &str) -> Self {
        let written = uri.split('?').next().unwrap_or_default();
        let written = written.trim_matches('/');
        let uri = written.to_lowercase();
        let host_len = uri.find('/').unwrap_or(uri.len());
        let path = written.find('/').map(|at| &written[at..]);
        let written_path = path.filter(|path| !uri.ends_with(path)).map(Box::from);
        Self {
            uri,
            host_len,
            written_path,
        }
    }

    pub(super) fn written_path(&self) -> Option<&str> {
        self.written_path.as_deref()
    }

    pub fn uri(&self) -> &str {
        &self.uri
    }

    pub fn is_wildcard(&self) -> bool {
        self.uri[..self.host_len].starts_with("*.")
    }

    /// Returns the host. For a wildcard this is the part after `*.`.
    pub fn host_name(&self) -> &str {
        let host = &self.uri[..self.host_len];
        host.strip_prefix("*.").unwrap_or(host)
    }

    /// Returns the host with the `*.` of a wildcard.
    pub fn host(&self) -> &str {
        &self.uri[..self.host_len]
    }

    /// Returns the context path without outer slashes, or `""` if there is none.
    pub fn path(&self) -> &str {
        self.uri[self.host_len..].trim_start_matches('/')
    }
}

/// Returns the value of a `Host` header without its port and without the dot that ends an absolute name (RFC 3986, 3.2.2).
/// `[::1]:80` becomes `::1`, `a.test.:80` becomes `a.test`.
pub fn request_host(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    let name = host.split(':').next().unwrap_or(host);
    name.strip_suffix('.').unwrap_or(name)
}

/// Returns a request's path as a part of a key: cut at `?`, without its first slash and without the slashes that end it. The path
/// `//a` keeps one slash, because its first segment is empty and it does not lie below `a`.
pub(super) fn request_path(path: &str) -> &str {
    let path = path.split('?').next().unwrap_or_default();
    path.strip_prefix('/').unwrap_or(path).trim_end_matches('/')
}

/// Calls `then` with the text in lower case. It allocates only when the text contains a capital.
pub(super) fn lowered<R>(text: &str, then: impl FnOnce(&str) -> R) -> R {
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        then(&text.to_ascii_lowercase())
    } else {
        then(text)
    }
}

pub(super) fn segments(path: &str) -> usize {
    if path.is_empty() {
        0
    } else {
        path.split('/').count()
    }
}

/// Returns the prefixes of a path that consist of whole segments, at most `depth` of them: `a/b/c` with `depth` 2 gives `a/b`,
/// `a`.
pub(super) fn prefixes_longest_first(path: &str, depth: usize) -> impl Iterator<Item = &str> {
    let mut rest = path;
    let mut extra = segments(path).saturating_sub(depth);
    while extra > 0 {
        rest = rest.rfind('/').map_or("", |at| &rest[..at]);
        extra -= 1;
    }
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let prefix = rest;
        rest = rest.rfind('/').map_or("", |at| &rest[..at]);
        Some(prefix)
    })
}

/// Returns whether `path` is `prefix` or lies below it.
pub(super) fn is_within(path: &str, prefix: &str) -> bool {
    match path.strip_prefix(prefix) {
        Some(rest) => prefix.is_empty() || rest.is_empty() || rest.starts_with('/'),
        None => false,
    }
}

/// Returns the FNV-1a hash of a name. With it the round robins of routes start at different endpoints.
pub(super) fn spread(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        for (uri, host, path, wildcard) in [
            ("Foo.Example.com", "foo.example.com", "", false),
            ("foo.example.com/", "foo.example.com", "", false),
            ("/foo.example.com/A/b/?q=1", "foo.example.com", "a/b", false),
            ("*.Example.com/x", "example.com", "x", true),
            ("*", "*", "", false),
        ] {
            let key = RouteKey::new(uri);
            assert_eq!(
                (key.host_name(), key.path(), key.is_wildcard()),
                (host, path, wildcard),
                "{uri}"
            );
        }
    }

    #[test]
    fn hosts_lose_their_port() {
        for (given, host) in [
            ("a.b:80", "a.b"),
            ("a.b", "a.b"),
            ("[::1]:80", "::1"),
            ("a.b.", "a.b"),
            ("a.b.:80", "a.b"),
            ("a..", "a."),
            ("", ""),
        ] {
            assert_eq!(request_host(given), host);
        }
    }

    #[test]
    fn paths_of_requests() {
        for (given, path) in [
            ("/a/B/?x=/y", "a/B"),
            ("/", ""),
            ("//", ""),
            ("//a", "/a"),
            ("/a//b", "a//b"),
        ] {
            assert_eq!(request_path(given), path);
        }
    }

    #[test]
    fn prefixes() {
        let of = |path, depth| prefixes_longest_first(path, depth).collect::<Vec<_>>();
        assert_eq!(of("a/b/c", 2), ["a/b", "a"]);
        assert_eq!(of("a/b/c", 9), ["a/b/c", "a/b", "a"]);
        assert!(of("", 3).is_empty());
        assert!(of("/a", 1).is_empty());
    }
}
