//! Schemas of fields whose Rust type says less, or more, than the API server should check.

use schemars::{Schema, SchemaGenerator, json_schema};

/// What LVM2 takes as a name of a group or volume; `.` and `..` are directories.
const NAME: &str = r"^([A-Za-z0-9_+]|\.[A-Za-z0-9_+-]|\.\.[A-Za-z0-9_.+-])[A-Za-z0-9_.+-]*$";
/// The powers of two from 4Ki to 1Gi.
const REGION_SIZE: &str = "^((4|8|16|32|64|128|256|512)Ki|(1|2|4|8|16|32|64|128|256|512)Mi|1Gi)$";
/// The powers of two from 512Ki to 1Gi.
const EXTENT_SIZE: &str = "^(512Ki|(1|2|4|8|16|32|64|128|256|512)Mi|1Gi)$";

/// A name that LVM2 takes.
pub(super) fn lvm_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": 127, "pattern": NAME})
}

/// A node's name.
pub(super) fn node(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": 253})
}

/// The granularity of a bitmap.
pub(super) fn region_size(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "maxLength": 5, "pattern": REGION_SIZE})
}

/// The size of an extent.
pub(super) fn extent_size(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "maxLength": 5, "pattern": EXTENT_SIZE})
}

/// Most volumes of a group of snapshots.
const MEMBERS_MAX: usize = 64;

/// A path below `/dev`.
pub(super) fn devices(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 64,
        "items": {"type": "string", "maxLength": 1024, "pattern": "^/dev/[^/].*$"},
        "x-kubernetes-list-type": "set",
    })
}

/// What a volume holds from the start. That there is exactly one of them is a rule of the whole spec.
pub(super) fn source(_: &mut SchemaGenerator) -> Schema {
    let object =
        |what: &str| json_schema!({"type": "string", "minLength": 1, "maxLength": 253, "description": what});
    json_schema!({
        "type": "object",
        "properties": {
            "snapshot": object("The MirrorSnapshot."),
            "volume": object("The MirrorVolume, as it was when this one was made."),
            "detached": object("The MirrorSnapshot whose image it is itself: nothing was copied, and it is a snapshot no more."),
            "images": object("The MirrorVolume whose last images it is itself: nothing was copied."),
        },
    })
}

/// A set of object names.
pub(super) fn names(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "items": {"type": "string", "maxLength": 253},
        "x-kubernetes-list-type": "set",
    })
}

/// A set of the names of a group's volumes. It is bounded, so that rules about it are cheap.
pub(super) fn members(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "minItems": 1,
        "maxItems": MEMBERS_MAX,
        "items": {"type": "string", "maxLength": 253},
        "x-kubernetes-list-type": "set",
    })
}

/// `metav1.Condition`, one of each type.
pub(super) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "items": {
            "type": "object",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "type": {
                    "description": "What is judged.",
                    "type": "string",
                    "maxLength": 316,
                    "pattern": "^[A-Z][A-Za-z]*$",
                },
                "status": {
                    "description": "Whether it is so.",
                    "type": "string",
                    "enum": ["True", "False", "Unknown"],
                },
                "reason": {
                    "description": "Why, for programs.",
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 1024,
                    "pattern": "^[A-Z][A-Za-z]*$",
                },
                "message": {
                    "description": "Why, for people.",
                    "type": "string",
                    "maxLength": 32768,
                },
                "observedGeneration": {
                    "description": "The generation of the object that it was judged for.",
                    "type": "integer",
                    "format": "int64",
                    "minimum": 0,
                },
                "lastTransitionTime": {
                    "description": "When status changed last.",
                    "type": "string",
                    "format": "date-time",
                },
            },
        },
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    })
}
