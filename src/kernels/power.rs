//! Powers with exponents that are no argument: whole numbers, at which there is no gradient.

use candle_core::Result;

use super::Kernel;
use super::binary::Pairs;
use super::operator::{Array, Back, Made, Operator, exactly};

/// The elements to the power of `exponents`, numbers of shape `shape`; both are broadcast.
pub fn power(shape: &[usize], exponents: Vec<f32>) -> Kernel {
    Kernel::of(Power { shape: shape.to_vec(), exponents })
}

struct Power {
    shape: Vec<usize>,
    exponents: Vec<f32>,
}

impl Power {
    fn exponents(&self) -> Array<'_> {
        Array { shape: &self.shape, values: &self.exponents }
    }
}

impl Operator for Power {
    fn name(&self) -> &'static str {
        "Pow"
    }

    fn forward(&self, args: &[Array<'_>]) -> Result<Vec<Made>> {
        let [a] = exactly(self.name(), args)?;
        Pairs::POWER.forward(&[a, self.exponents()])
    }

    fn backward(&self, back: &Back<'_>) -> Result<Vec<Option<Vec<f32>>>> {
        let [a] = exactly(self.name(), back.args)?;
        let args = [a, self.exponents()];
        let both = Back { args: &args, wanted: &[back.wanted[0], false], ys: back.ys, dys: back.dys };
        Pairs::POWER.backward(&both)
    }
}
