//! DATA frames that several connections send in one turn.
//!
//! A fan-out gives every subscriber the same bytes, and most clients hear them on the same stream, their first: then the frames are
//! equal from head to end. Such a frame is put together once and sent from there by all; the kernel reads it from a warm cache, and
//! nothing is copied per subscriber.

use bytes::{BufMut, Bytes, BytesMut};
use ringgate_http2::frame::HEAD_BYTES;

/// Frames remembered: what a connection sends at once of a run that is larger than a frame.
const REMEMBERED: usize = 4;

/// The frames sent last in this turn.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    entries: [Option<Entry>; REMEMBERED],
    next: usize,
}

#[derive(Debug)]
struct Entry {
    head: [u8; HEAD_BYTES],
    /// Held, so that its address stands for its content.
    body: Bytes,
    /// Made when the frame is asked for a second time.
    frame: Option<Bytes>,
}

impl Frames {
    /// The frame of `head` and `body` as one piece, if it was asked for before in this turn.
    pub(crate) fn shared(&mut self, head: [u8; HEAD_BYTES], body: &Bytes) -> Option<Bytes> {
        let known = self.entries.iter_mut().flatten().find(|entry| {
            entry.head == head
                && std::ptr::eq(entry.body.as_ptr(), body.as_ptr())
                && entry.body.len() == body.len()
        });
        if let Some(entry) = known {
            let frame = entry.frame.get_or_insert_with(|| join(&head, body));
            return Some(frame.clone());
        }
        self.entries[self.next] = Some(Entry {
            head,
            body: body.clone(),
            frame: None,
        });
        self.next = (self.next + 1) % REMEMBERED;
        None
    }

    /// The turn is over: lets go of everything.
    pub(crate) fn clear(&mut self) {
        self.entries = Default::default();
    }
}

fn join(head: &[u8], body: &Bytes) -> Bytes {
    let mut frame = BytesMut::with_capacity(head.len() + body.len());
    frame.put_slice(head);
    frame.put_slice(body);
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_and_later_asks_get_one_and_the_same_frame() {
        let mut frames = Frames::default();
        let run = Bytes::from(vec![1; 100]);
        let head = [7; HEAD_BYTES];
        assert_eq!(frames.shared(head, &run), None);
        let second = frames.shared(head, &run.clone()).expect("known");
        let third = frames.shared(head, &run).expect("known");
        assert_eq!(second, [&head[..], &run].concat());
        assert!(std::ptr::eq(second.as_ptr(), third.as_ptr()));
    }

    #[test]
    fn another_head_length_or_address_is_another_frame() {
        let mut frames = Frames::default();
        let run = Bytes::from(vec![1; 100]);
        let head = [7; HEAD_BYTES];
        assert_eq!(frames.shared(head, &run), None);
        assert_eq!(frames.shared([8; HEAD_BYTES], &run), None);
        assert_eq!(frames.shared(head, &run.slice(..99)), None);
        assert_eq!(frames.shared(head, &Bytes::from(vec![1; 100])), None);
        assert!(frames.shared(head, &run).is_some());
        frames.clear();
        assert_eq!(frames.shared(head, &run), None);
    }
}
