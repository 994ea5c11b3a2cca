//! Which of several points are compromises, and how much a set of them covers. All objectives are to be small.
//!
//! ```text
//!   a dominates b    <=>    a_k <= b_k for every objective k, and a_k < b_k for one
//!
//!   front 0: dominated by nobody       front i: what nobody dominates once the fronts 0 .. i - 1 are taken away
//! ```
//!
//! Sorting and crowding are those of Deb, Pratap, Agarwal and Meyarivan, *A fast and elitist multiobjective genetic
//! algorithm: NSGA-II*, 2002.

/// Whether `a` is at least as good as `b` in every objective and better in one. A NaN is neither better nor worse.
pub fn dominates(a: &[f64], b: &[f64]) -> bool {
    let mut better = false;
    for (a, b) in a.iter().zip(b) {
        if a > b {
            return false;
        }
        better |= a < b;
    }
    better
}

/// The places of the points that no other dominates, in their order. Of equal points all are there.
pub fn front<P: AsRef<[f64]>>(points: &[P]) -> Vec<usize> {
    let is_free = |place: &usize| !points.iter().any(|other| dominates(other.as_ref(), points[*place].as_ref()));
    (0..points.len()).filter(is_free).collect()
}

/// The places of all points, front by front, each in the points' order: the fast sort of the paper, which compares every
/// pair of points once.
pub fn fronts<P: AsRef<[f64]>>(points: &[P]) -> Vec<Vec<usize>> {
    // By place: whom the point dominates, and by how many of those that are not yet taken away it is dominated.
    let mut beaten = vec![Vec::new(); points.len()];
    let mut beaten_by = vec![0usize; points.len()];
    for a in 0..points.len() {
        for b in a + 1..points.len() {
            let (first, second) = (points[a].as_ref(), points[b].as_ref());
            let (winner, loser) = match (dominates(first, second), dominates(second, first)) {
                (true, _) => (a, b),
                (_, true) => (b, a),
                _ => continue,
            };
            beaten[winner].push(loser);
            beaten_by[loser] += 1;
        }
    }
    let mut fronts = Vec::new();
    let mut front: Vec<usize> = (0..points.len()).filter(|place| beaten_by[*place] == 0).collect();
    while !front.is_empty() {
        let mut next = Vec::new();
        for loser in front.iter().flat_map(|winner| &beaten[*winner]) {
            beaten_by[*loser] -= 1;
            if beaten_by[*loser] == 0 {
                next.push(*loser);
            }
        }
        next.sort_unstable();
        fronts.push(std::mem::replace(&mut front, next));
    }
    fronts
}

/// How lonely each point of a front is, in the front's order: the sum over objectives of the distance between its two
/// neighbours, as a share of the whole front's extent; infinite at both ends.
///
/// Objectives must be finite. An objective that is the same everywhere adds nothing.
pub fn crowding<P: AsRef<[f64]>>(points: &[P], front: &[usize]) -> Vec<f64> {
    let mut distance = vec![0.0; front.len()];
    let objectives = front.first().map_or(0, |place| points[*place].as_ref().len());
    for objective in 0..objectives {
        // Halves, whose differences stay finite.
        let value = |i: usize| points[front[i]].as_ref()[objective] / 2.0;
        let mut order: Vec<usize> = (0..front.len()).collect();
        order.sort_by(|a, b| value(*a).total_cmp(&value(*b)));
        let [first, .., last] = order[..] else { return vec![f64::INFINITY; front.len()] };
        let extent = value(last) - value(first);
        if extent > 0.0 {
            for neighbours in order.windows(3) {
                distance[neighbours[1]] += (value(neighbours[2]) - value(neighbours[0])) / extent;
            }
            distance[first] = f64::INFINITY;
            distance[last] = f64::INFINITY;
        }
    }
    distance
}

