//! The cluster of each value: how many bounds are below it.

use rayon::prelude::*;

use crate::simd::{Path, Task, Vector, run};

/// Values that one task looks at.
const CHUNK: usize = 1 << 16;

/// Bounds that are compared at once.
const GROUP: usize = 5;

/// Up to so many bounds a value is compared with all of them; with more, it is searched for.
const FEW: usize = 40;

/// A number that tells clusters apart.
pub trait Index: Copy + Send + Sync {
    /// How many it tells apart.
    const MOST: usize;
    /// A place among them.
    fn from_place(place: u32) -> Self;
}

impl Index for u8 {
    const MOST: usize = 1 << 8;

    #[inline(always)]
    fn from_place(place: u32) -> Self {
        place as Self
    }
}

impl Index for u16 {
    const MOST: usize = 1 << 16;

    #[inline(always)]
    fn from_place(place: u32) -> Self {
        place as Self
    }
}

/// The number of `bounds`, which rise, below each value.
pub(super) fn assign<I: Index>(values: &[f32], bounds: &[f32], out: &mut [I]) {
    assert_eq!(values.len(), out.len(), "as many places as values");
    values.par_chunks(CHUNK).zip(out.par_chunks_mut(CHUNK)).for_each(|(values, out)| {
        if bounds.len() > FEW {
            for (out, value) in out.iter_mut().zip(values) {
                *out = I::from_place(bounds.partition_point(|bound| bound < value) as u32);
            }
        } else {
            run(Path::chosen(), Count { values, bounds, out });
        }
    });
}

struct Count<'a, I> {
    values: &'a [f32],
    bounds: &'a [f32],
    out: &'a mut [I],
}

impl<I: Index> Task for Count<'_, I> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        const BLOCK: usize = 1024;
        for (values, out) in self.values.chunks(BLOCK).zip(self.out.chunks_mut(BLOCK)) {
            let mut counts = [0u32; BLOCK];
            for group in self.bounds.chunks(GROUP) {
                // Nothing is above what is added to the last group.
                let mut bounds = [f32::INFINITY; GROUP];
                bounds[..group.len()].copy_from_slice(group);
                for (count, value) in counts.iter_mut().zip(values) {
                    for bound in &bounds {
                        *count += u32::from(value > bound);
                    }
                }
            }
            for (out, count) in out.iter_mut().zip(&counts) {
                *out = I::from_place(*count);
            }
        }
    }
}

/// The least and the largest value, passing over what is no number; zero and zero where there is none.
pub(super) fn ends(values: &[f32]) -> (f64, f64) {
    let of_chunk = |values: &[f32]| run(Path::chosen(), Ends { values });
    let none = || (i32::MAX, i32::MIN);
    let (low, high) = values.par_chunks(CHUNK).map(of_chunk).reduce(none, |a, b| (a.0.min(b.0), a.1.max(b.1)));
    if low <= high { (of_order(low).into(), of_order(high).into()) } else { (0.0, 0.0) }
}

/// A whole number for each number, in the same order: their least can be found many at once.
#[inline(always)]
fn order(value: f32) -> i32 {
    let bits = value.to_bits() as i32;
    bits ^ ((bits >> 31) & i32::MAX)
}

fn of_order(order: i32) -> f32 {
    f32::from_bits((order ^ ((order >> 31) & i32::MAX)) as u32)
}

struct Ends<'a> {
    values: &'a [f32],
}

impl Task for Ends<'_> {
    type Output = (i32, i32);

    #[inline(always)]
    fn run<V: Vector>(self) -> (i32, i32) {
        let (mut low, mut high) = (i32::MAX, i32::MIN);
        for value in self.values {
            let order = order(*value);
            low = low.min(if value.is_nan() { i32::MAX } else { order });
            high = high.max(if value.is_nan() { i32::MIN } else { order });
        }
        (low, high)
    }
}
