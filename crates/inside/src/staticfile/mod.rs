//! `staticfile` serves an app's `public` folder over HTTP/1.1 on `$PORT`. The staticfile buildpack starts it.
//!
//! It uses only threads and blocking calls. Each connection has a thread, up to a limit beyond which new connections wait.
//!
//! | Module | Owns |
//! |---|---|
//! | [`settings`] | the settings of the `Staticfile`; the builder reads it too |
//! | [`htpasswd`], [`auth`] | the password file, and which requests are admitted |
//! | [`request`] | request heads, parsed by the core `http1` |
//! | [`site`] | which file a request gets |
//! | [`reply`] | conditional requests, ranges, compression |
//! | [`listing`], [`mime`], [`clock`] | pages of folders, content types, dates |

mod auth;
mod clock;
pub(crate) mod htpasswd;
mod listing;
mod mime;
mod reply;
mod request;
pub(crate) mod settings;
mod site;

use crate::flags::Flags;
use auth::Auth;
use htpasswd::Htpasswd;
use reply::{Etags, Reply};
use request::Request;
use settings::{AUTH_FILE, FILE, PUBLIC, Settings};
use site::Site;
use std::fs;
use std::io::{self, BufReader, Read as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

const MAX_CONNECTIONS: usize = 256;
/// The number of connections above which each response closes its connection.
const CROWDED: usize = 192;
const STACK: usize = 512 << 10;
/// The maximum size of a request body that is read and discarded before the response.
const MAX_BODY: u64 = 1 << 20;
const IDLE: Duration = Duration::from_secs(75);
const STALLED: Duration = Duration::from_secs(60);
/// How long a client may continue to send an unwanted body, so that it sees the response.
const LINGER: Duration = Duration::from_secs(5);

pub(crate) fn main(args: &[String]) -> ExitCode {
    match run(args) {
        Ok(never) => match never {},
        Err(problem) => {
            eprintln!("staticfile: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<std::convert::Infallible, String> {
    let flags = Flags::parse(args, &["home", "port"], &[])?;
    let port = std::env::var("PORT").unwrap_or_else(|_| "8080".to_owned());
    let port = flags.text("port", &port);
    let port: u16 = port
        .parse()
        .map_err(|_| format!("PORT {port:?}: expected a number from 1 to 65535"))?;
    let home = flags.text("home", ".");
    let server = Arc::new(Server {
        site: site(Path::new(home))?,
        etags: Etags::default(),
    });
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))
        .map_err(|error| format!("listen on port {port}: {error}"))?;
    println!(
        "Serving {} on port {}",
        server.site.root.display(),
        listener.local_addr().map_or(port, |address| address.port())
    );
    serve(&listener, &server)
}

/// Reads the files that staging left in the app's folder. A missing or damaged password file keeps the server from starting.
fn site(home: &Path) -> Result<Site, String> {
    let failed =
        |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let path = home.join(FILE);
    let text = fs::read_to_string(&path).map_err(|error| failed(&path, &error))?;
    let mut settings: Settings =
        serde_json::from_str(&text).map_err(|error| failed(&path, &error))?;
    settings.force_https |= std::env::var("FORCE_HTTPS").is_ok_and(|value| !value.is_empty());
    let path = home.join(PUBLIC);
    let root = fs::canonicalize(&path).map_err(|error| failed(&path, &error))?;
    let auth = if settings.basic_auth {
        let path = home.join(AUTH_FILE);
        let text = fs::read_to_string(&path).map_err(|error| failed(&path, &error))?;
        let auth = Auth::new(Htpasswd::parse(&text)?);
        Some(auth.map_err(|error| failed(Path::new("/dev/urandom"), &error))?)
    } else {
        None
    };
    Ok(Site {
        root,
        settings,
        auth,
    })
}

struct Server {
    site: Site,
    etags: Etags,
}

fn serve(listener: &TcpListener, server: &Arc<Server>) -> ! {
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
        let (server, slot) = (server.clone(), slots.acquire());
        let spawned = std::thread::Builder::new()
            .stack_size(STACK)
            .spawn(move || {
                // A connection that ends is no error.
                let _ = connection(&stream, &server, &slot);
            });
        if let Err(error) = spawned {
            eprintln!("staticfile: start a thread: {error}");
        }
    }
}

/// A counter of connections, which limits their number.
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
    fn acquire(self: &Arc<Self>) -> Slot {
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

fn connection(stream: &TcpStream, server: &Server, slot: &Slot) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_write_timeout(Some(STALLED))?;
    let mut reader = BufReader::new(stream);
    loop {
        let request = match request::read(&mut reader)? {
            Some(Ok(request)) => request,
            Some(Err(refusal)) => {
                let reply = Reply::with_text(refusal.status(), format!("{refusal}\n"));
                reply.write(&Request::broken(), false, stream)?;
                return linger(reader);
            }
            None => return Ok(()),
        };
        let body_read = request.content_length <= MAX_BODY
            && io::copy(
                &mut reader.by_ref().take(request.content_length),
                &mut io::sink(),
            )? == request.content_length;
        let answer = server.site.answer(&request);
        let reply = Reply::new(&server.site, &server.etags, &request, &answer);
        let keep_alive = request.keep_alive
            && body_read
            && reply.is_delimited(&request)
            && slot.0.used.load(Ordering::Relaxed) < CROWDED;
        let status = reply.status;
        let size = reply.write(&request, keep_alive, stream)?;
        log(&request, status, size);
        if !body_read || request.header("transfer-encoding").is_some() {
            return linger(reader);
        }
        if !keep_alive {
            return Ok(());
        }
    }
}

/// Reads for a moment longer: a connection that is closed with unread bytes is reset, and the client loses the response.
fn linger(mut reader: BufReader<&TcpStream>) -> io::Result<()> {
    let stream = *reader.get_ref();
    stream.shutdown(Shutdown::Write)?;
    let end = Instant::now() + LINGER;
    let mut buffer = [0; 16 << 10];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        stream.set_read_timeout(Some(left))?;
        if reader.read(&mut buffer)? == 0 {
            return Ok(());
        }
    }
}

/// Writes a log line for each request, in the format of the original buildpack.
fn log(request: &Request, status: u16, size: u64) {
    let header = |name| {
        request
            .header(name)
            .unwrap_or("-")
            .escape_debug()
            .to_string()
    };
    println!(
        "{} - {} - [{}] \"{} {} {}\" {status} {size}",
        header("x-forwarded-for"),
        header("referer"),
        clock::log_date(),
        request.method().escape_debug(),
        request.target().escape_debug(),
        request.version(),
    );
}
