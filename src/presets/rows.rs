//! The rows: every preset, with its keys and its templates.

use super::{Key, Kind, Preset};

const HOST: Key = required("host", Kind::Host);
/// The host and the port in a URL, where an IPv6 address needs brackets.
const ADDRESS: (&str, &str) = (
    "address",
    r#"("[" ~ host ~ "]" if ":" in host else host) ~ ":" ~ port"#,
);
const USER: &[&str] = &["username", "password"];

/// All presets.
pub(crate) static PRESETS: [Preset; 10] = [
    Preset {
        name: "postgresql",
        keys: &[
            HOST,
            optional("port", Kind::Port, "5432"),
            required("dbname", Kind::Text),
            optional(
                "sslmode",
                Kind::Choice(&[
                    "disable",
                    "allow",
                    "prefer",
                    "require",
                    "verify-ca",
                    "verify-full",
                ]),
                "false",
            ),
            optional("sslrootcert", Kind::Text, "false"),
        ],
        values: &[ADDRESS],
        bare_if: None,
        fields: USER,
        optional_fields: &[],
        files: &[
            (
                "pgpass",
                "{{ host | pgpass }}:{{ port }}:{{ dbname | pgpass }}:{{ username | pgpass }}:{{ password | pgpass }}\n",
            ),
            (
                "pg_service.conf",
                "[{{ name }}]\n\
                 host={{ host }}\n\
                 port={{ port }}\n\
                 dbname={{ dbname | pgservice }}\n\
                 user={{ username | pgservice }}\n\
                 password={{ password | pgservice }}\n\
                 {% if sslmode %}sslmode={{ sslmode }}\n{% endif %}\
                 {% if sslrootcert %}sslrootcert={{ sslrootcert | pgservice }}\n{% endif %}",
            ),
            (
                "url",
                "postgresql://{{ username | urlencode }}:{{ password | urlencode }}@{{ address }}/{{ dbname | urlencode }}\
                 {% if sslmode %}?sslmode={{ sslmode }}{% endif %}\
                 {% if sslrootcert %}{{ '&' if sslmode else '?' }}sslrootcert={{ sslrootcert | urlencode }}{% endif %}",
            ),
            (
                "jdbc.properties",
                "url=jdbc:postgresql://{{ address }}/{{ dbname | urlencode }}\n\
                 user={{ username | properties }}\n\
                 password={{ password | properties }}\n\
                 {% if sslmode %}sslmode={{ sslmode }}\n{% endif %}\
                 {% if sslrootcert %}sslrootcert={{ sslrootcert | properties }}\n{% endif %}",
            ),
        ],
    },
    Preset {
        name: "mysql",
        values: &[ADDRESS, ("jdbc", "'mysql'")],
        ..MYSQL
    },
    Preset {
        name: "mariadb",
        values: &[ADDRESS, ("jdbc", "'mariadb'")],
        ..MYSQL
    },
    Preset {
        name: "redis",
        keys: &[
            HOST,
            optional("port", Kind::Port, "6379"),
            optional("db", Kind::Number, "0"),
            optional("tls", Kind::Flag, "false"),
        ],
        values: &[ADDRESS],
        bare_if: None,
        fields: &["password"],
        optional_fields: &["username"],
        files: &[(
            "url",
            "redis{% if tls %}s{% endif %}://{{ username | default('default') | urlencode }}:{{ password | urlencode }}\
             @{{ address }}/{{ db }}",
        )],
    },
    Preset {
        name: "amqp",
        keys: &[
            HOST,
            optional("tls", Kind::Flag, "false"),
            optional("port", Kind::Port, "5671 if tls else 5672"),
            optional("vhost", Kind::Text, "'/'"),
        ],
        values: &[ADDRESS],
        bare_if: None,
        fields: USER,
        optional_fields: &[],
        files: &[(
            "url",
            "amqp{% if tls %}s{% endif %}://{{ username | urlencode }}:{{ password | urlencode }}@{{ address }}/{{ vhost | urlencode }}",
        )],
    },
    Preset {
        name: "mongodb",
        keys: &[
            HOST,
            optional("port", Kind::Port, "27017"),
            required("dbname", Kind::Word),
            optional("auth_source", Kind::Word, "'admin'"),
            optional("tls", Kind::Flag, "false"),
        ],
        values: &[ADDRESS],
        bare_if: None,
        fields: USER,
        optional_fields: &[],
        files: &[(
            "url",
            "mongodb://{{ username | urlencode }}:{{ password | urlencode }}@{{ address }}/{{ dbname }}\
             ?authSource={{ auth_source }}{% if tls %}&tls=true{% endif %}",
        )],
    },
    Preset {
        name: "kafka",
        keys: &[
            required("bootstrap_servers", Kind::Servers),
            required("security", Kind::Choice(&["ssl", "sasl_ssl"])),
            optional(
                "mechanism",
                Kind::Choice(&["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]),
                "'SCRAM-SHA-512'",
            ),
            optional("certificate", Kind::Certificate, "false"),
            optional("stores", Kind::Stores, "'pem'"),
            optional("trust", Kind::Trust, "'anchors'"),
        ],
        values: &[
            (
                "folder",
                "_anteroom.secrets_dir ~ ('' if certificate == 'certificate' else '/' ~ certificate)",
            ),
            (
                "module",
                "'org.apache.kafka.common.security.' \
                 ~ ('plain.PlainLoginModule' if mechanism == 'PLAIN' else 'scram.ScramLoginModule')",
            ),
        ],
        bare_if: Some(("security", "ssl")),
        fields: USER,
        optional_fields: &[],
        files: &[(
            "client.properties",
            "bootstrap.servers={{ bootstrap_servers | properties }}\n\
             security.protocol={{ security | upper }}\n\
             {% if certificate and stores == 'pem' %}\
             ssl.keystore.type=PEM\n\
             ssl.keystore.location={{ (folder ~ '/tls.pem') | properties }}\n\
             {% elif certificate %}\
             ssl.keystore.type=PKCS12\n\
             ssl.keystore.location={{ (folder ~ '/' ~ keystore) | properties }}\n\
             ssl.keystore.password={{ _anteroom.store_password | properties }}\n\
             ssl.key.password={{ _anteroom.store_password | properties }}\n\
             {% endif %}\
             {% if trust == 'bundle' %}\
             ssl.truststore.type=PEM\n\
             ssl.truststore.location={{ (_anteroom.secrets_dir ~ '/ca-bundle.crt') | properties }}\n\
             {% elif certificate and stores == 'pem' %}\
             ssl.truststore.type=PEM\n\
             ssl.truststore.location={{ (folder ~ '/ca.crt') | properties }}\n\
             {% elif certificate %}\
             ssl.truststore.type=PKCS12\n\
             ssl.truststore.location={{ (folder ~ '/' ~ truststore) | properties }}\n\
             ssl.truststore.password={{ _anteroom.store_password | properties }}\n\
             {% endif %}\
             {% if security == 'sasl_ssl' %}\
             sasl.mechanism={{ mechanism }}\n\
             sasl.jaas.config={{ (module ~ ' required username=' ~ (username | jaas) ~ ' password=' ~ (password | jaas) ~ ';') | properties }}\n\
             {% endif %}",
        )],
    },
    Preset {
        name: "aws",
        keys: &[optional("region", Kind::Word, "false")],
        values: &[],
        bare_if: None,
        fields: &["access_key", "secret_key"],
        optional_fields: &["security_token", "expiration"],
        files: &[
            (
                "credentials",
                "[default]\n\
                 aws_access_key_id = {{ access_key }}\n\
                 aws_secret_access_key = {{ secret_key }}\n\
                 {% if security_token is defined %}aws_session_token = {{ security_token }}\n{% endif %}\
                 {% if region %}region = {{ region }}\n{% endif %}",
            ),
            (
                "credentials.json",
                "{\"Version\": 1, \"AccessKeyId\": {{ access_key | tojson }}, \"SecretAccessKey\": {{ secret_key | tojson }}\
                 {% if security_token is defined %}, \"SessionToken\": {{ security_token | tojson }}{% endif %}\
                 {% if expiration is defined %}, \"Expiration\": {{ expiration | tojson }}{% endif %}}\n",
            ),
            (
                "config",
                "[default]\n\
                 credential_process = cat {{ (_anteroom.secrets_dir ~ '/' ~ name ~ '/credentials.json') | shell }}\n\
                 {% if region %}region = {{ region }}\n{% endif %}",
            ),
        ],
    },
    Preset {
        name: "spring",
        keys: &[
            optional("prefix", Kind::Word, "'spring.datasource'"),
            optional("url", Kind::Text, "false"),
        ],
        values: &[],
        bare_if: None,
        fields: USER,
        optional_fields: &[],
        // In a value, Spring takes `${` for the beginning of a name, unless something stands in between.
        files: &[(
            "application.properties",
            "{% if url %}{{ prefix }}.url={{ url | properties }}\n{% endif %}\
             {{ prefix }}.username={{ username | replace('${', '$${anteroom.nothing:}{') | properties }}\n\
             {{ prefix }}.password={{ password | replace('${', '$${anteroom.nothing:}{') | properties }}\n",
        )],
    },
    Preset {
        name: "docker",
        keys: &[required("registry", Kind::Text)],
        values: &[],
        bare_if: None,
        fields: USER,
        optional_fields: &[],
        files: &[(
            "config.json",
            "{\"auths\": { {{ registry | tojson }}: {\"auth\": \"{{ (username ~ ':' ~ password) | b64encode }}\"}}}\n",
        )],
    },
];

/// MySQL and MariaDB, which differ in the name of their JDBC driver alone.
const MYSQL: Preset = Preset {
    name: "",
    keys: &[
        HOST,
        optional("port", Kind::Port, "3306"),
        required("dbname", Kind::Word),
    ],
    values: &[],
    bare_if: None,
    fields: USER,
    optional_fields: &[],
    files: &[
        (
            "my.cnf",
            // Only the client itself knows `database`; a dump, for example, fails at it.
            "[client]\n\
             host={{ host | mycnf }}\n\
             port={{ port }}\n\
             protocol=tcp\n\
             default-character-set=utf8mb4\n\
             user={{ username | mycnf }}\n\
             password={{ password | mycnf }}\n\
             \n\
             [mysql]\n\
             database={{ dbname | mycnf }}\n",
        ),
        (
            "url",
            "mysql://{{ username | urlencode }}:{{ password | urlencode }}@{{ address }}/{{ dbname }}",
        ),
        (
            "jdbc.properties",
            "url=jdbc:{{ jdbc }}://{{ address }}/{{ dbname }}\n\
             user={{ username | properties }}\n\
             password={{ password | properties }}\n\
             passwordCharacterEncoding=UTF-8\n",
        ),
    ],
};

const fn required(name: &'static str, kind: Kind) -> Key {
    Key {
        name,
        kind,
        default: None,
    }
}

const fn optional(name: &'static str, kind: Kind, default: &'static str) -> Key {
    Key {
        name,
        kind,
        default: Some(default),
    }
}
