//! Filters of templates: each program reads what is written for it.
#![expect(
    clippy::disallowed_methods,
    reason = "a test starts the programs that read the files"
)]

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::dry_run::dry_run;
use crate::support::{Anteroom, Manifest, Run, Service, TempDir, assert_revoked, core, repository};

/// A secret with the ends of words, values, quotes and lines of one format or another.
const SECRET: &str = " p:w\\d \\: '\"$(x)`y`#;=!%/&<\tü€\u{1f600}\u{85}\u{2028}\\ ";
const TEXT: &str = "-----BEGIN\r\ncanary \\n\n\n";

fn fields() -> Value {
    json!({
        "secret": SECRET,
        "text": TEXT,
        "encoded": "Y2FuYXJ5OsO8",
        "store": "AP/+\ngA0K",
        "settings": "{\"host\": \"db\", \"ports\": [5432, 5433]}",
    })
}

/// The dependency `dep` at this path, with a file for each format.
fn dependency(path: &str) -> Value {
    json!({
        "path": path,
        "fields": ["secret", "text", "encoded", "store", "settings"],
        "files": {
            "env.sh": "SECRET={{ secret | shell }}\nTEXT={{ text | shell }}\n",
            "app.properties": "secret = {{ secret | properties }}\ntext={{ text | properties }}\n",
            "app.json": "{\"secret\": {{ secret | tojson }}, \"text\": {{ text | tojson }}}\n",
            "app.yaml": "secret: {{ secret | yaml }}\nlist: [{{ text | yaml }}]\n",
            "base64": "value={{ secret | b64encode }}",
            "url": "https://{{ secret | urlencode }}@host/",
            "decoded": "value={{ encoded | b64decode }}",
            "host": "{% set it = settings | fromjson %}{{ it.host }}:{{ it.ports | last }} {{ it | tojson }}",
            "alone": "{{ text }}",
            "store.bin": "{{ store | b64decode }}",
        },
    })
}

fn read_by<A: AsRef<std::ffi::OsStr>>(
    program: &str,
    arguments: impl IntoIterator<Item = A>,
) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; run scripts/install"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {stderr}");
    String::from_utf8(output.stdout).expect("text")
}

/// Reads a field of a file with a module of Python.
fn read_by_python(module: &str, path: &Path, fields: &str) -> String {
    let script = format!(
        "import sys, {module}; it = open(sys.argv[1], 'rb').read(); \
         sys.stdout.buffer.write(({module}.{load}{fields}).encode())",
        load = if module == "yaml" {
            "safe_load(it)"
        } else {
            "loads(it)"
        },
    );
    read_by(
        "python3",
        ["-c".as_ref(), script.as_ref(), path.as_os_str()],
    )
}

/// Lets every program read what was written for it.
fn check(run: &Run) {
    run.assert_code(0);
    run.assert_no([SECRET, "canary"]);
    let files = TempDir::new();
    let at = |name: &str| files.write(name, &run.file(&format!("dep/{name}")).bytes);

    let shell = at("env.sh");
    for (variable, value) in [("SECRET", SECRET), ("TEXT", TEXT)] {
        let script = format!(". \"$0\"; printf %s \"${variable}\"");
        let read = read_by(
            "/bin/sh",
            ["-c".as_ref(), script.as_ref(), shell.as_os_str()],
        );
        assert_eq!(read, value, "{variable}");
    }

    let properties = at("app.properties");
    let program = repository().join("tests/files/java/ReadProperties.java");
    for (key, value) in [("secret", SECRET), ("text", TEXT)] {
        let _core = core();
        let read = read_by(
            "java",
            [program.as_os_str(), properties.as_os_str(), key.as_ref()],
        );
        assert_eq!(read, value, "{key}");
    }

    let json = at("app.json");
    assert_eq!(read_by_python("json", &json, "['secret']"), SECRET);
    assert_eq!(read_by_python("json", &json, "['text']"), TEXT);
    let yaml = at("app.yaml");
    assert_eq!(read_by_python("yaml", &yaml, "['secret']"), SECRET);
    assert_eq!(read_by_python("yaml", &yaml, "['list'][0]"), TEXT);

    let base64 = at("base64");
    let script = "sed 's/^value=//' \"$0\" | base64 -d";
    assert_eq!(
        read_by(
            "/bin/sh",
            ["-c".as_ref(), script.as_ref(), base64.as_os_str()]
        ),
        SECRET
    );
    let url = "import sys, urllib.parse; it = open(sys.argv[1]).read(); \
               sys.stdout.buffer.write(urllib.parse.unquote(urllib.parse.urlsplit(it).username).encode())";
    let at_url = at("url");
    assert_eq!(
        read_by("python3", ["-c".as_ref(), url.as_ref(), at_url.as_os_str()]),
        SECRET
    );

    assert_eq!(run.file("dep/decoded").text(), "value=canary:ü");
    let host = "db:5433 {\"host\":\"db\",\"ports\":[5432,5433]}";
    assert_eq!(run.file("dep/host").text(), host);
    assert_eq!(run.file("dep/alone").text(), TEXT);
    assert_eq!(run.file("dep/store.bin").bytes, b"\0\xff\xfe\x80\r\n");
}

