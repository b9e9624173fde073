//! Which keys leave, and which do not.

use super::*;
use guildhall_audit::{Decision, Event};
use guildhall_keys::EphemeralIdentity;
use std::time::Duration;

/// A node's request for keys under a grant.
pub(super) struct Loan {
    pub(super) request: wire::LendKeysRequest,
    pub(super) identity: EphemeralIdentity,
}

impl Loan {
    async fn of(town: &Town, columns: &[Option<&str>]) -> Self {
        let identity = EphemeralIdentity::generate();
        let request = wire::LendKeysRequest {
            grant: Some(town.grant().await),
            fragment_digest: fragment_digest().as_bytes().to_vec(),
            ephemeral_recipient: identity.recipient().to_string(),
            keys: columns
                .iter()
                .map(|c| wrapped(*c, &town.sessions))
                .collect(),
            assignment: None,
        };
        Self { request, identity }
    }

    /// What the grant of [`Town::question`] covers: its columns, the unit, and the footer.
    pub(super) async fn honest(town: &Town) -> Self {
        Self::of(town, &[None, Some("ward"), Some("paid"), Some("plate")]).await
    }

    pub(super) async fn ask(&self, town: &Town) -> Result<wire::LendKeysResponse, Refusal> {
        town.state.lend_keys(&town.node, self.request.clone()).await
    }

    /// Why it was refused; the refusal is the last thing on record.
    async fn refused(&self, town: &Town) -> String {
        let refusal = self.ask(town).await.unwrap_err();
        let entry = town.log().pop().unwrap();
        assert_eq!(
            (entry.event, entry.decision),
            (Event::LendKeys, Decision::Forbid)
        );
        assert_eq!(entry.reason.unwrap().as_str(), refusal.name());
        refusal.to_string()
    }
}

#[tokio::test]
async fn the_keys_that_a_grant_covers_are_lent_to_its_borrower_alone() {
    let town = Town::with_product().await;
    let loan = Loan::honest(&town).await;
    let lent = loan.ask(&town).await.unwrap();
    let opened = loan.identity.open(&lent.sealed).unwrap();
    let keys: wire::LentKeys = prost::Message::decode(opened.as_slice()).unwrap();
    let columns: Vec<&str> = keys.keys.iter().map(|k| k.column.as_str()).collect();
    assert_eq!(columns, ["", "paid", "plate", "ward"]);
    assert!(keys.keys.iter().all(|k| k.key.len() == 32));
    assert!(EphemeralIdentity::generate().open(&lent.sealed).is_err());

    let grant: Grant = read(loan.request.grant.as_ref().unwrap());
    assert_eq!(lent.expires_us, grant.expires.as_micros());
    let entry = town.log().pop().unwrap();
    assert_eq!(
        (entry.event, entry.decision),
        (Event::LendKeys, Decision::Permit)
    );
    assert_eq!((entry.grant, entry.keys.len()), (Some(grant.id), 4));
}

#[tokio::test]
async fn one_column_more_than_the_grant_gets_no_key_at_all() {
    let town = Town::with_product().await;
    let loan = Loan::of(&town, &[None, Some("ward"), Some("note")]).await;
    assert_eq!(
        loan.refused(&town).await,
        "the grant does not cover column `sessions.note`"
    );
    // The grant was not used up by it.
    let honest = Loan {
        request: wire::LendKeysRequest {
            keys: vec![wrapped(None, &town.sessions)],
            ..loan.request
        },
        ..loan
    };
    assert!(honest.ask(&town).await.is_ok());
}

#[tokio::test]
async fn a_footer_of_a_dataset_that_the_grant_does_not_read_is_not_lent() {
    let town = Town::with_product().await;
    town.open("fines").await;
    let mut loan = Loan::honest(&town).await;
    loan.request.keys[0].dataset = "fines".to_owned();
    assert_eq!(
        loan.refused(&town).await,
        "the grant does not cover dataset `fines`"
    );
}

