//! Files that are read again when they change: certificates that are renewed, configurations of jobs.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The interval at which files are checked.
const PERIOD: Duration = Duration::from_secs(3);

/// The files whose change causes a reload.
#[derive(Debug)]
pub struct Watched(Vec<(PathBuf, Option<SystemTime>)>);

impl Watched {
    pub fn new(files: Vec<PathBuf>) -> Self {
        let seen = files.into_iter().map(|file| {
            let modified = modified(&file);
            (file, modified)
        });
        Self(seen.collect())
    }

    /// Returns whether exactly these files are watched.
    pub fn holds(&self, files: &[PathBuf]) -> bool {
        self.0.iter().map(|(file, _)| file).eq(files)
    }

    /// Waits for the next file that has changed, and returns it. A file that is missing for a moment (for instance while it is
    /// replaced) does not count.
    pub async fn changed(&mut self) -> PathBuf {
        loop {
            tokio::time::sleep(PERIOD).await;
            for (file, seen) in &mut self.0 {
                let now = modified(file);
                if now.is_some() && now != *seen {
                    *seen = now;
                    return file.clone();
                }
            }
        }
    }
}

fn modified(file: &Path) -> Option<SystemTime> {
    std::fs::metadata(file).ok()?.modified().ok()
}
