//! The description of an instance, which the server keeps for the administrator alone. The module is pure.

use crate::config::Plan;
use serde::{Deserialize, Serialize};

/// An instance as it was ordered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Instance {
    pub(crate) plan_id: String,
    pub(crate) plan: Plan,
    /// The time of its creation, in seconds since the epoch.
    pub(crate) created: i64,
    #[serde(flatten)]
    pub(crate) place: Place,
}

/// The names by which users know an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Place {
    pub(crate) organization: String,
    pub(crate) space: String,
    pub(crate) name: String,
    pub(crate) organization_guid: String,
    pub(crate) space_guid: String,
}

/// The greatest length of a name in a description, in characters.
const LONGEST: usize = 200;

impl Instance {
    pub(crate) fn parse(description: &str) -> Option<Self> {
        serde_json::from_str(description).ok()
    }

    /// Returns the text that is stored.
    pub(crate) fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Returns whether a request for a new instance wants the same.
    pub(crate) fn is_same(&self, plan_id: &str, place: &Place) -> bool {
        self.plan_id == plan_id
            && self.place.organization_guid == place.organization_guid
            && self.place.space_guid == place.space_guid
    }

    /// Returns how users find the instance: `org/space/name`.
    pub(crate) fn path(&self) -> String {
        let Place {
            organization,
            space,
            name,
            ..
        } = &self.place;
        format!("{organization}/{space}/{name}")
    }
}

impl Place {
    /// Takes over the names of a newer place, if it has them.
    pub(crate) fn follow(&mut self, newer: &Self) {
        for (own, new) in [
            (&mut self.organization, &newer.organization),
            (&mut self.space, &newer.space),
            (&mut self.name, &newer.name),
        ] {
            if !new.is_empty() {
                own.clone_from(new);
            }
        }
    }

    /// Returns the place with names of a limited length.
    pub(crate) fn shortened(mut self) -> Self {
        for text in [
            &mut self.organization,
            &mut self.space,
            &mut self.name,
            &mut self.organization_guid,
            &mut self.space_guid,
        ] {
            *text = text.chars().take(LONGEST).collect();
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_read_as_it_was_written() {
        let instance = Instance {
            plan_id: "p".to_owned(),
            plan: Plan {
                name: "small".to_owned(),
                connections: 10,
                storage_mb: 1024,
            },
            created: 7,
            place: Place {
                name: "o'clock".to_owned(),
                space: "dev".to_owned(),
                organization: "demo".to_owned(),
                space_guid: "s".to_owned(),
                organization_guid: "o".to_owned(),
            },
        };
        assert_eq!(Instance::parse(&instance.text()), Some(instance.clone()));
        assert_eq!(instance.path(), "demo/dev/o'clock");
        assert!(instance.is_same("p", &instance.place));
        let elsewhere = Place {
            space_guid: "t".to_owned(),
            ..instance.place.clone()
        };
        assert!(!instance.is_same("p", &elsewhere) && !instance.is_same("q", &instance.place));
        assert_eq!(Instance::parse("somebody's text"), None);
    }

    #[test]
    fn names_follow_a_rename_and_stay_short() {
        let mut place = Place {
            name: "old".to_owned(),
            space: "dev".to_owned(),
            ..Place::default()
        };
        place.follow(&Place {
            name: "x".repeat(500),
            ..Place::default()
        });
        assert_eq!((place.name.len(), &*place.space), (500, "dev"));
        assert_eq!(place.shortened().name.len(), 200);
    }
}
