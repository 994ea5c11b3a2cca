//! ONNX to a graph of ours.
//!
//! ```text
//!   file ──▶ source: names checked ──▶ trace: converted and folded, once for each corner ──▶ merge: open sizes found
//!                                        │ operators: one file a family                          │
//!                                        ▼                                                       ▼
//!                              reference: constants                    build: Graph ◀── fuse: patterns of exporters
//! ```
//!
//! Exporters write shapes as computations. Instead of an algebra over them, the file is walked with concrete sizes: one
//! walk where all sizes are fixed, two where the batch is open, four where the number of steps is, too. What differs
//! between the walks is a polynomial of the open sizes.

mod budget;
mod build;
mod fuse;
mod merge;
pub(super) mod node;
pub(super) mod source;
pub(super) mod trace;

use std::collections::BTreeMap;

use bytes::Bytes;

use super::error::OnnxError;
use super::external::External;
use crate::graph::dim::Sizes;
use crate::graph::{Dim, Graph, GraphError, ValueType};
use crate::tensor::TensorData;
use budget::Budget;
use merge::Corners;
use source::{Axis, Declared, Source, wrong};
use trace::{Constant, Freed, Trace};

/// The oldest version of ONNX's operators that is read.
pub(super) const MIN_OPSET: i64 = 6;
/// The newest.
pub(super) const MAX_OPSET: i64 = 28;

/// What is known of the inputs beside what the file says.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// Inputs that are constants of the graph.
    pub constants: BTreeMap<String, TensorData>,
    /// The sizes of the other inputs; where they are given, no size is open.
    pub shapes: Option<BTreeMap<String, Vec<usize>>>,
}

/// Reads a model and what else it says of itself (`metadata_props`); see [`import`].
pub(super) fn open(file: Bytes, files: &mut External) -> Result<(Graph, BTreeMap<String, String>), OnnxError> {
    let mut source = Source::read(file, files)?;
    let metadata = std::mem::take(&mut source.metadata);
    Ok((graph_of(&source, &Given::default())?, metadata))
}

/// Reads a model. Open sizes stay open: the batch, and one number of steps. A batch that the file fixes to 1, as exporters
/// do by default, is freed if the graph works for any.
pub fn import(file: Bytes, files: &mut External, given: &Given) -> Result<Graph, OnnxError> {
    graph_of(&Source::read(file, files)?, given)
}

fn graph_of(source: &Source, given: &Given) -> Result<Graph, OnnxError> {
    if source.inputs.is_empty() && given.shapes.is_none() {
        return Err(OnnxError::Built(Box::new(GraphError::NoInput)));
    }
    let open = inputs(source, given)?;
    if given.shapes.is_none()
        && let Some(freed) = freed(&open)
        && let Ok(graph) = attempt(source, given, &freed, Some(1))
    {
        return Ok(graph);
    }
    attempt(source, given, &open, None)
}

/// The inputs' types, with open sizes by their meaning.
fn inputs(source: &Source, given: &Given) -> Result<Vec<ValueType>, OnnxError> {
    let fed = || source.inputs.iter().filter(|input| !given.constants.contains_key(&input.name));
    let names: Vec<(usize, &str)> = fed()
        .flat_map(|input| input.axes.iter().enumerate())
        .filter_map(|(axis, size)| if let Axis::Named(name) = size { Some((axis, name.as_str())) } else { None })
        .collect();
    // What is called a batch is one; otherwise the first axis is.
    let batch = names.iter().find(|(_, name)| is_batch(name)).or(names.iter().find(|(axis, _)| *axis == 0));
    let batch = batch.map(|(_, name)| *name);
    let mut steps = None;
    let mut of = |input: &Declared, axis: usize, size: &Axis| match size {
        Axis::Fixed(n) => Ok(Dim::Fixed(*n)),
        Axis::Named(name) if Some(name.as_str()) == batch && (!name.is_empty() || axis == 0) => Ok(Dim::Batch),
        Axis::Named(name) => match steps.get_or_insert_with(|| name.clone()) {
            known if known == name => Ok(Dim::SEQUENCE),
            known => Err(wrong(format!(
                "input '{}' has an open axis {axis} '{name}' beside '{known}': the number of samples and one number of \
                 steps may be open, all other sizes must be fixed",
                input.name
            ))),
        },
    };
    source
        .inputs
        .iter()
        .map(|input| {
            if given.constants.contains_key(&input.name) {
                return Ok(ValueType::new(input.dtype, Vec::new()));
            }
            let shape = match given.shapes.as_ref().and_then(|shapes| shapes.get(&input.name)) {
                Some(shape) => shape.iter().map(|n| Dim::Fixed(*n)).collect(),
                None => {
                    input.axes.iter().enumerate().map(|(axis, size)| of(input, axis, size)).collect::<Result<_, _>>()?
                }
            };
            Ok(ValueType::new(input.dtype, shape))
        })
        .collect()
}

