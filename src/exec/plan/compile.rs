//! Makes a plan: layer after layer forwards, and then backwards.

use std::collections::HashSet;
use std::ops::Range;

use niwaki_kernels::nhwc::conv::Old;
use niwaki_kernels::simd::Path;

use super::super::pass::hands_on;
use super::super::{Mode, Session};
use super::fuse::{self, Group};
use super::layer::{self, Layer, convert::Convert, round::Round};
use super::memory::{Room, Rooms};
use super::{Door, Key, Plan, Uncovered};
use crate::graph::dim::Sizes;
use crate::graph::{Dim, Node, Op, ParamId, ValueId};
use crate::tensor::DType;

/// How a value lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// As the graph has it.
    Rows,
    /// `[n, c, ...]` as `[n, ..., c]`.
    Images,
}

/// Some numbers and the gradient at them; several values of a graph may be the same numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Root(usize);

struct Source {
    room: Room,
    needs_gradient: bool,
    gradient: Option<Room>,
}

/// A value of the graph.
#[derive(Debug, Clone)]
pub(super) struct Flow {
    pub(super) root: Root,
    /// The shape that the graph has for it.
    pub(super) dims: Vec<usize>,
    pub(super) layout: Layout,
}

/// Where the gradient at a layer's input goes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target {
    /// Nobody needs it.
    Nowhere,
    /// It stays where the gradient at the output is.
    Same,
    /// There.
    Room(Room, Old),
}

/// A plan in the making.
pub(super) struct Compiler<'a> {
    pub(super) session: &'a Session,
    pub(super) mode: Mode,
    pub(super) path: Path,
    pub(super) sizes: Sizes,
    /// By value: as rows, as images.
    flows: Vec<[Option<Flow>; 2]>,
    roots: Vec<Source>,
    rooms: Rooms,
    now: usize,
    layers: Vec<Box<dyn Layer>>,
    /// Where the gradients of parameters begin that some layer writes.
    written: HashSet<usize>,
    /// Values of half precision that are still as they came in.
    raw: HashSet<ValueId>,
    pub(super) measures: bool,
}

impl Flow {
    pub(super) fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// Pixels and channels of a sample, of images.
    pub(super) fn image(&self) -> Option<[usize; 2]> {
        match (&self.dims[..], self.layout) {
            ([_, channels, pixels @ ..], Layout::Images) => Some([pixels.iter().product(), *channels]),
            _ => None,
        }
    }
}

impl Layout {
    /// Whether both layouts of a value of this shape are the same.
    fn are_one(dims: &[usize]) -> bool {
        match dims {
            [_, channels, pixels @ ..] => *channels == 1 || pixels.iter().product::<usize>() == 1,
            _ => true,
        }
    }
}

/// The plan for a session's graph.
pub(in crate::exec) fn compile(session: &Session, key: Key) -> Result<Plan, Uncovered> {
    let mut compiler = Compiler::new(session, &key)?;
    let input = compiler.add_input()?;
    for group in fuse::groups(session, &key.taps) {
        compiler.now += 1;
        compiler.add_group(&group)?;
    }
    compiler.now += 1;
    let doors = |compiler: &mut Compiler<'_>, values: &[ValueId]| -> Result<Vec<Door>, Uncovered> {
        values.iter().map(|value| compiler.door(*value)).collect()
    };
    let (mut outputs, mut taps) = (doors(&mut compiler, &session.outputs)?, doors(&mut compiler, &key.taps)?);
    if key.mode == Mode::Train {
        compiler.now += 1;
        for (values, doors) in [(&session.outputs, &mut outputs), (&key.taps, &mut taps)] {
            for (value, door) in values.iter().zip(doors) {
                let root = compiler.flow(*value).map(|flow| flow.root);
                door.gradient = root.and_then(|root| compiler.outgoing(root));
            }
        }
        let mut layers = std::mem::take(&mut compiler.layers);
        for layer in layers.iter_mut().rev() {
            compiler.now += 1;
            layer.plan_backward(&mut compiler);
        }
        compiler.layers = layers;
    }
    let without_gradient = match key.mode {
        Mode::Train => compiler.trained().filter(|range| !compiler.written.contains(&range.start)).collect(),
        Mode::Eval => Vec::new(),
    };
    let (places, len) = compiler.rooms.placed();
    let Compiler { layers, measures, .. } = compiler;
    Ok(Plan { key, layers, input, outputs, taps, places, len, without_gradient, prepared: None, measures })
}

