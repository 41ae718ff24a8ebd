//! How a record lies on disk: every value carries a version and a checksum over key and value, and the store carries a
//! header over all of them, so that a byte that changed by itself is found and never passed on.

use sha2::{Digest, Sha256};

use super::backend::StoreError;

/// The version of this layout, the first byte of every stored value.
const VERSION: u8 = 1;
const TAG: usize = 8;

/// The key of the store's header: empty, which no record's is.
pub const HEADER_KEY: &[u8] = b"";

/// `value` as it is stored under `key`, and its checksum: `[version][8 bytes of SHA-256][value]`.
pub fn wrap(key: &[u8], value: &[u8]) -> (Vec<u8>, u64) {
    let tag = checksum(key, value);
    let mut stored = Vec::with_capacity(1 + TAG + value.len());
    stored.push(VERSION);
    stored.extend_from_slice(&tag);
    stored.extend_from_slice(value);
    (stored, u64::from_le_bytes(tag))
}

/// The value of what is stored under `key`, and its checksum.
pub fn unwrap<'a>(key: &[u8], stored: &'a [u8]) -> Result<(&'a [u8], u64), StoreError> {
    match stored.split_first() {
        Some((&VERSION, rest)) => match rest.split_first_chunk::<TAG>() {
            Some((tag, value)) if checksum(key, value) == *tag => Ok((value, u64::from_le_bytes(*tag))),
            Some(_) => Err(StoreError::corrupt_record(key, "its checksum is wrong")),
            None => Err(StoreError::corrupt_record(key, "it is cut short")),
        },
        _ => Err(StoreError::corrupt_record(key, "it is of no known version")),
    }
}

fn checksum(key: &[u8], value: &[u8]) -> [u8; TAG] {
    let mut hash = Sha256::new();
    hash.update((key.len() as u64).to_le_bytes());
    hash.update(key);
    hash.update(value);
    let mut tag = [0; TAG];
    tag.copy_from_slice(&hash.finalize()[..TAG]);
    tag
}

/// What the store says of itself, renewed with every batch and inside it: which store this is, how many batches it has
/// taken, how many records it has, and the sum of their checksums. Lost, doubled or turned-back records show in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Which store this is; also in its `format` file.
    pub instance: [u8; 16],
    /// Batches committed.
    pub sequence: u64,
    /// Records held.
    pub records: u64,
    /// Sum of the records' checksums, modulo 2^64.
    pub sum: u64,
}

impl Header {
    /// The header of an empty store.
    pub fn new(instance: [u8; 16]) -> Self {
        Self { instance, sequence: 0, records: 0, sum: 0 }
    }

    /// Counts a record in.
    pub fn add(&mut self, tag: u64) {
        self.records = self.records.wrapping_add(1);
        self.sum = self.sum.wrapping_add(tag);
    }

    /// Counts a record out.
    pub fn subtract(&mut self, tag: u64) {
        self.records = self.records.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(tag);
    }

    /// The stored form, wrapped.
    pub fn encode(&self) -> Vec<u8> {
        let mut value = self.instance.to_vec();
        for number in [self.sequence, self.records, self.sum] {
            value.extend_from_slice(&number.to_le_bytes());
        }
        wrap(HEADER_KEY, &value).0
    }

    /// Reads the stored form.
    pub fn decode(stored: &[u8]) -> Result<Self, StoreError> {
        let (value, _) = unwrap(HEADER_KEY, stored)?;
        let (instance, rest) = value.split_first_chunk::<16>().ok_or_else(short)?;
        let (sequence, rest) = rest.split_first_chunk::<8>().ok_or_else(short)?;
        let (records, rest) = rest.split_first_chunk::<8>().ok_or_else(short)?;
        let sum = <&[u8; 8]>::try_from(rest).map_err(|_| short())?;
        Ok(Self {
            instance: *instance,
            sequence: u64::from_le_bytes(*sequence),
            records: u64::from_le_bytes(*records),
            sum: u64::from_le_bytes(*sum),
        })
    }
}

fn short() -> StoreError {
    StoreError::corrupt("the header is of another length")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_flipped_bit_and_any_other_key_is_found() {
        let (stored, tag) = wrap(b"c/1", b"value");
        assert_eq!(unwrap(b"c/1", &stored).unwrap(), (b"value".as_slice(), tag));
        assert!(unwrap(b"c/2", &stored).is_err());
        for length in 0..stored.len() {
            assert!(unwrap(b"c/1", &stored[..length]).is_err());
        }
        for bit in 0..stored.len() * 8 {
            let mut flipped = stored.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(unwrap(b"c/1", &flipped), Err(StoreError::Corrupt { key: Some(_), .. })), "bit {bit}");
        }
    }

    #[test]
    fn the_header_comes_back_and_counts_both_ways() {
        let mut header = Header::new([7; 16]);
        header.add(u64::MAX);
        header.add(5);
        header.sequence = 9;
        assert_eq!(Header::decode(&header.encode()).unwrap(), header);
        header.subtract(u64::MAX);
        assert_eq!((header.records, header.sum), (1, 5));
        assert!(Header::decode(&wrap(HEADER_KEY, b"short").0).is_err());
    }
}
