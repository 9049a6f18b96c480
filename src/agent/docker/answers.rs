//! Reads the answers of an engine, as far as the agent needs them.
//!
//! Everything that comes from a container or its image is chosen by its owner, and engines check little of it:
//! ports of unknown protocols, labels of any size. So nothing is read but what is needed, each container by itself, and never
//! into a closed list of words.

mod config;
mod container;
mod image;

use serde::{Deserialize, de::DeserializeOwned};

use super::{Change, Event};

pub(crate) use container::{Inspection, container};
pub(crate) use image::image;

/// How an engine that keeps its images in containerd calls that.
const CONTAINERD: &str = "io.containerd.snapshotter.v1";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
}

/// Reads the id of a container that is listed.
pub(crate) fn listed(bytes: &[u8]) -> Result<String, String> {
    parse(bytes).and_then(|listed: Listed| checked_id(listed.id))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Message {
    #[serde(default, rename = "Type")]
    kind: Option<String>,
    #[serde(default)]
    action: Option<String>,
    #[serde(default)]
    actor: Option<Actor>,
}

#[derive(Deserialize)]
struct Actor {
    #[serde(rename = "ID")]
    id: String,
}

/// Reads an event; none where it is about something else.
pub(crate) fn event(bytes: &[u8]) -> Result<Option<Event>, String> {
    let message: Message = parse(bytes)?;
    let change = match (message.kind.as_deref(), message.action.as_deref()) {
        (Some("container"), Some("start")) => Change::Started,
        (Some("container"), Some("die")) => Change::Died,
        _ => return Ok(None),
    };
    let actor = message.actor.ok_or("the event is about no container")?;
    Ok(Some(Event {
        change,
        container: checked_id(actor.id)?,
    }))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Info {
    #[serde(default)]
    driver_status: Option<Vec<Vec<String>>>,
}

/// Reads whether the engine knows from which registry an image was pulled.
///
/// Where containerd keeps the images, every tag makes a digest under its own name (`RepoDigests`), also one that was given by
/// `docker tag`; elsewhere only a pull or a push does.
pub(crate) fn knows_origins(bytes: &[u8]) -> Result<bool, String> {
    let info: Info = parse(bytes)?;
    let mut status = info.driver_status.iter().flatten().flatten();
    Ok(!status.any(|word| word == CONTAINERD))
}

#[derive(Deserialize)]
struct Complaint {
    message: String,
}

/// Reads what an engine says of why it does not do something.
pub(crate) fn complaint(bytes: &[u8]) -> Option<String> {
    parse(bytes).ok().map(|found: Complaint| found.message)
}

/// Whether a container's id looks like one: 64 hexadecimal digits, which need no escape in a path.
pub(crate) fn is_id(text: &str) -> bool {
    let is_hex = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.len() == 64 && text.bytes().all(is_hex)
}

fn checked_id(id: String) -> Result<String, String> {
    if is_id(&id) {
        Ok(id)
    } else {
        Err("its id is not 64 hexadecimal digits".to_owned())
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
