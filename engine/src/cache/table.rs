//! The table behind the cache: answers under octet strings, within a bound on octets.
//!
//! Contract: what [`Table::get`] gives is what was put in last under that key. An entry may be missing at any time,
//! as it had to make room, and is counted then; [`Table::bytes`] is never above the bound. Any thread may call
//! anything; readers of a shard go on beside each other.
//!
//! Where many names are in use nearly all of a hit's time is waiting for memory, so places are few and asked for at
//! once. A key has two buckets, whose addresses follow from its hash; a bucket holds a tag of eight bits and two
//! pointers for each of its entries, so that the record (key and times) and the answer are fetched beside each other.
//! Two waits in all, whatever the number of names.
//!
//! What makes room is the entry that a hand, which goes round the buckets of a shard, meets with no use left; a hit
//! gives it another one, of at most [`USES_MAX`]. Names that are asked for once push each other out and not those
//! that are asked for again. Entries whose time is over go before any other.

use std::hint::black_box;
use std::mem;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use mailproof_proto::dns::Answer;
use mailproof_proto::time::Timestamp;
use smallvec::SmallVec;

use crate::hashing::Hashing;

/// What is kept under a key.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) answer: Answer,
    pub(super) details: Details,
}

/// What is known of an answer beside it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Details {
    pub(super) expires: Timestamp,
    /// How much later than the servers said that end is: for want of a newer answer. At most 49 days.
    pub(super) late_ms: u32,
    /// For that long before its end an answer that is used is worth fetching again.
    pub(super) ageing_seconds: u16,
    /// How often in a row there was no answer.
    pub(super) failures: u8,
    pub(super) denies_below: bool,
}

#[derive(Debug)]
pub(super) struct Table {
    shards: Box<[Shard]>,
    hashing: Hashing,
    shard_bytes_max: usize,
    evictions: AtomicU64,
}

/// Octets of an entry beside its slot, a long key and the answer: the record, the counts of the answer and what the
/// allocator adds. Measured with `--bench cache`, a million SPF records.
const ENTRY_BYTES: usize = 470;
/// A shard holds the largest answer there is: [`mailproof_proto::limits::ANSWER_RECORDS_MAX`] records with a name each.
const SHARD_BYTES_MIN: usize = 2 * 1024 * 1024;
/// Enough for threads to meet rarely; as the table of a shard grows at once, more of them make that pause shorter.
const SHARDS_MAX: usize = 256;
/// The share of a shard's octets that its buckets may take. Never reached unless entries are smaller than they can be.
const BUCKETS_SHARE: usize = 4;
/// Uses that an entry has left at most.
const USES_MAX: u8 = 3;
const SLOTS: usize = 7;

impl Table {
    pub(super) fn new(bytes_max: u64, hashing: Hashing) -> Self {
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        let count = 1 << (bytes_max / SHARD_BYTES_MIN).clamp(1, SHARDS_MAX).ilog2();
        Self {
            shards: (0..count).map(|_| Shard::default()).collect(),
            hashing,
            shard_bytes_max: bytes_max / count,
            evictions: AtomicU64::new(0),
        }
    }

    /// The entry under a key, which counts as used.
    pub(super) fn get(&self, key: &[u8]) -> Option<Entry> {
        let hash = self.hash(key);
        let slots = self.shard(hash).read();
        let (index, slot) = slots.find(hash, key)?;
        let bucket = slots.buckets.get(index)?;
        let (held, uses) = (bucket.slots.get(slot)?.as_ref()?, bucket.uses.get(slot)?);
        // Most entries have all the uses there are, and their line of memory stays unwritten.
        let left = uses.load(Ordering::Relaxed);
        if left < USES_MAX {
            uses.store(left + 1, Ordering::Relaxed);
        }
        Some(Entry { answer: held.answer.clone(), details: held.record.details })
    }

