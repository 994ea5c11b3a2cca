//! Where each element comes from, for the operators that compute nothing and only move elements.
//!
//! ```text
//! from(i, j, ...) = start(i) + start(j) + ...        over axes that together have the output's elements in row-major order
//! ```
//!
//! An axis of [`Moves`] adds a multiple of a step for each of its places (transposing, slicing, expanding), or such
//! multiples piece by piece (padding, resizing), or what a table says (gathering). A place may also be filled and come from
//! nowhere. The axes need not be those of the output: what can be joined is, and a block of channels has axes of its own.
//!
//! The same map serves forwards, where each element is fetched, and backwards, where each gradient is added at the place
//! that its element came from. [`Moves::runs`] walks over it in pieces along the last axis.

use std::ops::Range;

use super::{
    DepthToSpace, Expand, Fill, Gather, GatherElements, GatherNd, Op, OpError, Pad, ResizeNearest, Reverse, Select,
    Slice, SpaceToDepth, Split, Tile, Transpose, Trilu, config,
};
use crate::graph::dim::{Dim, Sizes};
use crate::tensor::elements;

/// More elements than a value that is moved or computed one by one may have.
pub const MAX_ELEMENTS: usize = 1 << 31;

/// Where each element of an output comes from; see the [module documentation](self).
#[derive(Debug, Clone, PartialEq)]
pub struct Moves {
    shape: Vec<usize>,
    axes: Vec<Axis>,
    /// What an element is that comes from nowhere.
    pub fill: f64,
}

/// What the places of one axis add to the place of the source.
#[derive(Debug, Clone, PartialEq)]
enum Axis {
    /// `start + i * step` for the place `i` below `count`.
    Line { count: usize, start: isize, step: isize },
    /// One number a place.
    Table(Vec<isize>),
    /// Lines one after the other, and what is filled between them.
    Pieces { count: usize, pieces: Vec<Piece> },
}

/// A piece of an output, along its last axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The first element of the output, counted in row-major order.
    pub to: usize,
    /// The element of the source that it comes from; `None` where all of the piece is filled.
    pub from: Option<usize>,
    /// How many elements.
    pub count: usize,
    /// From one element of the source to the next; 0 where the same is there again and again.
    pub step: isize,
}

/// The second input of what gathers.
#[derive(Debug, Clone, Copy)]
pub struct Places<'a> {
    /// Its shape.
    pub shape: &'a [usize],
    /// Its numbers.
    pub numbers: &'a [i64],
}

impl Op {
    /// For an operator that only moves elements, where those of each output come from; `None` for all others, and for
    /// `Concat`, each of whose inputs is a [`Moves::part`] of the output.
    ///
    /// `x` is the shape of what is moved: the first input's or, of an embedding, the table's. `places` are those of
    /// `Gather` and its kin, and the input of an embedding.
    pub fn moves(&self, x: &[usize], places: Option<Places<'_>>, sizes: Sizes) -> Option<Result<Vec<Moves>, OpError>> {
        let name = self.name();
        let gathered = |of: &dyn Fn(Places<'_>) -> Result<Moves, OpError>| match places {
            Some(places) if elements(places.shape) == Some(places.numbers.len()) => of(places),
            _ => Err(OpError::Arity { op: name, what: "inputs", expected: "2", actual: 1 }),
        };
        let one = match self {
            Op::Split(config) => return Some(config.moves(x, sizes)),
            Op::Reshape(config) => at(name, &config.shape, sizes).and_then(|shape| reshaped(name, x, shape)),
            Op::Flatten => match x {
                [n, rest @ ..] => {
                    let rest = elements(rest).ok_or_else(|| too_large(name, x));
                    rest.and_then(|rest| reshaped(name, x, vec![*n, rest]))
                }
                [] => Err(misfit(name, "[n, ...]", x)),
            },
            Op::Transpose(config) => config.moves(x),
            Op::Expand(config) => config.moves(x, sizes),
            Op::Tile(config) => config.moves(x, sizes),
            Op::DepthToSpace(config) => config.moves(x),
            Op::SpaceToDepth(config) => config.moves(x),
            Op::Pad(config) => config.moves(x),
            Op::Slice(config) => config.moves(x, sizes),
            Op::Reverse(config) => config.moves(x),
            Op::Trilu(config) => config.moves(x),
            Op::Select(config) => config.moves(x),
            Op::ResizeNearest(config) => config.moves(x, sizes),
            Op::Gather(Gather { axis }) => gathered(&|places| slices(name, x, *axis, places)),
            Op::Embedding => gathered(&|places| slices(name, x, 0, places)),
            Op::GatherElements(config) => gathered(&|places| config.moves(x, places)),
            Op::GatherNd(config) => gathered(&|places| config.moves(x, places)),
            _ => return None,
        };
        Some(one.map(|moves| vec![moves]))
    }
}

