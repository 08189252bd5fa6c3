//! `healthcheck` checks whether the app on this container's address answers. The rep runs one per check and reads its exit status
//! and its last output (as cloudfoundry/healthcheck `cmd/healthcheck/main.go`). It is single-threaded and contains the loop, so
//! that a check costs no new process.
//!
//! | mode | ends with 0 | ends with an error |
//! |---|---|---|
//! | none | the check passed | it did not |
//! | `-startup-interval` | passed once | `-startup-timeout` (0: never) is over |
//! | `-until-ready-interval` | passed once | never |
//! | `-liveness-interval`, `-readiness-interval` | never | it failed once |
//!
//! The exit statuses are: 3 no address, 4 TCP refused, 5 no HTTP response, 6 HTTP status other than 200, 64 and 65 for a timeout
//! of TCP and HTTP.

use crate::flags::Flags;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const FLAGS: &[&str] = &[
    "network",
    "uri",
    "port",
    "timeout",
    "startup-interval",
    "startup-timeout",
    "liveness-interval",
    "until-ready-interval",
    "readiness-interval",
];
const MAX_REDIRECTS: usize = 10;
/// The maximum number of body bytes that are read.
const MAX_BODY: u64 = 16 << 20;

pub(crate) fn main(args: &[String]) -> ExitCode {
    let (check, mode) = match parse(args) {
        Ok(parsed) => parsed,
        Err(problem) => {
            eprintln!("healthcheck: {problem}");
            return ExitCode::from(2);
        }
    };
    match run(&check, mode) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{}", failure.message);
            ExitCode::from(failure.status)
        }
    }
}

#[derive(Debug)]
struct Check {
    port: u16,
    /// The path to request; empty means a TCP check.
    uri: String,
    timeout: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Once,
    Startup {
        interval: Duration,
        timeout: Duration,
    },
    UntilReady {
        interval: Duration,
    },
    Liveness {
        interval: Duration,
    },
    Readiness {
        interval: Duration,
    },
}

#[derive(Debug, PartialEq)]
struct Failure {
    status: u8,
    message: String,
}

fn parse(args: &[String]) -> Result<(Check, Mode), String> {
    let flags = Flags::parse(args, FLAGS, &[])?;
    let port = flags.text("port", "8080");
    let check = Check {
        port: port
            .parse()
            .map_err(|_| format!("invalid value {port:?} for flag -port"))?,
        uri: flags.text("uri", "").to_owned(),
        timeout: flags.duration("timeout", Duration::from_secs(1))?,
    };
    let interval = |name: &str| flags.duration(name, Duration::ZERO);
    let mode = if let interval @ 1.. = interval("startup-interval")?.as_nanos() {
        Mode::Startup {
            interval: nanos(interval),
            timeout: flags.duration("startup-timeout", Duration::from_secs(60))?,
        }
    } else if let interval @ 1.. = interval("liveness-interval")?.as_nanos() {
        Mode::Liveness {
            interval: nanos(interval),
        }
    } else if let interval @ 1.. = interval("readiness-interval")?.as_nanos() {
        Mode::Readiness {
            interval: nanos(interval),
        }
    } else if let interval @ 1.. = interval("until-ready-interval")?.as_nanos() {
        Mode::UntilReady {
            interval: nanos(interval),
        }
    } else {
        Mode::Once
    };
    Ok((check, mode))
}

