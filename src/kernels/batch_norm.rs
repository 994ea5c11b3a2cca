//! Batch normalisation: each channel brought to mean 0 and variance 1, then scaled and shifted.
//!
//! ```text
//!   x [n, c, ...]     xhat = (x - mean) / sqrt(var + epsilon)     y = weight xhat + bias      m = values of a channel
//!
//!   dbias   = sum dy
//!   dweight = sum dy xhat
//!   dx      = weight / sqrt(var + epsilon) * (dy - dbias / m - xhat dweight / m)     with the batch's own statistics
//!   dx      = weight / sqrt(var + epsilon) * dy                                      with given ones
//! ```
//!
//! The batch's statistics are taken in one pass over sums of `x - s` and its square, where `s` is the channel's first
//! value: where values lie far from zero and close together, their squares would swallow the variance. Sums go plane by
//! plane in `f32` and over planes in `f64`, in [`PARTS`] parts that depend on nothing but the batch size.

use candle_core::{CpuStorage, CustomOp3, Error, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{Kernel, numbers, tensor_like, with_slice};

const OP: &str = "batch_norm";

/// Into how many partial sums a batch is divided.
const PARTS: usize = 8;

/// Mean and variance (divided by the count) of each channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// The means.
    pub mean: Vec<f32>,
    /// The variances.
    pub variance: Vec<f32>,
    /// Values of a channel that they were taken over.
    pub count: usize,
}

impl Moments {
    /// The means.
    pub fn means(&self) -> Vec<f64> {
        self.mean.iter().map(|v| f64::from(*v)).collect()
    }

    /// The variances, divided by one less than the count, which must be above 1.
    pub fn unbiased_variances(&self) -> Vec<f64> {
        let correction = self.count as f64 / (self.count as f64 - 1.0);
        self.variance.iter().map(|v| f64::from(*v) * correction).collect()
    }
}

/// By what a batch is normalised.
#[derive(Debug, Clone, PartialEq)]
pub enum Statistics {
    /// Its own moments, as [`moments`] finds them: the gradient goes through them too.
    Batch(Moments),
    /// Numbers that do not depend on it.
    Given(Moments),
}

/// The moments of each channel of `x [n, c, ...]`.
pub fn moments(x: &Tensor) -> Result<Moments> {
    let sizes = Sizes::new(x.dims())?;
    with_slice(OP, x, |x| sizes.moments(x))
}

/// Normalises `x [n, c, ...]`, scales it by `weight [c]` and shifts it by `bias [c]`.
pub fn batch_norm(statistics: Statistics, epsilon: f64) -> Kernel {
    Kernel::Three(Box::new(BatchNorm { statistics, epsilon }))
}

struct BatchNorm {
    statistics: Statistics,
    epsilon: f64,
}

/// The sizes of a batch.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    batch: usize,
    channels: usize,
    /// Values of one channel of one sample.
    plane: usize,
}

/// Two sums for each channel.
type Sums = Vec<[f64; 2]>;

impl Sizes {
    fn new(shape: &[usize]) -> Result<Self> {
        let [batch, channels, rest @ ..] = shape else {
            return Err(Error::Msg(format!("{OP} of {shape:?}: needs a batch and a channel axis")));
        };
        let sizes = Self { batch: *batch, channels: *channels, plane: rest.iter().product() };
        if [sizes.batch, sizes.channels, sizes.plane].contains(&0) {
            return Err(Error::Msg(format!("{OP} of {shape:?}: there is nothing in it")));
        }
        Ok(sizes)
    }

    fn sample(&self) -> usize {
        self.channels * self.plane
    }

    /// Values of a channel.
    fn count(&self) -> usize {
        self.batch * self.plane
    }

    fn moments(&self, x: &[f32]) -> Moments {
        let shift: Vec<f32> = x.iter().step_by(self.plane).take(self.channels).copied().collect();
        let sums = self.sums(x, x, |channel, x, _| {
            let shift = shift[channel];
            plane_sums(x.iter().map(|x| [x - shift, (x - shift) * (x - shift)]))
        });
        let count = self.count() as f64;
        let mean = shift.iter().zip(&sums).map(|(shift, [sum, _])| (f64::from(*shift) + sum / count) as f32);
        // Rounding may bring a variance of nothing below zero. NaN stays, so that it is seen.
        let variance = sums.iter().map(|[sum, squares]| (squares - sum * sum / count) / count);
        let variance = variance.map(|v| if v < 0.0 { 0.0 } else { v as f32 });
        Moments { mean: mean.collect(), variance: variance.collect(), count: self.count() }
    }

