//! Who says that something is there: for each name the claims of several origins, of which the newest counts.
//!
//! An agent that moves to another data plane is for a moment claimed by both; so is a data plane that comes back while its former
//! attachment is still being forgotten. The newest claim is what is told; the others wait for it to be withdrawn.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// Who claims: one attachment of one data plane.
pub(super) type Origin = Arc<str>;

/// Values by name, each with those who claim it.
#[derive(Debug)]
pub(super) struct Claims<V> {
    by_name: BTreeMap<Arc<str>, Vec<Claim<V>>>,
}

#[derive(Debug)]
struct Claim<V> {
    origin: Origin,
    /// Newer claims have greater ones.
    order: u64,
    value: Arc<V>,
}

/// What a claim changed for those who look on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shift<V> {
    Up(Arc<V>),
    Changed(Arc<V>),
    Down(Arc<V>),
}

impl<V> Default for Claims<V> {
    fn default() -> Claims<V> {
        Claims {
            by_name: BTreeMap::new(),
        }
    }
}

impl<V: PartialEq> Claims<V> {
    /// Enters a claim, or replaces that of the same origin.
    pub(super) fn put(&mut self, name: &str, origin: &Origin, order: u64, value: V) -> Option<Shift<V>> {
        if !self.by_name.contains_key(name) {
            self.by_name.insert(name.into(), Vec::new());
        }
        let claims = self.by_name.get_mut(name)?;
        let before = newest(claims);
        claims.retain(|claim| claim.origin != *origin);
        claims.push(Claim {
            origin: Arc::clone(origin),
            order,
            value: Arc::new(value),
        });
        shift(before, newest(claims))
    }

    /// Withdraws the claim of an origin.
    pub(super) fn remove(&mut self, name: &str, origin: &str) -> Option<Shift<V>> {
        let claims = self.by_name.get_mut(name)?;
        let before = newest(claims);
        claims.retain(|claim| &*claim.origin != origin);
        let after = newest(claims);
        if claims.is_empty() {
            self.by_name.remove(name);
        }
        shift(before, after)
    }

    /// Withdraws all claims but those that are to stay.
    pub(super) fn retain(&mut self, stays: impl Fn(&str, &Origin) -> bool) -> Vec<Shift<V>> {
        let mut shifts = Vec::new();
        self.by_name.retain(|name, claims| {
            let before = newest(claims);
            claims.retain(|claim| stays(name, &claim.origin));
            shifts.extend(shift(before, newest(claims)));
            !claims.is_empty()
        });
        shifts
    }

    /// What is there under names after this one, in order.
    pub(super) fn after(&self, name: &str) -> impl Iterator<Item = (&Arc<str>, Arc<V>)> {
        self.by_name
            .range::<str, _>((Bound::Excluded(name), Bound::Unbounded))
            .filter_map(|(name, claims)| Some((name, newest(claims)?)))
    }

    /// Whether somebody claims a name.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// How many names are claimed.
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }
}

fn newest<V>(claims: &[Claim<V>]) -> Option<Arc<V>> {
    let newest = claims.iter().max_by_key(|claim| claim.order)?;
    Some(Arc::clone(&newest.value))
}

fn shift<V: PartialEq>(before: Option<Arc<V>>, after: Option<Arc<V>>) -> Option<Shift<V>> {
    match (before, after) {
        (None, Some(after)) => Some(Shift::Up(after)),
        (Some(before), Some(after)) if before != after => Some(Shift::Changed(after)),
        (Some(before), None) => Some(Shift::Down(before)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(name: &str) -> Origin {
        name.into()
    }

    #[test]
    fn one_who_moves_is_there_all_the_time() {
        let mut claims = Claims::default();
        let (old, new) = (origin("old"), origin("new"));
        assert_eq!(
            claims.put("a", &old, 1, "at old"),
            Some(Shift::Up(Arc::new("at old")))
        );
        assert_eq!(
            claims.put("a", &new, 2, "at new"),
            Some(Shift::Changed(Arc::new("at new")))
        );
        assert_eq!(claims.remove("a", "old"), None);
        assert_eq!(claims.remove("a", "new"), Some(Shift::Down(Arc::new("at new"))));
        assert_eq!(claims.len(), 0);
    }

    #[test]
    fn what_comes_late_does_not_count() {
        let mut claims = Claims::default();
        claims.put("a", &origin("new"), 2, 2);
        assert_eq!(claims.put("a", &origin("old"), 1, 1), None);
        assert_eq!(
            claims.remove("a", "new"),
            Some(Shift::Changed(Arc::new(1))),
            "the other one is still there"
        );
    }

    #[test]
    fn the_same_again_is_no_change() {
        let mut claims = Claims::default();
        claims.put("a", &origin("x"), 1, 1);
        assert_eq!(claims.put("a", &origin("x"), 2, 1), None);
        assert_eq!(claims.put("a", &origin("y"), 3, 1), None);
        assert_eq!(claims.remove("a", "none"), None);
        assert_eq!(claims.remove("none", "x"), None);
    }

    #[test]
    fn all_of_one_origin_go_together() {
        let mut claims = Claims::default();
        let (x, y) = (origin("x"), origin("y"));
        for (name, origin) in [("a", &x), ("b", &x), ("b", &y), ("c", &y)] {
            claims.put(name, origin, u64::from(Arc::ptr_eq(origin, &y)), name);
        }
        assert_eq!(
            claims.retain(|_, origin| **origin != *x),
            [Shift::Down(Arc::new("a"))]
        );
        let left: Vec<_> = claims.after("").map(|(name, _)| name.to_string()).collect();
        assert_eq!(left, ["b", "c"]);
        assert_eq!(claims.after("b").count(), 1);
    }
}
