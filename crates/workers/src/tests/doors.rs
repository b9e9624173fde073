//! Who gets nothing of a worker, and what a node gets nothing for.

use super::*;
use crate::address;
use datafusion_distributed::GetWorkerInfoRequest;
use datafusion_distributed::grpc::{BoxCloneSyncChannel, create_worker_client};
use guildhall_grant::Assignment;
use guildhall_identity::Expect;
use guildhall_proto::worker::v1::HoldRequest;
use guildhall_proto::worker::v1::worker_client::WorkerClient;
use tonic::{Code, Status};

fn channel(dialer: &Dialer, worker: &TestWorker) -> Channel {
    let peer = format!("spiffe://northmoor/sales/worker/{}", worker.name);
    let expect = Expect::Peer(peer.parse().unwrap());
    dialer.channel(&worker.address(), expect).unwrap()
}

async fn hold(dialer: &Dialer, worker: &TestWorker, request: HoldRequest) -> Result<(), Status> {
    let client = WorkerClient::new(channel(dialer, worker));
    let mut call = client.clone().hold(request).await?.into_inner();
    call.message().await.map(drop)
}

/// What an honest node asks of `worker`.
fn request(department: &Department, grant: &Grant, worker: &str) -> HoldRequest {
    let assignment = Assignment {
        grant: grant.id.clone(),
        node: grant.node.clone(),
        worker: format!("spiffe://northmoor/sales/worker/{worker}")
            .parse()
            .unwrap(),
    };
    HoldRequest {
        grant: Some(envelope::sign(grant, &department.council.signer)),
        fragment_digest: grant.fragment.as_bytes().to_vec(),
        assignment: Some(envelope::sign(&assignment, &department.node_key)),
        node_key: department.node_key.public().as_bytes().to_vec(),
        readings: vec![],
    }
}

#[tokio::test]
async fn other_departments_councils_and_roles_are_turned_away_from_every_service() {
    let department = Department::with_workers(1).await;
    let worker = &department.workers[0];
    let ours = Arc::clone(&department.council);
    let mut refused = vec![];
    for peer in [
        "spiffe://northmoor/housing/node/n1",
        "spiffe://northmoor/housing/worker/w9",
        "spiffe://northmoor/council/gateway/g1",
        "spiffe://northmoor/sales/gateway/g1",
        "spiffe://northmoor/council/analyst/ana",
        "spiffe://northmoor/council/clean-room/main",
    ] {
        refused.push((peer, ours.dialer(peer, &[&ours])));
    }
    for (peer, dialer) in refused {
        let asked = hold(
            &dialer,
            worker,
            request(&department, &department.grant(), "w1"),
        )
        .await;
        assert_eq!(asked.unwrap_err().code(), Code::PermissionDenied, "{peer}");
        let engine = BoxCloneSyncChannel::new(channel(&dialer, worker));
        let info = create_worker_client(engine)
            .get_worker_info(GetWorkerInfoRequest {})
            .await;
        let error = info.err().unwrap().to_string();
        assert!(
            error.contains("not a peer of this worker"),
            "{peer}: {error}"
        );
    }
    assert_eq!(department.loans()["w1"], 0);
}

#[tokio::test]
async fn a_council_that_is_not_trusted_gets_no_connection() {
    let department = Department::with_workers(1).await;
    let worker = &department.workers[0];
    let theirs = Council::new("northmoor");
    let dialer = theirs.dialer(NODE, &[&department.council]);
    let asked = hold(
        &dialer,
        worker,
        request(&department, &department.grant(), "w1"),
    )
    .await;
    assert!(asked.is_err());
    assert_eq!(department.loans()["w1"], 0);
}

