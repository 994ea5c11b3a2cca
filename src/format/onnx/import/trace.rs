//! One walk over a file's nodes for concrete sizes of all open axes.
//!
//! Each node is converted to operators of ours, whose results' shapes are inferred at once. Whatever follows from
//! constants and shapes alone is computed at once, too: what exporters write to compute shapes goes away, without any
//! algebra. What is left depends on what is fed.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::super::error::{OnnxError, shown};
use super::node::Node;
use super::source::Source;
use crate::graph::dim::Sizes;
use crate::graph::op::Transpose;
use crate::graph::{Dim, Op, ValueType};
use crate::reference::{self, Context};
use crate::tensor::{DType, TensorData};

/// A value of a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in super::super) struct Handle(pub(super) usize);

/// What is known of a value.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) ty: ValueType,
    pub(super) constant: Option<Constant>,
    /// What the file calls it.
    pub(super) name: Option<String>,
}

/// A value that is known before the network runs. Clones share the bytes.
#[derive(Clone)]
pub(super) struct Constant(Rc<Inner>);

struct Inner {
    data: OnceCell<TensorData>,
    /// For a matrix that was transposed, which is computed when somebody asks for it: what it was before, and where that
    /// stands in every walk.
    transposed: Option<(Constant, Handle)>,
    /// Whether a tensor of the file went into it that may be learned, not only shapes and numbers of nodes.
    learned: bool,
}

impl Constant {
    pub(super) fn new(data: TensorData, learned: bool) -> Self {
        Self(Rc::new(Inner { data: OnceCell::from(data), transposed: None, learned }))
    }

    fn transposed_of(before: &Constant, at: Handle) -> Self {
        let inner = Inner { data: OnceCell::new(), transposed: Some((before.clone(), at)), learned: before.0.learned };
        Self(Rc::new(inner))
    }

    /// The values.
    pub(super) fn data(&self) -> Option<&TensorData> {
        if let (None, Some((before, _))) = (self.0.data.get(), &self.0.transposed) {
            let op = Op::Transpose(Transpose { axes: vec![1, 0] });
            let context = Context::eval(Sizes::of_batch(1));
            let computed = reference::eval(&op, &[before.data()?], &[], &context).ok()?.pop()?;
            // Another walk cannot have come between.
            let _ = self.0.data.set(computed);
        }
        self.0.data.get()
    }

    /// Whether it is computed from tensors that may be learned.
    pub(super) fn learned(&self) -> bool {
        self.0.learned
    }

    /// Whether both are the same values: surely so where they share their bytes.
    pub(super) fn same(&self, other: &Constant) -> bool {
        if Rc::ptr_eq(&self.0, &other.0) {
            return true;
        }
        if let (Some((own, _)), Some((theirs, _))) = (&self.0.transposed, &other.0.transposed) {
            return own.same(theirs);
        }
        match (self.data(), other.data()) {
            (Some(a), Some(b)) => {
                let shared = a.bytes().as_ptr() == b.bytes().as_ptr() && a.bytes().len() == b.bytes().len();
                (shared && a.shape() == b.shape() && a.dtype() == b.dtype()) || a == b
            }
            _ => false,
        }
    }
}

/// An operator of ours on the way.
#[derive(Clone)]
pub(super) struct Step {
    /// The node of the file it belongs to.
    pub(super) node: usize,
    pub(super) op: Op,
    pub(super) inputs: Vec<Handle>,
    pub(super) params: Vec<Handle>,
    pub(super) outputs: Vec<Handle>,
}

/// How a batch that the file fixes is freed.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Freed {
    /// The size that the file has.
    pub(in super::super) from: usize,
    /// The size of this walk.
    pub(in super::super) to: usize,
}

/// A walk; see the [module documentation](self).
pub(in super::super) struct Trace<'s> {
    pub(in super::super) source: &'s Source,
    sizes: Sizes,
    freed: Option<Freed>,
    pub(super) values: Vec<Known>,
    pub(super) steps: Vec<Step>,
    names: HashMap<&'s str, Handle>,
    /// Values in a row, by the name of the sequence.
    sequences: HashMap<&'s str, Vec<Handle>>,
    node: usize,
    label: String,
    /// Bytes that may still be computed.
    budget: u64,
    /// Another walk with other sizes: what follows from constants alone is the same there.
    earlier: Option<&'s Trace<'s>>,
}

