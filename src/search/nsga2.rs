//! NSGA-II (Deb, Pratap, Agarwal and Meyarivan 2002) over whole numbers: an evolution that keeps a whole front of
//! compromises.
//!
//! ```text
//!   parents ── tournaments ──▶ pairs ── crossover, mutation, repair ──▶ offspring ── evaluated by the caller ──┐
//!      ▲                                                                                                       │
//!      └── the best fronts of both, the last one's loneliest ◀── parents + offspring ◀────────────────────────┘
//! ```
//!
//! The search asks and is told; between the two it is a plain value that can be written down and read again, and goes on
//! from there as if nothing had been. What it draws is a function of the seed and of the generation.
//!
//! ```
//! use niwaki::search::nsga2::{Nsga2, Settings};
//! use niwaki::search::{Genome, Space};
//!
//! // Nearer to 3 is farther from 17.
//! let evaluate = |genome: &Genome| vec![f64::from(genome[0].abs_diff(3)), f64::from(genome[0].abs_diff(17))];
//! let space = Space::new(vec![0], vec![100])?;
//! let mut search = Nsga2::new(Settings { space, population: 16, objectives: 2, seed: 7 }, vec![])?;
//! while search.generation() < 10 {
//!     let asked = search.ask(&|genome| genome)?;
//!     if asked.is_empty() {
//!         break;
//!     }
//!     let told = asked.iter().map(evaluate).collect();
//!     search.tell(told)?;
//! }
//! assert_eq!(search.front().len(), 15);
//! # Ok::<(), niwaki::search::SearchError>(())
//! ```

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Genome, SearchError, Space, pareto, vary};
use crate::seed;

/// Candidates that are made for each that is wanted, before a generation is left smaller.
const TRIES: usize = 16;

/// What is searched, and how widely.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The genomes that there are.
    pub space: Space,
    /// Genomes of a generation; at least 2.
    pub population: usize,
    /// Objectives; at least 2.
    pub objectives: usize,
    /// What everything random follows from.
    pub seed: u64,
}

/// A genome and what it is worth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluated {
    /// The genome.
    pub genome: Genome,
    /// Its objectives, the smaller the better; all [`f64::MAX`] where it could not be evaluated.
    pub objectives: Vec<f64>,
}

impl AsRef<[f64]> for Evaluated {
    fn as_ref(&self) -> &[f64] {
        &self.objectives
    }
}

/// A search, between two of its steps. See the [module documentation](self).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nsga2 {
    settings: Settings,
    /// The genomes to begin with; none once they are asked for.
    initial: Vec<Genome>,
    /// Generations that were told.
    generation: u32,
    /// Those asked for and not told yet.
    asked: Vec<Genome>,
    /// Those that the next ones descend from.
    population: Vec<Evaluated>,
    /// All that was ever evaluated, in the order of the genomes.
    archive: Vec<Evaluated>,
}

impl Nsga2 {
    /// A search that begins with the genomes `initial`, however many; then those of equal shares and a Latin hypercube fill
    /// the first generation up.
    pub fn new(settings: Settings, initial: Vec<Genome>) -> Result<Self, SearchError> {
        for (field, value) in [("population", settings.population), ("objectives", settings.objectives)] {
            if value < 2 {
                return Err(SearchError::Config { field, problem: "must be at least 2" });
            }
        }
        initial.iter().try_for_each(|genome| check(&settings.space, genome))?;
        let (generation, asked, population, archive) = (0, Vec::new(), Vec::new(), Vec::new());
        Ok(Self { settings, initial, generation, asked, population, archive })
    }

    /// The genomes to be evaluated now: none of them was before, and none comes twice. They are the same until they are
    /// [told](Nsga2::tell). None at all: the search finds nothing new, and is at its end.
    ///
    /// `repair` makes of any genome one that may be, within a budget for example; where nothing is to be repaired, it
    /// gives back what it gets. It must be a function of the genome alone.
    pub fn ask(&mut self, repair: &dyn Fn(Genome) -> Genome) -> Result<&[Genome], SearchError> {
        if self.asked.is_empty() {
            let mut rng = seed::stream(self.settings.seed, &format!("search/{}", self.generation));
            let mut brood = Brood { repair, search: self, genomes: Vec::new() };
            if self.generation == 0 {
                begin(&mut brood, &mut rng)?;
            } else {
                breed(&mut brood, &mut rng)?;
            }
            // What a small or a much searched space still has.
            let tries = if brood.room() > 0 { TRIES * self.settings.population } else { 0 };
            for _ in 0..tries {
                brood.take(vary::random(&self.settings.space, &mut rng))?;
            }
            self.asked = brood.genomes;
        }
        Ok(&self.asked)
    }

    /// Takes the objectives of the genomes asked for, in their order, and lets the best of them and their parents live.
    ///
    /// A genome one of whose objectives is no finite number could not be evaluated: all of them count as [`f64::MAX`], so
    /// that every other genome dominates it.
    pub fn tell(&mut self, objectives: Vec<Vec<f64>>) -> Result<(), SearchError> {
        let misfit = |what, expected, actual| Err(SearchError::Objectives { what, expected, actual });
        if objectives.len() != self.asked.len() {
            return misfit("evaluations", self.asked.len(), objectives.len());
        }
        if let Some(found) = objectives.iter().find(|found| found.len() != self.settings.objectives) {
            return misfit("objectives of a genome", self.settings.objectives, found.len());
        }
        for (genome, mut objectives) in std::mem::take(&mut self.asked).into_iter().zip(objectives) {
            if objectives.iter().any(|value| !value.is_finite()) {
                objectives.fill(f64::MAX);
            }
            let evaluated = Evaluated { genome, objectives };
            if let Err(place) = self.known(&evaluated.genome) {
                self.archive.insert(place, evaluated.clone());
            }
            self.population.push(evaluated);
        }
        self.initial.clear();
        self.population = survivors(std::mem::take(&mut self.population), self.settings.population);
        self.generation += 1;
        Ok(())
    }