fn nanos(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

fn run(check: &Check, mode: Mode) -> Result<(), Failure> {
    let perform = |timeout: Duration| check.perform(own_address()?, timeout);
    match mode {
        Mode::Once => perform(check.timeout),
        Mode::Startup { interval, timeout } => {
            let deadline = (!timeout.is_zero()).then(|| Instant::now() + timeout);
            let mut attempts = 1;
            loop {
                let started = Instant::now();
                let left = deadline
                    .map_or(Duration::MAX, |deadline| {
                        deadline.saturating_duration_since(started)
                    })
                    .max(Duration::from_millis(1));
                let Err(failure) = perform(check.timeout.min(left)) else {
                    return Ok(());
                };
                let next = started + interval.max(started.elapsed());
                if deadline.is_some_and(|deadline| next >= deadline) {
                    sleep_until(deadline);
                    eprint!(
                        "Timed out after {} ({attempts} attempts) waiting for startup check to succeed: ",
                        go_values::duration::show(timeout)
                    );
                    return Err(failure);
                }
                sleep_until(Some(next));
                attempts += 1;
            }
        }
        Mode::UntilReady { interval } => {
            while perform(check.timeout).is_err() {
                std::thread::sleep(interval);
            }
            Ok(())
        }
        Mode::Liveness { interval } => {
            until_failure(interval, "Liveness check unsuccessful: ", || {
                perform(check.timeout)
            })
        }
        Mode::Readiness { interval } => {
            until_failure(interval, "Readiness check unsuccessful: ", || {
                perform(check.timeout)
            })
        }
    }
}

fn sleep_until(when: Option<Instant>) {
    if let Some(when) = when {
        std::thread::sleep(when.saturating_duration_since(Instant::now()));
    }
}

fn until_failure(
    interval: Duration,
    prefix: &str,
    perform: impl Fn() -> Result<(), Failure>,
) -> Result<(), Failure> {
    loop {
        if let Err(failure) = perform() {
            eprint!("{prefix}");
            return Err(failure);
        }
        std::thread::sleep(interval);
    }
}

/// Returns the first address that is not loopback: an app that listens only on 127.0.0.1 must not pass.
fn own_address() -> Result<Ipv4Addr, Failure> {
    let missing = || Failure {
        status: 3,
        message: "failure to find suitable interface".to_owned(),
    };
    let addresses = nix::ifaddrs::getifaddrs().map_err(|_| missing())?;
    let mut usable = addresses
        .filter_map(|interface| Some(interface.address?.as_sockaddr_in()?.ip()))
        .filter(|address| !address.is_loopback());
    usable.next().ok_or_else(missing)
}

impl Check {
    fn perform(&self, address: Ipv4Addr, timeout: Duration) -> Result<(), Failure> {
        let timeout = timeout.max(Duration::from_millis(1));
        if self.uri.is_empty() {
            self.tcp(address, timeout)
        } else {
            self.http(address, timeout)
        }
    }

    fn tcp(&self, address: Ipv4Addr, timeout: Duration) -> Result<(), Failure> {
        let target = SocketAddr::new(IpAddr::V4(address), self.port);
        match TcpStream::connect_timeout(&target, timeout) {
            Ok(_) => Ok(()),
            Err(error) if is_timeout(&error) => Err(Failure {
                status: 64,
                message: format!(
                    "failed to make TCP connection to {target}: timed out after {:.2} seconds",
                    timeout.as_secs_f64()
                ),
            }),
            Err(error) => Err(Failure {
                status: 4,
                message: format!(
                    "failed to make TCP connection to {target}: dial tcp {target}: connect: {}",
                    describe(&error)
                ),
            }),
        }
    }

    fn http(&self, address: Ipv4Addr, timeout: Duration) -> Result<(), Failure> {
        let what = format!(
            "failed to make HTTP request to '{}' on port {}",
            self.uri, self.port
        );
        let started = Instant::now();
        let mut path = if self.uri.starts_with('/') {
            self.uri.clone()
        } else {
            format!("/{}", self.uri)
        };
        for _ in 0..=MAX_REDIRECTS {
            match get(
                SocketAddr::new(IpAddr::V4(address), self.port),
                &path,
                started + timeout,
            ) {
                Ok(Answer { status: 200, .. }) => return Ok(()),
                Ok(Answer {
                    status: 301 | 302 | 303 | 307 | 308,
                    location: Some(location),
                }) if location.starts_with('/') => path = location,
                Ok(Answer { status, .. }) => {
                    return Err(Failure {
                        status: 6,
                        message: format!(
                            "{what}: received status code {status} in {}ms",
                            started.elapsed().as_millis()
                        ),
                    });
                }
                Err(error) if is_timeout(&error) => {
                    return Err(Failure {
                        status: 65,
                        message: format!(
                            "{what}: timed out after {:.2} seconds",
                            timeout.as_secs_f64()
                        ),
                    });
                }
                Err(_) => {
                    return Err(Failure {
                        status: 5,
                        message: format!("{what}: connection refused"),
                    });
                }
            }
        }
        Err(Failure {
            status: 6,
            message: format!("{what}: more than {MAX_REDIRECTS} redirects"),
        })
    }
}

struct Answer {
    status: u16,
    location: Option<String>,
}

/// Sends one GET. The body is read too, because an app may complain about clients that leave early.
fn get(target: SocketAddr, path: &str, deadline: Instant) -> io::Result<Answer> {
    let left = || match deadline.saturating_duration_since(Instant::now()) {
        left if left.is_zero() => Err(io::Error::from(io::ErrorKind::TimedOut)),
        left => Ok(left),
    };
    let mut stream = TcpStream::connect_timeout(&target, left()?)?;
    stream.set_write_timeout(Some(left()?))?;
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: diego-healthcheck\r\nX-Forwarded-Proto: https\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    let (mut answer, mut total, mut buffer) = (Vec::new(), 0, [0; 8192]);
    loop {
        stream.set_read_timeout(Some(left()?))?;
        let read = match stream.read(&mut buffer) {
            Ok(read) => read,
            // The head is complete and the body broken: the status counts.
            Err(error) if !is_timeout(&error) && head_end(&answer).is_some() => 0,
            Err(error) => return Err(error),
        };
        total += read as u64;
        if head_end(&answer).is_none() {
            answer.extend_from_slice(&buffer[..read]);
        }
        if read == 0 || total > MAX_BODY || complete(&answer, total) {
            return parse_head(&answer).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData));
        }
    }
}

