//! Snapshots of several volumes at one instant: each is a split as any other, and what counts is done together.
//!
//! ```text
//! all settled -> one commit: all images split, with the group's name, all volumes `pending`
//!             -> suspend all, load all, resume all                 the cut
//!             -> each volume by itself: pin, image read-only, is it on disk?
//!             -> one commit: all event counts, no volume `pending` any more   ready
//! ```
//!
//! **All or nothing.** The group is ready by one commit, so after a crash it is whole, or no member of it is pinned.
//! Whether members that are not pinned were cut at one instant nobody can tell then: each volume gives its own up, and
//! needs to know nothing of the others ([`give_up`], `bring_up`, [`Edit::SwapLost`]).

use crate::volume::key;
use crate::volume::seen::Seen;
use crate::volume::split::{self, Memo, Split};
use crate::volume::step::{Edit, Next, Refusal, Step, Waiting};
use crate::volume::tags::ImageTags;

/// What a group's volumes want next.
#[derive(Clone, Debug, PartialEq)]
pub enum Together {
    /// Commit all these edits at once; one of each volume, in their order.
    Commit(Vec<Edit>),
    /// Swap in all these tables at one instant; one of each volume, in their order.
    Swap(Vec<Step>),
    /// One volume does this, whatever the others do.
    One {
        /// Which.
        volume: usize,
        /// What.
        step: Step,
    },
    /// Nothing can be done until one of them has got on with something.
    Wait(Waiting),
    /// The group is whole.
    Done,
    /// It cannot be done.
    Refuse(Refusal),
    /// Some have what others lack: another tool, or a process that died, was here.
    Torn,
}

/// What next, from what the machine of each volume's split answers ([`split::next`]).
#[must_use]
pub fn next(answers: &[Next]) -> Together {
    let (mut steps, mut waiting) = (Vec::new(), None);
    for answer in answers {
        match answer {
            Next::Refuse(refusal) => return Together::Refuse(refusal.clone()),
            Next::Wait(what) => waiting = Some(*what),
            Next::ReadMetas | Next::Done => {}
            Next::Do(step) => steps.push(step),
        }
    }
    if let Some(what) = waiting {
        return Together::Wait(what);
    }
    for (volume, answer) in answers.iter().enumerate() {
        if let Next::Do(step) = answer
            && !is_cut(step)
            && edit(step).is_none()
        {
            return Together::One { volume, step: step.clone() };
        }
    }
    if answers.iter().all(|answer| *answer == Next::Done) {
        return Together::Done;
    }
    if steps.len() < answers.len() {
        return Together::Torn;
    }
    if steps.iter().all(|step| is_cut(step)) {
        return Together::Swap(steps.into_iter().cloned().collect());
    }
    let edits: Vec<Edit> = steps.iter().filter_map(|step| edit(step)).cloned().collect();
    let alike = |edits: &[Edit]| {
        edits.windows(2).all(|two| std::mem::discriminant(&two[0]) == std::mem::discriminant(&two[1]))
    };
    if edits.len() == answers.len() && alike(&edits) { Together::Commit(edits) } else { Together::Torn }
}

fn is_cut(step: &Step) -> bool {
    matches!(step, Step::Swap { .. })
}

fn edit(step: &Step) -> Option<&Edit> {
    if let Step::Commit(edit) = step { Some(edit) } else { None }
}

/// What next, to give up a split of a group that was never whole. The volume has been brought up, so the image has left
/// the array. It was split off by the kernel that runs, so once that is pinned it comes back by its marks.
#[must_use]
pub fn give_up(seen: &Seen, name: &str, memo: &Memo) -> Next {
    if seen.slot_of(&key::of(name)).is_none() {
        return Next::Done;
    }
    let split = Split { name: name.to_owned(), now: 0, min_in_sync: 1, lent: None };
    match split::next(seen, &split, memo) {
        Next::Do(Step::Commit(Edit::Pinned { slot, events })) => {
            Next::Do(Step::Commit(Edit::GiveUp { slot, events }))
        }
        next => next,
    }
}

/// Whether an image is a split of a group that was not yet seen whole.
#[must_use]
pub fn is_unfinished(tags: &ImageTags) -> bool {
    tags.group.is_some() && tags.events.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Class;

    fn split(slot: usize) -> Next {
        Next::Do(Step::Commit(Edit::Split { slot, name: "g".into(), cut: 1, min_in_sync: 1, lent: None }))
    }

    fn pinned(slot: usize) -> Next {
        Next::Do(Step::Commit(Edit::Pinned { slot, events: 7 }))
    }

    fn pin() -> Next {
        Next::Do(Step::Pin)
    }

    #[test]
    fn what_counts_is_committed_when_all_want_it() {
        let edits = vec![
            Edit::Split { slot: 2, name: "g".into(), cut: 1, min_in_sync: 1, lent: None },
            Edit::Split { slot: 1, name: "g".into(), cut: 1, min_in_sync: 1, lent: None },
        ];
        assert_eq!(next(&[split(2), split(1)]), Together::Commit(edits));
        assert_eq!(next(&[Next::Done, Next::Done]), Together::Done);
    }

    #[test]
    fn pins_are_made_one_after_the_other_before_anything_is_called_pinned() {
        assert_eq!(next(&[pin(), pin()]), Together::One { volume: 0, step: Step::Pin });
        assert_eq!(next(&[pinned(1), pin()]), Together::One { volume: 1, step: Step::Pin });
        let edits = vec![Edit::Pinned { slot: 1, events: 7 }, Edit::Pinned { slot: 2, events: 7 }];
        assert_eq!(next(&[pinned(1), pinned(2)]), Together::Commit(edits));
    }

    #[test]
    fn nothing_is_begun_while_one_has_to_wait_or_refuses() {
        let wait = Next::Wait(Waiting::Sync);
        assert_eq!(next(&[split(1), wait.clone()]), Together::Wait(Waiting::Sync));
        let refusal = Refusal { class: Class::Precondition, message: "no".into() };
        assert_eq!(next(&[split(1), wait, Next::Refuse(refusal.clone())]), Together::Refuse(refusal));
    }

    #[test]
    fn a_group_of_which_some_have_what_others_lack_is_torn() {
        assert_eq!(next(&[Next::Done, split(1)]), Together::Torn);
        assert_eq!(next(&[pinned(1), split(1)]), Together::Torn);
    }
}
