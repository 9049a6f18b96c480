//! A TOML table that is taken apart key by key; what is left at the end was unknown.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use toml::Spanned;
use toml::de::{DeInteger, DeString, DeTable, DeValue};

use super::{At, Mistake, Place};
use crate::json::is_exact;
use crate::spelling::meant;

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

/// One string, or a list of strings.
#[derive(Debug, Clone)]
pub(crate) enum Words {
    /// A string.
    One(At<String>),
    /// A list of strings.
    List(At<Vec<At<String>>>),
}

/// True, false, or a string instead of true.
#[derive(Debug, Clone)]
pub(crate) enum FlagOrText {
    /// A boolean.
    Flag(At<bool>),
    /// A string.
    Text(At<String>),
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

    fn wrong(&self, key: &str, wanted: &str, value: &Spanned<DeValue<'_>>) {
        let text = format!(
            "`{key}` in [{}] must be {wanted}, not {}{}",
            self.name,
            kind(value.get_ref()),
            if wanted == "a string" {
                in_quotes(value.get_ref())
            } else {
                ""
            }
        );
        self.document.mistake(value.span(), text);
    }

    /// Takes a string.
    pub(crate) fn text(&mut self, key: &'static str) -> Option<At<String>> {
        let value = self.take(key)?;
        let text = self.as_text(&value);
        if text.is_none() {
            self.wrong(key, "a string", &value);
        }
        text
    }

    fn as_text(&self, value: &Spanned<DeValue<'_>>) -> Option<At<String>> {
        match value.get_ref() {
            DeValue::String(text) => Some(At {
                value: text.to_string(),
                place: self.document.place(value.span()),
            }),
            _ => None,
        }
    }

    /// Takes a boolean; false when the key is missing.
    pub(crate) fn flag(&mut self, key: &'static str) -> bool {
        match self.take(key) {
            None => false,
            Some(value) => match value.get_ref() {
                DeValue::Boolean(flag) => *flag,
                _ => {
                    self.wrong(key, "true or false", &value);
                    false
                }
            },
        }
    }

    /// Takes a boolean or a string.
    pub(crate) fn flag_or_text(&mut self, key: &'static str) -> Option<FlagOrText> {
        let value = self.take(key)?;
        let place = self.document.place(value.span());
        let found = match value.get_ref() {
            DeValue::Boolean(flag) => Some(FlagOrText::Flag(At {
                value: *flag,
                place,
            })),
            _ => self.as_text(&value).map(FlagOrText::Text),
        };
        if found.is_none() {
            self.wrong(key, "true, false or a string", &value);
        }
        found
    }

    /// Takes a number from 0 to 4294967295.
    #[cfg(feature = "agent")]
    pub(crate) fn number(&mut self, key: &'static str) -> Option<u32> {
        let value = self.take(key)?;
        let number = match value.get_ref() {
            DeValue::Integer(number) => number.to_string().parse().ok(),
            _ => None,
        };
        if number.is_none() {
            self.wrong(key, "a whole number, not negative", &value);
        }
        number
    }

    /// Takes a list of strings.
    pub(crate) fn texts(&mut self, key: &'static str) -> Option<Vec<At<String>>> {
        let value = self.take(key)?;
        let texts = self.as_texts(key, &value);
        if texts.is_none() {
            self.wrong(key, "a list of strings", &value);
        }
        texts
    }

    /// Takes a string or a list of strings.
    pub(crate) fn words(&mut self, key: &'static str) -> Option<Words> {
        let value = self.take(key)?;
        let place = self.document.place(value.span());
        let words = match self.as_text(&value) {
            Some(text) => Some(Words::One(text)),
            None => self.as_texts(key, &value).map(|texts| {
                Words::List(At {
                    value: texts,
                    place,
                })
            }),
        };
        if words.is_none() {
            self.wrong(key, "a string or a list of strings", &value);
        }
        words
    }

