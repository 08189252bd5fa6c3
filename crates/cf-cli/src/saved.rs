//! The login that a cf CLI has saved, for other commands that act as its user. It has no secrets: `cf oauth-token` prints the token.

use crate::config::Config;
use crate::ui::Environment;
use anyhow::Result;

/// The API and the target of the configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// The API's URL, without a slash at its end.
    pub api: String,
    pub skip_ssl_validation: bool,
    /// The guid of the targeted space; `None` if none is targeted.
    pub space: Option<String>,
}

/// Returns what the configuration file of this environment names; `None` if nobody is logged in.
///
/// # Errors
/// It fails if there is a file that cannot be read.
pub fn saved(environment: &Environment) -> Result<Option<Saved>> {
    let var = |name: &str| environment.vars.get(name).map(String::as_str);
    let config = Config::load(&Config::path(var("CF_HOME"), var("HOME"))?)?;
    if config.target.is_empty() || config.access_token.is_empty() {
        return Ok(None);
    }
    Ok(Some(Saved {
        api: config.target.trim_end_matches('/').to_owned(),
        skip_ssl_validation: config.ssl_disabled,
        space: Some(config.space_fields.guid).filter(|guid| !guid.is_empty()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_found_below_cf_home() {
        let home = tempfile::tempdir().unwrap();
        let mut environment = Environment::of_process();
        let path = home.path().to_str().unwrap().to_owned();
        environment.vars.insert("CF_HOME".into(), path);
        assert_eq!(saved(&environment).unwrap(), None);
        std::fs::create_dir(home.path().join(".cf")).unwrap();
        let file = home.path().join(".cf/config.json");
        let text = r#"{"Target":"https://api.x/","AccessToken":"bearer t","SSLDisabled":true,"SpaceFields":{"GUID":"s"}}"#;
        std::fs::write(&file, text).unwrap();
        let wanted = Saved {
            api: "https://api.x".into(),
            skip_ssl_validation: true,
            space: Some("s".into()),
        };
        assert_eq!(saved(&environment).unwrap(), Some(wanted));
        std::fs::write(&file, r#"{"Target":"https://api.x"}"#).unwrap();
        assert_eq!(saved(&environment).unwrap(), None);
    }
}
