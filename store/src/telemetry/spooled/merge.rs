//! Readings laid over readings, and what of some is not in others: pure functions, cell by cell.

use std::collections::BTreeMap;

use harbinger_core::{SignalId, Timestamp, history::Readings};

use crate::telemetry::Latest;

/// Both, sample by sample: where both have one, `above` holds.
pub(super) fn overlay(below: Readings, above: Readings) -> Readings {
    if below.is_empty() {
        return above;
    }
    if above.is_empty() {
        return below;
    }
    let mut times: Vec<Timestamp> = below.times.iter().chain(&above.times).copied().collect();
    times.sort_unstable();
    times.dedup();
    let mut columns: BTreeMap<SignalId, Vec<f64>> = BTreeMap::new();
    for layer in [below, above] {
        let places: Vec<usize> = places(&times, &layer.times).collect();
        for (signal, values) in layer.columns {
            let column = columns.entry(signal).or_insert_with(|| vec![f64::NAN; times.len()]);
            for (&place, value) in places.iter().zip(values).filter(|(_, value)| !value.is_nan()) {
                if let Some(cell) = column.get_mut(place) {
                    *cell = value;
                }
            }
        }
    }
    Readings { times, columns: columns.into_iter().collect() }
}

/// Where each of `some` stands in `all`, which holds them; both rise.
fn places<'a>(all: &'a [Timestamp], some: &'a [Timestamp]) -> impl Iterator<Item = usize> + 'a {
    let mut next = 0;
    some.iter().map(move |ts| {
        next += all.iter().skip(next).take_while(|known| *known < ts).count();
        next
    })
}

/// Adds readings that are later than all so far.
pub(super) fn append(all: &mut Readings, later: Readings) {
    if all.is_empty() {
        *all = later;
        return;
    }
    let (before, length) = (all.len(), all.len() + later.len());
    all.times.extend(later.times);
    for (signal, values) in later.columns {
        let place = match all.columns.binary_search_by(|(known, _)| known.cmp(&signal)) {
            Ok(place) => place,
            Err(place) => {
                all.columns.insert(place, (signal, vec![f64::NAN; before]));
                place
            }
        };
        if let Some((_, column)) = all.columns.get_mut(place) {
            column.extend(values);
        }
    }
    all.columns.iter_mut().for_each(|(_, column)| column.resize(length, f64::NAN));
}

/// The samples of `readings` for which `wanted` says so of the one that `others` has at their place.
pub(super) fn select(readings: &Readings, others: &Readings, wanted: impl Fn(f64, Option<f64>) -> bool) -> Readings {
    let columns: Vec<(&SignalId, &[f64], &[f64])> = readings
        .columns
        .iter()
        .map(|(signal, column)| (signal, column.as_slice(), others.column(signal).unwrap_or_default()))
        .collect();
    let mut selected = Readings::default();
    for (row, &ts) in readings.times.iter().enumerate() {
        let other_row = others.times.binary_search(&ts).ok();
        let samples = columns.iter().filter_map(|(signal, column, other)| {
            let value = column.get(row).copied().filter(|value| !value.is_nan())?;
            let other = other_row.and_then(|row| other.get(row)).copied().filter(|value| !value.is_nan());
            wanted(value, other).then(|| ((*signal).clone(), value))
        });
        let samples: Vec<(SignalId, f64)> = samples.collect();
        if !samples.is_empty() {
            selected.push(ts, &samples);
        }
    }
    selected
}

/// The readings at the times that are wanted.
pub(super) fn at(mut readings: Readings, wanted: impl Fn(Timestamp) -> bool) -> Readings {
    let keep: Vec<bool> = readings.times.iter().map(|&ts| wanted(ts)).collect();
    let mut keeps = keep.iter();
    readings.times.retain(|_| keeps.next().is_some_and(|&keep| keep));
    for (_, column) in &mut readings.columns {
        let mut keeps = keep.iter();
        column.retain(|_| keeps.next().is_some_and(|&keep| keep));
    }
    readings
}

