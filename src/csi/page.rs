//! Paging of lists: a token names the last entry of the page before, so that entries made or removed between two
//! pages are neither shown twice nor make others skipped.

use crate::csi::backend::{Error, Result};
use crate::report::Class;

/// How a token begins; what comes after is the id of the last entry shown.
const PREFIX: &str = "after:";

/// One page of `entries`, in the order of their ids, and the token of the next one (empty after the last).
///
/// # Errors
/// The token is not one of ours: `InProgress` (ABORTED), which the specification wants for "start again".
pub fn page<T>(
    mut entries: Vec<T>,
    id: impl Fn(&T) -> &str,
    max_entries: i32,
    token: &str,
) -> Result<(Vec<T>, String)> {
    let max = usize::try_from(max_entries)
        .map_err(|_| Error::invalid(format!("max_entries is {max_entries}, less than zero")))?;
    entries.sort_by(|a, b| id(a).cmp(id(b)));
    if !token.is_empty() {
        let last = token.strip_prefix(PREFIX).ok_or_else(|| {
            Error::new(Class::InProgress, format!("starting_token {token:?} is not one that was given out"))
        })?;
        entries.retain(|entry| id(entry) > last);
    }
    let mut next = String::new();
    if max > 0 && entries.len() > max {
        entries.truncate(max);
        if let Some(last) = entries.last() {
            next = format!("{PREFIX}{}", id(last));
        }
    }
    Ok((entries, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(max: i32, token: &str) -> Result<(Vec<&'static str>, String)> {
        page(vec!["c", "a", "b"], |id| id, max, token)
    }

    #[test]
    fn pages_follow_one_another_in_order() {
        assert_eq!(ids(2, ""), Ok((vec!["a", "b"], "after:b".to_owned())));
        assert_eq!(ids(2, "after:b"), Ok((vec!["c"], String::new())));
        assert_eq!(ids(0, ""), Ok((vec!["a", "b", "c"], String::new())));
        assert_eq!(ids(3, ""), Ok((vec!["a", "b", "c"], String::new())));
    }

    #[test]
    fn a_page_starts_after_an_entry_that_is_gone() {
        assert_eq!(ids(0, "after:aa"), Ok((vec!["b", "c"], String::new())));
    }

    #[test]
    fn a_foreign_token_is_aborted_and_a_negative_number_invalid() {
        assert_eq!(ids(0, "invalid-token").expect_err("foreign").class, Class::InProgress);
        assert_eq!(ids(-1, "").expect_err("negative").class, Class::Invalid);
    }
}
