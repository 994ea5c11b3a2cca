//! Sums of any range of a list of numbers.

/// The numbers, and the sums of two, four, eight of them and so on: a range is the sum of few of these. No sum is the
/// difference of two, which between numbers of very different sizes would have no right digits.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct RangeSums {
    /// A binary tree in heap order; the second half are the numbers.
    nodes: Vec<f64>,
}

impl RangeSums {
    pub(super) fn of(numbers: impl ExactSizeIterator<Item = f64>) -> Self {
        let count = numbers.len();
        let mut nodes = vec![0.0; 2 * count];
        nodes[count..].iter_mut().zip(numbers).for_each(|(node, number)| *node = number);
        for at in (1..count).rev() {
            nodes[at] = nodes[2 * at] + nodes[2 * at + 1];
        }
        Self { nodes }
    }

    /// The sum of the numbers from a place to before another.
    pub(super) fn between(&self, from: usize, to: usize) -> f64 {
        let count = self.nodes.len() / 2;
        let (mut from, mut to, mut sum) = (from + count, to + count, 0.0);
        while from < to {
            if from % 2 == 1 {
                sum += self.nodes[from];
                from += 1;
            }
            if to % 2 == 1 {
                to -= 1;
                sum += self.nodes[to];
            }
            (from, to) = (from / 2, to / 2);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_has_its_sum() {
        for count in 0..20 {
            let sums = RangeSums::of((0..count).map(|i| (i * i) as f64));
            for (from, to) in (0..=count).flat_map(|from| (from..=count).map(move |to| (from, to))) {
                assert_eq!(sums.between(from, to), (from..to).map(|i| (i * i) as f64).sum::<f64>());
            }
        }
    }
}
