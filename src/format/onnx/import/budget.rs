//! What reading a graph may cost: bytes that are computed before the network runs, work for them, and values.
//!
//! A file of a kilobyte may ask for any amount of each. All walks over a file share one budget; what one of them computed
//! and another finds to be the same costs no bytes again.

use std::cell::Cell;

use crate::graph::dim::Sizes;
use crate::graph::{Op, ValueType};

/// So many bytes a file's graph may compute before it runs, beside four times its tensors: tables of places, masks.
const MAX_FOLDED: u64 = 64 << 20;
/// So many elements may be read, written or multiplied meanwhile, beside 16 times the bytes of its tensors.
const MAX_WORK: u64 = 1 << 28;
/// So many values all walks together may read and write. The four walks over the largest file that can become a graph
/// need less.
const MAX_VALUES: u64 = 1 << 21;
/// So many operators that run one walk may have: patterns of several become one, but not that many.
pub(super) const MAX_STEPS: u32 = 60_000;

/// What is left.
pub(super) struct Budget {
    bytes: Cell<u64>,
    work: Cell<u64>,
    values: Cell<u64>,
}

/// More than what is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Beyond {
    /// What was asked for.
    pub(in super::super) asked: u64,
    /// What was left.
    pub(in super::super) left: u64,
}

impl Budget {
    /// For a file whose tensors have so many bytes.
    pub(super) fn new(tensors: u64) -> Self {
        Self {
            bytes: Cell::new(MAX_FOLDED.saturating_add(tensors.saturating_mul(4))),
            work: Cell::new(MAX_WORK.saturating_add(tensors.saturating_mul(16))),
            values: Cell::new(MAX_VALUES),
        }
    }

    /// Takes bytes that are computed.
    pub(super) fn bytes(&self, asked: u64) -> Result<(), Beyond> {
        take(&self.bytes, asked)
    }

    /// Takes work.
    pub(super) fn work(&self, asked: u64) -> Result<(), Beyond> {
        take(&self.work, asked)
    }

    /// Takes values.
    pub(super) fn values(&self, asked: usize) -> Result<(), Beyond> {
        take(&self.values, asked as u64)
    }
}

fn take(of: &Cell<u64>, asked: u64) -> Result<(), Beyond> {
    let left = of.get();
    of.set(left.checked_sub(asked).ok_or(Beyond { asked, left })?);
    Ok(())
}

/// The bytes of a value of fixed sizes.
pub(super) fn bytes(ty: &ValueType) -> u64 {
    elements(ty).saturating_mul(ty.dtype.size() as u64)
}

fn elements(ty: &ValueType) -> u64 {
    ty.shape.iter().map(|d| d.fixed().unwrap_or(usize::MAX) as u64).fold(1, u64::saturating_mul)
}

/// The work of an operator: what it reads, what it writes, and what it multiplies or compares on the way.
pub(super) fn work(op: &Op, inputs: &[&ValueType], params: &[&[usize]], outputs: &[ValueType]) -> u64 {
    let product = |sizes: &[usize]| sizes.iter().map(|d| *d as u64).fold(1, u64::saturating_mul);
    let written = outputs.iter().map(elements).fold(0, u64::saturating_add);
    let read = inputs.iter().map(|ty| elements(ty)).fold(0, u64::saturating_add);
    let given = params.iter().map(|shape| product(shape)).fold(0, u64::saturating_add);
    let inner = match op {
        Op::MaxPool2d(config) => written.saturating_mul(product(&config.window.kernel)),
        Op::AvgPool2d(config) => written.saturating_mul(product(&config.window.kernel)),
        Op::MaxPool1d(config) => written.saturating_mul(config.window.kernel as u64),
        Op::AvgPool1d(config) => written.saturating_mul(config.window.kernel as u64),
        // What it says of itself is for one sample.
        Op::Lstm(_) | Op::Gru(_) => {
            let samples = inputs.first().and_then(|x| x.shape.get(1)?.at(Sizes::of_batch(1))).unwrap_or(1);
            op.macs(inputs, params, written).saturating_mul(samples as u64)
        }
        _ => op.macs(inputs, params, written),
    };
    [written, read, given, inner].into_iter().fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Dim;
    use crate::graph::op::{AvgPool2d, Window};
    use crate::tensor::DType;

    fn of(shape: &[usize]) -> ValueType {
        ValueType::new(DType::F32, shape.iter().map(|n| Dim::Fixed(*n)).collect())
    }

    #[test]
    fn work_is_what_a_plain_loop_does() {
        let (a, b, y) = (of(&[3, 4, 5]), of(&[3, 5, 6]), of(&[3, 4, 6]));
        assert_eq!(work(&Op::MatMul, &[&a, &b], &[], &[y]), 60 + 90 + 72 + 72 * 5);
        let pool = Op::AvgPool2d(AvgPool2d { window: Window::sliding(3, 1), count_padding: false, overhang: [0; 2] });
        assert_eq!(work(&pool, &[&of(&[1, 2, 8, 8])], &[], &[of(&[1, 2, 8, 8])]), 2 * 128 + 128 * 9);
        assert_eq!(work(&Op::Linear, &[&of(&[2, 3])], &[&[7, 3]], &[of(&[2, 7])]), 6 + 21 + 14 + 14 * 3);
        let huge = of(&[usize::MAX, usize::MAX]);
        assert_eq!(work(&Op::MatMul, &[&huge, &huge], &[], std::slice::from_ref(&huge)), u64::MAX);
    }

    #[test]
    fn what_is_taken_is_gone() {
        let budget = Budget::new(1);
        budget.bytes(MAX_FOLDED).unwrap();
        assert_eq!(budget.bytes(5), Err(Beyond { asked: 5, left: 4 }));
        budget.bytes(4).unwrap();
        budget.work(MAX_WORK + 16).unwrap();
        assert_eq!(budget.work(1), Err(Beyond { asked: 1, left: 0 }));
        budget.values(1 << 21).unwrap();
        assert_eq!(budget.values(1), Err(Beyond { asked: 1, left: 0 }));
    }
}
