//! The algebra of axes: what an axis is made of, and what follows from two axes being the same.
//!
//! ```text
//! axis = term + term + …        places side by side: concatenation, splitting, padding
//! term = leaf x leaf x …        places of places, outermost first: reshaping, heads, groups, gates
//! ```
//!
//! A leaf is a number of places of which each may go or stay by itself. Two axes that an operator says are the same are
//! [made equal](Leaves::unify): leaves become each other, or one is taken apart into a sum or product where that is what the
//! other one is. Where nothing fits, all that takes part is frozen, which is always right and only leaves less to cut.

use super::Frozen;
use crate::graph::Dim;
use crate::graph::dim::Sizes;

/// Names a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeafId(pub(super) usize);

/// Leaves one inside the other, outermost first; the sizes multiply.
pub(super) type Term = Vec<LeafId>;
/// Terms side by side; the sizes add up.
pub(super) type Axis = Vec<Term>;

/// What the open sizes count as while axes are compared: primes that no fixed size is a multiple of, so that an open size
/// is found again wherever it is multiplied with others.
const STAND_IN: Sizes = Sizes { batch: 1_000_003, sequence: 1_000_033 };
/// More terms than that, from a product over a sum, are not written out.
const MAX_TERMS: usize = 1024;
/// Why a leaf is frozen whose places are told apart by what lies behind them.
const ROLES: &str = "its places have different roles";
/// Rounds that making two axes equal may take; each makes some leaf smaller or takes a term away.
const MAX_ROUNDS: usize = 100_000;

/// A number of places that go and stay one by one.
#[derive(Debug, Clone)]
struct Leaf {
    dim: Dim,
    /// `dim`, with stand-ins for open sizes.
    size: usize,
    /// What it turned out to be.
    is: Option<Axis>,
    frozen: Option<Frozen>,
    /// Cutting it changes more than what it held.
    inexact: Option<Frozen>,
}

/// All leaves, and what is known about them.
#[derive(Debug, Clone, Default)]
pub(super) struct Leaves {
    leaves: Vec<Leaf>,
    /// The node whose rules are being followed: what it freezes bears its name.
    pub(super) node: String,
}

/// Two axes that cannot be made equal.
#[derive(Debug)]
pub(super) struct Unequal;

impl Leaves {
    /// A new axis of this size, of which nothing is known.
    pub(super) fn axis(&mut self, dim: Dim) -> Axis {
        vec![vec![self.leaf(dim)]]
    }

    pub(super) fn leaf(&mut self, dim: Dim) -> LeafId {
        let size = dim.at(STAND_IN).unwrap_or(0);
        self.leaves.push(Leaf { dim, size, is: None, frozen: None, inexact: None });
        LeafId(self.leaves.len() - 1)
    }

    /// The number of places.
    pub(super) fn size(&self, id: LeafId) -> usize {
        self.leaves[id.0].size
    }

    pub(super) fn dim(&self, id: LeafId) -> Dim {
        self.leaves[id.0].dim
    }

    /// Why none of its places may go. What is open is never cut, but it may turn out to be a product with a part that is.
    pub(super) fn frozen(&self, id: LeafId) -> Option<Frozen> {
        let leaf = &self.leaves[id.0];
        let open = leaf.dim.fixed().is_none().then(|| Frozen { node: String::new(), why: "its size is open" });
        leaf.frozen.clone().or(open)
    }

    pub(super) fn inexact(&self, id: LeafId) -> Option<&Frozen> {
        self.leaves[id.0].inexact.as_ref()
    }

    pub(super) fn term_size(&self, term: &[LeafId]) -> usize {
        term.iter().map(|leaf| self.size(*leaf)).fold(1, usize::saturating_mul)
    }

    /// None of the axis's places may go.
    pub(super) fn freeze(&mut self, axis: &[Term], why: &'static str) {
        let why = Frozen { node: self.node.clone(), why };
        self.mark(axis, &mut |leaf| {
            leaf.frozen.get_or_insert_with(|| why.clone());
        });
    }

    /// A place of the axis may go, but more changes than what it held.
    pub(super) fn blur(&mut self, axis: &[Term], why: &'static str) {
        let why = Frozen { node: self.node.clone(), why };
        self.mark(axis, &mut |leaf| {
            leaf.inexact.get_or_insert_with(|| why.clone());
        });
    }

    fn mark(&mut self, axis: &[Term], set: &mut dyn FnMut(&mut Leaf)) {
        let mut left: Vec<LeafId> = axis.iter().flatten().copied().collect();
        while let Some(id) = left.pop() {
            let leaf = &mut self.leaves[id.0];
            set(leaf);
            left.extend(leaf.is.iter().flatten().flatten());
        }
    }

