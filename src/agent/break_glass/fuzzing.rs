//! Promises about every order.

use super::Order;
use crate::agent::register::Selector;
use crate::fuzzing::lines;

/// Reads two orders and a container that they may name, a line each.
pub(crate) fn order(input: &[u8]) {
    let Some([one, other, app, environment, container]) = lines::<5>(input) else {
        return;
    };
    let one = read(one);
    let other = read(other);
    if let (Some(one), Some(other)) = (one, other) {
        let covers = |selector: &Selector| selector.covers(app, environment, container);
        let both = covers(&one) && covers(&other);
        assert!(!both || one.overlaps(&other), "{one} and {other}");
        assert_eq!(one.overlaps(&other), other.overlaps(&one));
        if one.includes(&other) {
            assert!(one.overlaps(&other), "{one} includes {other}");
            assert!(!covers(&other) || covers(&one), "{one} includes {other}");
        }
        assert!(one.includes(&one) && Selector::default().includes(&one));
    }
}

fn read(line: &str) -> Option<Selector> {
    let order: Order = serde_json::from_str(line).ok()?;
    let written = serde_json::to_string(&order).expect("an order");
    assert!(!written.contains('\n'));
    let again: Order = serde_json::from_str(&written).expect("the same order");
    assert_eq!(
        serde_json::to_string(&again).expect("an order"),
        written,
        "{line}"
    );
    let (one, other) = (selector(order), selector(again));
    assert_eq!(one, other);
    Some(one)
}

fn selector(order: Order) -> Selector {
    match order {
        Order::Revoke { selector, .. } | Order::Allow(selector) => selector,
    }
}
