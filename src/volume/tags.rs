//! What LVM2 has no field for is kept in LV tags, so that the disks alone are enough to know everything.
//!
//! On a volume's top LV: its name as asked for; `creating` until its extents are zeroed and its array has run
//! once; `pending` from before a table is swapped until the swap is pinned on disk (see [`super::bring_up`] for what
//! a power cut in between means); `formatting` while a file system is made on it for the first time; `rollback` while it is
//! made to hold what a snapshot holds, and by whose request; the last request that was carried out; `clone` is what it was
//! made from, `filling` says that it does not hold all of that yet, `detached` that it is the image of that snapshot itself, whose
//! name `snapshot` still tells, and `adopting` that its array has not run yet; `record` on the LV that tells how far the clone of that
//! name is. On an image: the snapshot it is, when it was cut, the event count of its superblock once the split is pinned, the
//! group of snapshots it was cut with, the read-only volumes that show it, why its merge must be in full, `merging` from the
//! merge until the resync is known to be complete, `leaving` from when it is to go for good until its extents are free, and the
//! volume that it `becomes` part of when they are not freed; `lent` to the clone that it was split off for; `lost` while a slot has no image; `grown` for the snapshot that it was added for;
//! `min-in-sync` is how many images must be in sync beside it when its snapshot is cut, and while that lasts.
//!
//! Any text is kept in a tag's alphabet by writing other bytes as `+XX`.
//! Source: LVM2 `lib/misc/lvm-string.c` (characters allowed in tags).

use crate::lvm2::model::LogicalVolume;

const PREFIX: &str = "splitmirror.io/";

/// Keys of the tags; a tag is the key alone or `key=value`.
mod key {
    pub const NAME: &str = "name";
    pub const CREATING: &str = "creating";
    pub const PENDING: &str = "pending";
    pub const FORMATTING: &str = "formatting";
    pub const ROLLBACK: &str = "rollback";
    pub const CLONE: &str = "clone";
    pub const FILLING: &str = "filling";
    pub const DETACHED: &str = "detached";
    pub const ADOPTING: &str = "adopting";
    pub const RECORD: &str = "record";
    pub const LENT: &str = "lent";
    pub const ROLLBACK_FOR: &str = "rollback-for";
    pub const ROLLED_BACK_FOR: &str = "rolled-back-for";
    pub const SNAPSHOT: &str = "snapshot";
    pub const CUT: &str = "cut";
    pub const EVENTS: &str = "events";
    pub const GROUP: &str = "group";
    pub const MEMBERS: &str = "members";
    pub const VIEW: &str = "view";
    pub const FULL: &str = "full";
    pub const MERGING: &str = "merging";
    pub const LEAVING: &str = "leaving";
    pub const BECOMES: &str = "becomes";
    pub const GROWN: &str = "grown";
    pub const MIN_IN_SYNC: &str = "min-in-sync";
    pub const LOST: &str = "lost";
    pub const RESERVE: &str = "reserve";
}

/// Tag of the LV that owns a volume's new extents until they are zeroed.
#[must_use]
pub fn reserve() -> String {
    mark(key::RESERVE)
}

/// Whether this LV only holds extents for a volume that is being expanded.
#[must_use]
pub fn is_reserve(lv: &LogicalVolume) -> bool {
    lv.tags.contains(&reserve())
}

/// Whether this tag is one of ours.
#[must_use]
pub fn is_ours(tag: &str) -> bool {
    tag.starts_with(PREFIX)
}

/// What the tags of a volume's top LV say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumeTags {
    /// The name it was asked for by.
    pub name: Option<String>,
    /// Its extents are not yet zeroed, or its array has not run yet: it holds no data.
    pub creating: bool,
    /// A table swap has begun and is not yet pinned on disk.
    pub pending: bool,
    /// A file system is being made on it, and it has held nothing before: what is on it is nobody's data.
    pub formatting: bool,
    /// It is being rolled back to the snapshot of this key, and may hold parts of both.
    pub rollback: Option<String>,
    /// The id of the snapshot that it was made from.
    pub clone: Option<String>,
    /// It does not hold all of that yet.
    pub filling: bool,
    /// It is the image of that snapshot itself.
    pub detached: bool,
    /// The name that this snapshot was asked for by.
    pub snapshot: Option<String>,
    /// It was that, and its array has not run yet: what its superblock says is of the array that the image was split from.
    pub adopting: bool,
    /// It is no volume: it records how far the volume of this name is filled.
    pub record: Option<String>,
    /// The request that it is rolled back for, when that has a name.
    pub rollback_for: Option<String>,
    /// The last such request that was carried out: it is not carried out again.
    pub rolled_back_for: Option<String>,
}

