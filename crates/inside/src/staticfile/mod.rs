//! `staticfile`: serves a folder over HTTP/1.1 on `$PORT`; what the staticfile buildpack starts.
//!
//! Standard library only. Nothing outside of the root can be read: `..` is refused, and a path that a link leads out of
//! the root is not found. Connections have a thread each, up to a limit beyond which new ones wait.

use crate::flags::Flags;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, UNIX_EPOCH};

const MAX_CONNECTIONS: usize = 256;
/// With more connections than this, answers close theirs.
const CROWDED: usize = 192;
const STACK: usize = 256 << 10;
const MAX_HEAD: u64 = 32 << 10;
/// A request body is read away up to this.
const MAX_BODY: u64 = 1 << 20;
const IDLE: Duration = Duration::from_secs(75);
const STALLED: Duration = Duration::from_secs(60);

pub(crate) fn main(args: &[String]) -> ExitCode {
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("staticfile: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<(), String> {
    let flags = Flags::parse(args, &["root", "port"], &["pushstate", "hostDotFiles"])?;
    let port = std::env::var("PORT").unwrap_or_else(|_| "8080".to_owned());
    let port = flags.text("port", &port);
    let port: u16 = port
        .parse()
        .map_err(|_| format!("PORT {port:?}: want a number from 1 to 65535"))?;
    let root = flags.text("root", "public");
    let root = fs::canonicalize(root).map_err(|error| format!("root {root}: {error}"))?;
    let site = Arc::new(Site {
        root,
        pushstate: flags.switch("pushstate")?,
        dot_files: flags.switch("hostDotFiles")?,
    });
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))
        .map_err(|error| format!("listen on port {port}: {error}"))?;
    println!(
        "Serving {} on port {}",
        site.root.display(),
        listener.local_addr().map_or(port, |address| address.port())
    );
    serve(&listener, &site)
}

/// Never ends.
fn serve(listener: &TcpListener, site: &Arc<Site>) -> Result<(), String> {
    let slots = Arc::new(Slots::default());
    loop {
        slots.wait();
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) => {
                eprintln!("staticfile: accept: {error}");
                std::thread::sleep(Duration::from_millis(50));
                continue;
            }
        };
        let (site, slot) = (site.clone(), slots.take());
        let spawned = std::thread::Builder::new()
            .stack_size(STACK)
            .spawn(move || {
                // An ended connection is nobody's fault.
                let _ = connection(&stream, &site, &slot);
            });
        if let Err(error) = spawned {
            eprintln!("staticfile: start a thread: {error}");
        }
    }
}

/// Counts connections.
#[derive(Default)]
struct Slots {
    used: AtomicUsize,
    lock: Mutex<()>,
    freed: Condvar,
}

struct Slot(Arc<Slots>);

impl Slots {
    fn wait(&self) {
        let mut guard = self.lock.lock().expect("no thread panics with the lock");
        while self.used.load(Ordering::Acquire) >= MAX_CONNECTIONS {
            guard = self
                .freed
                .wait(guard)
                .expect("no thread panics with the lock");
        }
    }
    fn take(self: &Arc<Self>) -> Slot {
        self.used.fetch_add(1, Ordering::AcqRel);
        Slot(self.clone())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Ordering::AcqRel);
        drop(self.0.lock.lock());
        self.0.freed.notify_one();
    }
}

struct Site {
    /// Canonical.
    root: PathBuf,
    pushstate: bool,
    dot_files: bool,
}

#[derive(Debug)]
struct Request {
    method: String,
    /// Without the query.
    path: String,
    keep_alive: bool,
    if_none_match: Option<String>,
    content_length: u64,
}

