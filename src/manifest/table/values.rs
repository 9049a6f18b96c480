//! The values of a table's keys: texts, flags, numbers and lists, and values of every kind that JSON has.

use toml::Spanned;
use toml::de::{DeInteger, DeValue};

use super::{Table, kind};
use crate::json::is_exact;
use crate::manifest::At;

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

impl Table<'_> {
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
