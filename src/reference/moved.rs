//! Operators that move elements: by their bytes, whatever the number format.
//!
//! Where nothing moves, and where one part of the input is the output, the bytes are shared and not copied.

use super::array::{Numbers, count, wholes};
use super::{Output, ReferenceError};
use crate::graph::Op;
use crate::graph::dim::{Dim, Sizes};
use crate::graph::op::{Expand, Moves, OpError, Places, Run};
use crate::tensor::{DType, TensorData, TensorError};

/// The outputs of an operator that has [`Op::moves`]; `None` of all others.
pub fn eval(
    op: &Op,
    inputs: &[&TensorData],
    params: &[&TensorData],
    sizes: Sizes,
) -> Option<Result<Vec<TensorData>, ReferenceError>> {
    let (x, places) = match (op, inputs, params) {
        (Op::Embedding, [places], [table, ..]) => (*table, Some(*places)),
        (_, [x], _) => (*x, None),
        (Op::Gather(_) | Op::GatherElements(_) | Op::GatherNd(_), [x, places], _) => (*x, Some(*places)),
        _ => return None,
    };
    // Whole numbers of 64 bits at most.
    let numbers: Option<Vec<i64>> = places.map(|places| wholes(places).into_iter().map(|n| n as i64).collect());
    let places = places.zip(numbers.as_deref()).map(|(places, numbers)| Places { shape: places.shape(), numbers });
    let moves = op.moves(x.shape(), places, sizes)?;
    Some(moves.map_err(ReferenceError::from).and_then(|all| all.iter().map(|moves| Ok(carried(x, moves)?)).collect()))
}

/// A tensor with its elements moved.
pub fn carried(x: &TensorData, moves: &Moves) -> Result<TensorData, TensorError> {
    match x.dtype().size() {
        1 => carried_bytes::<1>(x, moves),
        2 => carried_bytes::<2>(x, moves),
        4 => carried_bytes::<4>(x, moves),
        _ => carried_bytes::<8>(x, moves),
    }
}

fn carried_bytes<const N: usize>(x: &TensorData, moves: &Moves) -> Result<TensorData, TensorError> {
    if let Some(from) = one_part(moves, x.elements()) {
        let bytes = x.bytes().slice(from * N..(from + count(moves.shape())) * N);
        return TensorData::new(x.dtype(), moves.shape().to_vec(), bytes);
    }
    let fill = Numbers::Real(vec![moves.fill]).tensor(x.dtype(), vec![1])?;
    let fill = fill.bytes().as_chunks::<N>().0.first().copied().unwrap_or([0; N]);
    let carried = carry(x.bytes().as_chunks::<N>().0, moves, fill);
    TensorData::new(x.dtype(), moves.shape().to_vec(), carried.into_flattened())
}

/// The first element of the one part of the input that is the output. A small part is better copied, so that the rest does
/// not stay in memory for its sake.
fn one_part(moves: &Moves, source: usize) -> Option<usize> {
    let count = count(moves.shape());
    if moves.rows() != 1 || count < source / 2 || count == 0 {
        return None;
    }
    let mut start = None;
    moves.runs(|run| match run {
        Run { to: 0, from: Some(from), count: whole, step: 1 } if whole == count => start = Some(from),
        _ => {}
    });
    start
}

/// Numbers moved.
pub fn carry<T: Copy>(x: &[T], moves: &Moves, fill: T) -> Vec<T> {
    let mut out = vec![fill; count(moves.shape())];
    moves.runs(|run| {
        let to = &mut out[run.to..run.to + run.count];
        match (run.from, run.step) {
            (None, _) => {}
            (Some(from), 0) => to.fill(x[from]),
            (Some(from), 1) => to.copy_from_slice(&x[from..from + run.count]),
            (Some(mut from), step) => {
                for to in to {
                    *to = x[from];
                    from = from.wrapping_add_signed(step);
                }
            }
        }
    });
    out
}

/// How a shape is broadcast to another.
pub fn expansion(from: &[usize], to: &[usize]) -> Result<Moves, OpError> {
    let expand = Op::Expand(Expand { shape: to.iter().map(|size| Dim::Fixed(*size)).collect() });
    let moves = expand.moves(from, None, Sizes::of_batch(1)).transpose()?;
    // An expansion is one of the operators that move, and has one output.
    Ok(moves.unwrap_or_default().remove(0))
}

/// Numbers broadcast to another shape.
pub fn expanded<T: Copy + Default>(x: Vec<T>, from: &[usize], to: &[usize]) -> Result<Vec<T>, OpError> {
    if from == to {
        return Ok(x);
    }
    Ok(carry(&x, &expansion(from, to)?, T::default()))
}

/// Inputs side by side along an axis.
pub fn concat(axis: usize, inputs: &[&TensorData], output: &Output) -> Result<TensorData, ReferenceError> {
    if let [only] = inputs {
        return Ok((*only).clone());
    }
    let size = output.dtype.size();
    let mut bytes = vec![0; output.count() * size];
    let mut start = 0;
    for x in inputs {
        let moves = Moves::part("Concat", &output.shape, axis, start, x.shape()[axis])?;
        moves.runs(|run| match (run.from, run.step) {
            (Some(to), 1) => {
                let own = &x.bytes()[run.to * size..(run.to + run.count) * size];
                bytes[to * size..(to + run.count) * size].copy_from_slice(own);
            }
            (Some(mut to), step) => {
                for own in x.bytes()[run.to * size..(run.to + run.count) * size].chunks_exact(size) {
                    bytes[to * size..(to + 1) * size].copy_from_slice(own);
                    to = to.wrapping_add_signed(step);
                }
            }
            // No part of an output comes from nowhere.
            (None, _) => {}
        });
        start += x.shape()[axis];
    }
    Ok(TensorData::new(output.dtype, output.shape.clone(), bytes)?)
}

