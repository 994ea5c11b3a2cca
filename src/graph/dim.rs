//! Sizes of axes: fixed, or open until the graph runs.
//!
//! Two numbers of a network are open: `N`, the samples of a batch, and `S`, the steps of a sequence. A size is a polynomial
//! `fixed + batch N + sequence S + both N S`: what is reached by joining, splitting, padding and slicing axes, and what
//! files in ONNX compute from shapes. [`Dim::Fixed`] and [`Dim::Batch`] are the two common forms; each size has one form
//! only, so that equal sizes are equal values.

use std::fmt;
use std::str::FromStr;

/// The size of one axis of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dim {
    /// The number of samples, open until the graph runs.
    Batch,
    /// A fixed size.
    Fixed(usize),
    /// A size that follows from the number of samples or of steps in another way.
    Open(Open),
}

/// A polynomial of the open sizes that is neither fixed nor the batch alone; see the [module documentation](self).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Open([i64; 4]);

/// What the open sizes are when a graph runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Samples.
    pub batch: usize,
    /// Steps of a sequence; any number where the graph has none.
    pub sequence: usize,
}

impl Sizes {
    /// A batch of so many samples, of a graph without open sequences.
    pub fn of_batch(batch: usize) -> Self {
        Self { batch, sequence: 1 }
    }
}

/// What the open sizes must be for values of these types to have these shapes; `None` where no sizes fit, or some size
/// does not follow. What is open nowhere is 1.
pub fn sizes_of(types: &[&[Dim]], shapes: &[&[usize]]) -> Option<Sizes> {
    let same_axes = |(ty, shape): (&&[Dim], &&[usize])| ty.len() == shape.len();
    if types.len() != shapes.len() || !types.iter().zip(shapes).all(same_axes) {
        return None;
    }
    let axes = || types.iter().zip(shapes).flat_map(|(ty, shape)| ty.iter().zip(*shape));
    let mut known: [Option<i128>; 2] = [None, None];
    // Each round finds one of the two, or nothing more.
    for _ in 0..2 {
        for (dim, size) in axes() {
            let [fixed, batch, sequence, both] = dim.terms().map(i128::from);
            let rest = *size as i128 - fixed;
            // With one of them known, the other has one factor.
            let (place, factor, rest) = match known {
                [Some(n), None] => {
                    (1, sequence.checked_add(both.checked_mul(n)?)?, rest.checked_sub(batch.checked_mul(n)?)?)
                }
                [None, Some(s)] => {
                    (0, batch.checked_add(both.checked_mul(s)?)?, rest.checked_sub(sequence.checked_mul(s)?)?)
                }
                [None, None] if sequence == 0 && both == 0 => (0, batch, rest),
                [None, None] if batch == 0 && both == 0 => (1, sequence, rest),
                _ => continue,
            };
            if factor != 0 {
                known[place] = Some(rest / factor);
            }
        }
    }
    let open = |place: usize| axes().any(|(dim, _)| dim.terms()[place] != 0 || dim.terms()[3] != 0);
    let size = |place: usize| match known[place] {
        Some(size) => usize::try_from(size).ok(),
        None => (!open(place + 1)).then_some(1),
    };
    let sizes = Sizes { batch: size(0)?, sequence: size(1)? };
    axes().all(|(dim, size)| dim.at(sizes) == Some(*size)).then_some(sizes)
}

impl Dim {
    /// The number of steps.
    pub const SEQUENCE: Dim = Dim::Open(Open([0, 0, 1, 0]));

    /// The size `fixed + batch N + sequence S + both N S` of these four numbers; `None` where it is never a size.
    pub fn of_terms(terms: [i64; 4]) -> Option<Dim> {
        match terms {
            [fixed, 0, 0, 0] => usize::try_from(fixed).ok().map(Dim::Fixed),
            [0, 1, 0, 0] => Some(Dim::Batch),
            _ => Some(Dim::Open(Open(terms))),
        }
    }

