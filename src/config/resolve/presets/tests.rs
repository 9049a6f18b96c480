use std::collections::BTreeMap;

use super::*;
use crate::cli::Cli;
use crate::config::{Config, Purpose, Surroundings, resolve};
use crate::files::rehearsal;
use crate::presets::PRESETS;
use crate::template::{Known, OF_PRESETS, Value, Values, table};

/// Resolves the manifest of a service with this dependency.
fn resolved(dependency: &str, purpose: Purpose) -> Result<Config, String> {
    let cli = Cli::read(["anteroom", "check"].map(Into::into).to_vec());
    let cli = cli.unwrap_or_else(|_| panic!("a command line"));
    let manifest = format!(
        "service = {{ app = 'x', environment = 'y' }}\n[dependencies.orders-db]\npath = 'a/b'\n{dependency}"
    );
    let config = resolve(&cli, &manifest, Surroundings::bare(), purpose);
    config.map_err(|error| error.to_string())
}

/// Renders a file of this dependency, for a user `u` whose password is `p`.
#[track_caller]
fn file(dependency: &str, name: &str) -> String {
    let config = resolved(dependency, Purpose::Check).unwrap_or_else(|error| panic!("{error}"));
    let mut files = config.dependencies[0].templates.iter();
    let file = files.find(|file| file.name == name);
    let file = file.unwrap_or_else(|| panic!("there is no {name}"));
    let values = [("username", "u"), ("password", "p")];
    let values = values.map(|(name, value)| (name.to_owned(), Value::from(value)));
    let rendered = file.template.render(&Values(BTreeMap::from(values)));
    let rendered = rendered.unwrap_or_else(|failure| panic!("{}", failure.reason));
    rendered.expose().clone()
}

#[test]
fn templates_need_keys_fields_and_the_directory_alone() {
    for preset in &PRESETS {
        let mut values = vec![("name", literal("x"))];
        let keys = preset.keys.iter();
        values.extend(keys.map(|key| (key.name, stand_in(key.kind))));
        let derived = preset.values.iter();
        values.extend(derived.map(|(name, source)| (*name, (*source).to_owned())));
        let fields: Vec<String> = preset.all_fields().map(str::to_owned).collect();
        let mut known = Known::new(None);
        known.add_texts(OF_PRESETS, ["secrets_dir", "store_password"]);
        let known = known.within(Some(&fields));
        values.extend(["keystore", "truststore"].map(|name| (name, literal(name))));
        for (name, source) in preset.files {
            let template = Template::parse(&with(&values, source));
            let unknown = template.map(|template| template.unknown(&known));
            assert_eq!(unknown, Ok(vec![]), "{} {name}", preset.name);
        }
        for key in preset.keys {
            let Some(default) = key.default else { continue };
            let parsed = Template::parse(&format!("{{% set tls = false %}}{{{{ {default} }}}}"));
            assert!(parsed.is_ok(), "{} {}", preset.name, key.name);
        }
    }
}

