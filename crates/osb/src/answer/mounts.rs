//! The volume mounts of bindings.

use cc_rules::ordered_json::OrderedJson;

pub(super) const NOT_REGISTERED: &str = "The service is attempting to supply volume mounts from your application, but is not registered as a volume mount service. Please contact the service provider.";

/// Returns what is wrong with a list of mounts. `body` is the whole answer.
pub(super) fn problem(mounts: &OrderedJson, body: &str) -> Option<String> {
    let wrong = || {
        Some(format!(
            "expected \"volume_mounts\" key to contain an array of JSON objects in body, broker returned '{body}'"
        ))
    };
    let OrderedJson::List(mounts) = mounts else {
        return wrong();
    };
    if !mounts
        .iter()
        .all(|mount| matches!(mount, OrderedJson::Object(_)))
    {
        return wrong();
    }
    mounts.iter().find_map(problem_of)
}

fn has_text(object: &OrderedJson, key: &str) -> bool {
    matches!(object.get(key), Some(OrderedJson::Text(text)) if !text.is_empty())
}

fn problem_of(mount: &OrderedJson) -> Option<String> {
    let missing = |key: &str| Some(format!("missing required field '{key}'"));
    for key in ["device_type", "device", "mode", "container_dir", "driver"] {
        if mount.get(key).is_none() {
            return missing(key);
        }
    }
    for key in ["device_type", "mode", "container_dir", "driver"] {
        if !has_text(mount, key) {
            return missing(key);
        }
    }
    let device = mount.get("device")?;
    if !matches!(device, OrderedJson::Object(_)) {
        return Some("required field 'device' must be an object".to_owned());
    }
    if !has_text(device, "volume_id") {
        return Some("required field 'device.volume_id' must be a non-empty string".to_owned());
    }
    match device.get("mount_config") {
        None | Some(OrderedJson::Null | OrderedJson::Object(_)) => None,
        Some(_) => {
            Some("field 'device.mount_config' must be an object if it is defined".to_owned())
        }
    }
}
