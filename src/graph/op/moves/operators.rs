//! Where the elements come from, operator by operator.

use super::{Axis, MAX_ELEMENTS, Moves, Places};
use crate::graph::dim::{Dim, Sizes};
use crate::graph::op::{
    DepthToSpace, Expand, Fill, Gather, GatherElements, GatherNd, Op, OpError, Pad, ResizeNearest, Reverse, Select,
    Slice, SpaceToDepth, Split, Tile, Transpose, Trilu, config,
};
use crate::tensor::elements;

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
pub(super) fn sliced(
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

pub(super) fn too_large(op: &'static str, shape: &[usize]) -> OpError {
    misfit(op, format!("for at most {MAX_ELEMENTS} elements of output"), shape)
}
