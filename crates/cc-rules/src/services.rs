//! Services as apps see them: the text of `VCAP_SERVICES`, the same as a file, and bindings as files of the Kubernetes convention
//! (RFC-0030). It also checks what users may call a binding and which addresses a user-provided instance may name.
//!
//! The keys have the order of cloud_controller_ng's `system_environment/service_binding_presenter.rb`, because apps compare texts.

use crate::ordered_json::OrderedJson;
use serde::ser::{Serialize, SerializeMap as _, Serializer};

/// The label of all user-provided instances.
pub const USER_PROVIDED: &str = "user-provided";

/// The folder in the container that has the bindings of an app with a file-based feature.
pub const FOLDER: &str = "/etc/cf-service-bindings";

/// The file of `VCAP_SERVICES` in [`FOLDER`].
pub const VCAP_SERVICES_FILE: &str = "vcap_services";

/// The maximum size of all files of an app's bindings, with their paths.
pub const MOST_FILE_BYTES: usize = 1_000_000;

/// The maximum size of `VCAP_SERVICES`. Linux starts no program with a variable of 128 KiB.
pub const MOST_VARIABLE_BYTES: usize = 130_000;

/// The maximum length of all tags of an instance together.
const MOST_TAG_CHARS: usize = 2048;
const LONGEST_NAME: usize = 255;
const LONGEST_URL: usize = 10_000;
const LONGEST_FILE_NAME: usize = 253;

/// A binding of an app with what its instance adds.
#[derive(Clone, PartialEq)]
pub struct Binding {
    /// The name of the offering, or [`USER_PROVIDED`].
    pub label: String,
    /// The name of the plan of a managed instance.
    pub plan: Option<String>,
    pub tags: Vec<String>,
    pub instance_guid: String,
    pub instance_name: String,
    pub binding_guid: String,
    pub binding_name: Option<String>,
    pub credentials: OrderedJson,
    pub syslog_drain_url: Option<String>,
}

/// Prints the guids only, because the credentials are secret.
impl std::fmt::Debug for Binding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Binding")
            .field("instance_guid", &self.instance_guid)
            .field("binding_guid", &self.binding_guid)
            .finish_non_exhaustive()
    }
}

impl Binding {
    /// Returns the name under which apps look the binding up: its own, or else that of its instance.
    fn name(&self) -> &str {
        let own = self.binding_name.as_deref();
        own.filter(|name| !name.is_empty())
            .unwrap_or(&self.instance_name)
    }
}

/// The serialised form of a binding. The order of the fields is that of the original.
#[derive(serde::Serialize)]
struct Presented<'a> {
    label: &'a str,
    /// Managed instances have it, and its value is null.
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<()>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<&'a str>,
    name: &'a str,
    tags: &'a [String],
    instance_guid: &'a str,
    instance_name: &'a str,
    binding_guid: &'a str,
    binding_name: Option<&'a str>,
    credentials: &'a OrderedJson,
    syslog_drain_url: Option<&'a str>,
    volume_mounts: [(); 0],
}

impl<'a> From<&'a Binding> for Presented<'a> {
    fn from(binding: &'a Binding) -> Self {
        Self {
            label: &binding.label,
            provider: binding.plan.is_some().then_some(()),
            plan: binding.plan.as_deref(),
            name: binding.name(),
            tags: &binding.tags,
            instance_guid: &binding.instance_guid,
            instance_name: &binding.instance_name,
            binding_guid: &binding.binding_guid,
            binding_name: binding.binding_name.as_deref(),
            credentials: &binding.credentials,
            syslog_drain_url: binding.syslog_drain_url.as_deref(),
            volume_mounts: [],
        }
    }
}

/// The bindings by label, in the order in which the labels occur first.
struct ByLabel<'a>(Vec<(&'a str, Vec<Presented<'a>>)>);

impl Serialize for ByLabel<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (label, bindings) in &self.0 {
            map.serialize_entry(label, bindings)?;
        }
        map.end()
    }
}

/// Returns the value of `VCAP_SERVICES` for the bindings of an app, in the order of their creation.
pub fn vcap_services(bindings: &[Binding]) -> String {
    let mut by_label: Vec<(&str, Vec<Presented<'_>>)> = Vec::new();
    for binding in bindings {
        let presented = Presented::from(binding);
        match by_label
            .iter_mut()
            .find(|(label, _)| *label == binding.label)
        {
            Some((_, list)) => list.push(presented),
            None => by_label.push((&binding.label, vec![presented])),
        }
    }
    serde_json::to_string(&ByLabel(by_label)).expect("the keys of the objects are texts")
}

/// The way in which an app gets its bindings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// The variable `VCAP_SERVICES`.
    #[default]
    Variable,
    /// A file with the text of `VCAP_SERVICES`, and `VCAP_SERVICES_FILE_PATH`.
    VcapFile,
    /// A folder for each binding with a file for each value, and `SERVICE_BINDING_ROOT`.
    Folders,
}

