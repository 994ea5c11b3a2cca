//! How parameters follow the gradient.

mod adamw;
mod sgd;

pub use adamw::AdamW;
pub use sgd::Sgd;

use super::config::OptimizerConfig;

/// An optimizer: its state belongs to one flat buffer of the parameters that are trained. Weight decay acts on all of
/// them, biases and the weights of batch normalisations included, as in PyTorch; frozen parameters and running statistics
/// are not among them.
pub trait Optimizer {
    /// Moves `params` one step against `grads` at learning rate `lr`. Both always have the length the optimizer was made
    /// for.
    fn step(&mut self, lr: f64, params: &mut [f32], grads: &[f32]);
}

/// The optimizer that `config` describes, for `len` parameters.
pub fn build(config: &OptimizerConfig, len: usize) -> Box<dyn Optimizer> {
    match *config {
        OptimizerConfig::Sgd { momentum, nesterov, weight_decay } => {
            Box::new(Sgd::new(momentum, nesterov, weight_decay, len))
        }
        OptimizerConfig::AdamW { beta1, beta2, epsilon, weight_decay } => {
            Box::new(AdamW::new(beta1, beta2, epsilon, weight_decay, len))
        }
    }
}