    /// The sums of each channel over all samples of what `of_plane` gives for its planes of `x` and `dy`.
    fn sums(&self, x: &[f32], dy: &[f32], of_plane: impl Fn(usize, &[f32], &[f32]) -> [f64; 2] + Sync) -> Sums {
        let part = self.batch.div_ceil(PARTS) * self.sample();
        let parts: Vec<Sums> = x
            .par_chunks(part)
            .zip(dy.par_chunks(part))
            .map(|(x, dy)| {
                let mut sums = vec![[0.0; 2]; self.channels];
                for (x, dy) in x.chunks_exact(self.sample()).zip(dy.chunks_exact(self.sample())) {
                    let planes = x.chunks_exact(self.plane).zip(dy.chunks_exact(self.plane));
                    for (channel, ((x, dy), sums)) in planes.zip(&mut sums).enumerate() {
                        add(sums, of_plane(channel, x, dy));
                    }
                }
                sums
            })
            .collect();
        let mut total = vec![[0.0; 2]; self.channels];
        for part in parts {
            total.iter_mut().zip(part).for_each(|(total, part)| add(total, part));
        }
        total
    }

    /// Writes every plane of `to` from the planes of `x` and `dy` in its place.
    fn write(&self, to: &mut [f32], x: &[f32], dy: &[f32], plane: impl Fn(usize, &mut [f32], &[f32], &[f32]) + Sync) {
        let samples = to.par_chunks_exact_mut(self.sample()).zip(x.par_chunks_exact(self.sample()));
        samples.zip(dy.par_chunks_exact(self.sample())).for_each(|((to, x), dy)| {
            let planes = to.chunks_exact_mut(self.plane).zip(x.chunks_exact(self.plane));
            for (channel, ((to, x), dy)) in planes.zip(dy.chunks_exact(self.plane)).enumerate() {
                plane(channel, to, x, dy);
            }
        });
    }
}

fn add(sums: &mut [f64; 2], more: [f64; 2]) {
    sums[0] += more[0];
    sums[1] += more[1];
}

/// The sums of a plane's pairs, in sixteen interleaved sums that the processor adds at once.
pub(super) fn plane_sums(pairs: impl ExactSizeIterator<Item = [f32; 2]>) -> [f64; 2] {
    const LANES: usize = 16;
    if pairs.len() < LANES {
        return pairs.fold([0.0; 2], |sums, pair| [0, 1].map(|i| sums[i] + f64::from(pair[i])));
    }
    let mut lanes = [[0.0f32; LANES]; 2];
    for (i, [a, b]) in pairs.enumerate() {
        lanes[0][i % LANES] += a;
        lanes[1][i % LANES] += b;
    }
    lanes.map(|lanes| lanes.iter().map(|v| f64::from(*v)).sum())
}

/// What is computed with in the place of statistics and parameters: one number a channel each.
struct Channels {
    mean: Vec<f32>,
    /// `1 / sqrt(var + epsilon)`.
    scale: Vec<f32>,
}

impl BatchNorm {
    fn moments(&self) -> &Moments {
        match &self.statistics {
            Statistics::Batch(moments) | Statistics::Given(moments) => moments,
        }
    }

    fn channels(&self) -> Channels {
        let Moments { mean, variance, .. } = self.moments();
        let scale = variance.iter().map(|v| (1.0 / (f64::from(*v) + self.epsilon).sqrt()) as f32).collect();
        Channels { mean: mean.clone(), scale }
    }

    fn sizes(&self, x: &[usize], weight: &[usize], bias: &[usize]) -> Result<Sizes> {
        let sizes = Sizes::new(x)?;
        let Moments { mean, variance, .. } = self.moments();
        if [weight.iter().product(), bias.iter().product(), mean.len(), variance.len()] != [sizes.channels; 4] {
            return Err(Error::Msg(format!("{OP} of {x:?} with {weight:?} and {bias:?}: sizes do not fit")));
        }
        Ok(sizes)
    }

    fn forward(&self, sizes: &Sizes, x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
        let Channels { mean, scale } = self.channels();
        let mut y = vec![0.0; x.len()];
        sizes.write(&mut y, x, x, |channel, y, x, _| {
            let (mean, factor, bias) = (mean[channel], scale[channel] * weight[channel], bias[channel]);
            y.iter_mut().zip(x).for_each(|(y, x)| *y = (x - mean) * factor + bias);
        });
        y
    }

    /// `sum dy` and `sum dy xhat` of each channel.
    fn parameter_gradients(&self, sizes: &Sizes, x: &[f32], dy: &[f32]) -> Sums {
        let Channels { mean, scale } = self.channels();
        let mut sums = sizes.sums(x, dy, |channel, x, dy| {
            let mean = mean[channel];
            plane_sums(x.iter().zip(dy).map(|(x, dy)| [*dy, dy * (x - mean)]))
        });
        sums.iter_mut().zip(scale).for_each(|(sums, scale)| sums[1] *= f64::from(scale));
        sums
    }

