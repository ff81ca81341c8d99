//! Groups that are made, extended, adopted and refused; and two agents of one name.

use serde_json::{Value, json};
use splitmirror::engine::pool;
use splitmirror::units::{Bytes, Sectors};

use crate::harness::{Machine, NODE, VG, volume};

fn pool_object(name: &str, group: &str, devices: &[&str]) -> Value {
    json!({
        "apiVersion": "splitmirror.io/v1alpha1", "kind": "MirrorPool", "metadata": {"name": name},
        "spec": {"node": NODE, "volumeGroup": group, "devices": devices},
    })
}

fn devices(pool: &Value) -> Vec<&str> {
    let disks = pool["status"]["disks"].as_array().expect("a pool has disks");
    disks.iter().map(|disk| disk["device"].as_str().expect("a path")).collect()
}

/// Puts the mark of an ext4 file system on a disk.
fn write_on(machine: &Machine, disk: &str) {
    let mut sector = [0; 512];
    sector[56..58].copy_from_slice(&[0x53, 0xef]);
    machine.host.poke(disk, Sectors(2), &sector);
}

#[test]
fn the_files_pool_is_made_and_told_with_what_fits() {
    let machine = Machine::new();
    machine.life(async |agent| {
        agent.condition("mirrorpools", "node-a.vg", "Ready", "True", "Open").await;
        agent.condition("mirrorpools", "node-a.vg", "Degraded", "False", "Whole").await;
        let pool = machine.server.get("mirrorpools", "node-a.vg").expect("a pool");
        assert_eq!(
            pool["spec"],
            json!({"node": NODE, "volumeGroup": VG, "devices": ["/dev/sda", "/dev/sdb", "/dev/sdc"]})
        );
        assert_eq!(devices(&pool), ["/dev/sda", "/dev/sdb", "/dev/sdc"]);
        let status = &pool["status"];
        assert_eq!(
            (&status["size"], &status["free"], &status["diskCount"]),
            (&"36Mi".into(), &"36Mi".into(), &3.into())
        );
        let fits: Vec<_> =
            status["capacity"].as_array().expect("told").iter().map(|fits| fits["images"].clone()).collect();
        assert_eq!(fits, [1, 2, 3]);
        agent.rest().await;
        machine.server.clear_log();
        agent.rest().await;
        assert_eq!(machine.server.writes(), []);
    });
    machine.killed();
    machine.life(async |agent| {
        agent.rest().await;
        assert_eq!(machine.server.writes(), [], "a start that finds all as it was writes nothing");
    });
    machine.check();
}

#[test]
fn an_object_adds_a_disk_to_the_files_pool() {
    let machine = Machine::with_pool();
    machine.life(async |agent| {
        agent.condition("mirrorpools", "node-a.vg", "Ready", "True", "Open").await;
        let devices = json!({"spec": {"devices": ["/dev/sda", "/dev/sdb", "/dev/sdc", "/dev/sdd"]}});
        machine.server.merge("mirrorpools", "node-a.vg", &devices);
        machine
            .server
            .until("a disk more", |server| {
                let pool = server.get("mirrorpools", "node-a.vg")?;
                (pool["status"]["diskCount"] == 4).then_some(())
            })
            .await;
    });
    machine.check();
}

#[test]
fn a_disk_that_is_not_blank_is_left_alone_unless_it_may_be_wiped() {
    let machine = Machine::with_pool();
    write_on(&machine, "/dev/sdd");
    let before = machine.host.peek("/dev/sdd", Sectors(0), Sectors(64));
    machine.server.put("mirrorpools", &pool_object("node-a.vg", VG, &["/dev/sdd"]));
    machine.ask_for_volume("pvc-1");
    machine.life(async |agent| {
        let why = agent.condition("mirrorpools", "node-a.vg", "Resized", "False", "Precondition").await;
        assert!(why.contains("/dev/sdd") && why.contains("ext4"), "{why}");
        agent.condition("mirrorpools", "node-a.vg", "Ready", "True", "Open").await;
        agent.phase("mirrorvolumes", "pvc-1", "Ready").await;
        let event = agent.event("PoolRefused").await;
        assert_eq!(event["regarding"]["name"], "node-a.vg");
        agent.rest().await;
        assert_eq!(machine.host.peek("/dev/sdd", Sectors(0), Sectors(64)), before);
        machine.server.merge("mirrorpools", "node-a.vg", &json!({"spec": {"wipe": ["/dev/sdd"]}}));
        machine
            .server
            .until("a disk more", |server| {
                let pool = server.get("mirrorpools", "node-a.vg")?;
                let resized = pool["status"]["conditions"].to_string().contains("Resized");
                (pool["status"]["diskCount"] == 4 && !resized).then_some(())
            })
            .await;
    });
    machine.check();
}

#[test]
fn a_group_of_used_disks_is_not_made() {
    let machine = Machine::with_pool();
    write_on(&machine, "/dev/sdd");
    machine.server.put("mirrorpools", &pool_object("used", "other", &["/dev/sda", "/dev/sdd"]));
    machine.server.put("mirrorpools", &pool_object("none", "missing", &[]));
    machine.life(async |agent| {
        let why = agent.condition("mirrorpools", "used", "Ready", "False", "Precondition").await;
        assert!(why.contains("/dev/sda") && why.contains("volume group vg"), "{why}");
        let why = agent.condition("mirrorpools", "none", "Ready", "False", "NotFound").await;
        assert!(why.contains("no volume group missing"), "{why}");
        agent.condition("mirrorpools", "node-a.vg", "Ready", "True", "Open").await;
    });
    machine.check();
}