#[tokio::test]
async fn a_key_cannot_be_had_by_calling_it_another() {
    let town = Town::with_product().await;
    let mut loan = Loan::honest(&town).await;
    loan.request.keys[1].age = wrapped(Some("note"), &town.sessions).age;
    let refused = loan.refused(&town).await;
    assert_eq!(
        refused,
        "the grant does not cover what was presented as the key of sessions.ward (all)"
    );
}

#[tokio::test]
async fn another_node_gets_nothing() {
    let town = Town::with_product().await;
    let other: PeerId = "spiffe://northmoor/parking/node/n2".parse().unwrap();
    town.enrol(&other, Some(&town.node_key)).await.unwrap();
    let loan = Loan::honest(&town).await;
    let refused = town
        .state
        .lend_keys(&other, loan.request)
        .await
        .unwrap_err();
    assert!(
        matches!(&refused, Refusal::Grant(why) if why.contains("is for node")),
        "{refused}"
    );
}

#[tokio::test]
async fn another_fragment_gets_nothing() {
    let town = Town::with_product().await;
    let mut loan = Loan::honest(&town).await;
    loan.request.fragment_digest = Digest::of(b"another").as_bytes().to_vec();
    assert!(loan.refused(&town).await.contains("is for fragment"));
}

#[tokio::test]
async fn a_forged_grant_gets_nothing() {
    let town = Town::with_product().await;
    let mut loan = Loan::honest(&town).await;
    let mut wider: Grant = read(loan.request.grant.as_ref().unwrap());
    wider.products[0].columns.insert("note".parse().unwrap());
    let payload = prost::Message::encode_to_vec(&wider.to_wire());
    loan.request.grant = Some(Envelope {
        payload,
        ..loan.request.grant.unwrap()
    });
    assert!(
        loan.refused(&town)
            .await
            .contains("not signed by a key that counts")
    );
    loan.request.grant = Some(envelope::sign(&wider, &town.node_key));
    assert!(
        loan.refused(&town)
            .await
            .contains("not signed by a key that counts")
    );
    loan.request.grant = None;
    assert_eq!(
        loan.refused(&town).await,
        "`grant` is not valid: is missing"
    );
}

#[tokio::test]
async fn an_expired_grant_gets_nothing() {
    let town = Town::with_product().await;
    let loan = Loan::honest(&town).await;
    town.clock.advance(Duration::from_secs(300));
    assert!(loan.refused(&town).await.contains("expired at"));
}

#[tokio::test]
async fn a_replayed_grant_gets_nothing() {
    let town = Town::with_product().await;
    let first = Loan::honest(&town).await;
    first.ask(&town).await.unwrap();
    // Another borrower, or other keys, under the same grant.
    let mut replay = Loan::honest(&town).await;
    replay.request.grant = first.request.grant.clone();
    assert!(replay.refused(&town).await.contains("has been used"));
    let mut more = Loan {
        request: first.request.clone(),
        identity: EphemeralIdentity::generate(),
    };
    more.request.keys.pop();
    assert!(more.refused(&town).await.contains("has been used"));
}

#[tokio::test]
async fn an_answer_that_was_lost_can_be_asked_for_again_within_seconds() {
    let town = Town::with_product().await;
    let loan = Loan::honest(&town).await;
    loan.ask(&town).await.unwrap();
    town.clock.advance(Duration::from_secs(9));
    assert!(loan.ask(&town).await.is_ok());
    town.clock.advance(Duration::from_secs(1));
    assert!(loan.refused(&town).await.contains("has been used"));
}

#[tokio::test]
async fn of_two_borrowers_at_once_one_gets_keys() {
    let town = Town::with_product().await;
    let one = Loan::honest(&town).await;
    let mut other = Loan::honest(&town).await;
    other.request.grant = one.request.grant.clone();
    let (a, b) = tokio::join!(one.ask(&town), other.ask(&town));
    assert!(a.is_ok() != b.is_ok());
}

