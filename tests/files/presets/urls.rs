//! `as = "redis"`, `"amqp"` and `"mongodb"`.

use serde_json::json;

use super::{PASSWORD, run_with, start};
use crate::support::{Redis, unique};

#[test]
fn redis_cli_logs_in_by_the_url_of_redis() {
    let server = Redis::shared();
    let user = unique("o'r\"d:e@r/s\\%41ü");
    let password = format!("{PASSWORD}\n\r\t");
    let secret = format!(">{password}");
    let words = ["ACL", "SETUSER", &user, "on", &secret, "~*", "+@all"];
    assert_eq!(server.query(&words), "OK");
    for (answer, user) in [
        (json!({"username": user, "password": password}), &*user),
        (json!({"password": Redis::PASSWORD}), "default"),
    ] {
        let keys = json!({"as": "redis", "host": "127.0.0.1", "port": server.port(), "db": 7});
        let run = start("cache", keys, answer);
        let url = run.file("cache/url");
        let ask = |words: &[&str]| {
            let words = [&["redis-cli", "--no-auth-warning", "-u", url.text()], words].concat();
            run_with(&words, &[]).unwrap_or_else(|error| panic!("{error}"))
        };
        assert_eq!(ask(&["ACL", "WHOAMI"]), format!("{user}\n"));
        assert!(ask(&["CLIENT", "INFO"]).contains(" db=7 "), "{user}");
    }
}
