//! Sizes and percentages as the API writes them: exact, and readable in a column.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::units::Bytes;

/// What the schema admits: whole numbers with the suffixes of a Kubernetes quantity, in digits that cannot fill a page.
const SIZE: &str = "^[0-9]{1,19}(Ki|Mi|Gi|Ti|Pi|Ei|k|M|G|T|P|E)?$";

/// Suffixes and what they stand for. Those of 1024 from the largest to the smallest, as [`Size`] is printed.
const BINARY: [(&str, u64); 6] =
    [("Ei", 1 << 60), ("Pi", 1 << 50), ("Ti", 1 << 40), ("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)];
const DECIMAL: [(&str, u64); 6] = [
    ("E", 1_000_000_000_000_000_000),
    ("P", 1_000_000_000_000_000),
    ("T", 1_000_000_000_000),
    ("G", 1_000_000_000),
    ("M", 1_000_000),
    ("k", 1_000),
];

/// A number of bytes as a Kubernetes quantity: `10Gi`, `1228Mi`, `512`. Nothing is rounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Cow<'_, str>", into = "String")]
pub struct Size(pub Bytes);

/// Why a text is not a size.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is not a size: write a whole number of bytes, or one with a suffix such as Mi, Gi or Ti")]
pub struct SizeError {
    text: String,
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Bytes(bytes) = self.0;
        match BINARY.iter().find(|(_, unit)| bytes != 0 && bytes.is_multiple_of(*unit)) {
            Some((suffix, unit)) => f.pad(&format!("{}{suffix}", bytes / unit)),
            None => f.pad(&bytes.to_string()),
        }
    }
}

impl FromStr for Size {
    type Err = SizeError;

    /// Reads what the schema admits. What is more than 64 bits hold is capped, as Kubernetes caps quantities.
    fn from_str(text: &str) -> Result<Self, SizeError> {
        let fail = || SizeError { text: text.to_owned() };
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, suffix) = text.split_at(digits);
        let unit = match suffix {
            "" => 1,
            suffix => BINARY
                .iter()
                .chain(&DECIMAL)
                .find(|(known, _)| *known == suffix)
                .map(|(_, unit)| *unit)
                .ok_or_else(fail)?,
        };
        let number: u64 = number.parse().map_err(|_| fail())?;
        Ok(Self(Bytes(number.saturating_mul(unit))))
    }
}

impl TryFrom<Cow<'_, str>> for Size {
    type Error = SizeError;
    fn try_from(text: Cow<'_, str>) -> Result<Self, SizeError> {
        text.parse()
    }
}

impl From<Size> for String {
    fn from(size: Size) -> String {
        size.to_string()
    }
}

impl From<Bytes> for Size {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl JsonSchema for Size {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "maxLength": 21, "pattern": SIZE})
    }
}

/// How far something is, 0 to 100, as `87%`. It is rounded down: 100 % is all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Cow<'_, str>", into = "String")]
pub struct Percent(u8);

/// Why a text is no percentage.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is no percentage from 0% to 100%")]
pub struct PercentError {
    text: String,
}

impl Percent {
    /// All of it.
    pub const ALL: Self = Self(100);

    /// So many hundredths; more than 100 is 100.
    #[must_use]
    pub fn new(percent: u8) -> Self {
        Self(percent.min(100))
    }

    /// `done` of `total`, rounded down; all of nothing is 100 %.
    #[must_use]
    pub fn of(done: Bytes, total: Bytes) -> Self {
        let percent = (u128::from(done.0) * 100).checked_div(u128::from(total.0)).unwrap_or(100);
        Self(u8::try_from(percent).unwrap_or(100).min(100))
    }

    /// As a number.
    #[must_use]
    pub fn get(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}%", self.0))
    }
}

impl TryFrom<Cow<'_, str>> for Percent {
    type Error = PercentError;
    fn try_from(text: Cow<'_, str>) -> Result<Self, PercentError> {
        let number = text.strip_suffix('%').and_then(|number| number.parse().ok());
        number.filter(|n| *n <= 100).map(Self).ok_or_else(|| PercentError { text: text.into_owned() })
    }
}

impl From<Percent> for String {
    fn from(percent: Percent) -> String {
        percent.to_string()
    }
}

impl JsonSchema for Percent {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Percent".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "maxLength": 4, "pattern": "^(100|[1-9]?[0-9])%$"})
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_printed_with_the_largest_suffix_that_is_exact() {
        for (bytes, text) in [
            (Bytes::ZERO, "0"),
            (Bytes(1), "1"),
            (Bytes::kib(1), "1Ki"),
            (Bytes(1025), "1025"),
            (Bytes::mib(1228), "1228Mi"),
            (Bytes::gib(10), "10Gi"),
            (Bytes(1 << 60), "1Ei"),
        ] {
            assert_eq!(Size(bytes).to_string(), text);
        }
    }

    #[test]
    fn both_kinds_of_suffix_are_read_and_too_much_is_capped() {
        for (text, bytes) in [("4Mi", 4 << 20), ("4M", 4_000_000), ("1k", 1000), ("16Ei", u64::MAX)] {
            assert_eq!(text.parse(), Ok(Size(Bytes(bytes))), "{text}");
        }
        for text in ["", "Mi", "-1", "1.5Gi", "1m", "1K", "1 Gi", "1GiB", "1e3"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn percentages_are_rounded_down() {
        for (done, total, percent) in
            [(0, 0, 100), (0, 3, 0), (2, 3, 66), (999, 1000, 99), (3, 3, 100), (4, 3, 100)]
        {
            assert_eq!(Percent::of(Bytes(done), Bytes(total)).get(), percent, "{done} of {total}");
        }
        assert!(serde_json::from_str::<Percent>("\"101%\"").is_err());
        assert!(serde_json::from_str::<Percent>("\"50\"").is_err());
    }

    proptest! {
        #[test]
        fn sizes_read_back_exactly(bytes: u64) {
            let size = Size(Bytes(bytes));
            prop_assert_eq!(size.to_string().parse::<Size>(), Ok(size));
            let json = serde_json::to_string(&size).expect("a string");
            prop_assert_eq!(serde_json::from_str::<Size>(&json).expect("what was written"), size);
        }

        #[test]
        fn percentages_read_back(percent in 0u8..=100) {
            let json = serde_json::to_string(&Percent::new(percent)).expect("a string");
            prop_assert_eq!(serde_json::from_str::<Percent>(&json).expect("what was written").get(), percent);
        }

        #[test]
        fn whatever_the_schema_admits_is_read(number in "[0-9]{1,19}", unit in 0usize..13) {
            let suffix = BINARY.iter().chain(&DECIMAL).nth(unit).map_or("", |(suffix, _)| suffix);
            let text = number + suffix;
            prop_assert!(text.parse::<Size>().is_ok());
        }
    }
}
