//! Pure: what is shown of claims, as a tree.

use crate::api::snapshot::SnapshotPhase;
use crate::api::volume::{Slot, SlotState, VolumePhase};
use crate::cli::kubectl::model::{Claim, Snapshot, Unmade, Volume};

/// Characters of a progress bar.
const BAR: usize = 20;

/// A line, and those below it.
#[derive(Debug)]
struct Node {
    line: String,
    below: Vec<Node>,
}

impl Node {
    fn leaf(line: String) -> Self {
        Self { line, below: Vec::new() }
    }

    fn print(&self, text: &mut String, first: &str, rest: &str) {
        text.push_str(format!("{first}{}", self.line).trim_end());
        text.push('\n');
        for (at, node) in self.below.iter().enumerate() {
            let (tee, bar) =
                if at + 1 < self.below.len() { ("├─ ", "│  ") } else { ("└─ ", "   ") };
            node.print(text, &format!("{rest}{tee}"), &format!("{rest}{bar}"));
        }
    }
}

/// The text.
#[must_use]
pub fn text(claims: &[Claim]) -> String {
    if claims.is_empty() {
        return "There are no volumes of splitmirror.io here; -A shows all namespaces.\n".to_owned();
    }
    let mut text = String::new();
    for claim in claims {
        if !text.is_empty() {
            text.push('\n');
        }
        tree(claim).print(&mut text, "", "");
    }
    text
}

fn tree(claim: &Claim) -> Node {
    let name = claim.claim.as_ref().map_or_else(|| "(no claim)".to_owned(), ToString::to_string);
    let unmade = claim.unmade_snapshots.iter().map(unmade);
    let Some(volume) = &claim.volume else {
        let phase = claim.phase.as_deref().unwrap_or("Pending");
        return Node { line: format!("{name}: {phase}, it has no volume"), below: unmade.collect() };
    };
    let homeless = |snapshot: &&Snapshot| !volume.slots.iter().any(|slot| holds(slot, snapshot));
    let mut below = problems(&volume.problems);
    below.extend(filled(volume));
    below.extend(slots(volume));
    below.extend(volume.snapshots.iter().filter(homeless).map(snapshot));
    below.extend(unmade);
    Node { line: format!("{name}: {}", headline(volume)), below }
}

fn problems(problems: &[String]) -> Vec<Node> {
    problems.iter().map(|problem| Node::leaf(format!("! {problem}"))).collect()
}

fn headline(volume: &Volume) -> String {
    let Volume { name, node, pool, size, .. } = volume;
    let state = match (&volume.shows, volume.images) {
        _ if volume.deleting => "being deleted".to_owned(),
        (Some(snapshot), _) => format!("shows snapshot {snapshot}"),
        (None, Some(images)) => {
            let in_sync = volume.in_sync.map_or_else(|| "?".to_owned(), |number| number.to_string());
            format!("{}, {in_sync} of {images} images in sync", phase(volume.phase))
        }
        (None, None) => phase(volume.phase).to_owned(),
    };
    format!("{state} ({size}, {name} on {node}/{pool})")
}

fn phase(phase: VolumePhase) -> &'static str {
    match phase {
        VolumePhase::Pending => "being made",
        VolumePhase::Ready => "ready",
        VolumePhase::Filling => "being filled",
        VolumePhase::Degraded => "DEGRADED",
        VolumePhase::RollingBack => "being rolled back",
        VolumePhase::Failed => "FAILED",
        VolumePhase::Deleting => "being deleted",
    }
}

fn filled(volume: &Volume) -> Option<Node> {
    let from = volume.made_from.as_deref().map_or_else(String::new, |from| format!("from {from}   "));
    volume.filled.map(|filled| Node::leaf(format!("filled {from}{}", bar(filled.get()))))
}

