//! Elementary functions of vectors: `exp`, `sigmoid`, `tanh`, `log`, `erf`.
//!
//! The first three come from one reduction, `x = n ln 2 + r` with `n` whole and `|r| <= ln 2 / 2`:
//!
//! ```text
//!   e^r - 1 = r + r^2 P(r)                      P of degree 4, within 2^-26 of the whole
//!   exp     = 2^n (1 + (e^r - 1))
//!   sigmoid = exp(x) / (exp(x) + 1)
//!   tanh    = q / (q + 2)    q = e^2x - 1 = 2^n (e^r - 1) + (2^n - 1)    no digits cancel where x is small
//!
//!   log     = n ln 2 + f - s (f - R)            x = 2^n (1 + f) with 1 + f from sqrt(1/2) to sqrt(2), s = f / (2 + f),
//!                                               R = s^2 (2/3 + 2/5 s^2 + ...): the series of 2 artanh s
//!   erf     = x A(x^2) / B(x^2)                 A and B of degree 5, within 2^-25
//! ```
//!
//! `P`, `A` and `B` are fitted by least squares whose weights are moved until the largest error is the least (Lawson 1961).
//! Results are within 4 units in the last place of the true ones, those of `erf` within 8. What is no number stays none.

use super::Vector;

/// The two parts of ln 2: the first has 9 bits, so its product with a whole number is exact.
const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];

/// `P`, the highest power first.
const P: [f32; 5] = [1.394_605_1e-3, 8.366_374e-3, 4.166_628_8e-2, 1.666_654_5e-1, 0.5];

/// Added to a number below 2^22 it leaves the nearest whole one in the last bits, and with it the bias of exponents.
const WHOLE: f32 = 12_582_912.0 + 127.0;

/// `n` and `2^n` of `x`, and `e^r - 1`. The power is right for whole parts from -126 to 127, the others where they are
/// below 2^15.
#[inline(always)]
fn reduced<V: Vector>(x: V) -> (V, V, V) {
    let bits = x.mul_add(V::splat(std::f32::consts::LOG2_E), V::splat(WHOLE));
    let whole = bits.sub(V::splat(WHOLE));
    let r = whole.mul_add(V::splat(-LN_2[1]), whole.mul_add(V::splat(-LN_2[0]), x));
    let mut p = V::splat(P[0]);
    for coefficient in &P[1..] {
        p = p.mul_add(r, V::splat(*coefficient));
    }
    (whole, bits.last_bits_as_exponent(), p.mul_add(r.mul(r), r))
}

/// `x` where it lies between the bounds, else the nearer bound.
#[inline(always)]
fn clamped<V: Vector>(x: V, low: f32, high: f32) -> V {
    // In this order no number stays none.
    V::splat(low).max(V::splat(high).min(x))
}

/// `e^x`: also denormal numbers, 0 and infinity.
#[inline(always)]
pub fn exp<V: Vector>(x: V) -> V {
    // Beyond these bounds it is 0 and infinity, after rounding.
    let (whole, _, rest) = reduced(clamped(x, -104.0, 89.0));
    rest.add(V::splat(1.0)).scale(whole)
}

/// `1 / (1 + e^-x)`. Below -80 it stays at about 2e-35.
#[inline(always)]
pub fn sigmoid<V: Vector>(x: V) -> V {
    let (_, power, rest) = reduced(clamped(x, -80.0, 80.0));
    let e = rest.mul_add(power, power);
    e.quotient(e.add(V::splat(1.0)))
}

/// The hyperbolic tangent.
#[inline(always)]
pub fn tanh<V: Vector>(x: V) -> V {
    // It is 1 after rounding from 9.02 on.
    let x = clamped(x, -9.5, 9.5);
    let (_, power, rest) = reduced(x.add(x));
    let q = rest.mul_add(power, power.sub(V::splat(1.0)));
    q.quotient(q.add(V::splat(2.0)))
}

/// The natural logarithm: negative infinity of 0, no number of negative ones.
#[inline(always)]
pub fn log<V: Vector>(x: V) -> V {
    let one = V::splat(1.0);
    let least = f32::from_bits(1);
    let usual = clamped(x, least, f32::MAX);
    // Denormal numbers have no exponent of their own.
    let is_small = V::splat(f32::MIN_POSITIVE).sub(usual).where_positive(one);
    let large = usual.mul(is_small.mul_add(V::splat(TWO_23 - 1.0), one));
    let m = large.significand();
    let is_above = m.sub(V::splat(std::f32::consts::SQRT_2)).where_positive(one);
    let n = is_small.mul_add(V::splat(-23.0), large.exponent().add(is_above));
    let f = is_above.mul(V::splat(-0.5)).mul_add(m, m).sub(one);
    let s = f.quotient(f.add(V::splat(2.0)));
    let z = s.mul(s);
    let mut r = V::splat(2.0 / 9.0);
    for coefficient in [2.0 / 7.0, 2.0 / 5.0, 2.0 / 3.0] {
        r = r.mul_add(z, V::splat(coefficient));
    }
    let rest = n.mul_add(V::splat(LN_2[1]), s.mul(r.mul(z).sub(f))).add(f);
    let result = n.mul_add(V::splat(LN_2[0]), rest);
    // What is not positive and finite: each term is 0 for all others.
    let infinite = x.sub(V::splat(f32::MAX)).where_positive(V::splat(f32::INFINITY));
    let zero = V::splat(least).sub(x).where_positive(V::splat(f32::NEG_INFINITY));
    let negative = V::zero().sub(x).where_positive(V::splat(f32::NAN));
    let none = usual.mul(V::zero());
    result.add(none).add(infinite).add(zero).add(negative)
}

