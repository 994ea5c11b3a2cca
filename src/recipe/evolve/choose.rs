//! Which member of a front goes on, and which are shown.

use crate::search::Genome;
use crate::search::nsga2::Nsga2;

/// Members of a front that are shown and written.
pub(super) const MOST: usize = 32;

/// Which member of the front goes on as the network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Choose {
    /// The cheapest whose accuracy is at most so much below that of the network before, in `[0, 1)`; where none is, the
    /// most accurate.
    MaxDrop(f64),
    /// The one farthest below the line between the front's ends, each objective as a share of its extent (Das 1999).
    Knee,
    /// The most accurate.
    MostAccurate,
}

/// A genome with its error, in samples, and its cost.
pub(super) type Member = (Genome, [f64; 2]);

impl Choose {
    /// The place of the member that is chosen of a front, the cheapest first; `dense` is the error of the network before on
    /// so many samples.
    pub(super) fn of(self, front: &[Member], dense: f64, samples: usize) -> usize {
        let most_accurate = front.len() - 1;
        match self {
            Choose::MostAccurate => most_accurate,
            Choose::MaxDrop(drop) => {
                // A share of samples that is a whole number of them shall be one in spite of rounding.
                let most = dense.floor() + drop * samples as f64 + 1e-6;
                front.iter().position(|(_, [error, _])| error.floor() <= most).unwrap_or(most_accurate)
            }
            Choose::Knee => {
                let [(_, [worst, cheapest]), .., (_, [best, dearest])] = front else { return most_accurate };
                let height = |(_, [error, cost]): &Member| {
                    (error - best) / (worst - best) + (cost - cheapest) / (dearest - cheapest)
                };
                let least = |a: &usize, b: &usize| height(&front[*a]).total_cmp(&height(&front[*b]));
                (0..front.len()).min_by(least).unwrap_or(most_accurate)
            }
        }
    }
}

/// The compromises of a search, the cheapest first, each pair of objectives once; `None` if no genome could be measured.
pub(super) fn front(search: &Nsga2) -> Option<Vec<Member>> {
    let members =
        search.front().into_iter().map(|found| (found.genome.clone(), [found.objectives[0], found.objectives[1]]));
    let mut front: Vec<Member> = members.filter(|(_, objectives)| !objectives.contains(&f64::MAX)).collect();
    front.sort_by(|(_, a), (_, b)| a[1].total_cmp(&b[1]));
    front.dedup_by_key(|(_, objectives)| *objectives);
    (!front.is_empty()).then_some(front)
}

/// At most [`MOST`] members, evenly chosen by their places, both ends and the chosen one among them; and where that is now.
pub(super) fn thinned(front: Vec<Member>, chosen: usize) -> (Vec<Member>, usize) {
    if front.len() <= MOST {
        return (front, chosen);
    }
    let mut places: Vec<usize> = (0..MOST).map(|i| i * (front.len() - 1) / (MOST - 1)).collect();
    let at = places.iter().position(|place| *place == chosen);
    let at = at.or_else(|| (1..MOST - 1).min_by_key(|i| places[*i].abs_diff(chosen))).unwrap_or(0);
    places[at] = chosen;
    (places.into_iter().map(|place| front[place].clone()).collect(), at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::Space;
    use crate::search::nsga2::Settings;

    fn members(objectives: &[[f64; 2]]) -> Vec<Member> {
        (0..).zip(objectives).map(|(i, objectives)| (vec![i], *objectives)).collect()
    }

    #[test]
    fn the_cheapest_within_the_drop_is_chosen_or_else_the_most_accurate() {
        let front = members(&[[50.9, 1.0], [30.5, 2.0], [20.1, 3.0], [12.3, 4.0]]);
        let chosen = |choose: Choose, dense: f64| choose.of(&front, dense, 1000);
        // 10 wrong before, and 20 of 1000 more: 30 wrong are allowed, whatever the loss.
        assert_eq!(chosen(Choose::MaxDrop(0.02), 10.0), 1);
        assert_eq!(chosen(Choose::MaxDrop(0.019), 10.9), 2);
        assert_eq!(chosen(Choose::MaxDrop(0.0), 12.1), 3);
        assert_eq!(chosen(Choose::MaxDrop(0.0), 1.0), 3);
        assert_eq!(chosen(Choose::MaxDrop(0.5), 1.0), 0);
        assert_eq!(chosen(Choose::MostAccurate, 1.0), 3);
    }

    #[test]
    fn the_knee_is_farthest_below_the_line() {
        let front = members(&[[100.0, 1.0], [60.0, 2.0], [10.0, 3.0], [5.0, 8.0], [0.0, 11.0]]);
        assert_eq!(Choose::Knee.of(&front, 0.0, 1000), 2);
        assert_eq!(Choose::Knee.of(&front[..1], 0.0, 1000), 0);
    }

    #[test]
    fn a_front_is_sorted_by_cost_without_equals_and_what_could_not_be_measured() {
        let space = Space::new(vec![0], vec![9]).unwrap();
        let settings = Settings { space, population: 10, objectives: 2, seed: 1 };
        let mut search = Nsga2::new(settings.clone(), vec![]).unwrap();
        let asked = search.ask(&|genome| genome).unwrap().to_vec();
        assert_eq!(asked.len(), 10);
        let worth = |genome: &Genome| match genome[0] {
            0 => vec![f64::NAN, 0.0],
            gene => vec![10.0 - f64::from(gene / 2), f64::from(gene / 2)],
        };
        search.tell(asked.iter().map(worth).collect()).unwrap();
        let objectives: Vec<[f64; 2]> = front(&search).unwrap().into_iter().map(|(_, objectives)| objectives).collect();
        assert_eq!(objectives, [[10.0, 0.0], [9.0, 1.0], [8.0, 2.0], [7.0, 3.0], [6.0, 4.0]]);

        let mut hopeless = Nsga2::new(settings, vec![]).unwrap();
        let asked = hopeless.ask(&|genome| genome).unwrap().len();
        hopeless.tell(vec![vec![f64::NAN; 2]; asked]).unwrap();
        assert!(front(&hopeless).is_none());
    }

    #[test]
    fn a_long_front_is_thinned_evenly_and_keeps_its_ends_and_what_is_chosen() {
        let long: Vec<[f64; 2]> = (0..100).map(|i| [f64::from(100 - i), f64::from(i)]).collect();
        for chosen in [0, 1, 50, 51, 98, 99] {
            let (front, place) = thinned(members(&long), chosen);
            assert_eq!((front.len(), front[place].0[0]), (MOST, chosen as u32));
            assert!(front.is_sorted_by(|a, b| a.0 < b.0));
            assert_eq!([front[0].0[0], front[MOST - 1].0[0]], [0, 99]);
        }
        assert_eq!(thinned(members(&long[..32]), 7), (members(&long[..32]), 7));
    }
}
