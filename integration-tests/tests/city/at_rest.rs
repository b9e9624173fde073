//! What lies on the disks: ciphertext, and nothing to open it with.

use crate::rogue::{RogueGateway, RogueNode, key_name, no, read_column};
use arrow::array::AsArray as _;
use arrow::datatypes::Int64Type;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use guildhall_city_data::{CityOptions, Council, council};
use guildhall_keys::{ColumnKey, ColumnKeys};
use guildhall_model::{OutputClass, SystemClock};
use guildhall_testkit::{TestCity, answer, node};
use std::collections::{BTreeSet, HashMap};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn options() -> CityOptions {
    CityOptions {
        scale: 0.05,
        ..CityOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_file_of_a_city_holds_a_value_or_a_key() {
    let city = TestCity::made_up(&options()).await.unwrap();
    let councils = [
        council(&options(), 0).unwrap(),
        council(&options(), 1).unwrap(),
    ];
    let street = councils[0].streets[3].street.clone();
    // Questions leave traces: logs, caches, grants.
    let mut ana = city.connect("ana", "transport_planning").await.unwrap();
    for sql in [
        "SELECT council, max(car_park) FROM city.parking.occupancy GROUP BY council".to_owned(),
        "SELECT ward, count(*) FROM northmoor.parking.sessions GROUP BY ward".to_owned(),
        format!("SELECT usrn FROM city.highways.streets WHERE street = '{street}'"),
    ] {
        answer(&mut ana, &sql).await.unwrap();
    }

    let values = Search::new(values_of(&councils).into_iter().map(String::into_bytes));
    let raw = files(&city.folder().join("city"));
    let clear = raw
        .iter()
        .map(|f| values.found(&std::fs::read(f).unwrap()).len())
        .max();
    assert!(
        clear.unwrap() > 100,
        "the search finds values where they are: {clear:?}"
    );

    let data = city.city.ready().data.clone();
    let all = files(&data);
    let identity = Search::new([b"AGE-SECRET-KEY-1".to_vec()]);
    for file in &all {
        let bytes = std::fs::read(file).unwrap();
        let found = values.found(&bytes);
        assert!(found.is_empty(), "{} holds {found:?}", file.display());
        let root = file.file_name().is_some_and(|n| n == "root.age");
        assert_eq!(
            !identity.found(&bytes).is_empty(),
            root,
            "{}",
            file.display()
        );
    }
    let parts: Vec<&PathBuf> = all
        .iter()
        .filter(|f| f.extension().is_some_and(|e| e == "parquet"))
        .collect();
    assert!(parts.len() >= 15, "{} parts", parts.len());
    let names = Search::new(COLUMNS.iter().map(|c| c.as_bytes().to_vec()));
    let codes = councils
        .iter()
        .flat_map(|c| &c.wards)
        .map(|w| w.ward.clone().into_bytes());
    let codes = Search::new(codes);
    for part in parts {
        check_part(part, &names, &codes);
    }
    let noise = all.iter().filter(|f| f.ends_with("noise.key"));
    let noise: Vec<Vec<u8>> = noise.map(|f| std::fs::read(f).unwrap()).collect();
    let distinct: BTreeSet<&Vec<u8>> = noise.iter().collect();
    let nodes = city.city.departments().count();
    assert_eq!((noise.len(), distinct.len()), (nodes, nodes));
    for secret in all.iter().filter(|f| is_secret(f)) {
        let mode = std::fs::metadata(secret).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", secret.display());
    }
    assert_eq!(
        std::fs::metadata(&data).unwrap().permissions().mode() & 0o077,
        0
    );
    city.city.stop().await;
}

/// Values of persons, vehicles and places that are long enough not to turn up by chance.
fn values_of(councils: &[Council]) -> BTreeSet<String> {
    let mut values = BTreeSet::new();
    for c in councils {
        values.extend(c.sessions.iter().map(|s| s.vehicle.clone()));
        values.extend(
            c.cases
                .iter()
                .flat_map(|c| [c.person.clone(), c.case_ref.clone()]),
        );
        values.extend(c.tenancies.iter().map(|t| t.household.clone()));
        values.extend(c.tax.iter().map(|a| a.account.clone()));
        values.extend(c.streets.iter().map(|s| s.street.clone()));
        values.extend(c.wards.iter().map(|w| w.name.clone()));
        values.extend(c.car_parks.iter().map(|p| p.name.clone()));
        values.extend(c.cases.iter().map(|c| c.need.to_owned()));
    }
    assert!(values.iter().all(|v| v.len() >= 6) && values.len() > 500);
    values
}

const COLUMNS: [&str; 14] = [
    "vehicle",
    "car_park",
    "minutes",
    "started",
    "channel",
    "occupied",
    "person",
    "age_band",
    "weekly_cost",
    "household",
    "bedrooms",
    "mean_kph",
    "population",
    "length_m",
];

/// Encrypted from end to end, footer included: no names of columns, and no codes of wards beyond
/// what chance puts among so many bytes.
fn check_part(part: &Path, names: &Search, codes: &Search) {
    let bytes = std::fs::read(part).unwrap();
    let shown = part.display();
    assert!(
        bytes.starts_with(b"PARE") && bytes.ends_with(b"PARE"),
        "{shown}"
    );
    let found = names.found(&bytes);
    assert!(found.is_empty(), "{shown} names {found:?}");
    let found = codes.found(&bytes);
    assert!(found.len() <= 2, "{shown} holds codes of wards: {found:?}");
    let opened = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(part).unwrap());
    assert!(opened.is_err(), "{shown} opens without a key");
}

fn is_secret(file: &Path) -> bool {
    let name = file.file_name().unwrap().to_string_lossy();
    matches!(
        &*name,
        "key.pem" | "signing.key" | "noise.key" | "root.age" | "accounts.json" | "audit.sqlite"
    ) || file.extension().is_some_and(|e| e == "db" || e == "sqlite")
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_own_key_no_column_opens() {
    let options = CityOptions {
        councils: 1,
        departments: Some(vec![guildhall_city_data::Department::Parking]),
        ..options()
    };
    let city = TestCity::made_up(&options).await.unwrap();
    let clock: guildhall_model::SharedClock = Arc::new(SystemClock);
    let parking = RogueNode::of(
        &city.city,
        &node("northmoor", "parking"),
        Arc::clone(&clock),
    );
    let gateway =
        RogueGateway::of(&city.city, Arc::clone(&clock), "ana", "transport_planning").await;
    let sessions = parking.dataset("sessions").await;
    let occupancy = parking.dataset("occupancy").await;

    // Without a grant there is no key, whoever signed the grant that is none.
    let fragment = gateway
        .honest("SELECT ward, occupied FROM northmoor.parking.occupancy")
        .await;
    let empty = ColumnKeys::new();
    let unread = read_column(&occupancy, &empty, "occupied")
        .await
        .unwrap_err()
        .to_string();
    assert!(unread.contains("was not lent"), "{unread}");
    let granted = gateway
        .grant(&fragment, OutputClass::OpenRows)
        .await
        .unwrap();
    let columns = ["occupancy.", "occupancy.car_park", "occupancy.occupied"];
    let mut loan = parking.request(&granted, &fragment, &columns).await;
    loan.request.grant = None;
    no(parking.borrow(&loan).await);

    // With one, what it names opens and nothing else does.
    let loan = parking.request(&granted, &fragment, &columns).await;
    let keys = parking.borrow(&loan).await.unwrap();
    let read = read_column(&occupancy, &keys, "occupied").await.unwrap();
    let sum: i64 = read
        .column(0)
        .as_primitive::<Int64Type>()
        .values()
        .iter()
        .sum();
    let truth = council(&options, 0).unwrap();
    assert_eq!(sum, truth.occupancy.iter().map(|o| o.occupied).sum::<i64>());
    let unread = read_column(&occupancy, &keys, "ts")
        .await
        .unwrap_err()
        .to_string();
    assert!(
        unread.contains("the key of occupancy.ts (all) was not lent"),
        "{unread}"
    );
    let unread = read_column(&sessions, &keys, "vehicle")
        .await
        .unwrap_err()
        .to_string();
    assert!(unread.contains("was not lent"), "{unread}");

    // Nor with every other key that the process holds, called by the name that is missing.
    for (name, key) in keys.iter() {
        let mut forged = keys.clone();
        forged.insert(key_name("occupancy", "ts", "all"), key.clone());
        let unread = read_column(&occupancy, &forged, "ts").await;
        assert!(unread.is_err(), "the key of {name} opened occupancy.ts");
        let mut forged = ColumnKeys::new();
        forged.insert(key_name("sessions", "", "all"), key.clone());
        forged.insert(key_name("sessions", "vehicle", "all"), key.clone());
        let unread = read_column(&sessions, &forged, "vehicle").await;
        assert!(unread.is_err(), "the key of {name} opened sessions.vehicle");
    }

    // A lent key is in memory alone.
    let lent = Search::new(keys.iter().flat_map(|(_, key)| written(key)));
    for file in files(&city.city.ready().data) {
        let found = lent.found(&std::fs::read(&file).unwrap()).len();
        assert_eq!(found, 0, "{} holds a lent key", file.display());
    }
    city.city.stop().await;
}

/// A key as bytes, and in hex.
fn written(key: &ColumnKey) -> [Vec<u8>; 2] {
    let hex: String = key.as_bytes().iter().map(|b| format!("{b:02x}")).collect();
    [key.as_bytes().to_vec(), hex.into_bytes()]
}

/// Looks for many texts at once, quickly enough for a build that is not optimised.
struct Search {
    starts: Vec<bool>,
    texts: HashMap<[u8; 4], Vec<Vec<u8>>>,
}

impl Search {
    fn new(texts: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let mut search = Self {
            starts: vec![false; 1 << 16],
            texts: HashMap::new(),
        };
        for text in texts {
            let start = *text.first_chunk::<4>().unwrap();
            search.starts[usize::from(u16::from_be_bytes([start[0], start[1]]))] = true;
            search.texts.entry(start).or_default().push(text);
        }
        search
    }

    fn found(&self, bytes: &[u8]) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for (at, pair) in bytes.windows(2).enumerate() {
            if !self.starts[usize::from(u16::from_be_bytes([pair[0], pair[1]]))] {
                continue;
            }
            let rest = &bytes[at..];
            let texts = rest
                .first_chunk::<4>()
                .and_then(|start| self.texts.get(start));
            for text in texts.into_iter().flatten().filter(|t| rest.starts_with(t)) {
                found.insert(String::from_utf8_lossy(text).into_owned());
            }
        }
        found
    }
}

/// Every file below `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut todo) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path)
            } else {
                found.push(path)
            }
        }
    }
    found.sort();
    found
}
