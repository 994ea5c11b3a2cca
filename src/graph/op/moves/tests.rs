use super::*;
use crate::graph::dim::{Dim, Sizes};
use crate::graph::op::*;
use proptest::prelude::*;

const SIZES: Sizes = Sizes { batch: 2, sequence: 3 };

fn fixed(sizes: &[usize]) -> Vec<Dim> {
    sizes.iter().map(|n| Dim::Fixed(*n)).collect()
}

/// Where each element comes from, by walking and by looking each up.
fn sources(moves: &Moves) -> Vec<Option<usize>> {
    let count = elements(moves.shape()).unwrap();
    let mut walked = vec![None; count];
    let mut seen = 0;
    moves.runs(|run| {
        assert_eq!(run.to, seen, "runs are in order and leave nothing out");
        seen += run.count;
        for i in 0..run.count {
            walked[run.to + i] = run.from.map(|from| from.wrapping_add_signed(run.step * i as isize));
        }
    });
    assert_eq!(seen, count);
    assert_eq!(moves.rows() * moves.inner(), count);
    let looked_up: Vec<Option<usize>> = (0..count).map(|element| moves.source(element)).collect();
    assert_eq!(walked, looked_up);
    let mut by_parts = Vec::new();
    for row in 0..moves.rows() {
        moves.runs_of(row..row + 1, |run| {
            by_parts.extend((0..run.count).map(|i| run.from.map(|f| f.wrapping_add_signed(run.step * i as isize))));
        });
    }
    assert_eq!(walked, by_parts);
    walked
}

fn of(op: Op, x: &[usize]) -> Vec<Option<usize>> {
    let moves = op.moves(x, None, SIZES).unwrap().unwrap();
    sources(&moves[0])
}

fn some(places: &[usize]) -> Vec<Option<usize>> {
    places.iter().map(|place| Some(*place)).collect()
}

fn gathered(op: Op, x: &[usize], shape: &[usize], numbers: &[i64]) -> Result<Vec<Option<usize>>, OpError> {
    Ok(sources(&op.moves(x, Some(Places { shape, numbers }), SIZES).unwrap()?[0]))
}

#[test]
fn elements_move_as_each_operator_says() {
    assert_eq!(of(Op::Transpose(Transpose { axes: vec![1, 0] }), &[2, 3]), some(&[0, 3, 1, 4, 2, 5]));
    assert_eq!(of(Op::Expand(Expand { shape: vec![Dim::Batch, 2.into()] }), &[1, 2]), some(&[0, 1, 0, 1]));
    assert_eq!(of(Op::Expand(Expand { shape: fixed(&[2, 2]) }), &[2, 1]), some(&[0, 0, 1, 1]));
    assert_eq!(of(Op::Tile(Tile { repeats: fixed(&[2, 2]) }), &[1, 2]), some(&[0, 1, 0, 1, 0, 1, 0, 1]));
    assert_eq!(of(Op::Slice(Slice::places(1, 1, 4, 2)), &[2, 4]), some(&[1, 3, 5, 7]));
    assert_eq!(of(Op::Reverse(Reverse { axis: 1 }), &[2, 3]), some(&[2, 1, 0, 5, 4, 3]));
    assert_eq!(of(Op::Select(Select { axis: 0, index: -1 }), &[2, 3]), some(&[3, 4, 5]));
    assert_eq!(of(Op::Reshape(Reshape { shape: fixed(&[3, 2]) }), &[2, 3]), some(&[0, 1, 2, 3, 4, 5]));
    assert_eq!(of(Op::Flatten, &[1, 2, 2]), some(&[0, 1, 2, 3]));
    let pad = |fill| of(Op::Pad(Pad { axis: 0, before: 2, after: 1, fill }), &[3]);
    assert_eq!(pad(Fill::Value(7.0)), [None, None, Some(0), Some(1), Some(2), None]);
    assert_eq!(pad(Fill::Edge), some(&[0, 0, 0, 1, 2, 2]));
    assert_eq!(pad(Fill::Wrap), some(&[1, 2, 0, 1, 2, 0]));
    assert_eq!(pad(Fill::Reflect), some(&[2, 1, 0, 1, 2, 1]));
    let upper = of(Op::Trilu(Trilu { upper: true, diagonal: 1 }), &[1, 2, 3]);
    assert_eq!(upper, [None, Some(1), Some(2), None, None, Some(5)]);
    let lower = of(Op::Trilu(Trilu { upper: false, diagonal: 0 }), &[2, 2]);
    assert_eq!(lower, [Some(0), None, Some(2), Some(3)]);
    // Two channels of one pixel from eight: the channel slowest, and fastest.
    let depth = |channel_first| of(Op::DepthToSpace(DepthToSpace { block: 2, channel_first }), &[1, 8, 1, 1]);
    assert_eq!(depth(true), some(&[0, 1, 2, 3, 4, 5, 6, 7]));
    assert_eq!(depth(false), some(&[0, 2, 4, 6, 1, 3, 5, 7]));
    let nearest =
        ResizeNearest { shape: fixed(&[4]), scales: vec![2.0], place: Place::Asymmetric, rounding: Rounding::Floor };
    assert_eq!(of(Op::ResizeNearest(nearest), &[2]), some(&[0, 0, 1, 1]));
}

