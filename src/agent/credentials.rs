//! The user that a process runs as, whole: a container that only seems to be a user is not that user.

/// CAP_SETGID and CAP_SETUID, as bits of a set of capabilities (capabilities(7)).
const CHANGES_OF_IDENTITY: u64 = 1 << 6 | 1 << 7;
/// A user namespace that maps every id to itself: that of the host.
const HOST_MAP: [&str; 3] = ["0", "0", "4294967295"];

/// The ids of a process, in the host's numbers, and whether it may have others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Real, effective, saved and file system user. One system call sets the last alone, and another brings it back.
    pub uids: [u32; 4],
    /// Real, effective, saved and file system group.
    pub gids: [u32; 4],
    /// The process may become any user or group of its user namespace.
    ///
    /// The permitted capabilities decide: what is effective is among them, and what is permitted can be made effective at
    /// any moment. The bounding set does not count, since every container that was not told otherwise has CAP_SETUID
    /// there, as any user: only a program with set-user-ID or with capabilities of its own in the image turns it
    /// into something, and the image is bound by other means.
    pub may_become_another: bool,
    /// The numbers mean the same in the container and on the host.
    pub has_host_ids: bool,
}

impl Credentials {
    /// Reads a process's `status` and `uid_map` (proc_pid_status(5), user_namespaces(7)); none where one of them lacks what
    /// has to be known.
    pub fn read(status: &str, uid_map: &str) -> Option<Credentials> {
        let field = |key: &str| {
            let mut lines = status.lines();
            lines.find_map(|line| line.strip_prefix(key))
        };
        let ids = |key| -> Option<[u32; 4]> {
            let ids: Option<Vec<u32>> = field(key)?
                .split_whitespace()
                .map(|id| id.parse().ok())
                .collect();
            ids?.try_into().ok()
        };
        let permitted = u64::from_str_radix(field("CapPrm:")?.trim(), 16).ok()?;
        let map: Vec<&str> = uid_map.split_whitespace().collect();
        Some(Credentials {
            uids: ids("Uid:")?,
            gids: ids("Gid:")?,
            may_become_another: permitted & CHANGES_OF_IDENTITY != 0,
            has_host_ids: map == HOST_MAP,
        })
    }

    /// Whether each of its users is this one.
    pub fn is_user(&self, uid: u32) -> bool {
        self.uids == [uid; 4]
    }

    /// Whether each of its groups is this one.
    pub fn is_group(&self, gid: u32) -> bool {
        self.gids == [gid; 4]
    }

    /// Whether it can have been started as what Docker was told to start it as (`Config.User`): a number or two, or nothing,
    /// which is root.
    ///
    /// The container says what a name means, so a name counts only if the image says the same one (`of_image`): a caller who
    /// starts a container may name the user `root` as well. Numbers of another user namespace are others, but for root: that
    /// namespace may be of the process's own making, and a process that began as root can have become any user.
    pub fn may_be(&self, declared: &str, of_image: Option<&str>) -> bool {
        let (user, group) = halves(declared);
        let is_it = match user.parse() {
            Ok(0) if !self.has_host_ids => false,
            Ok(uid) => !self.has_host_ids || self.is_user(uid),
            Err(_) => of_image.is_some_and(|declared| halves(declared).0 == user),
        };
        let has_group = |gid| !self.has_host_ids || self.is_group(gid);
        is_it && group.parse().map_or(true, has_group)
    }
}

/// The user and the group of a declaration; root may be left out, and has one name everywhere.
fn halves(declared: &str) -> (&str, &str) {
    let (user, group) = declared.split_once(':').unwrap_or((declared, ""));
    let user = if matches!(user, "" | "root") {
        "0"
    } else {
        user
    };
    (user, group)
}