const TWO_23: f32 = 8_388_608.0;

/// The numerator `A`, the highest power first.
const A: [f32; 6] =
    [2.046_014e-6, 2.848_453e-4, 3.772_628e-3, 5.276_954e-2, 0.190_595_57, std::f32::consts::FRAC_2_SQRT_PI];

/// The denominator `B`, the highest power first.
const B: [f32; 6] = [3.804_773e-5, 1.163_876_6e-3, 1.498_335_5e-2, 0.114_183_47, 0.502_243_64, 1.0];

/// The error function.
#[inline(always)]
pub fn erf<V: Vector>(x: V) -> V {
    // It is 1 after rounding from 3.92 on.
    let x = clamped(x, -3.925, 3.925);
    let square = x.mul(x);
    let (mut a, mut b) = (V::splat(A[0]), V::splat(B[0]));
    for i in 1..6 {
        a = a.mul_add(square, V::splat(A[i]));
        b = b.mul_add(square, V::splat(B[i]));
    }
    clamped(x.mul(a).quotient(b), -1.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Path, Task, run};

    /// All functions of as many numbers as a vector holds, for each of `x`.
    struct All<'a>(&'a [f32]);

    impl Task for All<'_> {
        type Output = [Vec<f32>; 5];

        #[inline(always)]
        fn run<V: Vector>(self) -> Self::Output {
            let mut results = [const { Vec::new() }; 5];
            for x in self.0.chunks(V::LANES) {
                let mask = V::first(x.len());
                // SAFETY: the mask has as many lanes as there are numbers.
                let vector = unsafe { V::load_first(x.as_ptr(), mask) };
                let found = [exp(vector), sigmoid(vector), tanh(vector), log(vector), erf(vector)];
                for (results, result) in results.iter_mut().zip(found) {
                    let mut out = vec![0.0; x.len()];
                    // SAFETY: as above.
                    unsafe { result.store_first(out.as_mut_ptr(), mask) };
                    results.extend(out);
                }
            }
            results
        }
    }

    /// How far from the true value, in units of the last place of a number of that size.
    fn error(found: f32, exact: f64) -> f64 {
        if exact.is_nan() {
            return if found.is_nan() { 0.0 } else { f64::INFINITY };
        }
        if !exact.is_finite() || exact.abs() >= f64::from(f32::MAX) {
            return if exact as f32 == found { 0.0 } else { f64::INFINITY };
        }
        let size = exact.abs().max(f64::from(f32::MIN_POSITIVE));
        let unit = 2f64.powi(size.log2().floor() as i32 - 23);
        (f64::from(found) - exact).abs() / unit
    }

    /// By its series without differences: `2 / sqrt(pi) e^-x^2 (x + 2/3 x^3 + 4/15 x^5 + ...)`.
    fn true_erf(x: f64) -> f64 {
        if x.abs() > 6.0 {
            return x.signum();
        }
        let terms = (1..200).scan(x, |term, n| {
            let now = *term;
            *term *= 2.0 * x * x / f64::from(2 * n + 1);
            Some(now)
        });
        std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp() * terms.sum::<f64>()
    }

    #[test]
    fn they_are_near_the_true_ones_everywhere() {
        // Every 4003rd of all numbers, and those of ordinary sizes more closely.
        let all = (0..=u32::MAX).step_by(4003).map(f32::from_bits).filter(|x| x.is_finite());
        let usual = (-350_000..350_000).map(|i| i as f32 * 3e-4);
        let x: Vec<f32> = all.chain(usual).chain([f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0]).collect();
        for path in Path::ALL.into_iter().filter(|path| path.is_available()) {
            let results = run(path, All(&x));
            let mut worst = [(0.0, 0.0); 5];
            for (i, x) in x.iter().enumerate() {
                let wide = f64::from(*x);
                let sigmoid = 1.0 / (1.0 + (-wide.max(-80.0)).exp());
                let exact = [wide.exp(), sigmoid, wide.tanh(), wide.ln(), true_erf(wide)];
                for (which, exact) in exact.into_iter().enumerate() {
                    let error = error(results[which][i], exact);
                    if error > worst[which].0 {
                        worst[which] = (error, *x);
                    }
                }
            }
            let within = worst.iter().zip([4.0, 4.0, 4.0, 4.0, 8.0]).all(|((error, _), bound)| *error < bound);
            assert!(within, "{path:?}: largest errors and where they are: {worst:?}");
        }
    }

    #[test]
    fn what_is_no_number_stays_none() {
        for path in Path::ALL {
            assert!(run(path, All(&[f32::NAN])).iter().all(|result| result[0].is_nan()), "{path:?}");
        }
    }
}
