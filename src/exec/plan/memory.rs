//! Where the values of a plan lie in one piece of memory.
//!
//! While a plan is made, each value gets a [`Room`], and each of its uses is told to [`Rooms`] with the time, which counts
//! the steps forwards and then backwards. Rooms that are in use at different times may lie at the same place.

use std::collections::BTreeMap;
use std::ops::Range;

/// Names a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room(usize);

impl Room {
    /// One without numbers, for what is not there.
    pub(super) const NONE: Room = Room(usize::MAX);
}

/// The rooms of a plan in the making.
#[derive(Default)]
pub(super) struct Rooms {
    rooms: Vec<Use>,
}

/// Numbers of a room, and from when to when it is in use.
struct Use {
    len: usize,
    first: usize,
    last: usize,
}

/// Numbers that a line of the processor's memory holds: rooms begin at such places.
const LINE: usize = 16;

impl Rooms {
    /// A room for `len` numbers that is in use at `now`.
    pub(super) fn add(&mut self, len: usize, now: usize) -> Room {
        self.rooms.push(Use { len, first: now, last: now });
        Room(self.rooms.len() - 1)
    }

    /// Tells that a room is in use at `now`, which is no earlier than all uses before.
    pub(super) fn uses(&mut self, room: Room, now: usize) {
        if room != Room::NONE {
            self.rooms[room.0].last = now;
        }
    }

    /// Numbers that a room holds.
    pub(super) fn len(&self, room: Room) -> usize {
        self.rooms[room.0].len
    }

    /// Gives each room a place, the smallest gap that it fits into. Says where each lies, and how many numbers all take.
    pub(super) fn placed(&self) -> (Vec<Range<usize>>, usize) {
        let mut places = vec![0..0; self.rooms.len()];
        let mut by_first: Vec<usize> = (0..self.rooms.len()).collect();
        by_first.sort_by_key(|i| self.rooms[*i].first);
        let mut by_last = by_first.clone();
        by_last.sort_by_key(|i| self.rooms[*i].last);
        let mut ends = by_last.into_iter().peekable();
        let mut gaps = Gaps::default();
        for i in by_first {
            while let Some(ended) = ends.next_if(|ended| self.rooms[*ended].last < self.rooms[i].first) {
                let place: &Range<usize> = &places[ended];
                gaps.give(place.start..place.start + taken(&self.rooms[ended]));
            }
            let start = gaps.take(taken(&self.rooms[i]));
            places[i] = start..start + self.rooms[i].len;
        }
        (places, gaps.end)
    }
}

fn taken(room: &Use) -> usize {
    room.len.next_multiple_of(LINE).max(LINE)
}

/// What is free before the end.
#[derive(Default)]
struct Gaps {
    /// By their starts; no two touch.
    free: BTreeMap<usize, usize>,
    end: usize,
}

impl Gaps {
    fn take(&mut self, len: usize) -> usize {
        let fitting = self.free.iter().filter(|(_, size)| **size >= len).min_by_key(|(_, size)| **size);
        if let Some((start, size)) = fitting.map(|(start, size)| (*start, *size)) {
            self.free.remove(&start);
            if size > len {
                self.free.insert(start + len, size - len);
            }
            return start;
        }
        // A gap at the end is made larger.
        let start = match self.free.last_key_value().map(|(start, size)| (*start, *size)) {
            Some((start, size)) if start + size == self.end => {
                self.free.remove(&start);
                start
            }
            _ => self.end,
        };
        self.end = start + len;
        start
    }

    fn give(&mut self, place: Range<usize>) {
        let (mut start, mut end) = (place.start, place.end);
        if let Some((before, size)) = self.free.range(..start).next_back().map(|(s, n)| (*s, *n))
            && before + size == start
        {
            self.free.remove(&before);
            start = before;
        }
        if let Some(size) = self.free.remove(&end) {
            end += size;
        }
        self.free.insert(start, end - start);
    }
}

/// The numbers of all rooms, while a plan runs.
pub(super) struct Memory<'a> {
    pub(super) numbers: &'a mut [f32],
    pub(super) places: &'a [Range<usize>],
}

impl Memory<'_> {
    /// The numbers of rooms to read and of rooms to write. The same room may be read twice; those to write differ from all
    /// others.
    pub(super) fn views<const R: usize, const W: usize>(
        &mut self,
        reads: [Room; R],
        writes: [Room; W],
    ) -> ([&[f32]; R], [&mut [f32]; W]) {
        let place = |room: &Room| if *room == Room::NONE { 0..0 } else { self.places[room.0].clone() };
        let (reads, writes) = (reads.each_ref().map(place), writes.each_ref().map(place));
        let mut read: [&[f32]; R] = [&[]; R];
        let mut written: [&mut [f32]; W] = std::array::from_fn(|_| Default::default());
        let (mut rest, mut passed) = (&mut *self.numbers, 0);
        loop {
            // The next place in memory; what was passed is given out already.
            let ahead = reads.iter().chain(&writes).filter(|place| !place.is_empty() && place.start >= passed);
            let Some(next) = ahead.min_by_key(|place| place.start).cloned() else { return (read, written) };
            let (_, from) = rest.split_at_mut(next.start - passed);
            let (numbers, after) = from.split_at_mut(next.len());
            (rest, passed) = (after, next.end);
            if let Some(which) = writes.iter().position(|place| *place == next) {
                assert!(!reads.contains(&next), "a room is read and written at once");
                written[which] = numbers;
            } else {
                let numbers: &[f32] = numbers;
                for (read, place) in read.iter_mut().zip(&reads) {
                    if *place == next {
                        *read = numbers;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rooms_that_are_in_use_at_one_time_never_overlap(
            uses in prop::collection::vec((0usize..200, 0usize..30, 0usize..30), 1..60),
        ) {
            let mut sorted: Vec<(usize, usize, usize)> = uses;
            sorted.sort_by_key(|(_, first, _)| *first);
            let mut rooms = Rooms::default();
            for (len, first, more) in &sorted {
                let room = rooms.add(*len, *first);
                rooms.uses(room, first + more);
            }
            let (places, end) = rooms.placed();
            let sum: usize = rooms.rooms.iter().map(taken).sum();
            prop_assert!(end <= sum);
            for (i, (len, first, more)) in sorted.iter().enumerate() {
                prop_assert!(places[i].len() == *len && places[i].end <= end && places[i].start % LINE == 0);
                for (j, (_, other, _)) in sorted.iter().enumerate().skip(i + 1) {
                    let together = *other <= first + more;
                    let apart = places[i].end <= places[j].start || places[j].end <= places[i].start;
                    prop_assert!(!together || apart, "{:?} {:?}", places[i], places[j]);
                }
            }
        }
    }

    #[test]
    fn memory_is_used_again() {
        let mut rooms = Rooms::default();
        let mut last = rooms.add(100, 0);
        for now in 1..50 {
            rooms.uses(last, now);
            last = rooms.add(100, now);
        }
        assert_eq!(rooms.placed().1, 2 * 112);
    }

    #[test]
    fn views_are_the_rooms_numbers() {
        let mut numbers: Vec<f32> = (0..10u8).map(f32::from).collect();
        let places = [2..4, 7..9, 4..7];
        let mut memory = Memory { numbers: &mut numbers, places: &places };
        let ([a, b, again, none], [c]) = memory.views([Room(1), Room(0), Room(1), Room::NONE], [Room(2)]);
        assert_eq!((a, b, again, none), (&[7.0, 8.0][..], &[2.0, 3.0][..], &[7.0, 8.0][..], &[][..]));
        assert_eq!(c, [4.0, 5.0, 6.0]);
    }
}
