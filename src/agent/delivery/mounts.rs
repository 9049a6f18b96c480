//! The mounts that a process sees, as the kernel lists them.

/// One line of proc_pid_mountinfo(5).
pub(super) struct Mount<'a> {
    pub(super) id: i64,
    pub(super) device: &'a str,
    pub(super) root: &'a str,
    pub(super) point: &'a str,
    pub(super) options: [&'a str; 2],
    pub(super) kind: &'a str,
}

impl Mount<'_> {
    pub(super) fn is_memory(&self) -> bool {
        matches!(self.kind, "tmpfs" | "ramfs")
    }

    pub(super) fn is_read_only(&self) -> bool {
        let mut options = self.options.iter().flat_map(|options| options.split(','));
        options.any(|option| option == "ro")
    }

    pub(super) fn is_upon(&self, path: &str) -> bool {
        // The kernel writes these so that they do not end a field.
        let escaped = path.replace('\\', "\\134").replace(' ', "\\040");
        self.point == escaped
    }
}

pub(super) fn mounts(mountinfo: &str) -> impl Iterator<Item = Mount<'_>> {
    mountinfo.lines().filter_map(|line| {
        let (place, what) = line.split_once(" - ")?;
        let mut place = place.split(' ');
        let mut what = what.split(' ');
        Some(Mount {
            id: place.next()?.parse().ok()?,
            device: place.nth(1)?,
            root: place.next()?,
            point: place.next()?,
            options: [place.next()?, what.clone().nth(2)?],
            kind: what.next()?,
        })
    })
}

pub(super) fn mount(mountinfo: &str, id: i64) -> Option<Mount<'_>> {
    mounts(mountinfo).find(|mount| mount.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_whatever_their_optional_fields() {
        let mountinfo = "69 45 0:39 / / ro,noatime master:2 - overlay overlay rw,lowerdir=/a\n\
            90 69 0:47 /part /run/a\\040b rw,nosuid shared:1 master:2 - tmpfs tmpfs rw,size=4k\n\
            91 69 0:48 / /x rw - tmpfs tmpfs ro\n\
            nonsense\n";
        let all: Vec<_> = mounts(mountinfo).collect();
        assert_eq!(all.len(), 3);
        assert!(all[0].is_read_only() && !all[0].is_memory());
        assert_eq!(
            (all[1].id, all[1].device, all[1].root),
            (90, "0:47", "/part")
        );
        assert!(all[1].is_memory() && !all[1].is_read_only() && all[1].is_upon("/run/a b"));
        assert!(all[2].is_read_only());
        assert!(mount(mountinfo, 92).is_none());
    }
}
