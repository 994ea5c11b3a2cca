//! Which numbers of a network are smallest in magnitude, and their zeroing: magnitude pruning (Han et al. 2015).
//!
//! Numbers of several arrays are ranked together: by magnitude, and where that is equal by place, the earlier first.
//! Places count through all arrays. The first `go` numbers of this order go, the others stay, and a [`Cut`] between two
//! of them says it all:
//!
//! ```text
//!   rank of a number  (|x|, place)        it goes  ⇔  (|x|, place) < (cut.magnitude, cut.place)
//! ```
//!
//! A magnitude is compared by its bits: for numbers that is the order of numbers, and what is none comes last.
//!
//! Finding the cut takes one pass over memory. A sample of the numbers gives a bracket that most likely holds the
//! magnitude of the cut and little else (Floyd and Rivest 1975); the pass counts what lies below the bracket and collects
//! what lies inside, and the rest is done there. Where the counts show that the magnitude is an end of the bracket, since
//! many numbers are equal, or that the bracket has missed, further passes find it. So the result is exact, and it depends on the numbers alone.

mod bracket;
mod histogram;
mod sift;

use rayon::prelude::*;

use crate::simd::{Path, Task, Vector, run, stream};
use bracket::Bracket;
use sift::Sifted;
pub(crate) use sift::{AHEAD, Block, Counts};

/// Numbers that one task looks at.
const CHUNK: usize = 1 << 18;

/// Numbers that are computed with before they are written, so few that they stay in the cache next to the processor.
const BLOCK: usize = 2048;

/// The bits of a number's magnitude.
#[inline(always)]
fn magnitude(value: f32) -> u32 {
    value.to_bits() & 0x7fff_ffff
}

/// Where the numbers that go end, in their order by magnitude and place. See the [module documentation](self).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    magnitude: u32,
    place: usize,
}

impl Cut {
    /// The cut after which `go` numbers of all of `parts` go; all of them where there are no more.
    ///
    /// ```
    /// use niwaki_kernels::prune::Cut;
    /// let (a, b) = ([3.0, -1.0, 2.0], [1.0, -4.0]);
    /// let cut = Cut::after(2, &[&a, &b]);
    /// assert_eq!(cut.keep(&[&a, &b]), [vec![true, false, true], vec![false, true]]);
    /// assert_eq!(Cut::after(3, &[&a, &b]).magnitude(), 2.0);
    /// ```
    pub fn after(go: usize, parts: &[&[f32]]) -> Self {
        let chunks = chunks(parts);
        let total = total(parts);
        if let Some(cut) = Self::trivial(go, total) {
            return cut;
        }
        Self::after_with(Path::chosen(), Bracket::of_sample(&chunks, go, total), go, &chunks)
    }

