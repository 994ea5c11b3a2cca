//! Where the spots of a layer stand: the network's longest path and long lines straight, branches beside them.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::grid::{Grid, Segment};

/// Pixels between two boxes of a layer.
const BESIDE: i32 = 28;
/// Pixels between two lines that pass a layer.
const LINES: i32 = 16;
/// Times that all columns are moved.
const SWEEPS: usize = 16;

/// The middle of each spot, in pixels from the left edge. `widths` are those of the boxes; a line that passes has none.
///
/// Spots that are linked straight form a column, which moves as one (as in Brandes and Köpf 2001). Columns are put as far
/// to the left as the order allows, and then each is moved to the median of what it is linked with, as far as its
/// neighbours let it.
pub fn columns(grid: &Grid, widths: &[i32]) -> Vec<i32> {
    let width = |spot: usize| widths.get(spot).copied().unwrap_or(0);
    let column = straight(grid);
    let count = column.iter().max().map_or(0, |last| last + 1);
    // Which columns must stand so far to the right of which.
    let mut right_of: Vec<BTreeMap<usize, i32>> = vec![BTreeMap::new(); count];
    let mut left_of = right_of.clone();
    for layer in &grid.layers {
        for pair in layer.windows(2) {
            let space = if pair.iter().all(|spot| grid.is_box(*spot)) { BESIDE } else { LINES };
            let apart = (width(pair[0]) + width(pair[1])) / 2 + space;
            let (a, b) = (column[pair[0]], column[pair[1]]);
            for (from, to, side) in [(a, b, &mut right_of), (b, a, &mut left_of)] {
                let least = side[from].entry(to).or_insert(apart);
                *least = (*least).max(apart);
            }
        }
    }
    let order = from_left(&right_of, &left_of);
    let mut x = vec![0; count];
    for at in &order {
        for (to, apart) in &right_of[*at] {
            x[*to] = x[*to].max(x[*at] + apart);
        }
    }
    let mut linked: Vec<Vec<usize>> = vec![Vec::new(); count];
    for segment in &grid.segments {
        let (a, b) = (column[segment.from], column[segment.to]);
        if a != b {
            linked[a].push(b);
            linked[b].push(a);
        }
    }
    for sweep in 0..SWEEPS {
        let step = |at: &usize| {
            let mut wanted: Vec<i32> = linked[*at].iter().map(|other| x[*other]).collect();
            if wanted.is_empty() {
                return;
            }
            wanted.sort_unstable();
            let median = (wanted[(wanted.len() - 1) / 2] + wanted[wanted.len() / 2]) / 2;
            let least = left_of[*at].iter().map(|(other, apart)| x[*other] + apart).max();
            let most = right_of[*at].iter().map(|(other, apart)| x[*other] - apart).min();
            x[*at] = median.min(most.unwrap_or(i32::MAX)).max(least.unwrap_or(i32::MIN));
        };
        // From the right first, so that there is room to move to.
        if sweep % 2 == 0 { order.iter().rev().for_each(step) } else { order.iter().for_each(step) }
    }
    let left = (0..column.len()).map(|spot| x[column[spot]] - width(spot) / 2).min().unwrap_or(0);
    column.iter().map(|at| x[*at] - left).collect()
}

/// Columns so that each comes after all those to its left. Straight lines do not cross, so there is no circle.
fn from_left(right_of: &[BTreeMap<usize, i32>], left_of: &[BTreeMap<usize, i32>]) -> Vec<usize> {
    let mut open: Vec<usize> = left_of.iter().map(BTreeMap::len).collect();
    let mut order: Vec<usize> = (0..open.len()).filter(|at| open[*at] == 0).collect();
    let mut next = 0;
    while let Some(at) = order.get(next).copied() {
        next += 1;
        for to in right_of[at].keys() {
            open[*to] -= 1;
            if open[*to] == 0 {
                order.push(*to);
            }
        }
    }
    order
}

/// Each spot's column. Of each gap the segments that matter most become straight, as long as none of them cross.
fn straight(grid: &Grid) -> Vec<usize> {
    let places = grid.places();
    let spots = grid.layer.len();
    let (mut above, mut below) = (vec![None; spots], vec![None; spots]);
    let mut taken: Vec<BTreeMap<usize, usize>> = vec![BTreeMap::new(); grid.layers.len()];
    for segment in by_weight(grid, &places) {
        let (from, to) = (segment.from, segment.to);
        if below[from].is_some() || above[to].is_some() {
            continue;
        }
        let gap = &mut taken[grid.layer[from]];
        let left = gap.range(..places[from]).next_back().is_none_or(|(_, end)| *end < places[to]);
        let right = gap.range((Bound::Excluded(places[from]), Bound::Unbounded)).next();
        if left && right.is_none_or(|(_, end)| *end > places[to]) {
            gap.insert(places[from], places[to]);
            (below[from], above[to]) = (Some(to), Some(from));
        }
    }
    let mut column = vec![usize::MAX; spots];
    let tops = grid.layers.iter().flatten().filter(|spot| above[**spot].is_none());
    for (count, spot) in tops.enumerate() {
        let mut at = Some(*spot);
        while let Some(spot) = at {
            column[spot] = count;
            at = below[spot];
        }
    }
    column
}

/// The segments, those first that should be straight: the longest path from box to box, then lines that pass layers.
fn by_weight(grid: &Grid, places: &[usize]) -> Vec<Segment> {
    // Layers below a spot that its lines lead through.
    let mut depth = vec![0usize; grid.layer.len()];
    let mut segments = grid.segments.clone();
    segments.sort_by_key(|segment| std::cmp::Reverse(grid.layer[segment.from]));
    // Only ways from box to box count: a line that passes layers is a detour.
    for segment in segments.iter().filter(|s| grid.is_box(s.from) && grid.is_box(s.to)) {
        depth[segment.from] = depth[segment.from].max(depth[segment.to] + 1);
    }
    // The middle one of the ways on that are longest, and of the ways here.
    let mut ways: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let mut sources: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for s in segments.iter().filter(|s| grid.is_box(s.from) && grid.is_box(s.to)) {
        if depth[s.from] == depth[s.to] + 1 {
            ways.entry(s.from).or_default().push(s.to);
        }
        sources.entry(s.to).or_default().push(s.from);
    }
    let middle = |spots: &mut Vec<usize>| {
        spots.sort_unstable_by_key(|spot| places[*spot]);
        spots[(spots.len() - 1) / 2]
    };
    let way: BTreeMap<usize, usize> = ways.iter_mut().map(|(spot, ways)| (*spot, middle(ways))).collect();
    let source: BTreeMap<usize, usize> = sources.iter_mut().map(|(spot, from)| (*spot, middle(from))).collect();
    let weight = |s: &Segment| match (grid.is_box(s.from), grid.is_box(s.to)) {
        (true, true) => match (way.get(&s.from) == Some(&s.to), source.get(&s.to) == Some(&s.from)) {
            (true, true) => 0,
            (false, false) => 3,
            _ => 2,
        },
        (false, false) => 1,
        _ => 4,
    };
    segments.sort_by_key(|s| (weight(s), grid.layer[s.from], places[s.from], places[s.to], s.value));
    segments
}
