//! Functions of each element, and their gradients. The derivatives of three follow from their results `y`.
//!
//! ```text
//!   relu      max(x, 0)             dx = dy where y is not 0, else 0
//!   sigmoid   1 / (1 + exp(-x))     dx = dy y (1 - y)
//!   tanh                            dx = dy (1 - y^2)
//! ```
//!
//! All others go by their arguments. What is no number stays so.

use super::conv::Old;
use super::divide;
use crate::simd::{self, Path, Task, Vector};

/// A function with its value and its derivative at a number.
pub type AnyFunction = dyn Fn(f64) -> (f64, f64) + Send + Sync;

/// Which function.
#[derive(Clone, Copy)]
pub enum Function<'a> {
    /// `max(x, 0)`
    Relu,
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
    /// `x Phi(x)` with the normal distribution's `Phi`.
    Gelu,
    /// The same by a hyperbolic tangent.
    GeluTanh,
    /// `x max(0, min(1, x / 6 + 1 / 2))`
    HardSwish,
    /// `x` where it is positive, else a multiple.
    LeakyRelu(f32),
    /// `x sigmoid(alpha x)`
    Swish(f32),
    /// Any other.
    Other(&'a AnyFunction),
}

impl Function<'_> {
    /// Whether the derivative follows from the result; otherwise from the argument.
    pub fn goes_by_result(&self) -> bool {
        matches!(self, Function::Relu | Function::Sigmoid | Function::Tanh)
    }

    /// `y = f(x)`
    pub fn forward(self, path: Path, x: &[f32], y: &mut [f32]) {
        divide::pieces(y, 1, |first, y| {
            let x = &x[first..][..y.len()];
            match self {
                // Written as "not below 0", so that NaN passes.
                Function::Relu => simd::run(path, Map(x, y, |x: f32| if x < 0.0 { 0.0 } else { x })),
                Function::Sigmoid => simd::run(path, Map(x, y, sigmoid)),
                Function::Tanh => simd::run(path, Map(x, y, f32::tanh)),
                Function::Gelu => simd::run(path, Map(x, y, |x: f32| x * normal(x))),
                Function::GeluTanh => simd::run(path, Map(x, y, |x: f32| 0.5 * x * (1.0 + bent(x).0))),
                Function::HardSwish => simd::run(path, Map(x, y, |x: f32| x * gate(x))),
                Function::LeakyRelu(alpha) => {
                    simd::run(path, Map(x, y, |x: f32| if x > 0.0 { x } else { alpha * x }));
                }
                Function::Swish(alpha) => simd::run(path, Map(x, y, |x: f32| x * sigmoid(alpha * x))),
                Function::Other(f) => simd::run(path, Map(x, y, |x: f32| f(f64::from(x)).0 as f32)),
            }
        });
    }

    /// `dx = f'(x) dy`, or what is added to it. `from` is the result or the argument; see
    /// [`Function::goes_by_result`].
    pub fn backward(self, path: Path, from: &[f32], dy: &[f32], dx: &mut [f32], old: Old) {
        let added = old == Old::Added;
        divide::pieces(dx, 1, |first, dx| {
            let (v, d) = (&from[first..][..dx.len()], &dy[first..][..dx.len()]);
            match self {
                Function::Relu => slope(path, (v, d, dx, added), |y, dy| if y == 0.0 { 0.0 } else { dy }),
                Function::Sigmoid => slope(path, (v, d, dx, added), |y, dy| dy * y * (1.0 - y)),
                Function::Tanh => slope(path, (v, d, dx, added), |y, dy| dy * (1.0 - y * y)),
                Function::Gelu => slope(path, (v, d, dx, added), |x, dy| dy * (normal(x) + x * density(x))),
                Function::GeluTanh => slope(path, (v, d, dx, added), |x, dy| {
                    let (t, slope) = bent(x);
                    dy * (0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * slope)
                }),
                Function::HardSwish => slope(path, (v, d, dx, added), |x, dy| {
                    let gate = gate(x);
                    dy * if gate > 0.0 && gate < 1.0 { gate + x / 6.0 } else { gate }
                }),
                Function::LeakyRelu(alpha) => {
                    slope(path, (v, d, dx, added), |x, dy| if x > 0.0 { dy } else { alpha * dy });
                }
                Function::Swish(alpha) => slope(path, (v, d, dx, added), |x, dy| {
                    let s = sigmoid(alpha * x);
                    dy * (s + x * alpha * s * (1.0 - s))
                }),
                Function::Other(f) => {
                    slope(path, (v, d, dx, added), |x, dy| (f64::from(dy) * f(f64::from(x)).1) as f32);
                }
            }
        });
    }
}

