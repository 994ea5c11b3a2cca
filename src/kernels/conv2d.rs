//! Convolution by im2col and matrix products: any stride, dilation, groups, and padding on each of four sides.
//!
//! ```text
//!   x [n, c, h, w]    W [o, c / g, kh, kw]    b [o]    y [n, o, oh, ow]       a sample and group at a time:
//!
//!   y      = W cols(x) + b        [o/g, places]  = [o/g, taps] [taps, places]         taps = c/g * kh * kw
//!   dW^T   = sum_n cols(x) dy^T   [taps, o/g]    = [taps, places] [places, o/g]
//!   dx     = image(W^T dy)        [taps, places] = [taps, o/g] [o/g, places]
//!   db     = sum_n,places dy
//! ```
//!
//! `dW` is computed the other way round because the product wants its right factor in panels, and the columns are too large
//! to be copied there.
//!
//! Samples are shared out to threads. The sum over samples is taken in [`PARTS`] parts that depend on nothing but the
//! batch size, so the result is the same bits with any number of threads.

use candle_core::{Error, Result};
use rayon::prelude::*;

use super::Kernel;
use super::grid::{Grid, planar, unplanar};
use super::im2col::{col2im, im2col};
use super::matmul::{Matrix, multiply, multiply_add};
use super::weighted::{Weighted, with_bias, without_bias};
use crate::graph::op::Conv2d;

const OP: &str = "conv2d";

/// Into how many partial sums a batch is divided for the gradients of weight and bias. Each takes the memory of a weight,
/// and no more than so many threads work on it.
pub(super) const PARTS: usize = 8;

/// The convolution of `x [n, c, h, w]` with `weight [o, c / groups, kh, kw]`; sequences `[n, c, l]` are images of height 1.
pub fn conv2d(config: &Conv2d) -> Kernel {
    without_bias::<Problem>(*config)
}

/// The convolution of `x [n, c, h, w]` with `weight [o, c / groups, kh, kw]`, plus `bias [o]`.
pub fn conv2d_with_bias(config: &Conv2d) -> Kernel {
    with_bias::<Problem>(*config)
}

/// The sizes of a convolution.
#[derive(Debug, Clone, Copy)]
pub(super) struct Problem {
    pub(super) batch: usize,
    pub(super) groups: usize,
    /// Input channels of a group.
    pub(super) inner: usize,
    /// Output channels of a group.
    pub(super) outer: usize,
    pub(super) grid: Grid,
    /// Whether the images are sequences.
    pub(super) is_flat: bool,
}

impl Problem {
    /// Numbers that one output channel sees at one place.
    fn taps(&self) -> usize {
        self.inner * self.grid.window.kernel[0] * self.grid.window.kernel[1]
    }

    /// Numbers of an input sample's group.
    fn group_input(&self) -> usize {
        self.inner * self.grid.pixels()
    }

    /// Numbers of an output sample's group.
    fn group_output(&self) -> usize {
        self.outer * self.grid.outputs()
    }

    /// Numbers of a group's weight.
    fn group_weight(&self) -> usize {
        self.outer * self.taps()
    }

    /// Whether the columns are the image itself.
    fn is_pointwise(&self) -> bool {
        self.grid.window.is_pointwise()
    }

    fn scratch(&self) -> Vec<f32> {
        if self.is_pointwise() { Vec::new() } else { vec![0.0; self.taps() * self.grid.outputs()] }
    }

    /// The columns `[taps, places]` of a sample's group.
    fn columns<'a>(&self, image: &'a [f32], scratch: &'a mut [f32]) -> Matrix<'a> {
        if self.is_pointwise() {
            return Matrix::new(image, self.taps(), self.grid.outputs());
        }
        im2col(&self.grid, image, scratch);
        Matrix::new(scratch, self.taps(), self.grid.outputs())
    }
}

impl Weighted for Problem {
    const OP: &'static str = OP;
    type Config = Conv2d;

    fn new(config: &Conv2d, x: &[usize], weight: &[usize]) -> Result<Self> {
        let (Some([batch, channels, h, w]), Some([out, inner, kh, kw])) = (planar(x), planar(weight)) else {
            return Err(Error::Msg(format!("{OP} of {x:?} with {weight:?}: both need four axes")));
        };
        let groups = config.groups;
        let fits = groups > 0 && inner * groups == channels && out.is_multiple_of(groups);
        if !fits || [batch, channels, out].contains(&0) {
            return Err(Error::Msg(format!("{OP} of {x:?} with {weight:?} in {groups} groups: sizes do not fit")));
        }
        let grid = Grid::new(OP, config.window([kh, kw]), [h, w])?;
        Ok(Self { batch, groups, inner, outer: out / groups, grid, is_flat: x.len() == 3 })
    }

    fn output(&self) -> Vec<usize> {
        let [oh, ow] = self.grid.places;
        unplanar([self.batch, self.groups * self.outer, oh, ow], self.is_flat)
    }

    fn channels(&self) -> usize {
        self.groups * self.outer
    }