impl VolumeTags {
    /// Reads them.
    #[must_use]
    pub fn of(lv: &LogicalVolume) -> Self {
        Self {
            name: value(lv, key::NAME),
            creating: has(lv, key::CREATING),
            pending: has(lv, key::PENDING),
            formatting: has(lv, key::FORMATTING),
            rollback: value(lv, key::ROLLBACK),
            clone: value(lv, key::CLONE),
            filling: has(lv, key::FILLING),
            detached: has(lv, key::DETACHED),
            snapshot: value(lv, key::SNAPSHOT),
            adopting: has(lv, key::ADOPTING),
            record: value(lv, key::RECORD),
            rollback_for: value(lv, key::ROLLBACK_FOR),
            rolled_back_for: value(lv, key::ROLLED_BACK_FOR),
        }
    }

    /// As tags.
    #[must_use]
    pub fn render(&self) -> Vec<String> {
        let mut tags = Vec::new();
        tags.extend(self.name.as_deref().map(|name| pair(key::NAME, name)));
        tags.extend(self.creating.then(|| mark(key::CREATING)));
        tags.extend(self.pending.then(|| mark(key::PENDING)));
        tags.extend(self.formatting.then(|| mark(key::FORMATTING)));
        for (key, value) in [
            (key::ROLLBACK, &self.rollback),
            (key::ROLLBACK_FOR, &self.rollback_for),
            (key::ROLLED_BACK_FOR, &self.rolled_back_for),
        ] {
            tags.extend(value.as_deref().map(|value| pair(key, value)));
        }
        tags.extend(self.clone.as_deref().map(|id| pair(key::CLONE, id)));
        for (key, is) in
            [(key::FILLING, self.filling), (key::DETACHED, self.detached), (key::ADOPTING, self.adopting)]
        {
            tags.extend(is.then(|| mark(key)));
        }
        tags.extend(self.snapshot.as_deref().map(|name| pair(key::SNAPSHOT, name)));
        tags.extend(self.record.as_deref().map(|name| pair(key::RECORD, name)));
        tags
    }
}

/// That a snapshot was cut at one instant with snapshots of other volumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The name of the group.
    pub group: String,
    /// How many snapshots it has.
    pub members: usize,
}

/// That an image was added for a snapshot only, and goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grown {
    /// The name of the snapshot.
    pub snapshot: String,
    /// In-sync images that the split must leave attached.
    pub min_in_sync: usize,
}

/// What the tags of an image say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageTags {
    /// The name of the snapshot that it is.
    pub snapshot: Option<String>,
    /// When it was cut, nanoseconds since 1970.
    pub cut: Option<u64>,
    /// Event count of its superblock, noted once the split was seen pinned on disk.
    pub events: Option<u64>,
    /// The group it was cut with.
    pub group: Option<Membership>,
    /// Names of the read-only volumes that show it.
    pub views: Vec<String>,
    /// Why it may only be merged by copying all of it.
    pub full: Option<String>,
    /// It is attached again, or new, and not yet known to be equal.
    pub merging: bool,
    /// It was split off for the clone of this name only, and goes back when that is filled.
    pub lent: Option<String>,
    /// It leaves the volume for good.
    pub leaving: bool,
    /// The name of the volume that it becomes an image of when it has left, with the others that leave.
    pub becomes: Option<String>,
    /// It was added for the snapshot of this name only, and leaves when that is deleted.
    pub grown: Option<String>,
    /// In-sync images that its snapshot leaves attached, and that must stay while it lasts: one when absent.
    pub min_in_sync: Option<usize>,
    /// There is none: its slot gets a new one when the group has room.
    pub lost: bool,
}

impl ImageTags {
    /// Reads them.
    #[must_use]
    pub fn of(lv: &LogicalVolume) -> Self {
        let number = |key| value(lv, key).and_then(|text| text.parse().ok());
        let count = |key| number(key).and_then(|count| usize::try_from(count).ok());
        Self {
            snapshot: value(lv, key::SNAPSHOT),
            cut: number(key::CUT),
            events: number(key::EVENTS),
            group: value(lv, key::GROUP)
                .map(|group| Membership { group, members: count(key::MEMBERS).unwrap_or_default() }),
            views: values(lv, key::VIEW).collect(),
            full: value(lv, key::FULL),
            merging: has(lv, key::MERGING),
            lent: value(lv, key::LENT),
            leaving: has(lv, key::LEAVING),
            becomes: value(lv, key::BECOMES),
            grown: value(lv, key::GROWN),
            min_in_sync: count(key::MIN_IN_SYNC),
            lost: has(lv, key::LOST),
        }
    }

