//! Places among what is worked on at once. Who finds none is refused; one tenant alone never has all of them, so that its
//! neighbours are served whatever it does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// Of all places a tenant can have all but this share: a quarter stays for others.
const KEPT: u32 = 4;

/// Places of one kind.
#[derive(Debug, Clone)]
pub(super) struct Places {
    limit: u32,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    all: u32,
    by_tenant: HashMap<String, u32>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    tenant: String,
    taken: Arc<Mutex<Taken>>,
}

impl Places {
    pub(super) fn new(limit: u32) -> Self {
        Self { limit, taken: Arc::default() }
    }

    /// A place for a tenant, if there is one.
    pub(super) fn take(&self, tenant: &str) -> Option<Place> {
        let mut taken = lock(&self.taken);
        let own = taken.by_tenant.get(tenant).copied().unwrap_or_default();
        if taken.all >= self.limit || own >= self.limit - self.limit / KEPT {
            return None;
        }
        taken.all += 1;
        taken.by_tenant.insert(tenant.into(), own + 1);
        Some(Place { tenant: tenant.into(), taken: self.taken.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        taken.all -= 1;
        // Tenants that have none are forgotten: there may be many in the life of a server.
        match taken.by_tenant.get_mut(&self.tenant) {
            Some(own) if *own > 1 => *own -= 1,
            _ => {
                taken.by_tenant.remove(&self.tenant);
            }
        }
    }
}

/// Nothing that is done under the lock panics between two of its lines.
fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_tenant_leaves_a_quarter_to_the_others_and_all_get_no_more_than_there_are() {
        let places = Places::new(8);
        let greedy: Vec<Place> = std::iter::from_fn(|| places.take("a")).collect();
        assert_eq!(greedy.len(), 6);
        let others = [places.take("b"), places.take("c")];
        assert!(others.iter().all(Option::is_some) && places.take("d").is_none());
        drop(greedy);
        assert_eq!(std::iter::from_fn(|| places.take("d")).map(std::mem::forget).count(), 6);
    }

    #[test]
    fn a_place_that_is_given_back_leaves_nothing() {
        let places = Places::new(1);
        for tenant in ["a", "b"] {
            let place = places.take(tenant);
            assert!(place.is_some() && places.take(tenant).is_none());
        }
        assert!(lock(&places.taken).by_tenant.is_empty());
    }
}