/// The area that points dominate below a reference point: the measure of a front in two dimensions (Zitzler and Thiele
/// 1998). Points that are not better than the reference in both objectives count for nothing.
///
/// ```
/// use niwaki::search::pareto::hypervolume;
/// assert_eq!(hypervolume(&[[0.0, 1.0], [1.0, 0.0]], [2.0, 2.0]), 3.0);
/// ```
pub fn hypervolume(points: &[[f64; 2]], reference: [f64; 2]) -> f64 {
    let counts = |point: &&[f64; 2]| point[0] < reference[0] && point[1] < reference[1];
    let mut points: Vec<[f64; 2]> = points.iter().filter(counts).copied().collect();
    points.sort_by(|a, b| a[0].total_cmp(&b[0]).then(a[1].total_cmp(&b[1])));
    // From left to right, each point adds a slab from the lowest before it down to its own height.
    let (mut lowest, mut area) = (reference[1], 0.0);
    for [x, y] in points {
        if y < lowest {
            area += (reference[0] - x) * (lowest - y);
            lowest = y;
        }
    }
    area
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// By the definition: take away, again and again, what nobody left dominates.
    fn naive_fronts(points: &[Vec<f64>]) -> Vec<Vec<usize>> {
        let mut left: Vec<usize> = (0..points.len()).collect();
        let mut fronts = Vec::new();
        while !left.is_empty() {
            let is_free = |a: &usize| !left.iter().any(|b| dominates(&points[*b], &points[*a]));
            let (front, rest): (Vec<usize>, Vec<usize>) = left.iter().partition(|place| is_free(place));
            fronts.push(front);
            left = rest;
        }
        fronts
    }

    /// The area below the reference by counting unit squares.
    fn counted(points: &[[f64; 2]], reference: [u32; 2]) -> f64 {
        let squares = (0..reference[0]).flat_map(|x| (0..reference[1]).map(move |y| [f64::from(x), f64::from(y)]));
        let is_dominated = |square: &[f64; 2]| points.iter().any(|p| p[0] <= square[0] && p[1] <= square[1]);
        squares.filter(is_dominated).count() as f64
    }

    /// Few values, so that many are equal.
    fn points() -> impl Strategy<Value = Vec<Vec<f64>>> {
        (1usize..4).prop_flat_map(|objectives| {
            prop::collection::vec(prop::collection::vec((0u8..6).prop_map(f64::from), objectives), 0..40)
        })
    }

    proptest! {
        #[test]
        fn fronts_are_those_of_the_definition(points in points()) {
            let fronts = fronts(&points);
            prop_assert_eq!(fronts.first().cloned().unwrap_or_default(), front(&points));
            prop_assert_eq!(fronts, naive_fronts(&points));
        }

        #[test]
        fn the_hypervolume_is_the_area_that_is_dominated(
            points in prop::collection::vec((0u8..9, 0u8..9), 0..12), width in 1u32..9, height in 1u32..9,
        ) {
            let points: Vec<[f64; 2]> = points.into_iter().map(|(x, y)| [f64::from(x), f64::from(y)]).collect();
            let reference = [f64::from(width), f64::from(height)];
            prop_assert_eq!(hypervolume(&points, reference), counted(&points, [width, height]));
        }
    }

    #[test]
    fn no_point_dominates_its_equal_or_what_is_no_number() {
        assert!(dominates(&[1.0, 2.0], &[1.0, 3.0]));
        assert!(!dominates(&[1.0, 2.0], &[1.0, 2.0]));
        assert!(!dominates(&[1.0, 2.0], &[2.0, 1.0]));
        assert!(!dominates(&[f64::NAN], &[1.0]) && !dominates(&[1.0], &[f64::NAN]));
    }

    #[test]
    fn crowding_is_the_way_around_each_point_and_the_ends_are_lonely() {
        let points = [[0.0, 10.0], [4.0, 0.0], [1.0, 6.0], [2.0, 5.0]];
        let found = crowding(&points, &[0, 1, 2, 3]);
        assert_eq!(found[..2], [f64::INFINITY; 2]);
        // Its neighbours are 0 and 2 of 4, and 10 and 5 of 10; then 1 and 4 of 4, and 6 and 0 of 10.
        assert_eq!(found[2..], [0.5 + 0.5, 0.75 + 0.6]);
        assert_eq!(crowding(&points, &[2]), [f64::INFINITY]);
        assert!(crowding(&points, &[]).is_empty());
        assert_eq!(crowding(&[[1.0, 1.0]; 3], &[0, 1, 2]), [0.0; 3]);
        let far = [[f64::MAX, f64::MIN], [0.0, 0.0], [f64::MIN, f64::MAX]];
        assert_eq!(crowding(&far, &[0, 1, 2]), [f64::INFINITY, 2.0, f64::INFINITY]);
    }

    #[test]
    fn known_hypervolumes_are_found() {
        assert_eq!(hypervolume(&[], [1.0, 1.0]), 0.0);
        assert_eq!(hypervolume(&[[0.5, 0.5]], [1.0, 1.0]), 0.25);
        assert_eq!(hypervolume(&[[1.0, 0.0], [0.0, 1.0]], [1.0, 1.0]), 0.0);
        assert_eq!(hypervolume(&[[0.0, 3.0], [1.0, 1.0], [3.0, 0.0], [2.0, 2.0]], [4.0, 4.0]), 4.0 + 6.0 + 1.0);
        // The front of ZDT1, 1 - sqrt(x), covers 2/3 of the unit square.
        let front: Vec<[f64; 2]> = (0..=10_000).map(|i| f64::from(i) / 1e4).map(|x| [x, 1.0 - x.sqrt()]).collect();
        assert!((hypervolume(&front, [1.0, 1.0]) - 2.0 / 3.0).abs() < 1e-4);
    }
}