/// The newest of each signal; where both are of one time, `above` holds.
pub(super) fn newest(below: Vec<Latest>, above: Vec<Latest>) -> Vec<Latest> {
    let mut all: BTreeMap<SignalId, Latest> = BTreeMap::new();
    for latest in below.into_iter().chain(above) {
        match all.get(&latest.signal) {
            Some(known) if known.ts > latest.ts => {}
            _ => drop(all.insert(latest.signal.clone(), latest)),
        }
    }
    all.into_values().collect()
}

/// How many samples there are.
pub(super) fn count(readings: &Readings) -> u64 {
    count_where(readings, |_, _| true)
}

/// How many samples there are of which `wanted` says so.
pub(super) fn count_where(readings: &Readings, wanted: impl Fn(Timestamp, f64) -> bool) -> u64 {
    let columns = readings.columns.iter();
    let samples = columns.flat_map(|(_, column)| readings.times.iter().zip(column));
    samples.filter(|&(&ts, &value)| !value.is_nan() && wanted(ts, value)).count() as u64
}

/// Whether two samples are the same bit for bit.
pub(super) fn same(value: f64, other: Option<f64>) -> bool {
    other.is_some_and(|other| other.to_bits() == value.to_bits())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Model = BTreeMap<(i64, u8), i8>;

    fn model() -> impl Strategy<Value = Model> {
        proptest::collection::btree_map((0i64..8, 0u8..3), 0i8..3, 0..16)
    }

    fn readings(model: &Model) -> Readings {
        let mut readings = Readings::default();
        let times: std::collections::BTreeSet<i64> = model.keys().map(|(ts, _)| *ts).collect();
        for ts in times {
            let of_time = model.iter().filter(|((known, _), _)| *known == ts);
            let samples = of_time.map(|((_, signal), value)| (name(*signal), f64::from(*value)));
            readings.push(Timestamp::from_millis(ts), &samples.collect::<Vec<_>>());
        }
        readings
    }

    fn name(signal: u8) -> SignalId {
        SignalId::parse(&format!("signal-{signal}")).unwrap()
    }

    fn samples<'a>(readings: &'a Readings, signal: &SignalId) -> impl Iterator<Item = (Timestamp, f64)> + 'a {
        let column = readings.column(signal).unwrap_or_default();
        readings.times.iter().copied().zip(column.iter().copied()).filter(|(_, value)| !value.is_nan())
    }

    fn as_model(readings: &Readings) -> Model {
        let of = |signal: u8| {
            samples(readings, &name(signal))
                .map(move |(ts, value)| ((ts.millis(), signal), value as i8))
                .collect::<Vec<_>>()
        };
        (0..3).flat_map(of).collect()
    }

    proptest! {
        #[test]
        fn parts_appended_are_the_whole(model in model(), cuts in proptest::collection::vec(0i64..8, 0..3)) {
            let mut parts = vec![readings(&model)];
            for cut in cuts {
                let after = |ts: Timestamp| ts.millis() >= cut;
                parts = parts.iter().flat_map(|part| [at(part.clone(), |ts| !after(ts)), at(part.clone(), after)]).collect();
            }
            parts.sort_by_key(|part| part.times.first().copied());
            let mut all = Readings::default();
            parts.into_iter().for_each(|part| append(&mut all, part));
            prop_assert_eq!(as_model(&all), model);
            prop_assert!(all.columns.iter().all(|(_, column)| column.len() == all.len()));
        }

        #[test]
        fn overlay_and_select_are_those_of_maps(below in model(), above in model()) {
            let laid = overlay(readings(&below), readings(&above));
            let mut expected = below.clone();
            expected.extend(above.clone());
            prop_assert_eq!(as_model(&laid), expected);
            prop_assert!(laid.times.is_sorted_by(|a, b| a < b));
            let rest = select(&readings(&above), &readings(&below), |value, other| !same(value, other));
            let expected: Model = above.iter().filter(|(key, value)| below.get(key) != Some(value)).map(|(k, v)| (*k, *v)).collect();
            prop_assert_eq!(count(&rest), expected.len() as u64);
            prop_assert_eq!(as_model(&rest), expected);
        }
    }
}
