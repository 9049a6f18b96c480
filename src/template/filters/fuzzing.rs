//! Promises about every value: what a filter escapes reads back as the same, and what it refuses cannot be written.
//!
//! Each reader here does what the programs do that read the format, and knows nothing of the filter.

use minijinja::Value;

use super::*;

/// The characters that a reader takes for the end of a line.
const LINE_ENDS: [char; 6] = ['\n', '\r', '\0', '\u{85}', '\u{2028}', '\u{2029}'];

/// Escapes a value for every place, and reads it back.
pub(crate) fn escapes(input: &[u8]) {
    let Ok(value) = std::str::from_utf8(input) else {
        return;
    };
    let is_of_one_line = !value.contains(['\r', '\n', '\0']);
    check(value, is_of_one_line, pgpass, read_pgpass);
    if value.len() <= PGSERVICE_MAX {
        let has_end = !value.ends_with([' ', '\t', '\u{b}', '\u{c}']);
        check(value, is_of_one_line && has_end, pgservice, read_pgservice);
    }
    check(value, !value.contains('\0'), shell, read_shell);
    check(value, !value.contains('\0'), jaas, read_jaas);
    check(value, true, properties, read_properties);
    check(value, true, yaml, read_yaml);
    check(value, true, b64encode, |text| b64decode(text).ok());
    let has_room = value.len() * 2 + 2 <= MYCNF_MAX;
    if has_room || value.contains('\0') {
        check(value, !value.contains('\0'), mycnf, read_mycnf);
    }
    let encode = |value: &str| Ok(urlencode(&Value::from(value)).expect("a text"));
    check(value, true, encode, read_url);
    let encode = |value: &str| Ok(json::write(&Value::from(value)).expect("a text"));
    let decode = |text: &str| Some(read_json(text).ok()?.as_str()?.to_owned());
    check(value, true, encode, decode);
    // What comes from elsewhere as JSON is read, or refused.
    if let Ok(read) = read_json(value) {
        let written = json::write(&read).expect("it came from JSON");
        let again = read_json(&written).expect("our own JSON");
        assert_eq!(json::write(&again).expect("the same"), written);
    }
    let _ = b64decode(value);
}

#[track_caller]
fn check(
    value: &str,
    fits: bool,
    escape: impl Fn(&str) -> Result<String, Unfit>,
    read: impl Fn(&str) -> Option<String>,
) {
    let Ok(escaped) = escape(value) else {
        assert!(!fits, "{value:?} is refused");
        return;
    };
    assert!(fits, "{value:?} is not refused");
    assert_eq!(read(&escaped).as_deref(), Some(value), "{escaped:?}");
}

/// Reads one field as libpq does.
fn read_pgpass(field: &str) -> Option<String> {
    let mut read = String::new();
    let mut chars = field.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => read.push(chars.next()?),
            ':' | '\n' | '\r' => return None,
            other => read.push(other),
        }
    }
    Some(read)
}

/// Reads the value behind `key=` of a service file as libpq does.
fn read_pgservice(value: &str) -> Option<String> {
    let line = value.split('\n').next()?;
    let line = line.trim_end_matches([' ', '\t', '\r', '\u{b}', '\u{c}']);
    Some(line.split('\0').next()?.to_owned())
}

/// Reads a quoted text as java.io.StreamTokenizer does.
fn read_jaas(text: &str) -> Option<String> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    let mut read = String::new();
    let mut chars = inner.chars();
    while let Some(char) = chars.next() {
        read.push(match char {
            '"' | '\n' | '\r' => return None,
            '\\' => match chars.next()? {
                'a' => '\u{7}',
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'v' => '\u{b}',
                '0'..='7' => return None,
                other => other,
            },
            other => other,
        });
    }
    Some(read)
}

