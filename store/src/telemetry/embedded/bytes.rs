//! Bytes in and out of blobs: little endian, LEB128 varints, zigzag; reading never panics and never reads past the end.

/// Why a blob cannot be decoded, for [`Error::Damaged`](crate::telemetry::Error::Damaged).
pub(super) type Reason = &'static str;

const TRUNCATED: Reason = "it ends too early";

/// Appends an unsigned integer in groups of seven bits, least first.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Maps integers near zero, of either sign, to small unsigned ones.
pub(super) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The inverse of [`zigzag`].
pub(super) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Takes values off the front of a blob.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Reason> {
        let (head, rest) = self.0.split_at_checked(count).ok_or(TRUNCATED)?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Reason> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(TRUNCATED)?;
        self.0 = rest;
        Ok(*head)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Reason> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Reason> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn i64(&mut self) -> Result<i64, Reason> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    pub(super) fn f64(&mut self) -> Result<f64, Reason> {
        Ok(f64::from_le_bytes(self.array()?))
    }

    pub(super) fn varint(&mut self) -> Result<u64, Reason> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("a number has too many digits")
    }

    /// A varint that counts or numbers something: at most `most`.
    pub(super) fn count(&mut self, most: usize) -> Result<usize, Reason> {
        let count = usize::try_from(self.varint()?).map_err(|_| "a count is beyond reason")?;
        if count <= most { Ok(count) } else { Err("a count is beyond reason") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        for value in [0, 1, -1, 63, -64, 64, 300, i64::MAX, i64::MIN] {
            let mut out = Vec::new();
            put_varint(&mut out, zigzag(value));
            let mut cursor = Cursor(&out);
            assert_eq!(cursor.varint().map(unzigzag), Ok(value));
            assert_eq!(cursor.u8(), Err(TRUNCATED));
        }
    }
}
