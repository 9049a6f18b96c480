//! Templates for extra files and for variables: Jinja's language, without includes and without the file system.

mod audit;
mod beside;
mod filters;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod json;
mod known;
mod one_line;
mod tree;
mod unfit;
mod value;
mod whole;
mod whole_tables;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as _;
use std::sync::LazyLock;

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior};

use crate::secret::Secret;

use audit::Path;
use unfit::Unfit;

pub(crate) use known::Known;
pub(crate) use minijinja::Value;
pub(crate) use value::{list, number, object, table};

/// Names that every template knows besides the dependencies.
pub(crate) const RESERVED: [&str; 4] = ["app", "env", "environment", "secrets_dir"];

/// The name of what the templates of presets need besides keys and fields, and no template of the manifest knows: that of a
/// dependency begins with a letter, and a field of this name gives way.
pub(crate) const OF_PRESETS: &str = "_anteroom";

/// The names of the values that come of `[certificate]`, `[certificates]` and `[java]`. A dependency of such a name takes
/// the place of them.
pub(crate) const CERTIFICATE: &str = "certificate";
pub(crate) const CERTIFICATES: &str = "certificates";
pub(crate) const JAVA: &str = "java";

/// The values of a certificate that are no secret.
const PUBLIC: [&str; 4] = ["chain", "ca", "serial_number", "not_after"];

/// Returns the name of a dependency or a certificate in templates, where a dash would be a minus.
pub(crate) fn identifier(name: &str) -> String {
    name.replace(['-', '.'], "_")
}

/// A template whose syntax is known to be right, and in which every filter, test, function and method is there.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    /// The text as it is filled in: with what keeps values to their line.
    guarded: String,
    /// The template of the base64, where the file is what is in it.
    encoded: Option<String>,
    paths: Vec<Path>,
}

impl Template {
    /// Checks the syntax and, in every branch, what is done with values; each mistake begins with its line.
    pub(crate) fn parse(source: &str) -> Result<Template, Vec<String>> {
        let engine = &*ENGINE;
        if let Err(error) = engine.template_from_str(source) {
            // The text is the manifest's, so the library's message can name it.
            return Err(vec![format!(
                "line {}: {}",
                error.line().unwrap_or(1),
                reason(&error)
            )]);
        }
        let found = audit::audit(engine, source);
        if found.mistakes.is_empty() {
            Ok(Template {
                guarded: one_line::guard(engine, source),
                encoded: whole::encoded(engine, source),
                paths: found.paths,
            })
        } else {
            Err(found.mistakes)
        }
    }

    /// Lists the outermost names that must be there.
    pub(crate) fn names(&self) -> BTreeSet<&str> {
        let needed = self.paths.iter().filter(|path| !path.may_be_missing);
        needed.map(|path| path.root.as_str()).collect()
    }

    /// Lists the fields of this name that must be there.
    pub(crate) fn fields_of(&self, name: &str) -> BTreeSet<&str> {
        let needed = self.paths.iter().filter(|path| !path.may_be_missing);
        needed
            .filter(|path| path.root == name)
            .filter_map(|path| path.fields.first().map(String::as_str))
            .collect()
    }

