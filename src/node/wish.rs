//! What a pool should be: what the file, its MirrorPool and the disks say, taken together.

use crate::api::MirrorPoolSpec;
use crate::ids::VgName;
use crate::units::Bytes;

/// What a pool should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolWish {
    /// The volume group.
    pub volume_group: VgName,
    /// Disks that should be in it. None: it must exist.
    pub devices: Vec<String>,
    /// Disks whose old contents may be lost.
    pub wipe: Vec<String>,
    /// Size of an extent, when it is made.
    pub extent_size: Option<Bytes>,
}

impl PoolWish {
    /// A group that exists, as it is.
    #[must_use]
    pub fn existing(volume_group: VgName) -> Self {
        Self { volume_group, devices: Vec::new(), wipe: Vec::new(), extent_size: None }
    }

    /// With what a MirrorPool wishes too.
    #[must_use]
    pub fn and(mut self, spec: &MirrorPoolSpec) -> Self {
        add(&mut self.devices, &spec.devices);
        add(&mut self.wipe, &spec.wipe);
        self.extent_size = self.extent_size.or(spec.extent_size.map(|size| size.0));
        self
    }

    /// As the spec of its MirrorPool on `node`.
    #[must_use]
    pub fn spec(&self, node: &str) -> MirrorPoolSpec {
        MirrorPoolSpec {
            node: node.to_owned(),
            volume_group: self.volume_group.clone(),
            devices: self.devices.clone(),
            extent_size: self.extent_size.map(Into::into),
            wipe: self.wipe.clone(),
        }
    }

    /// Whether a MirrorPool says all of it.
    #[must_use]
    pub fn is_said_by(&self, spec: &MirrorPoolSpec) -> bool {
        let all = |wanted: &[String], said: &[String]| wanted.iter().all(|device| said.contains(device));
        all(&self.devices, &spec.devices) && all(&self.wipe, &spec.wipe)
    }
}

fn add(to: &mut Vec<String>, more: &[String]) {
    for one in more {
        if !to.contains(one) {
            to.push(one.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_and_an_object_are_taken_together_and_said_by_one_another() {
        let vg: VgName = "vg".parse().expect("legal");
        let of = |devices: &[&str]| PoolWish {
            devices: devices.iter().map(|device| (*device).to_owned()).collect(),
            ..PoolWish::existing(vg.clone())
        };
        let spec = of(&["/dev/b", "/dev/c"]).spec("node");
        assert_eq!(of(&["/dev/a", "/dev/b"]).and(&spec).devices, ["/dev/a", "/dev/b", "/dev/c"]);
        assert!(of(&["/dev/c"]).is_said_by(&spec));
        assert!(!of(&["/dev/a", "/dev/b"]).is_said_by(&spec));
    }
}
