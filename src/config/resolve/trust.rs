//! `[trust]`.

use std::path::{Path, PathBuf};

use super::{Resolver, certificate};
use crate::config::{Trust, TrustOrigin, TrustSource};
use crate::manifest::{self, FlagOrText, Manifest, Place};

impl Resolver<'_> {
    pub(super) fn trust(&mut self, table: &manifest::Trust, manifest: &Manifest) -> Trust {
        let mut sources = Vec::new();
        let mut add = |place, origin| sources.push(TrustSource { place, origin });
        if table.system {
            add(table.place, TrustOrigin::System);
        }
        for file in &table.files {
            if let Some(path) = self.parsed(file, pem_path) {
                add(file.place, TrustOrigin::Pem(path));
            }
        }
        match &table.java {
            Some(FlagOrText::Flag(flag)) if flag.value => {
                let home = self.surroundings.environment.value("JAVA_HOME");
                let home = home.filter(|home| !home.is_empty()).map(PathBuf::from);
                add(flag.place, TrustOrigin::Jvm(home));
                self.refuse_without_java(flag.place);
            }
            Some(FlagOrText::Text(text)) => {
                if let Some(path) = self.parsed(text, absolute) {
                    add(text.place, TrustOrigin::JavaStore(path));
                }
                self.refuse_without_java(text.place);
            }
            Some(FlagOrText::Flag(_)) | None => {}
        }
        let is_empty = !table.system && table.files.is_empty() && sources.is_empty();
        if is_empty && certificate::tables(manifest).is_empty() {
            self.report_mistake(Some(table.place), "[trust] names no CA, and there is no certificate whose trust anchors would be in the bundle: give `system`, `files` or `java`");
        }
        Trust {
            sources,
            files: Vec::new(),
        }
    }

    fn refuse_without_java(&mut self, place: Place) {
        if cfg!(not(feature = "java")) {
            self.report_mistake(Some(place), "this anteroom was built without the feature `java`, and cannot read the store of `java` in [trust]: take a build with the feature, or name a PEM file in `files`");
        }
    }
}

fn absolute(text: &str) -> Result<PathBuf, String> {
    if !text.starts_with('/') {
        return Err(format!(
            "`{}` must be an absolute path: the files of [trust] are the image's",
            text.escape_default()
        ));
    }
    Ok(PathBuf::from(text))
}

fn pem_path(text: &str) -> Result<PathBuf, String> {
    let path = absolute(text)?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    if directory.as_os_str().as_encoded_bytes().contains(&b'*') {
        return Err(format!(
            "`{}` has a `*` before its last `/`: only a file's name can be a pattern, as in `/etc/corp/*.pem`",
            text.escape_default()
        ));
    }
    if text.ends_with('/') {
        return Err(format!(
            "`{0}` is a directory: `{0}*.pem` names the files in it",
            text.escape_default()
        ));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_name_of_a_file_can_be_a_pattern() {
        for text in ["/a.pem", "/etc/corp/*.pem", "/etc/corp/*", "/a/b*c*.crt"] {
            assert_eq!(pem_path(text), Ok(PathBuf::from(text)));
        }
        for (text, words) in [
            ("", "must be an absolute path"),
            ("corp/*.pem", "must be an absolute path"),
            ("/etc/*/ca.pem", "before its last `/`"),
            ("/etc/corp/", "`/etc/corp/*.pem` names the files in it"),
        ] {
            let refusal = pem_path(text).expect_err(text);
            assert!(refusal.contains(words), "{text}: {refusal}");
        }
    }
}