    /// Lists the names behind this value, one name behind the other, that must be there.
    pub(crate) fn below<'t>(&'t self, names: &[&str]) -> Vec<&'t [String]> {
        let needed = self.paths.iter().filter(|path| !path.may_be_missing);
        let behind = needed.filter_map(|path| {
            let (root, fields) = names.split_first()?;
            let is_below = path.root == *root
                && path.fields.len() > fields.len()
                && path
                    .fields
                    .iter()
                    .zip(fields)
                    .all(|(one, other)| one == other);
            is_below.then(|| &path.fields[fields.len()..])
        });
        behind.collect()
    }

    /// Says whether the template reads this value, one name behind the other, or something in it.
    pub(crate) fn reads(&self, names: &[&str]) -> bool {
        self.paths.iter().any(|path| {
            let whole = std::iter::once(&path.root).chain(&path.fields);
            // What holds the value holds it too.
            let mut pairs = whole.zip(names);
            pairs.all(|(one, other)| one == other)
        })
    }

    /// Says whether the template names this value, one name behind the other.
    pub(crate) fn mentions(&self, names: &[&str]) -> bool {
        self.paths.iter().any(|path| {
            let whole = std::iter::once(&path.root).chain(&path.fields);
            whole.map(String::as_str).eq(names.iter().copied())
        })
    }

    /// Says whether a value that the template names may be a secret.
    pub(crate) fn holds_secrets(&self) -> bool {
        self.paths.iter().any(|path| {
            let root = path.root.as_str();
            let last = path.fields.last().map(String::as_str);
            let is_public = [CERTIFICATE, CERTIFICATES].contains(&root)
                && last.is_some_and(|last| PUBLIC.contains(&last));
            !RESERVED.contains(&root) && !is_public
        })
    }

    /// Lists names that are not there, whatever the values will be; each begins with its line.
    pub(crate) fn unknown(&self, known: &Known) -> Vec<String> {
        let mut unknown = Vec::new();
        for path in &self.paths {
            if let Some(text) = known.mistake(path) {
                let text = format!("line {}: {text}", path.line);
                if !unknown.contains(&text) {
                    unknown.push(text);
                }
            }
        }
        unknown
    }

    /// Renders the template as a text; an error never quotes a value.
    pub(crate) fn render(&self, values: &Values) -> Result<Secret, Failure> {
        fill(&self.guarded, values)
    }

    /// Renders the template as a file, which need not be a text.
    pub(crate) fn render_file(&self, values: &Values) -> Result<Secret<Vec<u8>>, Failure> {
        let Some(encoded) = &self.encoded else {
            let text = self.render(values)?;
            return Ok(Secret::new(text.expose().as_bytes().to_vec()));
        };
        let text = fill(encoded, values)?;
        let bytes = filters::decoded(text.expose());
        bytes.map(Secret::new).map_err(|unfit| Failure {
            reason: format!("line 1: {unfit}"),
            is_certain: false,
        })
    }
}

fn fill(source: &str, values: &Values) -> Result<Secret, Failure> {
    FILLING
        .render_str(source, &values.0)
        .map(Secret::new)
        .map_err(|error| Failure::new(&error, values))
}

/// A template that cannot be filled in.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The line, then the mistake, without any value.
    pub reason: String,
    /// True where no other value would help.
    pub is_certain: bool,
}

impl Failure {
    fn new(error: &minijinja::Error, values: &Values) -> Failure {
        let line = error.line().unwrap_or(1);
        let unfit = error.source().and_then(|it| it.downcast_ref::<Unfit>());
        let reason = match (error.kind(), unfit) {
            (_, Some(unfit)) => format!("line {line}: {unfit}"),
            (ErrorKind::UndefinedError, _) => format!(
                "line {line} uses a value that is not there; known are {}",
                values.known()
            ),
            (ErrorKind::InvalidOperation, _) => format!(
                "line {line}: {}: a value is of another kind than what is done with it needs, such as a number in the place of a text; `| string` makes a text of it",
                error.kind()
            ),
            // Details of other errors may quote the value that was operated on.
            (kind, _) => format!("line {line}: {kind}"),
        };
        let is_certain = matches!(
            error.kind(),
            ErrorKind::UnknownFilter
                | ErrorKind::UnknownTest
                | ErrorKind::UnknownFunction
                | ErrorKind::UnknownMethod
                | ErrorKind::MissingArgument
                | ErrorKind::TooManyArguments
        ) || unfit == Some(&value::WHOLE);
        Failure { reason, is_certain }
    }
}

fn reason(error: &minijinja::Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

/// The engine that looks at templates.
static ENGINE: LazyLock<Environment<'static>> = LazyLock::new(engine);

/// The engine that fills templates in, with the filters that no template can name.
static FILLING: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut engine = engine();
    one_line::add(&mut engine);
    whole::add(&mut engine);
    engine
});

fn engine() -> Environment<'static> {
    let mut engine = Environment::new();
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    engine.set_auto_escape_callback(|_| AutoEscape::None);
    engine.set_syntax(
        SyntaxConfig::builder()
            .keep_trailing_newline(true)
            .build()
            .unwrap_or_default(),
    );
    whole_tables::add(&mut engine);
    // It writes every value that there is.
    engine.remove_global("debug");
    filters::add(&mut engine);
    value::add_formatter(&mut engine);
    engine
}

/// The values that one template may use, by their names.
pub(crate) struct Values(pub BTreeMap<String, Value>);

impl Values {
    fn known(&self) -> String {
        let mut names = Vec::new();
        for (name, value) in &self.0 {
            match value::names_in(value) {
                Some(_) if name == OF_PRESETS => {}
                Some(fields) if name != "env" => {
                    names.extend(fields.map(|field| format!("{name}.{field}")))
                }
                _ => names.push(name.clone()),
            }
        }
        names.join(", ")
    }
}

#[cfg(test)]
mod tests;
