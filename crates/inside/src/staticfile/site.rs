//! Decides which file a request gets. It reads the disk and writes nothing.
//!
//! The order is nginx's: first the redirect to HTTPS, then the password, then the method and the path. Nothing outside the root
//! can be read: `..` is refused, and a path that a link leads out of the root is not found.

use super::auth::Auth;
use super::request::Request;
use super::settings::{PRIVATE, Settings};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

const INDEX_PAGES: &[&str] = &["index.html", "index.htm", "Default.htm"];
/// The page for files that are not found, if it exists and the Staticfile names no other.
const NOT_FOUND_PAGE: &str = "404.html";

/// A folder that is served, with its settings.
#[derive(Debug)]
pub(super) struct Site {
    /// The canonical path of the folder.
    pub(super) root: PathBuf,
    pub(super) settings: Settings,
    pub(super) auth: Option<Auth>,
}

/// The kind of response to a request, before it is written.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    File {
        found: Found,
        status: u16,
    },
    /// The files of a folder.
    Listing {
        directory: PathBuf,
        path: String,
    },
    Moved {
        location: String,
    },
    Text {
        status: u16,
    },
}

/// A file in one form or in two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) plain: Option<PathBuf>,
    /// The gzipped form beside it, named `name.gz`.
    pub(super) packed: Option<PathBuf>,
}

impl Found {
    /// Returns the requested name, without `.gz`.
    pub(super) fn name(&self) -> PathBuf {
        match (&self.plain, &self.packed) {
            (Some(plain), _) => plain.clone(),
            (None, Some(packed)) => packed.with_extension(""),
            (None, None) => PathBuf::new(),
        }
    }
}

impl Site {
    pub(super) fn answer(&self, request: &Request) -> Answer {
        if self.settings.force_https && best(request, "x-forwarded-proto") != Some("https") {
            return match https_location(request) {
                Some(location) => Answer::Moved { location },
                None => Answer::Text { status: 400 },
            };
        }
        if let Some(auth) = &self.auth
            && !auth.allows(request.header("authorization"))
        {
            // The response is never a page of the site, because the password protects the pages.
            return Answer::Text { status: 401 };
        }
        if !matches!(request.method(), "GET" | "HEAD") {
            return self.error(405);
        }
        match parts(request.path()) {
            Some(parts) => self.find(request, &parts),
            None => self.error(400),
        }
    }

    fn find(&self, request: &Request, parts: &[OsString]) -> Answer {
        if self.is_hidden(parts) {
            return self.error(404);
        }
        let wanted = parts
            .iter()
            .fold(self.root.clone(), |path, part| path.join(part));
        let folder = request.path().ends_with('/');
        if !folder && let Some(found) = self.file(&wanted) {
            return Answer::File { found, status: 200 };
        }
        let Some(directory) = self.inside(&wanted).filter(|path| path.is_dir()) else {
            return match self.file(&self.root.join(INDEX_PAGES[0])) {
                Some(found) if self.settings.pushstate => Answer::File { found, status: 200 },
                _ => self.error(404),
            };
        };
        if !folder {
            return Answer::Moved {
                location: format!("{}/{}", encode(parts), request.query()),
            };
        }
        let index = INDEX_PAGES
            .iter()
            .find_map(|name| self.file(&wanted.join(name)));
        match index {
            Some(found) => Answer::File { found, status: 200 },
            None if self.settings.directory => Answer::Listing {
                directory,
                path: format!("{}/", encode(parts)).replacen("//", "/", 1),
            },
            None => self.error(403),
        }
    }

    /// Returns the page for a status, or a short text.
    pub(super) fn error(&self, status: u16) -> Answer {
        let fallback = (status == 404).then_some(NOT_FOUND_PAGE);
        let page = self
            .settings
            .status_codes
            .get(&status)
            .map(String::as_str)
            .or(fallback);
        let found = page
            .and_then(|page| parts(&format!("/{page}")))
            .filter(|parts| !self.is_hidden(parts))
            .and_then(|parts| {
                self.file(
                    &parts
                        .iter()
                        .fold(self.root.clone(), |path, part| path.join(part)),
                )
            });
        match found {
            Some(found) => Answer::File { found, status },
            None => Answer::Text { status },
        }
    }

