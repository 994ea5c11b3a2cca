//! What a layer reads for one place of its output: a vector, or the patch of an image under the kernel.

use super::NoGram;
use crate::graph::dim::shape_text;
use crate::graph::op::{Conv2d, Window};
use crate::graph::{Dim, Graph, Node, Op};

/// How a layer reads its input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reads {
    /// `[..., columns]`, one vector after the other.
    Vectors {
        /// Numbers of a vector.
        columns: usize,
    },
    /// `[..., channels, height, width]`, under a window.
    Images {
        /// Channels.
        channels: usize,
        /// Height and width.
        image: [usize; 2],
        /// The window.
        window: Window,
        /// How many places it has, `[height, width]`.
        places: [usize; 2],
    },
}

impl Reads {
    /// How a node reads its input, and the columns of its weight.
    pub(super) fn of(graph: &Graph, node: &Node) -> Result<(Self, usize), NoGram> {
        let value = graph.value(node.inputs[0]);
        let config: Conv2d = match &node.op {
            Op::Linear => {
                let columns = graph.param(node.params[0]).data.shape()[1];
                return Ok((Reads::Vectors { columns }, columns));
            }
            Op::Conv2d(config) if config.groups == 1 => *config,
            Op::Conv1d(config) if config.groups == 1 => config.planar(),
            op => return Err(NoGram::Op { node: node.name.clone(), op: op.name() }),
        };
        let open = || NoGram::Open { node: node.name.clone(), shape: shape_text(value.shape()) };
        // Sequences are images of height 1.
        let (image, kernel) = match (value.shape(), graph.param(node.params[0]).data.shape()) {
            ([_, _, Dim::Fixed(h), Dim::Fixed(w)], [_, _, kh, kw]) => ([*h, *w], [*kh, *kw]),
            ([_, _, Dim::Fixed(l)], [_, _, k]) => ([1, *l], [1, *k]),
            _ => return Err(open()),
        };
        let channels = graph.param(node.params[0]).data.shape()[1];
        let window = config.window(kernel);
        let places = window.output(node.op.name(), image).map_err(|_| open())?;
        Ok((Reads::Images { channels, image, window, places }, channels * kernel[0] * kernel[1]))
    }

    /// How many patches lie in `values`.
    pub(super) fn patches(&self, values: &[f32]) -> usize {
        match self {
            Reads::Vectors { columns } => values.len() / columns.max(&1),
            Reads::Images { channels, image: [h, w], places: [rows, columns], .. } => {
                values.len() / (channels * h * w).max(1) * rows * columns
            }
        }
    }

    /// Writes the patch with that number: image after image, row after row of places; its numbers channel by channel, and in
    /// each as the kernel has them.
    pub(super) fn read(&self, values: &[f32], number: usize, patch: &mut [f32]) {
        let (channels, [height, width], window, places) = match self {
            Reads::Vectors { columns } => {
                return patch.copy_from_slice(&values[number * columns..(number + 1) * columns]);
            }
            Reads::Images { channels, image, window, places } => (*channels, *image, window, places),
        };
        let [kh, kw] = window.kernel;
        let (row, column) = (number / places[1] % places[0], number % places[1]);
        let first = number / (places[0] * places[1]) * channels * height * width;
        // The pixel under a tap along an axis, if it is one: else the padding is there.
        let pixel = |axis: usize, place: usize, tap: usize, side: usize| {
            let padded = place * window.stride[axis] + tap * window.dilation[axis];
            padded.checked_sub(window.padding[axis]).filter(|pixel| *pixel < side)
        };
        for (plane, taps) in values[first..].chunks_exact(height * width).zip(patch.chunks_exact_mut(kh * kw)) {
            for (tap_y, taps) in taps.chunks_exact_mut(kw).enumerate() {
                let line = pixel(0, row, tap_y, height).map(|y| &plane[y * width..(y + 1) * width]);
                for (tap_x, tap) in taps.iter_mut().enumerate() {
                    let x = pixel(1, column, tap_x, width);
                    *tap = line.zip(x).map_or(0.0, |(line, x)| line[x]);
                }
            }
        }
    }
}
