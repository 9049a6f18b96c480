//! Promises about every line of the log.

use time::OffsetDateTime;

use super::{LINE_MAX, Level, Value, human, json, line_of_json, sanitised};
use crate::fuzzing::lines;

/// Writes an event whose text and fields are the input's lines.
pub(crate) fn log(input: &[u8]) {
    // A server may say anything, but it has been made a text before.
    let input = String::from_utf8_lossy(input);
    let Some([text, one, two]) = lines::<3>(input.as_bytes()) else {
        return;
    };
    for text in [text, one, two, &input] {
        let clean = sanitised(text, 64);
        assert!(clean.len() < 64 + 16, "{clean}");
        assert!(is_clean(&clean), "{clean:?}");
    }
    let fields = [
        ("one", Value::Text(one)),
        ("two", Value::Text(two)),
        ("number", Value::Number(7)),
    ];
    for level in [Level::Error, Level::Warn, Level::Info] {
        assert!(is_clean(&human(level, &input, &fields)));
        let now = OffsetDateTime::UNIX_EPOCH;
        let line = line_of_json(level, "event", &input, &fields, now);
        assert!(line.len() < LINE_MAX && is_clean(&line), "{line:?}");
        let object: serde_json::Value = serde_json::from_str(&line).expect("one object");
        assert_eq!(object["event"], "event");
        assert_eq!(object["level"], level.name());
        // As much of it as there is room for.
        if input.len() < 64 {
            let whole = json(level, "event", &input, &fields, now, LINE_MAX / 2);
            assert_eq!(line, whole);
            assert_eq!(object["number"], 7);
        }
    }
}

/// Says whether a text is clean: nothing in it drives a terminal, begins a line or turns text round.
fn is_clean(text: &str) -> bool {
    !text.contains(|c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    })
}
