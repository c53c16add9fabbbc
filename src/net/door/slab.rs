//! Numbered places that are used again, and keys that tell a place's present holder from its former ones.
//!
//! Invariant: a key of a holder that has gone finds nothing, so that a late event or answer never reaches the wrong connection.
//! It cannot fail.

/// A holder's key: the place and how often it was given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    index: u32,
    turn: u32,
}

impl Key {
    /// As one number, for epoll.
    pub fn number(self) -> u64 {
        u64::from(self.turn) << 32 | u64::from(self.index)
    }

    /// The key of that number.
    pub fn of(number: u64) -> Self {
        Key { index: number as u32, turn: (number >> 32) as u32 }
    }
}

/// The places.
#[derive(Debug)]
pub(super) struct Slab<T> {
    places: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    /// Without places.
    pub fn new() -> Self {
        Slab { places: Vec::new(), free: Vec::new() }
    }

    /// Holders now.
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Gives a place to what `make` makes of its key.
    pub fn insert(&mut self, make: impl FnOnce(Key) -> T) -> Key {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push((0, None));
            self.places.len() as u32 - 1
        });
        let place = &mut self.places[index as usize];
        let key = Key { index, turn: place.0 };
        place.1 = Some(make(key));
        key
    }

    /// The holder of `key`, if it is still there.
    pub fn get(&self, key: Key) -> Option<&T> {
        self.places.get(key.index as usize).filter(|(turn, _)| *turn == key.turn)?.1.as_ref()
    }

    /// Likewise, to change it.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        self.places.get_mut(key.index as usize).filter(|(turn, _)| *turn == key.turn)?.1.as_mut()
    }

    /// Takes the holder of `key` out.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let place = self.places.get_mut(key.index as usize).filter(|(turn, _)| *turn == key.turn)?;
        let holder = place.1.take()?;
        // 2^30 turns: epoll's own numbers (the listener, the bell) lie above every key.
        place.0 = (place.0 + 1) & 0x3fff_ffff;
        self.free.push(key.index);
        Some(holder)
    }

    /// All holders with their keys.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.places
            .iter()
            .enumerate()
            .filter_map(|(i, (turn, holder))| holder.as_ref().map(|h| (Key { index: i as u32, turn: *turn }, h)))
    }

    /// All keys, appended to `keys`.
    pub fn keys_into(&self, keys: &mut Vec<Key>) {
        keys.extend(self.iter().map(|(k, _)| k));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_key_finds_nothing() {
        let mut slab = Slab::new();
        let first = slab.insert(|_| "a");
        assert_eq!((slab.remove(first), slab.remove(first), slab.len()), (Some("a"), None, 0));
        let second = slab.insert(|_| "b");
        assert_eq!((slab.get(first), slab.get(second), slab.len()), (None, Some(&"b"), 1));
        assert_eq!((Key::of(second.number()), first.number() == second.number()), (second, false));
    }
}
