//! Identity, and volumes by request.

use std::time::{Duration, Instant};

use splitmirror::csi::backend::Origin;
use splitmirror::csi::backend::{Deadline, Nodes, ObjectRef};
use splitmirror::csi::proto::plugin_capability::Type as PluginType;
use splitmirror::csi::proto::plugin_capability::service::Type as ServiceType;
use splitmirror::csi::proto::volume_capability::access_mode::Mode;
use splitmirror::csi::proto::volume_content_source::{SnapshotSource, Type as Source, VolumeSource};
use splitmirror::csi::proto::{
    ControllerExpandVolumeRequest, ControllerGetVolumeRequest, ControllerPublishVolumeRequest,
    CreateVolumeRequest, DeleteVolumeRequest, GetCapacityRequest, GetPluginCapabilitiesRequest,
    GetPluginInfoRequest, ListVolumesRequest, ProbeRequest, TopologyRequirement,
    ValidateVolumeCapabilitiesRequest, VolumeContentSource,
};
use splitmirror::csi::topology;
use tonic::Code;

use crate::fake::DISK;
use crate::harness::{Driver, NODE, block, code, mount, range, volume_request};

const MIB: i64 = 1 << 20;

fn delete(volume_id: &str) -> DeleteVolumeRequest {
    DeleteVolumeRequest { volume_id: volume_id.to_owned(), ..DeleteVolumeRequest::default() }
}

