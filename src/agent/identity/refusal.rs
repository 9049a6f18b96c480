//! Why a container may have no token.

use crate::agent::image::Difference;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The container has one of the two labels, and not this one.
    LabelMissing { label: String },
    /// No rule names this service in this environment.
    Unknown,
    /// The service may not come from this image.
    Image { found: String },
    /// The service may not run as this user.
    User { found: String },
    /// The service may not be in this network.
    Network { found: String },
    /// The container was started with something that is not its image's.
    Started(Difference),
}

impl Refusal {
    /// For machines.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Refusal::LabelMissing { .. } => "label_missing",
            Refusal::Unknown => "unknown_identity",
            Refusal::Image { .. } => "image",
            Refusal::User { .. } => "user",
            Refusal::Network { .. } => "network",
            Refusal::Started(difference) => difference.reason(),
        }
    }

    /// How far the checks came.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Refusal::LabelMissing { .. } | Refusal::Unknown => 0,
            Refusal::Image { .. } => 1,
            Refusal::User { .. } => 2,
            Refusal::Network { .. } => 3,
            Refusal::Started(_) => 4,
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refusal::LabelMissing { label } => write!(f, "it lacks the label `{label}`"),
            Refusal::Unknown => f.write_str("no [[allow]] names this service in this environment"),
            Refusal::Image { found } => write!(f, "the service may not come from {found}"),
            Refusal::User { found } => write!(f, "the service may not run as {found}"),
            Refusal::Network { found } => write!(f, "the service may not be in {found}"),
            Refusal::Started(difference) => difference.fmt(f),
        }
    }
}
