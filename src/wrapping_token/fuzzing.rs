//! Promises about every wrapping token and about every answer of an agent.

use zeroize::Zeroizing;

use super::read::Found;
use super::socket::read_answer;
use super::{Error, TOKEN_MAX, parse};

/// Reads a token in any of its forms.
pub(crate) fn token(input: &[u8]) {
    let Ok(parsed) = parse(input) else {
        return;
    };
    let text = parsed.expose();
    assert!((1..=TOKEN_MAX).contains(&text.len()));
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    assert!(text.bytes().all(is_allowed));
    assert_ne!(parsed.wrapped_accessor.as_deref(), Some(""));
    for end in ["", "\n", "\r\n"] {
        let again = parse(format!("{text}{end}").as_bytes()).expect("the same token");
        assert_eq!(again.expose(), text);
        assert_eq!(again.wrapped_accessor, None);
    }
}

/// Reads an answer of an agent's socket.
pub(crate) fn agent_answer(input: &[u8]) {
    match read_answer(Zeroizing::new(input.to_vec()), "a socket") {
        Ok(Found::Answer(answer)) => {
            assert_eq!(&answer[..], input);
            token(&answer);
        }
        Ok(Found::Nothing(_)) => assert!(input.is_empty()),
        Ok(Found::File(_)) => unreachable!("a socket is no file"),
        Err(Error::Refused { origin, reason }) => {
            assert_eq!(origin, "a socket");
            assert!(reason.len() <= 256);
        }
        Err(other) => unreachable!("{other}"),
    }
}
