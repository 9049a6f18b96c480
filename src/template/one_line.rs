//! Values beside text: such a value may not end the line, which would begin another entry of the file.
//!
//! Only a value that stands alone on its line, such as a certificate, may have lines of its own. Which value stands alone
//! is seen in the template ([`beside`]), before there is any value: each other one is handed to a filter that no template
//! can name.

use std::ops::Range;

use minijinja::machinery::{Token, tokenize};
use minijinja::value::ValueKind;
use minijinja::{Environment, Error, Value};

use super::beside;
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

/// Finds the expressions that may have text beside them, where they lie between their braces.
fn beside_text(engine: &Environment<'_>, source: &str) -> Vec<Range<usize>> {
    let beside = beside::text(engine, source);
    let mut found = Vec::new();
    let (mut open, mut start) = (0, 0);
    let mut has_name = false;
    let tokens = tokenize(source, false, engine.syntax().clone());
    for (token, span) in tokens.map_while(Result::ok) {
        match token {
            Token::VariableStart => {
                open = span.start_offset as usize;
                start = span.end_offset as usize;
                has_name = false;
            }
            Token::Ident(_) => has_name = true,
            // Without a name there is no value, only what the manifest itself says.
            Token::VariableEnd if has_name => {
                let end = span.start_offset as usize;
                // The library has some expressions begin with the braces.
                if beside.range(open..end).next().is_some() {
                    found.push(start..end);
                }
            }
            _ => {}
        }
    }
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
            // A line end that may not be written ends no line.
            (
                "x={% if a %}\n{% endif %}{{ b }}",
                "x={% if a %}\n{% endif %}{{( b ) | one_line}}",
            ),
            (
                "{% if a %}x={% else %}\n{% endif %}{{ b }}",
                "{% if a %}x={% else %}\n{% endif %}{{( b ) | one_line}}",
            ),
            (
                "{{ a }}{% if b %}\n{% endif %}x",
                "{{( a ) | one_line}}{% if b %}\n{% endif %}x",
            ),
            (
                "{% if a %}{{ b }}{% else %}x{% endif %}\n",
                "{% if a %}{{ b }}{% else %}x{% endif %}\n",
            ),
            (
                "x={% for a in b %}\n{% else %}{{ c }}{% endfor %}{{ d }}",
                "x={% for a in b %}\n{% else %}{{( c ) | one_line}}{% endfor %}{{( d ) | one_line}}",
            ),
            // The next round goes on in the line of the last one.
            (
                "{% for a in b %}{{ a }}\n- {% endfor %}",
                "{% for a in b %}{{( a ) | one_line}}\n- {% endfor %}",
            ),
            (
                "{% for a in b %}x\n{{ a }}{% endfor %}",
                "{% for a in b %}x\n{{( a ) | one_line}}{% endfor %}",
            ),
            // A filter may take blanks away, and what is set is written elsewhere.
            (
                "x={% filter trim %}\n{{ a }}\n{% endfilter %}",
                "x={% filter trim %}\n{{( a ) | one_line}}\n{% endfilter %}",
            ),
            (
                "{% filter trim %}x=\n{% endfilter %}{{ a }}",
                "{% filter trim %}x=\n{% endfilter %}{{( a ) | one_line}}",
            ),
            (
                "key: |\n{% filter indent(2, true) %}\n{{ a }}\n{% endfilter %}\nx",
                "key: |\n{% filter indent(2, true) %}\n{{ a }}\n{% endfilter %}\nx",
            ),
            (
                "x={% set a %}\n{{ b }}\n{% endset %}{{ a }}",
                "x={% set a %}\n{{ b }}\n{% endset %}{{( a ) | one_line}}",
            ),
            ("ü={{ {'a': b} }}", "ü={{( {'a': b} ) | one_line}}"),
        ] {
            assert_eq!(guard(&engine(), source), guarded, "{source}");
        }
    }
}