#[test]
fn host_port_and_text_become_part_of_the_address() {
    let database = "as = 'postgresql'\ndbname = 'orders'\n";
    for (dependency, name, expected) in [
        (
            format!("{database}host = 'db.example'\n"),
            "url",
            "postgresql://u:p@db.example:5432/orders",
        ),
        (
            format!("{database}host = '2001:db8::1'\nport = 6000\n"),
            "url",
            "postgresql://u:p@[2001:db8::1]:6000/orders",
        ),
        (
            format!("{database}host = '2001:db8::1'\n"),
            "pgpass",
            "2001\\:db8\\:\\:1:5432:orders:u:p\n",
        ),
        (
            format!(
                "{database}host = 'db'\nport = '7'\nsslmode = 'verify-full'\nsslrootcert = '/a b'\n"
            ),
            "url",
            "postgresql://u:p@db:7/orders?sslmode=verify-full&sslrootcert=%2Fa%20b",
        ),
        (
            format!("{database}host = 'db'\nsslrootcert = '/a'\n"),
            "url",
            "postgresql://u:p@db:5432/orders?sslrootcert=%2Fa",
        ),
        (
            r#"as = 'postgresql'
host = 'db'
dbname = '%}{{ "a\" }}{#'"#
                .to_owned(),
            "pg_service.conf",
            "[orders-db]\nhost=db\nport=5432\ndbname=%}{{ \"a\\\" }}{#\nuser=u\npassword=p\n",
        ),
        (
            "as = 'redis'\nhost = 'a'\nport = 0x18_EB\ndb = 0o11\n".to_owned(),
            "url",
            "redis://u:p@a:6379/9",
        ),
        (
            "as = 'redis'\nhost = '::1'\n".to_owned(),
            "url",
            "redis://u:p@[::1]:6379/0",
        ),
        (
            "as = 'redis'\nhost = 'cache'\nport = 1\ndb = 3\ntls = true\n".to_owned(),
            "url",
            "rediss://u:p@cache:1/3",
        ),
        (
            "as = 'amqp'\nhost = 'mq'\n".to_owned(),
            "url",
            "amqp://u:p@mq:5672/%2F",
        ),
        (
            "as = 'amqp'\nhost = 'mq'\nvhost = 'a/b'\ntls = true\n".to_owned(),
            "url",
            "amqps://u:p@mq:5671/a%2Fb",
        ),
        (
            "as = 'mongodb'\nhost = 'db'\ndbname = 'orders'\ntls = true\n".to_owned(),
            "url",
            "mongodb://u:p@db:27017/orders?authSource=admin&tls=true",
        ),
        (
            "as = 'mysql'\nhost = 'db'\ndbname = 'orders'\n".to_owned(),
            "jdbc.properties",
            "url=jdbc:mysql://db:3306/orders\nuser=u\npassword=p\npasswordCharacterEncoding=UTF-8\n",
        ),
    ] {
        assert_eq!(file(&dependency, name), expected, "{dependency}");
    }
}

#[test]
fn mistake_in_a_preset_is_named_with_its_place() {
    for (dependency, text) in [
        (
            "as = 'postgres'",
            "line 4, column 6: `postgres` is no preset (is `postgresql` meant?); known are",
        ),
        (
            "as = 'redis'",
            "line 4, column 6: `host` in [dependencies.orders-db] is missing: the preset redis needs it",
        ),
        (
            "as = 'redis'\nhost = 'a'\nhots = 'b'",
            "line 6, column 1: unknown key `hots` in [dependencies.orders-db] (is `host` meant?); known are",
        ),
        (
            "host = 'a'",
            "line 4, column 1: unknown key `host` in [dependencies.orders-db]",
        ),
        (
            "as = 'redis'\nhost = ['a']",
            "line 5, column 8: `host` in [dependencies.orders-db] must be a string, not a list",
        ),
        (
            "as = 'redis'\nhost = '[::1]'",
            "line 5, column 8: `host`: `[::1]` is neither a host's name nor an IP address",
        ),
        (
            "as = 'redis'\nhost = 'a'\nport = 65536",
            "line 6, column 8: `port`: `65536` is no port from 1 to 65535",
        ),
        (
            "as = 'redis'\nhost = 'a'\nport = 0",
            "line 6, column 8: `port`: `0` is no port",
        ),
        (
            "as = 'redis'\nhost = 'a'\ndb = -1",
            "line 6, column 6: `db`: `-1` is no number from 0 on",
        ),
        (
            "as = 'redis'\nhost = 'a'\ntls = 'yes'",
            "line 6, column 7: `tls`: `yes` is not one of true, false",
        ),
        (
            "as = 'mysql'\nhost = 'a'\ndbname = 'a/b'",
            "line 6, column 10: `dbname`: `a/b` holds something else than letters",
        ),
        (
            "as = 'postgresql'\nhost = 'a'\ndbname = \"a\\n\"",
            "line 6, column 10: `dbname`: the text must not be empty, nor hold control characters",
        ),
        (
            "as = 'postgresql'\nhost = 'a'\ndbname = 'a'\nsslmode = 'verify_full'",
            "line 7, column 11: `sslmode`: `verify_full` is not one of disable, allow, prefer, require, verify-ca, verify-full (is `verify-full` meant?)",
        ),
        (
            "as = 'redis'\nhost = 'a'\nfields = ['pasword']",
            "line 6, column 11: the preset redis needs the field `password`",
        ),
        (
            "as = 'redis'\nhost = 'a'\nfields = ['password', 'url']",
            "line 4, column 6: `url` is already the file of a field",
        ),
        (
            "as = 'redis'\nhost = 'a'\nsample = { pasword = 'x' }",
            "line 6, column 12: the sample `pasword` is none of the `fields` of orders-db (is `password` meant?)",
        ),
        (
            "as = 'redis'\nhost = 'a'\nsample = { password = 18446744073709551616 }",
            "line 6, column 23: `password` in [dependencies.orders-db.sample] has a number that JSON does not hold exactly; write it as a string",
        ),
        (
            "as = 'redis'\nhost = 'a'\nsample = { password = [1e308] }",
            "line 6, column 23: `password` in [dependencies.orders-db.sample] has a number that",
        ),
        (
            "as = 'redis'\nhost = 'a'\nsample = { password = { a = inf } }",
            "line 6, column 23: `password` in [dependencies.orders-db.sample] has a number that",
        ),
        (
            "as = 'redis'\nhost = 'a'\nsample = { password = 9007199254740993.0 }",
            "line 6, column 23: `password` in [dependencies.orders-db.sample] has a number that",
        ),
        (
            "as = 'redis'\nhost = 'a'\nsample = { password = 2030-01-01 }",
            "line 6, column 23: `password` in [dependencies.orders-db.sample] must be a value that JSON has, not a date",
        ),
        (
            "as = 'redis'\nhost = 'a'\nfiles = { x = '{{ pasword }}' }",
            "line 6, column 15: the template of orders-db/x, line 1: `pasword` is not known (is `password` meant?)",
        ),
    ] {
        let error = resolved(dependency, Purpose::Policy).err();
        let error = error.unwrap_or_else(|| panic!("{dependency} is taken"));
        assert!(error.contains(text), "{dependency}: {error}");
        assert_eq!(
            error.matches("line ").count(),
            text.matches("line ").count(),
            "{error}"
        );
    }
}

