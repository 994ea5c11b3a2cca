//! What the transforms of a data set come to: a short chain of affine maps and thresholds, applied to samples in place.
//!
//! Channels are the first axis of a sample. Time series, `[length, channels]`, have them last; their steps of zeros at the end
//! are padding and stay zeros, so that a network still sees where a sample ends.

use std::sync::Arc;

/// `x * factor + offset`, one pair a channel: what scalings and normalisations come to.
#[derive(Debug, Clone, PartialEq)]
pub struct Affine {
    /// Factor and offset of each channel.
    pub channels: Vec<(f32, f32)>,
}

/// What happens to a sample's values, link by link. Copies share the links.
#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    links: Arc<[Link]>,
    /// The channels of a step, where samples are time series.
    step: Option<usize>,
}

/// One link.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Link {
    /// Values of a channel are multiplied and moved.
    Affine(Affine),
    /// 1 where a value is above this, else 0.
    Threshold(f32),
}

impl Chain {
    pub(super) fn new(links: Vec<Link>) -> Self {
        Self { links: links.into(), step: None }
    }

    /// The same for time series whose steps have so many channels.
    pub(super) fn over_steps(self, channels: usize) -> Self {
        Self { step: Some(channels.max(1)), ..self }
    }

    /// Applies the chain to one sample.
    pub(super) fn apply(&self, sample: &mut [f32]) {
        let end = self.step.map_or(sample.len(), |channels| {
            // Steps are counted before the first link: what it makes zero is no padding yet.
            sample
                .rchunks_exact(channels)
                .position(|step| step.iter().any(|v| *v != 0.0))
                .map_or(0, |padding| sample.len() - padding * channels)
        });
        let sample = &mut sample[..end];
        for link in self.links.iter() {
            match link {
                Link::Affine(Affine { channels }) if self.step.is_some() => {
                    for step in sample.chunks_exact_mut(channels.len().max(1)) {
                        step.iter_mut().zip(channels).for_each(|(v, (factor, offset))| *v = *v * factor + offset);
                    }
                }
                Link::Affine(Affine { channels }) => {
                    let size = (sample.len() / channels.len().max(1)).max(1);
                    for (values, (factor, offset)) in sample.chunks_exact_mut(size).zip(channels) {
                        values.iter_mut().for_each(|v| *v = *v * factor + offset);
                    }
                }
                Link::Threshold(threshold) => {
                    sample.iter_mut().for_each(|v| *v = if *v > *threshold { 1.0 } else { 0.0 });
                }
            }
        }
    }
}

impl From<Affine> for Chain {
    fn from(affine: Affine) -> Self {
        Self::new(vec![Link::Affine(affine)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_applied_in_their_order_channel_by_channel() {
        let affine = |a, b| Link::Affine(Affine { channels: vec![a, b] });
        let chain =
            Chain::new(vec![affine((1.0, 0.0), (2.0, -1.0)), Link::Threshold(0.5), affine((4.0, 0.0), (1.0, 1.0))]);
        let mut sample = [0.5, 0.6, 0.5, 0.8];
        chain.apply(&mut sample);
        assert_eq!(sample, [0.0, 4.0, 1.0, 2.0]);
        let mut same = [0.3];
        Chain::new(vec![]).apply(&mut same);
        assert_eq!(same, [0.3]);
    }

    #[test]
    fn of_series_channels_are_last_and_padding_stays_zero() {
        let affine = Link::Affine(Affine { channels: vec![(2.0, 1.0), (1.0, -1.0)] });
        let chain = Chain::new(vec![affine.clone()]).over_steps(2);
        let mut sample = [0.0, 0.0, 5.0, 6.0, 0.0, 7.0, 0.0, 0.0, -0.0, 0.0];
        chain.apply(&mut sample);
        assert_eq!(sample, [1.0, -1.0, 11.0, 5.0, 1.0, 6.0, 0.0, 0.0, 0.0, 0.0]);
        let mut sample = [0.5, 1.0, 0.0, 0.0];
        Chain::new(vec![affine, Link::Threshold(-9.0)]).over_steps(2).apply(&mut sample);
        assert_eq!(sample, [1.0, 1.0, 0.0, 0.0]);
        let mut padding = [0.0; 4];
        chain.apply(&mut padding);
        assert_eq!(padding, [0.0; 4]);
    }
}
