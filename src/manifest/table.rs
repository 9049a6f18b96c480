//! A TOML table that is taken apart key by key; what is left at the end was unknown.

mod values;

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::{At, Mistake, Place};
use crate::spelling::meant;

pub(crate) use values::{FlagOrText, Words};

/// The document's text and the mistakes found so far, shared by all tables of one document.
struct Document<'a> {
    text: &'a str,
    mistakes: RefCell<Vec<Mistake>>,
}

impl Document<'_> {
    fn place(&self, span: Range<usize>) -> Place {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Place {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }

    fn mistake(&self, span: Range<usize>, text: String) {
        let place = Some(self.place(span));
        self.mistakes.borrow_mut().push(Mistake { place, text });
    }
}

/// One table of the document.
pub(crate) struct Table<'a> {
    document: Rc<Document<'a>>,
    place: Place,
    /// The name as written between brackets; empty for the document itself.
    name: String,
    entries: Vec<(Spanned<DeString<'a>>, Spanned<DeValue<'a>>)>,
    known: Vec<&'static str>,
}

/// Reads the document; the mistakes of its syntax come with it, those of its content with [`Table::finish`].
pub(crate) fn read(text: &str) -> (Table<'_>, Vec<Mistake>) {
    let (root, errors) = DeTable::parse_recoverable(text);
    let document = Rc::new(Document {
        text,
        mistakes: RefCell::default(),
    });
    let mistakes = errors
        .iter()
        .map(|error| Mistake {
            place: error.span().map(|span| document.place(span)),
            text: error.message().to_owned(),
        })
        .collect();
    (Table::new(document, String::new(), root), mistakes)
}

impl<'a> Table<'a> {
    fn new(document: Rc<Document<'a>>, name: String, table: Spanned<DeTable<'a>>) -> Self {
        Table {
            place: document.place(table.span()),
            document,
            name,
            entries: table.into_inner().into_iter().collect(),
            known: Vec::new(),
        }
    }

    /// The place where the table begins.
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    fn take(&mut self, key: &'static str) -> Option<Spanned<DeValue<'a>>> {
        self.known.push(key);
        let position = self
            .entries
            .iter()
            .position(|(name, _)| name.get_ref() == key)?;
        Some(self.entries.swap_remove(position).1)
    }

    /// Takes an inner table.
    pub(crate) fn table(&mut self, key: &'static str) -> Option<Table<'a>> {
        let value = self.take(key)?;
        self.inner(key, value)
    }

    fn inner(&self, key: &str, value: Spanned<DeValue<'a>>) -> Option<Table<'a>> {
        let name = if self.name.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.name)
        };
        let span = value.span();
        match value.into_inner() {
            DeValue::Table(table) => {
                let table = Spanned::new(span, table);
                Some(Table::new(Rc::clone(&self.document), name, table))
            }
            other => {
                let text = format!("[{name}] must be a table, not {}", kind(&other));
                self.document.mistake(span, text);
                None
            }
        }
    }

    fn rest(&mut self) -> Vec<(At<String>, Spanned<DeValue<'a>>)> {
        let mut rest: Vec<_> = std::mem::take(&mut self.entries)
            .into_iter()
            .map(|(key, value)| {
                let place = self.document.place(key.span());
                (
                    At {
                        value: key.get_ref().to_string(),
                        place,
                    },
                    value,
                )
            })
            .collect();
        rest.sort_by_key(|(key, _)| key.place);
        rest
    }

    /// Takes a list of inner tables, as in `[[key]]`.
    #[cfg(feature = "agent")]
    pub(crate) fn list(&mut self, key: &'static str) -> Vec<Table<'a>> {
        let Some(value) = self.take(key) else {
            return Vec::new();
        };
        if !matches!(value.get_ref(), DeValue::Array(_)) {
            let text = format!(
                "`{key}` must be a list of tables, [[{key}]], not {}",
                kind(value.get_ref())
            );
            self.document.mistake(value.span(), text);
            return Vec::new();
        }
        let DeValue::Array(array) = value.into_inner() else {
            return Vec::new();
        };
        array
            .into_iter()
            .filter_map(|entry| self.inner(key, entry))
            .collect()
    }

    /// The number of entries that are not taken yet.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns the key of the only entry that is not taken yet.
    pub(crate) fn only_key(&self) -> Option<String> {
        match &self.entries[..] {
            [(key, _)] => Some(key.get_ref().to_string()),
            _ => None,
        }
    }

    /// Takes the inner tables that are left, and leaves what is none.
    pub(crate) fn inner_tables(&mut self) -> Vec<(At<String>, Table<'a>)> {
        let is_table = |value: &Spanned<DeValue<'_>>| matches!(value.get_ref(), DeValue::Table(_));
        let (tables, others) = std::mem::take(&mut self.entries)
            .into_iter()
            .partition(|(_, value)| is_table(value));
        self.entries = tables;
        let tables = self.tables();
        self.entries = others;
        tables
    }

    /// Takes all entries that are left, for their keys alone.
    pub(crate) fn keys(&mut self) -> Vec<At<String>> {
        self.rest().into_iter().map(|(key, _)| key).collect()
    }

    /// Takes all inner tables, whatever their names.
    pub(crate) fn tables(&mut self) -> Vec<(At<String>, Table<'a>)> {
        self.rest()
            .into_iter()
            .filter_map(|(key, value)| {
                let table = self.inner(&key.value, value)?;
                Some((key, table))
            })
            .collect()
    }

    /// Takes the entries that are left and no tables, without a look at them.
    pub(crate) fn skip(&mut self) {
        let is_table = |value: &Spanned<DeValue<'_>>| matches!(value.get_ref(), DeValue::Table(_));
        self.entries.retain(|(_, value)| is_table(value));
    }

    /// Names what is left as unknown, and hands all mistakes of the document over.
    pub(crate) fn finish(mut self, mistakes: &mut Vec<Mistake>) {
        self.known.sort_unstable();
        let known = self.known.join(", ");
        let meant = |key: &str| meant(key, self.known.iter().copied());
        for (key, value) in &self.entries {
            let text = if self.name.is_empty() && matches!(value.get_ref(), DeValue::Table(_)) {
                format!(
                    "unknown table [{}]{}; known are {known}",
                    key.get_ref(),
                    meant(key.get_ref())
                )
            } else if self.name.is_empty() {
                format!("unknown key `{}` outside any table", key.get_ref())
            } else {
                format!(
                    "unknown key `{}` in [{}]{}; known are {known}",
                    key.get_ref(),
                    self.name,
                    meant(key.get_ref())
                )
            };
            self.document.mistake(key.span(), text);
        }
        mistakes.append(&mut self.document.mistakes.borrow_mut());
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