/// So many bytes a file's graph may compute before it runs, beside four times its tensors: tables of places, masks.
const MAX_FOLDED: u64 = 64 << 20;

impl<'s> Trace<'s> {
    pub(super) fn new(source: &'s Source, sizes: Sizes, freed: Option<Freed>, earlier: Option<&'s Trace<'s>>) -> Self {
        let tensors: u64 = source.initializers.values().map(|tensor| tensor.bytes().len() as u64).sum();
        Self {
            source,
            sizes,
            freed,
            values: Vec::new(),
            steps: Vec::new(),
            names: HashMap::new(),
            sequences: HashMap::new(),
            node: 0,
            label: String::new(),
            budget: MAX_FOLDED.saturating_add(tensors.saturating_mul(4)),
            earlier,
        }
    }

    /// Gives a value of the file a type, and its values where they are known.
    pub(super) fn declare(&mut self, name: &'s str, ty: ValueType, constant: Option<Constant>) -> Handle {
        let handle = self.add(ty, constant);
        self.values[handle.0].name = Some(name.to_string());
        self.names.insert(name, handle);
        handle
    }

    /// The value of that name.
    pub(super) fn named(&self, name: &str) -> Option<Handle> {
        self.names.get(name).copied()
    }

    /// Converts all nodes.
    pub(super) fn walk(&mut self) -> Result<(), OnnxError> {
        let source = self.source;
        for (place, proto) in source.nodes.iter().enumerate() {
            self.node = place;
            let label = source.label(place);
            self.label = label.to_string();
            super::super::operators::read(self, &Node { proto, label, opset: source.opset })?;
        }
        Ok(())
    }

    /// The node's input at `index`; `None` where the file leaves it out.
    pub(in super::super) fn optional(&self, node: &Node<'_>, index: usize) -> Option<Handle> {
        node.proto.input.get(index).filter(|name| !name.is_empty()).and_then(|name| self.named(name))
    }

    /// The node's input at `index`.
    pub(in super::super) fn input(&self, node: &Node<'_>, index: usize) -> Result<Handle, OnnxError> {
        let missing = || OnnxError::Arity { node: node.label.to_string(), op: shown(node.op()), index };
        self.optional(node, index).ok_or_else(missing)
    }

    /// All the node's inputs.
    pub(in super::super) fn inputs(&self, node: &Node<'_>) -> Result<Vec<Handle>, OnnxError> {
        (0..node.proto.input.len().max(1)).map(|index| self.input(node, index)).collect()
    }

    /// Says what the node's output at `index` is. Nothing happens where the file does not use it.
    pub(in super::super) fn output(&mut self, node: &Node<'s>, index: usize, value: Handle) -> Result<(), OnnxError> {
        let Some(name) = node.proto.output.get(index).filter(|name| !name.is_empty()) else { return Ok(()) };
        self.names.insert(name, value);
        self.values[value.0].name.get_or_insert_with(|| name.clone());
        Ok(())
    }

    /// Whether anybody uses the node's output at `index`.
    pub(in super::super) fn wants(&self, node: &Node<'_>, index: usize) -> bool {
        node.proto.output.get(index).is_some_and(|name| !name.is_empty())
    }

    /// The type of a value; all its axes are fixed in a walk.
    pub(in super::super) fn ty(&self, value: Handle) -> &ValueType {
        &self.values[value.0].ty
    }

    /// The sizes of a value's axes.
    pub(in super::super) fn shape(&self, value: Handle) -> Vec<usize> {
        self.values[value.0].ty.shape.iter().map(|d| d.fixed().unwrap_or(0)).collect()
    }

    /// The number of a value's axes.
    pub(in super::super) fn rank(&self, value: Handle) -> usize {
        self.values[value.0].ty.shape.len()
    }

    /// The number format of a value.
    pub(in super::super) fn dtype(&self, value: Handle) -> DType {
        self.values[value.0].ty.dtype
    }

