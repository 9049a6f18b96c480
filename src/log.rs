//! The log: one event a line on standard error, for people or for machines.
//!
//! Values pass through [`sanitised`], so that nothing a server, an environment or a file says can forge a line or
//! drive a terminal (CWE-117, CWE-150). There is no way to hand a [`Secret`](crate::secret::Secret) to this module.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;

use std::fmt::Write as _;
use std::io;
use std::os::fd::AsFd;
use std::panic::PanicHookInfo;
use std::time::SystemTime;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The form of a line: `human`, or `json` for one JSON object a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// The form for a terminal.
    Human,
    /// The form for a log collector.
    Json,
}

/// The amount that is logged; each level includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Level {
    /// Failures, with their reason.
    Error,
    /// Faults that an operator should look at although the work went on.
    Warn,
    /// The steps of a start.
    Info,
    /// Each request to Vault.
    Debug,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
        }
    }
}

/// One field of an event; numbers stay numbers in JSON.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    /// Text, sanitised when written.
    Text(&'a str),
    /// A count, a duration in milliseconds, an exit code.
    Number(u64),
}

/// The log: a format and a level.
#[derive(Debug, Clone, Copy)]
pub struct Log {
    /// The form of a line.
    pub format: Format,
    /// The last level that is written.
    pub level: Level,
}

/// The longest line: a pipe takes this much in one piece (`PIPE_BUF`, pipe(7)), so that a line is written whole or not
/// at all.
const LINE_MAX: usize = 4096;

/// The time that a full pipe may hold the start up for one line before that line is dropped, in milliseconds.
const PATIENCE_MS: u16 = 50;