impl Moves {
    /// An output of this shape over these axes, which together have as many places.
    fn new(
        op: &'static str,
        shape: Vec<usize>,
        axes: impl FnOnce() -> Result<Vec<Axis>, OpError>,
    ) -> Result<Self, OpError> {
        let count = elements(&shape).filter(|n| *n <= MAX_ELEMENTS).ok_or_else(|| too_large(op, &shape))?;
        // Of an empty output, single axes may be of any size; they are not made.
        let axes = if count == 0 { vec![Axis::Line { count: 0, start: 0, step: 1 }] } else { joined(axes()?) };
        Ok(Self { shape, axes, fill: 0.0 })
    }

    /// `count` places of an axis of `x`, from `start` on: a part of a split, or the place of an input in what it is joined
    /// to.
    pub fn part(op: &'static str, x: &[usize], axis: usize, start: usize, count: usize) -> Result<Self, OpError> {
        sliced(op, x, axis, (start, 1, count))
    }

    /// The output's shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Whether all elements stay where they are.
    pub fn is_identity(&self, source: usize) -> bool {
        match self.axes[..] {
            [Axis::Line { count, start: 0, step: 1 }] => count == source,
            _ => false,
        }
    }

    /// Elements along the last of the joined axes: a run has no more.
    pub fn inner(&self) -> usize {
        self.axes.last().map_or(1, Axis::count)
    }

    /// How often [`Moves::inner`] goes into the output.
    pub fn rows(&self) -> usize {
        self.axes.iter().rev().skip(1).map(Axis::count).product()
    }

    /// Calls `each` with the pieces of the output, in order.
    pub fn runs(&self, each: impl FnMut(Run)) {
        self.runs_of(0..self.rows(), each);
    }

    /// Calls `each` with the pieces of these rows of [`Moves::inner`] elements, in order.
    pub fn runs_of(&self, rows: Range<usize>, mut each: impl FnMut(Run)) {
        let Some((last, outer)) = self.axes.split_last() else { return };
        let (inner, pieces) = (last.count(), last.pieces());
        let mut place = vec![0; outer.len()];
        let mut rest = rows.start;
        for (axis, place) in outer.iter().zip(&mut place).rev() {
            *place = rest % axis.count().max(1);
            rest /= axis.count().max(1);
        }
        // What the axes up to each one add, and from which on that must be found anew.
        let mut sums: Vec<Option<isize>> = vec![Some(0); outer.len() + 1];
        let mut changed = 0;
        for row in rows {
            for (axis, own) in outer.iter().enumerate().skip(changed) {
                sums[axis + 1] = sums[axis].and_then(|sum| Some(sum.wrapping_add(own.at(place[axis])?)));
            }
            let base = sums[outer.len()];
            for piece in &pieces {
                let from = base.and_then(|base| Some(base.wrapping_add(piece.from?) as usize));
                each(Run { to: row * inner + piece.to, from, count: piece.count, step: piece.step });
            }
            changed = outer.len();
            while let Some(axis) = changed.checked_sub(1) {
                changed = axis;
                place[axis] += 1;
                if place[axis] < outer[axis].count() {
                    break;
                }
                place[axis] = 0;
            }
        }
    }

    /// Where one element of the output comes from.
    pub fn source(&self, element: usize) -> Option<usize> {
        let (mut rest, mut sum) = (element, 0isize);
        for axis in self.axes.iter().rev() {
            sum = sum.wrapping_add(axis.at(rest % axis.count().max(1))?);
            rest /= axis.count().max(1);
        }
        Some(sum as usize)
    }
}

/// A part of an axis: [`Run`] without what the other axes add.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Piece {
    to: usize,
    from: Option<isize>,
    count: usize,
    step: isize,
}

