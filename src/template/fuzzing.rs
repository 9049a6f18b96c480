//! Promises about every template.

use std::collections::BTreeMap;

use minijinja::Value;

use super::{Failure, Known, Template, Values, engine, table};

pub(crate) use super::filters::fuzzing::escapes;

/// A value that no error may show.
const CANARY: &str = "s.canary";
/// Longest template that is tried: a few loops within each other take any time.
const SOURCE_MAX: usize = 200;

/// Checks a template, and fills it in.
pub(crate) fn template(input: &[u8]) {
    let Ok(source) = std::str::from_utf8(input) else {
        return;
    };
    let counts = |word: &str| source.matches(word).count();
    // Loops and repetition are the manifest's own to pay for.
    if source.len() > SOURCE_MAX
        || counts("for") > 1
        || source.contains('*')
        || source.contains("range")
    {
        return;
    }
    let Ok(template) = Template::parse(source) else {
        return;
    };
    let mut known = Known::new(None);
    known.add("orders_db".to_owned(), Some(&["password".to_owned()]));
    for mistake in template.unknown(&known) {
        assert!(mistake.starts_with("line "), "{mistake}");
        // The engine panics at others, so that no such template is ever filled in.
        if mistake.contains("step of a slice") {
            return;
        }
    }
    for name in template.names() {
        assert!(!name.is_empty());
        template.fields_of(name);
    }
    let secret = || Value::from(CANARY);
    let fields = BTreeMap::from([("password".to_owned(), secret())]);
    let values = Values(BTreeMap::from([
        ("app".to_owned(), Value::from("timeline")),
        ("password".to_owned(), secret()),
        ("orders_db".to_owned(), table(fields)),
    ]));
    let failure = template.render_file(&values).err();
    if let Some(Failure { reason, .. }) = failure {
        let is_quoted = reason.contains(CANARY) && !source.contains(CANARY);
        assert!(!is_quoted, "{reason}");
    }
    match template.render(&values) {
        // What keeps values to their line changes nothing else.
        Ok(text) => {
            let unguarded = engine().render_str(source, &values.0);
            assert_eq!(unguarded.ok().as_ref(), Some(text.expose()), "{source}");
            let file = template.render_file(&values).expect("a text is one too");
            assert_eq!(file.expose(), text.expose().as_bytes(), "{source}");
        }
        Err(error) => assert!(
            !error.reason.contains(CANARY) || source.contains(CANARY),
            "{error:?}"
        ),
    }
}
