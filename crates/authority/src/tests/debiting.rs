//! What a question costs, who is refused, and what is on record of it.

use super::periods::new_year;
use super::*;
use guildhall_audit::{Decision, Event};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tonic::Code;

/// Numbers grants, so that each test's are its own.
static GRANTS: AtomicU64 = AtomicU64::new(0);

/// A grant over `product`, as the authority signs it.
fn leave(town: &Town, product: &Product, purpose: &str) -> Grant {
    let number = GRANTS.fetch_add(1, Ordering::Relaxed);
    Grant {
        id: format!("g-{number}").parse().unwrap(),
        purpose: purpose.parse().unwrap(),
        ..leave_of(&town.state, product)
    }
}

/// The same, by the state of an authority alone.
pub(super) fn leave_of(state: &State, product: &Product) -> Grant {
    let now = state.clock.now();
    Grant {
        id: "g-0".parse().unwrap(),
        council: product.council.clone(),
        principal: guildhall_model::Principal {
            council: product.council.clone(),
            name: "ana".parse().unwrap(),
        },
        purpose: "planning".parse().unwrap(),
        node: product.node.clone(),
        fragment: fragment_digest(),
        products: vec![guildhall_grant::GrantedProduct {
            department: product.department.clone(),
            product: product.name.clone(),
            version: product.version,
            columns: ["ward".parse().unwrap()].into(),
        }],
        output: OutputClass::ReleasedCells,
        recipient: GATEWAY.parse().unwrap(),
        charge: 0,
        not_before: now,
        expires: now.after(Duration::from_secs(300)),
        query: "q-1".parse().unwrap(),
        gateway: GATEWAY.parse().unwrap(),
        linkage: None,
    }
}

/// A request to charge `question` under `grant`, which `by` signs.
pub(super) fn request(
    grant: &Grant,
    by: &SigningKey,
    question: &str,
    nano_rho: u64,
) -> wire::DebitRequest {
    wire::DebitRequest {
        grant: Some(envelope::sign(grant, by)),
        fragment_digest: fragment_digest().as_bytes().to_vec(),
        product: grant.products[0].product.to_string(),
        nano_rho,
        question_digest: Digest::of(question.as_bytes()).as_bytes().to_vec(),
    }
}

/// Charges `question` over `product` under a fresh grant: what it cost, and what is left.
pub(super) async fn pay(
    town: &Town,
    product: &Product,
    purpose: &str,
    question: &str,
    nano_rho: u64,
) -> Result<(u64, u64), Refusal> {
    let grant = leave(town, product, purpose);
    let request = request(&grant, &town.state.signing, question, nano_rho);
    let charged = town.state.debit(&product.node, request).await?;
    Ok((charged.charged_nano_rho, charged.remaining_nano_rho))
}

pub(super) fn spent(town: &Town) -> u64 {
    town.admin().verify_ledger().unwrap().charged.get()
}

#[tokio::test]
async fn a_question_is_charged_and_on_record() {
    let town = Town::with_budget(10).await;
    let grant = town.grant().await;
    let stated: Grant = read(&grant);
    let request = wire::DebitRequest {
        grant: Some(grant),
        ..request(&stated, &town.state.signing, "how many", 4)
    };
    let charged = town.state.debit(&town.node, request).await.unwrap();
    assert_eq!(
        charged,
        wire::DebitResponse {
            charged_nano_rho: 4,
            already_paid: false,
            remaining_nano_rho: 6,
            period_end_us: new_year().as_micros(),
        }
    );
    let entry = town.log().pop().unwrap();
    assert_eq!(
        (entry.event, entry.decision),
        (Event::Debit, Decision::Permit)
    );
    assert_eq!((entry.charge, entry.remaining), (4, Some(6)));
    assert_eq!(entry.principal, Some(stated.principal));
    assert_eq!(entry.purpose, Some(stated.purpose));
    assert_eq!(entry.grant, Some(stated.id));
    assert_eq!(entry.peer, Some(town.node.clone()));
    assert_eq!(entry.products[0].product, "northmoor.parking.sessions");
    assert_eq!(entry.digest, Some(Digest::of(b"how many")));
    assert_eq!(
        entry.subject.as_deref(),
        Some("parking/sessions for planning")
    );
}