/// Resolves the manifest of a service with a certificate, and with this preset for Kafka and these tables.
fn kafka(keys: &str, tables: &str) -> Result<Config, String> {
    kafka_for(keys, tables, Purpose::Check)
}

fn kafka_for(keys: &str, tables: &str, purpose: Purpose) -> Result<Config, String> {
    let cli = Cli::read(["anteroom", "check"].map(Into::into).to_vec());
    let cli = cli.unwrap_or_else(|_| panic!("a command line"));
    let manifest = format!(
        "service = {{ app = 'x', environment = 'y' }}\n\
         certificates.kafka = {{ role = 'x', common_name = 'x.example' }}\n\
         [dependencies.broker]\nas = 'kafka'\n{keys}\n{tables}"
    );
    let config = resolve(&cli, &manifest, Surroundings::bare(), purpose);
    config.map_err(|error| error.to_string())
}

#[test]
fn kafka_without_a_login_fetches_nothing() {
    let servers = "bootstrap_servers = 'a:9093, [::1]:9094'\n";
    let keys = format!("{servers}security = 'ssl'\nfiles = {{ x = 'y' }}");
    let config = kafka(&keys, "[files]\n'broker/z' = ''").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.dependencies.len(), 0);
    let names: Vec<&str> = config.files.iter().map(|file| &*file.name).collect();
    assert_eq!(names, ["broker/z", "broker/client.properties", "broker/x"]);
    for (rest, text) in [
        (
            "path = 'a/b'",
            "line 7, column 8: nothing is fetched for [dependencies.broker]",
        ),
        ("refresh = '1s'", "line 7, column 11: nothing is fetched"),
        (
            "env_prefix = 'KAFKA_'",
            "line 7, column 14: nothing is fetched",
        ),
        (
            "fields = ['username']",
            "line 7, column 11: nothing is fetched",
        ),
        (
            "sample = { username = 'x' }",
            "line 7, column 12: nothing is fetched for [dependencies.broker]",
        ),
        (
            "optional = true",
            "line 3, column 15: nothing is fetched for [dependencies.broker]: leave out `optional`",
        ),
        (
            "files = { x = '{{ username }}' }",
            "`username` is not known",
        ),
        (
            "files = { 'client.properties' = '', 'a/b' = '' }",
            "a file name here holds no `/`",
        ),
    ] {
        let error = kafka(&format!("{servers}security = 'ssl'\n{rest}"), "").err();
        let error = error.unwrap_or_else(|| panic!("{rest} is taken"));
        assert!(error.contains(text), "{rest}: {error}");
        assert_eq!(error.matches(", column ").count(), 1, "{rest}: {error}");
    }
}