/// The bindings of an app as its containers get them: one variable, and files in [`FOLDER`].
#[derive(Clone, PartialEq, Eq)]
pub struct Delivered {
    /// The name and the value of the variable.
    pub variable: (String, String),
    pub files: Vec<BindingFile>,
}

/// An app without bindings has an empty `VCAP_SERVICES`.
impl Default for Delivered {
    fn default() -> Self {
        Self {
            variable: ("VCAP_SERVICES".to_owned(), "{}".to_owned()),
            files: Vec::new(),
        }
    }
}

/// Prints the name of the variable and the paths only, because the values may be secret.
impl std::fmt::Debug for Delivered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivered")
            .field("variable", &self.variable.0)
            .field("files", &self.files)
            .finish()
    }
}

/// A file below [`FOLDER`]. Its content may be secret.
#[derive(Clone, PartialEq, Eq)]
pub struct BindingFile {
    pub path: String,
    pub content: String,
}

/// Prints the path only.
impl std::fmt::Debug for BindingFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BindingFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl BindingFile {
    fn size(&self) -> usize {
        self.path.len() + self.content.len()
    }
}

/// The reason why bindings cannot be delivered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    #[error(
        "Invalid binding name: '{name}'. Name must match /^[a-z0-9\\-.]{{1,253}}$/; bind again with such a --binding-name"
    )]
    Name { name: String },
    #[error("Duplicate binding name: {name}")]
    Duplicate { name: String },
    #[error(
        "VCAP_SERVICES has {size} bytes, and no program starts with more than {}; enable the feature 'file-based-vcap-services' of the app",
        MOST_VARIABLE_BYTES
    )]
    Variable { size: usize },
    #[error("Invalid file name: {name}")]
    FileName { name: String },
    #[error(
        "Bindings exceed the maximum allowed bytesize of {}: {size}",
        MOST_FILE_BYTES
    )]
    Size { size: usize },
}

/// Returns what the containers of an app get.
pub fn deliver(bindings: &[Binding], delivery: Delivery) -> Result<Delivered, DeliveryError> {
    let (name, value, files) = match delivery {
        Delivery::Variable => {
            let value = vcap_services(bindings);
            let size = value.len();
            if size > MOST_VARIABLE_BYTES {
                return Err(DeliveryError::Variable { size });
            }
            ("VCAP_SERVICES", value, Vec::new())
        }
        Delivery::VcapFile => {
            let file = BindingFile {
                path: VCAP_SERVICES_FILE.to_owned(),
                content: vcap_services(bindings),
            };
            check_size(file.size())?;
            let path = format!("{FOLDER}/{VCAP_SERVICES_FILE}");
            ("VCAP_SERVICES_FILE_PATH", path, vec![file])
        }
        Delivery::Folders => (
            "SERVICE_BINDING_ROOT",
            FOLDER.to_owned(),
            folders(bindings)?,
        ),
    };
    Ok(Delivered {
        variable: (name.to_owned(), value),
        files,
    })
}

fn check_size(size: usize) -> Result<(), DeliveryError> {
    if size > MOST_FILE_BYTES {
        return Err(DeliveryError::Size { size });
    }
    Ok(())
}

fn is_name(text: &str, others: &[u8]) -> bool {
    let is_allowed = |c: u8| {
        c.is_ascii_lowercase() || c.is_ascii_digit() || b"-.".contains(&c) || others.contains(&c)
    };
    (1..=LONGEST_FILE_NAME).contains(&text.len()) && text.bytes().all(is_allowed)
}

/// Returns a folder of files for each binding: its credentials first, then what describes it. A later file of the same name replaces
/// an earlier one.
fn folders(bindings: &[Binding]) -> Result<Vec<BindingFile>, DeliveryError> {
    let (mut files, mut names, mut size) = (Vec::new(), Vec::new(), 0);
    for binding in bindings {
        let name = binding.name();
        if !is_name(name, b"") {
            let name = name.to_owned();
            return Err(DeliveryError::Name { name });
        }
        if names.contains(&name) {
            let name = name.to_owned();
            return Err(DeliveryError::Duplicate { name });
        }
        names.push(name);
        for (key, value) in described(binding) {
            size += add_file(&mut files, name, &key, &value)?;
        }
    }
    check_size(size)?;
    Ok(files)
}

