//! A real PostgreSQL server, started from Debian's package without its service.
//!
//! A suite runs on PostgreSQL when `CUPOLA_TEST_DATABASE=postgres` is set. Then all tests of a process share one server, and each
//! folder of data has a database of its own ([`of`]). Commits do not wait for the disk (`fsync=off`), which only tests may do.
//!
//! A small shell script owns the server: when the test's process ends, in whichever way, the script stops the server and removes
//! its files.

use crate::net::free_port;
use kit::db::Server;
use kit::tls::Identity;
use nix::unistd::{Uid, User, chown};
use std::collections::HashMap;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The environment variable that names the database of the suites: `sqlite` or `postgres`.
pub const VARIABLE: &str = "CUPOLA_TEST_DATABASE";

const USER: &str = "foundation";
const PASSWORD: &str = "open/sesame";
/// The password as it is written in a URL.
const PASSWORD_IN_URL: &str = "open%2Fsesame";
/// The longest wait for the server.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the server, and stops it at the end of the input, which is the end of the test's process.
const SCRIPT: &str = r#"
folder=$1; shift
pid=
stop() { [ -z "$pid" ] || { kill -QUIT "$pid"; wait "$pid"; }; pid=; }
while read -r order; do
  case $order in
  start) "$@" >>"$folder/log" 2>&1 & pid=$!;;
  stop) stop; echo stopped;;
  esac
done
stop
rm -rf "$folder"
"#;

/// Returns the URL of the database that belongs to a folder of data, or `None` if the suites run on SQLite.
pub fn of(data: &Path) -> Option<String> {
    is_chosen().then(|| databases().of(data))
}

/// Returns whether the suites run on PostgreSQL.
pub fn is_chosen() -> bool {
    match std::env::var(VARIABLE).as_deref() {
        Err(_) | Ok("sqlite") => false,
        Ok("postgres") => true,
        Ok(other) => panic!("{VARIABLE} is {other:?}, but it must be sqlite or postgres"),
    }
}

/// Returns the server for a component's configuration. See [`of`].
pub fn server(data: &Path) -> Option<Server> {
    let url = of(data)?;
    Some(Server::parse(&url, None).expect("the URL is valid"))
}

/// Returns everything that is committed now in the database of a folder, as SQL.
pub fn dump(data: &Path) -> Option<Vec<u8>> {
    let url = of(data)?;
    Some(databases().server.output("pg_dump", &["--dbname", &url]))
}

/// Gives a folder a copy of another folder's database, with everything that is committed now.
pub fn copy(from: &Path, to: &Path) {
    let (Some(dump), Some(to)) = (dump(from), of(to)) else {
        return;
    };
    let mut psql = databases().server.command("psql");
    psql.args(["--quiet", "--set", "ON_ERROR_STOP=1", "--dbname", &to]);
    let mut psql = psql.stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
    let psql = psql.as_mut().expect("psql starts");
    let mut input = psql.stdin.take().expect("the input is a pipe");
    input.write_all(&dump).expect("psql reads the dump");
    drop(input);
    assert!(psql.wait().expect("psql ends").success());
}

/// Runs a statement on a database, and returns what psql prints. An error of the statement is an `Err`.
pub fn run(url: &str, statement: &str) -> Result<String, String> {
    let mut psql = databases().server.command("psql");
    psql.args([
        "--no-psqlrc",
        "--set",
        "ON_ERROR_STOP=1",
        "--tuples-only",
        "--no-align",
    ]);
    psql.args(["--dbname", url, "--command", statement]);
    let done = psql.output().expect("psql starts");
    match done.status.success() {
        true => Ok(String::from_utf8_lossy(&done.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&done.stderr).into_owned()),
    }
}

/// The server that the tests of this process share, and its databases by the folders to which they belong.
struct Databases {
    server: Postgres,
    urls: Mutex<HashMap<PathBuf, String>>,
}

fn databases() -> &'static Databases {
    static DATABASES: LazyLock<Databases> = LazyLock::new(|| Databases {
        server: Postgres::start(),
        urls: Mutex::default(),
    });
    &DATABASES
}

impl Databases {
    fn of(&self, data: &Path) -> String {
        let mut urls = self.urls.lock().unwrap_or_else(PoisonError::into_inner);
        let number = urls.len();
        let new = || self.server.database(&format!("test{number}"));
        urls.entry(data.to_owned()).or_insert_with(new).clone()
    }
}

/// A PostgreSQL server on 127.0.0.1. It is stopped when it is dropped, or when the test's process ends, and its files are removed.
#[derive(Debug)]
pub struct Postgres {
    script: Child,
    programs: PathBuf,
    folder: PathBuf,
    /// The user whose process the server is, if the test runs as root. PostgreSQL refuses to run as root.
    user: Option<User>,
    port: u16,
}

impl Postgres {
    /// Starts a server, and waits until it accepts connections.
    pub fn start() -> Self {
        Self::with(None)
    }

    /// Starts a server that presents this identity and accepts connections with TLS only.
    pub fn with_tls(identity: &Identity) -> Self {
        Self::with(Some(identity))
    }