    /// As tags.
    #[must_use]
    pub fn render(&self) -> Vec<String> {
        let mut tags = Vec::new();
        tags.extend(self.snapshot.as_deref().map(|name| pair(key::SNAPSHOT, name)));
        tags.extend(self.cut.map(|nanos| pair(key::CUT, &nanos.to_string())));
        tags.extend(self.events.map(|events| pair(key::EVENTS, &events.to_string())));
        if let Some(Membership { group, members }) = &self.group {
            tags.extend([pair(key::GROUP, group), pair(key::MEMBERS, &members.to_string())]);
        }
        tags.extend(self.views.iter().map(|name| pair(key::VIEW, name)));
        tags.extend(self.full.as_deref().map(|why| pair(key::FULL, why)));
        tags.extend(self.merging.then(|| mark(key::MERGING)));
        tags.extend(self.lent.as_deref().map(|name| pair(key::LENT, name)));
        tags.extend(self.leaving.then(|| mark(key::LEAVING)));
        tags.extend(self.becomes.as_deref().map(|name| pair(key::BECOMES, name)));
        tags.extend(self.grown.as_deref().map(|name| pair(key::GROWN, name)));
        tags.extend(self.min_in_sync.map(|images| pair(key::MIN_IN_SYNC, &images.to_string())));
        tags.extend(self.lost.then(|| mark(key::LOST)));
        tags
    }

    /// Those of an image of which nothing else is known: what it was added for stays true.
    #[must_use]
    pub fn afresh(&self) -> Self {
        let min_in_sync = self.min_in_sync.filter(|_| self.grown.is_some());
        Self { grown: self.grown.clone(), min_in_sync, ..Self::default() }
    }

    /// What it was added for.
    #[must_use]
    pub fn growth(&self) -> Option<Grown> {
        let min_in_sync = self.min_in_sync.unwrap_or(1);
        self.grown.clone().map(|snapshot| Grown { snapshot, min_in_sync })
    }

    /// Notes what it is added for.
    pub fn grow(&mut self, for_: &Grown) {
        self.grown = Some(for_.snapshot.clone());
        self.min_in_sync = Some(for_.min_in_sync);
    }
}

fn mark(key: &str) -> String {
    format!("{PREFIX}{key}")
}

fn pair(key: &str, value: &str) -> String {
    format!("{PREFIX}{key}={}", escape(value))
}

fn has(lv: &LogicalVolume, key: &str) -> bool {
    lv.tags.contains(&mark(key))
}

fn values<'a>(lv: &'a LogicalVolume, key: &'a str) -> impl Iterator<Item = String> + 'a {
    lv.tags.iter().filter_map(move |tag| {
        let value = tag.strip_prefix(PREFIX)?.strip_prefix(key)?.strip_prefix('=')?;
        unescape(value)
    })
}

fn value(lv: &LogicalVolume, key: &str) -> Option<String> {
    values(lv, key).next()
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"_.-".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("+{byte:02X}"));
        }
    }
    out
}

fn unescape(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'+' {
            let hex = std::str::from_utf8(tail.get(..2)?).ok()?;
            out.push(u8::from_str_radix(hex, 16).ok()?);
            rest = &tail[2..];
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lv(tags: Vec<String>) -> LogicalVolume {
        LogicalVolume {
            name: "v".parse().expect("legal"),
            id: crate::ids::LvmUuid::from_random([0; 32]),
            status: vec![],
            flags: vec![],
            tags,
            created: None,
            segments: vec![],
            extra: vec![],
        }
    }

    proptest! {
        #[test]
        fn any_text_survives_in_a_tag(name in ".{0,128}", view in ".{0,128}", cut: u64) {
            let group = Some(Membership { group: name.clone(), members: 2 });
            let (grown, min_in_sync) = (Some(name.clone()), Some(2));
            let tags = ImageTags {
                snapshot: Some(name), views: vec![view], cut: Some(cut), group, grown, min_in_sync, ..Default::default()
            };
            let rendered = tags.render();
            for tag in &rendered {
                prop_assert!(tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+.-/=!:&#".contains(&b)));
                prop_assert!(tag.len() <= 1024);
            }
            prop_assert_eq!(ImageTags::of(&lv(rendered)), tags);
        }
    }

    #[test]
    fn tags_of_others_are_left_alone() {
        let other = lv(vec!["prod".into(), "splitmirror.io/other=1".into()]);
        assert_eq!(VolumeTags::of(&other), VolumeTags::default());
        assert_eq!(ImageTags::of(&other), ImageTags::default());
    }
}
