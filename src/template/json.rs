//! The values of templates as JSON.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

use super::unfit::Unfit;
use crate::json::quoted;

/// The deepest value: one that holds itself has no end.
const DEPTH_MAX: usize = 100;

/// Writes a value as compact JSON.
pub(super) fn write(value: &Value) -> Result<String, Error> {
    let mut json = String::new();
    write_to(&mut json, value, 0)?;
    Ok(json)
}

fn write_to(json: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
    if depth > DEPTH_MAX {
        return Err(Unfit("a value for `tojson` is nested more than 100 deep").into());
    }
    match value.kind() {
        ValueKind::Undefined => return Err(ErrorKind::UndefinedError.into()),
        ValueKind::None => json.push_str("null"),
        ValueKind::Bool if value.is_true() => json.push_str("true"),
        ValueKind::Bool => json.push_str("false"),
        ValueKind::Number => json.push_str(&number(value)?.to_string()),
        ValueKind::String => json.push_str(&quoted(value.as_str().unwrap_or_default())),
        ValueKind::Seq | ValueKind::Iterable => {
            json.push('[');
            for (index, item) in value.try_iter()?.enumerate() {
                if index > 0 {
                    json.push(',');
                }
                write_to(json, &item, depth + 1)?;
            }
            json.push(']');
        }
        ValueKind::Map => {
            json.push('{');
            for (index, name) in value.try_iter()?.enumerate() {
                if index > 0 {
                    json.push(',');
                }
                let Some(text) = name.as_str() else {
                    let reason = "an object for `tojson` has a name that is no text";
                    return Err(Unfit(reason).into());
                };
                json.push_str(&quoted(text));
                json.push(':');
                write_to(json, &value.get_item(&name)?, depth + 1)?;
            }
            json.push('}');
        }
        _ => return Err(Unfit("a value for `tojson` is nothing that JSON has").into()),
    }
    Ok(())
}

fn number(value: &Value) -> Result<serde_json::Number, Unfit> {
    let number = if value.is_integer() {
        let number = i128::try_from(value.clone()).ok();
        number.and_then(serde_json::Number::from_i128)
    } else {
        let number = f64::try_from(value.clone()).ok();
        number.and_then(serde_json::Number::from_f64)
    };
    number.ok_or(Unfit("a number is none that JSON has"))
}
