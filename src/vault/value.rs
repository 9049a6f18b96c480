//! A JSON value whose texts are secrets.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::json::{is_exact, quoted};
use crate::secret::Secret;

/// A JSON value; objects keep their order and refuse a name that comes twice.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number that has an exact form.
    Number(serde_json::Number),
    /// A string.
    Text(Secret),
    /// An array.
    List(Vec<Value>),
    /// An object.
    Object(Vec<(String, Value)>),
}

/// A number is a secret as a text is, and the name of a member may tell of one.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Most names in one object: each would become a file.
const NAMES_MAX: usize = 4096;

impl Value {
    /// The text that a file or a template gets: strings as they are, numbers and booleans as in JSON, objects and lists
    /// as compact JSON; none for `null`.
    pub(crate) fn text(&self) -> Option<Secret> {
        match self {
            Value::Null => None,
            Value::Text(text) => Some(text.clone()),
            Value::Bool(flag) => Some(Secret::new(flag.to_string())),
            Value::Number(number) => Some(Secret::new(number.to_string())),
            Value::List(_) | Value::Object(_) => {
                let mut json = String::new();
                self.write_json(&mut json);
                Some(Secret::new(json))
            }
        }
    }

    fn write_json(&self, json: &mut String) {
        match self {
            Value::Null => json.push_str("null"),
            Value::Bool(flag) => json.push_str(if *flag { "true" } else { "false" }),
            Value::Number(number) => json.push_str(&number.to_string()),
            Value::Text(text) => json.push_str(&quoted(text.expose())),
            Value::List(values) => {
                json.push('[');
                for (n, value) in values.iter().enumerate() {
                    if n > 0 {
                        json.push(',');
                    }
                    value.write_json(json);
                }
                json.push(']');
            }
            Value::Object(entries) => {
                json.push('{');
                for (n, (name, value)) in entries.iter().enumerate() {
                    if n > 0 {
                        json.push(',');
                    }
                    json.push_str(&quoted(name));
                    json.push(':');
                    value.write_json(json);
                }
                json.push('}');
            }
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Bool(flag))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Value, E> {
        match serde_json::Number::from_f64(number) {
            Some(exact) if is_exact(number) => Ok(Value::Number(exact)),
            _ => Err(E::custom("a number that has no exact form")),
        }
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(Secret::new(text.to_owned())))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::Text(Secret::new(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = sequence.next_element()? {
            values.push(value);
        }
        Ok(Value::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries: Vec<(String, Value)> = Vec::new();
        let mut names = HashSet::new();
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            if !names.insert(name.clone()) {
                return Err(A::Error::custom("a name that comes twice in one object"));
            }
            if names.len() > NAMES_MAX {
                return Err(A::Error::custom(
                    "more names in one object than any secret has",
                ));
            }
            entries.push((name, value));
        }
        Ok(Value::Object(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_is_shown() {
        for json in ["4711", "true", r#""canary""#, r#"[4711]"#, r#"{"a":4711}"#] {
            let value: Value = serde_json::from_str(json).expect("valid");
            assert_eq!(format!("{value:?}"), "[redacted]", "{json}");
        }
    }

    fn text(json: &str) -> Option<String> {
        let value: Value = serde_json::from_str(json).expect("valid");
        value.text().map(|text| text.expose().clone())
    }

    // b31, b32, b33, b35
    #[test]
    fn value_of_every_kind_has_one_text() {
        assert_eq!(text("null"), None);
        assert_eq!(text("\"\"").as_deref(), Some(""));
        assert_eq!(text("true").as_deref(), Some("true"));
        assert_eq!(text("5432").as_deref(), Some("5432"));
        assert_eq!(text("1.5").as_deref(), Some("1.5"));
        assert_eq!(
            text("{ \"b\": [1, null, \"x\\n\"], \"a\": {} }").as_deref(),
            Some("{\"b\":[1,null,\"x\\n\"],\"a\":{}}")
        );
    }

    #[test]
    fn number_with_many_digits_is_the_one_that_vault_wrote() {
        // A reader that multiplies powers of ten is one off in the last place of each.
        for number in [
            "0.0030858270511558666",
            "0.009431923323631389",
            "0.0016823593552293405",
            "1e-7",
            "9007199254740991",
        ] {
            assert_eq!(text(number).as_deref(), Some(number));
            let list = format!("[{number}]");
            assert_eq!(text(&list), Some(list));
        }
    }

    // b37, b38
    #[test]
    fn duplicate_names_inexact_numbers_and_depth_are_refused() {
        let refused = |json: &str| assert!(serde_json::from_str::<Value>(json).is_err());
        refused("{\"a\":1,\"a\":2}");
        refused("1e999");
        refused("123456789012345678901234567890");
        let many: Vec<String> = (0..5000).map(|n| format!("\"{n}\":1")).collect();
        refused(&format!("{{{}}}", many.join(",")));
        refused(&"[".repeat(10_000));
        refused(&format!("{}{}", "[".repeat(10_000), "]".repeat(10_000)));
    }
}