#[test]
fn an_existing_group_is_adopted_by_an_object_and_let_go_with_it() {
    let machine = Machine::with_pool();
    let disks = [machine.host.add_disk(Bytes::mib(16)), machine.host.add_disk(Bytes::mib(16))];
    let options = pool::Options { extent_size: Bytes::kib(512), ..pool::Options::default() };
    pool::create(&machine.host, &"second".parse().expect("legal"), &disks, &options).expect("blank");
    machine.server.put("mirrorpools", &pool_object("by-hand", "second", &[]));
    let mut there = volume("pvc-2", 2);
    there["spec"]["pool"] = "second".into();
    machine.server.put("mirrorvolumes", &there);
    machine.life(async |agent| {
        agent.condition("mirrorpools", "by-hand", "Ready", "True", "Open").await;
        agent.phase("mirrorvolumes", "pvc-2", "Ready").await;
        machine.server.remove("mirrorpools", "by-hand");
        agent.condition("mirrorpools", "node-a.second", "Ready", "True", "Open").await;
        machine.ask_to_delete("mirrorvolumes", "pvc-2");
        agent.gone("mirrorvolumes", "pvc-2").await;
        machine.server.remove("mirrorpools", "node-a.second");
        agent.rest().await;
        assert_eq!(machine.server.list("mirrorpools").len(), 1, "an empty group is its object's alone");
    });
    machine.check();
}

#[test]
fn a_pool_that_comes_late_is_opened_then() {
    let machine = Machine::with_pool();
    for disk in ["/dev/sda", "/dev/sdb", "/dev/sdc"] {
        machine.host.break_disk(disk.as_ref(), true);
    }
    machine.ask_for_volume("pvc-1");
    machine.life(async |agent| {
        let pool = machine
            .server
            .until("trouble", |server| {
                let pool = server.get("mirrorpools", "node-a.vg")?;
                (pool["status"]["conditions"][0]["status"] == "False").then_some(pool)
            })
            .await;
        assert_eq!(pool["status"]["conditions"][0]["type"], "Ready");
        agent.stage("pvc-1").await.expect_err("its pool is not there");
        for disk in ["/dev/sda", "/dev/sdb", "/dev/sdc"] {
            machine.host.break_disk(disk.as_ref(), false);
        }
        agent.phase("mirrorvolumes", "pvc-1", "Ready").await;
    });
    machine.check();
}

#[test]
fn a_second_agent_of_one_name_serves_its_volumes_and_writes_nothing() {
    let first = Machine::with_pool();
    let second = Machine { server: first.server.clone(), identity: "boot-2".into(), ..Machine::with_pool() };
    first.ask_for_volume("pvc-1");
    first.life(async |agent| {
        agent.phase("mirrorvolumes", "pvc-1", "Ready").await;
        let theirs = second.engine().create_volume(&splitmirror::volume::spec::VolumeSpec {
            name: "pvc-2".into(),
            size: Bytes::mib(2),
            limit: None,
            images: 2,
            region_size: Bytes::kib(8),
            min_recovery_rate: None,
            max_recovery_rate: None,
        });
        theirs.expect("room");
        let rival = second.agent();
        rival.stage("pvc-2").await.expect("its own disks tell where it is");
        agent.rest().await;
        first.ask_for_volume("pvc-3");
        agent.phase("mirrorvolumes", "pvc-3", "Ready").await;
        assert!(first.server.get("mirrorvolumes", "pvc-2").is_none());
        assert_eq!(second.volumes().len(), 1);
        rival.stop().await;
    });
    first.check();
    second.check();
}

#[test]
fn the_lease_of_an_agent_that_is_dead_is_taken_over() {
    let machine = Machine::with_pool();
    machine.server.put("leases", &json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "splitmirror-node-node-a", "namespace": "splitmirror"},
        "spec": {"holderIdentity": "boot-0", "leaseDurationSeconds": 40, "renewTime": "2020-01-01T00:00:00.000000Z"},
    }));
    machine.ask_for_volume("pvc-1");
    machine.life(async |agent| {
        agent.phase("mirrorvolumes", "pvc-1", "Ready").await;
        let lease = machine.server.get("leases", "splitmirror-node-node-a").expect("a lease");
        assert_eq!(lease["spec"]["holderIdentity"], "boot-1");
        // Another one takes it, as after a long time without the API server.
        let theirs =
            json!({"spec": {"holderIdentity": "boot-9", "renewTime": "2999-01-01T00:00:00.000000Z"}});
        machine.server.merge("leases", "splitmirror-node-node-a", &theirs);
        agent.rest().await;
        machine.ask_for_volume("pvc-2");
        agent.rest().await;
        let untouched = machine.server.get("mirrorvolumes", "pvc-2").expect("asked for");
        assert_eq!(untouched["status"], Value::Null);
        agent.stage("pvc-1").await.expect("volumes are served all the same");
        machine.server.merge("leases", "splitmirror-node-node-a", &json!({"spec": {"holderIdentity": ""}}));
        agent.phase("mirrorvolumes", "pvc-2", "Ready").await;
    });
}