    /// Returns whether the path is hidden: dot files, unless they are enabled, and files that are never public.
    pub(super) fn is_hidden(&self, parts: &[OsString]) -> bool {
        let dotted = |part: &OsString| part.as_bytes().starts_with(b".");
        let private = parts
            .first()
            .is_some_and(|first| PRIVATE.iter().any(|private| first == private));
        private || (!self.settings.host_dot_files && parts.iter().any(dotted))
    }

    fn file(&self, path: &Path) -> Option<Found> {
        let regular = |path: &Path| self.inside(path).filter(|path| path.is_file());
        let mut packed = path.as_os_str().to_owned();
        packed.push(".gz");
        let found = Found {
            plain: regular(path),
            packed: regular(Path::new(&packed)),
        };
        (found != Found::default()).then_some(found)
    }

    /// Returns the real path, if it exists below the root and is not hidden there.
    pub(super) fn inside(&self, path: &Path) -> Option<PathBuf> {
        let real = fs::canonicalize(path).ok()?;
        let below = real.strip_prefix(&self.root).ok()?;
        let parts: Vec<OsString> = below.iter().map(OsStr::to_owned).collect();
        (!self.is_hidden(&parts)).then_some(real)
    }
}

/// Returns the first value of a header that proxies extend.
fn best<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    let value = request.header(name)?.split(',').next()?.trim();
    (!value.is_empty()).then_some(value)
}

