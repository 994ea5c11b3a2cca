//! Batch normalisation over rows `[m, c]`: each channel brought to mean 0 and variance 1, then scaled and shifted.
//!
//! ```text
//!   xhat = (x - mean) r     r = 1 / sqrt(var + epsilon)     y = relu(weight xhat + bias + residual)
//!
//!   d = dy where y is not 0           the gradient at the residual
//!   dbias = sum d     dweight = sum d xhat
//!   dx = weight r (d - dbias / m - xhat dweight / m)        with the batch's own statistics
//!   dx = weight r d                                         with given ones
//! ```
//!
//! The batch's statistics are taken in one pass: over blocks of rows in `f32`, of what is left of `x` when the block's
//! first row is taken away, since the squares of values far from zero and close together would swallow the variance; the
//! blocks are merged in `f64` (Chan, Golub and LeVeque 1979), in [`CHUNKS`](super::CHUNKS) parts.

use super::divide;
use crate::simd::{self, Path, Task, Vector};

/// Rows whose sums are taken in `f32`.
const ROWS: usize = 256;
/// Numbers of a block that stays in the nearest memory while its columns are walked over.
const NEAR: usize = 1 << 12;

/// Writes mean and variance (divided by the count) of each channel of `x [m, c]`.
pub fn moments(path: Path, x: &[f32], mean: &mut [f32], variance: &mut [f32]) {
    let channels = mean.len();
    let mut parts = vec![0.0; super::CHUNKS * part_len(channels)];
    let rows = x.len() / channels;
    let mut tasks = Vec::with_capacity(super::CHUNKS);
    for (i, part) in parts.chunks_exact_mut(part_len(channels)).enumerate() {
        let rows = divide::chunk(rows, i);
        tasks.push((&x[rows.start * channels..rows.end * channels], part));
    }
    divide::each(tasks, x.len(), |(x, part)| measure(path, x, part));
    merge(&parts, mean, variance);
}

/// Numbers that [`measure`] says what it found in.
pub(super) fn part_len(channels: usize) -> usize {
    2 * channels + 1
}

/// Writes the count of some rows, each channel's mean and the sum of its squared distances from that to `part`.
pub(super) fn measure(path: Path, x: &[f32], part: &mut [f32]) {
    let (count, part) = part.split_at_mut(1);
    let channels = part.len() / 2;
    count[0] = (x.len() / channels) as f32;
    let (mean, squares) = part.split_at_mut(channels);
    simd::run(path, Measure { x, mean, squares });
}

/// Mean and variance of all parts, which are added in their order.
pub(super) fn merge(parts: &[f32], mean: &mut [f32], variance: &mut [f32]) {
    let channels = mean.len();
    for (channel, (mean, variance)) in mean.iter_mut().zip(variance).enumerate() {
        let mut all = Moments::default();
        for part in parts.chunks_exact(part_len(channels)) {
            let [count, mean, squares] = [0, 1 + channel, 1 + channels + channel].map(|i| f64::from(part[i]));
            all.merge(Moments { count, mean, squares });
        }
        *mean = all.mean as f32;
        // NaN stays, so that it is seen.
        *variance = (all.squares / all.count) as f32;
    }
}

/// Count, mean and the sum of squared distances from it.
#[derive(Debug, Clone, Copy, Default)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    fn merge(&mut self, other: Self) {
        if other.count == 0.0 {
            return;
        }
        let count = self.count + other.count;
        let distance = other.mean - self.mean;
        self.mean += distance * other.count / count;
        self.squares += other.squares + distance * distance * self.count * other.count / count;
        self.count = count;
    }
}

/// The moments of some rows.
struct Measure<'a> {
    x: &'a [f32],
    mean: &'a mut [f32],
    squares: &'a mut [f32],
}