/// `a` where the condition is true, else `b`.
pub fn choose(
    condition: &TensorData,
    a: &TensorData,
    b: &TensorData,
    output: &Output,
) -> Result<TensorData, ReferenceError> {
    let wide = |x: &TensorData| Ok::<_, ReferenceError>(carried(x, &expansion(x.shape(), &output.shape)?)?);
    let (condition, a, b) = (wide(condition)?, wide(a)?, wide(b)?);
    let size = a.dtype().size();
    let choices = condition.bytes().iter().zip(a.bytes().chunks_exact(size).zip(b.bytes().chunks_exact(size)));
    let mut bytes = Vec::with_capacity(output.count() * size);
    for (condition, (a, b)) in choices {
        bytes.extend_from_slice(if *condition != 0 { a } else { b });
    }
    Ok(TensorData::new(a.dtype(), output.shape.clone(), bytes)?)
}

/// The sizes of a value's axes.
pub fn sizes(x: &TensorData) -> Result<TensorData, TensorError> {
    let sizes: Vec<i128> = x.shape().iter().map(|size| *size as i128).collect();
    Numbers::Whole(sizes).tensor(DType::I64, vec![x.shape().len()])
}

#[cfg(test)]
mod tests {
    use super::super::testing::{one, real, tensor};
    use super::*;
    use crate::graph::op::{Concat, Fill, Pad, Reverse, Slice, Split, Transpose};
    use proptest::prelude::*;

    #[test]
    fn every_format_is_padded_and_turned() {
        let pad = Op::Pad(Pad { axis: 0, before: 1, after: 0, fill: Fill::Value(2.0) });
        for dtype in DType::ALL {
            let x = tensor(dtype, &[2], &[1.0, 0.0]);
            let two = if dtype == DType::Bool { 1.0 } else { 2.0 };
            assert_eq!(one(&pad, &[&x], &[]), tensor(dtype, &[3], &[two, 1.0, 0.0]));
            assert_eq!(one(&Op::Reverse(Reverse { axis: 0 }), &[&x], &[]), tensor(dtype, &[2], &[0.0, 1.0]));
        }
    }

    #[test]
    fn bytes_are_shared_where_nothing_moves() {
        let x = real(&[4, 2], &[1.0; 8]);
        let start = x.bytes().as_ptr();
        assert_eq!(one(&Op::Flatten, &[&x], &[]).bytes().as_ptr(), start);
        let rows = one(&Op::Slice(Slice::places(0, 1, 4, 1)), &[&x], &[]);
        assert_eq!(rows.bytes().as_ptr(), start.wrapping_add(8));
        // Of a large value a small part is copied.
        let row = one(&Op::Slice(Slice::places(0, 1, 2, 1)), &[&x], &[]);
        assert_ne!(row.bytes().as_ptr(), start.wrapping_add(8));
    }

    #[test]
    fn a_choice_is_broadcast() {
        let condition = tensor(DType::Bool, &[2, 1], &[1.0, 0.0]);
        let (a, b) = (tensor(DType::I16, &[2], &[1.0, 2.0]), tensor(DType::I16, &[], &[9.0]));
        let y = one(&Op::Where, &[&condition, &a, &b], &[]);
        assert_eq!(y, tensor(DType::I16, &[2, 2], &[1.0, 2.0, 9.0, 9.0]));
    }

    #[test]
    fn an_embedding_looks_rows_up() {
        let table = tensor(DType::F16, &[3, 2], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let places = tensor(DType::I32, &[2], &[2.0, -3.0]);
        assert_eq!(one(&Op::Embedding, &[&places], &[&table]), real(&[2, 2], &[4.0, 5.0, 0.0, 1.0]));
    }

    proptest! {
        #[test]
        fn what_is_split_and_joined_is_what_it_was(
            before in 1usize..3, after in 1usize..3, parts in prop::collection::vec(0usize..4, 1..4),
        ) {
            let shape = [before, parts.iter().sum(), after];
            let x = real(&shape, &(0..shape.iter().product()).map(|n| n as f64).collect::<Vec<_>>());
            let split = Op::Split(Split { axis: 1, sizes: parts.iter().map(|n| Dim::Fixed(*n)).collect() });
            let parts = super::super::testing::eval(&split, &[&x], &[]).unwrap();
            let parts: Vec<&TensorData> = parts.iter().collect();
            prop_assert_eq!(one(&Op::Concat(Concat { axis: 1 }), &parts, &[]), x);
        }

        #[test]
        fn a_transpose_is_that_of_coordinates(h in 1usize..4, w in 1usize..4, c in 1usize..4) {
            let numbers: Vec<f64> = (0..h * w * c).map(|n| n as f64).collect();
            let y = one(&Op::Transpose(Transpose { axes: vec![2, 0, 1] }), &[&real(&[h, w, c], &numbers)], &[]);
            let at = |k: usize, i: usize, j: usize| numbers[(i * w + j) * c + k];
            let expected: Vec<f64> =
                (0..c).flat_map(|k| (0..h).flat_map(move |i| (0..w).map(move |j| at(k, i, j)))).collect();
            prop_assert_eq!(y, real(&[c, h, w], &expected));
        }
    }
}
