//! Which epochs of a group are still passed on, and how its messages are padded.

use hashbrown::HashMap;

use crate::{Application, Fault, application};

/// Groups whose window is known at once; each takes some 100 bytes. The newest of more are not looked up, which lets their
/// messages pass as those of a group without a window do.
pub const WINDOWS_MAX: usize = 1_000_000;

/// What is passed on of a group.
///
/// There is no last epoch: members learn of a commit from the delivery service, often before this node does, and a message of an
/// epoch that is yet to come cannot be read by anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Window {
    /// The first epoch that is passed on.
    pub epoch_min: u64,
    /// Ciphertexts are a multiple of so many bytes long; 0 and 1: of any length.
    pub padding_bytes: u32,
}

/// The windows of all groups that have one.
#[derive(Debug, Default)]
pub struct Windows {
    by_group: HashMap<Box<[u8]>, Window>,
}

impl Windows {
    /// Sets the window of a group; one that lets everything pass is forgotten.
    pub fn set(&mut self, group: &[u8], window: Window) {
        if window.epoch_min == 0 && window.padding_bytes <= 1 {
            self.by_group.remove(group);
        } else if self.by_group.len() < WINDOWS_MAX || self.by_group.contains_key(group) {
            self.by_group.insert(group.into(), window);
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.by_group.clear();
    }

    /// How many groups have one.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_group.len()
    }

    /// Whether no group has one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_group.is_empty()
    }

    /// Whether a payload is passed on: an encrypted application message within its group's window.
    ///
    /// # Errors
    /// [`Fault`].
    #[inline]
    pub fn check<'a>(&self, payload: &'a [u8]) -> Result<Application<'a>, Fault> {
        let message = application(payload)?;
        if let Some(window) = self.by_group.get(message.group) {
            if message.epoch < window.epoch_min {
                return Err(Fault::OldEpoch);
            }
            let padding = window.padding_bytes as usize;
            if padding > 1 && !message.ciphertext_bytes.is_multiple_of(padding) {
                return Err(Fault::Padding);
            }
        }
        Ok(message)
    }
}