#[tokio::test]
async fn a_worker_neither_gives_grants_nor_sets_plans() {
    let department = Department::with_workers(1).await;
    let ours = &department.council;
    let other = ours.dialer("spiffe://northmoor/sales/worker/w2", &[ours]);
    let worker = &department.workers[0];
    let asked = hold(
        &other,
        worker,
        request(&department, &department.grant(), "w1"),
    )
    .await;
    assert_eq!(asked.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_grant_that_does_not_hold_borrows_nothing() {
    let department = Department::with_workers(1).await;
    let ours = &department.council;
    let node = ours.dialer(NODE, &[ours]);
    let worker = &department.workers[0];
    let good = department.grant();

    let forged = HoldRequest {
        grant: Some(envelope::sign(&good, &department.node_key)),
        ..request(&department, &good, "w1")
    };
    let of_another_node = Grant {
        node: "spiffe://northmoor/sales/node/n2".parse().unwrap(),
        ..good.clone()
    };
    let of_another_node = request(&department, &of_another_node, "w1");
    let of_another_fragment = HoldRequest {
        fragment_digest: Digest::of(b"another").as_bytes().to_vec(),
        ..request(&department, &good, "w1")
    };
    let for_another_worker = request(&department, &good, "w2");
    let unsigned = HoldRequest {
        assignment: Some(envelope::sign(
            &Assignment {
                grant: good.id.clone(),
                node: good.node.clone(),
                worker: "spiffe://northmoor/sales/worker/w1".parse().unwrap(),
            },
            &ours.signer,
        )),
        ..request(&department, &good, "w1")
    };
    let bad = [
        forged,
        of_another_node,
        of_another_fragment,
        for_another_worker,
        unsigned,
    ];
    for (at, request) in bad.into_iter().enumerate() {
        let refused = hold(&node, worker, request).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{at}: {refused}");
    }
    assert_eq!(department.loans()["w1"], 0);
    ours.clock.advance(Duration::from_secs(400));
    let late = hold(&node, worker, request(&department, &good, "w1")).await;
    assert_eq!(late.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(department.loans()["w1"], 0);
}

#[tokio::test]
async fn a_node_takes_no_other_worker_for_the_one_that_it_pinned() {
    let department = Department::with_workers(1).await;
    super::tpch::fill(&department, &["orders"]).await;
    let session = department.session(&["orders"]).await;
    let at = department.workers[0].address();
    let fleet = department.fleet_of([("w7", at.clone()), ("w8", at)].into_iter());
    let sql = "SELECT o_orderstatus, count(*) FROM orders GROUP BY o_orderstatus";
    let nobody = department.start(&fleet, &session, sql).await;
    assert!(matches!(nobody, Err(FleetError::NoneAnswers)));
    assert_eq!(department.loans()["w1"], 0);
}

#[tokio::test]
async fn a_node_dials_nobody_whom_it_did_not_pin() {
    let department = Department::with_workers(1).await;
    let channels = crate::channels::Channels::of_node(
        &department.council.dialer(NODE, &[&department.council]),
        Default::default(),
    );
    let url = address::url(&"w1".parse().unwrap(), &department.workers[0].address()).unwrap();
    assert!(channels.to(&url).is_err());
}

#[tokio::test]
async fn a_worker_that_holds_as_much_as_it_may_takes_no_more() {
    let department = Department::with_workers(0).await;
    let limits = Limits {
        concurrent: 1,
        ..Limits::default()
    };
    let worker = department.worker("w1", limits).await;
    let node = department.council.dialer(NODE, &[&department.council]);
    let client = WorkerClient::new(channel(&node, &worker));
    let first = request(&department, &department.grant(), "w1");
    let mut call = client.clone().hold(first).await.unwrap().into_inner();
    call.message().await.unwrap().unwrap();
    let second = request(&department, &department.grant(), "w1");
    let full = client.clone().hold(second).await.unwrap_err();
    assert_eq!(full.code(), Code::ResourceExhausted);
    drop(call);
    worker.holds(0).await;
    let third = request(&department, &department.grant(), "w1");
    let mut call = client.clone().hold(third).await.unwrap().into_inner();
    call.message().await.unwrap().unwrap();
}
