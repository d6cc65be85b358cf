//! Serial numbers of certificates.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Longest serial number in bytes (RFC 5280 §4.1.2.2).
pub const SERIAL_BYTES_MAX: usize = 20;

/// The serial number of a certificate, unsigned and without leading zeros.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Serial {
    // Right-aligned, so that one number has one representation.
    bytes: [u8; SERIAL_BYTES_MAX],
}

/// Why something is no serial number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not a serial number; write 1 to 40 hexadecimal digits that are not all zero")]
#[non_exhaustive]
pub struct SerialError;

impl Serial {
    /// From the bytes of an ASN.1 INTEGER, big-endian.
    ///
    /// # Errors
    /// [`SerialError`] if it is zero or longer than 20 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SerialError> {
        let start = bytes.iter().position(|&byte| byte != 0).ok_or(SerialError)?;
        let significant = &bytes[start..];
        if significant.len() > SERIAL_BYTES_MAX {
            return Err(SerialError);
        }
        let mut out = [0; SERIAL_BYTES_MAX];
        out[SERIAL_BYTES_MAX - significant.len()..].copy_from_slice(significant);
        Ok(Self { bytes: out })
    }

    /// Big-endian, without leading zeros.
    pub fn as_bytes(&self) -> &[u8] {
        let start = self.bytes.iter().position(|&byte| byte != 0).unwrap_or(0);
        &self.bytes[start..]
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes()
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Serial({self})")
    }
}

impl FromStr for Serial {
    type Err = SerialError;

    fn from_str(text: &str) -> Result<Self, SerialError> {
        if text.is_empty() || text.len() > 2 * SERIAL_BYTES_MAX {
            return Err(SerialError);
        }
        let mut bytes = [0; SERIAL_BYTES_MAX];
        for (place, digit) in text.bytes().rev().enumerate() {
            let value = char::from(digit).to_digit(16).ok_or(SerialError)? as u8;
            bytes[SERIAL_BYTES_MAX - 1 - place / 2] |= value << (4 * (place % 2));
        }
        Self::from_bytes(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_has_one_text() {
        let serial = Serial::from_bytes(&[0, 0x0a, 0xff]).expect("valid");
        assert_eq!(serial.to_string(), "0aff");
        for text in ["0aff", "aff", "0AFF", "00000aff"] {
            assert_eq!(text.parse(), Ok(serial), "{text}");
        }
        for text in ["", "0", "xyz", "-1", &"f".repeat(41)] {
            assert_eq!(text.parse::<Serial>(), Err(SerialError), "{text}");
        }
        assert_eq!(Serial::from_bytes(&[1; 21]), Err(SerialError));
        assert!(Serial::from_bytes(&[0xff; 20]).is_ok());
    }

    #[test]
    fn any_bytes_are_read_or_refused() {
        bolero::check!()
            .with_type::<(Vec<u8>, String)>()
            .for_each(|(bytes, text)| {
                if let Ok(serial) = Serial::from_bytes(bytes) {
                    assert_eq!(serial.to_string().parse(), Ok(serial));
                }
                let _ = text.parse::<Serial>();
            });
    }
}