    /// Puts in an entry in the place of the one under that key. Those that end by `over` make room first. An entry that
    /// no shard could hold counts as one that had to make room.
    pub(super) fn insert(&self, key: &[u8], entry: Entry, over: Timestamp) {
        let hash = self.hash(key);
        let held = Held { record: Box::new(Record { details: entry.details, key: key.into() }), answer: entry.answer };
        // What goes is freed when nobody waits for the shard any more.
        let mut gone = Gone::new();
        let mut slots = self.shard(hash).write();
        let place = Place { hash, bytes_max: self.shard_bytes_max, over };
        slots.insert(held, place, |key| self.hash(key), &mut gone);
        drop(slots);
        self.evictions.fetch_add(gone.len() as u64, Ordering::Relaxed);
    }

    /// Forgets the entry under a key; false when there was none.
    pub(super) fn remove(&self, key: &[u8]) -> bool {
        let hash = self.hash(key);
        let mut slots = self.shard(hash).write();
        let held = slots.find(hash, key).and_then(|(index, slot)| slots.take(index, slot));
        drop(slots);
        held.is_some()
    }

    pub(super) fn clear(&self) {
        for shard in &self.shards {
            let slots = mem::take(&mut *shard.write());
            drop(slots);
        }
    }

    /// All keys and entries, each shard as it is at one moment.
    pub(super) fn entries(&self) -> impl Iterator<Item = (Box<[u8]>, Entry)> {
        self.shards.iter().flat_map(|shard| {
            let slots = shard.read();
            let held = slots.buckets.iter().flat_map(|bucket| bucket.slots.iter().flatten());
            let entry = |it: &Held| Entry { answer: it.answer.clone(), details: it.record.details };
            held.map(|it| (it.record.key.octets().into(), entry(it))).collect::<Vec<_>>()
        })
    }

    pub(super) fn len(&self) -> u64 {
        self.shards.iter().map(|shard| shard.read().count as u64).sum()
    }

    /// Octets of entries and buckets.
    pub(super) fn bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.read().bytes as u64).sum()
    }

    /// Entries that had to make room so far.
    pub(super) fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }

    fn hash(&self, key: &[u8]) -> Hash {
        Hash(self.hashing.hash(key))
    }

    fn shard(&self, hash: Hash) -> &Shard {
        // There is one at least, and their number is a power of two.
        &self.shards[hash.shard() & (self.shards.len() - 1)]
    }
}

/// Entries that leave a shard, to be freed after its lock.
type Gone = SmallVec<[Held; 4]>;

/// Sixteen bits for the shard and the tag, twice 24 for the buckets.
#[derive(Clone, Copy, Debug)]
struct Hash(u64);

impl Hash {
    fn shard(self) -> usize {
        (self.0 >> 56) as usize
    }

    /// Never zero, which is the tag of an empty slot.
    fn tag(self) -> u8 {
        ((self.0 >> 48) as u8).max(1)
    }

    /// The two buckets among `count`, a power of two or zero.
    fn buckets(self, count: usize) -> [usize; 2] {
        let mask = count.wrapping_sub(1) & ((1 << 24) - 1);
        let (first, second) = (self.0 as usize & mask, (self.0 >> 24) as usize & mask);
        // Two different ones where there are two.
        [first, if first == second { (second ^ 1) & mask } else { second }]
    }
}

/// Alone in its lines of memory, so that threads in different shards do not slow each other down.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard(RwLock<Slots>);