    fn with(identity: Option<&Identity>) -> Self {
        let programs = programs();
        let user = Uid::effective().is_root().then(|| {
            let user = |name| User::from_name(name).ok().flatten();
            let user = user("postgres").or_else(|| user("nobody"));
            user.expect("the machine has a user postgres or nobody")
        });
        let folder = tempfile::tempdir().expect("the folder of temporary files can be written");
        let folder = folder.keep();
        let owned = |path: &Path, mode: u32| {
            if let Some(user) = &user {
                chown(path, Some(user.uid), Some(user.gid)).expect("root may change the owner");
            }
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(path, mode).expect("the owner may change the mode");
        };
        owned(&folder, 0o700);
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).expect("a temporary file can be written");
            owned(&path, 0o600);
        };
        write("password", PASSWORD);
        let port = free_port();
        let mut arguments = vec![
            format!("-p{port}"),
            "-clisten_addresses=127.0.0.1".into(),
            "-cunix_socket_directories=".into(),
            "-cfsync=off".into(),
            "-cfull_page_writes=off".into(),
            "-cmax_connections=500".into(),
            "-cshared_buffers=32MB".into(),
        ];
        if let Some(identity) = identity {
            write("cert", &identity.cert_pem);
            write("key", &identity.key_pem);
            write("hba", "hostssl all all 127.0.0.1/32 scram-sha-256\n");
            arguments.push("-cssl=on".into());
            for (setting, name) in [
                ("ssl_cert_file", "cert"),
                ("ssl_key_file", "key"),
                ("hba_file", "hba"),
            ] {
                arguments.push(format!("-c{setting}={}", folder.join(name).display()));
            }
        }
        let script = as_user("sh", user.as_ref())
            .args(["-c", SCRIPT, "postgres"])
            .args([&folder, &programs.join("postgres"), Path::new("-D")])
            .arg(folder.join("data"))
            .args(&arguments)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("start a shell");
        let mut server = Self {
            script,
            programs,
            folder,
            user,
            port,
        };
        server.initialise();
        server.start_again();
        server
    }

    fn initialise(&self) {
        let password = format!("--pwfile={}", self.folder.join("password").display());
        let data = format!("--pgdata={}", self.folder.join("data").display());
        let user = format!("--username={USER}");
        let fixed = [
            "--no-sync",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
        ];
        self.output("initdb", &[&fixed[..], &[&password, &data, &user]].concat());
    }

    /// Creates a database, and returns its URL.
    pub fn database(&self, name: &str) -> String {
        let maintenance = format!("--maintenance-db={}", self.url("postgres"));
        self.output("createdb", &[&maintenance, name]);
        self.url(name)
    }

    /// Returns the URL of a database.
    pub fn url(&self, name: &str) -> String {
        format!(
            "postgres://{USER}:{PASSWORD_IN_URL}@127.0.0.1:{}/{name}",
            self.port
        )
    }

    /// Stops the server at once, as a crash does. All connections break.
    pub fn stop(&mut self) {
        use std::io::{BufRead as _, BufReader};
        self.order("stop");
        let output = self.script.stdout.as_mut().expect("the output is a pipe");
        let mut line = String::new();
        let read = BufReader::new(output).read_line(&mut line);
        assert!(read.is_ok() && line == "stopped\n", "{line:?}");
    }

    /// Starts the server that was stopped, on the same port, and waits until it accepts connections.
    pub fn start_again(&mut self) {
        self.order("start");
        let began = Instant::now();
        let port = self.port.to_string();
        let is_ready = || {
            let mut command = self.command("pg_isready");
            command.args(["--host=127.0.0.1", "--quiet", "--port", &port]);
            command.status().is_ok_and(|status| status.success())
        };
        while !is_ready() {
            if began.elapsed() > PATIENCE {
                let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                panic!("PostgreSQL did not start within {PATIENCE:?}:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn order(&mut self, order: &str) {
        let input = self.script.stdin.as_mut().expect("the input is a pipe");
        writeln!(input, "{order}").expect("the script reads its input");
    }

    /// Returns the command of one of PostgreSQL's programs.
    fn command(&self, program: &str) -> Command {
        let mut command = as_user(self.programs.join(program), self.user.as_ref());
        command.current_dir("/");
        command
    }

    /// Runs one of PostgreSQL's programs, and returns its output.
    fn output(&self, program: &str, arguments: &[&str]) -> Vec<u8> {
        let done = self.command(program).args(arguments).output();
        let done = done.unwrap_or_else(|error| panic!("start {program}: {error}"));
        let why = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{program}: {why}");
        done.stdout
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // The end of its input ends the script, which stops the server and removes the files.
        drop(self.script.stdin.take());
        let _ = self.script.wait();
    }
}

fn as_user(program: impl AsRef<std::ffi::OsStr>, user: Option<&User>) -> Command {
    let mut command = Command::new(program);
    if let Some(user) = user {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        // The clients look for certificates in the home directory, and must not read that of root.
        command.env("HOME", "/");
    }
    command
}

/// Returns the folder of the newest version's programs.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let newest = versions
        .filter_map(|version| version.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .max();
    let newest =
        newest.expect("no PostgreSQL is installed: install it with scripts/setup-tests, as root");
    PathBuf::from(format!("/usr/lib/postgresql/{newest}/bin"))
}
