//! Numbers that are moved, piece by piece.

use super::conv::Old;
use super::divide;

/// Numbers that lie together in one value and at equal distances in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// The first of them in the value where they lie together.
    pub to: usize,
    /// The first in the other; `None` where they come from nowhere.
    pub from: Option<usize>,
    /// How many.
    pub count: usize,
    /// From one to the next in the other; 0 where it is the same again and again.
    pub step: isize,
}

impl Piece {
    /// The places in the other value.
    #[inline(always)]
    fn places(&self, from: usize) -> impl Iterator<Item = usize> {
        let step = self.step;
        (0..self.count as isize).map(move |i| (from as isize + i * step) as usize)
    }
}

/// Writes, or adds to, each number of `y` at `to` the number of `x` at `from`, sample by sample; `sizes` are the numbers
/// of a sample of both. What comes from nowhere is `fill`.
pub fn gather(pieces: &[Piece], x: &[f32], y: &mut [f32], sizes: [usize; 2], fill: f32, old: Old) {
    let [size_x, size_y] = sizes;
    divide::pieces(y, size_y, |first, y| {
        let samples = x[first * size_x..].chunks_exact(size_x);
        for (x, y) in samples.zip(y.chunks_exact_mut(size_y)) {
            for piece in pieces {
                let to = &mut y[piece.to..][..piece.count];
                match (piece.from, old) {
                    (Some(from), Old::Dropped) if piece.step == 1 => to.copy_from_slice(&x[from..][..piece.count]),
                    (Some(from), Old::Dropped) => to.iter_mut().zip(piece.places(from)).for_each(|(y, i)| *y = x[i]),
                    (Some(from), Old::Added) => to.iter_mut().zip(piece.places(from)).for_each(|(y, i)| *y += x[i]),
                    (None, Old::Dropped) => to.fill(fill),
                    (None, Old::Added) => to.iter_mut().for_each(|y| *y += fill),
                }
            }
        }
    });
}

/// The other way: writes, or adds to, each number of `y` at `from` the number of `x` at `to`. What `y` has elsewhere stays.
pub fn scatter(pieces: &[Piece], x: &[f32], y: &mut [f32], sizes: [usize; 2], old: Old) {
    let [size_x, size_y] = sizes;
    divide::pieces(y, size_y, |first, y| {
        let samples = x[first * size_x..].chunks_exact(size_x);
        for (x, y) in samples.zip(y.chunks_exact_mut(size_y)) {
            for piece in pieces {
                let (Some(from), numbers) = (piece.from, &x[piece.to..][..piece.count]) else { continue };
                match old {
                    Old::Dropped if piece.step == 1 => y[from..][..piece.count].copy_from_slice(numbers),
                    Old::Dropped => piece.places(from).zip(numbers).for_each(|(i, x)| y[i] = *x),
                    Old::Added => piece.places(from).zip(numbers).for_each(|(i, x)| y[i] += x),
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::numbers;

    #[test]
    fn what_is_gathered_is_scattered_back() {
        // Of six numbers, the last two backwards, something from nowhere, and the second one twice.
        let pieces = [
            Piece { to: 0, from: Some(5), count: 2, step: -1 },
            Piece { to: 2, from: None, count: 1, step: 1 },
            Piece { to: 3, from: Some(1), count: 2, step: 0 },
            Piece { to: 5, from: Some(2), count: 2, step: 1 },
        ];
        let samples = 5000;
        let x = numbers(6 * samples, 1);
        let mut y = vec![0.0; 7 * samples];
        gather(&pieces, &x, &mut y, [6, 7], 9.0, Old::Dropped);
        for (x, y) in x.chunks(6).zip(y.chunks(7)) {
            assert_eq!(y, [x[5], x[4], 9.0, x[1], x[1], x[2], x[3]]);
        }
        let mut sums = vec![1.0; 6 * samples];
        scatter(&pieces, &y, &mut sums, [7, 6], Old::Added);
        for (x, sums) in x.chunks(6).zip(sums.chunks(6)) {
            assert_eq!(sums, [1.0, 1.0 + x[1] + x[1], 1.0 + x[2], 1.0 + x[3], 1.0 + x[4], 1.0 + x[5]]);
        }
        let mut twice = y.clone();
        gather(&pieces, &x, &mut twice, [6, 7], 9.0, Old::Added);
        assert!(twice.iter().zip(&y).all(|(twice, y)| *twice == 2.0 * y));
    }
}
