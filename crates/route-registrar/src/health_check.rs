//! Runs a script that checks the health of the server behind a route.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// A health check by a script. Its exit code 0 means that the server is healthy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    pub name: String,
    pub script: PathBuf,
    /// The time after which the script is killed and the server counts as unhealthy.
    pub timeout: Duration,
}

impl HealthCheck {
    pub(crate) async fn is_well(&self) -> bool {
        let child = Command::new(&self.script)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(error) => {
                let script = self.script.display();
                tracing::error!(check = self.name, %script, %error, "health-check-did-not-start");
                return false;
            }
        };
        match tokio::time::timeout(self.timeout, child.wait()).await {
            Ok(Ok(status)) if status.success() => true,
            Ok(Ok(status)) => {
                tracing::info!(check = self.name, %status, "health-check-failed");
                false
            }
            Ok(Err(error)) => {
                tracing::error!(check = self.name, %error, "health-check-lost");
                false
            }
            Err(_) => {
                let timeout = go_values::duration::show(self.timeout);
                tracing::warn!(check = self.name, timeout, "health-check-timed-out");
                let _ = child.kill().await;
                false
            }
        }
    }
}
