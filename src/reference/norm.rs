//! Normalisations: `(x - mean) / sqrt(var + epsilon) * weight + bias`, where the variance divides by the count.

use super::array::{count, reals};
use super::moved::expanded;
use super::{Output, ReferenceError};
use crate::graph::op::{BatchNorm, LayerNorm, RmsNorm};
use crate::tensor::TensorData;

/// The mean, and the mean square of what is left without it.
fn moments(numbers: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let n = numbers.clone().count() as f64;
    let mean = numbers.clone().sum::<f64>() / n;
    (mean, numbers.map(|x| (x - mean) * (x - mean)).sum::<f64>() / n)
}

/// Each channel by its running statistics or, while training, by the batch's.
pub fn batch(
    config: &BatchNorm,
    x: &TensorData,
    params: &[&TensorData],
    train: bool,
    output: &Output,
) -> Result<TensorData, ReferenceError> {
    let (channels, places) = (x.shape()[1], count(&x.shape()[2..]));
    let [weight, bias, running_mean, running_var] = [0, 1, 2, 3].map(|role| reals(params[role]));
    let x = reals(x);
    let channel_of = |place: usize| place / places % channels;
    let statistics: Vec<(f64, f64)> = (0..channels)
        .map(|channel| match train {
            true => moments(x.iter().enumerate().filter(|(i, _)| channel_of(*i) == channel).map(|(_, x)| *x)),
            false => (running_mean[channel], running_var[channel]),
        })
        .collect();
    let y = x.iter().enumerate().map(|(i, x)| {
        let channel = channel_of(i);
        let (mean, var) = statistics[channel];
        (x - mean) / (var + config.epsilon).sqrt() * weight[channel] + bias[channel]
    });
    output.real(y.collect())
}

/// Over the axes from one on.
pub fn layer(
    config: &LayerNorm,
    x: &TensorData,
    params: &[&TensorData],
    output: &Output,
) -> Result<TensorData, ReferenceError> {
    over_last(config.axis, x, params, output, |row| {
        let (mean, var) = moments(row.iter().copied());
        (mean, (var + config.epsilon).sqrt())
    })
}

/// As [`layer`], by the root of the mean square alone.
pub fn rms(
    config: &RmsNorm,
    x: &TensorData,
    params: &[&TensorData],
    output: &Output,
) -> Result<TensorData, ReferenceError> {
    over_last(config.axis, x, params, output, |row| {
        let square = row.iter().map(|x| x * x).sum::<f64>() / row.len() as f64;
        (0.0, (square + config.epsilon).sqrt())
    })
}

/// `of` gives what is subtracted from a row and what it is divided by.
fn over_last(
    axis: usize,
    x: &TensorData,
    params: &[&TensorData],
    output: &Output,
    of: impl Fn(&[f64]) -> (f64, f64),
) -> Result<TensorData, ReferenceError> {
    let last = &output.shape[axis..];
    let wide = |role: usize| params.get(role).map(|p| expanded(reals(p), p.shape(), last)).transpose();
    let (weight, bias) = (wide(0)?, wide(1)?);
    let mut y = reals(x);
    for row in y.chunks_exact_mut(count(last).max(1)) {
        let (shift, scale) = of(row);
        for (place, x) in row.iter_mut().enumerate() {
            let (weight, bias) = (weight.as_ref().map_or(1.0, |w| w[place]), bias.as_ref().map_or(0.0, |b| b[place]));
            *x = (*x - shift) / scale * weight + bias;
        }
    }
    output.real(y)
}