impl Task for Measure<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let channels = self.mean.len();
        let mut column = 0;
        while column < channels {
            let lanes = (channels - column).min(V::LANES);
            let mask = V::first(lanes);
            let mut all = [Moments::default(); 64];
            for x in self.x.chunks(ROWS * channels) {
                let count = (x.len() / channels) as f64;
                // SAFETY: `lanes` numbers of the first row lie there.
                let shift = unsafe { V::load_first(x[column..].as_ptr(), mask) };
                let (mut sum, mut squares) = (V::zero(), V::zero());
                for row in x.chunks_exact(channels) {
                    // SAFETY: `lanes` numbers of the row lie there.
                    let left = unsafe { V::load_first(row[column..].as_ptr(), mask) }.sub(shift);
                    sum = sum.add(left);
                    squares = left.mul_add(left, squares);
                }
                let [sums, all_squares, shifts] = [sum, squares, shift].map(|v| stored(v, mask));
                for (lane, moments) in all[..lanes].iter_mut().enumerate() {
                    let (sum, squares) = (f64::from(sums[lane]), f64::from(all_squares[lane]));
                    // Rounding may bring the squares of nothing below zero.
                    let left = squares - sum * sum / count;
                    let squares = if left < 0.0 { 0.0 } else { left };
                    moments.merge(Moments { count, mean: f64::from(shifts[lane]) + sum / count, squares });
                }
            }
            for (lane, moments) in all[..lanes].iter().enumerate() {
                self.mean[column + lane] = moments.mean as f32;
                self.squares[column + lane] = moments.squares as f32;
            }
            column += V::LANES;
        }
    }
}

/// The lanes of a vector; no vector has more.
#[inline(always)]
fn stored<V: Vector>(v: V, mask: V::Mask) -> [f32; 64] {
    let mut lanes = [0.0; 64];
    // SAFETY: the mask has at most the vector's lanes, and there are as many places.
    unsafe { v.store_first(lanes.as_mut_ptr(), mask) };
    lanes
}

/// One number a channel each, by which rows are normalised.
#[derive(Debug, Clone, Copy)]
pub struct Channels<'a> {
    /// The mean.
    pub mean: &'a [f32],
    /// `1 / sqrt(var + epsilon)`
    pub scale: &'a [f32],
    /// The weight.
    pub weight: &'a [f32],
    /// The bias.
    pub bias: &'a [f32],
}

/// What a ReLU behind the normalisation lets through of a gradient.
#[derive(Debug, Clone, Copy)]
pub enum Gate<'a> {
    /// All of it: there is no ReLU.
    Open,
    /// Where these outputs are positive.
    Outputs(&'a [f32]),
    /// Where the normalised number is positive, which is the output where nothing is added.
    Normalised,
}

/// Writes `y`; `residual` is added where it is given.
pub fn forward(path: Path, x: &[f32], by: Channels<'_>, residual: Option<&[f32]>, relu: bool, y: &mut [f32]) {
    divide::pieces(y, by.mean.len(), |first, y| {
        let start = first * by.mean.len();
        let (x, residual) = (&x[start..][..y.len()], residual.map(|r| &r[start..][..y.len()]));
        simd::run(path, Forward { x, by, residual, relu, y });
    });
}

struct Forward<'a> {
    x: &'a [f32],
    by: Channels<'a>,
    residual: Option<&'a [f32]>,
    relu: bool,
    y: &'a mut [f32],
}

impl Task for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        match (self.residual, self.relu) {
            (Some(residual), true) => self.rows::<V, true, true>(residual),
            (Some(residual), false) => self.rows::<V, true, false>(residual),
            (None, true) => self.rows::<V, false, true>(&[]),
            (None, false) => self.rows::<V, false, false>(&[]),
        }
    }
}

