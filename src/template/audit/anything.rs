//! Something in the place of every value, for a look at templates before there is any.

use std::fmt;
use std::sync::Arc;

use minijinja::Value;
use minijinja::value::{Enumerator, Object, ObjectRepr};

/// A scope in which every name but those of functions is there.
#[derive(Debug)]
pub(super) struct Anywhere(pub(super) Vec<String>);

impl Object for Anywhere {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let name = key.as_str()?;
        (!self.0.iter().any(|function| function == name))
            .then(|| Value::from_object(Anything(name.to_owned())))
    }
}

/// A text of which every field is there.
#[derive(Debug)]
struct Anything(String);

impl Object for Anything {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        Some(Value::from(key.as_str()?))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::NonEnumerable
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
