//! Volumes by request.

use crate::csi::backend::{
    Backend, CapacityWish, Deadline, Error, Kind, Origin, Result, Snapshot, ViewWish, Volume, VolumeWish,
};
use crate::csi::capability::{Capability, Mode};
use crate::csi::limits;
use crate::csi::page::page;
use crate::csi::params::{self, Format, Restore, VolumeParams};
use crate::csi::proto::volume_content_source::{SnapshotSource, Type as Source};
use crate::csi::proto::{
    CapacityRange, ControllerExpandVolumeRequest, ControllerExpandVolumeResponse, ControllerGetVolumeRequest,
    ControllerGetVolumeResponse, ControllerModifyVolumeRequest, ControllerModifyVolumeResponse,
    CreateVolumeRequest, CreateVolumeResponse, DeleteVolumeRequest, DeleteVolumeResponse, GetCapacityRequest,
    GetCapacityResponse, ListVolumesRequest, ListVolumesResponse, ValidateVolumeCapabilitiesRequest,
    ValidateVolumeCapabilitiesResponse, Volume as ProtoVolume, VolumeContentSource,
    controller_get_volume_response, list_volumes_response, validate_volume_capabilities_response,
};
use crate::csi::topology;
use crate::report::Class;
use crate::units::Bytes;
use crate::volume::region;
use crate::volume::spec::VolumeSpec;
use crate::volume::tune::Change;

/// The size of a volume that is asked for without one.
const DEFAULT_SIZE: Bytes = Bytes::gib(1);

/// The snapshot that a volume is to be made from.
#[must_use]
pub fn source_snapshot(request: &CreateVolumeRequest) -> Option<&str> {
    match request.volume_content_source.as_ref()?.r#type.as_ref()? {
        Source::Snapshot(source) => Some(&source.snapshot_id),
        Source::Volume(_) => None,
    }
}

/// The volume that a volume is to be made from.
#[must_use]
pub fn source_volume(request: &CreateVolumeRequest) -> Option<&str> {
    match request.volume_content_source.as_ref()?.r#type.as_ref()? {
        Source::Volume(source) => Some(&source.volume_id),
        Source::Snapshot(_) => None,
    }
}

/// CreateVolume.
///
/// # Errors
/// As the specification's table for this call.
pub async fn create<B: Backend>(
    backend: &B,
    request: &CreateVolumeRequest,
    deadline: Deadline,
) -> Result<CreateVolumeResponse> {
    let name = limits::name("name", &request.name)?;
    let capabilities = Capability::read_all(&request.volume_capabilities)?;
    let change = params::change(&request.mutable_parameters)?;
    let params = VolumeParams::read(&request.parameters)?.overridden(&change)?;
    let (size, limit) = range(request.capacity_range.as_ref())?;
    let nodes = topology::nodes(request.accessibility_requirements.as_ref());
    let read_only = capabilities.iter().all(|capability| capability.mode == Mode::Reader);
    let content = match &request.volume_content_source {
        Some(source) => Some(content_of(backend, source, read_only, params.restore).await?),
        None if read_only => {
            return Err(Error::invalid(
                "a volume that can only be read needs a snapshot to show: without a source it would stay empty",
            ));
        }
        None => None,
    };
    let (origin, size) = match content {
        None => (None, size.unwrap_or_else(|| limit.map_or(DEFAULT_SIZE, |limit| limit.min(DEFAULT_SIZE)))),
        Some(Content::Copied(origin, has)) => (Some(origin), clone_size(has, size, limit)?),
        Some(Content::Taken(origin)) => (Some(origin), size.unwrap_or(Bytes::ZERO)),
        Some(Content::Shown(snapshot)) => {
            check_view_size(&snapshot, size, limit)?;
            if change != Change::default() {
                return Err(Error::invalid(
                    "a volume that shows a snapshot cannot be modified: it needs no VolumeAttributesClass",
                ));
            }
            let VolumeParams { pool, claim, format, .. } = params;
            let wish = ViewWish { name: name.to_owned(), snapshot: snapshot.id, pool, nodes, claim };
            let view = backend.create_view(&wish, deadline).await?;
            return Ok(CreateVolumeResponse { volume: Some(answer(&view, &format)) });
        }
    };
    let spec = VolumeSpec {
        name: name.to_owned(),
        size,
        limit,
        images: params.images,
        region_size: params.region_size.unwrap_or_else(|| region::default_size(size)),
        min_recovery_rate: params.min_recovery_rate,
        max_recovery_rate: params.max_recovery_rate,
    };
    let wish = VolumeWish { spec, origin, pool: params.pool, nodes, claim: params.claim };
    let volume = backend.create_volume(&wish, deadline).await?;
    // All else it is made with.
    if change.write_mostly.is_some() {
        let change = Change { write_mostly: change.write_mostly, ..Change::default() };
        backend.modify_volume(&volume.id, &change, deadline).await?;
    }
    let mut told = answer(&volume, &params.format);
    told.content_source.clone_from(&request.volume_content_source);
    Ok(CreateVolumeResponse { volume: Some(told) })
}

