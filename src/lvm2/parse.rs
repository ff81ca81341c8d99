//! From text to [`VolumeGroup`].
//!
//! What is typed is taken out of the nodes; what is left stays in `extra`, in its order. A word in a `status` list
//! that is not known makes the group unreadable, as it does for LVM2: it may mean that the rest means something else.
//!
//! Sources: LVM2 `lib/format_text/{import_vsn1,flags}.c`, `lib/raid/raid.c`, `lib/striped/striped.c`.

use crate::ids::{LvName, LvmUuid, VgName};
use crate::lvm2::bounds::require_possible;
use crate::lvm2::model::{LogicalVolume, PhysicalVolume, Raid1, Segment, SegmentKind, Slot, VolumeGroup};
use crate::lvm2::render::{CONTENTS, FORMAT, LV_ORDER, PV_ORDER, TEXT_VERSION, TRAILER_KEYS, VG_ORDER};
use crate::lvm2::section::Section;
use crate::lvm2::text::{self, Node, SyntaxError, Value};
use crate::lvm2::words;
use crate::report::Class;
use crate::units::{Extents, Sectors};

/// Why a text is not a volume group that this program understands.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ParseError {
    /// The text is not in the grammar.
    #[error("the metadata is not in LVM2's grammar")]
    Syntax(#[source] SyntaxError),
    /// An entry that must be there is not.
    #[error("{section}: `{key}` is missing")]
    Missing {
        /// The section.
        section: String,
        /// The entry.
        key: String,
    },
    /// An entry has a value of the wrong kind.
    #[error("{section}: `{key}` is not {wanted}")]
    Wrong {
        /// The section.
        section: String,
        /// The entry.
        key: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// An entry is there twice.
    #[error("{section}: `{key}` is there twice")]
    Twice {
        /// The section.
        section: String,
        /// The entry.
        key: String,
    },
    /// A word whose meaning is not known.
    #[error(
        "{section}: the status word {word:?} is not known; a newer LVM2 may have written it, and only one that \
         knows it may change this group"
    )]
    UnknownStatus {
        /// The section.
        section: String,
        /// The word.
        word: String,
    },
    /// The text is of another kind or version.
    #[error("`{key}` is {found}, not {wanted}: this is not metadata of a volume group in the format lvm2")]
    Format {
        /// The entry.
        key: &'static str,
        /// Its value.
        found: String,
        /// The only one that is understood.
        wanted: String,
    },
    /// There is no section of a group beside `contents` and `version`, or more than one.
    #[error("there are {found} sections of a volume group in the text, not one")]
    Groups {
        /// How many there are.
        found: usize,
    },
    /// A section's name is not a name.
    #[error("{section}: {why}")]
    Name {
        /// The section.
        section: String,
        /// Why not.
        why: String,
    },
    /// An identifier is not one.
    #[error("{section}: `id`: {why}")]
    Id {
        /// The section.
        section: String,
        /// Why not.
        why: String,
    },
    /// A raid1 segment whose list of sub-LVs does not fit its number of images.
    #[error("{section}: `raids` has {found} entries for {device_count} images")]
    Raids {
        /// The section.
        section: String,
        /// Entries in the list.
        found: usize,
        /// Images that there should be.
        device_count: u64,
    },
}

impl ParseError {
    /// A text in the grammar is left alone until something that understands it looks at it; one that is not is damage.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Syntax(error) => error.class(),
            Self::UnknownStatus { .. } | Self::Format { .. } => Class::Precondition,
            Self::Missing { .. }
            | Self::Wrong { .. }
            | Self::Twice { .. }
            | Self::Groups { .. }
            | Self::Name { .. }
            | Self::Id { .. }
            | Self::Raids { .. } => Class::Corrupt,
        }
    }
}

pub(super) type Result<T, E = ParseError> = std::result::Result<T, E>;