    fn as_texts(&self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<Vec<At<String>>> {
        let DeValue::Array(array) = value.get_ref() else {
            return None;
        };
        let mut texts = Vec::new();
        for entry in array.iter() {
            match self.as_text(entry) {
                Some(text) => texts.push(text),
                None => {
                    let text = format!(
                        "`{key}` in [{}] must be a list of strings; this entry is {}{}",
                        self.name,
                        kind(entry.get_ref()),
                        in_quotes(entry.get_ref())
                    );
                    self.document.mistake(entry.span(), text);
                }
            }
        }
        Some(texts)
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

    /// Takes all entries, whatever their names: strings, and numbers and booleans in their own text.
    pub(crate) fn entries(&mut self) -> Vec<(At<String>, At<String>)> {
        self.entries_as("a string")
    }

    /// Takes the same, where a mistake says that something else would do too.
    pub(crate) fn entries_as(&mut self, wanted: &str) -> Vec<(At<String>, At<String>)> {
        self.rest()
            .into_iter()
            .filter_map(|(key, value)| {
                let text = self.as_plain(&key.value, wanted, &value)?;
                Some((key, text))
            })
            .collect()
    }

    /// Takes a string, or a number or a boolean in its own text.
    pub(crate) fn plain(&mut self, key: &'static str) -> Option<At<String>> {
        let value = self.take(key)?;
        self.as_plain(key, "a string", &value)
    }

    fn as_plain(
        &self,
        key: &str,
        wanted: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> Option<At<String>> {
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) => {
                integer(number).map_or_else(|| number.to_string(), |number| number.to_string())
            }
            DeValue::Float(number) => number.to_string(),
            DeValue::Boolean(flag) => flag.to_string(),
            _ => {
                self.wrong(key, wanted, value);
                return None;
            }
        };
        Some(At {
            value: text,
            place: self.document.place(value.span()),
        })
    }

    /// Takes the entries that are left and no tables, without a look at them.
    pub(crate) fn skip(&mut self) {
        let is_table = |value: &Spanned<DeValue<'_>>| matches!(value.get_ref(), DeValue::Table(_));
        self.entries.retain(|(_, value)| is_table(value));
    }

    /// Takes all entries, whatever their names: values of every kind that JSON has too.
    pub(crate) fn values(&mut self) -> Vec<(At<String>, At<serde_json::Value>)> {
        self.rest()
            .into_iter()
            .filter_map(|(key, value)| {
                let place = self.document.place(value.span());
                match json(value.get_ref()) {
                    Ok(json) => Some((key, At { value: json, place })),
                    Err(NoJson::Kind) => {
                        self.wrong(&key.value, "a value that JSON has", &value);
                        None
                    }
                    Err(NoJson::Number) => {
                        let text = format!(
                            "`{}` in [{}] has a number that JSON does not hold exactly; write it as a string",
                            key.value, self.name
                        );
                        self.document.mistake(value.span(), text);
                        None
                    }
                }
            })
            .collect()
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

/// The reasons why a value is none of JSON's.
enum NoJson {
    /// JSON has no such kind of value.
    Kind,
    /// A number, which JSON cannot hold as it is.
    Number,
}

/// Reads a value of one of JSON's kinds.
fn json(value: &DeValue<'_>) -> Result<serde_json::Value, NoJson> {
    Ok(match value {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Integer(number) => {
            let number = integer(number).ok_or(NoJson::Number)?;
            let number = serde_json::Number::from_i128(number);
            number.ok_or(NoJson::Number)?.into()
        }
        DeValue::Float(number) => {
            let number = number.as_str().parse().ok();
            let number = number.filter(|number| is_exact(*number));
            let number = number.and_then(serde_json::Number::from_f64);
            number.ok_or(NoJson::Number)?.into()
        }
        DeValue::Boolean(flag) => (*flag).into(),
        DeValue::Datetime(_) => return Err(NoJson::Kind),
        DeValue::Array(items) => {
            let items = items.iter().map(|item| json(item.get_ref()));
            serde_json::Value::Array(items.collect::<Result<_, _>>()?)
        }
        DeValue::Table(members) => {
            let members = members
                .iter()
                .map(|(name, member)| Ok((name.get_ref().to_string(), json(member.get_ref())?)));
            serde_json::Value::Object(members.collect::<Result<_, _>>()?)
        }
    })
}

/// Reads a whole number, in whatever base it is written.
fn integer(number: &DeInteger<'_>) -> Option<i128> {
    i128::from_str_radix(number.as_str(), number.radix()).ok()
}

/// Says how a value that TOML knows without quotes becomes a string.
fn in_quotes(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {
            ": put it in quotes"
        }
        _ => "",
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
