//! An operator for known sizes: every open size of its configuration as a number.

use super::{Count, Expand, Op, OpError, Reshape, ResizeNearest, Slice, Split, Tile, config};
use crate::graph::dim::{Dim, Sizes};

impl Op {
    /// The same operator, whose configuration has the sizes that its open ones are. [`Op::infer`] says of it and of inputs of
    /// known sizes exactly what their outputs are, and refuses what was left open before.
    pub fn sized(&self, sizes: Sizes) -> Result<Op, OpError> {
        let one = |size: &Dim| {
            let number = size.at(sizes).map(Dim::Fixed);
            number.ok_or_else(|| config(self.name(), "shape", format!("has a size {size} that is none for {sizes:?}")))
        };
        let all = |shape: &[Dim]| shape.iter().map(one).collect::<Result<Vec<Dim>, OpError>>();
        Ok(match self {
            Op::Reshape(config) => Op::Reshape(Reshape { shape: all(&config.shape)? }),
            Op::Expand(config) => Op::Expand(Expand { shape: all(&config.shape)? }),
            Op::Tile(config) => Op::Tile(Tile { repeats: all(&config.repeats)? }),
            Op::Slice(config) => Op::Slice(Slice { start: one(&config.start)?, end: one(&config.end)?, ..*config }),
            Op::Split(config) => Op::Split(Split { sizes: all(&config.sizes)?, ..*config }),
            Op::ResizeNearest(config) => {
                Op::ResizeNearest(ResizeNearest { shape: all(&config.shape)?, ..config.clone() })
            }
            Op::Range(config) => Op::Range(Count { count: one(&config.count)? }),
            other => other.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::op::ValueType;
    use crate::tensor::DType;

    #[test]
    fn what_was_left_open_is_refused_when_it_is_known() {
        let slice = Op::Slice(Slice { axis: 0, start: 2.into(), end: Dim::SEQUENCE, step: 1 });
        let of = |sequence: usize, size: usize| {
            let sized = slice.sized(Sizes { batch: 1, sequence })?;
            sized.infer(&[&ValueType::new(DType::F32, vec![size.into()])], &[])
        };
        assert_eq!(of(5, 5).unwrap()[0].to_string(), "F32[3]");
        assert!(of(1, 5).is_err() && of(6, 5).is_err());
        let negative = Op::Range(Count { count: "S-4".parse().unwrap() });
        assert!(negative.sized(Sizes { batch: 1, sequence: 3 }).is_err());
    }
}
