//! Fresh weights: He et al. 2015 for what a ReLU follows, which is PyTorch's `kaiming_uniform_` with ReLU gain; biases
//! are zero.

use rand::Rng;

use super::Graph;
use crate::seed;
use crate::tensor::{TensorData, TensorError};

/// Draws every weight uniformly from `±sqrt(6 / fan_in)` and sets biases to zero. Each parameter has its own stream of
/// random numbers, so a layer more or less does not change the others.
pub fn initialise(graph: &mut Graph, seed: u64) -> Result<(), TensorError> {
    for param in &mut graph.params {
        let shape = param.data.shape().to_vec();
        param.data = if param.is_weight() {
            let fan_in: usize = shape[1..].iter().product();
            let bound = (6.0 / fan_in.max(1) as f32).sqrt();
            let mut rng = seed::stream(seed, &format!("init/{}", param.name));
            let values: Vec<f32> = (0..param.data.elements()).map(|_| rng.random_range(-bound..bound)).collect();
            TensorData::from_f32(shape, &values)?
        } else {
            TensorData::zeros(shape)?
        };
        param.mask = None;
    }
    Ok(())
}
