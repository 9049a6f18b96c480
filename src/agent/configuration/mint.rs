//! The table `[mint]`.

use std::time::Duration;

use super::reader::Reader;
use crate::manifest::table::Table;
use crate::text;

/// The longest life of a wrapping token, which is also the default.
const WRAP_TTL: Duration = Duration::from_secs(30);
/// The life that a service's token has until it is renewed.
const TTL: Duration = Duration::from_secs(3600);
/// A container that starts more often than this in a minute has to wait.
const STARTS_PER_MINUTE: u32 = 10;
pub(super) const ROLE: &str = "${app}-${environment}";

/// The tokens that Vault is asked for.
pub struct Mint {
    /// Life of a wrapping token: at most 30 s.
    pub wrap_ttl: Duration,
    /// Life of a client token until it is renewed, where its role has no period.
    pub ttl: Duration,
    /// How many tokens one container may have in a minute.
    pub starts_per_minute: u32,
    /// The token role of a rule that names none, with `${app}` and `${environment}`.
    pub(super) role: String,
}

impl Mint {
    pub(super) fn read(root: &mut Table<'_>, reader: &mut Reader) -> Mint {
        let mut mint = Mint {
            wrap_ttl: WRAP_TTL,
            ttl: TTL,
            starts_per_minute: STARTS_PER_MINUTE,
            role: ROLE.to_owned(),
        };
        if let Some(mut t) = root.table("mint") {
            reader.set(&mut mint.wrap_ttl, t.text("wrap_ttl"), short);
            reader.set(&mut mint.ttl, t.text("ttl"), text::whole_seconds);
            if let Some(number) = t.number("starts_per_minute") {
                mint.starts_per_minute = number;
            }
            if mint.starts_per_minute == 0 {
                let text = "`starts_per_minute` in [mint]: with 0 no container could start";
                reader.mistake(None, text);
            }
            reader.set(&mut mint.role, t.text("role"), role_name);
            t.finish(&mut reader.mistakes);
        }
        mint
    }
}

fn short(text: &str) -> Result<Duration, String> {
    text::whole_seconds(text).and_then(|ttl| {
        if ttl <= WRAP_TTL {
            Ok(ttl)
        } else {
            Err("a wrapping token lives 30 s at the most".to_owned())
        }
    })
}

/// A role's name, in which the two identity labels may stand.
pub(super) fn role_name(text: &str) -> Result<String, String> {
    let sample = text.replace("${app}", "a").replace("${environment}", "e");
    text::path_segment(&sample)
        .map(|_| text.to_owned())
        .map_err(|error| {
            format!("{error}; `${{app}}` and `${{environment}}` are all that is replaced")
        })
}