impl Piece {
    fn at(&self, place: usize) -> Option<isize> {
        let steps = place.wrapping_sub(self.to) as isize;
        self.from.map(|from| from.wrapping_add(steps.wrapping_mul(self.step)))
    }

    /// Goes on by one place if that fits.
    fn goes_on(&mut self, from: Option<isize>) -> bool {
        let fits = match (self.from, from) {
            (None, None) => true,
            (Some(first), Some(from)) if self.count == 1 => {
                self.step = from.wrapping_sub(first);
                true
            }
            (Some(_), Some(_)) => self.at(self.to + self.count) == from,
            _ => false,
        };
        self.count += usize::from(fits);
        fits
    }
}

impl Axis {
    /// `i * step` for the place `i`.
    fn line(count: usize, step: usize) -> Self {
        Axis::Line { count, start: 0, step: step as isize }
    }

    /// One number a place, where many of them follow each other by one step; `None` is filled.
    fn pieces_of(places: impl Iterator<Item = Option<isize>>) -> Self {
        let (mut count, mut pieces) = (0, Vec::<Piece>::new());
        for from in places {
            if !pieces.last_mut().is_some_and(|last| last.goes_on(from)) {
                pieces.push(Piece { to: count, from, count: 1, step: 1 });
            }
            count += 1;
        }
        Axis::Pieces { count, pieces }
    }

    fn count(&self) -> usize {
        match self {
            Axis::Line { count, .. } | Axis::Pieces { count, .. } => *count,
            Axis::Table(places) => places.len(),
        }
    }

    fn at(&self, place: usize) -> Option<isize> {
        match self {
            Axis::Line { start, step, .. } => Some(start.wrapping_add((place as isize).wrapping_mul(*step))),
            Axis::Table(places) => places.get(place).copied(),
            Axis::Pieces { pieces, .. } => {
                let after = pieces.partition_point(|piece| piece.to <= place);
                pieces[..after].last()?.at(place)
            }
        }
    }

    /// The parts along which the source goes on by a step.
    fn pieces(&self) -> Vec<Piece> {
        match self {
            Axis::Line { count: 0, .. } => Vec::new(),
            Axis::Line { count, start, step } => {
                vec![Piece { to: 0, from: Some(*start), count: *count, step: *step }]
            }
            Axis::Pieces { pieces, .. } => pieces.clone(),
            Axis::Table(places) => match Axis::pieces_of(places.iter().copied().map(Some)) {
                Axis::Pieces { pieces, .. } => pieces,
                _ => Vec::new(),
            },
        }
    }

    /// Adds to what each place adds.
    fn shift(&mut self, shift: isize) {
        let places: &mut dyn Iterator<Item = &mut isize> = match self {
            Axis::Line { start, .. } => &mut std::iter::once(start),
            Axis::Table(places) => &mut places.iter_mut(),
            Axis::Pieces { pieces, .. } => &mut pieces.iter_mut().filter_map(|piece| piece.from.as_mut()),
        };
        places.for_each(|place| *place = place.wrapping_add(shift));
    }
}

/// The same map over as few axes as possible: those of one place are dropped, and lines joined where one goes on where the
/// other ends.
fn joined(axes: Vec<Axis>) -> Vec<Axis> {
    let mut joined: Vec<Axis> = Vec::new();
    let mut shift = 0isize;
    for axis in axes {
        match (joined.last_mut(), axis) {
            (_, Axis::Line { count: 1, start, .. }) => shift = shift.wrapping_add(start),
            (Some(Axis::Line { count, start, step }), Axis::Line { count: inner, start: more, step: fine })
                if isize::try_from(inner).ok().and_then(|inner| inner.checked_mul(fine)) == Some(*step) =>
            {
                (*count, *start, *step) = (*count * inner, start.wrapping_add(more), fine);
            }
            (_, axis) => joined.push(axis),
        }
    }
    match joined.last_mut() {
        None => joined.push(Axis::Line { count: 1, start: shift, step: 1 }),
        Some(_) if shift == 0 => {}
        Some(axis) => axis.shift(shift),
    }
    joined
}

