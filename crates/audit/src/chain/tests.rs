use super::*;
use crate::{Decision, Event, KeySeen, Mode, ProductSeen, Reason};
use guildhall_model::{OutputClass, Principal};
use proptest::collection::vec;
use proptest::prelude::*;

fn n<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

fn full() -> Entry {
    Entry {
        reason: Some(Reason::new("the minimum group is not met")),
        policies: vec!["analysts-for-their-purposes".into()],
        peer: Some(n("spiffe://northmoor/council/gateway/gw-1")),
        principal: Some(Principal {
            council: n("northmoor"),
            name: n("ana"),
        }),
        purpose: Some(n("transport_planning")),
        query: Some(n("q-1")),
        grant: Some(n("g-7Q2M")),
        node: Some(n("spiffe://northmoor/parking/node/parking-1")),
        recipient: Some(n("spiffe://northmoor/council/gateway/gw-1")),
        fragment: Some(Digest::of(b"a fragment")),
        products: vec![ProductSeen {
            product: "northmoor.parking.sessions".into(),
            version: 3,
            columns: [n("ward"), n("started")].into(),
        }],
        keys: vec![
            KeySeen {
                dataset: n("sessions"),
                column: None,
                period: n("2026"),
            },
            KeySeen {
                dataset: n("sessions"),
                column: Some(n("ward")),
                period: n("2026"),
            },
        ],
        output: Some(OutputClass::ReleasedCells),
        mode: Some(Mode::Local),
        charge: 2,
        dataset: Some(n("sessions")),
        digest: Some(Digest::of(b"a manifest")),
        subject: Some("ana".into()),
        ..Entry::new(Event::IssueGrant, Decision::Permit)
    }
}

fn entry(i: u64) -> Entry {
    let subject = Some(format!("role {i}"));
    Entry {
        subject,
        ..Entry::new(Event::Enrol, Decision::Permit)
    }
}

fn at(i: u64) -> Timestamp {
    Timestamp::from_micros(i64::try_from(i).unwrap() * 1_000_000)
}

fn log(len: u64) -> (Vec<Record>, Chain) {
    let mut chain = Chain::new();
    let records = (0..len)
        .map(|i| chain.append(&entry(i), at(i)).unwrap())
        .collect();
    (records, chain)
}

#[test]
fn a_log_verifies_to_where_it_stands() {
    for len in [0, 1, 2, 17] {
        let (records, chain) = log(len);
        assert_eq!(verify_chain(&records).unwrap(), chain);
        assert_eq!(chain.len, len);
    }
}

#[test]
fn a_record_gives_its_time_and_entry_back() {
    let record = Chain::new().append(&full(), at(5)).unwrap();
    assert_eq!(Chain::new().follow(&record).unwrap(), (at(5), full()));
}

#[test]
fn the_form_is_pinned() {
    // Older logs must stay readable: a change here is a new version.
    let record = Chain::new().append(&full(), at(5)).unwrap();
    let text = String::from_utf8(record.bytes).unwrap();
    assert_eq!(text, include_str!("../../vectors/entry.json").trim_end());
}

#[test]
fn the_form_of_a_charge_is_pinned() {
    let entry = Entry {
        purpose: Some(n("transport_planning")),
        grant: Some(n("g-7Q2M")),
        charge: 1_000_000,
        remaining: Some(49_000_000),
        subject: Some("parking/sessions for transport_planning".into()),
        ..Entry::new(Event::Debit, Decision::Permit)
    };
    let record = Chain::new().append(&entry, at(5)).unwrap();
    let text = String::from_utf8(record.bytes.clone()).unwrap();
    assert_eq!(text, include_str!("../../vectors/debit.json").trim_end());
    assert_eq!(Chain::new().follow(&record).unwrap(), (at(5), entry));
}

#[test]
fn a_record_is_one_line() {
    let reason = Some(Reason::new("two\nlines\r\u{0}"));
    let subject = Some("a\nb".into());
    let entry = Entry {
        reason,
        subject,
        ..entry(0)
    };
    let record = Chain::new().append(&entry, at(0)).unwrap();
    assert!(!record.bytes.contains(&b'\n'));
}

