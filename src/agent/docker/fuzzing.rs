//! Promises about every answer of an engine.

use super::answers;
use super::objects::{Object, Objects};

/// Largest object that is kept here.
const LIMIT: usize = 256;

/// Cuts a list and its events into objects, and reads each as whatever an engine answers.
pub(crate) fn answers(input: &[u8]) {
    let mut whole = Objects::new(LIMIT);
    let at_once = whole.feed(input);
    // In pieces the same comes out, up to where the input is no list any more.
    let mut pieces = Objects::new(LIMIT);
    let mut found = Vec::new();
    let fed = input.chunks(7).try_for_each(|piece| {
        found.extend(pieces.feed(piece)?);
        Ok::<_, super::objects::Malformed>(())
    });
    assert_eq!(at_once.is_ok(), fed.is_ok());
    let Ok(objects) = at_once else {
        return read(input);
    };
    assert_eq!(objects, found);
    assert_eq!(whole.is_whole_array(), pieces.is_whole_array());
    for object in &objects {
        match object {
            Object::Whole(bytes) => {
                assert!(bytes.len() <= LIMIT && bytes.starts_with(b"{"));
                read(bytes);
            }
            Object::TooLarge => {}
        }
    }
    // A whole list that JSON knows too has as many objects.
    if let (true, Ok(list)) = (
        whole.is_whole_array(),
        serde_json::from_slice::<Vec<serde_json::Value>>(input),
    ) {
        assert_eq!(list.len(), objects.len());
    }
}

fn read(bytes: &[u8]) {
    if let Ok(id) = answers::listed(bytes) {
        assert!(answers::is_id(&id));
    }
    if let Ok(Some(event)) = answers::event(bytes) {
        assert!(answers::is_id(&event.container));
    }
    let id = answers::listed(bytes).unwrap_or_default();
    let found = answers::container(bytes, &id);
    if let Ok(Some(mut claim)) = found.map(answers::Inspection::running) {
        assert_eq!(claim.container, id);
        assert!(claim.pid > 0 && claim.digests.len() == 1);
        let _ = answers::image(bytes, false, &mut claim);
        assert!(claim.origins.is_none());
    }
    let _ = answers::knows_origins(bytes);
    let _ = answers::complaint(bytes);
}
