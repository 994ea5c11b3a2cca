//! The sums of columns, which are what the gradient of a bias is.

use super::divide;
use crate::simd::{self, Path, Task, Vector};

/// Rows that are added in `f32`; sums of so many are added in `f64`.
const ROWS: usize = 256;

/// Writes the sum of each column of `x [rows, sums.len()]`.
pub fn columns(path: Path, x: &[f32], sums: &mut [f32]) {
    let width = sums.len();
    let parts = divide::chunks(x.len() / width, width, |rows| {
        let mut sums = vec![0.0f64; width];
        simd::run(path, Columns { x: &x[rows.start * width..rows.end * width], sums: &mut sums });
        sums
    });
    for (column, sum) in sums.iter_mut().enumerate() {
        *sum = parts.iter().map(|part| part[column]).sum::<f64>() as f32;
    }
}

struct Columns<'a> {
    x: &'a [f32],
    sums: &'a mut [f64],
}

impl Task for Columns<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let width = self.sums.len();
        for x in self.x.chunks(ROWS * width) {
            let mut column = 0;
            while column < width {
                let count = (width - column).min(V::LANES);
                let mask = V::first(count);
                let mut sum = V::zero();
                for row in x.chunks_exact(width) {
                    // SAFETY: `count` numbers of the row lie there.
                    sum = sum.add(unsafe { V::load_first(row[column..].as_ptr(), mask) });
                }
                let mut lanes = [0.0f32; 64];
                // SAFETY: no vector has more lanes.
                unsafe { sum.store_first(lanes.as_mut_ptr(), mask) };
                self.sums[column..][..count].iter_mut().zip(lanes).for_each(|(sum, lane)| *sum += f64::from(lane));
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

    proptest! {
        #[test]
        fn sums_are_those_of_the_definition(rows in 1usize..600, width in 1usize..40, seed in any::<u64>()) {
            let x = numbers(rows * width, seed);
            for path in Path::ALL.into_iter().filter(|path| path.is_available()) {
                let mut sums = vec![0.0; width];
                columns(path, &x, &mut sums);
                for (column, sum) in sums.iter().enumerate() {
                    let expected: f64 = x.iter().skip(column).step_by(width).map(|v| f64::from(*v)).sum();
                    prop_assert!((f64::from(*sum) - expected).abs() < 1e-4, "{sum} {expected}");
                }
            }
        }
    }
}
