//! Operators of any number of arguments and results, as functions of plain numbers.
//!
//! The older kernels have the form of candle's operators, which take up to three arguments and give one result. This form
//! knows nothing of candle: shapes and slices in, shapes and numbers out.

use candle_core::{Error, Result};

/// The numbers of an argument or a result, with their shape.
#[derive(Debug, Clone, Copy)]
pub struct Array<'a> {
    /// The sizes of the axes.
    pub shape: &'a [usize],
    /// The numbers, in row-major order.
    pub values: &'a [f32],
}

/// A result.
#[derive(Debug, Clone, PartialEq)]
pub struct Made {
    /// The sizes of the axes.
    pub shape: Vec<usize>,
    /// The numbers, in row-major order.
    pub values: Vec<f32>,
}

/// What a backward pass goes by.
pub struct Back<'a> {
    /// The arguments of the forward pass.
    pub args: &'a [Array<'a>],
    /// Its results: those that are seen, perhaps rounded, and those that were kept for this pass.
    pub ys: &'a [Array<'a>],
    /// The gradient at each result that leads anywhere; one at least.
    pub dys: &'a [Option<Array<'a>>],
    /// At which arguments a gradient is asked for.
    pub wanted: &'a [bool],
}

/// An operator with its configuration.
pub trait Operator: Send + Sync {
    /// Its name in errors.
    fn name(&self) -> &'static str;

    /// The results; behind those of the operator there may be others, which are kept for the backward pass.
    fn forward(&self, args: &[Array<'_>]) -> Result<Vec<Made>>;

    /// The gradient at each argument, with the argument's shape; `None` where none is wanted or all is zero.
    fn backward(&self, back: &Back<'_>) -> Result<Vec<Option<Vec<f32>>>>;
}

impl Made {
    /// Numbers of that shape.
    pub(super) fn new(shape: impl Into<Vec<usize>>, values: Vec<f32>) -> Self {
        Self { shape: shape.into(), values }
    }
}

impl Back<'_> {
    /// The gradient at the only result.
    pub(super) fn dy(&self) -> &[f32] {
        self.dys[0].map_or(&[], |dy| dy.values)
    }

    /// `gradient` of each argument that is wanted.
    pub(super) fn each(&self, gradient: impl FnMut(usize) -> Vec<f32>) -> Vec<Option<Vec<f32>>> {
        let mut gradient = gradient;
        self.wanted.iter().enumerate().map(|(i, wanted)| wanted.then(|| gradient(i))).collect()
    }
}

/// Exactly `N` arguments.
pub(super) fn exactly<'a, const N: usize>(op: &'static str, args: &[Array<'a>]) -> Result<[Array<'a>; N]> {
    args.try_into().map_err(|_| Error::Msg(format!("{op} of {} arguments", args.len())))
}

/// Numbers before, along and after an axis.
pub(super) fn around(op: &'static str, shape: &[usize], axis: usize) -> Result<[usize; 3]> {
    let Some(size) = shape.get(axis) else { return Err(Error::Msg(format!("{op}: {shape:?} has no axis {axis}"))) };
    Ok([shape[..axis].iter().product(), *size, shape[axis + 1..].iter().product()])
}
