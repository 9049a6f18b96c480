//! The files that are made of templates.

use std::path::PathBuf;

use super::layout::{PRIVATE, Shared};
use crate::manifest::Place;
use crate::template::Template;

/// The holder of a template.
#[derive(Debug, Clone)]
pub(crate) enum TemplateSource {
    /// The manifest holds the text.
    Manifest,
    /// A file of the image holds it.
    Image(PathBuf),
    /// The preset of this name brings it.
    Preset(&'static str),
}

/// A file made of a template: one of `[files]`, or an extra file of a dependency.
#[derive(Debug, Clone)]
pub(crate) struct FileTemplate {
    /// The file's name in the dependency's directory; of a file of `[files]` the path below the secrets directory.
    pub name: String,
    /// The file's content.
    pub template: Template,
    pub source: TemplateSource,
    /// The place in the manifest of the template, or of its path.
    pub place: Place,
    /// The permission bits.
    pub mode: u32,
    /// Present where others than the owner may read the file.
    pub shared: Option<Shared>,
}

impl FileTemplate {
    /// Makes a file that its owner alone may read, of a template that stands at this place of the manifest.
    pub(crate) fn private(name: String, template: Template, place: Place) -> FileTemplate {
        FileTemplate {
            name,
            template,
            source: TemplateSource::Manifest,
            place,
            mode: PRIVATE,
            shared: None,
        }
    }

    /// Returns the folder of a file of `[files]`, unless it lies at the top.
    pub(crate) fn folder(&self) -> Option<&str> {
        let (folder, _) = self.name.split_once('/')?;
        Some(folder)
    }

    /// Names the file at this path in messages about its template, with what holds that.
    pub(crate) fn described(&self, path: &str) -> String {
        match &self.source {
            TemplateSource::Manifest => path.to_owned(),
            TemplateSource::Image(source) => format!("{path} ({})", source.display()),
            TemplateSource::Preset(name) => format!("{path} (of the preset {name})"),
        }
    }
}
