//! Pages, capacity.

use splitmirror::csi::proto::{
    ControllerGetVolumeRequest, GetCapacityRequest, GetSnapshotRequest, ListSnapshotsRequest,
    ListVolumesRequest,
};
use tonic::Code;

use crate::harness::{Cluster, refused, topology, view, volume};
use crate::nodes::Act;

const GIB: i64 = 1 << 30;

#[test]
fn volumes_and_snapshots_are_listed_in_pages() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        for n in 0..5 {
            driver.volume(&format!("pvc-{n}")).await;
            driver.snapshot(&format!("s-{n}"), &format!("pvc-{n}")).await;
        }
        driver.create(view("view", "s-0")).await.expect("a view takes no room");
        let (mut volumes, mut starting_token) = (Vec::new(), String::new());
        loop {
            let request = ListVolumesRequest { max_entries: 2, starting_token };
            let page = driver.controller.list_volumes(request).await.expect("a page").into_inner();
            assert!(page.entries.len() <= 2);
            volumes.extend(page.entries.into_iter().map(|entry| entry.volume.expect("told").volume_id));
            starting_token = page.next_token;
            if starting_token.is_empty() {
                break;
            }
        }
        assert_eq!(volumes, ["pvc-0", "pvc-1", "pvc-2", "pvc-3", "pvc-4", "view"]);
        let odd = ListVolumesRequest { max_entries: 0, starting_token: "x".into() };
        refused(driver.controller.list_volumes(odd).await, Code::Aborted, "starting_token");

        let of = ListSnapshotsRequest { source_volume_id: "pvc-3".into(), ..Default::default() };
        let listed = driver.controller.list_snapshots(of).await.expect("a page").into_inner().entries;
        let ids: Vec<_> = listed.into_iter().map(|entry| entry.snapshot.expect("told").snapshot_id).collect();
        assert_eq!(ids, ["s-3"]);
    });
}

#[test]
fn what_is_not_made_yet_or_merging_is_not_listed() {
    let cluster = Cluster::new();
    cluster.life(async |driver| {
        driver.volume("pvc-1").await;
        driver.snapshot("s", "pvc-1").await;
        cluster.nodes.act(Act::MergeSlowly);
        driver.merge("s").await.expect("the merge has begun");
        cluster.nodes.act(Act::Ignore);
        refused(driver.create(volume("pvc-2")).await, Code::Aborted, "is being made");
        let volumes = driver.controller.list_volumes(ListVolumesRequest::default()).await.expect("a page");
        assert_eq!(volumes.into_inner().entries.len(), 1);
        let snapshots =
            driver.controller.list_snapshots(ListSnapshotsRequest::default()).await.expect("a page");
        assert_eq!(snapshots.into_inner().entries.len(), 0);
        let get = GetSnapshotRequest { snapshot_id: "s".into(), ..Default::default() };
        refused(driver.controller.get_snapshot(get).await, Code::NotFound, "no snapshot \"s\"");
        let get = ControllerGetVolumeRequest { volume_id: "pvc-1".into() };
        let told = driver.controller.controller_get_volume(get).await.expect("there").into_inner();
        assert_eq!(told.volume.expect("told").accessible_topology, [topology("b")]);
    });
}

#[test]
fn capacity_is_told_for_each_segment_and_class() {
    let cluster = Cluster::new();
    cluster.pool("a", "slow", "10Gi");
    cluster.life(async |driver| {
        let mut capacity = async |node: Option<&str>, parameters: &[(&str, &str)]| {
            let request = GetCapacityRequest {
                accessible_topology: node.map(topology),
                parameters: parameters.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
                ..Default::default()
            };
            let told = driver.controller.get_capacity(request).await.expect("told").into_inner();
            (told.available_capacity / GIB, told.maximum_volume_size.expect("told") / GIB)
        };
        assert_eq!(capacity(Some("a"), &[]).await, (110, 100));
        assert_eq!(capacity(Some("a"), &[("splitmirror.io/pool", "slow")]).await, (10, 10));
        assert_eq!(capacity(Some("b"), &[("splitmirror.io/pool", "slow")]).await, (0, 0));
        assert_eq!(capacity(Some("a"), &[("splitmirror.io/images", "4")]).await, (0, 0));
        assert_eq!(capacity(Some("x"), &[]).await, (0, 0));
        assert_eq!(capacity(None, &[]).await, (360, 200));
    });
}
