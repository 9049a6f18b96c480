//! Cuts what an engine sends into JSON objects, one container or one event each, before anything is parsed.
//!
//! Labels, ports and names are chosen by a container's owner. An object that is too large is counted and dropped
//! while it arrives, and one that cannot be parsed is found later: either costs that container alone.

/// Objects one after another, or in one array; fed with whatever pieces arrive.
pub(crate) struct Objects {
    /// Bytes of the object that has begun; empty while an object that is too large is dropped.
    bytes: Vec<u8>,
    /// Brackets of any kind that are open within the object.
    depth: usize,
    is_in_text: bool,
    is_escaped: bool,
    is_too_large: bool,
    array: Array,
    /// The largest object that is kept, in bytes.
    limit: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Array {
    None,
    Open,
    Closed,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Object {
    Whole(Vec<u8>),
    /// The object was larger than the limit, and is dropped.
    TooLarge,
}

/// The bytes are no objects one after another.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

impl Objects {
    /// Begins, with the size of the largest object that is kept.
    pub(crate) fn new(limit: usize) -> Objects {
        Objects {
            bytes: Vec::new(),
            depth: 0,
            is_in_text: false,
            is_escaped: false,
            is_too_large: false,
            array: Array::None,
            limit,
        }
    }

    /// Takes the next piece; returns the objects that end in it.
    pub(crate) fn feed(&mut self, piece: &[u8]) -> Result<Vec<Object>, Malformed> {
        let mut ended = Vec::new();
        for &byte in piece {
            if self.depth == 0 {
                self.between(byte)?;
                continue;
            }
            self.keep(byte);
            if self.is_in_text {
                match byte {
                    _ if self.is_escaped => self.is_escaped = false,
                    b'\\' => self.is_escaped = true,
                    b'"' => self.is_in_text = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.is_in_text = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth -= 1,
                _ => {}
            }
            if self.depth == 0 {
                let bytes = std::mem::take(&mut self.bytes);
                ended.push(if std::mem::take(&mut self.is_too_large) {
                    Object::TooLarge
                } else {
                    Object::Whole(bytes)
                });
            }
        }
        Ok(ended)
    }

    /// One whole array was fed, from its first bracket to its last.
    pub(crate) fn is_whole_array(&self) -> bool {
        self.depth == 0 && self.array == Array::Closed
    }

    fn between(&mut self, byte: u8) -> Result<(), Malformed> {
        match (byte, self.array) {
            (b' ' | b'\t' | b'\r' | b'\n', _) | (b',', Array::Open) => {}
            (b'[', Array::None) => self.array = Array::Open,
            (b']', Array::Open) => self.array = Array::Closed,
            (b'{', Array::None | Array::Open) => {
                self.depth = 1;
                self.keep(byte);
            }
            _ => return Err(Malformed),
        }
        Ok(())
    }

    fn keep(&mut self, byte: u8) {
        if self.bytes.len() < self.limit && !self.is_too_large {
            self.bytes.push(byte);
            return;
        }
        self.is_too_large = true;
        self.bytes = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> Object {
        Object::Whole(text.as_bytes().to_vec())
    }

    #[test]
    fn objects_in_pieces_of_any_size_are_cut_the_same() {
        let first = r#"{"a":"}]\"{\\","b":[{"c":[]},{}]}"#;
        let cases = [
            (format!("[{first}, {{}}]\n"), true),
            (format!("{first}\n{{}}\n"), false),
            (format!(" {first}{{}}"), false),
        ];
        for (text, is_array) in cases {
            for size in 1..text.len() {
                let mut objects = Objects::new(100);
                let mut found = Vec::new();
                for piece in text.as_bytes().chunks(size) {
                    found.extend(objects.feed(piece).expect("objects"));
                }
                assert_eq!(found, [whole(first), whole("{}")], "{text} by {size}");
                assert_eq!(objects.is_whole_array(), is_array, "{text}");
            }
        }
    }

    #[test]
    fn object_that_is_too_large_costs_itself_alone() {
        let large = format!("{{\"Labels\":{{\"a\":\"{}\"}}}}", "x]}".repeat(1000));
        let mut objects = Objects::new(100);
        let found = objects.feed(format!("[{{}},{large},{{\"b\":1}}]").as_bytes());
        let expected = [whole("{}"), Object::TooLarge, whole(r#"{"b":1}"#)];
        assert_eq!(found, Ok(expected.into()));
        assert!(objects.is_whole_array());
    }

    #[test]
    fn array_that_is_cut_off_is_not_whole() {
        for text in ["", "[", "[{}", "[{},", "[{}, {\"a\":", "{}"] {
            let mut objects = Objects::new(100);
            objects.feed(text.as_bytes()).expect("objects");
            assert!(!objects.is_whole_array(), "{text}");
        }
    }

    #[test]
    fn text_other_than_an_object_is_malformed() {
        for text in [
            "1", "null", "\"a\"", "[1]", "]", ",", "[]]", "[[", "[]{}", "<html>",
        ] {
            assert_eq!(
                Objects::new(100).feed(text.as_bytes()),
                Err(Malformed),
                "{text}"
            );
        }
    }
}
