//! JSON as far as it is written by hand: texts in quotes, and the numbers that have an exact form.

/// The largest number up to which a fraction holds each integer.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Writes a text with its quotes.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Says whether a number that is no integer is written as it came: one that was rounded would be a wrong secret.
pub(crate) fn is_exact(number: f64) -> bool {
    number.abs() < EXACT
}
