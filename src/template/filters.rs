//! Filters for the places that values are put into: each escapes, and refuses what its format cannot hold.

#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod fuzzing;

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, Value, filters};

use super::json;
use super::unfit::Unfit;
use super::value::{is_of_an_answer, printed, read_json};

/// The longest value of an option file: its reader cuts a line behind 4094 bytes, without a word.
const MYCNF_MAX: usize = 4000;
/// The longest value of a service file: its reader takes lines of 1022 bytes.
const PGSERVICE_MAX: usize = 1000;

/// Adds the filters that are not the library's own.
pub(super) fn add(engine: &mut Environment<'_>) {
    add_escape(engine, "b64encode", b64encode);
    add_escape(engine, "jaas", jaas);
    add_escape(engine, "mycnf", mycnf);
    add_escape(engine, "pgpass", pgpass);
    add_escape(engine, "pgservice", pgservice);
    add_escape(engine, "properties", properties);
    add_escape(engine, "shell", shell);
    add_escape(engine, "yaml", yaml);
    engine.add_filter("b64decode", |value: &Value| -> Result<String, Error> {
        Ok(b64decode(&text(value)?)?)
    });
    engine.add_filter("fromjson", |value: &Value| -> Result<Value, Error> {
        Ok(read_json(&text(value)?)?)
    });
    engine.add_filter("tojson", |value: &Value| -> Result<Value, Error> {
        Ok(Value::from_safe_string(json::write(value)?))
    });
    engine.add_filter("urlencode", urlencode);
}

/// Adds a filter whose output holds a line end only where the format has a place for it.
fn add_escape(
    engine: &mut Environment<'_>,
    name: &'static str,
    escape: fn(&str) -> Result<String, Unfit>,
) {
    engine.add_filter(name, move |value: &Value| -> Result<Value, Error> {
        Ok(Value::from_safe_string(escape(&text(value)?)?))
    });
}

/// Returns the text of a value: what JSON has besides texts is written as JSON.
pub(super) fn text(value: &Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::Undefined => Err(ErrorKind::UndefinedError.into()),
        ValueKind::String => Ok(value.as_str().unwrap_or_default().to_owned()),
        ValueKind::Number | ValueKind::Bool => printed(value),
        _ if is_of_an_answer(value) => printed(value),
        _ => {
            let reason = "a filter that takes a text is given something else; `| tojson` makes a text of anything";
            Err(Unfit(reason).into())
        }
    }
}

fn b64encode(value: &str) -> Result<String, Unfit> {
    Ok(STANDARD.encode(value))
}

fn b64decode(value: &str) -> Result<String, Unfit> {
    let reason = "a value for `b64decode` is no text (UTF-8) once decoded, which only a file of its own may hold";
    String::from_utf8(decoded(value)?).map_err(|_| Unfit(reason))
}

/// Decodes base64 whose lines may be broken, as many programs break them.
pub(super) fn decoded(value: &str) -> Result<Vec<u8>, Unfit> {
    let encoded: String = value.split(['\r', '\n']).collect();
    let bytes = STANDARD.decode(encoded);
    bytes.map_err(|_| Unfit("a value for `b64decode` is not base64"))
}

/// Writes a value of an option file of MariaDB or MySQL, in its quotes.
fn mycnf(value: &str) -> Result<String, Unfit> {
    let escaped = quoted(value, Unfit("a value for `mycnf` holds a NUL byte"))?;
    if escaped.len() > MYCNF_MAX {
        let reason = "a value for `mycnf` is longer than 4000 bytes, where its reader cuts lines";
        return Err(Unfit(reason));
    }
    Ok(escaped)
}

/// Writes a value of Java's login configuration, in its quotes.
fn jaas(value: &str) -> Result<String, Unfit> {
    quoted(value, Unfit("a value for `jaas` holds a NUL byte"))
}

