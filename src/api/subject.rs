//! The objects that users look at: events are shown on them.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource as _;

use crate::api::{MirrorSnapshot, MirrorVolume, Reference};

/// What a user looks at for a volume: its claim, or itself.
#[must_use]
pub fn of_volume(object: &MirrorVolume) -> ObjectReference {
    let claim = |claim| {
        let uid = uid(object.spec.name.as_deref(), "pvc-");
        reference(claim, "v1", "PersistentVolumeClaim", uid)
    };
    object.spec.claim.as_ref().map_or_else(|| object.object_ref(&()), claim)
}

/// What a user looks at for a snapshot: the VolumeSnapshot, or itself.
#[must_use]
pub fn of_snapshot(object: &MirrorSnapshot) -> ObjectReference {
    let snapshot = |snapshot| {
        let uid = uid(object.spec.name.as_deref(), "snapshot-");
        reference(snapshot, "snapshot.storage.k8s.io/v1", "VolumeSnapshot", uid)
    };
    object.spec.volume_snapshot.as_ref().map_or_else(|| object.object_ref(&()), snapshot)
}

/// The uid at the end of a CSI name such as `pvc-0b5c92f0-…`: by it `kubectl describe` finds the events of an object.
fn uid(name: Option<&str>, prefix: &str) -> Option<String> {
    let uid = name?.strip_prefix(prefix)?;
    let digits = uid.bytes().filter(u8::is_ascii_hexdigit).count();
    (uid.len() == 36 && digits == 32 && uid.matches('-').count() == 4).then(|| uid.to_owned())
}

fn reference(to: &Reference, api_version: &str, kind: &str, uid: Option<String>) -> ObjectReference {
    ObjectReference {
        api_version: Some(api_version.to_owned()),
        kind: Some(kind.to_owned()),
        namespace: Some(to.namespace.clone()),
        name: Some(to.name.clone()),
        uid,
        ..ObjectReference::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uid_is_taken_from_names_that_sidecars_make() {
        let whole = "0b5c92f0-1f3e-4f0e-9c55-0d6a3f1f8a11";
        assert_eq!(uid(Some(&format!("pvc-{whole}")), "pvc-").as_deref(), Some(whole));
        for other in [None, Some("pvc-1"), Some(whole), Some("pvc-0b5c92f0-1f3e-4f0e-9c55-0d6a3f1f8a1x")] {
            assert_eq!(uid(other, "pvc-"), None, "{other:?}");
        }
    }
}