    /// How a fixed batch is freed, where it is.
    pub(in super::super) fn freed(&self) -> Option<Freed> {
        self.freed
    }

    /// The values, where they are known before the network runs.
    pub(in super::super) fn constant(&self, value: Handle) -> Option<&TensorData> {
        self.values[value.0].constant.as_ref().and_then(Constant::data)
    }

    /// Whether a value is known before the network runs; cheaper than to ask for it.
    pub(in super::super) fn is_constant(&self, value: Handle) -> bool {
        self.values[value.0].constant.is_some()
    }

    /// For a constant matrix that is the transpose of another one, that one.
    pub(in super::super) fn before_transpose(&self, value: Handle) -> Option<Handle> {
        let known = &self.values[value.0];
        known.constant.as_ref()?.0.transposed.as_ref().map(|(_, at)| *at).filter(|at| at.0 < self.values.len())
    }

    /// For a value that was brought to another format, what it was before.
    pub(in super::super) fn before_cast(&self, value: Handle) -> Option<Handle> {
        let step = self.steps.iter().rev().find(|step| step.outputs == [value])?;
        matches!(step.op, Op::Cast(_)).then(|| step.inputs[0])
    }

    /// A constant that nobody learns.
    pub(in super::super) fn literal(&mut self, data: TensorData) -> Handle {
        let shape = data.shape().iter().map(|n| Dim::Fixed(*n)).collect();
        self.add(ValueType::new(data.dtype(), shape), Some(Constant::new(data, false)))
    }

    /// Says which values the node's output is a sequence of.
    pub(in super::super) fn sequence(&mut self, node: &Node<'s>, values: Vec<Handle>) -> Result<(), OnnxError> {
        self.sequences.extend(node.proto.output.first().map(|name| (name.as_str(), values)));
        Ok(())
    }

    /// The values of the sequence that is the node's first input.
    pub(in super::super) fn parts(&self, node: &Node<'_>) -> Result<&[Handle], OnnxError> {
        let found = node.proto.input.first().and_then(|name| self.sequences.get(name.as_str()));
        found.map(Vec::as_slice).ok_or_else(|| node.wrong("its first input is no sequence that is known"))
    }

    /// The result of an operator with one output.
    pub(in super::super) fn op(&mut self, op: Op, inputs: &[Handle], params: &[Handle]) -> Result<Handle, OnnxError> {
        Ok(self.ops(op, inputs, params)?[0])
    }

    /// The results of an operator.
    pub(in super::super) fn ops(
        &mut self,
        op: Op,
        inputs: &[Handle],
        params: &[Handle],
    ) -> Result<Vec<Handle>, OnnxError> {
        let types: Vec<&ValueType> = inputs.iter().map(|v| self.ty(*v)).collect();
        let shapes: Vec<Vec<usize>> = params.iter().map(|v| self.shape(*v)).collect();
        let shapes: Vec<&[usize]> = shapes.iter().map(Vec::as_slice).collect();
        let inferred = op
            .infer(&types, &shapes)
            .map_err(|source| OnnxError::Op { node: self.label.clone(), source: Box::new(source) })?;
        if let Some((role, _)) = op.roles().0.iter().zip(params).find(|(_, param)| !self.is_constant(**param)) {
            return Err(OnnxError::Runtime {
                node: self.label.clone(),
                op: shown(&self.source.nodes[self.node].op_type),
                what: (*role).to_string(),
            });
        }
        let constants = self.fold(&op, inputs, params, &inferred)?;
        let mut constants =
            constants.map(|all| all.into_iter().map(Some).collect()).unwrap_or(vec![None; inferred.len()]);
        let outputs: Vec<Handle> =
            inferred.into_iter().zip(constants.drain(..)).map(|(ty, constant)| self.add(ty, constant)).collect();
        let (inputs, params) = (inputs.to_vec(), params.to_vec());
        self.steps.push(Step { node: self.node, op, inputs, params, outputs: outputs.clone() });
        Ok(outputs)
    }

