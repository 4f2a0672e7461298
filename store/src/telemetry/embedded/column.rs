//! One column of a chunk: values or times as few bytes, and back bit for bit.
//!
//! Sensors round: 24.5 is the integer 245 and one decimal. Where scaling by a power of ten is exactly reversible for every
//! value of the column - verified here, -0.0 and infinities are not - the integers are coded, else the floats as they are.
//! Integers are coded as varints of first or second differences or by `pco`, whichever is smallest: `pco` spends some
//! fifty bytes on its tables, so short columns never go there.
//!
//! ```text
//! block = kind u8 │ …
//!   0 constant            │ f64 bits                                   all values are this one
//!   1 first differences   │ decimals u8 │ length varint │ zigzag varints, the first against 0
//!   2 second differences  │ decimals u8 │ length varint │ zigzag varints
//!   3 pco integers        │ decimals u8 │ length varint │ pco standalone of i64
//!   4 raw floats          │ 8 bytes a value
//!   5 pco floats          │ length varint │ pco standalone of f64
//! ```

use pco::{
    ChunkConfig,
    data_types::Number,
    standalone::{simple_compress, simple_decompress_into},
};

use super::bytes::{Cursor, Reason, put_varint, unzigzag, varint_length, zigzag};

const CONSTANT: u8 = 0;
const FIRST_DIFFERENCES: u8 = 1;
const SECOND_DIFFERENCES: u8 = 2;
const PCO_INTEGERS: u8 = 3;
const RAW_FLOATS: u8 = 4;
const PCO_FLOATS: u8 = 5;

/// Columns shorter than this are not offered to `pco`.
const PCO_AT_LEAST: usize = 48;

/// `pco` effort: level 4 costs 1-2 % more bytes than the default 8 on sensor values, and two thirds of its time.
const PCO_LEVEL: usize = 4;

/// More decimals than a sensor writes; beyond them the integers are no smaller than the floats.
const DECIMALS_MAX: u8 = 10;

/// Integers up to here are exact as floats, so that dividing them rounds once and rightly.
const EXACT_INTEGER_MAX: f64 = 9_007_199_254_740_992.0;

/// Appends a block that holds integers.
pub(super) fn put_integers(out: &mut Vec<u8>, integers: &[i64], decimals: u8) {
    let first = differences(integers, 1);
    let second = differences(integers, 2);
    let first_length: usize = first.iter().map(|&d| varint_length(zigzag(d))).sum();
    let second_length: usize = second.iter().map(|&d| varint_length(zigzag(d))).sum();
    let packed = (integers.len() >= PCO_AT_LEAST).then(|| pack(integers)).flatten();
    let shortest = first_length.min(second_length);
    if let Some(packed) = packed.filter(|packed| packed.len() < shortest) {
        out.extend([PCO_INTEGERS, decimals]);
        put_varint(out, packed.len() as u64);
        out.extend_from_slice(&packed);
        return;
    }
    let (kind, chosen) =
        if first_length <= second_length { (FIRST_DIFFERENCES, first) } else { (SECOND_DIFFERENCES, second) };
    out.extend([kind, decimals]);
    put_varint(out, shortest as u64);
    for difference in chosen {
        put_varint(out, zigzag(difference));
    }
}

/// Appends a block that holds floats.
pub(super) fn put_floats(out: &mut Vec<u8>, values: &[f64]) {
    let constant = values.first().filter(|first| values.iter().all(|value| value.to_bits() == first.to_bits()));
    if let Some(value) = constant.filter(|_| values.len() > 4) {
        out.push(CONSTANT);
        out.extend(value.to_le_bytes());
    } else if let Some((integers, decimals)) = scale_all(values) {
        put_integers(out, &integers, decimals);
    } else if let Some(packed) = (values.len() >= PCO_AT_LEAST).then(|| pack(values)).flatten() {
        out.push(PCO_FLOATS);
        put_varint(out, packed.len() as u64);
        out.extend_from_slice(&packed);
    } else {
        out.push(RAW_FLOATS);
        out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }
}

/// Reads a block of `count` integers.
pub(super) fn take_integers(cursor: &mut Cursor<'_>, count: usize) -> Result<Vec<i64>, Reason> {
    let kind = cursor.u8()?;
    take_integers_of(kind, cursor, count).map(|(integers, _)| integers)
}

/// Reads a block of `count` floats.
pub(super) fn take_floats(cursor: &mut Cursor<'_>, count: usize) -> Result<Vec<f64>, Reason> {
    match cursor.u8()? {
        CONSTANT => Ok(vec![cursor.f64()?; count]),
        RAW_FLOATS => (0..count).map(|_| cursor.f64()).collect(),
        PCO_FLOATS => {
            let length = cursor.count(usize::MAX)?;
            unpack(cursor.bytes(length)?, count)
        }
        kind => {
            let (integers, decimals) = take_integers_of(kind, cursor, count)?;
            let power = power_of_ten(decimals).ok_or("a column has too many decimals")?;
            Ok(integers.into_iter().map(|integer| unscale(integer, power)).collect())
        }
    }
}

/// Passes over a block of `count` floats.
pub(super) fn skip_floats(cursor: &mut Cursor<'_>, count: usize) -> Result<(), Reason> {
    let length = match cursor.u8()? {
        CONSTANT => 8,
        RAW_FLOATS => count.saturating_mul(8),
        PCO_FLOATS => cursor.count(usize::MAX)?,
        _ => {
            cursor.u8()?;
            cursor.count(usize::MAX)?
        }
    };
    cursor.bytes(length).map(drop)
}