#[tokio::test]
async fn a_grant_ends_with_its_gateway_its_node_its_account_and_its_product() {
    let town = Town::with_product().await;
    let loan = Loan::honest(&town).await;
    town.register(&Product {
        version: 2,
        ..town.product()
    })
    .await
    .unwrap();
    assert_eq!(
        loan.refused(&town).await,
        "a product of this grant has changed since"
    );

    let town = Town::with_product().await;
    let loan = Loan::honest(&town).await;
    town.admin()
        .revoke_account(&"ana".parse().unwrap(), town.clock.now())
        .unwrap();
    assert_eq!(
        loan.refused(&town).await,
        "the account of this grant is closed"
    );
    town.admin()
        .revoke_peer(&town.gateway, town.clock.now())
        .unwrap();
    assert_eq!(
        loan.refused(&town).await,
        "the gateway of this grant is revoked"
    );
    town.admin()
        .revoke_peer(&town.node, town.clock.now())
        .unwrap();
    assert_eq!(
        loan.refused(&town).await,
        "no valid certificate of a role that may ask this"
    );
}

#[tokio::test]
async fn a_dataset_of_another_department_is_not_lent_under_its_name() {
    // Both departments have a dataset `sessions`; its keys are wrapped to other recipients.
    let town = Town::with_product().await;
    let node: PeerId = "spiffe://northmoor/housing/node/h1".parse().unwrap();
    town.enrol(&node, Some(&town.node_key)).await.unwrap();
    let request = wire::OpenDatasetRequest {
        dataset: "sessions".to_owned(),
    };
    let opened = town.state.open_dataset(node, &request).await.unwrap();
    let mut loan = Loan::honest(&town).await;
    loan.request.keys[1] = wrapped(Some("ward"), &opened.recipient.parse().unwrap());
    assert!(
        loan.refused(&town)
            .await
            .contains("what was presented as the key of sessions.ward")
    );
}

#[tokio::test]
async fn a_dataset_that_another_node_holds_is_not_lent() {
    let town = Town::with_product().await;
    let loan = Loan::honest(&town).await;
    let other = "spiffe://northmoor/parking/node/n2";
    rusqlite::Connection::open(town.dir.path().join("data/authority.db"))
        .unwrap()
        .execute("UPDATE datasets SET node = ?1", [other])
        .unwrap();
    let refused = loan.refused(&town).await;
    let held = format!("dataset `sessions` is held by {other}");
    assert!(refused.starts_with(&held), "{refused}");
}

#[tokio::test]
async fn a_request_that_is_no_request_is_refused() {
    let town = Town::with_product().await;
    let mut loan = Loan::honest(&town).await;
    let request = loan.request.clone();
    loan.request.ephemeral_recipient = "age1nobody".to_owned();
    assert!(
        loan.refused(&town)
            .await
            .starts_with("`ephemeral_recipient` is not valid")
    );
    loan.request = wire::LendKeysRequest {
        keys: Vec::new(),
        ..request.clone()
    };
    assert!(loan.refused(&town).await.starts_with("`keys` is not valid"));
    loan.request = wire::LendKeysRequest {
        fragment_digest: vec![0],
        ..request
    };
    assert!(
        loan.refused(&town)
            .await
            .starts_with("`fragment_digest` is not valid")
    );
}

#[tokio::test]
#[ignore = "a measurement"]
async fn what_a_loan_of_sixteen_columns_costs() {
    let town = Town::with_product().await;
    let mut spent = Duration::ZERO;
    for _ in 0..50 {
        let mut loan = Loan::honest(&town).await;
        loan.request.keys.extend((0..12).map(|p| {
            let name = KeyName {
                period: format!("p{p}").parse().unwrap(),
                ..key_name(None)
            };
            let key = ColumnKey::generate().unwrap();
            let age = wrap(&name, &key, &town.sessions).unwrap();
            wire::KeyWanted {
                dataset: "sessions".to_owned(),
                column: String::new(),
                period: name.period.to_string(),
                age,
            }
        }));
        let start = std::time::Instant::now();
        loan.ask(&town).await.unwrap();
        spent += start.elapsed();
    }
    println!("{:?} a loan of sixteen keys", spent / 50);
}