fn slots(volume: &Volume) -> Vec<Node> {
    let states = volume.slots.iter().map(|slot| state(slot.state).len()).max().unwrap_or(0);
    let devices = volume.slots.iter().map(|slot| slot.device.chars().count()).max().unwrap_or(0);
    let node = |slot: &Slot| {
        let Slot { index, device, .. } = slot;
        let state = state(slot.state);
        let moving = matches!(slot.state, SlotState::Merging | SlotState::Rebuilding);
        let progress = slot.percent.filter(|_| moving).map(bar).unwrap_or_default();
        let lent = slot.lent_to.as_deref().map(|clone| format!("lent to {clone}")).unwrap_or_default();
        let error = slot.error.as_deref().map(|error| format!("! {error}")).unwrap_or_default();
        let grown = if slot.grown { "there for a snapshot only   " } else { "" };
        let line =
            format!("image {index}   {state:<states$}   {device:<devices$}   {grown}{progress}{lent}{error}");
        let snapshots = volume.snapshots.iter().filter(|snapshot| holds(slot, snapshot));
        Node { line, below: snapshots.map(snapshot).collect() }
    };
    volume.slots.iter().map(node).collect()
}

/// Whether a slot's image is this snapshot.
fn holds(slot: &Slot, snapshot: &Snapshot) -> bool {
    slot.snapshot.as_deref() == Some(&*snapshot.name) || snapshot.slot == Some(slot.index)
}

fn state(state: SlotState) -> &'static str {
    match state {
        SlotState::InSync => "in sync",
        SlotState::Split => "split off",
        SlotState::Merging => "merging",
        SlotState::Rebuilding => "rebuilding",
        SlotState::Failed => "FAILED",
        SlotState::Missing => "MISSING",
        SlotState::Inactive => "inactive",
    }
}

/// `████████░░░░░░░░░░░░  42%`
fn bar(percent: u8) -> String {
    let full = usize::from(percent.min(100)) * BAR / 100;
    format!("{}{} {percent:>3}%", "█".repeat(full), "░".repeat(BAR - full))
}

fn snapshot(snapshot: &Snapshot) -> Node {
    let name = match &snapshot.volume_snapshot {
        Some(name) => format!("{} ({})", name.name, snapshot.name),
        None => snapshot.name.clone(),
    };
    let mut parts = vec![match snapshot.phase {
        SnapshotPhase::Pending => "being made".to_owned(),
        SnapshotPhase::Ready if snapshot.deleting => "to be deleted".to_owned(),
        SnapshotPhase::Ready => "ready".to_owned(),
        SnapshotPhase::Merging => match snapshot.merge_percent {
            Some(percent) => format!("merging {}", bar(percent)),
            None => "merging".to_owned(),
        },
        SnapshotPhase::Detached => match &snapshot.detached_to {
            Some(volume) => format!("detached, it is {volume} now"),
            None => "detached".to_owned(),
        },
        SnapshotPhase::Failed => "FAILED".to_owned(),
    }];
    parts.extend(snapshot.cut_time.as_deref().map(|cut| format!("cut {cut}")));
    parts.extend(snapshot.changed.map(|changed| format!("{changed} changed since")));
    let mut below = problems(&snapshot.problems);
    below.extend(snapshot.shown_by.iter().map(|claim| Node::leaf(format!("shown by {claim}"))));
    Node { line: format!("snapshot {name}: {}", parts.join(", ")), below }
}

fn unmade(unmade: &Unmade) -> Node {
    let why = unmade.why.as_deref().map_or_else(|| "not made yet".to_owned(), |why| format!("! {why}"));
    Node::leaf(format!("snapshot {}: {why}", unmade.volume_snapshot))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_full_at_the_end_only() {
        assert_eq!(bar(0), "░░░░░░░░░░░░░░░░░░░░   0%");
        assert_eq!(bar(42), "████████░░░░░░░░░░░░  42%");
        assert_eq!(bar(99), "███████████████████░  99%");
        assert_eq!(bar(100), "████████████████████ 100%");
    }
}
