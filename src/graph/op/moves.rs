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

mod operators;

use std::ops::Range;

use super::OpError;
use crate::tensor::elements;
use operators::{sliced, too_large};

/// More elements than a value that is moved or computed one by one may have.
pub const MAX_ELEMENTS: usize = 1 << 31;

/// Where each element of an output comes from: the sum of what the places of some axes add, or nowhere, where it is filled.
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

#[cfg(test)]
mod tests;
