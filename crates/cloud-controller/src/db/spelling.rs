//! Columns with few values. In the code each is an enum; the database and JSON contain CF's own words.

/// Defines an enum whose values have one spelling each. The first value is the default. An unknown word in a row is an error of
/// that row, like any other damaged value.
macro_rules! spelled {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name {
            $($(#[$vmeta])* $variant,)+
        }

        impl $name {
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant),+];

            pub(crate) const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::ALL[0]
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::db::UnknownWord;

            fn from_str(word: &str) -> Result<Self, Self::Err> {
                match word {
                    $($word => Ok(Self::$variant),)+
                    _ => Err($crate::db::UnknownWord {
                        word: word.to_owned(),
                        known: [$($word),+].join(", "),
                    }),
                }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let word = <String as serde::Deserialize>::deserialize(deserializer)?;
                word.parse().map_err(serde::de::Error::custom)
            }
        }

        impl From<$name> for $crate::db::Arg {
            fn from(value: $name) -> Self {
                value.as_str().into()
            }
        }

        impl $crate::db::Field for $name {
            fn value(&self) -> $crate::db::Arg {
                (*self).into()
            }
        }

        impl kit::db::FromCell<'_> for $name {
            fn from_cell(cell: kit::db::Cell<'_>) -> Result<Self, kit::db::BoxDynError> {
                Ok(<&str>::from_cell(cell)?.parse()?)
            }
        }
    };
}
pub(crate) use spelled;

/// A word that is not among the values of a column.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{word}' is none of {known}")]
pub(crate) struct UnknownWord {
    pub(crate) word: String,
    pub(crate) known: String,
}

#[cfg(test)]
mod tests {
    use crate::db::app::AppState;
    use crate::db::build::BuildState;
    use crate::db::deployment::{DeploymentReason, DeploymentState, Strategy};
    use crate::db::destination::Protocol;
    use crate::db::domain::PolicyScope;
    use crate::db::droplet::DropletState;
    use crate::db::job::JobState;
    use crate::db::package::{PackageState, PackageType};
    use crate::db::process::CheckType;
    use crate::db::role::RoleType;
    use crate::db::security_group::Phase;
    use crate::db::service_broker::BrokerState;
    use crate::db::service_usage_event::UsageState;
    use crate::db::sidecar::Origin;
    use crate::db::task::TaskState;
    use std::fmt::Debug;
    use std::str::FromStr;

    fn check<T>(all: &[T], words: &str)
    where
        T: Copy + Debug + PartialEq + FromStr + serde::Serialize + serde::de::DeserializeOwned,
        T::Err: Debug + std::fmt::Display,
    {
        let spelled: Vec<String> = all
            .iter()
            .map(|value| {
                let word = serde_json::to_value(value).unwrap();
                assert_eq!(serde_json::from_value::<T>(word.clone()).unwrap(), *value);
                let word = word.as_str().unwrap().to_owned();
                assert_eq!(word.parse::<T>().unwrap(), *value);
                word
            })
            .collect();
        assert_eq!(spelled.join(" "), words);
        let error = "nothing".parse::<T>().unwrap_err().to_string();
        assert!(error.starts_with("'nothing' is none of "), "{error}");
    }

    #[test]
    fn words_are_read_and_written_alike() {
        check(AppState::ALL, "STOPPED STARTED");
        check(
            PackageState::ALL,
            "AWAITING_UPLOAD COPYING READY FAILED EXPIRED",
        );
        check(
            DropletState::ALL,
            "AWAITING_UPLOAD STAGING COPYING STAGED FAILED EXPIRED",
        );
        check(BuildState::ALL, "STAGING STAGED FAILED");
        check(TaskState::ALL, "PENDING RUNNING CANCELING SUCCEEDED FAILED");
        check(DeploymentState::ALL, "ACTIVE FINALIZED");
        check(
            DeploymentReason::ALL,
            "DEPLOYING CANCELING DEPLOYED CANCELED SUPERSEDED",
        );
        check(Origin::ALL, "user buildpack");
        check(Protocol::ALL, "http1 http2");
        check(Phase::ALL, "running staging");
        check(CheckType::ALL, "port http process none");
        check(PolicyScope::ALL, "any org space");
        check(PackageType::ALL, "bits");
        check(Strategy::ALL, "rolling");
        check(JobState::ALL, "COMPLETE FAILED PROCESSING POLLING");
        check(UsageState::ALL, "CREATED UPDATED DELETED");
        check(
            BrokerState::ALL,
            "AVAILABLE SYNCHRONIZING SYNCHRONIZATION_FAILED DELETE_IN_PROGRESS DELETE_FAILED",
        );
        check(
            RoleType::ALL,
            "organization_user organization_auditor organization_manager organization_billing_manager space_auditor space_developer space_manager space_supporter",
        );
    }
}