    /// The four numbers of [`Dim::of_terms`].
    pub fn terms(self) -> [i64; 4] {
        match self {
            Dim::Batch => [0, 1, 0, 0],
            // No axis in memory is longer.
            Dim::Fixed(n) => [i64::try_from(n).unwrap_or(i64::MAX), 0, 0, 0],
            Dim::Open(Open(terms)) => terms,
        }
    }

    /// The size, where it is fixed.
    pub fn fixed(self) -> Option<usize> {
        if let Dim::Fixed(n) = self { Some(n) } else { None }
    }

    /// The sum; `None` where it is too large.
    pub fn plus(self, other: Dim) -> Option<Dim> {
        Self::combine(self.terms(), other.terms(), i64::checked_add)
    }

    /// The difference; `None` where it is below 0.
    pub fn minus(self, other: Dim) -> Option<Dim> {
        Self::combine(self.terms(), other.terms(), i64::checked_sub)
    }

    /// The product; `None` where it is too large or has a square of an open size.
    pub fn times(self, other: Dim) -> Option<Dim> {
        let (a, b) = (self.terms(), other.terms());
        let mut product = [0i64; 4];
        for (i, a) in a.into_iter().enumerate().filter(|(_, a)| *a != 0) {
            for (j, b) in b.into_iter().enumerate().filter(|(_, b)| *b != 0) {
                // The numbers of the four terms are sets of open sizes, as bits; a common bit is a square.
                if i & j != 0 {
                    return None;
                }
                product[i | j] = product[i | j].checked_add(a.checked_mul(b)?)?;
            }
        }
        Self::of_terms(product)
    }

    /// The product of all of these.
    pub fn product(dims: &[Dim]) -> Option<Dim> {
        dims.iter().try_fold(Dim::Fixed(1), |product, dim| product.times(*dim))
    }

    /// The size by which `divisor` must be multiplied to give this one.
    pub fn divided_by(self, divisor: Dim) -> Option<Dim> {
        let (a, b) = (self.terms(), divisor.terms());
        // A divisor of one term, which is what shapes have: each term of the dividend must have it as a factor.
        let mut own = b.into_iter().enumerate().filter(|(_, b)| *b != 0);
        let ((place, factor), None) = (own.next()?, own.next()) else {
            return (self == divisor).then_some(Dim::Fixed(1));
        };
        let mut quotient = [0i64; 4];
        for (i, a) in a.into_iter().enumerate().filter(|(_, a)| *a != 0) {
            if i & place != place || a % factor != 0 {
                return None;
            }
            quotient[i ^ place] = a / factor;
        }
        Self::of_terms(quotient)
    }

    /// The size for these open sizes; `None` where it would be below 0 or too large.
    pub fn at(self, sizes: Sizes) -> Option<usize> {
        match self {
            Dim::Batch => Some(sizes.batch),
            Dim::Fixed(n) => Some(n),
            Dim::Open(Open([fixed, batch, sequence, both])) => {
                let (n, s) = (sizes.batch as i128, sizes.sequence as i128);
                let term = |factor: i64, of: i128| i128::from(factor).checked_mul(of);
                let sum =
                    term(batch, n)?.checked_add(term(sequence, s)?)?.checked_add(term(both, n.checked_mul(s)?)?)?;
                usize::try_from(sum.checked_add(i128::from(fixed))?).ok()
            }
        }
    }

    /// The size that is this for each of the four corners `[(n0, s0), (n1, s0), (n0, s1), (n1, s1)]`.
    pub fn through(corners: [i64; 4], n: [i64; 2], s: [i64; 2]) -> Option<Dim> {
        let [a, b, c, d] = corners;
        let (dn, ds) = (n[1] - n[0], s[1] - s[0]);
        let exact = |x: i64, by: i64| if x % by == 0 { Some(x / by) } else { None };
        let both = exact((d - c).checked_sub(b - a)?, dn * ds)?;
        let batch = exact(b - a, dn)?.checked_sub(both.checked_mul(s[0])?)?;
        let sequence = exact(c - a, ds)?.checked_sub(both.checked_mul(n[0])?)?;
        let rest = both.checked_mul(n[0] * s[0])?.checked_add(batch.checked_mul(n[0])?)?;
        Self::of_terms([a.checked_sub(rest.checked_add(sequence.checked_mul(s[0])?)?)?, batch, sequence, both])
    }