fn from_snapshot(name: &str, snapshot_id: &str, mode: Mode) -> CreateVolumeRequest {
    let source = Source::Snapshot(SnapshotSource { snapshot_id: snapshot_id.to_owned() });
    CreateVolumeRequest {
        volume_capabilities: vec![mount(mode, "")],
        volume_content_source: Some(VolumeContentSource { r#type: Some(source) }),
        ..volume_request(name)
    }
}

#[tokio::test]
async fn the_plugin_tells_who_it_is_and_what_it_can() {
    let mut driver = Driver::start().await;
    let info = driver.identity.get_plugin_info(GetPluginInfoRequest {}).await.expect("always").into_inner();
    assert_eq!(info.name, "splitmirror.io");
    assert!(!info.vendor_version.is_empty());
    let probe = driver.identity.probe(ProbeRequest {}).await.expect("always").into_inner();
    assert_eq!(probe.ready, Some(true));
    let request = GetPluginCapabilitiesRequest {};
    let capabilities = driver.identity.get_plugin_capabilities(request).await.expect("always").into_inner();
    let constrained = capabilities.capabilities.iter().any(|capability| {
        matches!(&capability.r#type, Some(PluginType::Service(service))
            if service.r#type() == ServiceType::VolumeAccessibilityConstraints)
    });
    assert!(constrained);
}

#[tokio::test]
async fn a_volume_asked_for_twice_is_one_volume() {
    let mut driver = Driver::start().await;
    let first = driver.volume("pvc-1").await;
    assert_eq!(first, driver.volume("pvc-1").await);
    assert_eq!(first.capacity_bytes, 64 * MIB);
    assert_eq!(first.accessible_topology, [topology::of(NODE)]);
    let mut driver = driver.restart().await;
    assert_eq!(first, driver.volume("pvc-1").await);
}

#[tokio::test]
async fn the_volume_context_tells_the_node_how_to_format() {
    let mut driver = Driver::start().await;
    let mut request = volume_request("pvc-1");
    request.parameters.insert("csi.storage.k8s.io/fstype".into(), "xfs".into());
    request.parameters.insert("splitmirror.io/mkfsOptions".into(), "-K".into());
    let volume =
        driver.controller.create_volume(request).await.expect("fits").into_inner().volume.expect("told");
    assert_eq!(volume.volume_context["splitmirror.io/fsType"], "xfs");
    assert_eq!(volume.volume_context["splitmirror.io/mkfsOptions"], "-K");
}

#[tokio::test]
async fn the_backend_is_told_where_for_whom_and_until_when() {
    let mut driver = Driver::start().await;
    driver.volume("pvc-1").await;
    let (wish, deadline) = driver.machine.volumes.asked().expect("it was asked");
    assert_eq!((wish.nodes, wish.claim, wish.pool), (Nodes::default(), None, None));
    assert_eq!(deadline, Deadline::default());
    let mut request = volume_request("pvc-2");
    for (key, value) in [
        ("splitmirror.io/pool", "vg"),
        ("csi.storage.k8s.io/pvc/name", "data"),
        ("csi.storage.k8s.io/pvc/namespace", "db"),
    ] {
        request.parameters.insert(key.to_owned(), value.to_owned());
    }
    request.accessibility_requirements = Some(TopologyRequirement {
        requisite: vec![topology::of(NODE), topology::of("node-b")],
        preferred: vec![topology::of("node-b")],
    });
    let mut request = tonic::Request::new(request);
    request.set_timeout(Duration::from_secs(3600));
    driver.controller.create_volume(request).await.expect("it may be here");
    let (wish, deadline) = driver.machine.volumes.asked().expect("it was asked");
    assert_eq!(wish.nodes.requisite, [NODE, "node-b"]);
    assert_eq!(wish.nodes.preferred, ["node-b"]);
    assert_eq!(wish.claim, Some(ObjectRef { namespace: "db".into(), name: "data".into() }));
    assert_eq!(wish.pool.map(String::from).as_deref(), Some("vg"));
    let far = Instant::now() + Duration::from_secs(7200);
    assert!(deadline.or_at(far) < far);
}

#[tokio::test]
async fn each_bad_request_for_a_volume_has_its_code() {
    let mut driver = Driver::start().await;
    driver.volume("taken").await;
    let good = || volume_request("pvc-1");
    let parameter = |key: &str, value: &str| CreateVolumeRequest {
        parameters: [(key.to_owned(), value.to_owned())].into(),
        ..good()
    };
    let used = |capability| CreateVolumeRequest { volume_capabilities: vec![capability], ..good() };
    let sized = |least, most| CreateVolumeRequest { capacity_range: range(least, most), ..good() };
    let disk = i64::try_from(DISK.0).expect("small");
    let elsewhere = TopologyRequirement { requisite: vec![topology::of("node-b")], preferred: Vec::new() };
    let volume_source = |volume_id: &str| CreateVolumeRequest {
        volume_content_source: Some(VolumeContentSource {
            r#type: Some(Source::Volume(VolumeSource { volume_id: volume_id.to_owned() })),
        }),
        ..good()
    };
    for (why, request, expected) in [
        ("no name", volume_request(""), Code::InvalidArgument),
        ("a name of 129 bytes", volume_request(&"x".repeat(129)), Code::InvalidArgument),
        ("a control character", volume_request("a\u{7}b"), Code::InvalidArgument),
        (
            "no capabilities",
            CreateVolumeRequest { volume_capabilities: vec![], ..good() },
            Code::InvalidArgument,
        ),
        ("many nodes", used(mount(Mode::MultiNodeMultiWriter, "")), Code::InvalidArgument),
        ("an odd file system", used(mount(Mode::SingleNodeWriter, "ntfs")), Code::InvalidArgument),
        ("readers of nothing", used(mount(Mode::MultiNodeReaderOnly, "")), Code::InvalidArgument),
        ("an unknown parameter", parameter("splitmirror.io/mirrors", "2"), Code::InvalidArgument),
        ("too few images", parameter("splitmirror.io/images", "0"), Code::InvalidArgument),
        ("a pool not served", parameter("splitmirror.io/pool", "other"), Code::InvalidArgument),
        ("parameters of 5 KiB", parameter("splitmirror.io/pool", &"x".repeat(5120)), Code::InvalidArgument),
        ("more images than disks", parameter("splitmirror.io/images", "4"), Code::ResourceExhausted),
        ("less than nothing", sized(-1, 0), Code::InvalidArgument),
        ("least above most", sized(2 * MIB, MIB), Code::InvalidArgument),
        ("less than an extent", sized(MIB, MIB), Code::OutOfRange),
        ("more than there is", sized(disk + 1, 0), Code::ResourceExhausted),
        (
            "another node",
            CreateVolumeRequest { accessibility_requirements: Some(elsewhere), ..good() },
            Code::ResourceExhausted,
        ),
        (
            "another size",
            CreateVolumeRequest { capacity_range: range(128 * MIB, 0), ..volume_request("taken") },
            Code::AlreadyExists,
        ),
        ("a snapshot that is not", from_snapshot("pvc-1", "no@such", Mode::SingleNodeWriter), Code::NotFound),
        ("a volume that is not", volume_source("no-such"), Code::NotFound),
        (
            "mutable parameters",
            CreateVolumeRequest { mutable_parameters: [("a".into(), "b".into())].into(), ..good() },
            Code::InvalidArgument,
        ),
    ] {
        let answer = driver.controller.create_volume(request).await;
        assert_eq!(code(&answer), expected, "{why}: {answer:?}");
    }
    let listed = driver.controller.list_volumes(ListVolumesRequest::default()).await.expect("always");
    assert_eq!(listed.into_inner().entries.len(), 1, "none of them made a volume");
}

#[tokio::test]
async fn unknown_parameters_are_named_in_the_message() {
    let mut driver = Driver::start().await;
    let mut request = volume_request("pvc-1");
    request.parameters.insert("imges".into(), "3".into());
    let error = driver.controller.create_volume(request).await.expect_err("unknown");
    assert!(error.message().contains("imges"), "{error:?}");
}

#[tokio::test]
async fn odd_names_of_128_bytes_make_volumes() {
    let mut driver = Driver::start().await;
    for name in ["x".repeat(128), "ü/ \"'\\@:%".repeat(12)] {
        let volume = driver.volume(&name).await;
        assert_eq!(volume.volume_id, driver.volume(&name).await.volume_id);
    }
}

#[tokio::test]
async fn a_reader_gets_a_view_of_a_snapshot() {
    let mut driver = Driver::start().await;
    let volume = driver.volume("pvc-1").await;
    let snapshot = driver.snapshot("snap-1", &volume.volume_id).await;
    for mode in [Mode::MultiNodeReaderOnly, Mode::SingleNodeReaderOnly] {
        let request = from_snapshot("view", &snapshot.snapshot_id, mode);
        let view = driver.controller.create_volume(request).await.expect("a reader").into_inner().volume;
        let view = view.expect("told");
        assert_eq!(view.capacity_bytes, volume.capacity_bytes);
        let source = Source::Snapshot(SnapshotSource { snapshot_id: snapshot.snapshot_id.clone() });
        assert_eq!(view.content_source, Some(VolumeContentSource { r#type: Some(source) }));
    }
    let larger = CreateVolumeRequest {
        capacity_range: range(65 * MIB, 0),
        ..from_snapshot("larger", &snapshot.snapshot_id, Mode::MultiNodeReaderOnly)
    };
    assert_eq!(code(&driver.controller.create_volume(larger).await), Code::OutOfRange);
    assert_eq!(
        code(&driver.controller.delete_volume(delete(&volume.volume_id)).await),
        Code::FailedPrecondition
    );
}

#[tokio::test]
async fn a_volume_that_is_written_to_is_made_from_a_snapshot_or_a_volume_as_large_as_that_or_larger() {
    let mut driver = Driver::start().await;
    let volume = driver.volume("pvc-1").await;
    let snapshot = driver.snapshot("snap-1", &volume.volume_id).await;
    let of_snapshot = from_snapshot("copy", &snapshot.snapshot_id, Mode::SingleNodeWriter);
    let source = Source::Volume(VolumeSource { volume_id: volume.volume_id.clone() });
    let of_volume = CreateVolumeRequest {
        volume_capabilities: vec![mount(Mode::SingleNodeWriter, "")],
        volume_content_source: Some(VolumeContentSource { r#type: Some(source) }),
        ..volume_request("twin")
    };
    for (request, origin) in [
        (of_snapshot, Origin::Snapshot(snapshot.snapshot_id.clone())),
        (of_volume, Origin::Volume(volume.volume_id.clone())),
    ] {
        let sized = |from, to| CreateVolumeRequest { capacity_range: range(from, to), ..request.clone() };
        for (from, to) in [(MIB, 0), (0, MIB)] {
            assert_eq!(code(&driver.controller.create_volume(sized(from, to)).await), Code::OutOfRange);
        }
        let made = driver.controller.create_volume(sized(0, 0)).await.expect("made").into_inner().volume;
        let made = made.expect("told");
        assert_eq!(made.capacity_bytes, volume.capacity_bytes);
        assert_eq!(made.content_source, request.volume_content_source);
        let asked = driver.machine.volumes.asked().expect("it was asked");
        assert_eq!(asked.0.origin, Some(origin));
        let larger = CreateVolumeRequest { name: format!("{}-larger", request.name), ..sized(80 * MIB, 0) };
        let larger = driver.controller.create_volume(larger).await.expect("made").into_inner().volume;
        assert_eq!(larger.expect("told").capacity_bytes, 80 * MIB);
    }
}

#[tokio::test]
async fn deleting_can_be_repeated_and_unknown_ids_are_gone_already() {
    let mut driver = Driver::start().await;
    let id = driver.volume("pvc-1").await.volume_id;
    for id in [&*id, &*id, "no-such", "a/b@c", &"x".repeat(500)] {
        assert_eq!(code(&driver.controller.delete_volume(delete(id)).await), Code::Ok, "{id}");
    }
    assert_eq!(code(&driver.controller.delete_volume(delete("")).await), Code::InvalidArgument);
}

#[tokio::test]
async fn lists_come_in_pages() {
    let mut driver = Driver::start().await;
    for name in ["a", "b", "c", "d", "e"] {
        driver.volume(name).await;
    }
    let mut seen = Vec::new();
    let mut starting_token = String::new();
    loop {
        let request = ListVolumesRequest { max_entries: 2, starting_token };
        let page = driver.controller.list_volumes(request).await.expect("a token of ours").into_inner();
        assert!(page.entries.len() <= 2);
        seen.extend(page.entries.into_iter().filter_map(|entry| entry.volume).map(|volume| volume.volume_id));
        starting_token = page.next_token;
        if starting_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, ["vol-1", "vol-2", "vol-3", "vol-4", "vol-5"]);
    let foreign = ListVolumesRequest { max_entries: 0, starting_token: "invalid-token".into() };
    assert_eq!(code(&driver.controller.list_volumes(foreign).await), Code::Aborted);
    let negative = ListVolumesRequest { max_entries: -1, starting_token: String::new() };
    assert_eq!(code(&driver.controller.list_volumes(negative).await), Code::InvalidArgument);
}

#[tokio::test]
async fn a_single_volume_is_found_by_its_id() {
    let mut driver = Driver::start().await;
    let volume = driver.volume("pvc-1").await;
    let get = |id: &str| ControllerGetVolumeRequest { volume_id: id.to_owned() };
    let found =
        driver.controller.controller_get_volume(get(&volume.volume_id)).await.expect("there").into_inner();
    assert_eq!(found.volume.map(|volume| volume.volume_id), Some(volume.volume_id));
    assert!(found.status.is_some());
    assert_eq!(code(&driver.controller.controller_get_volume(get("no")).await), Code::NotFound);
    assert_eq!(code(&driver.controller.controller_get_volume(get("")).await), Code::InvalidArgument);
}

#[tokio::test]
async fn capacity_is_of_this_node_and_pool_and_number_of_images() {
    let mut driver = Driver::start().await;
    let disk = i64::try_from(DISK.0).expect("small");
    let request = |node: &str, key: &str, value: &str| GetCapacityRequest {
        accessible_topology: Some(topology::of(node)),
        parameters: [(key.to_owned(), value.to_owned())].into(),
        ..GetCapacityRequest::default()
    };
    for (request, expected) in [
        (GetCapacityRequest::default(), disk),
        (request(NODE, "splitmirror.io/images", "3"), disk),
        (request(NODE, "splitmirror.io/images", "4"), 0),
        (request("node-b", "splitmirror.io/images", "3"), 0),
        (request(NODE, "splitmirror.io/pool", "other"), 0),
    ] {
        let answer = driver.controller.get_capacity(request.clone()).await.expect("always").into_inner();
        assert_eq!(
            (answer.available_capacity, answer.maximum_volume_size),
            (expected, Some(expected)),
            "{request:?}"
        );
    }
    let answer = driver.controller.get_capacity(request(NODE, "nonsense", "1")).await;
    assert_eq!(code(&answer), Code::InvalidArgument);
}

#[tokio::test]
async fn capabilities_are_confirmed_or_refused_with_a_reason() {
    let mut driver = Driver::start().await;
    let volume_id = driver.volume("pvc-1").await.volume_id;
    let request = |capability| ValidateVolumeCapabilitiesRequest {
        volume_id: volume_id.clone(),
        volume_capabilities: vec![capability],
        ..ValidateVolumeCapabilitiesRequest::default()
    };
    for (capability, confirmed) in [
        (mount(Mode::SingleNodeWriter, "ext4"), true),
        (block(Mode::SingleNodeMultiWriter), true),
        (mount(Mode::MultiNodeMultiWriter, ""), false),
        (mount(Mode::SingleNodeWriter, "ntfs"), false),
    ] {
        let answer = driver.controller.validate_volume_capabilities(request(capability)).await;
        let answer = answer.expect("the volume exists").into_inner();
        assert_eq!(answer.confirmed.is_some(), confirmed);
        assert_eq!(answer.message.is_empty(), confirmed);
    }
    let none =
        ValidateVolumeCapabilitiesRequest { volume_id, ..ValidateVolumeCapabilitiesRequest::default() };
    assert_eq!(code(&driver.controller.validate_volume_capabilities(none).await), Code::InvalidArgument);
    let unknown = ValidateVolumeCapabilitiesRequest {
        volume_id: "no".into(),
        volume_capabilities: vec![block(Mode::SingleNodeWriter)],
        ..ValidateVolumeCapabilitiesRequest::default()
    };
    assert_eq!(code(&driver.controller.validate_volume_capabilities(unknown).await), Code::NotFound);
}

#[tokio::test]
async fn a_volume_grows_and_asking_again_changes_nothing() {
    let mut driver = Driver::start().await;
    let volume_id = driver.volume("pvc-1").await.volume_id;
    let request = |id: &str, least, most| ControllerExpandVolumeRequest {
        volume_id: id.to_owned(),
        capacity_range: range(least, most),
        ..ControllerExpandVolumeRequest::default()
    };
    for _ in 0..2 {
        let answer = driver.controller.controller_expand_volume(request(&volume_id, 128 * MIB, 0)).await;
        let answer = answer.expect("there is space").into_inner();
        assert_eq!((answer.capacity_bytes, answer.node_expansion_required), (128 * MIB, true));
    }
    let no_range = ControllerExpandVolumeRequest { capacity_range: None, ..request(&volume_id, 0, 0) };
    for (request, expected) in [
        (request("", 1, 0), Code::InvalidArgument),
        (no_range, Code::InvalidArgument),
        (request("no", 1, 0), Code::NotFound),
        (request(&volume_id, MIB, 2 * MIB), Code::OutOfRange),
        (request(&volume_id, 1 << 50, 0), Code::ResourceExhausted),
    ] {
        assert_eq!(code(&driver.controller.controller_expand_volume(request).await), expected);
    }
    driver.snapshot("snap-1", &volume_id).await;
    let answer = driver.controller.controller_expand_volume(request(&volume_id, 256 * MIB, 0)).await;
    assert_eq!(code(&answer), Code::FailedPrecondition);
}

#[tokio::test]
async fn calls_that_are_not_built_say_so() {
    let mut driver = Driver::start().await;
    let answer = driver.controller.controller_publish_volume(ControllerPublishVolumeRequest::default()).await;
    assert_eq!(code(&answer), Code::Unimplemented);
}