#[test]
fn what_is_gathered_comes_from_the_places() {
    let gather = Op::Gather(Gather { axis: 1 });
    assert_eq!(gathered(gather.clone(), &[2, 3], &[2], &[2, -3]), Ok(some(&[2, 0, 5, 3])));
    assert_eq!(gathered(Op::Embedding, &[3, 2], &[1, 2], &[2, 0]), Ok(some(&[4, 5, 0, 1])));
    let elements = Op::GatherElements(GatherElements { axis: 0 });
    assert_eq!(gathered(elements, &[2, 2], &[1, 2], &[1, 0]), Ok(some(&[2, 1])));
    let nd = |batch_axes| Op::GatherNd(GatherNd { batch_axes });
    assert_eq!(gathered(nd(0), &[2, 2], &[2, 2], &[0, 0, 1, 1]), Ok(some(&[0, 3])));
    assert_eq!(gathered(nd(1), &[2, 2, 2], &[2, 1], &[1, 0]), Ok(some(&[2, 3, 4, 5])));
    for wrong in [3, -4, i64::MAX, i64::MIN] {
        let error = gathered(gather.clone(), &[2, 3], &[1], &[wrong]).unwrap_err().to_string();
        assert_eq!(error, format!("Gather: place {wrong} is not on an axis of 3 places"));
    }
}

#[test]
fn what_moves_nothing_is_known_as_such() {
    let moves = |op: Op, x: &[usize]| op.moves(x, None, SIZES).unwrap().unwrap().remove(0);
    assert!(moves(Op::Transpose(Transpose { axes: vec![0, 2, 1] }), &[4, 1, 5]).is_identity(20));
    assert!(moves(Op::Slice(Slice::places(0, 0, 4, 1)), &[4, 3]).is_identity(12));
    assert!(!moves(Op::Slice(Slice::places(0, 0, 3, 1)), &[4, 3]).is_identity(12));
    // A slice of the first axis is one run; so is what is gathered there, row by row.
    assert_eq!(moves(Op::Slice(Slice::places(0, 1, 3, 1)), &[4, 3, 5]).rows(), 1);
    assert!(Op::Shape.moves(&[2], None, SIZES).is_none());
}

#[test]
fn hostile_sizes_are_refused_before_anything_is_made() {
    let huge = Pad { axis: 0, before: 1 << 39, after: 0, fill: Fill::Edge };
    assert!(Op::Pad(huge).moves(&[1], None, SIZES).unwrap().is_err());
    assert!(Op::Expand(Expand { shape: fixed(&[1 << 40, 1 << 40]) }).moves(&[1], None, SIZES).unwrap().is_err());
    // Empty outputs may have axes of any size.
    let empty = Op::Pad(huge).moves(&[1, 0], None, SIZES).unwrap().unwrap();
    assert_eq!(sources(&empty[0]), []);
    assert!(Op::Gather(Gather { axis: 0 }).moves(&[3], None, SIZES).unwrap().is_err());
    assert!(Op::Select(Select { axis: 4, index: 0 }).moves(&[3], None, SIZES).unwrap().is_err());
    assert!(
        Op::Slice(Slice { axis: 0, start: 0.into(), end: Dim::SEQUENCE, step: 1 })
            .moves(&[2], None, SIZES)
            .unwrap()
            .is_err()
    );
}

proptest! {
    #[test]
    fn slices_are_those_of_the_standard_library(size in 1usize..12, start in 0usize..6, end in 0usize..12, step in 1usize..4) {
        prop_assume!(start <= end && end <= size);
        let expected: Vec<usize> = (start..end).step_by(step).collect();
        prop_assert_eq!(of(Op::Slice(Slice::places(0, start, end, step)), &[size]), some(&expected));
    }

    #[test]
    fn a_permutation_and_its_inverse_move_nothing(
        axes in Just(vec![0usize, 1, 2, 3]).prop_shuffle(), x in prop::array::uniform4(1usize..4),
    ) {
        let mut inverse = vec![0; 4];
        for (to, from) in axes.iter().enumerate() {
            inverse[*from] = to;
        }
        let shape: Vec<usize> = axes.iter().map(|axis| x[*axis]).collect();
        let (there, back) = (of(Op::Transpose(Transpose { axes }), &x), of(Op::Transpose(Transpose { axes: inverse }), &shape));
        let both: Vec<Option<usize>> = back.iter().map(|place| there[place.unwrap()]).collect();
        prop_assert_eq!(both, (0..x.iter().product()).map(Some).collect::<Vec<_>>());
    }

    #[test]
    fn pixels_become_channels_and_pixels_again(
        n in 1usize..3, c in 1usize..3, h in 1usize..3, w in 1usize..3, block in 1usize..4, channel_first: bool,
    ) {
        let (x, y) = ([n, c, h * block, w * block], [n, c * block * block, h, w]);
        let there = of(Op::SpaceToDepth(SpaceToDepth { block, channel_first }), &x);
        let back = of(Op::DepthToSpace(DepthToSpace { block, channel_first }), &y);
        let both: Vec<Option<usize>> = back.iter().map(|place| there[place.unwrap()]).collect();
        prop_assert_eq!(both, (0..x.iter().product()).map(Some).collect::<Vec<_>>());
    }

    #[test]
    fn the_parts_of_an_axis_hold_each_element_once(
        before in 1usize..3, after in 1usize..3, parts in prop::collection::vec(0usize..4, 1..4),
    ) {
        let split = Split { axis: 1, sizes: fixed(&parts) };
        let x = [before, parts.iter().sum(), after];
        let moves = Op::Split(split).moves(&x, None, SIZES).unwrap().unwrap();
        let mut all: Vec<Option<usize>> = moves.iter().flat_map(sources).collect();
        all.sort();
        prop_assert_eq!(all, (0..x.iter().product()).map(Some).collect::<Vec<_>>());
    }
}