/// Returns the files of one binding as keys and values, in order.
fn described(binding: &Binding) -> Vec<(String, OrderedJson)> {
    let text = |text: &str| OrderedJson::Text(text.to_owned());
    let optional = |value: &Option<String>| value.as_deref().map_or(OrderedJson::Null, &text);
    let tags = binding.tags.iter().map(|tag| text(tag)).collect();
    let mut all = match &binding.credentials {
        OrderedJson::Object(pairs) => pairs.clone(),
        _ => Vec::new(),
    };
    for (key, value) in [
        ("label", text(&binding.label)),
        ("plan", optional(&binding.plan)),
        ("name", text(binding.name())),
        ("tags", OrderedJson::List(tags)),
        ("instance_guid", text(&binding.instance_guid)),
        ("instance_name", text(&binding.instance_name)),
        ("binding_guid", text(&binding.binding_guid)),
        ("binding_name", optional(&binding.binding_name)),
        ("syslog_drain_url", optional(&binding.syslog_drain_url)),
        ("type", text(&binding.label)),
        ("provider", text(&binding.label)),
    ] {
        all.push((key.to_owned(), value));
    }
    all
}

/// Adds a file, unless the value is empty. Returns its size.
fn add_file(
    files: &mut Vec<BindingFile>,
    binding: &str,
    key: &str,
    value: &OrderedJson,
) -> Result<usize, DeliveryError> {
    if !is_name(key, b"_") {
        let name = key.to_owned();
        return Err(DeliveryError::FileName { name });
    }
    let content = match value {
        OrderedJson::Text(text) => text.clone(),
        value if value.is_empty() => return Ok(0),
        value => value.text(),
    };
    let path = format!("{binding}/{key}");
    let file = BindingFile { path, content };
    let size = file.size();
    match files.iter_mut().find(|other| other.path == file.path) {
        Some(other) => *other = file,
        None => files.push(file),
    }
    Ok(size)
}

/// Returns what is wrong with the name of a binding to an app.
pub fn binding_name_problem(name: &str) -> Option<&'static str> {
    if name.chars().count() > LONGEST_NAME {
        return Some(
            "The binding name is invalid. App binding names must be less than 256 characters.",
        );
    }
    let is_allowed = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    if !name.chars().all(is_allowed) {
        return Some(
            "The binding name is invalid. Valid characters are alphanumeric, underscore, and dash.",
        );
    }
    None
}

/// Returns what is wrong with the tags of an instance.
pub fn tags_problem(tags: &[String]) -> Option<String> {
    let length: usize = tags.iter().map(|tag| tag.chars().count()).sum();
    (length > MOST_TAG_CHARS).then(|| {
        format!("Tags are too long (maximum is {MOST_TAG_CHARS} characters together, got {length})")
    })
}

/// Returns whether a text is an absolute URI: a scheme, and something behind it.
pub fn is_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else {
        return false;
    };
    let begins_well = scheme.starts_with(|c: char| c.is_ascii_alphabetic());
    let is_of_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    let is_of_uri = |c: char| c.is_ascii_alphanumeric() || "-._~:/?#[]@!$&'()*+,;=%".contains(c);
    begins_well
        && scheme.chars().all(is_of_scheme)
        && !rest.is_empty()
        && rest.chars().all(is_of_uri)
        && has_whole_escapes(rest)
}

fn has_whole_escapes(text: &str) -> bool {
    text.split('%').skip(1).all(|after| {
        let digits = after.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

/// Returns what is wrong with the address to which an instance's logs are drained. An empty one means that there is none.
pub fn syslog_drain_url_problem(url: &str) -> Option<&'static str> {
    if url.is_empty() {
        return None;
    }
    if url.chars().count() > LONGEST_URL {
        return Some("Syslog drain url is too long (maximum is 10000 characters)");
    }
    (!is_uri(url)).then_some("Syslog drain url must be a valid URI")
}

/// Returns what is wrong with the address of a route service. An empty one means that there is none.
pub fn route_service_url_problem(url: &str) -> Option<&'static str> {
    if url.is_empty() {
        return None;
    }
    if !is_uri(url) {
        return Some("Route service url must be a valid URI");
    }
    let Some(rest) = url.strip_prefix("https:") else {
        return Some("Route service url must be https");
    };
    let host = rest
        .strip_prefix("//")
        .unwrap_or_default()
        .split(['/', '?', '#'])
        .next()
        .unwrap_or_default();
    let host = host.rsplit('@').next().unwrap_or_default();
    let is_wrong = host.is_empty() || host.starts_with(['.', ':']);
    is_wrong.then_some("Route service url must have a host")
}

/// Returns the drain's address as a binding stores it. Commas separate addresses elsewhere, so they are escaped.
pub fn stored_drain_url(url: &str) -> String {
    url.replace(',', "%2c")
}

#[cfg(test)]
mod tests;