#[tokio::test]
async fn the_same_question_is_free_and_another_costs() {
    let town = Town::with_budget(10).await;
    let product = town.budgeted(10);
    let pay = |question| pay(&town, &product, "planning", question, 4);
    assert_eq!(pay("a").await.unwrap(), (4, 6));
    assert_eq!(pay("a").await.unwrap(), (0, 6));
    let entry = town.log().pop().unwrap();
    assert_eq!(
        (entry.decision, entry.charge, entry.remaining),
        (Decision::Permit, 0, Some(6))
    );
    assert_eq!(pay("b").await.unwrap(), (4, 2));
    assert!(matches!(pay("c").await, Err(Refusal::Budget { .. })));
    // Though nothing is left for another.
    assert_eq!(pay("a").await.unwrap(), (0, 2));
    assert_eq!(spent(&town), 8);
}

#[tokio::test]
async fn an_answer_that_was_lost_is_not_charged_again() {
    let town = Town::with_budget(10).await;
    let grant = leave(&town, &town.budgeted(10), "planning");
    let request = request(&grant, &town.state.signing, "a", 4);
    let first = town.state.debit(&town.node, request.clone()).await.unwrap();
    let again = town.state.debit(&town.node, request).await.unwrap();
    assert!(!first.already_paid && again.already_paid);
    assert_eq!(spent(&town), 4);
}

type Change<'a> = Box<dyn FnOnce(&mut wire::DebitRequest, &mut Grant) + 'a>;

/// Asks to charge after `change`; what the answer was. The refusal is the last thing on record,
/// and nothing is spent.
async fn refused(town: &Town, by: &PeerId, change: Change<'_>) -> (Code, String) {
    let before = spent(town);
    let mut grant = leave(town, &town.budgeted(10), "planning");
    let mut asked = request(&grant, &town.state.signing, "a question", 4);
    let (signed, stated) = (asked.grant.clone(), grant.clone());
    change(&mut asked, &mut grant);
    if asked.grant == signed && grant != stated {
        asked.grant = Some(envelope::sign(&grant, &town.state.signing));
    }
    let refusal = town.state.debit(by, asked).await.unwrap_err();
    let entry = town.log().pop().unwrap();
    assert_eq!(
        (entry.event, entry.decision),
        (Event::Debit, Decision::Forbid)
    );
    assert_eq!(entry.reason.as_ref().unwrap().as_str(), refusal.name());
    assert_eq!((entry.charge, spent(town)), (0, before));
    let status = tonic::Status::from(refusal);
    (status.code(), status.message().to_owned())
}

