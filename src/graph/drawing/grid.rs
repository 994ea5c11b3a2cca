//! Layers: each box below those it reads from, and long lines cut at every layer that they pass.

use std::collections::{BTreeMap, BTreeSet};

/// A line from a box to one below: `to` reads the value `value` of `from`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// The box that writes it; its number is less than that of `to`.
    pub from: usize,
    /// The value: lines of one value share their way down.
    pub value: usize,
    /// The box that reads it.
    pub to: usize,
}

/// A piece of a line, from one layer to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Segment {
    /// The spot above.
    pub from: usize,
    /// The spot below.
    pub to: usize,
    /// Whose line it is.
    pub value: usize,
}

/// Boxes, and places where lines pass, in layers. Both are spots; the boxes are the first of them.
#[derive(Debug)]
pub struct Grid {
    /// Boxes.
    pub boxes: usize,
    /// The spots of each layer, from left to right.
    pub layers: Vec<Vec<usize>>,
    /// Each spot's layer.
    pub layer: Vec<usize>,
    /// The pieces of all lines.
    pub segments: Vec<Segment>,
}

/// The layer of each box: one more than the lowest that it reads from. What reads nothing stands right above its first
/// reader.
pub fn layers(boxes: usize, links: &[Link]) -> Vec<usize> {
    let mut links = links.to_vec();
    links.sort_by_key(|link| link.to);
    let mut layer = vec![0; boxes];
    let mut reads = vec![false; boxes];
    for link in &links {
        layer[link.to] = layer[link.to].max(layer[link.from] + 1);
        reads[link.to] = true;
    }
    let mut first = vec![usize::MAX; boxes];
    for link in &links {
        first[link.from] = first[link.from].min(layer[link.to]);
    }
    for spot in (0..boxes).filter(|spot| !reads[*spot] && first[*spot] < usize::MAX) {
        layer[spot] = first[spot] - 1;
    }
    layer
}

/// For each value the layers that its line passes between its box and its lowest reader.
pub fn passed(layer: &[usize], links: &[Link]) -> BTreeMap<usize, usize> {
    let mut passed = BTreeMap::new();
    for link in links {
        let longest: &mut usize = passed.entry(link.value).or_default();
        *longest = (*longest).max(layer[link.to] - layer[link.from] - 1);
    }
    passed
}

impl Grid {
    /// The grid of boxes in these layers.
    pub fn new(layer: Vec<usize>, links: &[Link]) -> Self {
        let boxes = layer.len();
        let depth = layer.iter().max().map_or(0, |deepest| deepest + 1);
        let mut grid = Self { boxes, layers: vec![Vec::new(); depth], layer, segments: Vec::new() };
        for spot in 0..boxes {
            grid.layers[grid.layer[spot]].push(spot);
        }
        // Where a value's line passes a layer.
        let mut ways: BTreeMap<(usize, usize), usize> = BTreeMap::new();
        let mut segments = BTreeSet::new();
        for link in links {
            let mut above = link.from;
            for at in grid.layer[link.from] + 1..grid.layer[link.to] {
                let spot = *ways.entry((link.value, at)).or_insert_with(|| {
                    grid.layer.push(at);
                    grid.layers[at].push(grid.layer.len() - 1);
                    grid.layer.len() - 1
                });
                segments.insert(Segment { from: above, to: spot, value: link.value });
                above = spot;
            }
            segments.insert(Segment { from: above, to: link.to, value: link.value });
        }
        grid.segments = segments.into_iter().collect();
        grid
    }

    /// Whether a spot is a box, or only a line passes there.
    pub fn is_box(&self, spot: usize) -> bool {
        spot < self.boxes
    }

    /// Each spot's place in its layer, counted from the left.
    pub fn places(&self) -> Vec<usize> {
        let mut places = vec![0; self.layer.len()];
        for layer in &self.layers {
            for (place, spot) in layer.iter().enumerate() {
                places[*spot] = place;
            }
        }
        places
    }

    /// The segments below each layer but the last.
    pub fn gaps(&self) -> Vec<Vec<Segment>> {
        let mut gaps = vec![Vec::new(); self.layers.len()];
        for segment in &self.segments {
            gaps[self.layer[segment.from]].push(*segment);
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(from: usize, to: usize) -> Link {
        Link { from, value: from, to }
    }

    #[test]
    fn a_long_line_passes_each_layer_once_however_many_read_it() {
        let links = [link(0, 1), link(1, 2), link(2, 3), link(0, 2), link(0, 3)];
        let layer = layers(4, &links);
        assert_eq!(layer, [0, 1, 2, 3]);
        assert_eq!(passed(&layer, &links), BTreeMap::from([(0, 2), (1, 0), (2, 0)]));
        let grid = Grid::new(layer, &links);
        assert_eq!(grid.layers, [vec![0], vec![1, 4], vec![2, 5], vec![3]]);
        assert_eq!(grid.segments.len(), 3 + 4);
    }

    #[test]
    fn a_second_input_stands_above_what_reads_it() {
        assert_eq!(layers(5, &[link(0, 2), link(2, 3), link(1, 4), link(3, 4)]), [0, 2, 1, 2, 3]);
    }
}
