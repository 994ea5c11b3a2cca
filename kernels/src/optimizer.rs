//! What an optimizer does to every parameter, in one pass over memory on all threads, and the norm of a gradient.
//!
//! The loops are plain; the compiler makes vector code of them for each [`Path`].

use rayon::prelude::*;

use crate::simd::{self, Path, Task, Vector};

/// Numbers that a thread takes at a time. Fewer than that are computed by one thread.
const PIECE: usize = 1 << 14;

/// A step of stochastic gradient descent: with `g = gradient + decay * p`
///
/// ```text
///   v = momentum * v + g        p = p - rate * (nesterov ? g + momentum * v : v)
/// ```
///
/// Without `velocity` it is `p = p - rate * g`.
#[derive(Debug, Clone, Copy)]
pub struct Sgd {
    /// The learning rate.
    pub rate: f32,
    /// The share of the velocity that stays.
    pub momentum: f32,
    /// What of a parameter is added to its gradient.
    pub decay: f32,
    /// Whether the step looks ahead.
    pub nesterov: bool,
}

/// A step of Adam with decoupled weight decay:
///
/// ```text
///   m = beta1 * m + (1 - beta1) * g       s = beta2 * s + (1 - beta2) * g^2
///   p = keep * p - rate * m / (sqrt(s) * root_scale + epsilon)
/// ```
#[derive(Debug, Clone, Copy)]
pub struct AdamW {
    /// The learning rate, by the correction of the first moment.
    pub rate: f32,
    /// The correction of the second moment's root.
    pub root_scale: f32,
    /// What of a parameter is left by the decay.
    pub keep: f32,
    /// Against division by zero.
    pub epsilon: f32,
    /// The share of the old moments that stays.
    pub betas: [f32; 2],
    /// The share of the new ones.
    pub new: [f32; 2],
}

impl Sgd {
    /// Moves `params` against `gradients`; `velocity` is empty or as long as they are.
    pub fn step(&self, path: Path, params: &mut [f32], gradients: &[f32], velocity: &mut [f32]) {
        let pieces = params.par_chunks_mut(PIECE).zip(gradients.par_chunks(PIECE));
        if velocity.is_empty() {
            return pieces.for_each(|(p, g)| simd::run(path, SgdPiece { sgd: self, p, g, v: &mut [] }));
        }
        pieces
            .zip(velocity.par_chunks_mut(PIECE))
            .for_each(|((p, g), v)| simd::run(path, SgdPiece { sgd: self, p, g, v }));
    }
}

struct SgdPiece<'a> {
    sgd: &'a Sgd,
    p: &'a mut [f32],
    g: &'a [f32],
    v: &'a mut [f32],
}

impl Task for SgdPiece<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Self { sgd: &Sgd { rate, momentum, decay, nesterov }, p, g, v } = self;
        if v.is_empty() {
            for (p, g) in p.iter_mut().zip(g) {
                *p -= rate * (g + decay * *p);
            }
        } else if nesterov {
            for ((p, g), v) in p.iter_mut().zip(g).zip(v) {
                let g = g + decay * *p;
                *v = momentum * *v + g;
                *p -= rate * (g + momentum * *v);
            }
        } else {
            for ((p, g), v) in p.iter_mut().zip(g).zip(v) {
                *v = momentum * *v + (g + decay * *p);
                *p -= rate * *v;
            }
        }
    }
}

impl AdamW {
    /// Moves `params` against `gradients`, all of one length with the moments.
    pub fn step(&self, path: Path, params: &mut [f32], gradients: &[f32], [first, second]: [&mut [f32]; 2]) {
        let moments = first.par_chunks_mut(PIECE).zip(second.par_chunks_mut(PIECE));
        params.par_chunks_mut(PIECE).zip(gradients.par_chunks(PIECE)).zip(moments).for_each(|((p, g), (m, s))| {
            simd::run(path, AdamWPiece { adamw: self, p, g, m, s });
        });
    }
}

struct AdamWPiece<'a> {
    adamw: &'a AdamW,
    p: &'a mut [f32],
    g: &'a [f32],
    m: &'a mut [f32],
    s: &'a mut [f32],
}

impl Task for AdamWPiece<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Self { adamw, p, g, m, s } = self;
        let AdamW { rate, root_scale, keep, epsilon, betas: [beta1, beta2], new: [new1, new2] } = *adamw;
        for ((p, g), (m, s)) in p.iter_mut().zip(g).zip(m.iter_mut().zip(s)) {
            *m = beta1 * *m + new1 * g;
            *s = beta2 * *s + new2 * g * g;
            *p = keep * *p - rate * *m / (s.sqrt() * root_scale + epsilon);
        }
    }
}

/// The sum of the squares, in `f64`: always added in the same order.
pub fn square_norm(path: Path, values: &[f32]) -> f64 {
    let parts: Vec<f64> = values.par_chunks(PIECE).map(|piece| simd::run(path, Squares(piece))).collect();
    parts.iter().sum()
}

struct Squares<'a>(&'a [f32]);

impl Task for Squares<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<V: Vector>(self) -> f64 {
        // Interleaved sums are added at once.
        let mut sums = [0.0f64; 32];
        let (chunks, rest) = self.0.as_chunks::<32>();
        for chunk in chunks {
            for (sum, v) in sums.iter_mut().zip(chunk) {
                *sum += f64::from(*v) * f64::from(*v);
            }
        }
        sums.iter().sum::<f64>() + rest.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::numbers;

    const LEN: usize = 2 * PIECE + 77;

    fn on_threads<T: Send>(threads: usize, of: impl FnOnce() -> T + Send) -> T {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(of)
    }

    #[test]
    fn every_parameter_steps_by_the_rule_whatever_piece_it_is_in() {
        let (p, g) = (numbers(LEN, 1), numbers(LEN, 2));
        for path in Path::ALL.into_iter().filter(|path| path.is_available()) {
            for (nesterov, momentum) in [(false, 0.9f32), (true, 0.9), (false, 0.0)] {
                let sgd = Sgd { rate: 0.1, momentum, decay: 0.01, nesterov };
                let (mut found, mut v) = (p.clone(), if momentum == 0.0 { vec![] } else { numbers(LEN, 3) });
                let before = v.clone();
                sgd.step(path, &mut found, &g, &mut v);
                for i in 0..LEN {
                    let g = f64::from(g[i]) + 0.01 * f64::from(p[i]);
                    let v = f64::from(momentum) * before.get(i).map_or(0.0, |v| f64::from(*v)) + g;
                    let along = if nesterov { g + f64::from(momentum) * v } else { v };
                    assert!((f64::from(found[i]) - (f64::from(p[i]) - 0.1 * along)).abs() < 1e-6);
                }
            }
        }
    }

    #[test]
    fn the_norm_is_the_same_bits_with_any_number_of_threads() {
        let values = numbers(LEN, 4);
        let expected: f64 = values.iter().map(|v| f64::from(*v).powi(2)).sum();
        for path in Path::ALL.into_iter().filter(|path| path.is_available()) {
            let one = on_threads(1, || square_norm(path, &values));
            assert!((one - expected).abs() < 1e-9 * expected);
            assert_eq!(one, on_threads(3, || square_norm(path, &values)));
        }
    }
}
