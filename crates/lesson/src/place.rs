//! The names of one foundation. The pages are written for a foundation with the default names; another foundation has its own.

/// The domain for which the pages are written.
const DOMAIN: &str = "cupola.test";
/// The data directory for which the pages are written.
const DATA: &str = "/var/lib/cupola";
const LOOPBACK: &str = "127.0.0.1";

/// The names of a foundation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub domain: String,
    pub data: String,
    pub http_port: u16,
    pub https_port: u16,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            domain: DOMAIN.to_owned(),
            data: DATA.to_owned(),
            http_port: 80,
            https_port: 443,
        }
    }
}

impl Place {
    /// Replaces the default domain, data directory and ports of URLs in a text with those of this foundation.
    pub fn localise(&self, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some((at, name)) = first(rest) {
            let (before, after) = (&rest[..at], &rest[at + name.len()..]);
            out.push_str(before);
            let domain = if name == DOMAIN {
                self.domain.as_str()
            } else {
                name
            };
            out.push_str(domain);
            // A URL that names a port already is left alone.
            if !after.starts_with(':') {
                out.push_str(&self.port(before));
            }
            rest = after;
        }
        out.push_str(rest);
        out.replace(DATA, &self.data)
    }

    /// Returns the `:port` that a URL needs whose text before the host's end is `before`.
    fn port(&self, before: &str) -> String {
        let is_host = |c: char| c.is_ascii_alphanumeric() || ".-*".contains(c);
        let scheme = before.trim_end_matches(is_host);
        let port = if scheme.ends_with("http://") && self.http_port != 80 {
            self.http_port
        } else if scheme.ends_with("https://") && self.https_port != 443 {
            self.https_port
        } else {
            return String::new();
        };
        format!(":{port}")
    }
}

/// Finds the first host that may have a port.
fn first(text: &str) -> Option<(usize, &'static str)> {
    let found = [DOMAIN, LOOPBACK].map(|name| text.find(name).map(|at| (at, name)));
    found.into_iter().flatten().min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn other() -> Place {
        Place {
            domain: "s1.cupola.test".into(),
            data: "/tmp/x".into(),
            http_port: 8080,
            https_port: 8443,
        }
    }

    #[test]
    fn names_of_another_foundation_are_put_in() {
        for (text, wanted) in [
            (
                "curl http://appa.cupola.test/id",
                "curl http://appa.s1.cupola.test:8080/id",
            ),
            ("https://api.cupola.test", "https://api.s1.cupola.test:8443"),
            (
                "Host: appa.cupola.test' http://127.0.0.1/",
                "Host: appa.s1.cupola.test' http://127.0.0.1:8080/",
            ),
            ("http://127.0.0.1:9/", "http://127.0.0.1:9/"),
            ("\"127.0.0.1\"", "\"127.0.0.1\""),
            (
                "cat /var/lib/cupola/foundation.json",
                "cat /tmp/x/foundation.json",
            ),
        ] {
            assert_eq!(other().localise(text), wanted);
        }
    }

    #[test]
    fn the_default_foundation_keeps_the_text() {
        let text = "curl -k https://appa.cupola.test/ http://127.0.0.1/ /var/lib/cupola/x";
        assert_eq!(Place::default().localise(text), text);
    }
}
