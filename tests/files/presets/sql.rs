//! `as = "postgresql"`, `"mysql"` and `"mariadb"`.

use serde_json::json;

use super::{PASSWORD, parse_url, run_java, run_with, start};
use crate::support::{MariaDb, Postgres, unique};

/// Writes an identifier or a text of SQL in these quotes.
fn quoted(text: &str, quote: &str) -> String {
    format!("{quote}{}{quote}", text.replace(quote, &quote.repeat(2)))
}

#[test]
fn psql_and_jdbc_log_in_by_the_files_of_postgresql() {
    let server = Postgres::shared();
    let user = unique("o'r\"d:e@r/s \\%41ü");
    let database = unique("d'b\":@/\\?#%41 ü");
    for sql in [
        format!(
            "CREATE ROLE {} LOGIN PASSWORD {}",
            quoted(&user, "\""),
            quoted(PASSWORD, "'")
        ),
        format!("CREATE DATABASE {}", quoted(&database, "\"")),
    ] {
        server.query(&sql).expect("the superuser may");
    }
    let keys = json!({
        "as": "postgresql",
        "host": "127.0.0.1",
        "port": server.port(),
        "dbname": database,
        "sslmode": "disable",
    });
    let answer = json!({"username": user, "password": PASSWORD});
    let run = start("orders-db", keys, answer);
    let at = |name: &str| run.secrets_dir.join("orders-db").join(name);

    const QUERY: &str = "SELECT current_user || ' in ' || current_database()";
    let expected = format!("{user} in {database}\n");
    let port = server.port().to_string();
    let named = ["-h", "127.0.0.1", "-p", &port, "-U", &user, "-d", &database];
    for (arguments, variables) in [
        (&named[..], vec![("PGPASSFILE", at("pgpass"))]),
        (
            &["service=orders-db"],
            vec![("PGSERVICEFILE", at("pg_service.conf"))],
        ),
        (&[run.file("orders-db/url").text()], vec![]),
    ] {
        let words = [&["psql", "-XwAtc", QUERY][..], arguments].concat();
        let variables: Vec<_> = variables
            .iter()
            .map(|(name, path)| (*name, path.as_path()))
            .collect();
        let answer = run_with(&words, &variables);
        assert_eq!(answer.as_deref(), Ok(&*expected), "{arguments:?}");
    }

    let properties = at("jdbc.properties").display().to_string();
    let answer = run_java(
        &[],
        "Query.java",
        "/usr/share/java/postgresql.jar",
        &[&properties, QUERY],
    );
    assert_eq!(answer, expected);
}

#[test]
fn mariadb_and_jdbc_log_in_by_the_files_of_mysql() {
    let server = MariaDb::shared();
    let password = format!("{PASSWORD}\r\n\t[x]\nhost=elsewhere");
    for (preset, user, options) in [
        ("mysql", "o'r\"d:e@r/s \\%41", &[][..]),
        // Before Java 18 the driver writes a user's name as the locale has it.
        ("mariadb", "o'r\"d:e@r/s \\%41ü", &["-Dfile.encoding=UTF-8"]),
    ] {
        let user = unique(user);
        let database = unique("orders");
        let text = |text: &str| quoted(&text.replace('\\', r"\\"), "'");
        let (name, secret) = (text(&user), text(&password));
        server.query(&format!(
            "CREATE DATABASE `{database}`; CREATE USER {name} IDENTIFIED BY {secret}; \
             GRANT SELECT ON `{database}`.* TO {name}"
        ));
        let keys = json!({
            "as": preset,
            "host": "127.0.0.1",
            "port": server.port(),
            "dbname": database,
        });
        let answer = json!({"username": user, "password": password});
        let run = start("orders-db", keys, answer);
        let at = |name: &str| {
            run.secrets_dir
                .join("orders-db")
                .join(name)
                .display()
                .to_string()
        };

        const QUERY: &str = "SELECT CONCAT(CURRENT_USER(), ' in ', DATABASE())";
        let expected = format!("{user}@% in {database}\n");
        let file = format!("--defaults-file={}", at("my.cnf"));
        let answer = run_with(&["mariadb", &file, "-NBr", "-e", QUERY], &[]);
        assert_eq!(answer.as_deref(), Ok(&*expected));
        // Another client, which knows no `database`.
        let answer = run_with(&["mariadb-check", &file, &database], &[]);
        assert_eq!(answer.as_deref(), Ok(""));

        let jar = "/usr/share/java/mariadb-java-client.jar";
        let answer = run_java(options, "Query.java", jar, &[&at("jdbc.properties"), QUERY]);
        assert_eq!(answer, expected);

        let url = parse_url(run.file("orders-db/url").text());
        let parts = json!([
            "mysql",
            user,
            password,
            "127.0.0.1",
            server.port(),
            format!("/{database}"),
            ""
        ]);
        assert_eq!(url, parts);
    }
}