    fn forward(&self, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
        let mut y = vec![0.0; self.batch * self.groups * self.group_output()];
        let samples = y.par_chunks_exact_mut(self.groups * self.group_output());
        let images = x.par_chunks_exact(self.groups * self.group_input());
        samples.zip(images).for_each_init(
            || self.scratch(),
            |scratch, (y, x)| {
                if let Some(bias) = bias {
                    y.chunks_exact_mut(self.grid.outputs()).zip(bias).for_each(|(plane, b)| plane.fill(*b));
                }
                let groups = y.chunks_exact_mut(self.group_output()).zip(x.chunks_exact(self.group_input()));
                for ((y, x), w) in groups.zip(weight.chunks_exact(self.group_weight())) {
                    multiply_add(y, Matrix::new(w, self.outer, self.taps()), self.columns(x, scratch));
                }
            },
        );
        y
    }

    fn input_gradient(&self, weight: &[f32], dy: &[f32]) -> Vec<f32> {
        let mut dx = vec![0.0; self.batch * self.groups * self.group_input()];
        let samples = dx.par_chunks_exact_mut(self.groups * self.group_input());
        samples.zip(dy.par_chunks_exact(self.groups * self.group_output())).for_each_init(
            || self.scratch(),
            |scratch, (dx, dy)| {
                let groups = dx.chunks_exact_mut(self.group_input()).zip(dy.chunks_exact(self.group_output()));
                for ((dx, dy), w) in groups.zip(weight.chunks_exact(self.group_weight())) {
                    let w = Matrix::new(w, self.outer, self.taps()).transposed();
                    let dy = Matrix::new(dy, self.outer, self.grid.outputs());
                    if self.is_pointwise() {
                        multiply_add(dx, w, dy);
                    } else {
                        multiply(scratch, w, dy);
                        col2im(&self.grid, scratch, dx);
                    }
                }
            },
        );
        dx
    }

    fn weight_gradient(&self, x: &[f32], dy: &[f32]) -> Vec<f32> {
        let per_part = self.batch.div_ceil(PARTS);
        let (sample_in, sample_out) = (self.groups * self.group_input(), self.groups * self.group_output());
        let parts = x.par_chunks(per_part * sample_in).zip(dy.par_chunks(per_part * sample_out));
        let parts = parts.map(|(x, dy)| {
            let (mut dw, mut scratch) = (vec![0.0; self.groups * self.group_weight()], self.scratch());
            for (x, dy) in x.chunks_exact(sample_in).zip(dy.chunks_exact(sample_out)) {
                let groups = x.chunks_exact(self.group_input()).zip(dy.chunks_exact(self.group_output()));
                for ((x, dy), dw) in groups.zip(dw.chunks_exact_mut(self.group_weight())) {
                    let dy = Matrix::new(dy, self.outer, self.grid.outputs());
                    multiply_add(dw, self.columns(x, &mut scratch), dy.transposed());
                }
            }
            dw
        });
        let transposed = add_in_order(parts.collect());
        let (taps, outer) = (self.taps(), self.outer);
        let group = |dw: &[f32]| -> Vec<f32> {
            (0..outer).flat_map(|o| (0..taps).map(move |tap| tap * outer + o)).map(|place| dw[place]).collect()
        };
        transposed.chunks_exact(self.group_weight()).flat_map(group).collect()
    }

    fn bias_gradient(&self, dy: &[f32]) -> Vec<f32> {
        let per_part = self.batch.div_ceil(PARTS);
        let sample_out = self.groups * self.group_output();
        let parts = dy.par_chunks(per_part * sample_out).map(|dy| {
            let mut db = vec![0.0; self.groups * self.outer];
            for dy in dy.chunks_exact(sample_out) {
                db.iter_mut().zip(dy.chunks_exact(self.grid.outputs())).for_each(|(b, plane)| *b += sum(plane));
            }
            db
        });
        add_in_order(parts.collect())
    }
}

pub(super) fn add_in_order(parts: Vec<Vec<f32>>) -> Vec<f32> {
    let mut parts = parts.into_iter();
    let mut total = parts.next().unwrap_or_default();
    for part in parts {
        total.iter_mut().zip(&part).for_each(|(t, p)| *t += p);
    }
    total
}