    /// The cut after `go` numbers, of which there are more, with any bracket.
    fn after_with(path: Path, bracket: Bracket, go: usize, chunks: &[Chunk<'_>]) -> Self {
        let sifted: Vec<Sifted> =
            chunks.par_iter().map(|chunk| Sifted::of(path, chunk.values, bracket, None)).collect();
        Self::within(bracket, &sifted, chunks, go)
    }

    /// Where none goes, or all.
    fn trivial(go: usize, total: usize) -> Option<Self> {
        let none = Self { magnitude: 0, place: 0 };
        let all = Self { magnitude: u32::MAX, place: usize::MAX };
        if go == 0 { Some(none) } else { (go >= total).then_some(all) }
    }

    /// The cut by what was found inside a bracket and up to its lower end.
    fn within(bracket: Bracket, sifted: &[Sifted], chunks: &[Chunk<'_>], go: usize) -> Self {
        let up_to_low: usize = sifted.iter().map(|s| s.up_to_low).sum();
        let below_high = up_to_low + sifted.iter().map(|s| s.inside.len()).sum::<usize>();
        if (up_to_low + 1..=below_high).contains(&go) {
            let inside: Vec<&[f32]> = sifted.iter().map(|s| s.inside.as_slice()).collect();
            let (found, ties) = histogram::nth(&inside, bracket, go - up_to_low);
            Self::after_ties(found, ties, chunks, |chunk| count(&sifted[chunk].inside, found))
        } else {
            Self::not_inside(bracket, chunks, go, [up_to_low, below_high])
        }
    }

    /// The cut where its magnitude is an end of the bracket, as it is where many numbers are equal, or outside of it.
    fn not_inside(bracket: Bracket, chunks: &[Chunk<'_>], go: usize, [up_to_low, below_high]: [usize; 2]) -> Self {
        let counts = |magnitude| -> Vec<usize> { chunks.par_iter().map(|c| count(c.values, magnitude)).collect() };
        let end = if go <= up_to_low { bracket.low } else { bracket.high };
        let at_end = counts(end);
        let total: usize = at_end.iter().sum();
        let before = if go <= up_to_low { up_to_low - total } else { below_high };
        let is_new = go <= up_to_low || bracket.low < bracket.high;
        if is_new && (before + 1..=before + total).contains(&go) {
            return Self::after_ties(end, go - before, chunks, |chunk| at_end[chunk]);
        }
        let all: Vec<&[f32]> = chunks.iter().map(|chunk| chunk.values).collect();
        let (found, ties) = histogram::nth(&all, Bracket::ALL, go);
        let equal = counts(found);
        Self::after_ties(found, ties, chunks, |chunk| equal[chunk])
    }

    /// The cut after the first `ties` numbers of that magnitude, of which each chunk has so many.
    fn after_ties(magnitude: u32, ties: usize, chunks: &[Chunk<'_>], of_chunk: impl Fn(usize) -> usize) -> Self {
        let mut left = ties;
        for (place, chunk) in chunks.iter().enumerate() {
            let own = of_chunk(place);
            if own >= left {
                let equal = (0..).zip(chunk.values).filter(|(_, v)| self::magnitude(**v) == magnitude);
                let last = equal.map(|(at, _)| at).nth(left - 1);
                return Self { magnitude, place: chunk.start + last.map_or(0, |last: usize| last + 1) };
            }
            left -= own;
        }
        Self { magnitude, place: usize::MAX }
    }

    /// The magnitude of the last number that goes. It is no number where all go.
    pub fn magnitude(&self) -> f32 {
        f32::from_bits(self.magnitude)
    }

    /// Whether each number of `parts` stays. They are the arrays that the cut was made for.
    pub fn keep(&self, parts: &[&[f32]]) -> Vec<Vec<bool>> {
        let mut keep: Vec<Vec<bool>> = parts.iter().map(|part| vec![true; part.len()]).collect();
        let chunks = chunks(parts);
        let outs = keep.iter_mut().flat_map(|keep| keep.chunks_mut(CHUNK)).collect::<Vec<_>>();
        chunks.par_iter().zip(outs).for_each(|(chunk, out)| {
            let before = self.place.saturating_sub(chunk.start).min(chunk.values.len());
            let (first, second) = chunk.values.split_at(before);
            let (out_first, out_second) = out.split_at_mut(before);
            run(Path::chosen(), Above { values: first, bound: self.bound(true), out: out_first });
            run(Path::chosen(), Above { values: second, bound: self.bound(false), out: out_second });
        });
        keep
    }

    /// The numbers of `parts` with zero in the place of each that goes. Both have the same shapes.
    pub fn zero(&self, parts: &[&[f32]], out: &mut [&mut [f32]]) {
        zero_beside(self, &chunks(parts), &mut chunks_mut(parts, out));
    }

    /// A number below this magnitude goes: before the cut's place, or from there on.
    fn bound(&self, before: bool) -> u32 {
        self.magnitude.saturating_add(u32::from(before))
    }
}

/// Writes the numbers of `parts` to `out`, of the same shapes, with zero in the place of the `go` smallest; all of them
/// where there are no more. It takes little more than one pass over both.
///
/// ```
/// let (a, mut out) = ([3.0, -1.0, 2.0, 1.0], [0.0; 4]);
/// niwaki_kernels::prune::zero_smallest(1, &[&a], &mut [&mut out]);
/// assert_eq!(out, [3.0, 0.0, 2.0, 1.0]);
/// ```
pub fn zero_smallest(go: usize, parts: &[&[f32]], out: &mut [&mut [f32]]) -> Cut {
    let (total, mut outs) = (total(parts), chunks_mut(parts, out));
    let chunks = chunks(parts);
    if let Some(cut) = Cut::trivial(go, total) {
        zero_beside(&cut, &chunks, &mut outs);
        return cut;
    }
    zero_with(Path::chosen(), Bracket::of_sample(&chunks, go, total), go, &chunks, &mut outs)
}

/// Zeroes the `go` smallest numbers, of which there are more, with any bracket.
fn zero_with(path: Path, bracket: Bracket, go: usize, chunks: &[Chunk<'_>], outs: &mut [&mut [f32]]) -> Cut {
    // What lies below the bracket is zero then, and what lies inside is put right once the cut is known.
    let pairs = chunks.par_iter().zip(&mut *outs);
    let sifted: Vec<Sifted> = pairs.map(|(chunk, out)| Sifted::of(path, chunk.values, bracket, Some(out))).collect();
    let cut = Cut::within(bracket, &sifted, chunks, go);
    if cut.magnitude <= bracket.low || cut.magnitude >= bracket.high {
        zero_beside(&cut, chunks, outs);
        return cut;
    }
    chunks.par_iter().zip(outs).zip(&sifted).for_each(|((chunk, out), sifted)| {
        for (value, at) in sifted.inside.iter().zip(&sifted.places) {
            if (magnitude(*value), chunk.start + *at as usize) < (cut.magnitude, cut.place) {
                out[*at as usize] = 0.0;
            }
        }
    });
    cut
}

fn zero_beside(cut: &Cut, chunks: &[Chunk<'_>], outs: &mut [&mut [f32]]) {
    chunks.par_iter().zip(outs).for_each(|(chunk, out)| {
        let before = cut.place.saturating_sub(chunk.start).min(chunk.values.len());
        let (first, second) = chunk.values.split_at(before);
        let (out_first, out_second) = out.split_at_mut(before);
        zero_below(first, cut.bound(true), out_first);
        zero_below(second, cut.bound(false), out_second);
    });
}

/// Some numbers of one array.
#[derive(Clone, Copy)]
struct Chunk<'a> {
    values: &'a [f32],
    /// The place of the first of them, counted through all arrays.
    start: usize,
}

fn total(parts: &[&[f32]]) -> usize {
    parts.iter().map(|part| part.len()).sum()
}

/// In the order of their places.
fn chunks<'a>(parts: &[&'a [f32]]) -> Vec<Chunk<'a>> {
    let mut start = 0;
    let next = |values: &'a [f32]| {
        start += values.len();
        Chunk { values, start: start - values.len() }
    };
    parts.iter().flat_map(|part| part.chunks(CHUNK)).map(next).collect()
}

/// The memory of the same chunks.
///
/// # Panics
///
/// If the shapes differ.
fn chunks_mut<'a>(parts: &[&[f32]], out: &'a mut [&mut [f32]]) -> Vec<&'a mut [f32]> {
    assert!(parts.iter().map(|p| p.len()).eq(out.iter().map(|o| o.len())), "an array for each array, as long");
    out.iter_mut().flat_map(|out| out.chunks_mut(CHUNK)).collect()
}