/// What to answer, before it is written.
#[derive(Debug, PartialEq)]
enum Answer {
    File { path: PathBuf, status: u16 },
    Moved { location: String },
    Text { status: u16, text: &'static str },
}

fn connection(stream: &TcpStream, site: &Site, slot: &Slot) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_write_timeout(Some(STALLED))?;
    let mut reader = BufReader::new(stream);
    loop {
        let request = match read_request(&mut reader)? {
            Some(Ok(request)) => request,
            Some(Err(text)) => {
                return write_answer(
                    stream,
                    &Answer::Text { status: 400, text },
                    &Request::broken(),
                )
                .map(drop);
            }
            None => return Ok(()),
        };
        let body_read = request.content_length <= MAX_BODY
            && io::copy(
                &mut reader.by_ref().take(request.content_length),
                &mut io::sink(),
            )? == request.content_length;
        let keep_alive =
            request.keep_alive && body_read && slot.0.used.load(Ordering::Relaxed) < CROWDED;
        let request = Request {
            keep_alive,
            ..request
        };
        let answer = site.answer(&request.method, &request.path);
        let (status, size) = write_answer(stream, &answer, &request)?;
        println!(
            "{} {} {status} {size}",
            request.method,
            request.path.escape_debug()
        );
        if !keep_alive {
            return Ok(());
        }
    }
}

/// `None` at the end of the connection; `Some(Err)` for what is not HTTP.
fn read_request(
    reader: &mut BufReader<&TcpStream>,
) -> io::Result<Option<Result<Request, &'static str>>> {
    let mut head = reader.by_ref().take(MAX_HEAD);
    let mut lines = Vec::new();
    loop {
        let mut line = Vec::new();
        if head.read_until(b'\n', &mut line)? == 0 {
            return Ok(if lines.is_empty() {
                None
            } else {
                Some(Err("request head is cut or too long\n"))
            });
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        match (line.is_empty(), lines.is_empty()) {
            (true, true) => {}
            (true, false) => return Ok(Some(parse_request(&lines))),
            (false, _) => lines.push(line),
        }
    }
}

impl Request {
    fn broken() -> Self {
        Self {
            method: "GET".into(),
            path: String::new(),
            keep_alive: false,
            if_none_match: None,
            content_length: 0,
        }
    }
}

fn parse_request(lines: &[String]) -> Result<Request, &'static str> {
    let mut words = lines[0].split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err("request line is not HTTP\n");
    };
    if !version.starts_with("HTTP/1.") {
        return Err("only HTTP/1 is spoken here\n");
    }
    // Proxies may send the absolute form.
    let target = target.split_once("://").map_or(target, |(_, rest)| {
        rest.find('/').map_or("/", |at| &rest[at..])
    });
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let mut request = Request {
        method: method.to_owned(),
        path: path.to_owned(),
        keep_alive: version != "HTTP/1.0",
        if_none_match: None,
        content_length: 0,
    };
    for (name, value) in lines[1..].iter().filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "connection" if value.eq_ignore_ascii_case("close") => request.keep_alive = false,
            "if-none-match" => request.if_none_match = Some(value.to_owned()),
            "content-length" => {
                request.content_length = value
                    .parse()
                    .map_err(|_| "Content-Length is not a number\n")?
            }
            // Its end is not looked for: the connection is closed after the answer.
            "transfer-encoding" => request.keep_alive = false,
            _ => {}
        }
    }
    Ok(request)
}

impl Site {
    fn answer(&self, method: &str, path: &str) -> Answer {
        if !matches!(method, "GET" | "HEAD") {
            return Answer::Text {
                status: 405,
                text: "only GET and HEAD are served here\n",
            };
        }
        let Some(parts) = self.parts(path) else {
            return Answer::Text {
                status: 400,
                text: "bad path\n",
            };
        };
        let wanted = parts
            .iter()
            .fold(self.root.clone(), |path, part| path.join(part));
        if let Some(found) = self.inside(&wanted) {
            if found.is_file() && !path.ends_with('/') {
                return Answer::File {
                    path: found,
                    status: 200,
                };
            }
            if found.is_dir() {
                if !path.ends_with('/') {
                    return Answer::Moved {
                        location: format!("{path}/"),
                    };
                }
                if let Some(index) = self
                    .inside(&found.join("index.html"))
                    .filter(|index| index.is_file())
                {
                    return Answer::File {
                        path: index,
                        status: 200,
                    };
                }
            }
        }
        let fallback = if self.pushstate {
            ("index.html", 200)
        } else {
            ("404.html", 404)
        };
        match self
            .inside(&self.root.join(fallback.0))
            .filter(|path| path.is_file())
        {
            Some(path) => Answer::File {
                path,
                status: fallback.1,
            },
            None => Answer::Text {
                status: 404,
                text: "404 Not Found\n",
            },
        }
    }

