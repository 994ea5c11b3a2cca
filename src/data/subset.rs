//! Samples in memory, and views of them that training and measuring read batch by batch.

use std::sync::Arc;

use bytes::Bytes;

/// Labelled samples in memory, as they came.
#[derive(Debug, PartialEq)]
pub struct Part {
    /// Shape of one sample.
    pub sample_shape: Vec<usize>,
    /// The values of all samples, one sample after the other.
    pub inputs: Inputs,
    /// One label a sample.
    pub labels: Vec<u32>,
}

/// The values of samples. Bytes stay bytes until a batch is made: a quarter of the memory.
#[derive(Debug, PartialEq)]
pub enum Inputs {
    /// Bytes, as images have them.
    U8(Bytes),
    /// Numbers.
    F32(Vec<f32>),
}

/// Some samples of a [`Part`], seen through the data set's transforms.
#[derive(Debug, Clone)]
pub struct Subset {
    part: Arc<Part>,
    indices: Arc<[u32]>,
    affine: Arc<Affine>,
}

/// A batch: `inputs` is `[labels.len(), sample...]`, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// The transformed values.
    pub inputs: Vec<f32>,
    /// One label a sample.
    pub labels: Vec<u32>,
}

/// `x * factor + offset`, one pair a channel (the first axis of a sample): what scalings and normalisations come to.
#[derive(Debug, Clone, PartialEq)]
pub struct Affine {
    /// Factor and offset of each channel.
    pub channels: Vec<(f32, f32)>,
}

impl Subset {
    /// The samples of `part` at `indices`, through `affine`, which has as many channels as a sample's first axis has
    /// entries.
    pub fn new(part: Arc<Part>, indices: Vec<u32>, affine: Arc<Affine>) -> Self {
        Self { part, indices: indices.into(), affine }
    }

    /// The number of samples.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// Shape of one sample.
    pub fn sample_shape(&self) -> &[usize] {
        &self.part.sample_shape
    }

    /// The label of sample `i` of this subset.
    pub fn label(&self, i: usize) -> u32 {
        self.part.labels[self.indices[i] as usize]
    }

    /// The samples at these places of the subset.
    pub fn batch(&self, places: impl IntoIterator<Item = usize>) -> Batch {
        let size: usize = self.part.sample_shape.iter().product();
        let per_channel = (size / self.affine.channels.len().max(1)).max(1);
        let mut batch = Batch { inputs: Vec::new(), labels: Vec::new() };
        for place in places {
            let sample = self.indices[place] as usize;
            batch.labels.push(self.part.labels[sample]);
            let range = sample * size..(sample + 1) * size;
            let channel = |i: usize| self.affine.channels[i / per_channel];
            let map = |(i, v): (usize, f32)| {
                let (factor, offset) = channel(i);
                v * factor + offset
            };
            match &self.part.inputs {
                Inputs::U8(bytes) => {
                    batch.inputs.extend(bytes[range].iter().map(|b| f32::from(*b)).enumerate().map(map));
                }
                Inputs::F32(values) => batch.inputs.extend(values[range].iter().copied().enumerate().map(map)),
            }
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_transformed_channel_by_channel() {
        let part = Part {
            sample_shape: vec![2, 2],
            inputs: Inputs::U8(Bytes::from_static(&[0, 1, 2, 3, 10, 11, 12, 13])),
            labels: vec![4, 5],
        };
        let affine = Affine { channels: vec![(1.0, 0.0), (2.0, -1.0)] };
        let subset = Subset::new(Arc::new(part), vec![1, 0], Arc::new(affine));
        let batch = subset.batch([0, 1]);
        assert_eq!(batch, Batch { inputs: vec![10., 11., 23., 25., 0., 1., 3., 5.], labels: vec![5, 4] });
        assert_eq!(subset.label(0), 5);
    }
}
