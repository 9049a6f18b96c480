//! Filters for the places that values are put into: each escapes, and refuses what its format cannot hold.

use std::fmt;

use minijinja::{Environment, Error, ErrorKind, Value, filters};

/// A value that the format cannot hold; the text names the format and no value.
#[derive(Debug)]
pub(super) struct Unfit(&'static str);

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Unfit {}

/// Adds the filters that are not the library's own.
pub(super) fn add(engine: &mut Environment<'_>) {
    engine.add_filter("pgpass", pgpass);
    engine.add_filter("urlencode", urlencode);
}

/// Writes a field of PostgreSQL's password file: `:` and `\` are escaped, and a line is one entry.
fn pgpass(value: String) -> Result<String, Error> {
    if value.contains(['\r', '\n', '\0']) {
        let reason = "a value for `pgpass` holds a line end or a NUL byte, which the file cannot";
        return Err(Error::from(ErrorKind::InvalidOperation).with_source(Unfit(reason)));
    }
    Ok(value.replace('\\', r"\\").replace(':', r"\:"))
}

/// Encodes any part of a URL: the library's own filter takes its value for a path, and leaves `/` alone.
fn urlencode(value: &Value) -> Result<String, Error> {
    Ok(filters::urlencode(value)?.replace('/', "%2F"))
}
