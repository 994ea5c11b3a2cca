//! Samples in memory, and views of them that training and measuring read batch by batch.

use std::sync::Arc;

use bytes::Bytes;

use super::augment::{self, Chance};
use super::{Augmentation, Chain, Mixed};

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
    chain: Chain,
    /// The label that each of the part's labels stands for; `None`: itself.
    labels: Option<Arc<[u32]>>,
    augment: Arc<[Augmentation]>,
}

/// A batch: `inputs` is `[labels.len(), sample...]`, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// The transformed values.
    pub inputs: Vec<f32>,
    /// One label a sample.
    pub labels: Vec<u32>,
    /// Where samples were blended: with what.
    pub mixed: Option<Mixed>,
}

impl Subset {
    /// The samples of `part` at `indices`, through `chain`, whose affine maps have as many channels as a sample's first axis
    /// has entries.
    pub fn new(part: Arc<Part>, indices: Vec<u32>, chain: impl Into<Chain>) -> Self {
        Self { part, indices: indices.into(), chain: chain.into(), labels: None, augment: Arc::default() }
    }

    /// The same samples with other labels: `table[label]`, for each label that they have.
    pub(super) fn relabelled(self, table: Option<Arc<[u32]>>) -> Self {
        Self { labels: table, ..self }
    }

    /// The same samples, which chance changes in [`Subset::training_batch`]; they are images if there are augmentations.
    pub(super) fn augmented(self, augment: &[Augmentation]) -> Self {
        Self { augment: augment.into(), ..self }
    }

    /// The number of samples.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// The first `count` of the samples, or all where there are not so many.
    pub fn first(&self, count: usize) -> Self {
        Self { indices: self.indices.iter().take(count).copied().collect(), ..self.clone() }
    }

    /// The samples at these places of the subset.
    pub fn select(&self, places: &[usize]) -> Self {
        Self { indices: places.iter().map(|place| self.indices[*place]).collect(), ..self.clone() }
    }

    /// Shape of one sample.
    pub fn sample_shape(&self) -> &[usize] {
        &self.part.sample_shape
    }

    /// The label of sample `i` of this subset.
    pub fn label(&self, i: usize) -> u32 {
        let label = self.part.labels[self.indices[i] as usize];
        self.labels.as_ref().map_or(label, |table| table[label as usize])
    }

    /// The samples at these places of the subset, as they are.
    pub fn batch(&self, places: impl IntoIterator<Item = usize>) -> Batch {
        self.read(places, None)
    }

    /// The samples at these places of the subset, augmented: what happens to a sample follows from `seed` and the sample,
    /// wherever in whichever batch it stands. Without augmentations it is [`Subset::batch`].
    pub fn training_batch(&self, places: impl IntoIterator<Item = usize>, seed: u64) -> Batch {
        self.read(places, (!self.augment.is_empty()).then(|| Chance::new(seed)))
    }

    fn read(&self, places: impl IntoIterator<Item = usize>, mut chance: Option<Chance>) -> Batch {
        let places = places.into_iter();
        let size: usize = self.part.sample_shape.iter().product();
        let count = places.size_hint().0;
        let mut batch =
            Batch { inputs: Vec::with_capacity(count * size), labels: Vec::with_capacity(count), mixed: None };
        for place in places {
            let sample = self.indices[place];
            batch.labels.push(self.label(place));
            let range = sample as usize * size..(sample as usize + 1) * size;
            let start = batch.inputs.len();
            match &self.part.inputs {
                Inputs::U8(bytes) => batch.inputs.extend(bytes[range].iter().map(|b| f32::from(*b))),
                Inputs::F32(values) => batch.inputs.extend_from_slice(&values[range]),
            }
            let values = &mut batch.inputs[start..];
            if let (Some(chance), [_, height, width]) = (&mut chance, &self.part.sample_shape[..]) {
                augment::apply(&self.augment, values, (*height, *width), sample, chance);
            }
            self.chain.apply(values);
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Affine;

    #[test]
    fn a_batch_is_transformed_channel_by_channel() {
        let part = Part {
            sample_shape: vec![2, 2],
            inputs: Inputs::U8(Bytes::from_static(&[0, 1, 2, 3, 10, 11, 12, 13])),
            labels: vec![4, 5],
        };
        let affine = Affine { channels: vec![(1.0, 0.0), (2.0, -1.0)] };
        let subset = Subset::new(Arc::new(part), vec![1, 0], affine);
        let batch = subset.batch([0, 1]);
        assert_eq!(batch, Batch { inputs: vec![10., 11., 23., 25., 0., 1., 3., 5.], labels: vec![5, 4], mixed: None });
        assert_eq!(subset.label(0), 5);
        assert_eq!(subset.select(&[1]).batch([0]), subset.batch([1]));
        assert_eq!(subset.select(&[]).len(), 0);
    }

    #[test]
    fn a_training_batch_is_changed_before_the_transforms_and_a_batch_never() {
        let part = Part { sample_shape: vec![1, 3, 3], inputs: Inputs::U8(vec![9; 900].into()), labels: vec![2; 100] };
        let affine = Affine { channels: vec![(1.0, 5.0)] };
        let plain = Subset::new(Arc::new(part), (0..100).collect(), affine).relabelled(Some(Arc::new([7, 7, 1])));
        let subset = plain.clone().augmented(&[Augmentation::ShiftCrop { pixels: 2 }]);
        assert_eq!(subset.batch(0..100), plain.batch(0..100));
        assert_eq!(plain.training_batch(0..100, 3), plain.batch(0..100));
        let batch = subset.training_batch(0..100, 3);
        assert_eq!(batch.labels, [1; 100]);
        // What comes in is 0, and then goes through the transforms too.
        assert!(batch.inputs.iter().all(|v| [5.0, 14.0].contains(v)) && batch.inputs.contains(&5.0));
        let turned = subset.training_batch((0..100).rev(), 3);
        assert_eq!(turned.inputs[..9], batch.inputs[99 * 9..]);
        assert_ne!(subset.training_batch(0..100, 4), batch);
    }
}
