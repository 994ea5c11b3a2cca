//! A convolution and the batch normalisation behind it, an image at a time: what one leaves is in the cache for the other.
//!
//! ```text
//!   forwards     z = x * W + b, and the moments of each slab of rows as it is written
//!   backwards    dz of an image, from dy and z; then what of dx and dW comes from that image
//! ```

use super::batch_norm::{self, Backward, Channels};
use super::conv::{Convolution, Epilogue, Old};
use crate::share::Shared;
use crate::simd::Path;

/// Numbers that [`forward`] computes with beside its arguments, for so many channels that come out.
pub fn parts_len(conv: &Convolution, channels: usize) -> usize {
    conv.slabs() * batch_norm::part_len(channels)
}

/// Writes `z`, and mean and variance of each of its channels.
pub fn forward(
    path: Path,
    conv: &Convolution,
    x: &[f32],
    (packed, bias): (&[f32], Option<&[f32]>),
    z: &mut [f32],
    parts: &mut [f32],
    [mean, variance]: [&mut [f32]; 2],
) {
    let len = batch_norm::part_len(mean.len());
    let shared = Shared::new(parts);
    conv.forward_then(x, packed, z, Epilogue { bias, ..Epilogue::default() }, &|slab, rows| {
        // SAFETY: each slab is told once, and has a part of its own.
        batch_norm::measure(path, rows, unsafe { shared.slice(slab * len, len) });
    });
    batch_norm::merge(parts, mean, variance);
}

/// What the gradients of a convolution with a batch normalisation come from.
#[derive(Clone, Copy)]
pub struct Upstream<'a> {
    /// What was normalised.
    pub z: &'a [f32],
    /// The gradient at the normalised numbers, or at those of a ReLU behind them.
    pub dy: &'a [f32],
    /// By what was normalised.
    pub by: Channels<'a>,
    /// What [`batch_norm::sums`] found, with the batch's own statistics.
    pub sums: Option<[&'a [f32]; 2]>,
    /// Whether what a ReLU holds back is still in `dy`.
    pub gated: bool,
}

/// The gradients at the weight and, if given, at the input of a convolution that
/// [goes by images](Convolution::goes_by_images).
pub fn gradients(
    path: Path,
    conv: &Convolution,
    x: &[f32],
    upstream: Upstream<'_>,
    dx: Option<(&[f32], &mut [f32], Old)>,
    dw: &mut [f32],
    scratch: &mut [f32],
) {
    let Upstream { z, dy, by, sums, gated } = upstream;
    let backward = Backward { by, sums, count: (z.len() / by.mean.len()) as f32, gated };
    let of_image = |image: usize, dz: &mut [f32]| {
        let at = image * dz.len();
        dz.copy_from_slice(&z[at..at + dz.len()]);
        backward.rows(path, dz, &dy[at..at + dz.len()]);
    };
    conv.gradients(x, &of_image, dx, dw, scratch);
}
