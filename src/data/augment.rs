//! Augmentation: chance changes of training images, in place and without memory of their own.
//!
//! What is drawn follows from the seed and the sample alone, so it does not matter in which order, in which batch or by
//! which thread a sample is read.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::DataError;
use super::spec::Augmentation;
use crate::seed;

/// The random numbers of one batch's samples.
pub(super) struct Chance(ChaCha8Rng);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed::stream(seed, "augment"))
    }

    /// Those of one sample: a stream of its own, from its beginning.
    fn of(&mut self, sample: u32) -> &mut ChaCha8Rng {
        self.0.set_stream(u64::from(sample));
        self.0.set_word_pos(0);
        &mut self.0
    }
}

/// Changes `values`, an image `[channels, height, width]` of these sizes, as the sample's chance has it.
pub(super) fn apply(
    augment: &[Augmentation],
    values: &mut [f32],
    (height, width): (usize, usize),
    sample: u32,
    chance: &mut Chance,
) {
    let rng = chance.of(sample);
    for augmentation in augment {
        match *augmentation {
            Augmentation::Flip => {
                if rng.random() {
                    values.chunks_exact_mut(width).for_each(<[f32]>::reverse);
                }
            }
            Augmentation::ShiftCrop { pixels } => {
                let pixels = pixels as i64;
                let (down, right) = (rng.random_range(-pixels..=pixels), rng.random_range(-pixels..=pixels));
                for plane in values.chunks_exact_mut(height * width) {
                    shift(plane, (height, width), down as isize, right as isize);
                }
            }
        }
    }
}

/// Moves a plane's pixels by so many rows and columns; what comes in is 0.
fn shift(plane: &mut [f32], (height, width): (usize, usize), down: isize, right: isize) {
    let columns = right.unsigned_abs().min(width);
    // Where the kept part of a row comes from and goes to.
    let (from, to) = if right >= 0 { (0, columns) } else { (columns, 0) };
    let mut row = |target: usize| match target.checked_add_signed(-down).filter(|source| *source < height) {
        None => plane[target * width..][..width].fill(0.0),
        Some(source) => {
            let start = source * width + from;
            plane.copy_within(start..start + width - columns, target * width + to);
            let empty = if right >= 0 { target * width } else { (target + 1) * width - columns };
            plane[empty..empty + columns].fill(0.0);
        }
    };
    // A row is read before it is written over.
    if down >= 0 {
        (0..height).rev().for_each(&mut row);
    } else {
        (0..height).for_each(&mut row);
    }
}

/// Height and width of samples that can be augmented, or why they cannot.
pub(super) fn check(augment: &[Augmentation], sample_shape: &[usize]) -> Result<(), DataError> {
    let bad = |field: String, problem: String| Err(DataError::Spec { field, problem });
    if augment.is_empty() {
        return Ok(());
    }
    let &[_, height, width] = sample_shape else {
        let problem = format!("needs images, [channels, height, width]; a sample has shape {sample_shape:?}");
        return bad("data.augment".to_string(), problem);
    };
    for (i, augmentation) in augment.iter().enumerate() {
        if let Augmentation::ShiftCrop { pixels } = augmentation
            && *pixels as usize >= height.min(width)
        {
            let problem = format!("is {pixels}, but the images have {height} x {width} pixels");
            return bad(format!("data.augment[{i}].shift_crop.pixels"), problem);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition: a border of zeros, then a crop.
    fn padded_and_cropped(plane: &[f32], (h, w): (usize, usize), pixels: usize, y: usize, x: usize) -> Vec<f32> {
        let padded_width = w + 2 * pixels;
        let mut padded = vec![0.0; (h + 2 * pixels) * padded_width];
        for row in 0..h {
            for column in 0..w {
                padded[(row + pixels) * padded_width + column + pixels] = plane[row * w + column];
            }
        }
        (0..h).flat_map(|row| padded[(row + y) * padded_width + x..][..w].to_vec()).collect()
    }

    proptest! {
        #[test]
        fn a_shift_is_a_border_of_zeros_and_a_crop(
            (h, w) in (1usize..6, 1usize..6), pixels in 0usize..8, place in any::<(prop::sample::Index, prop::sample::Index)>(),
        ) {
            let plane: Vec<f32> = (1..=h * w).map(|v| v as f32).collect();
            let (y, x) = (place.0.index(2 * pixels + 1), place.1.index(2 * pixels + 1));
            let mut shifted = plane.clone();
            let by = |crop: usize| pixels as isize - crop as isize;
            shift(&mut shifted, (h, w), by(y), by(x));
            prop_assert_eq!(shifted, padded_and_cropped(&plane, (h, w), pixels, y, x));
        }
    }

    fn image() -> Vec<f32> {
        (1..=18).map(|v| v as f32).collect()
    }

    fn augmented(augment: &[Augmentation], seed: u64, sample: u32) -> Vec<f32> {
        let mut values = image();
        apply(augment, &mut values, (3, 3), sample, &mut Chance::new(seed));
        values
    }

    #[test]
    fn half_of_the_images_are_mirrored_in_all_channels() {
        let mirrored = [3., 2., 1., 6., 5., 4., 9., 8., 7., 12., 11., 10., 15., 14., 13., 18., 17., 16.];
        let flips = (0..1000).filter(|sample| {
            let flipped = augmented(&[Augmentation::Flip], 1, *sample);
            assert!(flipped == image() || flipped == mirrored);
            flipped == mirrored
        });
        // 1000 fair coins are within 100 of 500 but for one in 10^9.
        assert!((400..600).contains(&flips.count()));
    }

    #[test]
    fn every_shift_comes_up_about_as_often() {
        let mut counts = std::collections::BTreeMap::new();
        for sample in 0..2500 {
            let shifted = augmented(&[Augmentation::ShiftCrop { pixels: 2 }], 7, sample);
            *counts.entry(format!("{shifted:?}")).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 25);
        assert!(counts.values().all(|count| (50..150).contains(count)), "{counts:?}");
    }

    #[test]
    fn the_seed_and_the_sample_decide_and_not_the_order() {
        let both = [Augmentation::Flip, Augmentation::ShiftCrop { pixels: 2 }];
        let mut chance = Chance::new(3);
        let mut one = image();
        apply(&both, &mut image(), (3, 3), 9, &mut chance);
        apply(&both, &mut one, (3, 3), 4, &mut chance);
        assert_eq!(one, augmented(&both, 3, 4));
        let all = |seed| (0..20).map(|sample| augmented(&both, seed, sample)).collect::<Vec<_>>();
        assert_ne!(all(3), all(4));
    }

    #[test]
    fn what_cannot_be_augmented_is_named() {
        let field = |augment: &[Augmentation], shape: &[usize]| match check(augment, shape) {
            Err(DataError::Spec { field, .. }) => field,
            other => format!("{other:?}"),
        };
        assert_eq!(field(&[Augmentation::Flip], &[784]), "data.augment");
        let shift = Augmentation::ShiftCrop { pixels: 28 };
        assert_eq!(field(&[Augmentation::Flip, shift], &[1, 28, 40]), "data.augment[1].shift_crop.pixels");
        assert!(check(&[shift], &[1, 29, 29]).is_ok());
        assert!(check(&[], &[784]).is_ok());
    }
}
