//! One walk over a file's nodes for concrete sizes of all open axes.
//!
//! Each node is converted to operators of ours, whose results' shapes are inferred at once. Whatever follows from
//! constants and shapes alone is computed at once, too: what exporters write to compute shapes goes away, without any
//! algebra. What is left depends on what is fed.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::super::error::{OnnxError, shown};
use super::super::tensor::MAX_RANK;
use super::budget::{self, Beyond, Budget, MAX_STEPS};
use super::node::Node;
use super::source::Source;
use crate::format::safetensors;
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
    /// Whether all of it is 0, and whether all is finite, once somebody asked.
    zero: OnceCell<bool>,
    finite: OnceCell<bool>,
}

impl Constant {
    pub(super) fn new(data: TensorData, learned: bool) -> Self {
        Self::of(OnceCell::from(data), None, learned)
    }

    fn of(data: OnceCell<TensorData>, transposed: Option<(Constant, Handle)>, learned: bool) -> Self {
        Self(Rc::new(Inner { data, transposed, learned, zero: OnceCell::new(), finite: OnceCell::new() }))
    }

    fn transposed_of(before: &Constant, at: Handle) -> Self {
        Self::of(OnceCell::new(), Some((before.clone(), at)), before.0.learned)
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

    /// Whether all of it is 0.
    pub(super) fn is_zero(&self) -> bool {
        *self.0.zero.get_or_init(|| self.data().is_some_and(|data| data.nonzero() == 0))
    }

    /// Whether none of it is NaN or infinite.
    pub(super) fn is_finite(&self) -> bool {
        *self.0.finite.get_or_init(|| self.data().is_some_and(|data| safetensors::non_finite(data) == 0))
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
    budget: &'s Budget,
    /// How many steps are not known before the network runs.
    running: u32,
    /// The transposes of constants that are learned, as layers ask for them.
    transposes: HashMap<Handle, Handle>,
    /// Another walk with other sizes: what follows from constants alone is the same there.
    earlier: Option<&'s Trace<'s>>,
}

/// The most elements of a value, with axes of no places counted as one. What a graph may have is less; up to here no
/// product of sizes overflows.
const MAX_ELEMENTS: u64 = 1 << 40;
/// The most numbers that say how a node works: shapes, axes, parts.
const MAX_NUMBERS: usize = 1 << 16;

impl<'s> Trace<'s> {
    pub(super) fn new(
        source: &'s Source,
        sizes: Sizes,
        freed: Option<Freed>,
        budget: &'s Budget,
        earlier: Option<&'s Trace<'s>>,
    ) -> Self {
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
            budget,
            running: 0,
            transposes: HashMap::new(),
            earlier,
        }
    }

    /// Gives a value of the file a type, and its values where they are known.
    pub(super) fn declare(
        &mut self,
        name: &'s str,
        ty: ValueType,
        constant: Option<Constant>,
    ) -> Result<Handle, OnnxError> {
        if !is_bounded(&ty) {
            return Err(OnnxError::Size { of: format!("value '{}'", shown(name)), ty: ty.to_string() });
        }
        self.budget.values(1).map_err(|beyond| self.too_much(beyond))?;
        let handle = self.add(ty, constant);
        self.values[handle.0].name = Some(name.to_string());
        self.names.insert(name, handle);
        Ok(handle)
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

    /// The transpose of a constant matrix. Layers that share the matrix share that, too.
    pub(in super::super) fn transposed(&mut self, value: Handle) -> Result<Handle, OnnxError> {
        if let Some(known) = self.transposes.get(&value) {
            return Ok(*known);
        }
        let transposed = self.op(Op::Transpose(Transpose { axes: vec![1, 0] }), &[value], &[])?;
        if self.is_constant(transposed) {
            self.transposes.insert(value, transposed);
        }
        Ok(transposed)
    }

    /// Whether a value is known and 0 everywhere.
    pub(in super::super) fn is_zero(&self, value: Handle) -> bool {
        self.values[value.0].constant.as_ref().is_some_and(Constant::is_zero)
    }

    /// Numbers that must be known and say how the node works: there are not many.
    pub(in super::super) fn few(&self, node: &Node<'_>, value: Handle, what: &str) -> Result<&TensorData, OnnxError> {
        if let Some(n) =
            self.shape(value).iter().try_fold(1usize, |n, d| n.checked_mul(*d)).filter(|n| *n > MAX_NUMBERS)
        {
            return Err(node.wrong(format!("its {what} are {n} numbers, at most {MAX_NUMBERS} are read")));
        }
        let data = self.constant(value).ok_or_else(|| node.runtime(what))?;
        self.budget.work(data.elements() as u64).map_err(|beyond| self.too_much(beyond))?;
        Ok(data)
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
        if let Some(ty) = inferred.iter().find(|ty| !is_bounded(ty)) {
            let of = format!("the result of node '{}' ({})", self.label, self.op_type());
            return Err(OnnxError::Size { of, ty: ty.to_string() });
        }
        self.budget.values(inferred.len() + inputs.len()).map_err(|beyond| self.too_much(beyond))?;
        let work = budget::work(&op, &types, &shapes, &inferred);
        let constants = self.fold(&op, inputs, params, &inferred, work)?;
        let mut constants =
            constants.map(|all| all.into_iter().map(Some).collect()).unwrap_or(vec![None; inferred.len()]);
        let outputs: Vec<Handle> =
            inferred.into_iter().zip(constants.drain(..)).map(|(ty, constant)| self.add(ty, constant)).collect();
        if outputs.iter().any(|output| !self.is_constant(*output)) {
            self.running += 1;
            if self.running > MAX_STEPS {
                let (field, what) = (format!("node '{}'", self.label), "operators that run");
                return Err(OnnxError::Count { field, what, limit: MAX_STEPS });
            }
        }
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
        work: u64,
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
        // To find that another walk has it costs a look at what it is made of, at most.
        let look = if of_shape { 0 } else { work / 8 };
        self.budget.work(look).map_err(|beyond| self.too_much(beyond))?;
        if let Some(same) = self.earlier(op, &inputs_known, &params_known, inputs.len()) {
            return Ok(Some(same));
        }
        if of_shape {
            let sizes: Vec<i64> = self.shape(inputs[0]).iter().map(|n| *n as i64).collect();
            return Ok(Some(vec![Constant::new(integers(&sizes), false)]));
        }
        self.budget.work(work - look).map_err(|beyond| self.too_much(beyond))?;
        self.charge(types.iter().map(budget::bytes).fold(0, u64::saturating_add))?;
        let learned = inputs_known.iter().chain(&params_known).any(Constant::learned);
        if let Op::Transpose(config) = op
            && config.axes == [1, 0]
            && learned
        {
            return Ok(Some(vec![Constant::transposed_of(&inputs_known[0], inputs[0])]));
        }
        let lost = || self.wrong("a constant could not be computed".into());
        let inputs = inputs_known.iter().map(Constant::data).collect::<Option<Vec<_>>>().ok_or_else(lost)?;
        let params = params_known.iter().map(Constant::data).collect::<Option<Vec<_>>>().ok_or_else(lost)?;
        let computed = reference::eval(op, &inputs, &params, &Context::eval(self.sizes));
        let computed = computed.map_err(|error| self.wrong(error.to_string()))?;
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

    fn charge(&self, bytes: u64) -> Result<(), OnnxError> {
        self.budget.bytes(bytes).map_err(|Beyond { asked, left }| OnnxError::Folded {
            node: self.label.clone(),
            op: self.op_type(),
            bytes: asked,
            limit: left,
        })
    }

    fn too_much(&self, Beyond { asked, left }: Beyond) -> OnnxError {
        OnnxError::Work { node: self.label.clone(), op: self.op_type(), asked, left }
    }

    fn wrong(&self, problem: String) -> OnnxError {
        OnnxError::Node { node: self.label.clone(), op: self.op_type(), problem }
    }

    fn op_type(&self) -> String {
        self.source.nodes.get(self.node).map(|node| shown(&node.op_type)).unwrap_or_default()
    }

    fn add(&mut self, ty: ValueType, constant: Option<Constant>) -> Handle {
        let handle = Handle(self.values.len());
        self.values.push(Known { ty, constant, name: None });
        handle
    }
}

/// Whole numbers as a tensor.
pub(in super::super) fn integers(numbers: &[i64]) -> TensorData {
    let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
    TensorData::new(DType::I64, vec![numbers.len()], bytes).expect("eight bytes a number")
}

/// Whether a type is one that is worked with at all.
fn is_bounded(ty: &ValueType) -> bool {
    let sizes = ty.shape.iter().map(|d| d.fixed().unwrap_or(usize::MAX).max(1) as u64);
    ty.shape.len() <= MAX_RANK && sizes.fold(1, u64::saturating_mul) <= MAX_ELEMENTS
}
