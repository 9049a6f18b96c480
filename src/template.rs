//! Templates for extra files and for variables: Jinja's language, without includes and without the file system.

mod audit;
mod filters;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod known;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as _;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior};

use crate::secret::Secret;

use audit::Path;
use filters::Unfit;

pub(crate) use known::Known;
pub(crate) use minijinja::Value;

/// Names that every template knows besides the dependencies.
pub(crate) const RESERVED: [&str; 4] = ["app", "env", "environment", "secrets_dir"];

/// Returns the name of a dependency in templates, where a dash would be a minus.
pub(crate) fn identifier(dependency: &str) -> String {
    dependency.replace(['-', '.'], "_")
}

/// A template whose syntax is known to be right, and in which every filter, test, function and method is there.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    source: String,
    paths: Vec<Path>,
}

impl Template {
    /// Checks the syntax and, in every branch, what is done with values; each mistake begins with its line.
    pub(crate) fn parse(source: &str) -> Result<Template, Vec<String>> {
        let engine = engine();
        if let Err(error) = engine.template_from_str(source) {
            // The text is the manifest's, so the library's message can name it.
            return Err(vec![format!(
                "line {}: {}",
                error.line().unwrap_or(1),
                reason(&error)
            )]);
        }
        let found = audit::audit(&engine, source);
        if found.mistakes.is_empty() {
            Ok(Template {
                source: source.to_owned(),
                paths: found.paths,
            })
        } else {
            Err(found.mistakes)
        }
    }

    /// Lists the outermost names that must be there.
    pub(crate) fn names(&self) -> BTreeSet<&str> {
        let needed = self.paths.iter().filter(|path| !path.may_be_missing);
        needed.map(|path| path.root.as_str()).collect()
    }

    /// Lists the fields of this name that must be there.
    pub(crate) fn fields_of(&self, name: &str) -> BTreeSet<&str> {
        let needed = self.paths.iter().filter(|path| !path.may_be_missing);
        needed
            .filter(|path| path.root == name)
            .filter_map(|path| path.fields.first().map(String::as_str))
            .collect()
    }

    /// Says whether the template names this value, one name behind the other.
    pub(crate) fn mentions(&self, names: &[&str]) -> bool {
        self.paths.iter().any(|path| {
            let whole = std::iter::once(&path.root).chain(&path.fields);
            whole.map(String::as_str).eq(names.iter().copied())
        })
    }

    /// Lists names that are not there, whatever the values will be; each begins with its line.
    pub(crate) fn unknown(&self, known: &Known) -> Vec<String> {
        let mut unknown = Vec::new();
        for path in &self.paths {
            if let Some(text) = known.mistake(path) {
                let text = format!("line {}: {text}", path.line);
                if !unknown.contains(&text) {
                    unknown.push(text);
                }
            }
        }
        unknown
    }

    /// Renders the template; an error never quotes a value.
    pub(crate) fn render(&self, values: &Values) -> Result<Secret, Failure> {
        engine()
            .render_str(&self.source, &values.0)
            .map(Secret::new)
            .map_err(|error| Failure::new(&error, values))
    }
}

/// A template that cannot be filled in.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The line, then the mistake, without any value.
    pub reason: String,
    /// True where no other value would help.
    pub is_certain: bool,
}

impl Failure {
    fn new(error: &minijinja::Error, values: &Values) -> Failure {
        let line = error.line().unwrap_or(1);
        let unfit = error.source().and_then(|it| it.downcast_ref::<Unfit>());
        let reason = match (error.kind(), unfit) {
            (_, Some(unfit)) => format!("line {line}: {unfit}"),
            (ErrorKind::UndefinedError, _) => format!(
                "line {line} uses a value that is not there; known are {}",
                values.known()
            ),
            // Details of other errors may quote the value that was operated on.
            (kind, _) => format!("line {line}: {kind}"),
        };
        let is_certain = matches!(
            error.kind(),
            ErrorKind::UnknownFilter
                | ErrorKind::UnknownTest
                | ErrorKind::UnknownFunction
                | ErrorKind::UnknownMethod
                | ErrorKind::MissingArgument
                | ErrorKind::TooManyArguments
        );
        Failure { reason, is_certain }
    }
}

