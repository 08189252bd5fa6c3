//! Writes the API's lines to the logs of apps.

use clients::loggregator::{Emitter, Source, Stream};
use std::sync::Arc;

/// Logs one line of source type API to an app's log.
pub(crate) fn write(emitter: &Emitter, app_guid: &str, line: String) {
    let source = Source {
        source_id: app_guid.to_owned(),
        instance_id: "0".to_owned(),
        source_type: "API".to_owned(),
        tags: Arc::default(),
    };
    emitter.log(&source, Stream::Out, line.into_bytes());
}
