//! Low rank.

/// Replaces linear layers and convolutions by two thinner ones each, by singular value decomposition.
#[derive(Debug, Clone, PartialEq)]
pub struct LowRank {
    /// The layers to look at, by name or glob of their nodes; empty: all linear layers and convolutions.
    pub layers: Vec<String>,
    /// Layers left alone, by name or glob of their nodes.
    pub ignored: Vec<String>,
    /// How thin.
    pub rank: Rank,
    /// Ranks are multiples of it, where the layer is large enough; at least 1.
    pub round_to: u32,
}

/// How thin the two layers are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rank {
    /// This rank in every layer.
    Fixed(u32),
    /// In each layer the least rank that keeps this share of the squared singular values' sum, in `(0, 1]`.
    Energy(f64),
    /// The ranks that lose least, all layers together, of those with which the network takes at most this share of the
    /// multiply-accumulate operations that it takes now, in `(0, 1)`.
    MacRatio(f64),
}
