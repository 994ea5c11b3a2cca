//! What is computed element by element: arithmetic, comparisons, choices, conversions.

use serde::{Deserialize, Serialize};

use super::{OpError, ValueType, broadcast, config, wants};
use crate::tensor::DType;

macro_rules! names {
    ($(#[$doc:meta])* $enum:ident { $($(#[$variant_doc:meta])* $variant:ident,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $enum {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $enum {
            /// All of them.
            pub const ALL: &[$enum] = &[$($enum::$variant,)*];

            /// The name in files and tables; ONNX's, too.
            pub fn name(self) -> &'static str {
                match self {
                    $($enum::$variant => stringify!($variant),)*
                }
            }
        }
    };
}
pub(super) use names;

names! {
    /// A function of each element.
    Unary {
        /// The absolute value.
        Abs,
        /// The smallest whole number that is not below.
        Ceil,
        /// The cosine.
        Cos,
        /// The error function.
        Erf,
        /// The exponential.
        Exp,
        /// The largest whole number that is not above.
        Floor,
        /// Whether it is no number.
        IsNaN,
        /// The natural logarithm.
        Log,
        /// The number with the other sign.
        Neg,
        /// Whether it is false.
        Not,
        /// One by it.
        Reciprocal,
        /// The nearest whole number, half to even.
        Round,
        /// -1, 0 or 1.
        Sign,
        /// The sine.
        Sin,
        /// The square root.
        Sqrt,
    }
}

names! {
    /// A function of two elements; shapes are broadcast as in NumPy.
    Binary {
        /// The sum.
        Add,
        /// Whether both are true.
        And,
        /// The quotient; of whole numbers, rounded towards 0.
        Div,
        /// The larger.
        Max,
        /// The smaller.
        Min,
        /// The remainder with the sign of the divisor (Python's).
        Mod,
        /// The remainder with the sign of the dividend (C's `fmod`).
        Fmod,
        /// The product.
        Mul,
        /// Whether one of them is true, or both.
        Or,
        /// The first to the power of the second.
        Pow,
        /// The difference.
        Sub,
        /// Whether one of them is true, but not both.
        Xor,
    }
}

names! {
    /// A comparison of two elements, broadcast.
    Compare {
        /// Equal.
        Equal,
        /// The first is larger.
        Greater,
        /// The first is not smaller.
        GreaterOrEqual,
        /// The first is smaller.
        Less,
        /// The first is not larger.
        LessOrEqual,
    }
}

/// Each element brought between two bounds: first not below `min`, then not above `max`.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clip {
    /// The lower bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The upper bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

/// The same numbers in another format: rounded to nearest even to a float, towards 0 to a whole number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cast {
    /// The format.
    pub to: DType,
}

impl Unary {
    pub(super) fn infer(self, x: &ValueType) -> Result<ValueType, OpError> {
        let boolean = x.dtype == DType::Bool;
        match self {
            Unary::Not if boolean => Ok(x.clone()),
            Unary::IsNaN if x.dtype.is_float() => Ok(ValueType::new(DType::Bool, x.shape.clone())),
            Unary::Abs | Unary::Neg | Unary::Sign if !boolean => Ok(x.clone()),
            Unary::Not | Unary::IsNaN | Unary::Abs | Unary::Neg | Unary::Sign => {
                Err(wants(self.name(), "other numbers", x))
            }
            _ if x.dtype.is_float() => Ok(x.clone()),
            _ => Err(wants(self.name(), "floating point numbers", x)),
        }
    }
}

impl Binary {
    pub(super) fn infer(self, a: &ValueType, b: &ValueType) -> Result<ValueType, OpError> {
        let boolean = matches!(self, Binary::And | Binary::Or | Binary::Xor);
        // ONNX lets an exponent be of another type.
        let fits = (a.dtype == b.dtype || self == Binary::Pow) && (a.dtype == DType::Bool) == boolean;
        let shape = broadcast(&a.shape, &b.shape).filter(|_| fits);
        Ok(a.with(shape.ok_or_else(|| wants(self.name(), format!("that goes with {a}"), b))?))
    }
}

impl Compare {
    pub(super) fn infer(self, a: &ValueType, b: &ValueType) -> Result<ValueType, OpError> {
        let shape = broadcast(&a.shape, &b.shape).filter(|_| a.dtype == b.dtype);
        let shape = shape.ok_or_else(|| wants(self.name(), format!("that goes with {a}"), b))?;
        Ok(ValueType::new(DType::Bool, shape))
    }
}

impl Clip {
    pub(super) fn infer(&self, x: &ValueType) -> Result<ValueType, OpError> {
        for (field, bound) in [("min", self.min), ("max", self.max)] {
            if bound.is_some_and(f64::is_nan) {
                return Err(config("Clip", field, "is no number".into()));
            }
        }
        if x.dtype == DType::Bool { Err(wants("Clip", "numbers", x)) } else { Ok(x.clone()) }
    }
}

/// `a` where `condition` is true, else `b`; all three broadcast.
pub(super) fn choose(condition: &ValueType, a: &ValueType, b: &ValueType) -> Result<ValueType, OpError> {
    if condition.dtype != DType::Bool {
        return Err(wants("Where", "truth values first", condition));
    }
    let shape = broadcast(&a.shape, &b.shape).filter(|_| a.dtype == b.dtype);
    let shape = shape.and_then(|shape| broadcast(&condition.shape, &shape));
    Ok(a.with(shape.ok_or_else(|| wants("Where", format!("that goes with {condition} and {a}"), b))?))
}