    fn combine(a: [i64; 4], b: [i64; 4], of: impl Fn(i64, i64) -> Option<i64>) -> Option<Dim> {
        let mut terms = [0; 4];
        for (term, (a, b)) in terms.iter_mut().zip(a.into_iter().zip(b)) {
            *term = of(a, b)?;
        }
        Self::of_terms(terms)
    }
}

impl From<usize> for Dim {
    fn from(n: usize) -> Self {
        Dim::Fixed(n)
    }
}

/// The open parts of the four terms.
const NAMES: [&str; 4] = ["", "N", "S", "NS"];

/// `28`, `N`, `4N`, `S+1`, `NS-2N`.
impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Dim::Fixed(n) = self {
            return write!(f, "{n}");
        }
        let mut first = true;
        // The fixed part last, as people write it.
        for place in [3, 1, 2, 0] {
            let (factor, name) = (self.terms()[place], NAMES[place]);
            match factor {
                0 => continue,
                1 if place > 0 => write!(f, "{}{name}", if first { "" } else { "+" })?,
                -1 if place > 0 => write!(f, "-{name}")?,
                factor if first => write!(f, "{factor}{name}")?,
                factor => write!(f, "{factor:+}{name}")?,
            }
            first = false;
        }
        Ok(())
    }
}

/// Text that is no size.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no size: a number, or a sum of numbers of N (samples), S (steps) and NS")]
pub struct NoDim;

impl FromStr for Dim {
    type Err = NoDim;

    fn from_str(text: &str) -> Result<Self, NoDim> {
        let mut terms = [0i64; 4];
        let mut rest = text;
        if !text.is_ascii() {
            return Err(NoDim);
        }
        while !rest.is_empty() {
            let end = rest[1..].find(['+', '-']).map_or(rest.len(), |at| at + 1);
            let (term, after) = rest.split_at(end);
            let number = term.trim_end_matches(['N', 'S']);
            let place = NAMES.iter().position(|name| *name == &term[number.len()..]).ok_or(NoDim)?;
            let factor = match (number, place) {
                ("" | "+", 1..) => 1,
                ("-", 1..) => -1,
                _ => number.parse().map_err(|_| NoDim)?,
            };
            terms[place] = i64::checked_add(terms[place], factor).ok_or(NoDim)?;
            rest = after;
        }
        if text.is_empty() { Err(NoDim) } else { Dim::of_terms(terms).ok_or(NoDim) }
    }
}

/// A number where it is fixed, else text.
impl serde::Serialize for Dim {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Dim::Fixed(n) => serializer.serialize_u64(*n as u64),
            open => serializer.collect_str(open),
        }
    }
}

impl<'de> serde::Deserialize<'de> for Dim {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Size;
        impl serde::de::Visitor<'_> for Size {
            type Value = Dim;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size: a number, or text such as \"N\" or \"S+1\"")
            }

            fn visit_u64<E: serde::de::Error>(self, n: u64) -> Result<Dim, E> {
                usize::try_from(n).map(Dim::Fixed).map_err(E::custom)
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Dim, E> {
                text.parse().map_err(|_| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Size)
    }
}