struct Map<'a, F>(&'a [f32], &'a mut [f32], F);

impl<F: Fn(f32) -> f32> Task for Map<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        self.1.iter_mut().zip(self.0).for_each(|(y, x)| *y = (self.2)(*x));
    }
}

/// Where the derivative goes by, the gradient at the result, where the gradient goes, and whether it is added there.
type Places<'a> = (&'a [f32], &'a [f32], &'a mut [f32], bool);

struct Slope<'a, F>(Places<'a>, F);

fn slope(path: Path, places: Places<'_>, f: impl Fn(f32, f32) -> f32) {
    simd::run(path, Slope(places, f));
}

impl<F: Fn(f32, f32) -> f32> Task for Slope<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Slope((from, dy, dx, added), f) = self;
        let all = dx.iter_mut().zip(from.iter().zip(dy));
        match added {
            true => all.for_each(|(dx, (v, dy))| *dx += f(*v, *dy)),
            false => all.for_each(|(dx, (v, dy))| *dx = f(*v, *dy)),
        }
    }
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// The normal distribution's function.
fn normal(x: f32) -> f32 {
    0.5 * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// The normal distribution's density.
fn density(x: f32) -> f32 {
    const FACTOR: f32 = 0.398_942_3;
    FACTOR * (-0.5 * x * x).exp()
}

/// What [`Function::GeluTanh`] takes for `2 Phi(x) - 1`: a hyperbolic tangent, and the slope of its argument.
fn bent(x: f32) -> (f32, f32) {
    const FACTOR: f32 = 0.797_884_6;
    const CUBE: f32 = 0.044_715;
    ((FACTOR * (x + CUBE * x * x * x)).tanh(), FACTOR * (1.0 + 3.0 * CUBE * x * x))
}

/// What [`Function::HardSwish`] multiplies with.
#[inline(always)]
fn gate(x: f32) -> f32 {
    (x / 6.0 + 0.5).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::numbers;

    fn sigmoid(x: f64) -> f64 {
        1.0 / (1.0 + (-x).exp())
    }

    type Definition = fn(f64) -> f64;

    /// Every function with its definition.
    fn all() -> Vec<(Function<'static>, Definition)> {
        fn gelu(x: f64) -> f64 {
            x * 0.5 * (1.0 + libm::erf(x / 2f64.sqrt()))
        }
        fn gelu_tanh(x: f64) -> f64 {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
        }
        vec![
            (Function::Relu, |x| x.max(0.0)),
            (Function::Sigmoid, sigmoid),
            (Function::Tanh, f64::tanh),
            (Function::Gelu, gelu),
            (Function::GeluTanh, gelu_tanh),
            (Function::HardSwish, |x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
            (Function::LeakyRelu(0.1), |x| if x > 0.0 { x } else { 0.1 * x }),
            (Function::Swish(1.5), |x| x * sigmoid(1.5 * x)),
            (Function::Other(&|x| (x.sin(), x.cos())), f64::sin),
        ]
    }

    #[test]
    fn values_and_gradients_are_those_of_the_definitions() {
        let (x, dy): (Vec<f32>, _) = (numbers(203, 1).into_iter().map(|v| v * 4.0).collect(), numbers(203, 2));
        for path in Path::ALL.into_iter().filter(|path| path.is_available()) {
            for (function, definition) in all() {
                let mut y = vec![0.0; x.len()];
                function.forward(path, &x, &mut y);
                let from = if function.goes_by_result() { &y } else { &x };
                let mut dx = vec![1.0; x.len()];
                function.backward(path, from, &dy, &mut dx, Old::Added);
                for i in 0..x.len() {
                    let at = f64::from(x[i]);
                    assert!((f64::from(y[i]) - definition(at)).abs() < 2e-6 * definition(at).abs().max(1.0));
                    let slope = (definition(at + 1e-6) - definition(at - 1e-6)) / 2e-6;
                    assert!((f64::from(dx[i]) - 1.0 - slope * f64::from(dy[i])).abs() < 1e-5, "{at}: {}", dx[i]);
                }
            }
        }
    }

    #[test]
    fn not_a_number_is_handed_on_and_the_gradient_of_relu_at_zero_is_zero() {
        for (function, _) in all() {
            let mut y = [0.0];
            function.forward(Path::chosen(), &[f32::NAN], &mut y);
            assert!(y[0].is_nan());
        }
        let mut dx = [9.0; 3];
        Function::Relu.backward(Path::chosen(), &[0.0, -0.0, 2.0], &[5.0, 6.0, 7.0], &mut dx, Old::Dropped);
        assert_eq!(dx, [0.0, 0.0, 7.0]);
    }
}
