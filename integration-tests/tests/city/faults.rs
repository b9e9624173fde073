//! What breaks: a role that is gone, a file that is not what it was. Nothing else breaks with it.

use anyhow::Context as _;
use arrow::compute::concat_batches;
use futures::StreamExt as _;
use guildhall_city_data::{CityOptions, Council, Department, council};
use guildhall_cli::city::{CityOptions as Boot, NodeKey, boot};
use guildhall_cli::sql::{Connection, Refused};
use guildhall_testkit::{TestCity, answer, node, refusal, rows};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tonic::Code;

const PARKING: &str = "SELECT council, count(*), sum(occupied) FROM city.parking.occupancy GROUP BY council ORDER BY council";
const HIGHWAYS: &str = "SELECT count(*), sum(vehicles) FROM northmoor.highways.traffic_counts";
/// How long a fault may take to be told.
const SOON: Duration = Duration::from_secs(8);

fn options() -> CityOptions {
    CityOptions {
        scale: 0.05,
        departments: Some(vec![Department::Parking, Department::Highways]),
        ..CityOptions::default()
    }
}

async fn ana(city: &TestCity) -> Connection {
    city.connect("ana", "transport_planning").await.unwrap()
}

async fn ask(ana: &mut Connection, sql: &str) -> Vec<String> {
    rows(&answer(ana, sql).await.unwrap()).unwrap()
}

/// What `sql` is refused with, soon, without a value or a path in it.
async fn fails(ana: &mut Connection, sql: &str) -> Refused {
    fails_after("", ana, sql).await
}

async fn fails_after(what: &str, ana: &mut Connection, sql: &str) -> Refused {
    let refused = tokio::time::timeout(SOON, refusal(ana, sql)).await.unwrap();
    let refused = refused.context(what.to_owned()).unwrap();
    for leak in [
        "QZ",
        "NO0",
        "P01",
        "/parts/",
        ".parquet",
        ".manifest",
        "/tmp",
    ] {
        assert!(!refused.message.contains(leak), "{}", refused.message);
    }
    refused
}