/// Reads one word as a shell does; a character that means something outside of quotes is a mistake.
fn read_shell(word: &str) -> Option<String> {
    let mut read = String::new();
    let mut chars = word.chars();
    while let Some(char) = chars.next() {
        match char {
            '\'' => loop {
                match chars.next()? {
                    '\'' => break,
                    other => read.push(other),
                }
            },
            '\\' => read.push(chars.next()?),
            _ => return None,
        }
    }
    Some(read)
}

/// Reads the value behind `key=` as java.util.Properties does.
fn read_properties(value: &str) -> Option<String> {
    if !value.is_ascii() || value.contains(LINE_ENDS) {
        return None;
    }
    let mut units: Vec<u16> = Vec::new();
    let value = value.trim_start_matches([' ', '\t', '\u{c}', '=', ':']);
    let mut chars = value.chars();
    while let Some(char) = chars.next() {
        let unit = match char {
            '\\' => match chars.next()? {
                'u' => {
                    let digits: String = chars.by_ref().take(4).collect();
                    u16::from_str_radix(&digits, 16).ok()?
                }
                't' => 9,
                'n' => 10,
                'f' => 12,
                'r' => 13,
                other => other as u16,
            },
            other => other as u16,
        };
        units.push(unit);
    }
    String::from_utf16(&units).ok()
}

/// Reads a double-quoted scalar that stands on one line, as YAML 1.1 and 1.2 do.
fn read_yaml(scalar: &str) -> Option<String> {
    let inner = scalar.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains(LINE_ENDS) {
        return None;
    }
    let mut read = String::new();
    let mut chars = inner.chars();
    while let Some(char) = chars.next() {
        let escape = match char {
            '"' => return None,
            '\\' => chars.next()?,
            other if other.is_control() => return None,
            other => {
                read.push(other);
                continue;
            }
        };
        let digits = match escape {
            'x' => 2,
            'u' => 4,
            'n' | 'r' | 't' | '"' | '\\' => 0,
            _ => return None,
        };
        let code: String = chars.by_ref().take(digits).collect();
        read.push(match escape {
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'x' | 'u' => char::from_u32(u32::from_str_radix(&code, 16).ok()?)?,
            other => other,
        });
    }
    Some(read)
}

/// Reads the value behind `key=` as MariaDB does: it takes a comment off, then blanks, then quotes, then escapes.
fn read_mycnf(value: &str) -> Option<String> {
    if value.contains(['\n', '\0']) {
        return None;
    }
    let mut quote = None;
    let mut is_escaped = false;
    let mut end = value.len();
    for (at, char) in value.char_indices() {
        if matches!(char, '\'' | '"') && !is_escaped {
            match quote {
                None => quote = Some(char),
                Some(open) if open == char => quote = None,
                Some(_) => {}
            }
        }
        if quote.is_none() && char == '#' {
            end = at;
            break;
        }
        is_escaped = quote.is_some() && char == '\\' && !is_escaped;
    }
    let value = value[..end].trim_matches([' ', '\t', '\r']);
    let value = value.strip_prefix('"')?.strip_suffix('"')?;
    let mut read = String::new();
    let mut chars = value.chars();
    while let Some(char) = chars.next() {
        if char != '\\' {
            read.push(char);
            continue;
        }
        match chars.next() {
            None => read.push('\\'),
            Some('n') => read.push('\n'),
            Some('t') => read.push('\t'),
            Some('r') => read.push('\r'),
            Some('b') => read.push('\u{8}'),
            Some('s') => read.push(' '),
            Some(char @ ('"' | '\'' | '\\')) => read.push(char),
            Some(other) => read.extend(['\\', other]),
        }
    }
    Some(read)
}

/// Reads a part of a URL, which none of its other characters may end.
fn read_url(part: &str) -> Option<String> {
    let mut read = Vec::new();
    let mut bytes = part.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                let digits = std::str::from_utf8(&digits).ok()?;
                read.push(u8::from_str_radix(digits, 16).ok()?);
            }
            b'-' | b'_' | b'.' => read.push(byte),
            byte if byte.is_ascii_alphanumeric() => read.push(byte),
            _ => return None,
        }
    }
    String::from_utf8(read).ok()
}
