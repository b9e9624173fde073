//! Files that somebody has altered, moved, taken away or put back.

use crate::Mode;
use crate::table::*;
use crate::testing::{Department, ask, parts, permits, session};

#[tokio::test]
async fn swapped_parts_are_refused() {
    let department = Department::new();
    department
        .import(&permits(500), Mode::Replace)
        .await
        .unwrap();
    department
        .import(&permits(500), Mode::Append)
        .await
        .unwrap();
    let parts = parts(&department);
    let (a, b) = (
        std::fs::read(&parts[0]).unwrap(),
        std::fs::read(&parts[1]).unwrap(),
    );
    std::fs::write(&parts[0], &b).unwrap();
    std::fs::write(&parts[1], &a).unwrap();
    let opened = department.open().await;
    if a.len() == b.len() {
        let dataset = opened.unwrap();
        let lent = department.lend(&dataset, |_| true);
        let error = ask(&session(dataset, lent, 2), "SELECT ward FROM permits")
            .await
            .unwrap_err();
        assert!(error.contains("cannot be opened"), "{error}");
    } else {
        assert!(
            matches!(opened, Err(ReadError::PartDamaged { .. })),
            "{opened:?}"
        );
    }
}

#[tokio::test]
async fn a_part_read_under_another_place_does_not_open() {
    let department = Department::new();
    department
        .import(&permits(500), Mode::Replace)
        .await
        .unwrap();
    let dataset = department.open().await.unwrap();
    let lent = department.lend(&dataset, |_| true);
    let mut moved = dataset.manifest().clone();
    moved.parts[0].written_in = 7;
    moved.version = 7;
    let moved = dataset.with_manifest(moved);
    let error = crate::footer::read(&moved, &BTreeSet::new(), lent.get().unwrap())
        .await
        .unwrap_err();
    assert!(matches!(error, ReadError::Sealed { .. }), "{error:?}");
}

#[tokio::test]
async fn a_missing_or_shortened_part_is_noticed_when_the_dataset_is_opened() {
    let department = Department::new();
    department
        .import(&permits(500), Mode::Replace)
        .await
        .unwrap();
    let part = parts(&department).remove(0);
    let bytes = std::fs::read(&part).unwrap();
    std::fs::write(&part, &bytes[..bytes.len() - 1]).unwrap();
    assert!(matches!(
        department.open().await,
        Err(ReadError::PartDamaged { .. })
    ));
    std::fs::remove_file(&part).unwrap();
    assert!(matches!(
        department.open().await,
        Err(ReadError::PartMissing { .. })
    ));
}

#[tokio::test]
async fn a_flipped_bit_anywhere_is_never_read_as_data() {
    let department = Department::new();
    department
        .import(&permits(300), Mode::Replace)
        .await
        .unwrap();
    let part = parts(&department).remove(0);
    let bytes = std::fs::read(&part).unwrap();
    let sql = "SELECT ward, holder, paid_pence FROM permits ORDER BY 2";
    let whole = ask(&department.session().await.unwrap(), sql)
        .await
        .unwrap();
    let mut refused = 0;
    for at in (0..bytes.len()).step_by(97) {
        let mut altered = bytes.clone();
        altered[at] ^= 0x10;
        std::fs::write(&part, &altered).unwrap();
        let dataset = department.open().await.unwrap();
        assert!(
            dataset.verify_parts().await.is_err(),
            "byte {at} is not in the digest"
        );
        let context = department.session().await.unwrap();
        match ask(&context, sql).await {
            Err(_) => refused += 1,
            // The magic at the head of the file carries nothing.
            Ok(answer) => assert_eq!(answer, whole, "byte {at} changed the answer"),
        }
    }
    assert!(refused > 10, "{refused}");
    std::fs::write(&part, &bytes).unwrap();
    department
        .open()
        .await
        .unwrap()
        .verify_parts()
        .await
        .unwrap();
}

#[tokio::test]
async fn a_rolled_back_dataset_is_noticed_against_the_record() {
    let department = Department::new();
    let first = department.import(&permits(1), Mode::Replace).await.unwrap();
    let second = department.import(&permits(2), Mode::Replace).await.unwrap();
    let recorded = crate::Recorded {
        version: 2,
        digest: second.digest,
    };
    let newest = department
        .data()
        .join("datasets/permits/manifests/0000000002.manifest");
    let oldest = department
        .data()
        .join("datasets/permits/manifests/0000000001.manifest");
    let bytes = std::fs::read(&newest).unwrap();
    std::fs::remove_file(&newest).unwrap();
    let error = department.open_expecting(Some(recorded)).await.unwrap_err();
    assert!(
        matches!(
            error,
            ReadError::Manifest(crate::ManifestError::RolledBack {
                recorded: 2,
                found: Some(1),
                ..
            })
        ),
        "{error:?}"
    );
    // An old manifest in the place of the new one.
    std::fs::copy(&oldest, &newest).unwrap();
    let error = department.open_expecting(Some(recorded)).await.unwrap_err();
    assert!(
        matches!(
            error,
            ReadError::Manifest(crate::ManifestError::Misplaced { says: 1, .. })
        ),
        "{error:?}"
    );
    // Put back, it opens; so does the version before, while that is the one on record.
    std::fs::write(&newest, bytes).unwrap();
    assert_eq!(
        department
            .open_expecting(Some(recorded))
            .await
            .unwrap()
            .manifest()
            .version,
        2
    );
    let before = crate::Recorded {
        version: 1,
        digest: first.digest,
    };
    assert_eq!(
        department
            .open_expecting(Some(before))
            .await
            .unwrap()
            .manifest()
            .version,
        1
    );
    let other = crate::Recorded {
        version: 2,
        digest: first.digest,
    };
    assert!(department.open_expecting(Some(other)).await.is_err());
}

#[tokio::test]
async fn a_manifest_that_was_tampered_with_or_signed_by_another_is_refused() {
    let department = Department::new();
    department.import(&permits(1), Mode::Replace).await.unwrap();
    let path = department
        .data()
        .join("datasets/permits/manifests/0000000001.manifest");
    let bytes = std::fs::read(&path).unwrap();
    for at in (0..bytes.len()).step_by(31) {
        let mut altered = bytes.clone();
        altered[at] ^= 1;
        std::fs::write(&path, &altered).unwrap();
        let opened = department.open().await;
        assert!(
            matches!(opened, Err(ReadError::Manifest(_))),
            "byte {at}: {opened:?}"
        );
    }
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    assert!(department.open().await.is_err());
    std::fs::write(&path, &bytes).unwrap();
    let stranger = guildhall_grant::SigningKey::generate().unwrap().public();
    let opened = SealedDataset::open(&department.storage, &department.id, &[stranger], None).await;
    assert!(opened.is_err());
}