/// What a volume is to hold.
enum Content {
    /// What this holds, which has so many bytes; it can be written to.
    Copied(Origin, Bytes),
    /// Images that are there, and are its own from then on.
    Taken(Origin),
    /// A snapshot, which it shows and no more.
    Shown(Snapshot),
}

/// What the source of a volume is.
///
/// A source that is not supported is INVALID_ARGUMENT, as the specification wants. It is final to
/// the provisioner: nothing is held back for it, the message shows in an event of the claim, and it is tried again
/// with a growing delay only.
async fn content_of<B: Backend>(
    backend: &B,
    source: &VolumeContentSource,
    read_only: bool,
    restore: Option<Restore>,
) -> Result<Content> {
    let detach = restore == Some(Restore::Detach) && !read_only;
    match &source.r#type {
        None => Err(Error::invalid("volume_content_source is empty")),
        Some(Source::Snapshot(source)) => {
            let id = limits::required("snapshot_id of the source", &source.snapshot_id)?;
            if detach {
                // Whether there is such a snapshot is not asked: when this is repeated it has become the volume already.
                return Ok(Content::Taken(Origin::Image(id.to_owned())));
            }
            let snapshot = backend.get_snapshot(id).await?;
            if read_only {
                return Ok(Content::Shown(snapshot));
            }
            Ok(Content::Copied(Origin::Snapshot(snapshot.id), snapshot.size))
        }
        Some(Source::Volume(source)) => {
            let id = limits::required("volume_id of the source", &source.volume_id)?;
            let volume = existing(backend, id).await?;
            match volume.kind {
                Kind::Mirror { .. } if detach => Ok(Content::Taken(Origin::Images(volume.id))),
                Kind::Mirror { .. } => Ok(Content::Copied(Origin::Volume(volume.id), volume.size)),
                Kind::View { snapshot } => Err(Error::invalid(format!(
                    "volume {id} shows snapshot {snapshot}: make the volume from the snapshot itself"
                ))),
            }
        }
    }
}

/// A clone is at least as large as what it is made from, and just as large when nothing else is asked for.
fn clone_size(has: Bytes, size: Option<Bytes>, limit: Option<Bytes>) -> Result<Bytes> {
    let wrong = match (size, limit) {
        (Some(size), _) if size < has => format!("of {size}"),
        (_, Some(limit)) if limit < has => format!("of at most {limit}"),
        _ => return Ok(size.unwrap_or(has)),
    };
    Err(Error::new(Class::OutOfRange, format!("a volume {wrong} cannot hold its source, which has {has}")))
}

/// A view is as large as its snapshot, neither more nor less.
fn check_view_size(snapshot: &Snapshot, size: Option<Bytes>, limit: Option<Bytes>) -> Result<()> {
    let Snapshot { id, size: has, .. } = snapshot;
    let wrong = match (size, limit) {
        (Some(size), _) if size > *has => format!("at least {size}"),
        (_, Some(limit)) if limit < *has => format!("at most {limit}"),
        _ => return Ok(()),
    };
    let message = format!("a volume of {wrong} cannot show snapshot {id}, which has {has}");
    Err(Error::new(Class::OutOfRange, message))
}