    fn input_gradient(&self, sizes: &Sizes, x: &[f32], weight: &[f32], dy: &[f32], sums: &Sums) -> Vec<f32> {
        let Channels { mean, scale } = self.channels();
        let count = sizes.count() as f64;
        let mut dx = vec![0.0; x.len()];
        sizes.write(&mut dx, x, dy, |channel, dx, x, dy| {
            let factor = weight[channel] * scale[channel];
            match self.statistics {
                Statistics::Given(_) => dx.iter_mut().zip(dy).for_each(|(dx, dy)| *dx = dy * factor),
                Statistics::Batch(_) => {
                    let [shift, slope] = sums[channel].map(|sum| (sum / count) as f32);
                    let (mean, slope) = (mean[channel], slope * scale[channel]);
                    dx.iter_mut()
                        .zip(x)
                        .zip(dy)
                        .for_each(|((dx, x), dy)| *dx = (dy - shift - (x - mean) * slope) * factor);
                }
            }
        });
        dx
    }
}

impl CustomOp3 for BatchNorm {
    fn name(&self) -> &'static str {
        OP
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
        let sizes = self.sizes(xl.dims(), wl.dims(), bl.dims())?;
        let y = self.forward(&sizes, numbers(OP, x, xl)?, numbers(OP, w, wl)?, numbers(OP, b, bl)?);
        Ok((CpuStorage::F32(y), xl.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let sizes = self.sizes(x.dims(), w.dims(), b.dims())?;
        let (sums, dx) = with_slice(OP, x, |xs| {
            with_slice(OP, dy, |dy| {
                let sums = self.parameter_gradients(&sizes, xs, dy);
                let dx = match x.track_op() {
                    true => Some(with_slice(OP, w, |w| self.input_gradient(&sizes, xs, w, dy, &sums))?),
                    false => None,
                };
                Ok::<_, Error>((sums, dx))
            })?
        })??;
        let [db, dw] = [0, 1].map(|i| sums.iter().map(|sums| sums[i] as f32).collect::<Vec<f32>>());
        let tracked = |values: Vec<f32>, like: &Tensor| like.track_op().then(|| tensor_like(values, like)).transpose();
        Ok((dx.map(|dx| tensor_like(dx, x)).transpose()?, tracked(dw, w)?, tracked(db, b)?))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::testing::{central_differences, close, gradients, numbers, result};

    const EPSILON: f64 = 1e-3;

    /// The values of each channel, by their places.
    fn channels(sizes: &Sizes) -> Vec<Vec<usize>> {
        let of = |place: &usize| place / sizes.plane % sizes.channels;
        let all = 0..sizes.batch * sizes.sample();
        (0..sizes.channels).map(|c| all.clone().filter(|place| of(place) == c).collect()).collect()
    }

    fn naive_moments(values: &[f64]) -> [f64; 2] {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        [mean, values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count]
    }

    /// By the definition, in `f64`; with the batch's own moments unless others are given.
    fn naive(sizes: &Sizes, x: &[f64], weight: &[f64], bias: &[f64], given: Option<&Moments>) -> Vec<f64> {
        let mut y = vec![0.0; x.len()];
        for (c, places) in channels(sizes).into_iter().enumerate() {
            let [mean, variance] = match given {
                Some(m) => [f64::from(m.mean[c]), f64::from(m.variance[c])],
                None => naive_moments(&places.iter().map(|place| x[*place]).collect::<Vec<_>>()),
            };
            for place in places {
                y[place] = (x[place] - mean) / (variance + EPSILON).sqrt() * weight[c] + bias[c];
            }
        }
        y
    }

    fn wide(values: &[f32]) -> Vec<f64> {
        values.iter().map(|v| f64::from(*v)).collect()
    }

    fn tensor(values: &[f32], shape: &[usize]) -> Tensor {
        Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
    }

    fn shape(sizes: &Sizes, width: Option<usize>) -> Vec<usize> {
        match width {
            Some(width) => vec![sizes.batch, sizes.channels, sizes.plane / width, width],
            None => vec![sizes.batch, sizes.channels],
        }
    }

    proptest! {
        #[test]
        fn results_and_gradients_are_those_of_the_definition(
            batch in 1usize..12, channels in 1usize..4, image in prop::option::of((1usize..5, 1usize..6)),
            statistics_are_given in any::<bool>(), seed in 0u64..1 << 40,
        ) {
            let plane = image.map_or(1, |(h, w)| h * w);
            let sizes = Sizes { batch, channels, plane };
            let values = [numbers(batch * channels * plane, seed), numbers(channels, seed + 1), numbers(channels, seed + 2)];
            let x = tensor(&values[0], &shape(&sizes, image.map(|(_, w)| w)));
            let given = statistics_are_given.then(|| Moments {
                mean: numbers(channels, seed + 3),
                variance: numbers(channels, seed + 4).into_iter().map(|v| v.abs() + 0.1).collect(),
                count: 0,
            });
            // One value a channel has no variance; a batch of two of them may have nearly none.
            prop_assume!(given.is_some() || batch * plane > 2);
            let statistics = match &given {
                Some(given) => Statistics::Given(given.clone()),
                None => Statistics::Batch(moments(&x).unwrap()),
            };
            let args = [x, tensor(&values[1], &[channels]), tensor(&values[2], &[channels])];
            let kernel = batch_norm(statistics, EPSILON);
            let found = result(&kernel, &args).unwrap();
            let doubles = values.each_ref().map(|v| wide(v));
            for (found, expected) in found.iter().zip(naive(&sizes, &doubles[0], &doubles[1], &doubles[2], given.as_ref())) {
                prop_assert!(close(*found, expected, 1e-4), "{found} {expected}");
            }

            let upstream = numbers(found.len(), seed + 9);
            let found = gradients(&kernel, &args, &upstream);
            for (which, found) in found.iter().enumerate() {
                let expected = central_differences(&values[which], |changed| {
                    let mut at = doubles.clone();
                    at[which] = changed.to_vec();
                    let y = naive(&sizes, &at[0], &at[1], &at[2], given.as_ref());
                    y.iter().zip(&upstream).map(|(y, d)| y * f64::from(*d)).sum()
                });
                for (found, expected) in found.iter().zip(&expected) {
                    // The differences' own error grows with the curvature, which a small variance makes large.
                    prop_assert!(close(*found, *expected, 2e-3), "argument {which}: {found} {expected}");
                }
            }
        }

        #[test]
        fn moments_are_those_of_the_definition_far_from_zero_too(
            batch in 2usize..40, plane in 1usize..70, offset in -1000f32..1000.0, seed in any::<u64>(),
        ) {
            let sizes = Sizes { batch, channels: 2, plane };
            let values: Vec<f32> = numbers(batch * 2 * plane, seed).into_iter().map(|v| v + offset).collect();
            let found = moments(&tensor(&values, &[batch, 2, 1, plane])).unwrap();
            prop_assert_eq!(found.count, batch * plane);
            for (c, places) in channels(&sizes).into_iter().enumerate() {
                let [mean, variance] = naive_moments(&places.iter().map(|p| f64::from(values[*p])).collect::<Vec<_>>());
                prop_assert!(close(found.mean[c], mean, 1e-6), "{} {mean}", found.mean[c]);
                prop_assert!(close(found.variance[c], variance, 1e-5), "{} {variance}", found.variance[c]);
            }
        }
    }

    #[test]
    fn a_channel_that_never_changes_has_variance_zero_and_becomes_its_bias() {
        let x = tensor(&[3.3; 24], &[4, 1, 2, 3]);
        let found = moments(&x).unwrap();
        assert_eq!((found.mean[0], found.variance[0]), (3.3, 0.0));
        let args = [x, tensor(&[2.0], &[1]), tensor(&[0.5], &[1])];
        assert_eq!(result(&batch_norm(Statistics::Batch(found), EPSILON), &args).unwrap(), [0.5; 24]);
    }

    #[test]
    fn not_a_number_is_handed_on() {
        let found = moments(&tensor(&[1.0, f32::NAN, 2.0], &[3, 1])).unwrap();
        assert!(found.mean[0].is_nan() && found.variance[0].is_nan());
    }

    #[test]
    fn the_bits_do_not_depend_on_the_number_of_threads() {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let args = [
                    tensor(&numbers(37 * 5 * 63, 1), &[37, 5, 7, 9]),
                    tensor(&numbers(5, 2), &[5]),
                    tensor(&numbers(5, 3), &[5]),
                ];
                let upstream = numbers(37 * 5 * 63, 4);
                let found = moments(&args[0]).unwrap();
                (found.clone(), gradients(&batch_norm(Statistics::Batch(found), EPSILON), &args, &upstream))
            })
        };
        let one = run(1);
        for threads in [2, 3, 5] {
            assert!(one == run(threads), "{threads} threads give other bits");
        }
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        let (x, two, three) = (tensor(&[0.0; 8], &[4, 2]), tensor(&[0.0; 2], &[2]), tensor(&[0.0; 3], &[3]));
        let found = moments(&x).unwrap();
        let kernel = batch_norm(Statistics::Batch(found), EPSILON);
        assert!(result(&kernel, &[x.clone(), two.clone(), three.clone()]).is_err());
        assert!(result(&kernel, &[x.t().unwrap(), two.clone(), two]).is_err());
        assert!(moments(&three).is_err());
    }
}
