//! A change that one component shows. A train consists of such steps.

use super::station::Station;
use serde::Serialize;

/// A time in microseconds since 1970.
pub(crate) type Micros = u64;

/// Returns the milliseconds between two times, negative if the second one is earlier.
pub(crate) fn milliseconds(from: Micros, to: Micros) -> f64 {
    if to >= from {
        (to - from) as f64 / 1000.0
    } else {
        -((from - to) as f64 / 1000.0)
    }
}

/// A step, and what it belongs to. Texts that are empty are not known.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Step {
    pub(crate) at: Micros,
    pub(crate) station: Option<Station>,
    /// A sentence for people.
    pub(crate) text: String,
    /// The values that it carried to the station, in their order.
    pub(crate) values: Vec<(&'static str, String)>,
    pub(crate) is_fault: bool,
    pub(crate) about: About,
    /// The ids of the requests that caused it, with commas between them.
    pub(crate) request: String,
}

/// The app and the route that a step is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct About {
    pub(crate) app: String,
    /// The process guid of the LRP. While an app is updated it has two.
    pub(crate) process: String,
    pub(crate) uri: String,
    pub(crate) kind: Kind,
}

/// The kind of a change, as far as its first step shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// An app gets its desired LRP: a push or a start.
    Start,
    /// An app loses its desired LRP.
    Stop,
    Map,
    Unmap,
    Scale,
    Crash,
    /// An instance changes for another reason.
    Instance,
    /// Only the bus or a router shows the change.
    #[default]
    Table,
}

impl Step {
    pub(crate) fn new(at: Micros, station: Station, text: impl Into<String>) -> Self {
        Self {
            at,
            station: Some(station),
            text: text.into(),
            ..Self::default()
        }
    }

    pub(crate) fn about(mut self, app: &str, uri: &str, kind: Kind) -> Self {
        self.about = About {
            app: app.to_owned(),
            process: String::new(),
            uri: uri.to_owned(),
            kind,
        };
        self
    }

    /// Sets the process guid.
    pub(crate) fn of_process(mut self, process_guid: &str) -> Self {
        process_guid.clone_into(&mut self.about.process);
        self
    }

    /// Adds a value unless it is empty.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        let value = value.into();
        if !value.is_empty() {
            self.values.push((name, value));
        }
        self
    }

    pub(crate) fn fault(mut self) -> Self {
        self.is_fault = true;
        self
    }
}