/// How many numbers have that magnitude.
fn count(values: &[f32], magnitude: u32) -> usize {
    run(Path::chosen(), Equal { values, magnitude })
}

struct Equal<'a> {
    values: &'a [f32],
    magnitude: u32,
}

impl Task for Equal<'_> {
    type Output = usize;

    #[inline(always)]
    fn run<V: Vector>(self) -> usize {
        self.values.iter().map(|value| u32::from(magnitude(*value) == self.magnitude)).sum::<u32>() as usize
    }
}

/// Whether each number has at least that magnitude.
struct Above<'a> {
    values: &'a [f32],
    bound: u32,
    out: &'a mut [bool],
}

impl Task for Above<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        for (out, value) in self.out.iter_mut().zip(self.values) {
            *out = magnitude(*value) >= self.bound;
        }
    }
}

fn zero_below(values: &[f32], bound: u32, out: &mut [f32]) {
    let mut block = [0.0; BLOCK];
    for (values, out) in values.chunks(BLOCK).zip(out.chunks_mut(BLOCK)) {
        let block = &mut block[..values.len()];
        run(Path::chosen(), ZeroBelow { values, bound, out: block });
        stream(block, out);
    }
}

/// The numbers with zero in the place of each below a magnitude.
struct ZeroBelow<'a> {
    values: &'a [f32],
    bound: u32,
    out: &'a mut [f32],
}

