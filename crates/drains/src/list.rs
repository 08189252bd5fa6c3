//! Decides from the Cloud Controller's list which drains there are. The functions are pure.

use crate::target::Target;
use std::collections::{BTreeMap, BTreeSet};
use wire::cc::SyslogDrain;

/// A drain of one app, or of all sources if the app is empty. Two drains that are equal are one, and a drain that changes is another one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Wanted {
    pub(crate) app: String,
    /// The URL, which may contain a password.
    pub(crate) url: String,
    pub(crate) hostname: String,
    pub(crate) credentials: Credentials,
}

/// The PEM texts of a drain. An empty text means that there is none.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Credentials {
    pub cert: String,
    pub key: String,
    pub ca: String,
}

/// A drain that an operator has named. It gets the envelopes of all sources.
#[derive(Clone, PartialEq, Eq)]
pub struct Aggregate {
    pub url: String,
    pub credentials: Credentials,
}

/// Prints nothing, because the URL may contain a password.
impl std::fmt::Debug for Aggregate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[drain]")
    }
}

/// Prints the guid only, because everything else may be secret.
impl std::fmt::Debug for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wanted")
            .field("app", &self.app)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[credentials]")
    }
}

/// The reason why nothing is sent to an address: the app and a line for its log.
pub(crate) type Refused = (String, String);

/// The drains of a list.
#[derive(Debug, Default)]
pub(crate) struct List {
    pub(crate) drains: BTreeMap<Wanted, Target>,
    pub(crate) refused: BTreeSet<Refused>,
}

/// Reads a list. An app has at most `per_app` drains, the first ones in the order of their URLs. `has_tags`: whether messages have tags
/// if a URL does not decide it.
pub(crate) fn read(all: Vec<SyslogDrain>, per_app: usize, has_tags: bool) -> List {
    let mut list = List::default();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for wanted in wanted(all) {
        let target = match Target::parse(&wanted.url, has_tags) {
            Ok(target) => target,
            Err(error) => {
                list.refused.insert((wanted.app, error.to_string()));
                continue;
            }
        };
        let count = counts.entry(wanted.app.clone()).or_default();
        *count += 1;
        if *count > per_app {
            let text = format!(
                "Logs are not sent to {}: an app has at most {per_app} syslog drains",
                target.shown
            );
            list.refused.insert((wanted.app, text));
            continue;
        }
        list.drains.insert(wanted, target);
    }
    list
}

/// Returns the drains that get the envelopes of all sources. Those whose URLs are wrong are left out.
pub(crate) fn aggregate(named: &[Aggregate], has_tags: bool) -> BTreeMap<Wanted, Target> {
    let drain = |drain: &Aggregate| {
        let target = Target::parse(&drain.url, has_tags).ok()?;
        let wanted = Wanted {
            app: String::new(),
            url: drain.url.clone(),
            hostname: String::new(),
            credentials: drain.credentials.clone(),
        };
        Some((wanted, target))
    };
    named.iter().filter_map(drain).collect()
}

/// Returns the drains by app and URL, each once.
fn wanted(all: Vec<SyslogDrain>) -> BTreeSet<Wanted> {
    let mut wanted = BTreeSet::new();
    for SyslogDrain { url, credentials } in all {
        for found in credentials {
            let credentials = Credentials {
                cert: found.cert,
                key: found.key,
                ca: found.ca,
            };
            for app in found.apps {
                wanted.insert(Wanted {
                    app: app.app_id,
                    url: url.clone(),
                    hostname: app.hostname,
                    credentials: credentials.clone(),
                });
            }
        }
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::cc::{DrainCredentials, DrainedApp};

    fn drain(url: &str, apps: &[&str]) -> SyslogDrain {
        let app = |guid: &&str| DrainedApp {
            hostname: format!("o.s.{guid}"),
            app_id: (*guid).to_owned(),
        };
        SyslogDrain {
            url: url.to_owned(),
            credentials: vec![DrainCredentials {
                apps: apps.iter().map(app).collect(),
                ..DrainCredentials::default()
            }],
        }
    }

    fn shown(list: &List) -> Vec<String> {
        let drains = list.drains.iter();
        drains
            .map(|(wanted, target)| format!("{} {}", wanted.app, target.shown))
            .collect()
    }

    #[test]
    fn an_app_has_each_drain_once() {
        let all = vec![
            drain("syslog://b:1", &["two", "one", "one"]),
            drain("syslog://a:1?drain-data=all", &["one"]),
        ];
        let list = read(all, 5, true);
        assert_eq!(
            shown(&list),
            ["one syslog://a:1", "one syslog://b:1", "two syslog://b:1"]
        );
        assert!(list.refused.is_empty());
    }

    #[test]
    fn wrong_urls_and_more_than_the_limit_are_refused() {
        let all = vec![
            drain("ftp://u:p@h/x", &["one"]),
            drain("syslog://a:1", &["one", "two"]),
            drain("syslog://b:1", &["one"]),
            drain("syslog://c:1", &["one"]),
        ];
        let list = read(all, 2, true);
        assert_eq!(
            shown(&list),
            ["one syslog://a:1", "one syslog://b:1", "two syslog://a:1"]
        );
        let refused: Vec<(&str, &str)> = list
            .refused
            .iter()
            .map(|(app, text)| (&**app, &**text))
            .collect();
        assert_eq!(
            refused,
            [
                ("one", "Invalid Scheme ftp for syslog drain url ftp://h/x"),
                (
                    "one",
                    "Logs are not sent to syslog://c:1: an app has at most 2 syslog drains"
                ),
            ]
        );
    }

    #[test]
    fn an_operators_drains_belong_to_no_app() {
        let named = ["syslog://all.test:514?drain-data=all", "ftp://h"].map(|url| Aggregate {
            url: url.to_owned(),
            credentials: Credentials {
                ca: "r".to_owned(),
                ..Credentials::default()
            },
        });
        let drains = aggregate(&named, false);
        let shown: Vec<(&str, &str)> = drains
            .iter()
            .map(|(wanted, target)| (&*wanted.app, &*target.shown))
            .collect();
        assert_eq!(shown, [("", "syslog://all.test:514")]);
        assert!(drains.keys().all(|wanted| wanted.credentials.ca == "r"));
    }

    #[test]
    fn drains_that_differ_in_their_credentials_are_two() {
        let mut keyed = drain("syslog-tls://h", &["one"]);
        keyed.credentials.push(DrainCredentials {
            ca: "r".to_owned(),
            ..keyed.credentials[0].clone()
        });
        let list = read(vec![keyed], 5, true);
        assert_eq!(list.drains.len(), 2);
        let text = format!("{list:?}");
        assert!(!text.contains("\"r\""), "{text}");
    }
}