impl Forward<'_> {
    #[inline(always)]
    fn rows<V: Vector, const RESIDUAL: bool, const RELU: bool>(self, residual: &[f32]) {
        let channels = self.by.mean.len();
        let near = (NEAR / channels).max(1) * channels;
        for (block, y) in self.y.chunks_mut(near).enumerate() {
            let x = &self.x[block * near..][..y.len()];
            let residual = if RESIDUAL { &residual[block * near..][..y.len()] } else { residual };
            let mut column = 0;
            while column < channels {
                let mask = V::first((channels - column).min(V::LANES));
                // SAFETY: the mask's lanes end with the channels.
                let [mean, scale, weight, bias] = [self.by.mean, self.by.scale, self.by.weight, self.by.bias]
                    .map(|of| unsafe { V::load_first(of[column..].as_ptr(), mask) });
                let factor = scale.mul(weight);
                for at in (column..y.len()).step_by(channels) {
                    // SAFETY: the mask's lanes lie in the row, which is whole in all three slices.
                    unsafe {
                        let x = V::load_first(x.as_ptr().add(at), mask);
                        let mut result = x.sub(mean).mul_add(factor, bias);
                        if RESIDUAL {
                            result = result.add(V::load_first(residual.as_ptr().add(at), mask));
                        }
                        if RELU {
                            result = result.relu();
                        }
                        result.store_first(y.as_mut_ptr().add(at), mask);
                    }
                }
                column += V::LANES;
            }
        }
    }
}

/// Writes `sum d` and `sum d xhat` of each channel, of what the gate lets through; where it goes by outputs, the other
/// numbers of `d` become zero.
pub fn sums(path: Path, x: &[f32], gate: Gate<'_>, d: &mut [f32], by: Channels<'_>, sums: [&mut [f32]; 2]) {
    let channels = by.mean.len();
    let rows = d.len() / channels;
    let mut parts = vec![vec![[0.0f64; 2]; channels]; super::CHUNKS];
    let mut rest = d;
    let mut tasks = Vec::with_capacity(parts.len());
    for (i, sums) in parts.iter_mut().enumerate() {
        let range = divide::chunk(rows, i);
        let range = range.start * channels..range.end * channels;
        let (d, after) = std::mem::take(&mut rest).split_at_mut(range.len());
        rest = after;
        let gate = if let Gate::Outputs(y) = gate { Gate::Outputs(&y[range.clone()]) } else { gate };
        tasks.push(Sums { x: &x[range], gate, d, by, sums });
    }
    divide::each(tasks, rows * channels, |task| simd::run(path, task));
    let [dbias, dweight] = sums;
    for channel in 0..channels {
        let [sum, product] = [0, 1].map(|i| parts.iter().map(|part| part[channel][i]).sum::<f64>());
        dbias[channel] = sum as f32;
        dweight[channel] = (product * f64::from(by.scale[channel])) as f32;
    }
}

struct Sums<'a> {
    x: &'a [f32],
    gate: Gate<'a>,
    d: &'a mut [f32],
    by: Channels<'a>,
    sums: &'a mut [[f64; 2]],
}

/// The kinds of [`Gate`], as the inner loops are compiled for them.
const OPEN: u8 = 0;
const OUTPUTS: u8 = 1;
const NORMALISED: u8 = 2;

impl Task for Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        match self.gate {
            Gate::Open => self.rows::<V, OPEN>(&[]),
            Gate::Outputs(y) => self.rows::<V, OUTPUTS>(y),
            Gate::Normalised => self.rows::<V, NORMALISED>(&[]),
        }
    }
}

/// The first numbers of `of` from `column` on.
///
/// # Safety
///
/// There are as many as the mask has lanes.
#[inline(always)]
unsafe fn load<V: Vector>(of: &[f32], column: usize, mask: V::Mask) -> V {
    // SAFETY: as the caller vouches.
    unsafe { V::load_first(of.as_ptr().add(column), mask) }
}

