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
    let fields = table(BTreeMap::from([(
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
    known.add_texts("certificate", ["key", "chain"]);
    known.add_tables("certificates", ["kafka".to_owned()], ["key"]);
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
            "line 1: unknown filter `uper` (is `upper` meant?)",
        ),
        (
            "a\nb {{ password | tojsn }}",
            "line 2: unknown filter `tojsn` (is `tojson` meant?)",
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
        (
            "{{ app[::-1] }}",
            "line 1: the step of a slice is a positive number; `| reverse` turns",
        ),
        (
            "{{ app[0:9:0] }}",
            "the step of a slice is a positive number",
        ),
        (
            "{{ app[::app] }}",
            "the step of a slice is a positive number",
        ),
        ("{{ [app] | select('od') }}", "unknown test `od`"),
        (
            "{% if password is defind %}{% endif %}",
            "unknown test `defind` (is `defined` meant?)",
        ),
        (
            "{{ rang(3) }}",
            "unknown function `rang` (is `range` meant?)",
        ),
        ("{{ password() }}", "unknown function `password`"),
        ("{{ debug() }}", "unknown function `debug`"),
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
            "`passwort` is not known (is `password` meant?)",
        ),
        (
            "{{ db.passwort }}",
            "`passwort` is none of the `fields` of `db` (is `password` meant?)",
        ),
        (
            "{{ db['passwort'] }}",
            "`passwort` is none of the `fields` of `db`",
        ),
        ("{{ dbb.password }}", "`dbb` is no dependency"),
        (
            "{{ opendb.password }}",
            "`opendb` is no dependency (is `open_db` meant?)",
        ),
        (
            "{{ app.length }}",
            "`app` is a text and has no field `length`",
        ),
        (
            "{{ env.HOME.length }}",
            "`env.HOME` is a text and has no field `length`",
        ),
        (
            "{{ db.passwort.a }}",
            "`passwort` is none of the `fields` of `db` (is `password` meant?)",
        ),
        (
            "{{ db }}",
            "`db` is a whole table, with every value in it: name one of its values, or write `| tojson` if that is meant; known are password, username",
        ),
        ("{{ 'x' ~ db }}", "`db` is a whole table"),
        ("{{ open_db }}", "`open_db` is a whole table"),
        ("{{ env }}", "`env` is a whole table"),
        ("{{ certificate }}", "known are chain, key"),
        ("{{ certificates }}", "`certificates` is a whole table"),
        (
            "{{ certificates.kafka }}",
            "`certificates.kafka` is a whole table",
        ),
        ("{{ app.name }}", "`app` is a text"),
        (
            "{{ env.HOMM }}",
            "the variable HOMM is not set (is `HOME` meant?)",
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
        "{{ password.length }}{{ db.password.a.b }}{{ open_db.a.b[0].c }}",
        "{{ db | tojson }}{{ db | length }}{% if db and certificates.kafka %}{% endif %}",
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
    let mut beside = known.within(None);
    beside.add("orders_db".to_owned(), None);
    for (source, mistakes) in [("{{ config.user }}", 0), ("{{ ordersdb.user }}", 1)] {
        let template = Template::parse(source).expect("valid");
        assert_eq!(template.unknown(&beside).len(), mistakes, "{source}");
    }
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

#[test]
fn value_is_what_it_was_in_the_answer_and_printed_as_json() {
    let number = |text: &str| number(&serde_json::from_str(text).expect("a number"));
    let list = list(vec![Value::from("a b"), Value::from(1), Value::from(())]);
    let config = object(vec![
        ("user".to_owned(), Value::from("x\"y")),
        ("a".to_owned(), Value::from(true)),
    ]);
    let mut values = values(&[("text", "5")]);
    for (name, value) in [
        ("large", number("18446744073709551615").expect("exact")),
        ("small", number("1e-7").expect("exact")),
        ("whole", number("5.0").expect("exact")),
        ("port", number("5432").expect("exact")),
        ("off", Value::from(false)),
        ("list", list),
        ("cfg", config),
        (
            "db",
            table(BTreeMap::from([(
                "password".to_owned(),
                Value::from("canary"),
            )])),
        ),
    ] {
        values.0.insert(name.to_owned(), value);
    }
    let render = |source: &str| {
        let template = Template::parse(source).expect("valid");
        let rendered = template.render(&values);
        rendered
            .map(|text| text.expose().clone())
            .map_err(|failure| failure.reason)
    };
    for (source, text) in [
        (
            "{{ large }} {{ small }} {{ whole }} {{ off }}",
            "18446744073709551615 1e-7 5.0 false",
        ),
        ("{{ port + 1 }}{% if not off %} off{% endif %}", "5433 off"),
        (
            "{% for one in list %}<{{ one | default('-', true) }}>{% endfor %}",
            "<a b><1><->",
        ),
        (
            "{{ list }}|x={{ list }}|{{ list | last is none }}",
            r#"["a b",1,null]|x=["a b",1,null]|true"#,
        ),
        (
            "{{ cfg }} {{ cfg.user }} {{ cfg | tojson }}",
            r#"{"user":"x\"y","a":true} x"y {"user":"x\"y","a":true}"#,
        ),
        (
            "{{ 'x' ~ cfg ~ list }}",
            r#"x{"user":"x\"y","a":true}["a b",1,null]"#,
        ),
        (
            "{{ cfg | b64encode | b64decode }}{{ (cfg | fromjson).a }}",
            r#"{"user":"x\"y","a":true}true"#,
        ),
        (
            "{% for name, value in cfg | items %}{{ name }}={{ value }};{% endfor %}",
            "user=x\"y;a=true;",
        ),
        (
            "{{ db | tojson }}{% for name in db %}{{ name }}{% endfor %}",
            r#"{"password":"canary"}password"#,
        ),
        (
            "{% if cfg and list and db %}there{% endif %}{{ cfg | length }}{{ list[0] }}",
            "there2a b",
        ),
        (
            "{% autoescape 'html' %}{{ cfg.user }}{{ list }}{% endautoescape %}",
            "x&quot;y[&quot;a b&quot;,1,null]",
        ),
    ] {
        assert_eq!(render(source).as_deref(), Ok(text), "{source}");
    }
    for (source, reason) in [
        ("\n{{ list[2] }}", "line 2: a value is null"),
        ("x={{ list[2] }}", "line 1: a value is null"),
        (
            "{% set it = db %}{{ it }}",
            "line 1: a whole table is written",
        ),
        (
            "{{ db | default('') }}x",
            "line 1: a whole table is written",
        ),
        (
            "{{ db | pgpass }}",
            "line 1: a filter that takes a text is given something else",
        ),
    ] {
        let error = render(source).expect_err("it cannot be written");
        assert!(
            error.contains(reason) && !error.contains("canary"),
            "{source}: {error}"
        );
    }
    // Where no error can be told, the names alone are.
    assert_eq!(
        render("{% set it = db %}{{ 'x' ~ it }}").as_deref(),
        Ok(r#"x{"password"}"#)
    );
}

/// Fills a template in with a dependency `orders`, whose fields are a text and an object.
fn with_orders(source: &str) -> Result<String, Failure> {
    let config = object(vec![("user".to_owned(), Value::from("canary-u"))]);
    let fields = [
        ("cfg", config),
        ("password", Value::from("canary-p")),
        ("port", Value::from(5432)),
    ];
    let fields = fields.map(|(name, value)| (name.to_owned(), value));
    let values = BTreeMap::from([("orders".to_owned(), table(BTreeMap::from(fields)))]);
    let template =
        Template::parse(source).unwrap_or_else(|mistakes| panic!("{source}: {mistakes:?}"));
    template
        .render(&Values(values))
        .map(|text| text.expose().clone())
}

#[test]
fn whole_table_is_written_in_no_way_but_tojson() {
    for source in [
        "{{ orders }}",
        "{{ orders | string }}",
        "{{ orders | upper }}",
        "{{ orders | trim | safe }}",
        "{{ orders | safe }}",
        "{{ orders | pprint }}",
        "{{ orders | join(',') }}",
        "{{ '%s' | format(orders) }}",
        "{{ 'a' | replace('a', orders) }}",
        "{{ [orders] }}",
        "{{ [[1, {'a': orders}]] }}",
        "{{ [orders] | string }}",
        "{{ [orders] | join(',') }}",
        "{{ orders | items }}",
        "{{ orders | items | list }}",
        "{{ orders | items | string }}",
        "{{ orders | dictsort }}",
        "{{ orders | dictsort | first }}",
        "{{ orders | dictsort(by='value') | join(',') }}",
        "{{ orders | chain({'a': 1}) }}",
        "{% set o = orders %}{{ o | lower }}",
        "{% for pair in orders | items %}{{ pair }}{% endfor %}",
    ] {
        let failure = with_orders(source).expect_err(source);
        let expected = "line 1: a whole table is written";
        assert!(
            failure.reason.starts_with(expected),
            "{source}: {}",
            failure.reason
        );
        assert!(failure.is_certain, "{source}");
    }
    // What is joined cannot fail, and holds no value.
    for source in ["{{ '' ~ [orders] }}", "{{ (orders | items | list) ~ '' }}"] {
        let text = with_orders(source).unwrap_or_else(|failure| panic!("{}", failure.reason));
        assert!(!text.contains("canary"), "{source}: {text}");
    }
    for (source, expected) in [
        (
            "{{ orders | length }}{{ orders | list | join('+') }}",
            "3cfg+password+port",
        ),
        (
            "{% for name, value in orders | items %}{{ name }}={{ value }};{% endfor %}",
            "cfg={\"user\":\"canary-u\"};password=canary-p;port=5432;",
        ),
        (
            "{% for name, value in orders | dictsort(reverse=true) %}{{ name }} {% endfor %}",
            "port password cfg ",
        ),
        ("{{ (orders | chain({'a': 1})).a }}", "1"),
        ("{{ orders.cfg | items }}", "[('user', 'canary-u')]"),
        ("{{ [orders.port, 'x'] | join('-') | upper }}", "5432-X"),
        ("{{ [1, 'a'] }}", "[1, 'a']"),
        (
            "{{ orders | tojson }}",
            r#"{"cfg":{"user":"canary-u"},"password":"canary-p","port":5432}"#,
        ),
    ] {
        assert_eq!(
            with_orders(source).ok().as_deref(),
            Some(expected),
            "{source}"
        );
    }
}

#[test]
fn number_where_a_text_is_needed_is_named_as_what_it_is() {
    for source in [
        "{{ orders.port | length }}",
        "{{ orders.port | split('3') }}",
        "{{ orders.port + 'x' }}",
    ] {
        let failure = with_orders(source).expect_err(source);
        let expected = "line 1: invalid operation: a value is of another kind than what is done with it needs, such as a number in the place of a text; `| string` makes a text of it";
        assert_eq!(failure.reason, expected, "{source}");
    }
}
