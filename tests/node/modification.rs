//! Volumes whose objects ask for other images, rates, or images that reads avoid.

use serde_json::json;

use crate::harness::Machine;

#[test]
fn a_volume_gets_the_images_and_rates_that_its_object_asks_for() {
    let machine = Machine::with_pool();
    machine.ask_for_volume("pvc-1");
    machine.life(async |agent| {
        agent.phase("mirrorvolumes", "pvc-1", "Ready").await;
        let ask =
            |spec: serde_json::Value| machine.server.merge("mirrorvolumes", "pvc-1", &json!({"spec": spec}));
        let until = async |what: &str, images: u64| {
            machine
                .server
                .until(what, |server| {
                    let status = server.get("mirrorvolumes", "pvc-1")?["status"].clone();
                    let changing = status["conditions"].to_string().contains("Modified");
                    (status["inSync"] == images && !changing).then_some(())
                })
                .await;
        };
        ask(json!({"images": 2, "minRecoveryRate": 500}));
        until("an image that left", 2).await;
        ask(json!({"images": 3, "minRecoveryRate": null}));
        until("an image that was added", 3).await;
        machine.ask_for_snapshot("pvc-1", "snap-1");
        agent.phase("mirrorsnapshots", "snap-1", "Ready").await;
        ask(json!({"images": 2}));
        let why = agent.condition("mirrorvolumes", "pvc-1", "Modified", "False", "Precondition").await;
        assert!(why.contains("snap-1"), "{why}");
        agent.event("ModificationRefused").await;
        machine.ask_to_delete("mirrorsnapshots", "snap-1");
        until("an image that left after its merge", 2).await;
    });
    machine.check();
}
