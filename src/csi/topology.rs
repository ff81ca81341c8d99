//! Where a volume can be used: on the node whose disks it lies on, and nowhere else.

use std::collections::HashMap;

use crate::csi::backend::Nodes;
use crate::csi::proto::{Topology, TopologyRequirement};

/// The one topology key: its value is the node's name.
pub const NODE_KEY: &str = "topology.splitmirror.io/node";

/// The topology of a node.
#[must_use]
pub fn of(node: &str) -> Topology {
    Topology { segments: HashMap::from([(NODE_KEY.to_owned(), node.to_owned())]) }
}

/// The node that a topology names. One without our key says nothing about nodes.
#[must_use]
pub fn node(topology: &Topology) -> Option<&str> {
    topology.segments.get(NODE_KEY).map(String::as_str)
}

/// The nodes that a caller requires and prefers. A requisite that names no node takes in all of them.
#[must_use]
pub fn nodes(requirement: Option<&TopologyRequirement>) -> Nodes {
    let Some(requirement) = requirement else { return Nodes::default() };
    let named: Option<Vec<String>> =
        requirement.requisite.iter().map(|topology| node(topology).map(str::to_owned)).collect();
    Nodes {
        requisite: named.unwrap_or_default(),
        preferred: requirement.preferred.iter().filter_map(node).map(str::to_owned).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Class;

    fn requirement(requisite: &[&str]) -> TopologyRequirement {
        TopologyRequirement {
            requisite: requisite.iter().map(|node| of(node)).collect(),
            preferred: vec![of("p")],
        }
    }

    #[test]
    fn a_volume_may_be_where_one_of_the_requisites_is() {
        assert_eq!(nodes(None).check("a"), Ok(()));
        assert_eq!(nodes(Some(&requirement(&[]))).check("a"), Ok(()));
        assert_eq!(nodes(Some(&requirement(&["b", "a"]))).check("a"), Ok(()));
        assert_eq!(nodes(Some(&requirement(&["b", "a"]))).preferred, ["p"]);
    }

    #[test]
    fn a_requisite_that_names_no_node_takes_in_all() {
        let mut required = requirement(&["b"]);
        required.requisite.push(Topology::default());
        assert_eq!(nodes(Some(&required)).check("a"), Ok(()));
    }

    #[test]
    fn elsewhere_is_resource_exhausted() {
        let error = nodes(Some(&requirement(&["b", "c"]))).check("a").expect_err("elsewhere");
        assert_eq!(error.class, Class::Exhausted);
        assert!(error.message.contains("[\"b\", \"c\"]"), "{error}");
    }
}
