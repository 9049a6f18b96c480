//! `[files]`, and the `files` of a dependency: templates, and who may read what is made of them.

use std::path::PathBuf;

use super::Resolver;
use crate::config::layout::{Group, PRIVATE, Shared};
use crate::config::{FileTemplate, Purpose, TemplateSource};
use crate::manifest::{self, At, Manifest, Source};
use crate::system::user::group_id;
use crate::template::{Known, Template};
use crate::text::file_name;

/// The mode of a file that is given to a group.
const FOR_GROUP: u32 = 0o440;
const READ_OWNER: u32 = 0o400;
const READ_GROUP: u32 = 0o040;
const READ_OTHERS: u32 = 0o004;
const WRITE_OTHERS: u32 = 0o022;
const OTHERS: u32 = 0o077;

impl Resolver<'_> {
    /// Reads `[files]`.
    pub(super) fn files(&mut self, manifest: &Manifest, known: &Known) -> Vec<FileTemplate> {
        let mut files = Vec::new();
        for file in &manifest.files {
            if let Err(text) = file_path(&file.name.value) {
                self.report_mistake(Some(file.name.place), text);
            }
            files.extend(self.file(file, None, known));
        }
        files
    }

    /// Reads a file, which lies in this folder or else in the secrets directory.
    pub(super) fn file(
        &mut self,
        file: &manifest::File,
        folder: Option<&str>,
        known: &Known,
    ) -> Option<FileTemplate> {
        let name = &file.name.value;
        let path = folder.map_or_else(|| name.clone(), |folder| format!("{folder}/{name}"));
        let written = file.mode.as_ref().map(|mode| self.parsed(mode, mode_bits));
        let group = file.group.as_ref();
        let group = group.and_then(|group| Some((group.place, self.group(group, &path)?)));
        let default = if file.group.is_some() {
            FOR_GROUP
        } else {
            PRIVATE
        };
        let mode = written.flatten().unwrap_or(default);
        if let Some((place, group)) = &group
            && mode & READ_GROUP == 0
        {
            self.report_mistake(
                Some(*place),
                format!(
                    "the group {} has no use with the mode {mode:04o}, which lets no group read",
                    group.name.escape_default()
                ),
            );
        }
        let group = group.map(|(_, group)| group);
        let (source, place, template) = match file.source.as_ref()? {
            Source::Template(text) => (
                TemplateSource::Manifest,
                text.place,
                self.template(text, &path, known)?,
            ),
            Source::TemplateFile(written) => {
                let (source, template) = self.template_file(written, &path, known)?;
                (TemplateSource::Image(source), written.place, template)
            }
        };
        let file = FileTemplate {
            source,
            mode,
            shared: (mode & OTHERS != 0).then_some(Shared { group }),
            ..FileTemplate::private(name.clone(), template, place)
        };
        if mode & READ_OTHERS != 0 && file.template.holds_secrets() {
            self.notices.push(format!(
                "{path} holds secrets, and its mode {mode:04o} lets every user read it: is `mode = \"0440\"` with a `group` meant?"
            ));
        }
        Some(file)
    }

    /// Reads a template of the image. A look at the manifest that fills nothing in goes without it.
    fn template_file(
        &mut self,
        written: &At<String>,
        path: &str,
        known: &Known,
    ) -> Option<(PathBuf, Template)> {
        let source = self.folder.join(self.text(written)?);
        match (self.surroundings.read_template)(&source) {
            Ok(text) => {
                let target = format!("{path} ({})", source.display());
                let text = At {
                    value: text,
                    place: written.place,
                };
                let template = self.template(&text, &target, known)?;
                Some((source, template))
            }
            Err(_) if matches!(self.purpose, Purpose::Policy | Purpose::Health) => None,
            Err(error) => {
                let text = format!(
                    "cannot read the template of {path}, {}: {error}",
                    source.display()
                );
                self.report_mistake(Some(written.place), text);
                None
            }
        }
    }

    /// Looks a group up, and whether a file may be given to it.
    fn group(&mut self, written: &At<String>, path: &str) -> Option<Group> {
        let name = self.text(written)?;
        let id = group_id(&name, &self.surroundings.group);
        let failure = match &id {
            _ if !self.purpose.is_here() => None,
            Err(text) => Some(text.clone()),
            Ok(id) if self.may_give_to(*id) => None,
            Ok(id) => Some(format!(
                "only root may give a file to any group, and anteroom runs as user {}, which is not in the group {id}",
                self.surroundings.uid
            )),
        };
        match failure {
            Some(text) if self.purpose == Purpose::DryRun => {
                let text = format!("`group` of {path} does not apply in this dry run: {text}");
                self.notices.push(text);
                None
            }
            Some(text) => {
                self.report_mistake(Some(written.place), text);
                None
            }
            None => Some(Group { name, id: id.ok() }),
        }
    }

    fn may_give_to(&self, group: u32) -> bool {
        let own = self.surroundings;
        own.uid == 0 || own.gid == group || own.groups.contains(&group)
    }
}

