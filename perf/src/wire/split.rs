//! Cuts a byte stream into items.

use super::WireError;

/// The longest head of an item that may have to be held until the rest of it arrives. Cap on memory per connection.
const HEAD_BYTES_MAX: usize = 1 << 20;
/// What is added to a held head at first. Most heads are shorter.
const HEAD_STEP_BYTES: usize = 128;

/// Cuts a byte stream into items whose length is known from their head. The head is only copied where it crosses the border
/// between two receives; the rest of an item is never looked at.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    head: Vec<u8>,
    skip: usize,
}

impl Splitter {
    /// Feeds received bytes. `parse` is shown what is left of the stream and returns the length of the item that begins there as
    /// soon as it has seen enough of it, or `None` when it has not.
    pub(super) fn feed(
        &mut self,
        mut bytes: &[u8],
        mut parse: impl FnMut(&[u8]) -> Result<Option<usize>, WireError>,
    ) -> Result<(), WireError> {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return Ok(());
            }
            let held = self.head.len();
            let item_bytes = if held == 0 {
                parse(bytes)?
            } else {
                self.complete(bytes, &mut parse)?
            };
            match item_bytes {
                Some(item_bytes) => {
                    debug_assert!(
                        item_bytes > held,
                        "an item that was all there had to be taken before"
                    );
                    self.head.clear();
                    self.skip = item_bytes - held;
                }
                None if held + bytes.len() >= HEAD_BYTES_MAX => {
                    return Err(WireError::Malformed("the head of a message is endless"));
                }
                None => {
                    self.head.extend_from_slice(bytes);
                    return Ok(());
                }
            }
        }
    }

    /// Shows `parse` the held head with ever more of `bytes` behind it, beginning with little because little is what it needs.
    fn complete(
        &mut self,
        bytes: &[u8],
        parse: &mut impl FnMut(&[u8]) -> Result<Option<usize>, WireError>,
    ) -> Result<Option<usize>, WireError> {
        let held = self.head.len();
        let available = bytes.len().min(HEAD_BYTES_MAX - held);
        let mut taken = 0;
        let mut item_bytes = None;
        while item_bytes.is_none() && taken < available {
            let more = (taken * 4).max(HEAD_STEP_BYTES).min(available);
            self.head.extend_from_slice(&bytes[taken..more]);
            taken = more;
            item_bytes = parse(&self.head)?;
        }
        self.head.truncate(held);
        Ok(item_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Items: one byte of length, then so many bytes.
    fn split(pieces: &[&[u8]]) -> Vec<u8> {
        let mut splitter = Splitter::default();
        let mut lengths = Vec::new();
        for piece in pieces {
            splitter
                .feed(piece, |bytes| {
                    // Wants two bytes, so that heads get held.
                    if bytes.len() < 2 {
                        return Ok(None);
                    }
                    lengths.push(bytes[0]);
                    Ok(Some(1 + usize::from(bytes[0])))
                })
                .unwrap();
        }
        lengths
    }

    #[test]
    fn items_are_found_at_any_split() {
        let stream = [1, 9, 3, 9, 9, 9, 2, 9, 9, 1, 9];
        for first in 0..stream.len() {
            for second in first..stream.len() {
                let pieces = [&stream[..first], &stream[first..second], &stream[second..]];
                assert_eq!(split(&pieces), [1, 3, 2, 1], "split at {first} and {second}");
            }
        }
        let single: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(split(&single), [1, 3, 2, 1]);
    }

    #[test]
    fn an_endless_head_is_refused() {
        let mut splitter = Splitter::default();
        let bytes = vec![0; HEAD_BYTES_MAX];
        assert!(splitter.feed(&bytes, |_| Ok(None)).is_err());
    }
}