/// Least and most bytes; zero stands for no wish.
fn range(range: Option<&CapacityRange>) -> Result<(Option<Bytes>, Option<Bytes>)> {
    let Some(range) = range else { return Ok((None, None)) };
    let bytes = |field: &str, value: i64| match u64::try_from(value) {
        Ok(0) => Ok(None),
        Ok(value) => Ok(Some(Bytes(value))),
        Err(_) => Err(Error::invalid(format!("{field} is {value}, less than zero"))),
    };
    let (required, limit) =
        (bytes("required_bytes", range.required_bytes)?, bytes("limit_bytes", range.limit_bytes)?);
    if let (Some(required), Some(limit)) = (required, limit)
        && required > limit
    {
        return Err(Error::invalid(format!("required_bytes, {required}, is more than limit_bytes, {limit}")));
    }
    Ok((required, limit))
}

/// As the protocol counts bytes. No disk is that large: the kernel's own limit is 2^63 bytes.
pub(in crate::csi) fn signed(bytes: Bytes) -> i64 {
    i64::try_from(bytes.0).unwrap_or(i64::MAX)
}

fn answer(volume: &Volume, format: &Format) -> ProtoVolume {
    let content_source = match &volume.kind {
        Kind::Mirror { .. } => None,
        Kind::View { snapshot } => {
            let source = SnapshotSource { snapshot_id: snapshot.clone() };
            Some(VolumeContentSource { r#type: Some(Source::Snapshot(source)) })
        }
    };
    ProtoVolume {
        capacity_bytes: signed(volume.size),
        volume_id: volume.id.clone(),
        volume_context: format.context(),
        content_source,
        accessible_topology: vec![topology::of(&volume.node)],
    }
}

/// DeleteVolume.
///
/// # Errors
/// It is in use, or has snapshots.
pub async fn delete<B: Backend>(
    backend: &B,
    request: &DeleteVolumeRequest,
    deadline: Deadline,
) -> Result<DeleteVolumeResponse> {
    backend.delete_volume(limits::required("volume_id", &request.volume_id)?, deadline).await?;
    Ok(DeleteVolumeResponse {})
}

/// The volume of an id, or `NotFound`.
///
/// # Errors
/// There is none.
async fn existing<B: Backend>(backend: &B, id: &str) -> Result<Volume> {
    let volume = backend.get_volume(limits::required("volume_id", id)?).await?;
    volume.ok_or_else(|| Error::not_found(format!("there is no volume {id:?}")))
}

/// ValidateVolumeCapabilities: confirmed, or a message that says why not.
///
/// # Errors
/// The volume does not exist, or nothing is asked.
pub async fn validate<B: Backend>(
    backend: &B,
    request: ValidateVolumeCapabilitiesRequest,
) -> Result<ValidateVolumeCapabilitiesResponse> {
    limits::required("volume_id", &request.volume_id)?;
    if request.volume_capabilities.is_empty() {
        return Err(Error::invalid("volume_capabilities is missing"));
    }
    let volume = existing(backend, &request.volume_id).await?;
    match supports(&volume, &request) {
        Ok(()) => Ok(ValidateVolumeCapabilitiesResponse {
            confirmed: Some(validate_volume_capabilities_response::Confirmed {
                volume_context: request.volume_context,
                volume_capabilities: request.volume_capabilities,
                parameters: request.parameters,
                mutable_parameters: request.mutable_parameters,
            }),
            message: String::new(),
        }),
        Err(why) => Ok(ValidateVolumeCapabilitiesResponse { confirmed: None, message: why.message }),
    }
}

fn supports(volume: &Volume, request: &ValidateVolumeCapabilitiesRequest) -> Result<()> {
    let capabilities = Capability::read_all(&request.volume_capabilities)?;
    Format::from_context(&request.volume_context)?;
    let change = params::change(&request.mutable_parameters)?;
    let params = VolumeParams::read(&request.parameters)?.overridden(&change)?;
    let id = &volume.id;
    match volume.kind {
        Kind::View { .. } if capabilities.iter().any(|capability| capability.mode != Mode::Reader) => {
            Err(Error::invalid(format!("volume {id} shows a snapshot and can only be read")))
        }
        Kind::Mirror { images } if !request.parameters.is_empty() && images != params.images => {
            Err(Error::invalid(format!("volume {id} has {images} images, not {}", params.images)))
        }
        Kind::View { .. } | Kind::Mirror { .. } => Ok(()),
    }
}

/// ListVolumes.
///
/// # Errors
/// A token that was not given out.
pub async fn list<B: Backend>(backend: &B, request: &ListVolumesRequest) -> Result<ListVolumesResponse> {
    let volumes = backend.list_volumes().await?;
    let (volumes, next_token) =
        page(volumes, |volume| &volume.id, request.max_entries, &request.starting_token)?;
    let entry = |volume: &Volume| list_volumes_response::Entry {
        volume: Some(answer(volume, &Format::default())),
        status: None,
    };
    Ok(ListVolumesResponse { entries: volumes.iter().map(entry).collect(), next_token })
}

/// ControllerGetVolume.
///
/// # Errors
/// The volume does not exist.
pub async fn get<B: Backend>(
    backend: &B,
    request: &ControllerGetVolumeRequest,
) -> Result<ControllerGetVolumeResponse> {
    let volume = existing(backend, &request.volume_id).await?;
    Ok(ControllerGetVolumeResponse {
        volume: Some(answer(&volume, &Format::default())),
        status: Some(controller_get_volume_response::VolumeStatus::default()),
    })
}

/// GetCapacity: what fits of volumes with the parameters' number of images, on the node and in the pool that are named.
///
/// # Errors
/// Parameters or capabilities that no volume can have.
pub async fn capacity<B: Backend>(backend: &B, request: &GetCapacityRequest) -> Result<GetCapacityResponse> {
    if !request.volume_capabilities.is_empty() {
        Capability::read_all(&request.volume_capabilities)?;
    }
    let VolumeParams { images, pool, .. } = VolumeParams::read(&request.parameters)?;
    let node = request.accessible_topology.as_ref().and_then(topology::node).map(str::to_owned);
    let wish = CapacityWish { images, pool, node };
    let capacity = backend.capacity(&wish).await?;
    Ok(GetCapacityResponse {
        available_capacity: signed(capacity.available),
        maximum_volume_size: Some(signed(capacity.largest)),
        minimum_volume_size: None,
    })
}

/// ControllerModifyVolume.
///
/// # Errors
/// The volume does not exist, is a view, a key is unknown, or what it has now is in the way.
pub async fn modify<B: Backend>(
    backend: &B,
    request: &ControllerModifyVolumeRequest,
    deadline: Deadline,
) -> Result<ControllerModifyVolumeResponse> {
    let id = limits::required("volume_id", &request.volume_id)?;
    let volume = existing(backend, id).await?;
    let change = params::change(&request.mutable_parameters)?;
    if let Kind::View { snapshot } = volume.kind {
        let message = format!("volume {id} shows snapshot {snapshot} and cannot be modified");
        return Err(Error::precondition(message));
    }
    backend.modify_volume(id, &change, deadline).await?;
    Ok(ControllerModifyVolumeResponse {})
}

/// ControllerExpandVolume. A mounted file system is grown by the node afterwards.
///
/// # Errors
/// The volume does not exist, is a view, has snapshots, or there is no space.
pub async fn expand<B: Backend>(
    backend: &B,
    request: &ControllerExpandVolumeRequest,
    deadline: Deadline,
) -> Result<ControllerExpandVolumeResponse> {
    let id = limits::required("volume_id", &request.volume_id)?;
    let (min, limit) = range(request.capacity_range.as_ref())?;
    let min = min.or(limit).ok_or_else(|| Error::invalid("capacity_range is missing"))?;
    if let Some(capability) = &request.volume_capability {
        Capability::read(capability)?;
    }
    let volume = existing(backend, id).await?;
    if let Kind::View { snapshot } = volume.kind {
        let message = format!("volume {id} shows snapshot {snapshot} and cannot grow");
        return Err(Error::precondition(message));
    }
    let size = backend.expand_volume(id, min, limit, deadline).await?;
    Ok(ControllerExpandVolumeResponse { capacity_bytes: signed(size), node_expansion_required: true })
}
