//! Fresh weights: He et al. 2015 for what a ReLU follows, which is PyTorch's `kaiming_uniform_` with ReLU gain; biases
//! are zero.

use rand::Rng;

use super::{Graph, GraphError};
use crate::seed;
use crate::tensor::TensorData;

/// How fresh weights are drawn. Biases are zero in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Init {
    /// Uniformly from `±sqrt(6 / fan_in)`: He et al. 2015, for what a ReLU follows.
    #[default]
    He,
    /// Uniformly from `±sqrt(6 / (fan_in + fan_out))`: Glorot and Bengio 2010, for sigmoid and tanh.
    Glorot,
    /// From a normal distribution around 0.
    Normal {
        /// Its standard deviation; above 0.
        std: f64,
    },
}

/// Draws every weight uniformly from `±sqrt(6 / fan_in)` and sets biases to zero. Each parameter has its own stream of
/// random numbers, so a layer more or less does not change the others.
pub fn initialise(graph: &mut Graph, seed: u64) -> Result<(), GraphError> {
    let mut edit = graph.edit();
    for id in edit.graph().param_ids() {
        let param = edit.graph().param(id);
        let shape = param.data.shape().to_vec();
        let data = if param.is_weight() {
            let fan_in: usize = shape[1..].iter().product();
            let bound = (6.0 / fan_in.max(1) as f32).sqrt();
            let mut rng = seed::stream(seed, &format!("init/{}", param.name));
            let values: Vec<f32> = (0..param.data.elements()).map(|_| rng.random_range(-bound..bound)).collect();
            TensorData::from_f32(shape, &values)
        } else {
            TensorData::zeros(shape)
        };
        let data = data.map_err(|source| GraphError::Param { name: param.name.clone(), source })?;
        edit.set_param(id, data);
        edit.set_mask(id, None);
    }
    edit.commit()?;
    Ok(())
}
