//! A message of `router.*` that is understood is written again with the same meaning.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;
use wire::router::{RegistryMessage, StartMessage, StartingMessage};

fn again<T: DeserializeOwned + Serialize + PartialEq + Debug>(payload: &[u8]) {
    if let Ok(message) = serde_json::from_slice::<T>(payload) {
        let text = serde_json::to_vec(&message).expect("a message can be written");
        let read = serde_json::from_slice::<T>(&text).expect("what was written can be read");
        assert_eq!(read, message);
    }
}

fuzz_target!(|payload: &[u8]| {
    again::<StartMessage>(payload);
    again::<StartingMessage>(payload);
    if let Ok(message) = serde_json::from_slice::<RegistryMessage>(payload) {
        // Numbers in options may lose their last digit.
        let plain = RegistryMessage {
            options: None,
            ..message
        };
        again::<RegistryMessage>(&serde_json::to_vec(&plain).expect("a message can be written"));
    }
});
