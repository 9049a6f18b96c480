//! The values of templates: tables of names, and what an answer or a sample holds, which is printed as JSON has it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use minijinja::value::{Enumerator, Object, ObjectExt, ObjectRepr, ValueKind};
use minijinja::{Environment, Error, Output, State, Value, escape_formatter};

use super::json;
use super::unfit::Unfit;
use crate::json::is_exact;

/// The deepest list that is looked through: one that holds itself has no end.
const DEPTH_MAX: usize = 100;

/// The mistake of a template that writes a table of names, such as a whole dependency.
pub(super) const WHOLE: Unfit = Unfit(
    "a whole table is written, with every value in it; name one of its values, or use `| tojson` if that is meant",
);

/// The mistake of a template that writes a value which is null.
const NULL: Unfit = Unfit("a value is null; ask with `if`, or use `default(…, true)`");

/// Makes a table of names, such as a dependency with its fields.
pub(crate) fn table(values: BTreeMap<String, Value>) -> Value {
    Value::from_object(Table(values))
}

/// Makes a pair of a name of a table and its value, which is a part of the table still.
pub(super) fn pair_of_table(name: Value, value: Value) -> Value {
    Value::from_object(Pair([name, value]))
}

/// Makes a list.
pub(crate) fn list(items: Vec<Value>) -> Value {
    Value::from_object(Items(items))
}

/// Makes an object, whose members keep their order.
pub(crate) fn object(members: Vec<(String, Value)>) -> Value {
    Value::from_object(Members(members))
}

/// Makes a number; none where it could not be written as it came.
pub(crate) fn number(number: &serde_json::Number) -> Option<Value> {
    match (number.as_i64(), number.as_u64(), number.as_f64()) {
        (Some(number), ..) => Some(Value::from(number)),
        (_, Some(number), _) => Some(Value::from(number)),
        (.., Some(number)) if is_exact(number) => Some(Value::from(number)),
        _ => None,
    }
}

/// Lists the names in a table; none where the value is something else.
pub(super) fn names_in(value: &Value) -> Option<impl Iterator<Item = &str>> {
    let table = value.downcast_object_ref::<Table>()?;
    Some(table.0.keys().map(String::as_str))
}

/// Reads a value from JSON.
pub(super) fn read_json(text: &str) -> Result<Value, Unfit> {
    let json = serde_json::from_str(text);
    // The library's message may quote the text.
    to_value(json.map_err(|_| Unfit("a value for `fromjson` is not JSON"))?)
}

fn to_value(json: serde_json::Value) -> Result<Value, Unfit> {
    use serde_json::Value as Json;
    Ok(match json {
        Json::Null => Value::from(()),
        Json::Bool(is_true) => Value::from(is_true),
        Json::Number(digits) => number(&digits).ok_or(Unfit(
            "a value for `fromjson` has a number that is too large",
        ))?,
        Json::String(text) => Value::from(text),
        Json::Array(items) => {
            let items = items.into_iter().map(to_value);
            list(items.collect::<Result<_, _>>()?)
        }
        Json::Object(members) => {
            let members = members.into_iter();
            let members = members.map(|(name, member)| Ok((name, to_value(member)?)));
            object(members.collect::<Result<_, Unfit>>()?)
        }
    })
}

/// Has values printed as they are to be.
pub(super) fn add_formatter(engine: &mut Environment<'_>) {
    engine.set_formatter(
        |out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value| match value.kind() {
            ValueKind::String | ValueKind::Undefined => escape_formatter(out, state, value),
            _ => escape_formatter(out, state, &Value::from(printed(value)?)),
        },
    );
}

/// Returns the text of a value that is no string: one of an answer is printed as compact JSON.
pub(super) fn printed(value: &Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::None => Err(NULL.into()),
        ValueKind::Number | ValueKind::Bool => json::write(value),
        _ if is_of_an_answer(value) => json::write(value),
        _ if is_whole(value) => Err(WHOLE.into()),
        _ => Ok(value.to_string()),
    }
}

/// Says whether a value is a list or an object of JSON, and not one that the template makes.
pub(super) fn is_of_an_answer(value: &Value) -> bool {
    value.downcast_object_ref::<Items>().is_some()
        || value.downcast_object_ref::<Members>().is_some()
}

/// Says whether a value is a table, or a list or an object of the template with one in it.
pub(super) fn is_whole(value: &Value) -> bool {
    holds_table(value, 0)
}

fn holds_table(value: &Value, depth: usize) -> bool {
    if names_in(value).is_some() || value.downcast_object_ref::<Pair>().is_some() {
        return true;
    }
    if is_of_an_answer(value) || depth > DEPTH_MAX {
        return false;
    }
    let below = |item: &Value| holds_table(item, depth + 1);
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => value
            .try_iter()
            .is_ok_and(|mut items| items.any(|item| below(&item))),
        ValueKind::Map => value.try_iter().is_ok_and(|mut names| {
            names.any(|name| value.get_item(&name).is_ok_and(|item| below(&item)))
        }),
        _ => false,
    }
}

/// A table of names.
#[derive(Debug)]
struct Table(BTreeMap<String, Value>);

impl Object for Table {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.get(key.as_str()?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        self.mapped_enumerator(|table| {
            Box::new(table.0.keys().map(|name| Value::from(name.as_str())))
        })
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Where no error can be told, no value is.
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// A name of a table and its value.
#[derive(Debug)]
struct Pair([Value; 2]);

impl Object for Pair {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.get(key.as_usize()?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.0.len())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Where no error can be told, no value is.
        let [name, _] = &self.0;
        write!(f, "{name}")
    }
}

/// A list of JSON.
#[derive(Debug)]
struct Items(Vec<Value>);

impl Object for Items {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.get(key.as_usize()?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.0.len())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        render(&Value::from_dyn_object(Arc::clone(self)), f)
    }
}

/// An object of JSON.
#[derive(Debug)]
struct Members(Vec<(String, Value)>);

impl Object for Members {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let key = key.as_str()?;
        let (_, value) = self.0.iter().find(|(name, _)| name == key)?;
        Some(value.clone())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        self.mapped_enumerator(|object| {
            Box::new(object.0.iter().map(|(name, _)| Value::from(name.as_str())))
        })
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        render(&Value::from_dyn_object(Arc::clone(self)), f)
    }
}

/// Prints a list or an object within a text, as `~` joins them.
fn render(value: &Value, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    // What is nested too deep leaves nothing: an error here would be a panic elsewhere.
    f.write_str(&json::write(value).unwrap_or_default())
}
