//! Typing errors: which known name was meant, and whether two names may be meant to be one.

/// Asks in the words of a message, in brackets, whether the nearest known name was meant; nothing where none is near.
pub(crate) fn meant<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, known).map_or_else(String::new, |near| format!(" (is `{near}` meant?)"))
}

/// Finds the known name that this one was most probably meant to be.
fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .filter(|known| is_slip(name, known))
        .min_by_key(|known| strsim::osa_distance(name, known))
}

/// Says whether one name may be the other with a typing error: another case, or a letter or two that are wrong,
/// missing or too many.
///
/// Names that differ in a number alone are two names, and so are short ones: `db-1` and `db-2`, `eu` and `us`.
pub(crate) fn is_slip(one: &str, other: &str) -> bool {
    if one == other {
        return false;
    }
    if one.eq_ignore_ascii_case(other) {
        return true;
    }
    let parts = |text: &str| text.split('/').map(str::to_owned).collect::<Vec<_>>();
    let (ones, others) = (parts(one), parts(other));
    if ones.len() > 1 && ones.len() == others.len() {
        // Of a path each part is a name.
        return ones
            .iter()
            .zip(&others)
            .all(|(one, other)| one == other || is_slip(one, other));
    }
    let without_number = |text: &str| {
        let text = text.replace(|c: char| c.is_ascii_digit(), "");
        text.trim_end_matches(['-', '_', '.']).to_owned()
    };
    let length = one.chars().count().min(other.chars().count());
    let most = match length {
        0..=2 => 0,
        3..=7 => 1,
        _ => 2,
    };
    let distance = strsim::osa_distance(&one.to_lowercase(), &other.to_lowercase());
    distance <= most && without_number(one) != without_number(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slip_is_near_and_another_name_is_not() {
        for (one, other, expected) in [
            ("password", "passwort", true),
            ("password", "pasword", true),
            ("username", "usernmae", true),
            ("Production", "production", true),
            ("prod", "prd", true),
            ("orders_db", "order_db", true),
            (
                "auth/token/create/svc-prod",
                "auth/token/create/svc_prod",
                true,
            ),
            (
                "auth/token/create/timeline",
                "auth/tokens/create/timelin",
                true,
            ),
            ("password", "password", false),
            ("production", "staging", false),
            ("eu", "us", false),
            ("db-1", "db-2", false),
            ("auth/token/create/a", "auth/token/create/b", false),
            ("auth/token/create/svc-1", "auth/token/create/svc-2", false),
            ("auth/token/create/api", "auth/token/create", false),
            ("username", "password", false),
            ("svc-abc", "svc-abc-2", false),
        ] {
            assert_eq!(is_slip(one, other), expected, "{one} {other}");
            assert_eq!(is_slip(other, one), expected, "{other} {one}");
        }
    }

    #[test]
    fn nearest_name_is_suggested() {
        let known = ["username", "password", "userid"];
        assert_eq!(nearest("usernam", known), Some("username"));
        assert_eq!(nearest("port", known), None);
    }
}
