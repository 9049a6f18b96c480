//! The names that a template may use, before there is any value.

use std::collections::{BTreeMap, BTreeSet};

use super::RESERVED;
use super::audit::Path;
use crate::environment::TOKEN_VARIABLES;
use crate::spelling::meant;

/// The fields of a name, as far as they are known before there is a value.
#[derive(Debug, Clone)]
enum Fields {
    /// The name is a text, which has no fields.
    None,
    /// The name is a value of an answer, whatever that holds.
    Value,
    /// The name has these fields and no others.
    These(BTreeSet<String>),
    /// The name may have any field.
    Any,
    /// The name has these values, which may have values of their own.
    Values(BTreeMap<String, Fields>),
}

/// The names that one template may use.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    names: BTreeMap<String, Fields>,
    /// True where any other name may be a field that comes.
    is_open: bool,
}

impl Known {
    /// Begins with the names that every template knows; `variables` are those of the environment, unless any may be
    /// set where the template is used.
    pub(crate) fn new(variables: Option<BTreeSet<String>>) -> Known {
        let variables = variables.map_or(Fields::Any, Fields::These);
        let names = RESERVED.map(|name| match name {
            "env" => (name.to_owned(), variables.clone()),
            name => (name.to_owned(), Fields::None),
        });
        Known {
            names: BTreeMap::from(names),
            is_open: false,
        }
    }

    /// Adds a dependency by its identifier, with its fields if they are declared.
    pub(crate) fn add(&mut self, identifier: String, fields: Option<&[String]>) {
        let fields = fields.map(|fields| fields.iter().cloned().collect());
        let fields = fields.map_or(Fields::Any, Fields::These);
        self.names.insert(identifier, fields);
    }