/// The step of each axis of a tensor in row-major order. Of one without elements the steps mean nothing.
fn steps(shape: &[usize]) -> Vec<usize> {
    let mut steps = vec![1usize; shape.len()];
    for axis in (1..shape.len()).rev() {
        steps[axis - 1] = steps[axis].saturating_mul(shape[axis]);
    }
    steps
}

/// The axes of `x`, each as it is.
fn lines(x: &[usize]) -> Vec<Axis> {
    x.iter().zip(steps(x)).map(|(count, step)| Axis::line(*count, step)).collect()
}

/// `x` with another axis in place of one.
fn with_axis(x: &[usize], axis: usize, other: Axis) -> Vec<Axis> {
    let mut axes = lines(x);
    axes[axis] = other;
    axes
}

/// Another size of an axis; an axis that is not there is an error.
fn resized(op: &'static str, x: &[usize], axis: usize, size: usize) -> Result<Vec<usize>, OpError> {
    let mut shape = x.to_vec();
    *shape.get_mut(axis).ok_or_else(|| misfit(op, format!("with an axis {axis}"), x))? = size;
    Ok(shape)
}

fn reshaped(op: &'static str, x: &[usize], shape: Vec<usize>) -> Result<Moves, OpError> {
    let count = elements(x).filter(|count| elements(&shape) == Some(*count));
    let count = count.ok_or_else(|| misfit(op, format!("of as many elements as {shape:?}"), x))?;
    Moves::new(op, shape, || Ok(vec![Axis::line(count, 1)]))
}

/// `count` places of an axis: `start`, `start + step` and so on.
fn sliced(
    op: &'static str,
    x: &[usize],
    axis: usize,
    (start, step, count): (usize, usize, usize),
) -> Result<Moves, OpError> {
    let shape = resized(op, x, axis, count)?;
    let last = count.saturating_sub(1).checked_mul(step).and_then(|reach| reach.checked_add(start));
    if count > 0 && last.is_none_or(|last| last >= x[axis]) {
        return Err(misfit(op, format!("with more than {} places along axis {axis}", last.unwrap_or(usize::MAX)), x));
    }
    Moves::new(op, shape, || {
        let unit = steps(x)[axis];
        let (start, step) = (start.saturating_mul(unit) as isize, step.saturating_mul(unit) as isize);
        Ok(with_axis(x, axis, Axis::Line { count, start, step }))
    })
}

/// The slices of an axis at places.
fn slices(op: &'static str, x: &[usize], axis: usize, places: Places<'_>) -> Result<Moves, OpError> {
    let (Some(size), Some(before)) = (x.get(axis), x.get(..axis)) else {
        return Err(misfit(op, format!("with an axis {axis}"), x));
    };
    Moves::new(op, [before, places.shape, &x[axis + 1..]].concat(), || {
        let unit = steps(x)[axis];
        let table: Result<Vec<isize>, OpError> =
            places.numbers.iter().map(|place| Ok((counted(op, *place, *size)? * unit) as isize)).collect();
        Ok(with_axis(x, axis, Axis::Table(table?)))
    })
}

impl Transpose {
    fn moves(&self, x: &[usize]) -> Result<Moves, OpError> {
        let mut sorted = self.axes.clone();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(0..x.len()) {
            return Err(misfit("Transpose", format!("of {} axes", self.axes.len()), x));
        }
        Moves::new("Transpose", self.axes.iter().map(|axis| x[*axis]).collect(), || {
            let lines = lines(x);
            Ok(self.axes.iter().map(|axis| lines[*axis].clone()).collect())
        })
    }
}

impl Expand {
    fn moves(&self, x: &[usize], sizes: Sizes) -> Result<Moves, OpError> {
        let shape = at("Expand", &self.shape, sizes)?;
        let lacking = shape.len().checked_sub(x.len());
        let fits =
            lacking.is_some_and(|lacking| x.iter().zip(&shape[lacking..]).all(|(old, new)| old == new || *old == 1));
        let Some(lacking) = lacking.filter(|_| fits) else {
            return Err(misfit("Expand", format!("that expands to {shape:?}"), x));
        };
        let to = shape.clone();
        Moves::new("Expand", shape, || {
            let front = to[..lacking].iter().map(|count| Axis::line(*count, 0));
            let own = x.iter().zip(steps(x)).zip(&to[lacking..]);
            let own = own.map(|((old, step), new)| Axis::line(*new, if old == new { step } else { 0 }));
            Ok(front.chain(own).collect())
        })
    }
}

