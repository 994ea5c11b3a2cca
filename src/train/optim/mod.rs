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

    /// What it keeps from step to step.
    fn state(&self) -> OptimizerState;

    /// Goes on from the state of another one; `false`, and nothing changes, if that was one of another kind or length.
    fn load_state(&mut self, state: OptimizerState) -> bool;
}

/// What an optimizer keeps from step to step.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OptimizerState {
    /// The steps it took, where its rule asks for that; else 0.
    pub steps: u64,
    /// Numbers of each parameter: its velocity, say.
    pub moments: Vec<Vec<f32>>,
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