#[test]
fn key_of_kafka_names_what_the_manifest_has() {
    let login = "path = 'a/b'\nsecurity = 'sasl_ssl'\nbootstrap_servers = ";
    for (keys, tables, text) in [
        ("'a:9093'\ncertificate = 'kafka'", "", None),
        ("'a:9093'\ntrust = 'bundle'", "[trust]\nsystem = true", None),
        (
            "'a:9093'\ncertificate = 'certificate'",
            "",
            Some("`certificate`: `certificate` is not one of kafka"),
        ),
        (
            "'a:9093'\ncertificate = 'kafak'",
            "",
            Some("is not one of kafka (is `kafka` meant?)"),
        ),
        (
            "'a:9093'\nstores = 'pkcs12'",
            "",
            Some("`stores`: `pkcs12` needs [java]"),
        ),
        (
            "'a:9093'\nstores = 'jks'",
            "",
            Some("`jks` is not one of pem, pkcs12"),
        ),
        (
            "'a:9093'\ntrust = 'bundle'",
            "",
            Some("`trust`: `bundle` needs [trust]"),
        ),
        (
            "'a:9093'\nmechanism = 'SCRAM_SHA-256'",
            "",
            Some("is `SCRAM-SHA-256` meant?"),
        ),
        (
            "'a'",
            "",
            Some("`bootstrap_servers`: `a` is no host with its port"),
        ),
        ("'a:1,'", "", Some("`` is no host")),
        ("'a:0'", "", Some("`a:0` is no host")),
        ("'::1:9093'", "", Some("`::1:9093` is no host")),
        ("'[a]:9093'", "", Some("`[a]:9093` is no host")),
        ("'a b:9093'", "", Some("`a b:9093` is no host")),
    ] {
        let found = kafka(&format!("{login}{keys}"), tables);
        match (found, text) {
            (Ok(config), None) => assert_eq!(config.dependencies.len(), 1),
            (Err(error), Some(text)) => assert!(error.contains(text), "{keys}: {error}"),
            (found, _) => panic!("{keys}: {:?}", found.err()),
        }
    }
    let error = kafka("security = 'sasl_ssl'\nbootstrap_servers = 'a:1'", "").err();
    assert!(
        error.is_some_and(|error| error.contains("`path` in [dependencies.broker] is missing"))
    );
}

#[test]
fn kafka_names_the_stores_where_they_lie() {
    let main = "certificate = { role = 'x', common_name = 'x.example' }\n";
    let cli = Cli::read(["anteroom", "check"].map(Into::into).to_vec());
    let cli = cli.unwrap_or_else(|_| panic!("a command line"));
    for (keys, lines) in [
        (
            "certificate = 'certificate'",
            &[
                "ssl.keystore.type=PEM",
                "ssl.keystore.location=/s/tls.pem",
                "ssl.truststore.type=PEM",
                "ssl.truststore.location=/s/ca.crt",
            ][..],
        ),
        (
            "certificate = 'kafka'\ntrust = 'bundle'",
            &[
                "ssl.keystore.type=PEM",
                "ssl.keystore.location=/s/kafka/tls.pem",
                "ssl.truststore.type=PEM",
                "ssl.truststore.location=/s/ca-bundle.crt",
            ],
        ),
        (
            "trust = 'bundle'",
            &[
                "ssl.truststore.type=PEM",
                "ssl.truststore.location=/s/ca-bundle.crt",
            ],
        ),
        ("", &[]),
    ] {
        let manifest = format!(
            "{main}service = {{ app = 'x', environment = 'y' }}\n\
             certificates.kafka = {{ role = 'x', common_name = 'x.example' }}\n\
             trust.system = true\n\
             [dependencies.broker]\nas = 'kafka'\nbootstrap_servers = 'a:1'\nsecurity = 'ssl'\n{keys}"
        );
        let config = resolve(&cli, &manifest, Surroundings::bare(), Purpose::Check);
        let config = config.unwrap_or_else(|error| panic!("{error}"));
        let directory = BTreeMap::from([("secrets_dir".to_owned(), Value::from("/s"))]);
        let values = BTreeMap::from([(OF_PRESETS.to_owned(), table(directory))]);
        let rendered = config.files[0].template.render(&Values(values));
        let rendered = rendered.unwrap_or_else(|failure| panic!("{}", failure.reason));
        let found: Vec<&str> = rendered.expose().lines().skip(2).collect();
        assert_eq!(found, lines, "{keys}");
    }
}

