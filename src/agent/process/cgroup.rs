//! The text of a process's `cgroup` file (cgroups(7)): which containers its groups are named after.

/// Most containers within one another.
const CONTAINERS_MAX: usize = 8;

/// The containers that a process with this `cgroup` file is in by the names, the outermost first; none outside any container.
///
/// A container may start containers of its own, and may be put into the cgroup of another, so one name may stand within
/// another. Hierarchies may differ in how deep they go; of those that contradict each other nothing is believed.
pub(super) fn chain(cgroup: &str) -> Option<Vec<&str>> {
    let chains = cgroup.lines().filter_map(|line| {
        let (_, path) = hierarchy(line)?;
        let names: Vec<&str> = path.split('/').filter_map(container_in).collect();
        (!names.is_empty()).then_some(names)
    });
    let chains: Vec<Vec<&str>> = chains.collect();
    let longest = chains.iter().max_by_key(|names| names.len())?.clone();
    let agree = chains.iter().all(|names| longest.starts_with(names));
    (agree && longest.len() <= CONTAINERS_MAX).then_some(longest)
}

/// The innermost of them.
pub(super) fn innermost(cgroup: &str) -> Option<&str> {
    chain(cgroup)?.pop()
}

/// The hierarchy and the path in a line of a `cgroup` file.
fn hierarchy(line: &str) -> Option<(&str, &str)> {
    let slash = line.find(":/")?;
    Some((&line[..slash], &line[slash + 1..]))
}

#[derive(PartialEq)]
pub(super) struct Group<'a> {
    /// Which hierarchy: its number and its controllers.
    hierarchy: &'a str,
    /// The path from the top down to the container.
    pub(super) path: &'a str,
}

/// A container's cgroups, one for each hierarchy that has it in one.
pub(super) fn groups<'a>(cgroup: &'a str, container: &str) -> impl Iterator<Item = Group<'a>> {
    cgroup.lines().filter_map(move |line| {
        let (hierarchy, path) = hierarchy(line)?;
        // Of several groups with its name the innermost: within another container's group each name is that one's choice.
        let mut end = 0;
        let ends = path.split_inclusive('/').filter_map(|part| {
            end += part.len();
            let is_it = container_in(part.trim_end_matches('/')) == Some(container);
            is_it.then_some(end)
        });
        let path = path[..ends.last()?].trim_end_matches('/');
        Some(Group { hierarchy, path })
    })
}

/// The id in one name of a path: Docker's cgroupfs driver calls the group by it, its systemd driver makes a scope of it.
fn container_in(name: &str) -> Option<&str> {
    let scope = name
        .strip_prefix("docker-")
        .and_then(|name| name.strip_suffix(".scope"));
    let id = scope.unwrap_or(name);
    let is_hex = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (id.len() == 64 && id.bytes().all(is_hex)).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const B: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";

    #[test]
    fn cgroup_names_the_containers_within_one_another() {
        let cases = [
            (
                format!("0::/system.slice/docker-{A}.scope\n"),
                Some(&[A][..]),
            ),
            (format!("0::/docker/{A}\n"), Some(&[A])),
            (format!("0::/docker/{A}/init.scope\n"), Some(&[A])),
            (format!("0::/docker/{A}/docker/{B}\n"), Some(&[A, B])),
            (format!("0::/docker/{A}/{B}\n"), Some(&[A, B])),
            (format!("0::/docker/{A}/{B}/{A}\n"), Some(&[A, B, A])),
            (format!("0::/../{A}\n"), Some(&[A])),
            (
                format!("0::/../../system.slice/docker-{A}.scope/x\n"),
                Some(&[A]),
            ),
            (
                format!("9:name=systemd:/docker/{A}\n1:cpu,cpuacct:/docker/{A}\n0::/\n"),
                Some(&[A]),
            ),
            (
                format!("9:name=systemd:/docker/{A}\n1:cpu:/docker/{A}/docker/{B}\n0::/\n"),
                Some(&[A, B]),
            ),
            (
                format!("2:cpu:/docker/{A}/{B}\n1:memory:/docker/{B}/{A}\n"),
                None,
            ),
            (format!("0::/docker{}\n", format!("/{A}").repeat(9)), None),
            (format!("4:memory:/odd:name/{A}\n"), Some(&[A])),
            (format!("2:cpu:/docker/{A}\n1:memory:/docker/{B}\n"), None),
            (format!("0::/docker/{A} (deleted)\n"), None),
            (format!("0::/docker/{A}0\n"), None),
            (format!("0::/docker/{}\n", &A[1..]), None),
            (format!("0::/docker/{}\n", A.to_uppercase()), None),
            (format!("0::/docker-{A}\n"), None),
            (
                "0::/user.slice/user-0.slice/session-1.scope\n".to_owned(),
                None,
            ),
            ("9:name=systemd:/\n0::/\n".to_owned(), None),
            (A.to_owned(), None),
            (String::new(), None),
        ];
        for (cgroup, wanted) in cases {
            assert_eq!(chain(&cgroup).as_deref(), wanted, "{cgroup}");
        }
    }

    #[test]
    fn cgroup_named_like_a_container_is_another() {
        let same = |one: &str, other: &str| groups(one, A).eq(groups(other, A));
        let docker = format!("0::/system.slice/docker-{A}.scope/inner\n");
        let beside = format!("0::/system.slice/docker-{A}.scope/other/deep\n");
        let above = format!("0::/system.slice/docker-{A}.scope\n");
        assert!(same(&docker, &beside));
        assert!(same(&docker, &above));
        let nested = format!("0::/system.slice/docker-{A}.scope/docker/{B}\n");
        assert!(same(&nested, &docker));
        for forged in [
            format!("0::/user.slice/user-1000.slice/user@1000.service/docker-{A}.scope\n"),
            format!("0::/system.slice/docker-{A}.scope/docker/{B}/docker/{A}\n"),
            format!("0::/system.slice/docker-{A}.scope/{A}\n"),
            format!("1:cpu:/system.slice/docker-{A}.scope\n"),
            "0::/\n".to_owned(),
        ] {
            assert!(!same(&docker, &forged), "{forged}");
        }
    }
}