impl Sums<'_> {
    #[inline(always)]
    fn rows<V: Vector, const GATE: u8>(self, y: &[f32]) {
        let channels = self.by.mean.len();
        let near = ROWS * channels;
        for (block, d) in self.d.chunks_mut(near).enumerate() {
            let x = &self.x[block * near..][..d.len()];
            let y = if GATE == OUTPUTS { &y[block * near..][..d.len()] } else { y };
            let mut column = 0;
            while column < channels {
                let lanes = (channels - column).min(V::LANES);
                let mask = V::first(lanes);
                // SAFETY: the mask's lanes end with the channels.
                let [mean, scale, weight, bias] = [self.by.mean, self.by.scale, self.by.weight, self.by.bias]
                    .map(|of| unsafe { load::<V>(of, column, mask) });
                let factor = scale.mul(weight);
                let (mut sum, mut product) = (V::zero(), V::zero());
                for at in (column..d.len()).step_by(channels) {
                    // SAFETY: the mask's lanes lie in the row, which is whole in all three slices.
                    unsafe {
                        let mut own = V::load_first(d.as_ptr().add(at), mask);
                        let from_mean = load::<V>(x, at, mask).sub(mean);
                        if GATE == OUTPUTS {
                            own = load::<V>(y, at, mask).where_positive(own);
                            own.store_first(d.as_mut_ptr().add(at), mask);
                        }
                        if GATE == NORMALISED {
                            own = from_mean.mul_add(factor, bias).where_positive(own);
                        }
                        sum = sum.add(own);
                        product = from_mean.mul_add(own, product);
                    }
                }
                let [sum, product] = [sum, product].map(|v| stored(v, mask));
                for (lane, sums) in self.sums[column..][..lanes].iter_mut().enumerate() {
                    sums[0] += f64::from(sum[lane]);
                    sums[1] += f64::from(product[lane]);
                }
                column += V::LANES;
            }
        }
    }
}

/// The gradient at `x`, written over `x`: from `d` and, with the batch's own statistics, the sums that [`sums`] found. With `gated`, what a ReLU behind holds back is still in `d`, and its outputs are the normalised numbers.
pub fn backward(path: Path, x: &mut [f32], d: &[f32], by: Channels<'_>, sums: Option<[&[f32]; 2]>, gated: bool) {
    let channels = by.mean.len();
    let count = (x.len() / channels) as f32;
    let backward = Backward { by, sums, count, gated };
    divide::pieces(x, channels, |first, x| backward.rows(path, x, &d[first * channels..][..x.len()]));
}

/// What of a [`backward`] is known before: that of some rows may be computed by itself.
#[derive(Clone, Copy)]
pub(super) struct Backward<'a> {
    pub(super) by: Channels<'a>,
    pub(super) sums: Option<[&'a [f32]; 2]>,
    pub(super) count: f32,
    pub(super) gated: bool,
}

impl Backward<'_> {
    /// The gradient at some rows of `x`, written over them.
    pub(super) fn rows(&self, path: Path, x: &mut [f32], d: &[f32]) {
        simd::run(path, BackwardRows { of: *self, x, d });
    }
}

struct BackwardRows<'a> {
    of: Backward<'a>,
    x: &'a mut [f32],
    d: &'a [f32],
}

impl Task for BackwardRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        match (self.of.sums, self.of.gated) {
            (Some(sums), true) => self.all::<V, true, true>(sums),
            (Some(sums), false) => self.all::<V, true, false>(sums),
            (None, true) => self.all::<V, false, true>([&[]; 2]),
            (None, false) => self.all::<V, false, false>([&[]; 2]),
        }
    }
}

