//! A set of things with stable slots, whose first member needs no allocation.
//!
//! A node keeps its children and its waiters in one: most nodes have one of
//! each at a time. A slot is used again once it is free, so a parent that sees
//! a million children come and go stays as small as its largest family; and a
//! set that has become empty gives back what a large family took.

use std::mem;

/// A set of `T`, each in a slot that does not change while it is occupied.
pub(super) struct Slab<T> {
    first: Entry<T>,
    rest: Vec<Entry<T>>,
    /// Head of the list of free slots, [`END`] where there is none.
    free: u32,
    occupied: u32,
}

enum Entry<T> {
    /// Free; the next free slot.
    Vacant(u32),
    Occupied(T),
}

impl<T> Slab<T> {
    /// Puts in what `make` makes for the slot that it is told.
    pub(super) fn insert_with(&mut self, make: impl FnOnce(u32) -> T) -> u32 {
        let slot = self.free;
        if slot == END {
            let slot = u32::try_from(self.rest.len() + 1).expect("fewer than 2^32 members");
            self.rest.push(Entry::Occupied(make(slot)));
            self.occupied += 1;
            return slot;
        }
        let entry = self.entry(slot).expect("a free slot exists");
        if let Entry::Vacant(next) = *entry {
            *entry = Entry::Occupied(make(slot));
            self.free = next;
            self.occupied += 1;
        }
        slot
    }

    /// Takes out what is in `slot`; a slot that is free already is no error,
    /// since a set that was taken whole leaves its members their old slots.
    pub(super) fn remove(&mut self, slot: u32) -> Option<T> {
        let free = self.free;
        let entry = self.entry(slot)?;
        if matches!(entry, Entry::Vacant(_)) {
            return None;
        }
        let removed = mem::replace(entry, Entry::Vacant(free));
        self.free = slot;
        self.occupied -= 1;
        if self.occupied == 0 && self.rest.capacity() > KEEP {
            *self = Slab::default();
        }
        removed.into_occupied()
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        match self.entry(slot)? {
            Entry::Occupied(value) => Some(value),
            Entry::Vacant(_) => None,
        }
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let entries = std::iter::once(&mut self.first).chain(&mut self.rest);
        entries.filter_map(|entry| match entry {
            Entry::Occupied(value) => Some(value),
            Entry::Vacant(_) => None,
        })
    }

    pub(super) fn into_values(self) -> impl Iterator<Item = T> {
        let entries = std::iter::once(self.first).chain(self.rest);
        entries.filter_map(Entry::into_occupied)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.occupied == 0
    }

    fn entry(&mut self, slot: u32) -> Option<&mut Entry<T>> {
        match slot.checked_sub(1) {
            None => Some(&mut self.first),
            Some(index) => self.rest.get_mut(index as usize),
        }
    }
}

impl<T> Entry<T> {
    fn into_occupied(self) -> Option<T> {
        match self {
            Entry::Occupied(value) => Some(value),
            Entry::Vacant(_) => None,
        }
    }
}

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab {
            first: Entry::Vacant(END),
            rest: Vec::new(),
            free: 0,
            occupied: 0,
        }
    }
}

/// Ends the list of free slots.
const END: u32 = u32::MAX;

/// An empty set keeps room for so many: a family that comes and goes with
/// every request must not cost an allocation each time.
const KEEP: usize = 64;

#[cfg(all(test, not(pgdeadline_loom)))]
mod tests {
    use super::*;

    #[test]
    fn first_member_needs_no_allocation() {
        let mut slab = Slab::default();
        for round in 0..3 {
            let slot = slab.insert_with(|_| round);
            assert_eq!(slot, 0);
            assert_eq!(slab.rest.capacity(), 0);
            assert_eq!(slab.remove(slot), Some(round));
        }
    }

    #[test]
    fn slots_are_stable_and_used_again() {
        let mut slab = Slab::default();
        let slots: Vec<u32> = (0..5).map(|n| slab.insert_with(|_| n)).collect();
        assert_eq!(slots, [0, 1, 2, 3, 4]);
        assert_eq!(slab.remove(3), Some(3));
        assert_eq!(slab.remove(0), Some(0));
        assert_eq!(slab.get_mut(4), Some(&mut 4));
        assert_eq!(slab.insert_with(|_| 10), 0);
        assert_eq!(slab.insert_with(|_| 13), 3);
        assert_eq!(slab.insert_with(|slot| slot), 5);
        let values: Vec<u32> = slab.into_values().collect();
        assert_eq!(values, [10, 1, 2, 13, 4, 5]);
    }

    #[test]
    fn removing_twice_or_from_a_set_that_was_taken_does_nothing() {
        let mut slab = Slab::default();
        slab.insert_with(|_| 'a');
        let slot = slab.insert_with(|_| 'b');
        assert_eq!(slab.remove(slot), Some('b'));
        assert_eq!(slab.remove(slot), None);
        let taken = mem::take(&mut slab);
        assert_eq!(slab.remove(slot), None);
        assert_eq!(slab.remove(0), None);
        assert_eq!(taken.into_values().count(), 1);
    }

    #[test]
    fn large_family_gives_its_memory_back_when_it_is_gone() {
        let mut slab = Slab::default();
        let slots: Vec<u32> = (0..1000).map(|n| slab.insert_with(|_| n)).collect();
        for slot in slots {
            slab.remove(slot);
        }
        assert!(slab.is_empty());
        assert!(slab.rest.capacity() <= KEEP);
    }
}