impl VolumeGroup {
    /// Reads the text of a metadata area or of a backup file.
    ///
    /// # Errors
    /// The text is not a volume group that this program understands; the error names the place.
    pub fn parse(text: &str) -> Result<Self> {
        let nodes = text::parse(text).map_err(ParseError::Syntax)?;
        let mut top = Section::new("the metadata", nodes)?;
        require_format(&mut top)?;
        for key in TRAILER_KEYS {
            top.take(key);
        }
        let (groups, trailer): (Vec<Node>, Vec<Node>) =
            top.rest().into_iter().partition(|node| matches!(node, Node::Section { .. }));
        let found = groups.len();
        match <[Node; 1]>::try_from(groups) {
            Ok([Node::Section { name, nodes }]) => parse_group(name, nodes, trailer),
            Ok(_) | Err(_) => Err(ParseError::Groups { found }),
        }
    }
}

/// Name, id and seqno of a group whose text is otherwise not understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Gist {
    /// The group's name.
    pub name: String,
    /// Its identifier.
    pub id: LvmUuid,
    /// The version of its metadata.
    pub seqno: u64,
}

impl Gist {
    /// What can be told of a text that is in the grammar at least.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        text::parse(text).ok()?.into_iter().find_map(|node| match node {
            Node::Section { name, nodes } => {
                let find = |key: &str| nodes.iter().find_map(|node| node.value_of(key));
                Some(Self {
                    name,
                    id: find("id")?.as_text()?.parse().ok()?,
                    seqno: find("seqno")?.as_count()?,
                })
            }
            Node::Value { .. } | Node::Comment(_) => None,
        })
    }
}

fn require_format(top: &mut Section) -> Result<()> {
    let contents = top.require_text("contents")?;
    if contents != CONTENTS {
        return Err(ParseError::Format { key: "contents", found: contents, wanted: CONTENTS.to_owned() });
    }
    let version = top.require_count("version")?;
    if version != TEXT_VERSION {
        return Err(ParseError::Format {
            key: "version",
            found: version.to_string(),
            wanted: TEXT_VERSION.to_string(),
        });
    }
    Ok(())
}

fn parse_group(name: String, nodes: Vec<Node>, trailer: Vec<Node>) -> Result<VolumeGroup> {
    let mut vg = Section::new(&name, nodes)?;
    let format = vg.require_text("format")?;
    if format != FORMAT {
        return Err(ParseError::Format { key: "format", found: format, wanted: FORMAT.to_owned() });
    }
    let pvs = vg.take_sections("physical_volumes")?;
    let lvs = vg.take_sections("logical_volumes")?;
    let mut status = vg.require_status(&words::VG)?;
    let mut flags = vg.take_texts("flags")?;
    words::unlock(&mut status, &mut flags, &words::VG);
    let group = VolumeGroup {
        id: vg.require_id()?,
        seqno: vg.require_count("seqno")?,
        status,
        flags,
        tags: vg.take_texts("tags")?,
        system_id: vg.take_text("system_id")?,
        lock_type: vg.take_text("lock_type")?,
        extent_size: Sectors(vg.require_count("extent_size")?),
        pvs: pvs.into_iter().map(|(pv, nodes)| parse_pv(&vg.path, pv, nodes)).collect::<Result<_>>()?,
        lvs: lvs.into_iter().map(|(lv, nodes)| parse_lv(&vg.path, lv, nodes)).collect::<Result<_>>()?,
        extra: vg.rest_sorted(&VG_ORDER),
        trailer: trailer.into_iter().filter(|node| !matches!(node, Node::Comment(_))).collect(),
        name: VgName::try_from(name.clone())
            .map_err(|error| ParseError::Name { section: name, why: error.to_string() })?,
    };
    require_possible(&group)?;
    Ok(group)
}

fn parse_pv(vg: &str, name: String, nodes: Vec<Node>) -> Result<PhysicalVolume> {
    let mut pv = Section::new(&format!("{vg}/{name}"), nodes)?;
    Ok(PhysicalVolume {
        id: pv.require_id()?,
        device: pv.take_text("device")?.unwrap_or_default(),
        status: pv.require_status(&words::PV)?,
        flags: pv.take_texts("flags")?,
        tags: pv.take_texts("tags")?,
        dev_size: Sectors(pv.take_count("dev_size")?.unwrap_or_default()),
        pe_start: Sectors(pv.require_count("pe_start")?),
        pe_count: Extents(pv.require_count("pe_count")?),
        extra: pv.rest_sorted(&PV_ORDER),
        name,
    })
}

