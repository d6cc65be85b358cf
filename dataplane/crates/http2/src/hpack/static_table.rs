//! The static table (RFC 7541 appendix A).

/// Entries; index 1 is the first.
pub(super) const ENTRIES: [(&[u8], &[u8]); 61] = [
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    (b":status", b"200"),
    (b":status", b"204"),
    (b":status", b"206"),
    (b":status", b"304"),
    (b":status", b"400"),
    (b":status", b"404"),
    (b":status", b"500"),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    (b"accept-language", b""),
    (b"accept-ranges", b""),
    (b"accept", b""),
    (b"access-control-allow-origin", b""),
    (b"age", b""),
    (b"allow", b""),
    (b"authorization", b""),
    (b"cache-control", b""),
    (b"content-disposition", b""),
    (b"content-encoding", b""),
    (b"content-language", b""),
    (b"content-length", b""),
    (b"content-location", b""),
    (b"content-range", b""),
    (b"content-type", b""),
    (b"cookie", b""),
    (b"date", b""),
    (b"etag", b""),
    (b"expect", b""),
    (b"expires", b""),
    (b"from", b""),
    (b"host", b""),
    (b"if-match", b""),
    (b"if-modified-since", b""),
    (b"if-none-match", b""),
    (b"if-range", b""),
    (b"if-unmodified-since", b""),
    (b"last-modified", b""),
    (b"link", b""),
    (b"location", b""),
    (b"max-forwards", b""),
    (b"proxy-authenticate", b""),
    (b"proxy-authorization", b""),
    (b"range", b""),
    (b"referer", b""),
    (b"refresh", b""),
    (b"retry-after", b""),
    (b"server", b""),
    (b"set-cookie", b""),
    (b"strict-transport-security", b""),
    (b"transfer-encoding", b""),
    (b"user-agent", b""),
    (b"vary", b""),
    (b"via", b""),
    (b"www-authenticate", b""),
];

/// What the table has for a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    /// Name and value, at this index.
    Field(usize),
    /// The name only, at this index.
    Name(usize),
    /// Nothing.
    None,
}

/// Looks a field up. Names are compared by length and first byte before all of it, which leaves one or two candidates.
pub(super) fn find(name: &[u8], value: &[u8]) -> Match {
    let mut found = Match::None;
    for (index, (entry_name, entry_value)) in (1..).zip(ENTRIES) {
        if entry_name.len() != name.len() || entry_name[0] != name[0] || entry_name != name {
            if found != Match::None {
                break;
            }
            continue;
        }
        if entry_value == value && !value.is_empty() {
            return Match::Field(index);
        }
        if found == Match::None {
            found = Match::Name(index);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_names_are_found_at_their_index() {
        assert_eq!(find(b":status", b"500"), Match::Field(14));
        assert_eq!(find(b":status", b"418"), Match::Name(8));
        assert_eq!(find(b":method", b"POST"), Match::Field(3));
        assert_eq!(find(b"accept-encoding", b"gzip, deflate"), Match::Field(16));
        assert_eq!(find(b"content-type", b"application/grpc"), Match::Name(31));
        assert_eq!(find(b"www-authenticate", b""), Match::Name(61));
        assert_eq!(find(b"grpc-status", b"0"), Match::None);
    }
}
