//! Integers as what is left of them when each is foretold from those before it: bits of one width, or `pco`.
//!
//! Foretold is nothing (order 0), the integer before (1), or that and the step that led to it (2), whichever leaves the
//! least spread. What is left is counted from the least of it, so that it is never negative and as narrow as its range;
//! integers that rise by a constant step leave nothing at all.
//!
//! Bits of one width come back at a nanosecond each. `pco` learns which values are frequent and takes some fifteen bytes and
//! a multiple of that time, so it is asked only where a histogram says that it pays. It is given the narrowest type, because
//! its tables hold a whole value of the type a line.
//!
//! ```text
//! residuals = `order` integers zigzag varints, as differences │ least zigzag varint │ width u8 │ rest
//!   rest, packed:  (count - order) × width bits, least first
//!   rest, by pco:  wrapped: header, metadata and one page of unsigned integers of 8, 16, 32 or 64 bits
//! ```

use pco::{
    ChunkConfig, DeltaSpec, ModeSpec, PagingSpec,
    data_types::Number,
    wrapped::{FileCompressor, FileDecompressor},
};

use super::bytes::{Cursor, Reason, put_varint, unzigzag, zigzag};

/// The most that [`differences`] foretells from.
pub(super) const ORDER_MAX: u8 = 2;

/// Fewer values than this are not offered to `pco`.
const PCO_AT_LEAST: usize = 48;

/// `pco` effort: level 4 costs 1-2 % more bytes than the default 8 on sensor values, and two thirds of its time.
const PCO_LEVEL: usize = 4;

/// The share of the packed bytes that `pco` may take at most: what it saves must be worth the time to read it.
const PCO_AT_MOST: f64 = 0.98;

/// What `pco` takes at least for its tables.
const PCO_TABLE_BYTES: f64 = 12.0;

/// The widest value that eight bytes hold wherever among the bits it starts; wider ones are given whole bytes.
const WIDTH_MAX: u32 = 57;

/// How values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Packed,
    Pco,
}

/// Encodes integers: the order, the coding that takes fewest bytes, and the bytes.
pub(super) fn encode(integers: &[i64]) -> (u8, Coding, Vec<u8>) {
    let (order, differences) = least_spread(integers);
    let (starts, left) = differences.split_at(usize::from(order).min(differences.len()));
    let least = left.iter().copied().min().unwrap_or(0);
    let offsets: Vec<u64> = left.iter().map(|&integer| integer.wrapping_sub(least) as u64).collect();
    let width = width_of(&offsets);
    let mut out = Vec::with_capacity(16 + packed_length(offsets.len(), width));
    for &integer in starts.iter().chain([&least]) {
        put_varint(&mut out, zigzag(integer));
    }
    out.push(width as u8);
    match by_pco(&offsets, width) {
        Some(packed) => {
            out.extend(packed);
            (order, Coding::Pco, out)
        }
        None => {
            put_bits(&mut out, &offsets, width);
            (order, Coding::Packed, out)
        }
    }
}

/// Decodes `count` integers.
pub(super) fn decode(block: &[u8], order: u8, coding: Coding, count: usize) -> Result<Vec<i64>, Reason> {
    let mut cursor = Cursor(block);
    let starts = usize::from(order).min(count);
    let mut integers = Vec::with_capacity(count);
    for _ in 0..starts {
        integers.push(unzigzag(cursor.varint()?));
    }
    let least = unzigzag(cursor.varint()?);
    let width = u32::from(cursor.u8()?);
    let left = count - starts;
    match coding {
        Coding::Packed => integers.extend(take_bits(cursor.0, left, width)?.map(|o| least.wrapping_add(o as i64))),
        Coding::Pco => {
            let offsets = match width {
                0..=8 => unpack::<u8>(cursor.0, left)?,
                9..=16 => unpack::<u16>(cursor.0, left)?,
                17..=32 => unpack::<u32>(cursor.0, left)?,
                _ => unpack::<u64>(cursor.0, left)?,
            };
            integers.extend(offsets.into_iter().map(|offset| least.wrapping_add(offset as i64)));
        }
    }
    sum(&mut integers, order);
    Ok(integers)
}