fn parse_lv(vg: &str, name: String, nodes: Vec<Node>) -> Result<LogicalVolume> {
    let mut lv = Section::new(&format!("{vg}/{name}"), nodes)?;
    let count = lv.require_count("segment_count")?;
    let mut segments = Vec::new();
    for number in 1..=count {
        let key = format!("segment{number}");
        let nodes = lv.take_section(&key)?.ok_or_else(|| lv.missing(&key))?;
        segments.push(parse_segment(&format!("{}/{key}", lv.path), nodes)?);
    }
    let created = match (lv.peek("creation_time"), lv.peek("creation_host")) {
        (Some(_), Some(_)) => Some((lv.require_count("creation_time")?, lv.require_text("creation_host")?)),
        _ => None,
    };
    let mut status = lv.require_status(&words::LV)?;
    let mut flags = lv.take_texts("flags")?;
    words::unlock(&mut status, &mut flags, &words::LV);
    Ok(LogicalVolume {
        id: lv.require_id()?,
        status,
        flags,
        tags: lv.take_texts("tags")?,
        created,
        segments,
        extra: lv.rest_sorted(&LV_ORDER),
        name: LvName::try_from(name)
            .map_err(|error| ParseError::Name { section: lv.path, why: error.to_string() })?,
    })
}

fn parse_segment(path: &str, nodes: Vec<Node>) -> Result<Segment> {
    let mut segment = Section::new(path, nodes)?;
    let start = Extents(segment.require_count("start_extent")?);
    let count = Extents(segment.require_count("extent_count")?);
    let tags = segment.take_texts("tags")?;
    let name = segment.require_text("type")?;
    let known = match name.as_str() {
        "striped" => take_linear(&mut segment),
        "raid1" => take_raid1(&mut segment)?,
        "error" => Some(SegmentKind::Error),
        _ => None,
    };
    let kind = known.unwrap_or(SegmentKind::Other { name });
    Ok(Segment { start, count, tags, kind, extra: segment.rest() })
}

/// One stripe on a PV. With more stripes, or with an LV below, it stays a segment that is only kept.
fn take_linear(segment: &mut Section) -> Option<SegmentKind> {
    let one = segment.peek("stripe_count")?.as_count()? == 1;
    let linear = match segment.peek("stripes")?.as_list()? {
        [Value::Str(pv), first] if one => {
            SegmentKind::Linear { pv: pv.clone(), first: Extents(first.as_count()?) }
        }
        _ => return None,
    };
    segment.take("stripe_count");
    segment.take("stripes");
    Some(linear)
}

/// Images with a metadata LV each. A raid1 without those (LVM2 can read it, and never makes it) is only kept.
fn take_raid1(segment: &mut Section) -> Result<Option<SegmentKind>> {
    let device_count = segment.peek_count("device_count")?.ok_or_else(|| segment.missing("device_count"))?;
    let raids = segment.peek("raids").ok_or_else(|| segment.missing("raids"))?;
    let raids = raids.as_texts().ok_or_else(|| segment.wrong("raids", "a list of names"))?;
    let found = raids.len();
    let counted = u64::try_from(found).unwrap_or(u64::MAX);
    if counted == device_count {
        return Ok(None);
    }
    if device_count.checked_mul(2) != Some(counted) {
        return Err(ParseError::Raids { section: segment.path.clone(), found, device_count });
    }
    let slots = raids
        .chunks_exact(2)
        .map(|pair| {
            let name = |name: &String| {
                let section = || segment.path.clone();
                LvName::try_from(name.clone())
                    .map_err(|error| ParseError::Name { section: section(), why: error.to_string() })
            };
            match pair {
                [meta, image] => Ok(Slot { meta: name(meta)?, image: name(image)? }),
                _ => Err(ParseError::Raids { section: segment.path.clone(), found, device_count }),
            }
        })
        .collect::<Result<Vec<Slot>>>()?;
    segment.take("device_count");
    segment.take("raids");
    Ok(Some(SegmentKind::Raid1(Raid1 {
        region_size: Sectors(segment.require_count("region_size")?),
        min_recovery_rate: segment.take_count("min_recovery_rate")?,
        max_recovery_rate: segment.take_count("max_recovery_rate")?,
        write_behind: segment.take_count("writebehind")?,
        slots,
    })))
}
