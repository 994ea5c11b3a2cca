//! What the transforms of a data set come to: a short chain of affine maps and thresholds, applied to samples in place.

use std::sync::Arc;

/// `x * factor + offset`, one pair a channel (the first axis of a sample): what scalings and normalisations come to.
#[derive(Debug, Clone, PartialEq)]
pub struct Affine {
    /// Factor and offset of each channel.
    pub channels: Vec<(f32, f32)>,
}

/// What happens to a sample's values, link by link. Copies share the links.
#[derive(Debug, Clone, PartialEq)]
pub struct Chain(Arc<[Link]>);

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
        Self(links.into())
    }

    /// Applies the chain to one sample.
    pub(super) fn apply(&self, sample: &mut [f32]) {
        for link in self.0.iter() {
            match link {
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
}