#[tokio::test]
async fn every_reason_against_a_charge_is_found_in_order_and_recorded() {
    let town = Town::with_budget(10).await;
    let foreign = SigningKey::generate().unwrap();
    let paid = leave(&town, &town.budgeted(10), "planning");
    let request = |question| request(&paid, &town.state.signing, question, 4);
    town.state.debit(&town.node, request("a")).await.unwrap();
    let (invalid, forbidden, over) = (
        Code::InvalidArgument,
        Code::PermissionDenied,
        Code::FailedPrecondition,
    );
    let cases: Vec<(Code, &str, Change<'_>)> = vec![
        (
            invalid,
            "`nano_rho` is not valid: a question costs something",
            Box::new(|r, _| r.nano_rho = 0),
        ),
        (
            invalid,
            "`fragment_digest` is not valid: not 32 bytes",
            Box::new(|r, _| r.fragment_digest.clear()),
        ),
        (
            invalid,
            "`product` is not valid: `No Such` is not a product name",
            Box::new(|r, _| r.product = "No Such".to_owned()),
        ),
        (
            invalid,
            "`question_digest` is not valid: not 32 bytes",
            Box::new(|r, _| r.question_digest.push(0)),
        ),
        (
            invalid,
            "`grant` is not valid: is missing",
            Box::new(|r, _| r.grant = None),
        ),
        (
            forbidden,
            "is not signed by a key that counts",
            Box::new(|r, g| r.grant = Some(envelope::sign(g, &foreign))),
        ),
        (
            forbidden,
            "`northmoor`",
            Box::new(|_, g| g.council = "southmoor".parse().unwrap()),
        ),
        (
            forbidden,
            "is for node",
            Box::new(|_, g| g.node = "spiffe://northmoor/parking/node/n2".parse().unwrap()),
        ),
        (
            forbidden,
            "is for fragment",
            Box::new(|_, g| g.fragment = Digest::of(b"another")),
        ),
        (
            over,
            "expired at",
            Box::new(|_, g| {
                g.expires = town.clock.now();
                g.not_before = g.expires.before(Duration::from_secs(300));
            }),
        ),
        (
            forbidden,
            "the gateway of this grant is revoked",
            Box::new(|_, g| {
                let away: PeerId = "spiffe://eastmoor/council/gateway/gw".parse().unwrap();
                town.admin().revoke_peer(&away, town.clock.now()).unwrap();
                g.recipient = away.clone();
                g.gateway = away;
            }),
        ),
        (
            forbidden,
            "the account of this grant is closed",
            Box::new(|_, g| g.principal.name = "nobody".parse().unwrap()),
        ),
        (
            forbidden,
            "the grant does not cover released cells",
            Box::new(|_, g| g.output = OutputClass::OpenRows),
        ),
        (
            forbidden,
            "the grant does not cover product `fines`",
            Box::new(|r, _| r.product = "fines".to_owned()),
        ),
        (
            forbidden,
            "the grant does not cover product `sessions`",
            Box::new(|_, g| g.products[0].department = "housing".parse().unwrap()),
        ),
        (
            over,
            "a product of this grant has changed since",
            Box::new(|_, g| g.products[0].version = 2),
        ),
        (
            forbidden,
            "`northmoor.parking.sessions` does not release this: it has no privacy budget for `review`",
            Box::new(|_, g| g.purpose = "review".parse().unwrap()),
        ),
        (
            invalid,
            "`nano_rho` is not valid: one question costs at most 5",
            Box::new(|r, _| r.nano_rho = 6),
        ),
        (
            invalid,
            "`nano_rho` is not valid: one question costs at most 5",
            Box::new(|r, _| r.nano_rho = u64::MAX),
        ),
        (
            over,
            "has been used",
            Box::new(|r, _| *r = request("another question")),
        ),
        (
            Code::ResourceExhausted,
            "the privacy budget of product `northmoor.parking.sessions` for `planning` does not \
             cover this question; it renews at 2027-01-01T00:00:00Z",
            Box::new(|_, _| ()),
        ),
    ];
    // Four are spent; four more leave two.
    pay(&town, &town.budgeted(10), "planning", "b", 4)
        .await
        .unwrap();
    for (code, expected, change) in cases {
        let (got, message) = refused(&town, &town.node, change).await;
        assert!(message.contains(expected), "`{message}`, not `{expected}`");
        assert_eq!(got, code, "{message}");
    }
}

#[tokio::test]
async fn another_node_is_charged_nothing() {
    let town = Town::with_budget(10).await;
    let other: PeerId = "spiffe://northmoor/parking/node/n2".parse().unwrap();
    town.enrol(&other, Some(&town.node_key)).await.unwrap();
    let (_, message) = refused(&town, &other, Box::new(|_, _| ())).await;
    assert!(message.contains("is for node"), "{message}");
    // Even with a grant of its own, over a product that it does not serve.
    let own = |_: &mut wire::DebitRequest, g: &mut Grant| g.node = other.clone();
    let (_, message) = refused(&town, &other, Box::new(own)).await;
    assert_eq!(message, "a product of this grant has changed since");
    town.admin()
        .revoke_peer(&town.node, town.clock.now())
        .unwrap();
    let (code, _) = refused(&town, &town.node, Box::new(|_, _| ())).await;
    assert_eq!(code, Code::Unauthenticated);
}

#[tokio::test]
async fn an_account_that_was_closed_is_charged_nothing() {
    let town = Town::with_budget(10).await;
    town.admin()
        .revoke_account(&"ana".parse().unwrap(), town.clock.now())
        .unwrap();
    let (code, _) = refused(&town, &town.node, Box::new(|_, _| ())).await;
    assert_eq!(code, Code::PermissionDenied);
}

#[tokio::test]
async fn a_charge_that_cannot_be_put_on_record_is_not_made() {
    let town = Town::with_budget(10).await;
    let database = town.dir.path().join("data/authority.db");
    let connection = rusqlite::Connection::open(database).unwrap();
    connection
        .execute_batch(
            "CREATE TRIGGER full BEFORE INSERT ON log BEGIN SELECT RAISE(ABORT, 'disk full'); END;",
        )
        .unwrap();
    let product = town.budgeted(10);
    let refusal = pay(&town, &product, "planning", "a", 5).await.unwrap_err();
    assert_eq!(tonic::Status::from(refusal).code(), Code::Internal);
    assert_eq!(spent(&town), 0);
    connection.execute_batch("DROP TRIGGER full").unwrap();
    assert_eq!(
        pay(&town, &product, "planning", "a", 5).await.unwrap(),
        (5, 5)
    );
}
