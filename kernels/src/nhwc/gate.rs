//! A gate for each channel of each image: `y[n, p, c] = x[n, p, c] g[n, c]`.
//!
//! ```text
//!   dx[n, p, c] = dy[n, p, c] g[n, c]        dg[n, c] = sum over p of dy[n, p, c] x[n, p, c]
//! ```

use super::conv::Old;
use super::divide;
use crate::simd::{self, Path, Task, Vector};

/// The sizes of a value and its gates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gate {
    /// Pixels of an image.
    pub pixels: usize,
    /// Channels.
    pub channels: usize,
    /// Which instructions compute.
    pub path: Path,
}

impl Gate {
    /// Writes, or adds to `y`, the product of each image and its gates; also the gradient at the images, from that at the
    /// result.
    pub fn apply(&self, x: &[f32], gates: &[f32], y: &mut [f32], old: Old) {
        let image = self.pixels * self.channels;
        divide::pieces(y, image, |first, y| {
            let images =
                x[first * image..].chunks_exact(image).zip(gates[first * self.channels..].chunks_exact(self.channels));
            for ((x, gates), y) in images.zip(y.chunks_exact_mut(image)) {
                simd::run(self.path, Apply { x, gates, y, added: old == Old::Added });
            }
        });
    }

    /// Writes, or adds to `dg`, the gradient at the gates.
    pub fn gradient(&self, x: &[f32], dy: &[f32], dg: &mut [f32], old: Old) {
        let image = self.pixels * self.channels;
        divide::pieces(dg, self.channels, |first, dg| {
            let images = x[first * image..].chunks_exact(image).zip(dy[first * image..].chunks_exact(image));
            for ((x, dy), dg) in images.zip(dg.chunks_exact_mut(self.channels)) {
                if old == Old::Dropped {
                    dg.fill(0.0);
                }
                simd::run(self.path, Sum { x, dy, dg });
            }
        });
    }
}

struct Apply<'a> {
    x: &'a [f32],
    gates: &'a [f32],
    y: &'a mut [f32],
    added: bool,
}

impl Task for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let c = self.gates.len();
        for (x, y) in self.x.chunks_exact(c).zip(self.y.chunks_exact_mut(c)) {
            let all = y.iter_mut().zip(x.iter().zip(self.gates));
            match self.added {
                true => all.for_each(|(y, (x, g))| *y += x * g),
                false => all.for_each(|(y, (x, g))| *y = x * g),
            }
        }
    }
}

struct Sum<'a> {
    x: &'a [f32],
    dy: &'a [f32],
    dg: &'a mut [f32],
}

impl Task for Sum<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let c = self.dg.len();
        for (x, dy) in self.x.chunks_exact(c).zip(self.dy.chunks_exact(c)) {
            self.dg.iter_mut().zip(x.iter().zip(dy)).for_each(|(dg, (x, dy))| *dg += x * dy);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::numbers;

    #[test]
    fn results_and_gradients_are_those_of_the_definition() {
        let (n, pixels, channels) = (5, 6, 19);
        let (x, gates, dy) =
            (numbers(n * pixels * channels, 1), numbers(n * channels, 2), numbers(n * pixels * channels, 3));
        for path in Path::ALL.into_iter().filter(|path| path.is_available()) {
            let gate = Gate { pixels, channels, path };
            for old in [Old::Added, Old::Dropped] {
                let kept = if old == Old::Added { 1.0 } else { 0.0 };
                let (mut y, mut dg) = (vec![1.0; x.len()], vec![1.0; gates.len()]);
                gate.apply(&x, &gates, &mut y, old);
                gate.gradient(&x, &dy, &mut dg, old);
                let own = |i: usize| i / (pixels * channels) * channels + i % channels;
                let mut expected = vec![kept; gates.len()];
                for i in 0..x.len() {
                    assert!((y[i] - kept - x[i] * gates[own(i)]).abs() < 1e-6);
                    expected[own(i)] += x[i] * dy[i];
                }
                assert!(dg.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5));
            }
        }
    }
}