/// The sum, in eight interleaved sums that the processor adds at once.
pub(super) fn sum(values: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 8];
    let chunks = values.chunks_exact(8);
    let rest: f32 = chunks.remainder().iter().sum();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, v)| *lane += v);
    }
    lanes.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};
    use proptest::prelude::*;

    use super::super::grid::strategy::grids;
    use super::*;
    use crate::kernels::testing::{central_differences, close, gradients, numbers, result};

    /// A convolution by its definition, in `f64`.
    fn naive(p: &Problem, x: &[f64], w: &[f64], b: &[f64]) -> Vec<f64> {
        let [kh, kw] = p.grid.window.kernel;
        let pixel = |axis: usize, place: usize, tap: usize| {
            let window = &p.grid.window;
            let pixel =
                (place * window.stride[axis] + tap * window.dilation[axis]) as isize - window.padding[axis] as isize;
            (0..p.grid.image[axis] as isize).contains(&pixel).then_some(pixel as usize)
        };
        let mut y = Vec::new();
        for n in 0..p.batch {
            for o in 0..p.groups * p.outer {
                for [oy, ox] in p.grid.all_places() {
                    let mut sum = b.get(o).copied().unwrap_or(0.0);
                    for c in 0..p.inner {
                        let channel = n * p.groups * p.inner + o / p.outer * p.inner + c;
                        for tap in 0..kh * kw {
                            let Some((iy, ix)) = pixel(0, oy, tap / kw).zip(pixel(1, ox, tap % kw)) else { continue };
                            let weight = w[(o * p.inner + c) * kh * kw + tap];
                            sum += weight * x[channel * p.grid.pixels() + iy * p.grid.image[1] + ix];
                        }
                    }
                    y.push(sum);
                }
            }
        }
        y
    }

    struct Case {
        problem: Problem,
        kernel: Kernel,
        args: Vec<Tensor>,
        numbers: Vec<Vec<f32>>,
    }

    fn case(grid: Grid, sizes: [usize; 4], with_bias: Option<()>, seed: u64) -> Case {
        let [batch, groups, inner, outer] = sizes;
        let problem = Problem { batch, groups, inner, outer, grid, is_flat: false };
        let window = grid.window;
        let config = Conv2d { stride: window.stride, padding: window.padding, dilation: window.dilation, groups };
        let mut shapes = vec![
            vec![batch, groups * inner, grid.image[0], grid.image[1]],
            vec![groups * outer, inner, window.kernel[0], window.kernel[1]],
        ];
        shapes.extend(with_bias.map(|()| vec![groups * outer]));
        let numbers: Vec<Vec<f32>> =
            (seed..).zip(&shapes).map(|(seed, shape)| numbers(shape.iter().product(), seed)).collect();
        let args: Vec<Tensor> = numbers
            .iter()
            .zip(shapes)
            .map(|(values, shape)| Tensor::from_slice(values, shape, &Device::Cpu).unwrap())
            .collect();
        let kernel = if args.len() == 3 { conv2d_with_bias(&config) } else { conv2d(&config) };
        Case { problem, kernel, args, numbers }
    }

    fn wide(values: &[f32]) -> Vec<f64> {
        values.iter().map(|v| f64::from(*v)).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]
        #[test]
        fn results_and_gradients_are_those_of_the_definition(
            grid in grids(), sizes in [1usize..12, 1usize..4, 1usize..3, 1usize..3], with_bias in prop::option::of(Just(())),
            seed in 0u64..1 << 40,
        ) {
            let Case { problem, kernel, args, numbers: values } = case(grid, sizes, with_bias, seed);
            let wide_values: Vec<Vec<f64>> = values.iter().map(|v| wide(v)).collect();
            let bias = wide_values.get(2).cloned().unwrap_or_default();
            let expected = naive(&problem, &wide_values[0], &wide_values[1], &bias);
            let found = result(&kernel, &args).unwrap();
            for (found, expected) in found.iter().zip(&expected) {
                // At most 27 products of numbers below 1.
                prop_assert!(close(*found, *expected, 1e-5), "{found} {expected}");
            }

            let upstream = numbers(found.len(), seed + 9);
            let found = gradients(&kernel, &args, &upstream);
            for (which, found) in found.iter().enumerate() {
                let expected = central_differences(&values[which], |changed| {
                    let at = |i: usize| if i == which { changed } else { wide_values.get(i).map_or(&[][..], |v| v) };
                    let y = naive(&problem, at(0), at(1), at(2));
                    y.iter().zip(&upstream).map(|(y, d)| y * f64::from(*d)).sum()
                });
                for (found, expected) in found.iter().zip(&expected) {
                    // Sums of up to some hundred products in f32.
                    prop_assert!(close(*found, *expected, 1e-4), "argument {which}: {found} {expected}");
                }
            }
        }
    }

    #[test]
    fn the_bits_do_not_depend_on_the_number_of_threads() {
        let window = Conv2d { padding: [1; 4], ..Conv2d::default() }.window([3, 3]);
        let grid = Grid::new(OP, window, [9, 9]).unwrap();
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let Case { kernel, args, .. } = case(grid, [37, 1, 3, 5], Some(()), 1);
                let upstream = numbers(37 * 5 * 81, 2);
                gradients(&kernel, &args, &upstream)
            })
        };
        let one = run(1);
        assert_eq!(one, run(2));
        assert_eq!(one, run(3));
    }

    #[test]
    fn weights_that_do_not_fit_are_refused() {
        let x = Tensor::zeros((1, 3, 4, 4), candle_core::DType::F32, &Device::Cpu).unwrap();
        let w = Tensor::zeros((2, 2, 3, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
        assert!(result(&conv2d(&Conv2d::default()), &[x, w]).is_err());
    }
}
