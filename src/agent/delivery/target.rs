//! Where in a container a token goes, checked without the container.

use super::Error;

/// The kernel's own limits for a name and, with its closing zero, for a path.
pub(super) const NAME_MAX: usize = 255;
pub(super) const PATH_MAX: usize = 4095;
/// Each directory costs a look at the mounts.
pub(super) const DEPTH_MAX: usize = 16;

/// Where in a container a token goes: a path that is sound by itself, whatever the container makes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    path: String,
}

impl Target {
    /// The whole path.
    pub fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn split(&self) -> (impl Iterator<Item = &str>, &str) {
        let (directories, name) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        (directories.split('/').filter(|part| !part.is_empty()), name)
    }
}

/// Checks a path that may come from a container's label, so from any caller who may start one.
pub fn target(path: &str) -> Result<Target, Error> {
    let unusable = |reason| {
        Err(Error::UnusablePath {
            path: path.to_owned(),
            reason,
        })
    };
    let Some(relative) = path.strip_prefix('/') else {
        return unusable("it must begin with a slash");
    };
    if path.len() > PATH_MAX {
        return unusable("it is too long");
    }
    if path.contains(char::is_control) {
        return unusable("it holds a control character");
    }
    for part in relative.split('/') {
        match part {
            "" => return unusable("a name in it is empty"),
            "." | ".." => return unusable("it holds . or .."),
            _ if part.len() > NAME_MAX => return unusable("a name in it is too long"),
            _ => {}
        }
    }
    if relative.split('/').count() > DEPTH_MAX + 1 {
        return unusable("it has too many directories");
    }
    // The entrypoint's own files begin so.
    let name = path.rsplit('/').next().unwrap_or_default();
    if name.starts_with("..") {
        return unusable("the file's name begins with two dots");
    }
    Ok(Target {
        path: path.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound_path_is_split_into_its_names() {
        for (path, wanted, name) in [
            ("/run/anteroom/token", &["run", "anteroom"][..], "token"),
            ("/run/secrets/a b", &["run", "secrets"], "a b"),
            ("/run/.hidden/token", &["run", ".hidden"], "token"),
            ("/token", &[], "token"),
        ] {
            let target = target(path).expect(path);
            let (directories, file) = target.split();
            assert_eq!(directories.collect::<Vec<_>>(), wanted);
            assert_eq!(file, name);
        }
    }

    #[test]
    fn hostile_path_is_refused() {
        let long = format!("/{}", "a".repeat(256));
        let longer = format!("/{}token", "a/".repeat(5000));
        let deep = format!("/{}token", "a/".repeat(17));
        for path in [
            "",
            "token",
            "run/token",
            "/",
            "/run/",
            "//run/token",
            "/run/..token",
            "/run/./token",
            "/run/../token",
            "/..",
            "/run/..",
            "/run/.",
            "/run/to\nken",
            "/run/to\0ken",
            "/ru\x1bn/token",
            "/run/secrets/..data",
            "/run/..token",
            &long,
            &longer,
            &deep,
        ] {
            let error = target(path).expect_err(path);
            assert_eq!(error.reason(), "unusable_path");
            let text = error.to_string();
            assert!(
                !text.contains(char::is_control) && text.len() < 500,
                "{text:?}"
            );
        }
    }
}