fn is_batch(name: &str) -> bool {
    let name = name.to_lowercase();
    name.contains("batch") || name == "n" || name == "b" || name == "bs"
}

/// The inputs with an open batch, where the file has one sample for all of them.
fn freed(inputs: &[ValueType]) -> Option<Vec<ValueType>> {
    let freed = inputs.iter().map(|ty| match ty.shape.split_first() {
        Some((Dim::Fixed(1), rest)) if rest.iter().all(|d| d.fixed().is_some()) => {
            Some(ValueType::new(ty.dtype, [&[Dim::Batch], rest].concat()))
        }
        _ => None,
    });
    freed.collect()
}

/// Reads the graph for inputs of these types; `from` is the batch that the file has and that is freed.
fn attempt(source: &Source, given: &Given, inputs: &[ValueType], from: Option<usize>) -> Result<Graph, OnnxError> {
    let depends = |on: Dim| {
        let place = on.terms().iter().position(|term| *term != 0).unwrap_or(0);
        inputs.iter().flat_map(|ty| &ty.shape).any(|dim| dim.terms()[place] != 0)
    };
    let corners = Corners::new(depends(Dim::Batch), depends(Dim::SEQUENCE));
    let tensors = source.initializers.values().chain(given.constants.values());
    let budget = Budget::new(tensors.map(|tensor| tensor.bytes().len() as u64).sum());
    let first = walk(source, given, inputs, from, corners.walks()[0], &budget, None)?;
    let others =
        corners.walks()[1..].iter().map(|sizes| walk(source, given, inputs, from, *sizes, &budget, Some(&first)));
    let others = others.collect::<Result<Vec<_>, _>>()?;
    let traces: Vec<&Trace<'_>> = std::iter::once(&first).chain(&others).collect();
    let outputs: Vec<_> = source.outputs.iter().filter_map(|name| Some((name.clone(), first.named(name)?))).collect();
    let fed = source.inputs.iter().filter(|input| !given.constants.contains_key(&input.name));
    let fed: Vec<_> = fed.filter_map(|input| first.named(&input.name)).collect();
    let mut program = merge::merge(&traces, &corners)?;
    for (handle, ty) in fed.iter().zip(
        inputs.iter().zip(&source.inputs).filter(|(_, i)| !given.constants.contains_key(&i.name)).map(|(ty, _)| ty),
    ) {
        program.values[handle.0].ty = ty.clone();
    }
    fuse::fuse(&mut program, &outputs);
    build::build(source, program, &fed, &outputs)
}

fn walk<'s>(
    source: &'s Source,
    given: &Given,
    inputs: &[ValueType],
    from: Option<usize>,
    sizes: Sizes,
    budget: &'s Budget,
    earlier: Option<&'s Trace<'s>>,
) -> Result<Trace<'s>, OnnxError> {
    let freed = from.map(|from| Freed { from, to: sizes.batch });
    let mut trace = Trace::new(source, sizes, freed, budget, earlier);
    // In one order always: the walks must agree on it.
    let mut names: Vec<&String> = source.initializers.keys().collect();
    names.sort_unstable();
    for name in names {
        let data = &source.initializers[name];
        trace.declare(name, fixed_type(data), Some(Constant::new(data.clone(), is_learned(data))))?;
    }
    for (input, ty) in source.inputs.iter().zip(inputs) {
        match given.constants.get(&input.name) {
            Some(data) => {
                trace.declare(&input.name, fixed_type(data), Some(Constant::new(data.clone(), is_learned(data))))?;
            }
            None => {
                let at = |dim: &Dim| dim.at(sizes).map(Dim::Fixed);
                let shape: Option<Vec<Dim>> = ty.shape.iter().map(at).collect();
                let shape = shape.ok_or_else(|| wrong(format!("input '{}' has no size", input.name)))?;
                trace.declare(&input.name, ValueType::new(ty.dtype, shape), None)?;
            }
        }
    }
    trace.walk()?;
    Ok(trace)
}

fn fixed_type(data: &TensorData) -> ValueType {
    ValueType::new(data.dtype(), data.shape().iter().map(|n| Dim::Fixed(*n)).collect())
}

/// Whether a tensor of the file may be a parameter that is learned: floating point numbers, more than one.
fn is_learned(data: &TensorData) -> bool {
    data.dtype().is_float() && data.elements() > 1
}
