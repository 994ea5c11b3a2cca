//! Puts dropouts in.

/// Puts a dropout behind nodes.
#[derive(Debug, Clone, PartialEq)]
pub struct InsertDropout {
    /// The nodes, by name or glob.
    pub after: Vec<String>,
    /// The probability that an element is left out, in `[0, 1)`.
    pub rate: f64,
}
