use std::collections::BTreeMap;

use super::*;
use crate::template::{Template, Values};

type Escape = fn(&str) -> Result<String, Unfit>;

#[test]
fn value_is_escaped_for_its_place() {
    for (name, escape, value, escaped) in [
        ("b64encode", b64encode as Escape, "", ""),
        ("b64encode", b64encode, "a:b?>", "YTpiPz4="),
        ("b64encode", b64encode, "ü\n\0", "w7wKAA=="),
        ("b64decode", b64decode, "YTpiPz4=", "a:b?>"),
        ("b64decode", b64decode, "YTpi\r\nPz4=\n", "a:b?>"),
        (
            "jaas",
            jaas,
            "a\"b\\n';/*\n\r\t\u{8}ü",
            r#""a\"b\\n';/*\n\r\t\bü""#,
        ),
        ("mycnf", mycnf, "", r#""""#),
        ("mycnf", mycnf, "a'b;#c = d ", r##""a'b;#c = d ""##),
        ("mycnf", mycnf, "a\"b\\n", r#""a\"b\\n""#),
        ("mycnf", mycnf, "a\nb\r\t\u{8}ü", r#""a\nb\r\t\bü""#),
        ("pgpass", pgpass, r"p:w\d ü", r"p\:w\\d ü"),
        ("pgservice", pgservice, r" '\#;=:ü x", r" '\#;=:ü x"),
        ("properties", properties, " a = b", r"\ a\ \=\ b"),
        ("properties", properties, "#!:\\", r"\#\!\:\\"),
        ("properties", properties, "a\nb\r\tc", r"a\nb\r\tc"),
        (
            "properties",
            properties,
            "ü€\u{1f600}\0\u{c}",
            r"\u00FC\u20AC\uD83D\uDE00\u0000\u000C",
        ),
        ("shell", shell, "", "''"),
        ("shell", shell, "$(x) `y` \"\\", "'$(x) `y` \"\\'"),
        ("shell", shell, "it's\n", "'it'\\''s\n'"),
        ("yaml", yaml, "", r#""""#),
        ("yaml", yaml, "no: 'yes' # {}", r#""no: 'yes' # {}""#),
        ("yaml", yaml, "\"\\", r#""\"\\""#),
        (
            "yaml",
            yaml,
            "a\nb\r\t\0\u{85}\u{2028}ü",
            r#""a\nb\r\t\x00\x85\u2028ü""#,
        ),
    ] {
        assert_eq!(escape(value).as_deref(), Ok(escaped), "{name} {value:?}");
    }
}

#[test]
fn value_that_its_place_cannot_hold_is_refused() {
    let long = "x".repeat(MYCNF_MAX - 2);
    assert!(mycnf(&long).is_ok());
    for (name, escape, value) in [
        ("b64decode", b64decode as Escape, "YTpi*"),
        ("b64decode", b64decode, "YTpiP"),
        ("b64decode", b64decode, "/w=="),
        ("jaas", jaas, "a\0"),
        ("mycnf", mycnf, "a\0"),
        ("mycnf", mycnf, &format!("{long}y")),
        ("pgpass", pgpass, "a\nb"),
        ("pgpass", pgpass, "a\r"),
        ("pgpass", pgpass, "a\0"),
        ("pgservice", pgservice, "a\nb"),
        ("pgservice", pgservice, "a\0"),
        ("pgservice", pgservice, "a "),
        ("pgservice", pgservice, "a\t"),
        ("pgservice", pgservice, &"x".repeat(PGSERVICE_MAX + 1)),
        ("shell", shell, "a\0"),
    ] {
        let Unfit(reason) = escape(value).expect_err(name);
        assert!(reason.contains(&format!("`{name}`")), "{name}: {reason}");
    }
}

/// Fills a template in, with this text as `value`.
fn rendered(source: &str, value: &str) -> Result<String, String> {
    let template = Template::parse(source).map_err(|mistakes| mistakes.concat())?;
    let values = Values(BTreeMap::from([("value".to_owned(), Value::from(value))]));
    let text = template.render(&values);
    text.map(|text| text.expose().clone())
        .map_err(|failure| failure.reason)
}

#[test]
fn json_is_written_and_read_with_its_kinds() {
    for (source, value, text) in [
        ("{{ value | tojson }}", "a\"\\\n<'ü", r#""a\"\\\n<'ü""#),
        (
            "{{ [1, 1.5, true, none, {'b': [], 'a': value}] | tojson }}",
            "x",
            r#"[1,1.5,true,null,{"a":"x","b":[]}]"#,
        ),
        (
            "{{ value | fromjson | tojson }}",
            r#" {"b": [1, 2.0, null, true], "a": {"c": "d"}} "#,
            r#"{"a":{"c":"d"},"b":[1,2.0,null,true]}"#,
        ),
        (
            "{{ value | fromjson | tojson }}",
            "18446744073709551615",
            "18446744073709551615",
        ),
        (
            "{{ value | fromjson | tojson }}",
            "-9223372036854775808",
            "-9223372036854775808",
        ),
        (
            "{{ (value | fromjson).host }}:{{ (value | fromjson)['port'] }}",
            r#"{"host": "db", "port": 5432}"#,
            "db:5432",
        ),
        (
            "{% for host in value | fromjson %}{{ host }};{% endfor %}",
            r#"["a", "b"]"#,
            "a;b;",
        ),
        ("{{ value | fromjson | yaml }}", "true", "\"true\""),
        ("{{ {'a': value} | urlencode }}", "/ü", "a=%2F%C3%BC"),
        ("{{ 5432 | urlencode }}", "", "5432"),
    ] {
        assert_eq!(rendered(source, value).as_deref(), Ok(text), "{source}");
    }
    for (source, value, reason) in [
        (
            "\n{{ value | fromjson }}",
            "canary",
            "line 2: a value for `fromjson` is not JSON",
        ),
        (
            "{{ value | fromjson }}",
            "12345678901234567890123",
            "too large",
        ),
        (
            "{{ (value | float) | tojson }}",
            "nan",
            "none that JSON has",
        ),
        (
            "{% set ns = namespace() %}{% set ns.self = ns %}{{ ns | tojson }}",
            "",
            "nested",
        ),
        (
            "{{ {1: value} | tojson }}",
            "canary",
            "a name that is no text",
        ),
        ("{{ [value] | shell }}", "canary", "`| tojson` makes a text"),
        ("{{ none | pgpass }}", "canary", "`| tojson` makes a text"),
        (
            "{{ absent | tojson }}",
            "canary",
            "a value that is not there",
        ),
        (
            "{{ absent | urlencode }}",
            "canary",
            "a value that is not there",
        ),
        (
            "{{ [absent] | tojson }}",
            "canary",
            "a value that is not there",
        ),
        (
            "{{ absent | shell }}",
            "canary",
            "a value that is not there",
        ),
    ] {
        let found = rendered(source, value).expect_err(source);
        assert!(
            found.contains(reason) && !found.contains("canary"),
            "{source}: {found}"
        );
    }
}

#[test]
fn line_end_beside_text_is_an_error_unless_meant() {
    let pem = "-----BEGIN\ncanary\n";
    for (source, text) in [
        // Alone on its line a value may have lines of its own.
        ("{{ value }}", "-----BEGIN\ncanary\n"),
        (
            "{{ value }}{{ value }}",
            "-----BEGIN\ncanary\n-----BEGIN\ncanary\n",
        ),
        (
            "tls:\n  {{ value | trim | indent(2) }}\n",
            "tls:\n  -----BEGIN\n  canary\n",
        ),
        ("a={{ value | safe }}", "a=-----BEGIN\ncanary\n"),
        ("a={{ value | shell }}", "a='-----BEGIN\ncanary\n'"),
        ("a={{ value | tojson }}", r#"a="-----BEGIN\ncanary\n""#),
        ("a={{ value | yaml }}", r#"a="-----BEGIN\ncanary\n""#),
        ("a={{ value | urlencode }}", "a=-----BEGIN%0Acanary%0A"),
        ("a={{ value | b64encode }}", "a=LS0tLS1CRUdJTgpjYW5hcnkK"),
        ("a={{ value | replace('\n', '|') }}", "a=-----BEGIN|canary|"),
        ("a={{ '\n' }}", "a=\n"),
        ("a={{ value | length }}", "a=18"),
        ("a={{ [value] }}", r#"a=['-----BEGIN\ncanary\n']"#),
    ] {
        assert_eq!(rendered(source, pem).as_deref(), Ok(text), "{source}");
    }
    for source in [
        "a={{ value }}",
        "{{ value }};",
        "{{ value }}{{ value }};",
        "{% if value %}a={% endif %}{{ value }}",
        "{% for line in [value] %}a {{ line }}{% endfor %}",
        "a={{ value | upper }}",
        "a={{ (value | safe) ~ value }}",
        "a={{ value | b64encode | b64decode }}",
        "a={{ [value | shell, value] | join }}",
        "a=\n{{- value }}",
        "a={{ {'x': value}.x if true }}",
    ] {
        let source = format!("# first\n{source}");
        let found = rendered(&source, pem).expect_err(&source);
        let is_named = found.starts_with("line ") && found.contains("beside other text");
        assert!(is_named && !found.contains("canary"), "{source}: {found}");
    }
    for value in ["a\r", "a\0", "\n"] {
        assert!(rendered("x{{ value }}", value).is_err(), "{value:?}");
        assert_eq!(rendered("{{ value }}", value).as_deref(), Ok(value));
    }
    let second = rendered("a\nb={{ value }}", pem).expect_err("beside text");
    assert!(second.starts_with("line 2: "), "{second}");
    let internal = rendered("{{ value | one_line }}", pem).expect_err("no filter of templates");
    assert!(internal.contains("unknown filter `one_line`"), "{internal}");
}

#[test]
fn file_of_base64_alone_may_hold_any_bytes() {
    let render = |source: &str, value: &str| {
        let template = Template::parse(source).expect("valid");
        let values = Values(BTreeMap::from([("value".to_owned(), Value::from(value))]));
        let file = template.render_file(&values);
        file.map(|bytes| bytes.expose().clone())
            .map_err(|failure| failure.reason)
    };
    let source = "{{ value | b64decode }}";
    assert_eq!(render(source, "AP/+\n").as_deref(), Ok(&b"\0\xff\xfe"[..]));
    assert_eq!(render(source, "").as_deref(), Ok(&b""[..]));
    assert_eq!(render("{{ value }}", "ü").as_deref(), Ok("ü".as_bytes()));
    for (source, value, reason) in [
        (
            "{{\nvalue | b64decode }}",
            "canary*",
            "line 2: a value for `b64decode` is not base64",
        ),
        ("{{ none | b64decode }}", "canary", "given something else"),
        (
            "{{ absent | b64decode }}",
            "canary",
            "a value that is not there",
        ),
        (
            "{{ value | b64decode }}\n",
            "AP/+",
            "only a file of its own",
        ),
        ("x{{ value | b64decode }}", "AP/+", "only a file of its own"),
    ] {
        let found = render(source, value).expect_err(source);
        assert!(
            found.contains(reason) && !found.contains("canary"),
            "{source}: {found}"
        );
    }
}