impl<'a> Compiler<'a> {
    fn new(session: &'a Session, key: &Key) -> Result<Self, Uncovered> {
        let refused = |why: &str| Err(Uncovered(why.into()));
        if session.types.iter().any(|ty| ty.dtype != DType::F32) {
            return refused("values of other number formats than F32");
        }
        if session.inputs.len() != 1 {
            return refused("several inputs");
        }
        let mut read = HashSet::new();
        let params = session.nodes.iter().flat_map(|node| &node.params);
        if !params.into_iter().all(|param| read.insert(param)) {
            return refused("a parameter that several nodes read");
        }
        Ok(Self {
            session,
            mode: key.mode,
            path: Path::chosen(),
            sizes: Sizes::of_batch(key.batch),
            flows: vec![[None, None]; session.types.len()],
            roots: Vec::new(),
            rooms: Rooms::default(),
            now: 0,
            layers: Vec::new(),
            written: HashSet::new(),
            raw: HashSet::from([session.inputs[0].id]),
            measures: false,
        })
    }

    /// The input, which is turned as it comes in if the first who reads it wants images.
    fn add_input(&mut self) -> Result<Door, Uncovered> {
        let input = self.session.inputs[0].id;
        if self.session.types[input.index()].shape.first() != Some(&Dim::Batch) {
            return Err(Uncovered("an input without a batch axis".into()));
        }
        let reader = self.session.nodes.iter().find(|node| node.inputs.contains(&input));
        let layout = match reader.map(|node| &node.op) {
            Some(op) if layer::wants_images(op) => Layout::Images,
            _ => Layout::Rows,
        };
        let dims = self.dims(input)?;
        self.output(input, dims, layout, false);
        self.door(input)
    }

    fn add_group(&mut self, group: &Group) -> Result<(), Uncovered> {
        let node = &self.session.nodes[group.node];
        let refused = |Uncovered(why)| Uncovered(format!("node '{}' ({}): {why}", node.name, node.op.name()));
        let roots = self.roots.len();
        layer::add(self, node, group).map_err(refused)?;
        if self.session.activations == DType::F32 {
            return Ok(());
        }
        let (outputs, is_raw) =
            (&self.session.nodes[group.last].outputs, node.inputs.first().is_some_and(|x| self.raw.contains(x)));
        if !hands_on(&node.op) {
            return outputs.iter().try_for_each(|value| self.round(*value, roots, is_raw)).map_err(refused);
        }
        if is_raw {
            self.raw.extend(outputs);
        }
        Ok(())
    }

    /// Rounds a value that the layer at work has made. A root before that number is an input of the layer, which others may
    /// read, too: there is nothing to do if it is rounded already.
    fn round(&mut self, value: ValueId, first_root: usize, is_raw: bool) -> Result<(), Uncovered> {
        let Some(root) = self.flow(value).map(|flow| flow.root) else { return Ok(()) };
        if root.0 >= first_root {
            let room = self.room(root);
            self.keep(room);
            self.push(Round { room, to: self.session.activations });
        } else if is_raw {
            return Err(Uncovered("numbers of the input that are rounded where others read them".into()));
        }
        Ok(())
    }

    /// The shape of a value, which is known but for the number of samples.
    pub(super) fn dims(&self, value: ValueId) -> Result<Vec<usize>, Uncovered> {
        let known = |dim: &Dim| if let Dim::Open(_) = dim { None } else { dim.at(self.sizes).filter(|n| *n > 0) };
        let dims: Option<Vec<usize>> = self.session.types[value.index()].shape.iter().map(known).collect();
        dims.ok_or_else(|| Uncovered("an axis that is open or has no places".into()))
    }

    /// A value in the layout in which it was made first.
    pub(super) fn any(&mut self, value: ValueId) -> Result<Flow, Uncovered> {
        let flow = self.flow(value).cloned().ok_or_else(|| Uncovered("an input that is no number".into()))?;
        self.uses(flow.root);
        Ok(flow)
    }

    /// A value in that layout; it is converted if it is not there yet.
    pub(super) fn get(&mut self, value: ValueId, layout: Layout) -> Result<Flow, Uncovered> {
        if let Some(flow) = self.flows[value.index()][layout as usize].clone() {
            self.uses(flow.root);
            return Ok(flow);
        }
        let from = self.any(value)?;
        let flow = if Layout::are_one(&from.dims) {
            Flow { layout, ..from }
        } else {
            let needs = self.needs_gradient(&from);
            let room = self.scratch(from.len());
            let root = self.add_root(room, needs);
            let to = Flow { root, layout, dims: from.dims.clone() };
            let convert = Convert::new(self, &from, &to);
            self.layers.push(Box::new(convert));
            to
        };
        self.flows[value.index()][layout as usize] = Some(flow.clone());
        Ok(flow)
    }

    /// The first layout in which a value was made: no layer makes two.
    fn flow(&self, value: ValueId) -> Option<&Flow> {
        let [rows, images] = self.flows.get(value.index())?;
        let both = [rows, images].map(Option::as_ref);
        both.into_iter().flatten().min_by_key(|flow| flow.root.0)
    }