impl Log {
    /// Writes one event: a short name for machines, a sentence for people, and fields for both.
    #[expect(clippy::disallowed_methods, reason = "an event happens now")]
    pub fn event(&self, level: Level, name: &str, text: &str, fields: &[(&str, Value<'_>)]) {
        if level > self.level {
            return;
        }
        let line = match self.format {
            Format::Human => human(level, text, fields),
            Format::Json => {
                let now = SystemTime::now().into();
                line_of_json(level, name, text, fields, now)
            }
        };
        write_line(&line);
    }
}

fn human(level: Level, text: &str, fields: &[(&str, Value<'_>)]) -> String {
    let mut line = String::from("anteroom: ");
    if level <= Level::Warn {
        line.push_str(level.name());
        line.push_str(": ");
    }
    line.push_str(&sanitised(text, LINE_MAX / 2));
    // An error's text says all that a person needs; the fields of the others carry the particulars.
    if level > Level::Error {
        for (name, value) in fields {
            let _ = match value {
                Value::Text(text) => write!(line, " {name}={}", sanitised(text, 256)),
                Value::Number(number) => write!(line, " {name}={number}"),
            };
        }
    }
    line
}

/// Builds a line of JSON that fits: escaping makes values longer, and JSON that was cut off would be no JSON any more.
fn line_of_json(
    level: Level,
    name: &str,
    text: &str,
    fields: &[(&str, Value<'_>)],
    now: OffsetDateTime,
) -> String {
    [LINE_MAX / 2, LINE_MAX / 8, LINE_MAX / 32]
        .iter()
        .map(|&max| json(level, name, text, fields, now, max))
        .find(|line| line.len() < LINE_MAX)
        .unwrap_or_else(|| json(level, name, "", &[], now, 0))
}

fn json(
    level: Level,
    name: &str,
    text: &str,
    fields: &[(&str, Value<'_>)],
    time: OffsetDateTime,
    max: usize,
) -> String {
    let mut object = serde_json::Map::new();
    let time = time.format(&Rfc3339).unwrap_or_default();
    object.insert("time".into(), time.into());
    object.insert("level".into(), level.name().into());
    object.insert("event".into(), name.into());
    object.insert("message".into(), sanitised(text, max).into());
    for (name, value) in fields {
        let value = match value {
            Value::Text(text) => sanitised(text, max.min(512)).into(),
            Value::Number(number) => (*number).into(),
        };
        object.insert((*name).into(), value);
    }
    serde_json::Value::Object(object).to_string()
}

/// Escapes what is not seen as it stands, and caps the length in bytes.
///
/// These are control characters, those that change the direction of text, line ends of any kind, and those without a width,
/// with which two names look the same.
pub fn sanitised(text: &str, max: usize) -> String {
    let mut clean = String::with_capacity(text.len().min(max));
    for c in text.chars() {
        if clean.len() >= max {
            clean.push('…');
            break;
        }
        if is_seen(c) {
            clean.push(c);
        } else {
            let _ = write!(clean, "\\u{{{:x}}}", u32::from(c));
        }
    }
    clean
}

/// Says whether a character shows what it is.
fn is_seen(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    // Unicode calls these ignorable where a font does not know them: fillers, joiners, and selectors of variants. All others
    // of this kind are format characters or not assigned.
    let is_ignorable = matches!(c, '\u{34f}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}' | '\u{e0100}'..='\u{e01ef}');
    // The standard library knows the rest (Cc, Cf, Zl, Zp, Zs but the space, Co, Cn). Behind a letter, since at the
    // beginning of a text it escapes accents, too, which are part of many languages' words.
    let behind_a_letter = String::from_iter(['a', c]);
    !is_ignorable && behind_a_letter.escape_debug().skip(1).eq([c])
}

/// Writes a line to standard error, unless its reader does not take it: a full pipe must not hold up a start.
pub fn write_line(line: &str) {
    let mut bytes = line.as_bytes().to_vec();
    bytes.truncate(LINE_MAX - 1);
    bytes.push(b'\n');
    let stderr = io::stderr();
    let mut ready = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    if matches!(poll(&mut ready, PollTimeout::from(PATIENCE_MS)), Ok(n) if n > 0) {
        // Past the buffer of std, so that the line is one write; a closed standard error is no reason to stop.
        let _ = nix::unistd::write(stderr.as_fd(), &bytes);
    }
}

/// The exit code of a defect in anteroom (`EX_SOFTWARE` of sysexits(3)).
const INTERNAL: i32 = 70;

/// Ends the process and says where it panicked, but not why: a panic's message may hold anything.
pub fn report_panic(panic: &PanicHookInfo<'_>) {
    let place = panic
        .location()
        .map_or_else(String::new, ToString::to_string);
    write_line(&format!(
        "anteroom: error: internal error at {place}; please report it"
    ));
    #[expect(
        clippy::exit,
        reason = "nothing may run after a panic, and the exit code is part of the interface"
    )]
    std::process::exit(INTERNAL);
}

#[cfg(test)]
mod tests {
    use super::*;

    // b44
    #[test]
    fn control_and_direction_characters_are_escaped() {
        assert_eq!(
            sanitised("a\r\nb\u{1b}[31m\u{202e}c\u{9b}", 100),
            "a\\u{d}\\u{a}b\\u{1b}[31m\\u{202e}c\\u{9b}"
        );
    }

    #[test]
    fn invisible_characters_are_escaped() {
        // Every format character (category Cf) of Unicode 16, and the other ignorable ones by an example each.
        let format = [
            (0xad, 0xad),
            (0x600, 0x605),
            (0x61c, 0x61c),
            (0x6dd, 0x6dd),
            (0x70f, 0x70f),
            (0x890, 0x891),
            (0x8e2, 0x8e2),
            (0x180e, 0x180e),
            (0x200b, 0x200f),
            (0x202a, 0x202e),
            (0x2060, 0x2064),
            (0x2066, 0x206f),
            (0xfeff, 0xfeff),
            (0xfff9, 0xfffb),
            (0x110bd, 0x110bd),
            (0x110cd, 0x110cd),
            (0x13430, 0x1343f),
            (0x1bca0, 0x1bca3),
            (0x1d173, 0x1d17a),
            (0xe0001, 0xe0001),
            (0xe0020, 0xe007f),
        ];
        let others = [
            0x34f, 0x115f, 0x180b, 0x2028, 0x2029, 0x3164, 0xfe0f, 0xffa0, 0xe0100, 0xa0, 0x3000,
            0xe000, 0x7f, 0x85,
        ];
        let format = format.into_iter().flat_map(|(first, last)| first..=last);
        for number in format.chain(others) {
            let c = char::from_u32(number).expect("a character");
            assert_eq!(
                sanitised(&format!("a{c}b"), 100),
                format!("a\\u{{{number:x}}}b")
            );
        }
        for text in [
            "tïmeline",
            "e\u{301}tage",
            "बिल्ली",
            "ภาษา",
            "日本語",
            "\u{1f510}",
            "a \"b\" 'c' \\ d",
            "… → é",
        ] {
            assert_eq!(sanitised(text, 100), text);
        }
    }

    // b44
    #[test]
    fn long_text_is_cut() {
        assert!(sanitised(&"x".repeat(1 << 20), 100).len() < 110);
    }

    #[test]
    fn json_event_is_one_object_on_one_line() {
        let line = json(
            Level::Info,
            "lookup",
            "looked up\nthe token",
            &[("ms", Value::Number(3)), ("path", Value::Text("a\u{7}"))],
            OffsetDateTime::UNIX_EPOCH,
            100,
        );
        assert!(!line.contains('\n'));
        let value: serde_json::Value = serde_json::from_str(&line).expect("an object");
        assert_eq!(value["ms"], 3);
        assert_eq!(value["path"], "a\\u{7}");
        assert_eq!(value["time"], "1970-01-01T00:00:00Z");
    }

    #[test]
    fn human_error_carries_no_fields() {
        let line = human(
            Level::Error,
            "it broke",
            &[("exit_code", Value::Number(70))],
        );
        assert_eq!(line, "anteroom: error: it broke");
    }
}
