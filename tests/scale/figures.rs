//! Rows of the table.

use std::time::Duration;

use serde_json::{Value, json};

/// A figure, as it is shown.
#[derive(Clone, Copy, Debug)]
pub enum Figure {
    Time(Duration),
    Kib(u64),
    Count(f64),
}

impl Figure {
    fn value(self) -> f64 {
        match self {
            Self::Time(time) => time.as_secs_f64(),
            Self::Kib(kib) => u32::try_from(kib).map_or(f64::INFINITY, f64::from),
            Self::Count(count) => count,
        }
    }
}

impl std::fmt::Display for Figure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Time(time) if *time >= Duration::from_secs(1) => write!(f, "{:.2} s", time.as_secs_f64()),
            Self::Time(time) => write!(f, "{:.1} ms", time.as_secs_f64() * 1e3),
            Self::Kib(_) => write!(f, "{:.1} MiB", self.value() / 1024.0),
            Self::Count(count) => write!(f, "{count:.2}"),
        }
    }
}

/// Prints a row. `most` is what it may be at most.
pub fn row(name: &str, ours: Figure, theirs: Option<Figure>, most: Option<Figure>) {
    let ratio = theirs.map(|theirs| format!("{:.2}×", ours.value() / theirs.value().max(1e-9)));
    let held = most.is_none_or(|most| ours.value() <= most.value());
    let shown = |figure: Option<Figure>| figure.map_or(Value::Null, |figure| json!(figure.to_string()));
    let bar = most.map_or(Value::Null, |most| json!(format!("≤ {most}")));
    let row = json!({
        "name": name, "ours": ours.to_string(), "theirs": shown(theirs), "ratio": ratio, "bar": bar, "held": held,
    });
    println!("@@ROW {row}");
}

/// The smallest value that so many of a hundred do not exceed.
pub fn percentile(times: &[Duration], percent: usize) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    let rank = (times.len() * percent).div_ceil(100).max(1);
    times.get(rank - 1).copied().unwrap_or_default()
}
