//! What is left when the authority stops at any moment.

use super::*;
use crate::serve::StartError;
use crate::{AdminError, db};
use guildhall_keys::EphemeralIdentity;

/// The town as a machine finds it that lost its power now: the files as they are, with nobody
/// having closed them.
fn crashed(town: Town) -> Town {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("data")).unwrap();
    for file in ["root.age", "data/authority.db", "data/authority.db-wal"] {
        std::fs::copy(town.dir.path().join(file), dir.path().join(file)).unwrap();
    }
    let state = unlock(dir.path(), town.node.council.as_str(), &town.clock);
    Town { state, dir, ..town }
}

#[tokio::test]
async fn what_was_answered_is_still_so_after_a_crash() {
    let town = Town::with_product().await;
    let grant = town.grant().await;
    let loan = wire::LendKeysRequest {
        assignment: None,
        grant: Some(grant),
        fragment_digest: fragment_digest().as_bytes().to_vec(),
        ephemeral_recipient: EphemeralIdentity::generate().recipient().to_string(),
        keys: vec![wrapped(None, &town.sessions)],
    };
    town.state
        .lend_keys(&town.node, loan.clone())
        .await
        .unwrap();
    let before = town.log();

    let town = crashed(town);
    assert_eq!(town.log(), before);
    // The grant was used before the crash, and is so after it.
    let other = EphemeralIdentity::generate().recipient().to_string();
    let replay = wire::LendKeysRequest {
        ephemeral_recipient: other,
        ..loan.clone()
    };
    assert!(matches!(
        town.state.lend_keys(&town.node, replay).await,
        Err(Refusal::Used(_))
    ));
    // Keys are lent again by the same identities, and new grants issued.
    let next = wire::LendKeysRequest {
        grant: Some(town.grant().await),
        ..loan
    };
    assert!(town.state.lend_keys(&town.node, next).await.is_ok());
}

#[tokio::test]
async fn a_grant_of_before_the_crash_is_good_after_it() {
    let town = Town::with_product().await;
    let grant = town.grant().await;
    let town = crashed(town);
    let request = wire::LendKeysRequest {
        assignment: None,
        grant: Some(grant),
        fragment_digest: fragment_digest().as_bytes().to_vec(),
        ephemeral_recipient: EphemeralIdentity::generate().recipient().to_string(),
        keys: vec![wrapped(Some("ward"), &town.sessions)],
    };
    assert!(town.state.lend_keys(&town.node, request).await.is_ok());
}

#[tokio::test]
async fn a_decision_that_cannot_be_put_on_record_is_not_given() {
    let town = Town::with_product().await;
    let question = town.question().await;
    let connection = db::open(&town.dir.path().join("data")).unwrap();
    connection
        .execute_batch(
            "CREATE TRIGGER full BEFORE INSERT ON log BEGIN SELECT RAISE(ABORT, 'disk full'); END;",
        )
        .unwrap();
    let refusal = town
        .state
        .issue_grants(&town.gateway, question.clone())
        .await
        .unwrap_err();
    assert_eq!(tonic::Status::from(refusal).code(), tonic::Code::Internal);
    let peer: PeerId = "spiffe://northmoor/housing/node/h1".parse().unwrap();
    assert!(town.admin().invite(&peer, town.clock.now()).is_err());
    let fines = wire::OpenDatasetRequest {
        dataset: "fines".to_owned(),
    };
    assert!(
        town.state
            .open_dataset(town.node.clone(), &fines)
            .await
            .is_err()
    );

    // As soon as there is room again, everything goes on; nothing was half done.
    connection.execute_batch("DROP TRIGGER full").unwrap();
    let invites: i64 = connection
        .query_row(
            "SELECT count(*) FROM invites WHERE used_us IS NULL",
            [],
            |r| r.get(0),
        )
        .unwrap();
    let datasets: i64 = connection
        .query_row("SELECT count(*) FROM datasets", [], |r| r.get(0))
        .unwrap();
    assert_eq!((invites, datasets), (0, 1));
    assert!(
        town.state
            .issue_grants(&town.gateway, question)
            .await
            .is_ok()
    );
}

#[test]
fn an_authority_is_founded_once_and_whole() {
    let dir = tempfile::tempdir().unwrap();
    let options = InitOptions {
        data: dir.path().join("data"),
        council: "northmoor".parse().unwrap(),
        root_identity: dir.path().join("root.age"),
        purposes: names(&["planning"]),
    };
    let now = Timestamp::from_micros(1_795_000_000_000_000);
    assert!(matches!(
        Admin::open(&options.data),
        Err(AdminError::NotFounded)
    ));
    // As if it had stopped half way: the folder is there and the root is, no more.
    drop(db::open(&options.data).unwrap());
    assert!(matches!(
        Admin::open(&options.data),
        Err(AdminError::NotFounded)
    ));
    init(&options, now).unwrap();
    assert!(matches!(
        init(&options, now),
        Err(AdminError::AlreadyFounded)
    ));
    assert_eq!(
        Admin::open(&options.data)
            .unwrap()
            .verify_log()
            .unwrap()
            .len,
        1
    );
}

#[tokio::test]
async fn another_root_or_another_council_does_not_unlock_it() {
    let town = Town::new().await;
    let root = town.dir.path().join("other.age");
    guildhall_keyring::RootIdentity::generate()
        .create(&root)
        .unwrap();
    let config = |council| config(town.dir.path(), council);
    let wrong = AuthorityConfig {
        root_identity: root,
        ..config("northmoor")
    };
    let refused = State::unlock(wrong, town.clock.clone());
    assert!(matches!(refused, Err(StartError::WrongRoot { .. })));
    let refused = State::unlock(config("southmoor"), town.clock.clone());
    assert!(matches!(
        refused,
        Err(StartError::Admin(AdminError::OtherCouncil { .. }))
    ));
}

#[tokio::test]
async fn nothing_secret_is_readable_in_the_database() {
    let town = Town::new().await;
    let ca = town.state.ca.key_pem();
    let signing = town.state.signing.to_pkcs8();
    for file in std::fs::read_dir(town.dir.path().join("data")).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        let holds = |secret: &[u8]| bytes.windows(secret.len()).any(|w| w == secret);
        assert!(!holds(b"AGE-SECRET-KEY"));
        assert!(!holds(&ca.as_bytes()[40..80]));
        assert!(!holds(&signing[16..48]));
        assert!(!holds(PASSWORD.as_bytes()));
    }
    assert!(!format!("{:?}", town.state).contains("KEY"));
}
