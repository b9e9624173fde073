//! Workers, which borrow for themselves what their node may borrow.

use super::lending::Loan;
use super::*;
use guildhall_audit::{Decision, Event};
use guildhall_grant::Assignment;
use guildhall_keys::EphemeralIdentity;
use guildhall_model::Role;
use std::time::Duration;

const WORKER: &str = "spiffe://northmoor/parking/worker/w1";

impl Loan {
    /// A worker's loan under a grant, assigned by the node.
    fn of_worker(&self, town: &Town, worker: &str) -> Self {
        let grant: Grant = read(self.request.grant.as_ref().unwrap());
        let assignment = Assignment {
            grant: grant.id,
            node: town.node.clone(),
            worker: worker.parse().unwrap(),
        };
        let identity = EphemeralIdentity::generate();
        let request = wire::LendKeysRequest {
            ephemeral_recipient: identity.recipient().to_string(),
            assignment: Some(envelope::sign(&assignment, &town.node_key)),
            ..self.request.clone()
        };
        Self { request, identity }
    }

    async fn ask_as(&self, town: &Town, worker: &str) -> Result<wire::LendKeysResponse, Refusal> {
        let worker = town
            .state
            .admit(worker.parse().unwrap(), &[Role::Node, Role::Worker])?;
        town.state.lend_keys(&worker, self.request.clone()).await
    }

    async fn refused_as(&self, town: &Town, worker: &str) -> String {
        self.ask_as(town, worker).await.unwrap_err().to_string()
    }
}

async fn town_with_workers(workers: usize) -> Town {
    let town = Town::with_product().await;
    for n in 1..=workers {
        let peer = format!("spiffe://northmoor/parking/worker/w{n}");
        town.enrol(&peer.parse().unwrap(), None).await.unwrap();
    }
    town
}

#[tokio::test]
async fn each_worker_that_the_node_assigns_borrows_once_for_itself_and_is_on_record() {
    let town = town_with_workers(4).await;
    let of_node = Loan::honest(&town).await;
    of_node.ask(&town).await.unwrap();
    let grant: Grant = read(of_node.request.grant.as_ref().unwrap());
    for n in 1..=4 {
        let worker = format!("spiffe://northmoor/parking/worker/w{n}");
        let loan = of_node.of_worker(&town, &worker);
        let lent = loan.ask_as(&town, &worker).await.unwrap();
        // Sealed to this worker, and not to the node.
        assert!(loan.identity.open(&lent.sealed).is_ok());
        assert!(of_node.identity.open(&lent.sealed).is_err());
        let entry = town.log().pop().unwrap();
        assert_eq!(
            (entry.event, entry.decision),
            (Event::LendKeys, Decision::Permit)
        );
        assert_eq!(entry.peer.unwrap().to_string(), worker);
        assert_eq!(
            (entry.node, entry.grant),
            (Some(town.node.clone()), Some(grant.id.clone()))
        );
        assert_eq!(entry.keys.len(), 4);
        // Another recipient under the same grant is a replay, for a worker as for a node.
        let again = of_node.of_worker(&town, &worker);
        assert!(
            again
                .refused_as(&town, &worker)
                .await
                .contains("has been used")
        );
    }
}

#[tokio::test]
async fn a_worker_gets_no_key_that_its_node_would_not_get() {
    let town = town_with_workers(1).await;
    let mut loan = Loan::honest(&town).await.of_worker(&town, WORKER);
    loan.request
        .keys
        .push(wrapped(Some("note"), &town.sessions));
    let refused = loan.refused_as(&town, WORKER).await;
    assert_eq!(refused, "the grant does not cover column `sessions.note`");
    let loan = Loan::honest(&town).await.of_worker(&town, WORKER);
    town.clock.advance(Duration::from_secs(300));
    assert!(loan.refused_as(&town, WORKER).await.contains("expired at"));
}

#[tokio::test]
async fn a_worker_that_is_not_assigned_gets_nothing() {
    let town = town_with_workers(2).await;
    let of_node = Loan::honest(&town).await;
    let none = wire::LendKeysRequest {
        assignment: None,
        ..of_node.of_worker(&town, WORKER).request
    };
    let none = Loan {
        request: none,
        identity: EphemeralIdentity::generate(),
    };
    assert_eq!(
        none.refused_as(&town, WORKER).await,
        "`assignment` is not valid: is missing"
    );

    let stolen = of_node.of_worker(&town, WORKER);
    let thief = "spiffe://northmoor/parking/worker/w2";
    let refused = stolen.refused_as(&town, thief).await;
    assert_eq!(
        refused,
        "the assignment does not hold: it is another worker's"
    );

    let mut forged = of_node.of_worker(&town, WORKER);
    let said: Assignment = read(forged.request.assignment.as_ref().unwrap());
    let other = SigningKey::generate().unwrap();
    forged.request.assignment = Some(envelope::sign(&said, &other));
    let refused = forged.refused_as(&town, WORKER).await;
    assert_eq!(
        refused,
        "the assignment does not hold: its node did not sign it"
    );

    let mut elsewhere = of_node.of_worker(&town, WORKER);
    elsewhere.request.grant = Some(town.grant().await);
    let refused = elsewhere.refused_as(&town, WORKER).await;
    assert_eq!(
        refused,
        "the assignment does not hold: it is under another grant"
    );
}

#[tokio::test]
async fn a_worker_of_another_department_gets_nothing_even_if_a_node_assigns_it() {
    let town = town_with_workers(0).await;
    let other = "spiffe://northmoor/housing/worker/w1";
    town.enrol(&other.parse().unwrap(), None).await.unwrap();
    let loan = Loan::honest(&town).await.of_worker(&town, other);
    let refused = loan.refused_as(&town, other).await;
    assert_eq!(
        refused,
        "the assignment does not hold: its node is of another department"
    );
}

#[tokio::test]
async fn a_worker_that_is_revoked_or_never_enrolled_gets_nothing() {
    let town = town_with_workers(1).await;
    let loan = Loan::honest(&town).await;
    let stranger = "spiffe://northmoor/parking/worker/w9";
    let of_stranger = loan.of_worker(&town, stranger);
    let nobody = "no valid certificate of a role that may ask this";
    assert_eq!(of_stranger.refused_as(&town, stranger).await, nobody);
    town.admin()
        .revoke_peer(&WORKER.parse().unwrap(), town.clock.now())
        .unwrap();
    assert_eq!(
        loan.of_worker(&town, WORKER)
            .refused_as(&town, WORKER)
            .await,
        nobody
    );
}

#[tokio::test]
async fn no_more_than_sixty_four_workers_borrow_under_one_grant() {
    let town = town_with_workers(65).await;
    let of_node = Loan::honest(&town).await;
    of_node.ask(&town).await.unwrap();
    for n in 1..=65 {
        let worker = format!("spiffe://northmoor/parking/worker/w{n}");
        let mut loan = of_node.of_worker(&town, &worker);
        loan.request.keys.truncate(1);
        assert_eq!(loan.ask_as(&town, &worker).await.is_ok(), n <= 64, "{n}");
    }
}

#[tokio::test]
async fn a_worker_of_the_council_itself_is_not_invited() {
    let town = Town::new().await;
    let nobody = "spiffe://northmoor/council/worker/w1".parse().unwrap();
    let error = town.admin().invite(&nobody, town.clock.now()).unwrap_err();
    assert!(
        error.to_string().contains("a worker is of a department"),
        "{error}"
    );
}