/// Over the channels of each group and their places; each channel is a group of its own where there are as many.
pub fn group(
    groups: usize,
    epsilon: f64,
    x: &TensorData,
    params: &[&TensorData],
    output: &Output,
) -> Result<TensorData, ReferenceError> {
    let (channels, places) = (x.shape()[1], count(&x.shape()[2..]));
    let (weight, bias) = (reals(params[0]), reals(params[1]));
    let mut y = reals(x);
    let size = channels / groups.max(1) * places;
    for (number, group) in y.chunks_exact_mut(size.max(1)).enumerate() {
        let (mean, var) = moments(group.iter().copied());
        for (place, x) in group.iter_mut().enumerate() {
            let channel = (number * size + place) / places % channels;
            *x = (*x - mean) / (var + epsilon).sqrt() * weight[channel] + bias[channel];
        }
    }
    output.real(y)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{CONTEXT, close, one, random, real};
    use super::super::{Context, eval};
    use super::*;
    use crate::graph::Op;
    use crate::graph::op::{GroupNorm, InstanceNorm};

    const EPSILON: f64 = 1e-5;

    #[test]
    fn a_channel_goes_by_its_statistics() {
        let x = real(&[2, 2], &[1.0, 2.0, 5.0, 6.0]);
        let params =
            [&real(&[2], &[1.0, 2.0]), &real(&[2], &[0.0, 1.0]), &real(&[2], &[1.0, 2.0]), &real(&[2], &[4.0, 1.0])];
        let op = Op::BatchNorm(BatchNorm { epsilon: 1e-12, momentum: 0.1 });
        assert_eq!(one(&op, &[&x], &params), real(&[2, 2], &[0.0, 1.0, 2.0, 9.0]));
        // The batch's mean is 3 and 4, its variance 4 and 4.
        let train = Context { train: true, ..CONTEXT };
        assert_eq!(eval(&op, &[&x], &params, &train).unwrap()[0], real(&[2, 2], &[-1.0, -1.0, 1.0, 3.0]));
    }

    #[test]
    fn rows_by_hand() {
        let x = real(&[1, 2], &[1.0, 3.0]);
        let layer = Op::LayerNorm(LayerNorm { axis: 1, epsilon: 1e-12 });
        let (weight, bias) = (real(&[1], &[2.0]), real(&[2], &[0.0, 1.0]));
        assert_eq!(one(&layer, &[&x], &[&weight, &bias]), real(&[1, 2], &[-2.0, 3.0]));
        let rms = Op::RmsNorm(RmsNorm { axis: 0, epsilon: 20.0 });
        // sqrt(5 + 20) = 5.
        assert_eq!(one(&rms, &[&x], &[&real(&[], &[10.0])]), real(&[1, 2], &[2.0, 6.0]));
    }

    #[test]
    fn groups_of_one_channel_and_of_all_are_the_others() {
        let x = random(&[2, 4, 3, 2], 1);
        let (weight, bias) = (random(&[4], 2), random(&[4], 3));
        let group = |groups| one(&Op::GroupNorm(GroupNorm { groups, epsilon: EPSILON }), &[&x], &[&weight, &bias]);
        let instance = one(&Op::InstanceNorm(InstanceNorm { epsilon: EPSILON }), &[&x], &[&weight, &bias]);
        assert!(close(&group(4), &instance));
        let shaped = |x: &TensorData| TensorData::new(x.dtype(), vec![4, 1, 1], x.bytes().clone()).unwrap();
        let layer = Op::LayerNorm(LayerNorm { axis: 1, epsilon: EPSILON });
        assert!(close(&group(1), &one(&layer, &[&x], &[&shaped(&weight), &shaped(&bias)])));
        // The rows of two groups have mean 0 before weight and bias.
        let plain = [real(&[4], &[1.0; 4]), real(&[4], &[0.0; 4])];
        let y = one(&Op::GroupNorm(GroupNorm { groups: 2, epsilon: EPSILON }), &[&x], &[&plain[0], &plain[1]]);
        for row in reals(&y).chunks_exact(12) {
            assert!(row.iter().sum::<f64>().abs() < 1e-9);
        }
    }

    #[test]
    fn what_is_empty_stays_so() {
        let (none, four) = (real(&[0], &[]), real(&[4], &[1.0; 4]));
        let op = Op::GroupNorm(GroupNorm { groups: 1, epsilon: EPSILON });
        assert_eq!(one(&op, &[&real(&[2, 4, 0], &[])], &[&four, &four]).shape(), [2, 4, 0]);
        assert_eq!(
            one(&Op::InstanceNorm(InstanceNorm { epsilon: EPSILON }), &[&real(&[2, 0, 3], &[])], &[&none, &none])
                .elements(),
            0
        );
        let op = Op::BatchNorm(BatchNorm::default());
        assert_eq!(one(&op, &[&real(&[0, 4], &[])], &[&four; 4]).elements(), 0);
    }
}
