//! The two records of which an image has millions, encoded by hand: the same bytes as prost makes of
//! [`super::records`], without the strings and vectors that this would take.

use prost::encoding::encode_varint;

/// Appends fields of a record, in the order of their tags. What has its default value is left out.
pub(super) struct Fields<'a>(&'a mut Vec<u8>);

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;

impl<'a> Fields<'a> {
    /// A record that begins at the end of `out`.
    pub(super) const fn new(out: &'a mut Vec<u8>) -> Self {
        Self(out)
    }
    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }
    pub(super) fn uint(&mut self, tag: u64, number: u64) {
        if number != 0 {
            self.number(tag << 3 | VARINT);
            self.number(number);
        }
    }
    pub(super) fn sint(&mut self, tag: u64, number: i64) {
        self.uint(tag, (number << 1 ^ number >> 63).cast_unsigned());
    }
    pub(super) fn sfixed(&mut self, tag: u64, number: i64) {
        if number != 0 {
            self.number(tag << 3 | FIXED64);
            self.0.extend_from_slice(&number.to_le_bytes());
        }
    }
    pub(super) fn bytes(&mut self, tag: u64, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.number(tag << 3 | BYTES);
            self.number(bytes.len() as u64);
            self.0.extend_from_slice(bytes);
        }
    }
    /// Repeated numbers, packed.
    pub(super) fn uints(&mut self, tag: u64, numbers: impl Iterator<Item = u32> + Clone) {
        let len: usize = numbers.clone().map(|number| prost::encoding::encoded_len_varint(number.into())).sum();
        if len > 0 {
            self.number(tag << 3 | BYTES);
            self.number(len as u64);
            for number in numbers {
                encode_varint(number.into(), self.0);
            }
        }
    }
}
