//! Whole tables, such as a dependency: a template reads one value or another of them, and writes none as a whole.
//!
//! The library's filters take a text of anything, and `items` takes the values out of a table. So these filters refuse a
//! table, and what they make of one is known as a part of it.

use std::collections::BTreeMap;

use minijinja::value::{Rest, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, State, Value, filters};

use super::value::{WHOLE, is_whole, names_in, pair_of_table, table};

/// Puts filters that know tables in the place of the library's own.
pub(super) fn add(engine: &mut Environment<'_>) {
    let of_texts = [
        ("capitalize", Value::from_function(filters::capitalize)),
        ("e", Value::from_function(filters::escape)),
        ("escape", Value::from_function(filters::escape)),
        ("format", Value::from_function(filters::format)),
        ("indent", Value::from_function(filters::indent)),
        ("join", Value::from_function(filters::join)),
        ("lines", Value::from_function(filters::lines)),
        ("lower", Value::from_function(filters::lower)),
        ("pprint", Value::from_function(filters::pprint)),
        ("replace", Value::from_function(filters::replace)),
        ("safe", Value::from_function(filters::safe)),
        ("split", Value::from_function(filters::split)),
        ("string", Value::from_function(filters::string)),
        ("title", Value::from_function(filters::title)),
        ("trim", Value::from_function(filters::trim)),
        ("upper", Value::from_function(filters::upper)),
    ];
    for (name, filter) in of_texts {
        put(engine, name, move |state, arguments| {
            if arguments.iter().any(is_whole) {
                return Err(WHOLE.into());
            }
            filter.call(state, arguments)
        });
    }
    let of_pairs = [
        ("dictsort", Value::from_function(filters::dictsort)),
        ("items", Value::from_function(filters::items)),
    ];
    for (name, filter) in of_pairs {
        put(engine, name, move |state, arguments| {
            let made = filter.call(state, arguments)?;
            if !arguments.iter().any(|it| names_in(it).is_some()) {
                return Ok(made);
            }
            let pairs = made.try_iter()?.map(|pair| {
                let [name, value] = [0, 1].map(|index| pair.get_item_by_index(index));
                Ok(pair_of_table(name?, value?))
            });
            Ok(Value::from(pairs.collect::<Result<Vec<_>, Error>>()?))
        });
    }
    let chain = Value::from_function(filters::chain);
    put(engine, "chain", move |state, arguments| {
        let made = chain.call(state, arguments)?;
        if made.kind() != ValueKind::Map || !arguments.iter().any(|it| names_in(it).is_some()) {
            return Ok(made);
        }
        let mut merged = BTreeMap::new();
        for name in made.try_iter()? {
            merged.insert(name.to_string(), made.get_item(&name)?);
        }
        Ok(table(merged))
    });
}

fn put(
    engine: &mut Environment<'_>,
    name: &'static str,
    filter: impl Fn(&mut State<'_, '_>, &[Value]) -> Result<Value, Error> + Send + Sync + 'static,
) {
    engine.add_filter(
        name,
        move |state: &mut State<'_, '_>, arguments: Rest<ValueOrKwargs>| {
            filter(state, &arguments.into_values())
        },
    );
}