impl Shard {
    // A thread that panics in here leaves nothing half done that matters: at worst a count is off.
    fn read(&self) -> RwLockReadGuard<'_, Slots> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Slots> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The buckets of one shard.
#[derive(Debug, Default)]
struct Slots {
    /// None, or a power of two.
    buckets: Vec<Bucket>,
    count: usize,
    /// Those of the buckets included.
    bytes: usize,
    /// The bucket whose entries make room next.
    hand: usize,
    /// No entry ends before.
    first_end: Timestamp,
    /// Entries put in since all were looked at for those whose time is over.
    since_cleaned: usize,
}

/// Two lines of memory. The eighth tag is zero for ever.
#[derive(Debug, Default)]
#[repr(C, align(128))]
struct Bucket {
    tags: [u8; SLOTS + 1],
    uses: [AtomicU8; SLOTS + 1],
    slots: [Option<Held>; SLOTS],
}

/// An entry in its slot: two places of memory that can be asked for at once.
#[derive(Debug)]
struct Held {
    answer: Answer,
    record: Box<Record>,
}

#[derive(Debug)]
struct Record {
    details: Details,
    key: Key,
}

/// A key as it is kept: that of a name of ordinary length lies within its record.
#[derive(Debug)]
enum Key {
    Short { length: u8, octets: [u8; Key::SHORT_MAX] },
    Long(Box<[u8]>),
}

const _: () = assert!(size_of::<Bucket>() == 128 && size_of::<Record>() == 64);

/// Where and how an entry is put in.
#[derive(Clone, Copy)]
struct Place {
    hash: Hash,
    bytes_max: usize,
    over: Timestamp,
}

impl Slots {
    /// The bucket and the slot of a key.
    #[inline]
    fn find(&self, hash: Hash, key: &[u8]) -> Option<(usize, usize)> {
        let indexes = hash.buckets(self.buckets.len());
        let [first, second] = indexes.map(|index| self.buckets.get(index));
        let (first, second) = (first?, second?);
        // The second line of each bucket is wanted in four of seven cases; asked for now, it comes with the first.
        black_box(first.slots[SLOTS - 1].is_some());
        black_box(second.slots[SLOTS - 1].is_some());
        // Which bucket it is can not be foreseen, so there is no branch upon it.
        let mut matches = first.matches(hash.tag()) | second.matches(hash.tag()) << 1;
        while matches != 0 {
            let bit = matches.trailing_zeros() as usize;
            matches &= matches - 1;
            let (index, slot) = (indexes[bit & 1], bit / 8);
            let Some(Some(held)) = self.buckets.get(index).and_then(|it| it.slots.get(slot)) else { continue };
            // The answer is asked for before the record has come: a hit takes one wait less.
            black_box(held.answer.holders());
            if held.record.key.octets() == key {
                return Some((index, slot));
            }
        }
        None
    }

    fn insert(&mut self, held: Held, place: Place, hash: impl Fn(&[u8]) -> Hash, gone: &mut Gone) {
        let key = held.record.key.octets();
        let mut uses = 0;
        if let Some((index, slot)) = self.find(place.hash, key) {
            uses = self.buckets[index].uses[slot].load(Ordering::Relaxed);
            // What is replaced did not have to make room: it is freed here, and not counted.
            drop(self.take(index, slot));
        }
        if self.buckets.is_empty() && size_of::<Bucket>() <= place.bytes_max {
            self.set_buckets(1);
        }
        let weight = held.weight_bytes();
        if weight > place.bytes_max.saturating_sub(size_of_val(&*self.buckets)) {
            gone.push(held);
            return;
        }
        while !self.has_room(place.hash) {
            // More than enough of them: then it is chance that both are full.
            let is_filled = self.count * 4 >= self.buckets.len() * SLOTS;
            let bytes = 2 * size_of_val(&*self.buckets);
            let may_grow = is_filled && bytes <= place.bytes_max / BUCKETS_SHARE;
            if may_grow && weight <= place.bytes_max - bytes {
                self.grow(&hash, gone);
            } else {
                self.take_least_used(place, gone);
            }
        }
        self.make_room(weight, place, gone);
        self.put(place.hash, held, uses);
    }

    /// Whether one of the two buckets has an empty slot.
    fn has_room(&self, hash: Hash) -> bool {
        hash.buckets(self.buckets.len()).iter().any(|&index| self.buckets[index].count() < SLOTS)
    }

    /// Puts an entry into the emptier of its buckets, one of which has room.
    fn put(&mut self, hash: Hash, held: Held, uses: u8) {
        let [first, second] = hash.buckets(self.buckets.len());
        let is_first = self.buckets[first].count() <= self.buckets[second].count();
        let bucket = &mut self.buckets[if is_first { first } else { second }];
        let Some(slot) = bucket.slots.iter().position(Option::is_none) else { return };
        self.count += 1;
        self.bytes += held.weight_bytes();
        self.since_cleaned += 1;
        self.first_end = self.first_end.min(held.record.details.expires);
        bucket.tags[slot] = hash.tag();
        bucket.uses[slot] = AtomicU8::new(uses);
        bucket.slots[slot] = Some(held);
    }