/// Asks until it is answered; the roles find each other again by themselves.
async fn heals(ana: &mut Connection, sql: &str) -> Vec<String> {
    let healed = async {
        loop {
            if let Ok(batch) = answer(ana, sql).await {
                return rows(&batch).unwrap();
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(15), healed)
        .await
        .unwrap()
}

/// An answer that may lack somebody, and who is said to be missing.
async fn partial(ana: &mut Connection, sql: &str) -> (Vec<String>, String) {
    let mut stream = ana.query(sql).await.unwrap();
    let mut batches = Vec::new();
    while let Some(batch) = stream.next().await {
        batches.push(batch.unwrap());
    }
    let all = concat_batches(stream.schema(), &batches).unwrap();
    (rows(&all).unwrap(), stream.warnings().join(" "))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_department_that_is_away_is_named_and_missed_by_nobody_else() {
    let mut city = TestCity::made_up(&options()).await.unwrap();
    let mut ana = ana(&city).await;
    let (parking, highways) = (ask(&mut ana, PARKING).await, ask(&mut ana, HIGHWAYS).await);
    let gone = node("northmoor", "parking");
    city.city.kill_node(&gone).await.unwrap();

    let started = Instant::now();
    for sql in [
        PARKING,
        "SELECT car_park FROM northmoor.parking.car_parks",
        "SELECT ward, count(*) FROM northmoor.parking.sessions GROUP BY ward",
    ] {
        let refused = fails(&mut ana, sql).await;
        assert_eq!(refused.code, Code::Unavailable, "{refused}");
        assert!(
            refused
                .message
                .contains("department `parking` of `northmoor`"),
            "{refused}"
        );
        assert!(refused.message.contains("guildhall.partial"), "{refused}");
    }
    assert!(started.elapsed() < SOON);
    // Who does not need it does not notice.
    assert_eq!(ask(&mut ana, HIGHWAYS).await, highways);
    let neighbour = "SELECT count(*) FROM southmere.parking.occupancy";
    let theirs = ask(&mut ana, neighbour).await;
    assert_eq!(ask(&mut ana, "SELECT 1 AS one").await, ["1"]);

    // An answer without it, if one asks for that; it says who is missing.
    let mut easy = city.connect("ana", "transport_planning").await.unwrap();
    answer(&mut easy, "SET guildhall.partial = on")
        .await
        .unwrap();
    let (rest, missing) = partial(&mut easy, PARKING).await;
    assert_eq!(rest, parking[1..]);
    assert!(rest[0].contains(&theirs[0]), "{rest:?}");
    assert!(missing.contains("northmoor.parking"), "{missing}");
    assert!(!missing.contains("southmere"), "{missing}");
    let (whole, missing) = partial(&mut easy, HIGHWAYS).await;
    assert_eq!((whole, missing.as_str()), (highways, ""));
    // Still nothing for one who did not.
    assert_eq!(fails(&mut ana, PARKING).await.code, Code::Unavailable);

    city.city.start_node(&gone).await.unwrap();
    assert_eq!(heals(&mut ana, PARKING).await, parking);
    let (whole, missing) = partial(&mut easy, PARKING).await;
    assert_eq!((whole, missing.as_str()), (parking, ""));
    city.city.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_cut_off_does_not_look_like_a_whole_one() {
    let mut city = TestCity::made_up(&options()).await.unwrap();
    let mut ana = ana(&city).await;
    // More than fits into what is on its way between node, gateway and client.
    let p = "northmoor.parking.occupancy";
    let sql = format!(
        "SELECT a.car_park, a.ts, a.occupied, a.spaces, b.car_park, b.ts, b.occupied, b.spaces, \
                c.car_park, c.ts, c.occupied, c.spaces \
         FROM {p} a JOIN {p} b ON a.ward = b.ward JOIN {p} c ON b.ward = c.ward"
    );
    let mut stream = ana.query(&sql).await.unwrap();
    let mut seen = stream.next().await.unwrap().unwrap().num_rows();
    city.city
        .kill_node(&node("northmoor", "parking"))
        .await
        .unwrap();
    let end = async {
        loop {
            match stream.next().await {
                Some(Ok(batch)) => seen += batch.num_rows(),
                Some(Err(refused)) => return Some(refused),
                None => return None,
            }
        }
    };
    let end = tokio::time::timeout(SOON, end).await.unwrap();
    assert!(seen < 1_300_000, "all of it came before the node was gone");
    let refused = end.unwrap();
    assert_eq!(refused.code, Code::Unavailable, "{refused}");
    assert!(
        refused
            .message
            .contains("department `parking` of `northmoor`"),
        "{refused}"
    );
    assert_eq!(ask(&mut ana, HIGHWAYS).await.len(), 1);
    city.city.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_authority_a_council_answers_nothing_new_until_it_is_back() {
    let mut city = TestCity::made_up(&options()).await.unwrap();
    let mut ana = ana(&city).await;
    let (parking, highways) = (ask(&mut ana, PARKING).await, ask(&mut ana, HIGHWAYS).await);
    let northmoor = "northmoor".parse().unwrap();
    city.city.kill_authority(&northmoor).await.unwrap();

    for sql in [
        PARKING,
        HIGHWAYS,
        "SELECT ward FROM northmoor.highways.wards",
    ] {
        let refused = fails(&mut ana, sql).await;
        assert_eq!(refused.code, Code::Unavailable, "{refused}");
        assert!(
            refused.message.contains("the authority of `northmoor`"),
            "{refused}"
        );
    }
    let stranger = city.connect("ana", "transport_planning").await.unwrap_err();
    let refused = stranger.downcast::<Refused>().unwrap();
    assert_eq!(refused.code, Code::Unavailable, "{refused}");
    assert!(
        refused.message.contains("the authority of `northmoor`"),
        "{refused}"
    );
    // The neighbour's authority decides over the neighbour's departments.
    let neighbour =
        "SELECT council, count(*), sum(occupied) FROM southmere.parking.occupancy GROUP BY council";
    let theirs = neighbour
        .replace("council, ", "")
        .replace(" GROUP BY council", "");
    let theirs = ask(&mut ana, &theirs).await;
    assert_eq!(format!("southmere|{}", theirs[0]), parking[1]);

    city.city.start_authority(&northmoor).await.unwrap();
    assert_eq!(heals(&mut ana, PARKING).await, parking);
    assert_eq!(heals(&mut ana, HIGHWAYS).await, highways);
    ask(
        &mut city.connect("ana", "transport_planning").await.unwrap(),
        HIGHWAYS,
    )
    .await;
    city.city.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_role_can_be_cut_off_and_the_city_answers_the_same() {
    let town = TestCity::made_up(&options()).await.unwrap();
    let folder = town.folder().to_owned();
    let questions = [
        PARKING,
        HIGHWAYS,
        "SELECT ward, channel, count(DISTINCT vehicle), sum(paid) FROM northmoor.parking.sessions \
         GROUP BY ward, channel ORDER BY ward, channel",
        "SELECT table_catalog, table_schema, table_name FROM information_schema.tables ORDER BY 1, 2, 3",
    ];
    let mut before = Vec::new();
    let mut connection = ana(&town).await;
    for sql in questions {
        before.push(ask(&mut connection, sql).await);
    }
    assert!(before.iter().all(|a| !a.is_empty()));
    let ready = town.city.ready().clone();

    // Cut off all at once, and started in an order that none of them expects.
    let mut city = town.city;
    let keys: Vec<NodeKey> = city.departments().cloned().collect();
    for key in &keys {
        city.kill_node(key).await.unwrap();
    }
    for council in ["northmoor", "southmere"] {
        city.kill_authority(&council.parse().unwrap())
            .await
            .unwrap();
    }
    city.restart_gateway().await.unwrap();
    for key in &keys {
        city.start_node(key).await.unwrap();
    }
    for council in ["northmoor", "southmere"] {
        city.start_authority(&council.parse().unwrap())
            .await
            .unwrap();
    }
    let endpoint = crate::door::endpoint(&city, "ana");
    let mut connection = Connection::open(&endpoint, Some("transport_planning".to_owned()))
        .await
        .unwrap();
    for (sql, before) in questions.iter().zip(&before) {
        assert_eq!(&heals(&mut connection, sql).await, before, "{sql}");
    }
    city.stop().await;

    // Brought up again from the folder alone: the same accounts, nothing imported anew.
    let parts = parts_of(&folder);
    let again = boot(Boot::new(&folder.join("city"), &folder.join("data")))
        .await
        .unwrap();
    assert_eq!(
        again.ready().accounts["ana"].password,
        ready.accounts["ana"].password
    );
    assert_eq!(parts_of(&folder), parts);
    let endpoint = crate::door::endpoint(&again, "ana");
    let mut connection = Connection::open(&endpoint, Some("transport_planning".to_owned()))
        .await
        .unwrap();
    for (sql, before) in questions.iter().zip(&before) {
        assert_eq!(&ask(&mut connection, sql).await, before, "{sql}");
    }
    again.stop().await;
}

fn parts_of(folder: &Path) -> Vec<PathBuf> {
    let data = folder.join("data/councils/northmoor/parking/datasets");
    let datasets = std::fs::read_dir(data).unwrap().map(|e| e.unwrap().path());
    datasets.flat_map(|d| listed(&d.join("parts"))).collect()
}

fn listed(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    found.sort();
    found
}

/// The one part, or the one manifest, of a dataset.
fn only(data: &Path, dataset: &str, kind: &str) -> PathBuf {
    let mut all = listed(&data.join("datasets").join(dataset).join(kind));
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

/// What is done to a file, and with the one that it may be swapped with.
type Damage = (&'static str, fn(&mut Vec<u8>, &[u8]));

const DAMAGES: [Damage; 7] = [
    ("a bit flipped near its start", |file, _| file[40] ^= 0x20),
    ("a bit flipped in its middle", |file, _| {
        let at = file.len() / 2;
        file[at] ^= 1;
    }),
    ("a bit flipped near its end", |file, _| {
        let at = file.len() - 60;
        file[at] ^= 4;
    }),
    ("cut by a byte", |file, _| file.truncate(file.len() - 1)),
    ("cut in half", |file, _| file.truncate(file.len() / 2)),
    ("emptied", |file, _| file.clear()),
    ("swapped with another dataset's", |file, other| {
        other.clone_into(file)
    }),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_part_is_found_out_and_nobody_else_notices() {
    let options = CityOptions {
        councils: 1,
        ..options()
    };
    let city = TestCity::made_up(&options).await.unwrap();
    let mut ana = ana(&city).await;
    let data = city.city.node_data(&node("northmoor", "parking")).unwrap();
    let (part, other) = (
        only(&data, "occupancy", "parts"),
        only(&data, "sessions", "parts"),
    );
    let (whole, other) = (std::fs::read(&part).unwrap(), std::fs::read(other).unwrap());
    // It reads every column, so that every byte matters.
    let sql = "SELECT count(DISTINCT car_park), min(ts), max(ts), sum(occupied) FROM northmoor.parking.occupancy";
    let (right, highways) = (ask(&mut ana, sql).await, ask(&mut ana, HIGHWAYS).await);
    assert_eq!(right, [of_all(&council(&options, 0).unwrap())]);
    let parks = "SELECT count(*) FROM northmoor.parking.car_parks";

    for (what, damage) in DAMAGES {
        let mut bytes = whole.clone();
        damage(&mut bytes, &other);
        std::fs::write(&part, bytes).unwrap();
        let refused = fails_after(what, &mut ana, sql).await;
        assert_eq!(refused.code, Code::Internal, "{what}: {refused}");
        assert!(
            refused
                .message
                .contains("department `parking` of `northmoor`"),
            "{what}: {refused}"
        );
        assert_eq!(ask(&mut ana, parks).await, ["12"], "{what}");
        assert_eq!(ask(&mut ana, HIGHWAYS).await, highways, "{what}");
        std::fs::write(&part, &whole).unwrap();
        assert_eq!(
            ask(&mut ana, sql).await,
            right,
            "restored after it was {what}"
        );
    }
    std::fs::remove_file(&part).unwrap();
    assert_eq!(fails(&mut ana, sql).await.code, Code::Internal);
    assert_eq!(ask(&mut ana, parks).await, ["12"]);
    std::fs::write(&part, &whole).unwrap();
    assert_eq!(ask(&mut ana, sql).await, right);
    city.city.stop().await;
}

fn of_all(council: &Council) -> String {
    let ts = council.occupancy.iter().map(|o| o.ts);
    let time = |seconds: i64| {
        arrow::temporal_conversions::timestamp_s_to_datetime(seconds)
            .unwrap()
            .to_string()
            .replace(' ', "T")
    };
    format!(
        "{}|{}|{}|{}",
        council.car_parks.len(),
        time(ts.clone().min().unwrap()),
        time(ts.max().unwrap()),
        council.occupancy.iter().map(|o| o.occupied).sum::<i64>()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_manifest_is_not_believed_and_nobody_else_notices() {
    let options = CityOptions {
        councils: 1,
        ..options()
    };
    let mut city = TestCity::made_up(&options).await.unwrap();
    let mut ana = ana(&city).await;
    let key = node("northmoor", "parking");
    let data = city.city.node_data(&key).unwrap();
    let manifest = only(&data, "occupancy", "manifests");
    let other = std::fs::read(only(&data, "sessions", "manifests")).unwrap();
    let whole = std::fs::read(&manifest).unwrap();
    let sql = "SELECT sum(occupied) FROM northmoor.parking.occupancy";
    let right = ask(&mut ana, sql).await;
    let parks = "SELECT count(*) FROM northmoor.parking.car_parks";

    for (what, damage) in DAMAGES {
        let mut bytes = whole.clone();
        damage(&mut bytes, &other);
        std::fs::write(&manifest, bytes).unwrap();
        // A node reads a manifest once.
        restart(&mut city, &key).await;
        assert_eq!(heals(&mut ana, parks).await, ["12"], "{what}");
        let refused = fails_after(what, &mut ana, sql).await;
        assert_eq!(refused.code, Code::Internal, "{what}: {refused}");
        assert!(
            refused
                .message
                .contains("department `parking` of `northmoor`"),
            "{what}: {refused}"
        );
        assert_eq!(ask(&mut ana, parks).await, ["12"], "{what}");
    }
    std::fs::remove_file(&manifest).unwrap();
    assert_eq!(fails(&mut ana, sql).await.code, Code::Internal);
    std::fs::write(&manifest, &whole).unwrap();
    assert_eq!(heals(&mut ana, sql).await, right);
    city.city.stop().await;
}

async fn restart(city: &mut TestCity, key: &NodeKey) {
    city.city.kill_node(key).await.unwrap();
    city.city
        .start_node(key)
        .await
        .context("the node starts whatever lies on its disk")
        .unwrap();
}