/// First (`order` 1) or second differences, what is before the column counting as 0; the integers themselves for order 0.
pub(super) fn differences(integers: &[i64], order: u8) -> Vec<i64> {
    let mut differences = integers.to_vec();
    for _ in 0..order {
        let mut before = 0;
        for integer in &mut differences {
            (before, *integer) = (*integer, integer.wrapping_sub(before));
        }
    }
    differences
}

/// The inverse of [`differences`], in place.
pub(super) fn sum(differences: &mut [i64], order: u8) {
    for _ in 0..order {
        let mut before = 0i64;
        for difference in differences.iter_mut() {
            before = before.wrapping_add(*difference);
            *difference = before;
        }
    }
}

/// The differences that lie closest together, and their order.
fn least_spread(integers: &[i64]) -> (u8, Vec<i64>) {
    let mut best = (0, integers.to_vec());
    let mut least = spread(integers);
    for order in 1..=ORDER_MAX {
        let differences = differences(integers, order);
        let spread = spread(differences.get(usize::from(order)..).unwrap_or_default());
        if spread >= least {
            break;
        }
        (least, best) = (spread, (order, differences));
    }
    best
}

/// The mean distance from the mean.
fn spread(integers: &[i64]) -> f64 {
    let count = integers.len().max(1) as f64;
    let mean = integers.iter().map(|&integer| integer as f64).sum::<f64>() / count;
    integers.iter().map(|&integer| (integer as f64 - mean).abs()).sum::<f64>() / count
}

fn width_of(offsets: &[u64]) -> u32 {
    let width = u64::BITS - offsets.iter().fold(0, |all, offset| all | offset).leading_zeros();
    if width > WIDTH_MAX { u64::BITS } else { width }
}

fn packed_length(count: usize, width: u32) -> usize {
    (count * width as usize).div_ceil(8)
}

fn put_bits(out: &mut Vec<u8>, offsets: &[u64], width: u32) {
    let (mut waiting, mut bits) = (0u128, 0);
    for &offset in offsets {
        waiting |= u128::from(offset) << bits;
        bits += width;
        if bits >= u64::BITS {
            out.extend((waiting as u64).to_le_bytes());
            waiting >>= u64::BITS;
            bits -= u64::BITS;
        }
    }
    out.extend((waiting as u64).to_le_bytes().iter().take(bits.div_ceil(8) as usize));
}

fn take_bits(bytes: &[u8], count: usize, width: u32) -> Result<impl Iterator<Item = u64>, Reason> {
    if width > u64::BITS || (width > WIDTH_MAX && width < u64::BITS) || bytes.len() != packed_length(count, width) {
        return Err("a column has the wrong length");
    }
    let mask = u64::MAX.checked_shr(u64::BITS - width).unwrap_or(0);
    Ok((0..count).map(move |place| {
        let bit = place * width as usize;
        let rest = bytes.get(bit / 8..).unwrap_or_default();
        let eight = rest.first_chunk().copied().unwrap_or_else(|| {
            let mut eight = [0; 8];
            eight.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            eight
        });
        u64::from_le_bytes(eight) >> (bit % 8) & mask
    }))
}

/// The offsets as `pco` writes them, where that is enough smaller than packed.
fn by_pco(offsets: &[u64], width: u32) -> Option<Vec<u8>> {
    let bytes_at_most = packed_length(offsets.len(), width) as f64 * PCO_AT_MOST;
    if offsets.len() < PCO_AT_LEAST || least_bytes(offsets, width) + PCO_TABLE_BYTES >= bytes_at_most {
        return None;
    }
    let packed = match width {
        0..=8 => pack::<u8>(offsets),
        9..=16 => pack::<u16>(offsets),
        17..=32 => pack::<u32>(offsets),
        _ => pack::<u64>(offsets),
    };
    packed.filter(|packed| packed.len() as f64 <= bytes_at_most)
}

