//! Activation functions: what a network's layers are separated by.

use serde::{Deserialize, Serialize};

use super::{OpError, ValueType, config, wants};

/// A function of each element.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// `max(x, 0)`.
    Relu,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
    /// `x` where it is positive, else `alpha (exp(x) - 1)` (Clevert et al. 2016).
    Elu(Alpha),
    /// `x Phi(x)` with the normal distribution's `Phi` (Hendrycks and Gimpel 2016).
    Gelu,
    /// [`Activation::Gelu`] by its approximation `x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`.
    GeluTanh,
    /// `max(0, min(1, alpha x + beta))`.
    HardSigmoid(Line),
    /// `x max(0, min(1, x / 6 + 1 / 2))` (Howard et al. 2019).
    HardSwish,
    /// `x` where it is positive, else `alpha x`.
    LeakyRelu(Alpha),
    /// `x tanh(softplus(x))` (Misra 2019).
    Mish,
    /// `gamma x` where `x` is positive, else `gamma alpha (exp(x) - 1)` (Klambauer et al. 2017).
    Selu(Scaled),
    /// `x sigmoid(alpha x)`; with alpha 1 also called SiLU (Ramachandran et al. 2017).
    Swish(Alpha),
    /// `log(1 + exp(x))`.
    Softplus,
    /// `x / (1 + |x|)`.
    Softsign,
}

/// The one number of an activation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alpha {
    /// See the activation.
    pub alpha: f64,
}

/// The two numbers of a line.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// The slope.
    pub alpha: f64,
    /// The value at 0.
    pub beta: f64,
}

/// The two numbers of [`Activation::Selu`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scaled {
    /// The factor of the negative side.
    pub alpha: f64,
    /// The factor of both.
    pub gamma: f64,
}

impl Activation {
    /// All of them, with their usual numbers.
    pub const ALL: [Activation; 14] = [
        Activation::Relu,
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::Elu(Alpha { alpha: 1.0 }),
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::HardSigmoid(Line { alpha: 0.2, beta: 0.5 }),
        Activation::HardSwish,
        Activation::LeakyRelu(Alpha { alpha: 0.01 }),
        Activation::Mish,
        Activation::Selu(Scaled { alpha: 1.673_263_192_176_818_8, gamma: 1.050_701_022_148_132_3 }),
        Activation::Swish(Alpha { alpha: 1.0 }),
        Activation::Softplus,
        Activation::Softsign,
    ];

    /// The name in files and tables.
    pub fn name(self) -> &'static str {
        match self {
            Activation::Relu => "Relu",
            Activation::Sigmoid => "Sigmoid",
            Activation::Tanh => "Tanh",
            Activation::Elu(_) => "Elu",
            Activation::Gelu => "Gelu",
            Activation::GeluTanh => "GeluTanh",
            Activation::HardSigmoid(_) => "HardSigmoid",
            Activation::HardSwish => "HardSwish",
            Activation::LeakyRelu(_) => "LeakyRelu",
            Activation::Mish => "Mish",
            Activation::Selu(_) => "Selu",
            Activation::Swish(_) => "Swish",
            Activation::Softplus => "Softplus",
            Activation::Softsign => "Softsign",
        }
    }

    /// The value and the derivative at `x`.
    pub fn at(self, x: f64) -> (f64, f64) {
        let step = |negative: (f64, f64)| if x > 0.0 { (x, 1.0) } else { negative };
        match self {
            // Written so that NaN passes.
            Activation::Relu => (if x < 0.0 { 0.0 } else { x }, if x > 0.0 { 1.0 } else { 0.0 }),
            Activation::Sigmoid => {
                let y = sigmoid(x);
                (y, y * (1.0 - y))
            }
            Activation::Tanh => (x.tanh(), 1.0 - x.tanh().powi(2)),
            Activation::Elu(Alpha { alpha }) => step((alpha * x.exp_m1(), alpha * x.exp())),
            Activation::Gelu => {
                let (phi, density) =
                    (0.5 * (1.0 + libm::erf(x / 2f64.sqrt())), (-x * x / 2.0).exp() / (std::f64::consts::TAU).sqrt());
                (x * phi, phi + x * density)
            }
            Activation::GeluTanh => {
                let c = (2.0 / std::f64::consts::PI).sqrt();
                let t = (c * (x + 0.044715 * x.powi(3))).tanh();
                (0.5 * x * (1.0 + t), 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * c * (1.0 + 3.0 * 0.044715 * x * x))
            }
            Activation::HardSigmoid(Line { alpha, beta }) => hard(alpha, alpha * x + beta),
            Activation::HardSwish => {
                let (gate, slope) = hard(1.0 / 6.0, x / 6.0 + 0.5);
                (x * gate, gate + x * slope)
            }
            Activation::LeakyRelu(Alpha { alpha }) => step((alpha * x, alpha)),
            Activation::Mish => {
                let (t, s) = (softplus(x).tanh(), sigmoid(x));
                (x * t, t + x * s * (1.0 - t * t))
            }
            Activation::Selu(Scaled { alpha, gamma }) => {
                let (y, slope) = step((alpha * x.exp_m1(), alpha * x.exp()));
                (gamma * y, gamma * slope)
            }
            Activation::Swish(Alpha { alpha }) => {
                let s = sigmoid(alpha * x);
                (x * s, s + x * alpha * s * (1.0 - s))
            }
            Activation::Softplus => (softplus(x), sigmoid(x)),
            Activation::Softsign => (x / (1.0 + x.abs()), (1.0 + x.abs()).powi(-2)),
        }
    }

    pub(super) fn infer(self, x: &ValueType) -> Result<ValueType, OpError> {
        let numbers: &[(&'static str, f64)] = match self {
            Activation::Elu(c) | Activation::LeakyRelu(c) | Activation::Swish(c) => &[("alpha", c.alpha)],
            Activation::HardSigmoid(c) => &[("alpha", c.alpha), ("beta", c.beta)],
            Activation::Selu(c) => &[("alpha", c.alpha), ("gamma", c.gamma)],
            _ => &[],
        };
        if let Some((field, number)) = numbers.iter().find(|(_, number)| !(*number as f32).is_finite()) {
            return Err(config(self.name(), field, format!("must be a finite 32-bit number, is {number}")));
        }
        match (x.dtype.is_float(), self) {
            // ONNX has ReLU for whole numbers, too.
            (true, _) | (_, Activation::Relu) => Ok(x.clone()),
            _ => Err(wants(self.name(), "floating point numbers", x)),
        }
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// `line` between 0 and 1, and its slope there.
fn hard(slope: f64, line: f64) -> (f64, f64) {
    if line <= 0.0 {
        (0.0, 0.0)
    } else if line >= 1.0 {
        (1.0, 0.0)
    } else {
        (line, slope)
    }
}