/// Checks the path of a file of `[files]`: a name, or a folder's name and a name.
fn file_path(path: &str) -> Result<(), String> {
    match path.split('/').collect::<Vec<_>>()[..] {
        [name] => file_name(name),
        ["", ..] => Err("a file's path begins below the secrets directory, without `/`".to_owned()),
        [folder, name] => file_name(folder).and_then(|()| file_name(name)),
        _ => Err("a file lies in the secrets directory, or in one folder there".to_owned()),
    }
}

/// Reads permission bits, written as chmod(1) takes them.
fn mode_bits(text: &str) -> Result<u32, String> {
    let mode = if (3..=4).contains(&text.len()) && text.bytes().all(|digit| digit.is_ascii_digit())
    {
        u32::from_str_radix(text, 8).ok()
    } else {
        None
    };
    let mode = mode.ok_or_else(|| {
        format!(
            "`{}` is not a mode in octal digits, such as 0440",
            text.escape_default()
        )
    })?;
    if mode > 0o777 {
        return Err(format!(
            "the mode {mode:04o} has a bit that means nothing for a file that is read; write {:04o}",
            mode & 0o777
        ));
    }
    if mode & WRITE_OTHERS != 0 {
        return Err(format!(
            "the mode {mode:04o} lets others than the owner write; write {:04o}",
            mode & !WRITE_OTHERS
        ));
    }
    if mode & READ_OWNER == 0 {
        return Err(format!(
            "the mode {mode:04o} does not let the application read; write {:04o}",
            mode | READ_OWNER
        ));
    }
    Ok(mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mode_lets_the_owner_read_and_others_not_write() {
        for (text, mode) in [
            ("0400", Some(0o400)),
            ("440", Some(0o440)),
            ("0640", Some(0o640)),
            ("0644", Some(0o644)),
            ("0500", Some(0o500)),
            ("0660", None),
            ("0602", None),
            ("0040", None),
            ("4400", None),
            ("1400", None),
            ("0800", None),
            ("+440", None),
            ("0o440", None),
            ("00440", None),
            ("40", None),
            ("r--r-----", None),
            ("", None),
        ] {
            assert_eq!(mode_bits(text).ok(), mode, "{text}");
        }
    }

    #[test]
    fn file_lies_at_the_top_or_in_one_folder() {
        for (path, is_right) in [
            ("haproxy.pem", true),
            ("conf.d/app.json", true),
            (".env", true),
            ("", false),
            ("/app.json", false),
            ("a/b/c", false),
            ("a/", false),
            ("a//b", false),
            ("../app.json", false),
            ("a/../b", false),
            ("..data/app.json", false),
            ("a/..", false),
            ("a/.", false),
            ("./a", false),
        ] {
            assert_eq!(file_path(path).is_ok(), is_right, "{path}");
        }
    }
}