    /// The decoded names of a request path; `None` for one that no honest client sends.
    fn parts(&self, path: &str) -> Option<Vec<String>> {
        let decoded = percent_decode(path.strip_prefix('/')?)?;
        let mut parts = Vec::new();
        for part in decoded
            .split('/')
            .filter(|part| !part.is_empty() && *part != ".")
        {
            if part == ".." || part.contains('\0') || part.contains('\\') {
                return None;
            }
            // A name that cannot exist, so that hidden files are just not found.
            let hidden = part.starts_with('.') && !self.dot_files;
            parts.push(if hidden {
                "\u{0}".to_owned()
            } else {
                part.to_owned()
            });
        }
        Some(parts)
    }

    /// The real path, if it exists below the root.
    fn inside(&self, path: &Path) -> Option<PathBuf> {
        fs::canonicalize(path)
            .ok()
            .filter(|real| real.starts_with(&self.root))
    }
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

/// Status and body size that went out.
fn write_answer(
    mut stream: &TcpStream,
    answer: &Answer,
    request: &Request,
) -> io::Result<(u16, u64)> {
    let connection = if request.keep_alive {
        "keep-alive"
    } else {
        "close"
    };
    let head_only = request.method == "HEAD";
    match answer {
        Answer::Text { status, text } => {
            let allow = if *status == 405 {
                "Allow: GET, HEAD\r\n"
            } else {
                ""
            };
            let body = if head_only { "" } else { *text };
            let head = format!(
                "HTTP/1.1 {status} {}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n{allow}Connection: {connection}\r\n\r\n{body}",
                reason(*status),
                text.len()
            );
            stream.write_all(head.as_bytes())?;
            Ok((*status, body.len() as u64))
        }
        Answer::Moved { location } => {
            let location: String = location.chars().filter(|c| !c.is_control()).collect();
            let head = format!(
                "HTTP/1.1 301 Moved Permanently\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: {connection}\r\n\r\n"
            );
            stream.write_all(head.as_bytes())?;
            Ok((301, 0))
        }
        Answer::File { path, status } => {
            let file = File::open(path)?;
            let metadata = file.metadata()?;
            let size = metadata.len();
            let modified = metadata
                .modified()
                .ok()
                .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
                .unwrap_or_default();
            let etag = format!("\"{:x}-{size:x}\"", modified.as_nanos());
            if *status == 200
                && request
                    .if_none_match
                    .as_deref()
                    .is_some_and(|wanted| wanted == "*" || wanted.contains(&etag))
            {
                let head = format!(
                    "HTTP/1.1 304 Not Modified\r\nETag: {etag}\r\nConnection: {connection}\r\n\r\n"
                );
                stream.write_all(head.as_bytes())?;
                return Ok((304, 0));
            }
            let kind = content_type(path);
            let head = format!(
                "HTTP/1.1 {status} {}\r\nContent-Type: {kind}\r\nContent-Length: {size}\r\nETag: {etag}\r\nConnection: {connection}\r\n\r\n",
                reason(*status)
            );
            stream.write_all(head.as_bytes())?;
            let sent = if head_only {
                0
            } else {
                io::copy(&mut file.take(size), &mut stream)?
            };
            // A file that shrank under us: the promised length cannot be kept.
            if !head_only && sent < size {
                Err(io::Error::from(io::ErrorKind::UnexpectedEof))
            } else {
                Ok((*status, sent))
            }
        }
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        _ => "Status",
    }
}

fn content_type(path: &Path) -> &'static str {
    let extension = path
        .extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or_default()
        .to_ascii_lowercase();
    match extension.as_str() {
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" | "map" => "application/json",
        "txt" | "md" => "text/plain; charset=utf-8",
        "xml" => "application/xml",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "ico" => "image/x-icon",
        "woff" => "font/woff",
        "woff2" => "font/woff2",
        "ttf" => "font/ttf",
        "wasm" => "application/wasm",
        "pdf" => "application/pdf",
        "mp4" => "video/mp4",
        "mp3" => "audio/mpeg",
        "zip" => "application/zip",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);
    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir()
                .join(format!("cupola-staticfile-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(path.join("root/sub dir")).unwrap();
            fs::write(path.join("secret"), "secret").unwrap();
            fs::write(path.join("root/index.html"), "<h1>hi</h1>").unwrap();
            fs::write(path.join("root/.env"), "hidden").unwrap();
            fs::write(path.join("root/sub dir/index.html"), "sub").unwrap();
            std::os::unix::fs::symlink("../secret", path.join("root/out")).unwrap();
            std::os::unix::fs::symlink("index.html", path.join("root/in")).unwrap();
            Self(path)
        }
        fn site(&self) -> Site {
            Site {
                root: fs::canonicalize(self.0.join("root")).unwrap(),
                pushstate: false,
                dot_files: false,
            }
        }
    }
    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn paths() {
        let folder = Folder::new("paths");
        let site = folder.site();
        let file = |name: &str| Answer::File {
            path: site.root.join(name),
            status: 200,
        };
        assert_eq!(site.answer("GET", "/"), file("index.html"));
        assert_eq!(site.answer("HEAD", "/index.html"), file("index.html"));
        assert_eq!(site.answer("GET", "/in"), file("index.html"));
        assert_eq!(
            site.answer("GET", "/sub%20dir/"),
            file("sub dir/index.html")
        );
        assert_eq!(
            site.answer("GET", "/sub%20dir"),
            Answer::Moved {
                location: "/sub%20dir/".into()
            }
        );
        let missing = Answer::Text {
            status: 404,
            text: "404 Not Found\n",
        };
        for path in ["/none", "/.env", "/out", "/index.html/", "/index.html/x"] {
            assert_eq!(site.answer("GET", path), missing, "{path}");
        }
        for path in [
            "/../secret",
            "/%2e%2e/secret",
            "/a/..%2f..%2fsecret",
            "/%00",
            "/%zz",
            "x",
            "/..\\secret",
        ] {
            assert_eq!(
                site.answer("GET", path),
                Answer::Text {
                    status: 400,
                    text: "bad path\n"
                },
                "{path}"
            );
        }
        assert!(matches!(
            site.answer("POST", "/"),
            Answer::Text { status: 405, .. }
        ));
    }

