//! Maximum pooling: the largest value of each window, and its gradient, which goes to the pixel that won.
//!
//! Of equal values the first in reading order wins; padding never wins; NaN wins over everything, so that it is seen. A
//! window under which there is no pixel at all (possible with a dilation) gives minus infinity. The backward pass looks
//! for the winner again instead of keeping its place.

use candle_core::{CpuStorage, CustomOp1, Error, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::grid::{Grid, planar, unplanar};
use super::{Kernel, numbers, tensor_like, with_slice};
use crate::graph::op::Window;

const OP: &str = "max_pool2d";

/// The largest value of each window of `x [n, c, h, w]`; sequences `[n, c, l]` are images of height 1.
pub fn max_pool2d(window: &Window) -> Kernel {
    Kernel::One(Box::new(MaxPool(*window)))
}

struct MaxPool(Window);

impl MaxPool {
    fn grid(&self, x: &Shape) -> Result<(usize, usize, Grid)> {
        let Some([n, c, h, w]) = planar(x.dims()) else {
            return Err(Error::Msg(format!("{OP} of {x:?}: needs three or four axes")));
        };
        Ok((n, c, Grid::new(OP, self.0, [h, w])?))
    }
}

/// Value and index of the largest pixel of a window.
fn winner(grid: &Grid, plane: &[f32], place: [usize; 2]) -> (f32, Option<usize>) {
    let mut best = (f32::NEG_INFINITY, None);
    for pixel in grid.window_pixels(place) {
        let value = plane[pixel];
        if best.1.is_none() || value > best.0 || (value.is_nan() && !best.0.is_nan()) {
            best = (value, Some(pixel));
        }
    }
    best
}

fn forward(grid: &Grid, planes: usize, x: &[f32]) -> Vec<f32> {
    let mut y = vec![0.0; planes * grid.outputs()];
    y.par_chunks_exact_mut(grid.outputs()).zip(x.par_chunks_exact(grid.pixels())).for_each(|(y, x)| {
        y.iter_mut().zip(grid.all_places()).for_each(|(y, place)| *y = winner(grid, x, place).0);
    });
    y
}

fn backward(grid: &Grid, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let mut dx = vec![0.0; x.len()];
    let planes = dx.par_chunks_exact_mut(grid.pixels()).zip(x.par_chunks_exact(grid.pixels()));
    planes.zip(dy.par_chunks_exact(grid.outputs())).for_each(|((dx, x), dy)| {
        for (dy, place) in dy.iter().zip(grid.all_places()) {
            if let (_, Some(pixel)) = winner(grid, x, place) {
                dx[pixel] += dy;
            }
        }
    });
    dx
}

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n, c, grid) = self.grid(layout.shape())?;
        let y = forward(&grid, n * c, numbers(OP, x, layout)?);
        Ok((
            CpuStorage::F32(y),
            Shape::from(unplanar([n, c, grid.places[0], grid.places[1]], layout.dims().len() == 3)),
        ))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let (_, _, grid) = self.grid(x.shape())?;
        let dx = with_slice(OP, x, |xs| with_slice(OP, dy, |dy| backward(&grid, xs, dy)))??;
        Ok(Some(tensor_like(dx, x)?))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use proptest::prelude::*;

    use super::super::grid::strategy::grids;
    use super::*;
    use crate::kernels::testing::{central_differences, close, distinct_numbers, gradients, numbers, result};

    /// By the definition, in `f64`.
    fn naive(grid: &Grid, x: &[f64]) -> Vec<f64> {
        let mut y = Vec::new();
        for plane in x.chunks(grid.pixels()) {
            for place in grid.all_places() {
                y.push(grid.window_pixels(place).map(|p| plane[p]).fold(f64::NEG_INFINITY, f64::max));
            }
        }
        y
    }

    fn pool(window: Window, shape: [usize; 4], values: &[f32]) -> Vec<f32> {
        let x = Tensor::from_slice(values, &shape, &Device::Cpu).unwrap();
        result(&max_pool2d(&window), &[x]).unwrap()
    }

    proptest! {
        #[test]
        fn results_and_gradients_are_those_of_the_definition(
            grid in grids(), n in 1usize..3, c in 1usize..3, seed in 0u64..1 << 40,
        ) {
            let window = grid.window;
            let values = distinct_numbers(n * c * grid.pixels(), seed);
            let shape = [n, c, grid.image[0], grid.image[1]];
            let wide: Vec<f64> = values.iter().map(|v| f64::from(*v)).collect();
            let found: Vec<f64> = pool(window, shape, &values).into_iter().map(f64::from).collect();
            prop_assert_eq!(&found, &naive(&grid, &wide));
            // A window with no pixel gives an infinite value, which has no difference quotient.
            prop_assume!(found.iter().all(|v| v.is_finite()));

            let upstream = numbers(found.len(), seed + 9);
            let x = Tensor::from_slice(&values, &shape, &Device::Cpu).unwrap();
            let found = gradients(&max_pool2d(&window), &[x], &upstream).remove(0);
            let expected = central_differences(&values, |x| {
                naive(&grid, x).iter().zip(&upstream).map(|(y, d)| y * f64::from(*d)).sum()
            });
            for (found, expected) in found.iter().zip(&expected) {
                prop_assert!(close(*found, *expected, 1e-5), "{found} {expected}");
            }
        }
    }

    #[test]
    fn of_equal_values_the_first_gets_the_whole_gradient() {
        let x = Tensor::from_slice(&[2f32; 4], (1, 1, 2, 2), &Device::Cpu).unwrap();
        let found = gradients(&max_pool2d(&Window::tiles(2)), &[x], &[3.0]);
        assert_eq!(found, [[3.0, 0.0, 0.0, 0.0]]);
    }

    #[test]
    fn padding_never_wins_over_negative_values() {
        assert_eq!(pool(Window::sliding(3, 1), [1, 1, 1, 2], &[-5.0, -7.0]), [-5.0, -5.0]);
    }

    #[test]
    fn not_a_number_is_handed_on() {
        let found = pool(Window::tiles(2), [1, 1, 2, 2], &[1.0, f32::NAN, 3.0, 2.0]);
        assert!(found[0].is_nan());
    }
}
