//! Files that are no text: a template that is one `{{ … | b64decode }}`, with nothing beside it.
//!
//! The language knows texts alone. So such a template gives the text in base64, which is decoded behind it.

use minijinja::machinery::ast::{Expr, Stmt};
use minijinja::machinery::{Token, parse, tokenize};
use minijinja::{Environment, Error, Value};

use super::filters::{decoded, text};

const FILTER: &str = "base64";

/// Adds the filter that lets pass what can be decoded, where a template is filled in.
pub(super) fn add(engine: &mut Environment<'_>) {
    engine.add_filter(FILTER, |value: &Value| -> Result<String, Error> {
        let encoded = text(value)?;
        decoded(&encoded)?;
        Ok(encoded)
    });
}

/// Returns the template that gives the base64 of the whole file, if this one is such a file's.
pub(super) fn encoded(engine: &Environment<'_>, source: &str) -> Option<String> {
    let Ok(Stmt::Template(template)) = parse(source, "", engine.syntax().clone()) else {
        return None;
    };
    match template.children.as_slice() {
        [Stmt::EmitExpr(it)] => match &it.expr {
            Expr::Filter(it) if it.name == "b64decode" && it.args.is_empty() => {}
            _ => return None,
        },
        _ => return None,
    }
    let tokens = tokenize(source, false, engine.syntax().clone()).filter_map(Result::ok);
    let names = tokens.filter(|(token, _)| matches!(token, Token::Ident(_)));
    let (_, span) = names.last()?;
    let (before, behind) = (span.start_offset as usize, span.end_offset as usize);
    Some([&source[..before], FILTER, &source[behind..]].concat())
}

#[cfg(test)]
mod tests {
    use super::super::engine;

    #[test]
    fn template_of_bytes_is_one_expression_alone() {
        for (source, encoded) in [
            ("{{ a | b64decode }}", Some("{{ a | base64 }}")),
            (
                "{#x#}{{ a.b['c']|b64decode-}}",
                Some("{#x#}{{ a.b['c']|base64-}}"),
            ),
            (
                "{{ (b64decode ~ 'b64decode') | b64decode }}",
                Some("{{ (b64decode ~ 'b64decode') | base64 }}"),
            ),
            (
                "{{ (a | b64decode) | b64decode() }}",
                Some("{{ (a | b64decode) | base64() }}"),
            ),
            ("{{ a }}", None),
            ("{{ a | b64decode }}\n", None),
            ("{{ a | b64decode }}{{ b | b64decode }}", None),
            ("{{ a | b64decode | trim }}", None),
            ("{{ a ~ b | b64decode }}", None),
            ("{{ a | b64decode if b }}", None),
            ("{% if a %}{{ b | b64decode }}{% endif %}", None),
        ] {
            assert_eq!(
                super::encoded(&engine(), source).as_deref(),
                encoded,
                "{source}"
            );
        }
    }
}