impl BackwardRows<'_> {
    #[inline(always)]
    fn all<V: Vector, const MEASURED: bool, const GATED: bool>(self, [dbias, dweight]: [&[f32]; 2]) {
        let by = self.of.by;
        let channels = by.mean.len();
        let near = (NEAR / channels).max(1) * channels;
        for (block, x) in self.x.chunks_mut(near).enumerate() {
            let d = &self.d[block * near..][..x.len()];
            let mut column = 0;
            while column < channels {
                let mask = V::first((channels - column).min(V::LANES));
                // SAFETY: the mask's lanes end with the channels.
                let [mean, scale, weight, bias] =
                    [by.mean, by.scale, by.weight, by.bias].map(|of| unsafe { load::<V>(of, column, mask) });
                let factor = scale.mul(weight);
                let share = V::splat(1.0 / self.of.count);
                let [shift, slope] = match MEASURED {
                    // SAFETY: as above.
                    true => unsafe {
                        [
                            load::<V>(dbias, column, mask).mul(share),
                            load::<V>(dweight, column, mask).mul(share).mul(scale),
                        ]
                    },
                    false => [V::zero(); 2],
                };
                for at in (column..x.len()).step_by(channels) {
                    // SAFETY: the mask's lanes lie in the row, which is whole in both slices.
                    unsafe {
                        let mut own = load::<V>(d, at, mask);
                        let from_mean = load::<V>(x, at, mask).sub(mean);
                        if GATED {
                            own = from_mean.mul_add(factor, bias).where_positive(own);
                        }
                        if MEASURED {
                            own = own.sub(shift).sub(from_mean.mul(slope));
                        }
                        own.mul(factor).store_first(x.as_mut_ptr().add(at), mask);
                    }
                }
                column += V::LANES;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::numbers;

    const EPSILON: f64 = 1e-3;

    /// The sizes of a case and its numbers, all in `f64`.
    struct Case {
        channels: usize,
        x: Vec<f64>,
        residual: Vec<f64>,
        weight: Vec<f64>,
        bias: Vec<f64>,
        relu: bool,
        /// Mean and variance, if they are not the batch's.
        given: Option<[Vec<f64>; 2]>,
    }

    impl Case {
        fn moments(&self) -> [Vec<f64>; 2] {
            if let Some(given) = &self.given {
                return given.clone();
            }
            let column = |c: usize| self.x.iter().skip(c).step_by(self.channels);
            let rows = (self.x.len() / self.channels) as f64;
            let mean: Vec<f64> = (0..self.channels).map(|c| column(c).sum::<f64>() / rows).collect();
            let of = |c: usize| column(c).map(|x| (x - mean[c]).powi(2)).sum::<f64>() / rows;
            let variance = (0..self.channels).map(of).collect();
            [mean, variance]
        }

        fn output(&self) -> Vec<f64> {
            let [mean, variance] = self.moments();
            let at = |i: usize| {
                let c = i % self.channels;
                let xhat = (self.x[i] - mean[c]) / (variance[c] + EPSILON).sqrt();
                let y = xhat * self.weight[c] + self.bias[c] + self.residual[i];
                if self.relu { y.max(0.0) } else { y }
            };
            (0..self.x.len()).map(at).collect()
        }
    }

    fn wide(v: &[f32]) -> Vec<f64> {
        v.iter().map(|v| f64::from(*v)).collect()
    }

    fn close(found: &[f32], expected: &[f64], tolerance: f64) -> Result<(), TestCaseError> {
        for (i, (f, e)) in found.iter().zip(expected).enumerate() {
            prop_assert!((f64::from(*f) - e).abs() <= tolerance * e.abs().max(1.0), "{i}: {f} {e}");
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn results_and_gradients_are_those_of_the_definition(
            rows in 2usize..40, channels in 1usize..35, relu in any::<bool>(), is_given in any::<bool>(),
            seed in 0u64..1 << 40,
        ) {
            let n = rows * channels;
            let (x, residual, dy) = (numbers(n, seed), numbers(n, seed + 1), numbers(n, seed + 2));
            let (weight, bias) = (numbers(channels, seed + 3), numbers(channels, seed + 4));
            let given = is_given.then(|| {
                let variance = numbers(channels, seed + 6).iter().map(|v| f64::from(v.abs() + 0.3)).collect();
                [wide(&numbers(channels, seed + 5)), variance]
            });
            let mut case = Case {
                channels, x: wide(&x), residual: wide(&residual), weight: wide(&weight), bias: wide(&bias), relu, given,
            };
            let expected = case.output();
            // A step must cross no kink.
            prop_assume!(!relu || expected.iter().all(|y| *y == 0.0 || *y > 1e-3));
            for path in Path::ALL.into_iter().filter(|path| path.is_available()) {
                let (mut mean, mut variance) = (vec![0.0; channels], vec![0.0; channels]);
                match &case.given {
                    Some([m, v]) => {
                        mean = m.iter().map(|v| *v as f32).collect();
                        variance = v.iter().map(|v| *v as f32).collect();
                    }
                    None => moments(path, &x, &mut mean, &mut variance),
                }
                let [m, v] = case.moments();
                close(&mean, &m, 1e-6)?;
                close(&variance, &v, 1e-5)?;
                let scale: Vec<f32> =
                    variance.iter().map(|v| (1.0 / (f64::from(*v) + EPSILON).sqrt()) as f32).collect();
                let by = Channels { mean: &mean, scale: &scale, weight: &weight, bias: &bias };
                let mut y = vec![0.0; n];
                forward(path, &x, by, Some(&residual), relu, &mut y);
                close(&y, &expected, 1e-4)?;

                let (mut d, mut dbias, mut dweight) = (dy.clone(), vec![0.0; channels], vec![0.0; channels]);
                let gate = if relu { Gate::Outputs(&y) } else { Gate::Open };
                sums(path, &x, gate, &mut d, by, [&mut dbias, &mut dweight]);
                let mut dx = x.clone();
                backward(path, &mut dx, &d, by, (!is_given).then_some([&dbias[..], &dweight[..]]), false);
                let loss = |case: &Case| -> f64 {
                    case.output().iter().zip(&dy).map(|(y, d)| y * f64::from(*d)).sum()
                };
                fn part(case: &mut Case, which: usize) -> &mut Vec<f64> {
                    [&mut case.x, &mut case.residual, &mut case.weight, &mut case.bias].into_iter().nth(which).unwrap()
                }
                for (which, found) in [&dx, &d, &dweight, &dbias].into_iter().enumerate() {
                    let expected: Vec<f64> = (0..found.len())
                        .map(|i| {
                            let at = part(&mut case, which)[i];
                            let mut beside = |step: f64| {
                                part(&mut case, which)[i] = at + step;
                                loss(&case)
                            };
                            let slope = (beside(1e-6) - beside(-1e-6)) / 2e-6;
                            part(&mut case, which)[i] = at;
                            slope
                        })
                        .collect();
                    close(found, &expected, 1e-3)?;
                }
            }
        }
    }

    #[test]
    fn a_gate_by_normalised_numbers_is_one_by_outputs_to_which_nothing_was_added() {
        let (rows, channels) = (700, 19);
        let (x, dy) = (numbers(rows * channels, 1), numbers(rows * channels, 2));
        let (weight, bias) = (numbers(channels, 3), numbers(channels, 4));
        for path in Path::ALL.into_iter().filter(|path| path.is_available()) {
            let (mut mean, mut variance) = (vec![0.0; channels], vec![0.0; channels]);
            moments(path, &x, &mut mean, &mut variance);
            let by = Channels { mean: &mean, scale: &variance, weight: &weight, bias: &bias };
            let mut y = vec![0.0; x.len()];
            forward(path, &x, by, None, true, &mut y);
            let of = |gate: Gate<'_>| {
                let (mut d, mut dbias, mut dweight) = (dy.clone(), vec![0.0; channels], vec![0.0; channels]);
                sums(path, &x, gate, &mut d, by, [&mut dbias, &mut dweight]);
                let mut dx = x.clone();
                let gated = matches!(gate, Gate::Normalised);
                backward(path, &mut dx, &d, by, Some([&dbias[..], &dweight[..]]), gated);
                [dx, dbias, dweight]
            };
            assert!(of(Gate::Normalised) == of(Gate::Outputs(&y)));
        }
    }

    #[test]
    fn the_variance_of_numbers_far_from_zero_is_found_with_any_number_of_threads() {
        let (rows, channels) = (70_001, 3);
        let x: Vec<f32> = numbers(rows * channels, 1).iter().map(|v| 1000.0 + v).collect();
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let (mut mean, mut variance) = (vec![0.0; channels], vec![0.0; channels]);
                moments(Path::chosen(), &x, &mut mean, &mut variance);
                (mean, variance)
            })
        };
        let one = run(1);
        assert!(one.1.iter().all(|v| (v - 1.0 / 3.0).abs() < 0.01), "{:?}", one.1);
        assert!(run(2) == one && run(3) == one);
    }
}
