//! Parses the name with which a user logs in: `cf:PROCESS/INDEX`. It is pure.

/// The process and the index of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Login {
    /// The Cloud Controller's guid of the process; that of a web process is the guid of the app.
    pub(crate) process: String,
    pub(crate) index: u32,
}

impl Login {
    /// Returns `None` for every name that is not of this form: the guid goes into a URL.
    pub(crate) fn parse(user: &str) -> Option<Self> {
        let (process, index) = user.strip_prefix("cf:")?.split_once('/')?;
        let is_digits = !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit());
        (is_guid(process) && is_digits).then_some(())?;
        Some(Self {
            process: process.to_ascii_lowercase(),
            index: index.parse().ok()?,
        })
    }
}

fn is_guid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    lengths == [8, 4, 4, 4, 12] && text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUID: &str = "0a1b2c3d-1111-2222-3333-0123456789ab";

    #[test]
    fn names_of_instances() {
        let login = |process: &str, index| Login {
            process: process.to_owned(),
            index,
        };
        assert_eq!(Login::parse(&format!("cf:{GUID}/0")), Some(login(GUID, 0)));
        let upper = GUID.to_uppercase();
        assert_eq!(
            Login::parse(&format!("cf:{upper}/12")),
            Some(login(GUID, 12))
        );
    }

    #[test]
    fn other_names_are_none() {
        for other in [
            String::new(),
            "root".to_owned(),
            format!("diego:{GUID}/0"),
            format!("cf:{GUID}"),
            format!("cf:{GUID}/"),
            format!("cf:{GUID}/-1"),
            format!("cf:{GUID}/+1"),
            format!("cf:{GUID}/1/2"),
            format!("cf:{GUID}/99999999999"),
            "cf:../../v3/apps-0000-0000-0000-000000000000/0".to_owned(),
            format!("cf:{GUID}?x/0"),
        ] {
            assert_eq!(Login::parse(&other), None, "{other}");
        }
    }
}
