//! What only moves elements: each comes from a place of the argument, or is filled in.
//!
//! ```text
//!   y[to] = x[from(to)], or the fill       dx[from] = sum over all that came from there of dy[to], in index order
//! ```

use candle_core::{Error, Result};
use rayon::prelude::*;

use super::Kernel;
use super::operator::{Array, Back, Made, Operator, exactly};
use crate::graph::op::{Moves, Run};

/// Elements that a thread takes at once, about.
const CHUNK: usize = 1 << 14;

/// One result for each of `moves`, which are of values of shape `x`.
pub fn moves(op: &'static str, x: &[usize], moves: Vec<Moves>) -> Kernel {
    Kernel::of(Mover { op, source: x.to_vec(), moves })
}

/// The arguments side by side: each is `parts[i]` of the result of shape `shape`.
pub fn concat(shape: Vec<usize>, parts: Vec<Moves>) -> Kernel {
    Kernel::of(Joiner { shape, parts })
}

struct Mover {
    op: &'static str,
    source: Vec<usize>,
    moves: Vec<Moves>,
}

struct Joiner {
    shape: Vec<usize>,
    parts: Vec<Moves>,
}

/// The elements of `x` where `moves` brings them.
fn fetch(moves: &Moves, x: &[f32]) -> Vec<f32> {
    let (inner, fill) = (moves.inner(), moves.fill as f32);
    let mut y = vec![fill; moves.shape().iter().product()];
    let rows = (CHUNK / inner.max(1)).max(1);
    y.par_chunks_mut((rows * inner).max(1)).enumerate().for_each(|(chunk, y)| {
        let first = chunk * rows;
        moves.runs_of(first..first + y.len() / inner.max(1), |Run { to, from, count, step }| {
            let Some(from) = from else { return };
            let y = &mut y[to - first * inner..][..count];
            match step {
                1 => y.copy_from_slice(&x[from..from + count]),
                0 => y.fill(x[from]),
                _ => y.iter_mut().enumerate().for_each(|(i, y)| *y = x[from.wrapping_add_signed(i as isize * step)]),
            }
        });
    });
    y
}

/// Adds each of `dy` at the place in `dx` that its element came from.
fn bring_back(moves: &Moves, dx: &mut [f32], dy: &[f32]) {
    moves.runs(|Run { to, from, count, step }| {
        let Some(from) = from else { return };
        let dy = &dy[to..to + count];
        match step {
            1 => dx[from..from + count].iter_mut().zip(dy).for_each(|(dx, dy)| *dx += dy),
            0 => dx[from] += dy.iter().map(|dy| f64::from(*dy)).sum::<f64>() as f32,
            _ => dy.iter().enumerate().for_each(|(i, dy)| dx[from.wrapping_add_signed(i as isize * step)] += dy),
        }
    });
}

impl Operator for Mover {
    fn name(&self) -> &'static str {
        self.op
    }

    fn forward(&self, args: &[Array<'_>]) -> Result<Vec<Made>> {
        let [x] = exactly(self.op, args)?;
        if x.shape != self.source {
            return Err(Error::Msg(format!("{} of {:?}, made for {:?}", self.op, x.shape, self.source)));
        }
        Ok(self.moves.iter().map(|moves| Made::new(moves.shape(), fetch(moves, x.values))).collect())
    }

    fn backward(&self, back: &Back<'_>) -> Result<Vec<Option<Vec<f32>>>> {
        Ok(back.each(|_| {
            let mut dx = vec![0.0; back.args[0].values.len()];
            for (moves, dy) in self.moves.iter().zip(back.dys) {
                if let Some(dy) = dy {
                    bring_back(moves, &mut dx, dy.values);
                }
            }
            dx
        }))
    }
}

impl Operator for Joiner {
    fn name(&self) -> &'static str {
        "Concat"
    }

    fn forward(&self, args: &[Array<'_>]) -> Result<Vec<Made>> {
        let mut y = vec![0.0; self.shape.iter().product()];
        for (moves, x) in self.parts.iter().zip(args) {
            if moves.shape() != x.shape {
                return Err(Error::Msg(format!("Concat of {:?}, made for {:?}", x.shape, moves.shape())));
            }
            bring_back(moves, &mut y, x.values);
        }
        Ok(vec![Made::new(self.shape.as_slice(), y)])
    }

    fn backward(&self, back: &Back<'_>) -> Result<Vec<Option<Vec<f32>>>> {
        Ok(back.each(|which| fetch(&self.parts[which], back.dy())))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::graph::Op;
    use crate::graph::dim::Sizes;
    use crate::graph::op::{Expand, Fill, Pad, Reverse};
    use crate::kernels::testing::{gradients, result};

    fn run(op: Op, shape: &[usize], values: &[f32], dy: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let x = Tensor::from_slice(values, shape, &Device::Cpu).unwrap();
        let kernel = moves(op.name(), shape, op.moves(shape, None, Sizes::of_batch(1)).unwrap().unwrap());
        (result(&kernel, std::slice::from_ref(&x)).unwrap(), gradients(&kernel, &[x], dy).remove(0))
    }

    #[test]
    fn gradients_go_back_to_where_the_elements_came_from() {
        let mirrored = Op::Pad(Pad { axis: 0, before: 2, after: 0, fill: Fill::Reflect });
        let (y, dx) = run(mirrored, &[3], &[1.0, 2.0, 3.0], &[1.0, 10.0, 100.0, 1000.0, 10000.0]);
        assert_eq!((y, dx), (vec![3.0, 2.0, 1.0, 2.0, 3.0], vec![100.0, 1010.0, 10001.0]));
        let filled = Op::Pad(Pad { axis: 0, before: 1, after: 0, fill: Fill::Value(f64::NEG_INFINITY) });
        assert_eq!(run(filled, &[1], &[5.0], &[0.0, 2.0]), (vec![f32::NEG_INFINITY, 5.0], vec![2.0]));
        let backwards = Op::Reverse(Reverse { axis: 1 });
        assert_eq!(run(backwards, &[1, 2], &[1.0, 2.0], &[3.0, 4.0]), (vec![2.0, 1.0], vec![4.0, 3.0]));
        let wide = Op::Expand(Expand { shape: vec![2.into(), 3.into()] });
        let (y, dx) = run(wide, &[2, 1], &[1.0, 2.0], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!((y, dx), (vec![1.0, 1.0, 1.0, 2.0, 2.0, 2.0], vec![6.0, 15.0]));
    }
}
