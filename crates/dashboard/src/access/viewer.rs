//! Limits what a user sees. Operators see everything; a developer sees the apps that the Cloud Controller shows to the same token.

use clients::uaa::Claims;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The scopes of operators.
const OPERATORS: &[&str] = &[
    "cloud_controller.admin",
    "cloud_controller.admin_read_only",
    "cloud_controller.global_auditor",
];
/// The time for which the list of a user's apps is used.
const FRESH: Duration = Duration::from_secs(3);
/// The number of users whose apps are kept.
const MOST: usize = 1000;

/// A user who looks at the picture.
#[derive(Clone)]
pub(crate) struct Viewer {
    pub(crate) user_name: String,
    pub(crate) token: String,
    /// The guids of the apps that the user may see; `None`: all.
    apps: Option<Arc<BTreeSet<String>>>,
}

impl std::fmt::Debug for Viewer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Viewer")
            .field("user_name", &self.user_name)
            .finish_non_exhaustive()
    }
}

impl Viewer {
    pub(crate) fn operator(claims: &Claims, token: String) -> Self {
        Self {
            user_name: claims
                .user_name
                .clone()
                .unwrap_or_else(|| claims.client_id.clone()),
            token,
            apps: None,
        }
    }

    pub(crate) fn developer(claims: &Claims, token: String, apps: Arc<BTreeSet<String>>) -> Self {
        Self {
            apps: Some(apps),
            ..Self::operator(claims, token)
        }
    }

    pub(crate) fn is_operator(&self) -> bool {
        self.apps.is_none()
    }

    /// Returns whether the user may see an app. An empty guid is something that is no app's.
    pub(crate) fn sees(&self, app_guid: &str) -> bool {
        self.apps
            .as_ref()
            .is_none_or(|apps| apps.contains(app_guid))
    }
}

/// Returns whether the claims are those of an operator.
pub(crate) fn is_operator(claims: &Claims) -> bool {
    OPERATORS.iter().any(|scope| claims.has_scope(scope))
}

/// The apps that a user saw, and when the API named them.
type Seen = (Instant, Arc<BTreeSet<String>>);

/// The apps that each user saw lately.
#[derive(Debug, Default)]
pub(crate) struct Visible(Mutex<HashMap<String, Seen>>);

impl Visible {
    pub(crate) fn get(&self, user: &str) -> Option<Arc<BTreeSet<String>>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, apps) = kept.get(user)?;
        (at.elapsed() < FRESH).then(|| apps.clone())
    }

    pub(crate) fn keep(&self, user: &str, apps: BTreeSet<String>) -> Arc<BTreeSet<String>> {
        let apps = Arc::new(apps);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MOST {
            kept.retain(|_, (at, _)| at.elapsed() < FRESH);
        }
        if kept.len() < MOST {
            kept.insert(user.to_owned(), (Instant::now(), apps.clone()));
        }
        apps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(scope: &str) -> Claims {
        let json = serde_json::json!({"user_name": "ann", "scope": scope, "exp": 1});
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn operators_see_everything_and_developers_their_apps() {
        for scope in OPERATORS {
            assert!(is_operator(&claims(&format!("openid {scope}"))));
        }
        let claims = claims("openid cloud_controller.read");
        assert!(!is_operator(&claims));
        let operator = Viewer::operator(&claims, String::new());
        assert!(operator.is_operator() && operator.sees("") && operator.sees("a"));
        let apps = Arc::new(BTreeSet::from(["a".to_owned()]));
        let developer = Viewer::developer(&claims, String::new(), apps);
        assert!(developer.sees("a") && !developer.sees("b") && !developer.sees(""));
        assert_eq!(developer.user_name, "ann");
    }

    #[test]
    fn a_list_of_apps_is_kept_for_its_user() {
        let visible = Visible::default();
        visible.keep("ann", BTreeSet::from(["a".to_owned()]));
        assert!(visible.get("ann").unwrap().contains("a"));
        assert!(visible.get("bob").is_none());
    }
}
