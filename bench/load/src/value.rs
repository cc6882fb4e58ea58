//! Values that say which change they are, so that a delivery can be told from its bytes alone, in whatever JSON it stands.

/// What begins a value and stands behind its number. It stands in no JSON, no head and no frame of any server here.
const MARK: u8 = b'~';
const DIGITS: usize = 10;
/// The least that a value has: the number between two marks.
pub const LEAST: usize = DIGITS + 2;

/// The values of one run: `~0000000042~xxxx…`, all of one length.
#[derive(Clone, Debug)]
pub struct Values {
    filler: Vec<u8>,
}

impl Values {
    /// Values of so many bytes, [`LEAST`] at least.
    pub fn new(bytes: usize) -> Self {
        Self { filler: vec![b'x'; bytes.saturating_sub(LEAST)] }
    }

    /// The bytes of one.
    pub fn bytes(&self) -> usize {
        LEAST + self.filler.len()
    }

    /// Puts the value of this change.
    pub fn put(&self, change: u32, out: &mut Vec<u8>) {
        let at = out.len();
        out.resize(at + LEAST, MARK);
        let mut rest = change;
        for digit in out[at + 1..=at + DIGITS].iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        out.extend(&self.filler);
    }

    /// Tells the change of each value in the payload, in order.
    ///
    /// # Errors
    ///
    /// A value is cut, or is not what was written.
    #[inline]
    pub fn find(
        &self,
        mut payload: &[u8],
        mut tell: impl FnMut(u32) -> Result<(), Wrong>,
    ) -> Result<(), Wrong> {
        while let Some(at) = memchr::memchr(MARK, payload) {
            let (value, rest) =
                payload[at..].split_at_checked(self.bytes()).ok_or(Wrong("a value is cut"))?;
            let (number, filler) = value.split_at(LEAST);
            if number[LEAST - 1] != MARK || filler != self.filler {
                return Err(Wrong("a value is not what was written"));
            }
            let mut change = 0_u32;
            for &digit in &number[1..=DIGITS] {
                if !digit.is_ascii_digit() {
                    return Err(Wrong("a value has no number"));
                }
                change = change.wrapping_mul(10).wrapping_add(u32::from(digit - b'0'));
            }
            tell(change)?;
            payload = rest;
        }
        Ok(())
    }
}

/// What a server did that it should not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wrong(pub &'static str);

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Wrong {}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(values: &Values, payload: &[u8]) -> Result<Vec<u32>, Wrong> {
        let mut changes = Vec::new();
        values.find(payload, |change| {
            changes.push(change);
            Ok(())
        })?;
        Ok(changes)
    }

    #[test]
    fn values_are_found_in_whatever_is_around_them() {
        let values = Values::new(100);
        let mut payload = b"{\"value\":\"".to_vec();
        values.put(7, &mut payload);
        payload.extend(b"\"}\n{\"value\":\"");
        values.put(1_234_567_890, &mut payload);
        payload.extend(b"\"}\n");
        assert_eq!(found(&values, &payload), Ok(vec![7, 1_234_567_890]));
    }

    #[test]
    fn every_changed_byte_of_a_value_is_noticed() {
        let values = Values::new(40);
        let mut payload = Vec::new();
        values.put(3, &mut payload);
        for at in 0..payload.len() {
            let mut changed = payload.clone();
            changed[at] ^= 1;
            assert_ne!(found(&values, &changed), Ok(vec![3]), "byte {at}");
        }
        assert!(found(&values, &payload[..39]).is_err());
    }
}
