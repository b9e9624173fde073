//! Whose worker a worker is: what its node signed, believed as far as its certificate bears it out.

use crate::refusal::Refusal;
use crate::register;
use crate::state::State;
use guildhall_grant::{Assignment, envelope};
use guildhall_model::{PeerId, Role};
use guildhall_proto::envelope::v1::Envelope;

impl State {
    /// What a worker is assigned to, in the words of the node that it works for; a node needs none.
    ///
    /// The signature comes first, by the key that the node enrolled with; whose worker it is stands in its certificate.
    pub(crate) fn assignment(
        &self,
        borrower: &PeerId,
        envelope: Option<&Envelope>,
    ) -> Result<Option<Assignment>, Refusal> {
        if borrower.role != Role::Worker {
            return Ok(None);
        }
        let envelope = envelope.ok_or_else(|| Refusal::invalid("assignment", "is missing"))?;
        // Believed no further than to find the key that has to have signed it.
        let said: Assignment = envelope::read_unverified(envelope)
            .map_err(|e| Refusal::invalid("assignment", guildhall_telemetry::error_chain(&e)))?;
        let signer = self.db.read(|c| register::signing_key(c, &said.node))?;
        let signers: Vec<_> = signer.into_iter().collect();
        let said: Assignment = envelope::verify(envelope, &signers)
            .map_err(|_| refused("its node did not sign it"))?;
        if said.worker != *borrower {
            return Err(refused("it is another worker's"));
        }
        if !said.stays_inside() || borrower.council != *self.council() {
            return Err(refused("its node is of another department"));
        }
        Ok(Some(said))
    }
}

pub(crate) fn refused(why: &str) -> Refusal {
    Refusal::Grant(format!("the assignment does not hold: {why}"))
}
