//! One column of a chunk: values or times as few bytes, and back bit for bit.
//!
//! Sensors round: 24.5 is the integer 245 and one decimal. Where scaling by a power of ten is exactly reversible for every
//! value of the column - verified here, -0.0 and infinities are not - the integers are coded, else the floats as they are.
//! Integers are coded as what is left of them when each is foretold from those before it (`residuals.rs`), and short columns as
//! varints of first or second differences where those are smaller.
//!
//! ```text
//! block = kind u8 │ …
//!   0 constant            │ f64 bits                                   all values are this one
//!   1 first differences   │ decimals u8 │ length varint │ zigzag varints, the first against 0
//!   2 second differences  │ decimals u8 │ length varint │ zigzag varints
//!   3 pco integers        │ decimals u8 │ length varint │ pco standalone of i64: files of format 2 and before
//!   4 raw floats          │ 8 bytes a value
//!   5 pco floats          │ length varint │ pco standalone of f64
//!   6 packed residuals    │ decimals and 16 × order u8 │ length varint │ residuals
//!   7 residuals by pco    │ decimals and 16 × order u8 │ length varint │ residuals
//! ```

use pco::{
    ChunkConfig,
    data_types::Number,
    standalone::{simple_compress, simple_decompress_into},
};

use super::{
    bytes::{Cursor, Reason, put_varint, unzigzag, zigzag},
    residuals::{self, Coding, differences, sum},
};

const CONSTANT: u8 = 0;
const FIRST_DIFFERENCES: u8 = 1;
const SECOND_DIFFERENCES: u8 = 2;
const PCO_INTEGERS: u8 = 3;
const RAW_FLOATS: u8 = 4;
const PCO_FLOATS: u8 = 5;
const PACKED: u8 = 6;
const PCO_RESIDUALS: u8 = 7;

/// Where in the byte of the decimals the order of residuals stands.
const ORDER_SHIFT: u32 = 4;
const DECIMALS_MASK: u8 = (1 << ORDER_SHIFT) - 1;

/// Columns of floats shorter than this are not offered to `pco`.
const PCO_AT_LEAST: usize = 48;

/// Columns of integers shorter than this may be smallest as varints: a single large step makes all packed bits wide.
const VARINTS_BELOW: usize = 48;

/// `pco` effort: level 4 costs 1-2 % more bytes than the default 8 on sensor values, and two thirds of its time.
const PCO_LEVEL: usize = 4;

/// By decimals, up to more than a sensor writes; beyond them the integers are no smaller than the floats.
const POWERS_OF_TEN: [f64; 11] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10];

/// Integers up to here are exact as floats, so that dividing them rounds once and rightly.
const EXACT_INTEGER_MAX: f64 = 9_007_199_254_740_992.0;

/// Appends a block that holds integers.
pub(super) fn put_integers(out: &mut Vec<u8>, integers: &[i64], decimals: u8) {
    let (kind, order, block) = shortest(integers);
    out.extend([kind, decimals | order << ORDER_SHIFT]);
    put_varint(out, block.len() as u64);
    out.extend(block);
}

/// The kind that takes fewest bytes, its order, and its bytes.
fn shortest(integers: &[i64]) -> (u8, u8, Vec<u8>) {
    let (order, coding, residuals) = residuals::encode(integers);
    let kind = match coding {
        Coding::Packed => PACKED,
        Coding::Pco => PCO_RESIDUALS,
    };
    let is_short = integers.len() < VARINTS_BELOW;
    [SECOND_DIFFERENCES, FIRST_DIFFERENCES]
        .into_iter()
        .filter(|_| is_short)
        .map(|kind| (kind, 0, varints(integers, kind)))
        .fold((kind, order, residuals), |best, next| if next.2.len() <= best.2.len() { next } else { best })
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
            let &power = POWERS_OF_TEN.get(usize::from(decimals)).ok_or("a column has too many decimals")?;
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
    let scale = cursor.u8()?;
    let (decimals, order) = (scale & DECIMALS_MASK, scale >> ORDER_SHIFT);
    let length = cursor.count(usize::MAX)?;
    let block = cursor.bytes(length)?;
    let integers = match kind {
        FIRST_DIFFERENCES | SECOND_DIFFERENCES => summed(block, count, kind)?,
        PCO_INTEGERS => unpack(block, count)?,
        PACKED => residuals::decode(block, order, Coding::Packed, count)?,
        PCO_RESIDUALS => residuals::decode(block, order, Coding::Pco, count)?,
        _ => return Err("a column is of an unknown kind"),
    };
    Ok((integers, decimals))
}

/// First (`order` 1) or second differences as varints.
fn varints(integers: &[i64], order: u8) -> Vec<u8> {
    let mut out = Vec::new();
    differences(integers, order).into_iter().for_each(|difference| put_varint(&mut out, zigzag(difference)));
    out
}

/// The inverse of [`varints`].
fn summed(block: &[u8], count: usize, order: u8) -> Result<Vec<i64>, Reason> {
    let mut block = Cursor(block);
    let mut integers = (0..count).map(|_| block.varint().map(unzigzag)).collect::<Result<Vec<i64>, Reason>>()?;
    sum(&mut integers, order);
    Ok(integers)
}

/// The values as integers of the fewest decimals that are exact for every one of them.
fn scale_all(values: &[f64]) -> Option<(Vec<i64>, u8)> {
    (0..).zip(POWERS_OF_TEN).find_map(|(decimals, power)| Some((scale_each(values, power)?, decimals)))
}

fn scale_each(values: &[f64], power: f64) -> Option<Vec<i64>> {
    let mut integers = Vec::with_capacity(values.len());
    for &value in values {
        integers.push(scale(value, power)?);
    }
    Some(integers)
}

/// `value * power` as an integer, where that gives the value back bit for bit.
fn scale(value: f64, power: f64) -> Option<i64> {
    let scaled = value * power;
    // Rounded by hand: without SSE 4.1, which not every build may use, `round` is a call.
    let whole = scaled as i64;
    let rest = scaled - whole as f64;
    let integer = whole.saturating_add(i64::from(rest >= 0.5) - i64::from(rest <= -0.5));
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
