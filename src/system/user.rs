//! The user that the application runs as, looked up in `/etc/passwd` and `/etc/group` without libc.
//!
//! A static glibc would load the image's name service modules, which crash when they were built for another glibc.

use crate::spelling::meant;

/// A user with its groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    /// The user id.
    pub uid: u32,
    /// The group id.
    pub gid: u32,
    /// The supplementary groups.
    pub groups: Vec<u32>,
    /// The home directory, where the user has an entry.
    pub home: Option<String>,
}

impl User {
    /// Reads `user`, `user:group` or numbers in their place, against the text of passwd(5) and group(5).
    pub(crate) fn parse(text: &str, passwd: &str, group: &str) -> Result<User, String> {
        let (user, group_text) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let number = id(user);
        let entry = passwd
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>())
            .find(|fields| {
                fields.len() >= 6
                    && match number {
                        Some(uid) => fields[2] == uid.to_string(),
                        None => fields[0] == user,
                    }
            });
        let field = |index: usize| {
            entry
                .as_ref()
                .and_then(|fields| fields[index].parse::<u32>().ok())
        };
        let uid = number.or_else(|| field(2)).ok_or_else(|| {
            format!(
                "the user `{}` is not in /etc/passwd; write its number",
                user.escape_default()
            )
        })?;
        let gid = match group_text {
            Some(text) => group_id(text, group)?,
            None => field(3).ok_or_else(|| {
                format!("the user {uid} is not in /etc/passwd, so its group is not known; write `{uid}:GROUP`")
            })?,
        };
        // As Docker does: a group that was named explicitly replaces the supplementary ones.
        let groups = match (&entry, group_text) {
            (Some(fields), None) => supplementary(fields[0], group),
            _ => Vec::new(),
        };
        Ok(User {
            uid,
            gid,
            groups,
            home: entry.map(|fields| fields[5].to_owned()),
        })
    }
}

/// Reads a number that can be a user's or a group's: the highest one means "leave it" to setuid(2).
fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number| *number != u32::MAX)
}

/// Reads a group's name or number, against the text of group(5).
pub(crate) fn group_id(text: &str, group: &str) -> Result<u32, String> {
    if let Some(number) = id(text) {
        return Ok(number);
    }
    group
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.len() >= 3 && fields[0] == text)
        .and_then(|fields| fields[2].parse().ok())
        .ok_or_else(|| {
            let names = group.lines().filter_map(|line| line.split(':').next());
            format!(
                "the group `{}` is not in /etc/group{}; write its number",
                text.escape_default(),
                meant(text, names)
            )
        })
}

fn supplementary(user: &str, group: &str) -> Vec<u32> {
    group
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .filter(|fields| fields.len() >= 4 && fields[3].split(',').any(|member| member == user))
        .filter_map(|fields| fields[2].parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n";
    const GROUP: &str = "root:x:0:\napp:x:1000:\naudio:x:29:app,root\nvideo:x:44:app\n";

    #[test]
    fn name_brings_its_group_home_and_supplementary_groups() {
        let user = User::parse("app", PASSWD, GROUP).expect("known");
        assert_eq!(
            user,
            User {
                uid: 1000,
                gid: 1000,
                groups: vec![29, 44],
                home: Some("/home/app".to_owned())
            }
        );
    }

    #[test]
    fn named_group_replaces_the_supplementary_ones() {
        let user = User::parse("app:audio", PASSWD, GROUP).expect("known");
        assert_eq!((user.gid, user.groups), (29, vec![]));
    }

    // b67
    #[test]
    fn user_given_as_a_number_needs_no_entry() {
        let user = User::parse("4242:4242", "", "").expect("numbers");
        assert_eq!(
            user,
            User {
                uid: 4242,
                gid: 4242,
                groups: vec![],
                home: None
            }
        );
        assert!(User::parse("4242", "", "").is_err());
    }

    // b25
    #[test]
    fn unknown_names_of_users_are_refused() {
        assert!(
            User::parse("ghost", PASSWD, GROUP)
                .expect_err("unknown")
                .contains("ghost")
        );
        assert!(
            User::parse("app:wheel", PASSWD, GROUP)
                .expect_err("unknown")
                .contains("wheel")
        );
    }
}