/// A shape as people write it: `[N, 1, 28, 28]`.
pub fn shape_text(shape: &[Dim]) -> String {
    let dims: Vec<String> = shape.iter().map(Dim::to_string).collect();
    format!("[{}]", dims.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn dims() -> impl Strategy<Value = Dim> {
        prop::array::uniform4(-9i64..10).prop_filter_map("below 0", Dim::of_terms)
    }

    fn at(dim: Dim, batch: usize, sequence: usize) -> Option<i64> {
        dim.at(Sizes { batch, sequence }).map(|n| n as i64)
    }

    proptest! {
        #[test]
        fn arithmetic_is_that_of_the_sizes(a in dims(), b in dims(), n in 1usize..9, s in 1usize..9) {
            let (Some(x), Some(y)) = (at(a, n, s), at(b, n, s)) else { return Ok(()) };
            if let Some(sum) = a.plus(b) { prop_assert_eq!(at(sum, n, s), Some(x + y)) }
            if let Some(difference) = a.minus(b) && x >= y { prop_assert_eq!(at(difference, n, s), Some(x - y)) }
            if let Some(product) = a.times(b) {
                prop_assert_eq!(at(product, n, s), Some(x * y));
                if y != 0 && let Some(quotient) = product.divided_by(b) {
                    prop_assert_eq!(quotient.times(b), Some(product));
                }
            }
        }

        #[test]
        fn a_size_is_found_from_its_corners(dim in dims()) {
            let (n, s) = ([3, 5], [7, 11]);
            let corner = |n: i64, s: i64| at(dim, n as usize, s as usize);
            let corners = [corner(n[0], s[0]), corner(n[1], s[0]), corner(n[0], s[1]), corner(n[1], s[1])];
            if let [Some(a), Some(b), Some(c), Some(d)] = corners {
                prop_assert_eq!(Dim::through([a, b, c, d], n, s), Some(dim));
            }
        }

        #[test]
        fn text_is_read_back(dim in dims()) {
            prop_assert_eq!(dim.to_string().parse(), Ok(dim));
        }

        #[test]
        fn no_text_is_a_surprise(text in "\\PC{0,8}") {
            let _ = text.parse::<Dim>();
        }
    }

    proptest! {
        #[test]
        fn the_open_sizes_follow_from_the_shapes(dims in prop::collection::vec(dims(), 0..4), n in 0usize..9, s in 0usize..9) {
            let sizes = Sizes { batch: n, sequence: s };
            let shape: Option<Vec<usize>> = dims.iter().map(|dim| dim.at(sizes)).collect();
            let Some(shape) = shape else { return Ok(()) };
            if let Some(found) = sizes_of(&[&dims], &[&shape]) {
                prop_assert!(dims.iter().zip(&shape).all(|(dim, size)| dim.at(found) == Some(*size)));
            }
            let all = [&dims[..], &[Dim::Batch, Dim::SEQUENCE]].concat();
            let found = sizes_of(&[&all[..dims.len()], &all[dims.len()..]], &[&shape, &[n, s]]);
            prop_assert_eq!(found, Some(sizes));
        }
    }

    #[test]
    fn shapes_that_do_not_fit_have_no_sizes() {
        let (batch, fixed) = ([Dim::Batch, Dim::SEQUENCE], [Dim::Batch, 3.into()]);
        assert_eq!(sizes_of(&[&batch], &[&[2, 5]]), Some(Sizes { batch: 2, sequence: 5 }));
        assert_eq!(sizes_of(&[&fixed], &[&[2, 3]]), Some(Sizes { batch: 2, sequence: 1 }));
        assert_eq!(sizes_of(&[], &[]), Some(Sizes { batch: 1, sequence: 1 }));
        for (types, shapes) in [
            (&[&fixed[..]][..], &[&[2, 4][..]][..]),
            (&[&fixed, &batch], &[&[2, 3], &[3, 3]]),
            (&[&fixed], &[&[2]]),
            (&[&[Dim::of_terms([0, 2, 0, 0]).unwrap()]], &[&[3]]),
        ] {
            assert_eq!(sizes_of(types, shapes), None, "{shapes:?}");
        }
    }

    #[test]
    fn sizes_read_as_people_write_them() {
        let text = |terms| Dim::of_terms(terms).unwrap().to_string();
        assert_eq!(text([28, 0, 0, 0]), "28");
        assert_eq!(text([0, 12, 0, 0]), "12N");
        assert_eq!(text([1, 0, 1, 0]), "S+1");
        assert_eq!(text([0, -2, 0, 1]), "NS-2N");
        for wrong in ["", "M", "N N", "SN", "1.5", "-3", "99999999999999999999"] {
            assert_eq!(wrong.parse::<Dim>(), Err(NoDim), "{wrong}");
        }
    }
}