    fn add_root(&mut self, room: Room, needs_gradient: bool) -> Root {
        self.roots.push(Source { room, needs_gradient, gradient: None });
        Root(self.roots.len() - 1)
    }

    /// A new value that the layer at work writes.
    pub(super) fn output(&mut self, value: ValueId, dims: Vec<usize>, layout: Layout, needs_gradient: bool) -> Flow {
        let room = self.rooms.add(dims.iter().product(), self.now);
        let root = self.add_root(room, needs_gradient && self.mode == Mode::Train);
        let flow = Flow { root, dims, layout };
        self.flows[value.index()][layout as usize] = Some(flow.clone());
        flow
    }

    /// A value that is the same numbers as another.
    pub(super) fn alias(&mut self, value: ValueId, flow: Flow) {
        let layout = flow.layout;
        self.flows[value.index()][layout as usize] = Some(flow);
    }

    /// Room for numbers that only the layer at work uses, unless it says so later again.
    pub(super) fn scratch(&mut self, len: usize) -> Room {
        self.rooms.add(len, self.now)
    }

    pub(super) fn push(&mut self, layer: impl Layer + 'static) {
        self.layers.push(Box::new(layer));
    }

    pub(super) fn room(&self, root: Root) -> Room {
        self.roots[root.0].room
    }

    /// Numbers that a room holds.
    pub(super) fn room_len(&self, room: Room) -> usize {
        self.rooms.len(room)
    }

    /// Tells that the layer at work reads a value.
    pub(super) fn uses(&mut self, root: Root) {
        self.keep(self.roots[root.0].room);
    }

    /// Tells that the layer at work uses a room.
    pub(super) fn keep(&mut self, room: Room) {
        self.rooms.uses(room, self.now);
    }

    pub(super) fn needs_gradient(&self, flow: &Flow) -> bool {
        self.roots[flow.root.0].needs_gradient
    }

    /// Where a parameter lies.
    pub(super) fn param(&self, id: ParamId) -> Range<usize> {
        self.session.views[id.index()].range.clone()
    }

    /// The shape of a parameter.
    pub(super) fn param_shape(&self, id: ParamId) -> &'a [usize] {
        &self.session.shapes[id.index()]
    }

    pub(super) fn is_trained(&self, range: &Range<usize>) -> bool {
        self.mode == Mode::Train && range.end <= self.session.trained()
    }

    /// Whether one of a node's parameters is trained.
    pub(super) fn trains(&self, node: &Node) -> bool {
        node.params.iter().any(|id| self.is_trained(&self.param(*id)))
    }

    fn trained(&self) -> impl Iterator<Item = Range<usize>> {
        let ranges = self.session.views.iter().map(|view| view.range.clone());
        ranges.filter(|range| self.is_trained(range))
    }

    /// A parameter's range again, if the layer at work has to write its gradient.
    pub(super) fn param_gradient(&mut self, range: &Range<usize>) -> Option<Range<usize>> {
        let trained = self.is_trained(range);
        trained.then(|| {
            self.written.insert(range.start);
            range.clone()
        })
    }

    /// The gradient at a value, all of which has come now that its maker's turn is; `None` if none has.
    pub(super) fn incoming(&mut self, root: Root) -> Option<Room> {
        let room = self.roots[root.0].gradient?;
        self.keep(room);
        Some(room)
    }

    /// Where the layer at work has to put its part of the gradient at a value it reads; `None` if nobody needs it.
    pub(super) fn outgoing(&mut self, root: Root) -> Option<(Room, Old)> {
        let source = &self.roots[root.0];
        if !source.needs_gradient {
            return None;
        }
        if let Some(room) = source.gradient {
            self.keep(room);
            return Some((room, Old::Added));
        }
        let room = self.scratch(self.rooms.len(source.room));
        self.roots[root.0].gradient = Some(room);
        Some((room, Old::Dropped))
    }

    /// As [`Compiler::outgoing`], where the gradient may stay in `room`, which nobody else needs any more.
    pub(super) fn hand_on(&mut self, root: Root, room: Room) -> Target {
        let source = &mut self.roots[root.0];
        if source.needs_gradient && source.gradient.is_none() {
            source.gradient = Some(room);
            return Target::Same;
        }
        self.outgoing(root).map_or(Target::Nowhere, |(room, old)| Target::Room(room, old))
    }

    fn door(&mut self, value: ValueId) -> Result<Door, Uncovered> {
        let flow = self.any(value)?;
        let turned = flow.image().filter(|_| !Layout::are_one(&flow.dims));
        Ok(Door { room: self.room(flow.root), shape: flow.dims, turned, gradient: None })
    }
}

/// What an operator would have to be for a plan.
pub(super) fn uncovered(op: &Op) -> Uncovered {
    Uncovered(format!("the plan has no {}", op.name()))
}
