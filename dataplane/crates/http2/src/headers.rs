//! Header fields: borrowed ones to send, and the owned list of a message that arrived.

use std::fmt;

/// One header field, borrowed. The name is lower case; pseudo-header names start with `:`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// Field name, lower case.
    pub name: &'a [u8],
    /// Field value: any bytes but NUL, CR and LF.
    pub value: &'a [u8],
}

impl<'a> Header<'a> {
    /// A field from its name and value.
    pub const fn new(name: &'a [u8], value: &'a [u8]) -> Self {
        Self { name, value }
    }

    /// What the field counts towards a header list's size: its bytes and 32 more (RFC 9113 section 6.5.2).
    pub const fn list_size(&self) -> usize {
        self.name.len() + self.value.len() + FIELD_OVERHEAD
    }
}

impl fmt::Debug for Header<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name.escape_ascii(), self.value.escape_ascii())
    }
}

/// Bytes a field counts beyond its name and value (RFC 7541 section 4.1, RFC 9113 section 6.5.2).
pub(crate) const FIELD_OVERHEAD: usize = 32;

/// Length prefixes of an entry in [`HeaderList`]: name, then value, `u32` each.
const ENTRY_PREFIX: usize = 8;

/// The header fields of one message in the order they arrived, in one allocation.
///
/// Entries lie back to back: `name length | value length | name | value`. Pseudo-headers come first, as RFC 9113
/// section 8.3 requires, so that looking them up ends early.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct HeaderList {
    entries: Vec<u8>,
    count: u32,
}

impl HeaderList {
    /// An empty list; allocates nothing.
    pub const fn new() -> Self {
        Self {
            entries: Vec::new(),
            count: 0,
        }
    }

    /// An empty list with room for `bytes` of names, values and prefixes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            entries: Vec::with_capacity(bytes),
            count: 0,
        }
    }

    /// Appends a field.
    ///
    /// # Panics
    /// If the name or the value is longer than 4 GiB.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        let name_len = u32::try_from(name.len()).expect("a header name is shorter than 4 GiB");
        let value_len = u32::try_from(value.len()).expect("a header value is shorter than 4 GiB");
        self.entries.reserve(ENTRY_PREFIX + name.len() + value.len());
        self.entries.extend_from_slice(&name_len.to_le_bytes());
        self.entries.extend_from_slice(&value_len.to_le_bytes());
        self.entries.extend_from_slice(name);
        self.entries.extend_from_slice(value);
        self.count += 1;
    }

    /// Number of fields.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The fields in order.
    pub fn iter(&self) -> Headers<'_> {
        Headers { rest: &self.entries }
    }

    /// Value of the first field called `name` (lower case).
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.iter()
            .find(|header| header.name == name)
            .map(|header| header.value)
    }

    /// Values of all fields called `name` (lower case), in order.
    pub fn get_all<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.iter()
            .filter(move |header| header.name == name)
            .map(|header| header.value)
    }

    /// `:method` of a request.
    pub fn method(&self) -> Option<&[u8]> {
        self.pseudo(b":method")
    }

    /// `:scheme` of a request.
    pub fn scheme(&self) -> Option<&[u8]> {
        self.pseudo(b":scheme")
    }

    /// `:authority` of a request.
    pub fn authority(&self) -> Option<&[u8]> {
        self.pseudo(b":authority")
    }

    /// `:path` of a request.
    pub fn path(&self) -> Option<&[u8]> {
        self.pseudo(b":path")
    }

    /// `:status` of a response, 100 to 999.
    pub fn status(&self) -> Option<u16> {
        let digits = self.pseudo(b":status")?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    /// Size as RFC 9113 section 6.5.2 counts it: names, values, and 32 bytes for each field.
    pub fn list_size(&self) -> usize {
        self.entries.len() + self.len() * (FIELD_OVERHEAD - ENTRY_PREFIX)
    }

    fn pseudo(&self, name: &[u8]) -> Option<&[u8]> {
        let mut pseudo = self
            .iter()
            .take_while(|header| header.name.first() == Some(&b':'));
        pseudo
            .find(|header| header.name == name)
            .map(|header| header.value)
    }
}

impl fmt::Debug for HeaderList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for &'a HeaderList {
    type Item = Header<'a>;
    type IntoIter = Headers<'a>;

    fn into_iter(self) -> Headers<'a> {
        self.iter()
    }
}

impl<'a> FromIterator<Header<'a>> for HeaderList {
    fn from_iter<I: IntoIterator<Item = Header<'a>>>(headers: I) -> Self {
        let mut list = Self::new();
        headers
            .into_iter()
            .for_each(|header| list.push(header.name, header.value));
        list
    }
}

/// Iterator over the fields of a [`HeaderList`].
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        let (name_len, rest) = self.rest.split_first_chunk::<4>()?;
        let (value_len, rest) = rest.split_first_chunk::<4>()?;
        let (name, rest) = rest.split_at(u32::from_le_bytes(*name_len) as usize);
        let (value, rest) = rest.split_at(u32::from_le_bytes(*value_len) as usize);
        self.rest = rest;
        Some(Header { name, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back_in_order() {
        let mut list = HeaderList::new();
        list.push(b":method", b"POST");
        list.push(b":path", b"/a/b");
        list.push(b"x", b"1");
        list.push(b"x", b"2");
        list.push(b"empty", b"");
        assert_eq!(list.len(), 5);
        assert_eq!(list.method(), Some(&b"POST"[..]));
        assert_eq!(list.path(), Some(&b"/a/b"[..]));
        assert_eq!(list.authority(), None);
        assert_eq!(list.get(b"x"), Some(&b"1"[..]));
        assert_eq!(list.get_all(b"x").collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!(list.get(b"empty"), Some(&b""[..]));
        assert_eq!(
            list.list_size(),
            list.iter().map(|header| header.list_size()).sum::<usize>()
        );
        assert_eq!(list, list.iter().collect::<HeaderList>());
    }

    #[test]
    fn pseudo_headers_are_only_looked_for_at_the_front() {
        let mut list = HeaderList::new();
        list.push(b"x", b"1");
        list.push(b":status", b"200");
        assert_eq!(list.status(), None);
    }
}
