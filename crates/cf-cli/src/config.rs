//! The configuration file `~/.cf/config.json` (`$CF_HOME/.cf/config.json`). It has the keys of the cf CLI's version 4, so that
//! either client can continue with the other's file. Keys that this client does not use are kept unchanged.

use anyhow::{Context as _, Result};
use kit::private_file;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

const VERSION: u32 = 4;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Config {
    pub(crate) config_version: u32,
    /// The API's URL; empty if none is set.
    pub(crate) target: String,
    #[serde(rename = "APIVersion")]
    pub(crate) api_version: String,
    /// The URL of the login server.
    pub(crate) authorization_endpoint: String,
    pub(crate) uaa_endpoint: String,
    #[serde(rename = "LogCacheEndPoint")]
    pub(crate) log_cache_endpoint: String,
    #[serde(rename = "DopplerEndPoint")]
    pub(crate) doppler_endpoint: String,
    #[serde(rename = "NetworkPolicyV1Endpoint")]
    pub(crate) network_policy_v1_endpoint: String,
    #[serde(rename = "RoutingAPIEndpoint")]
    pub(crate) routing_endpoint: String,
    /// The access token as `bearer <jwt>`.
    pub(crate) access_token: String,
    pub(crate) refresh_token: String,
    #[serde(rename = "UAAGrantType")]
    pub(crate) grant_type: String,
    #[serde(rename = "UAAOAuthClient")]
    pub(crate) oauth_client: String,
    #[serde(rename = "UAAOAuthClientSecret")]
    pub(crate) oauth_client_secret: String,
    #[serde(rename = "SSHOAuthClient")]
    pub(crate) ssh_oauth_client: String,
    #[serde(rename = "SSLDisabled")]
    pub(crate) ssl_disabled: bool,
    pub(crate) organization_fields: Organization,
    pub(crate) space_fields: Space,
    #[serde(flatten)]
    pub(crate) other: serde_json::Map<String, serde_json::Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Organization {
    #[serde(rename = "GUID")]
    pub(crate) guid: String,
    #[serde(rename = "Name")]
    pub(crate) name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Space {
    #[serde(rename = "GUID")]
    pub(crate) guid: String,
    #[serde(rename = "Name")]
    pub(crate) name: String,
    #[serde(rename = "AllowSSH")]
    pub(crate) allow_ssh: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            config_version: VERSION,
            target: String::new(),
            api_version: String::new(),
            authorization_endpoint: String::new(),
            uaa_endpoint: String::new(),
            log_cache_endpoint: String::new(),
            doppler_endpoint: String::new(),
            network_policy_v1_endpoint: String::new(),
            routing_endpoint: String::new(),
            access_token: String::new(),
            refresh_token: String::new(),
            grant_type: String::new(),
            oauth_client: "cf".into(),
            oauth_client_secret: String::new(),
            ssh_oauth_client: "ssh-proxy".into(),
            ssl_disabled: false,
            organization_fields: Organization::default(),
            space_fields: Space::default(),
            other: serde_json::Map::new(),
        }
    }
}

impl Config {
    /// Returns the file's path, below `CF_HOME` or otherwise `HOME`.
    pub(crate) fn path(cf_home: Option<&str>, home: Option<&str>) -> Result<PathBuf> {
        let home = cf_home.filter(|h| !h.is_empty()).or(home).context(
            "neither CF_HOME nor HOME is set: set one, because the client keeps its config file below it",
        )?;
        Ok(Path::new(home).join(".cf").join("config.json"))
    }

    /// Reads the file. A missing file is an empty configuration.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let text = match std::fs::read(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            read => read.with_context(|| format!("read config file {}", path.display()))?,
        };
        if text.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::default());
        }
        let config: Self = serde_json::from_slice(&text).with_context(|| {
            format!(
                "the config file {} is not valid: delete it and log in again",
                path.display()
            )
        })?;
        Ok(if config.oauth_client.is_empty() {
            Self {
                oauth_client: "cf".into(),
                ..config
            }
        } else {
            config
        })
    }

    /// Replaces the file in one step. Only its owner may read it.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        let folder = path
            .parent()
            .context("the path of the config file has no folder")?;
        if !folder.exists() {
            use std::os::unix::fs::DirBuilderExt as _;
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .with_context(|| format!("create {}", folder.display()))?;
        }
        let text = serde_json::to_string_pretty(&Self {
            config_version: VERSION,
            ..self.clone()
        })
        .context("encode the config file")?;
        private_file::replace(path, &text).context("save the config file")
    }

    pub(crate) fn log_out(&mut self) {
        self.access_token.clear();
        self.refresh_token.clear();
        self.grant_type.clear();
        self.oauth_client = "cf".into();
        self.oauth_client_secret.clear();
        self.clear_target();
    }

    pub(crate) fn clear_target(&mut self) {
        self.organization_fields = Organization::default();
        self.space_fields = Space::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn round_trip_keeps_unknown_keys_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = Config::path(folder.path().to_str(), Some("/nowhere")).unwrap();
        let original = r#"{"ConfigVersion":4,"Target":"https://api.x","SSLDisabled":true,"Locale":"de-DE","PluginRepos":[{"Name":"a"}],
            "OrganizationFields":{"GUID":"o","Name":"org"},"UAAOAuthClient":"cf","LogCacheEndPoint":"https://log-cache.x"}"#;
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, original).unwrap();
        let mut config = Config::load(&path).unwrap();
        assert_eq!(
            (
                config.target.as_str(),
                config.organization_fields.name.as_str(),
                config.ssl_disabled
            ),
            ("https://api.x", "org", true)
        );
        config.access_token = "bearer t".into();
        config.save(&path).unwrap();
        let saved: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(
            (
                &saved["Locale"],
                &saved["PluginRepos"][0]["Name"],
                &saved["AccessToken"]
            ),
            (&"de-DE".into(), &"a".into(), &"bearer t".into())
        );
        assert_eq!(saved["LogCacheEndPoint"], "https://log-cache.x");
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(Config::load(&path).unwrap(), config);
    }

    #[test]
    fn a_missing_file_is_empty_and_a_broken_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        assert_eq!(Config::load(&path).unwrap(), Config::default());
        std::fs::write(&path, "{").unwrap();
        assert!(
            format!("{:#}", Config::load(&path).unwrap_err())
                .contains("delete it and log in again")
        );
    }
}
