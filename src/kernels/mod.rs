//! CPU kernels with a backward of their own, behind the one type [`Kernel`]: as candle's `CustomOp`s or, those of more
//! arguments or results and all newer ones, in a form of our own ([`operator`]).
//!
//! candle 0.11's max-pooling has a wrong gradient (a share of the true one), its pooling knows no padding, its
//! convolution has one number for both axes, and its ReLU turns NaN into 0, which would hide a diverged training. What is
//! here replaces them.
//!
//! Every kernel is a plain function over `f32` slices plus a thin wrapper for candle. Results do not depend on the number
//! of threads: work is divided by the problem's shape alone and partial sums are added in index order.
//!
//! A wrapper wants contiguous `f32` tensors. Its `bwd` returns a gradient for every argument that candle tracks.

mod activation;
mod add;
mod avg_pool;
mod axis;
mod batch_norm;
mod binary;
mod broadcast;
mod choose;
mod conv2d;
mod conv_transpose;
mod dropout;
mod grid;
mod groups;
mod gru;
mod im2col;
mod kernel;
mod linear;
mod lstm;
mod map;
mod matmul;
mod max_pool;
mod moves;
mod normalise;
mod operator;
mod power;
mod products;
mod recurrent;
mod reduce;
mod round;
mod softmax;
mod unary;
mod weighted;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, Device, Error, Layout, Result, Storage, Tensor};

pub use activation::activation;
pub use add::add;
pub use avg_pool::{avg_pool2d, global_avg_pool, mean_shares};
pub use axis::{pad, slice};
pub use batch_norm::{Moments, Statistics, batch_norm, moments};
pub use binary::{binary, prelu};
pub use choose::choose;
pub use conv_transpose::{conv_transpose2d, conv_transpose2d_with_bias};
pub use conv2d::{conv2d, conv2d_with_bias};
pub use dropout::{dropout, dropout_factors};
pub use gru::gru;
pub use kernel::{Kernel, needs_gradient, tensor};
pub use linear::{linear, linear_with_bias};
pub use lstm::lstm;
pub use max_pool::max_pool2d;
pub use moves::{concat, moves};
pub use normalise::{group_norm, instance_norm, layer_norm, rms_norm};
pub use operator::{Array, Back, Operator};
pub use power::power;
pub use products::{Products, bilinear_pool, matrix_product};
pub use reduce::reduce;
pub use round::round;
pub use softmax::{cumulative_sum, log_softmax, softmax};
pub use unary::{clip, unary};

/// The numbers of a kernel's argument.
fn numbers<'a>(op: &'static str, storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let (start, end) = layout.contiguous_offsets().ok_or(Error::RequiresContiguous { op })?;
    match storage {
        CpuStorage::F32(values) => Ok(&values[start..end]),
        other => Err(Error::UnsupportedDTypeForOp(other.dtype(), op)),
    }
}

/// Calls `read` with the numbers of `tensor`.
pub fn read<T>(tensor: &Tensor, read: impl FnOnce(&[f32]) -> T) -> Result<T> {
    with_slice("read", tensor, read)
}

fn with_slice<T>(op: &'static str, tensor: &Tensor, read: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => Ok(read(numbers(op, storage, layout)?)),
        _ => Err(Error::Msg(format!("{op} runs on the CPU only"))),
    }
}

/// A tensor like `like` over `values`.
fn tensor_like(values: Vec<f32>, like: &Tensor) -> Result<Tensor> {
    Tensor::from_vec(values, like.shape(), &Device::Cpu)
}

#[cfg(test)]
mod testing {
    //! What the kernels' tests share: random numbers and the comparison with central differences.

    use candle_core::{Device, Result, Tensor};
    use rand::Rng;

    use super::{Kernel, read, tensor};
    use crate::seed;

    /// `n` numbers between -1 and 1, the same for the same seed.
    pub fn numbers(n: usize, seed: u64) -> Vec<f32> {
        let mut rng = seed::stream(seed, "kernel-test");
        (0..n).map(|_| rng.random_range(-1.0..1.0)).collect()
    }

    /// `n` different numbers, at least 0.01 apart, in random order: no two are equal and a small step changes no order.
    pub fn distinct_numbers(n: usize, seed: u64) -> Vec<f32> {
        use rand::seq::SliceRandom;
        let mut values: Vec<f32> = (0..n).map(|i| (i as f32 - n as f32 / 2.0) * 0.01 + 0.005).collect();
        values.shuffle(&mut seed::stream(seed, "kernel-test"));
        values
    }

    /// Two numbers that should be one: equal within `tolerance` of the larger magnitude, or of 1.
    pub fn close(actual: f32, expected: f64, tolerance: f64) -> bool {
        (f64::from(actual) - expected).abs() <= tolerance * expected.abs().max(1.0)
    }

    /// The kernel's result for these arguments.
    pub fn result(kernel: &Kernel, args: &[Tensor]) -> Result<Vec<f32>> {
        read(&kernel.forward(&args.iter().collect::<Vec<_>>())?, <[f32]>::to_vec)
    }

    /// The gradient that the kernel finds for each of `args`, where the gradient at its first result is
    /// `upstream`.
    pub fn gradients(kernel: &Kernel, args: &[Tensor], upstream: &[f32]) -> Vec<Vec<f32>> {
        let with_gradient = |arg: &Tensor| tensor(read(arg, <[f32]>::to_vec).unwrap(), arg.shape(), true).unwrap();
        let args: Vec<Tensor> = args.iter().map(with_gradient).collect();
        let args: Vec<&Tensor> = args.iter().collect();
        let ys = kernel.results(&args).unwrap();
        let mut upstreams = vec![None; ys.len()];
        upstreams[0] = Some(Tensor::from_slice(upstream, ys[0].shape(), &Device::Cpu).unwrap());
        let found = kernel.gradients(&args, &ys, &upstreams).unwrap();
        found.into_iter().map(|gradient| read(&gradient.unwrap(), <[f32]>::to_vec).unwrap()).collect()
    }

    /// The derivative of `loss` by each of `x`, by central differences. `loss` computes in `f64`, so the step may be
    /// small and the error is that of the second order, about 1e-6 here.
    pub fn central_differences(x: &[f32], loss: impl Fn(&[f64]) -> f64) -> Vec<f64> {
        const STEP: f64 = 1e-3;
        let mut x: Vec<f64> = x.iter().map(|v| f64::from(*v)).collect();
        (0..x.len())
            .map(|i| {
                let at = x[i];
                x[i] = at + STEP;
                let above = loss(&x);
                x[i] = at - STEP;
                let below = loss(&x);
                x[i] = at;
                (above - below) / (2.0 * STEP)
            })
            .collect()
    }
}
