//! Where the parameters lie in the flat buffers.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use crate::graph::{Graph, ParamId};

/// Where a parameter lies in the flat buffers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamView {
    /// The parameter.
    pub id: ParamId,
    /// Its name.
    pub name: String,
    /// Its places in the buffers, in row-major order; none if it is of whole numbers.
    pub range: Range<usize>,
}

/// Where each parameter lies, trained ones first, and how many numbers are trained.
pub(super) fn layout(graph: &Graph, frozen: &HashSet<ParamId>) -> (Vec<ParamView>, usize) {
    let statistics = graph.statistics();
    let is_trained = |id: &ParamId| !statistics.contains(id) && !frozen.contains(id);
    let (trained, rest): (Vec<ParamId>, Vec<ParamId>) = graph.param_ids().partition(is_trained);
    let mut end = 0;
    let mut place = |id: ParamId| {
        let (param, start) = (graph.param(id), end);
        // Whole numbers are not computed with; their place is empty.
        end += if param.data.dtype().is_float() { param.data.elements() } else { 0 };
        ParamView { id, name: param.name.clone(), range: start..end }
    };
    let mut views: Vec<ParamView> = trained.into_iter().map(&mut place).collect();
    let trained = views.last().map_or(0, |view| view.range.end);
    views.extend(rest.into_iter().map(place));
    views.sort_by_key(|view| view.id);
    (views, trained)
}

/// Sets what is masked to zero, in a buffer that may end before the last parameters.
pub(super) fn clear_masked(buffer: &mut [f32], views: &[ParamView], masks: &[Option<Arc<[bool]>>]) {
    for (view, mask) in views.iter().zip(masks) {
        let (Some(mask), Some(values)) = (mask, buffer.get_mut(view.range.clone())) else { continue };
        for (value, keep) in values.iter_mut().zip(mask.iter()) {
            *value = if *keep { *value } else { 0.0 };
        }
    }
}