    #[test]
    fn options_of_the_site() {
        let folder = Folder::new("options");
        let site = Site {
            pushstate: true,
            dot_files: true,
            ..folder.site()
        };
        assert_eq!(
            site.answer("GET", "/deep/link"),
            Answer::File {
                path: site.root.join("index.html"),
                status: 200
            }
        );
        assert_eq!(
            site.answer("GET", "/.env"),
            Answer::File {
                path: site.root.join(".env"),
                status: 200
            }
        );
        fs::write(site.root.join("404.html"), "gone").unwrap();
        let site = folder.site();
        assert_eq!(
            site.answer("GET", "/none"),
            Answer::File {
                path: site.root.join("404.html"),
                status: 404
            }
        );
    }

    #[test]
    fn requests() {
        let parse =
            |text: &str| parse_request(&text.lines().map(str::to_owned).collect::<Vec<_>>());
        let request =
            parse("GET /a?b=c HTTP/1.1\nHost: x\nConnection: close\nContent-Length: 3").unwrap();
        assert_eq!(
            (
                request.path.as_str(),
                request.keep_alive,
                request.content_length
            ),
            ("/a", false, 3)
        );
        assert_eq!(parse("GET http://x/y HTTP/1.1").unwrap().path, "/y");
        for text in [
            "GET /",
            "GET / HTTP/2.0",
            "GET / x HTTP/1.1",
            "GET / HTTP/1.1\nContent-Length: x",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
