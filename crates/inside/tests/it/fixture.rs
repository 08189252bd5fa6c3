//! A folder with an app, and the programs that work on it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};

pub(crate) const INSIDE: &str = env!("CARGO_BIN_EXE_inside");

pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("cupola-inside-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("app")).unwrap();
        Self(path)
    }
    /// Writes a file of the app.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.0.join("app").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn build(&self, flags: &[&str]) -> Output {
        self.builder(flags).output().unwrap()
    }

    pub(crate) fn builder(&self, flags: &[&str]) -> Command {
        let mut builder = Command::new(INSIDE);
        builder
            .arg("builder")
            .arg(format!("-buildDir={}", self.path("app").display()))
            .arg(format!("-outputDroplet={}", self.path("droplet").display()));
        builder
            .arg(format!(
                "-outputMetadata={}",
                self.path("out/result.json").display()
            ))
            .arg(format!(
                "-outputBuildArtifactsCache={}",
                self.path("cache").display()
            ));
        builder.args(flags);
        builder
    }

    /// Builds, and expects the log to contain `log`. Returns the result file.
    pub(crate) fn built(&self, flags: &[&str], log: &str) -> serde_json::Value {
        let output = self.build(flags);
        assert!(output.status.success(), "{output:?}");
        assert!(
            String::from_utf8_lossy(&output.stdout).contains(log),
            "{output:?}"
        );
        serde_json::from_slice(&fs::read(self.path("out/result.json")).unwrap()).unwrap()
    }

    /// Returns the mode and owner of each name in the droplet.
    pub(crate) fn droplet(&self) -> BTreeMap<String, (u32, u64)> {
        let tgz = fs::File::open(self.path("droplet")).unwrap();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(tgz));
        let entries = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            (
                String::from_utf8(entry.path_bytes().into_owned()).unwrap(),
                (
                    entry.header().mode().unwrap(),
                    entry.header().uid().unwrap(),
                ),
            )
        });
        entries.collect()
    }

    /// Unpacks the droplet to `home`, as the cell does.
    pub(crate) fn unpack(&self) -> PathBuf {
        let home = self.path("home");
        tar::Archive::new(flate2::read::GzDecoder::new(
            fs::File::open(self.path("droplet")).unwrap(),
        ))
        .unpack(&home)
        .unwrap();
        home
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A process that ends with the test.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn launch(home: &Path, command: &str) -> Output {
    let mut launcher = Command::new(INSIDE);
    launcher
        .current_dir(home)
        .args(["launcher", "app", command, ""])
        .env("VCAP_APPLICATION", r#"{"name":"dora"}"#)
        .env("PORT", "8080")
        .env("INSTANCE_INDEX", "3");
    launcher.output().unwrap()
}
