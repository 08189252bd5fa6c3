//! A BBS with locket, and an operator with certificate files and environment variables.

use cfdot::Options;
use clients::locket::Presence;
use kit::CancellationToken;
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};
use testkit::certs::identity;
use testkit::components::Bbs;
use testkit::wait::{wait_for, within};
use tokio::task::JoinHandle;
use wire::bbs::CellPresence;

/// A definition of an LRP, and one of a task.
pub(crate) const LRP: &str = r#"{"process_guid":"P","domain":"cf-apps","rootfs":"preloaded:cflinuxfs4","instances":2,"memory_mb":64,"disk_mb":128,"log_guid":"L","ports":[8080],"routes":{"cf-router":[{"hostnames":["a.b"],"port":8080}]},"action":{"timeout":{"action":{"run":{"path":"/bin/app","user":"vcap","env":[{"name":"A","value":"<b>"}]}},"timeout_ms":5000}}}"#;
pub(crate) const TASK: &str = r#"{"task_guid":"T","domain":"cf-tasks","rootfs":"preloaded:cflinuxfs4","memory_mb":64,"disk_mb":128,"action":{"run":{"path":"/bin/true","user":"vcap"}}}"#;

pub(crate) struct Diego {
    pub(crate) folder: tempfile::TempDir,
    environment: BTreeMap<String, String>,
    bbs: Bbs,
    /// The end of the registered cells.
    stop: CancellationToken,
}

#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) code: u8,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// The output of a command, readable while it runs and afterwards.
#[derive(Clone, Default)]
struct Stream(Arc<Mutex<Vec<u8>>>);

impl Stream {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A command that keeps running.
pub(crate) struct Watcher {
    out: Stream,
    err: Stream,
    running: JoinHandle<u8>,
}

impl Watcher {
    pub(crate) async fn seen(self) -> Seen {
        let code = within("the end of the command", self.running).await;
        Seen {
            code: code.unwrap(),
            out: self.out.text(),
            err: self.err.text(),
        }
    }
}

impl Diego {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let identity = identity();
        let data_dir = folder.path().join("bbs");
        std::fs::create_dir(&data_dir).unwrap();
        let bbs = Bbs::start(&data_dir, &identity, "https://127.0.0.1:1").await;
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let environment = [
            ("BBS_URL", bbs.url.clone()),
            ("LOCKET_API_LOCATION", bbs.locket_address.clone()),
            ("CA_CERT_FILE", file("ca.crt", &identity.ca_pem)),
            ("CLIENT_CERT_FILE", file("client.crt", &identity.cert_pem)),
            ("CLIENT_KEY_FILE", file("client.key", &identity.key_pem)),
        ];
        Self {
            folder,
            environment: environment
                .map(|(name, value)| (name.to_owned(), value))
                .into(),
            bbs,
            stop: CancellationToken::new(),
        }
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.bbs.stop().await;
    }

    pub(crate) async fn types(&self, line: &str) -> Seen {
        self.with(&[], line).await
    }

    /// Runs a command line with changed variables.
    pub(crate) async fn with(&self, variables: &[(&str, &str)], line: &str) -> Seen {
        let mut environment = self.environment.clone();
        let variables = variables
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        environment.extend(variables);
        run(line.split(' '), environment).await
    }

    pub(crate) async fn runs(&self, args: &[&str]) -> Seen {
        run(args.iter().copied(), self.environment.clone()).await
    }

    pub(crate) async fn watches(&self, line: &str) -> Watcher {
        let (out, err) = (Stream::default(), Stream::default());
        let args = line.split(' ').map(str::to_owned).collect();
        let (environment, mut streams) = (self.environment.clone(), (out.clone(), err.clone()));
        let running = tokio::spawn(async move {
            let (out, err) = (&mut streams.0, &mut streams.1);
            cfdot::run_to(args, &environment, Options::default(), out, err).await
        });
        Watcher { out, err, running }
    }

    /// Creates LRPs and tasks one after the other until each stream has printed its text, because the moment at which a stream
    /// begins is not known.
    pub(crate) async fn changes_until(&self, wanted: &[(&Watcher, &str)]) {
        let mut n = 0;
        wait_for("the output of the streams", async || {
            let has_printed =
                |(watcher, text): &(&Watcher, &str)| watcher.out.text().contains(text);
            if wanted.iter().all(has_printed) {
                return Ok(());
            }
            let lrp = LRP.replace("\"P\"", &format!("\"P{n}\""));
            let task = TASK.replace("\"T\"", &format!("\"T{n}\""));
            n += 1;
            assert_eq!(self.runs(&["create-desired-lrp", &lrp]).await.code, 0);
            assert_eq!(self.runs(&["create-task", &task]).await.code, 0);
            let printed: Vec<_> = wanted.iter().map(|(w, _)| w.out.text()).collect();
            Err(format!("{printed:?}"))
        })
        .await;
    }

    /// Registers the presence of a cell whose rep does not run.
    pub(crate) async fn has_cell(&self, id: &str) {
        let cell = CellPresence {
            cell_id: id.into(),
            rep_url: "https://127.0.0.1:1".into(),
            ..CellPresence::default()
        };
        tokio::spawn(Presence::cell(self.bbs.locket(), &cell).run(self.stop.clone()));
        wait_for("the presence of the cell", async || {
            self.types("cells").await.out.contains(id)
        })
        .await;
    }

    /// Returns the file of a CA that nobody uses.
    pub(crate) fn other_ca(&self) -> String {
        let path = self.folder.path().join("other.crt");
        std::fs::write(&path, identity().ca_pem).unwrap();
        path.display().to_string()
    }
}

async fn run(args: impl Iterator<Item = &str>, environment: BTreeMap<String, String>) -> Seen {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let args = args.map(str::to_owned).collect();
    let code = cfdot::run_to(args, &environment, Options::default(), &mut out, &mut err).await;
    Seen {
        code,
        out: String::from_utf8(out).unwrap(),
        err: String::from_utf8(err).unwrap(),
    }
}