    fn take(&mut self, index: usize, slot: usize) -> Option<Held> {
        let bucket = &mut self.buckets[index];
        bucket.tags[slot] = 0;
        let held = bucket.slots[slot].take()?;
        self.count -= 1;
        self.bytes -= held.weight_bytes();
        Some(held)
    }

    /// Makes room in the buckets of a hash.
    fn take_least_used(&mut self, place: Place, gone: &mut Gone) {
        let buckets = place.hash.buckets(self.buckets.len());
        let all = buckets.into_iter().flat_map(|index| (0..SLOTS).map(move |slot| (index, slot)));
        let least = all.min_by_key(|&(index, slot)| {
            let bucket = &self.buckets[index];
            (!bucket.is_over(slot, place.over), bucket.uses[slot].load(Ordering::Relaxed))
        });
        gone.extend(least.and_then(|(index, slot)| self.take(index, slot)));
    }

    /// Makes room for so many octets, which the bound allows beside the buckets.
    fn make_room(&mut self, weight: usize, place: Place, gone: &mut Gone) {
        let is_room = |it: &Self| it.bytes + weight <= place.bytes_max || it.count == 0;
        // All are looked at no more often than after half of them were put in, which spreads the cost.
        if !is_room(self) && self.first_end <= place.over && self.since_cleaned * 2 >= self.count {
            self.take_over(place.over, gone);
        }
        while !is_room(self) {
            for slot in 0..SLOTS {
                let is_unused = self.buckets[self.hand].uses[slot].load(Ordering::Relaxed) == 0;
                if !is_room(self) && is_unused {
                    gone.extend(self.take(self.hand, slot));
                }
            }
            if !is_room(self) {
                for uses in &mut self.buckets[self.hand].uses {
                    *uses.get_mut() = uses.get_mut().saturating_sub(1);
                }
                self.hand = (self.hand + 1) & (self.buckets.len() - 1);
            }
        }
    }

    /// Takes out every entry whose time is over.
    fn take_over(&mut self, over: Timestamp, gone: &mut Gone) {
        (self.first_end, self.since_cleaned) = (Timestamp::from_milliseconds(u64::MAX), 0);
        for index in 0..self.buckets.len() {
            for slot in 0..SLOTS {
                if self.buckets[index].is_over(slot, over) {
                    gone.extend(self.take(index, slot));
                } else if let Some(held) = &self.buckets[index].slots[slot] {
                    self.first_end = self.first_end.min(held.record.details.expires);
                }
            }
        }
    }

    /// Twice as many buckets.
    fn grow(&mut self, hash: impl Fn(&[u8]) -> Hash, gone: &mut Gone) {
        for mut bucket in self.set_buckets(self.buckets.len() * 2) {
            for (held, uses) in bucket.slots.iter_mut().zip(&mut bucket.uses) {
                let Some(held) = held.take() else { continue };
                let hash = hash(held.record.key.octets());
                if self.has_room(hash) {
                    self.put(hash, held, *uses.get_mut());
                } else {
                    gone.push(held);
                }
            }
        }
    }

    /// Starts anew with empty buckets, and gives those there were.
    fn set_buckets(&mut self, count: usize) -> Vec<Bucket> {
        let buckets: Vec<Bucket> = (0..count).map(|_| Bucket::default()).collect();
        let bytes = size_of_val(&*buckets);
        let first_end = Timestamp::from_milliseconds(u64::MAX);
        mem::replace(self, Self { buckets, count: 0, bytes, hand: 0, first_end, since_cleaned: 0 }).buckets
    }
}

impl Bucket {
    /// The slots with that tag, as the lowest bits of octets; now and then one without it.
    #[inline]
    fn matches(&self, tag: u8) -> u64 {
        const LOWEST: u64 = u64::from_le_bytes([1; 8]);
        let difference = u64::from_le_bytes(self.tags) ^ (LOWEST * u64::from(tag));
        (difference.wrapping_sub(LOWEST) & !difference) >> 7 & LOWEST
    }