    /// Computes an operator whose inputs are all known.
    fn fold(
        &mut self,
        op: &Op,
        inputs: &[Handle],
        params: &[Handle],
        types: &[ValueType],
    ) -> Result<Option<Vec<Constant>>, OnnxError> {
        let known = |values: &[Handle]| -> Option<Vec<Constant>> {
            values.iter().map(|v| self.values[v.0].constant.clone()).collect()
        };
        let of_shape = *op == Op::Shape;
        let (inputs_known, Some(params_known)) = (known(inputs), known(params)) else { return Ok(None) };
        let Some(inputs_known) = inputs_known.or_else(|| of_shape.then(Vec::new)) else { return Ok(None) };
        if matches!(op, Op::Custom(_)) {
            return Ok(None);
        }
        if let Some(same) = self.earlier(op, &inputs_known, &params_known, inputs.len()) {
            return Ok(Some(same));
        }
        if of_shape {
            let sizes: Vec<i64> = self.shape(inputs[0]).iter().map(|n| *n as i64).collect();
            return Ok(Some(vec![Constant::new(integers(&sizes), false)]));
        }
        let learned = inputs_known.iter().chain(&params_known).any(Constant::learned);
        if let Op::Transpose(config) = op
            && config.axes == [1, 0]
            && learned
        {
            return Ok(Some(vec![Constant::transposed_of(&inputs_known[0], inputs[0])]));
        }
        let bytes = types.iter().map(bytes).fold(0, u64::saturating_add);
        self.charge(bytes)?;
        let wrong = |problem: String| OnnxError::Node {
            node: self.label.clone(),
            op: shown(&self.source.nodes[self.node].op_type),
            problem,
        };
        let lost = || wrong("a constant could not be computed".into());
        let inputs = inputs_known.iter().map(Constant::data).collect::<Option<Vec<_>>>().ok_or_else(lost)?;
        let params = params_known.iter().map(Constant::data).collect::<Option<Vec<_>>>().ok_or_else(lost)?;
        let computed = reference::eval(op, &inputs, &params, &Context::eval(self.sizes));
        let computed = computed.map_err(|error| wrong(error.to_string()))?;
        Ok(Some(computed.into_iter().map(|data| Constant::new(data, learned)).collect()))
    }

    /// What another walk computed at this step, if it did so from the same constants.
    fn earlier(&self, op: &Op, inputs: &[Constant], params: &[Constant], arity: usize) -> Option<Vec<Constant>> {
        let earlier = self.earlier?;
        let step = earlier.steps.get(self.steps.len())?;
        let same = |own: &[Constant], theirs: &[Handle]| {
            own.len() == theirs.len()
                && own.iter().zip(theirs).all(|(own, theirs)| {
                    // Cheap to say for what shares its bytes, which large tensors do.
                    earlier.values[theirs.0].constant.as_ref().is_some_and(|theirs| own.same(theirs))
                })
        };
        if inputs.len() != arity || step.op != *op || !same(inputs, &step.inputs) || !same(params, &step.params) {
            return None;
        }
        step.outputs.iter().map(|output| earlier.values[output.0].constant.clone()).collect()
    }

    fn charge(&mut self, bytes: u64) -> Result<(), OnnxError> {
        let limit = self.budget;
        self.budget = limit.checked_sub(bytes).ok_or_else(|| OnnxError::Folded {
            node: self.label.clone(),
            op: shown(&self.source.nodes[self.node].op_type),
            bytes,
            limit,
        })?;
        Ok(())
    }

    fn add(&mut self, ty: ValueType, constant: Option<Constant>) -> Handle {
        self.values.push(Known { ty, constant, name: None });
        Handle(self.values.len() - 1)
    }
}

/// Whole numbers as a tensor.
pub(in super::super) fn integers(numbers: &[i64]) -> TensorData {
    let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
    TensorData::new(DType::I64, vec![numbers.len()], bytes).expect("eight bytes a number")
}

fn bytes(ty: &ValueType) -> u64 {
    let elements = ty.shape.iter().map(|d| d.fixed().unwrap_or(usize::MAX) as u64).fold(1, u64::saturating_mul);
    elements.saturating_mul(ty.dtype.size() as u64)
}
