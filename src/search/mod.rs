//! Search for good compromises: settings of which none is better in everything than another.
//!
//! A setting is a [`Genome`], whole numbers within the bounds of a [`Space`]; what is wanted are two or more objectives,
//! each to be as small as it can be, such as the error of a pruned network and its multiply-accumulate operations.
//! [`nsga2`] proposes genomes, whoever knows what they mean measures them; [`pareto`] says which of them are compromises.
//! Nothing here knows what a network is.

pub mod nsga2;
pub mod pareto;
mod vary;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::error::{Classify, Kind, Violation};

/// A setting: one number a gene.
pub type Genome = Vec<u32>;

/// The least and the greatest value of each gene, both of them allowed.
///
/// ```
/// use niwaki::search::Space;
/// let space = Space::new(vec![1, 8], vec![1, 64])?;
/// assert!(space.holds(&[1, 64]) && !space.holds(&[0, 64]) && !space.holds(&[1]));
/// assert!(Space::new(vec![2], vec![1]).is_err());
/// # Ok::<(), niwaki::search::SearchError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "[Genome; 2]", into = "[Genome; 2]")]
pub struct Space {
    low: Genome,
    high: Genome,
}

impl Space {
    /// The space with these bounds; there must be as many of both, and at least one, and none may be crossed.
    pub fn new(low: Genome, high: Genome) -> Result<Self, SearchError> {
        let bad = |field, problem| Err(SearchError::Config { field, problem });
        if low.is_empty() {
            return bad("low", "has no gene");
        }
        if low.len() != high.len() {
            return bad("high", "must have as many genes as low");
        }
        if low.iter().zip(&high).any(|(low, high)| low > high) {
            return bad("low", "must nowhere be above high");
        }
        Ok(Self { low, high })
    }

    /// Genes.
    pub fn genes(&self) -> usize {
        self.low.len()
    }

    /// The least genome.
    pub fn low(&self) -> &[u32] {
        &self.low
    }

    /// The greatest genome.
    pub fn high(&self) -> &[u32] {
        &self.high
    }

    /// Whether a genome lies within the bounds.
    pub fn holds(&self, genome: &[u32]) -> bool {
        genome.len() == self.genes() && self.bounds().zip(genome).all(|([low, high], gene)| (low..=high).contains(gene))
    }

    /// Least and greatest value, gene by gene.
    fn bounds(&self) -> impl Iterator<Item = [u32; 2]> + '_ {
        self.low.iter().zip(&self.high).map(|(low, high)| [*low, *high])
    }

    /// The whole number nearest to `value`, within the bounds.
    fn nearest([low, high]: [u32; 2], value: f64) -> u32 {
        value.round().clamp(f64::from(low), f64::from(high)) as u32
    }

    /// The genome whose genes all have that share of the way from the least to the greatest behind them.
    fn at(&self, shares: impl IntoIterator<Item = f64>) -> Genome {
        let gene = |([low, high], share): ([u32; 2], f64)| {
            Self::nearest([low, high], f64::from(low) + share * f64::from(high - low))
        };
        self.bounds().zip(shares).map(gene).collect()
    }
}

impl TryFrom<[Genome; 2]> for Space {
    type Error = SearchError;

    fn try_from([low, high]: [Genome; 2]) -> Result<Self, SearchError> {
        Self::new(low, high)
    }
}

impl From<Space> for [Genome; 2] {
    fn from(Space { low, high }: Space) -> Self {
        [low, high]
    }
}

/// Why a search cannot begin or go on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SearchError {
    /// A setting of the search that makes no sense.
    #[error("{field} {problem}")]
    Config {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A genome, given at the beginning or by a repair, that is not of the space.
    #[error("the genome {genome:?} lies outside the space from {low:?} to {high:?}")]
    Outside {
        /// The genome.
        genome: Genome,
        /// The least one.
        low: Genome,
        /// The greatest one.
        high: Genome,
    },
    /// Objectives that do not belong to the genomes that were asked for.
    #[error("{expected} {what} are expected, not {actual}")]
    Objectives {
        /// What there is too much or too little of: `evaluations`, or `objectives of a genome`.
        what: &'static str,
        /// How many there should be.
        expected: usize,
        /// How many there are.
        actual: usize,
    },
}

impl Classify for SearchError {
    fn kind(&self) -> Kind {
        match self {
            SearchError::Config { .. } => Kind::InvalidArgument,
            SearchError::Outside { .. } | SearchError::Objectives { .. } => Kind::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            SearchError::Config { .. } => "SEARCH_CONFIG",
            SearchError::Outside { .. } | SearchError::Objectives { .. } => "SEARCH_FAILED",
        }
    }

    fn violations(&self) -> Vec<Violation> {
        match self {
            SearchError::Config { field, problem } => vec![Violation::new(*field, *problem)],
            SearchError::Outside { .. } | SearchError::Objectives { .. } => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_space_is_checked_also_where_it_is_read() {
        let space = Space::new(vec![1, 3], vec![4, 3]).unwrap();
        let text = serde_json::to_string(&space).unwrap();
        assert_eq!(serde_json::from_str::<Space>(&text).unwrap(), space);
        for crossed in ["[[2],[1]]", "[[1],[1,2]]", "[[],[]]"] {
            assert!(serde_json::from_str::<Space>(crossed).is_err(), "{crossed}");
        }
    }

    #[test]
    fn shares_of_the_way_are_rounded_to_the_nearest_genome() {
        let space = Space::new(vec![0, 10, 7], vec![u32::MAX, 14, 7]).unwrap();
        assert_eq!(space.at([0.0; 3]), space.low());
        assert_eq!(space.at([1.0; 3]), space.high());
        assert_eq!(space.at([0.5; 3]), [1 << 31, 12, 7]);
        assert_eq!(space.at([0.25, 0.4, 0.9]), [1 << 30, 12, 7]);
    }
}