#[test]
fn filters_write_what_programs_read_in_a_dry_run() {
    let mut dependency = dependency("secret/data/timeline");
    dependency["sample"] = fields();
    let manifest = super::dry_run::manifest().set("dependencies.dep", dependency);
    check(&dry_run().manifest(manifest).shell("echo started").run());
}

/// Starts with these fields at the real server.
fn start(
    service: &Service,
    fields: Value,
    manifest: impl FnOnce(Manifest, &str) -> Manifest,
) -> (Run, crate::support::Wrapped) {
    let path = service.legacy_path();
    service.admin.kv_put(&path, fields);
    let token = service.mint();
    let run = Anteroom::new()
        .manifest(manifest(
            service
                .manifest()
                .remove("certificate")
                .remove("dependencies"),
            &path,
        ))
        .token(&token)
        .shell("echo started")
        .keep_files()
        .run();
    (run, token)
}

#[test]
fn filters_write_what_programs_read_after_a_start() {
    let service = Service::new();
    let (run, _) = start(&service, fields(), |manifest, path| {
        manifest.set("dependencies.dep", dependency(path))
    });
    check(&run);
}

#[test]
fn value_that_its_place_cannot_hold_is_78_with_file_and_line() {
    let service = Service::new();
    for (template, value, reason) in [
        (
            "#\npassword={{ secret }}\n",
            "canary\nadmin=yes",
            "line 2: a value beside other text holds a line end",
        ),
        (
            "#\n{{ secret | pgpass }}",
            "canary\r",
            "line 2: a value for `pgpass` holds a line end",
        ),
        (
            "#\nX={{ secret | shell }}",
            "canary\0",
            "line 2: a value for `shell` holds a NUL byte",
        ),
        (
            "#\nx={{ secret | mycnf }}",
            &"canary".repeat(700),
            "line 2: a value for `mycnf` is longer",
        ),
        (
            "#\n{{ secret | b64decode }}",
            "Y2FuYXJ5/w==",
            "line 2: a value for `b64decode` is no text",
        ),
        (
            "{#\n#}{{ secret | b64decode }}",
            "canary/",
            "line 2: a value for `b64decode` is not base64",
        ),
        (
            "#\n{{ secret | b64decode }}",
            "canary!",
            "line 2: a value for `b64decode` is not base64",
        ),
        (
            "#\n{{ secret | fromjson }}",
            "canary",
            "line 2: a value for `fromjson` is not JSON",
        ),
    ] {
        let with = |sample: Value| {
            move |manifest: Manifest, path: &str| {
                manifest.set(
                    "dependencies.dep",
                    json!({"path": path, "sample": sample, "files": {"made": template}}),
                )
            }
        };
        let named = format!("the template of dep/made, {reason}");
        let fields = json!({"secret": value});
        let (run, token) = start(&service, fields.clone(), with(json!({})));
        assert_revoked(&run, 78, &service, &token);
        run.assert_no(["canary"]).assert_stderr(&named);
        // The sample is known before any token is.
        let sampled = with(fields)(super::dry_run::manifest(), "secret/data/timeline");
        let dry = dry_run().manifest(sampled).shell("echo started").run();
        dry.assert_refused(78)
            .assert_no(["canary"])
            .assert_stderr(&named);
    }
}

#[test]
fn line_end_in_a_variable_is_refused_beside_text_alone() {
    let service = Service::new();
    let variable = |template: &'static str| {
        move |manifest: Manifest, path: &str| {
            manifest
                .set("dependencies.dep", json!({"path": path}))
                .set("environment", json!({"MADE": template}))
        }
    };
    let fields = json!({"secret": "canary\nx"});
    for template in ["{{ dep.secret }}", "x={{ dep.secret | safe }}"] {
        let (run, _) = start(&service, fields.clone(), variable(template));
        run.assert_code(0);
    }
    let (run, token) = start(&service, fields, variable("x={{ dep.secret }}"));
    assert_revoked(&run, 78, &service, &token);
    run.assert_no(["canary"])
        .assert_stderr("the template of the variable MADE, line 1: a value beside other text");
}