    /// The axis in leaves that are nothing else. A product over a sum is written out, which freezes what multiplies it from
    /// outside: its places now have different roles. `None` where that would be too long; all of the axis is frozen then.
    pub(super) fn resolved(&mut self, axis: &[Term]) -> Option<Axis> {
        let mut resolved = Axis::new();
        for term in axis {
            let mut terms: Axis = vec![Term::new()];
            for leaf in term {
                let leaf = self.root(*leaf);
                let sum = match self.leaves[leaf.0].is.clone() {
                    None => vec![vec![leaf]],
                    Some(is) => self.resolved(&is)?,
                };
                if let [inner] = &sum[..] {
                    terms.iter_mut().for_each(|outer| outer.extend(inner));
                    continue;
                }
                let mut written = Axis::new();
                for outer in &terms {
                    let places = self.term_size(outer);
                    if places > 1 {
                        self.freeze(std::slice::from_ref(outer), ROLES);
                    }
                    if places.saturating_mul(sum.len()) + written.len() > MAX_TERMS {
                        self.freeze(axis, "it has too many parts");
                        return None;
                    }
                    (0..places).for_each(|_| written.extend(sum.iter().cloned()));
                }
                terms = written;
            }
            for mut term in terms {
                // Leaves of one place say nothing, unless there is nothing else.
                let alone = term[0];
                term.retain(|leaf| self.size(*leaf) != 1);
                resolved.push(if term.is_empty() { vec![alone] } else { term });
            }
        }
        if resolved.len() > MAX_TERMS {
            self.freeze(axis, "it has too many parts");
            return None;
        }
        Some(resolved)
    }

    /// What the leaf is, as long as that is one other leaf.
    fn root(&self, mut leaf: LeafId) -> LeafId {
        while let Some([term]) = self.leaves[leaf.0].is.as_deref()
            && let [other] = term[..]
        {
            leaf = other;
        }
        leaf
    }

    /// Makes two axes the same. An error leaves them unrelated: whoever asked must freeze both.
    pub(super) fn unify(&mut self, a: &[Term], b: &[Term]) -> Result<(), Unequal> {
        let (mut a, mut b) = (self.resolved(a).ok_or(Unequal)?, self.resolved(b).ok_or(Unequal)?);
        for _ in 0..MAX_ROUNDS {
            let same = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
            a.drain(..same);
            b.drain(..same);
            let (Some(first), Some(second)) = (a.first(), b.first()) else {
                return if a.is_empty() && b.is_empty() { Ok(()) } else { Err(Unequal) };
            };
            let (small, large) = (self.term_size(first), self.term_size(second));
            if small == large {
                let (first, second) = (first.clone(), second.clone());
                self.unify_terms(&first, &second)?;
            } else {
                if small > large {
                    std::mem::swap(&mut a, &mut b);
                }
                self.take_apart(&mut a, &mut b)?;
            }
            (a, b) = (self.resolved(&a).ok_or(Unequal)?, self.resolved(&b).ok_or(Unequal)?);
        }
        Err(Unequal)
    }

    /// The first term of `b` is larger than that of `a`: it is a sum.
    fn take_apart(&mut self, a: &mut Axis, b: &mut Axis) -> Result<(), Unequal> {
        let (small, term) = (self.term_size(&a[0]), b[0].clone());
        let outer = term[0];
        let inner = self.term_size(&term[1..]);
        let count = self.size(outer);
        let repeated = term.len() > 1 && a.len() >= count && a[..count].iter().all(|t| self.term_size(t) == inner);
        if repeated {
            // k + k + … is a product of a number of parts, which have different roles, with k.
            self.freeze(&[vec![outer]], ROLES);
            b.remove(0);
            for part in a.drain(..count) {
                self.unify(&[part], &[term[1..].to_vec()])?;
            }
            return Ok(());
        }
        if inner == 0 || !small.is_multiple_of(inner) {
            return Err(Unequal);
        }
        let first = Dim::Fixed(small / inner);
        let rest = self.dim(outer).minus(first).ok_or(Unequal)?;
        let parts = vec![vec![self.leaf(first)], vec![self.leaf(rest)]];
        self.bind(outer, parts)
    }

    /// Two products of the same size.
    fn unify_terms(&mut self, a: &[LeafId], b: &[LeafId]) -> Result<(), Unequal> {
        let (&x, &y) = a.iter().zip(b).find(|(x, y)| x != y).ok_or(Unequal)?;
        let (x, y) = if self.size(x) > self.size(y) { (y, x) } else { (x, y) };
        if self.size(x) == self.size(y) {
            // The younger becomes the older, so that chains stay short.
            let (x, y) = if x < y { (y, x) } else { (x, y) };
            return if self.dim(x) == self.dim(y) { self.bind(x, vec![vec![y]]) } else { Err(Unequal) };
        }
        let outer = self.dim(x);
        let inner = self.dim(y).divided_by(outer).ok_or(Unequal)?;
        let parts = vec![vec![self.leaf(outer), self.leaf(inner)]];
        self.bind(y, parts)
    }

    /// The leaf turned out to be this.
    fn bind(&mut self, leaf: LeafId, is: Axis) -> Result<(), Unequal> {
        let own = &self.leaves[leaf.0];
        let (frozen, inexact) = (own.frozen.clone(), own.inexact.clone());
        // A leaf that is part of itself is no size.
        if self.resolved(&is).ok_or(Unequal)?.iter().flatten().any(|part| *part == leaf) {
            return Err(Unequal);
        }
        if let Some(why) = frozen {
            self.mark(&is, &mut |leaf| {
                leaf.frozen.get_or_insert_with(|| why.clone());
            });
        }
        if let Some(why) = inexact {
            self.mark(&is, &mut |leaf| {
                leaf.inexact.get_or_insert_with(|| why.clone());
            });
        }
        self.leaves[leaf.0].is = Some(is);
        Ok(())
    }
}
