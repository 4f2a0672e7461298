//! What a killed process said, what must be in its file, and what is found there.

use std::{collections::BTreeSet, ops::Range, path::Path};

use harbinger_core::{DeviceKey, Reading, TimeRange};
use harbinger_store::telemetry::{Batch, EmbeddedStore, TelemetryStore, check};
use harbinger_tests::kill_nine::{
    self as work, AGED_DEVICES, BEATS_A_BATCH, BEATS_A_DAY, CALLERS, DOOMED_BEATS, KEPT_DEVICES, SIGNALS, Said,
};

use super::open;

/// What a process said until it was killed.
pub(super) struct Heard {
    pub(super) durable: BTreeSet<u64>,
    /// The last beat before which readings were about to be forgotten, and the last before which they were.
    forgetting: u64,
    forgot: u64,
    pub(super) made: BTreeSet<u64>,
    deleting: BTreeSet<u64>,
    pub(super) deleted: BTreeSet<u64>,
    /// Copies that became whole, and the batches that were acknowledged before each began.
    pub(super) copies: Vec<(u64, BTreeSet<u64>)>,
}

impl Heard {
    pub(super) fn of(lines: &[String]) -> Self {
        let said: Vec<Said> = lines.iter().map(|line| line.parse().unwrap()).collect();
        let all = |number: fn(&Said) -> Option<u64>| said.iter().filter_map(number).collect::<BTreeSet<u64>>();
        let last = |numbers: BTreeSet<u64>| numbers.last().copied().unwrap_or_default();
        Self {
            durable: all(|said| if let Said::Durable(number) = said { Some(*number) } else { None }),
            forgetting: last(all(|said| if let Said::Forgetting(beat) = said { Some(*beat) } else { None })),
            forgot: last(all(|said| if let Said::Forgot(beat) = said { Some(*beat) } else { None })),
            made: all(|said| if let Said::Made(number) = said { Some(*number) } else { None }),
            deleting: all(|said| if let Said::Deleting(number) = said { Some(*number) } else { None }),
            deleted: all(|said| if let Said::Deleted(number) = said { Some(*number) } else { None }),
            copies: copies(&said),
        }
    }
}

fn copies(said: &[Said]) -> Vec<(u64, BTreeSet<u64>)> {
    let durable = |said: &Said| if let Said::Durable(number) = said { Some(*number) } else { None };
    let whole = said.iter().filter_map(|said| if let Said::Copied(number) = said { Some(*number) } else { None });
    let before = |copy: u64| {
        let until = said.iter().take_while(|said| **said != Said::Copying(copy));
        (copy, until.filter_map(durable).collect())
    };
    whole.map(before).collect()
}

/// The beats that a device has, in order of time; asserts that each is one that it may have, once and with its values.
async fn beats_of(store: &EmbeddedStore, key: &DeviceKey) -> Vec<u64> {
    let found = store.scan(key, TimeRange::ALL, None).await.unwrap();
    let beats: Vec<u64> = found.times.iter().map(|&ts| work::beat_of(ts).expect("a time that was reported")).collect();
    assert!(beats.is_sorted_by(|a, b| a < b), "{key:?}: out of order, or twice");
    assert!(found.is_empty() || found.columns.len() == SIGNALS, "{key:?}: {} signals", found.columns.len());
    for (signal, (_, column)) in found.columns.iter().enumerate() {
        for (&beat, &found) in beats.iter().zip(column) {
            assert_eq!(found, work::value(key, signal, beat), "{key:?} s{signal} at beat {beat}");
        }
    }
    beats
}

/// The data file over all rounds, and what must be in it.
#[derive(Default)]
pub(super) struct Books {
    /// Batches below are there.
    pub(super) batches: u64,
    /// Devices to be deleted from here on have never been used.
    pub(super) devices: u64,
    /// Readings of devices that age may be gone before this beat, and must be gone before that one.
    forgetting: u64,
    pub(super) forgot: u64,
}