impl Tile {
    fn moves(&self, x: &[usize], sizes: Sizes) -> Result<Moves, OpError> {
        let repeats = at("Tile", &self.repeats, sizes)?;
        if repeats.len() != x.len() {
            return Err(misfit("Tile", format!("of {} axes", repeats.len()), x));
        }
        let shape: Option<Vec<usize>> = x.iter().zip(&repeats).map(|(size, n)| size.checked_mul(*n)).collect();
        Moves::new("Tile", shape.ok_or_else(|| too_large("Tile", x))?, || {
            Ok(lines(x).into_iter().zip(repeats).flat_map(|(axis, n)| [Axis::line(n, 0), axis]).collect())
        })
    }
}

impl DepthToSpace {
    fn moves(&self, x: &[usize]) -> Result<Moves, OpError> {
        let (op, block) = ("DepthToSpace", self.block);
        let &[n, channels, h, w] = x else { return Err(misfit(op, "[n, c, h, w]", x)) };
        let area = block.checked_mul(block).filter(|area| *area > 0 && channels.is_multiple_of(*area));
        let area = area.ok_or_else(|| misfit(op, format!("[n, a multiple of {block}^2, h, w]"), x))?;
        let c = channels / area;
        let (Some(rows), Some(columns)) = (h.checked_mul(block), w.checked_mul(block)) else {
            return Err(too_large(op, x));
        };
        Moves::new(op, vec![n, c, rows, columns], || {
            let image = h * w;
            let (channel, place) = if self.channel_first { (area, 1) } else { (1, c) };
            Ok(vec![
                Axis::line(n, channels * image),
                Axis::line(c, channel * image),
                Axis::line(h, w),
                Axis::line(block, block * place * image),
                Axis::line(w, 1),
                Axis::line(block, place * image),
            ])
        })
    }
}

impl SpaceToDepth {
    fn moves(&self, x: &[usize]) -> Result<Moves, OpError> {
        let (op, block) = ("SpaceToDepth", self.block);
        let &[n, c, h, w] = x else { return Err(misfit(op, "[n, c, h, w]", x)) };
        let channels = block.checked_mul(block).and_then(|area| c.checked_mul(area)).filter(|_| block > 0);
        let (Some(channels), true) = (channels, block > 0 && h.is_multiple_of(block) && w.is_multiple_of(block)) else {
            return Err(misfit(op, format!("[n, c, two multiples of {block}]"), x));
        };
        let (rows, columns) = (h / block, w / block);
        Moves::new(op, vec![n, channels, rows, columns], || {
            let channel = Axis::line(c, h * w);
            let mut axes = vec![Axis::line(n, c * h * w), Axis::line(block, w), Axis::line(block, 1)];
            axes.insert(if self.channel_first { 1 } else { 3 }, channel);
            axes.extend([Axis::line(rows, block * w), Axis::line(columns, block)]);
            Ok(axes)
        })
    }
}

impl Pad {
    fn moves(&self, x: &[usize]) -> Result<Moves, OpError> {
        let Some(&size) = x.get(self.axis) else {
            return Err(misfit("Pad", format!("with an axis {}", self.axis), x));
        };
        let padded = size.checked_add(self.before).and_then(|n| n.checked_add(self.after));
        let padded = padded.ok_or_else(|| too_large("Pad", x))?;
        if size == 0 && padded > 0 && !matches!(self.fill, Fill::Value(_)) {
            return Err(misfit("Pad", format!("with a value to repeat along axis {}", self.axis), x));
        }
        let mut moves = Moves::new("Pad", resized("Pad", x, self.axis, padded)?, || {
            let unit = steps(x)[self.axis];
            let table = (0..padded).map(|place| self.place(place, size).map(|place| (place * unit) as isize));
            Ok(match (self.before, self.after) {
                (0, 0) => lines(x),
                _ => with_axis(x, self.axis, Axis::pieces_of(table)),
            })
        })?;
        if let Fill::Value(fill) = self.fill {
            moves.fill = fill;
        }
        Ok(moves)
    }

