//! A drawing's plan: where boxes stand and lines run.

use std::collections::BTreeMap;

use super::columns::columns;
use super::grid::{Grid, Link, layers};
use super::order::order;

/// Pixels between two layers.
const BELOW: i32 = 30;
/// Pixels between the places where two lines meet a box.
const PORTS: i32 = 14;
/// Pixels from a box's corner to the first line.
const CORNER: i32 = 14;

/// A box, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rect {
    /// The left edge.
    pub x: i32,
    /// The upper edge.
    pub y: i32,
    /// The width.
    pub width: i32,
    /// The height.
    pub height: i32,
}

/// A piece of a line: straight down from `start` to `bend`, and from there in a curve to `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Curve {
    /// Whose line it is.
    pub value: usize,
    /// Where it begins.
    pub start: (i32, i32),
    /// How far down it is straight.
    pub bend: i32,
    /// Where it ends.
    pub end: (i32, i32),
    /// Whether a box reads it there.
    pub arrives: bool,
}

/// Where boxes stand and lines run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The boxes, in the order of their sizes.
    pub boxes: Vec<Rect>,
    /// The lines.
    pub curves: Vec<Curve>,
    /// The whole width.
    pub width: i32,
    /// The whole height.
    pub height: i32,
}

/// Plans boxes of these sizes (width, height), each of which is linked to boxes after it.
pub fn plan(sizes: &[(i32, i32)], links: &[Link]) -> Plan {
    let mut grid = Grid::new(layers(sizes.len(), links), links);
    order(&mut grid);
    let widths: Vec<i32> = sizes.iter().map(|(width, _)| *width).collect();
    let middle = columns(&grid, &widths);
    let mut tops = Vec::new();
    let mut y = 0;
    for layer in &grid.layers {
        let height = layer.iter().filter_map(|spot| sizes.get(*spot)).map(|(_, height)| *height).max().unwrap_or(0);
        tops.push((y, y + height));
        y += height + BELOW;
    }
    let boxes: Vec<Rect> = sizes
        .iter()
        .enumerate()
        .map(|(i, (width, height))| Rect {
            x: middle[i] - width / 2,
            y: tops[grid.layer[i]].0,
            width: *width,
            height: *height,
        })
        .collect();
    let leaving = ports(grid.segments.iter().map(|s| ((s.from, s.value), middle[s.to])), &boxes, |key| key.0);
    let coming = ports(grid.segments.iter().map(|s| ((s.to, s.value), middle[s.from])), &boxes, |key| key.0);
    let curves: Vec<Curve> = grid
        .segments
        .iter()
        .map(|s| {
            let (top, bottom) = tops[grid.layer[s.from]];
            let start = match boxes.get(s.from) {
                Some(rect) => (leaving[&(s.from, s.value)], rect.y + rect.height),
                None => (middle[s.from], top),
            };
            let end = coming.get(&(s.to, s.value)).copied().unwrap_or(middle[s.to]);
            let arrives = grid.is_box(s.to);
            Curve { value: s.value, start, bend: bottom, end: (end, tops[grid.layer[s.to]].0), arrives }
        })
        .collect();
    let right = boxes.iter().map(|b| b.x + b.width).chain(middle.iter().copied()).max().unwrap_or(0);
    Plan { boxes, curves, width: right, height: (y - BELOW).max(0) }
}

/// Where lines meet boxes: as near as possible to where they come from, and apart from each other.
fn ports(
    lines: impl Iterator<Item = ((usize, usize), i32)>,
    boxes: &[Rect],
    of: impl Fn(&(usize, usize)) -> usize,
) -> BTreeMap<(usize, usize), i32> {
    // A value that several read leaves at one place.
    let mut ends: BTreeMap<(usize, usize), Vec<i32>> = BTreeMap::new();
    for (key, towards) in lines.filter(|(key, _)| of(key) < boxes.len()) {
        ends.entry(key).or_default().push(towards);
    }
    let mut of_box: BTreeMap<usize, Vec<(i32, usize)>> = BTreeMap::new();
    for ((spot, value), mut towards) in ends {
        towards.sort_unstable();
        let middle = boxes[spot].x + boxes[spot].width / 2;
        // Straight down, where one of them is there.
        let wanted = if towards.contains(&middle) { middle } else { towards[(towards.len() - 1) / 2] };
        of_box.entry(spot).or_default().push((wanted, value));
    }
    let mut places = BTreeMap::new();
    for (spot, mut wanted) in of_box {
        wanted.sort_unstable();
        let (first, last) = (boxes[spot].x + CORNER, boxes[spot].x + boxes[spot].width - CORNER);
        let apart = PORTS.min((last - first) / wanted.len() as i32);
        let mut x: Vec<i32> = wanted.iter().map(|(wanted, _)| (*wanted).clamp(first, last)).collect();
        for i in 1..x.len() {
            x[i] = x[i].max(x[i - 1] + apart);
        }
        let mut limit = last;
        for x in x.iter_mut().rev() {
            *x = (*x).min(limit);
            limit = *x - apart;
        }
        places.extend(wanted.into_iter().zip(x).map(|((_, value), x)| ((spot, value), x)));
    }
    places
}