impl Books {
    /// Asserts that what was said to be durable is there, and the rest wholly or not at all; then sends all of it again, as
    /// whoever was not answered does, and asserts that what was there is a duplicate and what was not is stored.
    pub(super) async fn settle(&mut self, store: &EmbeddedStore, heard: &Heard) {
        self.forgetting = self.forgetting.max(heard.forgetting);
        self.forgot = self.forgot.max(heard.forgot);
        let kept: Vec<DeviceKey> = (0..KEPT_DEVICES).map(|device| work::key("kept", device)).collect();
        let mut found: Vec<BTreeSet<u64>> = Vec::new();
        for key in &kept {
            found.push(beats_of(store, key).await.into_iter().collect());
        }
        for number in self.tried(heard) {
            let (readings, aged): (Vec<_>, Vec<_>) =
                work::batch(number).into_iter().partition(|reading| kept.contains(&reading.key));
            let there = found.iter().map(|beats| work::beats(number).filter(|beat| beats.contains(beat)).count());
            let there = there.sum::<usize>();
            let all = readings.len();
            if heard.durable.contains(&number) {
                assert_eq!(there, all, "batch {number} was acknowledged");
            }
            assert!(there == 0 || there == all, "batch {number}: {there} of {all} readings are there");
            let again = store.append(Batch { readings, ..Batch::default() }).await.unwrap();
            let counted = (again.duplicate as usize, again.stored as usize, again.corrected);
            assert_eq!(counted, (there, all - there, 0), "batch {number}");
            let young = |reading: &Reading| reading.ts >= work::time(self.forgetting);
            let aged = aged.into_iter().filter(young).collect();
            let again = store.append(Batch { readings: aged, ..Batch::default() }).await.unwrap();
            assert_eq!(again.corrected, 0, "batch {number}");
        }
        self.batches = self.tried(heard).end;
    }

    /// Asserts that a copy that was made meanwhile is sound and has what was acknowledged before it began; it may have more.
    pub(super) async fn check_copy(&self, copy: &Path, before: &BTreeSet<u64>) {
        assert_eq!(check(copy, &|_| {}).unwrap(), [], "{}", copy.display());
        let store = open(copy);
        for device in 0..KEPT_DEVICES {
            let found: BTreeSet<u64> = beats_of(&store, &work::key("kept", device)).await.into_iter().collect();
            let due = (0..self.batches * BEATS_A_BATCH).chain(before.iter().flat_map(|&batch| work::beats(batch)));
            let missing = due.into_iter().find(|beat| !found.contains(beat));
            assert_eq!(missing, None, "kept-{device}: a beat that was acknowledged before the copy");
        }
        store.close().await.unwrap();
    }

    /// Batches that the process may have begun: each caller has at most one that it said nothing of. Pairs are whole.
    fn tried(&self, heard: &Heard) -> Range<u64> {
        let end = self.batches + heard.durable.len() as u64 + CALLERS;
        self.batches..end.next_multiple_of(2)
    }

    /// Asserts that everything is there once, compacted, and nothing else.
    pub(super) async fn check(&self, store: &EmbeddedStore, heard: &Heard) {
        let (end, mut readings) = (self.batches * BEATS_A_BATCH, 0);
        for device in 0..KEPT_DEVICES {
            let found = beats_of(store, &work::key("kept", device)).await;
            assert!(found.iter().copied().eq(0..end), "kept-{device}: {} of {end} beats", found.len());
            readings += found.len();
        }
        for device in 0..AGED_DEVICES {
            let found = beats_of(store, &work::key("aged", device)).await;
            let (gone, young): (Vec<u64>, Vec<u64>) = found.iter().partition(|&&beat| beat < self.forgetting);
            assert!(young.iter().copied().eq(self.forgetting.min(end)..end), "aged-{device}: {} beats", young.len());
            let oldest = gone.first().copied().unwrap_or(end);
            assert!(
                oldest + BEATS_A_DAY >= self.forgot,
                "aged-{device}: beat {oldest} is there, {} forgot",
                self.forgot
            );
            readings += found.len();
        }
        readings += self.check_doomed(store, heard).await;
        assert_eq!(store.size().await.unwrap().samples as usize, readings * SIGNALS, "samples are kept twice, or lost");
    }

    /// Asserts that what was deleted is gone and what was not is there; how many readings.
    async fn check_doomed(&self, store: &EmbeddedStore, heard: &Heard) -> usize {
        let mut readings = 0;
        for extent in store.extents(&work::tenant("doomed")).await.unwrap() {
            let number: u64 = extent.device.as_str().rsplit('-').next().unwrap().parse().unwrap();
            assert!(number >= self.devices, "{} came back", extent.device);
            assert!(!heard.deleted.contains(&number), "{} was deleted", extent.device);
            readings += beats_of(store, &work::key("doomed", number as usize)).await.len();
        }
        for &number in heard.made.difference(&heard.deleting) {
            let found = beats_of(store, &work::key("doomed", number as usize)).await;
            assert!(found.iter().copied().eq(0..DOOMED_BEATS), "doomed-{number} was made: {found:?}");
        }
        readings
    }

    /// Deletes the devices that the kill left, so that the next round has new ones.
    pub(super) async fn clear_doomed(&mut self, store: &EmbeddedStore, heard: &Heard) {
        for extent in store.extents(&work::tenant("doomed")).await.unwrap() {
            store.delete_device(&DeviceKey::new(work::tenant("doomed"), extent.device)).await.unwrap();
        }
        // One may have been begun behind the last that was heard of.
        self.devices = heard.made.last().map_or(self.devices, |last| last + 1) + 1;
    }
}