fn take_integers_of(kind: u8, cursor: &mut Cursor<'_>, count: usize) -> Result<(Vec<i64>, u8), Reason> {
    let decimals = cursor.u8()?;
    let length = cursor.count(usize::MAX)?;
    let mut block = Cursor(cursor.bytes(length)?);
    let integers = match kind {
        FIRST_DIFFERENCES => summed(&mut block, count, 1)?,
        SECOND_DIFFERENCES => summed(&mut block, count, 2)?,
        PCO_INTEGERS => unpack(block.0, count)?,
        _ => return Err("a column is of an unknown kind"),
    };
    Ok((integers, decimals))
}

/// First (`order` 1) or second differences, what is before the column counting as 0.
fn differences(integers: &[i64], order: u8) -> Vec<i64> {
    let (mut last, mut last_step) = (0i64, 0i64);
    let difference = |&integer: &i64| {
        let step = integer.wrapping_sub(last);
        let difference = if order == 1 { step } else { step.wrapping_sub(last_step) };
        (last, last_step) = (integer, step);
        difference
    };
    integers.iter().map(difference).collect()
}

/// The inverse of [`differences`].
fn summed(block: &mut Cursor<'_>, count: usize, order: u8) -> Result<Vec<i64>, Reason> {
    let (mut last, mut step) = (0i64, 0i64);
    let integer = |_| {
        let difference = unzigzag(block.varint()?);
        step = if order == 1 { difference } else { step.wrapping_add(difference) };
        last = last.wrapping_add(step);
        Ok(last)
    };
    (0..count).map(integer).collect()
}

/// The values as integers of the fewest decimals that are exact for every one of them.
fn scale_all(values: &[f64]) -> Option<(Vec<i64>, u8)> {
    let mut decimals = 0;
    for &value in values {
        while scale(value, power_of_ten(decimals)?).is_none() {
            decimals += 1;
        }
    }
    let power = power_of_ten(decimals)?;
    let integers: Option<Vec<i64>> = values.iter().map(|&value| scale(value, power)).collect();
    Some((integers?, decimals))
}

fn power_of_ten(decimals: u8) -> Option<f64> {
    (decimals <= DECIMALS_MAX).then(|| 10f64.powi(i32::from(decimals)))
}

/// `value * power` as an integer, where that gives the value back bit for bit.
fn scale(value: f64, power: f64) -> Option<i64> {
    let scaled = (value * power).round();
    let integer = scaled as i64;
    (scaled.abs() <= EXACT_INTEGER_MAX && unscale(integer, power).to_bits() == value.to_bits()).then_some(integer)
}

fn unscale(integer: i64, power: f64) -> f64 {
    integer as f64 / power
}

/// `None` where `pco` refuses, which it does for columns beyond its size limit only.
fn pack<T: Number>(values: &[T]) -> Option<Vec<u8>> {
    simple_compress(values, &ChunkConfig::default().with_compression_level(PCO_LEVEL)).ok()
}

fn unpack<T: Number + Default>(packed: &[u8], count: usize) -> Result<Vec<T>, Reason> {
    let mut values = vec![T::default(); count];
    let progress = simple_decompress_into(packed, &mut values).map_err(|_| "a column cannot be unpacked")?;
    if progress.finished && progress.n_processed == count { Ok(values) } else { Err("a column has the wrong length") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(values: &[f64], bytes_at_most: usize) {
        let mut out = Vec::new();
        put_floats(&mut out, values);
        let mut cursor = Cursor(&out);
        let back = take_floats(&mut cursor, values.len()).unwrap();
        let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&back), bits(values));
        assert!(cursor.0.is_empty(), "{} bytes are left", cursor.0.len());
        assert!(out.len() <= bytes_at_most, "{} bytes for {} values", out.len(), values.len());
    }

    #[test]
    fn columns_take_the_bytes_that_their_kind_promises() {
        check(&[24.5], 5);
        check(&[24.5, 24.6, 24.4], 7);
        check(&[7.0; 1000], 9);
        check(&[-0.0, 0.0, 1.0], 25);
        check(&[f64::INFINITY, f64::MIN_POSITIVE, f64::MAX, 0.1 + 0.2], 33);
        check(&(0..1000).map(f64::from).collect::<Vec<_>>(), 60);
        check(&(0..1000).map(|i| f64::from(i * 37 % 101) / 10.0).collect::<Vec<_>>(), 1_000);
        check(&(0..1000).map(|i| f64::from(i).sqrt()).collect::<Vec<_>>(), 8_100);
    }

    proptest! {
        #[test]
        fn any_floats_come_back_bit_for_bit(bits in proptest::collection::vec(any::<u64>(), 1..120)) {
            let values: Vec<f64> = bits.into_iter().map(f64::from_bits).filter(|value| !value.is_nan()).collect();
            check(&values, usize::MAX);
        }

        #[test]
        fn any_decimals_come_back_bit_for_bit(
            integers in proptest::collection::vec(-1_000_000_000i64..1_000_000_000, 1..200), decimals in 0u8..8,
        ) {
            let power = 10f64.powi(i32::from(decimals));
            check(&integers.iter().map(|&i| i as f64 / power).collect::<Vec<_>>(), usize::MAX);
        }

        #[test]
        fn any_integers_come_back(integers in proptest::collection::vec(any::<i64>(), 0..120)) {
            let mut out = Vec::new();
            put_integers(&mut out, &integers, 0);
            prop_assert_eq!(take_integers(&mut Cursor(&out), integers.len()), Ok(integers));
        }
    }
}
