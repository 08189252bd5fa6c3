//! The scripts that simulated processes follow.

use garden::api::Output;

/// The behaviour of a process after its start.
#[derive(Clone, Debug)]
pub struct Script {
    pub output: Vec<Output>,
    /// The status with which the process ends at once, if it does.
    pub exit: Option<i32>,
    /// The status with which the process ends at SIGTERM. With `None` only SIGKILL ends it.
    pub on_term: Option<i32>,
}

impl Script {
    pub fn runs() -> Self {
        Self {
            output: Vec::new(),
            exit: None,
            on_term: Some(143),
        }
    }

    pub fn exits(status: i32) -> Self {
        Self {
            exit: Some(status),
            ..Self::runs()
        }
    }

    pub fn ignores_term() -> Self {
        Self {
            on_term: None,
            ..Self::runs()
        }
    }

    #[must_use]
    pub fn prints(mut self, stdout: &str) -> Self {
        self.output
            .push(Output::Stdout(stdout.as_bytes().to_vec().into()));
        self
    }
}