fn reason(error: &minijinja::Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

fn engine() -> Environment<'static> {
    let mut engine = Environment::new();
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    engine.set_auto_escape_callback(|_| AutoEscape::None);
    engine.set_syntax(
        SyntaxConfig::builder()
            .keep_trailing_newline(true)
            .build()
            .unwrap_or_default(),
    );
    filters::add(&mut engine);
    engine
}

/// The values that one template may use, by their names.
pub(crate) struct Values(pub BTreeMap<String, Value>);

impl Values {
    fn known(&self) -> String {
        let mut names = Vec::new();
        for (name, value) in &self.0 {
            // A map's iterator gives its keys; that of anything else gives values, which must not be named.
            match value.try_iter() {
                Ok(fields) if value.kind() == ValueKind::Map && name != "env" => {
                    names.extend(fields.map(|field| format!("{name}.{field}")))
                }
                _ => names.push(name.clone()),
            }
        }
        names.join(", ")
    }
}

/// Makes a value with fields; collected from an iterator, it would be a list of pairs.
pub(crate) fn map(values: BTreeMap<String, Value>) -> Value {
    Value::from_object(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(pairs: &[(&str, &str)]) -> Values {
        Values(
            pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), Value::from(*value)))
                .collect(),
        )
    }

    #[test]
    fn text_comes_out_as_written_with_values_unescaped() {
        let template = Template::parse("a:{{ password }}\n").expect("valid");
        let rendered = template
            .render(&values(&[("password", "<&\"'>")]))
            .expect("known");
        assert_eq!(rendered.expose(), "a:<&\"'>\n");
    }

    #[test]
    fn value_that_is_not_there_is_an_error_not_an_empty_string() {
        let template = Template::parse("{{ pasword }}").expect("valid");
        let error = template
            .render(&values(&[("password", "canary")]))
            .expect_err("unknown");
        let error = error.reason;
        assert!(
            error.contains("password") && !error.contains("canary"),
            "{error}"
        );
    }

    // t15
    #[test]
    fn field_is_reached_by_name_and_a_missing_one_shows_no_value() {
        let mut values = values(&[("app", "timeline")]);
        let fields = map(BTreeMap::from([(
            "password".to_owned(),
            Value::from("canary"),
        )]));
        values.0.insert("orders_db".to_owned(), fields);
        let render = |source| Template::parse(source).expect("valid").render(&values);
        let rendered = render("{{ orders_db.password }}").expect("known");
        assert_eq!(rendered.expose(), "canary");
        let error = render("{{ orders_db.pasword }}")
            .expect_err("unknown")
            .reason;
        assert!(
            error.ends_with("known are app, orders_db.password"),
            "{error}"
        );
    }

    // t15
    #[test]
    fn error_never_quotes_a_value() {
        for source in [
            "{{ password + 1 }}",
            "{{ password|int }}",
            "{{ [1][password] }}",
            "{{ [1] | map(password) }}",
            "{{ [1] | select(password) }}",
            "{{ password ~ '\n' | pgpass }}{{ (password ~ '\n') | pgpass }}",
        ] {
            let template = Template::parse(source).expect("valid");
            if let Err(error) = template.render(&values(&[("password", "canary")])) {
                assert!(!error.reason.contains("canary"), "{source}: {error:?}");
            }
        }
    }

    #[test]
    fn template_cannot_reach_the_file_system() {
        assert!(Template::parse("{% include \"/etc/passwd\" %}").is_err());
    }

    #[test]
    fn names_in_a_template_are_listed() {
        let source = "{{ orders_db.username }}{{ app }}{% for n in range(3) %}{{ n }}{{ loop.index }}{% endfor %}{{ port | d(1) }}";
        let template = Template::parse(source).expect("valid");
        assert_eq!(template.names(), BTreeSet::from(["app", "orders_db"]));
        assert_eq!(
            template.fields_of("orders_db"),
            BTreeSet::from(["username"])
        );
        assert!(template.mentions(&["port"]) && !template.mentions(&["username"]));
    }

    /// Audits a template, in a file of a dependency `db` with declared fields beside one without, before there is a
    /// value.
    fn audited(source: &str) -> Vec<String> {
        let fields = ["username", "password"].map(str::to_owned);
        let mut known = Known::new(Some(BTreeSet::from(["HOME".to_owned()])));
        known.add("db".to_owned(), Some(&fields));
        known.add("open_db".to_owned(), None);
        match Template::parse(source) {
            Ok(template) => template.unknown(&known.within(Some(&fields))),
            Err(mistakes) => mistakes,
        }
    }

    #[test]
    fn typing_error_is_found_in_every_branch() {
        for (source, text) in [
            (
                "{{ password | uper }}",
                "line 1: unknown filter `uper`; is `upper` meant?",
            ),
            (
                "a\nb {{ password | tojson }}",
                "line 2: unknown filter `tojson`",
            ),
            (
                "{% filter uper %}x{% endfilter %}",
                "line 1: unknown filter `uper`",
            ),
            (
                "{% set x | uper %}x{% endset %}",
                "line 1: unknown filter `uper`",
            ),
            ("{{ [app] | map('uper') }}", "unknown filter `uper`"),
            ("{{ [app] | select('od') }}", "unknown test `od`"),
            (
                "{% if password is defind %}{% endif %}",
                "unknown test `defind`; is `defined` meant?",
            ),
            (
                "{{ rang(3) }}",
                "unknown function `rang`; is `range` meant?",
            ),
            ("{{ password() }}", "unknown function `password`"),
            (
                "{{ password.upper() }}",
                "unknown method `upper`: a value has none; `| upper` is a filter",
            ),
            ("{{ 'a'.lower() }}", "unknown method `lower`"),
            (
                "{{ password | replace('a') }}",
                "the filter `replace` lacks an argument",
            ),
            (
                "{{ password | upper(1) }}",
                "the filter `upper` has an argument too many",
            ),
            (
                "{% if password is divisibleby %}{% endif %}",
                "the test `divisibleby` lacks an argument",
            ),
            ("{{ range() }}", "the function `range` lacks an argument"),
            (
                "{{ passwort }}",
                "`passwort` is not known; is `password` meant?",
            ),
            (
                "{{ db.passwort }}",
                "`passwort` is none of the `fields` of `db`; is `password` meant?",
            ),
            (
                "{{ db['passwort'] }}",
                "`passwort` is none of the `fields` of `db`",
            ),
            ("{{ dbb.password }}", "`dbb` is no dependency"),
            (
                "{{ opendb.password }}",
                "`opendb` is no dependency; is `open_db` meant?",
            ),
            (
                "{{ password.length }}",
                "`password` is a text and has no field `length`",
            ),
            (
                "{{ db.password.length }}",
                "`db.password` is a text and has no field `length`",
            ),
            (
                "{{ open_db.a.b }}",
                "`open_db.a` is a text and has no field `b`",
            ),
            ("{{ app.name }}", "`app` is a text"),
            (
                "{{ env.HOMM }}",
                "the variable HOMM is not set; is `HOME` meant?",
            ),
            ("{{ env.VAULT_TOKEN }}", "never there"),
            (
                "{% for x in passwort %}{% endfor %}",
                "`passwort` is not known",
            ),
            ("{% set a = passwort %}", "`passwort` is not known"),
            ("{{ [1, {'a': passwort}] }}", "`passwort` is not known"),
            (
                "{{ app | replace('a', passwort) }}",
                "`passwort` is not known",
            ),
        ] {
            let hidden = format!("{{% if app == 'another' %}}{source}{{% endif %}}");
            for source in [source, &hidden] {
                let found = audited(source);
                assert!(
                    found.iter().any(|found| found.contains(text)),
                    "{source}: {found:?}"
                );
            }
        }
    }

    #[test]
    fn expression_that_may_be_right_is_no_typing_error() {
        for source in [
            "{{ username }}:{{ db.password | pgpass }}@{{ open_db.anything }}",
            "{{ port | default('5432') }}{{ db.port | d(1) }}",
            "{% if port is defined %}:{{ port }}{% endif %}",
            "{{ env.HOME }}{{ env.PORT | default(1) }}{{ secrets_dir }}{{ environment }}",
            "{% for name, value in db | items %}{{ name }}={{ value | urlencode }}{{ loop.index }}{% endfor %}",
            "{% for x in open_db.hosts | split(',') %}{{ loop.cycle('a', 'b') }}{{ x.y }}{% endfor %}",
            "{% set ns = namespace(n=0) %}{% set ns.n = ns.n + 1 %}{{ ns.n }}",
            "{% with a = 1, b = app %}{{ a }}{{ b | replace('x', 'y') }}{% endwith %}",
            "{{ range(3) | join(',') }}{{ dict(a=1).a }}{{ [1, 2] | first }}",
            "{{ [3, 1] | sort | map('string') | join }}{{ ['a'] | select('in', 'ab') | list }}",
            "{% if password is startingwith 'a' and not (password is in ['x']) %}{% endif %}",
            "{{ password[0:3] }}{{ 'yes' if password else 'no' }}{{ password | trim | upper }}",
        ] {
            assert_eq!(audited(source), Vec::<String>::new(), "{source}");
        }
    }

    #[test]
    fn field_of_an_undeclared_dependency_is_taken_for_granted() {
        let known = Known::new(None);
        let template = Template::parse("{{ anything }}{{ env.ANY }}").expect("valid");
        assert_eq!(template.unknown(&known.within(None)), Vec::<String>::new());
        assert_eq!(template.unknown(&known).len(), 1);
        let token = Template::parse("{{ env.BAO_TOKEN }}").expect("valid");
        assert_eq!(token.unknown(&known).len(), 1);
    }

    #[test]
    fn suggested_names_exist_in_the_engine() {
        for name in audit::FILTERS {
            let found = Template::parse(&format!("{{{{ '' | {name} }}}}"));
            let is_unknown = |text: &String| text.contains("unknown");
            assert!(
                !found.is_err_and(|texts| texts.iter().any(is_unknown)),
                "{name}"
            );
        }
        for name in audit::TESTS {
            let found = Template::parse(&format!("{{{{ '' is {name} }}}}"));
            let is_unknown = |text: &String| text.contains("unknown");
            assert!(
                !found.is_err_and(|texts| texts.iter().any(is_unknown)),
                "{name}"
            );
        }
        for name in audit::FUNCTIONS {
            assert!(engine().globals().any(|(known, _)| known == name), "{name}");
        }
    }

    #[test]
    fn pgpass_escapes_separators_and_refuses_line_breaks() {
        let render = |value| {
            let template = Template::parse("{{ value | pgpass }}").expect("valid");
            template.render(&values(&[("value", value)]))
        };
        for (value, escaped) in [
            ("plain", "plain"),
            (r"p:w\d", r"p\:w\\d"),
            (r"\:", r"\\\:"),
            ("ü #*", "ü #*"),
            ("", ""),
        ] {
            assert_eq!(render(value).expect("fits").expose(), escaped);
        }
        for value in ["a\nb", "a\r", "a\0b"] {
            let failure = render(value).expect_err("another line");
            assert!(failure.reason.contains("pgpass"), "{failure:?}");
            assert!(!failure.is_certain, "{failure:?}");
        }
    }

    #[test]
    fn urlencode_leaves_nothing_that_ends_a_part_of_a_url() {
        let template = Template::parse("{{ value | urlencode }}").expect("valid");
        let rendered = template.render(&values(&[("value", "us/er@x:?#&=+ %")]));
        assert_eq!(
            rendered.expect("fits").expose(),
            "us%2Fer%40x%3A%3F%23%26%3D%2B%20%25"
        );
    }
}