/// Returns the HTTPS URL of the request. Returns `None` if the request names no host that may be in a header.
fn https_location(request: &Request) -> Option<String> {
    let host = best(request, "x-forwarded-host").or_else(|| request.header("host"))?;
    let prefix = best(request, "x-forwarded-prefix").unwrap_or_default();
    let safe = |text: &str, more: &str| {
        text.chars()
            .all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    if host.is_empty() || !safe(host, ".-_:[]") || !safe(prefix, "/.-_~%") {
        return None;
    }
    let target: String = request
        .target()
        .chars()
        .filter(|c| !c.is_control())
        .collect();
    Some(format!("https://{host}{prefix}{target}"))
}

/// Returns the decoded names of a request path; `None` for a path that no honest client sends.
fn parts(path: &str) -> Option<Vec<OsString>> {
    let decoded = percent_decode(path.strip_prefix('/')?)?;
    let mut parts = Vec::new();
    for part in decoded
        .split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
    {
        if part == b".." || part.iter().any(|byte| matches!(byte, 0 | b'\\')) {
            return None;
        }
        parts.push(OsString::from_vec(part.to_vec()));
    }
    Some(parts)
}

/// Returns the names as a normalised path, without a slash at its end.
pub(super) fn encode(parts: &[OsString]) -> String {
    let mut text = String::new();
    for part in parts {
        text.push('/');
        for byte in part.as_bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(byte) {
                text.push(char::from(*byte));
            } else {
                text.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    text
}

fn percent_decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let digits = after
                .get(..2)
                .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    Some(bytes)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::request::request;
    use super::*;

    pub(in super::super) struct Folder(pub(in super::super) PathBuf);
    impl Folder {
        pub(in super::super) fn new(name: &str) -> Self {
            let path = std::env::temp_dir()
                .join(format!("cupola-staticfile-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(path.join("root/sub dir")).unwrap();
            fs::create_dir_all(path.join("root/.git")).unwrap();
            fs::create_dir_all(path.join("root/empty")).unwrap();
            fs::write(path.join("secret"), "secret").unwrap();
            fs::write(path.join("root/index.html"), "<h1>hi</h1>").unwrap();
            fs::write(path.join("root/.env"), "hidden").unwrap();
            fs::write(path.join("root/.git/config"), "hidden").unwrap();
            fs::write(path.join("root/Staticfile.auth"), "hidden").unwrap();
            fs::write(path.join("root/sub dir/index.html"), "sub").unwrap();
            std::os::unix::fs::symlink("../secret", path.join("root/out")).unwrap();
            std::os::unix::fs::symlink("index.html", path.join("root/in")).unwrap();
            std::os::unix::fs::symlink(".env", path.join("root/env")).unwrap();
            std::os::unix::fs::symlink("Staticfile.auth", path.join("root/auth")).unwrap();
            Self(path)
        }
        pub(in super::super) fn site(&self, settings: Settings) -> Site {
            Site {
                root: fs::canonicalize(self.0.join("root")).unwrap(),
                settings,
                auth: None,
            }
        }
    }
    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn answer(site: &Site, line: &str) -> Answer {
        site.answer(&request(&format!("{line} HTTP/1.1\nHost: a.example")))
    }

    fn file(site: &Site, name: &str, status: u16) -> Answer {
        Answer::File {
            found: Found {
                plain: Some(site.root.join(name)),
                packed: None,
            },
            status,
        }
    }

    fn moved(location: &str) -> Answer {
        Answer::Moved {
            location: location.to_owned(),
        }
    }

    #[test]
    fn paths() {
        let folder = Folder::new("paths");
        let site = folder.site(Settings::default());
        assert_eq!(answer(&site, "GET /"), file(&site, "index.html", 200));
        assert_eq!(
            answer(&site, "HEAD /index.html?a=b"),
            file(&site, "index.html", 200)
        );
        assert_eq!(answer(&site, "GET /in"), file(&site, "index.html", 200));
        assert_eq!(
            answer(&site, "GET /%69ndex.html"),
            file(&site, "index.html", 200)
        );
        assert_eq!(
            answer(&site, "GET /sub%20dir/"),
            file(&site, "sub dir/index.html", 200)
        );
        assert_eq!(
            answer(&site, "GET /sub%20dir%2findex.html"),
            file(&site, "sub dir/index.html", 200)
        );
        assert_eq!(
            answer(&site, "GET /sub%20dir?a=b"),
            moved("/sub%20dir/?a=b")
        );
        // A location that begins with two slashes would lead to another host.
        assert_eq!(answer(&site, "GET //sub%20dir"), moved("/sub%20dir/"));
        assert_eq!(answer(&site, "GET /empty/"), Answer::Text { status: 403 });
        for path in [
            "/none",
            "/.env",
            "/out",
            "/index.html/",
            "/index.html/x",
            "/INDEX.html",
            "/.git/config",
            "/%2egit/config",
            "/Staticfile.auth",
            "/%53taticfile.auth",
            "/env",
            "/auth",
        ] {
            let status = match answer(&site, &format!("GET {path}")) {
                Answer::File { status, .. } | Answer::Text { status } => status,
                other => panic!("{path}: {other:?}"),
            };
            assert_eq!(status, 404, "{path}");
        }
        for path in [
            "/../secret",
            "/%2e%2e/secret",
            "/a/..%2f..%2fsecret",
            "/%00",
            "/%zz",
            "/%+1",
            "/..\\secret",
        ] {
            assert_eq!(
                answer(&site, &format!("GET {path}")),
                Answer::Text { status: 400 },
                "{path}"
            );
        }
        assert_eq!(answer(&site, "POST /"), Answer::Text { status: 405 });
    }

    #[test]
    fn pushstate_dot_files_and_pages_for_errors() {
        let folder = Folder::new("options");
        let site = folder.site(Settings {
            pushstate: true,
            host_dot_files: true,
            ..Settings::default()
        });
        assert_eq!(
            answer(&site, "GET /deep/link"),
            file(&site, "index.html", 200)
        );
        assert_eq!(answer(&site, "GET /.env"), file(&site, ".env", 200));
        for never in ["/.git/config", "/Staticfile.auth"] {
            assert_eq!(
                answer(&site, &format!("GET {never}")),
                Answer::Text { status: 404 },
                "{never}"
            );
        }
        fs::write(site.root.join("404.html"), "gone").unwrap();
        fs::write(site.root.join("oops.html"), "oops").unwrap();
        let site = folder.site(Settings::default());
        assert_eq!(answer(&site, "GET /none"), file(&site, "404.html", 404));
        let site = folder.site(Settings::parse("status_codes: {4xx: /oops.html}").unwrap());
        assert_eq!(answer(&site, "GET /none"), file(&site, "oops.html", 404));
        assert_eq!(answer(&site, "DELETE /"), file(&site, "oops.html", 405));
        let site = folder.site(Settings::parse("status_codes: {404: /.env}").unwrap());
        assert_eq!(answer(&site, "GET /none"), Answer::Text { status: 404 });
    }

    #[test]
    fn the_password_is_checked_after_https_and_before_all_else() {
        let folder = Folder::new("auth");
        fs::write(folder.0.join("root/401.html"), "x").unwrap();
        let users = super::super::htpasswd::Htpasswd::parse("bob:{PLAIN}secret").unwrap();
        let mut site = folder.site(Settings::parse("status_codes: {4xx: /401.html}").unwrap());
        site.auth = Some(Auth::new(users).unwrap());
        for line in [
            "GET /",
            "HEAD /",
            "POST /",
            "GET /none",
            "GET /.env",
            "GET /../x",
            "OPTIONS *",
        ] {
            assert_eq!(answer(&site, line), Answer::Text { status: 401 }, "{line}");
        }
        // "bob:secret"
        let allowed = "GET / HTTP/1.1\nAuthorization: Basic Ym9iOnNlY3JldA==";
        assert_eq!(
            site.answer(&request(allowed)),
            file(&site, "index.html", 200)
        );
        site.settings.force_https = true;
        assert_eq!(answer(&site, "GET /a?b"), moved("https://a.example/a?b"));
    }

    #[test]
    fn https_is_forced_by_the_proxys_headers() {
        let folder = Folder::new("https");
        let site = folder.site(Settings::parse("force_https: true").unwrap());
        let ask =
            |headers: &str| site.answer(&request(&format!("GET /a%20b?c HTTP/1.1\n{headers}")));
        assert_eq!(
            ask("Host: x.y:8080\nX-Forwarded-Proto: http"),
            moved("https://x.y:8080/a%20b?c")
        );
        assert_eq!(
            ask("Host: x.y\nX-Forwarded-Host: z.y, w\nX-Forwarded-Prefix: /p"),
            moved("https://z.y/p/a%20b?c")
        );
        assert_eq!(
            ask("Host: x.y\nX-Forwarded-Proto: https, http"),
            Answer::Text { status: 404 }
        );
        assert_eq!(
            ask("Host: x.y\nX-Forwarded-Proto: http, https"),
            moved("https://x.y/a%20b?c")
        );
        assert_eq!(ask("Host: x$y"), Answer::Text { status: 400 });
        let without_host = request("GET / HTTP/1.0\nX-Forwarded-Proto: http");
        assert_eq!(site.answer(&without_host), Answer::Text { status: 400 });
    }

    #[test]
    fn packed_forms_are_found() {
        let folder = Folder::new("packed");
        let site = folder.site(Settings::default());
        fs::write(site.root.join("only.js.gz"), "x").unwrap();
        fs::write(site.root.join("index.html.gz"), "x").unwrap();
        let Answer::File { found, .. } = answer(&site, "GET /only.js") else {
            panic!()
        };
        assert_eq!(
            (found.plain.clone(), found.name()),
            (None, site.root.join("only.js"))
        );
        let Answer::File { found, .. } = answer(&site, "GET /") else {
            panic!()
        };
        assert!(found.plain.is_some() && found.packed.is_some());
    }
}
