//! A map that forgets what was not touched for longest.

use std::hash::Hash;

use hashbrown::HashMap;
use slab::Slab;

const NONE: usize = usize::MAX;

/// See the module. All operations take constant time.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    places: HashMap<K, usize>,
    entries: Slab<Entry<K, V>>,
    newest: usize,
    oldest: usize,
    max: usize,
}

#[derive(Debug)]
struct Entry<K, V> {
    key: K,
    value: V,
    newer: usize,
    older: usize,
}

impl<K: Clone + Eq + Hash, V> Recent<K, V> {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            places: HashMap::new(),
            entries: Slab::new(),
            newest: NONE,
            oldest: NONE,
            max: max.max(1),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The value of a key, which becomes the newest.
    pub(crate) fn touch<Q>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: std::borrow::Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let place = *self.places.get(key)?;
        if self.newest != place {
            self.unlink(place);
            self.link(place);
        }
        Some(&mut self.entries[place].value)
    }

    /// The key as it is kept, and its value, which becomes the newest.
    pub(crate) fn touch_entry<Q>(&mut self, key: &Q) -> Option<(K, &mut V)>
    where
        K: std::borrow::Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let kept = self.entries[*self.places.get(key)?].key.clone();
        self.touch(key).map(|value| (kept, value))
    }

    /// Puts a key that is not there; returns what gave way.
    pub(crate) fn put(&mut self, key: K, value: V) -> Option<(K, V)> {
        debug_assert!(!self.places.contains_key(&key));
        let gave_way = match self.entries.len() >= self.max {
            true => self.remove_at(self.oldest),
            false => None,
        };
        let place = self.entries.insert(Entry {
            key: key.clone(),
            value,
            newer: NONE,
            older: NONE,
        });
        self.places.insert(key, place);
        self.link(place);
        gave_way
    }

    pub(crate) fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: std::borrow::Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let place = *self.places.get(key)?;
        self.remove_at(place).map(|(_, value)| value)
    }

    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool) {
        let gone: Vec<usize> = self
            .entries
            .iter()
            .filter(|(_, entry)| !keep(&entry.key, &entry.value))
            .map(|(place, _)| place)
            .collect();
        for place in gone {
            self.remove_at(place);
        }
    }

    /// From the newest to the oldest.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        std::iter::successors(self.entries.get(self.newest), |entry| {
            self.entries.get(entry.older)
        })
        .map(|entry| (&entry.key, &entry.value))
    }

    pub(crate) fn clear(&mut self) {
        self.places.clear();
        self.entries.clear();
        (self.newest, self.oldest) = (NONE, NONE);
    }

    fn remove_at(&mut self, place: usize) -> Option<(K, V)> {
        self.entries.get(place)?;
        self.unlink(place);
        let entry = self.entries.remove(place);
        self.places.remove(&entry.key);
        Some((entry.key, entry.value))
    }

    fn link(&mut self, place: usize) {
        let older = std::mem::replace(&mut self.newest, place);
        self.entries[place].older = older;
        self.entries[place].newer = NONE;
        match self.entries.get_mut(older) {
            Some(entry) => entry.newer = place,
            None => self.oldest = place,
        }
    }

    fn unlink(&mut self, place: usize) {
        let (newer, older) = (self.entries[place].newer, self.entries[place].older);
        match self.entries.get_mut(newer) {
            Some(entry) => entry.older = older,
            None => self.newest = older,
        }
        match self.entries.get_mut(older) {
            Some(entry) => entry.newer = newer,
            None => self.oldest = newer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_touched_longest_gives_way() {
        let mut recent = Recent::new(3);
        for key in 1..=3 {
            assert_eq!(recent.put(key, key * 10), None);
        }
        assert_eq!(recent.touch(&1), Some(&mut 10));
        assert_eq!(recent.put(4, 40), Some((2, 20)));
        assert_eq!(recent.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [4, 1, 3]);
        assert_eq!(
            (recent.remove(&1), recent.remove(&1), recent.len()),
            (Some(10), None, 2)
        );
        recent.retain(|key, _| *key != 3);
        assert_eq!(recent.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [4]);
        recent.clear();
        assert_eq!(recent.put(5, 50), None);
        assert_eq!(recent.touch(&5), Some(&mut 50));
    }

    proptest::proptest! {
        #[test]
        fn it_is_a_list_in_order_of_use(steps in proptest::collection::vec((0u8..3, 0u8..6), 0..200)) {
            let (mut recent, mut model) = (Recent::new(4), Vec::<u8>::new());
            for (step, key) in steps {
                let known = model.iter().position(|known| *known == key);
                match (step, known) {
                    (0, None) => {
                        let gave_way = recent.put(key, key).map(|(key, _)| key);
                        let wanted = (model.len() == 4).then(|| model.remove(0));
                        proptest::prop_assert_eq!(gave_way, wanted);
                        model.push(key);
                    }
                    (1, _) => {
                        proptest::prop_assert_eq!(recent.remove(&key).is_some(), known.is_some());
                        model.retain(|known| *known != key);
                    }
                    (_, known) => {
                        proptest::prop_assert_eq!(recent.touch(&key).is_some(), known.is_some());
                        if let Some(at) = known {
                            model.remove(at);
                            model.push(key);
                        }
                    }
                }
                let order: Vec<u8> = recent.iter().map(|(key, _)| *key).collect();
                proptest::prop_assert!(order.iter().eq(model.iter().rev()));
            }
        }
    }
}
