//! Knowledge distillation (Hinton, Vinyals and Dean 2015, "Distilling the knowledge in a neural network"): a student
//! learns what a teacher makes of the same samples, beside or instead of the labels.
//!
//! With the teacher's outputs `z`, the student's `x`, both `[n, classes]`, and a temperature `T`:
//!
//! ```text
//! p = softmax(z / T)        q = softmax(x / T)
//! loss = (1 - hard_weight) * T^2 * KL(p || q) + hard_weight * CE(x, label)        KL(p || q) = sum_j p_j log(p_j / q_j)
//! ```
//!
//! The mean over the batch is taken. A high temperature shows how the teacher ranks the wrong classes. The gradient of
//! `KL` at `x` is `(q - p) / T`, where `q - p` itself falls as `1 / T`: with the factor `T^2` it stays as large as it is,
//! and for large `T` it becomes `(x - z) / classes`, both without their means over the classes: the regression of outputs.
//!
//! The teacher sees the very batch that the student sees. It never learns.

mod objective;
#[cfg(test)]
mod tests;

use thiserror::Error;

use crate::error::{Classify, Kind, Violation};

pub use objective::Distill;

/// Why a teacher does not teach.
#[derive(Debug, Error, PartialEq)]
pub enum DistillError {
    /// The teacher tells other classes apart than the student.
    #[error("the teacher has {teacher} classes, the student {student}")]
    Classes {
        /// The teacher's.
        teacher: usize,
        /// The student's.
        student: usize,
    },
    /// The teacher takes other samples than the student.
    #[error("the teacher takes samples of {teacher} values, the student's have {student}")]
    Inputs {
        /// Values of a sample that the teacher takes.
        teacher: usize,
        /// Values of a sample that the student learns from.
        student: usize,
    },
    /// The teacher's outputs are no numbers.
    #[error("the teacher's outputs are not finite")]
    NotFinite,
}

impl Classify for DistillError {
    fn kind(&self) -> Kind {
        match self {
            DistillError::Classes { .. } | DistillError::Inputs { .. } => Kind::InvalidArgument,
            DistillError::NotFinite => Kind::FailedPrecondition,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            DistillError::Classes { .. } | DistillError::Inputs { .. } => "TEACHER_MISFIT",
            DistillError::NotFinite => "TEACHER_NOT_FINITE",
        }
    }

    fn violations(&self) -> Vec<Violation> {
        vec![Violation::new("distill.teacher", self.to_string())]
    }
}
