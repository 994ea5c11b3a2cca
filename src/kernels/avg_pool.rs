//! Average pooling: the mean of each window.
//!
//! Padding counts as zeros or is left out, as [`AvgPool2d::count_padding`] says; what the last window hangs over never counts.
//! A window under which there is no pixel at
//! all gives 0.

use candle_core::{CpuStorage, CustomOp1, Error, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::grid::{Grid, planar, unplanar};
use super::{Kernel, numbers, tensor_like, with_slice};
use crate::graph::op::{AvgPool2d, Window};

const OP: &str = "avg_pool2d";

/// The mean of each window of `x [n, c, h, w]`; sequences `[n, c, l]` are images of height 1.
pub fn avg_pool2d(config: &AvgPool2d) -> Kernel {
    Kernel::One(Box::new(AvgPool(*config)))
}

/// The mean of each channel of `x [n, c, h, w]`, as `[n, c, 1, 1]`; `image` is `[h, w]`.
pub fn global_avg_pool(image: [usize; 2]) -> Kernel {
    let window = Window { kernel: image, stride: [1; 2], padding: [0; 4], dilation: [1; 2] };
    avg_pool2d(&AvgPool2d { window, count_padding: true, overhang: [0; 2] })
}

/// What the sum of each window is multiplied with, over images of size `image`.
pub fn mean_shares(config: &AvgPool2d, image: [usize; 2]) -> Result<Vec<f32>> {
    let (pool, grid) = (AvgPool(*config), Grid::new(OP, config.window, image)?);
    Ok(grid.all_places().map(|place| pool.share(&grid, place)).collect())
}

struct AvgPool(AvgPool2d);

impl AvgPool {
    fn grid(&self, x: &Shape) -> Result<(usize, usize, Grid)> {
        let Some([n, c, h, w]) = planar(x.dims()) else {
            return Err(Error::Msg(format!("{OP} of {x:?}: needs three or four axes")));
        };
        Ok((n, c, Grid::new(OP, self.0.window, [h, w])?))
    }

    /// What each pixel under the window at `place` is multiplied with.
    fn share(&self, grid: &Grid, place: [usize; 2]) -> f32 {
        let [kh, kw] = grid.window.kernel;
        let taps = match self.0.count_padding {
            true if self.0.overhang == [0; 2] => kh * kw,
            true => self.counted(grid, 0, place[0]) * self.counted(grid, 1, place[1]),
            false => grid.window_pixels(place).count(),
        };
        1.0 / taps.max(1) as f32
    }

    /// Taps along one axis that lie on the image or on padding that counts.
    fn counted(&self, grid: &Grid, axis: usize, place: usize) -> usize {
        let window = &grid.window;
        let end = window.padding[axis] + grid.image[axis] + window.padding[axis + 2] - self.0.overhang[axis];
        let tap = |tap: &usize| place * window.stride[axis] + tap * window.dilation[axis] < end;
        (0..window.kernel[axis]).filter(tap).count()
    }

    fn forward(&self, grid: &Grid, planes: usize, x: &[f32]) -> Vec<f32> {
        let mut y = vec![0.0; planes * grid.outputs()];
        y.par_chunks_exact_mut(grid.outputs()).zip(x.par_chunks_exact(grid.pixels())).for_each(|(y, x)| {
            for (y, place) in y.iter_mut().zip(grid.all_places()) {
                let sum: f32 = grid.window_pixels(place).map(|pixel| x[pixel]).sum();
                *y = sum * self.share(grid, place);
            }
        });
        y
    }

    fn backward(&self, grid: &Grid, planes: usize, dy: &[f32]) -> Vec<f32> {
        let mut dx = vec![0.0; planes * grid.pixels()];
        dx.par_chunks_exact_mut(grid.pixels()).zip(dy.par_chunks_exact(grid.outputs())).for_each(|(dx, dy)| {
            for (dy, place) in dy.iter().zip(grid.all_places()) {
                let share = dy * self.share(grid, place);
                grid.window_pixels(place).for_each(|pixel| dx[pixel] += share);
            }
        });
        dx
    }
}

impl CustomOp1 for AvgPool {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n, c, grid) = self.grid(layout.shape())?;
        let y = self.forward(&grid, n * c, numbers(OP, x, layout)?);
        Ok((
            CpuStorage::F32(y),
            Shape::from(unplanar([n, c, grid.places[0], grid.places[1]], layout.dims().len() == 3)),
        ))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let (n, c, grid) = self.grid(x.shape())?;
        let dx = with_slice(OP, dy, |dy| self.backward(&grid, n * c, dy))?;
        Ok(Some(tensor_like(dx, x)?))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use proptest::prelude::*;

    use super::super::grid::strategy::grids;
    use super::*;
    use crate::kernels::testing::{central_differences, close, gradients, numbers, result};

    /// By the definition, in `f64`.
    fn naive(grid: &Grid, count_padding: bool, x: &[f64]) -> Vec<f64> {
        let taps = (grid.window.kernel[0] * grid.window.kernel[1]) as f64;
        let mut y = Vec::new();
        for plane in x.chunks(grid.pixels()) {
            for place in grid.all_places() {
                let under: Vec<f64> = grid.window_pixels(place).map(|p| plane[p]).collect();
                let divisor = if count_padding { taps } else { under.len().max(1) as f64 };
                y.push(under.iter().sum::<f64>() / divisor);
            }
        }
        y
    }

    proptest! {
        #[test]
        fn results_and_gradients_are_those_of_the_definition(
            grid in grids(), n in 1usize..3, c in 1usize..3, count_padding in any::<bool>(), seed in 0u64..1 << 40,
        ) {
            let config = AvgPool2d { window: grid.window, count_padding, overhang: [0; 2] };
            let values = numbers(n * c * grid.pixels(), seed);
            let wide: Vec<f64> = values.iter().map(|v| f64::from(*v)).collect();
            let x = Tensor::from_slice(&values, (n, c, grid.image[0], grid.image[1]), &Device::Cpu).unwrap();
            let found = result(&avg_pool2d(&config), std::slice::from_ref(&x)).unwrap();
            for (found, expected) in found.iter().zip(naive(&grid, count_padding, &wide)) {
                prop_assert!(close(*found, expected, 1e-6), "{found} {expected}");
            }

            let upstream = numbers(found.len(), seed + 9);
            let found = gradients(&avg_pool2d(&config), &[x], &upstream).remove(0);
            let expected = central_differences(&values, |x| {
                naive(&grid, count_padding, x).iter().zip(&upstream).map(|(y, d)| y * f64::from(*d)).sum()
            });
            for (found, expected) in found.iter().zip(&expected) {
                prop_assert!(close(*found, *expected, 1e-5), "{found} {expected}");
            }
        }
    }

    #[test]
    fn padding_counts_only_where_asked() {
        let x = Tensor::from_slice(&[6f32], (1, 1, 1, 1), &Device::Cpu).unwrap();
        let mean = |count_padding| {
            let config = AvgPool2d { window: Window::sliding(3, 1), count_padding, overhang: [0; 2] };
            result(&avg_pool2d(&config), std::slice::from_ref(&x)).unwrap()[0]
        };
        assert!((mean(true) - 6.0 / 9.0).abs() < 1e-6);
        assert_eq!(mean(false), 6.0);
    }
}
