//! Users of a root file system, from the text of its own `/etc/passwd` and `/etc/group`. The functions are pure.

/// The user that a process runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub home: String,
}

pub(crate) const VCAP: u32 = 2000;

/// Finds a user by name or number. A number needs no entry.
pub(crate) fn find(passwd: &str, group: &str, wanted: &str) -> Option<User> {
    let entries = passwd.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, _, home, ..] = fields.as_slice() else {
            return None;
        };
        Some((
            *name,
            uid.parse::<u32>().ok()?,
            gid.parse::<u32>().ok()?,
            *home,
        ))
    });
    let number: Option<u32> = wanted.parse().ok();
    let found = entries
        .into_iter()
        .find(|(name, uid, ..)| *name == wanted || Some(*uid) == number);
    match (found, number) {
        (Some((name, uid, gid, home)), _) => {
            let home = if home.is_empty() { "/" } else { home };
            Some(User {
                name: name.to_owned(),
                uid,
                gid,
                groups: groups_of(group, name),
                home: home.to_owned(),
            })
        }
        // 65535 means "nobody" in some calls and is not mapped.
        (None, Some(number)) if number < 65535 => Some(User {
            name: wanted.to_owned(),
            uid: number,
            gid: number,
            groups: Vec::new(),
            home: "/".to_owned(),
        }),
        _ => None,
    }
}

fn groups_of(group: &str, user: &str) -> Vec<u32> {
    let members = group.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [_, _, gid, members] = fields.as_slice() else {
            return None;
        };
        members
            .split(',')
            .any(|member| member == user)
            .then(|| gid.parse().ok())?
    });
    members.collect()
}

/// Returns the text with an entry for the user or group vcap, which every stack of Cloud Foundry has.
pub(crate) fn with_entry(text: &str, entry: &str) -> String {
    let name = entry.split(':').next().unwrap_or_default();
    if text
        .lines()
        .any(|line| line.split(':').next() == Some(name))
    {
        return text.to_owned();
    }
    let newline = if text.is_empty() || text.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    format!("{text}{newline}{entry}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/bash\nvcap:x:2000:2000::/home/vcap:/bin/bash\nbroken\n";
    const GROUP: &str = "root:x:0:\nvcap:x:2000:\nvideo:x:44:someone,vcap\n";

    #[test]
    fn users_are_found_by_name_and_number() {
        let vcap = find(PASSWD, GROUP, "vcap").unwrap();
        assert_eq!(
            vcap,
            User {
                name: "vcap".into(),
                uid: 2000,
                gid: 2000,
                groups: vec![44],
                home: "/home/vcap".into()
            }
        );
        assert_eq!(find(PASSWD, GROUP, "2000").unwrap().name, "vcap");
        assert_eq!(find(PASSWD, GROUP, "1234").unwrap().home, "/");
        assert_eq!(find(PASSWD, GROUP, "nobody"), None);
        assert_eq!(find(PASSWD, GROUP, "70000"), None);
    }

    #[test]
    fn an_entry_is_added_once() {
        let text = with_entry("a:x", "vcap:x:2000:");
        assert_eq!(text, "a:x\nvcap:x:2000:\n");
        assert_eq!(with_entry(&text, "vcap:y:1:"), text);
    }
}