/// What no code that knows how frequent each value is can go below; values wider than a byte are not counted.
fn least_bytes(offsets: &[u64], width: u32) -> f64 {
    if width > u8::BITS {
        return 0.0;
    }
    let mut counts = [0u32; 256];
    for &offset in offsets {
        if let Some(count) = counts.get_mut(offset as usize) {
            *count += 1;
        }
    }
    let all = offsets.len() as f64;
    let bits = |&count: &u32| f64::from(count) * (all / f64::from(count)).log2();
    counts.iter().filter(|count| **count > 0).map(bits).sum::<f64>() / 8.0
}

/// `None` where `pco` refuses, which it does for columns beyond its size limit only.
fn pack<T: Number + TryFrom<u64>>(offsets: &[u64]) -> Option<Vec<u8>> {
    let narrow: Vec<T> = offsets.iter().map(|&offset| T::try_from(offset).ok()).collect::<Option<_>>()?;
    let config = ChunkConfig::default()
        .with_compression_level(PCO_LEVEL)
        .with_mode_spec(ModeSpec::Classic)
        .with_delta_spec(DeltaSpec::NoOp)
        .with_paging_spec(PagingSpec::Exact(vec![narrow.len()]))
        .with_enable_8_bit(true);
    let file = FileCompressor::default();
    let mut chunk = file.chunk_compressor(&narrow, &config).ok()?;
    let out = file.write_header(Vec::new()).ok()?;
    let out = chunk.write_meta(out).ok()?;
    chunk.write_page(0, out).ok()
}

fn unpack<T: Number + Default + Into<u64>>(packed: &[u8], count: usize) -> Result<Vec<u64>, Reason> {
    let mut narrow = vec![T::default(); count];
    let read = |narrow: &mut [T]| {
        let (file, rest) = FileDecompressor::new(packed)?;
        let (mut chunk, rest) = file.chunk_decompressor::<T, _>(rest)?;
        chunk.page_decompressor(rest, count)?.read(narrow)
    };
    let progress = read(&mut narrow).map_err(|_: pco::errors::PcoError| "a column cannot be unpacked")?;
    if progress.finished && progress.n_processed == count {
        Ok(narrow.into_iter().map(Into::into).collect())
    } else {
        Err("a column has the wrong length")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(integers: &[i64]) -> (u8, Coding, usize) {
        let (order, coding, block) = encode(integers);
        assert_eq!(decode(&block, order, coding, integers.len()).as_deref(), Ok(integers));
        (order, coding, block.len())
    }

    #[test]
    fn the_order_is_that_of_what_the_integers_do() {
        let beats: Vec<i64> = (0..360).map(|i| 5000 + i * 10_000).collect();
        assert_eq!(check(&beats), (1, Coding::Packed, 6));
        let accelerating: Vec<i64> = (0..360).map(|i| i * i).collect();
        assert_eq!(check(&accelerating), (2, Coding::Packed, 4));
        let noise: Vec<i64> = (0..360).map(|i| i * 7919 % 64).collect();
        assert_eq!(check(&noise), (0, Coding::Packed, 2 + 360 * 6 / 8));
    }

    #[test]
    fn what_is_frequent_goes_to_pco() {
        let rare: Vec<i64> = (0..1000).map(|i| if i * 7919 % 1000 < 20 { i % 256 } else { 3 }).collect();
        let (_, coding, length) = check(&rare);
        assert_eq!(coding, Coding::Pco);
        assert!(length < 150, "{length} bytes");
    }

    #[test]
    fn a_block_of_another_length_or_width_is_refused() {
        let (order, coding, block) = encode(&[1, 5, 2, 9]);
        assert!(decode(&block, order, coding, 5).is_err());
        for width in [58, 63, 65, 255] {
            assert!(decode(&[0, width, 1, 2, 3], 0, Coding::Packed, 2).is_err(), "{width}");
        }
        for packed in [&[][..], &[0, 8], &[0, 8, 3, 4, 5, 6, 7]] {
            assert!(decode(packed, 0, Coding::Pco, 60).is_err());
        }
    }

    proptest! {
        #[test]
        fn integers_of_any_width_come_back(width in 0u32..=64, any in proptest::collection::vec(any::<i64>(), 0..120)) {
            let narrow: Vec<i64> = any.iter().map(|&i| i.checked_shr(64 - width).unwrap_or(0)).collect();
            check(&narrow);
        }
    }
}
