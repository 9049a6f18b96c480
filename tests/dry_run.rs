//! A start without a Vault, and the plan.