/// Writes a text in double quotes, with the escapes that many formats share; `nul` is the failure at a NUL byte.
fn quoted(value: &str, nul: Unfit) -> Result<String, Unfit> {
    let mut escaped = String::from("\"");
    for char in value.chars() {
        match char {
            '\0' => return Err(nul),
            '\\' => escaped.push_str(r"\\"),
            '"' => escaped.push_str("\\\""),
            '\n' => escaped.push_str(r"\n"),
            '\r' => escaped.push_str(r"\r"),
            '\t' => escaped.push_str(r"\t"),
            '\u{8}' => escaped.push_str(r"\b"),
            other => escaped.push(other),
        }
    }
    escaped.push('"');
    Ok(escaped)
}

/// Writes a field of PostgreSQL's password file: `:` and `\` are escaped, and a line is one entry.
fn pgpass(value: &str) -> Result<String, Unfit> {
    if value.contains(['\r', '\n', '\0']) {
        let reason = "a value for `pgpass` holds a line end or a NUL byte, which the file cannot";
        return Err(Unfit(reason));
    }
    Ok(value.replace('\\', r"\\").replace(':', r"\:"))
}

/// Writes a value of PostgreSQL's service file, which has no quotes: blanks at its end would be cut off.
fn pgservice(value: &str) -> Result<String, Unfit> {
    let blanks = [' ', '\t', '\u{b}', '\u{c}'];
    if value.contains(['\r', '\n', '\0']) || value.ends_with(blanks) {
        let reason = "a value for `pgservice` holds a line end or a NUL byte, or ends with a blank, which the file cannot";
        return Err(Unfit(reason));
    }
    if value.len() > PGSERVICE_MAX {
        let reason =
            "a value for `pgservice` is longer than 1000 bytes, and its reader refuses such lines";
        return Err(Unfit(reason));
    }
    Ok(value.to_owned())
}

/// Writes a value of a file that java.util.Properties reads, in ASCII, since Java before 9 takes it for Latin-1.
fn properties(value: &str) -> Result<String, Unfit> {
    let mut escaped = String::new();
    for char in value.chars() {
        match char {
            '\\' => escaped.push_str(r"\\"),
            '\n' => escaped.push_str(r"\n"),
            '\r' => escaped.push_str(r"\r"),
            '\t' => escaped.push_str(r"\t"),
            // Blanks and separators in front of a value are not part of it.
            ' ' | ':' | '=' | '#' | '!' => escaped.extend(['\\', char]),
            '!'..='~' => escaped.push(char),
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    // A String takes every write.
                    let _ = write!(escaped, r"\u{unit:04X}");
                }
            }
        }
    }
    Ok(escaped)
}

/// Writes one word for a POSIX shell.
fn shell(value: &str) -> Result<String, Unfit> {
    if value.contains('\0') {
        let reason = "a value for `shell` holds a NUL byte, which no shell can";
        return Err(Unfit(reason));
    }
    Ok(format!("'{}'", value.replace('\'', r"'\''")))
}

/// Encodes any part of a URL: the library's own filter takes its value for a path, and leaves `/` alone.
fn urlencode(value: &Value) -> Result<String, Error> {
    let encoded = if value.kind() == ValueKind::Map {
        filters::urlencode(value)?
    } else {
        filters::urlencode(&Value::from(text(value)?))?
    };
    Ok(encoded.replace('/', "%2F"))
}

/// Writes a scalar of YAML in double quotes, the only kind that holds every text.
fn yaml(value: &str) -> Result<String, Unfit> {
    let mut escaped = String::from("\"");
    for char in value.chars() {
        match char {
            '"' => escaped.push_str("\\\""),
            '\\' => escaped.push_str(r"\\"),
            '\n' => escaped.push_str(r"\n"),
            '\r' => escaped.push_str(r"\r"),
            '\t' => escaped.push_str(r"\t"),
            // Control characters, what YAML 1.1 takes for a line end or a mark of byte order, and what is no character.
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                let _ = write!(escaped, r"\u{:04X}", u32::from(char));
            }
            other if other.is_control() => {
                let _ = write!(escaped, r"\x{:02X}", u32::from(other));
            }
            other => escaped.push(other),
        }
    }
    escaped.push('"');
    Ok(escaped)
}

#[cfg(test)]
mod tests;