    /// The old place of a new one, of `size` old ones; `None` where a number is filled in.
    fn place(&self, new: usize, size: usize) -> Option<usize> {
        let inside = |at: usize| (at < size).then_some(at);
        if let Some(inside) = new.checked_sub(self.before).and_then(inside) {
            return Some(inside);
        }
        // Sizes are far below the largest numbers of 64 bits here: the output was found small enough.
        let (at, size) = (new as i64 - self.before as i64, size as i64);
        let place = match self.fill {
            Fill::Value(_) => return None,
            Fill::Edge => at.clamp(0, size - 1),
            Fill::Wrap => at.rem_euclid(size),
            Fill::Reflect if size == 1 => 0,
            Fill::Reflect => {
                let period = 2 * (size - 1);
                let at = at.rem_euclid(period);
                at.min(period - at)
            }
        };
        Some(place as usize)
    }
}

impl Slice {
    fn moves(&self, x: &[usize], sizes: Sizes) -> Result<Moves, OpError> {
        let (Some(start), Some(end)) = (self.start.at(sizes), self.end.at(sizes)) else {
            return Err(misfit("Slice", format!("with places from {} to {}", self.start, self.end), x));
        };
        let places = end.checked_sub(start).filter(|_| x.get(self.axis).is_some_and(|size| end <= *size));
        let (Some(places), 1..) = (places, self.step) else {
            return Err(misfit("Slice", format!("with places from {start} to {end} along axis {}", self.axis), x));
        };
        sliced("Slice", x, self.axis, (start, self.step, places.div_ceil(self.step)))
    }
}

impl Reverse {
    fn moves(&self, x: &[usize]) -> Result<Moves, OpError> {
        let shape = resized("Reverse", x, self.axis, x.get(self.axis).copied().unwrap_or(0))?;
        Moves::new("Reverse", shape, || {
            let (count, step) = (x[self.axis], steps(x)[self.axis] as isize);
            Ok(with_axis(x, self.axis, Axis::Line { count, start: (count as isize - 1) * step, step: -step }))
        })
    }
}

impl Split {
    fn moves(&self, x: &[usize], sizes: Sizes) -> Result<Vec<Moves>, OpError> {
        let parts = at("Split", &self.sizes, sizes)?;
        let sum = parts.iter().try_fold(0usize, |sum, part| sum.checked_add(*part));
        if x.get(self.axis).copied() != sum || parts.is_empty() {
            return Err(misfit("Split", format!("of parts {parts:?} along axis {}", self.axis), x));
        }
        let mut start = 0;
        let moves = parts.into_iter().map(|part| {
            let moves = Moves::part("Split", x, self.axis, start, part);
            start += part;
            moves
        });
        moves.collect()
    }
}

impl Trilu {
    fn moves(&self, x: &[usize]) -> Result<Moves, OpError> {
        let [before @ .., h, w] = x else { return Err(misfit("Trilu", "[..., h, w]", x)) };
        Moves::new("Trilu", x.to_vec(), || {
            let stays = |row: usize, column: usize| {
                let right = i128::from(self.diagonal);
                let distance = column as i128 - row as i128;
                if self.upper { distance >= right } else { distance <= right }
            };
            let places = (0..*h).flat_map(|row| (0..*w).map(move |column| (row, column)));
            let table = places.map(|(row, column)| stays(row, column).then_some((row * w + column) as isize));
            Ok(vec![Axis::line(before.iter().product(), h * w), Axis::pieces_of(table)])
        })
    }
}

impl Select {
    fn moves(&self, x: &[usize]) -> Result<Moves, OpError> {
        let size = x.get(self.axis).ok_or_else(|| misfit("Select", format!("with an axis {}", self.axis), x))?;
        let place = counted("Select", self.index, *size)?;
        let mut moves = sliced("Select", x, self.axis, (place, 1, 1))?;
        moves.shape.remove(self.axis);
        Ok(moves)
    }
}

impl GatherElements {
    fn moves(&self, x: &[usize], places: Places<'_>) -> Result<Moves, OpError> {
        let op = "GatherElements";
        let fits = places.shape.len() == x.len()
            && places.shape.iter().zip(x).enumerate().all(|(axis, (own, size))| axis == self.axis || own <= size);
        if !fits || self.axis >= x.len() {
            return Err(misfit(op, format!("that has the places {:?}", places.shape), x));
        }
        Moves::new(op, places.shape.to_vec(), || {
            let steps = steps(x);
            let mut place = vec![0; x.len()];
            let mut table = Vec::with_capacity(places.numbers.len());
            for number in places.numbers {
                let own = place[self.axis];
                place[self.axis] = counted(op, *number, x[self.axis])?;
                table.push(place.iter().zip(&steps).map(|(at, step)| at * step).sum::<usize>() as isize);
                place[self.axis] = own;
                advance(&mut place, places.shape);
            }
            Ok(vec![Axis::Table(table)])
        })
    }
}

