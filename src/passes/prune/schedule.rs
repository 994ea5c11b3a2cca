//! How sparsity grows in gradual pruning (Zhu and Gupta 2017, "To prune, or not to prune").

/// The sparsity after share `t` of the pruning phase, on the way to `target`: `target * (1 - (1 - t)^3)`. It grows fast
/// while many weights are idle and slowly in the end. `t` outside `[0, 1]` is taken as the nearer end.
pub fn cubic_sparsity(target: f64, t: f64) -> f64 {
    target * (1.0 - (1.0 - t.clamp(0.0, 1.0)).powi(3))
}

#[cfg(test)]
mod tests {
    use super::cubic_sparsity;

    #[test]
    fn it_starts_at_nothing_and_ends_at_the_target() {
        assert_eq!(cubic_sparsity(0.9, 0.0), 0.0);
        assert_eq!(cubic_sparsity(0.9, 1.0), 0.9);
        assert_eq!(cubic_sparsity(0.9, 7.0), 0.9);
        // Half way, seven eighths of the weights that go are gone.
        assert!((cubic_sparsity(0.8, 0.5) - 0.7).abs() < 1e-12);
    }
}
