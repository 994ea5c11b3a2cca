//! Vectors of `f32` of the width that the processor has, and the choice of the instructions at run time.
//!
//! A kernel is written once, as a [`Task`] over any [`Vector`], and [`run`] computes it with the instructions of a
//! [`Path`]. It is compiled for each path, so one program serves old and new processors.
//!
//! ```text
//!   run(path, task) ──▶ x86::avx512 ┐
//!                   ──▶ x86::avx2   ├──▶ task.run::<V>()      compiled with those instructions allowed
//!                   ──▶ here        ┘
//! ```
//!
//! Results are the same bits each time on one path. Paths differ in the last bits: the portable one rounds between a
//! product and the sum it goes into, the others do not.
//!
//! What a task calls for each element must be `#[inline(always)]`, or else it is compiled without those instructions.
//! Plain loops over slices in a task become vector code too.

pub mod elementary;
pub mod peak;
mod portable;
pub mod slices;
mod stream;

use std::sync::OnceLock;

pub use portable::Portable;
pub use stream::{fence, prefetch, stream};

#[cfg(target_arch = "x86_64")]
use crate::x86;

/// Which instructions compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Path {
    /// 16 numbers at once.
    Avx512,
    /// 8 numbers at once.
    Avx2,
    /// What every processor has.
    Portable,
}

/// The environment variable that names the path to take instead of the best one.
pub const PATH_VARIABLE: &str = "NIWAKI_INSTRUCTIONS";

impl Path {
    /// All of them, the best one first.
    pub const ALL: [Path; 3] = [Path::Avx512, Path::Avx2, Path::Portable];

