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
use crate::simd::elementary::{erf, exp, sigmoid, tanh};
use crate::simd::slices::update;
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
        divide::pieces(y, 1, |first, y| simd::run(path, Forward(self, &x[first..][..y.len()], y)));
    }

    /// `dx = f'(x) dy`, or what is added to it. `from` is the result or the argument; see
    /// [`Function::goes_by_result`].
    pub fn backward(self, path: Path, from: &[f32], dy: &[f32], dx: &mut [f32], old: Old) {
        divide::pieces(dx, 1, |first, dx| {
            let (from, dy) = (&from[first..][..dx.len()], &dy[first..][..dx.len()]);
            simd::run(path, Backward { function: self, from, dy, dx, old });
        });
    }
}

struct Forward<'a>(Function<'a>, &'a [f32], &'a mut [f32]);

impl Task for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Forward(function, x, y) = self;
        match function {
            Function::Relu => update(y, [x], |_, [x]: [V; 1]| x.relu()),
            Function::Sigmoid => update(y, [x], |_, [x]: [V; 1]| sigmoid(x)),
            Function::Tanh => update(y, [x], |_, [x]: [V; 1]| tanh(x)),
            Function::Gelu => update(y, [x], |_, [x]: [V; 1]| x.mul(normal(x))),
            Function::GeluTanh => update(y, [x], |_, [x]: [V; 1]| {
                let half = x.mul(V::splat(0.5));
                half.mul_add(bent(x).0, half)
            }),
            Function::HardSwish => update(y, [x], |_, [x]: [V; 1]| x.mul(gate(x))),
            Function::LeakyRelu(alpha) => {
                y.iter_mut().zip(x).for_each(|(y, x)| *y = if *x > 0.0 { *x } else { alpha * x });
            }
            Function::Swish(alpha) => update(y, [x], |_, [x]: [V; 1]| x.mul(sigmoid(x.mul(V::splat(alpha))))),
            Function::Other(f) => y.iter_mut().zip(x).for_each(|(y, x)| *y = f(f64::from(*x)).0 as f32),
        }
    }
}

struct Backward<'a> {
    function: Function<'a>,
    from: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
    old: Old,
}

impl Backward<'_> {
    /// `slope` of what the derivative goes by, times the gradient at the result.
    #[inline(always)]
    fn times<V: Vector>(self, slope: impl Fn(V) -> V) {
        let added = self.old == Old::Added;
        update(self.dx, [self.from, self.dy], |dx, [v, dy]: [V; 2]| {
            let slope = slope(v);
            if added { slope.mul_add(dy, dx) } else { slope.mul(dy) }
        });
    }

    /// The gradient from what the derivative goes by and the gradient at the result.
    #[inline(always)]
    fn each(self, gradient: impl Fn(f32, f32) -> f32) {
        let all = self.dx.iter_mut().zip(self.from.iter().zip(self.dy));
        match self.old {
            Old::Added => all.for_each(|(dx, (v, dy))| *dx += gradient(*v, *dy)),
            Old::Dropped => all.for_each(|(dx, (v, dy))| *dx = gradient(*v, *dy)),
        }
    }
}

impl Task for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let one = V::splat(1.0);
        match self.function {
            Function::Relu => self.each(|y, dy| if y == 0.0 { 0.0 } else { dy }),
            Function::Sigmoid => self.times(|y: V| y.mul(one.sub(y))),
            Function::Tanh => self.times(|y: V| one.sub(y.mul(y))),
            Function::Gelu => self.times(|x: V| x.mul_add(density(x), normal(x))),
            Function::GeluTanh => self.times(|x: V| {
                let (t, slope) = bent(x);
                let half = V::splat(0.5);
                half.mul(x).mul(one.sub(t.mul(t))).mul_add(slope, half.mul_add(t, half))
            }),
            Function::HardSwish => self.each(|x, dy| {
                let gate = (x / 6.0 + 0.5).clamp(0.0, 1.0);
                dy * if gate > 0.0 && gate < 1.0 { gate + x / 6.0 } else { gate }
            }),
            Function::LeakyRelu(alpha) => self.each(|x, dy| if x > 0.0 { dy } else { alpha * dy }),
            Function::Swish(alpha) => self.times(|x: V| {
                let by_alpha = x.mul(V::splat(alpha));
                let s = sigmoid(by_alpha);
                by_alpha.mul(s).mul_add(one.sub(s), s)
            }),
            Function::Other(f) => self.each(|x, dy| (f64::from(dy) * f(f64::from(x)).1) as f32),
        }
    }
}

/// The normal distribution's function.
#[inline(always)]
fn normal<V: Vector>(x: V) -> V {
    let half = V::splat(0.5);
    erf(x.mul(V::splat(std::f32::consts::FRAC_1_SQRT_2))).mul_add(half, half)
}

/// The normal distribution's density.
#[inline(always)]
fn density<V: Vector>(x: V) -> V {
    const FACTOR: f32 = 0.398_942_3;
    exp(x.mul(x).mul(V::splat(-0.5))).mul(V::splat(FACTOR))
}

/// What [`Function::GeluTanh`] takes for `2 Phi(x) - 1`: a hyperbolic tangent, and the slope of its argument.
#[inline(always)]
fn bent<V: Vector>(x: V) -> (V, V) {
    const FACTOR: f32 = 0.797_884_6;
    const CUBE: f32 = 0.044_715;
    let square = x.mul(x);
    let slope = square.mul_add(V::splat(3.0 * CUBE * FACTOR), V::splat(FACTOR));
    (tanh(square.mul_add(V::splat(CUBE * FACTOR), V::splat(FACTOR)).mul(x)), slope)
}

/// What [`Function::HardSwish`] multiplies with.
#[inline(always)]
fn gate<V: Vector>(x: V) -> V {
    let line = x.mul_add(V::splat(1.0 / 6.0), V::splat(0.5));
    // In this order no number stays none.
    V::zero().max(V::splat(1.0).min(line))
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
