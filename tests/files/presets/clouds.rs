//! `as = "aws"`, `"spring"` and `"docker"`.

use serde_json::{Value, json};

use super::{PASSWORD, run_java, run_python, service, start};
use crate::support::{Anteroom, repository};

/// Prints what AWS's own library finds, and where.
const FIND_AWS: &str = "
import json, botocore.session
session = botocore.session.Session()
it = session.get_credentials()
end = getattr(it, '_expiry_time', None)
print(json.dumps([end and end.isoformat(), it.method, it.access_key, it.secret_key, it.token, session.get_config_variable('region')]))
";

#[test]
fn botocore_finds_the_credentials_of_aws() {
    // A file without quotes holds no blanks around a value, and no key of AWS has any.
    let secret = PASSWORD.trim();
    for token in [Some("t/+=".repeat(500)), None] {
        // An answer without a token has the field all the same.
        let answer = json!({
            "access_key": "AKIA%(x)s",
            "secret_key": secret,
            "security_token": token,
            "expiration": token.as_ref().map(|_| "2099-01-02T03:04:05Z"),
            "arn": "arn:aws:iam::1:user/x",
        });
        let keys = json!({"as": "aws", "region": "eu-central-1"});
        let (service, manifest) = service("cloud", keys, answer);
        for (variable, file, method) in [
            (
                "AWS_SHARED_CREDENTIALS_FILE",
                "credentials",
                "shared-credentials-file",
            ),
            ("AWS_CONFIG_FILE", "config", "custom-process"),
        ] {
            let variables = json!({variable: format!("{{{{ secrets_dir }}}}/cloud/{file}")});
            let manifest = manifest.clone().set("environment", variables);
            let run = Anteroom::new()
                .manifest(manifest)
                .token(service.mint())
                .command(["/usr/bin/python3", "-c", FIND_AWS])
                .keep_files()
                .run();
            run.assert_code(0);
            let found: Value = serde_json::from_str(&run.stdout).expect("JSON");
            // A file of keys has no place for an end.
            let ends = token.is_some() && file == "config";
            let end = ends.then_some("2099-01-02T03:04:05+00:00");
            assert_eq!(
                found,
                json!([end, method, "AKIA%(x)s", secret, token, "eu-central-1"])
            );
            let files: Vec<String> = run.files().into_keys().collect();
            assert_eq!(
                files.contains(&"cloud/security_token".to_owned()),
                token.is_some()
            );
            assert!(!files.contains(&"cloud/arn".to_owned()));
        }
    }
}

#[test]
fn spring_reads_the_properties_of_spring() {
    // Spring puts variables into values, and newer releases take a backslash for an escape.
    let password = format!("{PASSWORD}\n\r\t${{HOME}}\\${{HOME:-x}}$${{a${{b}}}}#{{1}}");
    let user = "${user.name}ü";
    let url = "jdbc:postgresql://db:5432/orders?a=b";
    let answer = json!({"username": user, "password": password});
    let boot = repository().join(".cache/spring/*").display().to_string();
    let location = "--spring.config.additional-location=file:";
    for (program, option, jars, prefix) in [
        (
            "ReadSpring.java",
            "",
            "/usr/share/java/spring3-core.jar:/usr/share/java/commons-logging.jar",
            None,
        ),
        (
            "BootProperties.java",
            location,
            &boot,
            Some("app.data-sources.orders"),
        ),
    ] {
        let mut keys = json!({"as": "spring", "url": url});
        if let Some(prefix) = prefix {
            keys["prefix"] = prefix.into();
        }
        let run = start("orders-db", keys, answer.clone());
        let file = run.secrets_dir.join("orders-db/application.properties");
        let file = format!("{option}{}", file.display());
        let names = ["url", "username", "password"];
        let names = names.map(|name| format!("{}.{name}", prefix.unwrap_or("spring.datasource")));
        let [first, second, third] = &names;
        let read = run_java(&[], program, jars, &[&file, first, second, third]);
        assert_eq!(read, format!("{url}\0{user}\0{password}\0"));
    }
}

/// Prints the user and the password that Docker's own library finds for a registry.
const FIND_DOCKER: &str = "
import sys, json, docker.auth
it = docker.auth.load_config(config_path=sys.argv[1]).resolve_authconfig(sys.argv[2])
print(json.dumps([it['username'], it['password'], it['serveraddress']]))
";

#[test]
fn docker_finds_the_login_of_docker() {
    let password = format!("{PASSWORD}\n\r\t");
    for registry in ["registry.example.io:5000", "https://index.docker.io/v1/"] {
        let keys = json!({"as": "docker", "registry": registry});
        let answer = json!({"username": "o'r\"d@er/s\\ü", "password": password});
        let run = start("images", keys, answer.clone());
        let file = run
            .secrets_dir
            .join("images/config.json")
            .display()
            .to_string();
        let found = run_python(FIND_DOCKER, &[&file, registry], &[]);
        let found: Value = serde_json::from_str(&found).expect("JSON");
        assert_eq!(found, json!([answer["username"], password, registry]));
    }
}