    /// Adds a name with texts below it.
    pub(crate) fn add_texts<'a>(&mut self, name: &str, texts: impl IntoIterator<Item = &'a str>) {
        self.names.insert(name.to_owned(), values(texts));
    }

    /// Adds a name with these identifiers below it, each with the same texts below it.
    pub(crate) fn add_tables<'a>(
        &mut self,
        name: &str,
        identifiers: impl IntoIterator<Item = String>,
        texts: impl IntoIterator<Item = &'a str>,
    ) {
        let texts = values(texts);
        let tables = identifiers.into_iter();
        let tables = tables.map(|identifier| (identifier, texts.clone()));
        let tables = Fields::Values(tables.collect());
        self.names.insert(name.to_owned(), tables);
    }

    /// Adds, for a file of one dependency, its own fields without the dependency's name before them.
    pub(crate) fn within(&self, fields: Option<&[String]>) -> Known {
        let mut known = self.clone();
        known.is_open = fields.is_none();
        for field in fields.unwrap_or_default() {
            known.names.insert(field.clone(), Fields::Value);
        }
        known
    }

    /// Says why this value will never be there.
    pub(super) fn mistake(&self, path: &Path) -> Option<String> {
        let root = &path.root;
        let is_read = !path.fields.is_empty();
        match (self.names.get(root), path.fields.as_slice()) {
            (None, []) if self.is_open || path.may_be_missing => None,
            // A field that comes may be an object, unless a name of another kind was meant.
            (None, _) if self.is_open && self.table_near(root).is_empty() => None,
            (None, _) => {
                let near = if is_read {
                    self.table_near(root)
                } else {
                    meant(root, self.names.keys().map(String::as_str))
                };
                let meant = match near {
                    near if near.is_empty() => self.elsewhere(root, is_read),
                    near => near,
                };
                let what = if is_read {
                    "is no dependency"
                } else {
                    "is not known"
                };
                Some(format!("`{root}` {what}{meant}; known are {}", self.list()))
            }
            (Some(Fields::Any | Fields::These(_) | Fields::Values(_)), [])
                if path.is_written && !self.is_open =>
            {
                Some(self.whole(root, root))
            }
            (Some(Fields::Values(values)), [name]) if path.is_written => match values.get(name) {
                Some(Fields::Values(_)) => Some(self.whole(root, &format!("{root}.{name}"))),
                _ => missing(root, values, &path.fields, path.may_be_missing),
            },
            (Some(Fields::Values(values)), fields) => {
                missing(root, values, fields, path.may_be_missing)
            }
            (Some(Fields::None), [field, ..]) => {
                Some(format!("`{root}` is a text and has no field `{field}`"))
            }
            (Some(_), [field, ..]) if is_token(root, field) => {
                Some(format!("`{root}.{field}` is never there: it holds a token"))
            }
            (Some(_), [field, inner, ..]) if root == "env" => Some(format!(
                "`{root}.{field}` is a text and has no field `{inner}`"
            )),
            (Some(Fields::These(fields)), [field, ..])
                if !fields.contains(field) && !path.may_be_missing =>
            {
                let meant = meant(field, fields.iter().map(String::as_str));
                Some(match root.as_str() {
                    "env" => format!(
                        "the variable {field} is not set{meant}; set it, or write `env.{field} | default(…)`"
                    ),
                    _ => format!(
                        "`{field}` is none of the `fields` of `{root}`{meant}; known are {}",
                        self.list()
                    ),
                })
            }
            _ => None,
        }
    }

    /// Asks whether the nearest name that has fields was meant.
    fn table_near(&self, root: &str) -> String {
        let names = self.names.iter();
        let tables = names.filter(|(_, fields)| !matches!(fields, Fields::None | Fields::Value));
        meant(root, tables.map(|(name, _)| name.as_str()))
    }

    /// Says that a template writes a whole table, such as a dependency, and names what is in it.
    fn whole(&self, root: &str, table: &str) -> String {
        let below = |fields: &Fields| match fields {
            Fields::These(fields) => fields.iter().cloned().collect(),
            Fields::Values(values) => values.keys().cloned().collect(),
            _ => Vec::new(),
        };
        let names = match self.names.get(root) {
            Some(Fields::Values(values)) if root != table => values.values().next().map(below),
            Some(fields) if root != "env" => Some(below(fields)),
            _ => None,
        };
        let names: Vec<String> = names.unwrap_or_default();
        let known = if names.is_empty() {
            String::new()
        } else {
            format!("; known are {}", names.join(", "))
        };
        format!(
            "`{table}` is a whole table, with every value in it: name one of its values, or write `| tojson` if that is meant{known}"
        )
    }

    /// Asks whether a name was meant that is there in another form: a dependency's of several words, or one of its fields.
    fn elsewhere(&self, root: &str, is_read: bool) -> String {
        for (name, fields) in &self.names {
            let parts: Vec<&str> = name.split('_').collect();
            let is_end = |part: Option<&&str>| part.is_some_and(|part| *part == root);
            if RESERVED.contains(&name.as_str()) || matches!(fields, Fields::None | Fields::Value) {
                continue;
            }
            if parts.len() > 1 && (is_end(parts.first()) || is_end(parts.last())) {
                return format!(
                    " (is `{name}` meant? In templates a `-` or `.` of a name is a `_`)"
                );
            }
            if let Fields::These(fields) = fields
                && !is_read
                && fields.contains(root)
            {
                return format!(" (is `{name}.{root}` meant?)");
            }
        }
        String::new()
    }

    /// Lists the names, those of variables left out.
    fn list(&self) -> String {
        let mut names = Vec::new();
        for (name, fields) in &self.names {
            match fields {
                Fields::These(fields) if name != "env" => {
                    names.extend(fields.iter().map(|field| format!("{name}.{field}")));
                }
                _ => names.push(name.clone()),
            }
        }
        names.join(", ")
    }
}

/// Says which of these names, one behind the other, is not there below a name with values.
fn missing(
    name: &str,
    values: &BTreeMap<String, Fields>,
    fields: &[String],
    may_be_missing: bool,
) -> Option<String> {
    let (field, below) = fields.split_first()?;
    match (values.get(field), below) {
        (None, []) if may_be_missing => None,
        (None, _) => {
            let known: Vec<&str> = values.keys().map(String::as_str).collect();
            let meant = meant(field, known.iter().copied());
            let known = known.join(", ");
            Some(format!(
                "`{name}` has no `{field}`{meant}; known are {known}"
            ))
        }
        (Some(Fields::Values(values)), _) => {
            missing(&format!("{name}.{field}"), values, below, may_be_missing)
        }
        (Some(_), [inner, ..]) => Some(format!(
            "`{name}.{field}` is a text and has no field `{inner}`"
        )),
        (Some(_), []) => None,
    }
}

fn values<'a>(texts: impl IntoIterator<Item = &'a str>) -> Fields {
    let texts = texts.into_iter();
    Fields::Values(texts.map(|text| (text.to_owned(), Fields::None)).collect())
}

fn is_token(root: &str, field: &str) -> bool {
    root == "env" && TOKEN_VARIABLES.contains(&field)
}
