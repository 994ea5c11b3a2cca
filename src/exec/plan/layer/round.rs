//! Values in half precision: numbers are rounded where they are. Gradients pass as if they were not.

use niwaki_kernels::convert::{round_to_bf16, round_to_f16};

use super::super::compile::Compiler;
use super::{Layer, Room, Run};
use crate::tensor::DType;

pub(in super::super) struct Round {
    pub(in super::super) room: Room,
    pub(in super::super) to: DType,
}

impl Layer for Round {
    fn forward(&self, run: &mut Run<'_>) {
        let ([], [numbers]) = run.memory.views([], [self.room]);
        match self.to {
            DType::BF16 => round_to_bf16(numbers),
            _ => round_to_f16(numbers),
        }
    }

    fn plan_backward(&mut self, _compiler: &mut Compiler<'_>) {}

    fn backward(&self, _run: &mut Run<'_>) {}
}
