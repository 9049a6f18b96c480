//! JSON and the values of templates.

use std::collections::BTreeMap;

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

use super::unfit::Unfit;

/// The deepest value: one that holds itself has no end.
const DEPTH_MAX: usize = 100;
/// The largest number up to which a fraction holds each integer.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Writes a value as compact JSON.
pub(super) fn write(value: &Value) -> Result<String, Error> {
    Ok(from_value(value, 0)?.to_string())
}

/// Reads a value from JSON.
pub(super) fn read(text: &str) -> Result<Value, Unfit> {
    let json = serde_json::from_str(text);
    // The library's message may quote the text.
    to_value(json.map_err(|_| Unfit("a value for `fromjson` is not JSON"))?)
}

fn from_value(value: &Value, depth: usize) -> Result<serde_json::Value, Error> {
    use serde_json::Value as Json;
    if depth > DEPTH_MAX {
        return Err(Unfit("a value for `tojson` is nested more than 100 deep").into());
    }
    Ok(match value.kind() {
        ValueKind::Undefined => return Err(ErrorKind::UndefinedError.into()),
        ValueKind::None => Json::Null,
        ValueKind::Bool => value.is_true().into(),
        ValueKind::Number => number(value)?.into(),
        ValueKind::String => value.as_str().into(),
        ValueKind::Seq | ValueKind::Iterable => {
            let items = value.try_iter()?.map(|item| from_value(&item, depth + 1));
            Json::Array(items.collect::<Result<_, Error>>()?)
        }
        ValueKind::Map => {
            let mut members = serde_json::Map::new();
            for name in value.try_iter()? {
                let Some(text) = name.as_str() else {
                    let reason = "an object for `tojson` has a name that is no text";
                    return Err(Unfit(reason).into());
                };
                let member = from_value(&value.get_item(&name)?, depth + 1)?;
                members.insert(text.to_owned(), member);
            }
            Json::Object(members)
        }
        _ => return Err(Unfit("a value for `tojson` is nothing that JSON has").into()),
    })
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

fn to_value(json: serde_json::Value) -> Result<Value, Unfit> {
    use serde_json::Value as Json;
    Ok(match json {
        Json::Null => Value::from(()),
        Json::Bool(is_true) => Value::from(is_true),
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(number), ..) => Value::from(number),
            (_, Some(number), _) => Value::from(number),
            (.., Some(number)) if number.abs() <= EXACT || number.fract() != 0.0 => {
                Value::from(number)
            }
            _ => {
                return Err(Unfit(
                    "a value for `fromjson` has a number that is too large",
                ));
            }
        },
        Json::String(text) => Value::from(text),
        Json::Array(items) => {
            let items: Vec<Value> = items.into_iter().map(to_value).collect::<Result<_, _>>()?;
            Value::from(items)
        }
        Json::Object(members) => {
            let members = members.into_iter();
            let members = members.map(|(name, member)| Ok((name, to_value(member)?)));
            Value::from_object(members.collect::<Result<BTreeMap<String, Value>, Unfit>>()?)
        }
    })
}