    fn count(&self) -> usize {
        self.tags.iter().filter(|&&tag| tag != 0).count()
    }

    fn is_over(&self, slot: usize, over: Timestamp) -> bool {
        self.slots[slot].as_ref().is_some_and(|held| held.record.details.expires <= over)
    }
}

impl Held {
    /// The same for as long as it is held: forms derived from the answer later are part of the estimate.
    fn weight_bytes(&self) -> usize {
        let key_bytes = if let Key::Long(octets) = &self.record.key { octets.len() } else { 0 };
        key_bytes + self.answer.weight_bytes() + ENTRY_BYTES
    }
}

impl Key {
    const SHORT_MAX: usize = 46;

    fn octets(&self) -> &[u8] {
        match self {
            Self::Short { length, octets } => &octets[..usize::from(*length)],
            Self::Long(octets) => octets,
        }
    }
}

impl From<&[u8]> for Key {
    fn from(key: &[u8]) -> Self {
        let mut octets = [0; Self::SHORT_MAX];
        match octets.get_mut(..key.len()) {
            Some(start) => {
                start.copy_from_slice(key);
                Self::Short { length: key.len() as u8, octets }
            }
            None => Self::Long(key.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::thread;

    use mailproof_proto::dns::{Failure, Outcome};
    use proptest::prelude::*;

    use super::*;

    const NEVER: Timestamp = Timestamp::from_milliseconds(0);

    /// An entry that is known again by its number.
    fn entry(number: u64) -> Entry {
        let details = Details {
            expires: Timestamp::from_seconds(number),
            late_ms: 0,
            ageing_seconds: 0,
            failures: 0,
            denies_below: false,
        };
        Entry { answer: Answer::new(Outcome::NoData, Some(number as u32)), details }
    }

    fn number(entry: &Entry) -> u64 {
        assert_eq!(entry.answer.ttl_seconds().map(u64::from), Some(entry.details.expires.seconds()));
        entry.details.expires.seconds()
    }

    fn table(bytes_max: u64) -> Table {
        Table::new(bytes_max, Hashing::random())
    }

    /// Short keys and long ones, a few of which are the longest that lie in a record.
    fn key(number: usize) -> Vec<u8> {
        let mut key = number.to_be_bytes().to_vec();
        key.resize([9, Key::SHORT_MAX, Key::SHORT_MAX + 1, 257][number % 4], b'x');
        key
    }

    #[test]
    fn nothing_is_lost_below_the_bound() {
        let table = table(64 << 20);
        for index in 0..30_000 {
            table.insert(&key(index), entry(index as u64), NEVER);
        }
        assert_eq!((table.len(), table.evictions()), (30_000, 0));
        for index in 0..30_000 {
            assert_eq!(table.get(&key(index)).map(|it| number(&it)), Some(index as u64));
        }
        assert_eq!(table.entries().count(), 30_000);
        table.clear();
        assert_eq!((table.len(), table.bytes()), (0, 0));
    }

    #[test]
    fn names_asked_once_do_not_push_out_those_asked_again() {
        let table = table(1 << 20);
        let working_set: Vec<_> = (0..200).map(key).collect();
        for key in &working_set {
            table.insert(key, entry(1), NEVER);
        }
        for index in 1_000..41_000 {
            table.insert(&key(index), entry(1), NEVER);
            // Each of them is asked for once while two hundred others come.
            table.get(&working_set[index % working_set.len()]);
        }
        let left = working_set.iter().filter(|key| table.get(key).is_some()).count();
        assert!(left >= 195, "{left} of 200");
        assert!(table.evictions() > 30_000);
    }

    #[test]
    fn what_is_over_goes_first() {
        let table = table(1 << 20);
        for index in 0..500 {
            table.insert(&key(index), entry(if index % 2 == 0 { 10 } else { 100 }), NEVER);
        }
        let mut index = 500;
        while table.evictions() == 0 {
            table.insert(&key(index), entry(100), Timestamp::from_seconds(10));
            index += 1;
        }
        let left = |parity: usize| (0..500).filter(|it| it % 2 == parity && table.get(&key(*it)).is_some()).count();
        assert_eq!((left(0), left(1)), (0, 250));
    }

    #[test]
    fn bounds_hold_however_small() {
        let weight = |bytes_max| {
            let table = table(bytes_max);
            for index in 0..100 {
                table.insert(&key(index), entry(1), NEVER);
                assert!(table.bytes() <= bytes_max, "{} of {bytes_max}", table.bytes());
            }
            assert_eq!(table.len() + table.evictions(), 100);
            table.len()
        };
        let one = {
            let table = table(1 << 20);
            table.insert(&key(0), entry(1), NEVER);
            table.bytes()
        };
        assert_eq!((weight(1), weight(one - 1), weight(one)), (0, 0, 1));
        for bytes_max in [2 * one, 10_000, 50_000] {
            assert!(weight(bytes_max) > 0);
        }
        // One that no shard holds takes the older one under its key along.
        let table = table(one);
        table.insert(&key(0), entry(1), NEVER);
        let mut long = entry(1);
        long.answer = Answer::denied_alias(mailproof_proto::dns::Name::parse("a").unwrap(), Some(1), None);
        table.insert(&key(0), long, NEVER);
        assert_eq!((table.len(), table.evictions()), (0, 1));
    }

    #[test]
    fn threads_that_read_put_and_forget_see_whole_entries() {
        let table = table(300_000);
        thread::scope(|scope| {
            for start in 0..4_u64 {
                let table = &table;
                scope.spawn(move || {
                    for round in 0..20_000 {
                        let index = (round * 7 + start * 13) % 997;
                        match round % 5 {
                            0 => _ = table.remove(&key(index as usize)),
                            1 | 2 => table.insert(&key(index as usize), entry(index), NEVER),
                            _ => assert!(table.get(&key(index as usize)).is_none_or(|it| number(&it) == index)),
                        }
                    }
                });
            }
        });
        assert!(table.bytes() <= 300_000);
        assert_eq!(table.entries().count() as u64, table.len());
        for index in 0..997 {
            table.remove(&key(index));
        }
        // The buckets are left, and no octet of any entry.
        assert!(table.len() == 0 && table.bytes().is_multiple_of(128), "{}", table.bytes());
    }

    proptest! {
        #[test]
        fn the_table_holds_what_a_map_does(
            bytes_max in prop_oneof![Just(5_000_u64), Just(60_000), Just(8 << 20)],
            course in prop::collection::vec((0..150_usize, 0..8_u8, 1..50_u64), 1..600),
        ) {
            let (table, mut twin) = (table(bytes_max), HashMap::new());
            for (index, what, value) in course {
                match what {
                    0 => prop_assert!(!table.remove(&key(index)) || twin.contains_key(&index)),
                    1..4 => table.insert(&key(index), entry(value), Timestamp::from_seconds(value / 2)),
                    _ => {}
                }
                let _before = match what {
                    0 => twin.remove(&index),
                    1..4 => twin.insert(index, value),
                    _ => None,
                };
                let found = table.get(&key(index)).map(|it| number(&it));
                let kept = twin.get(&index).copied();
                prop_assert!(found == kept || found.is_none() && table.evictions() > 0);
                prop_assert!(table.bytes() <= bytes_max);
                prop_assert!(bytes_max < 1 << 20 || table.evictions() == 0 && table.len() == twin.len() as u64);
            }
        }
    }

    #[test]
    fn failures_are_entries_too() {
        let table = table(1 << 20);
        let failed = Entry { answer: Answer::failed(Failure::TimedOut), ..entry(1) };
        table.insert(&key(1), failed, NEVER);
        assert_eq!(table.get(&key(1)).map(|it| it.answer.outcome().clone()), Some(Outcome::Failed(Failure::TimedOut)));
    }
}