/// The next place in row-major order.
fn advance(place: &mut [usize], shape: &[usize]) {
    for (at, size) in place.iter_mut().zip(shape).rev() {
        *at += 1;
        if *at < *size {
            return;
        }
        *at = 0;
    }
}

impl GatherNd {
    fn moves(&self, x: &[usize], places: Places<'_>) -> Result<Moves, OpError> {
        let (op, batch) = ("GatherNd", self.batch_axes);
        let fitting = places.shape.split_last().and_then(|(count, before)| {
            let taken = batch.checked_add(*count).filter(|taken| *taken <= x.len() && *count > 0)?;
            (before.get(..batch)? == &x[..batch]).then_some((*count, before, taken))
        });
        let Some((count, before, taken)) = fitting else {
            return Err(misfit(op, format!("that has the coordinates {:?}", places.shape), x));
        };
        Moves::new(op, [before, &x[taken..]].concat(), || {
            let steps = steps(x);
            let samples: usize = x[..batch].iter().product();
            // The output has elements, so none of these is 0.
            let (own, per_sample) = (x[batch..].iter().product::<usize>(), before.iter().product::<usize>() / samples);
            let table = places.numbers.chunks_exact(count).enumerate().map(|(row, coordinates)| {
                let mut from = row / per_sample * own;
                for (axis, coordinate) in (batch..).zip(coordinates) {
                    from += counted(op, *coordinate, x[axis])? * steps[axis];
                }
                Ok(from as isize)
            });
            let table: Result<Vec<isize>, OpError> = table.collect();
            Ok(vec![Axis::Table(table?), Axis::line(x[taken..].iter().product(), 1)])
        })
    }
}

impl ResizeNearest {
    fn moves(&self, x: &[usize], sizes: Sizes) -> Result<Moves, OpError> {
        let op = "ResizeNearest";
        let shape = at(op, &self.shape, sizes)?;
        let fits = shape.len() == x.len() && self.scales.len() == x.len();
        if !fits || x.iter().zip(&shape).any(|(old, new)| *old == 0 && *new > 0) {
            return Err(misfit(op, format!("that becomes {shape:?}"), x));
        }
        let to = shape.clone();
        Moves::new(op, shape, || {
            let axes = x.iter().zip(steps(x)).zip(to).enumerate().map(|(axis, ((from, step), to))| {
                if *from == to && self.scales[axis] == 1.0 {
                    return Axis::line(to, step);
                }
                Axis::pieces_of((0..to).map(|new| Some((self.source(axis, new, *from, to) * step) as isize)))
            });
            Ok(axes.collect())
        })
    }
}

/// A place that counts from the end where it is below 0.
fn counted(op: &'static str, place: i64, size: usize) -> Result<usize, OpError> {
    let from_start = if place < 0 { i128::from(place) + size as i128 } else { i128::from(place) };
    let within = usize::try_from(from_start).ok().filter(|at| *at < size);
    within.ok_or_else(|| config(op, "place", format!("{place} is not on an axis of {size} places")))
}

/// Open sizes as numbers.
fn at(op: &'static str, shape: &[Dim], sizes: Sizes) -> Result<Vec<usize>, OpError> {
    let negative = |size: &Dim| config(op, "shape", format!("has a size {size} that is none for {sizes:?}"));
    shape.iter().map(|size| size.at(sizes).ok_or_else(|| negative(size))).collect()
}

fn misfit(op: &'static str, expected: impl Into<String>, actual: &[usize]) -> OpError {
    OpError::Input { op, expected: expected.into(), actual: format!("{actual:?}") }
}

fn too_large(op: &'static str, shape: &[usize]) -> OpError {
    misfit(op, format!("for at most {MAX_ELEMENTS} elements of output"), shape)
}

#[cfg(test)]
mod tests;
