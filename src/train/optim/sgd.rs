//! Stochastic gradient descent with momentum, as `torch.optim.SGD` has it (dampening 0):
//!
//! ```text
//! g = grad + weight_decay * p
//! v = momentum * v + g
//! p = p - lr * (nesterov ? g + momentum * v : v)
//! ```

use niwaki_kernels::optimizer;
use niwaki_kernels::simd::Path;

use super::{Optimizer, OptimizerState};

/// Stochastic gradient descent, with the velocity of every parameter.
pub struct Sgd {
    momentum: f32,
    weight_decay: f32,
    nesterov: bool,
    /// Empty without momentum.
    velocity: Vec<f32>,
}

impl Sgd {
    /// For `len` parameters, with the velocity at zero.
    pub fn new(momentum: f64, nesterov: bool, weight_decay: f64, len: usize) -> Self {
        let velocity = if momentum == 0.0 { Vec::new() } else { vec![0.0; len] };
        Self { momentum: momentum as f32, weight_decay: weight_decay as f32, nesterov, velocity }
    }
}

impl Optimizer for Sgd {
    fn step(&mut self, lr: f64, params: &mut [f32], grads: &[f32]) {
        let Self { momentum, weight_decay: decay, nesterov, .. } = *self;
        let step = optimizer::Sgd { rate: lr as f32, momentum, decay, nesterov };
        step.step(Path::chosen(), params, grads, &mut self.velocity);
    }

    fn state(&self) -> OptimizerState {
        OptimizerState { steps: 0, moments: vec![self.velocity.clone()] }
    }

    fn load_state(&mut self, state: OptimizerState) -> bool {
        let Ok([velocity]) = <[_; 1]>::try_from(state.moments) else { return false };
        let fits = velocity.len() == self.velocity.len();
        if fits {
            self.velocity = velocity;
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One parameter, starting at 1, after steps of lr 0.1 along these gradients.
    fn walk(mut sgd: Sgd, grads: &[f32]) -> Vec<f32> {
        let mut p = [1.0];
        grads
            .iter()
            .map(|g| {
                sgd.step(0.1, &mut p, &[*g]);
                p[0]
            })
            .collect()
    }

    fn assert_walk(found: Vec<f32>, expected: [f64; 3]) {
        for (found, expected) in found.iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() < 1e-6, "{found:?}, expected {expected:?}");
        }
    }

    // The expected numbers are worked out by hand from the rule above.

    #[test]
    fn plain_descent_with_weight_decay() {
        // 1 - 0.1 (2 + 0.5) = 0.75; 0.75 - 0.1 (2 + 0.375) = 0.5125; 0.5125 - 0.1 (-1 + 0.25625) = 0.586875
        assert_walk(walk(Sgd::new(0.0, false, 0.5, 1), &[2.0, 2.0, -1.0]), [0.75, 0.5125, 0.586875]);
    }

    #[test]
    fn momentum() {
        // v: 2, 3.8, 2.42
        assert_walk(walk(Sgd::new(0.9, false, 0.0, 1), &[2.0, 2.0, -1.0]), [0.8, 0.42, 0.178]);
    }

    #[test]
    fn nesterov_momentum_with_weight_decay() {
        // g: 2.5, 2.2625, -1.0536875; v: 2.5, 4.5125, 3.0075625; p -= 0.1 (g + 0.9 v)
        let expected = [0.525, -0.107375, -0.272686875];
        assert_walk(walk(Sgd::new(0.9, true, 0.5, 1), &[2.0, 2.0, -1.0]), expected);
    }
}
