//! Ranges of a volume: in order, none of them empty, none touching another.

use std::ops::Range;

use crate::units::Bytes;

/// The parts of ranges that are at `place` or beyond it.
pub(crate) fn after(ranges: &[Range<Bytes>], place: Bytes) -> Vec<Range<Bytes>> {
    let rest = ranges.iter().filter(|range| range.end > place);
    rest.map(|range| range.start.max(place)..range.end).collect()
}

/// As much of the ranges as comes first, `most` altogether.
pub(crate) fn first(ranges: &[Range<Bytes>], most: Bytes) -> Vec<Range<Bytes>> {
    let mut left = most;
    let mut some = Vec::new();
    for range in ranges.iter().take_while(|_| most > Bytes::ZERO) {
        let len = left.min(range.end - range.start);
        if len == Bytes::ZERO {
            break;
        }
        some.push(range.start..range.start + len);
        left = left - len;
    }
    some
}

/// Adds a range at the end.
pub(crate) fn push(ranges: &mut Vec<Range<Bytes>>, range: Range<Bytes>) {
    match ranges.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        Some(_) | None => ranges.push(range),
    }
}

/// How long they are together.
pub(crate) fn sum(ranges: &[Range<Bytes>]) -> Bytes {
    ranges.iter().map(|range| range.end - range.start).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mib(ranges: &[(u64, u64)]) -> Vec<Range<Bytes>> {
        ranges.iter().map(|(from, to)| Bytes::mib(*from)..Bytes::mib(*to)).collect()
    }

    #[test]
    fn a_turn_takes_what_comes_first_and_no_more() {
        let ranges = mib(&[(0, 2), (10, 14), (20, 21)]);
        assert_eq!(first(&ranges, Bytes::mib(3)), mib(&[(0, 2), (10, 11)]));
        assert_eq!(first(&ranges, Bytes::mib(2)), mib(&[(0, 2)]));
        assert_eq!(first(&ranges, Bytes::mib(100)), ranges);
        assert_eq!(after(&ranges, Bytes::mib(11)), mib(&[(11, 14), (20, 21)]));
        assert_eq!(after(&ranges, Bytes::mib(30)), []);
    }

    proptest! {
        #[test]
        fn turns_cover_everything_once(lens in prop::collection::vec((1..9_u64, 1..9_u64), 0..8), turn in 1..7_u64) {
            let mut at = 0;
            let ranges: Vec<_> = lens.iter().map(|(gap, len)| {
                let from = at + gap;
                at = from + len;
                Bytes(from)..Bytes(at)
            }).collect();
            let (mut place, mut copied) = (Bytes::ZERO, Vec::new());
            loop {
                let now = first(&after(&ranges, place), Bytes(turn));
                let Some(last) = now.last() else { break };
                place = last.end;
                prop_assert!(sum(&now) <= Bytes(turn));
                copied.extend(now.iter().flat_map(|range| range.start.0..range.end.0));
            }
            let all: Vec<u64> = ranges.iter().flat_map(|range| range.start.0..range.end.0).collect();
            prop_assert_eq!(copied, all);
        }
    }
}
