//! Adam with decoupled weight decay (Loshchilov and Hutter 2019), as `torch.optim.AdamW` has it:
//!
//! ```text
//! p = p - lr * weight_decay * p
//! m = beta1 * m + (1 - beta1) * g
//! s = beta2 * s + (1 - beta2) * g^2
//! p = p - lr / (1 - beta1^t) * m / (sqrt(s / (1 - beta2^t)) + epsilon)          t = 1, 2, ...
//! ```

use niwaki_kernels::optimizer;
use niwaki_kernels::simd::Path;

use super::{Optimizer, OptimizerState};

/// Adam with decoupled weight decay, with the moments of every parameter.
pub struct AdamW {
    beta1: f64,
    beta2: f64,
    epsilon: f64,
    weight_decay: f64,
    steps: i32,
    mean: Vec<f32>,
    mean_square: Vec<f32>,
}

impl AdamW {
    /// For `len` parameters, with both means at zero.
    pub fn new(beta1: f64, beta2: f64, epsilon: f64, weight_decay: f64, len: usize) -> Self {
        let zeros = || vec![0.0; len];
        Self { beta1, beta2, epsilon, weight_decay, steps: 0, mean: zeros(), mean_square: zeros() }
    }
}

impl Optimizer for AdamW {
    fn step(&mut self, lr: f64, params: &mut [f32], grads: &[f32]) {
        // Past two thousand million steps both corrections are 1 anyway.
        self.steps = self.steps.saturating_add(1);
        let step = optimizer::AdamW {
            rate: (lr / (1.0 - self.beta1.powi(self.steps))) as f32,
            root_scale: (1.0 / (1.0 - self.beta2.powi(self.steps)).sqrt()) as f32,
            keep: (1.0 - lr * self.weight_decay) as f32,
            epsilon: self.epsilon as f32,
            betas: [self.beta1 as f32, self.beta2 as f32],
            new: [(1.0 - self.beta1) as f32, (1.0 - self.beta2) as f32],
        };
        step.step(Path::chosen(), params, grads, [&mut self.mean, &mut self.mean_square]);
    }

    fn state(&self) -> OptimizerState {
        OptimizerState { steps: self.steps as u64, moments: vec![self.mean.clone(), self.mean_square.clone()] }
    }

    fn load_state(&mut self, state: OptimizerState) -> bool {
        let (Ok(steps), Ok([mean, mean_square])) = (i32::try_from(state.steps), <[_; 2]>::try_from(state.moments))
        else {
            return false;
        };
        if mean.len() != self.mean.len() || mean_square.len() != self.mean_square.len() {
            return false;
        }
        (self.steps, self.mean, self.mean_square) = (steps, mean, mean_square);
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_steps_are_those_worked_out_from_the_rule() {
        let mut adamw = AdamW::new(0.9, 0.999, 1e-8, 0.1, 1);
        let mut p = [1.0];
        // With t = 1 the quotient is the gradient's sign: 1 * (1 - 0.01 * 0.1) - 0.01 = 0.989. The others were worked out
        // in double precision.
        for (g, expected) in [(2.0, 0.989), (2.0, 0.978011), (-1.0, 0.971876455)] {
            adamw.step(0.01, &mut p, &[g]);
            assert!((f64::from(p[0]) - expected).abs() < 1e-6, "{p:?}, expected {expected}");
        }
    }

    proptest! {
        #[test]
        fn every_parameter_follows_the_rule_by_itself(
            grads in prop::collection::vec(prop::array::uniform3(-2f32..2.0), 1..20), decay in 0f64..0.5,
        ) {
            let (b1, b2, epsilon, lr) = (0.8, 0.95, 1e-6, 0.02);
            let mut adamw = AdamW::new(b1, b2, epsilon, decay, 3);
            let mut found = [0.5f32, -0.25, 1.0];
            let (mut expected, mut m, mut s) = (found.map(f64::from), [0.0; 3], [0.0; 3]);
            for (t, grad) in (1..).zip(&grads) {
                adamw.step(lr, &mut found, grad);
                for i in 0..3 {
                    let g = f64::from(grad[i]);
                    m[i] = b1 * m[i] + (1.0 - b1) * g;
                    s[i] = b2 * s[i] + (1.0 - b2) * g * g;
                    let (m_hat, s_hat) = (m[i] / (1.0 - b1.powi(t)), s[i] / (1.0 - b2.powi(t)));
                    expected[i] -= lr * decay * expected[i] + lr * m_hat / (s_hat.sqrt() + epsilon);
                    // Twenty steps in f32.
                    prop_assert!((f64::from(found[i]) - expected[i]).abs() < 1e-5, "{found:?} {expected:?}");
                }
            }
        }
    }
}