    /// Generations that were told.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// What the search is about.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Those that the next generation descends from, the best fronts first.
    pub fn population(&self) -> &[Evaluated] {
        &self.population
    }

    /// All that was ever evaluated, in the order of the genomes.
    pub fn archive(&self) -> &[Evaluated] {
        &self.archive
    }

    /// The compromises among all that was ever evaluated, in the order of the genomes.
    pub fn front(&self) -> Vec<&Evaluated> {
        pareto::front(&self.archive).into_iter().map(|place| &self.archive[place]).collect()
    }

    /// Where the archive has a genome, or would have it.
    fn known(&self, genome: &[u32]) -> Result<usize, usize> {
        self.archive.binary_search_by(|evaluated| evaluated.genome.as_slice().cmp(genome))
    }
}

fn check(space: &Space, genome: &[u32]) -> Result<(), SearchError> {
    if space.holds(genome) {
        return Ok(());
    }
    let [genome, low, high] = [genome, space.low(), space.high()].map(<[u32]>::to_vec);
    Err(SearchError::Outside { genome, low, high })
}

/// A generation in the making.
struct Brood<'a> {
    search: &'a Nsga2,
    repair: &'a dyn Fn(Genome) -> Genome,
    genomes: Vec<Genome>,
}

impl Brood<'_> {
    /// How many are still wanted.
    fn room(&self) -> usize {
        self.search.settings.population.saturating_sub(self.genomes.len())
    }

    /// Repairs a genome and takes it, if there is room and it is new.
    fn take(&mut self, genome: Genome) -> Result<(), SearchError> {
        if self.room() > 0 { self.take_anyway(genome) } else { Ok(()) }
    }

    fn take_anyway(&mut self, genome: Genome) -> Result<(), SearchError> {
        let genome = (self.repair)(genome);
        check(&self.search.settings.space, &genome)?;
        if self.search.known(&genome).is_err() && !self.genomes.contains(&genome) {
            self.genomes.push(genome);
        }
        Ok(())
    }
}

/// The first generation: what was given, a quarter of the rest of equal shares, and a Latin hypercube.
fn begin(brood: &mut Brood<'_>, rng: &mut ChaCha8Rng) -> Result<(), SearchError> {
    let search = brood.search;
    let space = &search.settings.space;
    search.initial.iter().try_for_each(|genome| brood.take_anyway(genome.clone()))?;
    // Both ends at least.
    let even = (brood.room() / 4).max(2);
    vary::even(space, even).try_for_each(|genome| brood.take(genome))?;
    vary::latin(space, brood.room(), rng).into_iter().try_for_each(|genome| brood.take(genome))
}

/// The children of winners of tournaments.
fn breed(brood: &mut Brood<'_>, rng: &mut ChaCha8Rng) -> Result<(), SearchError> {
    let search = brood.search;
    let (space, parents) = (&search.settings.space, &search.population);
    if parents.is_empty() {
        return Ok(());
    }
    let standing = standing(parents);
    for _ in 0..TRIES * search.settings.population {
        if brood.room() == 0 {
            break;
        }
        let mut winner = || {
            let [a, b] = [0; 2].map(|_| rng.random_range(0..parents.len()));
            if standing[b].is_before(&standing[a]) { b } else { a }
        };
        let pair = [winner(), winner()].map(|place| parents[place].genome.as_slice());
        for mut child in vary::crossed(space, pair, rng) {
            vary::mutate(space, &mut child, rng);
            brood.take(child)?;
        }
    }
    Ok(())
}

/// What decides between two: the front, and within it how lonely a point is.
struct Standing {
    front: usize,
    crowding: f64,
}

impl Standing {
    fn is_before(&self, other: &Self) -> bool {
        self.front < other.front || (self.front == other.front && self.crowding > other.crowding)
    }
}

/// By place.
fn standing(points: &[Evaluated]) -> Vec<Standing> {
    let mut found: Vec<(usize, Standing)> = Vec::new();
    for (number, front) in pareto::fronts(points).into_iter().enumerate() {
        let crowding = pareto::crowding(points, &front);
        found.extend(
            front.into_iter().zip(crowding).map(|(place, crowding)| (place, Standing { front: number, crowding })),
        );
    }
    found.sort_by_key(|(place, _)| *place);
    found.into_iter().map(|(_, standing)| standing).collect()
}

/// The best `count`: whole fronts as long as they fit, of the next one the loneliest.
fn survivors(points: Vec<Evaluated>, count: usize) -> Vec<Evaluated> {
    let mut ranked: Vec<(Standing, Evaluated)> = standing(&points).into_iter().zip(points).collect();
    // A stable sort: of equals those live that were there before.
    ranked.sort_by(|(a, _), (b, _)| a.front.cmp(&b.front).then(b.crowding.total_cmp(&a.crowding)));
    ranked.truncate(count);
    ranked.into_iter().map(|(_, point)| point).collect()
}

#[cfg(test)]
mod tests;
