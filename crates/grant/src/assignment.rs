//! An assignment: a node's word that a worker of its department reads for it.

use crate::envelope::Statement;
use crate::wire::{self, WireError};
use guildhall_model::{GrantId, PeerId, Role};
use guildhall_proto::grant::v1 as proto;

/// Says that `worker` reads for `node` under `grant`. It adds nothing to what the grant covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The grant that it is under.
    pub grant: GrantId,
    /// The node that the grant was made for, which signs.
    pub node: PeerId,
    /// The worker, of the node's own department.
    pub worker: PeerId,
}

impl Assignment {
    /// Whether its two peers are a node and a worker of one department of one council.
    #[must_use]
    pub fn stays_inside(&self) -> bool {
        let Self { node, worker, .. } = self;
        node.role == Role::Node
            && worker.role == Role::Worker
            && node.council == worker.council
            && node.department == worker.department
    }
}

impl Statement for Assignment {
    const PAYLOAD_TYPE: &'static str = "application/vnd.guildhall.assignment.v1";
    type Wire = proto::Assignment;

    fn to_wire(&self) -> proto::Assignment {
        proto::Assignment {
            grant_id: self.grant.to_string(),
            node: self.node.to_string(),
            worker: self.worker.to_string(),
        }
    }

    fn from_wire(w: proto::Assignment) -> Result<Self, WireError> {
        Ok(Self {
            grant: wire::name("grant_id", &w.grant_id)?,
            node: wire::peer("node", &w.node)?,
            worker: wire::peer("worker", &w.worker)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SigningKey;
    use crate::envelope::{EnvelopeError, sign, verify};

    fn assignment(worker: &str) -> Assignment {
        Assignment {
            grant: "g-1".parse().unwrap(),
            node: "spiffe://northmoor/parking/node/n1".parse().unwrap(),
            worker: worker.parse().unwrap(),
        }
    }

    #[test]
    fn an_assignment_reads_back_as_it_was_signed_and_by_nobody_elses_key() {
        let (key, other) = (
            SigningKey::generate().unwrap(),
            SigningKey::generate().unwrap(),
        );
        let said = assignment("spiffe://northmoor/parking/worker/w1");
        let envelope = sign(&said, &key);
        assert_eq!(verify::<Assignment>(&envelope, &[key.public()]), Ok(said));
        assert_eq!(
            verify::<Assignment>(&envelope, &[other.public()]),
            Err(EnvelopeError::NotSigned)
        );
    }

    #[test]
    fn only_a_worker_of_the_nodes_own_department_is_inside() {
        assert!(assignment("spiffe://northmoor/parking/worker/w1").stays_inside());
        for outside in [
            "spiffe://northmoor/housing/worker/w1",
            "spiffe://southmere/parking/worker/w1",
            "spiffe://northmoor/parking/gateway/w1",
            "spiffe://northmoor/parking/node/n2",
        ] {
            assert!(!assignment(outside).stays_inside(), "{outside}");
        }
    }
}
