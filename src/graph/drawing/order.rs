//! The order within the layers: each spot near the mean of what it is linked with, so that few lines cross.

use super::grid::{Grid, Segment};

/// Times that all layers are gone through.
const SWEEPS: usize = 12;

/// Orders the layers by the barycentre method (Sugiyama, Tagawa and Toda 1981) and keeps the best order seen.
pub fn order(grid: &mut Grid) {
    let gaps = grid.gaps();
    let mut places = grid.places();
    let mut best = (crossings(&gaps, &places), grid.layers.clone());
    for sweep in 0..SWEEPS {
        if best.0 == 0 {
            break;
        }
        let down = sweep % 2 == 0;
        let depth = grid.layers.len();
        for step in 1..depth {
            let at = if down { step } else { depth - 1 - step };
            let gap = if down { &gaps[at - 1] } else { &gaps[at] };
            arrange(&mut grid.layers[at], gap, down, &mut places);
        }
        let crossings = crossings(&gaps, &places);
        if crossings < best.0 {
            best = (crossings, grid.layers.clone());
        }
    }
    grid.layers = best.1;
}

/// Sorts a layer by the mean place of what its spots are linked with above (`down`) or below.
fn arrange(layer: &mut Vec<usize>, gap: &[Segment], down: bool, places: &mut [usize]) {
    let mut sums = vec![(0usize, 0usize); layer.len()];
    for segment in gap {
        let (own, other) = if down { (segment.to, segment.from) } else { (segment.from, segment.to) };
        let sum = &mut sums[places[own]];
        *sum = (sum.0 + places[other], sum.1 + 1);
    }
    let mean = |place: usize| match sums[place] {
        (_, 0) => place as f64,
        (sum, count) => sum as f64 / count as f64,
    };
    let mut keyed: Vec<(f64, usize)> = layer.iter().enumerate().map(|(place, spot)| (mean(place), *spot)).collect();
    keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
    for (place, (_, spot)) in keyed.iter().enumerate() {
        places[*spot] = place;
    }
    *layer = keyed.into_iter().map(|(_, spot)| spot).collect();
}

/// How many pairs of segments cross.
fn crossings(gaps: &[Vec<Segment>], places: &[usize]) -> u64 {
    gaps.iter().map(|gap| in_gap(gap, places)).sum()
}

fn in_gap(gap: &[Segment], places: &[usize]) -> u64 {
    let mut ends: Vec<(usize, usize)> = gap.iter().map(|s| (places[s.from], places[s.to])).collect();
    ends.sort_unstable();
    let width = ends.iter().map(|(_, to)| to + 1).max().unwrap_or(0);
    // A Fenwick tree counts the ends so far up to a place.
    let mut tree = vec![0u64; width + 1];
    let mut crossings = 0;
    for (seen, (_, to)) in ends.into_iter().enumerate() {
        let mut at = to + 1;
        let mut left_or_same = 0;
        while at > 0 {
            left_or_same += tree[at];
            at &= at - 1;
        }
        crossings += seen as u64 - left_or_same;
        let mut at = to + 1;
        while at <= width {
            tree[at] += 1;
            at += at & at.wrapping_neg();
        }
    }
    crossings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::drawing::grid::{Link, layers};

    #[test]
    fn crossed_pairs_are_uncrossed() {
        let links: Vec<Link> =
            [(0, 4), (1, 3), (2, 5), (3, 6), (4, 7)].map(|(from, to)| Link { from, value: from, to }).into();
        let mut grid = Grid::new(layers(8, &links), &links);
        assert_eq!(crossings(&grid.gaps(), &grid.places()), 1);
        order(&mut grid);
        assert_eq!(crossings(&grid.gaps(), &grid.places()), 0);
    }

    #[test]
    fn crossings_are_counted_as_pairs() {
        let segments = [(0, 5), (1, 4), (2, 3)].map(|(from, to)| Segment { from, to, value: 0 });
        assert_eq!(in_gap(&segments, &[0, 1, 2, 0, 1, 2]), 3);
        assert_eq!(
            in_gap(&[(0, 3), (0, 4), (1, 4)].map(|(from, to)| Segment { from, to, value: 0 }), &[0, 1, 2, 0, 1]),
            0
        );
    }
}
