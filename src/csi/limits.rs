//! Limits on what a request may carry (CSI specification, "Size Limits" and "Secrets Requirements").

use std::collections::HashMap;

use crate::csi::backend::{Error, Result};

/// Longest string, in bytes, unless the field says otherwise.
const STRING_MAX: usize = 128;
/// Longest path: Linux' own limit.
const PATH_MAX: usize = 4096;
/// Most bytes in the keys and values of one map.
const MAP_MAX: usize = 4096;

/// A name that the caller gives to something new.
///
/// # Errors
/// It is missing, too long, or has characters the specification bans.
pub fn name<'a>(field: &str, value: &'a str) -> Result<&'a str> {
    required(field, value)?;
    if value.len() > STRING_MAX {
        return Err(Error::invalid(format!("{field} has {} bytes, more than {STRING_MAX}", value.len())));
    }
    if value.chars().any(banned) {
        return Err(Error::invalid(format!("{field} {value:?} has control characters")));
    }
    Ok(value)
}

/// Characters that the specification bans from names.
fn banned(c: char) -> bool {
    c.is_control() && !matches!(c, '\t' | '\n' | '\r')
}

/// A field that must be there. Whether an id exists is for the backend to say, however odd it looks.
///
/// # Errors
/// It is missing.
pub fn required<'a>(field: &str, value: &'a str) -> Result<&'a str> {
    if value.is_empty() { Err(Error::invalid(format!("{field} is missing"))) } else { Ok(value) }
}

/// A path that must be there.
///
/// # Errors
/// It is missing or too long.
pub fn path<'a>(field: &str, value: &'a str) -> Result<&'a str> {
    required(field, value)?;
    if value.len() > PATH_MAX {
        return Err(Error::invalid(format!("{field} has {} bytes, more than {PATH_MAX}", value.len())));
    }
    Ok(value)
}

/// A map of strings.
///
/// # Errors
/// It is too large.
pub fn map<'a>(field: &str, map: &'a HashMap<String, String>) -> Result<&'a HashMap<String, String>> {
    let bytes: usize = map.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > MAP_MAX {
        return Err(Error::invalid(format!("{field} has {bytes} bytes, more than {MAP_MAX}")));
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_128_bytes_of_any_script_are_accepted() {
        assert!(name("name", &"x".repeat(128)).is_ok());
        assert!(name("name", &"ü".repeat(64)).is_ok());
        assert!(name("name", "a b/c:d\"e").is_ok());
    }

    #[test]
    fn names_that_are_empty_too_long_or_with_control_characters_are_refused() {
        for bad in ["", &"x".repeat(129), &"ü".repeat(65), "a\0b", "a\u{7f}b", "a\u{85}b"] {
            assert!(name("name", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn maps_are_limited_in_total() {
        let map_of = |bytes: usize| HashMap::from([("k".to_owned(), "v".repeat(bytes))]);
        assert!(map("parameters", &map_of(4095)).is_ok());
        assert!(map("parameters", &map_of(4096)).is_err());
    }
}
