//! Rows of the table.

use std::time::Duration;

use serde_json::{Value, json};

/// What a row must keep.
#[derive(Clone, Copy, Debug)]
pub enum Bar {
    /// The ratio is at least this.
    AtLeast(f64),
    /// The ratio is at most this.
    AtMost(f64),
    /// Nothing: it is shown to be known.
    None,
}

/// Prints a row.
pub fn row(name: &str, ours: &str, theirs: &str, ratio: f64, bar: Bar) {
    let (text, held) = match bar {
        Bar::AtLeast(bar) => (json!(format!("≥ {bar}×")), ratio >= bar),
        Bar::AtMost(bar) => (json!(format!("≤ {bar}×")), ratio <= bar),
        Bar::None => (Value::Null, true),
    };
    let ratio = format!("{ratio:.2}×");
    let row =
        json!({"name": name, "ours": ours, "theirs": theirs, "ratio": ratio, "bar": text, "held": held});
    println!("@@ROW {row}");
}

/// Milliseconds.
pub fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

/// How many times `b` goes into `a`.
pub fn ratio(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() / b.as_secs_f64().max(1e-9)
}

/// The middle one.
pub fn median<T: Ord + Copy + Default>(values: impl IntoIterator<Item = T>) -> T {
    let mut values: Vec<T> = values.into_iter().collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}