fn head_end(answer: &[u8]) -> Option<usize> {
    answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map(|at| at + 4)
}

/// Returns whether the announced length has arrived. Servers may ignore `Connection: close`.
fn complete(answer: &[u8], total: u64) -> bool {
    let Some(end) = head_end(answer) else {
        return false;
    };
    let length =
        header(&answer[..end], "content-length").and_then(|length| length.parse::<u64>().ok());
    length.is_some_and(|length| total >= end as u64 + length)
}

fn parse_head(answer: &[u8]) -> Option<Answer> {
    let end = head_end(answer)?;
    let line = answer.split(|byte| *byte == b'\r').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    words.next()?.strip_prefix("HTTP/1.")?;
    Some(Answer {
        status: words.next()?.parse().ok()?,
        location: header(&answer[..end], "location"),
    })
}

fn header(head: &[u8], name: &str) -> Option<String> {
    let head = String::from_utf8_lossy(head);
    let mut fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    fields
        .find(|(field, _)| field.trim().eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim().to_owned())
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock
    )
}

/// Describes the error with Go's words, for which operators search.
fn describe(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED) => "connection refused".to_owned(),
        Some(libc::EHOSTUNREACH) => "no route to host".to_owned(),
        Some(libc::ENETUNREACH) => "network is unreachable".to_owned(),
        Some(libc::ECONNRESET) => "connection reset by peer".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// The time limit of checks that must not run into it.
    const PATIENCE: Duration = Duration::from_secs(60);

    fn check(port: u16, uri: &str) -> Check {
        Check {
            port,
            uri: uri.to_owned(),
            timeout: PATIENCE,
        }
    }

    /// Answers every connection with `answer`. Returns the port.
    fn serve(answer: &'static str) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let read = stream.read(&mut [0; 1024]).unwrap();
                if read > 0 && !answer.is_empty() {
                    stream.write_all(answer.as_bytes()).unwrap();
                } else {
                    std::mem::forget(stream);
                }
            }
        });
        port
    }

    #[test]
    fn flags_determine_the_mode() {
        let mode = |args: &[&str]| {
            parse(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>())
                .unwrap()
                .1
        };
        assert_eq!(mode(&["-port=8080"]), Mode::Once);
        assert_eq!(
            mode(&["-startup-interval=2s", "-startup-timeout=0"]),
            Mode::Startup {
                interval: Duration::from_secs(2),
                timeout: Duration::ZERO
            }
        );
        assert_eq!(
            mode(&["-liveness-interval=30s"]),
            Mode::Liveness {
                interval: Duration::from_secs(30)
            }
        );
        assert_eq!(
            mode(&["-readiness-interval=30s"]),
            Mode::Readiness {
                interval: Duration::from_secs(30)
            }
        );
        assert_eq!(
            mode(&["-until-ready-interval=2s"]),
            Mode::UntilReady {
                interval: Duration::from_secs(2)
            }
        );
        assert!(parse(&["-port=x".to_owned()]).is_err());
    }

    #[test]
    fn tcp() {
        let port = serve("");
        assert_eq!(
            check(port, "").perform(Ipv4Addr::LOCALHOST, PATIENCE),
            Ok(())
        );
        let free = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let failure = check(free.port(), "")
            .perform(Ipv4Addr::LOCALHOST, PATIENCE)
            .unwrap_err();
        assert_eq!(
            failure,
            Failure {
                status: 4,
                message: format!(
                    "failed to make TCP connection to {free}: dial tcp {free}: connect: connection refused"
                )
            }
        );
    }

    #[test]
    fn http() {
        let perform_within =
            |port: u16, limit: Duration| check(port, "/health").perform(Ipv4Addr::LOCALHOST, limit);
        let perform = |port: u16| perform_within(port, PATIENCE);
        assert_eq!(
            perform(serve("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")),
            Ok(())
        );
        let failure = perform(serve("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")).unwrap_err();
        assert_eq!(failure.status, 6);
        assert!(
            failure.message.contains("to '/health' on port")
                && failure.message.contains("received status code 503 in "),
            "{}",
            failure.message
        );
        let silent = perform_within(serve(""), Duration::from_millis(300)).unwrap_err();
        assert_eq!(silent.status, 65);
        assert!(
            silent.message.ends_with("timed out after 0.30 seconds"),
            "{}",
            silent.message
        );
        assert_eq!(perform(serve("nonsense\r\n\r\n")).unwrap_err().status, 5);
        let moved = perform(serve(
            "HTTP/1.1 302 Found\r\nLocation: /health\r\nContent-Length: 0\r\n\r\n",
        ))
        .unwrap_err();
        assert!(moved.message.contains("redirects"), "{}", moved.message);
    }
}
