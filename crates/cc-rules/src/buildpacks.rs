//! The buildpacks that every foundation has. Their code is part of the `builder` in the `inside` binary; this module contains
//! only the names, versions and order that the API shows. They cannot be changed or removed.

/// One built-in buildpack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buildpack {
    /// The name, as in `cf push -b` and `cf buildpacks`.
    pub name: &'static str,
    pub version: &'static str,
    pub filename: &'static str,
    /// The kind of apps that it stages, for documentation and error texts.
    pub purpose: &'static str,
}

/// The built-in buildpacks in the order in which they are tried for an app. The position in the API is the index plus one.
pub const BUILTIN: &[Buildpack] = &[
    Buildpack {
        name: "staticfile_buildpack",
        version: "1.0.0",
        filename: "staticfile_buildpack-v1.0.0",
        purpose: "a folder with a Staticfile",
    },
    Buildpack {
        name: "python_buildpack",
        version: "1.0.0",
        filename: "python_buildpack-v1.0.0",
        purpose: "requirements.txt, app.py, main.py or wsgi.py",
    },
    Buildpack {
        name: "procfile_buildpack",
        version: "1.0.0",
        filename: "procfile_buildpack-v1.0.0",
        purpose: "anything with a Procfile",
    },
    Buildpack {
        name: "binary_buildpack",
        version: "1.0.0",
        filename: "binary_buildpack-v1.0.0",
        purpose: "a prebuilt Linux program",
    },
];

/// The stack on which all of them run.
pub const STACK: &str = "cflinuxfs4";

pub fn find(name: &str) -> Option<&'static Buildpack> {
    BUILTIN.iter().find(|buildpack| buildpack.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for buildpack in BUILTIN {
            assert_eq!(find(buildpack.name), Some(buildpack));
            assert!(buildpack.filename.contains(buildpack.version));
        }
        assert_eq!(find("java_buildpack"), None);
    }
}
