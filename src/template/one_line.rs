//! Values beside text: such a value may not end the line, which would begin another entry of the file.
//!
//! Only a value that stands alone on its line, such as a certificate, may have lines of its own. Which value stands alone
//! is seen in the template, before there is any value: each other one is handed to a filter that no template can name.

use std::ops::Range;

use minijinja::machinery::{Token, tokenize};
use minijinja::value::ValueKind;
use minijinja::{Environment, Error, Value};

use super::unfit::Unfit;
use super::value::printed;

const FILTER: &str = "one_line";

/// Adds the filter, where a template is filled in.
pub(super) fn add(engine: &mut Environment<'_>) {
    engine.add_filter(FILTER, one_line);
}

/// Hands each value that has text beside it on its line to the filter; every line keeps its number.
pub(super) fn guard(engine: &Environment<'_>, source: &str) -> String {
    let mut guarded = String::new();
    let mut done = 0;
    for value in beside_text(engine, source) {
        guarded.push_str(&source[done..value.start]);
        guarded.push('(');
        guarded.push_str(&source[value.clone()]);
        guarded.push_str(") | ");
        guarded.push_str(FILTER);
        done = value.end;
    }
    guarded.push_str(&source[done..]);
    guarded
}

/// The values of one line.
#[derive(Default)]
struct Line {
    has_text: bool,
    values: Vec<Range<usize>>,
}

impl Line {
    fn end(&mut self, found: &mut Vec<Range<usize>>) {
        let line = std::mem::take(self);
        if line.has_text {
            found.extend(line.values);
        }
    }
}

/// Finds the expressions that have text beside them, where they lie between their braces.
fn beside_text(engine: &Environment<'_>, source: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut line = Line::default();
    let mut start = 0;
    let mut has_name = false;
    let tokens = tokenize(source, false, engine.syntax().clone());
    for (token, span) in tokens.map_while(Result::ok) {
        match token {
            Token::TemplateData(text) => {
                for (index, part) in text.split(['\r', '\n']).enumerate() {
                    if index > 0 {
                        line.end(&mut found);
                    }
                    line.has_text |= !part.trim().is_empty();
                }
            }
            Token::VariableStart => {
                start = span.end_offset as usize;
                has_name = false;
            }
            Token::Ident(_) => has_name = true,
            // Without a name there is no value, only what the manifest itself says.
            Token::VariableEnd if has_name => line.values.push(start..span.start_offset as usize),
            _ => {}
        }
    }
    line.end(&mut found);
    found
}

fn one_line(value: &Value) -> Result<Value, Error> {
    let value = match value.kind() {
        ValueKind::Undefined | ValueKind::Invalid | ValueKind::String => value.clone(),
        _ => Value::from(printed(value)?),
    };
    let has_line_end = |text: &str| text.contains(['\r', '\n', '\0']);
    if !value.is_safe() && value.as_str().is_some_and(has_line_end) {
        let reason = "a value beside other text holds a line end or a NUL byte; use the filter of its place, or `| safe` if that is meant";
        return Err(Unfit(reason).into());
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::super::engine;
    use super::*;

    #[test]
    fn value_with_text_on_its_line_is_guarded() {
        for (source, guarded) in [
            ("{{ a }}", "{{ a }}"),
            ("{{ a }}{{ b }}\n", "{{ a }}{{ b }}\n"),
            ("key: |\n  {{ a }}\n", "key: |\n  {{ a }}\n"),
            ("{# text #}{{ a }}{# text #}", "{# text #}{{ a }}{# text #}"),
            ("x={{ a }}", "x={{( a ) | one_line}}"),
            ("{{a}}x", "{{(a) | one_line}}x"),
            ("x\r\n{{ a }}\r\n", "x\r\n{{ a }}\r\n"),
            (
                "{{ a }}\n{{ b }}:{{ c }}\n{{ d }}",
                "{{ a }}\n{{( b ) | one_line}}:{{( c ) | one_line}}\n{{ d }}",
            ),
            ("x\n{{- a -}}\n\ny", "x\n{{-( a ) | one_line-}}\n\ny"),
            (
                "{% if a %}x={% endif %}{{ a }}",
                "{% if a %}x={% endif %}{{( a ) | one_line}}",
            ),
            (
                "{% for a in b %}{{ a }}\n{% endfor %}",
                "{% for a in b %}{{ a }}\n{% endfor %}",
            ),
            ("x{{ '\n' }}y{{ 1 }}", "x{{ '\n' }}y{{ 1 }}"),
            (
                "{% raw %}{{ a }}{% endraw %}x",
                "{% raw %}{{ a }}{% endraw %}x",
            ),
            ("x={{\n a\n}}\n", "x={{(\n a\n) | one_line}}\n"),
            ("ü={{ {'a': b} }}", "ü={{( {'a': b} ) | one_line}}"),
        ] {
            assert_eq!(guard(&engine(), source), guarded, "{source}");
        }
    }
}