/// An answer with a value of each kind.
fn kinds() -> Value {
    json!({
        "hosts": ["a.example", "b \"x\""],
        "port": 5432,
        "ratio": 0.5,
        "tls": false,
        "config": {"user": "u: {}", "limits": {"rows": 18_446_744_073_709_551_615_u64}},
    })
}

#[test]
fn values_keep_their_kind_after_start_and_dry_run() {
    let files = json!({
        "app.yaml": "hosts:\n{% for host in hosts %}- {{ host | yaml }}\n{% endfor %}port: {{ port }}\nrows: {{ config.limits.rows }}\n",
        "app.json": "{\"config\": {{ config | tojson }}, \"all\": {{ dep | tojson }}}",
        "text": "{{ port + 1 }} {% if tls %}tls{% else %}plain{% endif %} {{ config.limits }} {{ hosts }} {{ ratio }} {{ config.user }}",
        "shell": "HOSTS={{ hosts | shell }}\n",
    });
    let with = |manifest: Manifest, path: &str| {
        let dependency = json!({"path": path, "sample": kinds(), "files": files});
        let variables = json!({"HOST": "{{ dep.hosts | first }}"});
        manifest
            .set("dependencies.dep", dependency)
            .set("environment", variables)
    };
    let service = Service::new();
    let (started, _) = start(&service, kinds(), with);
    let sampled = with(super::dry_run::manifest(), "secret/data/x");
    let dry = dry_run().manifest(sampled).shell("echo started").run();
    for run in [&started, &dry] {
        run.assert_code(0);
        let copies = TempDir::new();
        let at = |name: &str| copies.write(name, &run.file(&format!("dep/{name}")).bytes);
        let yaml = at("app.yaml");
        let repr = |fields: &str| format!("{fields}.__repr__()");
        for (fields, value) in [
            ("['hosts']", "['a.example', 'b \"x\"']"),
            ("['port']", "5432"),
            ("['rows']", "18446744073709551615"),
        ] {
            assert_eq!(read_by_python("yaml", &yaml, &repr(fields)), value);
        }
        let json: Value = serde_json::from_slice(&run.file("dep/app.json").bytes).expect("JSON");
        assert_eq!(json, json!({"config": kinds()["config"], "all": kinds()}));
        let text =
            "5433 plain {\"rows\":18446744073709551615} [\"a.example\",\"b \\\"x\\\"\"] 0.5 u: {}";
        assert_eq!(run.file("dep/text").text(), text);
        let shell = at("shell");
        let script = ". \"$0\"; printf %s \"$HOSTS\"";
        let read = read_by(
            "/bin/sh",
            ["-c".as_ref(), script.as_ref(), shell.as_os_str()],
        );
        assert_eq!(read, kinds()["hosts"].to_string());
        // A field's own file is what it was.
        assert_eq!(run.file("dep/hosts").text(), kinds()["hosts"].to_string());
        assert_eq!(run.file("dep/port").text(), "5432");
    }
}

#[test]
fn chain_of_an_issued_certificate_is_a_list() {
    let service = Service::new();
    let path = format!("{}/issue/{}", service.pki.mount, service.app);
    let policy = format!(
        "{}path \"{path}\" {{ capabilities = [\"update\"] }}\n",
        service.policy_hcl()
    );
    service.admin.policy(&service.policy, &policy);
    let dependency = json!({
        "path": path,
        "method": "write",
        "data": {"common_name": service.common_name(), "key_type": "ec"},
        "sample": {"ca_chain": ["sample"]},
        "files": {"chain.pem": "{{ certificate }}\n{% for ca in ca_chain %}{{ ca }}\n{% endfor %}"},
    });
    let (run, _) = start(&service, json!({"a": "b"}), |manifest, _| {
        manifest.set("dependencies.issued", dependency)
    });
    run.assert_code(0);
    let chain = run.file("issued/chain.pem");
    let read = read_by(
        "python3",
        [
            "-c",
            "import ssl, sys; it = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT); it.load_verify_locations(cadata=sys.argv[1]); print(len(it.get_ca_certs()))",
            chain.text(),
        ],
    );
    // The leaf is none of the authorities.
    let authorities = chain.text().matches("BEGIN CERTIFICATE").count() - 1;
    assert_eq!(read, format!("{authorities}\n"));
    assert!(authorities > 0);
}