    /// The name, as in [`PATH_VARIABLE`].
    pub fn name(self) -> &'static str {
        match self {
            Path::Avx512 => "avx512",
            Path::Avx2 => "avx2",
            Path::Portable => "portable",
        }
    }

    /// Whether this processor has the instructions.
    pub fn is_available(self) -> bool {
        match self {
            Path::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Path::Avx512 => x86::has_avx512(),
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => x86::has_avx2(),
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// The best one that this processor has.
    pub fn best() -> Self {
        Path::ALL.into_iter().find(|path| path.is_available()).unwrap_or(Path::Portable)
    }

    /// The path of this process: the one that [`PATH_VARIABLE`] names, if this processor has it, else the best.
    pub fn chosen() -> Self {
        static CHOSEN: OnceLock<Path> = OnceLock::new();
        *CHOSEN.get_or_init(|| {
            let asked = std::env::var(PATH_VARIABLE).unwrap_or_default();
            let is_asked = |path: &Path| asked.eq_ignore_ascii_case(path.name());
            let there = Path::ALL.into_iter().filter(|path| path.is_available());
            if let Some(named) = there.clone().find(is_asked) {
                return named;
            }
            let best = Self::best();
            if !asked.is_empty() {
                let there = there.map(Path::name).collect::<Vec<_>>().join(", ");
                let (is_known, taken) = (Path::ALL.iter().any(is_asked), best.name());
                let why =
                    if is_known { "this processor lacks the instructions" } else { "there are no such instructions" };
                tracing::warn!(asked, taken, there, "{PATH_VARIABLE}: {why}");
            }
            best
        })
    }

    /// Numbers that a vector of this path holds.
    pub fn lanes(self) -> usize {
        match self {
            Path::Avx512 => 16,
            Path::Avx2 | Path::Portable => 8,
        }
    }
}

/// A computation that is compiled for every path.
pub trait Task {
    /// What it comes to.
    type Output;

    /// Computes it with vectors `V`. Implementations are `#[inline(always)]`.
    fn run<V: Vector>(self) -> Self::Output;
}

/// Computes `task` with the instructions of `path`.
///
/// # Panics
///
/// If this processor lacks them.
pub fn run<T: Task>(path: Path, task: T) -> T::Output {
    match path {
        #[cfg(target_arch = "x86_64")]
        Path::Avx512 => x86::run_avx512(task),
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 => x86::run_avx2(task),
        #[cfg(not(target_arch = "x86_64"))]
        Path::Avx512 | Path::Avx2 => panic!("{path:?} on another processor"),
        Path::Portable => task.run::<Portable>(),
    }
}

/// Some numbers that are computed with at once.
///
/// Methods without a source in memory are plain arithmetic, lane by lane.
pub trait Vector: Copy {
    /// How many numbers it holds.
    const LANES: usize;
    /// How many of them the processor holds at once, beside what it loads: what bounds a kernel's tile.
    const REGISTERS: usize;
    /// Which of the first lanes take part in a load or store.
    type Mask: Copy;

    /// The same number in every lane.
    fn splat(value: f32) -> Self;

    /// Zero in every lane.
    #[inline(always)]
    fn zero() -> Self {
        Self::splat(0.0)
    }

    /// The first `count` lanes, or all of them where it is larger.
    fn first(count: usize) -> Self::Mask;

    /// The numbers at `from`.
    ///
    /// # Safety
    ///
    /// `LANES` numbers can be read there.
    unsafe fn load(from: *const f32) -> Self;

    /// Writes the numbers to `to`.
    ///
    /// # Safety
    ///
    /// `LANES` numbers can be written there.
    unsafe fn store(self, to: *mut f32);

    /// The numbers at `from` in the lanes of `mask`, zero in the others.
    ///
    /// # Safety
    ///
    /// As many numbers as the mask has lanes can be read there.
    unsafe fn load_first(from: *const f32, mask: Self::Mask) -> Self;

    /// Writes the lanes of `mask` to `to`.
    ///
    /// # Safety
    ///
    /// As many numbers as the mask has lanes can be written there.
    unsafe fn store_first(self, to: *mut f32, mask: Self::Mask);

    /// `self + other`
    fn add(self, other: Self) -> Self;
    /// `self - other`
    fn sub(self, other: Self) -> Self;
    /// `self * other`
    fn mul(self, other: Self) -> Self;
    /// `self / other`
    fn div(self, other: Self) -> Self;
    /// `self * factor + term`
    fn mul_add(self, factor: Self, term: Self) -> Self;
    /// The smaller number; `other` where one is no number.
    fn min(self, other: Self) -> Self;
    /// The larger number; `other` where one is no number.
    fn max(self, other: Self) -> Self;
    /// `other` where `self` is positive, else zero.
    fn where_positive(self, other: Self) -> Self;
    /// The nearest whole number, the even one of two.
    fn round(self) -> Self;
    /// `2^self` of whole numbers from -126 to 127.
    fn exp2_of_whole(self) -> Self;
    /// The exponent of a positive number that is neither denormal nor infinite: the largest whole power of two below it.
    fn exponent(self) -> Self;
    /// What is left of such a number without its exponent: from 1 to 2.
    fn significand(self) -> Self;
    /// The number that has the last nine bits of this one as its sign and exponent, and no other bits.
    fn last_bits_as_exponent(self) -> Self;

    /// `self * 2^power` of whole powers from -252 to 254, rounded once.
    #[inline(always)]
    fn scale(self, power: Self) -> Self {
        let half = power.mul(Self::splat(0.5)).round();
        self.mul(half.exp2_of_whole()).mul(power.sub(half).exp2_of_whole())
    }

    /// `self / other` to the last bit but one, for an `other` from 2^-120 to 2^120.
    #[inline(always)]
    fn quotient(self, other: Self) -> Self {
        self.div(other)
    }

    /// The larger of the number and zero; no number stays none.
    #[inline(always)]
    fn relu(self) -> Self {
        Self::zero().max(self)
    }

    /// The sum of the lanes: by halves, so in an order of its own for each width.
    fn sum(self) -> f32;

    /// Exchanges rows and columns of the first `LANES` vectors.
    ///
    /// # Panics
    ///
    /// If there are fewer.
    fn transpose(rows: &mut [Self; MOST_LANES]);
}

/// Lanes of the widest vector.
pub const MOST_LANES: usize = 16;

/// The columns of a matrix, at most `LANES` of them and of its rows, of which one begins every `step` numbers. Where there are
/// fewer, the last vectors and the last lanes are zero.
///
/// # Panics
///
/// If the matrix is not in `from`, or too large.
#[inline(always)]
pub fn columns<V: Vector>(from: &[f32], step: usize, rows: usize, columns: usize) -> [V; MOST_LANES] {
    assert!(rows <= V::LANES && columns <= V::LANES && (rows == 0 || (rows - 1) * step + columns <= from.len()));
    let (mut square, mask) = ([V::zero(); MOST_LANES], V::first(columns));
    for (row, vector) in square.iter_mut().take(rows).enumerate() {
        // SAFETY: as many numbers as the mask has lanes are there, as was checked just now.
        *vector = unsafe { V::load_first(from.as_ptr().add(row * step), mask) };
    }
    V::transpose(&mut square);
    square
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::numbers;

    /// Every operation on the first `count` lanes of random numbers.
    struct Everything<'a> {
        a: &'a [f32],
        b: &'a [f32],
        count: usize,
    }

    impl Task for Everything<'_> {
        type Output = (Vec<Vec<f32>>, f32);

        #[inline(always)]
        fn run<V: Vector>(self) -> Self::Output {
            let mask = V::first(self.count);
            let vectors = |from: &[f32]| {
                let mut padded = from[..self.count].to_vec();
                padded.resize(2 * V::LANES, 0.0);
                // SAFETY: both are inside `padded`, the second to its end.
                let (first, all) = unsafe { (V::load_first(padded.as_ptr(), mask), V::load(padded.as_ptr())) };
                (first, all)
            };
            let ((a, all), (b, _)) = (vectors(self.a), vectors(self.b));
            let whole = b.mul(V::splat(40.0)).round();
            let results = [
                a.add(b),
                a.sub(b),
                a.mul(b),
                a.div(b),
                a.mul_add(b, V::splat(0.5)),
                a.min(b),
                a.max(b),
                a.where_positive(b),
                whole,
                whole.exp2_of_whole(),
                a.scale(whole.mul(V::splat(2.0))),
                a.quotient(b),
                whole.add(V::splat(12_582_912.0 + 127.0)).last_bits_as_exponent(),
                a.mul(a).add(V::splat(1e-3)).exponent(),
                a.mul(a).add(V::splat(1e-3)).significand(),
                a.relu(),
                all,
            ];
            let stored = results.map(|result| {
                let mut out = vec![7.0; 2 * V::LANES];
                // SAFETY: the mask has at most LANES lanes.
                unsafe { result.store_first(out.as_mut_ptr(), mask) };
                assert!(out[self.count.min(V::LANES)..].iter().all(|v| *v == 7.0));
                out.truncate(self.count);
                out
            });
            (stored.to_vec(), a.sum())
        }
    }

    #[test]
    fn all_paths_compute_the_same() {
        for count in 0..=8 {
            let (a, b) = (numbers(8, 1), numbers(8, 2));
            let of = |path| run(path, Everything { a: &a, b: &b, count });
            let (expected, sum) = of(Path::Portable);
            for path in Path::ALL.into_iter().filter(|path| path.is_available()) {
                let (found, found_sum) = of(path);
                assert!((found_sum - sum).abs() < 1e-5);
                for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
                    assert!((found - expected).abs() <= 1e-6 * expected.abs(), "{path:?}: {found} {expected}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_number_stays_so_in_a_relu() {
        struct Relu;
        impl Task for Relu {
            type Output = f32;
            #[inline(always)]
            fn run<V: Vector>(self) -> f32 {
                V::splat(f32::NAN).relu().sum()
            }
        }
        assert!(Path::ALL.into_iter().all(|path| run(path, Relu).is_nan()));
    }
}