impl Task for ZeroBelow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        for (out, value) in self.out.iter_mut().zip(self.values) {
            *out = if magnitude(*value) >= self.bound { *value } else { 0.0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::testing::numbers;

    /// By the definition: sort all numbers by magnitude and place.
    fn kept_by_sorting(go: usize, parts: &[&[f32]]) -> Vec<Vec<bool>> {
        let all: Vec<f32> = parts.concat();
        let mut order: Vec<usize> = (0..all.len()).collect();
        order.sort_by(|a, b| all[*a].abs().total_cmp(&all[*b].abs()));
        let mut keep = vec![true; all.len()];
        order.iter().take(go).for_each(|place| keep[*place] = false);
        let mut rest = keep.into_iter();
        parts.iter().map(|part| rest.by_ref().take(part.len()).collect()).collect()
    }

    fn zeroed(parts: &[&[f32]], keep: &[Vec<bool>]) -> Vec<Vec<u32>> {
        let of_part = |(part, keep): (&&[f32], &Vec<bool>)| {
            part.iter().zip(keep).map(|(v, keep)| if *keep { v.to_bits() } else { 0 }).collect()
        };
        parts.iter().zip(keep).map(of_part).collect()
    }

    fn bits(parts: &[Vec<f32>]) -> Vec<Vec<u32>> {
        parts.iter().map(|part| part.iter().map(|v| v.to_bits()).collect()).collect()
    }

    /// Zeroes with `zero`, into memory that holds something else.
    fn into_new(parts: &[&[f32]], zero: impl FnOnce(&mut [&mut [f32]])) -> Vec<Vec<u32>> {
        let mut out: Vec<Vec<f32>> = parts.iter().map(|part| vec![7.0; part.len()]).collect();
        zero(&mut out.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>());
        bits(&out)
    }

    /// Everything that is public against the definition.
    fn check(go: usize, parts: &[&[f32]]) -> Cut {
        let keep = kept_by_sorting(go, parts);
        let cut = Cut::after(go, parts);
        assert!(cut.keep(parts) == keep, "{cut:?} of {go} is wrong");
        let expected = zeroed(parts, &keep);
        assert!(into_new(parts, |out| cut.zero(parts, out)) == expected);
        assert!(into_new(parts, |out| assert_eq!(zero_smallest(go, parts, out), cut)) == expected);
        cut
    }

    /// Any bits, and many that are equal, zero, not normal, infinite, or no number.
    fn any_number() -> impl Strategy<Value = f32> {
        prop_oneof![
            any::<u32>().prop_map(f32::from_bits),
            -2f32..2.0,
            (0u32..12).prop_map(|bits| -f32::from_bits(bits)),
            prop::sample::select(vec![0.0, -0.0, 1.0, -1.0, f32::INFINITY, f32::NAN, -f32::NAN]),
        ]
    }

    proptest! {
        #[test]
        fn the_cut_is_that_of_sorting(parts in prop::collection::vec(prop::collection::vec(any_number(), 0..90), 0..5), share in 0f64..1.1) {
            let parts: Vec<&[f32]> = parts.iter().map(Vec::as_slice).collect();
            check((share * total(&parts) as f64).round() as usize, &parts);
        }

        #[test]
        fn every_bracket_on_every_path_gives_the_same(
            parts in prop::collection::vec(prop::collection::vec(any_number(), 0..90), 1..4), share in 0f64..1.0,
            ends in [any_number(), any_number()], among in any::<[prop::sample::Index; 2]>(), own in any::<[bool; 2]>(),
        ) {
            let parts: Vec<&[f32]> = parts.iter().map(Vec::as_slice).collect();
            let all = parts.concat();
            prop_assume!(all.len() > 1);
            let go = ((share * all.len() as f64) as usize).clamp(1, all.len() - 1);
            let keep = kept_by_sorting(go, &parts);
            let end = |i: usize| magnitude(if own[i] { all[among[i].index(all.len())] } else { ends[i] });
            let bracket = Bracket { low: end(0).min(end(1)), high: end(0).max(end(1)) };
            let chunks = chunks(&parts);
            for path in Path::ALL.into_iter().filter(|path| path.is_available()) {
                let cut = Cut::after_with(path, bracket, go, &chunks);
                prop_assert_eq!(&cut.keep(&parts), &keep);
                let out = into_new(&parts, |out| {
                    assert_eq!(zero_with(path, bracket, go, &chunks, &mut chunks_mut(&parts, out)), cut);
                });
                prop_assert_eq!(out, zeroed(&parts, &keep));
            }
        }
    }

    /// So many that there is a sample, in arrays of which no length is that of a chunk or a block.
    #[test]
    fn large_arrays_are_cut_as_small_ones() {
        let (a, b) = (numbers(400_001, 1), numbers(300_017, 2));
        let few: Vec<f32> = a.iter().map(|v| (v * 20.0).round()).collect();
        let mostly_zero: Vec<f32> = b.iter().map(|v| if v.abs() < 0.9 { 0.0 } else { *v }).collect();
        let rising: Vec<f32> = (0..300_000).map(|i| i as f32).collect();
        for parts in [[&a[..], &b], [&few, &b], [&mostly_zero, &rising], [&few, &few], [&[], &mostly_zero]] {
            let total = total(&parts);
            for go in [0, 1, total / 10, total / 2, total * 4 / 5, total - 1, total, total + 5] {
                check(go, &parts);
            }
        }
    }

    #[test]
    fn a_bracket_of_a_large_sample_is_narrow_and_holds_its_rank() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(5);
        let values: Vec<f32> = (0..1_000_000).map(|_| rng.random_range(-1f32..1.0)).collect();
        for go in [1, 1000, 500_000, 800_000, 999_999] {
            let bracket = Bracket::of_sample(&chunks(&[&values]), go, values.len());
            let [below, up_to] = [bracket.low.saturating_sub(1), bracket.high].map(f32::from_bits);
            let inside = values.iter().filter(|v| v.abs() > below && v.abs() <= up_to).count();
            assert!(inside < 20_000, "{inside}");
            assert!((bracket.low..=bracket.high).contains(&Cut::after(go, &[&values]).magnitude));
        }
    }

    #[test]
    fn any_number_of_threads_finds_the_same() {
        let values = numbers(900_001, 3);
        let of = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| check(700_000, &[&values]))
        };
        assert_eq!([of(1), of(2)], [of(3), of(3)]);
    }

    #[test]
    #[should_panic(expected = "an array for each array")]
    fn results_of_other_shapes_are_refused() {
        zero_smallest(1, &[&[1.0, 2.0]], &mut [&mut [0.0]]);
    }
}
