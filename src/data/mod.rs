//! Data sets: labelled samples, their transforms and their splits.

mod spec;

pub use spec::{DataSource, DataSpec, IdxPair, SplitSpec, Transform};