#[test]
fn unknown_preset_leaves_other_keys_unnamed() {
    let error = resolved("as = 'x'\nhost = 'a'\nfiels = {}\n", Purpose::Check);
    let error = error.err().expect("no preset");
    assert!(!error.contains("`host`"), "{error}");
    assert!(error.contains("`fiels`"), "{error}");
}

#[test]
fn variable_that_is_not_set_is_no_mistake_of_a_check() {
    let dependency = "as = 'redis'\nhost = '${CACHE_HOST}'\nport = '${CACHE_PORT}'\n";
    assert_eq!(file(dependency, "url"), "redis://u:p@cache-host:1/0");
    let error = resolved(dependency, Purpose::Start).err().expect("not set");
    assert!(
        error.contains("the variable CACHE_PORT is not set"),
        "{error}"
    );
    let error = resolved(
        "as = 'redis'\nhost = 'a'\nport = '${PORT:-x}'\n",
        Purpose::Check,
    );
    assert!(error.is_err_and(|error| error.contains("`x` is no port")));
}

#[test]
fn variables_of_kafka_that_are_not_set_ask_for_nothing() {
    let servers = "bootstrap_servers = 'a:1'\ncertificate = 'kafka'\nstores = '${STORES}'\n";
    let keys = format!("{servers}security = '${{SEC}}'\nmechanism = '${{MECHANISM}}'");
    // Without a path only `ssl` is right, and with one only a login.
    let config = kafka(&keys, "").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((config.dependencies.len(), config.files.len()), (0, 1));
    assert_eq!(rehearsal::mistakes(&config, Purpose::Check), vec![]);
    let config = kafka(&format!("{keys}\npath = 'a/b'"), "");
    let config = config.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((config.dependencies.len(), config.files.len()), (1, 0));
    assert_eq!(rehearsal::mistakes(&config, Purpose::Check), vec![]);
    let error = kafka_for(&keys, "", Purpose::Start).err().expect("not set");
    assert!(error.contains("the variable SEC is not set"), "{error}");
    assert!(!error.contains("`path`"), "{error}");
}

#[test]
fn template_of_a_preset_is_named_with_the_preset() {
    let dependency =
        "as = 'postgresql'\nhost = 'db'\ndbname = 'x'\nsample = { password = \"a\\nb\" }";
    let config = resolved(dependency, Purpose::Check).unwrap_or_else(|error| panic!("{error}"));
    let mistakes = rehearsal::mistakes(&config, Purpose::Check);
    let texts: Vec<&str> = mistakes.iter().map(|mistake| &*mistake.text).collect();
    let expected = "the template of orders-db/pgpass (of the preset postgresql), line 1: ";
    assert!(
        texts.iter().any(|text| text.starts_with(expected)),
        "{texts:?}"
    );
}

#[test]
fn own_file_takes_the_place_of_that_of_the_preset() {
    let own =
        "as = 'redis'\nhost = 'cache'\nfiles = { url = 'redis+sentinel://{{ password }}@a' }\n";
    assert_eq!(file(own, "url"), "redis+sentinel://p@a");
    let config = resolved(own, Purpose::Check).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.dependencies[0].templates.len(), 1);
}
