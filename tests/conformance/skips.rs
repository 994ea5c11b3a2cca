//! The cases that do not pass, each with the reason.

/// Names and reasons.
pub const SKIPPED: &[(&str, &str)] = &[];
