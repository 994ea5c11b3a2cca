//! What the kernels with a weight have in common: their wrapper for candle, with a bias or without one.

use std::marker::PhantomData;

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Error, Layout, Result, Shape, Tensor};

use super::{Kernel, numbers, tensor_like, with_slice};

/// A kernel of an input `x` and a weight, plus a bias of one number an output channel.
pub(super) trait Weighted: Sized + 'static {
    /// Its name in errors.
    const OP: &'static str;
    /// What decides its sizes beside those of its arguments.
    type Config: Send + Sync + 'static;

    /// The sizes for arguments of these shapes.
    fn new(config: &Self::Config, x: &[usize], weight: &[usize]) -> Result<Self>;
    /// The output's shape.
    fn output(&self) -> Vec<usize>;
    /// Output channels: numbers of a bias.
    fn channels(&self) -> usize;
    /// The output.
    fn forward(&self, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32>;
    /// The gradient at the input.
    fn input_gradient(&self, weight: &[f32], dy: &[f32]) -> Vec<f32>;
    /// The gradient at the weight.
    fn weight_gradient(&self, x: &[f32], dy: &[f32]) -> Vec<f32>;
    /// The gradient at the bias.
    fn bias_gradient(&self, dy: &[f32]) -> Vec<f32>;
}

/// The kernel of an input and a weight.
pub(super) fn without_bias<K: Weighted>(config: K::Config) -> Kernel {
    Kernel::Two(Box::new(Wrapper::<K> { config, kernel: PhantomData }))
}

/// The kernel of an input, a weight and a bias.
pub(super) fn with_bias<K: Weighted>(config: K::Config) -> Kernel {
    Kernel::Three(Box::new(Wrapper::<K> { config, kernel: PhantomData }))
}

struct Wrapper<K: Weighted> {
    config: K::Config,
    kernel: PhantomData<fn() -> K>,
}

impl<K: Weighted> Wrapper<K> {
    fn run(
        &self,
        x: (&CpuStorage, &Layout),
        w: (&CpuStorage, &Layout),
        bias: Option<&[f32]>,
    ) -> Result<(CpuStorage, Shape)> {
        let kernel = K::new(&self.config, x.1.dims(), w.1.dims())?;
        let output = kernel.output();
        if let Some(bias) = bias.filter(|bias| bias.len() != kernel.channels()) {
            return Err(Error::Msg(format!("{} to {} outputs with {} biases", K::OP, kernel.channels(), bias.len())));
        }
        let y = kernel.forward(numbers(K::OP, x.0, x.1)?, numbers(K::OP, w.0, w.1)?, bias);
        Ok((CpuStorage::F32(y), Shape::from(output)))
    }

    /// The gradients at `x` and `weight`. Each costs as much as the forward pass and is left out where nobody asks: at a
    /// network's input, which no variable leads to, and at a weight that is frozen.
    fn gradients(&self, x: &Tensor, weight: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let kernel = K::new(&self.config, x.dims(), weight.dims())?;
        with_slice(K::OP, dy, |dy| {
            let dx = match x.track_op() {
                true => Some(tensor_like(with_slice(K::OP, weight, |w| kernel.input_gradient(w, dy))?, x)?),
                false => None,
            };
            let dw = match weight.track_op() {
                true => Some(tensor_like(with_slice(K::OP, x, |x| kernel.weight_gradient(x, dy))?, weight)?),
                false => None,
            };
            Ok((dx, dw))
        })?
    }
}

impl<K: Weighted> CustomOp2 for Wrapper<K> {
    fn name(&self) -> &'static str {
        K::OP
    }

    fn cpu_fwd(&self, x: &CpuStorage, xl: &Layout, w: &CpuStorage, wl: &Layout) -> Result<(CpuStorage, Shape)> {
        self.run((x, xl), (w, wl), None)
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        self.gradients(x, w, dy)
    }
}

impl<K: Weighted> CustomOp3 for Wrapper<K> {
    fn name(&self) -> &'static str {
        K::OP
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
        b: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.run((x, xl), (w, wl), Some(numbers(K::OP, b, bl)?))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (dx, dw) = self.gradients(x, w, dy)?;
        let kernel = K::new(&self.config, x.dims(), w.dims())?;
        let db = match b.track_op() {
            true => Some(tensor_like(with_slice(K::OP, dy, |dy| kernel.bias_gradient(dy))?, b)?),
            false => None,
        };
        Ok((dx, dw, db))
    }
}