impl std::fmt::Display for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |ids: &[u32; 4]| {
            let mut ids = ids.to_vec();
            ids.dedup();
            let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
            ids.join("/")
        };
        write!(f, "{}:{}", list(&self.uids), list(&self.gids))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "         0          0 4294967295\n";

    fn status(uids: &str, gids: &str, permitted: &str) -> String {
        format!(
            "Name:\tx\nState:\tS (sleeping)\nUid:\t{uids}\nGid:\t{gids}\nCapInh:\t00000000000000c0\nCapPrm:\t{permitted}\nCapEff:\t0000000000000000\nCapBnd:\t00000000a80425fb\n"
        )
    }

    fn read(uids: &str, gids: &str, permitted: &str) -> Credentials {
        Credentials::read(&status(uids, gids, permitted), HOST).expect("it is whole")
    }

    #[test]
    fn credentials_hold_all_four_ids_and_permitted_capabilities() {
        let none = "0000000000000000";
        let plain = read("1000\t1000\t1000\t1000", "7\t7\t7\t7", none);
        assert!(plain.is_user(1000) && plain.is_group(7) && plain.has_host_ids);
        assert!(!plain.is_user(7) && !plain.is_group(1000) && !plain.may_become_another);
        assert_eq!(plain.to_string(), "1000:7");
        for ids in ["0 1 1 1", "1 0 1 1", "1 1 0 1", "1 1 1 0"] {
            let mixed = read(ids, ids, none);
            assert!(!mixed.is_user(1) && !mixed.is_group(1), "{ids}");
            assert!(!mixed.is_user(0) && !mixed.is_group(0), "{ids}");
        }
        assert_eq!(read("0 0 0 5", "1 1 1 1", none).to_string(), "0/5:1");
        for (permitted, expected) in [
            ("0000000000000040", true),
            ("0000000000000080", true),
            ("00000000a80425fb", true),
            ("ffffffffffffff3f", false),
        ] {
            let found = read("1 1 1 1", "1 1 1 1", permitted);
            assert_eq!(found.may_become_another, expected, "{permitted}");
        }
    }

    #[test]
    fn broken_status_gives_no_credentials() {
        let whole = status("1 1 1 1", "1 1 1 1", "0");
        assert!(Credentials::read(&whole, HOST).is_some());
        for broken in [
            String::new(),
            whole.replace("Uid:", "Uid_"),
            whole.replace("Gid:", "Gid_"),
            whole.replace("CapPrm:", "CapPrm_"),
            status("1 1 1", "1 1 1 1", "0"),
            status("1 1 1 1", "1 1 1 1 1", "0"),
            status("1 1 1 x", "1 1 1 1", "0"),
            status("1 1 1 1", "1 1 1 1", "x"),
        ] {
            assert_eq!(Credentials::read(&broken, HOST), None, "{broken}");
        }
    }

    #[test]
    fn declared_user_is_compared_where_it_is_a_number_of_the_host() {
        let found = read("1000 1000 1000 1000", "7 7 7 7", "0");
        for (declared, expected) in [
            ("1000", true),
            ("1000:7", true),
            ("1000:8", false),
            ("1001", false),
            ("0", false),
            ("", false),
            (":7", false),
            ("app", true),
            ("app:staff", true),
            ("app:8", false),
            ("1001:staff", false),
            ("root", false),
            ("root:7", false),
            ("other", false),
            ("-0", false),
        ] {
            assert_eq!(found.may_be(declared, Some("app")), expected, "{declared}");
        }
        assert!(!found.may_be("app", None) && !found.may_be("app", Some("")));
        assert!(!found.may_be("root", Some("root")));
        let root = read("0 0 0 0", "0 0 0 0", "0");
        assert!(root.may_be("", None) && root.may_be("root", None));
    }

    #[test]
    fn root_of_another_user_namespace_may_have_become_any_user() {
        let text = status("1000 1000 1000 1000", "7 7 7 7", "0");
        for map in ["", "0 1000 1\n", "0 100000 65536\n"] {
            let found = Credentials::read(&text, map).expect("it is whole");
            assert!(!found.has_host_ids, "{map}");
            for (declared, expected) in [
                ("", false),
                ("0:0", false),
                ("00", false),
                ("root", false),
                ("5", true),
                ("5:6", true),
                ("app", true),
                ("other", false),
            ] {
                let found = found.may_be(declared, Some("app"));
                assert_eq!(found, expected, "{map} {declared}");
            }
        }
    }
}
