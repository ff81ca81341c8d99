//! Conditions: what is so of an object, since when, and why. A refusal's class travels in the reason, so that what a
//! node refuses is answered by the controller with the code that it would have there.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::report::Class;

/// What is judged of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// It is what was asked for, and can be used. `False` with a class as reason: why it is not made.
    Ready,
    /// It works, with less redundancy than was asked for.
    Degraded,
    /// It has the size that was asked for. `False` with a class as reason: why it does not grow.
    Resized,
    /// `False`: its images, rates, or images that reads avoid are not as asked for. With a class as reason: why they stay so.
    Modified,
    /// `False` with a class as reason: why it is not deleted though that was asked for.
    Deleted,
    /// It is done. `False`: why it is not.
    Complete,
}

impl Type {
    /// As in the object.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Degraded => "Degraded",
            Self::Resized => "Resized",
            Self::Modified => "Modified",
            Self::Deleted => "Deleted",
            Self::Complete => "Complete",
        }
    }
}

/// The reason that tells a class.
#[must_use]
pub fn reason(class: Class) -> &'static str {
    match class {
        Class::Invalid => "Invalid",
        Class::OutOfRange => "OutOfRange",
        Class::NotFound => "NotFound",
        Class::Exists => "Exists",
        Class::InProgress => "InProgress",
        Class::Exhausted => "Exhausted",
        Class::Precondition => "Precondition",
        Class::Unimplemented => "Unimplemented",
        Class::Transient => "Transient",
        Class::Corrupt => "Corrupt",
        Class::Internal => "Internal",
    }
}

/// The class that a reason tells, if it tells one.
#[must_use]
pub fn class(text: &str) -> Option<Class> {
    Class::ALL.into_iter().find(|class| reason(*class) == text)
}

/// A judgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// What is judged.
    pub of: Type,
    /// Whether it is so.
    pub so: bool,
    /// Why, for programs: CamelCase.
    pub reason: &'static str,
    /// Why, for people.
    pub message: String,
}

impl Judgement {
    /// It is so.
    pub fn yes(of: Type, reason: &'static str, message: impl Into<String>) -> Self {
        Self { of, so: true, reason, message: message.into() }
    }

    /// It is not so.
    pub fn no(of: Type, reason: &'static str, message: impl Into<String>) -> Self {
        Self { of, so: false, reason, message: message.into() }
    }

    /// It is not so because of an error.
    pub fn refused(of: Type, class: Class, message: impl Into<String>) -> Self {
        Self::no(of, reason(class), message)
    }
}

/// Puts a judgement of the object's `generation` among its conditions; `true` when that changes anything. The time of the
/// last transition stays while the status does.
pub fn set(
    conditions: &mut Vec<Condition>,
    judgement: Judgement,
    generation: Option<i64>,
    now: Time,
) -> bool {
    let Judgement { of, so, reason, message } = judgement;
    let mut condition = Condition {
        type_: of.as_str().to_owned(),
        status: if so { "True" } else { "False" }.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: generation,
        last_transition_time: now,
    };
    let Some(old) = conditions.iter_mut().find(|old| old.type_ == condition.type_) else {
        conditions.push(condition);
        return true;
    };
    if old.status == condition.status {
        condition.last_transition_time = old.last_transition_time.clone();
    }
    let changed = *old != condition;
    *old = condition;
    changed
}

/// Takes a condition away; `true` when there was one.
pub fn clear(conditions: &mut Vec<Condition>, of: Type) -> bool {
    let before = conditions.len();
    conditions.retain(|condition| condition.type_ != of.as_str());
    conditions.len() != before
}

/// The condition of a type.
#[must_use]
pub fn find(conditions: &[Condition], of: Type) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.type_ == of.as_str())
}

/// Whether it is judged to be so.
#[must_use]
pub fn is_true(conditions: &[Condition], of: Type) -> bool {
    find(conditions, of).is_some_and(|condition| condition.status == "True")
}

/// Why it is not so, when the reason is an error's class and the judgement is of this generation or a later one.
#[must_use]
pub fn refusal(conditions: &[Condition], of: Type, generation: Option<i64>) -> Option<(Class, &str)> {
    let condition = find(conditions, of).filter(|condition| condition.status == "False")?;
    let stale = condition.observed_generation.unwrap_or(0) < generation.unwrap_or(0);
    let class = class(&condition.reason).filter(|_| !stale)?;
    Some((class, &condition.message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(seconds: i64) -> Time {
        Time(k8s_openapi::jiff::Timestamp::from_second(seconds).expect("in range"))
    }

    #[test]
    fn every_class_has_a_reason_of_its_own() {
        for known in Class::ALL {
            assert_eq!(class(reason(known)), Some(known));
        }
        assert_eq!(class("Synced"), None);
    }

    #[test]
    fn the_same_judgement_again_changes_nothing() {
        let mut conditions = Vec::new();
        let judgement = || Judgement::yes(Type::Ready, "Active", "");
        assert!(set(&mut conditions, judgement(), Some(1), time(1)));
        assert!(!set(&mut conditions, judgement(), Some(1), time(2)));
        assert_eq!(conditions[0].last_transition_time, time(1));
    }

    #[test]
    fn the_transition_time_changes_with_the_status_only() {
        let mut conditions = Vec::new();
        set(&mut conditions, Judgement::no(Type::Ready, "Creating", "a"), Some(1), time(1));
        assert!(set(&mut conditions, Judgement::no(Type::Ready, "Creating", "b"), Some(1), time(2)));
        assert_eq!(conditions[0].last_transition_time, time(1));
        assert!(set(&mut conditions, Judgement::yes(Type::Ready, "Active", ""), Some(1), time(3)));
        assert_eq!(conditions[0].last_transition_time, time(3));
        assert_eq!(conditions.len(), 1);
        assert!(clear(&mut conditions, Type::Ready) && !clear(&mut conditions, Type::Ready));
    }

    #[test]
    fn a_refusal_counts_for_the_generation_it_was_made_for() {
        let mut conditions = Vec::new();
        let refused = Judgement::refused(Type::Resized, Class::Exhausted, "no room");
        set(&mut conditions, refused, Some(2), time(1));
        assert_eq!(refusal(&conditions, Type::Resized, Some(2)), Some((Class::Exhausted, "no room")));
        assert_eq!(refusal(&conditions, Type::Resized, Some(3)), None);
        assert_eq!(refusal(&conditions, Type::Ready, Some(2)), None);
        set(&mut conditions, Judgement::no(Type::Ready, "Creating", ""), Some(2), time(1));
        assert_eq!(refusal(&conditions, Type::Ready, Some(2)), None);
    }
}
