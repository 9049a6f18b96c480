//! `as = "redis"`, `"amqp"` and `"mongodb"`.

use serde_json::{Value, json};

use super::{PASSWORD, run_python, run_with, start};
use crate::support::{RabbitMq, Redis, unique};

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

/// Sends a message to itself through the server that a URL names, and prints what came.
const SEND: &str = "
import pika, sys
connection = pika.BlockingConnection(pika.URLParameters(sys.argv[1]))
channel = connection.channel()
queue = channel.queue_declare('', exclusive=True).method.queue
channel.basic_publish('', queue, b'hello')
method, properties, body = channel.basic_get(queue, auto_ack=True)
print(body.decode())
";

#[test]
fn amqp_client_logs_in_by_the_url_of_amqp() {
    let server = RabbitMq::shared();
    let keys =
        json!({"as": "amqp", "host": "127.0.0.1", "port": server.port(), "vhost": RabbitMq::VHOST});
    let answer = json!({"username": RabbitMq::USER, "password": RabbitMq::PASSWORD});
    let run = start("queue", keys, answer);
    assert_eq!(
        run_python(SEND, &[run.file("queue/url").text()], &[]),
        "hello\n"
    );
}

/// Takes a URL apart with MongoDB's own driver.
const PARSE_MONGODB: &str = "
import sys, json, pymongo.uri_parser
it = pymongo.uri_parser.parse_uri(sys.argv[1])
options = it['options']
parts = [it[key] for key in ['nodelist', 'username', 'password', 'database']]
# Older releases call tls by the name that it had.
print(json.dumps(parts + [options.get('authSource'), options.get('tls', options.get('ssl'))]))
";

#[test]
fn url_of_mongodb_is_read_by_its_driver() {
    let password = format!("{PASSWORD}\n\r\t");
    let keys =
        json!({"as": "mongodb", "host": "::1", "port": 1234, "dbname": "orders", "tls": true});
    let answer = json!({"username": "o'r\"d:e@r/s \\%41ü", "password": password});
    let run = start("store", keys, answer.clone());
    let read = run_python(PARSE_MONGODB, &[run.file("store/url").text()], &[]);
    let read: Value = serde_json::from_str(&read).expect("JSON");
    let expected = json!([
        [["::1", 1234]],
        answer["username"],
        password,
        "orders",
        "admin",
        true
    ]);
    assert_eq!(read, expected);
}