#[test]
fn what_does_not_apply_is_left_out() {
    let entry = Entry::new(Event::SignIn, Decision::Forbid);
    let text = serde_json::to_string(&entry).unwrap();
    assert_eq!(text, r#"{"event":"sign-in","decision":"forbid"}"#);
    assert_eq!(serde_json::from_str::<Entry>(&text).unwrap(), entry);
}

#[test]
fn an_entry_has_no_place_for_anything_else() {
    let text = r#"{"event":"release","decision":"permit","rows":12}"#;
    assert!(serde_json::from_str::<Entry>(text).is_err());
}

#[test]
fn a_reason_stays_short() {
    let reason = Reason::new(&"é".repeat(1000));
    assert_eq!(reason.as_str().chars().count(), Reason::MAX);
}

#[test]
fn a_record_left_out_is_noticed() {
    for gone in 0..4 {
        let (mut records, _) = log(5);
        records.remove(gone);
        let index = gone as u64;
        let error = verify_chain(&records).unwrap_err();
        assert!(
            matches!(error, ChainError::OutOfPlace { index: i, found } if i == index && found == index + 1),
            "{error}"
        );
    }
}

#[test]
fn a_log_cut_at_its_end_is_whole_but_shorter() {
    let (mut records, chain) = log(5);
    records.pop();
    let shorter = verify_chain(&records).unwrap();
    assert_eq!(shorter.len, chain.len - 1);
    assert_ne!(shorter.head, chain.head);
}

#[test]
fn records_that_change_places_are_noticed() {
    let (mut records, _) = log(5);
    records.swap(1, 3);
    assert!(matches!(
        verify_chain(&records),
        Err(ChainError::OutOfPlace { index: 1, found: 3 })
    ));
}

#[test]
fn a_record_put_in_is_noticed() {
    let (mut records, _) = log(5);
    let mut fork = Chain {
        head: records[1].digest,
        len: 2,
    };
    records.insert(2, fork.append(&entry(99), at(99)).unwrap());
    // The one put in follows; the one after it no longer does.
    assert!(matches!(
        verify_chain(&records),
        Err(ChainError::OutOfPlace { index: 3, found: 2 })
    ));
}

#[test]
fn a_record_rewritten_with_a_right_digest_is_noticed_at_the_next() {
    let (mut records, _) = log(5);
    let mut fork = Chain {
        head: records[1].digest,
        len: 2,
    };
    records[2] = fork.append(&entry(99), at(99)).unwrap();
    assert!(matches!(
        verify_chain(&records),
        Err(ChainError::Broken { index: 3 })
    ));
}

#[test]
fn altered_bytes_are_noticed_where_they_are() {
    let (records, _) = log(3);
    for bit in 0..records[1].bytes.len() * 8 {
        let mut records = records.clone();
        records[1].bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(matches!(
            verify_chain(&records),
            Err(ChainError::Altered { index: 1 })
        ));
    }
}

#[test]
fn labels_beside_a_record_are_held_to_it() {
    let (records, _) = log(3);
    let mut wrong = records.clone();
    wrong[1].index = 7;
    assert!(matches!(
        verify_chain(&wrong),
        Err(ChainError::Mislabelled { index: 1 })
    ));
    let mut wrong = records;
    wrong[1].previous = Digest::of(b"");
    assert!(matches!(
        verify_chain(&wrong),
        Err(ChainError::Mislabelled { index: 1 })
    ));
}

#[test]
fn a_refused_record_leaves_the_chain_where_it_was() {
    let (records, _) = log(3);
    let mut chain = Chain::new();
    chain.follow(&records[0]).unwrap();
    let before = chain;
    chain.follow(&records[2]).unwrap_err();
    assert_eq!(chain, before);
    chain.follow(&records[1]).unwrap();
}

#[test]
fn two_logs_with_one_history_are_the_same_bytes() {
    assert_eq!(log(4), log(4));
}

fn record_of(bytes: Vec<u8>) -> Record {
    let Chain {
        head: previous,
        len: index,
    } = Chain::new();
    Record {
        index,
        previous,
        digest: Digest::of(&bytes),
        bytes,
    }
}

proptest! {
    #[test]
    fn random_bytes_are_no_record(bytes in vec(any::<u8>(), 0..200)) {
        prop_assert!(Chain::new().follow(&record_of(bytes)).is_err());
    }

    /// An altered record that is still readable reads as a record whose bytes, written again,
    /// are its own or another's: nothing is read that an entry cannot say.
    #[test]
    fn altered_records_are_read_as_entries_or_refused(
        changes in vec((any::<usize>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = Chain::new().append(&full(), at(5)).unwrap().bytes;
        for (i, to) in changes {
            let i = i % bytes.len();
            bytes[i] ^= to;
        }
        if let Ok((at, entry)) = Chain::new().follow(&record_of(bytes)) {
            let again = Chain::new().append(&entry, at).unwrap();
            prop_assert_eq!(Chain::new().follow(&again).unwrap(), (at, entry));
        }
    }

    #[test]
    fn no_history_but_one_leads_to_a_head(
        a in vec("[a-z]{0,3}", 0..5), b in vec("[a-z]{0,3}", 0..5),
    ) {
        let head = |subjects: &[String]| {
            let mut chain = Chain::new();
            for s in subjects {
                let entry = Entry { subject: Some(s.clone()), ..entry(0) };
                chain.append(&entry, at(0)).unwrap();
            }
            chain.head
        };
        prop_assert_eq!(head(&a) == head(&b), a == b);
    }
}
