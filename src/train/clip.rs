//! Bounds on the gradient: first every value by itself, then the L2 norm of all of them.

use niwaki_kernels::optimizer::square_norm;
use niwaki_kernels::simd::Path;

use super::config::ClipConfig;

/// What clipping found and did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clipped {
    /// Whether it changed the gradient.
    pub acted: bool,
    /// The L2 norm before; not finite where a value is not.
    pub norm: f64,
}

/// Clips `gradient` in place. Values outside `config.value` become the nearer bound; if the norm is above `config.norm`
/// then, all values are scaled down alike, so that the direction stays.
pub fn clip(gradient: &mut [f32], config: &ClipConfig) -> Clipped {
    let before = l2_norm(gradient);
    let mut clipped = Clipped { acted: false, norm: before };
    if !before.is_finite() {
        return clipped;
    }
    let mut norm = before;
    if let Some((low, high)) = config.value {
        let (low, high) = (low as f32, high as f32);
        for value in gradient.iter_mut() {
            let bounded = value.max(low).min(high);
            clipped.acted |= bounded != *value;
            *value = bounded;
        }
        norm = if clipped.acted { l2_norm(gradient) } else { norm };
    }
    if let Some(limit) = config.norm.filter(|limit| norm > *limit) {
        let scale = (limit / norm) as f32;
        gradient.iter_mut().for_each(|value| *value *= scale);
        clipped.acted = true;
    }
    clipped
}

fn l2_norm(values: &[f32]) -> f64 {
    square_norm(Path::chosen(), values).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clipped(mut gradient: Vec<f32>, value: Option<(f64, f64)>, norm: Option<f64>) -> (Vec<f32>, Clipped) {
        let clipped = clip(&mut gradient, &ClipConfig { value, norm });
        (gradient, clipped)
    }

    #[test]
    fn values_become_the_nearer_bound_and_the_norm_is_that_before() {
        let (gradient, clipped) = clipped(vec![-3.0, 0.5, 4.0], Some((-1.0, 2.0)), None);
        assert_eq!(gradient, [-1.0, 0.5, 2.0]);
        assert_eq!(clipped, Clipped { acted: true, norm: 25.25f64.sqrt() });
    }

    #[test]
    fn the_norm_is_measured_after_the_values_are_clipped() {
        // Clipped to (3, 4), whose norm is 5, then halved.
        let (gradient, clipped) = clipped(vec![3.0, 12.0], Some((-4.0, 4.0)), Some(2.5));
        assert_eq!(gradient, [1.5, 2.0]);
        assert_eq!(clipped, Clipped { acted: true, norm: 153f64.sqrt() });
    }

    #[test]
    fn a_gradient_within_bounds_is_left_alone() {
        let values: Vec<f32> = vec![1.0; 16];
        let (gradient, clipped) = clipped(values.clone(), Some((-1.0, 1.0)), Some(4.0));
        assert_eq!(gradient, values);
        assert_eq!(clipped, Clipped { acted: false, norm: 4.0 });
    }

    #[test]
    fn a_gradient_that_is_no_number_is_left_for_the_caller_to_see() {
        let (_, clipped) = clipped(vec![f32::NAN, 1.0], Some((-1.0, 1.0)), Some(1.0));
        assert!(!clipped.norm.is_finite() && !clipped.acted);
    }
}
