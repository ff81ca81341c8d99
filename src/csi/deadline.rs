//! When a caller will hang up: the `grpc-timeout` of its request.
//!
//! **Sources**: gRPC over HTTP/2, "Requests".

use std::time::Duration;

use tonic::metadata::MetadataMap;

use crate::csi::backend::Deadline;

/// The field of a request.
const FIELD: &str = "grpc-timeout";
/// Most digits of its number.
const DIGITS_MAX: usize = 8;

/// When the caller of a request with this metadata hangs up; never, when it says nothing that can be read.
#[must_use]
pub fn of(metadata: &MetadataMap) -> Deadline {
    let timeout = metadata.get(FIELD).and_then(|value| read(value.to_str().ok()?));
    timeout.map_or_else(Deadline::default, Deadline::after)
}

/// A number of up to eight digits and a unit.
fn read(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if number.len() > DIGITS_MAX || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = number.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_in_all_units() {
        for (text, read_as) in [
            ("1H", Duration::from_secs(3600)),
            ("2M", Duration::from_secs(120)),
            ("60S", Duration::from_secs(60)),
            ("1500m", Duration::from_millis(1500)),
            ("99999999u", Duration::from_micros(99_999_999)),
            ("7n", Duration::from_nanos(7)),
        ] {
            assert_eq!(read(text), Some(read_as), "{text}");
        }
    }

    #[test]
    fn what_is_no_timeout_sets_no_deadline() {
        for text in ["", "S", "1", "1s", "-1S", "+1S", "123456789S", "1.5S", "1ü"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(of(&MetadataMap::new()), Deadline::default());
    }
}
