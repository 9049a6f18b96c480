//! The mistakes in the file, collected while its tables are read.

use std::path::PathBuf;

use crate::manifest::{At, Mistake, Place};

pub(super) struct Reader {
    pub(super) mistakes: Vec<Mistake>,
}

impl Reader {
    pub(super) fn mistake(&mut self, place: Option<Place>, text: impl Into<String>) {
        let text = text.into();
        self.mistakes.push(Mistake { place, text });
    }

    pub(super) fn parsed<T>(
        &mut self,
        value: Option<At<String>>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = value?;
        parse(&value.value)
            .map_err(|text| self.mistake(Some(value.place), text))
            .ok()
    }

    /// Replaces a default where the file says something else.
    pub(super) fn set<T>(
        &mut self,
        setting: &mut T,
        value: Option<At<String>>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) {
        if let Some(value) = self.parsed(value, parse) {
            *setting = value;
        }
    }

    pub(super) fn list<T>(
        &mut self,
        values: Option<Vec<At<String>>>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let values = values.unwrap_or_default().into_iter();
        values
            .filter_map(|value| self.parsed(Some(value), &parse))
            .collect()
    }
}

pub(super) fn absolute(text: &str) -> Result<PathBuf, String> {
    if text.starts_with('/') {
        Ok(text.into())
    } else {
        Err("a path here begins with `/`".to_owned())
    }
}
